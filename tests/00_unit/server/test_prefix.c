/* Pages with several holders, and what of them can be found again. */
#include "check.h"

#include <string.h>

#include "base/rng.h"
#include "engine/tensor/backend.h"
#include "server/prefix.h"

struct world {
    struct kv_pages kv;
    struct prefix prefix;
    struct prefix_place at; /* the beginning of a tenant's texts */
};

static void world_open(struct world *w, uint32_t n_pages, bool on)
{
    kv_pages_init(&w->kv, n_pages);
    prefix_init(&w->prefix, &(struct prefix_conf){.on = on, .seed = 1}, &w->kv);
    w->at.root = w->at.parent = prefix_root(&w->prefix, STR_LIT("tenant"));
}

static void world_close(struct world *w)
{
    prefix_check(&w->prefix);
    kv_pages_check(&w->kv);
    prefix_deinit(&w->prefix);
    kv_pages_deinit(&w->kv);
}

static void text(int32_t *tokens, int32_t first)
{
    for (int32_t i = 0; i < KV_PAGE_TOKENS; i++) {
        tokens[i] = first + i;
    }
}

static uint32_t find(const struct world *w, const int32_t *tokens)
{
    struct hash128 key = prefix_key(&w->prefix, w->at.parent, tokens, KV_PAGE_TOKENS);
    return prefix_find(&w->prefix, &w->at, key, tokens);
}

static kv_page_id put_text(struct world *w, const int32_t *tokens, uint32_t n)
{
    kv_page_id page;
    assert_true(prefix_page_get(&w->prefix, &page));
    prefix_note(&w->prefix, page, &w->at, tokens, n);
    prefix_page_put(&w->prefix, page);
    return page;
}

static void pages_are_handed_out_once(void **state)
{
    (void)state;
    struct kv_pages pages;
    kv_page_id a, b, c, d;
    kv_pages_init(&pages, 3);
    assert_true(kv_page_get(&pages, &a));
    assert_true(kv_page_get(&pages, &b));
    assert_true(kv_page_get(&pages, &c));
    assert_false(kv_page_get(&pages, &d));
    assert_int_not_equal(a.id, b.id);
    assert_int_not_equal(b.id, c.id);
    kv_page_hold(&pages, b);
    kv_page_put(&pages, b);
    assert_false(kv_page_get(&pages, &d)); /* one holder is left */
    kv_page_put(&pages, b);
    assert_true(kv_page_get(&pages, &d));
    assert_int_equal(d.id, b.id);
    kv_page_put(&pages, a);
    kv_page_put(&pages, c);
    kv_page_drop(&pages, d);
    assert_int_equal(kv_pages_left(&pages), 3);
    /* Dropped ones first, then those let go longest ago; a hold takes one out of the middle. */
    kv_page_hold(&pages, a);
    kv_pages_check(&pages);
    assert_true(kv_page_get(&pages, &b));
    assert_int_equal(b.id, d.id);
    assert_true(kv_page_get(&pages, &b));
    assert_int_equal(b.id, c.id);
    kv_pages_check(&pages);
    kv_pages_deinit(&pages);
}

static void a_whole_page_is_found_by_its_own_tenant_alone(void **state)
{
    (void)state;
    struct world w;
    int32_t tokens[KV_PAGE_TOKENS];
    world_open(&w, 4, true);
    text(tokens, 10);
    kv_page_id page = put_text(&w, tokens, KV_PAGE_TOKENS);
    assert_int_equal(find(&w, tokens), page.id);
    tokens[31]++;
    assert_int_equal(find(&w, tokens), PREFIX_NONE);
    tokens[31]--;
    struct prefix_place other;
    other.root = other.parent = prefix_root(&w.prefix, STR_LIT("tenant2"));
    struct hash128 key = prefix_key(&w.prefix, other.parent, tokens, KV_PAGE_TOKENS);
    assert_int_equal(prefix_find(&w.prefix, &other, key, tokens), PREFIX_NONE);
    uint32_t n;
    assert_int_equal(prefix_find_part(&w.prefix, &other, tokens, 31, &n), PREFIX_NONE);
    /* Behind another parent it is another text. */
    struct prefix_place behind = {w.at.root, key};
    key = prefix_key(&w.prefix, behind.parent, tokens, KV_PAGE_TOKENS);
    assert_int_equal(prefix_find(&w.prefix, &behind, key, tokens), PREFIX_NONE);
    world_close(&w);
}

