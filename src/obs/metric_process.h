/* metric_process.h: what the kernel says about this process, for the process_ metrics. */
#ifndef OBS_METRIC_PROCESS_H
#define OBS_METRIC_PROCESS_H

#include "base/compiler.h"

struct metric_process {
    uint64_t resident_bytes;
    uint64_t cpu_ns; /* user and system */
    uint32_t n_fds;
    double start_s; /* since 1970 */
};

/* What cannot be read is 0. A few system calls: for scrapes. */
void metric_process_read(struct metric_process *p);

#endif
