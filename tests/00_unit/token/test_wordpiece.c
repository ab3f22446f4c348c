/* wordpiece.c: normalisation, cutting, longest match, both styles of vocabulary. */
#include "check.h"

#include "00_unit/token/tiny_vocab.h"

#define SP "\xe2\x96\x81"

static const struct encode_options plain = {0}, added = {.add_special = true};

static struct tiny_vocab bert(const struct tiny_token *tokens)
{
    struct tiny_vocab t = {.model = "bert", .tokens = tokens, .no_scores = true};
    t.ids[0] = (struct tiny_id){"cls_token_id", 0};
    t.ids[1] = (struct tiny_id){"seperator_token_id", 1};
    t.ids[2] = (struct tiny_id){"unknown_token_id", 2};
    return t;
}

static const struct tiny_token converted[] = {
    {"[CLS]", 0, TOKEN_CONTROL},
    {"[SEP]", 0, TOKEN_CONTROL},
    {"[UNK]", 0, TOKEN_CONTROL},
    {SP "un", 0, 0},
    {SP "una", 0, 0},
    {"aff", 0, 0},
    {"ff", 0, 0},
    {"able", 0, 0},
    {SP "!", 0, 0},
    {SP "\xe4\xb8\xad", 0, 0},
    {SP "caf", 0, 0},
    {"e", 0, 0},
    {NULL, 0, 0},
};

static void test_words(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bert(converted);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "unaffable", plain, SP "una|ff|able");
    tiny_pieces(v, " UNAFFABLE!  un ", plain, SP "una|ff|able|" SP "!|" SP "un");
    tiny_pieces(v, "un!un", plain, SP "un|" SP "!|" SP "un");
    tiny_pieces(v, "un\xe4\xb8\xadun", plain, SP "un|" SP "\xe4\xb8\xad|" SP "un");
    tiny_pieces(v, "Caf\xc3\xa9 cafe\xcc\x81", plain, SP "caf|e|" SP "caf|e");
    tiny_pieces(v,
                "un\x01\xe2\x80\x8b"
                "ff",
                plain, SP "un|ff");                    /* controls go */
    tiny_pieces(v, "unx un", plain, "[UNK]|" SP "un"); /* all of the word or nothing */
    tiny_pieces(v, "un", added, "[CLS]|" SP "un|[SEP]");
    tiny_pieces(v, "", added, "[CLS]|[SEP]");
    tiny_pieces(v, "un" SP "un", plain, "[UNK]"); /* the mark is no space in a text */
    tiny_pieces(v, "[SEP]", plain, "[UNK]|[UNK]|[UNK]");
    tiny_round(v, "unaffable! un", "unaffable ! un");
    tiny_close(&t);
}

static void test_long_word(void **state)
{
    UNUSED(state);
    static const struct tiny_token letters[] = {
        {"[CLS]", 0, TOKEN_CONTROL}, {"[SEP]", 0, TOKEN_CONTROL},
        {"[UNK]", 0, TOKEN_CONTROL}, {SP "a", 0, 0},
        {"aaaaaaaaa", 0, 0},         {NULL, 0, 0}};
    char text[102];
    struct tiny_vocab t = bert(letters);
    const struct vocab *v = tiny_open(&t);
    memset(text, 'a', sizeof(text) - 1);
    text[101] = '\0';
    tiny_pieces(v, text, plain, "[UNK]");
    text[100] = '\0';
    tiny_pieces(v, text, plain,
                SP "a|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|"
                   "aaaaaaaaa|aaaaaaaaa|aaaaaaaaa|aaaaaaaaa");
    tiny_close(&t);
}

static void test_continuation(void **state)
{
    UNUSED(state);
    static const struct tiny_token original[] = {
        {"[CLS]", 0, TOKEN_CONTROL},
        {"[SEP]", 0, TOKEN_CONTROL},
        {"[UNK]", 0, TOKEN_CONTROL},
        {"un", 0, 0},
        {"##aff", 0, 0},
        {"##able", 0, 0},
        {"able", 0, 0},
        {"#", 0, 0},
        {NULL, 0, 0},
    };
    struct tiny_vocab t = bert(original);
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "unaffable able un", plain, "un|##aff|##able|able|un");
    tiny_pieces(v, "##able", plain, "#|#|able"); /* the text's own marks are punctuation */
    tiny_round(v, "unaffable able", "unaffable able");
    tiny_close(&t);
}

static void test_cased(void **state)
{
    UNUSED(state);
    struct tiny_vocab t = bert(converted);
    t.flags[0] = (struct tiny_flag){"normalizer.lowercase", false};
    const struct vocab *v = tiny_open(&t);
    tiny_pieces(v, "un Un caf\xc3\xa9", plain, SP "un|[UNK]|[UNK]");
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_continuation),
        cmocka_unit_test(test_cased),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
