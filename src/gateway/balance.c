/* balance.c: see balance.h. */
#include "gateway/balance.h"

#include "base/assert.h"
#include "base/hash.h"

static uint32_t pick_in_turn(const struct balance_server *servers, uint32_t n,
                             const struct balance_ask *ask)
{
    UNUSED(servers);
    return ask->turn % n;
}

static uint32_t pick_least(const struct balance_server *servers, uint32_t n,
                           const struct balance_ask *ask)
{
    uint32_t best = ask->turn % n;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t at = (ask->turn + i) % n;
        best = servers[at].outstanding < servers[best].outstanding ? at : best;
    }
    return best;
}

static uint32_t pick_of_two(const struct balance_server *servers, uint32_t n,
                            const struct balance_ask *ask)
{
    if (n == 1) {
        return 0;
    }
    uint32_t a = rng_below(ask->rng, n);
    uint32_t b = rng_below(ask->rng, n - 1);
    b += b >= a ? 1 : 0; /* another one */
    return servers[b].outstanding < servers[a].outstanding ? b : a;
}

/* The most that one may have with this request: 1.25 times the mean, rounded up. */
static uint32_t balance_bound(const struct balance_server *servers, uint32_t n)
{
    uint64_t sum = 1;
    for (uint32_t i = 0; i < n; i++) {
        sum += servers[i].outstanding;
    }
    return (uint32_t)MIN((sum * 5 + 4ull * n - 1) / (4ull * n), (uint64_t)UINT32_MAX);
}

static uint32_t pick_by_prefix(const struct balance_server *servers, uint32_t n,
                               const struct balance_ask *ask)
{
    uint32_t bound = balance_bound(servers, n);
    uint32_t best = UINT32_MAX;
    uint64_t best_score = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t score = hash_u64(servers[i].id ^ hash_u64(ask->prefix));
        bool room = servers[i].outstanding < bound;
        if (room && (best == UINT32_MAX || score > best_score)) {
            best = i;
            best_score = score;
        }
    }
    ASSERT(best < n); /* not all can be over the mean */
    return best;
}

const struct balance_ops balance_round_robin = {"round_robin", pick_in_turn};
const struct balance_ops balance_least_outstanding = {"least_outstanding", pick_least};
const struct balance_ops balance_two_choices = {"two_choices", pick_of_two};
const struct balance_ops balance_prefix_affinity = {"prefix_affinity", pick_by_prefix};

const struct balance_ops *balance_of(enum cat_balance policy)
{
    static const struct balance_ops *const all[] = {
        [CAT_ROUND_ROBIN] = &balance_round_robin,
        [CAT_LEAST_OUTSTANDING] = &balance_least_outstanding,
        [CAT_TWO_CHOICES] = &balance_two_choices,
        [CAT_PREFIX_AFFINITY] = &balance_prefix_affinity,
    };
    ASSERT((size_t)policy < ARRAY_LEN(all));
    return all[policy];
}
