/* cmd_serve.c: `bud serve`: everything on one machine: the front door in this process, a model
 * server in a child, keys in a local store.
 *
 *   stores ──> first key ──> model server child ──> front door ──> admin listener ──> loop
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/limits.h"
#include "cli/local.h"
#include "cli/model_path.h"
#include "control/supervise.h"
#include "gateway/gateway.h"
#include "obs/crash.h"
#include "obs/log.h"
#include "stores/kms.h"
#include "stores/meta.h"

enum { SERVE_ARGV_MAX = 96, SERVE_DRAIN_MS = 30000, SERVE_MODELS_MAX = 16, SERVE_LOG_MS = 50 };

#define SERVE_MODEL_DEFAULT "bud-story-4m"

static const struct args_row cmd_serve_options[] = {
    {"--model", 'm', "MODEL", "GGUF file or model name; may be repeated; ID=FILE names it"},
    {"--listen", 'l', "ADDR", "API address (default 127.0.0.1:8080)"},
    {"--admin-listen", 0, "ADDR", "admin and metrics address (default 127.0.0.1:8081)"},
    {"--tls", 0, "off", "'off' allows plain HTTP on addresses that others can reach"},
    {"--metrics-open", 0, NULL, "let loopback clients read /metrics without a key"},
    LIMITS_OPTIONS,
    {"--threads", 't', "N", "compute threads (default: one per core)"},
    {"--ctx", 'c', "N", "longest context in tokens (default: the model's, at most 8192)"},
    {"--kv-type", 0, "TYPE", "KV cache: f16 (default), f32, bf16 or q8"},
    {"--backend", 0, "NAME", "cpu or ref (default: the fastest that runs here)"},
    {"--log-level", 0, "LEVEL", "debug, info, warn, error or off (default info)"},
    {0},
};

struct serve {
    const struct args *args;
    char home[PATH_MAX];
    char exe[PATH_MAX];
    char meta_path[PATH_MAX + 16];
    char server_listen[PATH_MAX];
    struct addr listen, admin_listen, server_addr;
    struct addr bound, admin_bound;
    char paths[SERVE_MODELS_MAX][PATH_MAX];
    char *model_args[SERVE_MODELS_MAX]; /* "ID=FILE" */
    struct str models[SERVE_MODELS_MAX];
    uint32_t n_models;
    const char *argv[SERVE_ARGV_MAX];
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
    struct loop *loop;
    struct loop_timer log_timer; /* writes gathered lines */
    struct catalog *catalog;
    struct supervise *server;
    struct gateway *gateway;
    struct admin *admin;
    char first_key[KEY_TEXT_BYTES]; /* "" once it was shown, or when there were keys already */
    char first_key_id[META_KEY_ID_BYTES];
    bool draining, announced;
    uint32_t n_draining; /* parts that still have work */
    struct err err;      /* why it ended; RC_OK = it was asked to */
};

/* ---- settings ---- */

static enum rc serve_model(struct serve *s, const char *word, struct err *err)
{
    struct str file = str_from(word);
    struct str id = STR_NULL;
    uint32_t n = s->n_models;
    if (strchr(word, '=') != NULL) {
        id = str_cut(&file, '=');
    }
    if (n == SERVE_MODELS_MAX) {
        return err_set(err, RC_INVALID, "at most %d models", SERVE_MODELS_MAX);
    }
    enum rc rc = model_path_find(file.ptr, s->paths[n], err);
    if (rc != RC_OK) {
        return rc;
    }
    s->models[n] = id.len > 0 ? id : model_path_id(s->paths[n]);
    for (uint32_t i = 0; i < n; i++) {
        if (str_eq(s->models[i], s->models[n])) {
            return err_set(err, RC_CONFLICT, "two models are called %.*s: write ID=FILE",
                           STR(s->models[n]));
        }
    }
    char arg[PATH_MAX + 256];
    snprintf(arg, sizeof(arg), "%.*s=%s", (int)MIN(s->models[n].len, (size_t)200), s->models[n].ptr,
             s->paths[n]);
    s->model_args[n] = mem_strdup(arg);
    s->n_models++;
    return RC_OK;
}

