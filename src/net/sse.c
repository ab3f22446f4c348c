/* sse.c: see sse.h. Lines are gathered, then taken as fields; an empty line completes an event, a
 * comment line is an item of its own.
 *
 * Invariant: line + data + name + id + comment hold at most item_bytes_max bytes each. */
#include "net/sse.h"

#include "base/assert.h"

void sse_init(struct sse *s, size_t item_bytes_max)
{
    *s = (struct sse){.item_bytes_max = item_bytes_max};
    buf_init(&s->line, item_bytes_max);
    buf_init(&s->data, item_bytes_max);
    buf_init(&s->name, item_bytes_max);
    buf_init(&s->id, item_bytes_max);
}

void sse_deinit(struct sse *s)
{
    buf_deinit(&s->line);
    buf_deinit(&s->data);
    buf_deinit(&s->name);
    buf_deinit(&s->id);
}

/* Moves bytes into s->line up to a line's end; true when the line is complete. */
static bool take_line(struct sse *s, struct str *in)
{
    if (s->after_cr && in->len > 0) {
        s->after_cr = false;
        *in = str_slice(*in, in->ptr[0] == '\n' ? 1 : 0, in->len);
    }
    size_t n = 0;
    while (n < in->len && in->ptr[n] != '\n' && in->ptr[n] != '\r') {
        n++;
    }
    buf_add_str(&s->line, str_slice(*in, 0, n));
    if (!buf_ok(&s->line)) {
        s->failed = RC_TOO_LARGE;
        return false;
    }
    if (n == in->len) {
        *in = str_slice(*in, n, n);
        return false;
    }
    s->after_cr = in->ptr[n] == '\r';
    *in = str_slice(*in, n + 1, in->len);
    return true;
}

/* The finished line without the stream's byte order mark. */
static struct str line_text(struct sse *s)
{
    struct str line = buf_str(&s->line);
    if (!s->bom_done && str_starts(line, STR_LIT("\xEF\xBB\xBF"))) {
        line = str_slice(line, 3, line.len);
    }
    s->bom_done = true;
    return line;
}

static void set(struct buf *b, struct str value)
{
    buf_reset(b);
    buf_add_str(b, value);
}

static void take_field(struct sse *s, struct str name, struct str value)
{
    if (str_is(name, "data")) {
        if (s->has_data) {
            buf_add_byte(&s->data, '\n');
        }
        buf_add_str(&s->data, value);
        s->has_data = s->has_fields = true;
    } else if (str_is(name, "event")) {
        set(&s->name, value);
        s->has_fields = true;
    } else if (str_is(name, "id") && memchr(value.ptr, '\0', value.len) == NULL) {
        set(&s->id, value);
        s->has_fields = true;
    }
    if (!buf_ok(&s->data) || !buf_ok(&s->name) || !buf_ok(&s->id)) {
        s->failed = RC_TOO_LARGE;
    }
}

/* Forgets what the last item lent out. */
static void drop_last(struct sse *s)
{
    if (s->gave_event) {
        buf_reset(&s->data);
        buf_reset(&s->name);
        buf_reset(&s->id);
        s->has_data = s->has_fields = s->gave_event = false;
    }
    if (s->gave_line) {
        buf_reset(&s->line);
        s->gave_line = false;
    }
}

/* Takes the finished line; true when it makes an item. */
static bool take_item(struct sse *s, struct sse_item *out)
{
    struct str line = line_text(s);
    s->gave_line = true;
    if (line.len == 0) {
        if (!s->has_fields) {
            return false;
        }
        s->gave_event = true;
        *out = (struct sse_item){.kind = SSE_EVENT,
                                 .name = buf_str(&s->name),
                                 .data = buf_str(&s->data),
                                 .id = buf_str(&s->id)};
        return true;
    }
    size_t colon = str_find(line, STR_LIT(":"));
    struct str name = str_slice(line, 0, colon);
    struct str value = str_slice(line, colon + 1, line.len);
    if (value.len > 0 && value.ptr[0] == ' ') {
        value = str_slice(value, 1, value.len);
    }
    if (colon == 0) {
        *out = (struct sse_item){
            .kind = SSE_COMMENT, .name = STR_LIT(""), .data = value, .id = STR_LIT("")};
        return true;
    }
    take_field(s, name, value);
    return false;
}

bool sse_next(struct sse *s, struct str *in, struct sse_item *out)
{
    ASSERT(s->item_bytes_max > 0);
    drop_last(s);
    while (s->failed == RC_OK && in->len > 0) {
        if (take_line(s, in)) {
            if (take_item(s, out)) {
                return true;
            }
            drop_last(s);
        }
    }
    return false;
}

enum rc sse_failed(const struct sse *s)
{
    return s->failed;
}
