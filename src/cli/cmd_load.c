/* cmd_load.c: `bud load`: options, and the report as a table or JSON. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/load.h"
#include "cli/print.h"

static const struct args_row cmd_load_options[] = {
    {"--clients", 'c', "N", "closed loop: requests in flight (default 1)"},
    {"--rate", 0, "R", "open loop: R requests per second, at random times"},
    {"--requests", 'n', "N", "requests to send (default 4 for each client; open loop: 64)"},
    {"--seconds", 0, "N", "send no more after N seconds (then without default number)"},
    {"--api", 0, "NAME", "chat, completions or embeddings (default chat)"},
    {"--model", 'm', "NAME", "model to ask (default: the first that the server lists)"},
    {"--key", 'k', "KEY", "API key (default: OPENAI_API_KEY of the environment)"},
    {"--words", 'w', "N", "words of each request's own prompt (default 75)"},
    {"--prefix-words", 0, "N", "words before them, the same in every request (default 0)"},
    {"--inputs", 0, "N", "texts of one embeddings request (default 1)"},
    {"--max-tokens", 0, "N", "tokens to generate (default 64)"},
    {"--temp", 0, "X", "temperature (default 1)"},
    {"--no-stream", 0, NULL, "ask for whole answers"},
    {"--timeout", 0, "S", "seconds without a byte after which a request fails (default 300)"},
    {"--seed", 0, "N", "same seed, same prompts and arrival times (default 1)"},
    LOAD_URL_OPTIONS,
    {"--json", 0, NULL, "print JSON"},
    {0},
};

/* ---- options ---- */

static enum rc load_numbers(struct load_conf *c, const struct args *a, struct err *err)
{
    const struct {
        const char *name;
        uint32_t min, max;
        uint32_t *out;
    } rows[] = {
        {"--clients", 1, LOAD_CLIENTS_MAX, &c->n_clients},
        {"--words", 0, LOAD_WORDS_MAX, &c->text.n_words},
        {"--prefix-words", 0, LOAD_WORDS_MAX, &c->text.n_prefix_words},
        {"--inputs", 1, LOAD_INPUTS_MAX, &c->text.n_inputs},
        {"--max-tokens", 1, 1 << 20, &c->text.max_tokens},
    };
    float rate = 0;
    float temperature = 1;
    uint64_t timeout_s = 300;
    enum rc rc = RC_OK;
    for (size_t i = 0; i < ARRAY_LEN(rows) && rc == RC_OK; i++) {
        rc = args_u32(a, rows[i].name, rows[i].min, rows[i].max, rows[i].out, err);
    }
    rc = rc == RC_OK ? args_u64(a, "--seconds", 1, 1000000, &c->seconds_max, err) : rc;
    c->n_requests = args_has(a, "--rate") ? 64 : (uint64_t)c->n_clients * 4;
    c->n_requests = c->seconds_max > 0 ? UINT64_MAX : c->n_requests;
    rc = rc == RC_OK ? args_u64(a, "--requests", 1, UINT32_MAX, &c->n_requests, err) : rc;
    rc = rc == RC_OK ? args_u64(a, "--timeout", 1, 86400, &timeout_s, err) : rc;
    rc = rc == RC_OK ? args_u64(a, "--seed", 0, INT64_MAX, &c->text.seed, err) : rc;
    rc = rc == RC_OK ? args_f32(a, "--rate", 0.001, 100000, &rate, err) : rc;
    rc = rc == RC_OK ? args_f32(a, "--temp", 0, 2, &temperature, err) : rc;
    c->rate = (double)rate;
    c->text.temperature = (double)temperature;
    c->timeout_ms = timeout_s * 1000;
    return rc;
}

