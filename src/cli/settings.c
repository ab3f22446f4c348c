/* settings.c: see settings.h. */
#include "cli/settings.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth/jwt.h"
#include "base/file.h"
#include "base/yaml.h"
#include "engine/tensor/backend.h"
#include "gateway/group.h"
#include "net/tls.h"
#include "stores/redis.h"

enum { SETTINGS_ARENA_BYTES_MAX = 16 << 20 };

static const char *const settings_asks[] = {"none", "optional", "required", NULL};
_Static_assert(TLS_ASK_NOTHING == 0 && TLS_ASK_REQUIRED == 2, "settings_asks");
static const char *const settings_levels[] = {"debug", "info", "warn", "error", "off", NULL};
_Static_assert(LOG_LEVEL_DEBUG == 0 && LOG_LEVEL_OFF == 4, "settings_levels");

static const struct conf_row settings_gateway_rows[] = {
    CONF_NUMBER(struct settings_gateway, connections_max, "10240", 1, 1000000, "connections",
                "of clients, open at once; more are closed"),
    CONF_NUMBER(struct settings_gateway, wait_ms, "30000", 1, 600000, "ms",
                "a request waits in line for a server; then 503"),
    CONF_NUMBER(struct settings_gateway, waiting_max, "256", 1, 1000000, "requests",
                "in line at once; more get 503"),
    CONF_NUMBER(struct settings_gateway, ping_ms, "10000", 100, 600000, "ms",
                "of silence on a stream before a comment is sent"),
    CONF_NUMBER(struct settings_gateway, held_bytes_max, "536870912", 1048576, 1099511627776,
                "bytes", "bodies and whole replies of all requests together; more get 503"),
    CONF_NUMBER(struct settings_gateway, loops, "0", 0, GATEWAY_LOOPS_MAX, "loops",
                "threads that serve requests; 0 = one per core that `bud gateway` gets, at most "
                "16, and one under `bud serve`, whose cores are the model server's"),
    CONF_NUMBER(struct settings_gateway, answers_bytes_max, "268435456", 1048576, 1099511627776,
                "bytes", "answers kept for Idempotency-Key and resume; at it new ones get 503"),
    CONF_NUMBER(struct settings_gateway, answer_bytes_max, "8388608", 65536, 1073741824, "bytes",
                "of one kept answer; a longer one cannot be given again from its beginning"),
    CONF_NUMBER(struct settings_gateway, answer_keep_ms, "600000", 1000, 86400000, "ms",
                "a kept answer stays behind its end"),
    CONF_NUMBER(struct settings_gateway, resume_ms_max, "600000", 1, 3600000, "ms",
                "at most, a kept answer is worked on while nobody reads it"),
    {0},
};

static const char *const settings_fulls[] = {"refuse", "serve", NULL};
_Static_assert(SETTINGS_REFUSE == 0 && SETTINGS_SERVE == 1, "settings_fulls");

static const struct conf_row settings_usage_rows[] = {
    CONF_BOOL(struct settings_usage, write, "true", "one record per request, in the store"),
    CONF_WORD(struct settings_usage, when_full, "refuse", settings_fulls,
              "what to do with requests while there is no room to write records down"),
    CONF_NUMBER(struct settings_usage, keep_days, "90", 0, 36500, "days",
                "single records and explanations are kept; 0: for ever"),
    CONF_NUMBER(struct settings_usage, keep_sums_days, "1100", 0, 36500, "days",
                "sums by day are kept; 0: for ever"),
    {0},
};

static const struct conf_row settings_auth_rows[] = {
    CONF_GROUPS(struct settings_auth, jwt, struct jwt_issuer, jwt_issuer_rows, JWT_ISSUERS_MAX,
                "issuers whose JSON Web Tokens are taken besides API keys"),
    {0},
};

static const struct conf_row settings_redis_rows[] = {
    CONF_TEXT(
        struct settings_redis, url, NULL, REDIS_URL_BYTES_MAX - 1,
        "redis://HOST:PORT[/DB], rediss:// for TLS, or unix:PATH; keeps answers too; empty = none"),
    CONF_TEXT(struct settings_redis, user, NULL, 255, "its user; empty = the default one"),
    CONF_TEXT(struct settings_redis, password_file, NULL, 1023, "file with the password"),
    CONF_TEXT(struct settings_redis, tls_ca, NULL, 1023,
              "rediss: CA (PEM) of the server; empty = the system's"),
    CONF_TEXT(struct settings_redis, tls_cert, NULL, 1023, "rediss: our certificate (PEM)"),
    CONF_TEXT(struct settings_redis, tls_key, NULL, 1023, "its key (PEM)"),
    CONF_TEXTS(struct settings_redis, tls_pins, TLS_PINS_MAX,
               "rediss: `sha256//…` of the only server keys taken"),
    CONF_NUMBER(struct settings_redis, command_ms, "500", 10, 60000, "ms",
                "a command may take; then the server counts as away"),
    {0},
};

