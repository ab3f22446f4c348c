/* scope.h: what a key may be used for, as words separated by spaces.
 *
 *   chat completions embeddings rerank models     the routes; none of these words = all routes
 *   admin                                         metrics and administration
 *   model:PATTERN                                 models, '*' stands for anything; none = all */
#ifndef AUTH_SCOPE_H
#define AUTH_SCOPE_H

#include "base/err.h"
#include "base/str.h"

/* RC_INVALID names the word that is not one of these. */
RC scope_check(struct str scopes, struct err *err);
/* `route` is one of the words. */
bool scope_allows_route(struct str scopes, struct str route);
bool scope_allows_model(struct str scopes, struct str model);

#endif
