/* vocab_load.c: what tokenizer.ggml.* says beside the texts: the model, attributes, scores,
 * special ids, and which tokens end a generation.
 *
 * Keys: github.com/ggml-org/ggml docs/gguf.md. Defaults of absent keys and the known end texts are
 * those that the field's converters count on. An id of -1 (also as 4294967295) means "none". */
#include <math.h>

#include "base/mem.h"
#include "engine/token/pretok.h"
#include "engine/token/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* ---- models ---- */

struct vocab_model_row {
    const char *name;
    enum vocab_kind kind;
    const char *pre; /* forced pre-tokenizer of BPE, or NULL: the file names it */
    bool spm_text;
    bool space_prefix, add_bos, add_sep;
    int32_t bos, eos, unk, sep, pad; /* where the file is silent */
};

static const struct vocab_model_row vocab_models[] = {
    {"llama", VOCAB_SPM, NULL, true, true, true, false, 1, 2, 0, TOKEN_NONE, TOKEN_NONE},
    {"gpt2", VOCAB_BPE, NULL, false, false, false, false, TOKEN_NONE, TOKEN_NONE, TOKEN_NONE,
     TOKEN_NONE, TOKEN_NONE},
    {"gemma4", VOCAB_BPE, "gemma4", true, false, true, false, TOKEN_NONE, TOKEN_NONE, TOKEN_NONE,
     TOKEN_NONE, TOKEN_NONE},
    {"bert", VOCAB_WORDPIECE, NULL, false, false, true, true, 101, TOKEN_NONE, 100, 102, 0},
    {"t5", VOCAB_UNIGRAM, NULL, true, true, false, true, TOKEN_NONE, 1, 2, TOKEN_NONE, 0},
};

static RC vocab_load_pretok(struct vocab *v, const struct vocab_model_row *row, const char *file,
                            struct err *err)
{
    const char *name = row->pre != NULL ? row->pre : v->pre;
    const struct pretok_row *pre = pretok_find(name);
    if (pre == NULL) {
        return err_set(err, RC_UNSUPPORTED,
                       "gguf %s: pre-tokenizer \"%s\" of tokenizer model \"%s\" is not known", file,
                       name, v->model);
    }
    v->pretok = pre;
    v->spm_text = pre->spm_text;
    v->ignore_merges = pre->ignore_merges;
    v->special.add_bos = pre->add_bos || row->add_bos;
    v->special.add_sep = pre->add_sep;
    return RC_OK;
}

static RC vocab_load_flags(struct vocab *v, const struct gguf *g, struct err *err)
{
    enum rc rc = gguf_get_bool(g, KEY("add_space_prefix"), v->space_prefix, &v->space_prefix, err);
    if (rc == RC_OK) {
        rc = gguf_get_bool(g, KEY("remove_extra_whitespaces"), false, &v->remove_extra_spaces, err);
    }
    if (rc == RC_OK) {
        rc = gguf_get_bool(g, KEY("normalizer.lowercase"), true, &v->lowercase, err);
    }
    if (rc == RC_OK) {
        rc =
            gguf_get_bool(g, KEY("normalizer.strip_accents"), v->lowercase, &v->strip_accents, err);
    }
    return rc;
}

