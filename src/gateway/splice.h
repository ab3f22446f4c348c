/* splice.h: a JSON object's text with some of its members replaced, the rest byte for byte. */
#ifndef GATEWAY_SPLICE_H
#define GATEWAY_SPLICE_H

#include "base/buf.h"

enum { SPLICE_EDITS_MAX = 4 };

struct splice_edit {
    struct str name;  /* of a top-level member, without escapes */
    struct str value; /* JSON; takes the place of the member's, or is added behind the last one */
};

/* Whether the object has a member of that name. */
bool splice_has(struct str object, struct str name);
/* Appends to `out`. `object` is the text of one JSON object that json_parse has accepted, not
 * empty. */
void splice(struct buf *out, struct str object, const struct splice_edit *edits, uint32_t n);

#endif
