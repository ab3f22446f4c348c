/* cmd_text.c: what a model makes of text: `bud tokenize` and `bud template`. */
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "engine/format/gguf.h"
#include "engine/token/template.h"
#include "engine/token/token.h"

enum { TEXT_BYTES_MAX = 64 << 20 };

/* A model file's metadata alone: no weights are touched. */
struct text_model {
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n_sources;
    struct gguf *g;
    struct vocab *vocab;
};

static enum rc text_model_open(struct text_model *m, const char *name, struct err *err)
{
    char path[PATH_MAX];
    *m = (struct text_model){0};
    enum rc rc = model_path_find(name, path, err);
    rc = rc == RC_OK ? weight_source_open_model(m->sources, &m->n_sources, path, err) : rc;
    rc = rc == RC_OK ? gguf_open(&m->g, m->sources, m->n_sources, err) : rc;
    return rc == RC_OK ? vocab_create(&m->vocab, m->g, err) : rc;
}

static void text_model_close(struct text_model *m)
{
    vocab_destroy(m->vocab);
    gguf_close(m->g);
    for (uint32_t i = 0; i < m->n_sources; i++) {
        weight_source_close(m->sources[i]);
    }
}

/* ---- tokenize ---- */

static const struct args_row cmd_tokenize_options[] = {
    {"--json", 0, NULL, "print JSON"},
    {"--no-special", 0, NULL, "add no BOS or EOS, and read control tokens as text"},
    {0},
};

static void tokenize_print(const struct vocab *v, const struct token_list *tokens, bool json,
                           struct buf *out)
{
    struct buf piece;
    struct json_writer w;
    buf_init(&piece, TEXT_BYTES_MAX);
    json_write_init(&w, out);
    if (json) {
        json_write_array_begin(&w);
    }
    for (uint32_t i = 0; i < tokens->n; i++) {
        buf_reset(&piece);
        vocab_decode_piece(v, tokens->ids[i], true, &piece);
        if (json) {
            json_write_object_begin(&w);
            json_write_member_i64(&w, "id", tokens->ids[i]);
            json_write_member_str(&w, "piece", buf_str(&piece));
            json_write_object_end(&w);
        } else {
            buf_add_printf(out, "%8d  '", tokens->ids[i]);
            print_escaped(out, buf_str(&piece), SIZE_MAX);
            buf_add_cstr(out, "'\n");
        }
    }
    if (json) {
        json_write_array_end(&w);
        buf_add_byte(out, '\n');
    }
    buf_deinit(&piece);
}

static enum rc cmd_tokenize_main(const struct args *a, struct err *err)
{
    struct text_model m;
    struct arena arena;
    struct token_list tokens;
    bool special = !args_has(a, "--no-special");
    arena_init(&arena, (size_t)1 << 30);
    enum rc rc = text_model_open(&m, args_word(a, 0), err);
    if (rc == RC_OK) {
        struct encode_options opt = {.add_special = special, .parse_special = special};
        rc = vocab_encode(m.vocab, str_from(args_word(a, 1)), opt, &arena, &tokens, err);
    }
    if (rc == RC_OK) {
        struct buf out;
        buf_init(&out, TEXT_BYTES_MAX);
        tokenize_print(m.vocab, &tokens, args_has(a, "--json"), &out);
        rc = print_buf(&out, err);
        buf_deinit(&out);
    }
    text_model_close(&m);
    arena_deinit(&arena);
    return rc;
}

const struct command cmd_tokenize = {
    .name = "tokenize",
    .words = "MODEL TEXT",
    .line = "Show the token ids and pieces of a text",
    .options = cmd_tokenize_options,
    .n_words_min = 2,
    .n_words_max = 2,
    .run = cmd_tokenize_main,
};

/* ---- template ---- */

static const struct args_row cmd_template_options[] = {
    {"--no-generation-prompt", 0, NULL, "do not open the assistant's turn at the end"},
    {"--bos", 0, "TEXT", "bos_token for a .jinja file (default <s>)"},
    {"--eos", 0, "TEXT", "eos_token for a .jinja file (default </s>)"},
    {0},
};

