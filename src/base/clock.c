/* clock.c: the system's clock and the fake one. */
#include "base/clock.h"

#include <time.h>

static uint64_t clock_read(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t clock_system_mono(const struct clock *c)
{
    UNUSED(c);
    return clock_read(CLOCK_MONOTONIC);
}

static uint64_t clock_system_wall(const struct clock *c)
{
    UNUSED(c);
    return clock_read(CLOCK_REALTIME);
}

const struct clock *clock_system(void)
{
    static const struct clock system_clock = {clock_system_mono, clock_system_wall};
    return &system_clock;
}

static uint64_t clock_fake_mono(const struct clock *c)
{
    return CONTAINER_OF(c, const struct clock_fake, clock)->mono_ns;
}

static uint64_t clock_fake_wall(const struct clock *c)
{
    return CONTAINER_OF(c, const struct clock_fake, clock)->wall_ns;
}

void clock_fake_init(struct clock_fake *f, uint64_t wall_ns)
{
    *f = (struct clock_fake){{clock_fake_mono, clock_fake_wall}, 1, wall_ns};
}

void clock_fake_advance_ms(struct clock_fake *f, uint64_t ms)
{
    f->mono_ns += ms * 1000000u;
    f->wall_ns += ms * 1000000u;
}
