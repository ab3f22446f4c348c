/* gguf_write.h: writes a GGUF v3 file tensor by tensor. The file appears under its name, whole and
 * synced, when gguf_writer_end succeeds; until then it is a temporary file beside it, which
 * gguf_writer_close removes. One thread at a time.
 *
 *     create → set_u32, drop_keys, add_tensor … → begin → data … → end → close */
#ifndef ENGINE_FORMAT_GGUF_WRITE_H
#define ENGINE_FORMAT_GGUF_WRITE_H

#include "base/err.h"
#include "engine/format/gguf.h"

struct gguf_writer; /* opaque */

enum { GGUF_WRITER_CHANGES_MAX = 16, GGUF_WRITER_KEY_BYTES = 64 };

/* Metadata is copied from `from`, which must outlive the writer; NULL starts with none. */
struct gguf_writer *gguf_writer_create(const struct gguf *from);
/* Removes the temporary file if the writer did not end. NULL is allowed. */
void gguf_writer_close(struct gguf_writer *w);

/* Replaces or adds a key; at most GGUF_WRITER_CHANGES_MAX of both calls. `key` is copied. */
void gguf_writer_set_u32(struct gguf_writer *w, const char *key, uint32_t value);
/* Leaves out the keys that start with `prefix`. */
void gguf_writer_drop_keys(struct gguf_writer *w, const char *prefix);

/* Announces the next tensor: name (borrowed until begin), type, n_dims and dims of *t count, its
 * place does not. RC_INVALID when its row is no multiple of the type's block. */
RC gguf_writer_add_tensor(struct gguf_writer *w, const struct gguf_tensor *t, struct err *err);

/* Creates the temporary file, reserves its size on the disk, writes everything up to the first
 * tensor. RC_IO with the system's reason. */
RC gguf_writer_begin(struct gguf_writer *w, const char *path, struct err *err);
/* The next n bytes of the tensors in the order they were added; a call stays within one tensor.
 * Padding is the writer's. */
RC gguf_writer_data(struct gguf_writer *w, const void *bytes, size_t n, struct err *err);
/* Every byte of every tensor was written: sync and rename. */
RC gguf_writer_end(struct gguf_writer *w, struct err *err);

/* Of the whole file; known after begin. */
uint64_t gguf_writer_bytes(const struct gguf_writer *w);

#endif
