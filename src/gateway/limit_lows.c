/* limit_lows.c: see limit_lows.h. */
#include "gateway/limit_lows.h"

#include <string.h>

#include "base/assert.h"

static void lows_remove(struct limit_lows *w, uint32_t i)
{
    w->n--;
    memmove(&w->at[i], &w->at[i + 1], (w->n - i) * sizeof(w->at[0]));
}

/* The two nearest become one, as late as the later and as low as the lower. */
static void lows_merge(struct limit_lows *w)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i + 1 < w->n; i++) {
        if (w->at[i + 1].level - w->at[i].level < w->at[best + 1].level - w->at[best].level) {
            best = i;
        }
    }
    w->at[best + 1].level = w->at[best].level;
    lows_remove(w, best);
}

/* The first of those since then. */
static uint32_t lows_find(const struct limit_lows *w, uint64_t put)
{
    uint32_t i = 0;
    while (i < w->n && w->at[i].put <= put) {
        i++;
    }
    return i;
}

uint64_t limit_lows_put(struct limit_lows *w, uint64_t level)
{
    while (w->n > 0 && w->at[w->n - 1].level >= level) {
        w->n--;
    }
    if (w->n == LIMIT_LOWS_MAX) {
        lows_merge(w);
    }
    w->at[w->n++] = (struct limit_low){.put = ++w->n_puts, .level = level};
    return w->n_puts;
}

uint64_t limit_lows_least(const struct limit_lows *w, uint64_t put, uint64_t level)
{
    uint32_t i = lows_find(w, put);
    return i < w->n ? MIN(w->at[i].level, level) : level;
}

void limit_lows_take(struct limit_lows *w, uint64_t put, uint64_t back)
{
    uint32_t first = lows_find(w, put);
    for (uint32_t i = first; i < w->n; i++) {
        ASSERT(w->at[i].level >= back);
        w->at[i].level -= back;
    }
    while (first > 0 && first < w->n && w->at[first - 1].level >= w->at[first].level) {
        lows_remove(w, --first);
    }
}
