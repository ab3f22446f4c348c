/* Listeners and connections without HTTP: sockets files, caps, back-pressure, ends. */
#include "raw.h"

#include <sys/stat.h>

#include "base/thread.h"
#include "net/listen.h"
#include "net/loop.h"

/* One accepted connection under test; the loop stops when it is closed. */
struct end {
    struct loop *loop;
    struct listener *listener;
    struct conn *conn;
    struct loop_timer timer;
    struct buf seen;
    int n_read, n_end, n_hangup, n_drain, n_flush, n_deadline, n_close;
    size_t use_max; /* on_read uses at most this */
    bool pause_on_read, end_on_read, close_on_read;
    enum rc why;
};

static size_t on_read(void *ctx, struct str bytes)
{
    struct end *e = ctx;
    e->n_read++;
    size_t n = e->use_max > 0 ? MIN(e->use_max, bytes.len) : bytes.len;
    buf_add(&e->seen, bytes.ptr, n);
    if (e->pause_on_read && e->n_read == 1) {
        conn_read_pause(e->conn);
    }
    if (e->end_on_read) {
        conn_write(e->conn, STR_LIT("bye"));
        conn_end(e->conn);
    }
    if (e->close_on_read) {
        conn_write(e->conn, STR_LIT("never sent"));
        conn_close(e->conn, RC_INVALID);
        conn_close(e->conn, RC_OK);
        assert_int_equal(e->n_close, 0);
    }
    return n;
}

static void on_end(void *ctx)
{
    struct end *e = ctx;
    e->n_end++;
    conn_end(e->conn);
}

static void on_hangup(void *ctx)
{
    struct end *e = ctx;
    e->n_hangup++;
    if (e->pause_on_read) {
        assert_int_equal(e->n_end, 0);
        conn_read_resume(e->conn);
    }
}

static void on_drain(void *ctx)
{
    struct end *e = ctx;
    e->n_drain++;
    assert_true(conn_is_writable(e->conn));
}

static void on_flush(void *ctx)
{
    struct end *e = ctx;
    e->n_flush++;
    assert_int_equal(conn_queued_bytes(e->conn), 0);
}

static void on_deadline(void *ctx)
{
    struct end *e = ctx;
    e->n_deadline++;
    conn_close(e->conn, RC_TIMEOUT);
}

static void on_close(void *ctx, enum rc why)
{
    struct end *e = ctx;
    e->n_close++;
    e->why = why;
    loop_stop(e->loop);
}

static const struct conn_events events = {.on_read = on_read,
                                          .on_end = on_end,
                                          .on_hangup = on_hangup,
                                          .on_drain = on_drain,
                                          .on_flush = on_flush,
                                          .on_deadline = on_deadline,
                                          .on_close = on_close};

static void accepted(void *ctx, struct conn *c)
{
    struct end *e = ctx;
    e->conn = c;
    conn_set_events(c, &events, e);
    loop_stop(e->loop);
}

static void end_start(struct end *e, const char *listen, struct conn_conf conf, int *fd)
{
    *e = (struct end){0};
    buf_init(&e->seen, 16 << 20);
    assert_int_equal(loop_create(&e->loop, clock_system(), NULL), RC_OK);
    struct listen_conf lc = {.conn = conf};
    assert_int_equal(addr_parse(&lc.addr, str_from(listen), NULL), RC_OK);
    assert_int_equal(listen_open(&e->listener, e->loop, &lc, accepted, e, NULL), RC_OK);
    *fd = raw_connect(listen_addr(e->listener));
    loop_run(e->loop);
    assert_non_null(e->conn);
}

static void end_stop(struct end *e, int fd)
{
    listen_close(e->listener);
    close(fd);
    loop_destroy(e->loop);
    buf_deinit(&e->seen);
    assert_int_equal(e->n_close, 1);
}

static void hands_over_what_was_not_used(void **state)
{
    (void)state;
    struct end e;
    int fd;
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    e.use_max = 3;
    e.pause_on_read = true; /* the rest waits, and is offered again after the hang-up */
    assert_true(raw_puts(fd, "abcdef"));
    shutdown(fd, SHUT_WR);
    loop_run(e.loop);
    assert_true(str_is(buf_str(&e.seen), "abcdef"));
    assert_int_equal(e.n_hangup, 1);
    assert_int_equal(e.n_read, 2);
    assert_int_equal(e.n_close, 1);
    end_stop(&e, fd);
}

