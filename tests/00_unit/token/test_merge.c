/* merge.c: the scan and the heap give what the plain definition gives, on random rank tables with
 * many ties. */
#include "check.h"

#include "base/rng.h"
#include "engine/token/merge.c"

enum { N_IDS = 40, N_ALPHABET = 4, N_SYMS_MAX = 400 };

struct ranks {
    uint32_t rank[N_IDS][N_IDS];
    int32_t id[N_IDS][N_IDS];
};

static uint32_t ranks_find(const void *ctx, const struct merge_pair *pair, int32_t *id)
{
    const struct ranks *r = ctx;
    *id = r->id[pair->left][pair->right];
    assert_true(pair->start < pair->end);
    return r->rank[pair->left][pair->right];
}

static void ranks_make(struct ranks *r, struct rng *rng)
{
    for (size_t i = 0; i < N_IDS; i++) {
        for (size_t j = 0; j < N_IDS; j++) {
            bool merges = rng_u32(rng) % 3 == 0;
            r->rank[i][j] = merges ? rng_u32(rng) % 30 : MERGE_NONE;
            r->id[i][j] = (int32_t)(rng_u32(rng) % N_IDS);
        }
    }
}

/* The definition: look for the best pair, join it, look again. Returns how many are left. */
static uint32_t plain_merge(const struct ranks *r, int32_t *ids, uint32_t n)
{
    for (;;) {
        uint32_t best = MERGE_NONE, at = 0;
        for (uint32_t i = 0; i + 1 < n; i++) {
            uint32_t rank = r->rank[ids[i]][ids[i + 1]];
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == MERGE_NONE) {
            return n;
        }
        ids[at] = r->id[ids[at]][ids[at + 1]];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof(*ids));
        n--;
    }
}

static void check_word(struct merge *m, const struct ranks *r, struct rng *rng, uint32_t n)
{
    int32_t ids[N_SYMS_MAX];
    m->n = n;
    m->end = 3 * n;
    m->rank = ranks_find;
    m->ctx = r;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)(rng_u32(rng) % N_ALPHABET);
        m->syms[i] = (struct merge_sym){.start = 3 * i, .id = ids[i]};
    }
    merge_run(m);
    uint32_t n_left = plain_merge(r, ids, n), k = 0;
    for (uint32_t i = 0, prev = MERGE_NONE; i != MERGE_NONE; i = m->syms[i].next) {
        assert_true(k < n_left);
        assert_int_equal(m->syms[i].id, ids[k++]);
        assert_int_equal(m->syms[i].prev, prev);
        assert_true(merge_sym_end(m, i) > m->syms[i].start);
        prev = i;
    }
    assert_int_equal(k, n_left);
}

static void test_random(void **state)
{
    UNUSED(state);
    static struct ranks r;
    struct arena a;
    struct merge m = {0};
    struct rng rng;
    rng_init(&rng, 7);
    arena_init(&a, 1 << 20);
    for (uint32_t round = 0; round < 60; round++) {
        ranks_make(&r, &rng);
        for (uint32_t n = 1; n < N_SYMS_MAX; n += 1 + n / 3) {
            assert_true(merge_reserve(&m, &a, n));
            check_word(&m, &r, &rng, n);
        }
    }
    arena_deinit(&a);
}

static void test_full(void **state)
{
    UNUSED(state);
    struct arena a;
    struct merge m = {0};
    arena_init(&a, 1 << 16);
    assert_true(merge_reserve(&m, &a, 100));
    assert_false(merge_reserve(&m, &a, 1 << 20));
    assert_false(merge_reserve(&m, &a, SIZE_MAX));
    arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
