/* requantize.c: see requantize.h. Tensors go through in chunks of rows: the calling thread reads a
 * chunk, threads turn stripes of its rows into the new type, the calling thread writes it. Memory
 * is bounded by the chunk, whatever the tensor's size. */
#include "engine/format/requantize.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/checked.h"
#include "base/mem.h"
#include "base/thread.h"
#include "engine/format/gguf_write.h"
#include "engine/format/mix.h"
#include "engine/format/quant.h"

enum {
    REQUANTIZE_CHUNK_BYTES = 32 << 20, /* of a chunk's rows as float32 */
    REQUANTIZE_THREADS_MAX = 64,
    REQUANTIZE_COLS_MAX = 1 << 24,
    GGUF_QUANTIZATION_VERSION = 2,
};

struct requantize {
    const struct gguf *in;
    const struct requantize_conf *conf;
    const struct mix *mix;
    struct mix_model model;
    uint32_t n_threads;
    enum dtype *types; /* new type of each tensor; owned */
    struct gguf_writer *writer;
    struct requantize_result result;
};

/* ---- one chunk ---- */

/* The rows of one thread, or of the whole chunk. */
struct requantize_job {
    const struct gguf_tensor *tensor;
    const unsigned char *in; /* first row */
    unsigned char *out;
    enum dtype type;
    uint64_t first_row;
    uint64_t n_rows;
    uint64_t in_row_bytes, out_row_bytes;
    float *row; /* room for one row */
    enum rc rc;
    struct err err;
};

static void requantize_rows(void *arg)
{
    struct requantize_job *j = arg;
    size_t n_cols = (size_t)j->tensor->dims[0];
    for (uint64_t r = 0; r < j->n_rows && j->rc == RC_OK; r++) {
        quant_dequantize(j->tensor->type, j->in + r * j->in_row_bytes, j->row, n_cols);
        j->rc =
            quant_quantize(j->type, j->row, j->out + r * j->out_row_bytes, n_cols, NULL, &j->err);
        if (j->rc != RC_OK) {
            err_context(&j->err, "row %" PRIu64, j->first_row + r);
        }
    }
}

/* Splits the chunk over the threads; the last stripe is the caller's. */
static enum rc requantize_chunk(const struct requantize *q, const struct requantize_job *chunk,
                                struct err *err)
{
    struct thread threads[REQUANTIZE_THREADS_MAX];
    struct requantize_job *jobs = mem_zalloc_array(q->n_threads, sizeof(*jobs));
    memset(threads, 0, sizeof(threads));
    uint64_t at = 0;
    for (uint32_t i = 0; i < q->n_threads; i++) {
        uint64_t end = chunk->n_rows * (i + 1) / q->n_threads;
        jobs[i] = *chunk;
        jobs[i].first_row = chunk->first_row + at;
        jobs[i].n_rows = end - at;
        jobs[i].in = chunk->in + at * chunk->in_row_bytes;
        jobs[i].out = chunk->out + at * chunk->out_row_bytes;
        jobs[i].row = chunk->row + i * chunk->tensor->dims[0];
        at = end;
        bool last = i + 1 == q->n_threads;
        if (last || thread_start(&threads[i], "quantize", -1, requantize_rows, &jobs[i]) != RC_OK) {
            requantize_rows(&jobs[i]);
        }
    }
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < q->n_threads; i++) {
        thread_join(&threads[i]);
        if (jobs[i].rc != RC_OK && rc == RC_OK) {
            rc = err_set(err, jobs[i].rc, "%s: at byte %" PRIu64 ": tensor '%.*s': %s",
                         gguf_source(q->in, chunk->tensor->source_idx)->name, chunk->tensor->offset,
                         STR(chunk->tensor->name), jobs[i].err.msg);
        }
    }
    mem_free(jobs);
    return rc;
}

/* ---- one tensor ---- */

/* `n` bytes of the tensor's source from `at`: in place when mapped, else read into `room`. */
static enum rc requantize_read(const struct requantize *q, const struct gguf_tensor *t, uint64_t at,
                               struct str *bytes, struct err *err)
{
    struct weight_source *s = gguf_source(q->in, t->source_idx);
    if (s->map != NULL) {
        bytes->ptr = (const char *)s->map + t->offset + at;
        return RC_OK;
    }
    return s->read_at(s, t->offset + at, (void *)(uintptr_t)bytes->ptr, bytes->len, err);
}

struct requantize_room {
    unsigned char *in, *out;
    float *rows; /* one per thread */
};

