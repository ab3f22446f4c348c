/* emit.c: see emit.h. Order: token → detokenizer (whole characters) → stop matcher → job.
 *
 * A token's log-probability is shown together with the last byte of its text, so that a token
 * that became part of a stop string is never shown. */
#include "server/emit.h"

#include "base/assert.h"
#include "base/mem.h"

/* Longer than any token's text; the vocabulary reader refuses longer ones. */
enum { EMIT_TEXT_BYTES_MAX = 1 << 20 };

void emit_init(struct emit *e, struct job *job, const struct vocab *vocab)
{
    *e = (struct emit){.job = job, .vocab = vocab};
    const struct job_params *p = &job->params;
    detok_init(&e->detok, vocab,
               (struct detok_options){.special = p->show_special, .at_start = false});
    stop_init(&e->stop, p->stops, p->n_stops);
    buf_init(&e->chars, EMIT_TEXT_BYTES_MAX);
    buf_init(&e->shown, EMIT_TEXT_BYTES_MAX);
}

void emit_deinit(struct emit *e)
{
    stop_deinit(&e->stop);
    buf_deinit(&e->chars);
    buf_deinit(&e->shown);
    mem_free(e->held);
    e->held = NULL;
}

static void emit_hold(struct emit *e, const struct sample_result *s)
{
    if (e->n_held == e->n_room) {
        e->n_room = MAX(e->n_room * 2, 8u);
        e->held = mem_realloc(e->held, e->n_room * sizeof(*e->held));
    }
    struct emit_held *h = &e->held[e->n_held++];
    *h = (struct emit_held){.token = {.id = s->token, .logprob = s->logprob, .n_top = s->n_top},
                            .text_end = e->n_chars_bytes};
    memcpy(h->token.top, s->top, s->n_top * sizeof(s->top[0]));
}

/* Sends the shown text and the tokens that it completes. Returns false when the reader is slow. */
static bool emit_send(struct emit *e, uint32_t n_sampled, uint64_t now_ns, struct ring *updates)
{
    e->n_shown_bytes += e->shown.len;
    struct job_token ready[16];
    uint32_t n = 0;
    uint32_t from = 0;
    bool quick = true;
    do {
        for (n = 0;
             from < e->n_held && n < ARRAY_LEN(ready) && e->held[from].text_end <= e->n_shown_bytes;
             n++, from++) {
            ready[n] = e->held[from].token;
        }
        struct job_news news = {buf_str(&e->shown), ready, n, n_sampled, now_ns};
        quick = job_put(e->job, &news, updates);
        buf_reset(&e->shown);
        n_sampled = 0;
    } while (n == ARRAY_LEN(ready));
    if (from > 0) {
        e->n_held -= from;
        memmove(e->held, e->held + from, e->n_held * sizeof(*e->held));
    }
    return quick;
}

static bool emit_is_end(const struct emit *e, int32_t token)
{
    const struct job_params *p = &e->job->params;
    for (uint32_t i = 0; i < p->n_stop_tokens && e->n_tokens > p->sample.min_tokens; i++) {
        if (p->stop_tokens[i] == token) {
            return true;
        }
    }
    return vocab_is_eog(e->vocab, token) && !p->sample.ignore_eos;
}

/* Moves the new characters to what is shown; true when they completed a stop string. Before
 * min_tokens nothing is matched. */
static bool emit_match(struct emit *e)
{
    if (e->n_tokens <= e->job->params.sample.min_tokens) {
        buf_add_str(&e->shown, buf_str(&e->chars));
        return false;
    }
    return stop_push(&e->stop, buf_str(&e->chars), &e->shown);
}

enum emit_result emit_token(struct emit *e, const struct sample_result *sampled, uint64_t now_ns,
                            struct ring *updates)
{
    buf_reset(&e->chars);
    buf_reset(&e->shown);
    e->n_tokens++;
    if (emit_is_end(e, sampled->token)) {
        detok_finish(&e->detok, &e->chars);
        if (!emit_match(e)) {
            stop_finish(&e->stop, &e->shown);
        }
        (void)emit_send(e, 1, now_ns, updates);
        return EMIT_STOP;
    }
    detok_push(&e->detok, sampled->token, &e->chars);
    e->n_chars_bytes += e->chars.len;
    if (e->job->params.sample.want_logprob) {
        emit_hold(e, sampled);
    }
    bool hit = emit_match(e);
    bool quick = emit_send(e, 1, now_ns, updates);
    return hit ? EMIT_STOP : quick ? EMIT_MORE : EMIT_SLOW;
}

void emit_flush(struct emit *e, uint64_t now_ns, struct ring *updates)
{
    buf_reset(&e->chars);
    buf_reset(&e->shown);
    detok_finish(&e->detok, &e->chars);
    e->n_chars_bytes += e->chars.len;
    if (!stop_push(&e->stop, buf_str(&e->chars), &e->shown)) {
        stop_finish(&e->stop, &e->shown);
    }
    (void)emit_send(e, 0, now_ns, updates);
}
