/* weight_source.c: the mapped file, and the parts of a split model beside each other. */
#include "engine/tensor/weight_source.h"

#include <limits.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/file.h"
#include "base/mem.h"

/* ---- one mapped file ---- */

struct weight_file {
    struct weight_source source; /* first: the handle is this struct */
    struct file_map map;
    char *path;
};

static enum rc weight_file_read_at(struct weight_source *s, uint64_t offset, void *out, size_t n,
                                   struct err *err)
{
    (void)err;
    ASSERT(offset <= s->size_bytes && n <= s->size_bytes - offset);
    if (n > 0) {
        memcpy(out, s->map + offset, n);
    }
    return RC_OK;
}

static void weight_file_close(struct weight_source *s)
{
    struct weight_file *f = CONTAINER_OF(s, struct weight_file, source);
    file_map_close(&f->map);
    mem_free(f->path);
    mem_free(f);
}

static void weight_file_drop(struct weight_source *s, uint64_t offset, uint64_t n)
{
    file_map_drop(&CONTAINER_OF(s, struct weight_file, source)->map, (size_t)offset, (size_t)n);
}

enum rc weight_source_open_file(struct weight_source **out, const char *path, struct err *err)
{
    *out = NULL;
    struct file_map map;
    enum rc rc = file_map_open(&map, path, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct weight_file *f = mem_zalloc(sizeof(*f));
    f->map = map;
    f->path = mem_strdup(path);
    f->source = (struct weight_source){
        .size_bytes = map.bytes,
        .map = map.ptr,
        .name = f->path,
        .read_at = weight_file_read_at,
        .close = weight_file_close,
        .drop = weight_file_drop,
    };
    *out = &f->source;
    return RC_OK;
}

/* ---- split models: NAME-00001-of-00003.gguf ---- */

enum { PART_DIGITS = 5, PART_TAIL_LEN = 20 /* "-00001-of-00003.gguf" */ };

static bool weight_digits(struct str s, uint64_t *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
    }
    return str_to_u64(s, out);
}

/* Whether the path ends like a part of a split model; which one, of how many. */
static bool weight_split_tail(struct str path, uint64_t *no, uint64_t *count)
{
    if (path.len <= PART_TAIL_LEN) {
        return false;
    }
    struct str tail = str_slice(path, path.len - PART_TAIL_LEN, path.len);
    return tail.ptr[0] == '-' && str_eq(str_slice(tail, 6, 10), STR_LIT("-of-")) &&
           str_eq(str_slice(tail, 15, PART_TAIL_LEN), STR_LIT(".gguf")) &&
           weight_digits(str_slice(tail, 1, 1 + PART_DIGITS), no) &&
           weight_digits(str_slice(tail, 10, 10 + PART_DIGITS), count) && *no >= 1 && *no <= *count;
}

enum rc weight_source_open_model(struct weight_source *out[WEIGHT_SOURCES_MAX], uint32_t *n_sources,
                                 const char *path, struct err *err)
{
    *n_sources = 0;
    struct str whole = str_from(path);
    uint64_t no = 1;
    uint64_t count = 1;
    bool split = weight_split_tail(whole, &no, &count);
    if (split && no != 1) {
        return err_set(err, RC_INVALID,
                       "%s: part %u of %u of a split model: open its first part instead", path,
                       (unsigned)no, (unsigned)count);
    }
    if (count > WEIGHT_SOURCES_MAX) {
        return err_set(err, RC_UNSUPPORTED, "%s: %u parts, limit %u", path, (unsigned)count,
                       (unsigned)WEIGHT_SOURCES_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        char part[PATH_MAX];
        int n = split ? snprintf(part, sizeof(part), "%.*s-%05u-of-%05u.gguf",
                                 (int)(whole.len - PART_TAIL_LEN), path, i + 1, (unsigned)count)
                      : snprintf(part, sizeof(part), "%s", path);
        enum rc rc = n < 0 || (size_t)n >= sizeof(part)
                         ? err_set(err, RC_INVALID, "model path longer than %d bytes", PATH_MAX)
                         : weight_source_open_file(&out[i], part, err);
        if (rc != RC_OK) {
            while (i-- > 0) {
                weight_source_close(out[i]);
            }
            return rc;
        }
    }
    *n_sources = (uint32_t)count;
    return RC_OK;
}
