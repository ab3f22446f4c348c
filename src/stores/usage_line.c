/* usage_line.c: see usage_line.h. */
#include "stores/usage_line.h"

#include "base/assert.h"
#include "base/hash.h"

/* The longest line: checksum and kind, eleven texts, nine numbers of 19 digits, LF. */
_Static_assert(USAGE_SUM_BYTES + 2 + 11 * (USAGE_TEXT_BYTES_MAX + 1) + 9 * 20 + 1 <=
                   USAGE_LINE_BYTES_MAX,
               "a line fits into what is set aside for it");

/* ---- writing ---- */

/* Each writes behind `at`, where there is room, and returns where it ends. */

/* How many bytes of whole words hold no control character. Borrows of the subtractions can mark
 * bytes above a true one only. */
static size_t line_plain(const char *ptr, size_t n)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    size_t i = 0;
    for (; n - i >= sizeof(ones); i += sizeof(ones)) {
        uint64_t w;
        memcpy(&w, ptr + i, sizeof(w));
        uint64_t del = w ^ (ones * 0x7F);
        if (((((w - ones * ' ') & ~w) | ((del - ones) & ~del)) & high) != 0) {
            break;
        }
    }
    return i;
}

static char *line_text(char *at, struct str s)
{
    size_t n = MIN(s.len, (size_t)USAGE_TEXT_BYTES_MAX);
    *at++ = '\t';
    size_t plain = line_plain(s.ptr, n);
    if (plain > 0) {
        memcpy(at, s.ptr, plain);
    }
    for (size_t i = plain; i < n; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        at[i] = c < ' ' || c == 0x7F ? '?' : (char)c;
    }
    return at + n;
}

static char *line_number(char *at, int64_t n)
{
    *at++ = '\t';
    return at + str_put_u64(at, (uint64_t)MAX(n, (int64_t)0));
}

static char *line_open(char *at, const struct usage_line *l)
{
    const struct meta_usage *u = &l->row;
    const struct str texts[] = {u->id,   u->request_id, u->route, u->key,
                                u->user, u->project,    u->model};
    *at++ = 'o';
    at = line_number(at, l->slot);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        at = line_text(at, texts[i]);
    }
    at = line_number(at, u->started_ms);
    at = line_number(at, l->price.input);
    at = line_number(at, l->price.cached_input);
    at = line_number(at, l->price.output);
    return line_number(at, l->price.image);
}

