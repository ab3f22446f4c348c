/* front.c: see front.h. */
#include "cli/front.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "auth/jwt_verifier.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/model_path.h"
#include "device/device.h"
#include "gateway/catalog_file.h"
#include "net/tls_keep.h"
#include "obs/log.h"
#include "stores/journal.h"

enum {
    FRONT_LOG_MS = 50,
    FRONT_LOOPS_MAX = 16, /* unless the settings ask for more */
};

/* ---- settings ---- */

static bool front_has_tls(const struct settings *s)
{
    return s->tls_files.cert.len > 0 && s->tls.len == 0;
}

/* SYSTEM.md 1.3: what others can reach is not plain by accident. */
static enum rc front_address(const struct settings *s, const char *key, struct str text,
                             struct addr *out, struct err *err)
{
    enum rc rc = addr_parse(out, text, err);
    if (rc == RC_OK && s->tls.len > 0 && !str_is(s->tls, "off")) {
        return err_set(err, RC_UNSUPPORTED, "tls %.*s: only 'off' is known", STR(s->tls));
    }
    if (rc == RC_OK && !addr_is_local(out) && s->tls.len == 0 && !front_has_tls(s)) {
        return err_set(err, RC_FORBIDDEN,
                       "%s %.*s: others can reach this address, and keys would travel in the "
                       "clear; name --tls-cert and --tls-key, or say --tls off",
                       key, STR(text));
    }
    return rc;
}

/* One of the two TCP listeners; UNIX sockets have no need of it. */
static enum rc front_tls(struct front *f, const struct addr *a, bool api, struct tls_keep **out,
                         struct err *err)
{
    const struct settings_tls *t = &f->settings.tls_files;
    struct tls_keep_conf conf = {
        .tls = {.server = true, .http2 = f->settings.http2, .cert = t->cert, .key = t->key},
        .look_ms = t->look_ms};
    if (t->client_certs != TLS_ASK_NOTHING && !front_has_tls(&f->settings)) {
        return err_set(err, RC_INVALID, "tls_client_certs: without TLS nobody can show one");
    }
    if (!front_has_tls(&f->settings) || addr_is_unix(a)) {
        return RC_OK;
    }
    if (api) {
        conf.tls.ask = (enum tls_ask)t->client_certs;
        conf.tls.ca = t->client_ca;
        conf.tls.pins = t->client_pins.at;
        conf.tls.n_pins = t->client_pins.n;
    }
    return tls_keep_create(out, f->loop, &conf, err);
}

/* Of freed memory: a few long requests' bodies and what is made of them. */
enum { FRONT_KEEP_BYTES = 16 << 20 };

static void front_log(const struct settings *s)
{
    const struct log_options log = {.service = "bud",
                                    .fd = STDOUT_FILENO,
                                    .level = (enum log_level)s->log_level,
                                    .gather = true};
    log_init(&log);
}

/* Every connection is a descriptor; what the system refuses is what it was before. */
static void front_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

