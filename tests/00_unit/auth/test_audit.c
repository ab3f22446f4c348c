/* The audit log: every way of changing it behind our back is found, and writers of two processes
 * make one chain. */
#include "check.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/wait.h>

#include "auth/audit.h"

struct fixture {
    char dir[64], db[96], key_file[96];
    struct meta *meta;
    struct kms *kms;
    struct audit *audit;
};

static int fixture_make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err = {0};
    snprintf(f->dir, sizeof(f->dir), "/tmp/bud-test-XXXXXX");
    if (mkdtemp(f->dir) == NULL) {
        return 1;
    }
    snprintf(f->db, sizeof(f->db), "%s/meta.db", f->dir);
    snprintf(f->key_file, sizeof(f->key_file), "%s/kms.key", f->dir);
    *state = f;
    return meta_open(&f->meta, f->db, &err) != RC_OK ||
           kms_open_file(&f->kms, f->key_file, &err) != RC_OK ||
           audit_open(&f->audit, f->meta, f->kms, &err) != RC_OK;
}

static int fixture_remove(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"meta.db", "meta.db-wal", "meta.db-shm", "kms.key"};
    audit_close(f->audit);
    meta_close(f->meta);
    kms_close(f->kms);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    rmdir(f->dir);
    free(f);
    return 0;
}

static enum rc act_on(struct meta *m, const struct audit *a, const char *object)
{
    struct err err = {0};
    const struct audit_entry e = {.time_ms = 5,
                                  .who = STR_LIT("key_1"),
                                  .what = STR_LIT("project.put"),
                                  .object = str_from(object),
                                  .source = STR_LIT("127.0.0.1")};
    enum rc rc = meta_begin(m, &err);
    rc = rc == RC_OK ? audit_commit(a, m, &e, &err) : rc;
    meta_rollback(m);
    return rc;
}

static void act(struct fixture *f, const char *object)
{
    assert_int_equal(act_on(f->meta, f->audit, object), RC_OK);
}

static void behind_our_back(struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static enum rc verify(struct fixture *f, const char *known, struct audit_report *report)
{
    struct err err = {0};
    return audit_verify(f->audit, f->meta, str_from(known), report, &err);
}

static void a_log_begins_once_and_verifies(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    struct audit *again;
    assert_int_equal(verify(f, "", &r), RC_OK);
    assert_int_equal(r.n_entries, 1);
    assert_int_equal(audit_open(&again, f->meta, f->kms, NULL), RC_OK);
    audit_close(again);
    act(f, "projects/a");
    act(f, "projects/b");
    assert_int_equal(verify(f, "", &r), RC_OK);
    assert_int_equal(r.n_entries, 3);
    assert_int_equal(strncmp(r.head, "3:", 2), 0);
}

static void an_act_and_its_entry_are_one(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    bool stored;
    struct buf out;
    buf_init(&out, 64);
    behind_our_back(f, "CREATE TABLE h AS SELECT * FROM audit_head; DELETE FROM audit_head");
    assert_int_equal(meta_begin(f->meta, NULL), RC_OK);
    assert_int_equal(meta_setting_put_new(f->meta, "x", STR_LIT("1"), &stored, NULL), RC_OK);
    const struct audit_entry e = {.what = STR_LIT("x")};
    assert_int_equal(audit_commit(f->audit, f->meta, &e, NULL), RC_CORRUPT);
    meta_rollback(f->meta);
    assert_int_equal(meta_setting_get(f->meta, "x", &out, NULL), RC_NOT_FOUND);
    behind_our_back(f, "INSERT INTO audit_head SELECT * FROM h");
    assert_int_equal(verify(f, "", &r), RC_OK);
    assert_int_equal(r.n_entries, 1);
    buf_deinit(&out);
}

static void every_change_is_found(void **state)
{
    static const struct {
        const char *sql;
        int64_t bad_seq;
    } rows[] = {
        {"UPDATE audit SET who = 'key_2' WHERE seq = 3", 3},
        {"UPDATE audit SET who = 'key_1project', what = '.put' WHERE seq = 3", 3},
        {"UPDATE audit SET time_ms = 6 WHERE seq = 2", 2},
        {"DELETE FROM audit WHERE seq = 3", 3},
        {"DELETE FROM audit WHERE seq = 5", 5},
        {"DELETE FROM audit WHERE seq >= 2", 2},
        {"DELETE FROM audit", 1},
        {"DELETE FROM audit_head", 6},
        {"INSERT INTO audit SELECT 6, time_ms, who, what, object, source, before, after, mac FROM "
         "audit WHERE seq = 5",
         6},
        {"UPDATE audit SET seq = 100 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3; UPDATE "
         "audit SET seq = 3 WHERE seq = 100",
         2},
        {"DELETE FROM audit WHERE seq = 5; UPDATE audit_head SET seq = 4, mac = (SELECT mac FROM "
         "audit WHERE seq = 4)",
         0},
    };
    struct fixture *f = *state;
    struct audit_report r;
    act(f, "projects/a");
    act(f, "projects/b");
    act(f, "projects/c");
    act(f, "projects/d");
    behind_our_back(f, "CREATE TABLE a AS SELECT * FROM audit;"
                       "CREATE TABLE h AS SELECT * FROM audit_head");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        behind_our_back(f, rows[i].sql);
        assert_int_equal(verify(f, "", &r), RC_CORRUPT);
        assert_int_equal(r.bad_seq, rows[i].bad_seq);
        behind_our_back(f, "DELETE FROM audit; INSERT INTO audit SELECT * FROM a;"
                           "REPLACE INTO audit_head SELECT * FROM h");
        assert_int_equal(verify(f, "", &r), RC_OK);
        assert_int_equal(r.n_entries, 5);
    }
}

