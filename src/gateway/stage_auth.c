/* stage_auth.c: who asks: an API key from the Authorization header, good for this route. An address
 * from which too many wrong keys have come is refused for a while, whatever it shows. */
#include "auth/scope.h"
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

static enum gw_result auth_refused(struct gw_request *r)
{
    char host[ADDR_TEXT_BYTES];
    const struct addr *peer = http_exchange_peer(r->x);
    addr_format_host(peer, host);
    metric_add(metric_get(METRIC_AUTH_FAILURES), 1);
    log_event(LOG_AUTH_FAIL, log_cstr(LOG_KEY_CLIENT, host), log_cstr(LOG_KEY_REQUEST_ID, r->id));
    lockout_note(r->gateway->lockout, peer, loop_now_ms(r->gateway->loop));
    return GW_FAIL;
}

static void auth_take_key(struct gw_request *r, const struct cat_key *k)
{
    r->who = k->who;
    r->project = k->project;
    r->user = k->user;
    r->who_limits = &k->limits;
}

/* It is known who asks: whether that one may ask for this. The model is known later
 * (stage_parse_allows). */
static enum gw_result auth_allow(struct gw_request *r)
{
    str_copy(r->tenant, sizeof(r->tenant), r->who.id);
    const struct policy_row *row = gw_kind_policy(r->kind);
    if (!scope_allows_route(r->who.scopes, str_from(row->scope))) {
        err_set(&r->err, RC_FORBIDDEN,
                "This API key may not be used for this: its scopes are %.*s.", STR(r->who.scopes));
        return GW_FAIL;
    }
    if (!rbac_allows_some(&r->who.grants, row->kind, row->action)) {
        err_set(&r->err, RC_FORBIDDEN, "This needs the permission %s:%s, which your roles lack.",
                rbac_kind_name(row->kind), rbac_action_name(row->action));
        return GW_FAIL;
    }
    return GW_NEXT;
}

enum gw_result stage_auth(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    const struct http_head *head = http_exchange_head(r->x);
    uint64_t wait_ms = lockout_wait_ms(g->lockout, http_exchange_peer(r->x), loop_now_ms(g->loop));
    if (wait_ms > 0) {
        r->retry_ns = wait_ms * 1000000u;
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("lockout")), 1);
        err_set(&r->err, RC_RATE_LIMITED, "Too many wrong API keys came from this address.");
        return GW_FAIL;
    }
    struct str token = key_from_bearer(http_head_value(head, STR_LIT("authorization")));
    const struct meta_key *key = NULL;
    if (token.len == 0) {
        err_set(&r->err, RC_UNAUTHENTICATED,
                "You didn't provide an API key. Provide it in an Authorization header with "
                "Bearer auth (Authorization: Bearer YOUR_KEY).");
        return auth_refused(r);
    }
    int64_t now_s = clock_wall_s(loop_clock(g->loop));
    if (keyring_check(r->cat->keys, token, now_s, &key, &r->err) != RC_OK) {
        return auth_refused(r);
    }
    const struct cat_key *k = &r->cat->by_key[keyring_index(r->cat->keys, key)];
    if (k->gone) {
        keyring_refuse(&r->err);
        return auth_refused(r);
    }
    auth_take_key(r, k);
    catalog_touch(g->catalog, key->id);
    return auth_allow(r);
}
