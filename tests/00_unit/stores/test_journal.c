/* The usage journal: lines, rotation, a full disk, and what is left after a death at any moment:
 * no record lost, none doubled. A death is a copy of the files while the journal lives. */
#include "check.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/thread.h"
#include "stores/journal.h"

enum { OPEN_MAX = 8, FILE_BYTES = 16 << 10 };

struct place {
    char root[64], dir[96], copy[96], db[96];
};

static int place_make(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    snprintf(p->root, sizeof(p->root), "/tmp/bud-test-XXXXXX");
    if (mkdtemp(p->root) == NULL) {
        return 1;
    }
    snprintf(p->dir, sizeof(p->dir), "%s/usage", p->root);
    snprintf(p->copy, sizeof(p->copy), "%s/copy", p->root);
    snprintf(p->db, sizeof(p->db), "%s/meta.db", p->root);
    *state = p;
    return 0;
}

static void path_remove(const char *path)
{
    DIR *d = opendir(path);
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char inner[512];
        snprintf(inner, sizeof(inner), "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.' && unlink(inner) != 0) {
            path_remove(inner);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    rmdir(path);
}

static int place_remove(void **state)
{
    struct place *p = *state;
    path_remove(p->root);
    free(p);
    return 0;
}

/* Calls edit(bytes, n) for every log file of the copy. */
static uint32_t copy_files(const struct place *p, void (*edit)(char *bytes, size_t n))
{
    uint32_t n_logs = 0;
    assert_int_equal(file_make_dirs(p->copy, NULL), RC_OK);
    DIR *d = opendir(p->dir);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char from[512], to[512];
        struct buf b;
        if (e->d_name[0] == '.') {
            continue;
        }
        snprintf(from, sizeof(from), "%s/%s", p->dir, e->d_name);
        snprintf(to, sizeof(to), "%s/%s", p->copy, e->d_name);
        buf_init(&b, 64 << 20);
        assert_int_equal(file_read(from, &b, NULL), RC_OK);
        if (str_ends(str_from(e->d_name), STR_LIT(".log"))) {
            n_logs++;
            if (edit != NULL) {
                edit(b.ptr, b.len);
            }
        }
        assert_int_equal(file_write_atomic(to, buf_str(&b), 0600, NULL), RC_OK);
        buf_deinit(&b);
    }
    closedir(d);
    return n_logs;
}

static uint32_t count_files(const char *dir)
{
    uint32_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.' && strcmp(e->d_name, "lock") != 0;
    }
    closedir(d);
    return n;
}

