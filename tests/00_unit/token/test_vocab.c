/* vocab.c, vocab_load.c: what loads, what is refused and with which words, which tokens end a
 * generation. */
#include "check.h"

#include <math.h>

#include "00_unit/token/tiny_vocab.h"

#define SPACE "\xe2\x96\x81"

static const struct tiny_token few[] = {
    {"<unk>", 0, TOKEN_UNKNOWN},
    {"<s>", 0, TOKEN_CONTROL},
    {"</s>", 0, TOKEN_CONTROL},
    {"a", -1, 0},
    {"b", -2, 0},
    {"ab", -3, 0},
    {SPACE, -4, 0},
    {NULL, 0, 0},
};

static struct tiny_vocab spm(void)
{
    return (struct tiny_vocab){.model = "llama", .tokens = few};
}

static struct tiny_vocab bpe(const struct tiny_token *tokens)
{
    static const char *const none[] = {NULL};
    return (struct tiny_vocab){
        .model = "gpt2", .pre = "gpt-2", .tokens = tokens, .merges = none, .no_scores = true};
}

static void test_texts(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab *v = tiny_open(&t);
    assert_int_equal(vocab_size(v), 7);
    assert_string_equal(vocab_model(v), "llama");
    assert_string_equal(vocab_pre(v), "");
    assert_int_equal(vocab_find(v, STR_LIT("ab")), 5);
    assert_int_equal(vocab_find(v, STR_LIT("abc")), TOKEN_NONE);
    assert_int_equal(vocab_find(v, STR_LIT("")), TOKEN_NONE);
    assert_true(str_is(vocab_text(v, 4), "b"));
    assert_int_equal(vocab_text(v, 7).len, 0);
    assert_int_equal(vocab_text(v, -1).len, 0);
    assert_int_equal(vocab_attr(v, 0), TOKEN_UNKNOWN);
    assert_int_equal(vocab_attr(v, 5), TOKEN_NORMAL);
    assert_int_equal(vocab_attr(v, 1000), TOKEN_UNKNOWN);
    tiny_close(&t);
}

static void test_default_ids(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    const struct vocab_special *s = vocab_special(tiny_open(&t));
    assert_int_equal(s->unk, 0);
    assert_int_equal(s->bos, 1);
    assert_int_equal(s->eos, 2);
    assert_int_equal(s->eot, TOKEN_NONE);
    assert_int_equal(s->pad, TOKEN_NONE);
    assert_true(s->add_bos);
    assert_false(s->add_eos);
    assert_true(vocab_is_eog(t.vocab, 2));
    assert_false(vocab_is_eog(t.vocab, 3));
    assert_false(vocab_is_eog(t.vocab, -1));
    assert_false(vocab_is_eog(t.vocab, 7));
    tiny_close(&t);
}

static void test_given_ids(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    t.ids[0] = (struct tiny_id){"bos_token_id", 3};
    t.ids[1] = (struct tiny_id){"eot_token_id", 4};
    t.ids[2] = (struct tiny_id){"padding_token_id", UINT32_MAX};
    t.ids[3] = (struct tiny_id){"eos_token_id", -1};
    t.flags[0] = (struct tiny_flag){"add_bos_token", false};
    const struct vocab_special *s = vocab_special(tiny_open(&t));
    assert_int_equal(s->bos, 3);
    assert_int_equal(s->eot, 4);
    assert_int_equal(s->pad, TOKEN_NONE);
    assert_int_equal(s->eos, TOKEN_NONE);
    assert_false(s->add_bos);
    assert_true(vocab_is_eog(t.vocab, 4));
    assert_false(vocab_is_eog(t.vocab, 2));
    tiny_close(&t);
}

/* ---- refusals ---- */

static void test_models_refused(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    t.model = NULL;
    tiny_refused(&t, RC_CORRUPT, "tokenizer.ggml.model");
    t = spm();
    t.model = "rwkv";
    tiny_refused(&t, RC_UNSUPPORTED,
                 "\"rwkv\" is not known (known: llama, gpt2, gemma4, bert, t5)");
    t = bpe(few);
    t.pre = "martian";
    tiny_refused(&t, RC_UNSUPPORTED, "\"martian\" of tokenizer model \"gpt2\"");
    t.pre = "a-name-that-is-much-longer-than-any-pre-tokenizer-name-ever-should-be";
    tiny_refused(&t, RC_UNSUPPORTED, "too long a name");
}

static void test_texts_refused(void **state)
{
    UNUSED(state);
    static const struct tiny_token none[] = {{NULL, 0, 0}};
    static const struct tiny_token twice[] = {{"a", 0, 0}, {"b", 0, 0}, {"a", 0, 0}, {NULL, 0, 0}};
    static char longest[5000];
    memset(longest, 'x', sizeof(longest) - 1);
    const struct tiny_token too_long[] = {{"a", 0, 0}, {longest, 0, 0}, {NULL, 0, 0}};
    struct tiny_vocab t = spm();
    t.tokens = NULL;
    tiny_refused(&t, RC_CORRUPT, "tokenizer.ggml.tokens is absent");
    t = spm();
    t.tokens = none;
    tiny_refused(&t, RC_CORRUPT, "has 0 items");
    t.tokens = twice;
    tiny_refused(&t, RC_CORRUPT, "tokens 0 and 2 have the same text");
    t.tokens = too_long;
    tiny_refused(&t, RC_CORRUPT, "token 1 has 4999 bytes");
}

