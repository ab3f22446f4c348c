/* explain.c: see explain.h. */
#include "gateway/explain.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "gateway/stages.h"

enum { EXPLAIN_MSG_BYTES = 160, EXPLAIN_NS_PER_MS = 1000000 };

/* One request, with everything copied: the catalogue it knew may be gone. */
struct explain_row {
    char id[USAGE_ID_BYTES]; /* of its usage record, or one of its own */
    char request_id[GW_ID_BYTES];
    char key[META_KEY_ID_BYTES];
    char project[CAT_NAME_BYTES_MAX + 1];
    char asked[CAT_NAME_BYTES_MAX + 1], model[CAT_NAME_BYTES_MAX + 1];
    char version[CAT_NAME_BYTES_MAX + 1], upstream[CAT_NAME_BYTES_MAX + 1];
    char hedged[CAT_NAME_BYTES_MAX + 1];
    char refused_by[LIMIT_NAME_BYTES]; /* the limit's subject */
    char message[EXPLAIN_MSG_BYTES];
    enum rc rc;
    int http_status;
    int64_t at_ms, cost_nano;
    bool failed, stream, estimated;
    uint32_t n_subjects, balance;
    uint32_t prompt_tokens, cached_tokens, output_tokens;
    uint64_t budget_tokens, total_ns, first_event_ns, started_ns;
    uint64_t stage_ns[GW_STAGE_N];
    struct gw_why why;
};

/* So many a second, and what was saved up in one. */
struct explain_rate {
    uint64_t at_s;
    uint32_t n;
};

struct explain {
    pthread_mutex_t lock;     /* of all below; held to copy rows, never to write or format them */
    struct explain_row *rows; /* touched only as they fill */
    uint64_t n;               /* ever put in */
    struct explain_rate stored, failed;
};

/* ---- while it runs ---- */

static uint64_t explain_now(const struct gw_request *r)
{
    return clock_mono_ns(loop_clock(r->gateway->loop));
}

void explain_try_begin(struct gw_attempt *a)
{
    const struct gw_request *r = a->request;
    struct gw_why *why = &a->request->why;
    a->try_idx = MIN(why->n_tries, (uint32_t)EXPLAIN_TRIES_MAX - 1);
    why->n_tries++;
    struct explain_try *t = &why->tries[a->try_idx];
    *t = (struct explain_try){.started_ns = explain_now(r)};
    str_copy(t->upstream, sizeof(t->upstream), a->upstream->name);
}

void explain_try_end(struct gw_attempt *a, const char *what)
{
    struct gw_request *r = a->request;
    if (r->why.n_tries > 0) {
        struct explain_try *t = &r->why.tries[a->try_idx];
        t->ended_ns = explain_now(r);
        t->status = a->status;
        str_copy(t->what, sizeof(t->what), str_from(what != NULL ? what : ""));
    }
}

/* ---- as JSON ---- */

static void explain_ms(struct json_writer *w, const char *name, uint64_t ns)
{
    json_write_member_f64(w, name, (double)(ns / 1000) / 1000.0);
}

static void explain_write_model(struct json_writer *w, const struct explain_row *row)
{
    static const char *const whys[] = {
        [EXPLAIN_VERSION_NONE] = "none was chosen",
        [EXPLAIN_VERSION_ONLY] = "the only version",
        [EXPLAIN_VERSION_ASKED] = "asked for by name",
        [EXPLAIN_VERSION_WEIGHT] = "drawn by weight",
        [EXPLAIN_VERSION_OTHER] = "the version drawn by weight had no server that was well",
        [EXPLAIN_VERSION_FALLBACK] = "no server of the model was well: its fallback",
    };
    json_write_member_cstr(w, "asked", row->asked);
    json_write_member_cstr(w, "used", row->model);
    json_write_member_cstr(w, "version", row->version);
    json_write_member_cstr(w, "why", whys[row->why.version]);
}

static void explain_write_limit(struct json_writer *w, const struct explain_row *row)
{
    static const char *const kinds[] = {
        [LIMIT_NONE] = "",
        [LIMIT_REQUESTS] = "requests_per_minute",
        [LIMIT_TOKENS] = "tokens_per_minute",
        [LIMIT_DAY] = "tokens_per_day",
        [LIMIT_CONCURRENT] = "concurrent",
        [LIMIT_MONEY] = "money_per_month",
        [LIMIT_ROOM] = "limited_subjects",
        [LIMIT_ASK] = "",
        [LIMIT_AWAY] = "store_away",
    };
    const struct limit_result *res = &row->why.limit;
    json_write_member_bool(w, "checked", row->why.limited);
    json_write_member_u64(w, "subjects", row->n_subjects);
    json_write_member_u64(w, "asked_output_tokens", row->why.asked_output_tokens);
    json_write_member_u64(w, "granted_output_tokens", res->output_tokens);
    json_write_member_u64(w, "budget_tokens", row->budget_tokens);
    if (res->refused != LIMIT_NONE) {
        json_write_name(w, "refused");
        json_write_object_begin(w);
        json_write_member_cstr(w, "by", row->refused_by);
        json_write_member_cstr(w, "limit", kinds[res->refused]);
        json_write_member_u64(w, "is", res->limit);
        json_write_member_u64(w, "left", res->left);
        explain_ms(w, "retry_ms", res->retry_ns);
        json_write_object_end(w);
    }
}

