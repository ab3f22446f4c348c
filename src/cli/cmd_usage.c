/* cmd_usage.c: `bud usage`: what requests used and cost, here or at a server. Here, what a process
 * that died has left open is settled first; a running one's records are there within a second. */
#include <stdio.h>

#include "base/conf.h"
#include "cli/administer.h"
#include "cli/commands.h"
#include "cli/print.h"
#include "stores/meta_usage.h"

enum { USAGE_TEXT_BYTES = 64 << 20, USAGE_TARGET_BYTES = 8192 };

static const struct args_row cmd_usage_options[] = {
    {"--by", 'b', "NAMES", "day, key, user, project, model, upstream, status (default: model)"},
    {"--from", 0, "DAY", "as 2026-11-23, or seconds since 1970"},
    {"--to", 0, "DAY", "that day included"},
    {"--key", 'k', "ID", "of one key only"},
    {"--user", 'u', "NAME", "of one user only"},
    {"--project", 'p', "NAME", "of one project only"},
    {"--model", 'm', "NAME", "of one model only"},
    {"--upstream", 0, "NAME", "of one server only"},
    {"--status", 0, "WORD", "ok, failed, cancelled or interrupted"},
    {"--request-id", 'r', "ID", "of one request"},
    {"--limit", 'l', "N", "rows at most (default 10000)"},
    {"--records", 0, NULL, "single requests, the newest first, instead of sums"},
    ADMINISTER_OPTIONS,
    {0},
};

/* ---- what is asked for ---- */

/* Checked here: the same words mean the same, whoever answers. */
static enum rc usage_target(const struct args *a, struct buf *target, uint32_t *by, struct err *err)
{
    static const char *const names[][2] = {
        {"--by", "by"},
        {"--from", "from"},
        {"--to", "to"},
        {"--key", "key"},
        {"--user", "user"},
        {"--project", "project"},
        {"--model", "model"},
        {"--upstream", "upstream"},
        {"--status", "status"},
        {"--limit", "limit"},
        {"--request-id", "request_id"},
    };
    struct meta_usage_query q = {.by = META_USAGE_BY_MODEL};
    enum rc rc = RC_OK;
    buf_add_printf(target, "/admin/v1/usage?records=%s",
                   args_has(a, "--records") ? "true" : "false");
    for (size_t i = 0; rc == RC_OK && i < ARRAY_LEN(names); i++) {
        const char *value = args_str(a, names[i][0], NULL);
        if (value != NULL) {
            rc = meta_usage_query_set(&q, names[i][1], str_from(value), err);
            buf_add_printf(target, "&%s=", names[i][1]);
            administer_add_name(target, value);
        }
    }
    *by = q.by;
    return rc == RC_OK && !buf_ok(target) ? err_set(err, RC_TOO_LARGE, "the words are too long")
                                          : rc;
}

/* ---- for people ---- */

static void usage_cell(struct buf *out, const struct json *row, const char *name, int width)
{
    char text[128];
    struct buf clean;
    buf_init(&clean, 4096);
    administer_member(row, name, text);
    print_escaped(&clean, str_from(text[0] != '\0' ? text : "-"), 40);
    buf_add_printf(out, "%-*s ", width, clean.ptr != NULL ? clean.ptr : "");
    buf_deinit(&clean);
}

static void usage_number(struct buf *out, const struct json *row, const char *name, int width)
{
    buf_add_printf(out, "%*lld ", width, (long long)administer_number(row, name));
}

static void usage_money(struct buf *out, const struct json *row)
{
    struct buf text;
    buf_init(&text, 64);
    conf_money_write(&text, administer_number(row, "cost_nano"));
    buf_add_printf(out, "%14s\n", text.ptr);
    buf_deinit(&text);
}

/* Ids of keys are the longest names. */
static int usage_width(uint32_t i)
{
    return i == 0 ? 10 : 1u << i == META_USAGE_BY_KEY ? 30 : 20;
}

