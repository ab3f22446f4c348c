/* weight_source.h: where weight bytes come from (ARCHITECTURE §2a). A mapped file first, a
 * decrypting stream later: neither engine nor packer knows a path. */
#ifndef ENGINE_TENSOR_WEIGHT_SOURCE_H
#define ENGINE_TENSOR_WEIGHT_SOURCE_H

#include "base/err.h"

struct weight_source {
    uint64_t size_bytes;
    const unsigned char *map; /* all bytes, or NULL when the source can only be read */
    const char *name;         /* for messages; owned by the source */
    /* Fills `out` with bytes [offset, offset + n); the range was checked by the caller. */
    enum rc (*read_at)(struct weight_source *s, uint64_t offset, void *out, size_t n,
                       struct err *err);
    void (*close)(struct weight_source *s); /* frees *s */
    /* A hint that the mapped bytes [offset, offset + n) are not read soon, because a backend packed
     * them: memory goes back, the bytes stay readable. NULL: the source has no use for it. */
    void (*drop)(struct weight_source *s, uint64_t offset, uint64_t n);
};

/* Opens one file as a mapped source. */
RC weight_source_open_file(struct weight_source **out, const char *path, struct err *err);

enum { WEIGHT_SOURCES_MAX = 64 };

/* Opens the file and, when its name is that of a first part ("…-00001-of-00003.gguf"), all the
 * other parts. On failure nothing stays open. */
RC weight_source_open_model(struct weight_source *out[WEIGHT_SOURCES_MAX], uint32_t *n_sources,
                            const char *path, struct err *err);

static inline void weight_source_close(struct weight_source *s)
{
    if (s != NULL) {
        s->close(s);
    }
}

#endif
