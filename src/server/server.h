/* server.h: the model server's role: models loaded, an HTTP listener, one engine thread.
 *
 * Everything is called on the loop's thread. It listens at once and says 503 on /readyz until
 * every model is loaded. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "engine/engine.h"
#include "net/loop.h"
#include "net/addr.h"

/* Limits; a zero field of server_conf takes the default. */
enum {
    SERVER_BODY_BYTES_MAX = 32 << 20,    /* of one request: 413 */
    SERVER_BODIES_BYTES_MAX = 256 << 20, /* of all requests not yet at work: 503 */
    SERVER_REQUESTS_MAX = 512,           /* in work: 429 */
    SERVER_KV_PAGES_DEFAULT = 512,       /* 16,384 tokens, shared by all sequences of a model */
};

struct server_model_conf {
    struct str id; /* the name in the API */
    struct str path;
};

struct server_conf {
    struct addr listen;                     /* UNIX; TCP on loopback, elsewhere with TLS */
    struct tls_keep *tls;                   /* NULL = plain; must outlive the server */
    const struct server_model_conf *models; /* strings must live as long as the server */
    uint32_t n_models;
    struct engine_conf engine; /* of every model */
    struct server_limits {
        uint32_t running_max; /* of each model; see step.h for these and their defaults */
        uint32_t tenant_running_max;
        uint32_t waiting_max;
        uint32_t waiting_ms_max;
        uint32_t budget_ms;
        uint32_t batch_texts; /* texts embedded together; see embed.h for these */
        uint32_t batch_ms;
        bool no_prefix_cache, no_speculation, no_batch_wait;
    } limits;
    uint32_t requests_max;
    size_t bodies_bytes_max;
    /* Called once on the loop: RC_OK when ready, else why a model cannot be loaded. */
    void (*on_ready)(void *ctx, enum rc rc, const struct err *err);
    void *ctx;
};

struct server; /* opaque */

RC server_create(struct server **out, struct loop *l, const struct server_conf *conf,
                 struct err *err);
/* Finishes live requests, takes no new ones; on_drained once. Not called twice. */
void server_drain(struct server *s, uint64_t max_ms, void (*on_drained)(void *ctx), void *ctx);
/* Ends the engine thread, frees the models. After loop_run, before loop_destroy. NULL is allowed.
 */
void server_destroy(struct server *s);

#endif
