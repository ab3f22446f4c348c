/* administer.c: see administer.h. */
#include "cli/administer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/front.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "net/tls_keep.h"

enum {
    ADMINISTER_FIRST_BYTE_MS = 30000,
    ADMINISTER_TARGET_BYTES = 2048,
    ADMINISTER_PAGES_MAX = 10000,
};

struct administer {
    bool remote;
    struct arena arena; /* the answer's nodes */
    struct buf text;
    int status;
    /* local */
    struct front_stores stores;
    char actor[48];
    /* remote */
    struct load_url url;
    struct loop *loop;
    struct tls_keep *tls; /* NULL: plain */
    struct http_pool *pool;
    char key[KEY_TEXT_BYTES * 32]; /* "Bearer …": a JWT may be long */
    struct err err;
};

/* ---- opening ---- */

static enum rc administer_open_remote(struct administer *a, const char *server,
                                      const struct args *args, struct err *err)
{
    const char *key = getenv("BUD_KEY");
    struct addr addr = {0};
    struct load_trust trust;
    if (key == NULL || key[0] == '\0') {
        return err_set(err, RC_UNAUTHENTICATED, "%s needs a key: set BUD_KEY", server);
    }
    int n = snprintf(a->key, sizeof(a->key), "Bearer %s", key);
    if (n < 0 || (size_t)n >= sizeof(a->key)) {
        return err_set(err, RC_TOO_LARGE, "BUD_KEY is too long");
    }
    enum rc rc = load_url_parse(&a->url, str_from(server), err);
    rc = rc == RC_OK ? load_trust_read(&trust, &a->url, args, err) : rc;
    rc = rc == RC_OK ? load_url_resolve(&a->url, &addr, err) : rc;
    rc = rc == RC_OK ? loop_create(&a->loop, clock_system(), err) : rc;
    rc = rc == RC_OK ? load_trust_open(&trust, &a->url, a->loop, &a->tls, err) : rc;
    struct http_pool_conf pool = {.addr = addr,
                                  .host = str_from(a->url.authority),
                                  .tls = a->tls,
                                  .tls_host = str_from(a->url.host)};
    return rc == RC_OK ? http_pool_create(&a->pool, a->loop, &pool, err) : rc;
}

static enum rc administer_make(struct administer **out, const struct args *args, bool settled,
                               struct err *err)
{
    const char *server = args_str(args, "--server", getenv("BUD_SERVER"));
    struct administer *a = mem_zalloc(sizeof(*a));
    arena_init(&a->arena, ADMIN_ARENA_BYTES_MAX);
    buf_init(&a->text, ADMIN_REPLY_BYTES_MAX);
    a->remote = server != NULL && server[0] != '\0';
    snprintf(a->actor, sizeof(a->actor), "local uid %ld", (long)getuid());
    enum rc rc = a->remote ? administer_open_remote(a, server, args, err)
                 : settled ? front_stores_open_settled(&a->stores, err)
                           : front_stores_open(&a->stores, err);
    if (rc != RC_OK) {
        administer_close(a);
        a = NULL;
    }
    *out = a;
    return rc;
}

enum rc administer_open(struct administer **out, const struct args *args, struct err *err)
{
    return administer_make(out, args, false, err);
}

enum rc administer_open_settled(struct administer **out, const struct args *args, struct err *err)
{
    return administer_make(out, args, true, err);
}

void administer_close(struct administer *a)
{
    if (a == NULL) {
        return;
    }
    http_pool_destroy(a->pool);
    tls_keep_destroy(a->tls);
    loop_destroy(a->loop);
    front_stores_close(&a->stores);
    if (a->text.ptr != NULL) {
        mem_wipe(a->text.ptr, a->text.len); /* it may hold a new key */
    }
    mem_wipe(a->key, sizeof(a->key));
    buf_deinit(&a->text);
    arena_deinit(&a->arena);
    mem_free(a);
}

/* ---- here ---- */

static enum rc administer_here(struct administer *a, enum http_method method, struct str target,
                               struct str body, struct err *err)
{
    struct admin_call c;
    char allow[POLICY_ALLOW_BYTES];
    struct str query = target;
    struct str path = str_cut(&query, '?');
    admin_call_init(&c);
    enum rc rc = policy_find(POLICY_ADMIN, method, path, &c.match, allow);
    if (rc != RC_OK) {
        admin_call_deinit(&c);
        return err_set(err, rc, "there is no route for this");
    }
    c.store = &a->stores.admin;
    c.actor = str_from(a->actor);
    c.source = STR_LIT("cli");
    c.query = query;
    c.text = body;
    c.now_ms = (int64_t)(clock_wall_ns(clock_system()) / 1000000u);
    admin_call_run(&c);
    a->status = c.status;
    buf_add_str(&a->text, buf_str(&c.out));
    admin_call_deinit(&c);
    return RC_OK;
}

/* ---- there ---- */

static void administer_on_head(void *ctx, const struct http_head *head)
{
    struct administer *a = ctx;
    a->status = head->status;
}

static void administer_on_body(void *ctx, struct str bytes)
{
    struct administer *a = ctx;
    buf_add_str(&a->text, bytes);
}