static void requantize_room_deinit(struct requantize_room *room)
{
    mem_free(room->in);
    mem_free(room->out);
    mem_free(room->rows);
}

static enum rc requantize_convert(struct requantize *q, const struct gguf_tensor *t,
                                  enum dtype type, struct err *err)
{
    struct requantize_job chunk = {.tensor = t, .type = type};
    uint64_t n_rows = t->dims[1] * t->dims[2] * t->dims[3];
    if (t->dims[0] > REQUANTIZE_COLS_MAX ||
        !dtype_row_bytes(t->type, t->dims[0], &chunk.in_row_bytes) ||
        !dtype_row_bytes(type, t->dims[0], &chunk.out_row_bytes)) {
        return err_set(err, RC_UNSUPPORTED, "%s: tensor '%.*s': rows of %" PRIu64 ", limit %d",
                       gguf_name(q->in), STR(t->name), t->dims[0], REQUANTIZE_COLS_MAX);
    }
    uint64_t step = MAX(REQUANTIZE_CHUNK_BYTES / (t->dims[0] * sizeof(float)), 1);
    step = MIN(step, n_rows);
    struct requantize_room room = {
        .in = mem_try_zalloc((size_t)(step * chunk.in_row_bytes)),
        .out = mem_try_zalloc((size_t)(step * chunk.out_row_bytes)),
        .rows = mem_try_zalloc_array(q->n_threads, (size_t)t->dims[0] * sizeof(float)),
    };
    enum rc rc = RC_OK;
    if (room.in == NULL || room.out == NULL || room.rows == NULL) {
        rc = err_set(err, RC_NOMEM, "%s: no memory to convert tensor '%.*s'", gguf_name(q->in),
                     STR(t->name));
    }
    for (uint64_t at = 0; rc == RC_OK && at < n_rows; at += step) {
        chunk.first_row = at;
        chunk.n_rows = MIN(step, n_rows - at);
        struct str in = str_make((char *)room.in, (size_t)(chunk.n_rows * chunk.in_row_bytes));
        rc = requantize_read(q, t, at * chunk.in_row_bytes, &in, err);
        chunk.in = (const unsigned char *)in.ptr;
        chunk.out = room.out;
        chunk.row = room.rows;
        if (rc == RC_OK) {
            rc = requantize_chunk(q, &chunk, err);
        }
        if (rc == RC_OK) {
            size_t n = (size_t)(chunk.n_rows * chunk.out_row_bytes);
            rc = gguf_writer_data(q->writer, room.out, n, err);
        }
    }
    requantize_room_deinit(&room);
    return rc;
}

static enum rc requantize_copy(struct requantize *q, const struct gguf_tensor *t, struct err *err)
{
    unsigned char *room = mem_try_zalloc(REQUANTIZE_CHUNK_BYTES);
    if (room == NULL) {
        return err_set(err, RC_NOMEM, "%s: no memory to copy tensors", gguf_name(q->in));
    }
    enum rc rc = RC_OK;
    for (uint64_t at = 0; rc == RC_OK && at < t->n_bytes;) {
        uint64_t n = MIN(t->n_bytes - at, (uint64_t)REQUANTIZE_CHUNK_BYTES);
        struct str bytes = str_make((char *)room, (size_t)n);
        rc = requantize_read(q, t, at, &bytes, err);
        if (rc == RC_OK) {
            rc = gguf_writer_data(q->writer, bytes.ptr, bytes.len, err);
        }
        at += n;
    }
    mem_free(room);
    return rc;
}

/* ---- the plan ---- */

static enum rc requantize_unknown_mix(const char *name, struct err *err)
{
    char list[256] = "";
    size_t used = 0;
    for (uint32_t i = 0; mix_at(i) != NULL && used < sizeof(list); i++) {
        int n =
            snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", mix_at(i)->name);
        used += n > 0 ? (size_t)n : 0;
    }
    return err_set(err, RC_INVALID, "unknown type '%.64s'; known are %s", name, list);
}

