/* pretok_rules.h: the splitting rules that pre-tokenizers are built of; used by pretok.c alone. */
#ifndef ENGINE_TOKEN_PRETOK_RULES_H
#define ENGINE_TOKEN_PRETOK_RULES_H

#include "base/str.h"

/* Whether a code point belongs to a run. */
typedef bool pretok_class_fn(uint32_t cp);

enum pretok_lead { PRETOK_LEAD_NONE, PRETOK_LEAD_BLANK, PRETOK_LEAD_SPACE };

/* lead? class{min,max}, where the lead is one U+0020 (BLANK) or one white space (SPACE). */
struct pretok_run {
    pretok_class_fn *is;
    enum pretok_lead lead;
    uint32_t min, max; /* characters of the class; max 0: no bound */
};

enum pretok_letters {
    PRETOK_LETTERS_BLANK, /* " ?\p{L}+" */
    PRETOK_LETTERS_ANY,   /* "[^\r\n\p{L}\p{N}]?\p{L}+" */
    PRETOK_LETTERS_MARKS, /* "[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+" */
    PRETOK_LETTERS_CASED, /* "[^\r\n\p{L}\p{N}]?U*l+|[^\r\n\p{L}\p{N}]?U+l*", see the source */
    PRETOK_LETTERS_DEEP,  /* "[ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+" */
};

/* 's 't 're 've 'm 'll 'd */
enum pretok_contractions {
    PRETOK_CONTRACTIONS_NONE,
    PRETOK_CONTRACTIONS_LOWER,  /* before everything else */
    PRETOK_CONTRACTIONS_ANY,    /* the same in any case */
    PRETOK_CONTRACTIONS_SUFFIX, /* in any case, at the end of a cased word */
};

enum { PRETOK_DIGITS_NONE = -1, PRETOK_DIGITS_BLANK = 0 };

/* The alternatives of one expression in their order: contraction, letters, numbers, the rest,
 * white space. */
struct pretok_words {
    enum pretok_contractions contractions;
    enum pretok_letters letters;
    int digits;       /* n: "\p{N}{1,n}"; BLANK: " ?\p{N}+"; NONE: not an alternative */
    const char *tail; /* " ?[^\s\p{L}\p{N}]+" (DEEP: " ?[\p{P}\p{S}]+") takes these too: "\r\n" */
    bool newlines;    /* "\s*[\r\n]+" comes before "\s+(?!\S)|\s+" */
};

/* One of the two is set; neither: "\s+$". */
struct pretok_stage {
    const struct pretok_run *run;
    const struct pretok_words *words;
};

/* start = end = piece.len when there is none. */
struct pretok_match {
    size_t start, end;
};

/* The stage's next match in `piece` at or after `from`; what lies between two matches is a piece
 * of its own. `piece` is valid UTF-8 and `from` begins a character. */
struct pretok_match pretok_stage_find(const struct pretok_stage *stage, struct str piece,
                                      size_t from);

/* Classes of the runs, named after what they hold. */
bool pretok_is_number(uint32_t cp);
bool pretok_is_ascii_digit(uint32_t cp);
bool pretok_is_letter(uint32_t cp);
bool pretok_is_punct(uint32_t cp);
bool pretok_is_newline(uint32_t cp);
bool pretok_is_line(uint32_t cp);         /* [^\n] */
bool pretok_is_math_punct(uint32_t cp);   /* [\p{P}$+<=>^~|] */
bool pretok_is_falcon_punct(uint32_t cp); /* the same and ` */
bool pretok_is_bloom_text(uint32_t cp);   /* [^(\s|.,!?…。，、।۔،)] */
bool pretok_is_cjk(uint32_t cp);          /* [一-龥ࠀ-一가-퟿] */
bool pretok_is_kana(uint32_t cp);         /* [一-龥぀-ゟ゠-ヿ] */
bool pretok_is_deepseek_letter(uint32_t cp);
bool pretok_is_deepseek_punct(uint32_t cp);

#endif
