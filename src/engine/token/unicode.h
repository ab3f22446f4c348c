/* unicode.h: what the tokenizers ask about a code point. The data is libutf8proc's, which only
 * unicode.c names. */
#ifndef ENGINE_TOKEN_UNICODE_H
#define ENGINE_TOKEN_UNICODE_H

#include "base/compiler.h"

/* General categories as bits: one main category, and beside it what its row says. */
enum unicode_class {
    UNICODE_LU = 1 << 0,
    UNICODE_LL = 1 << 1,
    UNICODE_LT = 1 << 2,
    UNICODE_LM = 1 << 3,
    UNICODE_LO = 1 << 4,
    UNICODE_M = 1 << 5,
    UNICODE_MN = 1 << 6, /* beside UNICODE_M */
    UNICODE_N = 1 << 7,
    UNICODE_P = 1 << 8,
    UNICODE_S = 1 << 9,
    UNICODE_Z = 1 << 10,
    UNICODE_C = 1 << 11,     /* controls, formats, private use */
    UNICODE_CN = 1 << 13,    /* unassigned in our version of Unicode */
    UNICODE_SPACE = 1 << 12, /* White_Space, which holds some of Z and C */
    UNICODE_ND = 1 << 13,    /* decimal digits, beside UNICODE_N */
    UNICODE_L = UNICODE_LU | UNICODE_LL | UNICODE_LT | UNICODE_LM | UNICODE_LO,
};

/* The bits of one code point; 0 beyond U+10FFFF. */
unsigned unicode_class(uint32_t cp);

/* Simple (one to one) lower, upper and title case. */
uint32_t unicode_lower(uint32_t cp);
uint32_t unicode_upper(uint32_t cp);
uint32_t unicode_title(uint32_t cp);

enum { UNICODE_DECOMPOSED_MAX = 8 };
/* Canonical decomposition (NFD) of one code point, marks in their given order; returns how many. */
uint32_t unicode_decompose(uint32_t cp, uint32_t out[UNICODE_DECOMPOSED_MAX]);

/* The blocks of Chinese characters that BERT's tokenizer sets apart. */
bool unicode_is_cjk(uint32_t cp);

#endif
