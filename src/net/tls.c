/* tls.c: contexts: files read, versions and trust fixed, pins checked inside the handshake.
 *
 * The pin is looked at in OpenSSL's verification callback, at the peer's own certificate, so that
 * a wrong one ends the handshake with an alert like any other distrust. A resumed session was
 * checked when it began: its ticket opens only under the context that made it.
 *
 * Not here: one connection (tls_link.c), reload (tls_keep.c), making certificates (tls_cert.c). */
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"
#include "net/tls_bio.h"

struct tls_ctx {
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    bool server, http2;
    uint32_t n_pins;
    unsigned char pins[TLS_PINS_MAX][CRYPTO_SHA256_BYTES];
    atomic_uint n_refs;
};

/* What OpenSSL said last, as one sentence. */
static const char *tls_reason(void)
{
    unsigned long e = ERR_peek_last_error();
    const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;
    return text != NULL ? text : "not readable";
}

/* ---- pins ---- */

RC tls_pin_parse(struct str text, unsigned char out[32], struct err *err)
{
    static const struct str prefix = STR_LIT("sha256//");
    unsigned char bytes[36];
    struct str code = str_slice(text, prefix.len, text.len);
    if (str_starts(text, prefix) && code.len == 44 && code.ptr[43] == '=' &&
        EVP_DecodeBlock(bytes, (const unsigned char *)code.ptr, 44) == 33) {
        memcpy(out, bytes, CRYPTO_SHA256_BYTES);
        return RC_OK;
    }
    return err_set(err, RC_INVALID, "pin '%.*s': want sha256// and 44 characters of base64",
                   (int)MIN(text.len, 80), text.ptr);
}

static bool tls_spki_digest(X509 *cert, unsigned char out[CRYPTO_SHA256_BYTES])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (n <= 0) {
        return false;
    }
    crypto_sha256(str_make((const char *)der, (size_t)n), out);
    OPENSSL_free(der);
    return true;
}

RC tls_pin_of_file(const char *path, char out[TLS_PIN_TEXT_BYTES], struct err *err)
{
    unsigned char digest[CRYPTO_SHA256_BYTES];
    ERR_clear_error();
    BIO *file = BIO_new_file(path, "r");
    X509 *cert = file != NULL ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    bool good = cert != NULL && tls_spki_digest(cert, digest);
    X509_free(cert);
    BIO_free(file);
    if (!good) {
        return err_set(err, RC_INVALID, "certificate %s: %s", path, tls_reason());
    }
    memcpy(out, "sha256//", 8);
    EVP_EncodeBlock((unsigned char *)out + 8, digest, sizeof(digest));
    return RC_OK;
}