RC vocab_load_model(struct vocab *v, const struct gguf *g, struct err *err)
{
    struct str model, pre;
    enum rc rc = gguf_need_str(g, KEY("model"), &model, err);
    if (rc == RC_OK) {
        rc = gguf_get_str(g, KEY("pre"), STR_LIT(""), &pre, err);
    }
    if (rc != RC_OK) {
        return rc;
    }
    if (!str_copy(v->model, sizeof(v->model), model) || !str_copy(v->pre, sizeof(v->pre), pre)) {
        return err_set(err, RC_UNSUPPORTED, "gguf %s: tokenizer \"%s\" \"%s\" has too long a name",
                       gguf_name(g), v->model, v->pre);
    }
    const struct vocab_model_row *row = NULL;
    for (size_t i = 0; i < ARRAY_LEN(vocab_models); i++) {
        if (str_is(model, vocab_models[i].name)) {
            row = &vocab_models[i];
        }
    }
    if (row == NULL) {
        return err_set(err, RC_UNSUPPORTED,
                       "gguf %s: tokenizer model \"%s\" is not known (known: llama, gpt2, gemma4, "
                       "bert, t5)",
                       gguf_name(g), v->model);
    }
    v->kind = row->kind;
    v->spm_text = row->spm_text;
    v->space_prefix = row->space_prefix;
    v->special = (struct vocab_special){.bos = row->bos,
                                        .eos = row->eos,
                                        .eot = TOKEN_NONE,
                                        .eom = TOKEN_NONE,
                                        .unk = row->unk,
                                        .sep = row->sep,
                                        .pad = row->pad,
                                        .add_bos = row->add_bos,
                                        .add_eos = row->kind == VOCAB_UNIGRAM,
                                        .add_sep = row->add_sep};
    if (row->kind == VOCAB_BPE) {
        rc = vocab_load_pretok(v, row, gguf_name(g), err);
    }
    return rc != RC_OK ? rc : vocab_load_flags(v, g, err);
}

/* ---- attributes and scores ---- */

/* *out is NULL when the key is absent; else an array of as many numbers as there are tokens. */
static RC vocab_numbers(const struct vocab *v, const struct gguf *g, const char *key,
                        const struct gguf_kv **out, struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *out = kv;
    if (kv == NULL) {
        return RC_OK;
    }
    if (kv->type != GGUF_ARRAY || kv->item_type == GGUF_STRING || kv->item_type == GGUF_ARRAY) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s is not an array of numbers", gguf_name(g),
                       key);
    }
    if (kv->n != v->n_tokens) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s has %llu items for %u tokens", gguf_name(g),
                       key, (unsigned long long)kv->n, v->n_tokens);
    }
    return RC_OK;
}

static bool vocab_is_float(enum gguf_type t)
{
    return t == GGUF_F32 || t == GGUF_F64;
}

/* A float's order as an unsigned number: the highest score has the lowest rank. */
static uint32_t vocab_score_rank(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof(bits));
    bits ^= (bits >> 31) != 0 ? UINT32_MAX : UINT32_C(1) << 31;
    return ~bits;
}

static RC vocab_load_scores(struct vocab *v, const struct gguf *g, struct err *err)
{
    const struct gguf_kv *kv;
    enum rc rc = vocab_numbers(v, g, KEY("scores"), &kv, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (kv == NULL) {
        return err_set(err, RC_CORRUPT, "gguf %s: " KEY("scores") " is absent", gguf_name(g));
    }
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        double score =
            vocab_is_float(kv->item_type) ? gguf_kv_f64(kv, i) : (double)gguf_kv_i64(kv, i);
        if (isnan(score)) {
            return err_set(err, RC_CORRUPT, "gguf %s: the score of token %u is not a number",
                           gguf_name(g), i);
        }
        if (v->kind == VOCAB_UNIGRAM) {
            v->tokens[i].score = (float)score;
        } else {
            v->tokens[i].rank = vocab_score_rank((float)score);
        }
    }
    return RC_OK;
}

RC vocab_load_attrs(struct vocab *v, const struct gguf *g, struct err *err)
{
    const struct gguf_kv *kv;
    enum rc rc = vocab_numbers(v, g, KEY("token_type"), &kv, err);
    if (rc != RC_OK) {
        return rc;
    }
    for (uint32_t i = 0; kv != NULL && i < v->n_tokens; i++) {
        int64_t attr = vocab_is_float(kv->item_type) ? -1 : gguf_kv_i64(kv, i);
        if (attr < 0 || attr > TOKEN_BYTE) {
            return err_set(err, RC_CORRUPT, "gguf %s: token %u is of type %lld, not 0 to %d",
                           gguf_name(g), i, (long long)attr, TOKEN_BYTE);
        }
        v->tokens[i].attr = attr == 0 ? TOKEN_NORMAL : (uint8_t)attr;
    }
    bool by_score = v->kind == VOCAB_SPM || v->kind == VOCAB_UNIGRAM;
    return by_score ? vocab_load_scores(v, g, err) : RC_OK;
}