static void stops_reading_when_nobody_reads(void **state)
{
    (void)state;
    struct end e;
    int fd;
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    conn_read_pause(e.conn);
    conn_deadline_set(e.conn, 150);
    int small = 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    struct timeval wait = {.tv_usec = 100000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    static char block[16 << 20];
    assert_false(raw_send(fd, str_make(block, sizeof(block)))); /* the kernel's buffers are full */
    loop_run(e.loop);
    assert_int_equal(e.n_read, 0);
    assert_int_equal(e.n_deadline, 1);
    assert_int_equal(e.why, RC_TIMEOUT);
    end_stop(&e, fd);
}

static void read_all(void *arg)
{
    int fd = *(int *)arg;
    struct buf in;
    buf_init(&in, 64 << 20);
    raw_to_end(fd, &in);
    assert_int_equal(in.len, 8 << 20);
    buf_deinit(&in);
}

static void tells_when_it_may_write_again(void **state)
{
    (void)state;
    struct end e;
    int fd;
    struct thread t = {0};
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    static const char block[1 << 20] = {'x'};
    for (int i = 0; i < 8; i++) {
        conn_write(e.conn, str_make(block, sizeof(block)));
    }
    assert_false(conn_is_writable(e.conn));
    assert_int_equal(conn_queued_bytes(e.conn), 8 << 20);
    assert_int_equal(e.n_drain + e.n_flush, 0);
    conn_end(e.conn);
    assert_int_equal(thread_start(&t, "reader", -1, read_all, &fd), RC_OK);
    loop_run(e.loop);
    thread_join(&t);
    assert_int_equal(e.why, RC_OK);
    end_stop(&e, fd);
}

static void closes_a_stalled_writer(void **state)
{
    (void)state;
    struct end e;
    int fd;
    end_start(&e, "127.0.0.1:0", (struct conn_conf){.write_stall_ms = 50}, &fd);
    static const char block[1 << 20] = {'x'};
    for (int i = 0; i < 30; i++) {
        conn_write(e.conn, str_make(block, sizeof(block)));
    }
    loop_run(e.loop);
    assert_int_equal(e.why, RC_TIMEOUT);
    assert_int_equal(e.n_flush, 0);
    end_stop(&e, fd);
}

static void closes_at_the_output_cap(void **state)
{
    (void)state;
    struct end e;
    int fd;
    struct conn_conf conf = {
        .write_bytes_max = 1000, .write_high_bytes = 500, .write_low_bytes = 100};
    end_start(&e, "127.0.0.1:0", conf, &fd);
    static const char block[600] = {'x'};
    conn_write(e.conn, str_make(block, sizeof(block)));
    assert_int_equal(e.n_close, 0);
    conn_write(e.conn, str_make(block, sizeof(block)));
    loop_run(e.loop);
    assert_int_equal(e.why, RC_OVERLOADED);
    end_stop(&e, fd);
}

static void ends_after_sending(void **state)
{
    (void)state;
    struct end e;
    int fd;
    struct buf in;
    buf_init(&in, 1000);
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    e.end_on_read = true;
    assert_true(raw_puts(fd, "x"));
    assert_true(raw_puts(fd, "more, which nobody wants"));
    shutdown(fd, SHUT_WR);
    loop_run(e.loop);
    assert_int_equal(e.why, RC_OK);
    assert_true(raw_to_end(fd, &in));
    assert_true(str_is(buf_str(&in), "bye"));
    buf_deinit(&in);
    end_stop(&e, fd);
}

static void lingers_a_bounded_time(void **state)
{
    (void)state;
    struct end e;
    int fd;
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    uint64_t start = raw_now_ms();
    conn_end(e.conn); /* the peer never ends its side */
    loop_run(e.loop);
    uint64_t took = raw_now_ms() - start;
    assert_int_equal(e.why, RC_OK);
    assert_true(took >= CONN_LINGER_MS - 10 && took < CONN_LINGER_MS + 3000);
    end_stop(&e, fd);
}

static void closes_once_and_later(void **state)
{
    (void)state;
    struct end e;
    int fd;
    struct buf in;
    buf_init(&in, 1000);
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    e.close_on_read = true;
    assert_true(raw_puts(fd, "x"));
    loop_run(e.loop);
    assert_int_equal(e.why, RC_INVALID);
    raw_to_end(fd, &in);
    assert_int_equal(in.len, 0);
    buf_deinit(&in);
    end_stop(&e, fd);
}

static void a_reset_is_a_hangup(void **state)
{
    (void)state;
    struct end e;
    int fd;
    end_start(&e, "127.0.0.1:0", (struct conn_conf){0}, &fd);
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    loop_run(e.loop);
    assert_int_equal(e.why, RC_CANCELLED);
    end_stop(&e, socket(AF_INET, SOCK_STREAM, 0));
}

/* --- listeners ---------------------------------------------------------------------------- */

static void nobody(void *ctx, struct conn *c)
{
    (void)ctx;
    conn_close(c, RC_OK);
}

static void unix_sockets_replace_only_stale_ones(void **state)
{
    (void)state;
    char text[64];
    struct stat st;
    struct err err;
    struct loop *l;
    struct listener *a, *b, *c;
    struct listen_conf conf = {0};
    snprintf(text, sizeof(text), "unix:/tmp/bud-listen-%d.sock", (int)getpid());
    const char *path = text + 5;
    assert_int_equal(addr_parse(&conf.addr, str_from(text), NULL), RC_OK);
    assert_int_equal(loop_create(&l, clock_system(), NULL), RC_OK);
    /* Left over by one that died: nobody answers. */
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&conf.addr.sa, conf.addr.sa_bytes), 0);
    close(stale);
    assert_int_equal(listen_open(&a, l, &conf, nobody, NULL, &err), RC_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* Somebody listens. */
    assert_int_equal(listen_open(&b, l, &conf, nobody, NULL, &err), RC_CONFLICT);
    assert_non_null(strstr(err.msg, path));
    /* A successor took the name: the predecessor must not remove it. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(listen_open(&c, l, &conf, nobody, NULL, &err), RC_OK);
    listen_close(a);
    assert_int_equal(access(path, F_OK), 0);
    listen_close(c);
    listen_close(c);
    assert_int_not_equal(access(path, F_OK), 0);
    /* Not a socket at all. */
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(listen_open(&b, l, &conf, nobody, NULL, &err), RC_CONFLICT);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    assert_int_equal(addr_parse(&conf.addr, STR_LIT("unix:/nowhere/x.sock"), NULL), RC_OK);
    assert_int_equal(listen_open(&b, l, &conf, nobody, NULL, &err), RC_INVALID);
    loop_destroy(l);
}