static const char *const settings_aways[] = {"closed", "open", NULL};
_Static_assert(SETTINGS_CLOSED == 0 && SETTINGS_OPEN == 1, "settings_aways");

static const struct conf_row settings_limits_rows[] = {
    CONF_BOOL(struct settings_limits, shared, "false",
              "limits hold across all gateways with the same `redis`, not in each alone"),
    CONF_WORD(
        struct settings_limits, when_away, "closed", settings_aways,
        "while Redis is away: closed = 503 to who is limited, open = each gateway counts alone"),
    CONF_NUMBER(struct settings_limits, gateways, "1", 1, 10000, "gateways",
                "open: each gives out one part in so many of each limit"),
    {0},
};

const struct conf_row settings_rows[] = {
    CONF_TEXT(struct settings, listen, "127.0.0.1:8080", 255, "address of the API"),
    CONF_TEXT(struct settings, admin_listen, "127.0.0.1:8081", 255,
              "address of health, metrics and administration"),
    CONF_TEXT(struct settings, tls, NULL, 16,
              "`off` allows plain HTTP on addresses that others can reach"),
    {.key = "tls_cert",
     .type = CONF_T_TEXT,
     .offset = offsetof(struct settings, tls_files.cert),
     .max = 1023,
     .help =
         "certificate chain (PEM): both TCP listeners speak TLS 1.3; read again when it changes"},
    {.key = "tls_key",
     .type = CONF_T_TEXT,
     .offset = offsetof(struct settings, tls_files.key),
     .max = 1023,
     .help = "its key (PEM)"},
    {.key = "tls_client_ca",
     .type = CONF_T_TEXT,
     .offset = offsetof(struct settings, tls_files.client_ca),
     .max = 1023,
     .help = "CA (PEM) that client certificates of the API must come from"},
    {.key = "tls_client_certs",
     .type = CONF_T_WORD,
     .offset = offsetof(struct settings, tls_files.client_certs),
     .fallback = "none",
     .words = settings_asks,
     .help = "whether the API asks its clients for certificates"},
    {.key = "tls_client_pins",
     .type = CONF_T_TEXTS,
     .offset = offsetof(struct settings, tls_files.client_pins),
     .max = TLS_PINS_MAX,
     .help =
         "`sha256//…` of the only client keys taken (`bud cert pin FILE`); none = any of that CA"},
    {.key = "tls_look_ms",
     .type = CONF_T_NUMBER,
     .offset = offsetof(struct settings, tls_files.look_ms),
     .fallback = "10000",
     .min = 10,
     .max = 3600000,
     .unit = "ms",
     .help = "between looks whether these files have changed"},
    CONF_BOOL(struct settings, http2, "true", "TLS clients may choose HTTP/2"),
    CONF_BOOL(struct settings, metrics_open, "false",
              "loopback clients read /metrics without a key"),
    {.key = "log_level",
     .type = CONF_T_WORD,
     .offset = offsetof(struct settings, log_level),
     .fallback = "info",
     .words = settings_levels,
     .reload = true,
     .help = "what is logged"},
    {.key = "catalogue",
     .type = CONF_T_TEXT,
     .offset = offsetof(struct settings, catalogue),
     .max = 1023,
     .reload = true,
     .help = "file with models, upstreams, projects and limits; applied at start and on reload"},
    CONF_GROUP(struct settings, gateway, settings_gateway_rows, "the front door"),
    CONF_GROUP(struct settings, usage, settings_usage_rows, "what requests used and cost"),
    CONF_GROUP(struct settings, auth, settings_auth_rows, "who is let in"),
    CONF_GROUP(struct settings, redis, settings_redis_rows, "what several gateways share"),
    CONF_GROUP(struct settings, limits, settings_limits_rows, "how limits are counted"),
    CONF_TEXTS(struct settings, models, 16, "`bud serve`: GGUF files or names, `ID=FILE`"),
    CONF_NUMBER(struct settings, threads, "0", 0, BACKEND_THREADS_MAX, "threads",
                "`bud serve`: for computing; 0 = one per core"),
    CONF_NUMBER(struct settings, ctx, "0", 0, 16777216, "tokens",
                "`bud serve`: longest context; 0 = the model's, at most 8192"),
    CONF_TEXT(struct settings, backend, NULL, 32,
              "`bud serve`: cpu or ref; empty = the fastest that runs here"),
    {0},
};

