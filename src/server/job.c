/* job.c: the two-sided buffer between the engine thread and a reader.
 *
 * The lock is held for a memcpy at most. A job stands in the ring of updates at most once (queued),
 * so a ring with room for every job never overflows; the ring is pushed under the lock, so that a
 * reader that has seen the finish knows that no second entry can follow. */
#include "server/job.h"

#include "base/assert.h"
#include "base/mem.h"
#include "server/fair.h"
#include "server/job_engine.h"

/* ---- making ---- */

static void *job_copy(const void *src, size_t n, size_t size)
{
    void *copy = mem_try_zalloc_array(n, size);
    if (copy != NULL && n > 0) {
        memcpy(copy, src, n * size);
    }
    return copy;
}

/* The strings and their bytes in one block. */
static struct str *job_copy_strings(const struct str *src, uint32_t n)
{
    size_t bytes = n * sizeof(*src);
    for (uint32_t i = 0; i < n; i++) {
        bytes += src[i].len;
    }
    struct str *copy = mem_try_zalloc(bytes);
    if (copy == NULL) {
        return NULL;
    }
    char *text = (char *)(copy + n);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(text, src[i].ptr, src[i].len);
        copy[i] = str_make(text, src[i].len);
        text += src[i].len;
    }
    return copy;
}

enum rc job_create(struct job **out, const struct job_params *params, void *reader, struct err *err)
{
    ASSERT(params->n_prompt > 0 && params->max_tokens > 0);
    ASSERT(params->n_stops <= STOP_STRINGS_MAX);
    ASSERT(params->tenant.len < FAIR_NAME_BYTES_MAX);
    *out = NULL;
    struct job *j = mem_try_zalloc(sizeof(*j));
    if (j == NULL) {
        return err_set(err, RC_NOMEM, "out of memory for a request");
    }
    pthread_mutex_init(&j->lock, NULL);
    j->reader = reader;
    j->params = *params;
    struct job_params *p = &j->params;
    p->prompt = job_copy(params->prompt, params->n_prompt, sizeof(*params->prompt));
    p->stops = job_copy_strings(params->stops, params->n_stops);
    p->stop_tokens =
        job_copy(params->stop_tokens, params->n_stop_tokens, sizeof(*params->stop_tokens));
    p->sample.biases =
        job_copy(params->sample.biases, params->sample.n_biases, sizeof(*params->sample.biases));
    char *tenant = job_copy(params->tenant.ptr, params->tenant.len, 1);
    p->tenant = str_make(tenant, params->tenant.len);
    for (unsigned i = 0; i < 2; i++) {
        buf_init(&j->sides[i].text, SIZE_MAX / 2);
    }
    if (p->prompt == NULL || tenant == NULL || p->stops == NULL || p->stop_tokens == NULL ||
        p->sample.biases == NULL) {
        job_destroy(j);
        return err_set(err, RC_NOMEM, "out of memory for a request");
    }
    *out = j;
    return RC_OK;
}

void job_destroy(struct job *j)
{
    if (j == NULL) {
        return;
    }
    ASSERT(!j->queued);
    for (unsigned i = 0; i < 2; i++) {
        buf_deinit(&j->sides[i].text);
        mem_free(j->sides[i].tokens);
    }
    mem_free((void *)(uintptr_t)j->params.prompt);
    mem_free((void *)(uintptr_t)j->params.stops);
    mem_free((void *)(uintptr_t)j->params.tenant.ptr);
    mem_free((void *)(uintptr_t)j->params.stop_tokens);
    mem_free((void *)(uintptr_t)j->params.sample.biases);
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}

void *job_reader(const struct job *j)
{
    return j->reader;
}

/* ---- the reader's end ---- */

bool job_take(struct job *j, struct job_update *out)
{
    pthread_mutex_lock(&j->lock);
    struct job_side *side = &j->sides[j->filling];
    j->filling ^= 1u;
    j->sides[j->filling].n_tokens = 0;
    buf_reset(&j->sides[j->filling].text);
    j->queued = false;
    bool was_paused = j->paused;
    j->paused = false;
    *out = (struct job_update){
        .text = buf_str(&side->text),
        .tokens = side->tokens,
        .n_tokens = side->n_tokens,
        .n_prompt = j->params.n_prompt,
        .n_output = j->n_output,
        .n_cached = j->n_cached,
        .finish = j->finish,
        .err = j->finish == JOB_FAILED ? &j->err : NULL,
        .first_token_ns = j->first_token_ns,
    };
    pthread_mutex_unlock(&j->lock);
    return was_paused;
}

/* ---- the engine's end ---- */

static void job_queue(struct job *j, struct ring *updates)
{
    if (!j->queued) {
        j->queued = true;
        bool pushed = ring_push(updates, j);
        ASSERT(pushed);
    }
}

void job_set_cached(struct job *j, uint32_t n_tokens)
{
    pthread_mutex_lock(&j->lock);
    j->n_cached = n_tokens;
    pthread_mutex_unlock(&j->lock);
}

static void job_add_tokens(struct job_side *side, const struct job_token *tokens, uint32_t n)
{
    if (side->n_tokens + n > side->n_room) {
        side->n_room = MAX(side->n_room * 2, side->n_tokens + n);
        side->tokens = mem_realloc(side->tokens, side->n_room * sizeof(*side->tokens));
    }
    memcpy(side->tokens + side->n_tokens, tokens, n * sizeof(*tokens));
    side->n_tokens += n;
}

static bool job_is_behind(const struct job *j)
{
    const struct job_side *side = &j->sides[j->filling];
    return side->text.len > JOB_PENDING_BYTES_MAX || side->n_tokens > JOB_PENDING_TOKENS_MAX;
}

bool job_put(struct job *j, const struct job_news *news, struct ring *updates)
{
    pthread_mutex_lock(&j->lock);
    ASSERT(j->finish == JOB_RUNNING);
    struct job_side *side = &j->sides[j->filling];
    buf_add_str(&side->text, news->text);
    if (news->n_tokens > 0) {
        job_add_tokens(side, news->tokens, news->n_tokens);
    }
    j->n_output += news->n_sampled;
    if (j->first_token_ns == 0 && news->n_sampled > 0) {
        j->first_token_ns = news->now_ns;
    }
    j->paused = job_is_behind(j);
    bool ready = !j->paused;
    job_queue(j, updates);
    pthread_mutex_unlock(&j->lock);
    return ready;
}

void job_finish(struct job *j, enum job_finish finish, const struct err *err, struct ring *updates)
{
    ASSERT(finish != JOB_RUNNING);
    pthread_mutex_lock(&j->lock);
    ASSERT(j->finish == JOB_RUNNING);
    if (err != NULL) {
        j->err = *err;
    }
    j->finish = finish;
    job_queue(j, updates);
    pthread_mutex_unlock(&j->lock);
}

bool job_has_caught_up(struct job *j)
{
    pthread_mutex_lock(&j->lock);
    bool caught_up = !job_is_behind(j);
    pthread_mutex_unlock(&j->lock);
    return caught_up;
}
