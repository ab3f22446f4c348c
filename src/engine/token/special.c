/* special.c: finding the special tokens in a text before anything else looks at it: the leftmost,
 * and of those that begin at one place the longest.
 *
 * Two sorted lists, the user-defined tokens (always parsed) and all special ones (parsed on
 * request), each with the range that begins with a byte. Finding narrows the range byte by byte;
 * most bytes of a text begin no special token and cost one look. */
#include "base/mem.h"
#include "engine/token/vocab.h"

struct special_list {
    int32_t *ids; /* sorted by text */
    uint32_t n;
    uint32_t first[257]; /* ids[first[b]..first[b + 1]) begin with byte b */
};

struct special_range {
    uint32_t lo, hi; /* of a list's ids, hi excluded */
};

struct vocab_specials {
    struct special_list user, all;
};

/* ---- building ---- */

static int special_compare(struct str a, struct str b)
{
    size_t n = MIN(a.len, b.len);
    int order = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Heap sort: bounded time whatever the texts are, and no context in a global. */
static void special_sift(const struct vocab *v, int32_t *ids, uint32_t root, uint32_t n)
{
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n &&
            special_compare(vocab_text(v, ids[child]), vocab_text(v, ids[child + 1])) < 0) {
            child++;
        }
        if (special_compare(vocab_text(v, ids[root]), vocab_text(v, ids[child])) >= 0) {
            return;
        }
        int32_t id = ids[root];
        ids[root] = ids[child];
        ids[child] = id;
        root = child;
    }
}

static void special_sort(const struct vocab *v, int32_t *ids, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) {
        special_sift(v, ids, i, n);
    }
    for (uint32_t end = n; end-- > 1;) {
        int32_t id = ids[0];
        ids[0] = ids[end];
        ids[end] = id;
        special_sift(v, ids, 0, end);
    }
}

/* A text that is not UTF-8 could match inside a character and cut it; nobody can write it. */
static bool special_wanted(const struct vocab *v, uint32_t id, bool user_only)
{
    uint8_t attr = v->tokens[id].attr;
    bool special = attr == TOKEN_USER_DEFINED ||
                   (!user_only && (attr == TOKEN_CONTROL || attr == TOKEN_UNKNOWN));
    return special && v->tokens[id].len > 0 && str_utf8_valid(vocab_text(v, (int32_t)id));
}

static bool special_list_fill(struct special_list *list, const struct vocab *v, bool user_only)
{
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        list->n += special_wanted(v, i, user_only);
    }
    list->ids = mem_try_zalloc_array(list->n, sizeof(*list->ids));
    if (list->ids == NULL) {
        return false;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (special_wanted(v, i, user_only)) {
            list->ids[n++] = (int32_t)i;
        }
    }
    special_sort(v, list->ids, n);
    for (uint32_t i = 0, byte = 0; byte < 257; byte++) {
        while (i < n && (unsigned char)vocab_text(v, list->ids[i]).ptr[0] < byte) {
            i++;
        }
        list->first[byte] = i;
    }
    return true;
}

RC vocab_specials_create(struct vocab *v, struct err *err)
{
    v->specials = mem_zalloc(sizeof(*v->specials));
    if (!special_list_fill(&v->specials->user, v, true) ||
        !special_list_fill(&v->specials->all, v, false)) {
        return err_set(err, RC_NOMEM, "no memory for the special tokens");
    }
    return RC_OK;
}

void vocab_specials_destroy(struct vocab_specials *s)
{
    if (s != NULL) {
        mem_free(s->user.ids);
        mem_free(s->all.ids);
        mem_free(s);
    }
}

/* ---- finding ---- */

/* The first of ids[lo..hi) whose byte `at` is not below `byte`; all have more than `at` bytes or
 * none, and agree before it. */
static uint32_t special_lower(const struct vocab *v, const struct special_list *list,
                              struct special_range r, size_t at, uint32_t byte)
{
    while (r.lo < r.hi) {
        uint32_t mid = r.lo + (r.hi - r.lo) / 2;
        struct str text = vocab_text(v, list->ids[mid]);
        if (text.len <= at || (unsigned char)text.ptr[at] < byte) {
            r.lo = mid + 1;
        } else {
            r.hi = mid;
        }
    }
    return r.lo;
}

/* The longest special token that `text` begins with, or TOKEN_NONE. */
static int32_t special_at(const struct vocab *v, const struct special_list *list, struct str text)
{
    uint32_t byte = (unsigned char)text.ptr[0];
    struct special_range r = {list->first[byte], list->first[byte + 1]};
    int32_t longest = TOKEN_NONE;
    for (size_t at = 1; r.lo < r.hi; at++) {
        /* Texts that agree so far are sorted, so one that ends here is the first of them. */
        if (vocab_text(v, list->ids[r.lo]).len == at) {
            longest = list->ids[r.lo++];
        }
        if (at == text.len) {
            break;
        }
        byte = (unsigned char)text.ptr[at];
        r.lo = special_lower(v, list, r, at, byte);
        r.hi = special_lower(v, list, r, at, byte + 1);
    }
    return longest;
}

struct special_match vocab_specials_find(const struct vocab *v, struct str text, size_t from,
                                         bool parse_special)
{
    const struct special_list *list = parse_special ? &v->specials->all : &v->specials->user;
    for (size_t at = from; list->n > 0 && at < text.len; at++) {
        uint32_t byte = (unsigned char)text.ptr[at];
        if (list->first[byte] == list->first[byte + 1]) {
            continue;
        }
        int32_t id = special_at(v, list, str_slice(text, at, text.len));
        if (id != TOKEN_NONE) {
            return (struct special_match){at, id};
        }
    }
    return (struct special_match){text.len, TOKEN_NONE};
}
