/* draft.h: guesses of coming tokens by looking up what followed the same words before, in prompt
 * and output (n-gram speculation, "prompt lookup").
 *
 * The last 3 to 8 tokens are sought; what followed their longest and latest match is the guess.
 * The engine then checks all guesses in one step, and the sequence's own sampler decides as it
 * would have without: a wrong guess costs its row, never a token. One per sequence; pure. */
#ifndef SERVER_DRAFT_H
#define SERVER_DRAFT_H

#include "base/compiler.h"

struct draft {
    /* private */
    uint32_t *heads;  /* by hash of three tokens: the last place + 1 where they end; 0 = none */
    uint32_t *before; /* by place: the one before it in the same bucket, as in heads */
    uint32_t mask, n_indexed, n_tokens_max;
    float chance;
};

/* False when memory is short. */
MUST_CHECK bool draft_init(struct draft *d, uint32_t n_tokens_max);
/* May be called twice and on a zeroed struct. */
void draft_deinit(struct draft *d);
/* Guesses up to n_max tokens behind tokens[n_tokens] into out; returns how many, 0 = no idea. The
 * tokens of earlier calls must still be the same. */
uint32_t draft_guess(struct draft *d, const int32_t *tokens, uint32_t n_tokens, int32_t *out,
                     uint32_t n_max);
/* Of n guesses that were checked the first n_right were right. */
void draft_learn(struct draft *d, uint32_t n, uint32_t n_right);
/* There was a guess, but it was not worth a row: the chance recovers slowly, so that it is tried
 * again some day. */
void draft_skip(struct draft *d);
/* The share of guesses that are right, lately. */
float draft_chance(const struct draft *d);

#endif
