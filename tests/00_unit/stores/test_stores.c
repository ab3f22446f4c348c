/* Metadata, key file and envelope: the store as a process that starts and starts again sees it. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "stores/meta.h"
#include "stores/meta_private.h"
#include "stores/seal.h"

struct place {
    char dir[64];
    char db[96];
    char key_file[96];
};

static int place_make(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/bud-test-XXXXXX");
    if (mkdtemp(p->dir) == NULL) {
        return 1;
    }
    snprintf(p->db, sizeof(p->db), "%s/meta.db", p->dir);
    snprintf(p->key_file, sizeof(p->key_file), "%s/kms.key", p->dir);
    *state = p;
    return 0;
}

static int place_remove(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"meta.db", "meta.db-wal", "meta.db-shm", "kms.key"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[160];
        snprintf(path, sizeof(path), "%s/%s", p->dir, names[i]);
        unlink(path);
    }
    rmdir(p->dir);
    free(p);
    return 0;
}

static void settings_are_written_once(void **state)
{
    struct place *p = *state;
    struct meta *m;
    struct buf out;
    bool stored;
    struct err err = {0};
    buf_init(&out, 1024);
    assert_int_equal(meta_open(&m, p->db, &err), RC_OK);
    assert_int_equal(meta_setting_get(m, "a", &out, &err), RC_NOT_FOUND);
    assert_int_equal(meta_setting_put_new(m, "a", STR_LIT("x\0y"), &stored, &err), RC_OK);
    assert_true(stored);
    assert_int_equal(meta_setting_put_new(m, "a", STR_LIT("other"), &stored, &err), RC_OK);
    assert_false(stored);
    meta_close(m);
    assert_int_equal(meta_open(&m, p->db, &err), RC_OK);
    assert_int_equal(meta_setting_get(m, "a", &out, &err), RC_OK);
    assert_true(str_eq(buf_str(&out), STR_LIT("x\0y")));
    meta_close(m);
    buf_deinit(&out);
    struct stat st;
    assert_int_equal(stat(p->db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static struct meta_key key_named(const char *id, unsigned char hash)
{
    struct meta_key key = {.created_s = 7, .expires_s = 9};
    snprintf(key.id, sizeof(key.id), "%s", id);
    snprintf(key.name, sizeof(key.name), "name of %s", id);
    snprintf(key.role, sizeof(key.role), "owner");
    memset(key.hash, hash, sizeof(key.hash));
    return key;
}

static enum rc key_collect(void *ctx, const struct meta_key *key)
{
    struct meta_key **next = ctx;
    *(*next)++ = *key;
    return RC_OK;
}

static void keys_round_trip(void **state)
{
    struct place *p = *state;
    struct meta *m, *other;
    struct err err = {0};
    bool stored;
    assert_int_equal(meta_open(&m, p->db, &err), RC_OK);
    assert_int_equal(meta_open(&other, p->db, &err), RC_OK);
    int64_t before, after;
    assert_int_equal(meta_data_version(other, &before, &err), RC_OK);
    struct meta_key a = key_named("key_a", 1), b = key_named("key_b", 2), c = key_named("key_c", 1);
    assert_int_equal(meta_key_insert_first(m, &a, &stored, &err), RC_OK);
    assert_true(stored);
    assert_int_equal(meta_key_insert_first(m, &b, &stored, &err), RC_OK);
    assert_false(stored);
    assert_int_equal(meta_key_insert(m, &b, &err), RC_OK);
    assert_int_equal(meta_key_insert(m, &b, &err), RC_CONFLICT); /* same id */
    assert_int_equal(meta_key_insert(m, &c, &err), RC_CONFLICT); /* same hash */
    assert_int_equal(meta_data_version(other, &after, &err), RC_OK);
    assert_int_not_equal(before, after);

    assert_int_equal(meta_key_revoke(m, "key_b", 5, &err), RC_OK);
    assert_int_equal(meta_key_revoke(m, "key_b", 6, &err), RC_NOT_FOUND);
    struct meta_key all[4], *end = all;
    assert_int_equal(meta_key_each(other, key_collect, &end, &err), RC_OK);
    assert_int_equal(end - all, 2);
    assert_memory_equal(&all[0], &a, sizeof(a));
    b.revoked_s = 5;
    assert_memory_equal(&all[1], &b, sizeof(b));
    assert_int_equal(meta_key_delete(m, "key_b", &err), RC_OK);
    assert_int_equal(meta_key_delete(m, "key_b", &err), RC_NOT_FOUND);
    end = all;
    assert_int_equal(meta_key_each(other, key_collect, &end, &err), RC_OK);
    assert_int_equal(end - all, 1);
    meta_close(m);
    meta_close(other);
}

