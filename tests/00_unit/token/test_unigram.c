/* unigram.c, charsmap.c, lexicon.c: the best way to cut, unknown characters, spaces, normalising,
 * and tables that are broken. */
#include "check.h"

#include <math.h>

#include "00_unit/token/tiny_vocab.h"
#include "base/rng.h"

#define SP "\xe2\x96\x81"

static const struct tiny_token tokens[] = {
    {"<s>", 0, TOKEN_CONTROL},
    {"<pad>", 0, TOKEN_CONTROL},
    {"</s>", 0, TOKEN_CONTROL},
    {"<unk>", 0, TOKEN_UNKNOWN},
    {"a", -3, 0},
    {"b", -3, 0},
    {"c", -4, 0},
    {SP, -2, 0},
    {"ab", -4, 0},
    {"bc", -3.5f, 0},
    {"abcabc", -9, 0},
    {SP "a", -2.5f, 0},
    {"cc", -1, TOKEN_UNUSED},
    {"y", -3, 0},
    {"z", -3, 0},
    {"\xc3", -0.1f, 0}, /* half a character */
    {"\xc3\xa9", -5, 0},
    {"user", -9, TOKEN_USER_DEFINED},
    {NULL, 0, 0},
};

static struct tiny_vocab unigram(bool with_bytes)
{
    struct tiny_vocab t = {.model = "t5", .tokens = tokens, .with_bytes = with_bytes};
    int64_t first = with_bytes ? 256 : 0;
    t.ids[0] = (struct tiny_id){"unknown_token_id", first + 3};
    t.ids[1] = (struct tiny_id){"bos_token_id", first};
    t.ids[2] = (struct tiny_id){"eos_token_id", first + 2};
    t.ids[3] = (struct tiny_id){"padding_token_id", first + 1};
    t.flags[0] = (struct tiny_flag){"add_space_prefix", false};
    t.flags[1] = (struct tiny_flag){"remove_extra_whitespaces", true};
    return t;
}

static const struct encode_options plain = {0}, specials = {.parse_special = true},
                                   added = {.add_special = true};

static void the_best_sum_wins(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = unigram(false);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "", plain, "");
    tiny_pieces(v, "ab", plain, "ab");         /* -4 before -6 */
    tiny_pieces(v, "abc", plain, "a|bc");      /* -6.5 before -8 */
    tiny_pieces(v, "abcabc", plain, "abcabc"); /* -9 before -13 */
    tiny_pieces(v, "abcab", plain, "a|bc|ab");
    tiny_pieces(v, "b a", plain, "b|" SP "a");
    tiny_pieces(v, "\xc3\xa9", plain, "\xc3\xa9");
    tiny_pieces(v, "auserb", plain, "a|user|b");
    tiny_close(&t);
}

static void unknown_ones_in_a_row_are_one(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = unigram(false);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "??", plain, "<unk>");
    tiny_pieces(v, "a???b\xf0\x9f\x98\x80", plain, "a|<unk>|b|<unk>");
    tiny_pieces(v, "a ??a", plain, "a|" SP "|<unk>|a");
    tiny_pieces(v, "cc", plain, "c|c"); /* not the unused one */
    /* One that the text asks for stays beside one that is unknown. */
    tiny_pieces(v, "<unk>?", specials, "<unk>|<unk>");
    tiny_close(&t);

    t = unigram(true);
    v = tiny_open(&t);
    tiny_pieces(v, "a?!", plain, "a|<0x3F>|<0x21>");
    tiny_round(v, "a \xf0\x9f\x98\x80?", "a \xf0\x9f\x98\x80?");
    tiny_close(&t);
}

static void spaces_are_squeezed_and_marked(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = unigram(false);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "  b   a  ", plain, "b|" SP "a");
    tiny_pieces(v, "   ", plain, "");
    tiny_close(&t);

    t = unigram(false);
    t.flags[0].value = true;
    v = tiny_open(&t);
    tiny_pieces(v, " a b", plain, SP "a|" SP "|b");
    tiny_pieces(v, "  ", plain, "");
    tiny_round(v, "a b", "a b");
    tiny_close(&t);

    t = unigram(false);
    t.flags[1].value = false;
    v = tiny_open(&t);
    tiny_pieces(v, " b  ", plain, SP "|b|" SP "|" SP);
    tiny_close(&t);
}

/* The same words again and again come out of the memory of words. */
static void repeated_words_are_the_same(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = unigram(false);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "a? a? a? a? a? a? a? a?", plain,
                "a|<unk>|" SP "a|<unk>|" SP "a|<unk>|" SP "a|<unk>|" SP "a|<unk>|" SP "a|<unk>|" SP
                "a|<unk>|" SP "a|<unk>");
    tiny_close(&t);
}

static void special_tokens_frame_a_text(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = unigram(false);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "a", added, "a|</s>"); /* as T5: the end alone, where the file is silent */
    tiny_close(&t);

    t = unigram(false);
    t.ids[4] = (struct tiny_id){"seperator_token_id", 2};
    t.flags[2] = (struct tiny_flag){"add_bos_token", true};
    t.flags[3] = (struct tiny_flag){"add_sep_token", true};
    v = tiny_open(&t);
    tiny_pieces(v, "a", added, "<s>|a|</s>"); /* SEP is for pairs */
    tiny_close(&t);
}

/* ---- the normaliser ---- */

enum { UNITS = 769, TABLE_BYTES = 4 + 4 * UNITS + 16 };

struct table {
    unsigned char bytes[TABLE_BYTES];
};

static void set_unit(struct table *t, uint32_t at, uint32_t unit)
{
    memcpy(t->bytes + 4 + 4 * at, &unit, sizeof(unit));
}

