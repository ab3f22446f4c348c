/* redis.c: see redis.h.
 *
 *   AWAY ──timer──> CALLING ──connected: AUTH, SELECT, SCRIPT LOAD──> GREETING ──all OK──> READY
 *     ^                │                                                  │                  │
 *     └────────────────┴──────────── redis_on_close ──────────────────────┴──────────────────┘
 *
 * Invariants
 * 1. `pending` holds what was sent and not answered, oldest first: a ring of REDIS_PENDING_MAX.
 * 2. The connection's deadline is that of the oldest one; without any there is none.
 * 3. While commands end (redis_end_all) nothing is sent: the state is AWAY by then.
 * 4. The struct outlives its connection: a destroyed one goes back when that has closed. */
#include "stores/redis.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "net/conn.h"
#include "net/loop.h"
#include "net/resolve.h"
#include "net/tls_keep.h"
#include "obs/log.h"
#include "obs/metric.h"

enum { REDIS_SHA_BYTES = 40, REDIS_WORDS_MAX = 1 << 16 };
_Static_assert((REDIS_PENDING_MAX & (REDIS_PENDING_MAX - 1)) == 0, "a ring's mask");

enum redis_state { REDIS_AWAY, REDIS_CALLING, REDIS_GREETING, REDIS_READY };

struct redis_pending {
    redis_cb cb; /* NULL: forgotten */
    void *ctx;
    uint64_t due_ms;
};

struct redis_watcher {
    void (*on_state)(void *ctx, bool ready);
    void *ctx;
};

struct redis_script {
    const char *text;
    char sha[REDIS_SHA_BYTES + 1];
};

struct redis {
    struct loop *loop;
    struct conn *conn;
    struct redis_reader *reader;
    enum redis_state state;
    bool destroyed, in_callback;
    bool told, told_ready; /* the watchers know; what they know */
    uint64_t command_ms, connect_ms, retry_ms, created_ms;
    struct loop_timer retry;
    struct loop_task reclaim;
    struct err err; /* why it is away */

    struct redis_pending pending[REDIS_PENDING_MAX];
    uint32_t head, n_pending;
    uint32_t n_greetings; /* answers that are still to come before it is ready */
    struct buf out;       /* one command being written */

    struct redis_script scripts[REDIS_SCRIPTS_MAX];
    uint32_t n_scripts, n_loaded;
    struct redis_watcher watchers[REDIS_WATCHERS_MAX];
    uint32_t n_watchers;

    char url[REDIS_URL_BYTES_MAX];
    struct secret user, password;
    uint64_t db;
    bool tls;
    struct str host; /* in `url`, for TLS and the resolver */
    struct addr addr;
    bool resolved;
    struct resolve *resolve;
    struct tls_keep *keep;
};

/* ---- the URL ---- */

struct redis_where {
    struct str where, host; /* HOST:PORT or unix:PATH; the host alone */
    uint64_t db;
    bool tls;
};

static enum rc redis_url_read(struct str url, struct redis_where *out, struct err *err)
{
    *out = (struct redis_where){.where = url};
    if (url.len == 0 || url.len >= REDIS_URL_BYTES_MAX) {
        return err_set(err, RC_INVALID, "a Redis URL has 1 to %d bytes", REDIS_URL_BYTES_MAX - 1);
    }
    if (str_starts(url, STR_LIT("unix:"))) {
        struct addr addr;
        return addr_parse(&addr, url, err);
    }
    out->tls = str_starts(url, STR_LIT("rediss://"));
    if (!out->tls && !str_starts(url, STR_LIT("redis://"))) {
        return err_set(err, RC_INVALID,
                       "redis URL: redis://HOST:PORT[/DB], rediss:// or unix:PATH");
    }
    struct str rest = str_slice(url, out->tls ? 9 : 8, url.len);
    if (str_find(rest, STR_LIT("@")) < rest.len) {
        return err_set(err, RC_INVALID,
                       "redis URL: user and password stand in settings of their own, not in it");
    }
    out->where = str_cut(&rest, '/');
    if (rest.len > 0 && (!str_to_u64(rest, &out->db) || out->db > 65535)) {
        return err_set(err, RC_INVALID, "redis URL: the database is a number of at most 65535");
    }
    struct addr addr;
    if (!addr_is_name(out->where)) {
        enum rc rc = addr_parse(&addr, out->where, err);
        if (rc != RC_OK) {
            (void)err_context(err, "redis URL");
            return rc;
        }
    }
    size_t colon = out->where.len;
    while (colon > 0 && out->where.ptr[colon - 1] != ':') {
        colon--;
    }
    out->host = str_slice(out->where, 0, colon > 0 ? colon - 1 : 0);
    if (str_starts(out->host, STR_LIT("["))) {
        out->host = str_slice(out->host, 1, out->host.len - 1);
    }
    return RC_OK;
}

