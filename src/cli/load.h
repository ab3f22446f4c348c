/* load.h: drives an OpenAI-compatible server and measures what its clients would see.
 *
 * Closed loop: n_clients requests in flight, each followed by the next. Open loop: requests come
 * as a Poisson process of `rate`, whatever the server does; times then count from when a request
 * was due, so that a stalled server or a late generator makes figures worse, never better.
 *
 * One thread, one event loop. Timestamps are taken when bytes are read from the socket. */
#ifndef CLI_LOAD_H
#define CLI_LOAD_H

#include "cli/load_hist.h"
#include "cli/load_text.h"
#include "cli/load_url.h"

/* Limits. */
enum {
    LOAD_CLIENTS_MAX = 1024, /* requests in flight; of an open loop, past it a request fails */
    LOAD_ERRORS_MAX = 16,    /* different errors told apart; the rest count as "other" */
    LOAD_GIVE_UP = 32,       /* failures without one success: no more is sent */
    LOAD_REPLY_BYTES_MAX = 64 << 20,
    LOAD_BEAT_MS = 10, /* how often the generator times itself */
};

struct load_conf {
    struct load_url url;
    struct load_trust trust;
    struct load_text text; /* model "" = the first that the server lists */
    const char *key;       /* NULL = none */
    uint32_t n_clients;    /* closed loop */
    double rate;           /* requests per second; 0 = closed loop */
    uint64_t n_requests;
    uint64_t seconds_max; /* no request is started after that; 0 = no limit */
    uint64_t timeout_ms;  /* to the first byte, and between pieces */
};

struct load_error {
    char what[160];
    uint64_t n;
};

struct load_report {
    char model[256];
    uint64_t n_ok, n_failed;
    struct load_error errors[LOAD_ERRORS_MAX];
    uint32_t n_errors;
    bool interrupted; /* Ctrl-C */
    bool usage_told;  /* every answer said its tokens; else pieces of text are counted */
    uint64_t prompt_tokens, completion_tokens, n_texts; /* of what ended well */
    double wall_s;                       /* first request sent to last answer's end */
    double cpu_s;                        /* that the generator itself took meanwhile */
    struct load_hist ttft, gap, latency; /* first text; between pieces; whole answer */
    struct load_hist beat_late;          /* how late a 10 ms timer of the generator came */
};

/* Runs to its end, or to Ctrl-C. *r is large: not for the stack. Failed requests are counted in
 * *r; RC is for what kept it from starting: the address, the list of models. */
RC load_run(const struct load_conf *conf, struct load_report *r, struct err *err);

#endif
