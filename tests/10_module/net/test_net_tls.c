/* TLS on listeners and connections: an HTTP server and a client's pool on one loop, and raw
 * sockets for peers that misbehave. */
#include "raw.h"

#include <openssl/ssl.h>

#include "certs.h"
#include "base/mem.h"
#include "base/thread.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "net/tls_keep.h"
#include "obs/metric.h"

/* What a test wants of both sides; names of files in the certificates' folder. */
struct want {
    const char *server_cert, *client_ca, *client_cert, *server_ca, *host;
    struct str server_pin, client_pin;
    enum tls_ask ask;
    uint64_t greet_ms, look_ms;
    bool http2;
};

struct rig {
    struct certs certs;
    struct loop *loop;
    struct tls_keep *server_tls, *client_tls;
    struct http_server *server;
    struct addr addr;
    struct http_pool *pool;
    struct loop_timer patience;
    /* the latest call */
    struct http_call_result result;
    struct buf got;
    int status, n_ends;
    /* the server's one exchange */
    struct buf body;
};

/* --- the server: answers with the body it got --------------------------------------------- */

struct echo {
    struct http_exchange *x;
    struct buf body;
};

static void echo_body(void *ctx, struct str bytes)
{
    buf_add_str(&((struct echo *)ctx)->body, bytes);
}

static void echo_end(void *ctx, enum rc rc)
{
    struct echo *e = ctx;
    assert_int_equal(rc, RC_OK);
    struct http_reply reply = {.status = 200, .body = buf_str(&e->body)};
    assert_int_equal(http_exchange_reply(e->x, &reply, NULL), RC_OK);
}

static void echo_close(void *ctx, enum rc rc)
{
    (void)rc;
    struct echo *e = ctx;
    buf_deinit(&e->body);
    mem_free(e);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    static const struct http_exchange_events ev = {
        .on_body = echo_body, .on_body_end = echo_end, .on_close = echo_close};
    (void)ctx;
    struct echo *e = mem_zalloc(sizeof(*e));
    e->x = x;
    buf_init(&e->body, 64 << 20);
    http_exchange_accept(x, HTTP_BODY_STREAM, 64 << 20, &ev, e);
}

/* --- the client --------------------------------------------------------------------------- */

static void call_head(void *ctx, const struct http_head *head)
{
    ((struct rig *)ctx)->status = head->status;
}

static void call_body(void *ctx, struct str bytes)
{
    buf_add_str(&((struct rig *)ctx)->got, bytes);
}

static void call_end(void *ctx, const struct http_call_result *r)
{
    struct rig *rig = ctx;
    rig->result = *r;
    rig->n_ends++;
    loop_stop(rig->loop);
}

static enum rc ask(struct rig *r, struct str body)
{
    static const struct http_client_events ev = {call_head, call_body, call_end};
    struct http_client_conf conf = {
        .method = HTTP_METHOD_POST, .target = STR_LIT("/"), .body = body, .replayable = true};
    struct http_call *call;
    buf_reset(&r->got);
    r->status = 0;
    assert_int_equal(http_client_start(&call, r->pool, &conf, &ev, r, NULL), RC_OK);
    loop_run(r->loop);
    return r->result.rc;
}

/* --- both --------------------------------------------------------------------------------- */

static void too_slow(void *ctx)
{
    (void)ctx;
    fail_msg("nothing happened for too long");
}

static struct str in_dir(struct rig *r, const char *name, char out[128])
{
    return name != NULL ? str_from(certs_path(&r->certs, name, out)) : STR_NULL;
}

static void keep_make(struct rig *r, struct tls_keep **out, const struct want *w, bool server)
{
    char cert[128], key[128], ca[128], key_name[64];
    const char *name = server ? w->server_cert : w->client_cert;
    const char *trust = server ? w->client_ca : w->server_ca;
    struct str pin = server ? w->client_pin : w->server_pin;
    snprintf(key_name, sizeof(key_name), "%.*s.key", (int)strcspn(name != NULL ? name : "", "."),
             name != NULL ? name : "");
    struct tls_keep_conf conf = {.tls = {.server = server,
                                         .http2 = w->http2,
                                         .ask = w->ask,
                                         .cert = in_dir(r, name, cert),
                                         .key = in_dir(r, name != NULL ? key_name : NULL, key),
                                         .ca = in_dir(r, trust, ca),
                                         .pins = &pin,
                                         .n_pins = pin.len > 0 ? 1 : 0},
                                 .look_ms = w->look_ms};
    assert_int_equal(tls_keep_create(out, r->loop, &conf, NULL), RC_OK);
}

