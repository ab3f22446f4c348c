/* stream.h: how fast this machine reads memory: the roof of decoding, measured in the same minute
 * as what is compared with it. */
#ifndef ENGINE_CPU_STREAM_H
#define ENGINE_CPU_STREAM_H

#include "base/err.h"

struct cpu_stream; /* threads of its own and memory to read */

/* n_threads: 0 = one per usable CPU. RC_NOMEM when 256 MiB cannot be had. */
RC backend_cpu_stream_create(struct cpu_stream **out, uint32_t n_threads, struct err *err);
/* NULL is allowed. */
void backend_cpu_stream_destroy(struct cpu_stream *s);
/* Bytes per second of the best of a few reads of all the memory, with prefetching; takes about a
 * tenth of a second. */
double backend_cpu_stream_read(struct cpu_stream *s);

#endif