static enum rc load_options(struct load_conf *c, const struct args *a, struct err *err)
{
    *c = (struct load_conf){.n_clients = 1};
    c->text = (struct load_text){.n_words = 75, .n_inputs = 1, .max_tokens = 64, .seed = 1};
    enum rc rc = load_url_parse(&c->url, str_from(args_word(a, 0)), err);
    rc = rc == RC_OK ? load_trust_read(&c->trust, &c->url, a, err) : rc;
    rc = rc == RC_OK ? load_numbers(c, a, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (args_has(a, "--rate") && args_has(a, "--clients")) {
        return err_set(err, RC_INVALID, "--rate and --clients exclude each other");
    }
    const char *api = args_str(a, "--api", "chat");
    if (!load_api_parse(str_from(api), &c->text.api)) {
        return err_set(err, RC_INVALID, "--api %s: expected chat, completions or embeddings", api);
    }
    if (c->text.n_words == 0 && c->text.n_prefix_words == 0) {
        return err_set(err, RC_INVALID, "--words 0 without --prefix-words: the prompt is empty");
    }
    if (c->text.api != LOAD_EMBEDDINGS && args_has(a, "--inputs")) {
        return err_set(err, RC_INVALID, "--inputs belongs to --api embeddings");
    }
    const char *key = args_str(a, "--key", getenv("OPENAI_API_KEY"));
    c->key = key != NULL && key[0] != '\0' ? key : NULL;
    if (c->key != NULL && strlen(c->key) > 1000) {
        return err_set(err, RC_INVALID, "--key: longer than 1000 bytes");
    }
    c->text.model = str_from(args_str(a, "--model", ""));
    c->text.stream = c->text.api != LOAD_EMBEDDINGS && !args_has(a, "--no-stream");
    return RC_OK;
}

/* ---- figures ---- */

static double load_rate(uint64_t n, const struct load_report *r)
{
    return r->wall_s > 0 ? (double)n / r->wall_s : 0;
}

/* How the times are called, and where they lie in the report. */
static const struct {
    const char *label, *member;
    size_t offset;
} load_times[] = {
    {"first text", "ttft_ms", offsetof(struct load_report, ttft)},
    {"between pieces", "gap_ms", offsetof(struct load_report, gap)},
    {"whole answer", "latency_ms", offsetof(struct load_report, latency)},
};

static const struct load_hist *load_time(const struct load_report *r, size_t i)
{
    return (const struct load_hist *)((const char *)r + load_times[i].offset);
}

static void load_text_out(const struct load_conf *c, const struct load_report *r, struct buf *out)
{
    buf_add_printf(out, "%s%s, %s, model ", c->url.authority, c->url.path,
                   load_api_name(c->text.api));
    print_escaped(out, str_from(r->model), 80);
    if (c->rate > 0) {
        buf_add_printf(out, ", open loop of %g requests per second\n", c->rate);
    } else {
        buf_add_printf(out, ", closed loop of %u clients\n", c->n_clients);
    }
    buf_add_printf(out,
                   "  requests   %" PRIu64 " ok, %" PRIu64 " failed in %.2f s: %.2f per second%s\n",
                   r->n_ok, r->n_failed, r->wall_s, load_rate(r->n_ok, r),
                   r->interrupted ? " (interrupted)" : "");
    buf_add_printf(out,
                   "  tokens     %" PRIu64 " prompt, %" PRIu64
                   " generated: %.2f generated per second%s\n",
                   r->prompt_tokens, r->completion_tokens, load_rate(r->completion_tokens, r),
                   r->usage_told ? "" : " (pieces counted: not every answer told its tokens)");
    if (c->text.api == LOAD_EMBEDDINGS) {
        buf_add_printf(out, "  texts      %" PRIu64 ": %.2f per second\n", r->n_texts,
                       load_rate(r->n_texts, r));
    }
    buf_add_printf(out, "  %-16s %9s %9s %9s %9s %9s\n", "ms", "mean", "p50", "p90", "p99", "max");
    for (size_t i = 0; i < ARRAY_LEN(load_times); i++) {
        const struct load_hist *h = load_time(r, i);
        if (h->n > 0) {
            buf_add_printf(out, "  %-16s %9.1f %9.1f %9.1f %9.1f %9.1f\n", load_times[i].label,
                           load_hist_mean_ns(h) * 1e-6, load_hist_quantile_ns(h, 0.5) * 1e-6,
                           load_hist_quantile_ns(h, 0.9) * 1e-6,
                           load_hist_quantile_ns(h, 0.99) * 1e-6, (double)h->max_ns * 1e-6);
        }
    }
    buf_add_printf(
        out, "  the generator took %.1f %% of a core; its timers were %.1f ms late at p99\n",
        100 * r->cpu_s / MAX(r->wall_s, 1e-9), load_hist_quantile_ns(&r->beat_late, 0.99) * 1e-6);
    for (uint32_t i = 0; i < r->n_errors; i++) {
        buf_add_printf(out, "  failed     %" PRIu64 " x %s\n", r->errors[i].n, r->errors[i].what);
    }
}

static void load_json_time(struct json_writer *w, const char *name, const struct load_hist *h)
{
    json_write_name(w, name);
    json_write_object_begin(w);
    json_write_member_u64(w, "n", h->n);
    json_write_member_f64(w, "mean", load_hist_mean_ns(h) * 1e-6);
    json_write_member_f64(w, "p50", load_hist_quantile_ns(h, 0.5) * 1e-6);
    json_write_member_f64(w, "p90", load_hist_quantile_ns(h, 0.9) * 1e-6);
    json_write_member_f64(w, "p99", load_hist_quantile_ns(h, 0.99) * 1e-6);
    json_write_member_f64(w, "max", (double)h->max_ns * 1e-6);
    json_write_object_end(w);
}

static void load_json_errors(struct json_writer *w, const struct load_report *r)
{
    json_write_name(w, "errors");
    json_write_array_begin(w);
    for (uint32_t i = 0; i < r->n_errors; i++) {
        json_write_object_begin(w);
        json_write_member_cstr(w, "what", r->errors[i].what);
        json_write_member_u64(w, "n", r->errors[i].n);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

static void load_json_out(const struct load_conf *c, const struct load_report *r, struct buf *out)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "api", load_api_name(c->text.api));
    json_write_member_cstr(&w, "model", r->model);
    json_write_member_cstr(&w, "loop", c->rate > 0 ? "open" : "closed");
    if (c->rate > 0) {
        json_write_member_f64(&w, "rate", c->rate);
    } else {
        json_write_member_u64(&w, "clients", c->n_clients);
    }
    json_write_member_u64(&w, "ok", r->n_ok);
    json_write_member_u64(&w, "failed", r->n_failed);
    json_write_member_bool(&w, "interrupted", r->interrupted);
    json_write_member_f64(&w, "wall_s", r->wall_s);
    json_write_member_f64(&w, "requests_per_s", load_rate(r->n_ok, r));
    json_write_member_u64(&w, "prompt_tokens", r->prompt_tokens);
    json_write_member_u64(&w, "completion_tokens", r->completion_tokens);
    json_write_member_bool(&w, "tokens_told", r->usage_told);
    json_write_member_f64(&w, "tokens_per_s", load_rate(r->completion_tokens, r));
    json_write_member_u64(&w, "texts", r->n_texts);
    json_write_member_f64(&w, "texts_per_s", load_rate(r->n_texts, r));
    for (size_t i = 0; i < ARRAY_LEN(load_times); i++) {
        load_json_time(&w, load_times[i].member, load_time(r, i));
    }
    load_json_time(&w, "generator_late_ms", &r->beat_late);
    json_write_member_f64(&w, "generator_cores", r->cpu_s / MAX(r->wall_s, 1e-9));
    load_json_errors(&w, r);
    json_write_object_end(&w);
    buf_add_byte(out, '\n');
}

/* ---- command ---- */

static enum rc load_print(const struct args *a, const struct load_conf *c,
                          const struct load_report *r, struct err *err)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    if (args_has(a, "--json")) {
        load_json_out(c, r, &out);
    } else {
        load_text_out(c, r, &out);
    }
    enum rc rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

static enum rc cmd_load_main(const struct args *a, struct err *err)
{
    struct load_conf conf;
    enum rc rc = load_options(&conf, a, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct load_report *r = mem_zalloc(sizeof(*r));
    rc = load_run(&conf, r, err);
    if (rc == RC_OK && r->n_ok == 0 && r->n_failed > 0) {
        rc = err_set(err, RC_UPSTREAM, "no request was answered: %s", r->errors[0].what);
    } else if (rc == RC_OK) {
        rc = load_print(a, &conf, r, err);
    }
    mem_free(r);
    return rc;
}

const struct command cmd_load = {
    .name = "load",
    .words = "URL",
    .line = "Load an OpenAI-compatible server and measure what its clients see",
    .help =
        "URL is http://HOST:PORT or https://…, with the API's path if that is not /v1, or\n"
        "unix:PATH. A closed loop keeps N requests in flight. An open loop sends them as a\n"
        "Poisson process, and counts\n"
        "times from when a request was due, not from when it could be sent. Prompts are random\n"
        "common words. First text is the first event with text in it; pieces are such events.\n"
        "Times are taken when bytes are read, quantiles are exact to 0.8 %, arrivals to 1 ms; the\n"
        "report says what the generator itself took and how late its timers were.\n",
    .options = cmd_load_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_load_main,
};
