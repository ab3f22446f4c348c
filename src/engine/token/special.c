/* special.c: finding the special tokens in a text before anything else looks at it: the leftmost,
 * and of those that begin at one place the longest.
 *
 * Two lists, the user-defined tokens (always parsed) and all special ones (parsed on request). Most
 * bytes of a text begin no special token and cost one look. */
#include "base/mem.h"
#include "engine/token/lexicon.h"

struct vocab_specials {
    struct lexicon user, all;
};

/* ---- building ---- */

/* A text that is not UTF-8 could match inside a character and cut it; nobody can write it. */
static bool special_is_user(const struct vocab *v, int32_t id)
{
    return v->tokens[id].attr == TOKEN_USER_DEFINED && str_utf8_valid(vocab_text(v, id));
}

static bool special_is_any(const struct vocab *v, int32_t id)
{
    uint8_t attr = v->tokens[id].attr;
    bool special = attr == TOKEN_CONTROL || attr == TOKEN_UNKNOWN;
    return special_is_user(v, id) || (special && str_utf8_valid(vocab_text(v, id)));
}

RC vocab_specials_create(struct vocab *v, struct err *err)
{
    v->specials = mem_zalloc(sizeof(*v->specials));
    if (!vocab_lexicon_fill(&v->specials->user, v, special_is_user) ||
        !vocab_lexicon_fill(&v->specials->all, v, special_is_any)) {
        return err_set(err, RC_NOMEM, "no memory for the special tokens");
    }
    return RC_OK;
}

void vocab_specials_destroy(struct vocab_specials *s)
{
    if (s != NULL) {
        vocab_lexicon_deinit(&s->user);
        vocab_lexicon_deinit(&s->all);
        mem_free(s);
    }
}

/* ---- finding ---- */

/* The longest special token that `text` begins with, or TOKEN_NONE. */
static int32_t special_at(const struct vocab *v, const struct lexicon *list, struct str text)
{
    int32_t longest;
    struct lexicon_walk w = vocab_lexicon_begin(list, v, (unsigned char)text.ptr[0], &longest);
    for (size_t at = 1; w.lo < w.hi && at < text.len; at++) {
        int32_t id;
        vocab_lexicon_step(list, v, (unsigned char)text.ptr[at], &w, &id);
        longest = id != TOKEN_NONE ? id : longest;
    }
    return longest;
}

struct special_match vocab_specials_find(const struct vocab *v, struct str text, size_t from,
                                         bool parse_special)
{
    const struct lexicon *list = parse_special ? &v->specials->all : &v->specials->user;
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