static void ports_are_shared_only_in_a_group(void **state)
{
    (void)state;
    struct err err;
    struct loop *l;
    struct listener *a, *b, *c;
    struct listen_group *ours, *theirs;
    listen_group_create(&ours, 10);
    listen_group_create(&theirs, 10);
    struct listen_conf conf = {.group = ours};
    assert_int_equal(addr_parse(&conf.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(loop_create(&l, clock_system(), NULL), RC_OK);
    assert_int_equal(listen_open(&a, l, &conf, nobody, NULL, &err), RC_OK);
    assert_true(addr_port(listen_addr(a)) != 0);
    assert_int_equal(listen_open(&b, l, &conf, nobody, NULL, &err), RC_OK); /* the same port */
    assert_int_equal(addr_port(listen_addr(a)), addr_port(listen_addr(b)));
    /* Who comes alone, or with a group of its own as another process would, is refused. */
    conf.addr = *listen_addr(a);
    conf.group = NULL;
    assert_int_equal(listen_open(&c, l, &conf, nobody, NULL, &err), RC_CONFLICT);
    conf.group = theirs;
    assert_int_equal(listen_open(&c, l, &conf, nobody, NULL, &err), RC_CONFLICT);
    listen_close(a);
    assert_int_equal(listen_open(&c, l, &conf, nobody, NULL, &err), RC_CONFLICT);
    listen_close(b);
    /* 192.0.2.0/24 is documentation's: no machine has it. */
    assert_int_equal(addr_parse(&conf.addr, STR_LIT("192.0.2.1:0"), NULL), RC_OK);
    assert_int_equal(listen_open(&b, l, &conf, nobody, NULL, &err), RC_INVALID);
    listen_group_put(ours);
    listen_group_put(theirs);
    loop_destroy(l);
}

struct flood {
    struct loop *loop;
    struct listener *listener;
    int n_left;
};

static void count_accepted(void *ctx, struct conn *c)
{
    struct flood *f = ctx;
    conn_close(c, RC_OK);
    if (--f->n_left == 0) {
        loop_stop(f->loop);
    }
}

static void accepts_more_than_one_turn_takes(void **state)
{
    (void)state;
    enum { N = LISTEN_TURN_MAX * 3 + 5 };
    struct flood f = {.n_left = N};
    struct listen_conf conf = {0};
    int fds[N];
    assert_int_equal(addr_parse(&conf.addr, STR_LIT("127.0.0.1:0"), NULL), RC_OK);
    assert_int_equal(loop_create(&f.loop, clock_system(), NULL), RC_OK);
    assert_int_equal(listen_open(&f.listener, f.loop, &conf, count_accepted, &f, NULL), RC_OK);
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(listen_addr(f.listener));
    }
    loop_run(f.loop);
    assert_int_equal(listen_stats(f.listener).n_accepted, N);
    for (int i = 0; i < N; i++) {
        close(fds[i]);
    }
    listen_close(f.listener);
    loop_destroy(f.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_over_what_was_not_used),
        cmocka_unit_test(stops_reading_when_nobody_reads),
        cmocka_unit_test(tells_when_it_may_write_again),
        cmocka_unit_test(closes_a_stalled_writer),
        cmocka_unit_test(closes_at_the_output_cap),
        cmocka_unit_test(ends_after_sending),
        cmocka_unit_test(lingers_a_bounded_time),
        cmocka_unit_test(closes_once_and_later),
        cmocka_unit_test(a_reset_is_a_hangup),
        cmocka_unit_test(unix_sockets_replace_only_stale_ones),
        cmocka_unit_test(ports_are_shared_only_in_a_group),
        cmocka_unit_test(accepts_more_than_one_turn_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
