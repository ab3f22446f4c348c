/* embed_tokens.c: see embed_tokens.h.
 *
 * A pair is written [CLS] query [SEP] document [SEP], the second part being of token type 1 where
 * the model has types (BERT); <s> query </s></s> document </s> (RoBERTa); or in the words of the
 * model's own rerank template (Qwen3). */
#include "server/embed_tokens.h"

#include <stdio.h>

enum { FILLED_BYTES_MAX = 64 << 20 }; /* of one pair in its template */

/* ---- lists of tokens to one array ---- */

static enum rc no_room(struct err *err)
{
    return err_set(err, RC_TOO_LARGE, "the request is too large");
}

static enum rc join(const struct token_list *lists, uint32_t n, struct arena *a,
                    struct embed_texts *out, uint32_t *n_tokens, struct err *err)
{
    size_t n_all = 0;
    uint32_t *lengths = arena_alloc_array(a, n, sizeof(*lengths));
    for (uint32_t i = 0; lengths != NULL && i < n; i++) {
        lengths[i] = lists[i].n;
        n_all += lists[i].n;
    }
    int32_t *tokens = arena_alloc_array(a, n_all, sizeof(*tokens));
    if (lengths == NULL || tokens == NULL || n_all > UINT32_MAX) {
        return no_room(err);
    }
    *out = (struct embed_texts){.n = n, .n_tokens = lengths, .tokens = tokens};
    *n_tokens = (uint32_t)n_all;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(tokens, lists[i].ids, lists[i].n * sizeof(*tokens));
        tokens += lists[i].n;
    }
    return RC_OK;
}

/* The most tokens of a text: the model's limit, or fewer where the request cuts. */
static uint32_t tokens_max(const struct engine *e, const struct api_truncate *t)
{
    uint32_t limit = engine_info(e)->context_tokens;
    return t->asked && t->n_tokens > 0 ? MIN(limit, t->n_tokens) : limit;
}

/* ---- embeddings ---- */

static void name_input(const struct api_embed_request *r, uint32_t idx, char out[32])
{
    /* One input may have come without an array; then it has no index. */
    (void)snprintf(out, 32, r->inputs.n > 1 ? "input[%u]" : "input", idx);
}

static enum rc copy_ids(const struct engine *e, const struct api_prompt *p, struct arena *a,
                        struct token_list *out, struct err *err)
{
    uint32_t n_vocab = engine_info(e)->n_vocab;
    out->ids = arena_alloc_array(a, p->n_tokens, sizeof(*out->ids));
    out->n = p->n_tokens;
    if (out->ids == NULL) {
        return no_room(err);
    }
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i] >= n_vocab) {
            return err_set(err, RC_INVALID, "token %u is not in the vocabulary of %u", p->tokens[i],
                           n_vocab);
        }
        out->ids[i] = (int32_t)p->tokens[i];
    }
    return RC_OK;
}

/* The first tokens, and the last one where the model ends its texts with a special token. */
static void cut(const struct engine *e, const struct api_prompt *p, uint32_t n,
                struct token_list *list)
{
    const struct vocab_special *special = vocab_special(engine_vocab(e));
    if (!p->is_tokens && (special->add_sep || special->add_eos)) {
        list->ids[n - 1] = list->ids[list->n - 1];
    }
    list->n = n;
}

