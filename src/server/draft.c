/* draft.c: see draft.h. Places with the same three-token hash hang on a chain, latest first; a
 * bounded number of them is compared token by token, so collisions only cost time. */
#include "server/draft.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

enum {
    DRAFT_WORDS_MIN = 3,
    DRAFT_WORDS_MAX = 8,
    DRAFT_PLACES_MAX = 16, /* that are compared */
    DRAFT_HEADS_MAX = 8192,
};

static const float draft_chance_start = 0.5f;
static const float draft_chance_step = 0.12f;
static const float draft_chance_recovery = 0.01f;

bool draft_init(struct draft *d, uint32_t n_tokens_max)
{
    uint32_t n_heads = 64;
    while (n_heads < n_tokens_max / 2 && n_heads < DRAFT_HEADS_MAX) {
        n_heads *= 2;
    }
    *d = (struct draft){
        .mask = n_heads - 1, .n_tokens_max = n_tokens_max, .chance = draft_chance_start};
    d->heads = mem_try_zalloc_array(n_heads, sizeof(*d->heads));
    d->before = mem_try_zalloc_array(n_tokens_max, sizeof(*d->before));
    if (d->heads == NULL || d->before == NULL) {
        draft_deinit(d);
        return false;
    }
    return true;
}

void draft_deinit(struct draft *d)
{
    mem_free(d->heads);
    mem_free(d->before);
    *d = (struct draft){0};
}

/* The bucket of the three tokens that end at `place`. */
static uint32_t *draft_bucket(const struct draft *d, const int32_t *tokens, uint32_t place)
{
    uint64_t hash =
        hash_bytes(tokens + place - (DRAFT_WORDS_MIN - 1), DRAFT_WORDS_MIN * sizeof(*tokens));
    return &d->heads[hash & d->mask];
}

/* Every place that has a token behind it. */
static void draft_index(struct draft *d, const int32_t *tokens, uint32_t n_tokens)
{
    uint32_t place = MAX(d->n_indexed, (uint32_t)DRAFT_WORDS_MIN - 1);
    for (; place + 1 < n_tokens; place++) {
        uint32_t *head = draft_bucket(d, tokens, place);
        d->before[place] = *head;
        *head = place + 1;
    }
    d->n_indexed = MAX(d->n_indexed, place);
}

static uint32_t draft_n_same(const int32_t *tokens, uint32_t place, uint32_t last)
{
    uint32_t n = 0;
    while (n < DRAFT_WORDS_MAX && n <= place && tokens[place - n] == tokens[last - n]) {
        n++;
    }
    return n;
}

uint32_t draft_guess(struct draft *d, const int32_t *tokens, uint32_t n_tokens, int32_t *out,
                     uint32_t n_max)
{
    ASSERT(n_tokens <= d->n_tokens_max);
    if (n_tokens <= DRAFT_WORDS_MIN || n_max == 0) {
        return 0;
    }
    draft_index(d, tokens, n_tokens);
    uint32_t last = n_tokens - 1;
    uint32_t best = 0;
    uint32_t n_best = DRAFT_WORDS_MIN - 1;
    uint32_t place = *draft_bucket(d, tokens, last);
    for (uint32_t i = 0; place != 0 && i < DRAFT_PLACES_MAX && n_best < DRAFT_WORDS_MAX; i++) {
        uint32_t n = draft_n_same(tokens, place - 1, last);
        if (n > n_best) {
            n_best = n;
            best = place;
        }
        place = d->before[place - 1];
    }
    if (best == 0) {
        return 0;
    }
    /* `best` is the place behind the match; a text that repeats itself goes on in the guess. */
    for (uint32_t i = 0; i < n_max; i++) {
        out[i] = best + i < n_tokens ? tokens[best + i] : out[best + i - n_tokens];
    }
    return n_max;
}

void draft_learn(struct draft *d, uint32_t n, uint32_t n_right)
{
    ASSERT(n_right <= n);
    for (uint32_t i = 0; i < n_right; i++) {
        d->chance += draft_chance_step * (1 - d->chance);
    }
    if (n_right < n) {
        d->chance -= draft_chance_step * d->chance;
    }
}

void draft_skip(struct draft *d)
{
    if (d->chance < draft_chance_start) {
        d->chance += draft_chance_recovery * (draft_chance_start - d->chance);
    }
}

float draft_chance(const struct draft *d)
{
    return d->chance;
}
