/* device.h: the devices of this machine and how they fare.
 *
 * A struct device is one device's handle; one thread at a time. */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include "base/err.h"

struct device_info {
    char kind[8];     /* "cpu" */
    char name[64];    /* as the maker calls it */
    uint32_t n_cores; /* usable by this process */
    uint64_t
        memory_total_bytes; /* what this process may use: the machine's, or its group's limit */
};

struct device_load {
    uint64_t memory_free_bytes; /* without pushing others out */
    double utilization; /* 0 to 1 since the last call, of the whole device; first call: since
                           the machine started */
};

struct device; /* opaque */

/* The processor. `root` is where /proc and /sys/fs/cgroup are found: "" but in tests. */
RC device_cpu_open(struct device **out, const char *root, struct err *err);
/* Memory that this process may use, of this machine; 0 when the system does not tell. */
uint64_t device_cpu_memory_bytes(void);
/* Cores whose time this process gets: those it may run on, or its control group's quota where that
 * is less, rounded up. At least 1. `root` as above. */
uint32_t device_cpu_share(const char *root);
/* NULL is allowed. */
void device_close(struct device *d);
const struct device_info *device_info(const struct device *d);
RC device_load(struct device *d, struct device_load *out, struct err *err);

#endif
