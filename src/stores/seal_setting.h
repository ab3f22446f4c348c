/* seal_setting.h: random keys of this installation, each sealed in a setting of its own. */
#ifndef STORES_SEAL_SETTING_H
#define STORES_SEAL_SETTING_H

#include "stores/kms.h"
#include "stores/meta.h"

/* Loads the key of CRYPTO_KEY_BYTES that the setting holds, or makes it at first use. Processes
 * starting together agree on one. */
RC seal_setting_load(struct secret *out, struct meta *m, const struct kms *k, const char *name,
                     struct err *err);
/* As above, but RC_NOT_FOUND when there is none yet. */
RC seal_setting_read(struct secret *out, struct meta *m, const struct kms *k, const char *name,
                     struct err *err);

#endif
