/* stream.c: see stream.h. Shapes: OpenAI's API reference, chat completion and completion objects
 * and their chunks. A whole reply and an event differ in the object's name, and in message against
 * delta. */
#include "api/stream.h"

#include <math.h>
#include <stdio.h>

#include "api/fail.h"
#include "base/assert.h"
#include "base/json.h"

enum { TOKEN_NAME_BYTES_MAX = 1024 };

static const char *const finish_names[] = {NULL, "stop", "length", "tool_calls", "content_filter"};
_Static_assert(ARRAY_LEN(finish_names) == API_FINISH_N, "every reason has a name");

const char *api_finish_name(enum api_finish finish)
{
    ASSERT((size_t)finish < ARRAY_LEN(finish_names));
    return finish_names[finish];
}

/* ---- shared parts ---- */

static void begin_object(struct json_writer *w, struct buf *out, const struct api_head *head,
                         bool event)
{
    bool chat = head->kind == API_KIND_CHAT;
    json_write_init(w, out);
    json_write_object_begin(w);
    json_write_member_str(w, "id", head->id);
    json_write_member_cstr(w, "object",
                           !chat   ? "text_completion"
                           : event ? "chat.completion.chunk"
                                   : "chat.completion");
    json_write_member_i64(w, "created", head->created);
    json_write_member_str(w, "model", head->model);
    json_write_member_cstr(w, "system_fingerprint", "bud-" BUD_VERSION);
}

static void write_finish(struct json_writer *w, enum api_finish finish)
{
    const char *name = api_finish_name(finish);
    if (name == NULL) {
        json_write_member_null(w, "finish_reason");
    } else {
        json_write_member_cstr(w, "finish_reason", name);
    }
}

static void write_usage(struct json_writer *w, const struct api_usage *usage)
{
    uint64_t total = (uint64_t)usage->prompt_tokens + usage->completion_tokens;
    json_write_name(w, "usage");
    json_write_object_begin(w);
    json_write_member_u64(w, "prompt_tokens", usage->prompt_tokens);
    json_write_member_u64(w, "completion_tokens", usage->completion_tokens);
    json_write_member_u64(w, "total_tokens", total);
    json_write_name(w, "prompt_tokens_details");
    json_write_object_begin(w);
    json_write_member_u64(w, "cached_tokens", usage->cached_tokens);
    json_write_member_u64(w, "audio_tokens", 0);
    json_write_object_end(w);
    json_write_name(w, "completion_tokens_details");
    json_write_object_begin(w);
    json_write_member_u64(w, "reasoning_tokens", usage->reasoning_tokens);
    json_write_member_u64(w, "audio_tokens", 0);
    json_write_member_u64(w, "accepted_prediction_tokens", 0);
    json_write_member_u64(w, "rejected_prediction_tokens", 0);
    json_write_object_end(w);
    json_write_object_end(w);
}

/* ---- log-probabilities ---- */

/* JSON has no infinity; clients know OpenAI's stand-in for "almost never". */
static double finite_logprob(float logprob)
{
    return isfinite(logprob) ? (double)logprob : -9999.0;
}

/* A token as text. Bytes that are not whole UTF-8 are spelled "\xe2\x82" behind `prefix`, as
 * OpenAI does, so that two such tokens stay two. `room` holds the spelling. */
static struct str token_text(struct str bytes, const char *prefix, char room[TOKEN_NAME_BYTES_MAX])
{
    if (str_utf8_valid(bytes)) {
        return bytes;
    }
    size_t len = (size_t)snprintf(room, TOKEN_NAME_BYTES_MAX, "%s", prefix);
    for (size_t i = 0; i < bytes.len && len + 5 < TOKEN_NAME_BYTES_MAX; i++) {
        int n = snprintf(room + len, TOKEN_NAME_BYTES_MAX - len, "\\x%02x",
                         (unsigned char)bytes.ptr[i]);
        len += (size_t)n;
    }
    return str_make(room, len);
}

/* The members token, logprob and bytes of an open object. */
static void write_chat_token(struct json_writer *w, struct str bytes, float logprob)
{
    char room[TOKEN_NAME_BYTES_MAX];
    json_write_member_str(w, "token", token_text(bytes, "", room));
    json_write_member_f64(w, "logprob", finite_logprob(logprob));
    json_write_name(w, "bytes");
    json_write_array_begin(w);
    for (size_t i = 0; i < bytes.len; i++) {
        json_write_u64(w, (unsigned char)bytes.ptr[i]);
    }
    json_write_array_end(w);
}

static void write_chat_logprobs(struct json_writer *w, const struct api_piece *piece)
{
    json_write_name(w, "content");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < piece->n_logprobs; i++) {
        const struct api_logprob *lp = &piece->logprobs[i];
        json_write_object_begin(w);
        write_chat_token(w, lp->bytes, lp->logprob);
        json_write_name(w, "top_logprobs");
        json_write_array_begin(w);
        for (uint32_t t = 0; t < lp->n_top; t++) {
            json_write_object_begin(w);
            write_chat_token(w, lp->top[t].bytes, lp->top[t].logprob);
            json_write_object_end(w);
        }
        json_write_array_end(w);
        json_write_object_end(w);
    }
    json_write_array_end(w);
    json_write_member_null(w, "refusal");
}

/* Whether one of the first n alternatives has the same text: an object names it once. */
static bool named_before(const struct api_logprob *lp, uint32_t n, struct str bytes)
{
    for (uint32_t i = 0; i < n; i++) {
        if (str_eq(lp->top[i].bytes, bytes)) {
            return true;
        }
    }
    return false;
}