static struct journal *open_journal_folding(const struct place *p, uint32_t fold_ms)
{
    struct journal *j = NULL;
    struct err err = {0};
    const struct journal_conf conf = {.dir = p->dir,
                                      .meta_path = p->db,
                                      .file_bytes = FILE_BYTES,
                                      .open_max = OPEN_MAX,
                                      .sync_ms = 5,
                                      .fold_ms = fold_ms};
    if (journal_open(&j, &conf, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return j;
}

static struct journal *open_journal(const struct place *p)
{
    return open_journal_folding(p, 20);
}

static struct meta *open_meta(const char *path)
{
    struct meta *m = NULL;
    assert_int_equal(meta_open(&m, path, NULL), RC_OK);
    return m;
}

static const struct usage_price price = {
    .input = 2000000, .cached_input = 1000000, .output = 5000000};

static struct meta_usage row_of(const char *request_id)
{
    return (struct meta_usage){.request_id = str_from(request_id),
                               .route = STR_LIT("chat"),
                               .key = STR_LIT("key_1"),
                               .user = STR_LIT(""),
                               .project = STR_LIT("p"),
                               .model = STR_LIT("m"),
                               .version = STR_LIT("1"),
                               .upstream = STR_LIT("local"),
                               .status = STR_LIT("ok"),
                               .http_status = 200,
                               .started_ms = 1000,
                               .duration_ms = 7,
                               .prompt_tokens = 11,
                               .cached_tokens = 4,
                               .output_tokens = 3,
                               .cost_nano = 33};
}

static void begin(struct journal *j, struct journal_ticket *t, const char *request_id)
{
    struct meta_usage row = row_of(request_id);
    struct err err = {0};
    if (journal_begin(j, t, &row, &price, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
}

static void settle(struct journal *j, struct journal_ticket *t, const char *request_id)
{
    struct meta_usage row = row_of(request_id);
    journal_settle(j, t, &row);
}

/* "request_id status prompt+output cost", by request id. */
struct rows {
    uint32_t n;
    char lines[64][96];
};

static enum rc rows_each(void *ctx, const struct meta_usage *u)
{
    struct rows *r = ctx;
    assert_true(r->n < ARRAY_LEN(r->lines));
    snprintf(r->lines[r->n++], sizeof(r->lines[0]), "%.*s %.*s %lld+%lld %lld%s",
             STR(u->request_id), STR(u->status), (long long)u->prompt_tokens,
             (long long)u->output_tokens, (long long)u->cost_nano, u->estimated ? " ~" : "");
    return RC_OK;
}

static int rows_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void rows_read(const char *db, struct rows *r)
{
    const struct meta_usage_query q = {0};
    struct meta *m = open_meta(db);
    *r = (struct rows){0};
    assert_int_equal(meta_usage_each(m, &q, rows_each, r, NULL), RC_OK);
    qsort(r->lines, r->n, sizeof(r->lines[0]), rows_order);
    meta_close(m);
}

static uint64_t recover(const char *dir, const char *db)
{
    uint64_t n = 0;
    struct err err = {0};
    struct meta *m = open_meta(db);
    if (journal_recover(dir, m, &n, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    meta_close(m);
    return n;
}

/* ---- the tests ---- */

static void settled_requests_are_in_the_store_once(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket t = {0};
    struct rows rows;
    begin(j, &t, "req_a");
    journal_count(j, &t, 1, 1, false);
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    rows_read(p->db, &rows);
    assert_int_equal(rows.n, 0); /* not settled */
    settle(j, &t, "req_a");
    assert_true(journal_note(j, str_from(t.id), STR_LIT("req_a"), 5, STR_LIT("{\"why\":1}")));
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    journal_close(j);
    assert_int_equal(count_files(p->dir), 0);
    rows_read(p->db, &rows);
    assert_int_equal(rows.n, 1);
    assert_string_equal(rows.lines[0], "req_a ok 11+3 33");
    struct meta *m = open_meta(p->db);
    struct buf out;
    buf_init(&out, 1024);
    assert_int_equal(meta_decision_find(m, STR_LIT("req_a"), &out, NULL), RC_OK);
    assert_string_equal(out.ptr, "{\"why\":1}");
    buf_deinit(&out);
    meta_close(m);
}

static void a_death_loses_and_doubles_nothing(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket a, b, c, d;
    struct rows rows;
    char other[128];
    snprintf(other, sizeof(other), "%s/other.db", p->root);
    begin(j, &a, "req_a");
    begin(j, &b, "req_b");
    begin(j, &c, "req_c");
    settle(j, &a, "req_a");
    begin(j, &d, "req_d"); /* in a's slot */
    journal_count(j, &b, 9, 1, false);
    journal_count(j, &b, 9, 4, false);
    journal_count(j, &c, 100, 7, true);
    assert_int_equal(recover(p->dir, other), 0); /* it lives: hands off */
    copy_files(p, NULL);
    settle(j, &b, "req_b");
    settle(j, &c, "req_c");
    settle(j, &d, "req_d");
    assert_int_equal(recover(p->copy, other), 3);
    assert_int_equal(recover(p->copy, other), 0);
    assert_int_equal(count_files(p->copy), 0);
    rows_read(other, &rows);
    assert_int_equal(rows.n, 4);
    assert_string_equal(rows.lines[0], "req_a ok 11+3 33");
    assert_string_equal(rows.lines[1], "req_b interrupted 9+4 38");
    assert_string_equal(rows.lines[2], "req_c interrupted 100+7 235 ~");
    assert_string_equal(rows.lines[3], "req_d interrupted 0+0 0");
    /* Died once all was folded, before the files went: the same lines once more. */
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    copy_files(p, NULL);
    assert_int_equal(recover(p->copy, p->db), 0);
    journal_close(j);
    rows_read(p->db, &rows);
    assert_int_equal(rows.n, 4);
    assert_string_equal(rows.lines[3], "req_d ok 11+3 33");
}

static enum rc sum_requests(void *ctx, const struct meta_usage_sum *s)
{
    *(int64_t *)ctx = s->requests;
    return RC_OK;
}

static int64_t requests_in(const char *db)
{
    const struct meta_usage_query q = {0};
    struct meta *m = open_meta(db);
    int64_t n = 0;
    assert_int_equal(meta_usage_sum(m, &q, sum_requests, &n, NULL), RC_OK);
    meta_close(m);
    return n;
}

/* Part of a file is in the store, part is not, and something is open. Recovery that ended before
 * the files went is repeated. */
static void a_death_between_two_folds_doubles_nothing(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal_folding(p, 3600000); /* when it is told to */
    struct journal_ticket t, open;
    struct rows rows;
    struct meta *m;
    begin(j, &t, "req_a");
    settle(j, &t, "req_a");
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    begin(j, &open, "req_b");
    journal_count(j, &open, 2, 1, false);
    begin(j, &t, "req_c");
    settle(j, &t, "req_c");
    copy_files(p, NULL);
    assert_int_equal(recover(p->copy, p->db), 1);
    rows_read(p->db, &rows);
    assert_int_equal(rows.n, 3);
    assert_int_equal(requests_in(p->db), 3);
    /* Once more with the files still there and the store knowing of its end. */
    copy_files(p, NULL);
    m = open_meta(p->db);
    DIR *d = opendir(p->copy);
    char run[17] = "";
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strlen(e->d_name) > 16) {
            memcpy(run, e->d_name, 16);
        }
    }
    closedir(d);
    const struct meta_usage_part end = {.run = str_from(run), .file = 0, .upto = 1};
    assert_int_equal(meta_usage_take(m, &end, NULL), RC_OK);
    meta_close(m);
    assert_int_equal(recover(p->copy, p->db), 0);
    assert_int_equal(count_files(p->copy), 0);
    assert_int_equal(requests_in(p->db), 3);
    rows_read(p->db, &rows);
    assert_int_equal(rows.n, 3);
    settle(j, &open, "req_b");
    journal_close(j);
}

/* The last line loses its end, as a machine that lost power may leave it. */
static void tear(char *bytes, size_t n)
{
    size_t end = n;
    while (end > 0 && bytes[end - 1] == '\0') {
        end--;
    }
    if (end > 40) {
        memset(bytes + end - 30, 0, 30);
    }
}

/* A block of the disk never came: the first line's middle is zeros. */
static void hole(char *bytes, size_t n)
{
    if (n > 60 && bytes[0] != '\0') {
        memset(bytes + 20, 0, 30);
    }
}

static void torn_lines_are_passed_over(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket a, b;
    struct rows rows;
    char other[128];
    begin(j, &a, "req_a");
    journal_count(j, &a, 5, 2, false);
    begin(j, &b, "req_b");
    settle(j, &b, "req_b");
    settle(j, &a, "req_a");
    copy_files(p, tear); /* a's end is torn: it counts as open */
    snprintf(other, sizeof(other), "%s/torn.db", p->root);
    assert_int_equal(recover(p->copy, other), 1);
    rows_read(other, &rows);
    assert_int_equal(rows.n, 2);
    assert_string_equal(rows.lines[0], "req_a interrupted 5+2 20");
    assert_string_equal(rows.lines[1], "req_b ok 11+3 33");
    copy_files(p, hole); /* a's beginning is gone: its end says everything */
    snprintf(other, sizeof(other), "%s/hole.db", p->root);
    assert_int_equal(recover(p->copy, other), 0);
    rows_read(other, &rows);
    assert_int_equal(rows.n, 2);
    assert_string_equal(rows.lines[0], "req_a ok 11+3 33");
    journal_close(j);
}

static void files_turn_over_and_go(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket kept, t;
    const struct meta_usage_query q = {.request_id = STR_LIT("req_x")};
    char other[128];
    begin(j, &kept, "kept");
    for (int i = 0; i < 600; i++) { /* many times FILE_BYTES */
        struct meta_usage row = row_of("req_x");
        while (journal_begin(j, &t, &row, &price, NULL) != RC_OK) {
            assert_int_equal(journal_flush(j, NULL), RC_OK); /* the next file is being made */
        }
        settle(j, &t, "req_x");
    }
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    assert_in_range(count_files(p->dir), 2, 4); /* kept's, the current, the next, the live one */
    snprintf(other, sizeof(other), "%s/other.db", p->root);
    copy_files(p, NULL);
    assert_int_equal(recover(p->copy, other), 1); /* its first line is still there */
    settle(j, &kept, "kept");
    journal_close(j);
    assert_int_equal(count_files(p->dir), 0);
    struct meta *m = open_meta(p->db);
    int64_t n = 0;
    assert_int_equal(meta_usage_sum(m, &q, sum_requests, &n, NULL), RC_OK);
    assert_int_equal(n, 600);
    meta_close(m);
}

static void a_full_disk_refuses_and_comes_back(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket open[OPEN_MAX], t;
    struct err err = {0};
    char away[128];
    int n_open = 0, n_settled = 0;
    snprintf(away, sizeof(away), "%s/away", p->root);
    struct meta_usage row = row_of("req");
    assert_int_equal(rename(p->dir, away), 0); /* no file can be made any more */
    while (journal_begin(j, &t, &row, &price, &err) == RC_OK) {
        if (n_open < OPEN_MAX - 1) {
            open[n_open++] = t;
        } else {
            settle(j, &t, "req");
            n_settled++;
        }
        assert_true(n_settled < 1000);
    }
    assert_int_equal(err.code, RC_UNAVAILABLE);
    for (int i = 0; i < n_open; i++) {
        settle(j, &open[i], "req"); /* its room was set aside */
    }
    struct journal_ticket unwritten = t;
    int lost = 0;
    for (int i = 0; i < 1000 && lost == 0; i++) { /* served all the same, by policy */
        settle(j, &unwritten, "req");
        n_settled++;
        lost = (int)journal_stats(j).n_lost;
    }
    assert_int_equal(lost, 1);
    n_settled--;
    assert_int_equal(rename(away, p->dir), 0);
    assert_int_equal(journal_flush(j, NULL), RC_OK);
    begin(j, &t, "req");
    settle(j, &t, "req");
    journal_close(j);
    assert_int_equal(requests_in(p->db), n_open + n_settled + 1);
}

static void more_than_the_limit_is_refused(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct journal_ticket open[OPEN_MAX], more;
    struct meta_usage row = row_of("req");
    for (int i = 0; i < OPEN_MAX; i++) {
        begin(j, &open[i], "req");
    }
    assert_int_equal(journal_begin(j, &more, &row, &price, NULL), RC_UNAVAILABLE);
    settle(j, &open[0], "req");
    begin(j, &open[0], "req");
    for (int i = 0; i < OPEN_MAX; i++) {
        settle(j, &open[i], "req");
    }
    journal_close(j);
}

/* ---- several threads ---- */

enum { WRITERS = 4, WRITER_REQUESTS = 100 };

struct writer {
    struct journal *j;
    struct thread thread;
};

static void write_records(void *arg)
{
    const struct writer *w = arg;
    struct meta_usage row = row_of("req");
    for (int i = 0; i < WRITER_REQUESTS; i++) {
        struct journal_ticket t;
        while (journal_begin(w->j, &t, &row, &price, NULL) != RC_OK) {
            usleep(1000); /* the next file is being made */
        }
        journal_count(w->j, &t, 1, 1, false);
        journal_settle(w->j, &t, &row);
        (void)journal_note(w->j, str_from(t.id), STR_LIT("req"), 1, STR_LIT("{}"));
    }
}

static void threads_write_side_by_side(void **state)
{
    const struct place *p = *state;
    struct journal *j = open_journal(p);
    struct writer writers[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++) {
        writers[i].j = j;
        assert_int_equal(thread_start(&writers[i].thread, "write", -1, write_records, &writers[i]),
                         RC_OK);
    }
    for (int i = 0; i < WRITERS; i++) {
        thread_join(&writers[i].thread);
    }
    assert_int_equal(journal_stats(j).n_settled, WRITERS * WRITER_REQUESTS);
    assert_int_equal(journal_stats(j).n_lost, 0);
    journal_close(j);
    struct meta *m = open_meta(p->db);
    const struct meta_usage_query q = {0};
    int64_t n = 0;
    assert_int_equal(meta_usage_sum(m, &q, sum_requests, &n, NULL), RC_OK);
    assert_int_equal(n, WRITERS * WRITER_REQUESTS);
    meta_close(m);
}

int main(void)
{
#define PLACED(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)
    const struct CMUnitTest tests[] = {
        PLACED(settled_requests_are_in_the_store_once),
        PLACED(a_death_loses_and_doubles_nothing),
        PLACED(a_death_between_two_folds_doubles_nothing),
        PLACED(torn_lines_are_passed_over),
        PLACED(files_turn_over_and_go),
        PLACED(a_full_disk_refuses_and_comes_back),
        PLACED(more_than_the_limit_is_refused),
        PLACED(threads_write_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
