/* authenticate.c: whom a token speaks for; who asks at the admin listener: the same keys, tokens
 * and lock-out as the API's (stage_auth.c), for requests that walk no stages. */
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

/* ---- whom a token speaks for ---- */

/* One organisation, whoever names it: the token, the project, the user. False: they differ. */
static bool take_organisation(struct principal *who, const struct cat_project *project,
                              const struct cat_user *user)
{
    const struct str named[] = {project != NULL ? project->organisation : STR_NULL,
                                user != NULL ? user->organisation : STR_NULL};
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        if (who->organisation.len == 0) {
            who->organisation = named[i];
        }
        if (named[i].len > 0 && !str_eq(named[i], who->organisation)) {
            return false;
        }
    }
    return true;
}

enum rc gw_take_token(const struct cat *cat, struct principal *who,
                      const struct cat_project **project, const struct cat_user **user,
                      struct err *err)
{
    *project = map_get(&cat->projects, who->project);
    *user = map_get(&cat->users, who->user);
    if (who->project.len > 0 && *project == NULL) {
        return err_set(err, RC_FORBIDDEN, "There is no project `%.*s`, which your token names.",
                       STR(who->project));
    }
    if (!take_organisation(who, *project, *user)) {
        return err_set(err, RC_FORBIDDEN,
                       "Your token's project and user are of other organisations.");
    }
    cat_grant(cat, who);
    return RC_OK;
}

/* ---- at the admin listener ---- */

static enum rc authenticate_refused(struct gateway *g, const struct addr *peer, bool suspect,
                                    enum rc rc)
{
    char host[ADDR_TEXT_BYTES];
    addr_format_host(peer, host);
    metric_add(metric_get(METRIC_AUTH_FAILURES), 1);
    log_event(LOG_AUTH_FAIL, log_cstr(LOG_KEY_CLIENT, host), log_cstr("listener", "admin"));
    if (suspect) {
        lockout_note(g->shared->lockout, peer, loop_now_ms(g->loop));
    }
    return rc;
}

/* The caller holds the catalogue by which it was found. */
static void authenticate_hold(struct admin_caller *c, struct cat *cat)
{
    cat_hold(cat);
    c->held = cat;
}

static enum rc authenticate_by_key(struct gateway *g, struct str token, struct admin_caller *c,
                                   struct err *err)
{
    struct cat *cat = g->cat;
    const struct meta_key *key = NULL;
    enum rc rc = keyring_check(cat->keys, token, clock_wall_s(loop_clock(g->loop)), &key, err);
    struct cat_key *k = rc == RC_OK ? &cat->by_key[keyring_index(cat->keys, key)] : NULL;
    rc = k != NULL ? cat_key_check(k, err) : rc;
    if (rc != RC_OK) {
        return authenticate_refused(g, &c->peer, rc == RC_UNAUTHENTICATED, rc);
    }
    catalog_touch(g->catalog, k);
    authenticate_hold(c, cat);
    c->who = k->who;
    return RC_OK;
}

static enum rc authenticate_take(struct gateway *g, struct admin_caller *c,
                                 const struct jwt_identity *id, struct err *err)
{
    const struct cat_project *project;
    const struct cat_user *user;
    authenticate_hold(c, g->cat);
    c->who = id->who;
    return gw_take_token(c->held, &c->who, &project, &user, err);
}

static void authenticate_on_token(void *ctx, const struct jwt_identity *id, enum jwt_refusal why)
{
    struct admin_caller *c = ctx;
    struct gateway *g = c->authenticator;
    struct err err = {0};
    if (id != NULL) {
        (void)!authenticate_take(g, c, id, &err);
    } else {
        enum rc rc = jwt_refusal_err(why, &err);
        if (why != JWT_NO_KEYS) {
            (void)!authenticate_refused(g, &c->peer, jwt_refusal_is_suspect(why), rc);
        }
    }
    c->done(c, &err);
}

static enum rc authenticate_by_token(struct gateway *g, struct str token, struct admin_caller *c,
                                     bool *later, struct err *err)
{
    const struct jwt_identity *id = jwt_verifier_known(g->conf.jwt, token);
    if (id != NULL) {
        return authenticate_take(g, c, id, err);
    }
    c->authenticator = g;
    enum rc rc = jwt_verifier_check(g->conf.jwt, token, &c->wait, authenticate_on_token, c, err);
    *later = rc == RC_OK;
    return rc;
}

enum rc gateway_authenticate(struct gateway *g, struct http_exchange *x,
                             struct admin_caller *caller, bool *later, struct err *err)
{
    struct str header = http_head_value(http_exchange_head(x), STR_LIT("authorization"));
    struct str token = key_from_bearer(header);
    *later = false;
    caller->peer = *http_exchange_peer(x);
    if (lockout_wait_ms(g->shared->lockout, &caller->peer, loop_now_ms(g->loop)) > 0) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("lockout")), 1);
        return err_set(err, RC_RATE_LIMITED, "Too many wrong API keys came from this address.");
    }
    if (token.len == 0) {
        return authenticate_refused(
            g, &caller->peer, true,
            err_set(err, RC_UNAUTHENTICATED,
                    "You didn't provide an API key. Provide it in an Authorization header with "
                    "Bearer auth (Authorization: Bearer YOUR_KEY)."));
    }
    bool key = g->conf.jwt == NULL || str_starts(token, STR_LIT("sk-"));
    return key ? authenticate_by_key(g, token, caller, err)
               : authenticate_by_token(g, token, caller, later, err);
}

void gateway_authenticate_end(struct admin_caller *caller)
{
    jwt_verifier_cancel(&caller->wait);
}

/* ---- how the gateway is ---- */

void gateway_write_status(struct gateway *g, struct json_writer *w)
{
    static const char *const breakers[] = {"closed", "open", "half_open"};
    const struct cat *cat = g->cat;
    json_write_member_bool(w, "draining", g->draining);
    json_write_member_u64(w, "requests", gw_shared_n_requests(g->shared));
    json_write_member_u64(w, "waiting", gw_shared_n_waiting(g->shared));
    json_write_member_u64(w, "held_bytes", gw_shared_held_bytes(g->shared));
    json_write_member_u64(w, "keys", keyring_size(cat->keys));
    json_write_member_u64(w, "models", cat->set.models.n);
    json_write_name(w, "upstreams");
    json_write_array_begin(w);
    for (struct list_node *n = g->backends.all.head.next; n != &g->backends.all.head; n = n->next) {
        const struct backend *b = LIST_ENTRY(n, struct backend, node);
        json_write_object_begin(w);
        json_write_member_cstr(w, "name", b->name);
        json_write_member_bool(w, "ready", b->local ? g->backends.local_ready : b->ready);
        json_write_member_cstr(w, "breaker", breakers[gw_backend_breaker(b)]);
        json_write_member_u64(w, "outstanding", gw_backend_outstanding(b));
        json_write_object_end(w);
    }
    json_write_array_end(w);
}
