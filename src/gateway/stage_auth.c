/* stage_auth.c: who asks: an API key or a JSON Web Token from the Authorization header, good for
 * this route. A token that is not known yet is checked by a worker; the body is not read meanwhile.
 * An address from which too many wrong ones have come is refused for a while, whatever it shows. */
#include "auth/scope.h"
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

/* The address counts towards its lock-out when somebody seems to try. */
static enum gw_result auth_refused(struct gw_request *r, bool suspect)
{
    char host[ADDR_TEXT_BYTES];
    const struct addr *peer = http_exchange_peer(r->x);
    addr_format_host(peer, host);
    metric_add(metric_get(METRIC_AUTH_FAILURES), 1);
    log_event(LOG_AUTH_FAIL, log_cstr(LOG_KEY_CLIENT, host), log_cstr(LOG_KEY_REQUEST_ID, r->id),
              log_err(&r->err));
    if (suspect) {
        lockout_note(r->gateway->shared->lockout, peer, loop_now_ms(r->gateway->loop));
    }
    return GW_FAIL;
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

/* ---- keys ---- */

static void auth_take_key(struct gw_request *r, const struct cat_key *k)
{
    r->who = k->who;
    r->project = k->project;
    r->user = k->user;
    r->who_limits = &k->limits;
}

static enum gw_result auth_by_key(struct gw_request *r, struct str token)
{
    const struct meta_key *key = NULL;
    int64_t now_s = (int64_t)(r->started_wall_ns / 1000000000u);
    if (keyring_check(r->cat->keys, token, now_s, &key, &r->err) != RC_OK) {
        return auth_refused(r, true);
    }
    struct cat_key *k = &r->cat->by_key[keyring_index(r->cat->keys, key)];
    enum rc rc = cat_key_check(k, &r->err);
    if (rc != RC_OK) {
        return auth_refused(r, rc == RC_UNAUTHENTICATED);
    }
    auth_take_key(r, k);
    catalog_touch(r->gateway->catalog, k);
    return auth_allow(r);
}

/* ---- tokens ---- */

/* Copies: the cache may let go of it while the request runs. */
static bool auth_copy(struct gw_request *r, const struct principal *who)
{
    const struct str from[] = {who->id,   who->organisation, who->project,
                               who->user, who->roles,        who->scopes};
    struct str *const to[] = {&r->who.id,   &r->who.organisation, &r->who.project,
                              &r->who.user, &r->who.roles,        &r->who.scopes};
    r->who.kind = who->kind;
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        *to[i] = arena_str(&r->arena, from[i]);
        if (to[i]->ptr == NULL) {
            return false;
        }
    }
    return true;
}

static enum gw_result auth_take_token(struct gw_request *r, const struct jwt_identity *id)
{
    if (!auth_copy(r, &id->who)) {
        err_set(&r->err, RC_NOMEM, "Out of memory for a token.");
        return GW_FAIL;
    }
    r->token_limits = id->limits;
    r->who_limits = &r->token_limits;
    bool ok = gw_take_token(r->cat, &r->who, &r->project, &r->user, &r->err) == RC_OK;
    return ok ? auth_allow(r) : GW_FAIL;
}

static enum gw_result auth_token_refused(struct gw_request *r, enum jwt_refusal why)
{
    (void)!jwt_refusal_err(why, &r->err);
    return why == JWT_NO_KEYS ? GW_FAIL : auth_refused(r, jwt_refusal_is_suspect(why));
}

static void auth_on_token(void *ctx, const struct jwt_identity *id, enum jwt_refusal why)
{
    struct gw_request *r = ctx;
    enum gw_result result = id != NULL ? auth_take_token(r, id) : auth_token_refused(r, why);
    if (result == GW_NEXT && gw_kind_has_body(r->kind)) {
        http_exchange_body_resume(r->x);
    }
    stages_resume(r, result);
}

static enum gw_result auth_by_token(struct gw_request *r, struct str token)
{
    struct jwt_verifier *v = r->gateway->conf.jwt;
    const struct jwt_identity *id = jwt_verifier_known(v, token);
    if (id != NULL) {
        return auth_take_token(r, id);
    }
    return jwt_verifier_check(v, token, &r->jwt_wait, auth_on_token, r, &r->err) == RC_OK ? GW_WAIT
                                                                                          : GW_FAIL;
}

void stage_auth_abandon(struct gw_request *r)
{
    jwt_verifier_cancel(&r->jwt_wait);
}

/* ---- the stage ---- */

enum gw_result stage_auth(struct gw_request *r)
{
    struct gateway *g = r->gateway;
    const struct http_head *head = http_exchange_head(r->x);
    uint64_t wait_ms =
        lockout_wait_ms(g->shared->lockout, http_exchange_peer(r->x), loop_now_ms(g->loop));
    if (wait_ms > 0) {
        r->retry_ns = wait_ms * 1000000u;
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("lockout")), 1);
        err_set(&r->err, RC_RATE_LIMITED, "Too many wrong API keys came from this address.");
        return GW_FAIL;
    }
    struct str token = key_from_bearer(http_head_value(head, STR_LIT("authorization")));
    if (token.len == 0) {
        err_set(&r->err, RC_UNAUTHENTICATED,
                "You didn't provide an API key. Provide it in an Authorization header with "
                "Bearer auth (Authorization: Bearer YOUR_KEY).");
        return auth_refused(r, true);
    }
    bool key = g->conf.jwt == NULL || str_starts(token, STR_LIT("sk-"));
    return key ? auth_by_key(r, token) : auth_by_token(r, token);
}