static void nothing_is_written_upon_a_forged_head(void **state)
{
    struct fixture *f = *state;
    struct audit *again;
    act(f, "projects/a");
    behind_our_back(f, "DELETE FROM audit WHERE seq = 2; UPDATE audit_head SET seq = 1, mac = "
                       "(SELECT mac FROM audit WHERE seq = 1)");
    assert_int_equal(act_on(f->meta, f->audit, "projects/b"), RC_CORRUPT);
    behind_our_back(f, "DELETE FROM audit_head");
    assert_int_equal(act_on(f->meta, f->audit, "projects/b"), RC_CORRUPT);
    assert_int_equal(audit_open(&again, f->meta, f->kms, NULL), RC_CORRUPT);
}

static void an_older_copy_is_found_by_a_head_kept_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct audit_report r;
    char known[AUDIT_HEAD_TEXT_BYTES];
    act(f, "projects/a");
    behind_our_back(f, "CREATE TABLE a AS SELECT * FROM audit;"
                       "CREATE TABLE h AS SELECT * FROM audit_head");
    act(f, "projects/b");
    assert_int_equal(verify(f, "", &r), RC_OK);
    memcpy(known, r.head, sizeof(known));
    act(f, "projects/c");
    assert_int_equal(verify(f, known, &r), RC_OK);
    behind_our_back(f, "DELETE FROM audit; INSERT INTO audit SELECT * FROM a;"
                       "REPLACE INTO audit_head SELECT * FROM h");
    assert_int_equal(verify(f, "", &r), RC_OK); /* it is whole, only old */
    assert_int_equal(verify(f, known, &r), RC_CORRUPT);
    assert_int_equal(verify(f, "nonsense", &r), RC_INVALID);
}

/* Opens everything anew, as another program would. */
static int write_from_a_process(const struct fixture *f, int n)
{
    struct meta *m;
    struct kms *k;
    struct audit *a;
    bool ok = meta_open(&m, f->db, NULL) == RC_OK &&
              kms_open_file(&k, f->key_file, NULL) == RC_OK && audit_open(&a, m, k, NULL) == RC_OK;
    for (int i = 0; ok && i < n; i++) {
        ok = act_on(m, a, "projects/from-a-process") == RC_OK;
    }
    return ok ? 0 : 1;
}

static void two_processes_write_one_chain(void **state)
{
    struct fixture *f = *state;
    enum { EACH = 40 };
    struct audit_report r;
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            _exit(write_from_a_process(f, EACH));
        }
    }
    for (int i = 0; i < 2; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(verify(f, "", &r), RC_OK);
    assert_int_equal(r.n_entries, 1 + 2 * EACH);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(a_log_begins_once_and_verifies),
        WITH_FIXTURE(an_act_and_its_entry_are_one),
        WITH_FIXTURE(every_change_is_found),
        WITH_FIXTURE(nothing_is_written_upon_a_forged_head),
        WITH_FIXTURE(an_older_copy_is_found_by_a_head_kept_elsewhere),
        WITH_FIXTURE(two_processes_write_one_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
