/* sched_private.h: what the scheduler's files share; not for others. */
#ifndef SERVER_SCHED_PRIVATE_H
#define SERVER_SCHED_PRIVATE_H

#include "engine/tensor/backend.h"
#include "server/sched.h"

static inline uint32_t sched_pages_for(uint32_t n_tokens)
{
    return (n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
}

static inline struct sched_seq *sched_seq_of(struct list_node *node)
{
    return LIST_ENTRY(node, struct sched_seq, node);
}

/* One row gives it a new token; else it has a prompt to read. */
static inline bool sched_is_decoding(const struct sched_seq *seq)
{
    return seq->n_tokens - seq->n_cached == 1;
}

/* sched.c */

/* Moves waiting sequences to running; preempts for them. */
void sched_admit(struct sched *s);
/* Gives seq pages for its first n_tokens. Preempts paused sequences and those that stand behind it
 * while none is left; false when there is none to take from. */
bool sched_grow(struct sched *s, struct sched_seq *seq, uint32_t n_tokens);

/* sched_plan.c */

/* The time of a step, prompts and all, in which decoding alone takes decode_ns > 0. */
double sched_stretch(double budget_ns, double decode_ns);

/* sched_prefix.c */

/* Keys of all whole pages of the known tokens. */
void sched_make_keys(const struct sched *s, struct sched_seq *seq);
/* Pages of the cache that the sequence would take; *n_held of them are held by others. */
uint32_t sched_count_hits(const struct sched *s, const struct sched_seq *seq, uint32_t *n_held);
/* A sequence without pages takes what the cache has for it. */
void sched_take_prefix(struct sched *s, struct sched_seq *seq);
/* Tells the cache of tokens [from, n_cached). */
void sched_note(struct sched *s, struct sched_seq *seq, uint32_t from);
/* Whether a running sequence of no worse level computes what this one needs next: it is there
 * soon. */
bool sched_is_being_computed(const struct sched *s, const struct sched_seq *seq);

#endif
