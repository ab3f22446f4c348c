/* pretok.c: the table of pre-tokenizers, and the walk that cuts a text by a row's stages.
 *
 * Names are those of GGUF's tokenizer.ggml.pre; the expressions, those of the models' own
 * tokenizer.json. Names that need other rules are not listed and are refused when a model loads:
 * afmoe, chameleon, exaone-moe, jais-2, kimi-k2, spark2_5, superbpe, tiny_aya, whitespace, youtu.
 */
#include "engine/token/pretok.h"

#include "base/assert.h"
#include "engine/token/pretok_rules.h"

/* ---- rules ---- */

#define CONTRACTIONS(kind) PRETOK_CONTRACTIONS_##kind
#define LETTERS(kind)      PRETOK_LETTERS_##kind

static const struct pretok_words words_gpt2 = {CONTRACTIONS(LOWER), LETTERS(BLANK),
                                               PRETOK_DIGITS_BLANK, "", false};
static const struct pretok_words words_llama3 = {CONTRACTIONS(ANY), LETTERS(ANY), 3, "\r\n", true};
static const struct pretok_words words_minicpm = {CONTRACTIONS(ANY), LETTERS(ANY), INT32_MAX,
                                                  "\r\n", true};
static const struct pretok_words words_qwen2 = {CONTRACTIONS(ANY), LETTERS(ANY), 1, "\r\n", true};
static const struct pretok_words words_qwen35 = {CONTRACTIONS(ANY), LETTERS(MARKS), 1, "\r\n",
                                                 true};
static const struct pretok_words words_ufakzeka = {CONTRACTIONS(NONE), LETTERS(ANY), 1, "\r\n",
                                                   true};
static const struct pretok_words words_seed = {CONTRACTIONS(ANY), LETTERS(ANY), 1, "", true};
static const struct pretok_words words_gpt4o = {CONTRACTIONS(SUFFIX), LETTERS(CASED), 3, "\r\n/",
                                                true};
static const struct pretok_words words_tekken = {CONTRACTIONS(NONE), LETTERS(CASED), 1, "\r\n/",
                                                 true};
static const struct pretok_words words_deepseek = {CONTRACTIONS(NONE), LETTERS(DEEP),
                                                   PRETOK_DIGITS_NONE, "\r\n", true};

