/* types.h: parts that several wire types share: what to generate and how, limits, usage, headers.
 *
 * All are plain data. Strings and arrays of a parsed request are borrowed: from the body's bytes
 * and from the arena it was parsed into; both must outlive it. Every number was range-checked by
 * the parser, except token ids, whose upper bound (the vocabulary) only the model server knows. */
#ifndef API_TYPES_H
#define API_TYPES_H

#include "base/str.h"

enum {
    API_MESSAGES_MAX = 4096,
    API_PARTS_MAX = 256,       /* content parts of one message */
    API_TOOL_CALLS_MAX = 128,  /* of one message */
    API_N_MAX = 16,            /* choices asked for each prompt */
    API_CHOICES_MAX = 128,     /* prompts times n of one completion */
    API_STOPS_MAX = 16,        /* stop strings */
    API_STOP_BYTES_MAX = 1024, /* of one stop string */
    API_STOP_TOKENS_MAX = 64,
    API_BIASES_MAX = 1024,       /* entries of logit_bias */
    API_TOP_LOGPROBS_MAX = 20,   /* chat */
    API_LOGPROBS_MAX = 5,        /* completions */
    API_MAX_TOKENS_DEFAULT = 16, /* completions only, as OpenAI's */
    API_MODEL_BYTES_MAX = 256,   /* of a model's name */
    API_NAME_BYTES_MAX = 512,    /* of user, safety_identifier and other labels */
};

struct api_bias {
    uint32_t token;
    float bias; /* -100 to 100, added to the logit */
};

/* How a token is chosen. Defaults in brackets. */
struct api_sampling {
    double temperature;        /* 0 to 2 [1]; 0 = greedy */
    double top_p;              /* 0 to 1 [1] */
    double min_p;              /* 0 to 1 [0 = off] */
    double repetition_penalty; /* 0.01 to 100 [1 = off] */
    double presence_penalty;   /* -2 to 2 [0] */
    double frequency_penalty;  /* -2 to 2 [0] */
    uint32_t top_k;            /* [0 = off]; -1 on the wire means off too */
    bool has_seed;
    int64_t seed;
    const struct api_bias *biases; /* no token twice */
    uint32_t n_biases;
};

/* What to generate: the part that chat and plain completions share. */
struct api_generate {
    struct str model; /* never empty */
    struct str user;  /* no effect; for usage records. Empty when absent */
    uint32_t n;       /* choices for each prompt, 1 to API_N_MAX */
    bool has_max_tokens;
    uint32_t max_tokens; /* output; without has_max_tokens as many as the context allows */
    uint32_t min_tokens; /* no end-of-sequence, stop string or stop token before; <= max_tokens */
    bool ignore_eos;
    bool logprobs;         /* of each chosen token */
    uint32_t top_logprobs; /* alternatives beside it */
    bool stream;
    bool has_stream_options; /* only with stream */
    bool include_usage;      /* of stream_options */
    const struct str *stops; /* none is empty */
    uint32_t n_stops;
    const uint32_t *stop_tokens;
    uint32_t n_stop_tokens;
    struct api_sampling sampling;
};

/* Text or token ids, never both; may be empty text. */
struct api_prompt {
    bool is_tokens;
    struct str text;
    const uint32_t *tokens;
    uint32_t n_tokens; /* at least one when is_tokens */
};

struct api_prompts {
    const struct api_prompt *items; /* at least one */
    uint32_t n;
};

/* Where texts are cut that are too long for the model: truncate_prompt_tokens, vLLM's extension. */
struct api_truncate {
    bool asked;
    uint32_t n_tokens; /* with special tokens; 0 = as many as the model takes (-1 on the wire) */
};

struct api_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens; /* of all choices */
    uint32_t cached_tokens;     /* of the prompt's, taken from the prefix cache */
    uint32_t reasoning_tokens;  /* of the completion's */
};

/* One HTTP header to send; `value` ends in a NUL. */
struct api_header {
    const char *name; /* lower case, static */
    char value[160];
};

#endif
