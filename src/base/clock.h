/* clock.h: time as a parameter (STYLE.md F36): scheduler, limiter, supervisor and their tests take
 * a clock, and under the fake one thousands of seconds pass in one. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/compiler.h"

struct clock {
    uint64_t (*mono_ns)(const struct clock *c); /* monotonic, arbitrary start */
    uint64_t (*wall_ns)(const struct clock *c); /* since 1970-01-01 UTC */
};

static inline uint64_t clock_mono_ns(const struct clock *c)
{
    return c->mono_ns(c);
}
static inline uint64_t clock_wall_ns(const struct clock *c)
{
    return c->wall_ns(c);
}
static inline uint64_t clock_mono_ms(const struct clock *c)
{
    return c->mono_ns(c) / 1000000u;
}
static inline int64_t clock_wall_s(const struct clock *c)
{
    return (int64_t)(c->wall_ns(c) / 1000000000u);
}

/* The machine's clock; read-only, shared by all threads. */
const struct clock *clock_system(void);

/* A clock that moves only when told to. */
struct clock_fake {
    struct clock clock;
    uint64_t mono_ns;
    uint64_t wall_ns;
};
void clock_fake_init(struct clock_fake *f, uint64_t wall_ns);
void clock_fake_advance_ms(struct clock_fake *f, uint64_t ms);

#endif
