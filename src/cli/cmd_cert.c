/* cmd_cert.c: `bud cert make|pin`: certificates for development and for the links between our own
 * servers, and the pins of any. */
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "net/tls.h"
#include "net/tls_cert.h"

enum { CERT_CA_DAYS = 3650, CERT_DAYS = 365 };

static const struct args_row cmd_cert_options[] = {
    {"--dir", 'd', "DIR", "where the files are (default: the working folder)"},
    {"--client", 0, NULL, "for a client (a gateway before a model server), else for a server"},
    {"--days", 0, "N", "valid for so long (default 365; the CA for ten years)"},
    {0},
};

struct cert_run {
    char dir[PATH_MAX];
    int64_t now_s;
    struct buf ca, ca_key;
};

static enum rc cert_path(const struct cert_run *r, struct str name, const char *end,
                         char out[PATH_MAX], struct err *err)
{
    int n = snprintf(out, PATH_MAX, "%s/%.*s%s", r->dir, STR(name), end);
    return n > 0 && n < PATH_MAX ? RC_OK : err_set(err, RC_INVALID, "the path is too long");
}

/* Writes NAME.pem and NAME.key; the key for its owner alone. */
static enum rc cert_write(const struct cert_run *r, struct str name, const struct buf *cert,
                          const struct buf *key, struct err *err)
{
    char path[PATH_MAX];
    char pin[TLS_PIN_TEXT_BYTES];
    enum rc rc = cert_path(r, name, ".key", path, err);
    rc = rc == RC_OK ? file_write_atomic(path, buf_str(key), 0600, err) : rc;
    rc = rc == RC_OK ? cert_path(r, name, ".pem", path, err) : rc;
    rc = rc == RC_OK ? file_write_atomic(path, buf_str(cert), 0644, err) : rc;
    rc = rc == RC_OK ? tls_pin_of_file(path, pin, err) : rc;
    if (rc == RC_OK) {
        printf("%s  %s\n", path, pin);
    }
    return rc;
}

static enum rc cert_make_ca(struct cert_run *r, struct err *err)
{
    const struct str name = STR_LIT("Bud development CA");
    struct tls_cert_conf conf = {.names = &name,
                                 .n_names = 1,
                                 .from_s = r->now_s - 3600,
                                 .to_s = r->now_s + (int64_t)CERT_CA_DAYS * 86400};
    enum rc rc = tls_cert_make(&conf, &r->ca, &r->ca_key, err);
    return rc == RC_OK ? cert_write(r, STR_LIT("ca"), &r->ca, &r->ca_key, err) : rc;
}

/* The folder's CA, made if there is none. */
static enum rc cert_ca(struct cert_run *r, struct err *err)
{
    char cert[PATH_MAX], key[PATH_MAX];
    enum rc rc = cert_path(r, STR_LIT("ca"), ".pem", cert, err);
    rc = rc == RC_OK ? cert_path(r, STR_LIT("ca"), ".key", key, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (!file_exists(cert) && !file_exists(key)) {
        return cert_make_ca(r, err);
    }
    rc = file_read(cert, &r->ca, err);
    return rc == RC_OK ? file_read(key, &r->ca_key, err) : rc;
}

static enum rc cert_issue(struct cert_run *r, struct tls_cert_conf *conf, struct err *err)
{
    struct buf cert, key;
    buf_init(&cert, TLS_CERT_PEM_BYTES_MAX);
    buf_init(&key, TLS_CERT_PEM_BYTES_MAX);
    enum rc rc = cert_ca(r, err);
    conf->ca_cert = buf_str(&r->ca);
    conf->ca_key = buf_str(&r->ca_key);
    rc = rc == RC_OK ? tls_cert_make(conf, &cert, &key, err) : rc;
    rc = rc == RC_OK ? cert_write(r, conf->names[0], &cert, &key, err) : rc;
    if (key.ptr != NULL) {
        mem_wipe(key.ptr, key.len);
    }
    buf_deinit(&cert);
    buf_deinit(&key);
    return rc;
}

static enum rc cert_make(struct cert_run *r, const struct args *a, struct err *err)
{
    struct str names[TLS_CERT_NAMES_MAX];
    uint32_t days = CERT_DAYS;
    struct tls_cert_conf conf = {.names = names, .client = args_has(a, "--client")};
    enum rc rc = args_u32(a, "--days", 1, CERT_CA_DAYS, &days, err);
    for (uint32_t i = 1; i < args_n_words(a); i++) {
        if (conf.n_names == TLS_CERT_NAMES_MAX) {
            return err_set(err, RC_INVALID, "at most %d names", TLS_CERT_NAMES_MAX);
        }
        names[conf.n_names++] = str_from(args_word(a, i));
    }
    if (str_is(names[0], "ca")) {
        return err_set(err, RC_INVALID, "'ca' is the name of the CA's own files");
    }
    conf.from_s = r->now_s - 3600;
    conf.to_s = r->now_s + (int64_t)days * 86400;
    return rc == RC_OK ? cert_issue(r, &conf, err) : rc;
}

static enum rc cert_pin(const struct args *a, struct err *err)
{
    char pin[TLS_PIN_TEXT_BYTES];
    enum rc rc = RC_OK;
    for (uint32_t i = 1; rc == RC_OK && i < args_n_words(a); i++) {
        rc = tls_pin_of_file(args_word(a, i), pin, err);
        if (rc == RC_OK) {
            printf("%s\n", pin);
        }
    }
    return rc;
}

static enum rc cmd_cert_main(const struct args *a, struct err *err)
{
    struct str verb = str_from(args_word(a, 0));
    if (str_is(verb, "pin")) {
        return cert_pin(a, err);
    }
    if (!str_is(verb, "make")) {
        return err_set(err, RC_INVALID, "'%.*s' is not make or pin", STR(verb));
    }
    struct cert_run *r = mem_zalloc(sizeof(*r));
    r->now_s = clock_wall_s(clock_system());
    buf_init(&r->ca, TLS_CERT_PEM_BYTES_MAX);
    buf_init(&r->ca_key, TLS_CERT_PEM_BYTES_MAX);
    enum rc rc = RC_OK;
    if (!str_copy(r->dir, sizeof(r->dir), str_from(args_str(a, "--dir", ".")))) {
        rc = err_set(err, RC_INVALID, "the path is too long");
    }
    rc = rc == RC_OK ? file_make_dirs(r->dir, err) : rc;
    rc = rc == RC_OK ? cert_make(r, a, err) : rc;
    if (r->ca_key.ptr != NULL) {
        mem_wipe(r->ca_key.ptr, r->ca_key.len);
    }
    buf_deinit(&r->ca);
    buf_deinit(&r->ca_key);
    mem_free(r);
    return rc;
}

const struct command cmd_cert = {
    .name = "cert",
    .words = "make NAME…|pin FILE…",
    .line = "Make certificates for development and own links; show pins",
    .help =
        "make: NAME.pem and NAME.key for these hosts or addresses, under the CA in the folder\n"
        "(ca.pem, ca.key: made when absent, keep ca.key to yourself). Each line printed ends with\n"
        "the pin. pin: sha256//… of a certificate's public key, as tls_pins wants it.\n",
    .options = cmd_cert_options,
    .n_words_min = 2,
    .n_words_max = TLS_CERT_NAMES_MAX + 1,
    .run = cmd_cert_main,
};
