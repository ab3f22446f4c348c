/* template_method_str.c: the methods of str.
 *
 * Positions and widths count code points, as Python's do. Every public name of Python's type is in
 * the table: those without a function are known, and refused when called. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_char.h"
#include "engine/token/template_text.h"

#define METHOD(name)                                                                               \
    static RC method_##name(struct template_run *r, const struct template_value *self,             \
                            const struct template_args *a, struct template_value *out)

/* ---- str: case ---- */

/* Whether a cased letter stands before / after: a capital sigma at a word's end has its own form.
 */
static bool sigma_is_final(struct str all, size_t at, size_t n)
{
    uint32_t cp;
    size_t before = at;
    while (before > 0 && ((unsigned char)all.ptr[before - 1] & 0xC0) == 0x80) {
        before--;
    }
    bool letter_before = false, letter_after = false;
    if (before > 0) {
        template_decode(str_slice(all, before - 1, all.len), &cp);
        letter_before = template_char_is_alpha(cp);
    }
    if (at + n < all.len) {
        template_decode(str_slice(all, at + n, all.len), &cp);
        letter_after = template_char_is_alpha(cp);
    }
    return letter_before && !letter_after;
}

enum case_style { STYLE_LOWER, STYLE_UPPER, STYLE_CAPITALIZE, STYLE_TITLE, STYLE_SWAP };

static enum template_case case_for(enum case_style style, uint32_t cp, bool starts)
{
    switch (style) {
    case STYLE_LOWER:
        return CASE_LOWER;
    case STYLE_UPPER:
        return CASE_UPPER;
    case STYLE_SWAP:
        return template_char_is_upper(cp) ? CASE_LOWER : CASE_UPPER;
    default:
        return starts ? CASE_TITLE : CASE_LOWER;
    }
}

static RC change_case(struct template_run *r, const struct template_value *self,
                      enum case_style style, struct template_value *out)
{
    enum { SIGMA = 0x3A3, SIGMA_FINAL = 0x3C2 };
    struct template_text t;
    uint32_t cp, to[3];
    bool starts = true;
    size_t n;
    struct str s = self->text;
    template_text_init(&t, r);
    TRY(template_spend(r, s.len / 4));
    for (size_t at = 0; at < s.len; at += n) {
        n = template_decode(str_slice(s, at, s.len), &cp);
        enum template_case c = case_for(style, cp, starts);
        uint32_t k = template_char_map(cp, c, to);
        if (cp == SIGMA && c == CASE_LOWER && sigma_is_final(s, at, n)) {
            to[0] = SIGMA_FINAL;
        }
        for (uint32_t i = 0; i < k; i++) {
            template_text_add_char(&t, to[i]);
        }
        starts = style == STYLE_TITLE && !template_char_is_alpha(cp);
    }
    *out = *self;
    return template_text_done(&t, &out->text);
}

METHOD(lower)
{
    UNUSED(a);
    return change_case(r, self, STYLE_LOWER, out);
}

METHOD(upper)
{
    UNUSED(a);
    return change_case(r, self, STYLE_UPPER, out);
}

METHOD(capitalize)
{
    UNUSED(a);
    return change_case(r, self, STYLE_CAPITALIZE, out);
}

METHOD(title)
{
    UNUSED(a);
    return change_case(r, self, STYLE_TITLE, out);
}

METHOD(swapcase)
{
    UNUSED(a);
    return change_case(r, self, STYLE_SWAP, out);
}

/* ---- str: stripping ---- */

static bool char_in(struct str set, struct str c)
{
    for (size_t at = 0, n; at < set.len; at += n) {
        uint32_t cp;
        n = template_decode(str_slice(set, at, set.len), &cp);
        if (str_eq(str_slice(set, at, at + n), c)) {
            return true;
        }
    }
    return false;
}

static size_t last_char(struct str s)
{
    size_t at = s.len - 1;
    while (at > 0 && ((unsigned char)s.ptr[at] & 0xC0) == 0x80) {
        at--;
    }
    return at;
}

static RC strip(struct template_run *r, const struct template_value *self,
                const struct template_value *chars, const bool ends[2], struct template_value *out)
{
    struct str s = self->text, set;
    uint32_t cp;
    *out = *self;
    if (chars->type == TV_MISSING || chars->type == TV_NONE) {
        out->text = template_char_strip(s, ends[0], ends[1]);
        return template_spend(r, (s.len - out->text.len) / 4);
    }
    TRY(template_arg_str(r, chars, "the characters to strip", &set));
    while (ends[0] && s.len > 0) {
        size_t n = template_decode(s, &cp);
        if (!char_in(set, str_slice(s, 0, n))) {
            break;
        }
        TRY(template_spend(r, 1 + set.len / 16));
        s = str_slice(s, n, s.len);
    }
    while (ends[1] && s.len > 0) {
        size_t at = last_char(s);
        if (!char_in(set, str_slice(s, at, s.len))) {
            break;
        }
        TRY(template_spend(r, 1 + set.len / 16));
        s = str_slice(s, 0, at);
    }
    out->text = s;
    return RC_OK;
}

