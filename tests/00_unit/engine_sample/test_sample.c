#include "check.h"

#include "engine/sample/sample.c"

/* The sampler asks a vocabulary two things: its size, and which tokens end a text. */
struct vocab {
    uint32_t n;
    int32_t end;
};

uint32_t vocab_size(const struct vocab *v)
{
    return v->n;
}

bool vocab_is_eog(const struct vocab *v, int32_t id)
{
    return id == v->end;
}

static const struct vocab five = {5, 4};

static struct sample_params plain(float temperature)
{
    return (struct sample_params){
        .temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = 7};
}

static struct sampler *make(const struct vocab *v, const struct sample_params *p)
{
    struct sampler *s = NULL;
    struct err err = {0};
    if (sampler_create(&s, v, p, &err) != RC_OK) {
        fail_msg("%s", err.msg);
    }
    return s;
}

/* One step of a fresh sampler on a copy of logits[5]. */
static struct sample_result once(const struct sample_params *p, const float *logits)
{
    struct sampler *s = make(&five, p);
    float copy[5];
    memcpy(copy, logits, sizeof(copy));
    struct sample_result r;
    sampler_next(s, copy, &r);
    sampler_destroy(s);
    return r;
}

/* Shares of each of five tokens over many draws of one sampler. */
static void shares(const struct sample_params *p, const float *logits, double out[5])
{
    enum { DRAWS = 40000 };
    struct sampler *s = make(&five, p);
    memset(out, 0, 5 * sizeof(out[0]));
    for (int i = 0; i < DRAWS; i++) {
        float copy[5];
        memcpy(copy, logits, sizeof(copy));
        struct sample_result r;
        sampler_next(s, copy, &r);
        out[r.token] += 1.0 / DRAWS;
    }
    sampler_destroy(s);
}

/* Standard deviation of a share over 40000 draws is at most 0.0025: six of them. */
static void expect_shares(const struct sample_params *p, const float *logits, const double want[5])
{
    double have[5];
    shares(p, logits, have);
    for (int i = 0; i < 5; i++) {
        if (fabs(have[i] - want[i]) > (want[i] > 0 ? 0.015 : 0)) {
            fail_msg("token %d: share %.4f, expected %.4f", i, have[i], want[i]);
        }
    }
}

/* exp of these is 0.1, 0.4, 0.2, 0.25, 0.05. */
static const float known[5] = {-2.3025851f, -0.9162907f, -1.6094379f, -1.3862944f, -2.9957323f};

static void greedy_takes_the_largest_and_the_lowest_id(void **state)
{
    (void)state;
    struct sample_params p = plain(0);
    assert_int_equal(once(&p, known).token, 1);
    const float tie[5] = {1, 3, 3, -1, 3};
    assert_int_equal(once(&p, tie).token, 1);
    const float none[5] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    assert_int_equal(once(&p, none).token, 0);
    const float broken[5] = {NAN, -2, NAN, -1, -3};
    assert_int_equal(once(&p, broken).token, 3);
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    struct sample_params p = plain(1);
    expect_shares(&p, known, (double[]){0.1, 0.4, 0.2, 0.25, 0.05});
    /* Temperature 0.5 squares the probabilities: 0.01 0.16 0.04 0.0625 0.0025, sum 0.275. */
    p.temperature = 0.5f;
    expect_shares(&p, known, (double[]){0.0364, 0.5818, 0.1455, 0.2273, 0.0091});
}

