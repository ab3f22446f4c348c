/* mix.c: the table of mixes, the table of their exceptions, and the table of fall-backs. */
#include "engine/format/mix.h"

#include "base/assert.h"

/* ---- mixes ---- */

static const struct mix mixes[] = {
    {"F32", DTYPE_F32, 0},      {"F16", DTYPE_F16, 1},        {"BF16", DTYPE_BF16, 32},
    {"Q8_0", DTYPE_Q8_0, 7},    {"Q6_K", DTYPE_Q6_K, 18},     {"Q5_K_M", DTYPE_Q5_K, 17},
    {"Q5_K_S", DTYPE_Q5_K, 16}, {"Q5_1", DTYPE_Q5_1, 9},      {"Q5_0", DTYPE_Q5_0, 8},
    {"Q4_K_M", DTYPE_Q4_K, 15}, {"Q4_K_S", DTYPE_Q4_K, 14},   {"Q4_1", DTYPE_Q4_1, 3},
    {"Q4_0", DTYPE_Q4_0, 2},    {"IQ4_NL", DTYPE_IQ4_NL, 25}, {"IQ4_XS", DTYPE_IQ4_XS, 30},
    {"MXFP4", DTYPE_MXFP4, 38}, {"Q3_K_L", DTYPE_Q3_K, 13},   {"Q3_K_M", DTYPE_Q3_K, 12},
    {"Q3_K_S", DTYPE_Q3_K, 11}, {"Q2_K", DTYPE_Q2_K, 10},     {"MXFP4_MOE", DTYPE_Q8_0, 38},
};

static const struct {
    const char *name, *means;
} mix_aliases[] = {{"Q3_K", "Q3_K_M"}, {"Q4_K", "Q4_K_M"}, {"Q5_K", "Q5_K_M"}};

const struct mix *mix_at(uint32_t idx)
{
    return idx < ARRAY_LEN(mixes) ? &mixes[idx] : NULL;
}

const struct mix *mix_find(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(mix_aliases); i++) {
        if (str_eq_nocase(name, str_from(mix_aliases[i].name))) {
            name = str_from(mix_aliases[i].means);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(mixes); i++) {
        if (str_eq_nocase(name, str_from(mixes[i].name))) {
            return &mixes[i];
        }
    }
    return NULL;
}

/* ---- exceptions ---- */

enum mix_when {
    MIX_ALWAYS,
    MIX_GQA_4,   /* at least four query heads share a key head */
    MIX_FIRST_2, /* layers 0 and 1 */
    MIX_FIRST_4,
    MIX_FIRST_16TH, /* of the layers */
    MIX_FIRST_8TH,
    MIX_MORE_BITS, /* first and last eighth, and every third layer between */
    MIX_EXPERTS_8, /* models of eight experts: these tensors are small there */
};

/* The first row that fits decides. `mix` NULL: every quantised mix. */
static const struct mix_row {
    const char *mix;
    const char *tensor; /* between "blk.N." and ".weight" */
    enum mix_when when;
    enum dtype type;
} mix_rows[] = {
    {NULL, "attn_v", MIX_EXPERTS_8, DTYPE_Q8_0},
    {NULL, "attn_k", MIX_EXPERTS_8, DTYPE_Q8_0},
    {"Q2_K", "attn_v", MIX_GQA_4, DTYPE_Q4_K},
    {"Q2_K", "attn_v", MIX_ALWAYS, DTYPE_Q3_K},
    {"Q2_K", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"Q2_K", "attn_output", MIX_ALWAYS, DTYPE_Q3_K},
    {"Q2_K", "ffn_down", MIX_ALWAYS, DTYPE_Q3_K},
    {"Q3_K_S", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"Q3_K_M", "attn_v", MIX_FIRST_2, DTYPE_Q5_K},
    {"Q3_K_M", "attn_v", MIX_ALWAYS, DTYPE_Q4_K},
    {"Q3_K_M", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"Q3_K_M", "attn_output", MIX_ALWAYS, DTYPE_Q4_K},
    {"Q3_K_M", "attn_qkv", MIX_ALWAYS, DTYPE_Q4_K},
    {"Q3_K_M", "ffn_down", MIX_FIRST_16TH, DTYPE_Q5_K},
    {"Q3_K_M", "ffn_down", MIX_ALWAYS, DTYPE_Q4_K},
    {"Q3_K_L", "attn_v", MIX_ALWAYS, DTYPE_Q5_K},
    {"Q3_K_L", "attn_output", MIX_ALWAYS, DTYPE_Q5_K},
    {"Q3_K_L", "attn_qkv", MIX_ALWAYS, DTYPE_Q4_K},
    {"Q3_K_L", "ffn_down", MIX_ALWAYS, DTYPE_Q5_K},
    {"Q4_K_S", "attn_v", MIX_FIRST_4, DTYPE_Q5_K},
    {"Q4_K_S", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"Q4_K_S", "ffn_down", MIX_FIRST_8TH, DTYPE_Q5_K},
    {"Q4_K_M", "attn_v", MIX_MORE_BITS, DTYPE_Q6_K},
    {"Q4_K_M", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"Q4_K_M", "attn_qkv", MIX_ALWAYS, DTYPE_Q5_K},
    {"Q4_K_M", "ffn_down", MIX_MORE_BITS, DTYPE_Q6_K},
    {"Q5_K_M", "attn_v", MIX_MORE_BITS, DTYPE_Q6_K},
    {"Q5_K_M", "attn_qkv", MIX_ALWAYS, DTYPE_Q6_K},
    {"Q5_K_M", "ffn_down", MIX_MORE_BITS, DTYPE_Q6_K},
    {"IQ4_NL", "attn_v", MIX_GQA_4, DTYPE_Q5_K},
    {"IQ4_NL", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"IQ4_NL", "ffn_down", MIX_FIRST_8TH, DTYPE_Q5_K},
    {"IQ4_XS", "attn_v", MIX_GQA_4, DTYPE_Q5_K},
    {"IQ4_XS", "attn_output", MIX_EXPERTS_8, DTYPE_Q5_K},
    {"IQ4_XS", "ffn_down", MIX_FIRST_8TH, DTYPE_Q5_K},
    {"MXFP4_MOE", "ffn_gate_exps", MIX_ALWAYS, DTYPE_MXFP4},
    {"MXFP4_MOE", "ffn_up_exps", MIX_ALWAYS, DTYPE_MXFP4},
    {"MXFP4_MOE", "ffn_down_exps", MIX_ALWAYS, DTYPE_MXFP4},
};