enum rc redis_url_check(struct str url, struct err *err)
{
    struct redis_where where;
    return redis_url_read(url, &where, err);
}

/* ---- state ---- */

static void redis_tell(struct redis *r)
{
    bool ready = r->state == REDIS_READY;
    if ((r->told && r->told_ready == ready) || r->destroyed) {
        return;
    }
    r->told = true;
    r->told_ready = ready;
    metric_set(metric_get(METRIC_REDIS_UP), ready ? 1 : 0);
    if (ready) {
        log_event(LOG_REDIS_WELL, log_cstr(LOG_KEY_ADDRESS, r->url));
    } else {
        log_event(LOG_REDIS_AWAY, log_cstr(LOG_KEY_ADDRESS, r->url), log_err(&r->err),
                  log_err_code(&r->err));
    }
    for (uint32_t i = 0; i < r->n_watchers && !r->destroyed; i++) {
        r->watchers[i].on_state(r->watchers[i].ctx, ready);
    }
}

/* Every command under way ends. */
static void redis_end_all(struct redis *r, enum rc rc)
{
    while (r->n_pending > 0) {
        struct redis_pending p = r->pending[r->head];
        r->head = (r->head + 1) & (REDIS_PENDING_MAX - 1);
        r->n_pending--;
        if (p.cb != NULL) {
            metric_add(metric_with1(METRIC_REDIS_COMMANDS, STR_LIT("lost")), 1);
            p.cb(p.ctx, rc, NULL);
        }
    }
}

static void redis_free(void *ctx)
{
    struct redis *r = ctx;
    redis_reader_destroy(r->reader);
    buf_deinit(&r->out);
    secret_wipe(&r->user);
    secret_wipe(&r->password);
    mem_free(r);
}

static void redis_on_close(void *ctx, enum rc why)
{
    struct redis *r = ctx;
    r->conn = NULL;
    if (r->destroyed) {
        loop_reclaim(r->loop, &r->reclaim);
        return;
    }
    if (r->err.code == RC_OK) {
        err_set(&r->err, why != RC_OK ? why : RC_UNAVAILABLE, "redis: %s",
                r->state == REDIS_CALLING ? "no connection" : "the connection broke");
    }
    bool was_ready = r->state == REDIS_READY;
    r->state = REDIS_AWAY;
    redis_reader_destroy(r->reader);
    redis_reader_create(&r->reader);
    r->retry_ms = was_ready ? REDIS_RETRY_MS : MIN(2 * r->retry_ms, (uint64_t)REDIS_RETRY_MS_MAX);
    r->in_callback = true;
    redis_end_all(r, why == RC_TIMEOUT ? RC_TIMEOUT : RC_UNAVAILABLE);
    redis_tell(r);
    r->in_callback = false;
    if (r->destroyed) {
        loop_reclaim(r->loop, &r->reclaim);
    } else {
        loop_timer_start(&r->retry, r->retry_ms);
    }
}

static void redis_break(struct redis *r, enum rc why)
{
    if (r->conn != NULL) {
        conn_close(r->conn, why);
    }
}

/* ---- sending ---- */

static void redis_set_deadline(struct redis *r)
{
    if (r->n_pending == 0) {
        conn_deadline_clear(r->conn);
        return;
    }
    uint64_t now = loop_now_ms(r->loop);
    uint64_t due = r->pending[r->head].due_ms;
    conn_deadline_set(r->conn, due > now ? due - now : 1);
}

static void redis_write_word(struct buf *b, struct str word)
{
    buf_add_byte(b, '$');
    buf_add_u64(b, word.len);
    buf_add_cstr(b, "\r\n");
    buf_add_str(b, word);
    buf_add_cstr(b, "\r\n");
}

