/* Permissions: one a line, any bytes. What is accepted decides the same alone and compiled with
 * others, and what covers a permission allows all that it allows. The last line is a name. */
#include <stdint.h>

#include "auth/rbac.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 32 };

static void check_one(struct str text, struct str name, const struct rbac_set *all, struct arena *a)
{
    struct rbac_set one;
    struct err err = {0};
    ASSERT(rbac_compile(&one, &text, 1, a, &err) == RC_OK);
    const struct rbac_grants alone = {.roles = {&one}, .n_roles = 1};
    const struct rbac_grants both = {.roles = {all}, .n_roles = 1};
    const struct rbac_grants narrowed = {.roles = {all}, .n_roles = 1, .within = &one};
    ASSERT(rbac_covers(&both, &one));
    ASSERT(rbac_covers(&alone, &one));
    for (uint32_t k = 0; k < RBAC_KIND_N; k++) {
        for (unsigned bit = RBAC_INVOKE; bit <= RBAC_WRITE; bit <<= 1) {
            enum rbac_kind kind = (enum rbac_kind)k;
            enum rbac_action action = (enum rbac_action)bit;
            bool allowed = rbac_allows(&alone, kind, action, name);
            ASSERT(!allowed || rbac_allows(&both, kind, action, name));
            ASSERT(!allowed || rbac_allows_some(&alone, kind, action));
            ASSERT(allowed == rbac_allows(&narrowed, kind, action, name));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str texts[LINES_MAX];
    struct str rest = str_make((const char *)data, MIN(size, (size_t)8192));
    struct str line = STR_LIT("");
    uint32_t n = 0;
    struct arena a;
    struct rbac_set all;
    arena_init(&a, 8 << 20);
    while (rest.len > 0 && n < LINES_MAX) {
        struct rbac_permission p;
        line = str_cut(&rest, '\n');
        if (rbac_permission_parse(line, &p, NULL) == RC_OK) {
            ASSERT(p.kinds != 0 && p.name.len <= RBAC_NAME_BYTES_MAX);
            texts[n++] = line;
        }
    }
    ASSERT(rbac_compile(&all, texts, n, &a, NULL) == RC_OK);
    for (uint32_t i = 0; i < n; i++) {
        check_one(texts[i], line, &all, &a);
    }
    arena_deinit(&a);
    return 0;
}
