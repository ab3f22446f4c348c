/* template_char.c: character classes of Python's str, from the categories that unicode.h knows.
 *
 * Python 3.11 has Unicode 14, Debian 12's tables have 15: newer letters differ, nothing else. */
#include "engine/token/template_char.h"

#include "engine/token/unicode.h"

bool template_char_is_space(uint32_t cp)
{
    if (cp < 0x80) {
        return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
    }
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool template_char_is_newline(uint32_t cp)
{
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool template_char_is_printable(uint32_t cp)
{
    return cp == ' ' || (unicode_class(cp) & (UNICODE_C | UNICODE_Z)) == 0;
}

bool template_char_is_alpha(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_L) != 0;
}

bool template_char_is_digit(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_ND) != 0;
}

bool template_char_is_numeric(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_N) != 0;
}

bool template_char_is_upper(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_LU) != 0;
}

bool template_char_is_lower(uint32_t cp)
{
    return (unicode_class(cp) & UNICODE_LL) != 0;
}

bool template_char_is_name(uint32_t cp)
{
    return cp == '_' || (unicode_class(cp) & (UNICODE_L | UNICODE_M | UNICODE_ND)) != 0;
}

/* Characters whose upper case is several characters; title case is the first one and the rest in
 * lower case. */
static const struct {
    uint32_t cp;
    uint32_t upper[3];
    uint32_t n;
} char_expansions[] = {
    {0x00DF, {'S', 'S'}, 2}, {0xFB00, {'F', 'F'}, 2},      {0xFB01, {'F', 'I'}, 2},
    {0xFB02, {'F', 'L'}, 2}, {0xFB03, {'F', 'F', 'I'}, 3}, {0xFB04, {'F', 'F', 'L'}, 3},
    {0xFB05, {'S', 'T'}, 2}, {0xFB06, {'S', 'T'}, 2},
};

uint32_t template_char_map(uint32_t cp, enum template_case to, uint32_t out[3])
{
    if (cp < 0x80) {
        bool letter = (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
        out[0] = !letter ? cp : to == CASE_LOWER ? (cp | 0x20) : (cp & ~0x20u);
        return 1;
    }
    for (size_t i = 0; to != CASE_LOWER && i < ARRAY_LEN(char_expansions); i++) {
        if (char_expansions[i].cp == cp) {
            for (uint32_t k = 0; k < char_expansions[i].n; k++) {
                bool small = to == CASE_TITLE && k > 0;
                out[k] = char_expansions[i].upper[k] | (small ? 0x20u : 0u);
            }
            return char_expansions[i].n;
        }
    }
    out[0] = to == CASE_LOWER   ? unicode_lower(cp)
             : to == CASE_UPPER ? unicode_upper(cp)
                                : unicode_title(cp);
    return 1;
}

struct str template_char_strip(struct str s, bool left, bool right)
{
    uint32_t cp;
    while (left && s.len > 0) {
        size_t n = str_utf8_decode(s, &cp);
        if (n == 0 || !template_char_is_space(cp)) {
            break;
        }
        s = str_slice(s, n, s.len);
    }
    while (right && s.len > 0) {
        size_t at = s.len - 1;
        while (at > 0 && ((unsigned char)s.ptr[at] & 0xC0) == 0x80) {
            at--;
        }
        if (str_utf8_decode(str_slice(s, at, s.len), &cp) == 0 || !template_char_is_space(cp)) {
            break;
        }
        s = str_slice(s, 0, at);
    }
    return s;
}
