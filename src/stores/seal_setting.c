/* seal_setting.c: see seal_setting.h. What is sealed is bound to "settings/NAME". */
#include "stores/seal_setting.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "stores/seal.h"

enum { SEAL_CONTEXT_BYTES = 96 };

static struct str seal_setting_context(const char *name, char out[SEAL_CONTEXT_BYTES])
{
    int n = snprintf(out, SEAL_CONTEXT_BYTES, "settings/%s", name);
    ASSERT(n > 0 && n < SEAL_CONTEXT_BYTES);
    return str_from(out);
}

enum rc seal_setting_read(struct secret *out, struct meta *m, const struct kms *k, const char *name,
                          struct err *err)
{
    char context[SEAL_CONTEXT_BYTES];
    struct buf sealed;
    struct buf plain;
    buf_init(&sealed, META_VALUE_BYTES_MAX);
    buf_init(&plain, SECRET_BYTES_MAX);
    enum rc rc = meta_setting_get(m, name, &sealed, err);
    if (rc == RC_OK) {
        rc = seal_open_value(k, seal_setting_context(name, context), buf_str(&sealed), &plain, err);
    }
    if (rc == RC_OK && !secret_set(out, buf_str(&plain))) {
        rc = err_set(err, RC_CORRUPT, "setting %s is too long", name);
    }
    if (plain.ptr != NULL) {
        mem_wipe(plain.ptr, plain.len);
    }
    buf_deinit(&plain);
    buf_deinit(&sealed);
    return rc;
}

static enum rc seal_setting_create(struct meta *m, const struct kms *k, const char *name,
                                   struct err *err)
{
    char context[SEAL_CONTEXT_BYTES];
    unsigned char key[CRYPTO_KEY_BYTES];
    struct buf sealed;
    bool stored = false;
    crypto_random(key, sizeof(key));
    buf_init(&sealed, META_VALUE_BYTES_MAX);
    enum rc rc = seal_value(k, seal_setting_context(name, context),
                            str_make((const char *)key, sizeof(key)), &sealed, err);
    if (rc == RC_OK) {
        /* Not stored means that another process was first: its key is read afterwards. */
        rc = meta_setting_put_new(m, name, buf_str(&sealed), &stored, err);
    }
    mem_wipe(key, sizeof(key));
    buf_deinit(&sealed);
    return rc;
}

enum rc seal_setting_load(struct secret *out, struct meta *m, const struct kms *k, const char *name,
                          struct err *err)
{
    enum rc rc = seal_setting_read(out, m, k, name, err);
    if (rc != RC_NOT_FOUND) {
        return rc;
    }
    rc = seal_setting_create(m, k, name, err);
    return rc == RC_OK ? seal_setting_read(out, m, k, name, err) : rc;
}