static void usage_sum_row(struct buf *out, const struct json *row, uint32_t by)
{
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        if ((by & 1u << i) != 0) {
            usage_cell(out, row, meta_usage_by_name(i), usage_width(i));
        }
    }
    usage_number(out, row, "requests", 9);
    usage_number(out, row, "failed", 7);
    usage_number(out, row, "prompt_tokens", 12);
    usage_number(out, row, "cached_tokens", 12);
    usage_number(out, row, "output_tokens", 12);
    usage_money(out, row);
}

static void usage_record_row(struct buf *out, const struct json *row)
{
    const struct json *estimated = json_get_present(row, "estimated");
    usage_cell(out, row, "request_id", 36);
    usage_cell(out, row, "status", 11);
    usage_cell(out, row, "model", 20);
    usage_cell(out, row, "key", 30);
    usage_number(out, row, "duration_ms", 8);
    usage_number(out, row, "prompt_tokens", 9);
    buf_add_printf(out, "%9lld%c", (long long)administer_number(row, "output_tokens"),
                   estimated != NULL && estimated->boolean ? '~' : ' ');
    usage_money(out, row);
}

static void usage_heads(struct buf *out, uint32_t by, bool records)
{
    static const char *const heads[META_USAGE_BY_N] = {"DAY",   "KEY",      "USER",  "PROJECT",
                                                       "MODEL", "UPSTREAM", "STATUS"};
    if (records) {
        buf_add_printf(out, "%-36s %-11s %-20s %-30s %8s %9s %9s %14s\n", "REQUEST", "STATUS",
                       "MODEL", "KEY", "MS", "PROMPT", "OUTPUT", "COST");
        return;
    }
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        if ((by & 1u << i) != 0) {
            buf_add_printf(out, "%-*s ", usage_width(i), heads[i]);
        }
    }
    buf_add_printf(out, "%9s %7s %12s %12s %12s %14s\n", "REQUESTS", "FAILED", "PROMPT", "CACHED",
                   "OUTPUT", "COST");
}

static enum rc usage_print_json(struct str answer, struct err *err)
{
    struct buf out;
    buf_init(&out, USAGE_TEXT_BYTES);
    buf_add_str(&out, answer);
    buf_add_byte(&out, '\n');
    enum rc rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

static enum rc usage_print(const struct json *answer, uint32_t by, bool records, struct err *err)
{
    const struct json *data = json_get_present(answer, "data");
    struct buf out;
    buf_init(&out, USAGE_TEXT_BYTES);
    usage_heads(&out, by, records);
    if (data != NULL && data->type == JSON_ARRAY) {
        JSON_EACH(data, row)
        {
            if (records) {
                usage_record_row(&out, row);
            } else {
                usage_sum_row(&out, row, by);
            }
        }
    }
    enum rc rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

/* ---- the command ---- */

static enum rc usage_show(struct administer *ad, const struct args *a, struct err *err)
{
    const struct json *answer = NULL;
    struct buf target;
    uint32_t by = 0;
    buf_init(&target, USAGE_TARGET_BYTES);
    enum rc rc = usage_target(a, &target, &by, err);
    rc =
        rc == RC_OK ? administer_call(ad, HTTP_METHOD_GET, target.ptr, STR_NULL, &answer, err) : rc;
    if (rc == RC_OK && args_has(a, "--json")) {
        rc = usage_print_json(administer_text(ad), err);
    } else if (rc == RC_OK) {
        rc = usage_print(answer, by, args_has(a, "--records"), err);
    }
    buf_deinit(&target);
    return rc;
}

static enum rc cmd_usage_main(const struct args *a, struct err *err)
{
    struct administer *ad = NULL;
    enum rc rc = administer_open_settled(&ad, a, err);
    rc = rc == RC_OK ? usage_show(ad, a, err) : rc;
    administer_close(ad);
    return rc;
}

const struct command cmd_usage = {
    .name = "usage",
    .words = "",
    .line = "What requests used and cost, by key, project, model, day",
    .help = "Every request that was let in has one record: tokens, cost, server, how it ended. A\n"
            "'~' marks counts that were estimated, since the server told none.\n",
    .options = cmd_usage_options,
    .run = cmd_usage_main,
};
