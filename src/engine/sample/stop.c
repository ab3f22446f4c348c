/* stop.c: the earliest stop string in what is held, else the longest tail that may begin one. */
#include "engine/sample/stop.h"

#include "base/assert.h"

/* Held bytes never reach the cap: what cannot begin a stop string goes out at every push. */
enum { STOP_HELD_MAX = 1 << 20 };

void stop_init(struct stop_matcher *m, const struct str *strings, uint32_t n_strings)
{
    ASSERT(n_strings <= STOP_STRINGS_MAX);
    *m = (struct stop_matcher){.n_strings = n_strings};
    for (uint32_t i = 0; i < n_strings; i++) {
        ASSERT(strings[i].len > 0 && strings[i].len <= STOP_BYTES_MAX);
        m->strings[i] = strings[i];
    }
    buf_init(&m->held, STOP_HELD_MAX);
}

void stop_deinit(struct stop_matcher *m)
{
    buf_deinit(&m->held);
}

/* The length of the longest tail of `text` that is a proper beginning of `stop`. */
static size_t tail_that_may_stop(struct str text, struct str stop)
{
    size_t n = MIN(text.len, stop.len - 1);
    while (n > 0 && memcmp(text.ptr + text.len - n, stop.ptr, n) != 0) {
        n--;
    }
    return n;
}

bool stop_push(struct stop_matcher *m, struct str text, struct buf *out)
{
    if (m->hit) {
        return true;
    }
    if (m->n_strings == 0) {
        buf_add_str(out, text);
        return false;
    }
    buf_add_str(&m->held, text);
    struct str held = buf_str(&m->held);
    size_t safe = held.len;
    size_t found = held.len;
    for (uint32_t i = 0; i < m->n_strings; i++) {
        found = MIN(found, str_find(held, m->strings[i]));
        safe = MIN(safe, held.len - tail_that_may_stop(held, m->strings[i]));
    }
    m->hit = found < held.len;
    size_t n = m->hit ? found : safe;
    buf_add(out, held.ptr, n);
    buf_drop_front(&m->held, m->hit ? held.len : n);
    return m->hit;
}

void stop_finish(struct stop_matcher *m, struct buf *out)
{
    if (!m->hit) {
        buf_add_str(out, buf_str(&m->held));
        buf_reset(&m->held);
    }
}
