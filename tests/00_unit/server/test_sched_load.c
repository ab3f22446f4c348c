/* The scheduler under load, thousands of simulated requests a second: nobody starves, tenants get
 * equal shares, streams keep their pace, pages hold what they should and all come back. */
#include "00_unit/server/sched_world.h"

/* ---- everything at once ---- */

struct chaos {
    struct world w;
    struct rng rng;
    struct sim_seq q[60];
    uint32_t n_started, n_ended, n_pages;
};

static void chaos_submit(struct chaos *c)
{
    static const char *const tenants[] = {"a", "b", "c"};
    uint32_t longest = c->n_pages * KV_PAGE_TOKENS;
    uint32_t n_prompt = 1 + rng_below(&c->rng, longest / 2);
    struct sim_prompt p = {
        .n_prompt = n_prompt,
        .n_output = 1 + rng_below(&c->rng, MIN(longest - n_prompt, 100u)),
        .n_shared = rng_below(&c->rng, 2) == 0 ? rng_below(&c->rng, n_prompt + 1) : 0,
        .text = rng_below(&c->rng, 3),
        .tenant = tenants[rng_below(&c->rng, 3)],
        .class = rng_below(&c->rng, SCHED_CLASSES),
    };
    struct sim_seq *q = &c->q[c->n_started++];
    sim_start(&c->w, q, &p);
    if (!sim_submit(&c->w, q)) {
        sim_drop(&c->w, q);
        c->n_ended++;
    }
}

/* Guesses, each right half of the time. */
static void chaos_guess(struct chaos *c, struct sim_seq *q)
{
    struct sched_seq *s = &q->sched;
    s->n_draft = 0;
    if (!q->live || !s->running || s->n_tokens - s->n_cached != 1) {
        return;
    }
    uint32_t n_max = MIN(s->n_tokens_max - s->n_tokens - 1, (uint32_t)SCHED_DRAFT_MAX);
    s->n_draft = rng_below(&c->rng, n_max + 1);
    s->draft_chance = 0.5f;
    uint32_t n_output = q->n_output;
    for (uint32_t i = 0; i < s->n_draft; i++) {
        bool right = rng_below(&c->rng, 2) == 0;
        q->tokens[s->n_tokens + i] = right ? sim_next_token(q) : -9;
        q->n_output++;
    }
    q->n_output = n_output;
}

static void chaos_end(struct chaos *c, struct sim_seq *q, bool check)
{
    /* What it said is what it would have said alone. */
    uint32_t n_said = q->n_output;
    for (q->n_output = 0; check && q->n_output < n_said; q->n_output++) {
        assert_int_equal(q->tokens[q->sched.n_prompt + q->n_output], sim_next_token(q));
    }
    sim_end(&c->w, q);
    c->n_ended++;
}

static bool chaos_is_stuck(const struct chaos *c)
{
    for (uint32_t i = 0; i < c->n_started; i++) {
        if (c->q[i].live && c->q[i].sched.paused) {
            return false;
        }
    }
    return sched_n_running(&c->w.s) + sched_n_waiting(&c->w.s) > 0;
}

static void chaos_turn(struct chaos *c)
{
    struct world *w = &c->w;
    if (c->n_started < ARRAY_LEN(c->q) && rng_below(&c->rng, 3) == 0) {
        chaos_submit(c);
    }
    for (uint32_t i = 0; i < c->n_started; i++) {
        chaos_guess(c, &c->q[i]);
    }
    const struct sched_plan *plan = world_step(w);
    sched_check(&w->s);
    assert_false(plan->n_rows == 0 && chaos_is_stuck(c));
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        struct sched_row row = plan->rows[i];
        struct sim_seq *q = CONTAINER_OF(row.seq, struct sim_seq, sched);
        if (row.wants_logits && !sim_sample(w, &row)) {
            chaos_end(c, q, true);
        }
    }
    w->now_ns += 1 + rng_below(&c->rng, 3) * MS;
    if (c->n_started > 0) {
        struct sim_seq *q = &c->q[rng_below(&c->rng, c->n_started)];
        if (q->live && rng_below(&c->rng, 200) == 0) {
            chaos_end(c, q, true); /* cancelled, wherever it stands */
        } else {
            q->sched.paused = q->live && !q->sched.paused && rng_below(&c->rng, 4) == 0;
        }
    }
}

