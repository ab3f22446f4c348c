/* cmd_explain.c: `bud explain REQUEST_ID`: why a request went as it did, by the store of this
 * machine or of a server. */
#include <stdio.h>
#include <time.h>

#include "cli/administer.h"
#include "cli/commands.h"
#include "cli/print.h"

enum { EXPLAIN_TEXT_BYTES = 1 << 20, EXPLAIN_TARGET_BYTES = 4096 };

static const struct args_row cmd_explain_options[] = {
    ADMINISTER_OPTIONS,
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

/* ---- the command ---- */

static enum rc explain_print(const struct json *record, bool as_json, struct err *err)
{
    struct buf out;
    struct json_writer w;
    buf_init(&out, EXPLAIN_TEXT_BYTES);
    if (as_json) {
        json_write_init(&w, &out);
        json_write_value(&w, record);
        buf_add_byte(&out, '\n');
    } else {
        explain_people(&out, record);
    }
    enum rc rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

static enum rc explain_show(struct administer *ad, const struct args *a, struct err *err)
{
    const struct json *answer = NULL;
    struct buf target;
    buf_init(&target, EXPLAIN_TARGET_BYTES);
    buf_add_cstr(&target, "/admin/v1/requests/");
    administer_add_name(&target, args_word(a, 0));
    enum rc rc = buf_ok(&target) && args_word(a, 0)[0] != '\0'
                     ? administer_call(ad, HTTP_METHOD_GET, target.ptr, STR_NULL, &answer, err)
                     : err_set(err, RC_INVALID, "that is no request's id");
    const struct json *record = rc == RC_OK ? json_get_present(answer, "decision") : NULL;
    if (rc == RC_OK && record == NULL) {
        rc = err_set(err, RC_NOT_FOUND,
                     "nothing is kept of why %s went as it did; `bud usage --records --request-id "
                     "%s` tells what it used",
                     args_word(a, 0), args_word(a, 0));
    }
    rc = rc == RC_OK ? explain_print(record, args_has(a, "--json"), err) : rc;
    buf_deinit(&target);
    return rc;
}

static enum rc cmd_explain_main(const struct args *a, struct err *err)
{
    struct administer *ad = NULL;
    enum rc rc = administer_open_settled(&ad, a, err);
    rc = rc == RC_OK ? explain_show(ad, a, err) : rc;
    administer_close(ad);
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
