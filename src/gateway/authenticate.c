/* authenticate.c: who asks at the admin listener: the same keys and the same lock-out as the API's
 * (stage_auth.c), for requests that walk no stages. */
#include "base/clock.h"
#include "gateway/stages.h"
#include "obs/log.h"
#include "obs/metric.h"

static enum rc authenticate_refused(struct gateway *g, const struct addr *peer, enum rc rc)
{
    char host[ADDR_TEXT_BYTES];
    addr_format_host(peer, host);
    metric_add(metric_get(METRIC_AUTH_FAILURES), 1);
    log_event(LOG_AUTH_FAIL, log_cstr(LOG_KEY_CLIENT, host), log_cstr("listener", "admin"));
    lockout_note(g->shared->lockout, peer, loop_now_ms(g->loop));
    return rc;
}

enum rc gateway_authenticate(struct gateway *g, struct http_exchange *x, struct principal *who,
                             struct cat **held, struct err *err)
{
    const struct addr *peer = http_exchange_peer(x);
    struct str header = http_head_value(http_exchange_head(x), STR_LIT("authorization"));
    struct str token = key_from_bearer(header);
    struct cat *cat = g->cat;
    int64_t now_s = clock_wall_s(loop_clock(g->loop));
    const struct meta_key *key = NULL;
    if (lockout_wait_ms(g->shared->lockout, peer, loop_now_ms(g->loop)) > 0) {
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("lockout")), 1);
        return err_set(err, RC_RATE_LIMITED, "Too many wrong API keys came from this address.");
    }
    if (token.len == 0) {
        return authenticate_refused(
            g, peer,
            err_set(err, RC_UNAUTHENTICATED,
                    "You didn't provide an API key. Provide it in an Authorization header with "
                    "Bearer auth (Authorization: Bearer YOUR_KEY)."));
    }
    enum rc rc = keyring_check(cat->keys, token, now_s, &key, err);
    struct cat_key *k = rc == RC_OK ? &cat->by_key[keyring_index(cat->keys, key)] : NULL;
    if (k == NULL || k->gone) {
        return authenticate_refused(g, peer, rc != RC_OK ? rc : keyring_refuse(err));
    }
    catalog_touch(g->catalog, k);
    cat_hold(cat);
    *held = cat;
    *who = k->who;
    return RC_OK;
}

void gateway_write_status(struct gateway *g, struct json_writer *w)
{
    static const char *const breakers[] = {"closed", "open", "half_open"};
    const struct cat *cat = g->cat;
    uint64_t now_ms = loop_now_ms(g->loop);
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
        json_write_member_cstr(w, "breaker", breakers[breaker_look(&b->breaker, now_ms)]);
        json_write_member_u64(w, "outstanding", b->outstanding);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}
