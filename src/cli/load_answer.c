/* load_answer.c: see load_answer.h. */
#include "cli/load_answer.h"

#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"
#include "cli/print.h"
#include "net/http_head.h"

/* Members of a choice or its delta that hold generated text. */
static const char *const load_text_members[] = {"content", "text", "reasoning_content", "reasoning",
                                                "tool_calls"};

static bool load_answer_text_in(const struct json *o)
{
    for (size_t i = 0; o != NULL && i < ARRAY_LEN(load_text_members); i++) {
        const struct json *m = json_get_present(o, load_text_members[i]);
        if (m != NULL &&
            ((m->type == JSON_STRING && m->text.len > 0) || (m->type == JSON_ARRAY && m->n > 0))) {
            return true;
        }
    }
    return false;
}

static uint64_t load_answer_count(const struct json *usage, const char *name)
{
    int64_t value;
    const struct json *n = json_get_present(usage, name);
    return n != NULL && json_to_i64(n, &value) && value > 0 ? (uint64_t)value : 0;
}

static struct str load_answer_message(const struct json *root)
{
    const struct json *e = json_get_present(root, "error");
    const struct json *m = e != NULL ? json_get_present(e, "message") : NULL;
    m = m == NULL && e != NULL && e->type == JSON_STRING ? e : m;
    return m != NULL && m->type == JSON_STRING ? m->text : STR_NULL;
}

enum rc load_answer_parse(struct load_answer *out, struct str json, struct arena *arena,
                          struct err *err)
{
    const struct json *root = NULL;
    *out = (struct load_answer){0};
    arena_reset(arena);
    enum rc rc = json_parse(json, arena, &root, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (root->type != JSON_OBJECT) {
        return err_set(err, RC_SYNTAX, "the answer is no JSON object");
    }
    if (json_get_present(root, "error") != NULL) {
        struct str said = load_answer_message(root);
        said = said.len > 0 ? said : STR_LIT("an error without a message");
        return err_set(err, RC_UPSTREAM, "%.*s", (int)MIN(said.len, (size_t)100), said.ptr);
    }
    const struct json *choices = json_get_present(root, "choices");
    if (choices != NULL && choices->type == JSON_ARRAY) {
        JSON_EACH(choices, c)
        {
            out->has_text = out->has_text || load_answer_text_in(c) ||
                            load_answer_text_in(json_get_present(c, "delta")) ||
                            load_answer_text_in(json_get_present(c, "message"));
        }
    }
    const struct json *usage = json_get_present(root, "usage");
    if (usage != NULL) {
        out->has_usage = true;
        out->prompt_tokens = load_answer_count(usage, "prompt_tokens");
        out->completion_tokens = load_answer_count(usage, "completion_tokens");
    }
    return RC_OK;
}

void load_answer_error(char out[LOAD_ERROR_BYTES_MAX], int status, struct str body,
                       struct arena *arena)
{
    const struct json *root = NULL;
    struct str said = STR_NULL;
    arena_reset(arena);
    if (json_parse(body, arena, &root, NULL) == RC_OK) {
        said = load_answer_message(root);
    }
    struct buf text;
    buf_init(&text, 1 << 12);
    buf_add_printf(&text, "%d %s", status, http_status_text(status));
    if (said.len > 0) {
        buf_add_cstr(&text, ": ");
        print_escaped(&text, said, 100);
    }
    (void)str_copy(out, LOAD_ERROR_BYTES_MAX, buf_str(&text));
    buf_deinit(&text);
}

enum rc load_answer_model(char *out, size_t out_bytes, struct str body, struct arena *arena,
                          struct err *err)
{
    const struct json *root = NULL;
    arena_reset(arena);
    enum rc rc = json_parse(body, arena, &root, err);
    if (rc != RC_OK) {
        return rc;
    }
    const struct json *data = json_get_present(root, "data");
    const struct json *first = data != NULL && data->type == JSON_ARRAY ? data->first : NULL;
    const struct json *id = first != NULL ? json_get_present(first, "id") : NULL;
    if (id == NULL || id->type != JSON_STRING || id->text.len == 0) {
        return err_set(err, RC_NOT_FOUND, "the server lists no models: name one with --model");
    }
    if (!str_copy(out, out_bytes, id->text)) {
        return err_set(err, RC_TOO_LARGE, "the server's first model has too long a name");
    }
    return RC_OK;
}