static enum rc encode_input(const struct engine *e, const struct api_embed_request *r, uint32_t idx,
                            struct arena *a, struct token_list *out, struct err *err)
{
    const struct api_prompt *p = &r->inputs.items[idx];
    struct encode_options opt = {.add_special = true, .parse_special = true};
    enum rc rc = p->is_tokens ? copy_ids(e, p, a, out, err)
                              : vocab_encode(engine_vocab(e), p->text, opt, a, out, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (out->n == 0) {
        return err_set(err, RC_INVALID, "the text has no tokens");
    }
    uint32_t limit = tokens_max(e, &r->truncate);
    if (out->n > limit && !r->truncate.asked) {
        return err_set(err, RC_CONTEXT,
                       "This model's maximum context length is %u tokens. However, the text has %u "
                       "tokens. Please reduce its length, or ask for truncate_prompt_tokens.",
                       limit, out->n);
    }
    if (out->n > limit) {
        cut(e, p, limit, out);
    }
    return RC_OK;
}

RC embed_tokens_inputs(const struct engine *e, const struct api_embed_request *r, struct arena *a,
                       struct embed_texts *out, uint32_t *n_tokens, struct err *err)
{
    uint32_t n = r->inputs.n;
    struct token_list *lists = arena_alloc_array(a, n, sizeof(*lists));
    if (lists == NULL) {
        return no_room(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        enum rc rc = encode_input(e, r, i, a, &lists[i], err);
        if (rc != RC_OK) {
            char name[32];
            name_input(r, i, name);
            str_copy(err->param, sizeof(err->param), str_from(name));
            return err_context(err, "'%s'", name);
        }
    }
    return join(lists, n, a, out, n_tokens, err);
}

/* ---- pairs by special tokens ---- */

/* What stands around query and document. */
struct frame {
    int32_t first;     /* or TOKEN_NONE */
    int32_t middle[2]; /* the second may be TOKEN_NONE */
    int32_t last;
};

static struct frame frame_of(const struct vocab *v)
{
    const struct vocab_special *s = vocab_special(v);
    int32_t first = s->add_bos ? s->bos : TOKEN_NONE;
    int32_t sep = s->add_sep ? s->sep : TOKEN_NONE;
    int32_t eos = s->add_eos ? s->eos : TOKEN_NONE;
    if (eos == TOKEN_NONE) {
        return (struct frame){first, {sep, TOKEN_NONE}, sep};
    }
    return (struct frame){first, {eos, sep}, eos};
}

static uint32_t frame_size(const struct frame *f)
{
    return (uint32_t)(f->first != TOKEN_NONE) + (f->middle[0] != TOKEN_NONE) +
           (f->middle[1] != TOKEN_NONE) + (f->last != TOKEN_NONE);
}

/* A pair being written. */
struct pair {
    int32_t *ids;
    uint8_t *segments;
    uint32_t n;
    uint8_t segment;
};

static void pair_add(struct pair *p, const int32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] != TOKEN_NONE) {
            p->ids[p->n] = ids[i];
            p->segments[p->n++] = p->segment;
        }
    }
}

static enum rc frame_pair(const struct engine *e, const struct frame *f,
                          const struct token_list *query, const struct token_list *doc,
                          struct arena *a, struct pair *p)
{
    size_t n = (size_t)frame_size(f) + query->n + doc->n;
    *p = (struct pair){.ids = arena_alloc_array(a, n, sizeof(*p->ids)),
                       .segments = arena_alloc_array(a, n, 1)};
    if (p->ids == NULL || p->segments == NULL) {
        return RC_TOO_LARGE;
    }
    pair_add(p, &f->first, 1);
    pair_add(p, query->ids, query->n);
    pair_add(p, f->middle, 2);
    p->segment = engine_info(e)->n_segments > 1 ? 1 : 0;
    pair_add(p, doc->ids, doc->n);
    pair_add(p, &f->last, 1);
    return RC_OK;
}

static enum rc fail_query(struct err *err, uint32_t limit, uint32_t n_query)
{
    return err_set_param(err, RC_CONTEXT, "query",
                         "This model's maximum context length is %u tokens for query and document "
                         "together; the query alone has %u.",
                         limit, n_query);
}

