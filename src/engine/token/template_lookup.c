/* template_lookup.c: attributes, items and slices.
 *
 * Followed: jinja2's SandboxedEnvironment.getattr and getitem. `x.items` of a dict is its method
 * even where a key has that name; `x['items']` is the key. */
#include "base/assert.h"
#include "engine/token/template_call.h"
#include "engine/token/template_loop.h"
#include "engine/token/template_op.h"
#include "engine/token/template_text.h"

static RC lookup_undefined(struct template_run *r, const struct template_value *obj)
{
    return template_fail(r, RC_INVALID, "'%.*s' is undefined", STR(obj->text));
}

/* getattr of Python: methods, a namespace's values, a loop's counters. *out is TV_MISSING when
 * there is none. */
static RC python_attribute(struct template_run *r, const struct template_value *obj,
                           struct str name, struct template_value *out)
{
    *out = (struct template_value){0};
    if (obj->type == TV_NAMESPACE) {
        struct template_pair *pair;
        TRY(template_dict_find_name(r, obj->dict, name, &pair));
        if (pair != NULL) {
            *out = pair->value;
        }
        return RC_OK;
    }
    if (obj->type == TV_LOOP && template_loop_has(name)) {
        return template_loop_attribute(r, obj->loop, name, out);
    }
    const struct template_row *row = template_method_find(obj, name);
    if (row == NULL) {
        return RC_OK;
    }
    struct template_bound *bound = arena_alloc(r->arena, sizeof(*bound));
    if (bound == NULL) {
        return template_no_room(r);
    }
    *bound = (struct template_bound){*obj, row};
    *out = (struct template_value){.type = TV_BUILTIN, .bound = bound};
    return RC_OK;
}

static RC text_at(struct template_run *r, struct str s, int64_t at, struct template_value *out)
{
    TRY(template_spend(r, s.len / 8));
    int64_t n = (int64_t)template_text_length(s);
    at += at < 0 ? n : 0;
    if (at < 0 || at >= n) {
        return RC_OK;
    }
    uint32_t cp;
    for (; at > 0; at--) {
        s = str_slice(s, template_decode(s, &cp), s.len);
    }
    *out = tv_str(str_slice(s, 0, template_decode(s, &cp)));
    return RC_OK;
}

/* obj[key] of Python; *out stays TV_MISSING where Python raises TypeError or LookupError. */
static RC python_item(struct template_run *r, const struct template_value *obj,
                      const struct template_value *key, struct template_value *out)
{
    int64_t at;
    *out = (struct template_value){0};
    if (obj->type == TV_DICT) {
        struct template_pair *pair = NULL;
        if (key->type != TV_DICT && !tv_is_seq(key, SEQ_LIST)) {
            TRY(template_dict_find(r, obj->dict, key, &pair));
        }
        if (pair != NULL) {
            *out = pair->value;
        }
        return RC_OK;
    }
    if (!template_as_int(key, &at)) {
        return RC_OK;
    }
    if (obj->type == TV_STR) {
        return text_at(r, obj->text, at, out);
    }
    if (obj->type == TV_SEQ && obj->seq->kind <= SEQ_RANGE) {
        at += at < 0 ? (int64_t)obj->seq->n : 0;
        if (at >= 0 && at < (int64_t)obj->seq->n) {
            *out = obj->seq->items[at];
        }
    }
    return RC_OK;
}

RC template_attribute(struct template_run *r, const struct template_value *obj, struct str name,
                      struct template_value *out)
{
    struct template_value found, key = tv_str(name);
    if (obj->type == TV_UNDEFINED) {
        return lookup_undefined(r, obj);
    }
    TRY(python_attribute(r, obj, name, &found));
    if (found.type == TV_MISSING) {
        TRY(python_item(r, obj, &key, &found));
    }
    *out = found.type == TV_MISSING ? tv_undefined(name) : found;
    return RC_OK;
}

RC template_item(struct template_run *r, const struct template_value *obj,
                 const struct template_value *key, struct template_value *out)
{
    struct template_value found;
    if (obj->type == TV_UNDEFINED) {
        return lookup_undefined(r, obj);
    }
    TRY(python_item(r, obj, key, &found));
    if (found.type == TV_MISSING && key->type == TV_STR) {
        TRY(python_attribute(r, obj, key->text, &found));
    }
    *out = found.type == TV_MISSING
               ? tv_undefined(key->type == TV_STR ? key->text : STR_LIT("element"))
               : found;
    return RC_OK;
}