enum rc front_init(struct front *f, const struct args *a, struct err *err)
{
    f->args = a;
    enum rc rc = model_path_home(f->home, err);
    rc = rc == RC_OK ? file_make_dirs(f->home, err) : rc;
    rc = rc == RC_OK ? settings_load(&f->settings, a, f->home, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    const struct settings *s = &f->settings;
    front_log(s);
    front_raise_files();
    mem_keep(FRONT_KEEP_BYTES);
    rc = front_address(s, "--listen", s->listen, &f->listen, err);
    return rc == RC_OK ? front_address(s, "--admin-listen", s->admin_listen, &f->admin_listen, err)
                       : rc;
}

/* ---- stores and keys ---- */

static enum rc front_open(const char *home, struct meta **meta, struct kms **kms,
                          struct secret *pepper, struct err *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/kms.key", home);
    enum rc rc = kms_open_file(kms, path, err);
    snprintf(path, sizeof(path), "%s/meta.db", home);
    rc = rc == RC_OK ? meta_open(meta, path, err) : rc;
    return rc == RC_OK ? key_pepper_load(pepper, *meta, *kms, err) : rc;
}

/* A model server of this machine may be there or not: what names it is right either way. */
static enum rc front_check_catalogue(void *ctx, struct meta *m, struct err *err)
{
    struct cat_local local = {0};
    UNUSED(ctx);
    enum rc rc = addr_parse(&local.addr, STR_LIT("unix:/local"), err);
    return rc == RC_OK ? cat_check_store(m, &local, err) : rc;
}

static enum rc front_check_limits(void *ctx, const struct json *limits, struct err *err)
{
    struct cat_limits checked = {0};
    struct arena arena;
    UNUSED(ctx);
    arena_init(&arena, 1 << 20);
    enum rc rc = conf_read(limits_rows, limits, &arena, &checked, err);
    arena_deinit(&arena);
    return rc;
}

static const struct admin_catalogue front_catalogue = {.check = front_check_catalogue,
                                                       .check_limits = front_check_limits};

enum rc front_stores_open(struct front_stores *s, struct err *err)
{
    char home[PATH_MAX];
    enum rc rc = model_path_home(home, err);
    rc = rc == RC_OK ? file_make_dirs(home, err) : rc;
    rc = rc == RC_OK ? front_open(home, &s->meta, &s->kms, &s->pepper, err) : rc;
    rc = rc == RC_OK ? audit_open(&s->audit, s->meta, s->kms, err) : rc;
    s->admin = (struct admin_store){.meta = s->meta,
                                    .kms = s->kms,
                                    .pepper = &s->pepper,
                                    .audit = s->audit,
                                    .catalogue = front_catalogue};
    return rc;
}

enum rc front_stores_open_settled(struct front_stores *s, struct err *err)
{
    char home[PATH_MAX];
    char dir[PATH_MAX + 16];
    enum rc rc = front_stores_open(s, err);
    rc = rc == RC_OK ? model_path_home(home, err) : rc;
    if (rc == RC_OK) {
        front_usage_dir(home, dir);
        rc = journal_recover(dir, s->meta, NULL, err);
    }
    return rc;
}

void front_stores_close(struct front_stores *s)
{
    audit_close(s->audit);
    meta_close(s->meta);
    kms_close(s->kms);
    secret_wipe(&s->pepper);
    *s = (struct front_stores){0};
}

void front_usage_dir(const char *home, char out[PATH_MAX + 16])
{
    snprintf(out, PATH_MAX + 16, "%s/usage", home);
}

static enum rc front_note(struct front *f, struct meta *m, const char *what, const char *id,
                          struct err *err)
{
    char object[8 + META_KEY_ID_BYTES];
    snprintf(object, sizeof(object), "key/%s", id);
    const struct audit_entry entry = {.time_ms =
                                          (int64_t)(clock_wall_ns(clock_system()) / 1000000u),
                                      .who = STR_LIT("bud"),
                                      .what = str_from(what),
                                      .object = str_from(object),
                                      .source = STR_LIT("start")};
    return audit_commit(f->audit, m, &entry, err);
}

static enum rc front_store_first(struct front *f, const struct meta_key *row, bool *stored,
                                 struct err *err)
{
    enum rc rc = meta_begin(f->meta, err);
    rc = rc == RC_OK ? meta_key_insert_first(f->meta, row, stored, err) : rc;
    rc = rc == RC_OK && *stored ? front_note(f, f->meta, "key.create", row->id, err) : rc;
    meta_rollback(f->meta);
    *stored = *stored && rc == RC_OK;
    return rc;
}

static enum rc front_first_key(struct front *f, struct err *err)
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
        rc = rc == RC_OK ? key_from_text(&f->pepper, &opt, key, &row, err) : rc;
    } else if (!f->makes_key) {
        buf_deinit(&text);
        return RC_OK;
    } else {
        key_make(&f->pepper, &opt, f->first_key, &row);
    }
    bool stored = false;
    rc = rc == RC_OK ? front_store_first(f, &row, &stored, err) : rc;
    if (stored) {
        str_copy(f->first_key_id, sizeof(f->first_key_id), str_from(row.id));
    } else {
        mem_wipe(f->first_key, sizeof(f->first_key));
    }
    if (text.ptr != NULL) {
        mem_wipe(text.ptr, text.len);
    }
    buf_deinit(&text);
    return rc;
}

/* The start failed before the key could be shown: the next start makes and shows another one. */
static void front_take_back_key(struct front *f)
{
    struct err err = {0};
    struct meta *m = NULL;
    enum rc rc = meta_open(&m, f->meta_path, &err);
    rc = rc == RC_OK ? meta_begin(m, &err) : rc;
    rc = rc == RC_OK ? meta_key_delete(m, f->first_key_id, &err) : rc;
    rc = rc == RC_OK ? front_note(f, m, "key.delete", f->first_key_id, &err) : rc;
    if (rc != RC_OK) {
        log_event(LOG_STORE_FAIL, log_err(&err), log_err_code(&err));
    }
    if (m != NULL) {
        meta_rollback(m);
    }
    meta_close(m);
}