static void chaos_ends_and_every_page_comes_back(void **state)
{
    (void)state;
    struct chaos *c = mem_zalloc(sizeof(*c));
    uint64_t n_preempted = 0, n_hits = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        *c = (struct chaos){0};
        rng_init(&c->rng, seed);
        c->n_pages = 4 + rng_below(&c->rng, 30);
        struct sched_conf conf = {.rows_max = 16 + rng_below(&c->rng, 100),
                                  .running_max = 1 + rng_below(&c->rng, 12),
                                  .tenant_running_max = rng_below(&c->rng, 4),
                                  .waiting_max = 64,
                                  .aging_ns = (1 + rng_below(&c->rng, 2000)) * MS};
        world_open(&c->w, &conf, c->n_pages);
        for (uint32_t turn = 0; c->n_ended < ARRAY_LEN(c->q); turn++) {
            assert_true(turn < 100000);
            chaos_turn(c);
        }
        n_preempted += sched_counts(&c->w.s)->n_preempted;
        n_hits += sched_counts(&c->w.s)->n_hit_tokens;
        world_close(&c->w);
    }
    assert_true(n_preempted > 100 && n_hits > 1000);
    mem_free(c);
}

/* ---- long runs with arrivals ---- */

enum { LOAD_SEQS = 2500 };

/* An open loop of requests; `ask` says what the i-th is and when it comes. */
struct load {
    struct world w;
    struct rng rng;
    struct sim_seq *q;
    uint64_t *due_ns;
    uint32_t n, n_started, n_ended;
};

static void load_open(struct load *l, const struct sched_conf *conf, uint32_t n_pages, uint32_t n)
{
    *l = (struct load){.n = n};
    rng_init(&l->rng, 11);
    world_open(&l->w, conf, n_pages);
    l->q = mem_zalloc_array(n, sizeof(*l->q));
    l->due_ns = mem_zalloc_array(n, sizeof(*l->due_ns));
}

static void load_close(struct load *l)
{
    world_close(&l->w);
    mem_free(l->q);
    mem_free(l->due_ns);
}

/* Starts what is due, runs a step, or waits for the next arrival. */
static void load_turn(struct load *l, void (*ask)(struct load *l, uint32_t i, struct sim_prompt *p))
{
    struct world *w = &l->w;
    while (l->n_started < l->n && l->due_ns[l->n_started] <= w->now_ns) {
        struct sim_prompt p = {0};
        struct sim_seq *q = &l->q[l->n_started];
        ask(l, l->n_started++, &p);
        sim_start(w, q, &p);
        assert_true(sim_submit(w, q));
    }
    l->n_ended += world_turn(w);
    if (w->s.plan.n_rows == 0) {
        assert_true(l->n_started < l->n);
        w->now_ns = l->due_ns[l->n_started];
    }
}

static void ask_mixed(struct load *l, uint32_t i, struct sim_prompt *p)
{
    UNUSED(i);
    *p = (struct sim_prompt){.n_prompt = 20 + rng_below(&l->rng, 100),
                             .n_output = 5 + rng_below(&l->rng, 30),
                             .class = rng_below(&l->rng, SCHED_CLASSES)};
    if (rng_below(&l->rng, 40) == 0) {
        p->n_prompt = 3000;
    }
}

/* At some three quarters of what the engine can do: every class is served, none waits for ever. */
static void nobody_starves(void **state)
{
    (void)state;
    struct load l;
    struct sched_conf conf = {
        .rows_max = 512, .running_max = 32, .waiting_max = 4000, .aging_ns = 5000 * MS};
    load_open(&l, &conf, 1024, LOAD_SEQS);
    for (uint32_t i = 0; i < l.n; i++) {
        l.due_ns[i] =
            l.w.now_ns + (i > 0 ? l.due_ns[i - 1] - l.w.now_ns : 0) + rng_below(&l.rng, 560) * MS;
    }
    while (l.n_ended < l.n) {
        load_turn(&l, ask_mixed);
    }
    double wait_ms[SCHED_CLASSES] = {0};
    uint32_t n[SCHED_CLASSES] = {0};
    for (uint32_t i = 0; i < l.n; i++) {
        double ms = (double)(l.q[i].first_ns - l.due_ns[i]) / 1e6;
        assert_true(ms < 60000);
        wait_ms[l.q[i].sched.class] += ms;
        n[l.q[i].sched.class]++;
    }
    for (int k = 0; k < SCHED_CLASSES; k++) {
        wait_ms[k] /= n[k];
    }
    assert_true(wait_ms[0] <= wait_ms[2]);
    assert_true(wait_ms[0] < 2000);
    load_close(&l);
}

