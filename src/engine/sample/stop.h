/* stop.h: stop strings across token borders.
 *
 * Text goes in as it is detokenized; what comes out can never become part of a stop string any
 * more. Bytes that may be the start of one are held back. */
#ifndef ENGINE_SAMPLE_STOP_H
#define ENGINE_SAMPLE_STOP_H

#include "base/buf.h"

enum { STOP_STRINGS_MAX = 16, STOP_BYTES_MAX = 1024 };

struct stop_matcher {
    /* private */
    struct str strings[STOP_STRINGS_MAX]; /* borrowed */
    uint32_t n_strings;
    char held[2 * STOP_BYTES_MAX]; /* inside, so that holding back cannot fail */
    uint32_t n_held;               /* < STOP_BYTES_MAX between calls */
    bool hit;
};

/* Strings are not empty, each at most STOP_BYTES_MAX bytes, and outlive the matcher. */
void stop_init(struct stop_matcher *m, const struct str *strings, uint32_t n_strings);
void stop_deinit(struct stop_matcher *m);
/* Appends to `out` what is safe to show. Returns true once a stop string was met: it and all after
 * it are swallowed. */
bool stop_push(struct stop_matcher *m, struct str text, struct buf *out);
/* The end without a hit: appends what was held back. */
void stop_finish(struct stop_matcher *m, struct buf *out);

#endif
