/* breaker.c: see breaker.h. */
#include "gateway/breaker.h"

#include <string.h>

#include "base/assert.h"

void breaker_init(struct breaker *b)
{
    *b = (struct breaker){.open_ms = BREAKER_OPEN_MS};
}

/* Slots that have left the window are emptied. */
static void breaker_turn(struct breaker *b, uint64_t now_ms)
{
    uint64_t slot = now_ms / BREAKER_SLOT_MS;
    uint64_t steps = slot > b->slot ? MIN(slot - b->slot, (uint64_t)BREAKER_SLOTS) : 0;
    for (uint64_t i = 0; i < steps; i++) {
        size_t at = (size_t)((slot - i) % BREAKER_SLOTS);
        b->n_ok[at] = 0;
        b->n_failed[at] = 0;
    }
    b->slot = MAX(b->slot, slot);
}

static void breaker_forget(struct breaker *b)
{
    memset(b->n_ok, 0, sizeof(b->n_ok));
    memset(b->n_failed, 0, sizeof(b->n_failed));
    b->run = 0;
    b->n_trials = 0;
    b->n_passed = 0;
}

static void breaker_open(struct breaker *b, uint64_t now_ms)
{
    b->state = BREAKER_OPEN;
    b->open_until_ms = now_ms + b->open_ms;
    b->open_ms = MIN(b->open_ms * 2, (uint64_t)BREAKER_OPEN_MS_MAX);
    breaker_forget(b);
}

enum breaker_state breaker_look(const struct breaker *b, uint64_t now_ms)
{
    bool over = b->state == BREAKER_OPEN && now_ms >= b->open_until_ms;
    return over ? BREAKER_HALF_OPEN : b->state;
}

bool breaker_begin(struct breaker *b, uint64_t now_ms)
{
    b->state = breaker_look(b, now_ms);
    if (b->state == BREAKER_CLOSED) {
        return true;
    }
    if (b->state == BREAKER_OPEN || b->n_trials + b->n_passed >= BREAKER_TRIALS) {
        return false;
    }
    b->n_trials++;
    return true;
}

static bool breaker_has_failed(const struct breaker *b)
{
    uint32_t n_ok = 0, n_failed = 0;
    for (size_t i = 0; i < BREAKER_SLOTS; i++) {
        n_ok += b->n_ok[i];
        n_failed += b->n_failed[i];
    }
    return b->run >= BREAKER_RUN_MAX || (n_ok + n_failed >= BREAKER_CALLS_MIN && n_failed >= n_ok);
}

static void breaker_finish_trial(struct breaker *b, enum breaker_end how, uint64_t now_ms)
{
    if (b->n_trials == 0) {
        return; /* begun before it opened */
    }
    b->n_trials--;
    if (how == BREAKER_FAILED) {
        breaker_open(b, now_ms);
    } else if (how == BREAKER_OK && ++b->n_passed >= BREAKER_TRIALS) {
        b->state = BREAKER_CLOSED;
        b->open_ms = BREAKER_OPEN_MS;
        breaker_forget(b);
    }
}

void breaker_finish(struct breaker *b, enum breaker_end how, uint64_t now_ms)
{
    breaker_turn(b, now_ms);
    b->state = breaker_look(b, now_ms);
    if (b->state == BREAKER_HALF_OPEN) {
        breaker_finish_trial(b, how, now_ms);
        return;
    }
    if (b->state == BREAKER_OPEN || how == BREAKER_SAYS_NOTHING) {
        return;
    }
    uint32_t *count = how == BREAKER_OK ? b->n_ok : b->n_failed;
    count[b->slot % BREAKER_SLOTS]++;
    b->run = how == BREAKER_OK ? 0 : b->run + 1;
    if (breaker_has_failed(b)) {
        breaker_open(b, now_ms);
    }
}