enum rc front_open_stores(struct front *f, bool makes_key, struct err *err)
{
    f->makes_key = makes_key;
    snprintf(f->meta_path, sizeof(f->meta_path), "%s/meta.db", f->home);
    enum rc rc = front_open(f->home, &f->meta, &f->kms, &f->pepper, err);
    rc = rc == RC_OK ? audit_open(&f->audit, f->meta, f->kms, err) : rc;
    rc = rc == RC_OK ? front_first_key(f, err) : rc;
    return rc == RC_OK ? meta_open(&f->admin_meta, f->meta_path, err) : rc;
}

/* ---- reload: all of it, or nothing ---- */

static enum rc front_apply(const struct front *f, const char *path, struct meta *m, struct err *err)
{
    const struct catalog_file_to to = {
        .meta = m,
        .kms = f->kms,
        .local = &f->local,
        .act = {.audit = f->audit, .who = STR_LIT("bud"), .source = STR_LIT("file")}};
    return catalog_file_apply(path, &to, err);
}

/* On a worker: reading files, looking up hosts, writing the store. */
static void front_reload(void *ctx)
{
    struct front *f = ctx;
    struct meta *m = NULL;
    struct err *err = &f->reload_err;
    *err = (struct err){0};
    enum rc rc = settings_load(&f->fresh, f->args, f->home, err);
    if (rc != RC_OK) {
        return;
    }
    const struct conf_row *fixed = conf_fixed_change(settings_rows, &f->settings, &f->fresh);
    if (fixed != NULL) {
        (void)!err_set(err, RC_UNSUPPORTED, "%s has changed: that needs a restart", fixed->key);
        return;
    }
    if (f->fresh.catalogue.len > 0) {
        rc = meta_open(&m, f->meta_path, err);
        rc = rc == RC_OK ? front_apply(f, f->fresh.catalogue.ptr, m, err) : rc;
        meta_close(m);
    }
}

static void front_reloaded(void *ctx, enum rc rc)
{
    struct front *f = ctx;
    admin_reloaded on_reloaded = f->on_reloaded;
    f->reloading = false;
    f->on_reloaded = NULL;
    if (rc != RC_OK && f->reload_err.code == RC_OK) {
        err_set(&f->reload_err, rc, "the server is stopping");
    }
    if (on_reloaded != NULL) {
        on_reloaded(f->on_reloaded_ctx, &f->reload_err);
    }
    if (f->reload_err.code != RC_OK) {
        log_event(LOG_CONFIG_WARN, log_cstr("kept", "the settings in force"),
                  log_err(&f->reload_err), log_err_code(&f->reload_err));
        settings_deinit(&f->fresh);
        return;
    }
    settings_deinit(&f->settings);
    f->settings = f->fresh;
    f->fresh = (struct settings){0};
    front_log(&f->settings);
    log_event(LOG_CONFIG_RELOAD);
}

static enum rc front_start_reload(void *ctx, admin_reloaded done, void *done_ctx, struct err *err)
{
    struct front *f = ctx;
    if (f->api_tls != NULL) {
        tls_keep_reload(f->api_tls);
    }
    if (f->admin_tls != NULL) {
        tls_keep_reload(f->admin_tls);
    }
    struct loop_job job = {.run = front_reload, .done = front_reloaded, .ctx = f, .slow = true};
    if (f->reloading) {
        return err_set(err, RC_CONFLICT, "A reload is under way.");
    }
    f->reload_err = (struct err){0};
    enum rc rc = loop_work_start(NULL, f->loop, &job, err);
    f->reloading = rc == RC_OK;
    f->on_reloaded = rc == RC_OK ? done : NULL;
    f->on_reloaded_ctx = done_ctx;
    return rc;
}

static void front_on_hangup(void *ctx, int signum)
{
    UNUSED(signum);
    (void)!front_start_reload(ctx, NULL, NULL, NULL);
}

/* ---- while it runs ---- */

static void front_on_log_timer(void *ctx)
{
    struct front *f = ctx;
    log_flush();
    loop_timer_start(&f->log_timer, FRONT_LOG_MS);
}

