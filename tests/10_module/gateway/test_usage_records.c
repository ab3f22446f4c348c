/* Usage records and decision records through the whole front door: what happens when they cannot
 * be written down, and what is told of a request while it is in memory. */
#include "10_module/gateway/rig.h"

#include <dirent.h>

#include "stores/journal.h"

struct place {
    char root[64], dir[96], db[96];
};

static void place_open(struct place *p)
{
    snprintf(p->root, sizeof(p->root), "/tmp/bud-test-XXXXXX");
    assert_non_null(mkdtemp(p->root));
    snprintf(p->dir, sizeof(p->dir), "%s/usage", p->root);
    snprintf(p->db, sizeof(p->db), "%s/meta.db", p->root);
}

static void folder_remove(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char inner[512];
        snprintf(inner, sizeof(inner), "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') {
            (void)unlink(inner);
        }
    }
    closedir(d);
    assert_int_equal(rmdir(path), 0);
}

static void place_close(struct place *p)
{
    folder_remove(p->dir);
    folder_remove(p->root);
}

static struct journal *place_journal(const struct place *p, uint32_t open_max)
{
    struct journal *j = NULL;
    struct err err = {0};
    const struct journal_conf conf = {
        .dir = p->dir, .meta_path = p->db, .file_bytes = 64 << 10, .open_max = open_max};
    if (journal_open(&j, &conf, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return j;
}

static int post(struct rig *r, const char *script, const char *more)
{
    char body[256];
    snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"p\",\"user\":\"%s\"%s}", script,
             more);
    return ask_send(&r->addr, COMPLETE, r->auth, str_from(body));
}

static int ask_status(struct rig *r, const char *script)
{
    struct answer a;
    ask_read(post(r, script, ""), &a);
    int status = a.status;
    answer_free(&a);
    return status;
}

static enum rc count_each(void *ctx, const struct meta_usage_sum *s)
{
    ((int64_t *)ctx)[0] = s->requests;
    ((int64_t *)ctx)[1] = s->failed;
    return RC_OK;
}

static void counts(const char *db, int64_t out[2])
{
    struct meta *m;
    const struct meta_usage_query q = {0};
    out[0] = out[1] = 0;
    assert_int_equal(meta_open(&m, db, NULL), RC_OK);
    assert_int_equal(meta_usage_sum(m, &q, count_each, out, NULL), RC_OK);
    meta_close(m);
}

/* One stream is held open: the journal, made for one, has no room for another request. */
static void beside_a_held_stream(bool serve, int status, int64_t n_records)
{
    struct place p;
    struct rig r = {0};
    struct buf in;
    int64_t n[2];
    place_open(&p);
    struct journal *j = place_journal(&p, 1);
    rig_open_more(&r, (struct gateway_conf){.journal = j, .serve_unwritten = serve});
    assert_int_equal(ask_status(&r, "ok"), 200);
    int held = post(&r, "hold", ",\"stream\":true");
    buf_init(&in, 1 << 20);
    while (str_find(buf_str(&in), STR_LIT("data:")) == in.len) {
        assert_true(raw_read(held, &in, ASK_WAIT_MS) > 0);
    }
    assert_int_equal(ask_status(&r, "ok"), status);
    close(held);
    rig_close(&r);
    journal_close(j);
    counts(p.db, n);
    assert_int_equal(n[0], n_records);
    assert_int_equal(n[1], 1); /* the one that was given up */
    buf_deinit(&in);
    place_close(&p);
}

static void what_cannot_be_written_down_is_refused(void **state)
{
    (void)state;
    beside_a_held_stream(false, 503, 2);
}

static void or_served_by_policy(void **state)
{
    (void)state;
    beside_a_held_stream(true, 200, 3); /* there was room for its end after all */
}

/* ---- decision records in memory ---- */

struct look {
    struct rig *r;
    const char *id;
    struct buf out;
    bool found;
    atomic_bool done;
};

static void look_on_loop(void *ctx)
{
    struct look *l = ctx;
    l->found = gateway_explain(l->r->gateway, str_from(l->id), &l->out);
    atomic_store(&l->done, true);
}

/* Rows come when the exchange has closed, which the client may see first. */
static void look(struct rig *r, const char *id, const char *says)
{
    struct look l = {.r = r, .id = id};
    buf_init(&l.out, 1 << 16);
    for (int i = 0; i < WAIT_ROUNDS && !l.found; i++) {
        atomic_store(&l.done, false);
        assert_int_equal(loop_post(r->loop, look_on_loop, &l), RC_OK);
        while (!atomic_load(&l.done)) {
            usleep(1000);
        }
    }
    assert_true(l.found);
    if (strstr(l.out.ptr, says) == NULL) {
        fail_msg("'%s' does not say '%s'", l.out.ptr, says);
    }
    buf_deinit(&l.out);
}

static int post_as(struct rig *r, const char *id, const char *script, const char *more)
{
    char auth[sizeof(r->auth)], before[sizeof(r->auth)];
    memcpy(before, r->auth, sizeof(before));
    int n = snprintf(auth, sizeof(auth), "%sx-request-id: %s\r\n", before, id);
    assert_true(n > 0 && (size_t)n < sizeof(auth));
    memcpy(r->auth, auth, sizeof(auth));
    int fd = post(r, script, more);
    memcpy(r->auth, before, sizeof(before));
    return fd;
}

static void ask_as(struct rig *r, const char *id, const char *script)
{
    struct answer a;
    ask_read(post_as(r, id, script, ""), &a);
    answer_free(&a);
}

/* Hanging up in time is not for nothing: a server has read the prompt. */
static void who_goes_before_the_answer_has_used_the_prompt(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_open_more(&r, (struct gateway_conf){0});
    int fd = post_as(&r, "gone", "told", "");
    wait_for(&r.fake.n_requests, 1);
    close(fd);
    look(&r, "gone", "\"prompt_tokens\":10,\"cached_tokens\":0,\"output_tokens\":0");
    look(&r, "gone", "\"estimated\":true");
    rig_ready(&r, false);
    fd = post_as(&r, "early", "ok", ""); /* nobody is there to read this one */
    close(fd);
    look(&r, "early", "\"prompt_tokens\":0");
    rig_close(&r);
}

/* Of two attempts the one that answered is what was used. */
static void counts_are_of_the_attempt_that_answered(void **state)
{
    (void)state;
    struct rig r = {0};
    struct answer a;
    rig_open_more(&r, (struct gateway_conf){0});
    ask_read(post_as(&r, "twice", "counted-cut-once", ",\"stream\":true"), &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    look(&r, "twice", "\"attempts\":2");
    look(&r, "twice", "\"cached_tokens\":0,\"output_tokens\":2");
    look(&r, "twice", "\"estimated\":true");
    rig_close(&r);
}

static void what_was_tried_is_told(void **state)
{
    (void)state;
    struct rig r = {0};
    rig_open_more(&r, (struct gateway_conf){0});
    ask_as(&r, "a", "close-once");
    look(&r, "a", "\"attempts\":2,\"tried\":[{\"server\":\"local\",\"http_status\":0,");
    look(&r, "a", "\"why\":\"the only version\"");
    ask_as(&r, "b", "500");
    look(&r, "b", "\"http_status\":500,\"failed\":true");
    r.auth[30] ^= 1; /* another key: nobody's */
    ask_as(&r, "c", "ok");
    struct look none = {.r = &r, .id = "c"};
    buf_init(&none.out, 1 << 16);
    assert_int_equal(loop_post(r.loop, look_on_loop, &none), RC_OK);
    while (!atomic_load(&none.done)) {
        usleep(1000);
    }
    assert_false(none.found);
    buf_deinit(&none.out);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_written_down_is_refused),
        cmocka_unit_test(or_served_by_policy),
        cmocka_unit_test(counts_are_of_the_attempt_that_answered),
        cmocka_unit_test(what_was_tried_is_told),
        cmocka_unit_test(who_goes_before_the_answer_has_used_the_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