/* ---- the file ---- */

static enum rc settings_find(struct settings *s, const struct args *a, const char *home,
                             struct err *err)
{
    const char *given = args_str(a, "--config", getenv("BUD_CONFIG"));
    char path[PATH_MAX];
    if (given == NULL || given[0] == '\0') {
        int n = snprintf(path, sizeof(path), "%s/bud.yaml", home);
        if (n < 0 || (size_t)n >= sizeof(path) || !file_exists(path)) {
            return RC_OK;
        }
        given = path;
    }
    s->path = arena_str(&s->arena, str_from(given));
    return s->path.ptr != NULL ? RC_OK : err_set(err, RC_NOMEM, "out of memory");
}

static enum rc settings_check_redis(const struct settings *s, struct err *err)
{
    if (s->limits.shared && s->redis.url.len == 0) {
        return err_set_param(err, RC_INVALID, "limits.shared", "limits.shared: without redis.url");
    }
    return s->redis.url.len > 0 ? redis_url_check(s->redis.url, err) : RC_OK;
}

static enum rc settings_read(struct settings *s, struct err *err)
{
    static const struct json none = {.type = JSON_OBJECT};
    const struct json *root = &none;
    struct buf text;
    enum rc rc = RC_OK;
    buf_init(&text, YAML_BYTES_MAX);
    if (s->path.len > 0) {
        rc = file_read(s->path.ptr, &text, err);
        if (rc == RC_OK && (rc = yaml_parse(buf_str(&text), &s->arena, &root, err)) != RC_OK) {
            err_context(err, "%s", s->path.ptr);
        }
    }
    if (rc == RC_OK && (rc = conf_read(settings_rows, root, &s->arena, s, err)) != RC_OK) {
        err_context(err, "%s", s->path.ptr);
    }
    if (rc == RC_OK && (rc = jwt_issuers_check(&s->auth.jwt, err)) != RC_OK) {
        err_context(err, "%s", s->path.ptr);
    }
    if (rc == RC_OK && (rc = settings_check_redis(s, err)) != RC_OK) {
        (void)err_context(err, "%s", s->path.ptr);
    }
    buf_deinit(&text);
    return rc;
}

/* ---- over it ---- */

static bool settings_is_scalar(const struct conf_row *row)
{
    return row->type != CONF_T_GROUP && row->type != CONF_T_GROUPS && row->type != CONF_T_TEXTS;
}

static enum rc settings_from_env(struct settings *s, const struct conf_row *row, struct err *err)
{
    char name[64] = "BUD_";
    size_t n = 4;
    for (const char *c = row->key; *c != '\0' && n < sizeof(name) - 1; c++) {
        name[n++] = (char)toupper((unsigned char)*c);
    }
    name[n] = '\0';
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        return RC_OK;
    }
    enum rc rc = conf_set(settings_rows, row->key, str_from(value), &s->arena, s, err);
    return rc == RC_OK ? rc : err_context(err, "%s", name);
}

static enum rc settings_from_flag(struct settings *s, const struct args *a,
                                  const struct conf_row *row, struct err *err)
{
    char flag[64] = "--";
    size_t n = 2;
    for (const char *c = row->key; *c != '\0' && n < sizeof(flag) - 1; c++) {
        flag[n++] = *c == '_' ? '-' : *c;
    }
    flag[n] = '\0';
    const char *value = args_str(a, flag, NULL);
    if (row->type == CONF_T_BOOL) {
        value = args_has(a, flag) ? "true" : NULL;
    }
    if (value == NULL) {
        return RC_OK;
    }
    enum rc rc = conf_set(settings_rows, row->key, str_from(value), &s->arena, s, err);
    return rc == RC_OK ? rc : err_context(err, "%s %s", flag, value);
}

enum rc settings_load(struct settings *s, const struct args *a, const char *home, struct err *err)
{
    *s = (struct settings){0};
    arena_init(&s->arena, SETTINGS_ARENA_BYTES_MAX);
    enum rc rc = settings_find(s, a, home, err);
    rc = rc == RC_OK ? settings_read(s, err) : rc;
    for (const struct conf_row *row = settings_rows; rc == RC_OK && row->key != NULL; row++) {
        if (settings_is_scalar(row)) {
            rc = settings_from_env(s, row, err);
            rc = rc == RC_OK ? settings_from_flag(s, a, row, err) : rc;
        }
    }
    if (rc != RC_OK) {
        settings_deinit(s);
    }
    return rc;
}

void settings_deinit(struct settings *s)
{
    arena_deinit(&s->arena);
    *s = (struct settings){0};
}