/* `first` stand before `words`, in one command. */
static enum rc redis_put(struct redis *r, const struct str *first, uint32_t n_first,
                         const struct str *words, uint32_t n, struct redis_pending how)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < n && bytes <= REDIS_QUEUED_BYTES_MAX; i++) {
        bytes += MIN(words[i].len, (size_t)REDIS_QUEUED_BYTES_MAX + 1);
    }
    if (r->n_pending == REDIS_PENDING_MAX || n > REDIS_WORDS_MAX ||
        conn_queued_bytes(r->conn) + bytes > REDIS_QUEUED_BYTES_MAX) {
        return RC_OVERLOADED;
    }
    buf_reset(&r->out);
    buf_add_byte(&r->out, '*');
    buf_add_u64(&r->out, (uint64_t)n_first + n);
    buf_add_cstr(&r->out, "\r\n");
    for (uint32_t i = 0; i < n_first; i++) {
        redis_write_word(&r->out, first[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        redis_write_word(&r->out, words[i]);
    }
    if (!buf_ok(&r->out)) {
        return RC_OVERLOADED;
    }
    conn_write(r->conn, buf_str(&r->out));
    r->pending[(r->head + r->n_pending) & (REDIS_PENDING_MAX - 1)] = how;
    if (++r->n_pending == 1) {
        redis_set_deadline(r);
    }
    return RC_OK;
}

static enum rc redis_send_all(struct redis *r, const struct str *first, uint32_t n_first,
                              const struct str *words, uint32_t n, struct redis_pending how)
{
    ASSERT(how.cb != NULL && n_first + n > 0);
    if (r->state != REDIS_READY) {
        return RC_UNAVAILABLE;
    }
    how.due_ms = loop_now_ms(r->loop) + r->command_ms;
    return redis_put(r, first, n_first, words, n, how);
}

enum rc redis_send(struct redis *r, const struct str *words, uint32_t n, redis_cb cb, void *ctx)
{
    return redis_send_all(r, NULL, 0, words, n, (struct redis_pending){.cb = cb, .ctx = ctx});
}

enum rc redis_eval(struct redis *r, uint32_t script, const struct str *words, uint32_t n,
                   uint32_t n_keys, redis_cb cb, void *ctx)
{
    ASSERT(script < r->n_scripts && n_keys <= n);
    char count[STR_U64_BYTES];
    const struct str first[] = {STR_LIT("EVALSHA"), str_from(r->scripts[script].sha),
                                str_make(count, str_put_u64(count, n_keys))};
    return redis_send_all(r, first, ARRAY_LEN(first), words, n,
                          (struct redis_pending){.cb = cb, .ctx = ctx});
}

void redis_forget(struct redis *r, const void *ctx)
{
    for (uint32_t i = 0; i < r->n_pending; i++) {
        struct redis_pending *p = &r->pending[(r->head + i) & (REDIS_PENDING_MAX - 1)];
        p->cb = p->ctx == ctx ? NULL : p->cb;
    }
}

/* ---- greeting ---- */

static void redis_greeted(struct redis *r, const struct redis_reply *reply)
{
    struct redis_script *s = &r->scripts[r->n_loaded];
    if (reply->type == REDIS_FAILED) {
        err_set(&r->err, RC_UNAVAILABLE, "redis refuses: %.*s",
                (int)MIN(reply->text.len, (size_t)200), reply->text.ptr);
        redis_break(r, RC_UNAVAILABLE);
        return;
    }
    if (r->n_greetings-- <= r->n_scripts) { /* the last ones are those of the scripts */
        if (reply->type != REDIS_TEXT || reply->text.len != REDIS_SHA_BYTES ||
            !str_copy(s->sha, sizeof(s->sha), reply->text)) {
            err_set(&r->err, RC_CORRUPT, "redis: not the digest of a script");
            redis_break(r, RC_CORRUPT);
            return;
        }
        r->n_loaded++;
    }
    if (r->n_greetings == 0) {
        r->state = REDIS_READY;
        r->retry_ms = REDIS_RETRY_MS;
        r->err = (struct err){0};
        redis_tell(r);
    }
}

static enum rc redis_greet(struct redis *r, const struct str *words, uint32_t n)
{
    const struct redis_pending how = {.due_ms = loop_now_ms(r->loop) + r->connect_ms};
    r->n_greetings++;
    return redis_put(r, NULL, 0, words, n, how);
}

static void redis_on_open(void *ctx)
{
    struct redis *r = ctx;
    char db[STR_U64_BYTES];
    struct str auth[] = {STR_LIT("AUTH"), secret_str(&r->user), secret_str(&r->password)};
    const struct str pick[] = {STR_LIT("SELECT"), str_make(db, str_put_u64(db, r->db))};
    enum rc rc = RC_OK;
    r->state = REDIS_GREETING;
    r->n_greetings = r->n_loaded = 0;
    if (auth[2].len > 0 && auth[1].len > 0) {
        rc = redis_greet(r, auth, 3);
    } else if (auth[2].len > 0) {
        auth[1] = auth[2];
        rc = redis_greet(r, auth, 2);
    }
    rc = rc == RC_OK ? redis_greet(r, pick, 2) : rc;
    for (uint32_t i = 0; rc == RC_OK && i < r->n_scripts; i++) {
        const struct str load[] = {STR_LIT("SCRIPT"), STR_LIT("LOAD"),
                                   str_from(r->scripts[i].text)};
        rc = redis_greet(r, load, 3);
    }
    if (r->out.ptr != NULL) {
        mem_wipe(r->out.ptr, r->out.len);
    }
    if (rc != RC_OK) {
        redis_break(r, rc);
    }
}

/* ---- answers ---- */

static void redis_answered(struct redis *r, const struct redis_reply *reply)
{
    if (r->n_pending == 0) {
        err_set(&r->err, RC_CORRUPT, "redis: an answer to nothing");
        redis_break(r, RC_CORRUPT);
        return;
    }
    struct redis_pending p = r->pending[r->head];
    r->head = (r->head + 1) & (REDIS_PENDING_MAX - 1);
    r->n_pending--;
    if (r->state == REDIS_GREETING) {
        redis_greeted(r, reply);
        return;
    }
    bool failed = reply->type == REDIS_FAILED;
    metric_add(metric_with1(METRIC_REDIS_COMMANDS, failed ? STR_LIT("error") : STR_LIT("ok")), 1);
    if (failed && (str_starts(reply->text, STR_LIT("NOSCRIPT")) ||
                   str_starts(reply->text, STR_LIT("READONLY")) ||
                   str_starts(reply->text, STR_LIT("LOADING")))) {
        /* Calling anew loads the scripts, or finds the server that may be written to. */
        err_set(&r->err, RC_UNAVAILABLE, "redis: %.*s", (int)MIN(reply->text.len, (size_t)200),
                reply->text.ptr);
        redis_break(r, RC_UNAVAILABLE);
        if (p.cb != NULL) {
            p.cb(p.ctx, RC_UNAVAILABLE, NULL);
        }
        return;
    }
    if (p.cb != NULL) {
        p.cb(p.ctx, RC_OK, reply);
    }
}

static size_t redis_on_read(void *ctx, struct str bytes)
{
    struct redis *r = ctx;
    const struct redis_reply *reply = NULL;
    struct err err = {0};
    uint32_t before = r->head;
    enum rc rc = redis_reader_feed(r->reader, bytes, &err);
    r->in_callback = true;
    while (rc == RC_OK && !r->destroyed && r->err.code == RC_OK &&
           (rc = redis_reader_next(r->reader, &reply, &err)) == RC_OK && reply != NULL) {
        redis_answered(r, reply);
    }
    r->in_callback = false;
    if (r->destroyed) {
        return bytes.len;
    }
    if (rc != RC_OK) {
        r->err = err;
        redis_break(r, rc);
    } else if (before != r->head) {
        redis_set_deadline(r);
    }
    return bytes.len;
}

static void redis_on_end(void *ctx)
{
    redis_break(ctx, RC_UNAVAILABLE);
}

static void redis_on_deadline(void *ctx)
{
    struct redis *r = ctx;
    err_set(&r->err, RC_TIMEOUT, "redis: no answer in time");
    redis_break(r, RC_TIMEOUT);
}

/* ---- calling ---- */

static void redis_call(void *ctx)
{
    static const struct conn_events events = {.on_open = redis_on_open,
                                              .on_read = redis_on_read,
                                              .on_end = redis_on_end,
                                              .on_deadline = redis_on_deadline,
                                              .on_close = redis_on_close};
    struct redis *r = ctx;
    struct conn_conf conf = {.write_bytes_max = 2 * (size_t)REDIS_QUEUED_BYTES_MAX,
                             .connect_ms = r->connect_ms,
                             .tls = r->keep != NULL ? tls_keep_now(r->keep) : NULL,
                             .tls_host = r->host};
    r->err = (struct err){0};
    if (!r->resolved || (r->keep != NULL && conf.tls == NULL)) {
        loop_timer_start(&r->retry, REDIS_RETRY_MS);
        if (loop_now_ms(r->loop) - r->created_ms > r->connect_ms) {
            err_set(&r->err, RC_UNAVAILABLE, "redis: %s",
                    r->resolved ? "no certificates are loaded" : "its name is not resolved");
            redis_tell(r);
        }
        return;
    }
    r->state = REDIS_CALLING;
    if (conn_connect(&r->conn, r->loop, &r->addr, &conf, &events, r, &r->err) != RC_OK) {
        r->conn = NULL;
        r->state = REDIS_AWAY;
        loop_timer_start(&r->retry, REDIS_RETRY_MS_MAX);
        redis_tell(r);
    }
}

static void redis_on_address(void *ctx, const struct addr *addrs, uint32_t n)
{
    struct redis *r = ctx;
    if (n > 0) {
        r->addr = addrs[0];
        r->resolved = true;
    }
}

/* ---- life ---- */

bool redis_is_ready(const struct redis *r)
{
    return r->state == REDIS_READY;
}

void redis_watch(struct redis *r, void (*on_state)(void *ctx, bool ready), void *ctx)
{
    ASSERT(r->n_watchers < REDIS_WATCHERS_MAX);
    r->watchers[r->n_watchers++] = (struct redis_watcher){on_state, ctx};
}

uint32_t redis_script_add(struct redis *r, const char *text)
{
    ASSERT(r->n_scripts < REDIS_SCRIPTS_MAX && r->state == REDIS_AWAY);
    r->scripts[r->n_scripts] = (struct redis_script){.text = text};
    return r->n_scripts++;
}

static enum rc redis_open(struct redis *r, const struct redis_conf *conf, struct err *err)
{
    struct redis_where where;
    if (!secret_set(&r->user, conf->user) || !secret_set(&r->password, conf->password)) {
        return err_set(err, RC_INVALID, "redis: user or password of over %d bytes",
                       SECRET_BYTES_MAX);
    }
    enum rc rc = redis_url_read(conf->url, &where, err);
    if (rc != RC_OK) {
        return rc;
    }
    str_copy(r->url, sizeof(r->url), conf->url);
    r->db = where.db;
    if (where.host.len > 0) {
        r->host = str_make(r->url + (where.host.ptr - conf->url.ptr), where.host.len);
    }
    const struct tls_keep_conf keep = {.tls = conf->tls, .later = true};
    if (where.tls && (rc = tls_keep_create(&r->keep, r->loop, &keep, err)) != RC_OK) {
        return rc;
    }
    if (addr_is_name(where.where)) {
        return resolve_start(&r->resolve, r->loop, where.where, redis_on_address, r, err);
    }
    r->resolved = true;
    return addr_parse(&r->addr, where.where, err);
}

enum rc redis_create(struct redis **out, struct loop *l, const struct redis_conf *conf,
                     struct err *err)
{
    struct redis *r = mem_zalloc(sizeof(*r));
    *out = NULL;
    r->loop = l;
    r->command_ms = conf->command_ms != 0 ? conf->command_ms : REDIS_COMMAND_MS;
    r->connect_ms = conf->connect_ms != 0 ? conf->connect_ms : REDIS_CONNECT_MS;
    r->retry_ms = REDIS_RETRY_MS;
    r->created_ms = loop_now_ms(l);
    buf_init(&r->out, 2 * (size_t)REDIS_QUEUED_BYTES_MAX);
    redis_reader_create(&r->reader);
    loop_timer_init(&r->retry, l, redis_call, r);
    loop_task_init(&r->reclaim, redis_free, r);
    enum rc rc = redis_open(r, conf, err);
    if (rc != RC_OK) {
        redis_destroy(r);
        return rc;
    }
    if (conf->on_state != NULL) {
        redis_watch(r, conf->on_state, conf->ctx);
    }
    loop_timer_start(&r->retry, 0);
    *out = r;
    return RC_OK;
}

void redis_destroy(struct redis *r)
{
    if (r == NULL || r->destroyed) {
        return;
    }
    r->destroyed = true;
    r->state = REDIS_AWAY;
    loop_timer_stop(&r->retry);
    resolve_stop(r->resolve);
    tls_keep_destroy(r->keep);
    redis_end_all(r, RC_CANCELLED);
    if (r->conn != NULL) {
        conn_close(r->conn, RC_OK);
    } else if (!r->in_callback) {
        loop_reclaim(r->loop, &r->reclaim);
    }
}