/* {" the":-0.1,…}: the alternatives, and the chosen token when it is not among them. */
static void write_top_object(struct json_writer *w, const struct api_logprob *lp)
{
    char room[TOKEN_NAME_BYTES_MAX];
    json_write_object_begin(w);
    for (uint32_t t = 0; t < lp->n_top; t++) {
        if (!named_before(lp, t, lp->top[t].bytes)) {
            json_write_name_str(w, token_text(lp->top[t].bytes, "bytes:", room));
            json_write_f64(w, finite_logprob(lp->top[t].logprob));
        }
    }
    if (!named_before(lp, lp->n_top, lp->bytes)) {
        json_write_name_str(w, token_text(lp->bytes, "bytes:", room));
        json_write_f64(w, finite_logprob(lp->logprob));
    }
    json_write_object_end(w);
}

static void write_completion_logprobs(struct json_writer *w, const struct api_piece *piece)
{
    char room[TOKEN_NAME_BYTES_MAX];
    json_write_name(w, "tokens");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < piece->n_logprobs; i++) {
        json_write_str(w, token_text(piece->logprobs[i].bytes, "bytes:", room));
    }
    json_write_array_end(w);
    json_write_name(w, "token_logprobs");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < piece->n_logprobs; i++) {
        const struct api_logprob *lp = &piece->logprobs[i];
        json_write_f64(w, lp->none ? NAN : finite_logprob(lp->logprob)); /* NaN becomes null */
    }
    json_write_array_end(w);
    json_write_name(w, "top_logprobs");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < piece->n_logprobs; i++) {
        if (piece->logprobs[i].none) {
            json_write_null(w);
        } else {
            write_top_object(w, &piece->logprobs[i]);
        }
    }
    json_write_array_end(w);
    json_write_name(w, "text_offset");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < piece->n_logprobs; i++) {
        json_write_u64(w, piece->logprobs[i].text_offset);
    }
    json_write_array_end(w);
}

static void write_logprobs(struct json_writer *w, enum api_kind kind, const struct api_piece *piece)
{
    if (!piece->has_logprobs) {
        json_write_member_null(w, "logprobs");
        return;
    }
    json_write_name(w, "logprobs");
    json_write_object_begin(w);
    if (kind == API_KIND_CHAT) {
        write_chat_logprobs(w, piece);
    } else {
        write_completion_logprobs(w, piece);
    }
    json_write_object_end(w);
}

/* ---- choices ---- */

static void write_message(struct json_writer *w, const struct api_piece *piece)
{
    json_write_name(w, "message");
    json_write_object_begin(w);
    json_write_member_cstr(w, "role", "assistant");
    json_write_member_str(w, "content", piece->text);
    json_write_member_null(w, "refusal");
    json_write_object_end(w);
}

/* The closing piece's delta is empty when it brings no text. */
static void write_delta(struct json_writer *w, const struct api_piece *piece)
{
    json_write_name(w, "delta");
    json_write_object_begin(w);
    if (piece->first) {
        json_write_member_cstr(w, "role", "assistant");
    }
    if (piece->first || piece->text.len > 0 || piece->finish == API_FINISH_NONE) {
        json_write_member_str(w, "content", piece->text);
    }
    json_write_object_end(w);
}

static void write_choice(struct json_writer *w, const struct api_head *head,
                         const struct api_piece *piece, bool event)
{
    json_write_object_begin(w);
    json_write_member_u64(w, "index", piece->index);
    if (head->kind == API_KIND_COMPLETION) {
        json_write_member_str(w, "text", piece->text);
    } else if (event) {
        write_delta(w, piece);
    } else {
        write_message(w, piece);
    }
    write_logprobs(w, head->kind, piece);
    write_finish(w, piece->finish);
    json_write_object_end(w);
}

void api_reply_write(struct buf *out, const struct api_head *head, const struct api_piece *choices,
                     uint32_t n_choices, const struct api_usage *usage)
{
    struct json_writer w;
    begin_object(&w, out, head, false);
    json_write_name(&w, "choices");
    json_write_array_begin(&w);
    for (uint32_t i = 0; i < n_choices; i++) {
        write_choice(&w, head, &choices[i], false);
    }
    json_write_array_end(&w);
    write_usage(&w, usage);
    json_write_object_end(&w);
}

/* ---- events ---- */

static void begin_event(struct buf *out)
{
    buf_add_cstr(out, "data: ");
}

static void end_event(struct buf *out)
{
    buf_add_cstr(out, "\n\n");
}

void api_stream_piece(struct buf *out, const struct api_head *head, const struct api_piece *piece)
{
    struct json_writer w;
    begin_event(out);
    begin_object(&w, out, head, true);
    json_write_name(&w, "choices");
    json_write_array_begin(&w);
    write_choice(&w, head, piece, true);
    json_write_array_end(&w);
    if (head->include_usage) {
        json_write_member_null(&w, "usage");
    }
    json_write_object_end(&w);
    end_event(out);
}

void api_stream_usage(struct buf *out, const struct api_head *head, const struct api_usage *usage)
{
    struct json_writer w;
    begin_event(out);
    begin_object(&w, out, head, true);
    json_write_name(&w, "choices");
    json_write_array_begin(&w);
    json_write_array_end(&w);
    write_usage(&w, usage);
    json_write_object_end(&w);
    end_event(out);
}

void api_stream_done(struct buf *out)
{
    buf_add_cstr(out, "data: [DONE]\n\n");
}

void api_stream_fail(struct buf *out, const struct err *err)
{
    begin_event(out);
    api_fail_write(out, err);
    end_event(out);
}

void api_stream_ping(struct buf *out)
{
    buf_add_cstr(out, ": ping\n\n");
}
