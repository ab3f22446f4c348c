/* cmd_server.c: `bud server`: the model server's role in a process of its own. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/limits.h"
#include "cli/local.h"
#include "cli/model_path.h"
#include "net/process.h"
#include "net/tls_keep.h"
#include "obs/crash.h"
#include "obs/log.h"
#include "server/server.h"
#include "server/step.h"

enum { CMD_SERVER_DRAIN_MS = 30000 };

static const struct args_row cmd_server_options[] = {
    {"--model", 'm', "MODEL", "GGUF file or model name; may be repeated; ID=FILE names it"},
    {"--listen", 'l', "ADDR",
     "unix:PATH, loopback, or any with TLS (default $BUD_HOME/server.sock)"},
    {"--tls-cert", 0, "FILE", "certificate chain (PEM): gateways speak TLS 1.3 with it"},
    {"--tls-key", 0, "FILE", "its key (PEM)"},
    {"--tls-client-ca", 0, "FILE", "CA (PEM) that a gateway's certificate must come from"},
    {"--tls-client-pin", 0, "PIN", "the only gateway key taken (sha256//…); may be repeated"},
    LIMITS_OPTIONS,
    {"--lifeline", 0, NULL, "end when standard input closes (set by bud serve)"},
    LOCAL_ENGINE_OPTIONS,
    {0},
};

struct cmd_server_run {
    struct loop *loop;
    struct server *server;
    bool draining;
    struct err err; /* why it ended; RC_OK = it was asked to */
    char paths[STEP_MODELS_MAX][PATH_MAX];
    struct server_model_conf models[STEP_MODELS_MAX];
    struct server_conf conf;
    struct tls_keep *tls;
};

/* ---- settings ---- */

static enum rc cmd_server_model(struct cmd_server_run *r, const char *word, struct err *err)
{
    struct str file = str_from(word);
    struct str id = STR_NULL;
    if (strchr(word, '=') != NULL) {
        id = str_cut(&file, '=');
    }
    uint32_t n = r->conf.n_models;
    enum rc rc = model_path_find(file.ptr, r->paths[n], err);
    if (rc != RC_OK) {
        return rc;
    }
    r->models[n].path = str_from(r->paths[n]);
    r->models[n].id = id.len > 0 ? id : model_path_id(r->paths[n]);
    for (uint32_t i = 0; i < n; i++) {
        if (str_eq(r->models[i].id, r->models[n].id)) {
            return err_set(err, RC_CONFLICT, "two models are called %.*s: write ID=FILE",
                           STR(r->models[n].id));
        }
    }
    r->conf.n_models++;
    return RC_OK;
}

static enum rc cmd_server_listen(const struct args *a, struct addr *out, struct err *err)
{
    char home[PATH_MAX];
    char text[PATH_MAX];
    const char *given = args_str(a, "--listen", NULL);
    if (given == NULL) {
        enum rc rc = model_path_home(home, err);
        if (rc != RC_OK) {
            return rc;
        }
        int n = snprintf(text, sizeof(text), "unix:%s/server.sock", home);
        if (n < 0 || n >= PATH_MAX) {
            return err_set(err, RC_INVALID, "BUD_HOME is too long");
        }
        given = text;
    }
    enum rc rc = addr_parse(out, str_from(given), err);
    if (rc == RC_OK && !addr_is_local(out) && !args_has(a, "--tls-cert")) {
        return err_set(err, RC_FORBIDDEN,
                       "%s: a model server that others can reach asks them for certificates: name "
                       "--tls-cert, --tls-key and --tls-client-ca",
                       given);
    }
    return rc;
}

/* It has no keys of its own: who may speak to it shows a certificate. */
static enum rc cmd_server_tls(struct cmd_server_run *r, const struct args *a, struct err *err)
{
    struct str pins[TLS_PINS_MAX + 1];
    struct tls_keep_conf conf = {
        .tls = {.server = true,
                .ask = TLS_ASK_REQUIRED,
                .cert = str_from(args_str(a, "--tls-cert", "")),
                .key = str_from(args_str(a, "--tls-key", "")),
                .ca = str_from(args_str(a, "--tls-client-ca", "")),
                .pins = pins},
    };
    const char *pin;
    while (conf.tls.n_pins <= TLS_PINS_MAX &&
           (pin = args_nth(a, "--tls-client-pin", conf.tls.n_pins)) != NULL) {
        pins[conf.tls.n_pins++] = str_from(pin);
    }
    bool asked = conf.tls.cert.len + conf.tls.key.len + conf.tls.ca.len + conf.tls.n_pins > 0;
    if (asked && addr_is_unix(&r->conf.listen)) {
        return err_set(err, RC_INVALID, "a UNIX socket needs no TLS");
    }
    enum rc rc = asked ? tls_keep_create(&r->tls, r->loop, &conf, err) : RC_OK;
    r->conf.tls = r->tls;
    return rc;
}

