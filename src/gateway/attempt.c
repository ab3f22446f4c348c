/* attempt.c: see attempt.h. */
#include "gateway/attempt.h"

#include "base/assert.h"
#include "gateway/stages.h"

void gw_attempt_init(struct gw_attempt *a, struct gw_request *r)
{
    a->request = r;
    buf_init(&a->reply, GATEWAY_REPLY_BYTES_MAX);
    buf_init(&a->edited, GATEWAY_BODY_BYTES_MAX + GATEWAY_EDIT_BYTES_MAX);
}

void gw_attempt_reset(struct gw_attempt *a)
{
    ASSERT(a->call == NULL);
    a->status = 0;
    a->began = a->is_stream = a->saw_done = a->saw_error = a->paused = false;
    a->has_counts = false; /* what an earlier attempt told is not what this one uses */
    a->prompt_tokens = a->cached_tokens = a->output_tokens = 0;
    stages_unhold(a->request, &a->reply);
    sse_deinit(&a->sse);
    sse_init(&a->sse, GW_ATTEMPT_EVENT_BYTES_MAX);
}

void gw_attempt_unhold(struct gw_attempt *a)
{
    stages_unhold(a->request, &a->reply);
    stages_unhold(a->request, &a->edited);
}

void gw_attempt_deinit(struct gw_attempt *a)
{
    ASSERT(a->call == NULL && a->backend == NULL);
    sse_deinit(&a->sse);
    gw_attempt_unhold(a);
}
