/* lockout.c: see lockout.h. Each slot is a leaky bucket in milliseconds: a wrong key adds
 * LOCKOUT_REFILL_MS to the time at which it will be empty. */
#include "gateway/lockout.h"

#include <netinet/in.h>
#include <pthread.h>

#include "base/hash.h"
#include "base/mem.h"

#define LOCKOUT_FULL_MS ((uint64_t)LOCKOUT_TRIES * LOCKOUT_REFILL_MS)

struct lockout_slot {
    uint64_t who;
    uint64_t empty_at_ms;
};

struct lockout {
    uint64_t seed;
    pthread_mutex_t lock; /* of the slots */
    struct lockout_slot slots[LOCKOUT_SLOTS];
};

void lockout_create(struct lockout **out, uint64_t seed)
{
    *out = mem_zalloc(sizeof(**out));
    (*out)->seed = seed;
    pthread_mutex_init(&(*out)->lock, NULL);
}

void lockout_destroy(struct lockout *l)
{
    if (l != NULL) {
        pthread_mutex_destroy(&l->lock);
        mem_free(l);
    }
}

/* Never 0. */
static uint64_t lockout_who(const struct lockout *l, const struct addr *peer)
{
    uint64_t bytes = 0;
    if (peer->sa.ss_family == AF_INET) {
        bytes = ((const struct sockaddr_in *)(const void *)&peer->sa)->sin_addr.s_addr;
    } else if (peer->sa.ss_family == AF_INET6) {
        memcpy(&bytes, &((const struct sockaddr_in6 *)(const void *)&peer->sa)->sin6_addr,
               sizeof(bytes));
    }
    return hash_u64(bytes ^ l->seed) | 1;
}

void lockout_note(struct lockout *l, const struct addr *peer, uint64_t now_ms)
{
    if (addr_is_local(peer)) {
        return;
    }
    uint64_t who = lockout_who(l, peer);
    struct lockout_slot *s = &l->slots[who / 2 % LOCKOUT_SLOTS];
    pthread_mutex_lock(&l->lock);
    uint64_t from = s->who == who ? MAX(s->empty_at_ms, now_ms) : now_ms;
    *s = (struct lockout_slot){
        .who = who,
        .empty_at_ms = MIN(from + LOCKOUT_REFILL_MS, now_ms + LOCKOUT_FULL_MS + LOCKOUT_REFILL_MS)};
    pthread_mutex_unlock(&l->lock);
}

uint64_t lockout_wait_ms(struct lockout *l, const struct addr *peer, uint64_t now_ms)
{
    if (addr_is_local(peer)) {
        return 0;
    }
    uint64_t who = lockout_who(l, peer);
    const struct lockout_slot *s = &l->slots[who / 2 % LOCKOUT_SLOTS];
    uint64_t free_at = now_ms + LOCKOUT_FULL_MS;
    pthread_mutex_lock(&l->lock);
    uint64_t wait_ms = s->who == who && s->empty_at_ms > free_at ? s->empty_at_ms - free_at : 0;
    pthread_mutex_unlock(&l->lock);
    return wait_ms;
}
