/* pretok.c, pretok_rules.c: every family of rules cuts where the official expressions do
 * (tests/golden/pretok.txt, made by tests/golden/make/pretok.py); the table is sound. */
#include "check.h"

#include "base/file.h"
#include "engine/token/pretok.h"

enum { FILE_BYTES = 1 << 20, TEXTS_MAX = 512, TEXT_BYTES_MAX = 256 };

struct text {
    char bytes[TEXT_BYTES_MAX];
    size_t len;
};

static void read_hex(struct text *t, struct str hex)
{
    assert_true(hex.len % 2 == 0 && hex.len / 2 <= TEXT_BYTES_MAX);
    t->len = hex.len / 2;
    for (size_t i = 0; i < t->len; i++) {
        char digits[3] = {hex.ptr[2 * i], hex.ptr[2 * i + 1], '\0'};
        t->bytes[i] = (char)strtol(digits, NULL, 16);
    }
}

static void check_cuts(const struct pretok_row *row, struct str text, struct str want)
{
    struct pretok p;
    struct str word;
    size_t at = 0;
    pretok_init(&p, row, text);
    while (pretok_next(&p, &word)) {
        uint64_t len = 0;
        bool is_number = str_to_u64(str_cut(&want, ' '), &len);
        if (!is_number || word.len != len || word.ptr != text.ptr + at) {
            fail_msg("%s: \"%.*s\" has the word \"%.*s\" at %zu, of %zu bytes, not %llu", row->name,
                     STR(text), STR(word), at, word.len, (unsigned long long)len);
        }
        at += word.len;
    }
    assert_int_equal(at, text.len);
    assert_int_equal(want.len, 0);
}

static void test_golden(void **state)
{
    UNUSED(state);
    static struct text texts[TEXTS_MAX];
    struct buf file;
    struct err err = {0};
    size_t n_texts = 0, n_rules = 0, idx = 0;
    const struct pretok_row *row = NULL;
    buf_init(&file, FILE_BYTES);
    if (file_read("tests/golden/pretok.txt", &file, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    for (struct str rest = buf_str(&file); rest.len > 0;) {
        struct str line = str_cut(&rest, '\n');
        if (str_starts(line, STR_LIT("text "))) {
            assert_true(n_texts < TEXTS_MAX);
            read_hex(&texts[n_texts++], str_slice(line, 5, line.len));
        } else if (str_starts(line, STR_LIT("rule "))) {
            char name[64];
            assert_true(str_copy(name, sizeof(name), str_slice(line, 5, line.len)));
            assert_true(row == NULL || idx == n_texts);
            row = pretok_find(name);
            assert_non_null(row);
            idx = 0;
            n_rules++;
        } else {
            assert_true(row != NULL && idx < n_texts);
            check_cuts(row, str_make(texts[idx].bytes, texts[idx].len), line);
            idx++;
        }
    }
    assert_int_equal(idx, n_texts);
    assert_true(n_rules >= 20);
    buf_deinit(&file);
}

static void test_table(void **state)
{
    UNUSED(state);
    uint32_t n = 0;
    for (const struct pretok_row *row; (row = pretok_at(n)) != NULL; n++) {
        assert_ptr_equal(pretok_find(row->name), row); /* no name twice */
        assert_in_range(row->n_stages, 1, PRETOK_STAGES_MAX);
    }
    assert_true(n > 70);
    assert_null(pretok_find("martian"));
    assert_true(pretok_find("llama-bpe")->ignore_merges);
    assert_true(pretok_find("llama-bpe")->add_bos);
    assert_true(pretok_find("gemma4")->spm_text);
    assert_false(pretok_find("qwen2")->ignore_merges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
