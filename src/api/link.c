/* link.c: see link.h. One row for each header: its name, its reader, its writer. */
#include "api/link.h"

#include <ctype.h>
#include <inttypes.h>

#include "base/assert.h"

static const char *const class_names[] = {"interactive", "normal", "batch"};
_Static_assert(ARRAY_LEN(class_names) == API_CLASS_N, "every class has a name");

const char *api_class_name(enum api_class priority)
{
    ASSERT((size_t)priority < ARRAY_LEN(class_names));
    return class_names[priority];
}

/* ---- values ---- */

/* Letters, digits, '-' and '_'; not empty. */
static bool read_id(struct str value, char *out, size_t size)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (!isalnum(c) && c != '-' && c != '_') {
            return false;
        }
    }
    return value.len > 0 && str_copy(out, size, value);
}

static bool read_request_id(struct api_link *link, struct str value)
{
    return read_id(value, link->request_id, sizeof(link->request_id));
}

static bool read_tenant(struct api_link *link, struct str value)
{
    return read_id(value, link->tenant, sizeof(link->tenant));
}

/* 00-<32 hex>-<16 hex>-<2 hex>, ids not all zero (W3C Trace Context §3.2). */
static bool read_traceparent(struct api_link *link, struct str value)
{
    static const char shape[] = "00-tttttttttttttttttttttttttttttttt-ssssssssssssssss-ff";
    bool trace = false, span = false;
    if (value.len != sizeof(shape) - 1) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        bool literal = shape[i] == '0' || shape[i] == '-';
        if (literal ? c != shape[i] : !hex) {
            return false;
        }
        trace = trace || (shape[i] == 't' && c != '0');
        span = span || (shape[i] == 's' && c != '0');
    }
    return trace && span && str_copy(link->traceparent, sizeof(link->traceparent), value);
}

static bool read_class(struct api_link *link, struct str value)
{
    for (size_t i = 0; i < ARRAY_LEN(class_names); i++) {
        if (str_is(value, class_names[i])) {
            link->priority = (enum api_class)i;
            return true;
        }
    }
    return false;
}

static bool read_deadline(struct api_link *link, struct str value)
{
    link->has_deadline = str_to_u64(value, &link->deadline_ms);
    return link->has_deadline;
}

static bool read_budget(struct api_link *link, struct str value)
{
    uint64_t tokens = 0;
    link->has_budget = str_to_u64(value, &tokens) && tokens <= UINT32_MAX;
    link->budget_tokens = link->has_budget ? (uint32_t)tokens : 0;
    return link->has_budget;
}

/* Writers return false when there is nothing to say. */

static bool write_text(char *out, size_t size, const char *text)
{
    return text[0] != '\0' && str_copy(out, size, str_from(text));
}

static bool write_number(char *out, size_t size, bool has, uint64_t n)
{
    char text[STR_U64_BYTES];
    return has && str_copy(out, size, str_make(text, str_put_u64(text, n)));
}

static bool write_request_id(const struct api_link *link, char *out, size_t size)
{
    return write_text(out, size, link->request_id);
}

static bool write_tenant(const struct api_link *link, char *out, size_t size)
{
    return write_text(out, size, link->tenant);
}

static bool write_traceparent(const struct api_link *link, char *out, size_t size)
{
    return write_text(out, size, link->traceparent);
}

static bool write_class(const struct api_link *link, char *out, size_t size)
{
    return link->priority != API_CLASS_NORMAL &&
           write_text(out, size, api_class_name(link->priority));
}

static bool write_deadline(const struct api_link *link, char *out, size_t size)
{
    return write_number(out, size, link->has_deadline, link->deadline_ms);
}

static bool write_budget(const struct api_link *link, char *out, size_t size)
{
    return write_number(out, size, link->has_budget, link->budget_tokens);
}

/* ---- headers ---- */

static const struct {
    const char *name;
    bool own; /* the link's own: stripped from clients */
    bool (*read)(struct api_link *link, struct str value);
    bool (*write)(const struct api_link *link, char *out, size_t size);
} link_headers[] = {
    {"bud-request-id", true, read_request_id, write_request_id},
    {"traceparent", false, read_traceparent, write_traceparent},
    {"bud-tenant", true, read_tenant, write_tenant},
    {"bud-class", true, read_class, write_class},
    {"bud-deadline-ms", true, read_deadline, write_deadline},
    {"bud-budget-tokens", true, read_budget, write_budget},
};
_Static_assert(ARRAY_LEN(link_headers) == API_LINK_HEADERS_MAX, "room for every header");

void api_link_init(struct api_link *link)
{
    *link = (struct api_link){.priority = API_CLASS_NORMAL};
}

bool api_link_is_header(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(link_headers); i++) {
        if (link_headers[i].own && str_eq_nocase(name, str_from(link_headers[i].name))) {
            return true;
        }
    }
    return false;
}

enum rc api_link_read_header(struct api_link *link, struct str name, struct str value,
                             struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(link_headers); i++) {
        const char *known = link_headers[i].name;
        if (!str_eq_nocase(name, str_from(known))) {
            continue;
        }
        return link_headers[i].read(link, str_trim(value))
                   ? RC_OK
                   : err_set_param(err, RC_INVALID, known, "the header '%s' is not well-formed",
                                   known);
    }
    return RC_OK;
}

uint32_t api_link_headers(const struct api_link *link, struct api_header out[API_LINK_HEADERS_MAX])
{
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(link_headers); i++) {
        out[n].name = link_headers[i].name;
        if (link_headers[i].write(link, out[n].value, sizeof(out[n].value))) {
            n++;
        }
    }
    return n;
}

/* ---- counts ---- */

void api_link_counts_write(struct buf *out, uint32_t prompt_tokens, uint32_t output_tokens)
{
    buf_add_printf(out, ": n=%" PRIu32 "+%" PRIu32 "\n\n", prompt_tokens, output_tokens);
}

bool api_link_counts_read(struct str line, uint32_t *prompt_tokens, uint32_t *output_tokens)
{
    static const struct str prefix = STR_LIT(": n=");
    uint64_t prompt = 0, output = 0;
    if (!str_starts(line, prefix)) {
        return false;
    }
    struct str rest = str_slice(line, prefix.len, line.len);
    struct str first = str_cut(&rest, '+');
    if (!str_to_u64(first, &prompt) || !str_to_u64(rest, &output) || prompt > UINT32_MAX ||
        output > UINT32_MAX) {
        return false;
    }
    *prompt_tokens = (uint32_t)prompt;
    *output_tokens = (uint32_t)output;
    return true;
}