static enum rc framed_pairs(const struct engine *e, const struct api_rerank_request *r,
                            struct arena *a, struct pair *pairs, struct err *err)
{
    const struct vocab *v = engine_vocab(e);
    struct frame f = frame_of(v);
    struct encode_options plain = {.parse_special = true};
    struct token_list query;
    uint32_t limit = tokens_max(e, &r->truncate);
    enum rc rc = vocab_encode(v, r->query, plain, a, &query, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (query.n + frame_size(&f) >= limit) {
        return fail_query(err, limit, query.n);
    }
    uint32_t room = limit - query.n - frame_size(&f);
    room = r->doc_tokens_max > 0 ? MIN(room, r->doc_tokens_max) : room;
    for (uint32_t i = 0; i < r->n_documents; i++) {
        struct token_list doc;
        rc = vocab_encode(v, r->documents[i], plain, a, &doc, err);
        if (rc != RC_OK) {
            return rc;
        }
        doc.n = MIN(doc.n, room);
        if (frame_pair(e, &f, &query, &doc, a, &pairs[i]) != RC_OK) {
            return no_room(err);
        }
    }
    return RC_OK;
}

/* ---- pairs by the model's template ---- */

/* "{name}" in the template becomes `value`; the first of them. */
static void fill_in(struct buf *out, struct str template, struct str name, struct str value)
{
    size_t at = str_find(template, name);
    buf_add_str(out, str_slice(template, 0, at));
    if (at < template.len) {
        buf_add_str(out, value);
        buf_add_str(out, str_slice(template, at + name.len, template.len));
    }
}

/* The longest beginning of at most n bytes that cuts no character. */
static struct str head_of(struct str s, size_t n)
{
    while (n > 0 && n < s.len && ((unsigned char)s.ptr[n] & 0xc0) == 0x80) {
        n--;
    }
    return str_slice(s, 0, n);
}

/* A template with its query filled in, cut where the document goes: a query that looks like the
 * document's place is only a query. */
struct filler {
    const struct engine *e;
    struct buf head, tail;
    uint32_t n_bare; /* tokens with an empty document */
    uint32_t n_most; /* tokens with a document: more than n_bare */
};

static enum rc encode_filled(const struct filler *f, struct str doc, struct arena *a,
                             struct token_list *out, struct err *err)
{
    struct buf text;
    struct encode_options opt = {.parse_special = true};
    buf_init(&text, FILLED_BYTES_MAX);
    buf_add_str(&text, buf_str(&f->head));
    buf_add_str(&text, doc);
    buf_add_str(&text, buf_str(&f->tail));
    bool ok = buf_ok(&f->head) && buf_ok(&f->tail) && buf_ok(&text);
    enum rc rc =
        ok ? vocab_encode(engine_vocab(f->e), buf_str(&text), opt, a, out, err) : no_room(err);
    buf_deinit(&text);
    return rc;
}

/* A document that is too long is shortened by what it is over, until it fits. */
static enum rc filled_pair(const struct filler *f, struct str doc, struct arena *a,
                           struct token_list *out, struct err *err)
{
    enum rc rc = encode_filled(f, doc, a, out, err);
    while (rc == RC_OK && out->n > f->n_most && doc.len > 0) {
        double n_doc = (double)(out->n - MIN(out->n - 1, f->n_bare));
        size_t keep = (size_t)((double)doc.len * (f->n_most - f->n_bare) / n_doc);
        doc = head_of(doc, MIN(keep, doc.len - 1));
        rc = encode_filled(f, doc, a, out, err);
    }
    return rc;
}

static void filler_init(struct filler *f, const struct engine *e, struct str query)
{
    static const struct str doc_place = STR_LIT("{document}"), query_place = STR_LIT("{query}");
    struct str template = engine_rerank_template(e);
    size_t at = str_find(template, doc_place);
    *f = (struct filler){.e = e};
    buf_init(&f->head, FILLED_BYTES_MAX);
    buf_init(&f->tail, FILLED_BYTES_MAX);
    fill_in(&f->head, str_slice(template, 0, at), query_place, query);
    fill_in(&f->tail, str_slice(template, at + doc_place.len, template.len), query_place, query);
}

static enum rc filled_pairs(const struct engine *e, const struct api_rerank_request *r,
                            struct arena *a, struct pair *pairs, struct err *err)
{
    struct filler f;
    struct token_list list;
    uint32_t limit = tokens_max(e, &r->truncate);
    filler_init(&f, e, r->query);
    enum rc rc = encode_filled(&f, STR_LIT(""), a, &list, err);
    if (rc == RC_OK && list.n >= limit) {
        rc = fail_query(err, limit, list.n);
    }
    if (rc == RC_OK) {
        uint32_t room = limit - list.n;
        f.n_bare = list.n;
        f.n_most = list.n + (r->doc_tokens_max > 0 ? MIN(room, r->doc_tokens_max) : room);
    }
    for (uint32_t i = 0; rc == RC_OK && i < r->n_documents; i++) {
        rc = filled_pair(&f, r->documents[i], a, &list, err);
        pairs[i] = (struct pair){.ids = list.ids, .n = list.n};
    }
    buf_deinit(&f.head);
    buf_deinit(&f.tail);
    return rc;
}

/* ---- pairs ---- */

static enum rc join_segments(const struct pair *pairs, uint32_t n, uint32_t n_tokens,
                             struct arena *a, struct embed_texts *out, struct err *err)
{
    uint8_t *segments = arena_alloc_array(a, n_tokens, 1);
    if (segments == NULL) {
        return no_room(err);
    }
    out->segments = segments;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(segments, pairs[i].segments, pairs[i].n);
        segments += pairs[i].n;
    }
    return RC_OK;
}

RC embed_tokens_pairs(const struct engine *e, const struct api_rerank_request *r, struct arena *a,
                      struct embed_texts *out, uint32_t *n_tokens, struct err *err)
{
    uint32_t n = r->n_documents;
    struct pair *pairs = arena_alloc_array(a, n, sizeof(*pairs));
    struct token_list *lists = arena_alloc_array(a, n, sizeof(*lists));
    if (pairs == NULL || lists == NULL) {
        return no_room(err);
    }
    bool framed = engine_rerank_template(e).len == 0;
    enum rc rc = framed ? framed_pairs(e, r, a, pairs, err) : filled_pairs(e, r, a, pairs, err);
    for (uint32_t i = 0; rc == RC_OK && i < n; i++) {
        lists[i] = (struct token_list){pairs[i].ids, pairs[i].n};
        if (lists[i].n == 0) {
            rc = err_set_param(err, RC_INVALID, "documents", "a pair has no tokens");
        }
    }
    rc = rc == RC_OK ? join(lists, n, a, out, n_tokens, err) : rc;
    return rc == RC_OK && framed ? join_segments(pairs, n, *n_tokens, a, out, err) : rc;
}
