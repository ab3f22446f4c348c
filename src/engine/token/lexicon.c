/* lexicon.c: see lexicon.h.
 *
 * Invariant of a walk: all texts of ids[lo … hi) agree in their first n_bytes bytes and have more
 * than these. */
#include "engine/token/lexicon.h"

#include "base/mem.h"

/* ---- building ---- */

static int lexicon_compare(struct str a, struct str b)
{
    size_t n = MIN(a.len, b.len);
    int order = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Heap sort: bounded time whatever the texts are, and no context in a global. */
static void lexicon_sift(const struct vocab *v, int32_t *ids, uint32_t root, uint32_t n)
{
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n &&
            lexicon_compare(vocab_text(v, ids[child]), vocab_text(v, ids[child + 1])) < 0) {
            child++;
        }
        if (lexicon_compare(vocab_text(v, ids[root]), vocab_text(v, ids[child])) >= 0) {
            return;
        }
        int32_t id = ids[root];
        ids[root] = ids[child];
        ids[child] = id;
        root = child;
    }
}

static void lexicon_sort(const struct vocab *v, int32_t *ids, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) {
        lexicon_sift(v, ids, i, n);
    }
    for (uint32_t end = n; end-- > 1;) {
        int32_t id = ids[0];
        ids[0] = ids[end];
        ids[end] = id;
        lexicon_sift(v, ids, 0, end);
    }
}

bool vocab_lexicon_fill(struct lexicon *l, const struct vocab *v, lexicon_wants_fn *wants)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        n += v->tokens[i].len > 0 && wants(v, (int32_t)i);
    }
    l->ids = mem_try_zalloc_array(n, sizeof(*l->ids));
    if (l->ids == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (v->tokens[i].len > 0 && wants(v, (int32_t)i)) {
            l->ids[l->n++] = (int32_t)i;
        }
    }
    lexicon_sort(v, l->ids, n);
    for (uint32_t i = 0, byte = 0; byte < 257; byte++) {
        while (i < n && (unsigned char)vocab_text(v, l->ids[i]).ptr[0] < byte) {
            i++;
        }
        l->first[byte] = i;
    }
    return true;
}

void vocab_lexicon_deinit(struct lexicon *l)
{
    mem_free(l->ids);
    *l = (struct lexicon){0};
}

/* ---- walking ---- */

/* The first of ids[lo … hi) whose byte behind the walked ones is not below `byte`. */
static uint32_t lexicon_lower(const struct lexicon *l, const struct vocab *v, struct lexicon_walk w,
                              uint32_t byte)
{
    while (w.lo < w.hi) {
        uint32_t mid = w.lo + (w.hi - w.lo) / 2;
        if ((unsigned char)vocab_text(v, l->ids[mid]).ptr[w.n_bytes] < byte) {
            w.lo = mid + 1;
        } else {
            w.hi = mid;
        }
    }
    return w.lo;
}

/* Texts that agree so far are sorted, so one that ends here is the first of them. */
static int32_t lexicon_take_whole(const struct lexicon *l, const struct vocab *v,
                                  struct lexicon_walk *w)
{
    if (w->lo < w->hi && vocab_text(v, l->ids[w->lo]).len == w->n_bytes) {
        return l->ids[w->lo++];
    }
    return TOKEN_NONE;
}

struct lexicon_walk vocab_lexicon_begin(const struct lexicon *l, const struct vocab *v,
                                        unsigned char byte, int32_t *id)
{
    struct lexicon_walk w = {l->first[byte], l->first[byte + 1u], 1};
    *id = lexicon_take_whole(l, v, &w);
    return w;
}

void vocab_lexicon_step(const struct lexicon *l, const struct vocab *v, unsigned char byte,
                        struct lexicon_walk *w, int32_t *id)
{
    struct lexicon_walk next = *w;
    next.lo = lexicon_lower(l, v, *w, byte);
    next.hi = next.lo;
    if (next.lo < w->hi && (unsigned char)vocab_text(v, l->ids[next.lo]).ptr[w->n_bytes] == byte) {
        next.hi = lexicon_lower(l, v, *w, byte + 1u);
    }
    next.n_bytes++;
    *w = next;
    *id = lexicon_take_whole(l, v, w);
}