static void test_arrays_refused(void **state)
{
    UNUSED(state);
    static const struct tiny_token bad_type[] = {{"a", 0, 0}, {"b", 0, 7}, {NULL, 0, 0}};
    static const struct tiny_token bad_score[] = {{"a", 0, 0}, {"b", NAN, 0}, {NULL, 0, 0}};
    struct tiny_vocab t = spm();
    t.scores_cut = 1;
    tiny_refused(&t, RC_CORRUPT, "scores has 6 items for 7 tokens");
    t = spm();
    t.types_cut = 2;
    tiny_refused(&t, RC_CORRUPT, "token_type has 5 items for 7 tokens");
    t = spm();
    t.no_scores = true;
    tiny_refused(&t, RC_CORRUPT, "scores is absent");
    t = spm();
    t.tokens = bad_type;
    tiny_refused(&t, RC_CORRUPT, "token 1 is of type 7");
    t.tokens = bad_score;
    tiny_refused(&t, RC_CORRUPT, "score of token 1 is not a number");
}

static void test_ids_refused(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = spm();
    t.ids[0] = (struct tiny_id){"bos_token_id", 7};
    tiny_refused(&t, RC_CORRUPT, "bos_token_id is 7, but there are 7 tokens");
    t.ids[0] = (struct tiny_id){"eos_token_id", -2};
    tiny_refused(&t, RC_CORRUPT, "eos_token_id is -2");
    t.ids[0] = (struct tiny_id){"unknown_token_id", -1};
    tiny_refused(&t, RC_CORRUPT, "0 byte tokens and no unknown token");
    t = bpe(few);
    t.flags[0] = (struct tiny_flag){"add_bos_token", true};
    tiny_refused(&t, RC_CORRUPT, "add_bos_token is true, but that token has no id");
}

static void test_merges_refused(void **state)
{
    UNUSED(state);
    static const char *const bad[][2] = {{"a c", NULL}, {"b a", NULL}, {"ab", NULL}, {"", NULL},
                                         {" ", NULL},   {"a ", NULL},  {" a", NULL}};
    struct tiny_vocab t = bpe(few);
    t.merges = NULL;
    tiny_refused(&t, RC_CORRUPT, "merges is absent");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        t = bpe(few);
        t.merges = bad[i];
        tiny_refused(&t, RC_CORRUPT, "merge 0");
    }
}

/* ---- ends of a generation ---- */

static void test_end_texts(void **state)
{
    UNUSED(state);
    static const struct tiny_token chat[] = {
        {"x", 0, 0},
        {"<|endoftext|>", 0, TOKEN_CONTROL},
        {"<|im_end|>", 0, 0}, /* a converter's mistake: it is text nowhere */
        {"<|end|>", 0, TOKEN_CONTROL},
        {"<|file_sep|>", 0, TOKEN_CONTROL},
        {"</s>", 0, 0}, /* a tag of HTML in many vocabularies */
        {NULL, 0, 0},
    };
    struct tiny_vocab t = bpe(chat);
    t.ids[0] = (struct tiny_id){"eos_token_id", 1};
    const struct vocab *v = tiny_open(&t);
    const bool want[] = {false, true, true, true, true, false};
    for (int32_t i = 0; i < 6; i++) {
        assert_int_equal(vocab_is_eog(v, i), want[i]);
    }
    assert_int_equal(vocab_attr(v, 2), TOKEN_CONTROL);
    assert_int_equal(vocab_special(v)->eot, 2);
    tiny_close(&t);
}

static void test_end_of_message(void **state)
{
    UNUSED(state);
    static const struct tiny_token harmony[] = {
        {"<|return|>", 0, TOKEN_CONTROL},
        {"<|call|>", 0, TOKEN_CONTROL},
        {"<|end|>", 0, TOKEN_CONTROL},
        {"<|start|>", 0, TOKEN_CONTROL},
        {NULL, 0, 0},
    };
    struct tiny_vocab t = bpe(harmony);
    const struct vocab *v = tiny_open(&t);
    assert_true(vocab_is_eog(v, 0));
    assert_true(vocab_is_eog(v, 1));
    assert_false(vocab_is_eog(v, 2));
    assert_false(vocab_is_eog(v, 3));
    assert_int_equal(vocab_special(v)->eot, 0);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),         cmocka_unit_test(test_default_ids),
        cmocka_unit_test(test_given_ids),     cmocka_unit_test(test_models_refused),
        cmocka_unit_test(test_texts_refused), cmocka_unit_test(test_arrays_refused),
        cmocka_unit_test(test_ids_refused),   cmocka_unit_test(test_merges_refused),
        cmocka_unit_test(test_end_texts),     cmocka_unit_test(test_end_of_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