static void explain_write_tries(struct json_writer *w, const struct explain_row *row)
{
    uint32_t n = MIN(row->why.n_tries, (uint32_t)EXPLAIN_TRIES_MAX);
    uint64_t end_ns = row->started_ns + row->total_ns;
    json_write_array_begin(w);
    for (uint32_t i = 0; i < n; i++) {
        const struct explain_try *t = &row->why.tries[i];
        json_write_object_begin(w);
        json_write_member_cstr(w, "server", t->upstream);
        json_write_member_i64(w, "http_status", t->status);
        explain_ms(w, "ms", (t->ended_ns != 0 ? t->ended_ns : end_ns) - t->started_ns);
        json_write_member_cstr(w, "broke", t->what);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

static void explain_write_server(struct json_writer *w, const struct explain_row *row)
{
    static const char *const policies[] = {
        [CAT_ROUND_ROBIN] = "round_robin",
        [CAT_LEAST_OUTSTANDING] = "least_outstanding",
        [CAT_TWO_CHOICES] = "two_choices",
        [CAT_PREFIX_AFFINITY] = "prefix_affinity",
    };
    json_write_member_cstr(w, "name", row->upstream);
    json_write_member_cstr(w, "hedged", row->hedged);
    json_write_member_cstr(w, "balance", policies[row->balance]);
    json_write_member_u64(w, "well", row->why.n_well);
    json_write_member_u64(w, "of", row->why.n_servers);
    json_write_member_u64(w, "outstanding", row->why.outstanding);
    json_write_member_u64(w, "attempts", row->why.n_tries);
    json_write_name(w, "tried");
    explain_write_tries(w, row);
}

static void explain_write_times(struct json_writer *w, const struct explain_row *row)
{
    for (unsigned i = 0; i < GW_STAGE_N; i++) {
        explain_ms(w, stages_name(i).ptr, row->stage_ns[i]); /* a literal */
    }
    explain_ms(w, "first_event", row->first_event_ns);
    explain_ms(w, "total", row->total_ns);
}

static void explain_write_usage(struct json_writer *w, const struct explain_row *row)
{
    json_write_member_u64(w, "prompt_tokens", row->prompt_tokens);
    json_write_member_u64(w, "cached_tokens", row->cached_tokens);
    json_write_member_u64(w, "output_tokens", row->output_tokens);
    json_write_member_i64(w, "cost_nano", row->cost_nano);
    json_write_member_bool(w, "estimated", row->estimated);
}

static void explain_part(struct json_writer *w, const char *name, const struct explain_row *row,
                         void (*write)(struct json_writer *w, const struct explain_row *row))
{
    json_write_name(w, name);
    json_write_object_begin(w);
    write(w, row);
    json_write_object_end(w);
}

static void explain_write(struct buf *out, const struct explain_row *row)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "request_id", row->request_id);
    json_write_member_cstr(&w, "id", row->id);
    json_write_member_i64(&w, "at_ms", row->at_ms);
    json_write_member_cstr(&w, "key", row->key);
    json_write_member_cstr(&w, "project", row->project);
    json_write_member_i64(&w, "http_status", row->http_status);
    json_write_member_bool(&w, "failed", row->failed);
    json_write_member_bool(&w, "stream", row->stream);
    json_write_member_cstr(&w, "error", row->rc != RC_OK ? err_row(row->rc)->code : "");
    json_write_member_cstr(&w, "message", row->message);
    explain_part(&w, "model", row, explain_write_model);
    explain_part(&w, "limits", row, explain_write_limit);
    explain_part(&w, "server", row, explain_write_server);
    explain_part(&w, "ms", row, explain_write_times);
    explain_part(&w, "usage", row, explain_write_usage);
    json_write_object_end(&w);
}

bool explain_find(struct explain *e, struct str id, struct buf *out)
{
    struct explain_row found;
    bool any = false;
    pthread_mutex_lock(&e->lock);
    for (uint64_t n = e->n; !any && n > 0 && e->n - n < EXPLAIN_ROWS; n--) {
        const struct explain_row *row = &e->rows[(n - 1) % EXPLAIN_ROWS];
        if (str_is(id, row->request_id) || str_is(id, row->id)) {
            found = *row;
            any = true;
        }
    }
    pthread_mutex_unlock(&e->lock);
    if (any) {
        explain_write(out, &found);
    }
    return any;
}

/* ---- the end ---- */

static void explain_text(char *out, size_t bytes, struct str s)
{
    (void)str_copy(out, bytes, s);
}