static char *line_done(char *at, const struct meta_usage *u)
{
    const struct str texts[] = {u->id,      u->request_id, u->route,   u->key,      u->user,
                                u->project, u->model,      u->version, u->upstream, u->status};
    const int64_t numbers[] = {u->http_status,   u->started_ms,    u->duration_ms,
                               u->prompt_tokens, u->cached_tokens, u->output_tokens,
                               u->images,        u->cost_nano,     u->estimated ? 1 : 0};
    *at++ = 'd';
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        at = line_text(at, texts[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        at = line_number(at, numbers[i]);
    }
    return u->hedged.len > 0 ? line_text(at, u->hedged) : at;
}

static void line_note(struct buf *out, const struct usage_line *l)
{
    char head[2 * (USAGE_TEXT_BYTES_MAX + 1) + STR_U64_BYTES + 3];
    char *at = head;
    *at++ = 'x';
    at = line_text(at, l->row.id);
    at = line_text(at, l->row.request_id);
    at = line_number(at, l->row.started_ms);
    *at++ = '\t';
    buf_add(out, head, (size_t)(at - head));
    buf_add_str(out, l->note);
}

/* Sixteen hex digits, without a NUL. */
static void line_sum(struct str payload, char out[USAGE_SUM_BYTES])
{
    uint64_t sum = hash_disk(payload);
    for (int i = USAGE_SUM_BYTES - 1; i >= 0; i--) {
        out[i] = "0123456789abcdef"[sum & 15];
        sum >>= 4;
    }
}

void usage_line_write(struct buf *out, const struct usage_line *line)
{
    size_t start = out->len, body = start + USAGE_SUM_BYTES + 1;
    buf_add_cstr(out, "0123456789abcdef\t"); /* the checksum's place */
    if (line->kind == USAGE_NOTE) {
        line_note(out, line);
    } else {
        char *at = buf_reserve(out, USAGE_LINE_BYTES_MAX - USAGE_SUM_BYTES - 1);
        if (at != NULL) {
            char *end = line->kind == USAGE_OPEN ? line_open(at, line) : line_done(at, &line->row);
            buf_commit(out, (size_t)(end - at));
        }
    }
    if (buf_ok(out)) {
        line_sum(str_make(out->ptr + body, out->len - body), out->ptr + start);
        buf_add_byte(out, '\n');
    }
}

/* ---- reading ---- */

/* The fields that are left, one by one; `ok` stays false once one was wrong. */
struct line_fields {
    struct str rest;
    bool ok;
};

static struct str field_next(struct line_fields *f)
{
    f->ok = f->ok && f->rest.ptr != NULL;
    return f->ok ? str_cut(&f->rest, '\t') : STR_NULL;
}

static void field_text(struct line_fields *f, struct str *out)
{
    *out = field_next(f);
    f->ok = f->ok && out->len <= USAGE_TEXT_BYTES_MAX;
}

static int64_t field_number(struct line_fields *f)
{
    uint64_t n = 0;
    f->ok = str_to_u64(field_next(f), &n) && f->ok && n <= INT64_MAX;
    return f->ok ? (int64_t)n : 0;
}

static void read_open(struct line_fields *f, struct usage_line *l)
{
    struct meta_usage *u = &l->row;
    struct str *const texts[] = {&u->id,   &u->request_id, &u->route, &u->key,
                                 &u->user, &u->project,    &u->model};
    int64_t slot = field_number(f);
    l->slot = (uint32_t)slot;
    f->ok = f->ok && slot <= UINT32_MAX;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        field_text(f, texts[i]);
    }
    u->started_ms = field_number(f);
    l->price.input = field_number(f);
    l->price.cached_input = field_number(f);
    l->price.output = field_number(f);
    l->price.image = field_number(f);
}