static enum rc serve_listen(const struct args *a, const char *option, const char *fallback,
                            struct addr *out, struct err *err)
{
    const char *text = args_str(a, option, fallback);
    const char *tls = args_str(a, "--tls", "");
    enum rc rc = addr_parse(out, str_from(text), err);
    if (rc == RC_OK && tls[0] != '\0' && !str_is(str_from(tls), "off")) {
        return err_set(err, RC_UNSUPPORTED, "--tls %s: only 'off' is known", tls);
    }
    if (rc == RC_OK && !addr_is_local(out) && tls[0] == '\0') {
        return err_set(err, RC_FORBIDDEN,
                       "%s %s: others can reach this address, and keys would travel in the clear; "
                       "listen on loopback behind a TLS proxy, or say --tls off",
                       option, text);
    }
    return rc;
}

static enum rc serve_places(struct serve *s, struct err *err)
{
    enum rc rc = model_path_home(s->home, err);
    rc = rc == RC_OK ? file_make_dirs(s->home, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    ssize_t n = readlink("/proc/self/exe", s->exe, sizeof(s->exe) - 1);
    if (n <= 0) {
        return err_set(err, RC_IO, "cannot find this program's own file: %m");
    }
    s->exe[n] = '\0';
    int len = snprintf(s->server_listen, sizeof(s->server_listen), "unix:%s/server-%ld.sock",
                       s->home, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof(s->server_listen)) {
        return err_set(err, RC_INVALID, "%s: path too long", s->home);
    }
    return addr_parse(&s->server_addr, str_from(s->server_listen), err);
}

static uint32_t serve_pass_options(struct serve *s, const char *const *names, uint32_t n)
{
    for (; *names != NULL; names++) {
        const char *value = args_str(s->args, *names, NULL);
        if (value != NULL) {
            s->argv[n++] = *names;
            s->argv[n++] = value;
        }
    }
    return n;
}

static void serve_child_argv(struct serve *s)
{
    static const char *const passed[] = {"--threads", "--ctx", "--kv-type", "--backend", NULL};
    uint32_t n = 0;
    s->argv[n++] = s->exe;
    s->argv[n++] = "server";
    s->argv[n++] = "--lifeline";
    s->argv[n++] = "--listen";
    s->argv[n++] = s->server_listen;
    for (uint32_t i = 0; i < s->n_models; i++) {
        s->argv[n++] = "--model";
        s->argv[n++] = s->model_args[i];
    }
    n = serve_pass_options(s, passed, n);
    n = serve_pass_options(s, limits_names(), n);
    s->argv[n] = NULL;
}

static enum rc serve_settings(struct serve *s, struct err *err)
{
    const struct args *a = s->args;
    struct log_options log = {
        .service = "bud", .fd = STDOUT_FILENO, .level = LOG_LEVEL_INFO, .gather = true};
    const char *level = args_str(a, "--log-level", "info");
    if (!log_level_from(str_from(level), &log.level)) {
        return err_set(err, RC_INVALID, "--log-level %s: not debug, info, warn, error or off",
                       level);
    }
    log_init(&log);
    /* The child reads them again: what is wrong is said here, before anything is opened. */
    struct engine_conf engine;
    struct server_limits limits = {0};
    enum rc rc = local_engine_conf(a, &engine, err);
    rc = rc == RC_OK ? limits_read(a, &limits, &engine, err) : rc;
    rc = rc != RC_OK ? rc : serve_listen(a, "--listen", "127.0.0.1:8080", &s->listen, err);
    rc = rc == RC_OK ? serve_listen(a, "--admin-listen", "127.0.0.1:8081", &s->admin_listen, err)
                     : rc;
    const char *model;
    for (uint32_t i = 0; rc == RC_OK && (model = args_nth(a, "--model", i)) != NULL; i++) {
        rc = serve_model(s, model, err);
    }
    if (rc == RC_OK && s->n_models == 0) {
        rc = serve_model(s, SERVE_MODEL_DEFAULT, err);
    }
    rc = rc == RC_OK ? serve_places(s, err) : rc;
    serve_child_argv(s);
    return rc;
}

/* ---- keys ---- */

static enum rc serve_first_key(struct serve *s, struct err *err)
{
    struct meta_key row;
    struct key_options opt = {
        .name = "first key", .role = "owner", .created_s = clock_wall_s(clock_system())};
    const char *file = getenv("BUD_BOOTSTRAP_KEY_FILE");
    struct buf text;
    buf_init(&text, KEY_TEXT_BYTES);
    enum rc rc = RC_OK;
    if (file != NULL && file[0] != '\0') {
        rc = file_read(file, &text, err);
        struct str key = str_trim(buf_str(&text));
        rc = rc == RC_OK ? key_from_text(&s->pepper, &opt, key, &row, err) : rc;
    } else {
        key_make(&s->pepper, &opt, s->first_key, &row);
    }
    bool stored = false;
    rc = rc == RC_OK ? meta_key_insert_first(s->meta, &row, &stored, err) : rc;
    if (stored) {
        str_copy(s->first_key_id, sizeof(s->first_key_id), str_from(row.id));
    } else {
        mem_wipe(s->first_key, sizeof(s->first_key));
    }
    if (text.ptr != NULL) {
        mem_wipe(text.ptr, text.len);
    }
    buf_deinit(&text);
    return rc;
}

/* The start failed before the key could be shown: the next start makes and shows another one. */
static void serve_take_back_key(struct serve *s)
{
    struct err err = {0};
    struct meta *m = NULL;
    enum rc rc = meta_open(&m, s->meta_path, &err);
    rc = rc == RC_OK ? meta_key_delete(m, s->first_key_id, &err) : rc;
    if (rc != RC_OK) {
        log_event(LOG_STORE_FAIL, log_err(&err), log_err_code(&err));
    }
    meta_close(m);
}

static enum rc serve_open_stores(struct serve *s, struct err *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/kms.key", s->home);
    snprintf(s->meta_path, sizeof(s->meta_path), "%s/meta.db", s->home);
    enum rc rc = kms_open_file(&s->kms, path, err);
    rc = rc == RC_OK ? meta_open(&s->meta, s->meta_path, err) : rc;
    rc = rc == RC_OK ? key_pepper_load(&s->pepper, s->meta, s->kms, err) : rc;
    return rc == RC_OK ? serve_first_key(s, err) : rc;
}

/* ---- while it runs ---- */

static void serve_show_key(struct serve *s)
{
    if (s->first_key[0] != '\0') {
        printf("  key      %s\n           (role owner; shown this once: keep it)\n", s->first_key);
        fflush(stdout);
        mem_wipe(s->first_key, sizeof(s->first_key));
    }
}

/* People read this, scripts too: one fact a line, the key the only time it is ever shown. */
static void serve_announce(struct serve *s)
{
    char api[ADDR_TEXT_BYTES];
    char admin[ADDR_TEXT_BYTES];
    if (s->announced) {
        return;
    }
    s->announced = true;
    printf("\nBud Runtime %s is ready.\n", BUD_VERSION);
    printf("  API      http://%s/v1\n", addr_format(&s->bound, api));
    printf("  admin    http://%s\n", addr_format(&s->admin_bound, admin));
    printf("  models  ");
    for (uint32_t i = 0; i < s->n_models; i++) {
        printf(" %.*s", STR(s->models[i]));
    }
    printf("\n");
    serve_show_key(s);
    printf("\n");
    fflush(stdout);
}

static void serve_on_log_timer(void *ctx)
{
    struct serve *s = ctx;
    log_flush();
    loop_timer_start(&s->log_timer, SERVE_LOG_MS);
}

static void serve_part_drained(void *ctx)
{
    struct serve *s = ctx;
    if (--s->n_draining == 0) {
        loop_stop(s->loop);
    }
}

/* The front door first: the model server is still needed for what is under way. */
static void serve_gateway_drained(void *ctx)
{
    struct serve *s = ctx;
    supervise_stop(s->server);
    serve_part_drained(s);
}

static void serve_on_signal(void *ctx, int signum)
{
    UNUSED(signum);
    struct serve *s = ctx;
    if (s->draining) {
        loop_stop(s->loop); /* asked twice: at once */
        return;
    }
    s->draining = true;
    s->n_draining = 2;
    log_event(LOG_PROCESS_STOP, log_cstr("role", "serve"));
    gateway_drain(s->gateway, SERVE_DRAIN_MS, serve_gateway_drained, s);
}

static void serve_on_state(void *ctx, enum supervise_state state)
{
    struct serve *s = ctx;
    if (s->gateway != NULL) {
        gateway_set_ready(s->gateway, state == SUPERVISE_READY);
    }
    if (state == SUPERVISE_READY) {
        serve_announce(s);
    } else if (state == SUPERVISE_STOPPED && s->draining) {
        serve_part_drained(s);
    }
}

static void serve_on_refused(void *ctx, int status)
{
    struct serve *s = ctx;
    err_set(&s->err, RC_UNAVAILABLE,
            "the model server could not start (exit status %d); it has said why above", status);
    loop_stop(s->loop);
}

static bool serve_is_ready(void *ctx)
{
    const struct serve *s = ctx;
    return s->gateway != NULL && gateway_is_ready(s->gateway);
}

static enum rc serve_may_read_metrics(void *ctx, const struct http_head *head, struct err *err)
{
    const struct serve *s = ctx;
    const struct meta_key *key = NULL;
    if (args_has(s->args, "--metrics-open") && addr_is_local(&s->admin_bound)) {
        return RC_OK;
    }
    struct str token = key_from_bearer(http_head_value(head, STR_LIT("authorization")));
    int64_t now_s = clock_wall_s(clock_system());
    return keyring_check(catalog_keys(s->catalog), token, now_s, &key, err);
}

/* ---- start and end ---- */

static enum rc serve_start(struct serve *s, struct err *err)
{
    struct supervise_conf child = {.argv = s->argv,
                                   .addr = s->server_addr,
                                   .on_state = serve_on_state,
                                   .on_refused = serve_on_refused,
                                   .ctx = s};
    struct gateway_conf gateway = {.listen = s->listen,
                                   .server = s->server_addr,
                                   .models = s->models,
                                   .n_models = s->n_models};
    struct admin_conf admin = {.listen = s->admin_listen,
                               .is_ready = serve_is_ready,
                               .may_read_metrics = serve_may_read_metrics,
                               .reply_error = gateway_reply_error,
                               .ctx = s};
    enum rc rc = loop_create(&s->loop, clock_system(), err);
    if (rc == RC_OK) {
        loop_timer_init(&s->log_timer, s->loop, serve_on_log_timer, s);
        loop_timer_start(&s->log_timer, SERVE_LOG_MS);
    }
    rc = rc == RC_OK ? loop_signal(s->loop, SIGTERM, serve_on_signal, s, err) : rc;
    rc = rc == RC_OK ? loop_signal(s->loop, SIGINT, serve_on_signal, s, err) : rc;
    rc = rc == RC_OK ? catalog_create(&s->catalog, s->loop, s->meta, &s->pepper, err) : rc;
    if (rc == RC_OK) {
        s->meta = NULL; /* the catalog's now */
        rc = gateway_create(&s->gateway, s->loop, &gateway, s->catalog, &s->bound, err);
    }
    rc = rc == RC_OK ? admin_create(&s->admin, s->loop, &admin, &s->admin_bound, err) : rc;
    return rc == RC_OK ? supervise_create(&s->server, s->loop, &child, err) : rc;
}

static void serve_end(struct serve *s)
{
    admin_destroy(s->admin);
    gateway_destroy(s->gateway);
    supervise_destroy(s->server);
    catalog_destroy(s->catalog);
    loop_timer_stop(&s->log_timer);
    loop_destroy(s->loop);
    log_flush();
    meta_close(s->meta);
    kms_close(s->kms);
    secret_wipe(&s->pepper);
    mem_wipe(s->first_key, sizeof(s->first_key));
    for (uint32_t i = 0; i < s->n_models; i++) {
        mem_free(s->model_args[i]);
    }
    mem_free(s);
}

static enum rc cmd_serve_main(const struct args *a, struct err *err)
{
    struct serve *s = mem_zalloc(sizeof(*s));
    s->args = a;
    crash_init();
    enum rc rc = serve_settings(s, err);
    rc = rc == RC_OK ? serve_open_stores(s, err) : rc;
    rc = rc == RC_OK ? serve_start(s, err) : rc;
    if (rc == RC_OK) {
        loop_run(s->loop);
        if (s->err.code != RC_OK) {
            *err = s->err;
            rc = s->err.code;
        }
    }
    if (s->first_key[0] != '\0') {
        serve_take_back_key(s);
    }
    serve_end(s);
    return rc;
}

const struct command cmd_serve = {
    .name = "serve",
    .words = "",
    .line = "Serve models on this machine: front door, keys and model server in one",
    .help =
        "The API listens on 127.0.0.1:8080 and needs a key; the first key is made and shown at\n"
        "first start. Without --model it serves the model that ships with the program. Data lies\n"
        "in $BUD_HOME (default ~/.local/share/bud).\n",
    .options = cmd_serve_options,
    .run = cmd_serve_main,
};
