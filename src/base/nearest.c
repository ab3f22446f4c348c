/* nearest.c: see nearest.h. */
#include "base/nearest.h"

enum { NEAREST_BYTES_MAX = 48 };

/* Levenshtein distance, cut off for long names. */
static uint32_t nearest_distance(struct str a, struct str b)
{
    uint32_t row[NEAREST_BYTES_MAX + 1];
    if (a.len > NEAREST_BYTES_MAX || b.len > NEAREST_BYTES_MAX) {
        return UINT32_MAX;
    }
    for (uint32_t j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (uint32_t i = 1; i <= a.len; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= b.len; j++) {
            uint32_t change = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = row[j];
            uint32_t other = MIN(row[j], row[j - 1]) + 1;
            row[j] = MIN(change, other);
        }
    }
    return row[b.len];
}

const char *nearest_name(struct str word, const char *const *names, uint32_t n)
{
    const char *best = NULL;
    uint32_t best_distance = 4; /* farther is not a slip of the finger */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t d = nearest_distance(word, str_from(names[i]));
        if (d < best_distance && d < strlen(names[i])) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}
