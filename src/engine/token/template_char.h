/* template_char.h: what Python's str methods know of a code point.
 * Pure functions; `cp` is any scalar value. */
#ifndef ENGINE_TOKEN_TEMPLATE_CHAR_H
#define ENGINE_TOKEN_TEMPLATE_CHAR_H

#include "base/str.h"

/* str.isspace of one character; also \s of Python's re. */
bool template_char_is_space(uint32_t cp);
/* Where str.splitlines cuts. */
bool template_char_is_newline(uint32_t cp);
/* Whether repr() writes it as it is. */
bool template_char_is_printable(uint32_t cp);
bool template_char_is_alpha(uint32_t cp);
bool template_char_is_digit(uint32_t cp); /* decimal digits, category Nd */
bool template_char_is_numeric(uint32_t cp);
bool template_char_is_upper(uint32_t cp); /* title case counts as neither */
bool template_char_is_lower(uint32_t cp);
/* Part of an identifier; the first character may not be a digit. */
bool template_char_is_name(uint32_t cp);

enum template_case { CASE_LOWER, CASE_UPPER, CASE_TITLE };
/* Writes 1–3 code points and returns how many: the simple mapping of Unicode, and the full one of
 * the sharp s and the Latin ligatures. The final sigma is the caller's. */
uint32_t template_char_map(uint32_t cp, enum template_case to, uint32_t out[3]);

/* Without Python's white space at the ends asked for. */
struct str template_char_strip(struct str s, bool left, bool right);

#endif