static void read_done(struct line_fields *f, struct meta_usage *u)
{
    struct str *const texts[] = {&u->id,       &u->request_id, &u->route, &u->key,
                                 &u->user,     &u->project,    &u->model, &u->version,
                                 &u->upstream, &u->status};
    int64_t *const numbers[] = {&u->http_status,   &u->started_ms,    &u->duration_ms,
                                &u->prompt_tokens, &u->cached_tokens, &u->output_tokens,
                                &u->images,        &u->cost_nano};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        field_text(f, texts[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        *numbers[i] = field_number(f);
    }
    u->estimated = field_number(f) != 0;
    if (f->ok && f->rest.ptr != NULL) {
        field_text(f, &u->hedged);
        f->ok = f->ok && u->hedged.len > 0;
    }
}

static void read_note(struct line_fields *f, struct usage_line *l)
{
    field_text(f, &l->row.id);
    field_text(f, &l->row.request_id);
    l->row.started_ms = field_number(f);
    l->note = field_next(f);
    f->ok = f->ok && l->note.len <= META_DECISION_BYTES_MAX;
}

bool usage_line_read_body(struct str body, struct usage_line *out)
{
    struct line_fields f = {.rest = body, .ok = true};
    *out = (struct usage_line){0};
    struct str kind = field_next(&f);
    if (str_is(kind, "o")) {
        out->kind = USAGE_OPEN;
        read_open(&f, out);
    } else if (str_is(kind, "d")) {
        out->kind = USAGE_DONE;
        read_done(&f, &out->row);
    } else {
        out->kind = USAGE_NOTE;
        f.ok = str_is(kind, "x");
        read_note(&f, out);
    }
    return f.ok && f.rest.ptr == NULL && out->row.id.len > 0;
}

bool usage_line_read(struct str text, struct usage_line *out)
{
    char sum[USAGE_SUM_BYTES];
    *out = (struct usage_line){0};
    if (text.len < USAGE_SUM_BYTES + 3 || text.ptr[USAGE_SUM_BYTES] != '\t') {
        return false;
    }
    struct str body = usage_line_body(text);
    line_sum(body, sum);
    return memcmp(sum, text.ptr, USAGE_SUM_BYTES) == 0 && usage_line_read_body(body, out);
}

/* The end of the line that begins at `start`: its LF, or the NUL or the end of all bytes that is
 * there instead. What is torn is short, so that looking twice costs little. */
static size_t line_end(struct str bytes, size_t start)
{
    size_t left = bytes.len - start, window = USAGE_LINE_BYTES_MAX;
    const char *from = bytes.ptr + start;
    for (size_t at = 0; at < left; at += window) {
        size_t n = MIN(window, left - at);
        const char *lf = memchr(from + at, '\n', n);
        const char *nul = memchr(from + at, '\0', lf != NULL ? (size_t)(lf - from) - at : n);
        if (nul != NULL || lf != NULL) {
            return start + (size_t)((nul != NULL ? nul : lf) - from);
        }
    }
    return bytes.len;
}

bool usage_line_next(struct str bytes, size_t *at, struct usage_line *out, struct str *text,
                     uint64_t *n_torn)
{
    while (*at < bytes.len) {
        size_t start = *at;
        if (bytes.ptr[start] == '\0') {
            ++*at;
            continue;
        }
        size_t end = line_end(bytes, start);
        struct str line = str_slice(bytes, start, end);
        bool ended = end < bytes.len && bytes.ptr[end] == '\n';
        *at = ended ? end + 1 : end;
        if (ended && usage_line_read(line, out)) {
            if (text != NULL) {
                *text = line;
            }
            return true;
        }
        if (n_torn != NULL) {
            ++*n_torn;
        }
    }
    return false;
}

bool usage_line_next_settled(struct str bytes, size_t *at, struct usage_line *out, struct str *text)
{
    while (*at < bytes.len) {
        if (bytes.len - *at > USAGE_SUM_BYTES + 1 && bytes.ptr[*at + USAGE_SUM_BYTES + 1] == 'o') {
            size_t end = line_end(bytes, *at);
            *at = MIN(end + 1, bytes.len);
        } else if (!usage_line_next(bytes, at, out, text, NULL)) {
            return false;
        } else if (out->kind != USAGE_OPEN) {
            return true;
        }
    }
    return false;
}

/* ---- counts and money ---- */

/* estimated(1) prompt(31) output(32), from the highest bit on */
uint64_t usage_counts_pack(uint32_t prompt_tokens, uint32_t output_tokens, bool estimated)
{
    uint64_t prompt = MIN(prompt_tokens, (uint32_t)INT32_MAX);
    return (estimated ? UINT64_C(1) << 63 : 0) | prompt << 32 | output_tokens;
}

void usage_counts_unpack(uint64_t counts, struct meta_usage *row)
{
    row->estimated = counts >> 63 != 0;
    row->prompt_tokens = (int64_t)(counts >> 32 & INT32_MAX);
    row->output_tokens = (int64_t)(counts & UINT32_MAX);
}

int64_t usage_cost(const struct usage_price *p, uint64_t input, uint64_t cached, uint64_t output,
                   uint64_t images)
{
    cached = MIN(cached, input);
    int64_t cached_price = p->cached_input != 0 ? p->cached_input : p->input;
    unsigned __int128 sum = (unsigned __int128)(input - cached) * (uint64_t)p->input +
                            (unsigned __int128)cached * (uint64_t)cached_price +
                            (unsigned __int128)output * (uint64_t)p->output;
    sum = (sum + 999999u) / 1000000u + (unsigned __int128)images * (uint64_t)p->image;
    return sum > INT64_MAX ? INT64_MAX : (int64_t)sum;
}