static const struct pretok_run run_digit = {pretok_is_number, PRETOK_LEAD_NONE, 1, 1};
static const struct pretok_run run_digits3 = {pretok_is_number, PRETOK_LEAD_NONE, 1, 3};
static const struct pretok_run run_digits = {pretok_is_number, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_three_digits = {pretok_is_ascii_digit, PRETOK_LEAD_NONE, 3, 3};
static const struct pretok_run run_newline = {pretok_is_newline, PRETOK_LEAD_NONE, 1, 1};
static const struct pretok_run run_line = {pretok_is_line, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_kana = {pretok_is_kana, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_cjk = {pretok_is_cjk, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_letters = {pretok_is_letter, PRETOK_LEAD_SPACE, 1, 0};
static const struct pretok_run run_punct = {pretok_is_punct, PRETOK_LEAD_SPACE, 1, 0};
static const struct pretok_run run_ds_letters = {pretok_is_deepseek_letter, PRETOK_LEAD_SPACE, 1,
                                                 0};
static const struct pretok_run run_ds_punct = {pretok_is_deepseek_punct, PRETOK_LEAD_SPACE, 1, 0};
static const struct pretok_run run_math = {pretok_is_math_punct, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_falcon = {pretok_is_falcon_punct, PRETOK_LEAD_NONE, 1, 0};
static const struct pretok_run run_bloom = {pretok_is_bloom_text, PRETOK_LEAD_BLANK, 1, 0};

/* ---- stages ---- */

#define WORDS(name)                                                                                \
    {                                                                                              \
        NULL, &words_##name                                                                        \
    }
#define RUN(name)                                                                                  \
    {                                                                                              \
        &run_##name, NULL                                                                          \
    }
#define TRAILING                                                                                   \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }
/* A list of stages: STAGES(name, n, …). */
#define STAGES(name, ...)                                                                          \
    static const struct pretok_stage stages_##name[] = {__VA_ARGS__};                              \
    _Static_assert(ARRAY_LEN(stages_##name) <= PRETOK_STAGES_MAX, "stages of " #name)

STAGES(gpt2, WORDS(gpt2));
STAGES(starcoder, RUN(digit), WORDS(gpt2));
STAGES(falcon, RUN(falcon), WORDS(gpt2), RUN(three_digits));
STAGES(unnamed, RUN(math), WORDS(gpt2), RUN(digits), RUN(three_digits));
STAGES(llama3, WORDS(llama3));
STAGES(minicpm5, RUN(digits3), WORDS(minicpm));
STAGES(qwen2, WORDS(qwen2));
STAGES(qwen35, WORDS(qwen35));
STAGES(ufakzeka, WORDS(ufakzeka));
STAGES(seed_coder, WORDS(seed));
STAGES(laguna, RUN(line), WORDS(qwen2));
STAGES(gpt4o, WORDS(gpt4o));
STAGES(tekken, WORDS(tekken));
STAGES(deepseek_llm, RUN(newline), RUN(ds_letters), RUN(ds_punct), TRAILING, RUN(cjk), RUN(digits));
STAGES(deepseek_coder, RUN(newline), RUN(letters), RUN(punct), RUN(cjk), RUN(digit));
STAGES(deepseek3, RUN(digits3), RUN(kana), WORDS(deepseek));
STAGES(bloom, RUN(bloom));
STAGES(viking, RUN(bloom), RUN(digit));
STAGES(lines, RUN(line));

/* ---- names ---- */

#define ROW(pre, list, ...)                                                                        \
    {                                                                                              \
        .name = pre, .stages = stages_##list, .n_stages = ARRAY_LEN(stages_##list), ##__VA_ARGS__  \
    }

static const struct pretok_row pretok_rows[] = {
    ROW("", unnamed),
    ROW("default", unnamed),
    ROW("gpt-2", gpt2),
    ROW("a.x-4.0", gpt2),
    ROW("exaone4", gpt2),
    ROW("gigachat", gpt2),
    ROW("granite-docling", gpt2),
    ROW("jais", gpt2),
    ROW("jina-de", gpt2),
    ROW("jina-es", gpt2),
    ROW("jina-v2-de", gpt2),
    ROW("jina-v2-es", gpt2),
    ROW("mellum", gpt2),
    ROW("modern-bert", gpt2),
    ROW("mpt", gpt2),
    ROW("olmo", gpt2),
    ROW("phi-2", gpt2),
    ROW("trillion", gpt2),
    ROW("jina-v1-en", gpt2, .add_sep = true),
    ROW("jina-v2-code", gpt2, .add_sep = true),
    ROW("roberta-bpe", gpt2, .add_sep = true),
    ROW("starcoder", starcoder),
    ROW("codeshell", starcoder),
    ROW("command-r", starcoder),
    ROW("exaone", starcoder),
    ROW("mellum2", starcoder),
    ROW("minerva-7b", starcoder),
    ROW("refact", starcoder),
    ROW("smollm", starcoder),
    ROW("falcon", falcon),
    ROW("llama-bpe", llama3, .ignore_merges = true, .add_bos = true),
    ROW("llama3", llama3, .ignore_merges = true, .add_bos = true),
    ROW("llama-v3", llama3, .ignore_merges = true, .add_bos = true),
    ROW("falcon3", llama3, .ignore_merges = true, .add_bos = true),
    ROW("falcon-h1", llama3, .ignore_merges = true, .add_bos = true),
    ROW("jina-v5-nano", llama3, .ignore_merges = true, .add_bos = true),
    ROW("lfm2", llama3, .ignore_merges = true, .add_bos = true),
    ROW("midm-2.0", llama3, .ignore_merges = true, .add_bos = true),
    ROW("pixtral", llama3, .ignore_merges = true, .add_bos = true),
    ROW("chatglm-bpe", llama3),
    ROW("glm4", llama3),
    ROW("dbrx", llama3),
    ROW("smaug-bpe", llama3),
    ROW("minicpm5", minicpm5, .ignore_merges = true),
    ROW("qwen2", qwen2),
    ROW("bailingmoe", qwen2),
    ROW("bailingmoe2", qwen2),
    ROW("deepseek-r1-qwen", qwen2),
    ROW("f2llmv2", qwen2),
    ROW("grok-2", qwen2),
    ROW("hunyuan", qwen2),
    ROW("kormo", qwen2),
    ROW("llada-moe", qwen2),
    ROW("megrez", qwen2),
    ROW("solar-open", qwen2),
    ROW("stablelm2", qwen2),
    ROW("qwen35", qwen35),
    ROW("ufakzeka", ufakzeka),
    ROW("seed-coder", seed_coder),
    ROW("laguna", laguna),
    ROW("gpt-4o", gpt4o),
    ROW("kanana2", gpt4o),
    ROW("llama4", gpt4o),
    ROW("minimax-m2", gpt4o),
    ROW("talkie", gpt4o),
    ROW("granite-embed-multi-97m", gpt4o, .ignore_merges = true),
    ROW("tekken", tekken, .ignore_merges = true, .add_bos = true),
    ROW("deepseek-llm", deepseek_llm),
    ROW("deepseek-coder", deepseek_coder),
    ROW("deepseek-v3", deepseek3),
    ROW("hunyuan-dense", deepseek3),
    ROW("hy_v4", deepseek3),
    ROW("joyai-llm", deepseek3),
    ROW("bloom", bloom),
    ROW("gpt3-finnish", bloom),
    ROW("poro-chat", bloom),
    ROW("viking", viking),
    ROW("gemma4", lines, .spm_text = true),
    ROW("granite-embed-multi-311m", lines, .spm_text = true),
    ROW("sarvam-moe", lines, .spm_text = true),
};

const struct pretok_row *pretok_at(uint32_t i)
{
    return i < ARRAY_LEN(pretok_rows) ? &pretok_rows[i] : NULL;
}

const struct pretok_row *pretok_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(pretok_rows); i++) {
        if (strcmp(pretok_rows[i].name, name) == 0) {
            return &pretok_rows[i];
        }
    }
    return NULL;
}

/* ---- the walk ---- */

void pretok_init(struct pretok *p, const struct pretok_row *row, struct str text)
{
    *p = (struct pretok){.row = row, .text = text};
}

bool pretok_next(struct pretok *p, struct str *word)
{
    size_t at = p->at, parent_end = p->text.len;
    if (at >= parent_end) {
        return false;
    }
    for (uint32_t i = 0; i < p->row->n_stages; i++) {
        if (p->end[i] <= at) {
            struct str piece = str_slice(p->text, 0, parent_end);
            struct pretok_match m = pretok_stage_find(&p->row->stages[i], piece, at);
            p->end[i] = m.start > at ? m.start : m.end;
        }
        ASSERT(p->end[i] > at);
        ASSERT(p->end[i] <= parent_end);
        parent_end = p->end[i];
    }
    *word = str_slice(p->text, at, parent_end);
    p->at = parent_end;
    return true;
}
