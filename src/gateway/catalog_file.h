/* catalog_file.h: the catalogue as a file (YAML), applied to the store.
 *
 * What the file names is its own: it is made, changed and, when it leaves the file, removed.
 * Objects made elsewhere stay. All or nothing. Blocks: at start, or on a worker. */
#ifndef GATEWAY_CATALOG_FILE_H
#define GATEWAY_CATALOG_FILE_H

#include "auth/audit.h"
#include "gateway/catalog_build.h"

/* Reads and checks only. Errors begin with the path. */
RC catalog_file_check(const char *path, const struct cat_local *local, struct err *err);
/* Who has it applied, for the audit log. */
struct catalog_file_act {
    const struct audit *audit;
    struct str who, source;
};
/* Keys of upstreams are read from where the file says, and stored sealed. A change is an entry of
 * the audit log. */
struct catalog_file_to {
    struct meta *meta;
    const struct kms *kms;
    const struct cat_local *local;
    struct catalog_file_act act;
};
RC catalog_file_apply(const char *path, const struct catalog_file_to *to, struct err *err);

#endif
