/* The trained model of the shared data: greedy text equals what the peer engines print. */
#include "golden.h"

#include "engine/sample/sample.h"

#define MODEL "../shared/models/stories260K.gguf"

static const char expected[] =
    ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw "
    "a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said";

/* Appends the greedy continuation of `prompt`, n tokens of it. */
static void continue_greedily(struct engine *e, const char *prompt, uint32_t n, struct buf *out)
{
    const struct vocab *v = engine_vocab(e);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct token_list list;
    struct encode_options with_bos = {.add_special = true};
    assert_int_equal(vocab_encode(v, str_from(prompt), with_bos, &arena, &list, NULL), RC_OK);
    struct sample_params greedy = {.top_p = 1, .repetition_penalty = 1};
    struct sampler *sampler = NULL;
    assert_int_equal(sampler_create(&sampler, v, &greedy, NULL), RC_OK);
    struct detok detok;
    detok_init(&detok, v, (struct detok_options){0});
    uint32_t n_vocab = vocab_size(v);
    float *logits = mem_zalloc_array((size_t)GOLDEN_TOKENS_MAX * n_vocab, sizeof(float));
    int32_t tokens[GOLDEN_TOKENS_MAX];
    uint32_t pages[] = {2, 0, 3, 1, 4, 5, 6, 7};
    struct golden_piece piece = {tokens, 0, list.n, {pages, ARRAY_LEN(pages)}};
    memcpy(tokens, list.ids, list.n * sizeof(tokens[0]));
    for (uint32_t i = 0; i < n; i++) {
        golden_forward(e, &piece, 1, logits);
        struct sample_result r;
        sampler_next(sampler, logits + (size_t)(piece.to - piece.from - 1) * n_vocab, &r);
        detok_push(&detok, r.token, out);
        tokens[piece.to] = r.token;
        piece.from = piece.to++;
    }
    detok_finish(&detok, out);
    mem_free(logits);
    sampler_destroy(sampler);
    arena_deinit(&arena);
}

static void tells_the_known_story(void **state)
{
    (void)state;
    check_need_file(MODEL);
    const enum dtype types[] = {DTYPE_F32, DTYPE_F16};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct engine_conf conf = {.kv_pages = 8, .kv_type = types[i]};
        struct engine *e = golden_open(MODEL, &conf);
        struct buf text;
        buf_init(&text, 1 << 16);
        continue_greedily(e, "Once upon a time", 80, &text);
        struct str start = str_slice(buf_str(&text), 0, sizeof(expected) - 1);
        if (!str_is(start, expected)) {
            fail_msg("%s", text.ptr);
        }
        buf_deinit(&text);
        engine_close(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_known_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
