/* pretok_rules.c: the splitting rules, hand-written: no regular expressions at run time.
 *
 * Every rule looks at each character a bounded number of times, so that cutting a text is linear
 * in its length. Sources: the tokenizer.json files of the models named in pretok.c; the order of
 * alternatives is the one of those expressions, greedy with their backtracking worked out. */
#include "engine/token/pretok_rules.h"

#include "engine/token/unicode.h"

/* ---- classes ---- */

struct pretok_range {
    uint32_t first, last;
};

static bool pretok_in(uint32_t cp, const struct pretok_range *ranges, size_t n)
{
    size_t lo = 0;
    while (lo < n) {
        size_t mid = lo + (n - lo) / 2;
        if (cp > ranges[mid].last) {
            lo = mid + 1;
        } else if (cp < ranges[mid].first) {
            n = mid;
        } else {
            return true;
        }
    }
    return false;
}

bool pretok_is_number(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_N) != 0;
}

bool pretok_is_ascii_digit(uint32_t cp)
{
    return cp >= '0' && cp <= '9';
}

bool pretok_is_letter(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_L) != 0;
}

bool pretok_is_punct(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_P) != 0;
}

bool pretok_is_newline(uint32_t cp)
{
    return cp == '\r' || cp == '\n';
}

bool pretok_is_line(uint32_t cp)
{
    return cp != '\n';
}

bool pretok_is_math_punct(uint32_t cp)
{
    return pretok_is_punct(cp) || (cp < 0x80 && cp != 0 && strchr("$+<=>^~|", (int)cp) != NULL);
}

bool pretok_is_falcon_punct(uint32_t cp)
{
    return pretok_is_math_punct(cp) || cp == '`';
}

bool pretok_is_bloom_text(uint32_t cp)
{
    switch (cp) {
    case '(':
    case ')':
    case '|':
    case '.':
    case ',':
    case '!':
    case '?':
    case 0x2026: /* … */
    case 0x3002: /* 。 */
    case 0xff0c: /* ， */
    case 0x3001: /* 、 */
    case 0x0964: /* । */
    case 0x06d4: /* ۔ */
    case 0x060c: /* ، */
        return false;
    default:
        return (unicode_class(cp) & UNICODE_SPACE) == 0;
    }
}

bool pretok_is_cjk(uint32_t cp)
{
    return (cp >= 0x0800 && cp <= 0x9fa5) || (cp >= 0xac00 && cp <= 0xd7ff);
}

bool pretok_is_kana(uint32_t cp)
{
    return (cp >= 0x4e00 && cp <= 0x9fa5) || (cp >= 0x3040 && cp <= 0x30ff);
}