static void administer_on_end(void *ctx, const struct http_call_result *r)
{
    struct administer *a = ctx;
    if (r->rc == RC_UNAVAILABLE && a->tls != NULL) {
        err_set(&a->err, r->rc,
                "%s: it cannot be reached, or its certificate is not to be believed (--ca, --pin)",
                a->url.authority);
    } else if (r->rc != RC_OK) {
        err_set(&a->err, r->rc, "%s: %s", a->url.authority, r->what);
    }
    loop_stop(a->loop);
}

static enum rc administer_there(struct administer *a, enum http_method method, struct str target,
                                struct str body, struct err *err)
{
    static const struct http_client_events events = {
        .on_head = administer_on_head, .on_body = administer_on_body, .on_end = administer_on_end};
    const struct http_header headers[] = {
        {STR_LIT("authorization"), str_from(a->key)},
        {STR_LIT("content-type"), STR_LIT("application/json")},
    };
    struct http_client_conf conf = {.method = method,
                                    .target = target,
                                    .headers = headers,
                                    .n_headers = ARRAY_LEN(headers),
                                    .body = body,
                                    .first_byte_ms = ADMINISTER_FIRST_BYTE_MS};
    struct http_call *call = NULL;
    a->err = (struct err){0};
    enum rc rc = http_client_start(&call, a->pool, &conf, &events, a, err);
    if (rc != RC_OK) {
        return rc;
    }
    loop_run(a->loop);
    if (a->err.code != RC_OK && err != NULL) {
        *err = a->err;
    }
    return a->err.code;
}

/* ---- asking ---- */

static enum rc administer_refused(struct administer *a, const struct json *answer, struct err *err)
{
    const struct json *error = json_get(answer, "error");
    const struct json *message = error != NULL ? json_get(error, "message") : NULL;
    if (message == NULL || message->type != JSON_STRING) {
        return err_set(err, RC_UPSTREAM, "the server answered %d", a->status);
    }
    return err_set(err, RC_INVALID, "%.*s", (int)MIN(message->text.len, (size_t)400),
                   message->text.ptr);
}

enum rc administer_call(struct administer *a, enum http_method method, const char *target,
                        struct str body, const struct json **out, struct err *err)
{
    static const struct json none = {.type = JSON_OBJECT};
    struct str where = str_from(target);
    *out = &none;
    arena_reset(&a->arena);
    buf_reset(&a->text);
    a->status = 0;
    enum rc rc = a->remote ? administer_there(a, method, where, body, err)
                           : administer_here(a, method, where, body, err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = buf_ok(&a->text) ? json_parse(buf_str(&a->text), &a->arena, out, err)
                          : err_set(err, RC_TOO_LARGE, "the answer is too long");
    if (rc != RC_OK) {
        return a->status == 200 ? rc
                                : err_set(err, RC_UPSTREAM, "the server answered %d", a->status);
    }
    return a->status >= 200 && a->status < 300 ? RC_OK : administer_refused(a, *out, err);
}

struct str administer_text(const struct administer *a)
{
    return buf_str(&a->text);
}

enum rc administer_each(struct administer *a, const char *target,
                        void (*each)(void *ctx, const struct json *item), void *ctx,
                        struct err *err)
{
    struct buf page;
    enum rc rc = RC_OK;
    bool more = true;
    const char *join = strchr(target, '?') != NULL ? "&" : "?";
    buf_init(&page, ADMINISTER_TARGET_BYTES);
    buf_add_printf(&page, "%s%slimit=%d", target, join, ADMIN_PAGE_MAX);
    for (int i = 0; rc == RC_OK && more && i < ADMINISTER_PAGES_MAX; i++) {
        const struct json *list;
        char last[128];
        rc = administer_call(a, HTTP_METHOD_GET, page.ptr, STR_NULL, &list, err);
        const struct json *data = rc == RC_OK ? json_get(list, "data") : NULL;
        const struct json *flag = rc == RC_OK ? json_get(list, "has_more") : NULL;
        more = flag != NULL && flag->boolean && data != NULL && data->n > 0;
        for (const struct json *it = data != NULL ? data->first : NULL; it != NULL; it = it->next) {
            each(ctx, it);
        }
        if (more) {
            administer_member(list, "last_id", last);
            buf_reset(&page);
            buf_add_printf(&page, "%s%slimit=%d&after=", target, join, ADMIN_PAGE_MAX);
            administer_add_name(&page, last);
        }
    }
    buf_deinit(&page);
    return rc;
}

/* ---- small things ---- */

void administer_add_name(struct buf *path, const char *name)
{
    for (; *name != '\0'; name++) {
        unsigned char c = (unsigned char)*name;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            buf_add_byte(path, (char)c);
        } else {
            buf_add_printf(path, "%%%02X", c);
        }
    }
}

const char *administer_member(const struct json *o, const char *name, char out[128])
{
    const struct json *v = json_get_present(o, name);
    out[0] = '\0';
    if (v != NULL && v->type == JSON_STRING) {
        str_copy(out, 128, v->text);
    }
    return out;
}

int64_t administer_number(const struct json *o, const char *name)
{
    const struct json *v = json_get_present(o, name);
    int64_t n = 0;
    return v != NULL && v->type == JSON_NUMBER && json_to_i64(v, &n) ? n : 0;
}

const char *administer_time(int64_t s, char out[24])
{
    time_t when = (time_t)s;
    struct tm tm;
    if (s == 0 || gmtime_r(&when, &tm) == NULL) {
        return "-";
    }
    strftime(out, 24, "%Y-%m-%dT%H:%MZ", &tm);
    return out;
}
