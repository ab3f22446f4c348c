/* cmd_usage.c: `bud usage`: what requests used and cost, from the local store. What a process that
 * died has left open is settled first; a running one's records are there within a second. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/front.h"
#include "cli/print.h"
#include "stores/meta_usage.h"

enum { USAGE_TEXT_BYTES = 64 << 20 };

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
    {"--json", 0, NULL, "print JSON"},
    {0},
};

/* ---- what is asked for ---- */

static enum rc usage_query(const struct args *a, struct meta_usage_query *q, struct err *err)
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
    enum rc rc = RC_OK;
    *q = (struct meta_usage_query){.by = META_USAGE_BY_MODEL};
    for (size_t i = 0; rc == RC_OK && i < ARRAY_LEN(names); i++) {
        const char *value = args_str(a, names[i][0], NULL);
        if (value != NULL) {
            rc = meta_usage_query_set(q, names[i][1], str_from(value), err);
        }
    }
    return rc;
}

/* ---- for people ---- */

struct usage_table {
    struct buf out;
    uint32_t by;
};

static void usage_cell(struct buf *out, struct str s, int width)
{
    struct buf clean;
    buf_init(&clean, 4096);
    print_escaped(&clean, s.len > 0 ? s : STR_LIT("-"), 40);
    buf_add_printf(out, "%-*s ", width, clean.ptr != NULL ? clean.ptr : "");
    buf_deinit(&clean);
}

static void usage_money(struct buf *out, int64_t nano)
{
    struct buf text;
    buf_init(&text, 64);
    conf_money_write(&text, nano);
    buf_add_printf(out, "%14s", text.ptr);
    buf_deinit(&text);
}

/* Ids of keys are the longest names. */
static int usage_width(uint32_t i)
{
    return i == 0 ? 10 : 1u << i == META_USAGE_BY_KEY ? 30 : 20;
}

static enum rc usage_sum_row(void *ctx, const struct meta_usage_sum *s)
{
    struct usage_table *t = ctx;
    for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
        if ((t->by & 1u << i) != 0) {
            usage_cell(&t->out, s->by[i], usage_width(i));
        }
    }
    buf_add_printf(&t->out, "%9lld %7lld %12lld %12lld %12lld ", (long long)s->requests,
                   (long long)s->failed, (long long)s->prompt_tokens, (long long)s->cached_tokens,
                   (long long)s->output_tokens);
    usage_money(&t->out, s->cost_nano);
    buf_add_byte(&t->out, '\n');
    return RC_OK;
}

static enum rc usage_record_row(void *ctx, const struct meta_usage *u)
{
    struct usage_table *t = ctx;
    usage_cell(&t->out, u->request_id, 36);
    usage_cell(&t->out, u->status, 11);
    usage_cell(&t->out, u->model, 20);
    usage_cell(&t->out, u->key, 30);
    buf_add_printf(&t->out, "%8lld %9lld %9lld%c", (long long)u->duration_ms,
                   (long long)u->prompt_tokens, (long long)u->output_tokens,
                   u->estimated ? '~' : ' ');
    usage_money(&t->out, u->cost_nano);
    buf_add_byte(&t->out, '\n');
    return RC_OK;
}

static enum rc usage_print(struct meta *m, const struct meta_usage_query *q, bool records,
                           struct err *err)
{
    struct usage_table t = {.by = q->by};
    buf_init(&t.out, USAGE_TEXT_BYTES);
    if (records) {
        buf_add_printf(&t.out, "%-36s %-11s %-20s %-30s %8s %9s %9s %14s\n", "REQUEST", "STATUS",
                       "MODEL", "KEY", "MS", "PROMPT", "OUTPUT", "COST");
    } else {
        static const char *const heads[META_USAGE_BY_N] = {"DAY",   "KEY",      "USER",  "PROJECT",
                                                           "MODEL", "UPSTREAM", "STATUS"};
        for (uint32_t i = 0; i < META_USAGE_BY_N; i++) {
            if ((q->by & 1u << i) != 0) {
                buf_add_printf(&t.out, "%-*s ", usage_width(i), heads[i]);
            }
        }
        buf_add_printf(&t.out, "%9s %7s %12s %12s %12s %14s\n", "REQUESTS", "FAILED", "PROMPT",
                       "CACHED", "OUTPUT", "COST");
    }
    enum rc rc = records ? meta_usage_each(m, q, usage_record_row, &t, err)
                         : meta_usage_sum(m, q, usage_sum_row, &t, err);
    rc = rc == RC_OK ? print_buf(&t.out, err) : rc;
    buf_deinit(&t.out);
    return rc;
}

/* ---- the command ---- */

static enum rc usage_show(struct meta *m, const struct args *a, struct err *err)
{
    struct meta_usage_query q;
    bool records = args_has(a, "--records");
    enum rc rc = usage_query(a, &q, err);
    if (rc != RC_OK || !args_has(a, "--json")) {
        return rc == RC_OK ? usage_print(m, &q, records, err) : rc;
    }
    struct buf out;
    buf_init(&out, USAGE_TEXT_BYTES);
    rc = meta_usage_answer(m, &q, records, &out, err);
    buf_add_byte(&out, '\n');
    rc = rc == RC_OK ? print_buf(&out, err) : rc;
    buf_deinit(&out);
    return rc;
}

static enum rc cmd_usage_main(const struct args *a, struct err *err)
{
    struct front_stores s = {0};
    enum rc rc = front_stores_open_settled(&s, err);
    rc = rc == RC_OK ? usage_show(s.meta, a, err) : rc;
    front_stores_close(&s);
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
