/* cmd_explain.c: `bud explain REQUEST_ID`: why a request went as it did, from the local store. */
#include <stdio.h>
#include <time.h>

#include "cli/commands.h"
#include "cli/front.h"
#include "cli/print.h"
#include "stores/meta_usage.h"

enum { EXPLAIN_TEXT_BYTES = 1 << 20, EXPLAIN_ARENA_BYTES = 1 << 20 };

static const struct args_row cmd_explain_options[] = {
    {"--json", 0, NULL, "print the decision record as JSON"},
    {0},
};

/* ---- members of the record; what is not there prints as nothing ---- */

static struct str explain_text(const struct json *parent, const char *name)
{
    const struct json *v = parent != NULL ? json_get_present(parent, name) : NULL;
    return v != NULL && (v->type == JSON_STRING || v->type == JSON_NUMBER) ? v->text : STR_LIT("");
}

static void explain_add(struct buf *out, const char *before, const struct json *parent,
                        const char *name)
{
    buf_add_cstr(out, before);
    print_escaped(out, explain_text(parent, name), 200);
}

/* ---- for people ---- */

static void explain_head(struct buf *out, const struct json *root)
{
    int64_t at_ms = 0;
    char when[32] = "";
    struct tm tm;
    const struct json *at = json_get_present(root, "at_ms");
    time_t at_s = at != NULL && json_to_i64(at, &at_ms) ? at_ms / 1000 : 0;
    if (gmtime_r(&at_s, &tm) != NULL) {
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    explain_add(out, "request  ", root, "request_id");
    buf_add_printf(out, " at %s", when);
    explain_add(out, ", ", root, "key");
    if (explain_text(root, "project").len > 0) {
        explain_add(out, ", project ", root, "project");
    }
    explain_add(out, "\nanswer   ", root, "http_status");
    explain_add(out, " in ", json_get_present(root, "ms"), "total");
    buf_add_cstr(out, " ms");
    if (explain_text(root, "error").len > 0) {
        explain_add(out, ": ", root, "error");
        explain_add(out, ": ", root, "message");
    }
}

static void explain_limits(struct buf *out, const struct json *limits)
{
    const struct json *refused = limits != NULL ? json_get_present(limits, "refused") : NULL;
    explain_add(out, "\nlimits   asked for ", limits, "asked_output_tokens");
    if (refused != NULL) {
        explain_add(out, " tokens of output; refused by ", refused, "by");
        explain_add(out, ": ", refused, "limit");
        explain_add(out, " is ", refused, "is");
        explain_add(out, ", left ", refused, "left");
        explain_add(out, ", again in ", refused, "retry_ms");
        buf_add_cstr(out, " ms");
        return;
    }
    explain_add(out, " tokens of output, granted ", limits, "granted_output_tokens");
    explain_add(out, "; prompt and output at most ", limits, "budget_tokens");
    buf_add_cstr(out, " (0 = no limit)");
}

static void explain_server(struct buf *out, const struct json *server)
{
    const struct json *tried = server != NULL ? json_get_present(server, "tried") : NULL;
    explain_add(out, "\nserver   ", server, "name");
    explain_add(out, " by ", server, "balance");
    explain_add(out, ": ", server, "well");
    explain_add(out, " of ", server, "of");
    explain_add(out, " were well, ", server, "outstanding");
    buf_add_cstr(out, " requests under way there");
    if (tried == NULL || tried->type != JSON_ARRAY) {
        return;
    }
    JSON_EACH(tried, t)
    {
        explain_add(out, "\n  tried  ", t, "server");
        explain_add(out, ": ", t, "http_status");
        explain_add(out, " in ", t, "ms");
        buf_add_cstr(out, " ms");
        if (explain_text(t, "broke").len > 0) {
            explain_add(out, ", broke: ", t, "broke");
        }
    }
}

static void explain_people(struct buf *out, const struct json *root)
{
    const struct json *model = json_get_present(root, "model");
    const struct json *usage = json_get_present(root, "usage");
    const struct json *ms = json_get_present(root, "ms");
    explain_head(out, root);
    explain_add(out, "\nmodel    ", model, "asked");
    explain_add(out, " -> ", model, "used");
    explain_add(out, ", version ", model, "version");
    explain_add(out, ": ", model, "why");
    explain_limits(out, json_get_present(root, "limits"));
    explain_server(out, json_get_present(root, "server"));
    buf_add_cstr(out, "\ntimes   ");
    if (ms != NULL && ms->type == JSON_OBJECT) {
        JSON_EACH(ms, v)
        {
            buf_add_printf(out, " %.*s %.*s", STR(v->name), STR(v->text));
        }
    }
    explain_add(out, " ms\nusage    ", usage, "prompt_tokens");
    explain_add(out, " + ", usage, "output_tokens");
    explain_add(out, " tokens, ", usage, "cached_tokens");
    explain_add(out, " of them from a cache; cost ", usage, "cost_nano");
    buf_add_cstr(out, " billionths\n");
}

static enum rc explain_print(struct str record, struct err *err)
{
    struct arena arena;
    struct buf out;
    const struct json *root = NULL;
    arena_init(&arena, EXPLAIN_ARENA_BYTES);
    buf_init(&out, EXPLAIN_TEXT_BYTES);
    enum rc rc = json_parse(record, &arena, &root, err);
    if (rc == RC_OK) {
        explain_people(&out, root);
        rc = print_buf(&out, err);
    }
    buf_deinit(&out);
    arena_deinit(&arena);
    return rc;
}

/* ---- the command ---- */

static enum rc explain_show(struct meta *m, const struct args *a, struct err *err)
{
    struct buf record;
    buf_init(&record, EXPLAIN_TEXT_BYTES);
    enum rc rc = meta_decision_find(m, str_from(args_word(a, 0)), &record, err);
    if (rc == RC_OK && args_has(a, "--json")) {
        buf_add_byte(&record, '\n');
        rc = print_buf(&record, err);
    } else if (rc == RC_OK) {
        rc = explain_print(buf_str(&record), err);
    }
    buf_deinit(&record);
    return rc;
}

static enum rc cmd_explain_main(const struct args *a, struct err *err)
{
    struct front_stores s = {0};
    enum rc rc = front_stores_open_settled(&s, err);
    rc = rc == RC_OK ? explain_show(s.meta, a, err) : rc;
    front_stores_close(&s);
    return rc;
}

const struct command cmd_explain = {
    .name = "explain",
    .words = "REQUEST_ID",
    .line = "Why a request went as it did: version, server, limit, attempts, times",
    .help = "The id is an answer's x-request-id. Kept are failed and slow requests and up to ten "
            "others\n"
            "a second, 20,000 in all.\n",
    .options = cmd_explain_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_explain_main,
};
