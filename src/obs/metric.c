/* metric.c: see metric.h.
 *
 * Invariants: a series, once published in registry.series, never moves or goes; n_series only
 * grows, and is stored after the pointer it counts. A gauge lives in its first cell alone. */
#include "obs/metric.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "obs/metric_process.h"

enum metric_type { METRIC_TYPE_COUNTER, METRIC_TYPE_GAUGE, METRIC_TYPE_HISTOGRAM };

enum metric_buckets {
#define X(id, ...) METRIC_BUCKETS_##id,
    METRIC_BUCKETS_TABLE(X)
#undef X
};

struct metric_row {
    const char *name;
    enum metric_type type;
    const char *labels;
    enum metric_buckets buckets;
    const char *help;
};

static const struct metric_row metric_rows[] = {
#define X(id, name, type, labels, buckets, help)                                                   \
    {name, METRIC_TYPE_##type, labels, METRIC_BUCKETS_##buckets, help},
    METRIC_TABLE(X)
#undef X
};

#define X(id, ...) static const double metric_bounds_##id[] = {__VA_ARGS__};
METRIC_BUCKETS_TABLE(X)
#undef X

static const struct {
    const double *bounds;
    uint32_t n;
} metric_bounds[] = {
#define X(id, ...) {metric_bounds_##id, ARRAY_LEN(metric_bounds_##id)},
    METRIC_BUCKETS_TABLE(X)
#undef X
};

/* What one thread in METRIC_SHARDS counts in. */
struct metric_cell {
    ALIGNED(CACHE_LINE_BYTES) _Atomic uint64_t value; /* count; a gauge's double, as bits */
    _Atomic uint64_t sum;                             /* histogram: of the observations */
    _Atomic uint64_t *buckets;                        /* histogram: n_bounds + 1, not cumulative */
};

struct metric_series {
    enum metric_id id;
    char values[METRIC_LABELS_MAX][METRIC_VALUE_BYTES_MAX];
    struct metric_cell cells[METRIC_SHARDS];
};

static struct {
    pthread_mutex_t lock; /* of making series */
    struct metric_series *_Atomic series[METRIC_N][METRIC_SERIES_MAX];
    _Atomic uint32_t n_series[METRIC_N];
    _Atomic uint32_t n_threads;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- series ---- */

static uint32_t n_labels(enum metric_id id)
{
    const char *keys = metric_rows[id].labels;
    return keys[0] == '\0' ? 0 : strchr(keys, ',') == NULL ? 1 : 2;
}

static bool has_values(const struct metric_series *s, const struct str *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct str v = str_slice(values[i], 0, METRIC_VALUE_BYTES_MAX - 1);
        if (s->values[i][v.len] != '\0' || (v.len > 0 && memcmp(s->values[i], v.ptr, v.len) != 0)) {
            return false;
        }
    }
    return true;
}

static struct metric_series *series_find(enum metric_id id, const struct str *values)
{
    uint32_t n = atomic_load_explicit(&registry.n_series[id], memory_order_acquire);
    for (uint32_t i = 0; i < n; i++) {
        struct metric_series *s =
            atomic_load_explicit(&registry.series[id][i], memory_order_relaxed);
        if (has_values(s, values, n_labels(id))) {
            return s;
        }
    }
    return NULL;
}

static struct metric_series *series_create(enum metric_id id, const struct str *values)
{
    struct metric_series *s = mem_try_aligned(CACHE_LINE_BYTES, sizeof(*s));
    ASSERT(s != NULL); /* bounded by the table: boot memory */
    s->id = id;
    for (uint32_t i = 0; i < n_labels(id); i++) {
        str_copy(s->values[i], sizeof(s->values[i]), values[i]);
    }
    if (metric_rows[id].type == METRIC_TYPE_HISTOGRAM) {
        size_t n = metric_bounds[metric_rows[id].buckets].n + 1u;
        for (uint32_t i = 0; i < METRIC_SHARDS; i++) {
            s->cells[i].buckets = mem_zalloc_array(n, sizeof(*s->cells[i].buckets));
        }
    }
    return s;
}

/* Makes the series, or the one for what does not fit. */
static struct metric_series *series_add(enum metric_id id, const struct str *values, bool *full)
{
    static const struct str others[METRIC_LABELS_MAX] = {STR_LIT("other"), STR_LIT("other")};
    uint32_t n = atomic_load_explicit(&registry.n_series[id], memory_order_relaxed);
    *full = n + 1 >= METRIC_SERIES_MAX; /* the last place is for what does not fit */
    values = *full ? others : values;
    struct metric_series *s = series_find(id, values); /* another thread may have been faster */
    if (s == NULL) {
        s = series_create(id, values);
        atomic_store_explicit(&registry.series[id][n], s, memory_order_relaxed);
        atomic_store_explicit(&registry.n_series[id], n + 1, memory_order_release);
    }
    return s;
}

struct metric_series *metric_with(enum metric_id id, const struct str *values)
{
    ASSERT((size_t)id < METRIC_N);
    struct metric_series *s = series_find(id, values);
    if (s != NULL) {
        return s;
    }
    bool full = false;
    pthread_mutex_lock(&registry.lock);
    s = series_add(id, values, &full);
    pthread_mutex_unlock(&registry.lock);
    if (full) {
        metric_add(metric_get(METRIC_SERIES_REFUSED), 1);
    }
    return s;
}

struct metric_series *metric_get(enum metric_id id)
{
    ASSERT(n_labels(id) == 0);
    return metric_with(id, NULL);
}

struct metric_series *metric_with1(enum metric_id id, struct str value)
{
    ASSERT(n_labels(id) == 1);
    return metric_with(id, &value);
}

struct metric_series *metric_status(int http_status)
{
    char text[STR_U64_BYTES];
    ASSERT(http_status >= 0);
    size_t n = str_put_u64(text, (uint64_t)http_status);
    return metric_with1(METRIC_HTTP_REQUESTS, str_make(text, n));
}

/* ---- counting ---- */

static struct metric_cell *my_cell(struct metric_series *s)
{
    static _Thread_local uint32_t shard = UINT32_MAX;
    if (UNLIKELY(shard == UINT32_MAX)) {
        shard = atomic_fetch_add_explicit(&registry.n_threads, 1, memory_order_relaxed);
        shard %= METRIC_SHARDS;
    }
    return &s->cells[shard];
}

static void add_relaxed(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t load_relaxed(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metric_add(struct metric_series *s, uint64_t n)
{
    ASSERT_SLOW(metric_rows[s->id].type == METRIC_TYPE_COUNTER);
    add_relaxed(&my_cell(s)->value, n);
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

void metric_set(struct metric_series *s, double value)
{
    ASSERT_SLOW(metric_rows[s->id].type == METRIC_TYPE_GAUGE);
    atomic_store_explicit(&s->cells[0].value, bits_of(value), memory_order_relaxed);
}

void metric_move(struct metric_series *s, double by)
{
    ASSERT_SLOW(metric_rows[s->id].type == METRIC_TYPE_GAUGE);
    _Atomic uint64_t *cell = &s->cells[0].value;
    uint64_t old = load_relaxed(cell);
    while (!atomic_compare_exchange_weak_explicit(cell, &old, bits_of(double_of(old) + by),
                                                  memory_order_relaxed, memory_order_relaxed)) {}
}

/* Time is counted in whole nanoseconds and shown in seconds. */
static double unit_of(enum metric_id id)
{
    struct str name = str_from(metric_rows[id].name);
    bool time = str_ends(name, STR_LIT("_seconds")) || str_ends(name, STR_LIT("_seconds_total"));
    return time && metric_rows[id].type != METRIC_TYPE_GAUGE ? 1e-9 : 1;
}

void metric_observe(struct metric_series *s, uint64_t value)
{
    const struct metric_row *row = &metric_rows[s->id];
    ASSERT_SLOW(row->type == METRIC_TYPE_HISTOGRAM);
    const double *bounds = metric_bounds[row->buckets].bounds;
    uint32_t n = metric_bounds[row->buckets].n, i = 0;
    double scaled = (double)value * unit_of(s->id);
    while (i < n && scaled > bounds[i]) {
        i++;
    }
    struct metric_cell *cell = my_cell(s);
    add_relaxed(&cell->buckets[i], 1);
    add_relaxed(&cell->sum, value);
}

/* ---- reading ---- */

static uint64_t bucket_count(const struct metric_series *s, uint32_t bucket)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < METRIC_SHARDS; i++) {
        sum += load_relaxed(&s->cells[i].buckets[bucket]);
    }
    return sum;
}

double metric_value(const struct metric_series *s)
{
    const struct metric_row *row = &metric_rows[s->id];
    uint64_t sum = 0;
    if (row->type == METRIC_TYPE_GAUGE) {
        return double_of(load_relaxed(&s->cells[0].value));
    }
    for (uint32_t i = 0; row->type == METRIC_TYPE_COUNTER && i < METRIC_SHARDS; i++) {
        sum += load_relaxed(&s->cells[i].value);
    }
    for (uint32_t i = 0; row->type == METRIC_TYPE_HISTOGRAM && i <= metric_bounds[row->buckets].n;
         i++) {
        sum += bucket_count(s, i);
    }
    return row->type == METRIC_TYPE_COUNTER ? (double)sum * unit_of(s->id) : (double)sum;
}

static void add_number(struct buf *out, double value)
{
    char text[32];
    snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value) {
        snprintf(text, sizeof(text), "%.17g", value);
    }
    buf_add_cstr(out, text);
    buf_add_byte(out, '\n');
}

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"') {
            buf_add_byte(out, '\\');
        }
        if (*text == '\n') {
            buf_add_cstr(out, "\\n");
        } else {
            buf_add_byte(out, *text);
        }
    }
}

