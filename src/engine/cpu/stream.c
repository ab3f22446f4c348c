/* stream.c: see stream.h. Each thread reads a part of its own, so that the slowest one counts. */
#include "engine/cpu/stream.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/team.h"

enum { STREAM_BYTES = 256 << 20, STREAM_READS = 3, STREAM_STEP = 128 };

struct cpu_stream {
    const struct kernels *k;
    struct team *team;
    unsigned char *bytes;
    _Atomic uint64_t sum; /* keeps the reads from being optimised away */
};

enum rc backend_cpu_stream_create(struct cpu_stream **out, uint32_t n_threads, struct err *err)
{
    struct cpu_stream *s = mem_zalloc(sizeof(*s));
    s->k = kernels_choose(NULL);
    s->bytes = mem_map(STREAM_BYTES);
    enum rc rc = s->bytes != NULL ? RC_OK : err_set(err, RC_NOMEM, "no memory for the stream");
    rc = rc == RC_OK ? team_create(&s->team, n_threads, true, err) : rc;
    if (rc != RC_OK) {
        backend_cpu_stream_destroy(s);
        return rc;
    }
    memset(s->bytes, 1, STREAM_BYTES); /* a page that was never written is not in memory */
    *out = s;
    return RC_OK;
}

void backend_cpu_stream_destroy(struct cpu_stream *s)
{
    if (s != NULL) {
        team_destroy(s->team);
        mem_unmap(s->bytes, STREAM_BYTES);
        mem_free(s);
    }
}

static void read_part(void *ctx, uint32_t thread)
{
    struct cpu_stream *s = ctx;
    size_t n = STREAM_BYTES / team_n_threads(s->team) / STREAM_STEP * STREAM_STEP;
    s->sum += s->k->floats->stream(s->bytes + thread * n, n);
}

double backend_cpu_stream_read(struct cpu_stream *s)
{
    double best = 0;
    for (int i = 0; i < STREAM_READS; i++) {
        uint64_t start = clock_mono_ns(clock_system());
        team_run(s->team, read_part, s);
        uint64_t ns = MAX(clock_mono_ns(clock_system()) - start, (uint64_t)1);
        best = MAX(best, (double)STREAM_BYTES * 1e9 / (double)ns);
    }
    ASSERT(s->sum != 0);
    return best;
}