/* Heads, layers and experts, where the metadata has them as plain numbers. */
static void requantize_describe(struct requantize *q)
{
    struct str arch = STR_NULL;
    q->model.n_gqa = 1;
    q->model.tied = gguf_find_tensor(q->in, "output.weight") == NULL;
    if (gguf_need_str(q->in, "general.architecture", &arch, NULL) != RC_OK || arch.len > 64) {
        return;
    }
    static const char *const suffixes[4] = {"block_count", "attention.head_count",
                                            "attention.head_count_kv", "expert_count"};
    uint32_t values[4] = {0};
    for (int i = 0; i < 4; i++) {
        char key[128];
        snprintf(key, sizeof(key), "%.*s.%s", STR(arch), suffixes[i]);
        if (gguf_get_u32(q->in, key, 0, &values[i], NULL) != RC_OK) {
            values[i] = 0;
        }
    }
    q->model.n_layers = values[0];
    q->model.n_experts = values[3];
    if (values[2] > 0) {
        q->model.n_gqa = values[1] / values[2];
    }
}

static enum rc requantize_plan_tensor(struct requantize *q, uint32_t idx, struct err *err)
{
    const struct gguf_tensor *t = gguf_tensor_at(q->in, idx);
    struct gguf_tensor planned = *t;
    if (mix_applies(t->name, t->n_dims)) {
        bool fell_back;
        planned.type = mix_choose(q->mix, &q->model, t->name, t->dims[0], &fell_back);
        bool quantised = dtype_row((uint32_t)t->type)->block_weights > 1;
        if (planned.type != t->type && quantised && !q->conf->allow_requantize) {
            return err_set(err, RC_INVALID,
                           "%s: at byte %" PRIu64 ": tensor '%.*s' is quantised already (%s): "
                           "start from F16, BF16 or F32, or allow requantizing",
                           gguf_source(q->in, t->source_idx)->name, t->offset, STR(t->name),
                           dtype_row((uint32_t)t->type)->name);
        }
        q->result.n_fallback += fell_back && planned.type != t->type;
    }
    q->types[idx] = planned.type;
    q->result.n_quantized += planned.type != t->type;
    q->result.n_kept += planned.type == t->type;
    q->result.bytes_before += t->n_bytes;
    enum rc rc = gguf_writer_add_tensor(q->writer, &planned, err);
    uint64_t row_bytes;
    if (rc == RC_OK && dtype_row_bytes(planned.type, t->dims[0], &row_bytes)) {
        q->result.bytes_after += row_bytes * t->dims[1] * t->dims[2] * t->dims[3];
    }
    return rc;
}

static enum rc requantize_plan(struct requantize *q, struct err *err)
{
    requantize_describe(q);
    gguf_writer_drop_keys(q->writer, "split.");
    gguf_writer_set_u32(q->writer, "general.file_type", q->mix->file_type);
    gguf_writer_set_u32(q->writer, "general.quantization_version", GGUF_QUANTIZATION_VERSION);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && i < gguf_n_tensors(q->in); i++) {
        rc = requantize_plan_tensor(q, i, err);
    }
    return rc;
}

/* ---- public ---- */

static enum rc requantize_run(struct requantize *q, const char *path, struct err *err)
{
    enum rc rc = requantize_plan(q, err);
    if (rc == RC_OK) {
        rc = gguf_writer_begin(q->writer, path, err);
    }
    uint64_t done = 0;
    for (uint32_t i = 0; rc == RC_OK && i < gguf_n_tensors(q->in); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(q->in, i);
        rc = q->types[i] == t->type ? requantize_copy(q, t, err)
                                    : requantize_convert(q, t, q->types[i], err);
        done += t->n_bytes;
        if (rc == RC_OK && q->conf->progress != NULL) {
            q->conf->progress(q->conf->progress_ctx, done, q->result.bytes_before);
        }
    }
    return rc == RC_OK ? gguf_writer_end(q->writer, err) : rc;
}

enum rc requantize_model(const struct gguf *in, const char *path,
                         const struct requantize_conf *conf, struct requantize_result *result,
                         struct err *err)
{
    struct requantize q = {.in = in, .conf = conf, .mix = mix_find(str_from(conf->mix))};
    if (q.mix == NULL) {
        return requantize_unknown_mix(conf->mix, err);
    }
    int cpus[1];
    uint32_t n = conf->n_threads != 0 ? conf->n_threads : thread_cpus(cpus, 1);
    q.n_threads = MIN(n, (uint32_t)REQUANTIZE_THREADS_MAX);
    q.types = mem_zalloc_array(gguf_n_tensors(in), sizeof(*q.types));
    q.writer = gguf_writer_create(in);
    enum rc rc = requantize_run(&q, path, err);
    gguf_writer_close(q.writer);
    mem_free(q.types);
    if (rc == RC_OK && result != NULL) {
        *result = q.result;
    }
    return rc;
}
