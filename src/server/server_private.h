/* server_private.h: what the files of the role share: its state, on its loop's thread. */
#ifndef SERVER_SERVER_PRIVATE_H
#define SERVER_SERVER_PRIVATE_H

#include "api/link.h"
#include "net/http_server.h"
#include "server/server.h"
#include "server/step.h"

struct served_model {
    struct str id;
    struct str path;
    struct model *model;       /* generators; NULL while loading */
    struct embed_model *embed; /* embedders and rerankers; NULL while loading */
    struct engine *engine;
    int64_t created_s;
};

enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING, SERVER_FAILED };

struct server {
    struct loop *loop;
    struct server_conf conf;
    struct http_server *http;
    struct step *step;
    struct embed *embed;
    struct loop_wake *wake;
    enum server_state state;
    struct served_model models[STEP_MODELS_MAX];
    uint32_t n_models;
    enum rc load_rc; /* of the loading worker */
    struct err load_err;
    _Atomic uint64_t loaded_bytes, total_bytes; /* written by the loading worker */
    uint32_t n_requests;                        /* in work */
    size_t bodies_bytes;                        /* of requests that still need their bodies */
    bool stepping;                              /* the engine thread was started */
    bool loading;                               /* the worker that opens the models is under way */
    bool destroyed;                             /* freed once nothing of the above is left */
};

/* A request has ended, or loading has: frees a destroyed server that nothing refers to. */
void server_settle(struct server *s);

/* The link's headers of a request. */
RC server_read_link(struct http_exchange *x, struct api_link *link, struct err *err);
/* Monotonic, of a request that arrived then; 0 = none. */
uint64_t server_deadline_ns(const struct api_link *link, uint64_t arrived_ns);

/* "chatcmpl-" and a number that is not told again. */
enum { SERVER_ID_BYTES = 48 };
void server_make_id(const char *prefix, char out[SERVER_ID_BYTES]);

/* NULL when no loaded model has that id. */
struct served_model *server_find_model(struct server *s, struct str id);

#endif
