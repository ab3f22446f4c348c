/* embed.c: see embed.h.
 *
 * Invariants: 1. a job stands in the line while it has texts that no batch took; 2. the batch under
 * way has places (job, text), and each job counts its own there, so a job comes back only when none
 * is left; 3. what a batch points to is the model's own memory, never a job's. */
#include "server/embed.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/ring.h"
#include "obs/metric.h"

#define EMBED_RETRY_MS_MIN UINT64_C(1000)
#define EMBED_RETRY_MS_MAX UINT64_C(60000)

struct embed_job {
    struct list_node node; /* in the line */
    struct embed_model *model;
    void *reader;
    uint32_t n_texts;
    uint32_t *n_tokens;
    int32_t *tokens;
    uint8_t *segments; /* NULL = all 0 */
    float *out;
    uint64_t n_tokens_all;
    uint64_t deadline_ns; /* 0 = none */
    _Atomic bool cancelled;
    _Atomic bool late; /* … for its deadline */
    /* the engine thread's */
    uint64_t since_ns; /* when it came in */
    uint32_t n_taken;  /* texts that a batch took */
    size_t n_taken_tokens;
    uint32_t n_running; /* texts of the batch under way */
};

/* Where a text's result goes. */
struct place {
    struct embed_job *job;
    uint32_t text;
};

struct embed_model {
    struct engine *engine;
    uint32_t rows_max, texts_max;
    struct list line;
    uint64_t n_waiting_texts, n_waiting_rows;
    /* the batch under way */
    bool running;
    uint64_t begun_ns;
    uint32_t n_rows;
    struct engine_embed_batch batch;
    struct place *places;
    uint32_t *n_tokens;
    int32_t *tokens;
    uint8_t *segments;
    float *out;
    _Atomic uint64_t token_ns; /* of the latest batches, with all that ran beside them; 0 = none */
    struct metric_series *n_batches_metric, *n_texts_metric, *n_tokens_metric; /* NULL: silent */
};

struct embed {
    struct embed_conf conf;
    struct embed_model *models[EMBED_MODELS_MAX];
    uint32_t n_models;
    struct ring inbox, finished;
    /* the reader's */
    uint32_t n_jobs;
    uint64_t n_waiting_tokens;
    /* the engine thread's */
    bool news;
    _Atomic uint64_t n_batches, n_texts, n_tokens;
};

/* ---- setting up ---- */

RC embed_create(struct embed **out, const struct embed_conf *conf, struct err *err)
{
    *out = NULL;
    struct embed *q = mem_try_zalloc(sizeof(*q));
    if (q == NULL) {
        return err_set(err, RC_NOMEM, "no memory for the line of texts");
    }
    q->conf = *conf;
    q->conf.batch_texts = conf->batch_texts != 0 ? conf->batch_texts : EMBED_BATCH_TEXTS;
    if (conf->batch_ms == 0 && !conf->no_batch_wait) {
        q->conf.batch_ms = EMBED_BATCH_MS;
    }
    ring_init(&q->inbox, EMBED_JOBS_MAX);
    ring_init(&q->finished, EMBED_JOBS_MAX);
    *out = q;
    return RC_OK;
}

static void model_destroy(struct embed_model *m)
{
    mem_free(m->places);
    mem_free(m->n_tokens);
    mem_free(m->tokens);
    mem_free(m->segments);
    mem_free(m->out);
    mem_free(m);
}

RC embed_add_model(struct embed *q, struct embed_model **out, struct engine *engine,
                   struct err *err)
{
    const struct engine_info *info = engine_info(engine);
    ASSERT(info->kind != ENGINE_GENERATOR);
    *out = NULL;
    if (q->n_models == EMBED_MODELS_MAX) {
        return err_set(err, RC_TOO_LARGE, "at most %d models that embed", EMBED_MODELS_MAX);
    }
    struct embed_model *m = mem_zalloc(sizeof(*m));
    m->engine = engine;
    m->texts_max = MIN(q->conf.batch_texts, info->texts_max);
    m->rows_max = MIN((uint32_t)EMBED_BATCH_ROWS, info->batch_tokens_max);
    list_init(&m->line);
    m->places = mem_zalloc_array(m->texts_max, sizeof(*m->places));
    m->n_tokens = mem_zalloc_array(m->texts_max, sizeof(*m->n_tokens));
    m->tokens = mem_zalloc_array(info->batch_tokens_max, sizeof(*m->tokens));
    m->segments = mem_zalloc_array(info->batch_tokens_max, sizeof(*m->segments));
    m->out = mem_zalloc_array((size_t)m->texts_max * info->n_out, sizeof(*m->out));
    q->models[q->n_models++] = m;
    *out = m;
    return RC_OK;
}

