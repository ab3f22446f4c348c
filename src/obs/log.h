/* log.h: log lines are events with typed fields (STYLE.md H41).
 *
 * JSON with ECS keys when the sink is not a terminal, `time level component event key=value …` on
 * one. Server roles log on standard output; until log_init, events of warn and above go to standard
 * error as text, which is what the command line wants. Lines have at most LOG_LINE_BYTES_MAX bytes
 * and are written whole; when a reader is so slow that it would block, they are dropped and
 * counted. Each event has its own rate limit (names.h). The sink is a listed singleton; all
 * functions may be called from any thread, but not from a signal handler. */
#ifndef OBS_LOG_H
#define OBS_LOG_H

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "obs/names.h"

enum {
    LOG_LINE_BYTES_MAX = 4096,
    LOG_VALUE_BYTES_MAX = 1024, /* longer texts are cut */
    LOG_HELD_BYTES_MAX = 64 << 10,
};

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

enum log_event_id {
#define X(id, level, component, action, rate, message) LOG_##id,
    LOG_EVENT_TABLE(X)
#undef X
        LOG_EVENT_N
};

struct log_options {
    const char *service; /* service.name, such as "bud-gateway"; must stay in place */
    int fd;              /* where to, not closed; 1 for server roles, 2 for the command line */
    enum log_level level;
    enum log_format format;
    const struct clock *clock; /* NULL = the system's */
    /* Lines below warn are gathered, and written by log_flush, before a line of warn or above, or
     * when LOG_HELD_BYTES_MAX have come together. Who sets it calls log_flush many times a second.
     */
    bool gather;
};

struct log_field {
    const char *key;
    uint32_t key_bytes; /* known where the line is written: keys are literals */
    enum { LOG_FIELD_STR, LOG_FIELD_I64, LOG_FIELD_U64, LOG_FIELD_F64, LOG_FIELD_BOOL } type;
    union {
        struct str str;
        int64_t i64;
        uint64_t u64;
        double f64;
        bool boolean;
    };
};

/* Once, before other threads start; again to change the sink. */
void log_init(const struct log_options *options);
/* Back to the state before log_init. */
void log_deinit(void);
/* Writes what was gathered. */
void log_flush(void);
/* The same for a process about to die, from a signal handler: takes no lock, so that a line may
 * come out broken. */
void log_flush_dying(void);
/* From names; false when `name` is not one of debug, info, warn, error, off. */
MUST_CHECK bool log_level_from(struct str name, enum log_level *out);
/* For what is dear to gather. */
bool log_enabled(enum log_event_id event);

/* log_event(LOG_LISTEN, log_cstr(LOG_KEY_ADDRESS, address), log_u64("port", port)); */
#define log_event(event, ...)                                                                      \
    log_write((event), (const struct log_field[]){__VA_ARGS__},                                    \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

void log_write(enum log_event_id event, const struct log_field *fields, size_t n_fields);

static inline struct log_field log_str(const char *key, struct str value)
{
    return (struct log_field){
        .key = key, .key_bytes = (uint32_t)strlen(key), .type = LOG_FIELD_STR, .str = value};
}
static inline struct log_field log_cstr(const char *key, const char *value)
{
    return log_str(key, str_from(value));
}
static inline struct log_field log_i64(const char *key, int64_t value)
{
    return (struct log_field){
        .key = key, .key_bytes = (uint32_t)strlen(key), .type = LOG_FIELD_I64, .i64 = value};
}
static inline struct log_field log_u64(const char *key, uint64_t value)
{
    return (struct log_field){
        .key = key, .key_bytes = (uint32_t)strlen(key), .type = LOG_FIELD_U64, .u64 = value};
}
static inline struct log_field log_f64(const char *key, double value)
{
    return (struct log_field){
        .key = key, .key_bytes = (uint32_t)strlen(key), .type = LOG_FIELD_F64, .f64 = value};
}
static inline struct log_field log_bool(const char *key, bool value)
{
    return (struct log_field){
        .key = key, .key_bytes = (uint32_t)strlen(key), .type = LOG_FIELD_BOOL, .boolean = value};
}
/* The message of an error, and beside it log_err_code. */
static inline struct log_field log_err(const struct err *err)
{
    return log_cstr(LOG_KEY_ERROR, err->msg);
}
static inline struct log_field log_err_code(const struct err *err)
{
    return log_cstr(LOG_KEY_ERROR_CODE, err_row(err->code)->name);
}

#endif