/* Said in words, nothing is lost, and there is room again when there is. */
static void a_full_disk_is_told(void **state)
{
    struct place *p = *state;
    struct meta *m;
    struct err err = {0};
    enum rc rc = RC_OK;
    int n = 0;
    assert_int_equal(meta_open(&m, p->db, &err), RC_OK);
    assert_int_equal(sqlite3_exec(m->db, "PRAGMA max_page_count = 1", NULL, NULL, NULL), SQLITE_OK);
    while (rc == RC_OK) {
        char id[32];
        snprintf(id, sizeof(id), "key_full_%d", n);
        struct meta_key key = key_named(id, (unsigned char)n);
        rc = meta_key_insert(m, &key, &err);
        n += rc == RC_OK ? 1 : 0;
        assert_true(n < 250);
    }
    assert_int_equal(rc, RC_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "the disk is full"));
    assert_int_equal(sqlite3_exec(m->db, "PRAGMA max_page_count = 100000", NULL, NULL, NULL),
                     SQLITE_OK);
    struct meta_key key = key_named("key_full_after", 255), found;
    assert_int_equal(meta_key_insert(m, &key, &err), RC_OK);
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof(id), "key_full_%d", i);
        assert_int_equal(meta_key_get(m, id, &found, &err), RC_OK);
    }
    meta_close(m);
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    struct place *p = *state;
    struct meta *m;
    struct err err = {0};
    struct str junk =
        STR_LIT("this is not a database at all, although it is long enough for a header "
                "of one hundred bytes or so");
    assert_int_equal(file_write_atomic(p->db, junk, 0600, &err), RC_OK);
    assert_int_equal(meta_open(&m, p->db, &err), RC_CORRUPT);
    assert_null(m);
    assert_non_null(strstr(err.msg, p->db));
}

enum { STARTERS = 8 };

struct starter {
    struct place *place;
    char kms_id[KMS_ID_BYTES];
    bool stored;
    unsigned n;
    struct err err;
};

/* A second connection of one process must not cost the first its lock on the file: another program
 * that closed the store then would take itself for the last and remove the log. */
