/* settings.h: what one process is told: from its rows' defaults, the file bud.yaml, the environment
 * (BUD_LISTEN …) and its flags (--listen …), each over the one before.
 *
 * The file is --config, else $BUD_CONFIG, else bud.yaml in the data folder if there is one. */
#ifndef CLI_SETTINGS_H
#define CLI_SETTINGS_H

#include "base/conf.h"
#include "cli/args.h"
#include "obs/log.h"

struct settings_gateway {
    uint64_t connections_max, wait_ms, waiting_max, ping_ms, held_bytes_max, loops;
    uint64_t answers_bytes_max, answer_bytes_max, answer_keep_ms, resume_ms_max;
};

enum settings_full { SETTINGS_REFUSE, SETTINGS_SERVE };
struct settings_usage {
    bool write;
    uint32_t when_full; /* enum settings_full */
    uint64_t keep_days, keep_sums_days;
};

/* The Redis server that several gateways share. */
struct settings_redis {
    struct str url, user, password_file; /* url "" = none */
    struct str tls_ca, tls_cert, tls_key;
    struct conf_list tls_pins;
    uint64_t command_ms;
};

enum settings_away { SETTINGS_CLOSED, SETTINGS_OPEN };
struct settings_limits {
    bool shared;
    uint32_t when_away; /* enum settings_away */
    uint64_t gateways;
};

struct settings_auth {
    struct conf_list jwt; /* struct jwt_issuer */
};

/* Certificates of the listeners. */
struct settings_tls {
    struct str cert, key, client_ca;
    uint32_t client_certs; /* enum tls_ask */
    struct conf_list client_pins;
    uint64_t look_ms;
};

struct settings {
    struct str listen, admin_listen, tls, catalogue;
    struct settings_tls tls_files;
    bool metrics_open, http2;
    uint32_t log_level; /* enum log_level */
    struct settings_gateway gateway;
    struct settings_usage usage;
    struct settings_auth auth;
    struct settings_redis redis;
    struct settings_limits limits;
    struct conf_list models; /* of bud serve */
    uint64_t threads, ctx;
    struct str backend;
    /* private */
    struct arena arena;
    struct str path; /* "" = no file */
};

extern const struct conf_row settings_rows[];
/* The flags that say where the file is, and those of the rows, for a command's own table. */
#define SETTINGS_OPTIONS                                                                           \
    {"--config", 0, "FILE", "settings (default: bud.yaml in the data folder, if it is there)"},    \
        {"--listen", 'l', "ADDR", "API address (default 127.0.0.1:8080)"},                         \
        {"--admin-listen", 0, "ADDR", "admin and metrics address (default 127.0.0.1:8081)"},       \
        {"--tls", 0, "off", "'off' allows plain HTTP on addresses that others can reach"},         \
        {"--tls-cert", 0, "FILE", "certificate chain (PEM) of the listeners: TLS 1.3"},            \
        {"--tls-key", 0, "FILE", "its key (PEM)"},                                                 \
        {"--tls-client-ca", 0, "FILE", "CA (PEM) of client certificates"},                         \
        {"--metrics-open", 0, NULL, "let loopback clients read /metrics without a key"},           \
        {"--catalogue", 0, "FILE", "models, upstreams, projects and limits (YAML)"},               \
    {                                                                                              \
        "--log-level", 0, "LEVEL", "debug, info, warn, error or off (default info)"                \
    }

/* Zeroes *s first. `home` is the data folder. The message names the file and the key. */
RC settings_load(struct settings *s, const struct args *a, const char *home, struct err *err);
/* May be called twice and on a zeroed struct. */
void settings_deinit(struct settings *s);

#endif
