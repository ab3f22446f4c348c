/* log.c: see log.h. One line at a time is formatted into the sink's buffer under its lock and
 * written at once: lines are short, and at most PIPE_BUF bytes, so that a pipe takes them whole.
 *
 * Limits: LOG_LINE_BYTES_MAX a line (then it is written without its fields), each event's rate. */
#include "obs/log.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/json.h"
#include "obs/metric.h"

_Static_assert(LOG_LINE_BYTES_MAX <= PIPE_BUF, "a pipe takes a line whole");

struct log_event_row {
    enum log_level level;
    uint32_t rate; /* lines a second, 0 = no limit */
    const char *component;
    const char *action;
    const char *message;
};

static const struct log_event_row log_events[] = {
#define X(id, level, component, action, rate, message)                                             \
    {LOG_LEVEL_##level, rate, component, action, message},
    LOG_EVENT_TABLE(X)
#undef X
};

static const char *const log_level_names[] = {"debug", "info", "warn", "error", "off"};

/* One event's lines in the running second. */
struct log_rate {
    uint64_t second;
    uint32_t n_written;
    uint32_t n_dropped;
};

static struct {
    pthread_mutex_t lock;
    _Atomic int level;
    int fd;
    bool json;
    const char *service;
    const struct clock *clock;
    struct buf line;
    struct log_rate rates[LOG_EVENT_N];
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_LEVEL_WARN, .fd = STDERR_FILENO};

/* ---- setting up ---- */

void log_init(const struct log_options *options)
{
    bool json = options->format == LOG_FORMAT_JSON ||
                (options->format == LOG_FORMAT_AUTO && isatty(options->fd) == 0);
    pthread_mutex_lock(&sink.lock);
    sink.fd = options->fd;
    sink.json = json;
    sink.service = options->service;
    sink.clock = options->clock;
    atomic_store(&sink.level, (int)options->level);
    memset(sink.rates, 0, sizeof(sink.rates));
    pthread_mutex_unlock(&sink.lock);
}

void log_deinit(void)
{
    log_init(&(struct log_options){
        .fd = STDERR_FILENO, .level = LOG_LEVEL_WARN, .format = LOG_FORMAT_TEXT});
    pthread_mutex_lock(&sink.lock);
    buf_deinit(&sink.line);
    pthread_mutex_unlock(&sink.lock);
}

bool log_level_from(struct str name, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(log_level_names); i++) {
        if (str_is(name, log_level_names[i])) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_event_id event)
{
    ASSERT((size_t)event < ARRAY_LEN(log_events));
    return (int)log_events[event].level >= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

/* ---- one line ---- */

static void format_time(uint64_t wall_ns, char *out, size_t size)
{
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, size - n, ".%03uZ", (unsigned)(wall_ns / 1000000u % 1000u));
}

static struct str cut_value(struct str s)
{
    return str_slice(s, 0, LOG_VALUE_BYTES_MAX);
}

static void write_value(struct json_writer *w, const struct log_field *f)
{
    switch (f->type) {
    case LOG_FIELD_STR:
        json_write_str(w, cut_value(f->str));
        break;
    case LOG_FIELD_I64:
        json_write_i64(w, f->i64);
        break;
    case LOG_FIELD_U64:
        json_write_u64(w, f->u64);
        break;
    case LOG_FIELD_F64:
        json_write_f64(w, f->f64);
        break;
    case LOG_FIELD_BOOL:
        json_write_bool(w, f->boolean);
        break;
    }
}

static void json_line(const struct log_event_row *row, const char *when,
                      const struct log_field *fields, size_t n_fields)
{
    struct json_writer w;
    json_write_init(&w, &sink.line);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "@timestamp", when);
    json_write_member_cstr(&w, "log.level", log_level_names[row->level]);
    json_write_member_cstr(&w, "message", row->message);
    json_write_member_cstr(&w, "ecs.version", "8.11.0");
    json_write_member_cstr(&w, "service.name", sink.service != NULL ? sink.service : "bud");
    json_write_member_cstr(&w, "service.version", BUD_VERSION);
    json_write_member_cstr(&w, "log.logger", row->component);
    json_write_member_cstr(&w, "event.action", row->action);
    for (size_t i = 0; i < n_fields; i++) {
        json_write_name(&w, fields[i].key);
        write_value(&w, &fields[i]);
    }
    json_write_object_end(&w);
}

