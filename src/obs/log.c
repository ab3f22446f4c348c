/* log.c: see log.h. Lines are formatted behind one another into the sink's buffer, under its lock,
 * and written whole, at once or when they are flushed. A pipe gets at most PIPE_BUF bytes a write,
 * which it takes without blocking when poll says that it takes any.
 *
 * Limits: LOG_LINE_BYTES_MAX a line (then it is written without its fields), LOG_HELD_BYTES_MAX
 * gathered, each event's rate. */
#include "obs/log.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/json.h"
#include "obs/metric.h"

_Static_assert(LOG_LINE_BYTES_MAX <= PIPE_BUF, "a pipe takes a line whole");

/* Room behind what is held for one event: its line and the one that tells of suppressed ones. */
enum { LOG_LINES_BYTES_MAX = 64 << 10 };

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
    bool gather, is_file;
    struct buf held;              /* whole lines, each with its end */
    struct buf head[LOG_EVENT_N]; /* JSON: what every line of that event says after its time */
    time_t second;                /* of `when` */
    char when[24];                /* "2026-01-31T23:59:59", made once a second */
    struct log_rate rates[LOG_EVENT_N];
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_LEVEL_WARN, .fd = STDERR_FILENO};

/* ---- writing ---- */

/* False when the reader is too slow to take it at once, or gone. */
static bool write_piece(struct str piece)
{
    struct pollfd p = {.fd = sink.fd, .events = POLLOUT};
    if (!sink.is_file && (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)) {
        return false;
    }
    return write(sink.fd, piece.ptr, piece.len) == (ssize_t)piece.len;
}

/* As many whole lines from the front of `lines` as a reader takes at once. */
static struct str next_piece(struct str lines)
{
    size_t n = sink.is_file ? lines.len : MIN(lines.len, (size_t)PIPE_BUF);
    while (lines.ptr[n - 1] != '\n') {
        n--;
    }
    return str_slice(lines, 0, n);
}

/* Under the lock. Returns how many lines were lost. */
static uint32_t write_held(void)
{
    struct str lines = buf_str(&sink.held);
    uint32_t n_lost = 0;
    while (lines.len > 0) {
        struct str piece = next_piece(lines);
        bool ok = write_piece(piece);
        for (size_t i = 0; !ok && i < piece.len; i++) {
            n_lost += piece.ptr[i] == '\n' ? 1 : 0;
        }
        lines = str_slice(lines, piece.len, lines.len);
    }
    buf_reset(&sink.held);
    return n_lost;
}

static void count_lost(uint32_t n)
{
    if (n > 0) {
        metric_add(metric_get(METRIC_LOG_DROPPED), n);
    }
}

/* ---- setting up ---- */

void log_init(const struct log_options *options)
{
    bool json = options->format == LOG_FORMAT_JSON ||
                (options->format == LOG_FORMAT_AUTO && isatty(options->fd) == 0);
    struct stat st;
    bool is_file = fstat(options->fd, &st) == 0 && S_ISREG(st.st_mode);
    pthread_mutex_lock(&sink.lock);
    write_held();
    sink.fd = options->fd;
    sink.json = json;
    sink.is_file = is_file;
    sink.gather = options->gather;
    sink.service = options->service;
    sink.clock = options->clock;
    atomic_store(&sink.level, (int)options->level);
    memset(sink.rates, 0, sizeof(sink.rates));
    for (size_t i = 0; i < LOG_EVENT_N; i++) {
        buf_deinit(&sink.head[i]);
    }
    pthread_mutex_unlock(&sink.lock);
}

void log_deinit(void)
{
    log_init(&(struct log_options){
        .fd = STDERR_FILENO, .level = LOG_LEVEL_WARN, .format = LOG_FORMAT_TEXT});
    pthread_mutex_lock(&sink.lock);
    buf_deinit(&sink.held);
    pthread_mutex_unlock(&sink.lock);
}

void log_flush(void)
{
    pthread_mutex_lock(&sink.lock);
    uint32_t n_lost = write_held();
    pthread_mutex_unlock(&sink.lock);
    count_lost(n_lost);
}

void log_flush_dying(void)
{
    if (sink.held.len > 0) {
        ssize_t n = write(sink.fd, sink.held.ptr, sink.held.len);
        UNUSED(n);
    }
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

static void add_time(struct buf *out, uint64_t wall_ns)
{
    time_t second = (time_t)(wall_ns / 1000000000u);
    unsigned ms = (unsigned)(wall_ns / 1000000u % 1000u);
    if (second != sink.second || sink.when[0] == '\0') {
        struct tm tm;
        gmtime_r(&second, &tm);
        strftime(sink.when, sizeof(sink.when), "%Y-%m-%dT%H:%M:%S", &tm);
        sink.second = second;
    }
    const char text[5] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10),
                          (char)('0' + ms % 10), 'Z'};
    buf_add_cstr(out, sink.when);
    buf_add(out, text, sizeof(text));
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

