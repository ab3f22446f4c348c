/* cmd_serve.c: `bud serve`: everything on one machine: the front door in this process (front.c), a
 * model server in a child, keys in a local store.
 *
 *   stores ──> first key ──> front door ──> model server child ──> loop
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/front.h"
#include "cli/limits.h"
#include "cli/local.h"
#include "cli/model_path.h"
#include "control/supervise.h"
#include "obs/crash.h"
#include "obs/log.h"

enum { SERVE_ARGV_MAX = 96, SERVE_DRAIN_MS = 30000, SERVE_MODELS_MAX = 16 };

#define SERVE_MODEL_DEFAULT "bud-story-4m"

static const struct args_row cmd_serve_options[] = {
    {"--model", 'm', "MODEL", "GGUF file or model name; may be repeated; ID=FILE names it"},
    SETTINGS_OPTIONS,
    LIMITS_OPTIONS,
    {"--threads", 't', "N", "compute threads (default: one per core)"},
    {"--ctx", 'c', "N", "longest context in tokens (default: the model's, at most 8192)"},
    {"--kv-type", 0, "TYPE", "KV cache: f16 (default), f32, bf16 or q8"},
    {"--backend", 0, "NAME", "cpu or ref (default: the fastest that runs here)"},
    {0},
};

struct serve {
    struct front front;
    char exe[PATH_MAX];
    char server_listen[PATH_MAX];
    struct addr server_addr;
    char paths[SERVE_MODELS_MAX][PATH_MAX];
    char *model_args[SERVE_MODELS_MAX]; /* "ID=FILE" */
    struct str models[SERVE_MODELS_MAX];
    uint32_t n_models;
    char numbers[2][STR_U64_BYTES + 1]; /* of the child's arguments */
    const char *argv[SERVE_ARGV_MAX];
    struct supervise *server;
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

static enum rc serve_models(struct serve *s, const struct args *a, struct err *err)
{
    const struct conf_list *listed = &s->front.settings.models;
    const char *model;
    enum rc rc = RC_OK;
    for (uint32_t i = 0; rc == RC_OK && (model = args_nth(a, "--model", i)) != NULL; i++) {
        rc = serve_model(s, model, err);
    }
    for (uint32_t i = 0; rc == RC_OK && !args_has(a, "--model") && i < listed->n; i++) {
        rc = serve_model(s, ((const struct str *)listed->at)[i].ptr, err);
    }
    return rc == RC_OK && s->n_models == 0 ? serve_model(s, SERVE_MODEL_DEFAULT, err) : rc;
}

static enum rc serve_places(struct serve *s, struct err *err)
{
    ssize_t n = readlink("/proc/self/exe", s->exe, sizeof(s->exe) - 1);
    if (n <= 0) {
        return err_set(err, RC_IO, "cannot find this program's own file: %m");
    }
    s->exe[n] = '\0';
    int len = snprintf(s->server_listen, sizeof(s->server_listen), "unix:%s/server-%ld.sock",
                       s->front.home, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof(s->server_listen)) {
        return err_set(err, RC_INVALID, "%s: path too long", s->front.home);
    }
    return addr_parse(&s->server_addr, str_from(s->server_listen), err);
}

static uint32_t serve_pass_options(struct serve *s, const char *const *names, uint32_t n)
{
    for (; *names != NULL; names++) {
        const char *value = args_str(s->front.args, *names, NULL);
        if (value != NULL) {
            s->argv[n++] = *names;
            s->argv[n++] = value;
        }
    }
    return n;
}

static void serve_child_argv(struct serve *s)
{
    static const char *const passed[] = {"--kv-type", NULL};
    const struct settings *set = &s->front.settings;
    const struct {
        const char *option;
        uint64_t value; /* 0 = the server's default */
    } numbers[] = {{"--threads", set->threads}, {"--ctx", set->ctx}};
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
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (numbers[i].value != 0) {
            s->numbers[i][str_put_u64(s->numbers[i], numbers[i].value)] = '\0';
            s->argv[n++] = numbers[i].option;
            s->argv[n++] = s->numbers[i];
        }
    }
    if (set->backend.len > 0) {
        s->argv[n++] = "--backend";
        s->argv[n++] = set->backend.ptr;
    }
    n = serve_pass_options(s, passed, n);
    n = serve_pass_options(s, limits_names(), n);
    s->argv[n] = NULL;
}

/* ---- while it runs ---- */

static void serve_part_drained(void *ctx)
{
    struct serve *s = ctx;
    if (--s->n_draining == 0) {
        loop_stop(s->front.loop);
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
        loop_stop(s->front.loop); /* asked twice: at once */
        return;
    }
    s->draining = true;
    s->n_draining = 2;
    log_event(LOG_PROCESS_STOP, log_cstr("role", "serve"));
    gateway_group_drain(s->front.gateway, SERVE_DRAIN_MS, serve_gateway_drained, s);
}

static void serve_announce(struct serve *s)
{
    if (!s->announced) {
        s->announced = true;
        front_announce(&s->front);
    }
}

static void serve_on_state(void *ctx, enum supervise_state state)
{
    struct serve *s = ctx;
    if (s->front.gateway != NULL) {
        gateway_group_set_ready(s->front.gateway, state == SUPERVISE_READY);
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
    loop_stop(s->front.loop);
}

/* ---- start and end ---- */

static enum rc serve_start(struct serve *s, struct err *err)
{
    struct supervise_conf child = {.argv = s->argv,
                                   .addr = s->server_addr,
                                   .on_state = serve_on_state,
                                   .on_refused = serve_on_refused,
                                   .ctx = s};
    const struct cat_local local = {
        .addr = s->server_addr, .models = s->models, .n_models = s->n_models};
    s->front.one_loop = true;
    enum rc rc = front_start(&s->front, &local, err);
    rc = rc == RC_OK ? loop_signal(s->front.loop, SIGTERM, serve_on_signal, s, err) : rc;
    rc = rc == RC_OK ? loop_signal(s->front.loop, SIGINT, serve_on_signal, s, err) : rc;
    return rc == RC_OK ? supervise_create(&s->server, s->front.loop, &child, err) : rc;
}

/* The child reads them again: what is wrong is said here, before anything is opened. */
static enum rc serve_check_limits(const struct args *a, struct err *err)
{
    struct engine_conf engine;
    struct server_limits limits = {0};
    enum rc rc = local_engine_conf(a, &engine, err);
    return rc == RC_OK ? limits_read(a, &limits, &engine, err) : rc;
}

static enum rc cmd_serve_main(const struct args *a, struct err *err)
{
    struct serve *s = mem_zalloc(sizeof(*s));
    crash_init();
    enum rc rc = front_init(&s->front, a, err);
    rc = rc == RC_OK ? serve_check_limits(a, err) : rc;
    rc = rc == RC_OK ? serve_models(s, a, err) : rc;
    rc = rc == RC_OK ? serve_places(s, err) : rc;
    if (rc == RC_OK) {
        serve_child_argv(s);
        rc = front_open_stores(&s->front, true, err);
    }
    rc = rc == RC_OK ? serve_start(s, err) : rc;
    if (rc == RC_OK) {
        loop_run(s->front.loop);
        if (s->err.code != RC_OK) {
            *err = s->err;
            rc = s->err.code;
        }
    }
    supervise_destroy(s->server);
    front_end(&s->front);
    for (uint32_t i = 0; i < s->n_models; i++) {
        mem_free(s->model_args[i]);
    }
    mem_free(s);
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
