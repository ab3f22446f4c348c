/* body.h: the body of a request: collected on the loop under a cap for all together, then worked on
 * by a worker, then given back. Private to the role; one loop's thread. */
#ifndef SERVER_BODY_H
#define SERVER_BODY_H

#include "base/buf.h"
#include "net/loop.h"

struct server;

struct body {
    struct server *server; /* borrowed */
    struct buf bytes;
};

/* RC_BUSY when as many requests as may be are in work. */
RC body_admit(const struct server *s, struct err *err);
void body_init(struct body *b, struct server *s);
/* Gives the bytes back. May be called twice. */
void body_release(struct body *b);
/* RC_OVERLOADED when all bodies together are too large. */
RC body_add(struct body *b, struct str bytes, struct err *err);
/* Its end has come, `how` as http_exchange tells it: starts job->run and job->done with job->ctx.
 * On failure neither is called. */
RC body_work(const struct body *b, enum rc how, const struct loop_job *job, struct err *err);

#endif
