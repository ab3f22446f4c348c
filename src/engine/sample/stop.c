/* stop.c: the earliest stop string in what is held, else the longest tail that may begin one.
 *
 * Text goes through in pieces of STOP_BYTES_MAX: with a held tail shorter than the longest stop
 * string, a piece always fits. */
#include "engine/sample/stop.h"

#include <string.h>

#include "base/assert.h"

void stop_init(struct stop_matcher *m, const struct str *strings, uint32_t n_strings)
{
    ASSERT(n_strings <= STOP_STRINGS_MAX);
    *m = (struct stop_matcher){.n_strings = n_strings};
    for (uint32_t i = 0; i < n_strings; i++) {
        ASSERT(strings[i].len > 0 && strings[i].len <= STOP_BYTES_MAX);
        m->strings[i] = strings[i];
    }
}

void stop_deinit(struct stop_matcher *m)
{
    m->n_held = 0;
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

/* At most STOP_BYTES_MAX bytes. */
static void push_piece(struct stop_matcher *m, struct str piece, struct buf *out)
{
    ASSERT(m->n_held + piece.len <= sizeof(m->held));
    memcpy(m->held + m->n_held, piece.ptr, piece.len);
    struct str held = str_make(m->held, m->n_held + piece.len);
    size_t safe = held.len;
    size_t found = held.len;
    for (uint32_t i = 0; i < m->n_strings; i++) {
        found = MIN(found, str_find(held, m->strings[i]));
        safe = MIN(safe, held.len - tail_that_may_stop(held, m->strings[i]));
    }
    m->hit = found < held.len;
    size_t n = m->hit ? found : safe;
    buf_add(out, held.ptr, n);
    m->n_held = m->hit ? 0 : (uint32_t)(held.len - n);
    memmove(m->held, m->held + n, m->n_held);
}

bool stop_push(struct stop_matcher *m, struct str text, struct buf *out)
{
    if (m->n_strings == 0) {
        buf_add_str(out, text);
        return false;
    }
    for (size_t at = 0; at < text.len && !m->hit; at += STOP_BYTES_MAX) {
        push_piece(m, str_slice(text, at, at + STOP_BYTES_MAX), out);
    }
    return m->hit;
}

void stop_finish(struct stop_matcher *m, struct buf *out)
{
    if (!m->hit) {
        buf_add(out, m->held, m->n_held);
        m->n_held = 0;
    }
}
