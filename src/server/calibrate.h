/* calibrate.h: times a few steps of an engine, for the cost model (cost.h). */
#ifndef SERVER_CALIBRATE_H
#define SERVER_CALIBRATE_H

#include "base/clock.h"
#include "engine/engine.h"
#include "server/cost.h"

/* On the engine thread, while no sequence holds pages: they are written to. Takes about a second
 * for the largest models, milliseconds for small ones. Leaves *cost as it was when memory is short
 * or *cancel became true. */
void calibrate_run(struct engine *e, const struct clock *clock, const _Atomic bool *cancel,
                   struct cost *cost);

#endif
