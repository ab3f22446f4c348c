/* backend.h: an upstream while the gateway runs: its connections, whether it is well, what is under
 * way. It outlives catalogues: one that stays in them by name and address keeps its state.
 *
 * A server's name is looked up, and its TLS files are read, beside the loop: until both are there
 * it is not ready; what comes later replaces what was.
 *
 * Well = its supervisor or its health check says so, and its breaker lets a call through. Health
 * checks ask every BACKEND_PROBE_MS; BACKEND_MISSES_MAX without a good answer take it out, one good
 * answer brings it back.
 *
 * Suspect = it has live streams that have begun and are not held back by their clients, and not one
 * of them moved for BACKEND_DUE_MS. It is asked only when no other server of the version is well,
 * until something comes from it, or the streams are gone and BACKEND_SUSPECT_MS have passed.
 * One loop. Where a process has several, each has its own connections and health checks; the
 * breaker, how many requests are under way, progress and suspicion are shared (shared.h). */
#ifndef GATEWAY_BACKEND_H
#define GATEWAY_BACKEND_H

#include "base/list.h"
#include "gateway/catalog_build.h"
#include "gateway/shared.h"
#include "net/http_client.h"
#include "net/loop.h"

enum {
    BACKEND_PROBE_MS = 10000,
    BACKEND_PROBE_WAIT_MS = 5000, /* an answer takes longer: missed */
    BACKEND_MISSES_MAX = 3,
    BACKEND_PROBES = 16, /* begin at once, the next ones so much later */
    BACKEND_PROBES_MS = 40,
    BACKEND_PULSE_MS = 250, /* how often progress is looked at: suspect within 2 s */
    BACKEND_DUE_MS = 1500,
    BACKEND_SUSPECT_MS = 10000,
};

struct backend {
    struct list_node node;
    struct backends *owner;
    char name[CAT_NAME_BYTES_MAX + 1];
    char url[256];
    uint64_t id; /* a hash of its name */
    struct addr addr;
    uint64_t shape; /* a hash of its other settings */
    struct http_pool *pool;
    struct tls_keep *tls;     /* https:// */
    struct resolve *resolve;  /* a name instead of an address */
    bool resolved, prepared;  /* calls can be made; once true, stays so */
    struct gw_server *server; /* the same upstream as all loops see it */
    uint32_t outstanding;     /* requests of this loop that hold it */
    bool local;               /* gw_backends_set_local says whether it is ready */
    bool ready;
    bool gone;            /* in no catalogue any more: freed when nothing holds it */
    char auth[1100];      /* "Bearer KEY" for it, or "" */
    struct list requests; /* gw_attempt.at_backend: those that hold it */
    /* health checks of those that are not local */
    struct loop_timer probe_timer;
    struct http_call *probe;
    uint64_t probe_after_ms; /* the first one, so that many upstreams' are spread */
    uint32_t n_misses;
    bool probe_good;
    bool wants_200; /* else any answer below 500 will do */
    char probe_target[512];
    struct loop_task reclaim;
};

struct backends {
    struct loop *loop;
    struct gw_shared *shared;
    uint32_t n_loops; /* with gateways: each has its share of an upstream's connections */
    uint64_t n_made;
    struct list all;
    bool local_ready;
    uint32_t n_gone;
    void (*on_well)(void *ctx); /* one has become well again */
    /* Its health checks have failed: what waits for its answer may wait in vain. */
    void (*on_away)(void *ctx, struct backend *b);
    void *ctx;
};

/* `on_well`, `on_away` and `ctx` are the caller's to set behind it. */
void gw_backends_init(struct backends *b, struct loop *l, struct gw_shared *shared,
                      uint32_t n_loops);
/* Every call on them has ended or was cancelled. */
void gw_backends_deinit(struct backends *b);
/* Makes those of a new catalogue, lets go of those that left it. */
RC gw_backends_sync(struct backends *b, const struct cat *cat, struct err *err);
struct backend *gw_backends_find(const struct backends *b, struct str name);
void gw_backends_set_local(struct backends *b, bool ready);
/* Whether any is ready. */
bool gw_backends_any_ready(const struct backends *b);

/* Whether a call may be made; if so it was begun, and gw_backend_finish follows. */
MUST_CHECK bool gw_backend_begin(struct backend *b);
void gw_backend_finish(struct backend *b, enum breaker_end how);
/* The breaker is the process's. */
enum breaker_state gw_backend_breaker(const struct backend *b);
/* Part of an answer has come from it. */
void gw_backend_progress(struct backend *b);
/* A token is due from it. Marks it suspect when nothing has come for too long. */
void gw_backend_is_due(struct backend *b);
bool gw_backend_is_suspect(const struct backend *b);
/* Whether one should be due by now, if any is. */
bool gw_backend_is_silent(const struct backend *b);
/* Requests of all loops that hold it. */
uint32_t gw_backend_outstanding(const struct backend *b);

#endif
