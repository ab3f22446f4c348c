/* load_text.c: see load_text.h. */
#include "cli/load_text.h"

#include "base/json.h"
#include "base/rng.h"

static const struct {
    const char *name, *target;
} load_apis[LOAD_APIS_N] = {
    [LOAD_CHAT] = {"chat", "/chat/completions"},
    [LOAD_COMPLETIONS] = {"completions", "/completions"},
    [LOAD_EMBEDDINGS] = {"embeddings", "/embeddings"},
};

/* Common words: one or two tokens each for most vocabularies. */
static const char *const load_words[] = {
    "time",    "year",    "people",   "way",    "day",    "man",     "thing",   "woman",
    "life",    "child",   "world",    "school", "state",  "family",  "student", "group",
    "country", "problem", "hand",     "part",   "place",  "case",    "week",    "company",
    "system",  "program", "question", "work",   "number", "night",   "point",   "home",
    "water",   "room",    "mother",   "area",   "money",  "story",   "fact",    "month",
    "lot",     "right",   "study",    "book",   "eye",    "job",     "word",    "business",
    "issue",   "side",    "kind",     "head",   "house",  "service", "friend",  "father",
    "power",   "hour",    "game",     "line",   "end",    "member",  "law",     "car",
};

const char *load_api_name(enum load_api api)
{
    return load_apis[api].name;
}

bool load_api_parse(struct str name, enum load_api *out)
{
    for (uint32_t i = 0; i < LOAD_APIS_N; i++) {
        if (str_is(name, load_apis[i].name)) {
            *out = (enum load_api)i;
            return true;
        }
    }
    return false;
}

const char *load_api_target(enum load_api api)
{
    return load_apis[api].target;
}

/* Words have letters only: nothing to escape. */
static void load_text_words(struct buf *out, struct rng *rng, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0) {
            buf_add_byte(out, ' ');
        }
        buf_add_cstr(out, load_words[rng_below(rng, ARRAY_LEN(load_words))]);
    }
}

/* One prompt as a JSON string; the number of the text makes its own words its own. */
static void load_text_prompt(struct buf *out, const struct load_text *t, uint64_t number)
{
    struct rng rng;
    buf_add_byte(out, '"');
    rng_init(&rng, t->seed);
    load_text_words(out, &rng, t->n_prefix_words);
    if (t->n_prefix_words > 0 && t->n_words > 0) {
        buf_add_byte(out, ' ');
    }
    rng_init(&rng, t->seed + 0x9E3779B97F4A7C15u * (number + 1));
    load_text_words(out, &rng, t->n_words);
    buf_add_byte(out, '"');
}

static void load_text_embeddings(struct buf *out, const struct load_text *t, uint64_t number)
{
    /* Base64 is what the official clients ask for, and cheap to read. */
    buf_add_cstr(out, ",\"encoding_format\":\"base64\",\"input\":[");
    for (uint32_t i = 0; i < t->n_inputs; i++) {
        if (i > 0) {
            buf_add_byte(out, ',');
        }
        load_text_prompt(out, t, number * t->n_inputs + i);
    }
    buf_add_cstr(out, "]}");
}

void load_text_body(struct buf *out, const struct load_text *t, uint64_t number)
{
    struct json_writer w;
    buf_add_cstr(out, "{\"model\":");
    json_write_init(&w, out);
    json_write_str(&w, t->model);
    if (t->api == LOAD_EMBEDDINGS) {
        load_text_embeddings(out, t, number);
        return;
    }
    buf_add_printf(out, ",\"max_tokens\":%u,\"temperature\":%g,\"seed\":%llu", t->max_tokens,
                   t->temperature, (unsigned long long)((t->seed + number) & INT32_MAX));
    if (t->stream) {
        buf_add_cstr(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    }
    if (t->api == LOAD_CHAT) {
        buf_add_cstr(out, ",\"messages\":[{\"role\":\"user\",\"content\":");
        load_text_prompt(out, t, number);
        buf_add_cstr(out, "}]}");
    } else {
        buf_add_cstr(out, ",\"prompt\":");
        load_text_prompt(out, t, number);
        buf_add_cstr(out, "}");
    }
}
