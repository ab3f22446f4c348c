/* stage_answer.c: whether this request's answer is one that is kept (answer.h): it carries an
 * Idempotency-Key, asks to be resumable (bud-resume: seconds), or goes on behind an event that it
 * names (Last-Event-ID). All others go on at once.
 *
 * What is not known here may be another gateway's: Redis is asked, where there is one, before the
 * request costs anything; while it is away the request is refused.
 *
 * Who asks again gets the answer that is there, as it was, and pays nothing: limits and usage come
 * behind this stage. Who may have the model was decided before it, and is decided anew each time.
 */
#include "base/assert.h"
#include "gateway/answer_exchange.h"
#include "gateway/stages.h"
#include "obs/metric.h"

struct answer_wish {
    struct answer_ask ask;
    uint64_t unread_ms; /* the work goes on that long when nobody reads */
};

/* The value of a header that may come once; false: it came twice. */
static bool answer_header(const struct http_head *head, struct str name, struct str *value)
{
    *value = STR_NULL;
    for (uint32_t i = 0; i < head->n_headers; i++) {
        const struct http_header *h = &head->headers[i];
        if (str_eq_nocase(h->name, name)) {
            if (value->ptr != NULL) {
                return false;
            }
            *value = h->value.ptr != NULL ? h->value : STR_LIT("");
        }
    }
    return true;
}

static enum rc answer_read_resume(struct gw_request *r, struct str text, struct answer_wish *w)
{
    uint64_t seconds = GATEWAY_RESUME_MS / 1000;
    if (text.ptr != NULL && (!str_to_u64(text, &seconds) || seconds > UINT32_MAX)) {
        return err_set(&r->err, RC_INVALID, "bud-resume: not a number of seconds.");
    }
    w->unread_ms = MIN(seconds * 1000, r->gateway->conf.resume_ms_max);
    return RC_OK;
}

/* RC_OK and *wanted false: nothing of it. */
static enum rc answer_read_wish(struct gw_request *r, struct answer_wish *w, bool *wanted)
{
    const struct http_head *head = http_exchange_head(r->x);
    struct str resume;
    struct answer_ask *ask = &w->ask;
    bool once = answer_header(head, STR_LIT("idempotency-key"), &ask->key) &&
                answer_header(head, STR_LIT("bud-resume"), &resume) &&
                answer_header(head, STR_LIT("last-event-id"), &ask->last);
    if (!once) {
        return err_set(&r->err, RC_INVALID,
                       "Idempotency-Key, bud-resume and Last-Event-ID may come once each.");
    }
    ask->last = ask->last.len > 0 ? ask->last : STR_NULL;
    *wanted = ask->key.ptr != NULL || resume.ptr != NULL || ask->last.ptr != NULL;
    if (*wanted && ask->key.ptr != NULL && !answer_key_ok(ask->key)) {
        return err_set(&r->err, RC_INVALID,
                       "Idempotency-Key: 1 to %d printable ASCII characters are wanted.",
                       ANSWER_KEY_BYTES_MAX);
    }
    return *wanted ? answer_read_resume(r, resume, w) : RC_OK;
}

static enum gw_result answer_refuse(struct gw_request *r, enum answer_claim why)
{
    switch (why) {
    case ANSWER_OTHER_BODY:
        err_set(&r->err, RC_KEY_REUSED,
                "This Idempotency-Key was used with another request body before.");
        break;
    case ANSWER_LOST:
        err_set(&r->err, RC_NOT_FOUND,
                "Nothing is kept behind this Last-Event-ID, or not any more. Without it the "
                "request begins anew.");
        break;
    case ANSWER_OVERRUN:
        err_set(&r->err, RC_KEY_REUSED,
                "The answer to this Idempotency-Key has grown too long to be given again from its "
                "beginning.");
        break;
    case ANSWER_AWAY:
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("away")), 1);
        err_set(&r->err, RC_UNAVAILABLE,
                "The store that keeps answers does not answer. Please try again.");
        break;
    default:
        metric_add(metric_with1(METRIC_REQUESTS_REFUSED, STR_LIT("answers")), 1);
        err_set(&r->err, RC_OVERLOADED, "Too many answers are kept for another one.");
    }
    return GW_FAIL;
}