/* `name_suffix{key="value",…}`; le may be NULL. */
static void add_name(struct buf *out, const struct metric_series *s, const char *suffix,
                     const char *le)
{
    struct str keys = str_from(metric_rows[s->id].labels);
    buf_add_printf(out, "%s%s", metric_rows[s->id].name, suffix);
    const char *separator = "{";
    for (uint32_t i = 0; i < n_labels(s->id); i++, separator = ",") {
        struct str key = str_cut(&keys, ',');
        buf_add_printf(out, "%s%.*s=\"", separator, STR(key));
        add_escaped(out, s->values[i]);
        buf_add_byte(out, '"');
    }
    if (le != NULL) {
        buf_add_printf(out, "%sle=\"%s\"", separator, le);
        separator = ",";
    }
    buf_add_cstr(out, separator[0] == '{' ? " " : "} ");
}

static void add_histogram(struct buf *out, const struct metric_series *s)
{
    const struct metric_row *row = &metric_rows[s->id];
    const double *bounds = metric_bounds[row->buckets].bounds;
    uint32_t n = metric_bounds[row->buckets].n;
    uint64_t count = 0, sum = 0;
    for (uint32_t i = 0; i <= n; i++) {
        char le[32] = "+Inf";
        if (i < n) {
            snprintf(le, sizeof(le), "%.10g", bounds[i]);
        }
        count += bucket_count(s, i);
        add_name(out, s, "_bucket", le);
        buf_add_printf(out, "%llu\n", (unsigned long long)count);
    }
    for (uint32_t i = 0; i < METRIC_SHARDS; i++) {
        sum += load_relaxed(&s->cells[i].sum);
    }
    add_name(out, s, "_sum", NULL);
    add_number(out, (double)sum * unit_of(s->id));
    add_name(out, s, "_count", NULL);
    buf_add_printf(out, "%llu\n", (unsigned long long)count);
}

