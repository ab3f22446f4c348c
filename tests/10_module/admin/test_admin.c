/* The admin listener over sockets: who may, what the worker's line does under many callers, under
 * callers who leave, and when it ends with requests in line. */
#include "check.h"

#include "10_module/ask.h"

#include <stdatomic.h>
#include <unistd.h>

#include "admin/admin.h"
#include "auth/key.h"
#include "base/thread.h"
#include "net/loop.h"

enum { CALLERS = 8, EACH = 6 };

struct fixture {
    char dir[64], db[96], key_file[96];
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
    struct audit *audit;
    struct admin_store store;
    struct arena arena;
    struct rbac_set sets[2]; /* of "owner" and "viewer" */
    struct loop *loop;
    struct admin *admin;
    struct addr addr;
    struct thread thread;
    int n_held;                  /* the loop's */
    struct admin_caller *caller; /* who is being found out */
    char token[32];
    atomic_int n_abandoned;
};

static enum rc check_catalogue(void *ctx, struct meta *m, struct err *err)
{
    (void)ctx, (void)m, (void)err;
    return RC_OK;
}

static enum rc check_limits(void *ctx, const struct json *limits, struct err *err)
{
    (void)ctx, (void)limits, (void)err;
    return RC_OK;
}

static bool is_ready(void *ctx)
{
    (void)ctx;
    return true;
}

/* Who it is, once it is known. */
static enum rc authenticate_now(struct fixture *f, struct admin_caller *c, struct str token,
                                struct err *err)
{
    bool owner = str_is(token, "owner");
    if (!owner && !str_is(token, "viewer")) {
        return err_set(err, RC_UNAUTHENTICATED, "who?");
    }
    token = owner ? STR_LIT("owner") : STR_LIT("viewer");
    c->who = (struct principal){.kind = PRINCIPAL_KEY,
                                .id = token,
                                .roles = token,
                                .grants = {.roles = {&f->sets[owner ? 0 : 1]}, .n_roles = 1}};
    c->held = f;
    f->n_held++;
    return RC_OK;
}

static void authenticate_later(void *ctx)
{
    struct fixture *f = ctx;
    struct admin_caller *c = f->caller;
    struct err err = {0};
    if (c == NULL) {
        return; /* it went while it waited */
    }
    f->caller = NULL;
    (void)!authenticate_now(f, c, str_from(f->token), &err);
    c->done(c, &err);
}

/* The bearer's token is the role; "later-…" is known a moment later, "never" not at all. */
static enum rc authenticate(void *ctx, struct http_exchange *x, struct admin_caller *c, bool *later,
                            struct err *err)
{
    struct fixture *f = ctx;
    struct str token =
        key_from_bearer(http_head_value(http_exchange_head(x), STR_LIT("authorization")));
    bool waits = str_starts(token, STR_LIT("later-"));
    *later = waits || str_is(token, "never");
    if (!*later) {
        return authenticate_now(f, c, token, err);
    }
    f->caller = c;
    c->authenticator = f;
    if (waits) {
        assert_true(str_copy(f->token, sizeof(f->token), str_slice(token, 6, token.len)));
        assert_int_equal(loop_post(f->loop, authenticate_later, f), RC_OK);
    }
    return RC_OK;
}

static void abandon(struct admin_caller *c)
{
    struct fixture *f = c->authenticator;
    if (f != NULL && f->caller == c) {
        f->caller = NULL;
        atomic_fetch_add(&f->n_abandoned, 1);
    }
}

static void put(void *ctx, void *held)
{
    struct fixture *f = ctx;
    assert_ptr_equal(held, f);
    f->n_held--;
}

static void reply_error(struct http_exchange *x, const struct err *err, const char *allow)
{
    struct http_reply reply = {.status = err_row(err->code)->http_status,
                               .body = str_from(allow != NULL ? allow : err->msg)};
    if (http_exchange_reply(x, &reply, NULL) != RC_OK) {
        http_exchange_abort(x);
    }
}

static void write_status(void *ctx, struct json_writer *w)
{
    (void)ctx;
    json_write_member_i64(w, "x", 1);
}

static void drain(void *ctx)
{
    (void)ctx;
}

