/* fair.h: who is served next among tenants: virtual token counters (Sheng et al. 2024, VTC).
 *
 * Every token that is computed for a tenant counts: one of a prompt 1, one of an answer 4 (it
 * costs about so much more). Among equal classes the tenant with the lowest count is next. One
 * that comes back after a pause is lifted to the lowest count of those that are there: pauses save
 * nothing up. Pure; one owner: the engine thread. */
#ifndef SERVER_FAIR_H
#define SERVER_FAIR_H

#include "base/list.h"
#include "base/map.h"

enum {
    FAIR_INPUT_WEIGHT = 1,
    FAIR_OUTPUT_WEIGHT = 4,
    FAIR_NAME_BYTES_MAX = 72,
    FAIR_IDLE_MAX = 1024, /* tenants without requests that are remembered */
};

struct fair_tenant {
    uint64_t served;    /* weighted tokens */
    uint32_t n_seqs;    /* waiting and running */
    uint32_t n_running; /* counted by the scheduler */
    double backlog_ns;  /* scratch of admit.c */
    /* private */
    struct list_node node;
    char name[FAIR_NAME_BYTES_MAX];
};

struct fair {
    /* private */
    struct map tenants; /* by name */
    struct list active, idle;
    uint32_t n_idle;
    uint64_t served_last; /* of the tenant that went idle last */
};

void fair_init(struct fair *f, uint64_t seed);
/* May be called twice. */
void fair_deinit(struct fair *f);
/* A tenant gets one more sequence. NULL when memory is short. */
MUST_CHECK struct fair_tenant *fair_get(struct fair *f, struct str name);
/* A sequence of it has ended. */
void fair_put(struct fair *f, struct fair_tenant *t);
static inline void fair_charge(struct fair_tenant *t, uint64_t n_input, uint64_t n_output)
{
    t->served += n_input * FAIR_INPUT_WEIGHT + n_output * FAIR_OUTPUT_WEIGHT;
}
/* Every tenant with sequences: for (t = NULL; (t = fair_next(f, t)) != NULL;). */
struct fair_tenant *fair_next(const struct fair *f, const struct fair_tenant *t);

#endif