static void truncation_keeps_what_it_says(void **state)
{
    (void)state;
    struct sample_params p = plain(1);
    p.top_k = 2;
    expect_shares(&p, known, (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
    p.top_k = 0;
    p.top_p = 0.6f; /* 0.4, then 0.65 is enough */
    expect_shares(&p, known, (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
    p.top_p = 0.7f; /* 0.4, 0.25, 0.2 */
    expect_shares(&p, known, (double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0});
    p.top_p = 0;
    expect_shares(&p, known, (double[]){0, 1, 0, 0, 0});
    p.top_p = 1;
    p.min_p = 0.3f; /* at least 0.3 * 0.4 = 0.12 */
    expect_shares(&p, known, (double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0.25 / 0.85, 0});
    p.top_k = 3;
    p.top_p = 0.5f; /* of the 0.85 that top-k left: 0.4 < 0.425, so two */
    p.min_p = 0;
    expect_shares(&p, known, (double[]){0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
    p.min_p = 0.9f;
    expect_shares(&p, known, (double[]){0, 1, 0, 0, 0});
}

/* A flat distribution: the nucleus passes every floor, and nearly the whole vocabulary is in it. */
static void a_wide_nucleus_is_found(void **state)
{
    (void)state;
    const struct vocab big = {5000, -1};
    float *logits = mem_zalloc_array(big.n, sizeof(float));
    struct sample_params p = plain(1);
    p.top_p = 0.4f;
    struct sampler *s = make(&big, &p);
    for (uint32_t i = 0; i < big.n; i++) {
        logits[i] = i < 2 ? 10.0f : -10.0f; /* e⁻²⁰ of the best weight */
    }
    for (int i = 0; i < 50; i++) {
        struct sample_result r;
        sampler_next(s, logits, &r);
        assert_int_equal(r.token, 0); /* the first of two equals has nearly half */
    }
    p.top_p = 0.9999999f;
    memset(logits, 0, big.n * sizeof(float));
    sampler_destroy(s);
    s = make(&big, &p);
    bool high = false;
    for (int i = 0; i < 50; i++) {
        struct sample_result r;
        sampler_next(s, logits, &r);
        high = high || r.token > 2500;
    }
    assert_true(high);
    sampler_destroy(s);
    mem_free(logits);
}

static void penalties_are_counted(void **state)
{
    (void)state;
    struct sample_params p = plain(0);
    p.repetition_penalty = 2;
    struct sampler *s = make(&five, &p);
    sampler_see_prompt(s, 0);
    sampler_see_prompt(s, 2);
    float a[5] = {4, 2.5f, -1, 0, 0};
    struct sample_result r;
    sampler_next(s, a, &r); /* 4 / 2, 2.5, -1 * 2 */
    assert_int_equal(r.token, 1);
    assert_true(a[0] == 2.0f && a[2] == -2.0f);
    sampler_destroy(s);

    p = plain(0);
    p.presence_penalty = 1;
    p.frequency_penalty = 0.5f;
    s = make(&five, &p);
    sampler_see_prompt(s, 0); /* the prompt does not count */
    const int32_t want[] = {0, 0, 1};
    for (int i = 0; i < 3; i++) { /* 3 → 1.5 → 1, against 1.2 */
        float b[5] = {3, 1.2f, 0, 0, 0};
        sampler_next(s, b, &r);
        assert_int_equal(r.token, want[i]);
    }
    sampler_destroy(s);
}

static void biases_and_end_bans(void **state)
{
    (void)state;
    const struct sample_bias biases[] = {{3, 100}, {1, -100}};
    struct sample_params p = plain(0);
    p.biases = biases;
    p.n_biases = 2;
    assert_int_equal(once(&p, known).token, 3);

    const float ends[5] = {0, 1, 0, 0, 9};
    p = plain(0);
    assert_int_equal(once(&p, ends).token, 4);
    p.ignore_eos = true;
    assert_int_equal(once(&p, ends).token, 1);
    p.ignore_eos = false;
    p.min_tokens = 2;
    struct sampler *s = make(&five, &p);
    for (int i = 0; i < 3; i++) {
        float copy[5];
        memcpy(copy, ends, sizeof(copy));
        struct sample_result r;
        sampler_next(s, copy, &r);
        assert_int_equal(r.token, i < 2 ? 1 : 4);
    }
    sampler_destroy(s);
    /* The request's own stop tokens are banned as long. */
    const int32_t stops[] = {1};
    p.stop_tokens = stops;
    p.n_stop_tokens = 1;
    s = make(&five, &p);
    for (int i = 0; i < 3; i++) {
        float copy[5];
        memcpy(copy, ends, sizeof(copy));
        struct sample_result r;
        sampler_next(s, copy, &r);
        assert_true(i < 2 ? r.token != 1 && r.token != 4 : r.token == 4);
    }
    sampler_destroy(s);
}

static void logprobs_are_those_before_temperature(void **state)
{
    (void)state;
    struct sample_params p = plain(0.1f);
    p.want_logprob = true;
    p.n_top_logprobs = 3;
    float shifted[5];
    for (int i = 0; i < 5; i++) {
        shifted[i] = known[i] + 17.0f; /* a softmax does not care */
    }
    struct sample_result r = once(&p, shifted);
    assert_true(fabsf(r.logprob - known[r.token]) < 1e-5f);
    assert_int_equal(r.n_top, 3);
    const int32_t order[] = {1, 3, 2};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r.top[i].token, order[i]);
        assert_true(fabsf(r.top[i].logprob - known[order[i]]) < 1e-5f);
    }
    p.n_top_logprobs = 20;
    assert_int_equal(once(&p, shifted).n_top, 5);
    p.want_logprob = false;
    p.n_top_logprobs = 0;
    assert_int_equal(once(&p, shifted).n_top, 0);
}

static void same_seed_same_tokens(void **state)
{
    (void)state;
    struct sample_params p = plain(1.5f);
    int32_t first[64];
    for (int round = 0; round < 3; round++) {
        p.seed = round < 2 ? 42 : 43;
        struct sampler *s = make(&five, &p);
        bool same = true;
        for (int i = 0; i < 64; i++) {
            float copy[5];
            memcpy(copy, known, sizeof(copy));
            struct sample_result r;
            sampler_next(s, copy, &r);
            if (round == 0) {
                first[i] = r.token;
            }
            same = same && first[i] == r.token;
        }
        assert_int_equal(same, round < 2);
        sampler_destroy(s);
    }
}

/* Settings at their ends, on logits that are ordinary, banned, infinite and no numbers. */
static void extremes_choose_a_token_that_had_a_chance(void **state)
{
    (void)state;
    const float rows[][5] = {
        {-2.3025851f, -0.9162907f, -1.6094379f, -1.3862944f, -2.9957323f},
        {-INFINITY, 1e30f, -INFINITY, -1e30f, -INFINITY},
        {NAN, 3.0f, NAN, -INFINITY, 2.0f},
        {0, INFINITY, 0, INFINITY, NAN},
        {-INFINITY, -INFINITY, NAN, -INFINITY, -INFINITY},
    };
    const struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
        bool sharp; /* only the likeliest is left */
    } settings[] = {
        {1e-45f, 1, 0, 0, true},      {1e-30f, 0.9f, 0.1f, 3, true},   {1, 0, 0, 0, true},
        {1, 1, 1, 0, true},           {1, 0, 1, UINT32_MAX, true},     {1, 1, 0, UINT32_MAX, false},
        {100, 1, 1e-30f, 0, false},   {100, 0.99999994f, 0, 0, false}, {1, 1, 0, 1, true},
        {1e-45f, 1e-45f, 1, 0, true},
    };
    for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
        for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
            struct sample_params p = plain(settings[i].temperature);
            p.top_p = settings[i].top_p;
            p.min_p = settings[i].min_p;
            p.top_k = settings[i].top_k;
            p.want_logprob = true;
            p.n_top_logprobs = 20;
            p.seed = r * 100 + i;
            struct sample_result out = once(&p, rows[r]);
            bool hopeless = r == 4;
            assert_true(hopeless ? out.token == 0 : rows[r][out.token] > -INFINITY);
            assert_true(!settings[i].sharp || hopeless || out.token == 1);
            assert_true(out.n_top <= 5 && (r > 2 || out.logprob <= 0));
        }
    }
}

static void huge_counts_only_push_down(void **state)
{
    (void)state;
    struct sample_params p = plain(0);
    p.frequency_penalty = 2;
    p.presence_penalty = 2;
    p.repetition_penalty = 100;
    struct sampler *s = make(&five, &p);
    uint32_t seen[5] = {0};
    for (int i = 0; i < 100000; i++) {
        float copy[5];
        memcpy(copy, known, sizeof(copy));
        struct sample_result r;
        sampler_next(s, copy, &r);
        seen[r.token]++;
        assert_true(isfinite(copy[r.token]));
    }
    for (int i = 0; i < 5; i++) {
        assert_true(seen[i] > 19000); /* the penalties level all shares */
    }
    sampler_destroy(s);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct sampler *s = NULL;
    struct err err = {0};
    struct sample_params p = plain(-1);
    assert_int_equal(sampler_create(&s, &five, &p, &err), RC_INVALID);
    assert_string_equal(err.param, "temperature");
    p = plain(NAN);
    assert_int_equal(sampler_create(&s, &five, &p, &err), RC_INVALID);
    p = plain(1);
    p.top_p = 1.5f;
    assert_int_equal(sampler_create(&s, &five, &p, &err), RC_INVALID);
    assert_string_equal(err.param, "top_p");
    const struct sample_bias outside = {5, 1};
    p = plain(1);
    p.biases = &outside;
    p.n_biases = 1;
    assert_int_equal(sampler_create(&s, &five, &p, &err), RC_INVALID);
    assert_string_equal(err.param, "logit_bias");
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_lowest_id),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(truncation_keeps_what_it_says),
        cmocka_unit_test(a_wide_nucleus_is_found),
        cmocka_unit_test(penalties_are_counted),
        cmocka_unit_test(biases_and_end_bans),
        cmocka_unit_test(logprobs_are_those_before_temperature),
        cmocka_unit_test(same_seed_same_tokens),
        cmocka_unit_test(extremes_choose_a_token_that_had_a_chance),
        cmocka_unit_test(huge_counts_only_push_down),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