/* The work goes on as a request of its own; this one reads. */
static enum gw_result answer_lead(struct gw_request *r, struct answer *a, uint64_t unread_ms)
{
    struct answer_writer *w = answer_writer_create(r, a, unread_ms);
    if (w == NULL || answer_reader_start(r, a, 0, true) != RC_OK) {
        if (w != NULL) {
            http_exchange_abort(&w->x);
        }
        err_set(&r->err, RC_NOMEM, "Out of memory for an answer that is to be kept.");
        return GW_FAIL;
    }
    stages_resume(w->work, GW_NEXT);
    return GW_WAIT;
}

static enum gw_result answer_follow(struct gw_request *r, struct answer *a, uint64_t from)
{
    enum rc rc = answer_reader_start(r, a, from, false);
    answer_put(a);
    if (rc != RC_OK) {
        err_set(&r->err, rc, "Out of memory for an answer that is kept.");
        return GW_FAIL;
    }
    stages_unhold(r, &r->body);
    r->replayed = true;
    return GW_WAIT;
}

static enum gw_result answer_decide(struct gw_request *r, enum answer_claim claim, struct answer *a,
                                    uint64_t from)
{
    gateway_note_answers(r->gateway);
    if (claim == ANSWER_CLAIMED) {
        metric_add(metric_with1(METRIC_ANSWERS, STR_LIT("kept")), 1);
        return answer_lead(r, a, r->unread_ms);
    }
    if (claim == ANSWER_FOUND) {
        metric_add(metric_with1(METRIC_ANSWERS, STR_LIT("replayed")), 1);
        return answer_follow(r, a, from);
    }
    return answer_refuse(r, claim);
}

/* ---- what Redis says ---- */

static void answer_on_said(void *ctx, enum answer_claim claim, struct answer *a, uint64_t from)
{
    struct gw_request *r = ctx;
    r->answer_wait = NULL;
    stages_resume(r, answer_decide(r, claim, a, from));
}

static enum gw_result answer_wait(struct gw_request *r, const struct answer_ask *ask)
{
    r->answer_wait = answer_wait_start(r->gateway->hub, ask, answer_on_said, r);
    if (r->answer_wait == NULL) {
        err_set(&r->err, RC_NOMEM, "Out of memory for an answer that is to be kept.");
        return GW_FAIL;
    }
    return GW_WAIT;
}

void stage_answer_abandon(struct gw_request *r)
{
    if (r->answer_wait != NULL) {
        answer_wait_cancel(r->answer_wait);
        r->answer_wait = NULL;
    }
}

/* ---- the stage ---- */

static struct str answer_scope(struct gw_request *r)
{
    return arena_printf(&r->arena, "%.*s\n%.*s\n%d", STR(r->who.project), STR(r->who.id),
                        (int)r->kind);
}

static enum gw_result answer_claim(struct gw_request *r, struct answer_wish *w)
{
    struct answer *a = NULL;
    uint64_t from = 0;
    w->ask.scope = answer_scope(r);
    w->ask.body = buf_str(&r->body);
    if (w->ask.scope.ptr == NULL) {
        err_set(&r->err, RC_NOMEM, "Out of memory for an answer that is to be kept.");
        return GW_FAIL;
    }
    r->unread_ms = w->unread_ms;
    enum answer_claim claim = answers_claim(r->gateway->shared->answers, &w->ask, &a, &from);
    return claim == ANSWER_ASK ? answer_wait(r, &w->ask) : answer_decide(r, claim, a, from);
}

enum gw_result stage_answer(struct gw_request *r)
{
    struct answer_wish wish = {0};
    bool wanted = false;
    if (!gw_kind_has_body(r->kind)) {
        return GW_NEXT;
    }
    if (answer_read_wish(r, &wish, &wanted) != RC_OK) {
        return GW_FAIL;
    }
    return wanted ? answer_claim(r, &wish) : GW_NEXT;
}