void embed_name_model(struct embed_model *m, struct str name)
{
    struct str label = str_slice(name, 0, METRIC_VALUE_BYTES_MAX);
    m->n_batches_metric = metric_with1(METRIC_EMBED_BATCHES, label);
    m->n_texts_metric = metric_with1(METRIC_EMBED_TEXTS, label);
    m->n_tokens_metric = metric_with1(METRIC_EMBED_TOKENS, label);
}

void embed_destroy(struct embed *q)
{
    if (q == NULL) {
        return;
    }
    ASSERT(q->n_jobs == 0);
    for (uint32_t i = 0; i < q->n_models; i++) {
        engine_close(q->models[i]->engine);
        model_destroy(q->models[i]);
    }
    ring_deinit(&q->inbox);
    ring_deinit(&q->finished);
    mem_free(q);
}

/* ---- jobs: the reader's end ---- */

static void *job_copy(const void *src, size_t n, size_t size)
{
    void *copy = mem_try_zalloc_array(n, size);
    if (copy != NULL) {
        memcpy(copy, src, n * size);
    }
    return copy;
}

RC embed_job_create(struct embed_job **out, struct embed_model *m, const struct embed_texts *texts,
                    void *reader, struct err *err)
{
    const struct engine_info *info = engine_info(m->engine);
    ASSERT(texts->n > 0);
    *out = NULL;
    struct embed_job *j = mem_try_zalloc(sizeof(*j));
    if (j == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for a request");
    }
    size_t n_tokens = 0;
    for (uint32_t i = 0; i < texts->n; i++) {
        ASSERT(texts->n_tokens[i] > 0 && texts->n_tokens[i] <= info->context_tokens);
        n_tokens += texts->n_tokens[i];
    }
    j->model = m;
    j->reader = reader;
    j->n_texts = texts->n;
    j->n_tokens_all = n_tokens;
    j->deadline_ns = texts->deadline_ns;
    j->n_tokens = job_copy(texts->n_tokens, texts->n, sizeof(*j->n_tokens));
    j->tokens = job_copy(texts->tokens, n_tokens, sizeof(*j->tokens));
    bool segments = texts->segments != NULL;
    j->segments = segments ? job_copy(texts->segments, n_tokens, sizeof(*j->segments)) : NULL;
    j->out = mem_try_zalloc_array((size_t)texts->n * info->n_out, sizeof(*j->out));
    if (j->n_tokens == NULL || j->tokens == NULL || (segments && j->segments == NULL) ||
        j->out == NULL) {
        embed_job_destroy(j);
        return err_set(err, RC_NOMEM, "out of memory for a request of %u texts", texts->n);
    }
    *out = j;
    return RC_OK;
}

void embed_job_destroy(struct embed_job *j)
{
    if (j == NULL) {
        return;
    }
    ASSERT(!list_is_linked(&j->node) && j->n_running == 0);
    mem_free(j->n_tokens);
    mem_free(j->tokens);
    mem_free(j->segments);
    mem_free(j->out);
    mem_free(j);
}

void *embed_job_reader(const struct embed_job *j)
{
    return j->reader;
}

float *embed_job_out(struct embed_job *j)
{
    return atomic_load(&j->cancelled) ? NULL : j->out;
}

bool embed_job_is_late(const struct embed_job *j)
{
    return atomic_load(&j->late);
}

/* Whether the texts can be done before the job's deadline, as far as is known. */
static enum rc check_deadline(const struct embed *q, const struct embed_job *j, struct err *err)
{
    uint64_t now_ns = clock_mono_ns(q->conf.clock);
    if (j->deadline_ns == 0) {
        return RC_OK;
    }
    if (now_ns >= j->deadline_ns) {
        return err_set(err, RC_TIMEOUT, "The request's deadline has passed.");
    }
    uint64_t left_ms = (j->deadline_ns - now_ns) / 1000000;
    uint64_t token_ns = atomic_load_explicit(&j->model->token_ns, memory_order_relaxed);
    uint64_t ms = (q->n_waiting_tokens + j->n_tokens_all) * token_ns / 1000000;
    if (ms <= left_ms) {
        return RC_OK;
    }
    err_set(err, RC_BUSY,
            "The deadline cannot be met: %llu ms are left, and the answer would take about "
            "%llu ms.",
            (unsigned long long)left_ms, (unsigned long long)ms);
    if (err != NULL) {
        err->retry_ms = (uint32_t)MIN(MAX(ms - left_ms, EMBED_RETRY_MS_MIN), EMBED_RETRY_MS_MAX);
    }
    return RC_BUSY;
}