/* Done at once would be against the contract: done by a post. */
struct reload {
    admin_reloaded done;
    void *ctx;
};

static void reload_post(void *ctx)
{
    struct reload *r = ctx;
    struct err err = {0};
    r->done(r->ctx, &err);
    free(r);
}

static enum rc reload(void *ctx, admin_reloaded done, void *done_ctx, struct err *err)
{
    struct fixture *f = ctx;
    struct reload *r = calloc(1, sizeof(*r));
    (void)err;
    *r = (struct reload){done, done_ctx};
    assert_int_equal(loop_post(f->loop, reload_post, r), RC_OK);
    return RC_OK;
}

static void run(void *arg)
{
    loop_run(((struct fixture *)arg)->loop);
}

static enum rc compile(struct fixture *f, int i, const char *role)
{
    uint32_t n;
    const struct str *permissions = rbac_builtin(str_from(role), &n);
    return rbac_compile(&f->sets[i], permissions, n, &f->arena, NULL);
}

static int fixture_make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = {0};
    *state = f;
    snprintf(f->dir, sizeof(f->dir), "/tmp/bud-test-XXXXXX");
    if (mkdtemp(f->dir) == NULL) {
        return 1;
    }
    snprintf(f->db, sizeof(f->db), "%s/meta.db", f->dir);
    snprintf(f->key_file, sizeof(f->key_file), "%s/kms.key", f->dir);
    arena_init(&f->arena, 1 << 20);
    if (meta_open(&f->meta, f->db, &err) != RC_OK ||
        kms_open_file(&f->kms, f->key_file, &err) != RC_OK ||
        key_pepper_load(&f->pepper, f->meta, f->kms, &err) != RC_OK ||
        audit_open(&f->audit, f->meta, f->kms, &err) != RC_OK || compile(f, 0, "owner") != RC_OK ||
        compile(f, 1, "viewer") != RC_OK) {
        return 1;
    }
    f->store =
        (struct admin_store){.meta = f->meta,
                             .kms = f->kms,
                             .pepper = &f->pepper,
                             .audit = f->audit,
                             .catalogue = {.check = check_catalogue, .check_limits = check_limits}};
    struct admin_conf conf = {.store = &f->store,
                              .is_ready = is_ready,
                              .authenticate = authenticate,
                              .abandon = abandon,
                              .put = put,
                              .reply_error = reply_error,
                              .write_status = write_status,
                              .drain = drain,
                              .reload = reload,
                              .ctx = f};
    return addr_parse(&conf.listen, STR_LIT("127.0.0.1:0"), NULL) != RC_OK ||
           loop_create(&f->loop, clock_system(), &err) != RC_OK ||
           admin_create(&f->admin, f->loop, &conf, &f->addr, &err) != RC_OK ||
           thread_start(&f->thread, "admin", -1, run, f) != RC_OK;
}

static int fixture_remove(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"meta.db", "meta.db-wal", "meta.db-shm", "kms.key"};
    loop_stop(f->loop);
    thread_join(&f->thread);
    admin_destroy(f->admin);
    loop_destroy(f->loop);
    int n_held = f->n_held;
    audit_close(f->audit);
    meta_close(f->meta);
    kms_close(f->kms);
    arena_deinit(&f->arena);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    rmdir(f->dir);
    free(f);
    return n_held; /* everything taken was given back */
}

static int status_of(struct fixture *f, const char *start, const char *role, const char *body)
{
    struct answer a;
    char auth[64];
    snprintf(auth, sizeof(auth), "authorization: Bearer %s\r\n", role);
    ask(&f->addr, start, auth, body, &a);
    int status = a.status;
    answer_free(&a);
    return status;
}

