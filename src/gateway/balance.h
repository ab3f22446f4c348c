/* balance.h: which of several servers a request goes to: one ops table per policy.
 *
 *   round_robin        each in turn
 *   least_outstanding  the one with the fewest requests under way, ties in turn
 *   two_choices        the lesser of two drawn at random (Mitzenmacher 2001): as good as the last
 *                      one where several gateways choose at once
 *   prefix_affinity    the same beginning of a prompt goes to the same server, whose cache has it
 *                      (rendezvous hashing), unless that one has over 1.25 times its share
 *
 * Pure: servers that cannot be used are not among the candidates. */
#ifndef GATEWAY_BALANCE_H
#define GATEWAY_BALANCE_H

#include "base/rng.h"
#include "gateway/catalog_rows.h"

struct balance_server {
    uint64_t id;          /* a hash of its name: the same in every gateway */
    uint32_t outstanding; /* requests under way */
};

struct balance_ask {
    uint64_t prefix; /* a hash of tenant, model and the prompt's beginning */
    uint32_t turn;   /* grows by one with every pick of the same version of a model */
    struct rng *rng;
};

struct balance_ops {
    const char *name;
    /* Index in [0, n), n > 0. */
    uint32_t (*pick)(const struct balance_server *servers, uint32_t n,
                     const struct balance_ask *ask);
};

extern const struct balance_ops balance_round_robin, balance_least_outstanding, balance_two_choices,
    balance_prefix_affinity;

const struct balance_ops *balance_of(enum cat_balance policy);

#endif