RC embed_submit(struct embed *q, struct embed_job *j, struct err *err)
{
    bool full = q->n_jobs == EMBED_JOBS_MAX;
    bool heavy = q->n_jobs > 0 && q->n_waiting_tokens + j->n_tokens_all > EMBED_WAITING_TOKENS_MAX;
    if (full || heavy) {
        return err_set(err, RC_OVERLOADED, "too many texts are waiting");
    }
    enum rc rc = check_deadline(q, j, err);
    if (rc != RC_OK) {
        return rc;
    }
    bool pushed = ring_push(&q->inbox, j);
    ASSERT(pushed); /* it has room for EMBED_JOBS_MAX */
    q->n_jobs++;
    q->n_waiting_tokens += j->n_tokens_all;
    return RC_OK;
}

void embed_cancel(struct embed_job *j)
{
    atomic_store(&j->cancelled, true);
}

struct embed_job *embed_next(struct embed *q)
{
    struct embed_job *j = ring_pop(&q->finished);
    if (j != NULL) {
        ASSERT(q->n_jobs > 0 && q->n_waiting_tokens >= j->n_tokens_all);
        q->n_jobs--;
        q->n_waiting_tokens -= j->n_tokens_all;
    }
    return j;
}

/* ---- the line ---- */

/* The job's remaining texts leave the line's counts. */
static void line_leave(struct embed_job *j)
{
    struct embed_model *m = j->model;
    list_remove(&j->node);
    m->n_waiting_texts -= j->n_texts - j->n_taken;
    m->n_waiting_rows -= j->n_tokens_all - j->n_taken_tokens;
}

static void finish_job(struct embed *q, struct embed_job *j)
{
    bool pushed = ring_push(&q->finished, j);
    ASSERT(pushed);
    q->news = true;
}

static void take_jobs(struct embed *q)
{
    struct embed_job *j;
    while ((j = ring_pop(&q->inbox)) != NULL) {
        struct embed_model *m = j->model;
        j->since_ns = clock_mono_ns(q->conf.clock);
        list_push_back(&m->line, &j->node);
        m->n_waiting_texts += j->n_texts;
        m->n_waiting_rows += j->n_tokens_all;
    }
}

/* Those that are late, too. */
static void drop_cancelled(struct embed *q, struct embed_model *m)
{
    uint64_t now_ns = list_is_empty(&m->line) ? 0 : clock_mono_ns(q->conf.clock);
    LIST_EACH(&m->line, node)
    {
        struct embed_job *j = LIST_ENTRY(node, struct embed_job, node);
        if (j->deadline_ns != 0 && now_ns >= j->deadline_ns) {
            atomic_store(&j->late, true);
            atomic_store(&j->cancelled, true);
        }
        if (!atomic_load_explicit(&j->cancelled, memory_order_relaxed)) {
            continue;
        }
        line_leave(j);
        if (j->n_running == 0) {
            finish_job(q, j);
        }
    }
}

/* When the batch that now stands in the line closes. */
static uint64_t batch_due_ns(const struct embed *q, const struct embed_model *m)
{
    if (m->n_waiting_texts == 0) {
        return UINT64_MAX;
    }
    if (m->n_waiting_texts >= m->texts_max || m->n_waiting_rows >= m->rows_max) {
        return 0;
    }
    uint64_t oldest_ns = UINT64_MAX;
    LIST_EACH(&m->line, node)
    {
        oldest_ns = MIN(oldest_ns, LIST_ENTRY(node, struct embed_job, node)->since_ns);
    }
    return oldest_ns + q->conf.batch_ms * UINT64_C(1000000);
}

/* ---- a batch ---- */

/* Moves the job's next text into the batch, at row `at`. */
static void take_text(struct embed_model *m, struct embed_job *j, uint32_t at)
{
    struct engine_embed_batch *b = &m->batch;
    uint32_t n = j->n_tokens[j->n_taken];
    memcpy(m->tokens + at, j->tokens + j->n_taken_tokens, n * sizeof(*m->tokens));
    if (j->segments != NULL) {
        memcpy(m->segments + at, j->segments + j->n_taken_tokens, n);
    } else {
        memset(m->segments + at, 0, n);
    }
    m->places[b->n_texts] = (struct place){j, j->n_taken};
    m->n_tokens[b->n_texts++] = n;
    list_remove(&j->node);
    j->n_taken++;
    j->n_taken_tokens += n;
    j->n_running++;
    m->n_waiting_texts--;
    m->n_waiting_rows -= n;
    if (j->n_taken < j->n_texts) {
        list_push_back(&m->line, &j->node);
    }
}