METHOD(strip)
{
    return strip(r, self, &a->v[0], (const bool[2]){true, true}, out);
}

METHOD(lstrip)
{
    return strip(r, self, &a->v[0], (const bool[2]){true, false}, out);
}

METHOD(rstrip)
{
    return strip(r, self, &a->v[0], (const bool[2]){false, true}, out);
}

METHOD(removeprefix)
{
    struct str p;
    TRY(template_arg_str(r, &a->v[0], "the prefix", &p));
    *out = tv_str(str_slice(self->text, str_starts(self->text, p) ? p.len : 0, self->text.len));
    return template_spend_bytes(r, p.len);
}

METHOD(removesuffix)
{
    struct str p;
    TRY(template_arg_str(r, &a->v[0], "the suffix", &p));
    size_t cut = str_ends(self->text, p) ? p.len : 0;
    *out = tv_str(str_slice(self->text, 0, self->text.len - cut));
    return template_spend_bytes(r, p.len);
}

/* ---- str: splitting and joining ---- */

static RC push_text(struct template_run *r, struct template_seq *s, struct str text)
{
    struct template_value v = tv_str(text);
    return template_seq_push(r, s, &v);
}

/* Words between white space, at most `max` cuts (negative: no limit). */
static RC split_space(struct template_run *r, struct str s, int64_t max, struct template_seq *parts)
{
    s = template_char_strip(s, true, false);
    while (s.len > 0) {
        size_t end = 0;
        uint32_t cp;
        while (end < s.len && max != 0) {
            size_t n = template_decode(str_slice(s, end, s.len), &cp);
            if (template_char_is_space(cp)) {
                break;
            }
            end += n;
        }
        end = max == 0 ? s.len : end;
        TRY(push_text(r, parts, str_slice(s, 0, end)));
        s = template_char_strip(str_slice(s, end, s.len), true, false);
        max -= max > 0 ? 1 : 0;
    }
    return RC_OK;
}

METHOD(split)
{
    struct str s = self->text, sep;
    int64_t max = -1;
    struct template_seq *parts;
    TRY(template_seq_new(r, SEQ_LIST, 0, &parts));
    *out = tv_seq(parts);
    TRY(template_spend_bytes(r, s.len));
    if (template_arg_given(&a->v[1])) {
        TRY(template_arg_int(r, &a->v[1], "maxsplit", &max));
    }
    if (a->v[0].type == TV_MISSING || a->v[0].type == TV_NONE) {
        TRY(template_spend(r, s.len / 4));
        return split_space(r, s, max, parts);
    }
    TRY(template_arg_str(r, &a->v[0], "the separator", &sep));
    if (sep.len == 0) {
        return template_fail(r, RC_INVALID, "empty separator");
    }
    for (size_t at; max != 0 && (at = str_find(s, sep)) < s.len; max--) {
        TRY(push_text(r, parts, str_slice(s, 0, at)));
        s = str_slice(s, at + sep.len, s.len);
    }
    return push_text(r, parts, s);
}

/* The first or the last occurrence; s.len when absent. */
static RC find_text(struct template_run *r, struct str s, struct str needle, bool last, size_t *out)
{
    *out = s.len;
    if (!last) {
        *out = str_find(s, needle);
        return template_spend_bytes(r, s.len);
    }
    /* Backwards every place may cost a whole comparison. */
    TRY(template_spend(r, (uint64_t)s.len * (needle.len / 16 + 1) / 4));
    for (size_t at = s.len >= needle.len ? s.len - needle.len + 1 : 0; at > 0; at--) {
        if (needle.len == 0 || memcmp(s.ptr + at - 1, needle.ptr, needle.len) == 0) {
            *out = at - 1;
            break;
        }
    }
    return RC_OK;
}

static void reverse_items(struct template_seq *s)
{
    for (uint32_t i = 0; i < s->n / 2; i++) {
        struct template_value v = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = v;
    }
}

