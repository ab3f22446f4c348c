/* A write that libuv finishes before it says so: the first try takes half, uv_write the rest at
 * once, and its callback comes a turn later. */
#include "net/loop.h"

#include <sys/socket.h>
#include <uv.h>

static ssize_t half_send(int fd, const void *bytes, size_t n, int flags);
#define send half_send
#include "net/conn.c"
#undef send

static ssize_t half_send(int fd, const void *bytes, size_t n, int flags)
{
    return send(fd, bytes, n / 2, flags);
}

#include "raw.h"

#include "net/listen.h"

struct late {
    struct loop *loop;
    struct conn *conn;
    struct loop_timer limit;
    bool timed_out;
    int n_close;
};

static size_t late_read(void *ctx, struct str bytes)
{
    (void)ctx;
    return bytes.len;
}

static void late_end(void *ctx)
{
    (void)ctx;
}

static void late_close(void *ctx, enum rc why)
{
    struct late *l = ctx;
    assert_int_equal(why, RC_OK);
    l->n_close++;
    loop_stop(l->loop);
}

static void late_limit(void *ctx)
{
    struct late *l = ctx;
    l->timed_out = true;
    loop_stop(l->loop);
}

static const struct conn_events late_events = {
    .on_read = late_read, .on_end = late_end, .on_close = late_close};

static void late_accepted(void *ctx, struct conn *c)
{
    struct late *l = ctx;
    l->conn = c;
    conn_set_events(c, &late_events, l);
    conn_write(c, STR_LIT("all of it is sent before anybody says so"));
    conn_end(c);
}

/* The peer neither sends nor ends: only the linger time can close the connection. */
static void lingers_no_longer_than_it_may(void **state)
{
    (void)state;
    struct late l = {0};
    struct listener *listener = NULL;
    assert_int_equal(loop_create(&l.loop, clock_system(), NULL), RC_OK);
    struct listen_conf lc = {0};
    assert_int_equal(addr_parse(&lc.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(listen_open(&listener, l.loop, &lc, late_accepted, &l, NULL), RC_OK);
    loop_timer_init(&l.limit, l.loop, late_limit, &l);
    loop_timer_start(&l.limit, 20 * CONN_LINGER_MS);
    int fd = raw_connect(listen_addr(listener));
    loop_run(l.loop);
    loop_timer_stop(&l.limit);
    assert_false(l.timed_out);
    assert_int_equal(l.n_close, 1);
    listen_close(listener);
    close(fd);
    loop_destroy(l.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lingers_no_longer_than_it_may)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
