/* print.h: how commands write for people. */
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include "base/buf.h"
#include "base/err.h"

/* "1.23 GiB". */
void print_bytes(char out[32], uint64_t bytes);
/* At most n_max characters of `s`, with control characters and what is not UTF-8 as \xNN and line
 * ends as \n, so that hostile text cannot drive a terminal; "…" marks a cut. */
void print_escaped(struct buf *out, struct str s, size_t n_max);
/* Writes all of it to standard output; RC_TOO_LARGE when the buffer had failed. */
RC print_buf(const struct buf *b, struct err *err);

#endif
