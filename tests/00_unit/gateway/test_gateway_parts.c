/* Small parts of the front door: edits of a body, lock-out, scopes, patterns. */
#include "check.h"

#include <netinet/in.h>
#include <string.h>

#include "auth/scope.h"
#include "base/json.h"
#include "gateway/lockout.h"
#include "gateway/splice.h"

static void bodies_are_edited_in_place(void **state)
{
    (void)state;
    static const struct {
        const char *body, *want;
    } cases[] = {
        {"{\"model\":\"a\"}", "{\"model\":X,\"max_tokens\":5}"},
        {" {\"a\":[{\"model\":1},\"}\\\"\"] , \"model\" : \"a\\\\\" , \"b\":2 } ",
         " {\"a\":[{\"model\":1},\"}\\\"\"] , \"model\" :X, \"b\":2 ,\"max_tokens\":5} "},
        {"{\"max_tokens\":\n1,\"model\":{\"x\":[]},\"z\":\"max_tokens\"}",
         "{\"max_tokens\":5,\"model\":X,\"z\":\"max_tokens\"}"},
        /* Written with escapes a name is still the same; others only look like it. */
        {"{\"mod\\u0065l\":1,\"\\u006dax\\u005Ftokens\":9}",
         "{\"mod\\u0065l\":X,\"\\u006dax\\u005Ftokens\":5}"},
        {"{\"model\":1,\"max_toke\\ns\":2,\"max_tokens\\u0131\":3,\"max\\\\_tokens\":4}",
         "{\"model\":X,\"max_toke\\ns\":2,\"max_tokens\\u0131\":3,\"max\\\\_tokens\":4,"
         "\"max_tokens\":5}"},
    };
    const struct splice_edit edits[] = {{STR_LIT("model"), STR_LIT("X")},
                                        {STR_LIT("max_tokens"), STR_LIT("5")}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out;
        buf_init(&out, 4096);
        splice(&out, str_from(cases[i].body), edits, 2);
        assert_string_equal(out.ptr, cases[i].want);
        buf_deinit(&out);
    }
    assert_true(splice_has(STR_LIT("{\"a\":{\"b\":1},\"c\":2}"), STR_LIT("c")));
    assert_false(splice_has(STR_LIT("{\"a\":{\"b\":1},\"c\":2}"), STR_LIT("b")));
}

/* Texts of up to five quotes, backslashes, commas and brackets, in a name or a value before the
 * member that is edited: none of them ends early or late. */
static void any_text_is_passed_over(void **state)
{
    (void)state;
    static const char *const parts[] = {"\\\"", "\\\\", ",", "}", ":", "\\n"};
    const struct splice_edit edit = {STR_LIT("model"), STR_LIT("7")};
    for (uint32_t code = 0; code < 6 * 6 * 6 * 6 * 6; code++) {
        struct buf text, body, want, out;
        buf_init(&text, 256);
        buf_init(&body, 256);
        buf_init(&want, 256);
        buf_init(&out, 256);
        for (uint32_t left = code; left > 0; left /= 6) {
            buf_add_cstr(&text, parts[left % 6]);
        }
        const char *t = text.len > 0 ? text.ptr : "";
        buf_add_printf(&body, "{\"%s\":[\"%s\",{\"model\":1}],\"model\":\"%s\",\"n\":1}", t, t, t);
        buf_add_printf(&want, "{\"%s\":[\"%s\",{\"model\":1}],\"model\":7,\"n\":1}", t, t);
        splice(&out, buf_str(&body), &edit, 1);
        assert_string_equal(out.ptr, want.ptr);
        buf_deinit(&text);
        buf_deinit(&body);
        buf_deinit(&want);
        buf_deinit(&out);
    }
}

static struct addr peer_v4(uint32_t host)
{
    struct addr a = {.sa_bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&a.sa;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(host);
    return a;
}

static void many_wrong_keys_lock_an_address_out(void **state)
{
    (void)state;
    struct lockout *l;
    struct addr bad = peer_v4(0x0A000001), other = peer_v4(0x0A000002), own = peer_v4(0x7F000001);
    uint64_t now = 1000000;
    lockout_create(&l, 5);
    for (int i = 0; i < LOCKOUT_TRIES; i++) {
        assert_int_equal(lockout_wait_ms(l, &bad, now), 0);
        lockout_note(l, &bad, now);
    }
    assert_int_equal(lockout_wait_ms(l, &bad, now), 0); /* the next one is one too many */
    lockout_note(l, &bad, now);
    assert_int_equal(lockout_wait_ms(l, &bad, now), LOCKOUT_REFILL_MS);
    for (int i = 0; i < 1000; i++) {
        lockout_note(l, &bad, now); /* hammering on does not make it longer for ever */
        lockout_note(l, &own, now);
    }
    assert_int_equal(lockout_wait_ms(l, &bad, now), LOCKOUT_REFILL_MS);
    assert_int_equal(lockout_wait_ms(l, &other, now), 0);
    assert_int_equal(lockout_wait_ms(l, &own, now), 0);
    assert_int_equal(lockout_wait_ms(l, &bad, now + LOCKOUT_REFILL_MS), 0);
    lockout_destroy(l);
}

static void scopes_allow_what_they_name(void **state)
{
    (void)state;
    struct str none = STR_LIT(""), some = STR_LIT("chat models model:llama-* model:q");
    assert_int_equal(scope_check(some, NULL), RC_OK);
    assert_int_equal(scope_check(STR_LIT("chat model:"), NULL), RC_INVALID);
    assert_int_equal(scope_check(STR_LIT("everything"), NULL), RC_INVALID);
    assert_true(scope_allows_route(none, STR_LIT("chat")));
    assert_true(scope_allows_route(some, STR_LIT("chat")));
    assert_false(scope_allows_route(some, STR_LIT("embeddings")));
    assert_true(scope_allows_route(STR_LIT("model:q"), STR_LIT("embeddings")));
    assert_true(scope_allows_model(none, STR_LIT("any")));
    assert_true(scope_allows_model(some, STR_LIT("llama-1b")));
    assert_true(scope_allows_model(some, STR_LIT("q")));
    assert_false(scope_allows_model(some, STR_LIT("qq")));
    assert_true(scope_allows_model(STR_LIT("chat"), STR_LIT("any")));
}

static void patterns_match_whole_words(void **state)
{
    (void)state;
    assert_true(str_matches(STR_LIT("*"), STR_LIT("")));
    assert_true(str_matches(STR_LIT("a*c"), STR_LIT("abcabc")));
    assert_true(str_matches(STR_LIT("*-*-*"), STR_LIT("a-b-c-d")));
    assert_false(str_matches(STR_LIT("a*c"), STR_LIT("abcd")));
    assert_false(str_matches(STR_LIT(""), STR_LIT("a")));
    assert_true(str_matches(STR_LIT(""), STR_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text_is_passed_over),
        cmocka_unit_test(bodies_are_edited_in_place),
        cmocka_unit_test(many_wrong_keys_lock_an_address_out),
        cmocka_unit_test(scopes_allow_what_they_name),
        cmocka_unit_test(patterns_match_whole_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
