#include "check.h"

#include <string.h>
#include <unistd.h>

#include "auth/key.h"

struct fixture {
    char key_file[64];
    struct meta *meta;
    struct kms *kms;
    struct secret pepper;
};

static int fixture_make(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->key_file, sizeof(f->key_file), "/tmp/bud-test-key-%ld", (long)getpid());
    unlink(f->key_file);
    *state = f;
    return meta_open(&f->meta, ":memory:", NULL) != RC_OK ||
           kms_open_file(&f->kms, f->key_file, NULL) != RC_OK ||
           key_pepper_load(&f->pepper, f->meta, f->kms, NULL) != RC_OK;
}

static int fixture_remove(void **state)
{
    struct fixture *f = *state;
    meta_close(f->meta);
    kms_close(f->kms);
    unlink(f->key_file);
    free(f);
    return 0;
}

static void the_pepper_is_made_once(void **state)
{
    struct fixture *f = *state;
    struct secret again;
    assert_int_equal(key_pepper_load(&again, f->meta, f->kms, NULL), RC_OK);
    assert_true(str_eq(secret_str(&again), secret_str(&f->pepper)));
    assert_int_equal(secret_str(&again).len, 32);
}

static void a_key_opens_until_it_expires_or_is_revoked(void **state)
{
    struct fixture *f = *state;
    char text[KEY_TEXT_BYTES], other[KEY_TEXT_BYTES];
    struct meta_key row, other_row;
    struct key_options opt = {.name = "first", .role = "owner", .created_s = 100, .expires_s = 200};
    key_make(&f->pepper, &opt, text, &row);
    key_make(&f->pepper, &opt, other, &other_row);
    assert_int_equal(strlen(text), 50);
    assert_int_equal(strncmp(text, "sk-bud-", 7), 0);
    assert_string_not_equal(text, other);
    assert_null(strstr(row.hint, text));
    assert_int_equal(meta_key_insert(f->meta, &row, NULL), RC_OK);

    struct keyring *ring;
    const struct meta_key *found;
    struct err err = {0};
    assert_int_equal(keyring_load(&ring, f->meta, &f->pepper, NULL), RC_OK);
    assert_int_equal(keyring_size(ring), 1);
    assert_int_equal(keyring_check(ring, str_from(text), 150, &found, &err), RC_OK);
    assert_string_equal(found->id, row.id);
    assert_int_equal(keyring_check(ring, str_from(text), 200, &found, &err), RC_UNAUTHENTICATED);
    assert_int_equal(keyring_check(ring, str_from(other), 150, &found, &err), RC_UNAUTHENTICATED);
    char first_message[sizeof(err.msg)];
    memcpy(first_message, err.msg, sizeof(first_message));
    assert_int_equal(keyring_check(ring, STR_LIT("hello"), 150, &found, &err), RC_UNAUTHENTICATED);
    assert_string_equal(err.msg, first_message);
    assert_int_equal(keyring_check(ring, STR_NULL, 150, &found, &err), RC_UNAUTHENTICATED);
    keyring_destroy(ring);

    assert_int_equal(meta_key_revoke(f->meta, row.id, 160, NULL), RC_OK);
    assert_int_equal(keyring_load(&ring, f->meta, &f->pepper, NULL), RC_OK);
    assert_int_equal(keyring_check(ring, str_from(text), 150, &found, &err), RC_UNAUTHENTICATED);
    keyring_destroy(ring);
}

static void a_given_key_must_look_like_ours(void **state)
{
    struct fixture *f = *state;
    struct meta_key row;
    struct key_options opt = {.name = "boot", .role = "owner"};
    static const char *const bad[] = {
        "",
        "sk-bud-",
        "sk-bud-short",
        "sk-cat-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "sk-bud-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!",
        "sk-bud-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(key_from_text(&f->pepper, &opt, str_from(bad[i]), &row, NULL), RC_INVALID);
    }
    assert_int_equal(key_from_text(&f->pepper, &opt,
                                   STR_LIT("sk-bud-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
                                   &row, NULL),
                     RC_OK);
}

static void bearer_headers_are_read_as_rfc_9110_says(void **state)
{
    (void)state;
    assert_true(str_is(key_from_bearer(STR_LIT("Bearer abc")), "abc"));
    assert_true(str_is(key_from_bearer(STR_LIT(" bEARER   abc ")), "abc"));
    assert_int_equal(key_from_bearer(STR_LIT("Basic abc")).len, 0);
    assert_int_equal(key_from_bearer(STR_LIT("Bearer")).len, 0);
    assert_int_equal(key_from_bearer(STR_LIT("abc")).len, 0);
    assert_int_equal(key_from_bearer(STR_LIT("")).len, 0);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(the_pepper_is_made_once),
        WITH_FIXTURE(a_key_opens_until_it_expires_or_is_revoked),
        WITH_FIXTURE(a_given_key_must_look_like_ours),
        cmocka_unit_test(bearer_headers_are_read_as_rfc_9110_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
