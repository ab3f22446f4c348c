/* body.c: see body.h. */
#include "server/body.h"

#include "server/server_private.h"

enum { BODY_SLOW_BYTES = 1 << 20 }; /* over this it counts as slow work */

enum rc body_admit(const struct server *s, struct err *err)
{
    return s->n_requests < s->conf.requests_max
               ? RC_OK
               : err_set(err, RC_BUSY, "The server is busy: too many requests are in work.");
}

void body_init(struct body *b, struct server *s)
{
    b->server = s;
    buf_init(&b->bytes, SERVER_BODY_BYTES_MAX);
}

void body_release(struct body *b)
{
    b->server->bodies_bytes -= b->bytes.len;
    buf_deinit(&b->bytes);
}

enum rc body_add(struct body *b, struct str bytes, struct err *err)
{
    struct server *s = b->server;
    size_t before = b->bytes.len;
    buf_add_str(&b->bytes, bytes);
    s->bodies_bytes += b->bytes.len - before;
    return s->bodies_bytes <= s->conf.bodies_bytes_max
               ? RC_OK
               : err_set(err, RC_OVERLOADED, "Too many large requests are in work.");
}

enum rc body_work(const struct body *b, enum rc how, const struct loop_job *job, struct err *err)
{
    struct loop_job work = *job;
    if (how == RC_TOO_LARGE || (how == RC_OK && !buf_ok(&b->bytes))) {
        return err_set(err, RC_TOO_LARGE, "The request body is larger than %d bytes.",
                       SERVER_BODY_BYTES_MAX);
    }
    if (how != RC_OK) {
        return err_set(err, how, "The request body did not arrive whole.");
    }
    work.slow = b->bytes.len > BODY_SLOW_BYTES;
    return loop_work_start(NULL, b->server->loop, &work, err);
}