/* The template's source and its two tokens, from a .jinja file or from a model's metadata. */
static enum rc template_source(const struct args *a, struct text_model *m, struct buf *source,
                               struct template_input *in, struct err *err)
{
    const char *name = args_word(a, 0);
    if (str_ends(str_from(name), STR_LIT(".jinja"))) {
        in->bos_token = str_from(args_str(a, "--bos", "<s>"));
        in->eos_token = str_from(args_str(a, "--eos", "</s>"));
        return file_read(name, source, err);
    }
    enum rc rc = text_model_open(m, name, err);
    struct str text;
    rc = rc == RC_OK ? gguf_get_str(m->g, "tokenizer.chat_template", STR_NULL, &text, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (text.len == 0) {
        return err_set(err, RC_NOT_FOUND, "%s has no chat template", name);
    }
    const struct vocab_special *special = vocab_special(m->vocab);
    in->bos_token = vocab_text(m->vocab, special->bos);
    in->eos_token = vocab_text(m->vocab, special->eos);
    buf_add_str(source, text);
    return RC_OK;
}

/* A conversation is an array of messages, or an object with messages, tools and more variables. */
static enum rc template_conversation(const char *path, struct buf *text, struct arena *arena,
                                     struct template_input *in, struct err *err)
{
    const struct json *root = NULL;
    enum rc rc = file_read(path, text, err);
    rc = rc == RC_OK ? json_parse(buf_str(text), arena, &root, err) : rc;
    if (rc != RC_OK) {
        err_context(err, "%s", path);
        return rc;
    }
    in->messages = root;
    if (root->type == JSON_OBJECT) {
        in->messages = json_get_present(root, "messages");
        in->tools = json_get_present(root, "tools");
        in->extra = json_get_present(root, "chat_template_kwargs");
    }
    if (in->messages == NULL || in->messages->type != JSON_ARRAY) {
        return err_set(err, RC_INVALID, "%s: expected an array of messages, or an object with one",
                       path);
    }
    return RC_OK;
}

static enum rc template_print(struct str source, const struct template_input *in, struct err *err)
{
    struct template *t = NULL;
    struct arena scratch;
    struct buf out;
    arena_init(&scratch, TEMPLATE_SCRATCH_BYTES);
    buf_init(&out, TEXT_BYTES_MAX);
    enum rc rc = template_compile(&t, source, err);
    rc = rc == RC_OK ? template_render(t, in, &scratch, &out, err) : rc;
    rc = rc == RC_OK ? print_buf(&out, err) : rc;
    template_destroy(t);
    buf_deinit(&out);
    arena_deinit(&scratch);
    return rc;
}

static enum rc cmd_template_main(const struct args *a, struct err *err)
{
    struct text_model m = {0};
    struct buf source;
    struct buf text;
    struct arena arena;
    struct template_input in = {.now_s = clock_wall_s(clock_system())};
    in.add_generation_prompt = !args_has(a, "--no-generation-prompt");
    buf_init(&source, TEXT_BYTES_MAX);
    buf_init(&text, TEXT_BYTES_MAX);
    arena_init(&arena, (size_t)1 << 30);
    enum rc rc = template_source(a, &m, &source, &in, err);
    rc = rc == RC_OK ? template_conversation(args_word(a, 1), &text, &arena, &in, err) : rc;
    rc = rc == RC_OK ? template_print(buf_str(&source), &in, err) : rc;
    arena_deinit(&arena);
    buf_deinit(&text);
    buf_deinit(&source);
    text_model_close(&m);
    return rc;
}

const struct command cmd_template = {
    .name = "template",
    .words = "MODEL|FILE.jinja CONVERSATION.json",
    .line = "Render a conversation through a chat template",
    .help = "CONVERSATION.json is an array of messages, or an object with \"messages\" and, if\n"
            "wanted, \"tools\" and \"chat_template_kwargs\".\n",
    .options = cmd_template_options,
    .n_words_min = 2,
    .n_words_max = 2,
    .run = cmd_template_main,
};
