/* tls_link.c: OpenSSL's state machine over two plain buffers.
 *
 *      conn.c: bytes from the socket         conn.c: bytes for the socket
 *                 | feed                              ^ wire
 *                 v                                   |
 *      +-----------------------+   SSL   +--------------------------+
 *      | in: borrowed, read by |-------->| wire: whole records, the |
 *      | the BIO as it likes   |         | BIO appends              |
 *      +-----------------------+         +--------------------------+
 *
 * Invariants
 * 1. Nothing here blocks: an empty `in` makes OpenSSL ask again later, `wire` takes all or fails.
 * 2. OpenSSL keeps at most one incomplete record of its own (SSL_MODE_RELEASE_BUFFERS gives even
 *    that memory back when there is none).
 * 3. `why` is set once, at the first failure. */
#include "net/tls_link.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/tls_bio.h"

enum { TLS_HOST_BYTES_MAX = 256 };

struct tls_link {
    struct tls_ctx *ctx;
    SSL *ssl;
    struct str in;
    struct buf wire;
    enum tls_why why;
    bool open, ended;
};

/* ---- the BIO ---- */

static int tls_bio_read(BIO *b, char *dst, int room)
{
    struct tls_link *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (t->in.len == 0 || room <= 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    size_t n = MIN((size_t)room, t->in.len);
    memcpy(dst, t->in.ptr, n);
    t->in = str_slice(t->in, n, t->in.len);
    return (int)n;
}

static int tls_bio_write(BIO *b, const char *bytes, int n)
{
    struct tls_link *t = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n <= 0) {
        return 0;
    }
    buf_add(&t->wire, bytes, (size_t)n);
    return buf_ok(&t->wire) ? n : -1;
}

static long tls_bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    UNUSED(b);
    UNUSED(num);
    UNUSED(ptr);
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int tls_bio_start(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

BIO_METHOD *tls_bio_create(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "bud");
    if (m != NULL) {
        BIO_meth_set_read(m, tls_bio_read);
        BIO_meth_set_write(m, tls_bio_write);
        BIO_meth_set_ctrl(m, tls_bio_ctrl);
        BIO_meth_set_create(m, tls_bio_start);
    }
    return m;
}

/* ---- why it failed ---- */

const char *tls_why_name(enum tls_why why)
{
    static const char *const names[TLS_WHY_N] = {
        [TLS_WHY_NOTHING] = "",
        [TLS_WHY_PLAIN] = "plain_http",
        [TLS_WHY_VERSION] = "version",
        [TLS_WHY_NO_CERT] = "no_certificate",
        [TLS_WHY_EXPIRED] = "expired",
        [TLS_WHY_UNTRUSTED] = "untrusted",
        [TLS_WHY_NAME] = "host_name",
        [TLS_WHY_PIN] = "pin",
        [TLS_WHY_ALPN] = "protocol_unknown",
        [TLS_WHY_ALERT] = "peer_refused",
        [TLS_WHY_TIMEOUT] = "timeout",
        [TLS_WHY_HANGUP] = "hangup",
        [TLS_WHY_PROTOCOL] = "malformed",
    };
    ASSERT(why < TLS_WHY_N);
    return names[why];
}

static enum tls_why tls_why_verify(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return TLS_WHY_EXPIRED;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return TLS_WHY_NAME;
    case X509_V_ERR_APPLICATION_VERIFICATION:
        return TLS_WHY_PIN;
    default:
        return TLS_WHY_UNTRUSTED;
    }
}

static enum tls_why tls_why_now(const struct tls_link *t)
{
    static const struct {
        int reason;
        enum tls_why why;
    } rows[] = {
        {SSL_R_HTTP_REQUEST, TLS_WHY_PLAIN},
        {SSL_R_HTTPS_PROXY_REQUEST, TLS_WHY_PLAIN},
        {SSL_R_UNSUPPORTED_PROTOCOL, TLS_WHY_VERSION},
        {SSL_R_VERSION_TOO_LOW, TLS_WHY_VERSION},
        {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, TLS_WHY_VERSION},
        {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_WHY_NO_CERT},
        {SSL_R_NO_APPLICATION_PROTOCOL, TLS_WHY_ALPN},
    };
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    if (ERR_GET_LIB(e) != ERR_LIB_SSL) {
        return TLS_WHY_PROTOCOL;
    }
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        return tls_why_verify(SSL_get_verify_result(t->ssl));
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].reason == reason) {
            return rows[i].why;
        }
    }
    return reason > SSL_AD_REASON_OFFSET ? TLS_WHY_ALERT : TLS_WHY_PROTOCOL;
}