/* A text stands bare when it has neither space, quote, '=' nor control characters. */
static bool is_bare(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F) {
            return false;
        }
    }
    return s.len > 0;
}

static void text_line(const struct log_event_row *row, const char *when,
                      const struct log_field *fields, size_t n_fields)
{
    buf_add_printf(&sink.line, "%s %-5s %s %s", when, log_level_names[row->level], row->component,
                   row->action);
    for (size_t i = 0; i < n_fields; i++) {
        const struct log_field *f = &fields[i];
        buf_add_printf(&sink.line, " %s=", f->key);
        if (f->type == LOG_FIELD_STR && is_bare(f->str)) {
            buf_add_str(&sink.line, cut_value(f->str));
        } else {
            struct json_writer w;
            json_write_init(&w, &sink.line);
            write_value(&w, f);
        }
    }
}

static void format_line(const struct log_event_row *row, uint64_t wall_ns,
                        const struct log_field *fields, size_t n_fields)
{
    char when[40];
    format_time(wall_ns, when, sizeof(when));
    if (sink.line.cap_bytes == 0) {
        buf_init(&sink.line, LOG_LINE_BYTES_MAX - 1); /* and the line's end */
    }
    buf_reset(&sink.line);
    (sink.json ? json_line : text_line)(row, when, fields, n_fields);
}

/* ---- limits and the write ---- */

/* Whether the event's rate lets one more line out. *n_dropped: lines kept back since the last. */
static bool within_rate(enum log_event_id event, uint64_t wall_ns, uint32_t *n_dropped)
{
    struct log_rate *r = &sink.rates[event];
    uint64_t second = wall_ns / 1000000000u;
    if (r->second != second) {
        r->second = second;
        r->n_written = 0;
    }
    if (log_events[event].rate != 0 && r->n_written >= log_events[event].rate) {
        r->n_dropped++;
        return false;
    }
    r->n_written++;
    *n_dropped = r->n_dropped;
    r->n_dropped = 0;
    return true;
}

/* False when the reader is too slow to take a whole line at once, or gone. */
static bool write_line(void)
{
    struct pollfd p = {.fd = sink.fd, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0) {
        return false;
    }
    sink.line.ptr[sink.line.len] = '\n'; /* in the NUL's place */
    ssize_t n = write(sink.fd, sink.line.ptr, sink.line.len + 1);
    return n == (ssize_t)sink.line.len + 1;
}

/* The lock is held. */
static bool emit(enum log_event_id event, const struct log_field *fields, size_t n_fields)
{
    const struct log_event_row *row = &log_events[event];
    uint64_t now = clock_wall_ns(sink.clock != NULL ? sink.clock : clock_system());
    uint32_t n_dropped = 0;
    if (!within_rate(event, now, &n_dropped)) {
        return false;
    }
    format_line(row, now, fields, n_fields);
    if (!buf_ok(&sink.line)) {
        const struct log_field cut = log_bool("log.truncated", true);
        format_line(row, now, &cut, 1);
    }
    bool ok = buf_ok(&sink.line) && write_line();
    if (ok && n_dropped > 0) {
        const struct log_field dropped = log_u64("log.suppressed", n_dropped);
        format_line(row, now, &dropped, 1);
        ok = buf_ok(&sink.line) && write_line();
    }
    return ok;
}

void log_write(enum log_event_id event, const struct log_field *fields, size_t n_fields)
{
    if (!log_enabled(event)) {
        return;
    }
    pthread_mutex_lock(&sink.lock);
    bool ok = emit(event, fields, n_fields);
    pthread_mutex_unlock(&sink.lock);
    if (!ok) {
        metric_add(metric_get(METRIC_LOG_DROPPED), 1);
    }
}
