/* rerank.h: the body of POST /v1/rerank as a typed, checked request, and its reply.
 *
 * The shape that Cohere's, Jina's, vLLM's and llama.cpp's clients share. Same rules as chat.h:
 * every member is known, every refusal names its path in err.param (`documents[3]`). */
#ifndef API_RERANK_H
#define API_RERANK_H

#include "api/embed.h"

enum { API_RERANK_DOCUMENTS_MAX = 2048 };

struct api_rerank_request {
    struct str model, query;     /* never empty */
    struct str user;             /* no effect */
    const struct str *documents; /* 1 to API_RERANK_DOCUMENTS_MAX; may be empty texts */
    uint32_t n_documents;
    uint32_t top_n; /* results wanted, at most n_documents: all of them when absent */
    bool return_documents;
    uint32_t doc_tokens_max; /* max_tokens_per_doc: a document is cut behind them; 0 = not said */
    struct api_truncate truncate; /* of query and document together */
};

/* Fails as api_chat_parse does. */
RC api_rerank_parse(struct str body, struct arena *a, struct api_rerank_request *out,
                    struct err *err);

struct api_rerank_result {
    uint32_t index;  /* of the document in the request */
    float relevance; /* 0 to 1 */
};

struct api_rerank_reply {
    struct str id, model;
    const struct api_rerank_result *results; /* best first */
    uint32_t n;
    const struct str *documents; /* by index; NULL = not shown */
    uint32_t n_tokens;           /* of all pairs */
};

/* Appends to `out`; its sticky failure is the result. */
void api_rerank_write(struct buf *out, const struct api_rerank_reply *reply);

/* Best first; equals stay in the order of the request. */
void api_rerank_sort(struct api_rerank_result *results, uint32_t n);

#endif