/* ---- fairness ---- */

static void ask_flood(struct load *l, uint32_t i, struct sim_prompt *p)
{
    UNUSED(l);
    *p = (struct sim_prompt){
        .n_prompt = 60, .n_output = 20, .tenant = i % 10 == 0 ? "modest" : "greedy"};
}

/* One tenant asks nine times as much: as long as both have work, they get the same. */
static void a_flood_of_one_tenant_leaves_the_other_its_share(void **state)
{
    (void)state;
    struct load l;
    struct sched_conf conf = {.rows_max = 512, .running_max = 8, .waiting_max = 8000};
    load_open(&l, &conf, 256, LOAD_SEQS);
    for (uint32_t i = 0; i < l.n; i++) {
        l.due_ns[i] = l.w.now_ns;
    }
    uint64_t one = 60 * FAIR_INPUT_WEIGHT + 20 * FAIR_OUTPUT_WEIGHT;
    uint32_t n_modest_left = l.n / 10;
    while (l.n_ended < l.n) {
        load_turn(&l, ask_flood);
        const struct fair_tenant *modest = l.q[0].sched.tenant;
        const struct fair_tenant *greedy = l.q[1].sched.tenant;
        if (modest->n_seqs > conf.running_max) {
            uint64_t apart = modest->served > greedy->served ? modest->served - greedy->served
                                                             : greedy->served - modest->served;
            assert_true(apart <= (conf.running_max + 1) * one);
            n_modest_left = modest->n_seqs;
        }
    }
    assert_true(n_modest_left <= conf.running_max + 1); /* it was seen to the end */
    load_close(&l);
}

/* ---- pace ---- */

enum { STREAMS = 8 };

struct arrival {
    struct world w;
    struct sim_seq q[STREAMS + 1]; /* the last one reads the long prompt */
};

static void arrival_open(struct arrival *a)
{
    struct sched_conf conf = {.rows_max = 512, .running_max = 16, .waiting_max = 16};
    world_open(&a->w, &conf, 512);
    for (int i = 0; i < STREAMS; i++) {
        sim_start(&a->w, &a->q[i], &(struct sim_prompt){.n_prompt = 50, .n_output = 400});
        assert_true(sim_submit(&a->w, &a->q[i]));
    }
}

static void arrival_close(struct arrival *a)
{
    for (int i = 0; i <= STREAMS; i++) {
        if (list_is_linked(&a->q[i].sched.node)) {
            sched_remove(&a->w.s, &a->q[i].sched);
        }
        sim_drop(&a->w, &a->q[i]);
    }
    world_close(&a->w);
}

/* A step; returns how many sequences ended. Their figures are still wanted. */
static uint32_t arrival_step(struct arrival *a)
{
    uint32_t n_ended = 0;
    const struct sched_plan *plan = world_step(&a->w);
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        struct sched_row row = plan->rows[i];
        if (row.wants_logits && !sim_sample(&a->w, &row)) {
            sched_remove(&a->w.s, row.seq);
            n_ended++;
        }
    }
    return n_ended;
}

static void arrival_long_prompt(struct arrival *a)
{
    struct sim_prompt p = {.n_prompt = 4096, .n_output = 10};
    sim_start(&a->w, &a->q[STREAMS], &p);
    assert_true(sim_submit(&a->w, &a->q[STREAMS]));
}

/* Eight streams, and a long prompt arrives; the engine is slower than believed and hiccups. */
static void no_stream_waits_long_for_a_long_prompt(void **state)
{
    (void)state;
    struct arrival a;
    struct rng rng;
    rng_init(&rng, 2);
    arrival_open(&a);
    for (int i = 0; i < COST_PARTS; i++) {
        a.w.truth.ns[i] *= 1.4;
    }
    uint32_t n_steps = 0;
    for (uint32_t n_live = STREAMS + 1; n_live > 0; n_steps++) {
        if (n_steps == 60) {
            arrival_long_prompt(&a);
        }
        a.w.now_ns += rng_below(&rng, 20) == 0 ? 30 * MS : 0;
        n_live -= arrival_step(&a);
    }
    for (int i = 0; i < STREAMS; i++) {
        assert_true(a.q[i].gap_ns_max < 200 * MS);
    }
    /* And the prompt is not held up more than it must: it had at least half of the time. */
    double alone_ns = cost_prompt_ns(&a.w.truth, 0, 4096);
    assert_true((double)(a.q[STREAMS].first_ns - a.q[STREAMS].sched.arrived_ns) < 3 * alone_ns);
    arrival_close(&a);
}