/* ---- special ids ---- */

static RC vocab_load_id(const struct vocab *v, const struct gguf *g, const char *key, int32_t *id,
                        struct err *err)
{
    if (*id != TOKEN_NONE && (uint32_t)*id >= v->n_tokens) {
        *id = TOKEN_NONE; /* the default of a larger vocabulary */
    }
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv == NULL) {
        return RC_OK;
    }
    if (kv->type == GGUF_STRING || kv->type == GGUF_ARRAY || vocab_is_float(kv->type)) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s is of type %s, not a token id", gguf_name(g),
                       key, gguf_type_name(kv->type));
    }
    int64_t value = gguf_kv_i64(kv, 0);
    if (value == -1 || value == UINT32_MAX) {
        *id = TOKEN_NONE;
        return RC_OK;
    }
    if (value < 0 || value >= (int64_t)v->n_tokens) {
        return err_set(err, RC_CORRUPT, "gguf %s: %s is %lld, but there are %u tokens",
                       gguf_name(g), key, (long long)value, v->n_tokens);
    }
    *id = (int32_t)value;
    return RC_OK;
}

static RC vocab_load_ids(struct vocab *v, const struct gguf *g, struct err *err)
{
    struct vocab_special *s = &v->special;
    /* "cls" is the older name of BERT's first token; "seperator" is how the format spells it. */
    struct {
        const char *key;
        int32_t *id;
    } rows[] = {
        {v->kind == VOCAB_WORDPIECE ? KEY("cls_token_id") : KEY("bos_token_id"), &s->bos},
        {KEY("bos_token_id"), &s->bos},
        {KEY("eos_token_id"), &s->eos},
        {KEY("eot_token_id"), &s->eot},
        {KEY("eom_token_id"), &s->eom},
        {KEY("unknown_token_id"), &s->unk},
        {KEY("seperator_token_id"), &s->sep},
        {KEY("padding_token_id"), &s->pad},
    };
    enum rc rc = RC_OK;
    for (size_t i = 0; rc == RC_OK && i < ARRAY_LEN(rows); i++) {
        rc = vocab_load_id(v, g, rows[i].key, rows[i].id, err);
    }
    return rc;
}

static RC vocab_load_add(struct vocab *v, const struct gguf *g, struct err *err)
{
    struct vocab_special *s = &v->special;
    struct {
        const char *key;
        bool *add;
        int32_t id;
    } rows[] = {
        {KEY("add_bos_token"), &s->add_bos, s->bos},
        {KEY("add_eos_token"), &s->add_eos, s->eos},
        {KEY("add_sep_token"), &s->add_sep, s->sep},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* The defaults ask for what may be absent; a file that asks must also say which. */
        bool fallback = *rows[i].add && rows[i].id != TOKEN_NONE;
        enum rc rc = gguf_get_bool(g, rows[i].key, fallback, rows[i].add, err);
        if (rc != RC_OK) {
            return rc;
        }
        if (*rows[i].add && rows[i].id == TOKEN_NONE) {
            return err_set(err, RC_CORRUPT, "gguf %s: %s is true, but that token has no id",
                           gguf_name(g), rows[i].key);
        }
    }
    return RC_OK;
}

/* ---- the end of a generation ---- */

/* Texts that end a turn, the first that a vocabulary has being its end of turn where no key says
 * it. Files do not list them all, so the text decides, as everywhere in the field. */