static void json_head(struct buf *out, const struct log_event_row *row)
{
    struct json_writer w;
    buf_init(out, LOG_LINE_BYTES_MAX);
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "log.level", log_level_names[row->level]);
    json_write_member_cstr(&w, "message", row->message);
    json_write_member_cstr(&w, "ecs.version", "8.11.0");
    json_write_member_cstr(&w, "service.name", sink.service != NULL ? sink.service : "bud");
    json_write_member_cstr(&w, "service.version", BUD_VERSION);
    json_write_member_cstr(&w, "log.logger", row->component);
    json_write_member_cstr(&w, "event.action", row->action);
    out->ptr[0] = ','; /* it follows the time */
}

/* `,"key":`; it is ours, so that nothing in it needs an escape. */
static void add_key(struct buf *out, struct str key)
{
    size_t n = key.len;
    char *at = buf_reserve(out, n + 4);
    if (at != NULL) { /* else the buffer says that it failed */
        memcpy(at, ",\"", 2);
        memcpy(at + 2, key.ptr, n);
        memcpy(at + 2 + n, "\":", 2);
        buf_commit(out, n + 4);
    }
}

static void json_line(enum log_event_id event, uint64_t wall_ns, const struct log_field *fields,
                      size_t n_fields)
{
    struct json_writer w;
    struct buf *out = &sink.held;
    if (sink.head[event].len == 0) {
        json_head(&sink.head[event], &log_events[event]);
    }
    buf_add_str(out, STR_LIT("{\"@timestamp\":\""));
    add_time(out, wall_ns);
    buf_add_byte(out, '"');
    buf_add_str(out, buf_str(&sink.head[event]));
    for (size_t i = 0; i < n_fields; i++) {
        add_key(out, str_make(fields[i].key, fields[i].key_bytes));
        json_write_init(&w, out);
        write_value(&w, &fields[i]);
    }
    buf_add_byte(out, '}');
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

static void text_line(enum log_event_id event, uint64_t wall_ns, const struct log_field *fields,
                      size_t n_fields)
{
    const struct log_event_row *row = &log_events[event];
    struct buf *out = &sink.held;
    add_time(out, wall_ns);
    buf_add_printf(out, " %-5s %s %s", log_level_names[row->level], row->component, row->action);
    for (size_t i = 0; i < n_fields; i++) {
        const struct log_field *f = &fields[i];
        buf_add_printf(out, " %s=", f->key);
        if (f->type == LOG_FIELD_STR && is_bare(f->str)) {
            buf_add_str(out, cut_value(f->str));
        } else {
            struct json_writer w;
            json_write_init(&w, out);
            write_value(&w, f);
        }
    }
}

/* Adds a line to those held; false, and nothing added, when it is too long. */
static bool add_line(enum log_event_id event, uint64_t wall_ns, const struct log_field *fields,
                     size_t n_fields)
{
    size_t start = sink.held.len;
    if (sink.held.cap_bytes == 0) {
        buf_init(&sink.held, LOG_HELD_BYTES_MAX + LOG_LINES_BYTES_MAX);
    }
    (sink.json ? json_line : text_line)(event, wall_ns, fields, n_fields);
    buf_add_byte(&sink.held, '\n');
    if (buf_ok(&sink.held) && sink.held.len - start <= LOG_LINE_BYTES_MAX) {
        return true;
    }
    sink.held.failed = false;
    buf_truncate(&sink.held, start);
    return false;
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

/* The lock is held. */
static bool emit(enum log_event_id event, const struct log_field *fields, size_t n_fields,
                 uint32_t *n_lost)
{
    uint64_t now = clock_wall_ns(sink.clock != NULL ? sink.clock : clock_system());
    uint32_t n_dropped = 0;
    if (!within_rate(event, now, &n_dropped)) {
        return false;
    }
    const struct log_field cut = log_bool("log.truncated", true);
    bool ok = add_line(event, now, fields, n_fields) || add_line(event, now, &cut, 1);
    if (ok && n_dropped > 0) {
        const struct log_field dropped = log_u64("log.suppressed", n_dropped);
        ok = add_line(event, now, &dropped, 1);
    }
    bool urgent = log_events[event].level >= LOG_LEVEL_WARN;
    if (!sink.gather || urgent || sink.held.len >= LOG_HELD_BYTES_MAX) {
        *n_lost = write_held();
    }
    return ok;
}

void log_write(enum log_event_id event, const struct log_field *fields, size_t n_fields)
{
    if (!log_enabled(event)) {
        return;
    }
    uint32_t n_lost = 0;
    pthread_mutex_lock(&sink.lock);
    bool ok = emit(event, fields, n_fields, &n_lost);
    pthread_mutex_unlock(&sink.lock);
    count_lost(n_lost + (ok ? 0 : 1));
}