static void cmd_server_on_hangup(void *ctx, int signum)
{
    struct cmd_server_run *r = ctx;
    UNUSED(signum);
    if (r->tls != NULL) {
        tls_keep_reload(r->tls);
    }
}

static enum rc cmd_server_conf(struct cmd_server_run *r, const struct args *a, struct err *err)
{
    enum rc rc = local_engine_conf(a, &r->conf.engine, err);
    rc = rc == RC_OK ? limits_read(a, &r->conf.limits, &r->conf.engine, err) : rc;
    rc = rc == RC_OK ? cmd_server_listen(a, &r->conf.listen, err) : rc;
    const char *model;
    for (uint32_t i = 0; rc == RC_OK && (model = args_nth(a, "--model", i)) != NULL; i++) {
        if (i == STEP_MODELS_MAX) {
            return err_set(err, RC_INVALID, "at most %d models", STEP_MODELS_MAX);
        }
        rc = cmd_server_model(r, model, err);
    }
    if (rc == RC_OK && r->conf.n_models == 0) {
        return err_set(err, RC_MISSING, "--model is missing");
    }
    r->conf.models = r->models;
    return rc;
}

/* ---- running ---- */

static void cmd_server_stop(void *ctx)
{
    struct cmd_server_run *r = ctx;
    loop_stop(r->loop);
}

static void cmd_server_on_signal(void *ctx, int signum)
{
    UNUSED(signum);
    struct cmd_server_run *r = ctx;
    if (r->draining) {
        loop_stop(r->loop); /* asked twice: at once */
        return;
    }
    r->draining = true;
    server_drain(r->server, CMD_SERVER_DRAIN_MS, cmd_server_stop, r);
}

static void cmd_server_on_ready(void *ctx, enum rc rc, const struct err *err)
{
    struct cmd_server_run *r = ctx;
    char address[ADDR_TEXT_BYTES];
    if (rc == RC_OK) {
        log_event(LOG_PROCESS_READY,
                  log_cstr(LOG_KEY_ADDRESS, addr_format(&r->conf.listen, address)),
                  log_u64("models", r->conf.n_models));
        return;
    }
    log_event(LOG_MODEL_FAIL, log_err(err), log_err_code(err));
    r->err = *err;
    loop_stop(r->loop);
}

static enum rc cmd_server_start(struct cmd_server_run *r, const struct args *a, struct err *err)
{
    enum rc rc = loop_create(&r->loop, clock_system(), err);
    rc = rc == RC_OK ? cmd_server_tls(r, a, err) : rc;
    rc = rc == RC_OK ? loop_signal(r->loop, SIGTERM, cmd_server_on_signal, r, err) : rc;
    rc = rc == RC_OK ? loop_signal(r->loop, SIGHUP, cmd_server_on_hangup, r, err) : rc;
    if (rc == RC_OK && args_has(a, "--lifeline")) {
        /* Ctrl-C reaches the whole foreground group: what ends here, and when, the parent says. */
        signal(SIGINT, SIG_IGN);
        rc = process_watch_parent(r->loop, cmd_server_stop, r, err);
    } else if (rc == RC_OK) {
        rc = loop_signal(r->loop, SIGINT, cmd_server_on_signal, r, err);
    }
    r->conf.on_ready = cmd_server_on_ready;
    r->conf.ctx = r;
    return rc == RC_OK ? server_create(&r->server, r->loop, &r->conf, err) : rc;
}

static enum rc cmd_server_main(const struct args *a, struct err *err)
{
    struct cmd_server_run *r = mem_zalloc(sizeof(*r));
    enum rc rc = cmd_server_conf(r, a, err);
    if (rc == RC_OK) {
        crash_init();
        log_init(&(struct log_options){
            .service = "bud-server", .fd = STDOUT_FILENO, .level = LOG_LEVEL_INFO});
        rc = cmd_server_start(r, a, err);
    }
    if (rc == RC_OK) {
        loop_run(r->loop);
        log_event(LOG_PROCESS_STOP, log_cstr("role", "server"));
        if (r->err.code != RC_OK) {
            *err = r->err;
            rc = r->err.code;
        }
    }
    server_destroy(r->server);
    tls_keep_destroy(r->tls);
    loop_destroy(r->loop);
    mem_free(r);
    return rc;
}

const struct command cmd_server = {
    .name = "server",
    .words = "",
    .line = "Run a model server alone",
    .help =
        "It speaks the API on a UNIX socket, without keys: a gateway ('bud serve') stands before\n"
        "it. On another machine's gateway it listens on TCP, with certificates on both sides\n"
        "('bud cert'). /readyz answers 200 once every model is loaded.\n",
    .options = cmd_server_options,
    .run = cmd_server_main,
};
