/* http_route.c: see http_route.h. */
#include "net/http_route.h"

bool http_route_match(const char *pattern, struct str path, struct str *rest)
{
    struct str want = str_from(pattern);
    bool prefix = want.ptr[want.len - 1] == '/';
    *rest = str_slice(path, want.len, path.len);
    return prefix ? str_starts(path, want) && rest->len > 0 : str_eq(path, want);
}

bool http_route_method(enum http_method route, enum http_method request)
{
    return request == route || (request == HTTP_METHOD_HEAD && route == HTTP_METHOD_GET);
}

void http_route_reply(struct http_exchange *x, int status, struct str content_type, struct str body)
{
    struct http_header header = {STR_LIT("content-type"), content_type};
    struct http_reply reply = {.status = status, .headers = &header, .n_headers = 1, .body = body};
    if (http_exchange_reply(x, &reply, NULL) != RC_OK) {
        http_exchange_abort(x);
    }
}