static void explain_fill_names(struct explain_row *row, struct gw_request *r)
{
    if (r->record.id[0] != '\0') {
        explain_text(row->id, sizeof(row->id), str_from(r->record.id));
    } else {
        snprintf(row->id, sizeof(row->id), "none-%016llx",
                 (unsigned long long)rng_u64(&r->gateway->rng));
    }
    explain_text(row->request_id, sizeof(row->request_id), str_from(r->id));
    explain_text(row->key, sizeof(row->key), r->who.id);
    explain_text(row->project, sizeof(row->project), r->who.project);
    explain_text(row->asked, sizeof(row->asked), r->model);
    const struct gw_attempt *a = r->attempt;
    if (a->model_row != NULL) {
        explain_text(row->model, sizeof(row->model), a->model_row->name);
        row->balance = a->model_row->balance;
    }
    if (a->version != NULL) {
        explain_text(row->version, sizeof(row->version), a->version->name);
    }
    if (a->upstream != NULL) {
        explain_text(row->upstream, sizeof(row->upstream), a->upstream->name);
    }
    explain_text(row->hedged, sizeof(row->hedged), gw_hedge_other(r));
    if (r->why.limit.refused != LIMIT_NONE) {
        explain_text(row->refused_by, sizeof(row->refused_by),
                     r->subjects[r->why.limit.subject].name);
    }
}

static void explain_fill(struct explain_row *row, struct gw_request *r, int http_status)
{
    uint64_t now = explain_now(r);
    *row = (struct explain_row){
        .rc = r->err.code,
        .http_status = http_status,
        .at_ms = (int64_t)(r->started_wall_ns / EXPLAIN_NS_PER_MS),
        .cost_nano = r->cost_nano,
        .failed = r->failed,
        .stream = r->stream,
        .estimated = r->estimated,
        .n_subjects = r->n_subjects,
        .prompt_tokens = r->attempt->prompt_tokens,
        .cached_tokens = r->attempt->cached_tokens,
        .output_tokens = r->attempt->output_tokens,
        .budget_tokens = r->budget_tokens,
        .total_ns = now - r->started_ns,
        .first_event_ns = r->first_event_ns != 0 ? r->first_event_ns - r->started_ns : 0,
        .started_ns = r->started_ns,
        .why = r->why,
    };
    memcpy(row->stage_ns, r->stage_ns, sizeof(row->stage_ns));
    if (r->err.code != RC_OK) {
        explain_text(row->message, sizeof(row->message), str_from(r->err.msg));
    }
    explain_fill_names(row, r);
}

static bool explain_may(struct explain_rate *rate, uint64_t now_s, uint32_t per_s)
{
    if (rate->at_s != now_s) {
        *rate = (struct explain_rate){.at_s = now_s};
    }
    return rate->n++ < per_s;
}

/* Keeps it in memory; whether it goes into the store too. */
static bool explain_keep(struct explain *e, const struct explain_row *row, uint64_t now_s)
{
    uint64_t wait_ns = row->first_event_ns != 0 ? row->first_event_ns : row->total_ns;
    bool odd =
        row->failed || row->http_status >= 400 || wait_ns / EXPLAIN_NS_PER_MS >= EXPLAIN_SLOW_MS;
    pthread_mutex_lock(&e->lock);
    e->rows[e->n++ % EXPLAIN_ROWS] = *row;
    bool may = odd ? explain_may(&e->failed, now_s, EXPLAIN_FAILED_PER_S)
                   : explain_may(&e->stored, now_s, EXPLAIN_STORED_PER_S);
    pthread_mutex_unlock(&e->lock);
    return may;
}

static void explain_store(struct journal *j, const struct explain_row *row)
{
    struct buf out;
    buf_init(&out, META_DECISION_BYTES_MAX);
    explain_write(&out, row);
    if (buf_ok(&out)) {
        (void)journal_note(j, str_from(row->id), str_from(row->request_id), row->at_ms,
                           buf_str(&out));
    }
    buf_deinit(&out);
}

void explain_put(struct gw_request *r, int http_status)
{
    struct journal *j = r->gateway->conf.journal;
    struct explain_row row;
    if (r->who.kind == PRINCIPAL_NONE || !gw_kind_has_body(r->kind)) {
        return;
    }
    explain_fill(&row, r, http_status);
    bool stored = explain_keep(r->gateway->shared->explain, &row,
                               (row.started_ns + row.total_ns) / 1000000000u);
    if (stored && j != NULL) {
        explain_store(j, &row);
    }
}

/* ---- life ---- */

void explain_create(struct explain **out)
{
    struct explain *e = mem_zalloc(sizeof(*e));
    pthread_mutex_init(&e->lock, NULL);
    e->rows = mem_zalloc_array(EXPLAIN_ROWS, sizeof(*e->rows));
    *out = e;
}

void explain_destroy(struct explain *e)
{
    if (e != NULL) {
        pthread_mutex_destroy(&e->lock);
        mem_free(e->rows);
        mem_free(e);
    }
}
