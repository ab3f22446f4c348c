/* stream.c: see stream.h. Threads share pieces out as they share panels of weights out, so that one
 * that is held up for a moment does not count for all. */
#include "engine/cpu/stream.h"

#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/team.h"

enum { STREAM_BYTES = 256 << 20, STREAM_READS = 6, STREAM_PIECE_BYTES = 1 << 20 };

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

static void read_piece(void *ctx, uint32_t thread, uint32_t piece)
{
    struct cpu_stream *s = ctx;
    const unsigned char *at = s->bytes + (size_t)piece * STREAM_PIECE_BYTES;
    UNUSED(thread);
    s->sum += s->k->floats->stream(at, STREAM_PIECE_BYTES);
}

double backend_cpu_stream_read(struct cpu_stream *s)
{
    double best = 0;
    for (int i = 0; i < STREAM_READS; i++) {
        uint64_t start = clock_mono_ns(clock_system());
        team_for(s->team, STREAM_BYTES / STREAM_PIECE_BYTES, read_piece, s);
        uint64_t ns = MAX(clock_mono_ns(clock_system()) - start, (uint64_t)1);
        best = MAX(best, (double)STREAM_BYTES * 1e9 / (double)ns);
    }
    ASSERT(s->sum != 0);
    return best;
}
