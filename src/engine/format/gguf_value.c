/* gguf_value.c: metadata values as C values: integers of any width, floats, bools, strings. */
#include <inttypes.h>
#include <math.h>

#include "base/assert.h"
#include "engine/format/gguf.h"
#include "engine/format/gguf_parse.h"

/* ---- one item ---- */

static bool gguf_kv_is_whole(const struct gguf_kv *kv)
{
    return kv->type <= GGUF_I32 || kv->type == GGUF_U64 || kv->type == GGUF_I64;
}

static uint64_t gguf_kv_raw(const struct gguf_kv *kv, uint64_t idx)
{
    ASSERT(idx < kv->n);
    uint32_t bytes = gguf_type_bytes(kv->item_type);
    ASSERT(bytes > 0);
    uint64_t raw = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        raw |= (uint64_t)kv->bytes[idx * bytes + i] << (8 * i);
    }
    return raw;
}

static double gguf_raw_f64(enum gguf_type type, uint64_t raw)
{
    if (type == GGUF_F32) {
        uint32_t bits = (uint32_t)raw;
        float value;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    double value;
    memcpy(&value, &raw, sizeof(value));
    return value;
}

int64_t gguf_kv_i64(const struct gguf_kv *kv, uint64_t idx)
{
    uint64_t raw = gguf_kv_raw(kv, idx);
    switch (kv->item_type) {
    case GGUF_I8:
        return (int8_t)raw;
    case GGUF_I16:
        return (int16_t)raw;
    case GGUF_I32:
        return (int32_t)raw;
    case GGUF_F32:
    case GGUF_F64: {
        double value = gguf_raw_f64(kv->item_type, raw);
        return fabs(value) < 9e18 ? (int64_t)value : 0;
    }
    default:
        return (int64_t)raw;
    }
}

double gguf_kv_f64(const struct gguf_kv *kv, uint64_t idx)
{
    if (kv->item_type == GGUF_F32 || kv->item_type == GGUF_F64) {
        return gguf_raw_f64(kv->item_type, gguf_kv_raw(kv, idx));
    }
    if (kv->item_type == GGUF_U64) {
        return (double)gguf_kv_raw(kv, idx);
    }
    return (double)gguf_kv_i64(kv, idx);
}

struct str gguf_kv_str(const struct gguf_kv *kv, uint64_t idx)
{
    ASSERT(idx < kv->n);
    ASSERT(kv->strings != NULL);
    return kv->strings[idx];
}

/* ---- by key ---- */

static enum rc gguf_value_wrong(const struct gguf *g, const struct gguf_kv *kv,
                                const char *expected, struct err *err)
{
    return err_set(err, RC_CORRUPT,
                   "%s: at byte %" PRIu64 ": key '%.*s' is of type %s, expected %s", gguf_name(g),
                   kv->offset, (int)MIN(kv->key.len, 96U), kv->key.ptr, gguf_type_name(kv->type),
                   expected);
}

static enum rc gguf_value_absent(const struct gguf *g, const char *key, struct err *err)
{
    return err_set(err, RC_CORRUPT, "%s: key '%s' is missing", gguf_name(g), key);
}

enum rc gguf_get_u32(const struct gguf *g, const char *key, uint32_t fallback, uint32_t *out,
                     struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv == NULL) {
        *out = fallback;
        return RC_OK;
    }
    if (!gguf_kv_is_whole(kv)) {
        return gguf_value_wrong(g, kv, "a whole number", err);
    }
    int64_t value = gguf_kv_i64(kv, 0);
    if (value < 0 || value > UINT32_MAX) {
        return err_set(err, RC_CORRUPT,
                       "%s: at byte %" PRIu64 ": key '%s' is %" PRId64 ", expected 0 to %u",
                       gguf_name(g), kv->offset, key, value, UINT32_MAX);
    }
    *out = (uint32_t)value;
    return RC_OK;
}

enum rc gguf_get_f32(const struct gguf *g, const char *key, float fallback, float *out,
                     struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv == NULL) {
        *out = fallback;
        return RC_OK;
    }
    if (!gguf_kv_is_whole(kv) && kv->type != GGUF_F32 && kv->type != GGUF_F64) {
        return gguf_value_wrong(g, kv, "a number", err);
    }
    float value = (float)gguf_kv_f64(kv, 0);
    if (!isfinite(value)) {
        return err_set(err, RC_CORRUPT, "%s: at byte %" PRIu64 ": key '%s' is not a finite number",
                       gguf_name(g), kv->offset, key);
    }
    *out = value;
    return RC_OK;
}

enum rc gguf_get_bool(const struct gguf *g, const char *key, bool fallback, bool *out,
                      struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv != NULL && kv->type != GGUF_BOOL) {
        return gguf_value_wrong(g, kv, "bool", err);
    }
    *out = kv == NULL ? fallback : kv->bytes[0] != 0;
    return RC_OK;
}

enum rc gguf_get_str(const struct gguf *g, const char *key, struct str fallback, struct str *out,
                     struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (kv != NULL && kv->type != GGUF_STRING) {
        return gguf_value_wrong(g, kv, "string", err);
    }
    *out = kv == NULL ? fallback : kv->strings[0];
    return RC_OK;
}

enum rc gguf_need_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *err)
{
    return gguf_find(g, key) == NULL ? gguf_value_absent(g, key, err)
                                     : gguf_get_u32(g, key, 0, out, err);
}

enum rc gguf_need_str(const struct gguf *g, const char *key, struct str *out, struct err *err)
{
    return gguf_find(g, key) == NULL ? gguf_value_absent(g, key, err)
                                     : gguf_get_str(g, key, STR_NULL, out, err);
}
