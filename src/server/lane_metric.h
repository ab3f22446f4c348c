/* lane_metric.h: what one model's steps tell the metrics (obs/names.h). */
#ifndef SERVER_LANE_METRIC_H
#define SERVER_LANE_METRIC_H

#include "obs/metric.h"
#include "server/job.h"
#include "server/lane.h"

struct lane_metric {
    /* private */
    struct metric_series *running, *waiting, *pages_used, *pages_total, *ratio; /* NULL: silent */
    struct metric_series *preemptions, *looked_up, *hits, *drafted, *accepted, *computed;
    struct metric_series *step, *inter_token, *last_step;
    char name[METRIC_VALUE_BYTES_MAX + 1];
    struct lane_stats told; /* counters as last added */
};

void lane_metric_init(struct lane_metric *m, struct str name);
/* A step has ended, at a wall clock's time; its time and the cost model's ratio. */
void lane_metric_step(struct lane_metric *m, int64_t wall_s, uint64_t ns, double ratio);
void lane_metric_token(struct lane_metric *m, uint64_t since_last_ns);
void lane_metric_finish(struct lane_metric *m, enum job_finish finish);
/* `reason`: a short word from a closed list. */
void lane_metric_refuse(struct lane_metric *m, const char *reason);
/* Gauges and counters as they stand. */
void lane_metric_stats(struct lane_metric *m, const struct lane_stats *stats);

#endif