/* x becomes "yz", xx nothing: children of the root at 256, of x at 512, the value of xx at 768. */
static struct table table_make(void)
{
    struct table t = {0};
    uint32_t n_trie = 4 * UNITS;
    memcpy(t.bytes, &n_trie, sizeof(n_trie));
    uint32_t x = 256 ^ 'x', xx = 512 ^ 'x';
    set_unit(&t, 0, 256 << 10);
    set_unit(&t, x, 'x' | 1 << 8 | (x ^ 512) << 10);
    set_unit(&t, 512, UINT32_C(1) << 31 | 0);
    set_unit(&t, xx, 'x' | 1 << 8 | (xx ^ 768) << 10);
    set_unit(&t, 768, UINT32_C(1) << 31 | 2);
    memcpy(t.bytes + 4 + n_trie, "yz", 3);
    return t;
}

static struct tiny_vocab with_table(const struct table *table)
{
    struct tiny_vocab t = unigram(false);
    t.charsmap = table->bytes;
    t.charsmap_bytes = TABLE_BYTES;
    return t;
}

static void the_longest_run_is_replaced(void **state)
{
    UNUSED(state);
    struct table table = table_make();
    struct tiny_vocab t = with_table(&table);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "x", plain, "y|z");
    tiny_pieces(v, "axxb", plain, "ab"); /* nothing between them any more */
    tiny_pieces(v, "xxx", plain, "y|z");
    tiny_pieces(v, "a xx a", plain, "a|" SP "a");
    tiny_close(&t);
}

static void broken_tables_are_refused(void **state)
{
    UNUSED(state);
    const uint32_t sizes[] = {0, 2, 4 * UNITS + 2, TABLE_BYTES, UINT32_MAX};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct table table = table_make();
        memcpy(table.bytes, &sizes[i], sizeof(sizes[i]));
        struct tiny_vocab t = with_table(&table);
        tiny_refused(&t, RC_CORRUPT, "precompiled_charsmap has");
    }
    struct table table = table_make();
    table.bytes[TABLE_BYTES - 1] = 'a';
    struct tiny_vocab t = with_table(&table);
    tiny_refused(&t, RC_CORRUPT, "ends inside a text");
    t = with_table(&table);
    t.charsmap_bytes = 4;
    tiny_refused(&t, RC_CORRUPT, "is not an array of");

    unsigned char tall[4 + 4 + 512];
    memset(tall, 'a', sizeof(tall));
    memcpy(tall, &(uint32_t){4}, 4);
    tall[sizeof(tall) - 1] = 0;
    t = unigram(false);
    t.charsmap = tall;
    t.charsmap_bytes = sizeof(tall);
    tiny_refused(&t, RC_CORRUPT, "a text of more than");
}

/* A replacement that begins inside a character is none; the characters stay as they are. */
static void a_replacement_is_whole_characters(void **state)
{
    UNUSED(state);
    struct table table = table_make();
    set_unit(&table, 512, UINT32_C(1) << 31 | 1);
    memcpy(table.bytes + 4 + 4 * UNITS, "\xc3\xa9", 3);
    struct tiny_vocab t = with_table(&table);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "axb", plain, "a|<unk>|b");
    tiny_close(&t);
}

/* Every unit anything: indices outside, values outside, circles. What comes out is still made
 * of pieces and the unknown token. */
static void wild_units_end_the_walk(void **state)
{
    UNUSED(state);
    struct rng rng;
    rng_init(&rng, 5);
    for (int round = 0; round < 200; round++) {
        struct table table = table_make();
        for (uint32_t at = 0; at < UNITS; at++) {
            uint32_t label = (at ^ 256) & 0xff;
            set_unit(&table, at, (uint32_t)(rng_u64(&rng) & 0x7fffff00) | label);
        }
        memcpy(table.bytes + 4 + 4 * UNITS, "a\xc3\xa9 b\xc3\xa9", 8);
        struct tiny_vocab t = with_table(&table);
        const struct vocab *v = tiny_open(&t);
        struct arena a;
        struct token_list list;
        arena_init(&a, 1 << 20);
        assert_int_equal(
            vocab_encode(v, STR_LIT("xxxx abc x \xc3\xa9 cba xx"), plain, &a, &list, NULL), RC_OK);
        for (uint32_t i = 0; i < list.n; i++) {
            assert_in_range(list.ids[i], 3, vocab_size(v) - 1);
        }
        arena_deinit(&a);
        tiny_close(&t);
    }
}

static void scores_must_be_finite(void **state)
{
    UNUSED(state);
    const struct tiny_token infinite[] = {
        {"<unk>", 0, TOKEN_UNKNOWN}, {"a", -INFINITY, 0}, {NULL, 0, 0}};
    struct tiny_vocab t = {.model = "t5", .tokens = infinite};
    t.ids[0] = (struct tiny_id){"unknown_token_id", 0};
    tiny_refused(&t, RC_CORRUPT, "score of token 1 is not finite");
    t = unigram(false);
    t.no_scores = true;
    tiny_refused(&t, RC_CORRUPT, "scores is absent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_sum_wins),
        cmocka_unit_test(unknown_ones_in_a_row_are_one),
        cmocka_unit_test(spaces_are_squeezed_and_marked),
        cmocka_unit_test(repeated_words_are_the_same),
        cmocka_unit_test(special_tokens_frame_a_text),
        cmocka_unit_test(the_longest_run_is_replaced),
        cmocka_unit_test(broken_tables_are_refused),
        cmocka_unit_test(a_replacement_is_whole_characters),
        cmocka_unit_test(wild_units_end_the_walk),
        cmocka_unit_test(scores_must_be_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
