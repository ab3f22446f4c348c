/* request.h: one generation request in work, from its body to its last byte; private to the
 * server's loop (intake.c fills it, reply.c answers it).
 *
 * Lives while the exchange is open, a worker prepares it, or one of its jobs has not finished:
 * n_holds counts these; the last to leave frees it. Body and parsed form are only needed until the
 * jobs are submitted: they go back then, so that a long answer holds little. */
#ifndef SERVER_REQUEST_H
#define SERVER_REQUEST_H

#include "api/chat.h"
#include "api/complete.h"
#include "api/link.h"
#include "api/stream.h"
#include "net/http_server.h"
#include "server/body.h"
#include "server/server_private.h"

/* One answer of the request: choice `index`, made by one job. */
struct choice {
    struct request *request;
    uint32_t index;
    struct job *job; /* NULL once its finish was taken */
    bool started;    /* streams: its first piece was sent */
    bool waiting;    /* streams: has news, but the client is behind */
    enum api_finish finish;
    struct buf text;  /* whole replies: all text so far */
    uint32_t n_chars; /* of echo and of the tokens told so far: the next one's text_offset */
    uint32_t n_output, n_cached;
    /* whole replies with logprobs: kept until the end */
    struct job_token *tokens;
    uint32_t n_tokens, n_room;
};

struct request {
    struct server *server;
    struct http_exchange *x; /* NULL once closed */
    struct served_model *model;
    uint32_t n_holds;
    enum api_kind kind;
    bool stream, begun, failed;
    struct api_link link;
    char id[SERVER_ID_BYTES];
    int64_t created_s;
    uint64_t arrived_ns; /* monotonic */
    struct arena arena;  /* the parsed request, prompts; with echo until the end, see below */
    struct arena news;   /* one event's parts; reset after each */
    struct body body;    /* goes back with the arena */
    union {
        struct api_chat_request chat;
        struct api_complete_request complete;
    };
    const struct api_generate *gen; /* its strings and arrays go back with the arena */
    struct token_list *prompts;     /* n_prompts, by the worker; as above */
    struct str *prompt_texts;       /* completions with echo */
    uint32_t n_prompts, n_prompt_tokens;
    struct choice *choices;
    uint32_t n_choices, n_finished;
    enum rc work_rc; /* of the worker */
    struct err err;
};

/* intake.c: answers the request or starts its work. */
void intake_generate(struct server *s, struct http_exchange *x, enum api_kind kind);

/* reply.c */
/* Takes and passes on what a choice's job has to say. */
void reply_update(struct choice *c);
/* The client can take more, or is gone: choices that waited go on. */
void reply_waiting(struct request *r);
/* Answers with an error, or ends a begun stream with one; cancels what still runs. */
void reply_fail(struct request *r, const struct err *err);
/* Sends an error as a whole reply. */
void reply_send_error(struct http_exchange *x, const struct err *err);
/* Sends a whole JSON reply. */
void reply_send_json(struct http_exchange *x, const struct buf *body);
void request_cancel_jobs(struct request *r);
void request_put(struct request *r);

#endif