/* 1 = go on; at the peer's own certificate, once its chain is good, the pins have their say. */
static int tls_verify(int good, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_ctx *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    unsigned char digest[CRYPTO_SHA256_BYTES];
    if (good != 1 || c->n_pins == 0 || X509_STORE_CTX_get_error_depth(store) != 0) {
        return good;
    }
    if (tls_spki_digest(X509_STORE_CTX_get_current_cert(store), digest)) {
        for (uint32_t i = 0; i < c->n_pins; i++) {
            if (memcmp(c->pins[i], digest, sizeof(digest)) == 0) {
                return 1;
            }
        }
    }
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* ---- protocols ---- */

/* Whether the client's list (RFC 7301: length-prefixed names) has this name. */
static const unsigned char *tls_alpn_find(const unsigned char *in, unsigned n, struct str name)
{
    for (unsigned at = 0; at < n; at += 1u + in[at]) {
        unsigned len = in[at];
        if (len < n - at && len == name.len && memcmp(in + at + 1, name.ptr, len) == 0) {
            return in + at + 1;
        }
    }
    return NULL;
}

static int tls_alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned n, void *arg)
{
    const struct tls_ctx *c = arg;
    UNUSED(ssl);
    const unsigned char *found = c->http2 ? tls_alpn_find(in, n, STR_LIT("h2")) : NULL;
    *out_n = 2;
    if (found == NULL) {
        found = tls_alpn_find(in, n, STR_LIT("http/1.1"));
        *out_n = 8;
    }
    *out = found;
    return found != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- loading ---- */

/* A key under a password would make OpenSSL ask on the terminal. */
static int tls_no_password(char *buf, int size, int writing, void *ctx)
{
    UNUSED(buf);
    UNUSED(size);
    UNUSED(writing);
    UNUSED(ctx);
    return 0;
}

static RC tls_path(char out[TLS_PATH_BYTES_MAX], struct str path, struct err *err)
{
    if (!str_copy(out, TLS_PATH_BYTES_MAX, path)) {
        return err_set(err, RC_INVALID, "file name of %zu bytes is too long", path.len);
    }
    return RC_OK;
}

static RC tls_load_identity(struct tls_ctx *c, const struct tls_conf *conf, struct err *err)
{
    char cert[TLS_PATH_BYTES_MAX], key[TLS_PATH_BYTES_MAX];
    if (conf->cert.len == 0 || conf->key.len == 0) {
        bool may = !c->server && conf->cert.len == 0 && conf->key.len == 0;
        return may ? RC_OK : err_set(err, RC_INVALID, "TLS: a certificate and its key are needed");
    }
    enum rc rc = tls_path(cert, conf->cert, err);
    rc = rc == RC_OK ? tls_path(key, conf->key, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (SSL_CTX_use_certificate_chain_file(c->ssl, cert) != 1) {
        return err_set(err, RC_INVALID, "certificate %s: %s", cert, tls_reason());
    }
    if (SSL_CTX_use_PrivateKey_file(c->ssl, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c->ssl) != 1) {
        return err_set(err, RC_INVALID, "key %s of certificate %s: %s", key, cert, tls_reason());
    }
    return RC_OK;
}

static RC tls_load_trust(struct tls_ctx *c, const struct tls_conf *conf, struct err *err)
{
    char ca[TLS_PATH_BYTES_MAX];
    if (c->server && conf->ask == TLS_ASK_NOTHING) {
        return RC_OK;
    }
    if (c->server && conf->ca.len == 0) {
        return err_set(err, RC_INVALID, "TLS: client certificates need a CA to trust");
    }
    enum rc rc = tls_path(ca, conf->ca, err);
    if (rc != RC_OK) {
        return rc;
    }
    int r = conf->ca.len > 0 ? SSL_CTX_load_verify_locations(c->ssl, ca, NULL)
                             : SSL_CTX_set_default_verify_paths(c->ssl);
    if (r != 1) {
        return err_set(err, RC_INVALID, "CA %s: %s", ca[0] != '\0' ? ca : "of the system",
                       tls_reason());
    }
    if (c->server) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
        if (names == NULL) {
            return err_set(err, RC_INVALID, "CA %s: %s", ca, tls_reason());
        }
        SSL_CTX_set_client_CA_list(c->ssl, names);
    }
    /* A certificate that was named is trusted itself, self-signed or not. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c->ssl), X509_V_FLAG_PARTIAL_CHAIN);
    bool must = !c->server || conf->ask == TLS_ASK_REQUIRED;
    SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER | (must ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       tls_verify);
    return RC_OK;
}

static RC tls_load_pins(struct tls_ctx *c, const struct tls_conf *conf, struct err *err)
{
    if (conf->n_pins > TLS_PINS_MAX) {
        return err_set(err, RC_INVALID, "%u pins: at most %d", conf->n_pins, TLS_PINS_MAX);
    }
    if (conf->n_pins > 0 && c->server && conf->ask == TLS_ASK_NOTHING) {
        return err_set(err, RC_INVALID, "TLS: pins need client certificates to be asked for");
    }
    for (uint32_t i = 0; i < conf->n_pins; i++) {
        enum rc rc = tls_pin_parse(conf->pins[i], c->pins[i], err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    c->n_pins = conf->n_pins;
    return RC_OK;
}

static RC tls_load_rules(struct tls_ctx *c, struct err *err)
{
    static const unsigned char http1[] = "\x08http/1.1";
    static const unsigned char context[] = "bud";
    SSL_CTX_set_app_data(c->ssl, c);
    SSL_CTX_set_default_passwd_cb(c->ssl, tls_no_password);
    SSL_CTX_set_mode(c->ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_max_cert_list(c->ssl, TLS_PEER_CHAIN_BYTES_MAX);
    /* Tickets carry the session; nothing is kept here. Their keys live as long as the context. */
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(c->ssl, TLS_TICKET_S);
    bool good = SSL_CTX_set_min_proto_version(c->ssl, TLS1_3_VERSION) == 1 &&
                SSL_CTX_set_num_tickets(c->ssl, 1) == 1 &&
                SSL_CTX_set_max_early_data(c->ssl, 0) == 1 &&
                SSL_CTX_set_session_id_context(c->ssl, context, sizeof(context) - 1) == 1;
    if (good && c->server) {
        SSL_CTX_set_alpn_select_cb(c->ssl, tls_alpn_select, c);
    } else if (good) {
        good = SSL_CTX_set_alpn_protos(c->ssl, http1, sizeof(http1) - 1) == 0;
    }
    return good ? RC_OK : err_set(err, RC_IO, "TLS: %s", tls_reason());
}

RC tls_ctx_load(struct tls_ctx **out, const struct tls_conf *conf, struct err *err)
{
    struct tls_ctx *c = mem_zalloc(sizeof(*c));
    ERR_clear_error();
    atomic_init(&c->n_refs, 1);
    c->server = conf->server;
    c->http2 = conf->http2;
    c->ssl = SSL_CTX_new(conf->server ? TLS_server_method() : TLS_client_method());
    c->bio = tls_bio_create();
    enum rc rc = RC_OK;
    if (c->ssl == NULL || c->bio == NULL) {
        rc = err_set(err, RC_NOMEM, "TLS: out of memory");
    }
    rc = rc == RC_OK ? tls_load_rules(c, err) : rc;
    rc = rc == RC_OK ? tls_load_identity(c, conf, err) : rc;
    rc = rc == RC_OK ? tls_load_trust(c, conf, err) : rc;
    rc = rc == RC_OK ? tls_load_pins(c, conf, err) : rc;
    ERR_clear_error();
    if (rc != RC_OK) {
        tls_ctx_put(c);
        return rc;
    }
    *out = c;
    return RC_OK;
}

struct tls_ctx *tls_ctx_hold(struct tls_ctx *c)
{
    atomic_fetch_add(&c->n_refs, 1);
    return c;
}

void tls_ctx_put(struct tls_ctx *c)
{
    if (c != NULL && atomic_fetch_sub(&c->n_refs, 1) == 1) {
        SSL_CTX_free(c->ssl);
        BIO_meth_free(c->bio);
        mem_free(c);
    }
}

static uint64_t tls_file_stamp(struct str path)
{
    char text[TLS_PATH_BYTES_MAX];
    struct stat st;
    if (path.len == 0 || !str_copy(text, sizeof(text), path) || stat(text, &st) != 0) {
        return hash_str(path);
    }
    const uint64_t facts[] = {(uint64_t)st.st_dev,          (uint64_t)st.st_ino,
                              (uint64_t)st.st_size,         (uint64_t)st.st_mtim.tv_sec,
                              (uint64_t)st.st_mtim.tv_nsec, hash_str(path)};
    return hash_str(str_make((const char *)facts, sizeof(facts)));
}

uint64_t tls_files_stamp(const struct tls_conf *conf)
{
    const uint64_t stamps[] = {tls_file_stamp(conf->cert), tls_file_stamp(conf->key),
                               tls_file_stamp(conf->ca)};
    return hash_str(str_make((const char *)stamps, sizeof(stamps)));
}

struct ssl_ctx_st *tls_ctx_ssl(struct tls_ctx *c)
{
    return c->ssl;
}

const struct bio_method_st *tls_ctx_bio(const struct tls_ctx *c)
{
    return c->bio;
}

bool tls_ctx_is_server(const struct tls_ctx *c)
{
    return c->server;
}