/* What SSL's answer r <= 0 means. */
static enum tls_step tls_step_of(struct tls_link *t, int r)
{
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANT;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_ENDED;
    default:
        t->why = t->why == TLS_WHY_NOTHING ? tls_why_now(t) : t->why;
        ERR_clear_error();
        return TLS_FAILED;
    }
}

/* ---- life ---- */

static RC tls_link_name(struct tls_link *t, struct str host, struct err *err)
{
    char text[TLS_HOST_BYTES_MAX];
    struct in6_addr any;
    if (host.len == 0 || !str_copy(text, sizeof(text), host)) {
        return err_set(err, RC_INVALID, "TLS: host name of %zu bytes", host.len);
    }
    bool number = inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1;
    SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int r = number ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), text)
                   : SSL_set1_host(t->ssl, text);
    if (r == 1 && !number) {
        r = (int)SSL_set_tlsext_host_name(t->ssl, text);
    }
    return r == 1 ? RC_OK : err_set(err, RC_INVALID, "TLS: host name %s", text);
}

RC tls_link_create(struct tls_link **out, struct tls_ctx *ctx, struct str host,
                   size_t wire_bytes_max, struct err *err)
{
    struct tls_link *t = mem_try_zalloc(sizeof(*t));
    if (t == NULL) {
        return err_set(err, RC_NOMEM, "TLS: out of memory");
    }
    ERR_clear_error();
    buf_init(&t->wire, wire_bytes_max);
    t->ctx = tls_ctx_hold(ctx);
    t->ssl = SSL_new(tls_ctx_ssl(ctx));
    BIO *bio = BIO_new(tls_ctx_bio(ctx));
    enum rc rc = RC_OK;
    if (t->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        rc = err_set(err, RC_NOMEM, "TLS: out of memory");
    } else {
        BIO_set_data(bio, t);
        SSL_set_bio(t->ssl, bio, bio);
        if (tls_ctx_is_server(ctx)) {
            SSL_set_accept_state(t->ssl);
        } else {
            SSL_set_connect_state(t->ssl);
            rc = tls_link_name(t, host, err);
        }
    }
    if (rc != RC_OK) {
        tls_link_destroy(t);
        return rc;
    }
    *out = t;
    return RC_OK;
}

void tls_link_destroy(struct tls_link *t)
{
    if (t == NULL) {
        return;
    }
    SSL_free(t->ssl);
    tls_ctx_put(t->ctx);
    buf_deinit(&t->wire);
    mem_free(t);
}

/* ---- bytes ---- */

void tls_link_feed(struct tls_link *t, struct str wire)
{
    ASSERT(t->in.len == 0);
    t->in = wire;
}

enum tls_step tls_link_greet(struct tls_link *t)
{
    ASSERT(!t->open && t->why == TLS_WHY_NOTHING);
    ERR_clear_error();
    int r = SSL_do_handshake(t->ssl);
    t->open = r == 1;
    return t->open ? TLS_OPEN : tls_step_of(t, r);
}

enum tls_step tls_link_read(struct tls_link *t, char *dst, size_t room, size_t *n)
{
    *n = 0;
    if (!t->open || t->why != TLS_WHY_NOTHING) {
        return TLS_FAILED;
    }
    ERR_clear_error();
    int r = SSL_read(t->ssl, dst, (int)MIN(room, (size_t)INT32_MAX));
    if (r <= 0) {
        return tls_step_of(t, r);
    }
    *n = (size_t)r;
    return TLS_OPEN;
}

RC tls_link_write(struct tls_link *t, struct str plain)
{
    if (!t->open || t->ended || t->why != TLS_WHY_NOTHING) {
        return RC_IO;
    }
    ERR_clear_error();
    while (plain.len > 0) {
        size_t n = 0;
        int r = SSL_write_ex(t->ssl, plain.ptr, plain.len, &n);
        if (r != 1) {
            t->why = TLS_WHY_PROTOCOL;
            ERR_clear_error();
            return buf_ok(&t->wire) ? RC_IO : RC_NOMEM;
        }
        plain = str_slice(plain, n, plain.len);
    }
    return RC_OK;
}

void tls_link_end(struct tls_link *t)
{
    if (t->open && !t->ended && t->why == TLS_WHY_NOTHING) {
        t->ended = true;
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); /* 0: said, the peer has not yet: that is all we want */
        ERR_clear_error();
    }
}

struct buf *tls_link_wire(struct tls_link *t)
{
    return &t->wire;
}

enum tls_why tls_link_why(const struct tls_link *t)
{
    return t->why;
}

bool tls_link_is_http2(const struct tls_link *t)
{
    const unsigned char *name = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(t->ssl, &name, &n);
    return n == 2 && memcmp(name, "h2", 2) == 0;
}