static const char *const vocab_turn_ends[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
    "<|end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|END_OF_TURN_TOKEN|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<end_of_utterance>",
};
/* Texts that end a generation without ending a turn: tool calls, the next file, the end. */
static const char *const vocab_other_ends[] = {
    "<|eom_id|>",  "<|call|>",      "<|calls|>",    "<|flush|>", "<|tool_response>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "[EOS]",     "[e~[",
};

static bool vocab_has_text(const struct vocab *v, const char *text)
{
    return vocab_find(v, str_from(text)) != TOKEN_NONE;
}

/* Such a token is never plain text, whatever type a converter gave it. */
static void vocab_mark_eog(struct vocab *v, int32_t id)
{
    v->tokens[id].eog = true;
    v->tokens[id].attr = TOKEN_CONTROL;
}

static void vocab_load_ends(struct vocab *v)
{
    struct vocab_special *s = &v->special;
    /* In these formats a message ends with "<|end|>", and the model goes on to the next one. */
    bool harmony = vocab_has_text(v, "<|return|>") && vocab_has_text(v, "<|call|>");
    bool solar = vocab_has_text(v, "<|flush|>") && vocab_has_text(v, "<|calls|>");
    bool many_messages = harmony || solar;
    for (size_t i = 0; i < ARRAY_LEN(vocab_turn_ends); i++) {
        int32_t id = vocab_find(v, str_from(vocab_turn_ends[i]));
        if (id == TOKEN_NONE || (many_messages && strcmp(vocab_turn_ends[i], "<|end|>") == 0)) {
            continue;
        }
        vocab_mark_eog(v, id);
        if (s->eot == TOKEN_NONE) {
            s->eot = id;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(vocab_other_ends); i++) {
        int32_t id = vocab_find(v, str_from(vocab_other_ends[i]));
        if (id != TOKEN_NONE) {
            vocab_mark_eog(v, id);
        }
    }
    if (s->eom == TOKEN_NONE) {
        s->eom = vocab_find(v, STR_LIT("<|eom_id|>"));
    }
    const int32_t ids[] = {s->eos, s->eot, s->eom};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        if (ids[i] != TOKEN_NONE) {
            v->tokens[ids[i]].eog = true;
        }
    }
}

/* Phi-3's tokenizer swallows the white space behind its special tokens; files do not say so. */
static RC vocab_load_strip(struct vocab *v, const struct gguf *g, struct err *err)
{
    struct str arch;
    enum rc rc = gguf_get_str(g, "general.architecture", STR_LIT(""), &arch, err);
    v->strip_after_special = rc == RC_OK && v->kind == VOCAB_SPM && str_is(arch, "phi3");
    return rc;
}

/* Every text must have ids: all 256 bytes have tokens, or there is an unknown token. */
static RC vocab_check_bytes(const struct vocab *v, const char *file, struct err *err)
{
    uint32_t n_bytes = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        n_bytes += v->tokens[i].attr == TOKEN_BYTE;
    }
    bool needs_bytes = v->kind == VOCAB_SPM || v->kind == VOCAB_UNIGRAM;
    bool needs_unk = v->kind == VOCAB_WORDPIECE || (needs_bytes && n_bytes < 256);
    if (needs_unk && v->special.unk == TOKEN_NONE) {
        return err_set(err, RC_CORRUPT,
                       "gguf %s: the vocabulary has %u byte tokens and no unknown token", file,
                       n_bytes);
    }
    return RC_OK;
}

/* WordPiece: the "##" style, unless a token has the other style's mark. */
static bool vocab_has_continuation(const struct vocab *v)
{
    bool found = false;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        struct str text = vocab_text(v, (int32_t)i);
        if (str_starts(text, VOCAB_SPACE_STR)) {
            return false;
        }
        found = found || (text.len > 2 && str_starts(text, STR_LIT("##")));
    }
    return found;
}

RC vocab_load_special(struct vocab *v, const struct gguf *g, struct err *err)
{
    enum rc rc = vocab_load_ids(v, g, err);
    if (rc == RC_OK) {
        rc = vocab_load_add(v, g, err);
    }
    if (rc == RC_OK) {
        rc = vocab_load_strip(v, g, err);
    }
    if (rc == RC_OK) {
        rc = vocab_check_bytes(v, gguf_name(g), err);
    }
    if (rc == RC_OK) {
        vocab_load_ends(v);
        v->continuation = v->kind == VOCAB_WORDPIECE && vocab_has_continuation(v);
    }
    return rc;
}