static bool front_is_ready(void *ctx)
{
    const struct front *f = ctx;
    return f->gateway != NULL && gateway_is_ready(gateway_group_first(f->gateway));
}

static enum rc front_authenticate(void *ctx, struct http_exchange *x, struct admin_caller *caller,
                                  bool *later, struct err *err)
{
    const struct front *f = ctx;
    return gateway_authenticate(gateway_group_first(f->gateway), x, caller, later, err);
}

static void front_put(void *ctx, void *held)
{
    UNUSED(ctx);
    cat_put(held);
}

static void front_write_status(void *ctx, struct json_writer *w)
{
    const struct front *f = ctx;
    gateway_write_status(gateway_group_first(f->gateway), w);
}

/* As if asked to stop from outside: the role's own handler drains. */
static void front_drain(void *ctx)
{
    UNUSED(ctx);
    (void)kill(getpid(), SIGTERM);
}

static void front_announce_address(const char *what, const struct addr *a, bool tls,
                                   const char *path)
{
    char text[ADDR_TEXT_BYTES];
    const char *scheme = tls ? "https://" : "http://";
    bool is_unix = addr_is_unix(a);
    printf("  %-8s %s%s%s\n", what, is_unix ? "" : scheme, addr_format(a, text),
           is_unix ? "" : path);
}

/* People read this, scripts too: one fact a line, the key the only time it is ever shown. */
void front_announce(struct front *f)
{
    printf("\nBud Runtime %s is ready.\n", BUD_VERSION);
    front_announce_address("API", &f->bound, f->api_tls != NULL, "/v1");
    front_announce_address("admin", &f->admin_bound, f->admin_tls != NULL, "");
    printf("  models  ");
    const struct conf_list *models = &catalog_now(f->catalog)->set.models;
    for (uint32_t i = 0; i < models->n; i++) {
        printf(" %.*s", STR(((const struct cat_model *)models->at)[i].name));
    }
    printf("\n");
    if (f->first_key[0] != '\0') {
        printf("  key      %s\n           (role owner; shown this once: keep it)\n", f->first_key);
        fflush(stdout);
        mem_wipe(f->first_key, sizeof(f->first_key));
    }
    printf("\n");
    fflush(stdout);
}

/* ---- start and end ---- */

static enum rc front_start_loop(struct front *f, struct err *err)
{
    enum rc rc = loop_create(&f->loop, clock_system(), err);
    if (rc == RC_OK) {
        loop_timer_init(&f->log_timer, f->loop, front_on_log_timer, f);
        loop_timer_start(&f->log_timer, FRONT_LOG_MS);
        rc = loop_signal(f->loop, SIGHUP, front_on_hangup, f, err);
    }
    return rc;
}

static enum rc front_open_journal(struct front *f, struct err *err)
{
    char dir[PATH_MAX + 16];
    const struct settings_usage *usage = &f->settings.usage;
    const struct journal_conf conf = {.dir = dir,
                                      .meta_path = f->meta_path,
                                      .keep_days = (uint32_t)usage->keep_days,
                                      .keep_sums_days = (uint32_t)usage->keep_sums_days};
    front_usage_dir(f->home, dir);
    return f->settings.usage.write ? journal_open(&f->journal, &conf, err) : RC_OK;
}

static enum rc front_load_usage(struct front *f, struct err *err)
{
    struct meta *m = NULL;
    enum rc rc = meta_open(&m, f->meta_path, err);
    rc = rc == RC_OK ? gateway_load_usage(gateway_group_first(f->gateway), m, err) : rc;
    meta_close(m);
    return rc;
}

static enum rc front_start_jwt(struct front *f, struct err *err)
{
    struct jwt_verifier_conf conf = {.issuers = &f->settings.auth.jwt};
    return conf.issuers->n > 0 ? jwt_verifier_create(&f->jwt, f->loop, &conf, err) : RC_OK;
}

static uint32_t front_loops(const struct front *f)
{
    uint32_t said = (uint32_t)f->settings.gateway.loops;
    return said != 0     ? said
           : f->one_loop ? 1
                         : MIN(device_cpu_share(""), (uint32_t)FRONT_LOOPS_MAX);
}

