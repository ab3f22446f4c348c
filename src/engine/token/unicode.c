/* unicode.c: the only file that knows libutf8proc. */
#include "engine/token/unicode.h"

#include <utf8proc.h>

static const uint16_t unicode_category_class[] = {
    [UTF8PROC_CATEGORY_CN] = UNICODE_CN,
    [UTF8PROC_CATEGORY_LU] = UNICODE_LU,
    [UTF8PROC_CATEGORY_LL] = UNICODE_LL,
    [UTF8PROC_CATEGORY_LT] = UNICODE_LT,
    [UTF8PROC_CATEGORY_LM] = UNICODE_LM,
    [UTF8PROC_CATEGORY_LO] = UNICODE_LO,
    [UTF8PROC_CATEGORY_MN] = UNICODE_M | UNICODE_MN,
    [UTF8PROC_CATEGORY_MC] = UNICODE_M,
    [UTF8PROC_CATEGORY_ME] = UNICODE_M,
    [UTF8PROC_CATEGORY_ND] = UNICODE_N | UNICODE_ND,
    [UTF8PROC_CATEGORY_NL] = UNICODE_N,
    [UTF8PROC_CATEGORY_NO] = UNICODE_N,
    [UTF8PROC_CATEGORY_PC] = UNICODE_P,
    [UTF8PROC_CATEGORY_PD] = UNICODE_P,
    [UTF8PROC_CATEGORY_PS] = UNICODE_P,
    [UTF8PROC_CATEGORY_PE] = UNICODE_P,
    [UTF8PROC_CATEGORY_PI] = UNICODE_P,
    [UTF8PROC_CATEGORY_PF] = UNICODE_P,
    [UTF8PROC_CATEGORY_PO] = UNICODE_P,
    [UTF8PROC_CATEGORY_SM] = UNICODE_S,
    [UTF8PROC_CATEGORY_SC] = UNICODE_S,
    [UTF8PROC_CATEGORY_SK] = UNICODE_S,
    [UTF8PROC_CATEGORY_SO] = UNICODE_S,
    [UTF8PROC_CATEGORY_ZS] = UNICODE_Z,
    [UTF8PROC_CATEGORY_ZL] = UNICODE_Z,
    [UTF8PROC_CATEGORY_ZP] = UNICODE_Z,
    [UTF8PROC_CATEGORY_CC] = UNICODE_C,
    [UTF8PROC_CATEGORY_CF] = UNICODE_C,
    [UTF8PROC_CATEGORY_CS] = UNICODE_C,
    [UTF8PROC_CATEGORY_CO] = UNICODE_C,
};

unsigned unicode_class(uint32_t cp)
{
    if (cp > 0x10ffff) {
        return 0;
    }
    unsigned class = unicode_category_class[utf8proc_category((utf8proc_int32_t)cp)];
    /* White_Space: all of Z, and among the controls tab to carriage return and next line. */
    if ((class & UNICODE_Z) != 0 || (cp >= 0x09 && cp <= 0x0d) || cp == 0x85) {
        class |= UNICODE_SPACE;
    }
    return class;
}

uint32_t unicode_lower(uint32_t cp)
{
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

uint32_t unicode_upper(uint32_t cp)
{
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}

uint32_t unicode_title(uint32_t cp)
{
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
}

uint32_t unicode_decompose(uint32_t cp, uint32_t out[UNICODE_DECOMPOSED_MAX])
{
    utf8proc_int32_t parts[UNICODE_DECOMPOSED_MAX];
    int last_boundclass = 0;
    utf8proc_ssize_t n =
        cp > 0x10ffff ? 0
                      : utf8proc_decompose_char((utf8proc_int32_t)cp, parts, UNICODE_DECOMPOSED_MAX,
                                                UTF8PROC_DECOMPOSE, &last_boundclass);
    if (n < 1 || n > UNICODE_DECOMPOSED_MAX) {
        out[0] = cp;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        out[i] = (uint32_t)parts[i];
    }
    return (uint32_t)n;
}

bool unicode_is_cjk(uint32_t cp)
{
    static const uint32_t ranges[][2] = {
        {0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
        {0x2b740, 0x2b81f}, {0x2b820, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f},
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) {
            return true;
        }
    }
    return false;
}
