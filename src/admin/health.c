/* health.c: see health.h. */
#include "admin/health.h"

#include "net/http_route.h"

bool health_handle(struct http_exchange *x, bool ready)
{
    const struct http_head *head = http_exchange_head(x);
    bool live = str_is(head->path, "/livez");
    if (!live && !str_is(head->path, "/readyz") && !str_is(head->path, "/health")) {
        return false;
    }
    if (!http_route_method(HTTP_METHOD_GET, head->method)) {
        http_route_reply(x, 405, STR_LIT("application/json"), STR_LIT("{\"status\":\"use GET\"}"));
    } else if (live || ready) {
        http_route_reply(x, 200, STR_LIT("application/json"), STR_LIT("{\"status\":\"ok\"}"));
    } else {
        http_route_reply(x, 503, STR_LIT("application/json"), STR_LIT("{\"status\":\"loading\"}"));
    }
    return true;
}