static void refresh_process(void)
{
    struct metric_process p;
    metric_process_read(&p);
    metric_set(metric_with1(METRIC_BUILD_INFO, STR_LIT(BUD_VERSION)), 1);
    metric_set(metric_get(METRIC_PROCESS_MEMORY), (double)p.resident_bytes);
    metric_set(metric_get(METRIC_PROCESS_FDS), p.n_fds);
    metric_set(metric_get(METRIC_PROCESS_START), p.start_s);
    struct metric_series *cpu = metric_get(METRIC_PROCESS_CPU);
    atomic_store_explicit(&cpu->cells[0].value, p.cpu_ns, memory_order_relaxed);
}

void metric_expose(struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    refresh_process();
    for (enum metric_id id = 0; id < METRIC_N; id++) {
        const struct metric_row *row = &metric_rows[id];
        uint32_t n = atomic_load_explicit(&registry.n_series[id], memory_order_acquire);
        if (n == 0) {
            continue;
        }
        buf_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
                       types[row->type]);
        for (uint32_t i = 0; i < n; i++) {
            const struct metric_series *s =
                atomic_load_explicit(&registry.series[id][i], memory_order_relaxed);
            if (row->type == METRIC_TYPE_HISTOGRAM) {
                add_histogram(out, s);
            } else {
                add_name(out, s, "", NULL);
                add_number(out, metric_value(s));
            }
        }
    }
}
