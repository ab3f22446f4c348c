/* relay.c: see relay.h. */
#include "net/relay.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "net/loop.h"

struct relay {
    struct list_node node; /* of the sender's list */
    struct relay_conf conf;
    struct loop_wake *wake;
    _Atomic(void *) pending;
};

static void relay_arrived(void *ctx)
{
    struct relay *r = ctx;
    void *value = atomic_exchange(&r->pending, NULL);
    if (value != NULL) {
        r->conf.on_value(r->conf.ctx, value);
    }
}

enum rc relay_create(struct relay **out, const struct relay_conf *conf, struct err *err)
{
    struct relay *r = mem_zalloc(sizeof(*r));
    *out = NULL;
    r->conf = *conf;
    enum rc rc = loop_wake_create(&r->wake, conf->to, relay_arrived, r, err);
    if (rc != RC_OK) {
        mem_free(r);
        return rc;
    }
    list_push_back(conf->readers, &r->node);
    *out = r;
    return RC_OK;
}

void relay_destroy(struct relay *r)
{
    if (r == NULL) {
        return;
    }
    list_remove(&r->node);
    loop_wake_destroy(r->wake);
    void *value = atomic_exchange(&r->pending, NULL);
    if (value != NULL) {
        r->conf.put(value);
    }
    mem_free(r);
}

void relay_send(const struct list *readers, void *value, void *(*get)(void *value))
{
    LIST_EACH(readers, n)
    {
        struct relay *r = LIST_ENTRY(n, struct relay, node);
        void *old = atomic_exchange(&r->pending, get(value));
        if (old != NULL) {
            r->conf.put(old);
        }
        loop_wake_send(r->wake);
    }
}
