/* redis.h: one pipelined connection to a Redis server (single, version 6 or later), kept up.
 *
 * Commands are answered in order. While the server is away they are refused at once
 * (RC_UNAVAILABLE); it is called again with growing pauses, REDIS_RETRY_MS to REDIS_RETRY_MS_MAX. A
 * command that is not answered within command_ms breaks the connection. What was sent and not
 * answered then ends with RC_UNAVAILABLE or RC_TIMEOUT, and may have been done or not: callers must
 * make that harmless. No command may wait in the server (BLPOP, XREAD BLOCK …): it would hold up
 * those of others.
 *
 * Threads: all on the loop's. */
#ifndef STORES_REDIS_H
#define STORES_REDIS_H

#include "net/tls.h"
#include "stores/redis_reply.h"

struct loop;
struct redis; /* opaque */

/* Limits; a zero field of redis_conf takes the default. */
enum {
    REDIS_COMMAND_MS = 500,
    REDIS_CONNECT_MS = 2000, /* TLS, AUTH, SELECT and scripts included */
    REDIS_RETRY_MS = 50,
    REDIS_RETRY_MS_MAX = 1000,
    REDIS_PENDING_MAX = 4096,          /* commands not answered yet; more are RC_OVERLOADED */
    REDIS_QUEUED_BYTES_MAX = 32 << 20, /* not taken by the server yet; more are RC_OVERLOADED */
    REDIS_SCRIPTS_MAX = 8,
    REDIS_URL_BYTES_MAX = 300,
};

struct redis_conf {
    /* redis://HOST:PORT[/DB], rediss:// for TLS, or unix:PATH. No user, no password. Copied. */
    struct str url;
    struct str user, password; /* "" = none; copied, wiped at the end */
    struct tls_conf tls;       /* rediss: whom to trust, what to show; copied */
    uint64_t command_ms, connect_ms;
    /* The server answers, scripts are there; or it is away. Commands that were under way have
     * ended before. May be NULL. */
    void (*on_state)(void *ctx, bool ready);
    void *ctx;
};

/* `reply` is NULL unless rc is RC_OK, and valid during the call; an error reply of the server is
 * RC_OK with REDIS_FAILED. Once for each command sent, never before redis_send has returned. */
typedef void (*redis_cb)(void *ctx, enum rc rc, const struct redis_reply *reply);

/* Whether a URL is well-formed: RC_INVALID says what is wrong. */
RC redis_url_check(struct str url, struct err *err);

/* Begins to call the server; returns before it answers. Blocks for no network. */
RC redis_create(struct redis **out, struct loop *l, const struct redis_conf *conf, struct err *err);
/* Ends commands under way with RC_CANCELLED, in this call. Fine inside a callback. NULL is
 * allowed. */
void redis_destroy(struct redis *r);
bool redis_is_ready(const struct redis *r);
/* More owners may want to be told: before the loop runs; at most REDIS_WATCHERS_MAX. */
enum { REDIS_WATCHERS_MAX = 4 };
void redis_watch(struct redis *r, void (*on_state)(void *ctx, bool ready), void *ctx);

/* Sends one command; words are bytes of any kind, copied. RC_UNAVAILABLE, RC_OVERLOADED: it was not
 * sent, cb is not called. */
RC redis_send(struct redis *r, const struct str *words, uint32_t n, redis_cb cb, void *ctx);
/* The answers to what was sent with this ctx are dropped: cb is not called any more. O(pending). */
void redis_forget(struct redis *r, const void *ctx);

/* A Lua script, loaded into the server at each connection: before the loop runs. `text` must
 * outlive r. Returns its number. */
uint32_t redis_script_add(struct redis *r, const char *text);
/* EVALSHA: `words` are n_keys keys, then arguments. */
RC redis_eval(struct redis *r, uint32_t script, const struct str *words, uint32_t n,
              uint32_t n_keys, redis_cb cb, void *ctx);

#endif
