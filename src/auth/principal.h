/* principal.h: who asks, the same struct however it was proved: by an API key, by a JWT, or by a
 * service's certificate. What it may do follows from roles and scopes, not from the kind.
 *
 * Plain data. Strings are borrowed from where the proof lies (a snapshot of the catalogue, a
 * request's arena) and live as long; "" = none. */
#ifndef AUTH_PRINCIPAL_H
#define AUTH_PRINCIPAL_H

#include "auth/rbac.h"

enum principal_kind { PRINCIPAL_NONE, PRINCIPAL_KEY, PRINCIPAL_JWT, PRINCIPAL_SERVICE };

enum { PRINCIPAL_ID_BYTES = 32 }; /* with the NUL */

struct principal {
    enum principal_kind kind;
    struct str id; /* "key_…", "jwt_…", "svc_…": printable, unique, fit for logs and headers */
    struct str organisation, project, user; /* names */
    struct str roles;                       /* names, separated by spaces */
    struct str scopes;                      /* as in scope.h; "" = no narrowing */
    struct rbac_grants grants;              /* the roles, looked up in the catalogue (cat_grant) */
};

#endif