static bool mix_fits(enum mix_when when, const struct mix_model *model, uint32_t layer)
{
    uint32_t n = model->n_layers;
    switch (when) {
    case MIX_GQA_4:
        return model->n_gqa >= 4;
    case MIX_FIRST_2:
        return layer < 2;
    case MIX_FIRST_4:
        return layer < 4;
    case MIX_FIRST_16TH:
        return layer < n / 16;
    case MIX_FIRST_8TH:
        return layer < n / 8;
    case MIX_MORE_BITS:
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    case MIX_EXPERTS_8:
        return model->n_experts == 8;
    case MIX_ALWAYS:
        break;
    }
    return true;
}

/* "blk.12.attn_v.weight" to 12 and "attn_v"; false for tensors outside the layers. */
static bool mix_split_name(struct str name, uint32_t *layer, struct str *tensor)
{
    struct str rest = name;
    uint64_t number;
    if (!str_is(str_cut(&rest, '.'), "blk") || !str_to_u64(str_cut(&rest, '.'), &number) ||
        number > UINT32_MAX) {
        return false;
    }
    *layer = (uint32_t)number;
    *tensor = str_cut(&rest, '.');
    return str_is(rest, "weight");
}

static enum dtype mix_exception(const struct mix *m, const struct mix_model *model, struct str name)
{
    uint32_t layer;
    struct str tensor;
    if (!mix_split_name(name, &layer, &tensor)) {
        return m->base;
    }
    bool experts = str_is(tensor, "ffn_down_exps");
    for (size_t i = 0; i < ARRAY_LEN(mix_rows); i++) {
        const struct mix_row *row = &mix_rows[i];
        if (row->mix != NULL && strcmp(row->mix, m->name) != 0) {
            continue;
        }
        bool same =
            str_is(tensor, row->tensor) || (experts && strcmp(row->tensor, "ffn_down") == 0);
        if (same && mix_fits(row->when, model, layer)) {
            return row->type;
        }
    }
    return m->base;
}

/* ---- fall-backs ---- */

static const struct {
    enum dtype from, to;
} mix_fallbacks[] = {
    {DTYPE_Q2_K, DTYPE_IQ4_NL}, {DTYPE_Q3_K, DTYPE_IQ4_NL}, {DTYPE_IQ4_XS, DTYPE_IQ4_NL},
    {DTYPE_Q4_K, DTYPE_Q5_0},   {DTYPE_Q5_K, DTYPE_Q5_1},   {DTYPE_Q6_K, DTYPE_Q8_0},
};

static bool mix_divides(enum dtype t, uint64_t n_cols)
{
    return n_cols % dtype_row((uint32_t)t)->block_weights == 0;
}

static enum dtype mix_fall_back(enum dtype t, uint64_t n_cols)
{
    for (size_t i = 0; i < ARRAY_LEN(mix_fallbacks) && !mix_divides(t, n_cols); i++) {
        if (mix_fallbacks[i].from == t) {
            t = mix_fallbacks[i].to;
            break;
        }
    }
    return mix_divides(t, n_cols) ? t : DTYPE_F16;
}

/* ---- public ---- */

bool mix_applies(struct str name, uint32_t n_dims)
{
    return n_dims >= 2 && str_ends(name, STR_LIT(".weight")) &&
           !str_ends(name, STR_LIT("_norm.weight")) &&
           !str_ends(name, STR_LIT("ffn_gate_inp.weight")) &&
           !str_is(name, "position_embd.weight") && !str_is(name, "token_types.weight");
}

enum dtype mix_choose(const struct mix *m, const struct mix_model *model, struct str name,
                      uint64_t n_cols, bool *fell_back)
{
    ASSERT(mix_applies(name, 2));
    enum dtype wanted = m->base;
    bool quantised = dtype_row((uint32_t)m->base)->block_weights > 1;
    bool output =
        str_is(name, "output.weight") || (model->tied && str_is(name, "token_embd.weight"));
    if (quantised && output) {
        bool eight = m->base == DTYPE_Q8_0 || m->base == DTYPE_MXFP4;
        wanted = eight ? DTYPE_Q8_0 : DTYPE_Q6_K;
    } else if (quantised) {
        wanted = mix_exception(m, model, name);
    }
    enum dtype type = mix_fall_back(wanted, n_cols);
    if (fell_back != NULL) {
        *fell_back = type != wanted;
    }
    return type;
}