/* With a separator only, or without limit; rsplit(None, n) has no known user. */
METHOD(rsplit)
{
    struct str s = self->text, sep;
    int64_t max = -1;
    struct template_seq *parts;
    if (template_arg_given(&a->v[1])) {
        TRY(template_arg_int(r, &a->v[1], "maxsplit", &max));
    }
    if (max < 0) {
        return method_split(r, self, a, out);
    }
    TRY(template_arg_str(r, &a->v[0], "the separator", &sep));
    if (sep.len == 0) {
        return template_fail(r, RC_INVALID, "empty separator");
    }
    TRY(template_seq_new(r, SEQ_LIST, 0, &parts));
    for (size_t at; max != 0; max--) {
        TRY(find_text(r, s, sep, true, &at));
        if (at == s.len) {
            break;
        }
        TRY(push_text(r, parts, str_slice(s, at + sep.len, s.len)));
        s = str_slice(s, 0, at);
    }
    TRY(push_text(r, parts, s));
    reverse_items(parts);
    *out = tv_seq(parts);
    return RC_OK;
}

METHOD(splitlines)
{
    struct str s = self->text;
    bool keep = template_arg_flag(&a->v[0], false);
    struct template_seq *lines;
    TRY(template_seq_new(r, SEQ_LIST, 0, &lines));
    TRY(template_spend(r, s.len / 4));
    while (s.len > 0) {
        size_t end = 0, n = 0;
        uint32_t cp = 0;
        while (end < s.len) {
            n = template_decode(str_slice(s, end, s.len), &cp);
            if (template_char_is_newline(cp)) {
                break;
            }
            end += n;
        }
        bool crlf = end < s.len && cp == '\r' && end + 1 < s.len && s.ptr[end + 1] == '\n';
        size_t next = MIN(end + (crlf ? 2 : n), s.len);
        TRY(push_text(r, lines, str_slice(s, 0, keep || end >= s.len ? next : end)));
        s = str_slice(s, end >= s.len ? s.len : next, s.len);
    }
    *out = tv_seq(lines);
    return RC_OK;
}

static RC partition(struct template_run *r, const struct template_value *self,
                    const struct template_args *a, bool last, struct template_value *out)
{
    struct str s = self->text, sep;
    struct template_seq *parts;
    TRY(template_arg_str(r, &a->v[0], "the separator", &sep));
    if (sep.len == 0) {
        return template_fail(r, RC_INVALID, "empty separator");
    }
    size_t at;
    TRY(find_text(r, s, sep, last, &at));
    bool found = at < s.len;
    TRY(template_seq_new(r, SEQ_TUPLE, 3, &parts));
    struct str head = found ? str_slice(s, 0, at) : last ? STR_LIT("") : s;
    struct str tail = found ? str_slice(s, at + sep.len, s.len) : last ? s : STR_LIT("");
    TRY(push_text(r, parts, head));
    TRY(push_text(r, parts, found ? sep : STR_LIT("")));
    TRY(push_text(r, parts, tail));
    *out = tv_seq(parts);
    return RC_OK;
}

METHOD(partition)
{
    return partition(r, self, a, false, out);
}

METHOD(rpartition)
{
    return partition(r, self, a, true, out);
}

