/* fair.c: see fair.h. */
#include "server/fair.h"

#include "base/assert.h"
#include "base/mem.h"

void fair_init(struct fair *f, uint64_t seed)
{
    *f = (struct fair){0};
    map_init(&f->tenants, seed);
    list_init(&f->active);
    list_init(&f->idle);
}

static struct fair_tenant *fair_of(struct list_node *node)
{
    return LIST_ENTRY(node, struct fair_tenant, node);
}

void fair_deinit(struct fair *f)
{
    if (f->idle.head.next == NULL) {
        return;
    }
    ASSERT(list_is_empty(&f->active));
    LIST_EACH(&f->idle, node)
    {
        mem_free(fair_of(node));
    }
    map_deinit(&f->tenants);
    *f = (struct fair){0};
}

static uint64_t fair_lowest(const struct fair *f)
{
    uint64_t lowest = list_is_empty(&f->active) ? f->served_last : UINT64_MAX;
    LIST_EACH(&f->active, node)
    {
        lowest = MIN(lowest, fair_of(node)->served);
    }
    return lowest;
}

static struct fair_tenant *fair_make(struct fair *f, struct str name)
{
    struct fair_tenant *t = mem_try_zalloc(sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    bool fits = str_copy(t->name, sizeof(t->name), name);
    ASSERT(fits);
    if (!map_put(&f->tenants, str_from(t->name), t, NULL)) {
        mem_free(t);
        return NULL;
    }
    return t;
}

struct fair_tenant *fair_get(struct fair *f, struct str name)
{
    struct fair_tenant *t = map_get(&f->tenants, name);
    if (t == NULL) {
        t = fair_make(f, name);
        if (t == NULL) {
            return NULL;
        }
    }
    if (t->n_seqs++ == 0) {
        if (list_is_linked(&t->node)) {
            list_remove(&t->node);
            f->n_idle--;
        }
        t->served = MAX(t->served, fair_lowest(f));
        list_push_back(&f->active, &t->node);
    }
    return t;
}

void fair_put(struct fair *f, struct fair_tenant *t)
{
    ASSERT(t->n_seqs > 0);
    if (--t->n_seqs > 0) {
        return;
    }
    ASSERT(t->n_running == 0);
    f->served_last = t->served;
    list_remove(&t->node);
    list_push_back(&f->idle, &t->node);
    if (++f->n_idle > FAIR_IDLE_MAX) {
        struct fair_tenant *oldest = fair_of(list_pop_front(&f->idle));
        f->n_idle--;
        map_remove(&f->tenants, str_from(oldest->name));
        mem_free(oldest);
    }
}

struct fair_tenant *fair_next(const struct fair *f, const struct fair_tenant *t)
{
    struct list_node *next = t == NULL ? f->active.head.next : t->node.next;
    return next != &f->active.head ? fair_of(next) : NULL;
}