/* The same, and while the prompt is read the machine becomes two and a half times slower, then
 * twice as fast as it was: three steps later the steps are as long as they should be again. */
static void steps_keep_their_length_when_the_machine_changes(void **state)
{
    (void)state;
    static const double paces[] = {1, 2.5, 0.5, 1};
    enum { STEPS = 12 };
    struct arrival a;
    arrival_open(&a);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(arrival_step(&a), 0);
    }
    arrival_long_prompt(&a);
    for (uint32_t n = 0; n < STEPS * ARRAY_LEN(paces); n++) {
        a.w.truth.pace = paces[n / STEPS];
        uint64_t start_ns = a.w.now_ns;
        assert_int_equal(arrival_step(&a), 0);
        uint64_t took_ns = a.w.now_ns - start_ns;
        assert_true(took_ns < 260 * MS);
        assert_true(n % STEPS < 3 || (took_ns > 70 * MS && took_ns < 130 * MS));
    }
    assert_true(a.q[STREAMS].first_ns == 0); /* all along there was something to read */
    arrival_close(&a);
}

/* Decoding alone takes longer than the budget: prompts go on, and tokens come as often as can be.
 */
static void slow_decoding_leaves_prompts_some_time(void **state)
{
    (void)state;
    struct arrival a;
    arrival_open(&a);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(arrival_step(&a), 0);
    }
    a.w.truth.pace = a.w.cost.pace = 12; /* eight streams: about 130 ms */
    for (int i = 0; i < COST_PACE_STEPS; i++) {
        a.w.cost.seen[i] = 12;
    }
    arrival_long_prompt(&a);
    for (int i = 0; i < 100; i++) {
        uint64_t start_ns = a.w.now_ns;
        uint32_t read = a.q[STREAMS].sched.n_cached;
        assert_int_equal(arrival_step(&a), 0);
        assert_true(a.w.now_ns - start_ns < 200 * MS);
        assert_true(a.q[STREAMS].sched.n_cached > read);
    }
    arrival_close(&a);
}

/* ---- predictions ---- */

static struct admit_limits limits_of(const struct world *w)
{
    return (struct admit_limits){.budget_ns = w->budget_ns,
                                 .waiting_ns_max = 60000 * MS,
                                 .now_ns = w->now_ns,
                                 .fair = &w->fair};
}

/* Predicted times to the first token are near the real ones, at every depth of the line. */
static void predictions_are_near_what_happens(void **state)
{
    (void)state;
    enum { N = 60 };
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = 8, .waiting_max = 1000};
    struct sim_seq q[N];
    double predicted[N];
    world_open(&w, &conf, 512);
    w.s.output_mean = 30;
    uint64_t start_ns = w.now_ns;
    for (int i = 0; i < N; i++) {
        sim_start(&w, &q[i], &(struct sim_prompt){.n_prompt = 100, .n_output = 30});
        q[i].sched.n_to_read = 100;
        struct admit_limits limits = limits_of(&w);
        predicted[i] = admit_predict_ns(&w.s, &q[i].sched, &limits);
        assert_true(sim_submit(&w, &q[i]));
        if (i == 10) {
            (void)world_turn(&w); /* some run by now */
        }
    }
    world_finish(&w, N);
    for (int i = 0; i < N; i++) {
        double real = (double)(q[i].first_ns - start_ns);
        assert_true(predicted[i] < 3 * real + 300e6);
        assert_true(i < 12 || predicted[i] > real / 3);
    }
    world_close(&w);
}

/* A book is being read while others write: a question is told its own time, not the book's, and
 * gets its answer in about that. */