static enum rc front_start_gateway(struct front *f, struct err *err)
{
    const struct settings *s = &f->settings;
    char store[LEASE_ID_BYTES];
    struct gateway_group_conf conf = {
        .gateway = {.listen = f->listen,
                    .tls = f->api_tls,
                    .jwt = f->jwt,
                    .journal = f->journal,
                    .conns_max = (uint32_t)s->gateway.connections_max,
                    .wait_ms = s->gateway.wait_ms,
                    .ping_ms = s->gateway.ping_ms,
                    .resume_ms_max = s->gateway.resume_ms_max,
                    .serve_unwritten = s->usage.when_full == SETTINGS_SERVE},
        .shared = {.held_bytes_max = (size_t)s->gateway.held_bytes_max,
                   .waiting_max = (uint32_t)s->gateway.waiting_max,
                   .answers = {.bytes_max = (size_t)s->gateway.answers_bytes_max,
                               .answer_bytes_max = (size_t)s->gateway.answer_bytes_max,
                               .keep_ms = s->gateway.answer_keep_ms,
                               .secret = secret_str(&f->pepper)}},
        .answers = f->redis,
        .n_loops = front_loops(f)};
    front_lease_conf(f, &conf.leases, store);
    enum rc rc = gateway_group_create(&f->gateway, f->loop, &conf, f->catalog, &f->bound, err);
    return rc == RC_OK ? front_load_usage(f, err) : rc;
}

static enum rc front_start_admin(struct front *f, struct err *err)
{
    const struct admin_conf conf = {.listen = f->admin_listen,
                                    .tls = f->admin_tls,
                                    .metrics_open = f->settings.metrics_open,
                                    .store = &f->admin_store,
                                    .is_ready = front_is_ready,
                                    .authenticate = front_authenticate,
                                    .abandon = gateway_authenticate_end,
                                    .put = front_put,
                                    .reply_error = gateway_reply_error,
                                    .write_status = front_write_status,
                                    .drain = front_drain,
                                    .reload = front_start_reload,
                                    .ctx = f};
    f->admin_store = (struct admin_store){.meta = f->admin_meta,
                                          .kms = f->kms,
                                          .pepper = &f->pepper,
                                          .audit = f->audit,
                                          .catalogue = front_catalogue};
    return admin_create(&f->admin, f->loop, &conf, &f->admin_bound, err);
}

static enum rc front_start_catalog(struct front *f, struct err *err)
{
    const struct catalog_conf conf = {.pepper = &f->pepper, .kms = f->kms, .local = f->local};
    struct str file = f->settings.catalogue;
    enum rc rc = file.len > 0 ? front_apply(f, file.ptr, f->meta, err) : RC_OK;
    rc = rc == RC_OK ? catalog_create(&f->catalog, f->loop, f->meta, &conf, err) : rc;
    if (rc == RC_OK) {
        f->meta = NULL; /* the catalog's now */
    }
    return rc;
}

enum rc front_start(struct front *f, const struct cat_local *local, struct err *err)
{
    f->local = *local;
    loop_workers_for(front_loops(f));
    enum rc rc = front_start_loop(f, err);
    rc = rc == RC_OK ? front_tls(f, &f->listen, true, &f->api_tls, err) : rc;
    rc = rc == RC_OK ? front_tls(f, &f->admin_listen, false, &f->admin_tls, err) : rc;
    rc = rc == RC_OK ? front_start_catalog(f, err) : rc;
    rc = rc == RC_OK ? front_start_jwt(f, err) : rc;
    rc = rc == RC_OK ? front_open_journal(f, err) : rc;
    rc = rc == RC_OK ? front_start_redis(f, err) : rc;
    rc = rc == RC_OK ? front_start_gateway(f, err) : rc;
    rc = rc == RC_OK ? front_start_admin(f, err) : rc;
    return rc == RC_OK ? gateway_group_start(f->gateway, err) : rc;
}

void front_end(struct front *f)
{
    if (f->first_key[0] != '\0') {
        front_take_back_key(f);
    }
    admin_destroy(f->admin);
    gateway_group_destroy(f->gateway);
    redis_destroy(f->redis);
    jwt_verifier_destroy(f->jwt);
    catalog_destroy(f->catalog);
    tls_keep_destroy(f->api_tls);
    tls_keep_destroy(f->admin_tls);
    loop_timer_stop(&f->log_timer);
    loop_destroy(f->loop);
    journal_close(f->journal);
    log_flush();
    meta_close(f->meta);
    meta_close(f->admin_meta);
    audit_close(f->audit);
    kms_close(f->kms);
    secret_wipe(&f->pepper);
    mem_wipe(f->first_key, sizeof(f->first_key));
    settings_deinit(&f->fresh);
    settings_deinit(&f->settings);
}
