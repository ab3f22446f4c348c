/* metric.h: counters, gauges and histograms of names.h, in Prometheus text (format 0.0.4).
 *
 * Counting is one relaxed atomic add in a cell that few threads share (METRIC_SHARDS cells a
 * series, summed at scrape). A series is looked up once and kept: it lives until the process ends.
 * The registry is a listed singleton; all functions may be called from any thread. */
#ifndef OBS_METRIC_H
#define OBS_METRIC_H

#include "base/buf.h"
#include "obs/names.h"

enum {
    METRIC_SHARDS = 8,
    METRIC_LABELS_MAX = 2,
    METRIC_SERIES_MAX = 64,      /* of one metric; further label values count as "other" */
    METRIC_VALUE_BYTES_MAX = 96, /* of a label; longer ones are cut */
};

enum metric_id {
#define X(id, name, type, labels, buckets, help) METRIC_##id,
    METRIC_TABLE(X)
#undef X
        METRIC_N
};

struct metric_series;

/* The series of a metric without labels. */
struct metric_series *metric_get(enum metric_id id);
/* The series with these label values, one for each label key of the metric. Made at first use;
 * O(series of the metric). Never NULL. */
struct metric_series *metric_with(enum metric_id id, const struct str *values);
/* The same for a metric with one label key. */
struct metric_series *metric_with1(enum metric_id id, struct str value);
/* http_requests_total of a status code. */
struct metric_series *metric_status(int http_status);

/* Counter. */
void metric_add(struct metric_series *s, uint64_t n);
/* Gauge. */
void metric_set(struct metric_series *s, double value);
void metric_move(struct metric_series *s, double by);
/* Histogram, in nanoseconds where the metric's name ends in _seconds, else in its own unit. */
void metric_observe(struct metric_series *s, uint64_t value);

/* A counter's or gauge's value, a histogram's number of observations. */
double metric_value(const struct metric_series *s);
/* Appends all metrics that have a series. Refreshes the process_ ones first. */
void metric_expose(struct buf *out);

#endif
