/* embed_intake.h: embeddings and rerank requests of the server's HTTP listener, from their bodies
 * to their answers. Everything is called on the loop's thread. */
#ifndef SERVER_EMBED_INTAKE_H
#define SERVER_EMBED_INTAKE_H

#include "server/server_private.h"

enum embed_kind { EMBED_VECTORS, EMBED_SCORES };

/* Answers the request or starts its work. */
void embed_intake(struct server *s, struct http_exchange *x, enum embed_kind kind);
/* Answers the requests whose jobs have come back. */
void embed_intake_finished(struct server *s);

#endif
