/* cmd_audit.c: `bud audit ls|verify`: the log of administrative acts, here or at a server. */
#include <stdio.h>

#include "cli/administer.h"
#include "cli/commands.h"

enum { AUDIT_TARGET_BYTES_MAX = 512, AUDIT_LINE_BYTES_MAX = 65536 };

static const struct args_row cmd_audit_options[] = {
    {"--head", 0, "NUMBER:MAC", "verify: a head that was printed earlier and kept elsewhere"},
    ADMINISTER_OPTIONS,
    {0},
};

static void audit_print(void *ctx, const struct json *e)
{
    const bool *json = ctx;
    char who[128], what[128], target[128], source[128], time[24];
    if (*json) {
        struct json_writer w;
        struct buf b;
        buf_init(&b, AUDIT_LINE_BYTES_MAX);
        json_write_init(&w, &b);
        json_write_value(&w, e);
        printf("%s\n", b.ptr);
        buf_deinit(&b);
        return;
    }
    printf("%6lld %-18s %-29s %-18s %-40s %s\n", (long long)administer_number(e, "seq"),
           administer_time(administer_number(e, "time_ms") / 1000, time),
           administer_member(e, "who", who), administer_member(e, "what", what),
           administer_member(e, "target", target), administer_member(e, "source", source));
}

static enum rc audit_verify_run(struct administer *ad, const struct args *a, struct err *err)
{
    const struct json *report;
    const char *head = args_str(a, "--head", NULL);
    char text[128];
    struct buf target;
    buf_init(&target, AUDIT_TARGET_BYTES_MAX);
    buf_add_cstr(&target, "/admin/v1/audit/verify");
    if (head != NULL) {
        buf_add_cstr(&target, "?head=");
        administer_add_name(&target, head);
    }
    enum rc rc = buf_ok(&target) ? RC_OK : err_set(err, RC_INVALID, "that is no head");
    rc =
        rc == RC_OK ? administer_call(ad, HTTP_METHOD_GET, target.ptr, STR_NULL, &report, err) : rc;
    buf_deinit(&target);
    if (rc != RC_OK) {
        return rc;
    }
    const struct json *whole = json_get(report, "whole");
    if (whole == NULL || !whole->boolean) {
        return err_set(err, RC_CORRUPT, "%s", administer_member(report, "problem", text));
    }
    if (args_has(a, "--json")) {
        printf("%.*s\n", STR(administer_text(ad)));
    } else {
        printf("%lld entries, none changed, none missing\nhead %s\n",
               (long long)administer_number(report, "entries"),
               administer_member(report, "head", text));
    }
    return RC_OK;
}

static enum rc audit_run(struct administer *ad, const struct args *a, struct err *err)
{
    struct str word = str_from(args_word(a, 0));
    bool json = args_has(a, "--json");
    if (str_is(word, "ls")) {
        return administer_each(ad, "/admin/v1/audit", audit_print, &json, err);
    }
    return str_is(word, "verify") ? audit_verify_run(ad, a, err)
                                  : err_set(err, RC_INVALID, "say ls or verify");
}

static enum rc cmd_audit_main(const struct args *a, struct err *err)
{
    struct administer *ad;
    enum rc rc = administer_open(&ad, a, err);
    rc = rc == RC_OK ? audit_run(ad, a, err) : rc;
    administer_close(ad);
    return rc;
}

const struct command cmd_audit = {
    .name = "audit",
    .words = "ls|verify",
    .line = "The log of administrative acts",
    .help = "ls      lists them, the last first\n"
            "verify  shows whether anybody has changed the log behind our back, and prints its\n"
            "        head: kept elsewhere and given with --head, it also finds an older copy\n",
    .options = cmd_audit_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_audit_main,
};
