#include "check.h"

#include <string.h>

#include "base/rng.h"
#include "engine/sample/stop.h"

/* Feeds `text` in pieces of `step` bytes; returns whether it stopped, the shown text in *out. */
static bool feed(const struct str *stops, uint32_t n_stops, const char *text, size_t step,
                 struct buf *out)
{
    struct stop_matcher m;
    stop_init(&m, stops, n_stops);
    buf_reset(out);
    bool hit = false;
    struct str all = str_from(text);
    for (size_t at = 0; at < all.len; at += step) {
        hit = stop_push(&m, str_slice(all, at, at + step), out);
    }
    if (!hit) {
        stop_finish(&m, out);
    }
    stop_deinit(&m);
    return hit;
}

static void stops_at_any_cut(void **state)
{
    (void)state;
    const struct str stops[] = {STR_LIT("\n\nUser:"), STR_LIT("###"), STR_LIT("aab")};
    const struct {
        const char *text, *shown;
        bool hit;
    } rows[] = {
        {"Hello\n\nUser: x", "Hello", true},
        {"Hello\n\nUse it", "Hello\n\nUse it", false},
        {"one ## two ### three", "one ## two ", true},
        {"aaaab", "aa", true}, /* the tail overlaps itself */
        {"aaaa", "aaaa", false},
        {"###", "", true},
        {"##", "##", false},
        {"x\n\n\nUser:", "x\n", true},
        {"", "", false},
    };
    struct buf out;
    buf_init(&out, 4096);
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        for (size_t step = 1; step < 20; step++) {
            assert_int_equal(feed(stops, 3, rows[r].text, step, &out), rows[r].hit);
            assert_true(str_is(buf_str(&out), rows[r].shown));
        }
    }
    assert_false(feed(NULL, 0, "as it comes", 3, &out));
    assert_true(str_is(buf_str(&out), "as it comes"));
    buf_deinit(&out);
}

/* What was shown is never part of a stop string, and shows up as soon as that is certain. */
static void holds_back_only_what_it_must(void **state)
{
    (void)state;
    const struct str stops[] = {STR_LIT("END")};
    struct stop_matcher m;
    stop_init(&m, stops, 1);
    struct buf out;
    buf_init(&out, 4096);
    assert_false(stop_push(&m, STR_LIT("abcE"), &out));
    assert_true(str_is(buf_str(&out), "abc"));
    assert_false(stop_push(&m, STR_LIT("N"), &out));
    assert_true(str_is(buf_str(&out), "abc"));
    assert_false(stop_push(&m, STR_LIT("E"), &out));
    assert_true(str_is(buf_str(&out), "abcEN"));
    assert_true(stop_push(&m, STR_LIT("ND of it"), &out));
    assert_true(str_is(buf_str(&out), "abcEN"));
    assert_true(stop_push(&m, STR_LIT("more"), &out));
    assert_true(str_is(buf_str(&out), "abcEN"));
    buf_deinit(&out);
    stop_deinit(&m);
    stop_deinit(&m);
}

/* Longer than any buffer inside: nothing is lost, and the end of the longest string is seen. */
static void long_texts_pass_whole(void **state)
{
    (void)state;
    static char stop[STOP_BYTES_MAX + 1], text[5 * STOP_BYTES_MAX + 1];
    memset(stop, 'a', STOP_BYTES_MAX);
    memset(text, 'a', 5 * STOP_BYTES_MAX);
    struct str stops[] = {str_make(stop, STOP_BYTES_MAX)};
    struct buf out;
    buf_init(&out, 1 << 20);
    for (size_t i = STOP_BYTES_MAX - 1; i < 5 * STOP_BYTES_MAX; i += STOP_BYTES_MAX) {
        text[i] = 'b'; /* never as many as the stop string has */
    }
    assert_false(feed(stops, 1, text, sizeof(text), &out));
    assert_true(str_is(buf_str(&out), text));
    text[2 * STOP_BYTES_MAX - 1] = 'a';
    for (size_t step = 100; step < 6 * STOP_BYTES_MAX; step += 700) {
        assert_true(feed(stops, 1, text, step, &out));
        assert_int_equal(out.len, STOP_BYTES_MAX);
    }
    buf_deinit(&out);
}

/* Against the plain search of the whole text, on random texts of few letters. */
static void equals_a_search_of_the_whole(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    struct buf out;
    buf_init(&out, 4096);
    for (int round = 0; round < 3000; round++) {
        char text[40], stop[6];
        uint32_t n_text = rng_below(&rng, 39), n_stop = 1 + rng_below(&rng, 5);
        for (uint32_t i = 0; i < sizeof(text); i++) {
            text[i] = i < n_text ? (char)('a' + rng_below(&rng, 2)) : '\0';
        }
        for (uint32_t i = 0; i < sizeof(stop); i++) {
            stop[i] = i < n_stop ? (char)('a' + rng_below(&rng, 2)) : '\0';
        }
        const struct str stops[] = {str_from(stop)};
        size_t at = str_find(str_from(text), stops[0]);
        bool hit = feed(stops, 1, text, 1 + rng_below(&rng, 4), &out);
        assert_int_equal(hit, at < strlen(text));
        assert_true(str_eq(buf_str(&out), str_slice(str_from(text), 0, at)));
    }
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_at_any_cut),
        cmocka_unit_test(long_texts_pass_whole),
        cmocka_unit_test(holds_back_only_what_it_must),
        cmocka_unit_test(equals_a_search_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