static void rig_open(struct rig *r, struct want w)
{
    w.server_cert = w.server_cert != NULL ? w.server_cert : "server.pem";
    w.server_ca = w.server_ca != NULL ? w.server_ca : "ca.pem";
    assert_int_equal(loop_create(&r->loop, clock_system(), NULL), RC_OK);
    buf_init(&r->got, 64 << 20);
    keep_make(r, &r->server_tls, &w, true);
    keep_make(r, &r->client_tls, &w, false);
    struct http_server_conf sc = {.handler = on_request, .handler_ctx = r};
    assert_int_equal(http_server_create(&r->server, r->loop, &sc, NULL), RC_OK);
    struct listen_conf lc = {.tls = r->server_tls, .conn = {.greet_ms = w.greet_ms}};
    assert_int_equal(addr_parse(&lc.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(http_server_listen(r->server, &lc, &r->addr, NULL), RC_OK);
    struct http_pool_conf pc = {.addr = r->addr,
                                .connect_ms = 20000,
                                .tls = r->client_tls,
                                .tls_host = str_from(w.host != NULL ? w.host : "localhost")};
    assert_int_equal(http_pool_create(&r->pool, r->loop, &pc, NULL), RC_OK);
    loop_timer_init(&r->patience, r->loop, too_slow, r);
    loop_timer_start(&r->patience, 60000);
}

static void rig_close(struct rig *r)
{
    struct certs certs = r->certs;
    loop_timer_stop(&r->patience);
    http_pool_destroy(r->pool);
    http_server_destroy(r->server);
    tls_keep_destroy(r->client_tls);
    tls_keep_destroy(r->server_tls);
    loop_destroy(r->loop);
    buf_deinit(&r->got);
    *r = (struct rig){.certs = certs};
}

static int rig_setup(void **state)
{
    struct rig *r = mem_zalloc(sizeof(*r));
    certs_init(&r->certs);
    *state = r;
    return 0;
}

static int rig_teardown(void **state)
{
    struct rig *r = *state;
    certs_deinit(&r->certs);
    mem_free(r);
    return 0;
}

static double refused(const char *side, const char *reason)
{
    const struct str labels[] = {str_from(side), str_from(reason)};
    return metric_value(metric_with(METRIC_TLS_REFUSED, labels));
}

/* One call that must fail, and the side and reason that count it. */
static void refuses(struct rig *r, struct want w, const char *side, const char *reason)
{
    double before = refused(side, reason);
    rig_open(r, w);
    /* The server's refusal of a client's certificate comes after the client has begun to send. */
    enum rc rc = ask(r, STR_LIT("hello"));
    assert_true(rc == RC_UNAVAILABLE || (rc == RC_UPSTREAM && str_is(str_from(side), "server")));
    assert_int_equal(r->status, 0);
    rig_close(r);
    assert_true(refused(side, reason) == before + 1);
}

/* --- tests -------------------------------------------------------------------------------- */

static void carries_bodies_of_every_size(void **state)
{
    struct rig *r = *state;
    static const size_t sizes[] = {0, 1, 100, 16384, 16385, 65536, 200000, 5 << 20};
    char *bytes = mem_alloc(5 << 20);
    for (size_t i = 0; i < 5 << 20; i++) {
        bytes[i] = (char)(i * 31 + (i >> 9));
    }
    rig_open(r, (struct want){0});
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(ask(r, str_make(bytes, sizes[i])), RC_OK);
        assert_int_equal(r->status, 200);
        assert_true(str_eq(buf_str(&r->got), str_make(bytes, sizes[i])));
    }
    assert_int_equal(http_pool_stats(r->pool).n_connects, 1); /* one handshake for all */
    rig_close(r);
    mem_free(bytes);
}

static void a_client_trusts_only_what_it_was_told(void **state)
{
    struct rig *r = *state;
    char path[128], pin[TLS_PIN_TEXT_BYTES];
    certs_make(&r->certs, "expired", "localhost", false, -60);
    certs_make(&r->certs, "elsewhere", "elsewhere.example", false, 3600);
    certs_make(&r->certs, "number", "127.0.0.1", false, 3600);
    refuses(r, (struct want){.server_ca = "other-ca.pem"}, "client", "untrusted");
    refuses(r, (struct want){.server_cert = "expired.pem"}, "client", "expired");
    refuses(r, (struct want){.server_cert = "elsewhere.pem"}, "client", "host_name");
    refuses(r, (struct want){.host = "127.0.0.1"}, "client", "host_name");
    assert_int_equal(tls_pin_of_file(certs_path(&r->certs, "ca.pem", path), pin, NULL), RC_OK);
    refuses(r, (struct want){.server_pin = str_from(pin)}, "client", "pin");

    assert_int_equal(tls_pin_of_file(certs_path(&r->certs, "server.pem", path), pin, NULL), RC_OK);
    rig_open(r, (struct want){.server_pin = str_from(pin)});
    assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    rig_close(r);
    rig_open(r, (struct want){.server_cert = "number.pem", .host = "127.0.0.1"});
    assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    rig_close(r);
    /* A certificate that signs for itself may be named as the CA. */
    rig_open(r, (struct want){.server_cert = "server.pem", .server_ca = "server.pem"});
    assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    rig_close(r);
}

static void a_server_asks_for_certificates(void **state)
{
    struct rig *r = *state;
    char path[128], pin[TLS_PIN_TEXT_BYTES], other[TLS_PIN_TEXT_BYTES];
    certs_make(&r->certs, "client", "client-1", true, 3600);
    certs_make(&r->certs, "late", "client-1", true, -60);
    assert_int_equal(tls_pin_of_file(certs_path(&r->certs, "client.pem", path), pin, NULL), RC_OK);
    assert_int_equal(tls_pin_of_file(certs_path(&r->certs, "late.pem", path), other, NULL), RC_OK);
    struct want w = {.ask = TLS_ASK_REQUIRED, .client_ca = "ca.pem"};
    refuses(r, w, "server", "no_certificate");
    w.client_cert = "late.pem";
    refuses(r, w, "server", "expired");
    w.client_cert = "other-ca.pem";
    refuses(r, w, "server", "untrusted");
    w.client_cert = "server.pem"; /* ours, but made for servers */
    refuses(r, w, "server", "untrusted");
    w.client_cert = "client.pem";
    w.client_pin = str_from(other);
    refuses(r, w, "server", "pin");
    w.client_pin = str_from(pin);
    rig_open(r, w);
    assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    rig_close(r);

    w = (struct want){.ask = TLS_ASK_OPTIONAL, .client_ca = "ca.pem"};
    rig_open(r, w);
    assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    rig_close(r);
    w.client_cert = "late.pem"; /* optional is not any */
    refuses(r, w, "server", "expired");
}

/* A peer on a thread: says something, reads to the end. */
struct peer {
    struct addr addr;
    const char *text;
    long version_max;
    bool accepted;
    struct buf in;
    struct loop *loop;
};

static void peer_done(void *ctx)
{
    loop_stop(((struct peer *)ctx)->loop);
}

static void peer_plain(void *ctx)
{
    struct peer *p = ctx;
    int fd = raw_connect(&p->addr);
    if (p->text != NULL) {
        raw_puts(fd, p->text);
    }
    raw_to_end(fd, &p->in);
    close(fd);
    assert_int_equal(loop_post(p->loop, peer_done, p), RC_OK);
}

static void peer_tls(void *ctx)
{
    struct peer *p = ctx;
    int fd = raw_connect(&p->addr);
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(c, p->version_max);
    SSL *ssl = SSL_new(c);
    SSL_set_fd(ssl, fd);
    if (p->text != NULL) {
        unsigned char list[64];
        size_t n = strlen(p->text);
        list[0] = (unsigned char)n;
        memcpy(list + 1, p->text, n);
        SSL_set_alpn_protos(ssl, list, (unsigned)n + 1);
    }
    p->accepted = SSL_connect(ssl) == 1;
    SSL_free(ssl);
    SSL_CTX_free(c);
    close(fd);
    assert_int_equal(loop_post(p->loop, peer_done, p), RC_OK);
}

static void with_peer(struct rig *r, struct peer *p, void (*fn)(void *ctx))
{
    struct thread t = {0};
    p->addr = r->addr;
    p->loop = r->loop;
    buf_init(&p->in, 1 << 20);
    assert_int_equal(thread_start(&t, "peer", -1, fn, p), RC_OK);
    loop_run(r->loop);
    thread_join(&t);
}

static void refuses_other_protocols(void **state)
{
    struct rig *r = *state;
    rig_open(r, (struct want){.greet_ms = 10000});
    double plain = refused("server", "plain_http"), version = refused("server", "version");
    double bad = refused("server", "malformed"), alpn = refused("server", "protocol_unknown");

    struct peer p = {.text = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"};
    with_peer(r, &p, peer_plain);
    assert_true(raw_has(&p.in, "HTTP/1.1 400 "));
    assert_true(raw_has(&p.in, "\r\n\r\nThis port speaks HTTPS: use https:// to reach it"));
    assert_int_equal(str_find(buf_str(&p.in), STR_LIT("\r\n\r\n")) + 4 + 48, p.in.len);
    buf_deinit(&p.in);
    p = (struct peer){.text = "\x16\x03\x01\xff\xff garbage that is no handshake"};
    with_peer(r, &p, peer_plain);
    buf_deinit(&p.in);
    p = (struct peer){.version_max = TLS1_2_VERSION};
    with_peer(r, &p, peer_tls);
    assert_false(p.accepted);
    p = (struct peer){.version_max = TLS1_3_VERSION, .text = "spdy/3"};
    with_peer(r, &p, peer_tls);
    assert_false(p.accepted);
    p = (struct peer){.version_max = TLS1_3_VERSION, .text = "http/1.1"};
    with_peer(r, &p, peer_tls);
    assert_true(p.accepted);

    assert_true(refused("server", "plain_http") == plain + 1);
    assert_true(refused("server", "malformed") == bad + 1);
    assert_true(refused("server", "version") == version + 1);
    assert_true(refused("server", "protocol_unknown") == alpn + 1);
    assert_int_equal(ask(r, STR_LIT("still here")), RC_OK);
    rig_close(r);
}

static void a_stalled_handshake_ends(void **state)
{
    struct rig *r = *state;
    double before = refused("server", "timeout"), gone = refused("server", "hangup");
    rig_open(r, (struct want){.greet_ms = 30});
    struct peer p = {0};
    with_peer(r, &p, peer_plain); /* says nothing; returns when it was closed */
    assert_int_equal(p.in.len, 0);
    assert_true(refused("server", "timeout") == before + 1);
    buf_deinit(&p.in);
    /* One that is under way when the server ends does not outlive it. */
    rig_close(r);
    rig_open(r, (struct want){.greet_ms = 60000});
    int fd = raw_connect(&r->addr), other = raw_connect(&r->addr);
    close(other);
    while (refused("server", "hangup") == gone) {
        assert_int_equal(ask(r, STR_LIT("x")), RC_OK); /* it turns the loop meanwhile */
    }
    rig_close(r);
    close(fd);
}

static void swaps_certificates_under_load(void **state)
{
    struct rig *r = *state;
    struct tls_keep *follower = NULL;
    rig_open(r, (struct want){.look_ms = 5});
    assert_int_equal(tls_keep_follow(&follower, r->loop, r->server_tls, NULL), RC_OK);
    assert_ptr_equal(tls_keep_now(follower), tls_keep_now(r->server_tls));
    for (int i = 0; i < 200; i++) {
        if (i % 20 == 0) {
            certs_make(&r->certs, "server", "localhost", false, 3600 + i);
        }
        if (i % 50 == 7) {
            tls_keep_reload(r->server_tls); /* as SIGHUP does */
        }
        if (i % 5 == 0) {
            http_pool_flush(r->pool); /* a fresh handshake */
        }
        assert_int_equal(ask(r, STR_LIT("through all of it")), RC_OK);
        assert_int_equal(r->status, 200);
    }
    /* What cannot be loaded changes nothing. */
    uint64_t loads = tls_keep_loads(r->server_tls);
    double failures = metric_value(metric_get(METRIC_TLS_LOAD_FAILURES));
    assert_true(loads > 1);
    certs_put(&r->certs, "server.pem", STR_LIT("not a certificate"));
    while (metric_value(metric_get(METRIC_TLS_LOAD_FAILURES)) == failures) {
        http_pool_flush(r->pool);
        assert_int_equal(ask(r, STR_LIT("x")), RC_OK);
    }
    while (tls_keep_now(follower) != tls_keep_now(r->server_tls)) {
        assert_int_equal(ask(r, STR_LIT("x")), RC_OK); /* it comes in a turn */
    }
    assert_true(tls_keep_loads(follower) > 1);
    tls_keep_destroy(follower);
    rig_close(r);
}

static void refuses_settings_that_cannot_be(void **state)
{
    struct rig *r = *state;
    char cert[128], key[128];
    struct str bad_pin = STR_LIT("sha256//AAAA");
    struct tls_ctx *c = NULL;
    struct tls_conf good = {
        .server = true, .cert = in_dir(r, "server.pem", cert), .key = in_dir(r, "server.key", key)};
    struct tls_conf conf = good;
    conf.key = STR_LIT("");
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    conf = good;
    conf.cert = STR_LIT("/nowhere/cert.pem");
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    conf = good;
    conf.ask = TLS_ASK_REQUIRED; /* whom would it trust? */
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    conf = good;
    conf.pins = &bad_pin;
    conf.n_pins = 1;
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    conf.ask = TLS_ASK_REQUIRED;
    conf.ca = good.cert;
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    certs_make(&r->certs, "second", "localhost", false, 3600);
    conf = good;
    conf.cert = in_dir(r, "second.pem", cert); /* another key's */
    assert_int_equal(tls_ctx_load(&c, &conf, NULL), RC_INVALID);
    assert_null(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(carries_bodies_of_every_size),    TEST(a_client_trusts_only_what_it_was_told),
        TEST(a_server_asks_for_certificates),  TEST(refuses_other_protocols),
        TEST(a_stalled_handshake_ends),        TEST(swaps_certificates_under_load),
        TEST(refuses_settings_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
