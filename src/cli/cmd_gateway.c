/* cmd_gateway.c: `bud gateway`: the front door alone, before the upstreams of its catalogue. */
#include <signal.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/front.h"
#include "obs/crash.h"
#include "obs/log.h"

enum { GATEWAY_DRAIN_MS = 30000 };

static const struct args_row cmd_gateway_options[] = {SETTINGS_OPTIONS, {0}};

struct role {
    struct front front;
    bool draining;
};

static void role_drained(void *ctx)
{
    loop_stop(((struct role *)ctx)->front.loop);
}

static void role_on_signal(void *ctx, int signum)
{
    struct role *r = ctx;
    UNUSED(signum);
    if (r->draining) {
        loop_stop(r->front.loop); /* asked twice: at once */
        return;
    }
    r->draining = true;
    log_event(LOG_PROCESS_STOP, log_cstr("role", "gateway"));
    gateway_group_drain(r->front.gateway, GATEWAY_DRAIN_MS, role_drained, r);
}

static enum rc cmd_gateway_main(const struct args *a, struct err *err)
{
    struct role *r = mem_zalloc(sizeof(*r));
    const struct cat_local none = {0};
    crash_init();
    enum rc rc = front_init(&r->front, a, err);
    rc = rc == RC_OK ? front_open_stores(&r->front, false, err) : rc;
    rc = rc == RC_OK ? front_start(&r->front, &none, err) : rc;
    rc = rc == RC_OK ? loop_signal(r->front.loop, SIGTERM, role_on_signal, r, err) : rc;
    rc = rc == RC_OK ? loop_signal(r->front.loop, SIGINT, role_on_signal, r, err) : rc;
    if (rc == RC_OK) {
        front_announce(&r->front);
        loop_run(r->front.loop);
    }
    front_end(&r->front);
    mem_free(r);
    return rc;
}

const struct command cmd_gateway = {
    .name = "gateway",
    .words = "",
    .line = "The front door alone, before the upstreams of its catalogue",
    .help =
        "Upstreams, models, projects and limits come from the file that --catalogue names. Keys\n"
        "are made with 'bud key create', or the first one is read from the file that\n"
        "$BUD_BOOTSTRAP_KEY_FILE names.\n",
    .options = cmd_gateway_options,
    .run = cmd_gateway_main,
};