static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    (void)state;
    enum { N_WRITERS = 4, N = N_WRITERS + 2 };
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = 8, .waiting_max = 8};
    struct sim_seq q[N];
    world_open(&w, &conf, 2048);
    for (int i = 0; i < N_WRITERS; i++) {
        sim_start(&w, &q[i], &(struct sim_prompt){.n_prompt = 10, .n_output = 1000});
        assert_true(sim_submit(&w, &q[i]));
    }
    struct sim_seq *book = &q[N_WRITERS];
    sim_start(&w, book, &(struct sim_prompt){.n_prompt = 20000, .n_output = 2});
    assert_true(sim_submit(&w, book));
    for (int i = 0; i < 120; i++) { /* more than aging_ns: the book's level has risen */
        (void)world_turn(&w);
    }
    assert_true(book->first_ns == 0);
    struct sim_seq *question = &q[N_WRITERS + 1];
    sim_start(&w, question, &(struct sim_prompt){.n_prompt = 200, .n_output = 2});
    question->sched.n_to_read = 200;
    struct admit_limits limits = limits_of(&w);
    double predicted = admit_predict_ns(&w.s, &question->sched, &limits);
    limits.now_ns = w.now_ns;
    limits.waiting_ns_max = 2000 * MS;
    struct err err;
    assert_int_equal(admit_check(&w.s, &question->sched, &limits, &err), RC_OK);
    uint64_t at_ns = w.now_ns;
    assert_true(sim_submit(&w, question));
    for (int i = 0; i < 100 && question->first_ns == 0; i++) {
        (void)world_turn(&w);
    }
    double real = (double)(question->first_ns - at_ns);
    assert_true(question->first_ns != 0 && real < 1e9);
    assert_true(predicted < 3 * real && real < 3 * predicted);
    assert_true(book->first_ns == 0);
    for (int i = 0; i < N; i++) {
        sim_end(&w, &q[i]);
    }
    world_close(&w);
}

static void what_cannot_be_done_in_time_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct sched_conf conf = {.rows_max = 512, .running_max = 2, .waiting_max = 400};
    struct sim_seq q[200];
    struct err err;
    world_open(&w, &conf, 2048);
    /* A prompt of 3,000 tokens takes some 4 s. */
    sim_start(&w, &q[0], &(struct sim_prompt){.n_prompt = 3000, .n_output = 30});
    q[0].sched.n_to_read = sched_n_to_read(&w.s, &q[0].sched);
    struct admit_limits limits = limits_of(&w);
    limits.deadline_ns = w.now_ns + 1000 * MS;
    assert_int_equal(admit_check(&w.s, &q[0].sched, &limits, &err), RC_BUSY);
    assert_true(err.retry_ms >= 1000);
    limits.deadline_ns = w.now_ns + 10000 * MS;
    assert_int_equal(admit_check(&w.s, &q[0].sched, &limits, &err), RC_OK);
    limits.deadline_ns = w.now_ns - 1;
    assert_int_equal(admit_check(&w.s, &q[0].sched, &limits, &err), RC_TIMEOUT);
    limits.deadline_ns = 0;
    int n = 0;
    while (n < 200) {
        limits = limits_of(&w);
        if (n > 0) {
            sim_start(&w, &q[n], &(struct sim_prompt){.n_prompt = 500, .n_output = 200});
            q[n].sched.n_to_read = sched_n_to_read(&w.s, &q[n].sched);
        }
        if (admit_check(&w.s, &q[n].sched, &limits, &err) != RC_OK) {
            break;
        }
        assert_true(sim_submit(&w, &q[n++]));
        assert_int_equal(world_turn(&w), 0);
    }
    assert_in_range(n, 5, 150); /* a minute's worth */
    assert_int_equal(err.code, RC_BUSY);
    assert_true(err.retry_ms >= 1000);
    /* Another tenant is not refused for the first one's line. */
    struct sim_seq other;
    sim_start(&w, &other, &(struct sim_prompt){.n_prompt = 50, .n_output = 20, .tenant = "other"});
    other.sched.n_to_read = 50;
    assert_int_equal(admit_check(&w.s, &other.sched, &limits, &err), RC_OK);
    sim_drop(&w, &other);
    sim_drop(&w, &q[n]);
    for (int i = 0; i < n; i++) {
        sim_end(&w, &q[i]);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chaos_ends_and_every_page_comes_back),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(a_flood_of_one_tenant_leaves_the_other_its_share),
        cmocka_unit_test(no_stream_waits_long_for_a_long_prompt),
        cmocka_unit_test(steps_keep_their_length_when_the_machine_changes),
        cmocka_unit_test(slow_decoding_leaves_prompts_some_time),
        cmocka_unit_test(predictions_are_near_what_happens),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(what_cannot_be_done_in_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
