/* limits.c: see limits.h. */
#include "cli/limits.h"

#include "server/embed.h"

enum { LIMITS_KV_TOKENS_MIN = 64, LIMITS_KV_TOKENS_MAX = 1 << 29 };

const char *const *limits_names(void)
{
    static const char *const names[] = {
        "--parallel",     "--tenant-parallel", "--waiting",    "--waiting-seconds",
        "--step-ms",      "--kv-tokens",       "--batch-size", "--batch-timeout",
        "--prefix-cache", "--speculation",     NULL,
    };
    return names;
}

static enum rc limits_switch(const struct args *a, const char *name, bool *off, struct err *err)
{
    const char *text = args_str(a, name, "on");
    *off = str_is(str_from(text), "off");
    if (!*off && !str_is(str_from(text), "on")) {
        return err_set(err, RC_INVALID, "%s %s: must be on or off", name, text);
    }
    return RC_OK;
}

/* Settings that are each possible, but not together. */
static enum rc limits_check(const struct server_limits *l, const struct engine_conf *engine,
                            uint32_t kv_tokens, struct err *err)
{
    if (l->running_max != 0 && l->tenant_running_max > l->running_max) {
        return err_set(err, RC_INVALID, "--tenant-parallel %u is more than --parallel %u",
                       l->tenant_running_max, l->running_max);
    }
    if (kv_tokens != 0 && kv_tokens < engine->context_tokens) {
        return err_set(err, RC_INVALID,
                       "--kv-tokens %u holds no sequence of --ctx %u: raise the one or lower the "
                       "other",
                       kv_tokens, engine->context_tokens);
    }
    if (l->waiting_ms_max != 0 && l->budget_ms > l->waiting_ms_max) {
        return err_set(err, RC_INVALID, "--step-ms %u is longer than --waiting-seconds %u",
                       l->budget_ms, l->waiting_ms_max / 1000);
    }
    return RC_OK;
}

enum rc limits_read(const struct args *a, struct server_limits *limits, struct engine_conf *engine,
                    struct err *err)
{
    uint32_t seconds = 0;
    uint32_t kv_tokens = 0;
    const struct {
        const char *name;
        uint32_t min, max;
        uint32_t *out;
    } numbers[] = {
        {"--parallel", 1, 1024, &limits->running_max},
        {"--tenant-parallel", 1, 1024, &limits->tenant_running_max},
        {"--waiting", 1, 65536, &limits->waiting_max},
        {"--waiting-seconds", 1, 3600, &seconds},
        {"--step-ms", 1, 10000, &limits->budget_ms},
        {"--batch-size", 1, EMBED_BATCH_TEXTS_MAX, &limits->batch_texts},
        {"--batch-timeout", 0, 10000, &limits->batch_ms},
        {"--kv-tokens", LIMITS_KV_TOKENS_MIN, LIMITS_KV_TOKENS_MAX, &kv_tokens},
    };
    enum rc rc = RC_OK;
    for (size_t i = 0; i < ARRAY_LEN(numbers) && rc == RC_OK; i++) {
        rc = args_u32(a, numbers[i].name, numbers[i].min, numbers[i].max, numbers[i].out, err);
    }
    rc = rc == RC_OK ? limits_switch(a, "--prefix-cache", &limits->no_prefix_cache, err) : rc;
    rc = rc == RC_OK ? limits_switch(a, "--speculation", &limits->no_speculation, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    limits->waiting_ms_max = seconds * 1000;
    limits->no_batch_wait = args_str(a, "--batch-timeout", NULL) != NULL && limits->batch_ms == 0;
    engine->kv_pages = (kv_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    return limits_check(limits, engine, kv_tokens, err);
}