bool pretok_is_deepseek_letter(uint32_t cp)
{
    static const struct pretok_range ranges[] = {
        {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},
        {0xd8, 0xf6},       {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},
        {0x295, 0x2af},     {0x370, 0x373},     {0x376, 0x377},     {0x37b, 0x37d},
        {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},     {0x38c, 0x38c},
        {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
        {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},
        {0x1c90, 0x1cba},   {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},
        {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},   {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},
        {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},   {0x1f5b, 0x1f5b},
        {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
        {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},
        {0x1fd6, 0x1fdb},   {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},
        {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210a, 0x2113},   {0x2115, 0x2115},
        {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
        {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
        {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},
        {0x2c7e, 0x2ce4},   {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},
        {0xa680, 0xa69b},   {0xa722, 0xa76f},   {0xa771, 0xa787},   {0xa78b, 0xa78e},
        {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},   {0xff21, 0xff3a},
        {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
        {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943},
    };
    return pretok_in(cp, ranges, ARRAY_LEN(ranges));
}

bool pretok_is_deepseek_punct(uint32_t cp)
{
    static const struct pretok_range ranges[] = {
        {0x21, 0x2f},     {0x3a, 0x7e},     {0x2018, 0x201f},
        {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e},
    };
    return pretok_in(cp, ranges, ARRAY_LEN(ranges));
}

/* ---- reading ---- */

/* One character of a piece; n and class are 0 at its end. */
struct pretok_char {
    uint32_t cp;
    unsigned class;
    size_t n; /* bytes */
};

static struct pretok_char pretok_peek(struct str piece, size_t at)
{
    struct pretok_char c = {.cp = UINT32_MAX};
    if (at >= piece.len) {
        return c;
    }
    c.n = 1;
    c.cp = (unsigned char)piece.ptr[at];
    if (c.cp >= 0x80) {
        c.n = MAX(str_utf8_decode(str_slice(piece, at, piece.len), &c.cp), 1);
    }
    c.class = unicode_class(c.cp);
    return c;
}

/* The end of the run of characters of `class` that begins at `at`. */
static size_t pretok_skip(struct str piece, size_t at, unsigned class)
{
    for (;;) {
        struct pretok_char c = pretok_peek(piece, at);
        if ((c.class & class) == 0) {
            return at;
        }
        at += c.n;
    }
}

/* ---- runs ---- */

/* The end of the match that begins at `at`, or `at`. */
static size_t pretok_run_at(const struct pretok_run *run, struct str piece, size_t at)
{
    struct pretok_char c = pretok_peek(piece, at);
    size_t p = at;
    bool leads = run->lead == PRETOK_LEAD_BLANK   ? c.cp == ' '
                 : run->lead == PRETOK_LEAD_SPACE ? (c.class & UNICODE_SPACE) != 0
                                                  : false;
    if (leads) {
        struct pretok_char next = pretok_peek(piece, at + c.n);
        if (next.n > 0 && run->is(next.cp)) {
            p += c.n;
            c = next;
        }
    }
    uint32_t n = 0;
    while (c.n > 0 && run->is(c.cp) && (run->max == 0 || n < run->max)) {
        p += c.n;
        n++;
        c = pretok_peek(piece, p);
    }
    return n >= run->min && n > 0 ? p : at;
}

/* ---- "\s+$" ---- */

static struct pretok_match pretok_trailing(struct str piece, size_t from)
{
    size_t start = piece.len;
    while (start > from) {
        size_t p = start - 1;
        while (p > from && ((unsigned char)piece.ptr[p] & 0xc0) == 0x80) {
            p--;
        }
        if ((pretok_peek(piece, p).class & UNICODE_SPACE) == 0) {
            break;
        }
        start = p;
    }
    return (struct pretok_match){start, piece.len};
}

/* ---- words: each function gives the end of its alternative at `at`, or `at` ---- */

static size_t pretok_contraction(struct str piece, size_t at, bool any_case)
{
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (at >= piece.len || piece.ptr[at] != '\'') {
        return at;
    }
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct str end = str_from(ends[i]);
        struct str there = str_slice(piece, at + 1, at + 1 + end.len);
        if (any_case ? str_eq_nocase(there, end) : str_eq(there, end)) {
            return at + 1 + end.len;
        }
    }
    return at;
}

/* Whether c may stand before the letters of a word, as "[^\r\n\p{L}\p{N}]?". */
static bool pretok_is_prefix(struct pretok_char c)
{
    return c.n > 0 && (c.class & (UNICODE_L | UNICODE_N)) == 0 && !pretok_is_newline(c.cp);
}

static size_t pretok_plain_letters(const struct pretok_words *w, struct str piece, size_t at)
{
    unsigned letters = w->letters == PRETOK_LETTERS_MARKS ? UNICODE_L | UNICODE_M : UNICODE_L;
    struct pretok_char c = pretok_peek(piece, at);
    size_t start = at;
    if ((c.class & letters) == 0) {
        bool prefix = w->letters == PRETOK_LETTERS_BLANK ? c.cp == ' ' : pretok_is_prefix(c);
        if (!prefix) {
            return at;
        }
        start += c.n;
    }
    size_t end = pretok_skip(piece, start, letters);
    return end > start ? end : at;
}

enum {
    PRETOK_UPPER = UNICODE_LU | UNICODE_LT | UNICODE_LM | UNICODE_LO | UNICODE_M,
    PRETOK_LOWER = UNICODE_LL | UNICODE_LM | UNICODE_LO | UNICODE_M,
};

/* "U*l+" with U = PRETOK_UPPER and l = PRETOK_LOWER: U* takes all it can and gives back no more
 * than to the last character that l takes too. */
static size_t pretok_cased_lower(struct str piece, size_t at)
{
    size_t p = at, shared_end = at;
    for (;;) {
        struct pretok_char c = pretok_peek(piece, p);
        if ((c.class & PRETOK_UPPER) == 0) {
            break;
        }
        p += c.n;
        shared_end = (c.class & PRETOK_LOWER) != 0 ? p : shared_end;
    }
    size_t end = pretok_skip(piece, p, PRETOK_LOWER);
    return end > p ? end : shared_end;
}

/* "U+l*": only where "U*l+" does not match, so that nothing of l can follow. */
static size_t pretok_cased_upper(struct str piece, size_t at)
{
    return pretok_skip(piece, at, PRETOK_UPPER);
}

/* Both alternatives, each first with the prefix, then without. */
static size_t pretok_cased(struct str piece, size_t at)
{
    struct pretok_char c = pretok_peek(piece, at);
    size_t starts[2] = {at + c.n, at};
    size_t first = pretok_is_prefix(c) ? 0 : 1;
    for (size_t i = first; i < 2; i++) {
        size_t end = pretok_cased_lower(piece, starts[i]);
        if (end > starts[i]) {
            return end;
        }
    }
    for (size_t i = first; i < 2; i++) {
        size_t end = pretok_cased_upper(piece, starts[i]);
        if (end > starts[i]) {
            return end;
        }
    }
    return at;
}

static bool pretok_is_ascii_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t pretok_deep_letters(struct str piece, size_t at)
{
    struct pretok_char c = pretok_peek(piece, at);
    if (c.cp < 0x80 && (c.class & (UNICODE_P | UNICODE_S)) != 0) {
        size_t end = at + 1;
        while (end < piece.len && pretok_is_ascii_letter(piece.ptr[end])) {
            end++;
        }
        return end > at + 1 ? end : at;
    }
    size_t start = at;
    if ((c.class & (UNICODE_L | UNICODE_M)) == 0) {
        if (c.n == 0 || (c.class & (UNICODE_P | UNICODE_S)) != 0 || pretok_is_newline(c.cp)) {
            return at;
        }
        start += c.n;
    }
    size_t end = pretok_skip(piece, start, UNICODE_L | UNICODE_M);
    return end > start ? end : at;
}

static size_t pretok_letters(const struct pretok_words *w, struct str piece, size_t at)
{
    if (w->letters == PRETOK_LETTERS_DEEP) {
        return pretok_deep_letters(piece, at);
    }
    if (w->letters != PRETOK_LETTERS_CASED) {
        return pretok_plain_letters(w, piece, at);
    }
    size_t end = pretok_cased(piece, at);
    if (end > at && w->contractions == PRETOK_CONTRACTIONS_SUFFIX) {
        end = pretok_contraction(piece, end, true);
    }
    return end;
}

static size_t pretok_digits(const struct pretok_words *w, struct str piece, size_t at)
{
    if (w->digits == PRETOK_DIGITS_NONE) {
        return at;
    }
    if (w->digits == PRETOK_DIGITS_BLANK) {
        size_t start = at + (pretok_peek(piece, at).cp == ' ' ? 1 : 0);
        size_t end = pretok_skip(piece, start, UNICODE_N);
        return end > start ? end : at;
    }
    size_t p = at;
    for (int n = 0; n < w->digits; n++) {
        struct pretok_char c = pretok_peek(piece, p);
        if ((c.class & UNICODE_N) == 0) {
            break;
        }
        p += c.n;
    }
    return p;
}

static bool pretok_is_rest(const struct pretok_words *w, struct pretok_char c)
{
    if (w->letters == PRETOK_LETTERS_DEEP) {
        return (c.class & (UNICODE_P | UNICODE_S)) != 0;
    }
    unsigned not = UNICODE_SPACE | UNICODE_L | UNICODE_N;
    not |= w->letters == PRETOK_LETTERS_MARKS ? UNICODE_M : 0;
    return c.n > 0 && (c.class & not ) == 0;
}

static size_t pretok_rest(const struct pretok_words *w, struct str piece, size_t at)
{
    struct pretok_char c = pretok_peek(piece, at);
    size_t start = at + (c.cp == ' ' ? 1 : 0), p = start;
    for (c = pretok_peek(piece, p); pretok_is_rest(w, c); c = pretok_peek(piece, p)) {
        p += c.n;
    }
    if (p == start) {
        return at;
    }
    while (p < piece.len && piece.ptr[p] != '\0' && strchr(w->tail, piece.ptr[p]) != NULL) {
        p++;
    }
    return p;
}

/* "\s*[\r\n]+|\s+(?!\S)|\s+": up to the last newline, else all but the one space that the next word
 * takes, else all. */
static size_t pretok_spaces(const struct pretok_words *w, struct str piece, size_t at)
{
    size_t p = at, last = at, newline_end = at;
    for (;;) {
        struct pretok_char c = pretok_peek(piece, p);
        if ((c.class & UNICODE_SPACE) == 0) {
            break;
        }
        last = p;
        p += c.n;
        newline_end = pretok_is_newline(c.cp) ? p : newline_end;
    }
    if (w->newlines && newline_end > at) {
        return newline_end;
    }
    return p < piece.len && last > at ? last : p;
}

static size_t pretok_words_at(const struct pretok_words *w, struct str piece, size_t at)
{
    size_t end = at;
    if (w->contractions == PRETOK_CONTRACTIONS_LOWER ||
        w->contractions == PRETOK_CONTRACTIONS_ANY) {
        end = pretok_contraction(piece, at, w->contractions == PRETOK_CONTRACTIONS_ANY);
    }
    end = end > at ? end : pretok_letters(w, piece, at);
    end = end > at ? end : pretok_digits(w, piece, at);
    end = end > at ? end : pretok_rest(w, piece, at);
    return end > at ? end : pretok_spaces(w, piece, at);
}

/* ---- stages ---- */

struct pretok_match pretok_stage_find(const struct pretok_stage *stage, struct str piece,
                                      size_t from)
{
    if (stage->run == NULL && stage->words == NULL) {
        return pretok_trailing(piece, from);
    }
    for (size_t at = from; at < piece.len; at += pretok_peek(piece, at).n) {
        size_t end = stage->run != NULL ? pretok_run_at(stage->run, piece, at)
                                        : pretok_words_at(stage->words, piece, at);
        if (end > at) {
            return (struct pretok_match){at, end};
        }
    }
    return (struct pretok_match){piece.len, piece.len};
}
