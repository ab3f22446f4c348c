/* scope.c: see scope.h. */
#include "auth/scope.h"

static const char *const scope_routes[] = {"chat",   "completions", "embeddings",
                                           "rerank", "models",      "admin"};

#define SCOPE_MODEL STR_LIT("model:")

static bool scope_is_route(struct str word)
{
    for (size_t i = 0; i < ARRAY_LEN(scope_routes); i++) {
        if (str_is(word, scope_routes[i])) {
            return true;
        }
    }
    return false;
}

enum rc scope_check(struct str scopes, struct err *err)
{
    while (scopes.len > 0) {
        struct str word = str_cut(&scopes, ' ');
        bool model = str_starts(word, SCOPE_MODEL) && word.len > SCOPE_MODEL.len;
        if (word.len > 0 && !model && !scope_is_route(word)) {
            return err_set(err, RC_INVALID,
                           "scope '%.*s': not chat, completions, embeddings, rerank, models, "
                           "admin or model:PATTERN",
                           (int)MIN(word.len, (size_t)64), word.ptr);
        }
    }
    return RC_OK;
}

bool scope_allows_route(struct str scopes, struct str route)
{
    bool any = false;
    while (scopes.len > 0) {
        struct str word = str_cut(&scopes, ' ');
        if (str_eq(word, route)) {
            return true;
        }
        any = any || scope_is_route(word);
    }
    return !any;
}

bool scope_allows_model(struct str scopes, struct str model)
{
    bool any = false;
    while (scopes.len > 0) {
        struct str word = str_cut(&scopes, ' ');
        if (!str_starts(word, SCOPE_MODEL)) {
            continue;
        }
        if (str_matches(str_slice(word, SCOPE_MODEL.len, word.len), model)) {
            return true;
        }
        any = true;
    }
    return !any;
}