RC template_path(struct template_run *r, const struct template_value *obj,
                 const struct template_value *path, const struct template_value *otherwise,
                 struct template_value *out)
{
    *out = *obj;
    struct str rest = path->type == TV_STR ? path->text : STR_NULL;
    do {
        struct template_value from = *out, key = *path;
        int64_t at;
        if (path->type == TV_STR) {
            struct str part = str_cut(&rest, '.');
            bool number = str_to_i64(part, &at) && part.ptr[0] != '-';
            key = number ? tv_int(at) : tv_str(part);
        }
        TRY(template_item(r, &from, &key, out));
        if (out->type == TV_UNDEFINED && otherwise->type != TV_MISSING) {
            *out = *otherwise;
        }
    } while (rest.ptr != NULL);
    return RC_OK;
}

/* ---- slices ---- */

struct slice_range {
    int64_t start, stop, step;
    int64_t count;
};

/* One bound: absent takes `otherwise`, negative counts from the end, all is cut to fit. */
static bool slice_bound(const struct template_value *v, int64_t n, int64_t step, int64_t otherwise,
                        int64_t *out)
{
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    if (v->type == TV_NONE) {
        *out = otherwise;
        return true;
    }
    if (!template_as_int(v, out)) {
        return false;
    }
    if (*out < 0) {
        *out = *out < -n ? low : MAX(*out + n, low);
    }
    *out = MIN(*out, high);
    return true;
}

/* slice.indices of Python. False: not whole numbers. */
static bool slice_indices(const struct template_slice *s, int64_t n, struct slice_range *out)
{
    out->step = 1;
    if (s->step.type != TV_NONE && !template_as_int(&s->step, &out->step)) {
        return false;
    }
    out->step = MAX(out->step, -INT64_MAX);
    bool back = out->step < 0;
    if (!slice_bound(&s->start, n, out->step, back ? n - 1 : 0, &out->start) ||
        !slice_bound(&s->stop, n, out->step, back ? -1 : n, &out->stop)) {
        return false;
    }
    int64_t gap = back ? out->start - out->stop : out->stop - out->start;
    int64_t stride = back ? -out->step : out->step;
    out->count = gap <= 0 || stride == 0 ? 0 : (gap - 1) / stride + 1;
    return true;
}

static RC slice_seq(struct template_run *r, const struct template_seq *s,
                    const struct slice_range *range, struct template_value *out)
{
    struct template_seq *part;
    bool shared = range->step == 1;
    TRY(template_seq_new(r, s->kind, shared ? 0 : (size_t)range->count, &part));
    part->n = (uint32_t)range->count;
    if (shared && part->n > 0) {
        part->items = s->items + range->start; /* only append could tell, and it copies first */
    }
    for (int64_t i = 0; i < range->count && !shared; i++) {
        part->items[i] = s->items[range->start + i * range->step];
    }
    *out = tv_seq(part);
    return RC_OK;
}

/* The byte offset of character `index`. */
static size_t text_offset(struct str s, int64_t index)
{
    size_t at = 0;
    while (at < s.len) {
        bool starts = ((unsigned char)s.ptr[at] & 0xC0) != 0x80;
        if (starts && index-- == 0) {
            break;
        }
        at++;
    }
    return at;
}

static RC slice_text(struct template_run *r, struct str s, const struct slice_range *range,
                     struct template_value *out)
{
    TRY(template_spend_bytes(r, s.len));
    if (range->step == 1) {
        size_t from = text_offset(s, range->start);
        struct str rest = str_slice(s, from, s.len);
        *out = tv_str(str_slice(rest, 0, text_offset(rest, range->count)));
        return RC_OK;
    }
    struct template_value all = tv_str(s), picked;
    struct template_seq *chars;
    struct template_text t;
    TRY(template_collect(r, &all, &chars));
    TRY(slice_seq(r, chars, range, &picked));
    template_text_init(&t, r);
    for (uint32_t i = 0; i < picked.seq->n; i++) {
        template_text_add(&t, picked.seq->items[i].text);
    }
    *out = tv_str(STR_NULL);
    return template_text_done(&t, &out->text);
}

RC template_slice(struct template_run *r, const struct template_value *obj,
                  const struct template_slice *s, struct template_value *out)
{
    struct slice_range range;
    bool text = obj->type == TV_STR;
    if (obj->type == TV_UNDEFINED) {
        return lookup_undefined(r, obj);
    }
    if (!text && (obj->type != TV_SEQ || obj->seq->kind > SEQ_RANGE)) {
        return template_fail(r, RC_INVALID, "'%s' object cannot be sliced",
                             template_type_name(obj));
    }
    int64_t n = text ? (int64_t)template_text_length(obj->text) : (int64_t)obj->seq->n;
    if (!slice_indices(s, n, &range)) {
        return template_fail(r, RC_INVALID, "slice indices must be whole numbers or None");
    }
    if (range.step == 0) {
        return template_fail(r, RC_INVALID, "slice step cannot be zero");
    }
    return text ? slice_text(r, obj->text, &range, out) : slice_seq(r, obj->seq, &range, out);
}
