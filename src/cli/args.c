/* args.c: see args.h. */
#include "cli/args.h"

#include "base/assert.h"
#include "base/nearest.h"

/* ---- parsing ---- */

static enum rc args_unknown(const struct args_row *rows, const char *word, struct err *err)
{
    const char *names[ARGS_OPTIONS_MAX];
    uint32_t n = 0;
    for (const struct args_row *r = rows; r->name != NULL && n < ARGS_OPTIONS_MAX; r++) {
        names[n++] = r->name;
    }
    const char *near = nearest_name(str_from(word), names, n);
    if (near != NULL) {
        return err_set(err, RC_INVALID, "unknown option %s; did you mean %s?", word, near);
    }
    return err_set(err, RC_INVALID, "unknown option %s", word);
}

static const struct args_row *args_find(const struct args_row *rows, struct str word)
{
    for (const struct args_row *r = rows; r->name != NULL; r++) {
        bool is_letter = word.len == 2 && r->letter != 0 && word.ptr[1] == r->letter;
        if (str_is(word, r->name) || is_letter) {
            return r;
        }
    }
    return NULL;
}

static bool args_is_option(const char *word)
{
    bool negative_number = word[0] == '-' && word[1] >= '0' && word[1] <= '9';
    return word[0] == '-' && word[1] != '\0' && !negative_number;
}

/* Takes one option at argv[*i]; moves *i past its value. */
static enum rc args_take(struct args *a, int argc, char **argv, int *i, struct err *err)
{
    const char *word = argv[*i];
    struct str name = str_from(word);
    const char *equals = strchr(word, '=');
    const char *value = NULL;
    if (equals != NULL && word[1] == '-') {
        name.len = (size_t)(equals - word);
        value = equals + 1;
    }
    const struct args_row *row = args_find(a->rows, name);
    if (row == NULL) {
        return args_unknown(a->rows, word, err);
    }
    if (row->value == NULL && value != NULL) {
        return err_set(err, RC_INVALID, "option %s takes no value", row->name);
    }
    if (row->value != NULL && value == NULL) {
        if (*i + 1 >= argc) {
            return err_set(err, RC_INVALID, "option %s needs a value (%s)", row->name, row->value);
        }
        value = argv[++*i];
    }
    if (a->n_options == ARGS_OPTIONS_MAX) {
        return err_set(err, RC_INVALID, "more than %d options", ARGS_OPTIONS_MAX);
    }
    a->options[a->n_options].row = row;
    a->options[a->n_options++].value = value;
    return RC_OK;
}

enum rc args_parse(struct args *a, const struct args_row *rows, int argc, char **argv,
                   struct err *err)
{
    *a = (struct args){.rows = rows};
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && args_is_option(argv[i])) {
            enum rc rc = args_take(a, argc, argv, &i, err);
            if (rc != RC_OK) {
                return rc;
            }
        } else if (a->n_words == ARGS_WORDS_MAX) {
            return err_set(err, RC_INVALID, "more than %d words", ARGS_WORDS_MAX);
        } else {
            a->words[a->n_words++] = argv[i];
        }
    }
    return RC_OK;
}

/* ---- looking up ---- */

uint32_t args_n_words(const struct args *a)
{
    return a->n_words;
}

const char *args_word(const struct args *a, uint32_t idx)
{
    return idx < a->n_words ? a->words[idx] : NULL;
}

const char *args_nth(const struct args *a, const char *name, uint32_t idx)
{
    for (uint32_t i = 0; i < a->n_options; i++) {
        if (strcmp(a->options[i].row->name, name) == 0 && idx-- == 0) {
            return a->options[i].value;
        }
    }
    return NULL;
}

bool args_has(const struct args *a, const char *name)
{
    for (uint32_t i = 0; i < a->n_options; i++) {
        if (strcmp(a->options[i].row->name, name) == 0) {
            return true;
        }
    }
    return false;
}

const char *args_str(const struct args *a, const char *name, const char *fallback)
{
    const char *value = fallback;
    for (uint32_t i = 0; i < a->n_options; i++) {
        if (strcmp(a->options[i].row->name, name) == 0) {
            value = a->options[i].value;
        }
    }
    return value;
}

enum rc args_u64(const struct args *a, const char *name, uint64_t min, uint64_t max, uint64_t *out,
                 struct err *err)
{
    const char *text = args_str(a, name, NULL);
    uint64_t value;
    if (text == NULL) {
        return RC_OK;
    }
    if (!str_to_u64(str_from(text), &value) || value < min || value > max) {
        return err_set(err, RC_INVALID, "%s %s: expected a whole number from %llu to %llu", name,
                       text, (unsigned long long)min, (unsigned long long)max);
    }
    *out = value;
    return RC_OK;
}

enum rc args_u32(const struct args *a, const char *name, uint32_t min, uint32_t max, uint32_t *out,
                 struct err *err)
{
    uint64_t value = *out;
    enum rc rc = args_u64(a, name, min, max, &value, err);
    if (rc == RC_OK) {
        *out = (uint32_t)value;
    }
    return rc;
}

enum rc args_f32(const struct args *a, const char *name, double min, double max, float *out,
                 struct err *err)
{
    const char *text = args_str(a, name, NULL);
    double value;
    if (text == NULL) {
        return RC_OK;
    }
    if (!str_to_f64(str_from(text), &value) || value < min || value > max) {
        return err_set(err, RC_INVALID, "%s %s: expected a number from %g to %g", name, text, min,
                       max);
    }
    *out = (float)value;
    return RC_OK;
}