static void connections_of_one_process_keep_their_locks(void **state)
{
    struct place *p = *state;
    struct meta *one, *two;
    struct flock lock = {.l_type = F_WRLCK};
    assert_int_equal(meta_open(&one, p->db, NULL), RC_OK);
    assert_int_equal(meta_key_revoke(one, "none", 1, NULL), RC_NOT_FOUND);
    assert_int_equal(meta_open(&two, p->db, NULL), RC_OK);
    int fd = open(p->db, O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
    assert_int_not_equal(lock.l_type, F_UNLCK);
    close(fd);
    meta_close(two);
    meta_close(one);
}

static void *starter_main(void *arg)
{
    struct starter *s = arg;
    struct meta *m = NULL;
    struct kms *k = NULL;
    char id[32];
    snprintf(id, sizeof(id), "key_%u", s->n);
    struct meta_key key = key_named(id, (unsigned char)s->n);
    if (meta_open(&m, s->place->db, &s->err) == RC_OK &&
        kms_open_file(&k, s->place->key_file, &s->err) == RC_OK &&
        meta_key_insert_first(m, &key, &s->stored, &s->err) == RC_OK) {
        snprintf(s->kms_id, sizeof(s->kms_id), "%s", kms_key_id(k));
    }
    kms_close(k);
    meta_close(m);
    return NULL;
}

/* Several processes that start together agree on one schema, one first key and one key file. */
static void many_starting_together_agree(void **state)
{
    struct starter s[STARTERS];
    pthread_t threads[STARTERS];
    memset(s, 0, sizeof(s));
    for (unsigned i = 0; i < STARTERS; i++) {
        s[i].place = *state;
        s[i].n = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, starter_main, &s[i]), 0);
    }
    unsigned n_stored = 0;
    for (unsigned i = 0; i < STARTERS; i++) {
        pthread_join(threads[i], NULL);
        n_stored += s[i].stored;
        assert_string_equal(s[i].err.msg, "");
        assert_string_equal(s[i].kms_id, s[0].kms_id);
        assert_int_equal(strlen(s[i].kms_id), KMS_ID_BYTES - 1);
    }
    assert_int_equal(n_stored, 1);
}

static void a_key_file_open_to_others_is_refused(void **state)
{
    struct place *p = *state;
    struct kms *k;
    struct err err = {0};
    assert_int_equal(kms_open_file(&k, p->key_file, &err), RC_OK);
    kms_close(k);
    chmod(p->key_file, 0644);
    assert_int_equal(kms_open_file(&k, p->key_file, &err), RC_FORBIDDEN);
    assert_null(k);
    chmod(p->key_file, 0600);
    assert_int_equal(file_write_atomic(p->key_file, STR_LIT("zz"), 0600, &err), RC_OK);
    assert_int_equal(kms_open_file(&k, p->key_file, &err), RC_CORRUPT);
}

static void sealed_values_open_only_unchanged_and_in_place(void **state)
{
    struct place *p = *state;
    struct kms *k;
    struct buf sealed, plain;
    struct err err = {0};
    buf_init(&sealed, 4096);
    buf_init(&plain, 4096);
    assert_int_equal(kms_open_file(&k, p->key_file, &err), RC_OK);
    struct str value = STR_LIT("a small secret");
    assert_int_equal(seal_value(k, STR_LIT("here"), value, &sealed, &err), RC_OK);
    assert_int_equal(sealed.len, SEAL_OVERHEAD_BYTES + value.len);
    assert_int_equal(seal_open_value(k, STR_LIT("here"), buf_str(&sealed), &plain, &err), RC_OK);
    assert_true(str_eq(buf_str(&plain), value));
    buf_reset(&plain);
    assert_int_equal(seal_open_value(k, STR_LIT("there"), buf_str(&sealed), &plain, &err),
                     RC_CORRUPT);
    for (size_t i = 0; i < sealed.len; i++) {
        sealed.ptr[i] = (char)(sealed.ptr[i] ^ 1);
        assert_int_equal(seal_open_value(k, STR_LIT("here"), buf_str(&sealed), &plain, &err),
                         RC_CORRUPT);
        assert_int_equal(plain.len, 0);
        sealed.ptr[i] = (char)(sealed.ptr[i] ^ 1);
        struct str cut = str_slice(buf_str(&sealed), 0, i);
        assert_int_equal(seal_open_value(k, STR_LIT("here"), cut, &plain, &err), RC_CORRUPT);
    }
    kms_close(k);
    buf_deinit(&sealed);
    buf_deinit(&plain);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(settings_are_written_once),
        WITH_PLACE(keys_round_trip),
        WITH_PLACE(a_full_disk_is_told),
        WITH_PLACE(connections_of_one_process_keep_their_locks),
        WITH_PLACE(a_file_that_is_no_database_is_refused),
        WITH_PLACE(many_starting_together_agree),
        WITH_PLACE(a_key_file_open_to_others_is_refused),
        WITH_PLACE(sealed_values_open_only_unchanged_and_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
