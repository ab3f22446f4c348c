/* ask.h: HTTP requests on raw sockets and their answers taken apart, for tests of server and
 * gateway from the outside. */
#ifndef TESTS_ASK_H
#define TESTS_ASK_H

#include "10_module/net/raw.h"
#include "base/json.h"

/* Sanitizers make the engine slow. */
#define ASK_WAIT_MS 60000

struct answer {
    struct buf bytes; /* as they came */
    struct buf body;  /* without chunk framing */
    int status;       /* 0 = no head came */
    bool whole;       /* the body came to its end */
    struct arena arena;
    const struct json *json; /* NULL when the body is none */
};

static inline void answer_free(struct answer *a)
{
    buf_deinit(&a->bytes);
    buf_deinit(&a->body);
    arena_deinit(&a->arena);
}

/* Sends a request that asks to close the connection; `headers` are whole lines, or "". */
static inline int ask_send(const struct addr *to, const char *start, const char *headers,
                           struct str body)
{
    struct buf out;
    int fd = raw_connect(to);
    buf_init(&out, 128 << 20);
    buf_add_printf(&out, "%s HTTP/1.1\r\nhost: test\r\nconnection: close\r\n%s", start, headers);
    if (body.len > 0) {
        buf_add_printf(&out, "content-length: %zu\r\n", body.len);
    }
    buf_add_cstr(&out, "\r\n");
    buf_add_str(&out, body);
    raw_send(fd, buf_str(&out)); /* refused bodies are not taken whole */
    buf_deinit(&out);
    return fd;
}

static inline void answer_unchunk(struct answer *a, struct str rest)
{
    while (rest.len > 0) {
        size_t eol = str_find(rest, STR_LIT("\r\n"));
        char text[20] = "";
        str_copy(text, sizeof(text), str_slice(rest, 0, eol));
        size_t n = strtoul(text, NULL, 16);
        rest = str_slice(rest, eol + 2, rest.len);
        a->whole = n == 0 && eol > 0;
        if (a->whole || rest.len < n + 2) {
            return;
        }
        buf_add_str(&a->body, str_slice(rest, 0, n));
        rest = str_slice(rest, n + 2, rest.len);
    }
}

/* Reads the answer to the end of the connection and closes it. */
static inline void ask_read(int fd, struct answer *a)
{
    memset(a, 0, sizeof(*a));
    buf_init(&a->bytes, 128 << 20);
    buf_init(&a->body, 128 << 20);
    arena_init(&a->arena, 256 << 20);
    int n;
    while ((n = raw_read(fd, &a->bytes, ASK_WAIT_MS)) > 0) {}
    bool ended = n == 0;
    close(fd);
    struct str all = buf_str(&a->bytes);
    size_t head = str_find(all, STR_LIT("\r\n\r\n"));
    if (head == all.len) {
        return;
    }
    a->status = (int)strtol(all.ptr + 9, NULL, 10);
    struct str rest = str_slice(all, head + 4, all.len);
    if (str_find(str_slice(all, 0, head), STR_LIT("chunked")) < head) {
        answer_unchunk(a, rest);
    } else {
        buf_add_str(&a->body, rest);
        a->whole = ended;
    }
    if (json_parse(buf_str(&a->body), &a->arena, &a->json, NULL) != RC_OK) {
        a->json = NULL;
    }
}

static inline void ask(const struct addr *to, const char *start, const char *headers,
                       const char *body, struct answer *a)
{
    ask_read(ask_send(to, start, headers, str_from(body)), a);
}

/* The value at a path of member names and indices ("choices.0.text"); fails when absent. */
static inline const struct json *answer_at(const struct json *j, const char *path)
{
    struct str rest = str_from(path);
    while (j != NULL && rest.len > 0) {
        char name[64];
        uint64_t idx;
        struct str step = str_cut(&rest, '.');
        str_copy(name, sizeof(name), step);
        if (j->type == JSON_ARRAY) {
            assert_true(str_to_u64(step, &idx));
            j = j->first;
            for (; j != NULL && idx > 0; idx--) {
                j = j->next;
            }
        } else {
            j = json_get(j, name);
        }
    }
    if (j == NULL) {
        fail_msg("no %s in the answer", path);
    }
    return j;
}

static inline int64_t answer_i64(const struct json *j, const char *path)
{
    int64_t n = 0;
    assert_true(json_to_i64(answer_at(j, path), &n));
    return n;
}

/* The data of the next event in *rest, or false. */
static inline bool answer_next_event(struct str *rest, struct str *data)
{
    while (rest->len > 0) {
        size_t end = str_find(*rest, STR_LIT("\n\n"));
        struct str block = str_slice(*rest, 0, end);
        *rest = str_slice(*rest, end + 2, rest->len);
        while (str_starts(block, STR_LIT(": ")) || str_starts(block, STR_LIT("id: "))) {
            block = str_slice(block, str_find(block, STR_LIT("\n")) + 1, block.len);
        }
        if (str_starts(block, STR_LIT("data: "))) {
            *data = str_slice(block, 6, block.len);
            return true;
        }
    }
    return false;
}

/* The data of the idx-th event of a stream's body, in the answer's arena; NULL when there is none.
 */
static inline const char *answer_event(struct answer *a, int idx)
{
    struct str rest = buf_str(&a->body), data;
    while (answer_next_event(&rest, &data)) {
        if (idx-- == 0) {
            return arena_str(&a->arena, data).ptr;
        }
    }
    return NULL;
}

static inline int answer_n_events(const struct answer *a)
{
    struct str rest = buf_str(&a->body), data;
    int n = 0;
    while (answer_next_event(&rest, &data)) {
        n++;
    }
    return n;
}

#endif
