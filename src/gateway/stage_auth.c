/* stage_auth.c: who asks: an API key from the Authorization header. */
#include <stdio.h>

#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

enum gw_result stage_auth(struct gw_request *r)
{
    const struct http_head *head = http_exchange_head(r->x);
    struct str token = key_from_bearer(http_head_value(head, STR_LIT("authorization")));
    const struct meta_key *key = NULL;
    enum rc rc;
    if (token.len == 0) {
        rc = err_set(&r->err, RC_UNAUTHENTICATED,
                     "You didn't provide an API key. Provide it in an Authorization header with "
                     "Bearer auth (Authorization: Bearer YOUR_KEY).");
    } else {
        int64_t now_s = clock_wall_s(loop_clock(r->gateway->loop));
        rc = keyring_check(catalog_keys(r->gateway->catalog), token, now_s, &key, &r->err);
    }
    if (rc != RC_OK) {
        char host[ADDR_TEXT_BYTES];
        addr_format_host(http_exchange_peer(r->x), host);
        metric_add(metric_get(METRIC_AUTH_FAILURES), 1);
        log_event(LOG_AUTH_FAIL, log_cstr(LOG_KEY_CLIENT, host),
                  log_cstr(LOG_KEY_REQUEST_ID, r->id));
        return GW_FAIL;
    }
    str_copy(r->tenant, sizeof(r->tenant), str_from(key->id));
    return GW_NEXT;
}
