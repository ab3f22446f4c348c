/* scope.c: see scope.h. */
#include "auth/scope.h"

static const char *const scope_routes[] = {"chat",   "completions", "embeddings",
                                           "rerank", "models",      "admin"};

enum { SCOPE_CALLS = 4 }; /* of them, those that models are called by; they stand first */

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

/* ---- one within another ---- */

static bool scope_covers_routes(struct str mine, struct str others)
{
    bool covers = true;
    for (size_t i = 0; i < ARRAY_LEN(scope_routes); i++) {
        struct str route = str_from(scope_routes[i]);
        covers = covers && (scope_allows_route(mine, route) || !scope_allows_route(others, route));
    }
    return covers;
}

/* As in rbac.c: a pattern that is matched as a text is covered whatever its own '*' stand for. */
static bool scope_covers_models(struct str mine, struct str others)
{
    bool any = false, covers = true;
    while (others.len > 0) {
        struct str word = str_cut(&others, ' ');
        if (str_starts(word, SCOPE_MODEL)) {
            struct str pattern = str_slice(word, SCOPE_MODEL.len, word.len);
            any = true;
            covers = covers && scope_allows_model(mine, pattern);
        }
    }
    return any ? covers : scope_allows_model(mine, STR_LIT("*"));
}

bool scope_covers(struct str mine, struct str others)
{
    return scope_covers_routes(mine, others) && scope_covers_models(mine, others);
}

static bool scope_covers_actions(struct str mine, enum rbac_kind kind, uint8_t actions,
                                 struct str pattern)
{
    bool invokes = kind == RBAC_MODELS && (actions & RBAC_INVOKE) != 0;
    bool administers = (actions & (kind == RBAC_MODELS ? RBAC_READ | RBAC_WRITE : 0xffu)) != 0;
    bool covers = !administers || scope_allows_route(mine, STR_LIT("admin"));
    for (size_t i = 0; invokes && i < SCOPE_CALLS; i++) {
        covers = covers && scope_allows_route(mine, str_from(scope_routes[i]));
    }
    return covers && (!invokes || scope_allows_model(mine, pattern));
}

bool scope_covers_set(struct str mine, const struct rbac_set *set)
{
    bool covers = true;
    for (uint32_t k = 0; covers && k < RBAC_KIND_N; k++) {
        enum rbac_kind kind = (enum rbac_kind)k;
        covers = scope_covers_actions(mine, kind, set->any[k], STR_LIT("*"));
        for (uint32_t i = 0; covers && i < set->n_named; i++) {
            const struct rbac_permission *p = &set->named[i];
            uint8_t actions = (p->kinds >> k & 1u) != 0 ? p->actions : 0;
            covers = scope_covers_actions(mine, kind, actions, p->name);
        }
    }
    return covers;
}
