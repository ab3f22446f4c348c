/* openapi.h: the admin listener's routes as an OpenAPI 3.1 document, made from auth/policy.h. */
#ifndef ADMIN_OPENAPI_H
#define ADMIN_OPENAPI_H

#include "base/buf.h"

/* Appends it as JSON. */
void openapi_write(struct buf *out);

#endif