/* Keys that meet are told apart by what they stand for. */
static void equal_keys_do_not_deceive(void **state)
{
    (void)state;
    struct world w;
    int32_t tokens[KV_PAGE_TOKENS], others[KV_PAGE_TOKENS];
    world_open(&w, 4, true);
    text(tokens, 10);
    text(others, 500);
    put_text(&w, tokens, KV_PAGE_TOKENS);
    struct hash128 key = prefix_key(&w.prefix, w.at.parent, tokens, KV_PAGE_TOKENS);
    assert_int_equal(prefix_find(&w.prefix, &w.at, key, others), PREFIX_NONE);
    struct prefix_place at = {{9, 9}, w.at.parent};
    assert_int_equal(prefix_find(&w.prefix, &at, key, tokens), PREFIX_NONE);
    world_close(&w);
}

static void the_longest_common_beginning_is_copied(void **state)
{
    (void)state;
    struct world w;
    int32_t tokens[KV_PAGE_TOKENS], asked[KV_PAGE_TOKENS];
    uint32_t n;
    world_open(&w, 8, true);
    text(tokens, 10);
    put_text(&w, tokens, 6);
    tokens[12] = -1;
    kv_page_id longer = put_text(&w, tokens, 20);
    text(asked, 10);
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, asked, 32, &n), longer.id);
    assert_int_equal(n, 12);
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, asked, 7, &n), longer.id);
    assert_int_equal(n, 7);
    asked[PREFIX_COPY_TOKENS_MIN - 1] = -7; /* too little to be worth it */
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, asked, 32, &n), PREFIX_NONE);
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, tokens, 3, &n), PREFIX_NONE);
    world_close(&w);
}

static void a_page_handed_out_forgets(void **state)
{
    (void)state;
    struct world w;
    int32_t a[KV_PAGE_TOKENS], b[KV_PAGE_TOKENS];
    uint32_t n;
    kv_page_id page;
    world_open(&w, 2, true);
    text(a, 10);
    text(b, 90);
    kv_page_id first = put_text(&w, a, KV_PAGE_TOKENS);
    put_text(&w, b, 8);
    assert_true(prefix_page_get(&w.prefix, &page));
    assert_int_equal(page.id, first.id); /* let go longest ago */
    assert_int_equal(find(&w, a), PREFIX_NONE);
    assert_int_not_equal(prefix_find_part(&w.prefix, &w.at, b, 8, &n), PREFIX_NONE);
    prefix_clear(&w.prefix);
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, b, 8, &n), PREFIX_NONE);
    prefix_page_put(&w.prefix, page);
    world_close(&w);
}

static void switched_off_it_finds_nothing(void **state)
{
    (void)state;
    struct world w;
    int32_t a[KV_PAGE_TOKENS];
    uint32_t n;
    world_open(&w, 2, false);
    text(a, 10);
    put_text(&w, a, KV_PAGE_TOKENS);
    assert_int_equal(find(&w, a), PREFIX_NONE);
    assert_int_equal(prefix_find_part(&w.prefix, &w.at, a, 31, &n), PREFIX_NONE);
    world_close(&w);
}

/* Against a plain list of what every page holds. */
static void random_use_agrees_with_a_plain_list(void **state)
{
    (void)state;
    enum { PAGES = 24, TEXTS = 60 };
    struct world w;
    struct rng rng;
    int32_t tokens[KV_PAGE_TOKENS];
    int32_t held[PAGES], known[PAGES];
    rng_init(&rng, 3);
    world_open(&w, PAGES, true);
    for (int i = 0; i < PAGES; i++) {
        held[i] = known[i] = -1;
    }
    for (int turn = 0; turn < 20000; turn++) {
        int32_t t = (int32_t)rng_below(&rng, TEXTS);
        uint32_t id = rng_below(&rng, PAGES);
        kv_page_id page;
        text(tokens, 1000 * t);
        uint32_t found = find(&w, tokens);
        bool listed = false;
        for (uint32_t i = 0; i < PAGES; i++) {
            listed = listed || known[i] == t;
        }
        assert_int_equal(found != PREFIX_NONE, listed);
        if (found != PREFIX_NONE) {
            assert_int_equal(known[found], t);
        }
        if (held[id] >= 0) {
            held[id] = -1;
            prefix_page_put(&w.prefix, (kv_page_id){id});
        } else if (prefix_page_get(&w.prefix, &page)) {
            held[page.id] = t;
            known[page.id] = -1;
            prefix_note(&w.prefix, page, &w.at, tokens, 5);
            prefix_note(&w.prefix, page, &w.at, tokens, KV_PAGE_TOKENS);
            known[page.id] = find(&w, tokens) == page.id ? t : -1;
        }
        prefix_check(&w.prefix);
        kv_pages_check(&w.kv);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_handed_out_once),
        cmocka_unit_test(a_whole_page_is_found_by_its_own_tenant_alone),
        cmocka_unit_test(equal_keys_do_not_deceive),
        cmocka_unit_test(the_longest_common_beginning_is_copied),
        cmocka_unit_test(a_page_handed_out_forgets),
        cmocka_unit_test(switched_off_it_finds_nothing),
        cmocka_unit_test(random_use_agrees_with_a_plain_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
