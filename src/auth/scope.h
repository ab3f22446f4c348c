/* scope.h: what a key may be used for, as words separated by spaces.
 *
 *   chat completions embeddings rerank models     the routes; none of these words = all routes
 *   admin                                         metrics and administration
 *   model:PATTERN                                 models, '*' stands for anything; none = all */
#ifndef AUTH_SCOPE_H
#define AUTH_SCOPE_H

#include "auth/rbac.h"

/* RC_INVALID names the word that is not one of these. */
RC scope_check(struct str scopes, struct err *err);
/* `route` is one of the words. */
bool scope_allows_route(struct str scopes, struct str route);
bool scope_allows_model(struct str scopes, struct str model);
/* Whether whatever `others` allow, `mine` do too. Never true wrongly. */
bool scope_covers(struct str mine, struct str others);
/* Whether a role could be held under `mine` without losing any permission of it: all routes that
 * models are called by for models:invoke, "admin" for the rest. Never true wrongly. */
bool scope_covers_set(struct str mine, const struct rbac_set *set);

#endif