static void who_may_is_settled_before_anything_is_read(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(status_of(f, "GET /livez", "nobody", ""), 200);
    assert_int_equal(status_of(f, "GET /admin/v1/keys", "nobody", ""), 401);
    assert_int_equal(status_of(f, "GET /admin/v1/keys", "viewer", ""), 200);
    assert_int_equal(status_of(f, "POST /admin/v1/keys", "viewer", "{}"), 403);
    assert_int_equal(status_of(f, "POST /admin/v1/keys", "owner", "{}"), 201);
    assert_int_equal(status_of(f, "DELETE /admin/v1/keys", "owner", ""), 405);
    assert_int_equal(status_of(f, "GET /admin/v1/nothing", "owner", ""), 404);
    assert_int_equal(status_of(f, "GET /metrics", "nobody", ""), 401);
    assert_int_equal(status_of(f, "GET /metrics", "viewer", ""), 200);
    assert_int_equal(status_of(f, "GET /admin/v1/health", "viewer", ""), 200);
    assert_int_equal(status_of(f, "GET /admin/v1/openapi.json", "viewer", ""), 200);
    assert_int_equal(status_of(f, "POST /admin/v1/config/reload", "owner", ""), 200);
    assert_int_equal(status_of(f, "POST /admin/v1/drain", "owner", ""), 202);
}

static void who_asks_may_be_known_later(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(status_of(f, "POST /admin/v1/keys", "later-owner", "{}"), 201);
    assert_int_equal(status_of(f, "POST /admin/v1/keys", "later-viewer", "{}"), 403);
    assert_int_equal(status_of(f, "POST /admin/v1/keys", "later-nobody", "{}"), 401);
    assert_int_equal(status_of(f, "GET /admin/v1/keys", "later-viewer", ""), 200);
    assert_int_equal(status_of(f, "GET /metrics", "later-viewer", ""), 200);
    assert_int_equal(status_of(f, "GET /metrics", "later-nobody", ""), 401);
    assert_int_equal(status_of(f, "GET /admin/v1/openapi.json", "later-viewer", ""), 200);
}

/* The client goes while it is being found out who it is: nobody is told any more. */
static void a_caller_may_go_before_it_is_known(void **state)
{
    struct fixture *f = *state;
    int fd = ask_send(&f->addr, "GET /metrics", "authorization: Bearer never\r\n", STR_LIT(""));
    close(fd);
    for (int i = 0; atomic_load(&f->n_abandoned) < 1; i++) {
        assert_true(i < 20000);
        usleep(1000);
    }
    assert_int_equal(status_of(f, "GET /metrics", "owner", ""), 200);
}

struct caller {
    struct fixture *f;
    int number, n_made;
    struct thread thread;
};

static void caller_run(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < EACH; i++) {
        char start[64], auth[] = "authorization: Bearer owner\r\n";
        snprintf(start, sizeof(start), "PUT /admin/v1/users/u%d-%d", c->number, i);
        if (i % 3 == 2) { /* leaves without waiting for the answer */
            close(ask_send(&c->f->addr, start, auth, STR_LIT("{}")));
        } else {
            c->n_made += status_of(c->f, start, "owner", "{}") == 201;
        }
    }
}

static void many_callers_stand_in_line(void **state)
{
    struct fixture *f = *state;
    struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.f = f, .number = i};
        assert_int_equal(thread_start(&callers[i].thread, "caller", -1, caller_run, &callers[i]),
                         RC_OK);
    }
    for (int i = 0; i < CALLERS; i++) {
        thread_join(&callers[i].thread);
        assert_int_equal(callers[i].n_made, EACH - EACH / 3);
    }
    assert_int_equal(status_of(f, "GET /admin/v1/audit/verify", "owner", ""), 200);
}

/* The fixture is taken down behind it while requests are in line and on the worker. */
static void it_ends_with_requests_in_line(void **state)
{
    struct fixture *f = *state;
    int fds[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        char start[64];
        snprintf(start, sizeof(start), "PUT /admin/v1/users/e%d", i);
        fds[i] = ask_send(&f->addr, start, "authorization: Bearer owner\r\n", STR_LIT("{}"));
    }
    assert_int_equal(status_of(f, "GET /livez", "owner", ""), 200); /* they were seen */
    loop_stop(f->loop);
    thread_join(&f->thread);
    for (int i = 0; i < CALLERS; i++) {
        close(fds[i]);
    }
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(who_may_is_settled_before_anything_is_read),
        WITH_FIXTURE(who_asks_may_be_known_later),
        WITH_FIXTURE(a_caller_may_go_before_it_is_known),
        WITH_FIXTURE(many_callers_stand_in_line),
        WITH_FIXTURE(it_ends_with_requests_in_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