METHOD(join)
{
    struct template_iter it;
    struct template_value item;
    struct template_text t;
    uint32_t n = 0;
    template_text_init(&t, r);
    TRY(template_iter_init(r, &a->v[0], &it));
    while (template_iter_next(&it, &item)) {
        struct str text;
        TRY(template_arg_str(r, &item, "what join puts together", &text));
        template_text_add(&t, n++ > 0 ? self->text : STR_LIT(""));
        template_text_add(&t, text);
        TRY(template_spend(r, 1));
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

/* ---- str: searching ---- */

static RC affix(struct template_run *r, const struct template_value *self,
                const struct template_value *what, bool (*fits)(struct str, struct str),
                struct template_value *out)
{
    struct str text;
    *out = tv_bool(false);
    if (tv_is_seq(what, SEQ_TUPLE)) {
        for (uint32_t i = 0; i < what->seq->n && !out->boolean; i++) {
            TRY(template_arg_str(r, &what->seq->items[i], "the affix", &text));
            TRY(template_spend(r, 1));
            *out = tv_bool(fits(self->text, text));
        }
        return RC_OK;
    }
    TRY(template_arg_str(r, what, "the affix", &text));
    *out = tv_bool(fits(self->text, text));
    return template_spend_bytes(r, text.len);
}

METHOD(startswith)
{
    return affix(r, self, &a->v[0], str_starts, out);
}

METHOD(endswith)
{
    return affix(r, self, &a->v[0], str_ends, out);
}

static RC find(struct template_run *r, const struct template_value *self,
               const struct template_args *a, bool last, struct template_value *out)
{
    struct str needle, s = self->text;
    TRY(template_arg_str(r, &a->v[0], "what is searched", &needle));
    size_t at;
    TRY(find_text(r, s, needle, last, &at));
    bool found = at < s.len || needle.len == 0;
    *out = tv_int(found ? (int64_t)template_text_length(str_slice(s, 0, at)) : -1);
    return RC_OK;
}

METHOD(find)
{
    return find(r, self, a, false, out);
}

METHOD(rfind)
{
    return find(r, self, a, true, out);
}

METHOD(index)
{
    TRY(find(r, self, a, false, out));
    return out->integer >= 0 ? RC_OK : template_fail(r, RC_INVALID, "substring not found");
}

METHOD(rindex)
{
    TRY(find(r, self, a, true, out));
    return out->integer >= 0 ? RC_OK : template_fail(r, RC_INVALID, "substring not found");
}

METHOD(count)
{
    struct str s = self->text, needle;
    int64_t n = 0;
    TRY(template_arg_str(r, &a->v[0], "what is counted", &needle));
    TRY(template_spend_bytes(r, s.len));
    if (needle.len == 0) {
        *out = tv_int((int64_t)template_text_length(s) + 1);
        return RC_OK;
    }
    for (size_t at; (at = str_find(s, needle)) < s.len; n++) {
        s = str_slice(s, at + needle.len, s.len);
    }
    *out = tv_int(n);
    return template_spend(r, (uint64_t)n);
}

METHOD(replace)
{
    struct str s = self->text, old, new;
    int64_t max = -1;
    struct template_text t;
    TRY(template_arg_str(r, &a->v[0], "what is replaced", &old));
    TRY(template_arg_str(r, &a->v[1], "what it is replaced by", &new));
    if (template_arg_given(&a->v[2])) {
        TRY(template_arg_int(r, &a->v[2], "count", &max));
    }
    template_text_init(&t, r);
    TRY(template_spend_bytes(r, s.len));
    while (max != 0 && (old.len > 0 ? str_find(s, old) < s.len : s.len > 0)) {
        uint32_t cp;
        size_t at = str_find(s, old);
        size_t step = old.len > 0 ? 0 : template_decode(s, &cp); /* "" stands between characters */
        template_text_add(&t, str_slice(s, 0, at));
        template_text_add(&t, new);
        template_text_add(&t, str_slice(s, at, at + step));
        s = str_slice(s, at + old.len + step, s.len);
        max -= max > 0 ? 1 : 0;
        TRY(template_spend(r, 1));
    }
    template_text_add(&t, old.len == 0 && max != 0 ? new : STR_LIT(""));
    template_text_add(&t, s);
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

/* ---- str: classes ---- */

/* All characters are of the class, and there is one. */
static RC all_are(struct template_run *r, struct str s, bool (*fits)(uint32_t),
                  struct template_value *out)
{
    bool all = s.len > 0;
    TRY(template_spend(r, s.len / 4));
    for (size_t at = 0; at < s.len && all;) {
        uint32_t cp;
        at += template_decode(str_slice(s, at, s.len), &cp);
        all = fits(cp);
    }
    *out = tv_bool(all);
    return RC_OK;
}

static bool char_is_alnum(uint32_t cp)
{
    return template_char_is_alpha(cp) || template_char_is_numeric(cp);
}

static bool char_is_ascii(uint32_t cp)
{
    return cp < 0x80;
}

#define METHOD_CLASS(name, fits)                                                                   \
    METHOD(name)                                                                                   \
    {                                                                                              \
        UNUSED(a);                                                                                 \
        return all_are(r, self->text, fits, out);                                                  \
    }

METHOD_CLASS(isalpha, template_char_is_alpha)
METHOD_CLASS(isalnum, char_is_alnum)
METHOD_CLASS(isdigit, template_char_is_digit)
METHOD_CLASS(isnumeric, template_char_is_numeric)
METHOD_CLASS(isspace, template_char_is_space)

METHOD(isascii)
{
    TRY(all_are(r, self->text, char_is_ascii, out));
    UNUSED(a);
    out->boolean = out->boolean || self->text.len == 0;
    return RC_OK;
}

/* At least one letter of the case and none of the other. */
static RC cased(struct template_run *r, struct str s, bool upper, struct template_value *out)
{
    bool any = false, other = false;
    TRY(template_spend(r, s.len / 4));
    for (size_t at = 0; at < s.len && !other;) {
        uint32_t cp;
        at += template_decode(str_slice(s, at, s.len), &cp);
        any = any || (upper ? template_char_is_upper(cp) : template_char_is_lower(cp));
        other = upper ? template_char_is_lower(cp) : template_char_is_upper(cp);
    }
    *out = tv_bool(any && !other);
    return RC_OK;
}

METHOD(isupper)
{
    UNUSED(a);
    return cased(r, self->text, true, out);
}

METHOD(islower)
{
    UNUSED(a);
    return cased(r, self->text, false, out);
}

/* ---- str: padding ---- */

/* left: share of the padding that goes before the text: 0 none, 1 half, 2 all. */
static RC pad(struct template_run *r, const struct template_value *self,
              const struct template_args *a, int left, struct template_value *out)
{
    int64_t width, n = (int64_t)template_text_length(self->text);
    struct str fill = STR_LIT(" ");
    struct template_text t;
    TRY(template_arg_int(r, &a->v[0], "the width", &width));
    if (template_arg_given(&a->v[1])) {
        TRY(template_arg_str(r, &a->v[1], "the fill character", &fill));
    }
    if (template_text_length(fill) != 1) {
        return template_fail(r, RC_INVALID, "the fill character must be exactly one character");
    }
    int64_t more = width > n ? width - n : 0;
    int64_t before = left == 2 ? more : left == 1 ? more / 2 + (more & width & 1) : 0;
    TRY(template_spend(r, (uint64_t)more));
    template_text_init(&t, r);
    for (int64_t i = 0; i < more; i++) {
        template_text_add(&t, i == before ? self->text : STR_LIT(""));
        template_text_add(&t, fill);
    }
    template_text_add(&t, before == more ? self->text : STR_LIT(""));
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

METHOD(ljust)
{
    return pad(r, self, a, 0, out);
}

METHOD(center)
{
    return pad(r, self, a, 1, out);
}

METHOD(rjust)
{
    return pad(r, self, a, 2, out);
}

METHOD(zfill)
{
    int64_t width, n = (int64_t)template_text_length(self->text);
    struct str s = self->text;
    struct template_text t;
    TRY(template_arg_int(r, &a->v[0], "the width", &width));
    int64_t more = width > n ? width - n : 0;
    size_t sign = s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+') ? 1 : 0;
    TRY(template_spend(r, (uint64_t)more));
    template_text_init(&t, r);
    template_text_add(&t, str_slice(s, 0, sign));
    template_text_fill(&t, '0', (size_t)more);
    template_text_add(&t, str_slice(s, sign, s.len));
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

METHOD(format)
{
    return template_format_braces(r, self->text, a, out);
}

const struct template_row template_methods_str[] = {
    {"split", "sep? maxsplit?", method_split},
    {"strip", "chars?", method_strip},
    {"lstrip", "chars?", method_lstrip},
    {"rstrip", "chars?", method_rstrip},
    {"startswith", "prefix", method_startswith},
    {"endswith", "suffix", method_endswith},
    {"replace", "old new count?", method_replace},
    {"lower", "", method_lower},
    {"upper", "", method_upper},
    {"title", "", method_title},
    {"capitalize", "", method_capitalize},
    {"swapcase", "", method_swapcase},
    {"join", "iterable", method_join},
    {"format", "*", method_format},
    {"find", "sub", method_find},
    {"rfind", "sub", method_rfind},
    {"index", "sub", method_index},
    {"rindex", "sub", method_rindex},
    {"count", "sub", method_count},
    {"splitlines", "keepends?", method_splitlines},
    {"rsplit", "sep? maxsplit?", method_rsplit},
    {"partition", "sep", method_partition},
    {"rpartition", "sep", method_rpartition},
    {"removeprefix", "prefix", method_removeprefix},
    {"removesuffix", "suffix", method_removesuffix},
    {"isalpha", "", method_isalpha},
    {"isalnum", "", method_isalnum},
    {"isdigit", "", method_isdigit},
    {"isdecimal", "", method_isdigit},
    {"isnumeric", "", method_isnumeric},
    {"isspace", "", method_isspace},
    {"isascii", "", method_isascii},
    {"isupper", "", method_isupper},
    {"islower", "", method_islower},
    {"ljust", "width fillchar?", method_ljust},
    {"rjust", "width fillchar?", method_rjust},
    {"center", "width fillchar?", method_center},
    {"zfill", "width", method_zfill},
    {"casefold", "", NULL},
    {"encode", "*", NULL},
    {"expandtabs", "*", NULL},
    {"format_map", "*", NULL},
    {"isidentifier", "", NULL},
    {"isprintable", "", NULL},
    {"istitle", "", NULL},
    {"maketrans", "*", NULL},
    {"translate", "*", NULL},
};

const size_t template_methods_str_n = ARRAY_LEN(template_methods_str);