static void begin_batch(struct embed *q, struct embed_model *m)
{
    uint32_t n_rows = 0;
    m->batch = (struct engine_embed_batch){
        .n_tokens = m->n_tokens, .tokens = m->tokens, .segments = m->segments, .out = m->out};
    while (m->batch.n_texts < m->texts_max && !list_is_empty(&m->line)) {
        struct embed_job *j = LIST_ENTRY(list_first(&m->line), struct embed_job, node);
        uint32_t n = j->n_tokens[j->n_taken];
        if (n_rows > 0 && n_rows + n > m->rows_max) {
            break;
        }
        take_text(m, j, n_rows);
        n_rows += n;
    }
    m->running = true;
    m->begun_ns = clock_mono_ns(q->conf.clock);
    m->n_rows = n_rows;
    if (m->n_batches_metric != NULL) {
        metric_add(m->n_batches_metric, 1);
        metric_add(m->n_texts_metric, m->batch.n_texts);
        metric_add(m->n_tokens_metric, n_rows);
    }
    atomic_fetch_add_explicit(&q->n_batches, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&q->n_texts, m->batch.n_texts, memory_order_relaxed);
    atomic_fetch_add_explicit(&q->n_tokens, n_rows, memory_order_relaxed);
    engine_embed_begin(m->engine, &m->batch);
}

static void end_batch(struct embed *q, struct embed_model *m)
{
    uint32_t n_out = engine_info(m->engine)->n_out;
    m->running = false;
    for (uint32_t i = 0; i < m->batch.n_texts; i++) {
        struct embed_job *j = m->places[i].job;
        memcpy(j->out + (size_t)m->places[i].text * n_out, m->out + (size_t)i * n_out,
               n_out * sizeof(*m->out));
        /* A cancelled one may have left the line before. */
        if (--j->n_running == 0 && !list_is_linked(&j->node)) {
            finish_job(q, j);
        }
    }
}

/* What a token of this batch took, as a running mean. */
static void note_pace(const struct embed *q, struct embed_model *m)
{
    uint64_t ns = (clock_mono_ns(q->conf.clock) - m->begun_ns) / m->n_rows;
    uint64_t before = atomic_load_explicit(&m->token_ns, memory_order_relaxed);
    uint64_t now = before != 0 ? (3 * before + ns) / 4 : ns;
    atomic_store_explicit(&m->token_ns, now, memory_order_relaxed);
}

/* False when it has nothing to do before *due_ns. */
static bool model_turn(struct embed *q, struct embed_model *m, uint64_t *due_ns)
{
    uint64_t start_ns = clock_mono_ns(q->conf.clock);
    if (!m->running) {
        drop_cancelled(q, m);
        uint64_t due = batch_due_ns(q, m);
        if (due > start_ns) {
            *due_ns = MIN(*due_ns, due);
            return false;
        }
        begin_batch(q, m);
    }
    uint64_t end_ns = start_ns + EMBED_SLICE_MS * UINT64_C(1000000);
    bool done = false;
    do {
        done = engine_embed_advance(m->engine, 1);
    } while (!done && clock_mono_ns(q->conf.clock) < end_ns);
    if (done) {
        note_pace(q, m);
        end_batch(q, m);
    }
    return true;
}

static void tell(struct embed *q)
{
    if (q->news) {
        q->news = false;
        q->conf.wake(q->conf.wake_ctx);
    }
}

bool embed_turn(struct embed *q, uint64_t *due_ns)
{
    bool ran = false;
    *due_ns = UINT64_MAX;
    take_jobs(q);
    for (uint32_t i = 0; i < q->n_models; i++) {
        ran |= model_turn(q, q->models[i], due_ns);
    }
    tell(q);
    return ran;
}

void embed_end(struct embed *q)
{
    take_jobs(q);
    for (uint32_t i = 0; i < q->n_models; i++) {
        struct embed_model *m = q->models[i];
        LIST_EACH(&m->line, node)
        {
            atomic_store(&LIST_ENTRY(node, struct embed_job, node)->cancelled, true);
        }
        for (uint32_t k = 0; m->running && k < m->batch.n_texts; k++) {
            atomic_store(&m->places[k].job->cancelled, true);
        }
        drop_cancelled(q, m);
        if (m->running) {
            /* The rest of the pass is never run: the engine is closed next. */
            end_batch(q, m);
        }
    }
    tell(q);
}

void embed_stats(const struct embed *q, struct embed_stats *out)
{
    *out = (struct embed_stats){
        .n_batches = atomic_load_explicit(&q->n_batches, memory_order_relaxed),
        .n_texts = atomic_load_explicit(&q->n_texts, memory_order_relaxed),
        .n_tokens = atomic_load_explicit(&q->n_tokens, memory_order_relaxed),
    };
}
