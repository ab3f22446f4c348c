/* answer.c: one answer: its blocks, the window over them, who reads and who writes. */
#include "base/assert.h"
#include "base/mem.h"
#include "gateway/answer_private.h"

/* ---- memory ---- */

static size_t answer_block_cost(const struct answer_block *b)
{
    return sizeof(*b) + sizeof(b) + b->n_bytes;
}

void answer_count_locked(struct answer *a)
{
    size_t holds = sizeof(*a) + a->lines.len + a->block_bytes;
    size_t now = a->over ? holds : MAX(holds, (size_t)ANSWER_RESERVE_BYTES);
    a->store->held_bytes = a->store->held_bytes - a->held_bytes + now;
    a->held_bytes = now;
}

void answer_block_put(struct answer_block *b)
{
    if (--b->n_refs == 0) {
        mem_free(b);
    }
}

void answer_free_locked(struct answer *a)
{
    ASSERT(a->n_readers == 0 && a->writer == NULL);
    for (uint32_t i = 0; i < a->n_blocks; i++) {
        answer_block_put(a->blocks[a->n_gone + i]);
    }
    a->store->held_bytes -= a->held_bytes;
    mem_free(a->blocks);
    buf_deinit(&a->lines);
    mem_wipe(a->key, sizeof(a->key));
    mem_free(a);
}

void answer_put_locked(struct answer *a)
{
    ASSERT(a->n_refs > 0);
    if (--a->n_refs == 0) {
        answer_free_locked(a);
    }
}

struct answer *answer_hold_locked(struct answer *a)
{
    ASSERT(a->n_refs > 0);
    a->n_refs++;
    return a;
}

void answer_put(struct answer *a)
{
    if (a != NULL) {
        struct answers *st = a->store;
        answers_lock(st);
        answer_put_locked(a);
        answers_unlock(st);
    }
}

/* ---- the window ---- */

static bool answer_is_over_locked(const struct answer *a)
{
    const struct answers *st = a->store;
    return a->block_bytes > st->conf.answer_bytes_max ||
           (st->held_bytes > st->conf.bytes_max && a->block_bytes > ANSWER_RESERVE_BYTES);
}

/* The blocks that every reader has had; none while nobody reads. */
static uint64_t answer_slowest_locked(const struct answer *a)
{
    uint64_t at = UINT64_MAX;
    LIST_EACH(&a->readers, n)
    {
        const struct answer_party *p = LIST_ENTRY(n, struct answer_party, at_answer);
        at = p->cut ? at : MIN(at, p->at);
    }
    return at == UINT64_MAX ? a->first : at;
}

/* Who stands at the window's beginning while another has got past its middle is cut off. */
static void answer_cut_locked(struct answer *a)
{
    uint64_t middle = a->first + (a->n_blocks + 1) / 2;
    bool ahead = false;
    LIST_EACH(&a->readers, n)
    {
        const struct answer_party *p = LIST_ENTRY(n, struct answer_party, at_answer);
        ahead = ahead || (!p->cut && p->at > a->first && p->at >= middle);
    }
    LIST_EACH(&a->readers, m)
    {
        struct answer_party *p = LIST_ENTRY(m, struct answer_party, at_answer);
        if (ahead && !p->cut && p->at <= a->first) {
            p->cut = true;
            answer_tell_locked(p);
        }
    }
}

static void answer_drop_first_locked(struct answer *a)
{
    struct answer_block *b = a->blocks[a->n_gone];
    a->block_bytes -= answer_block_cost(b);
    a->n_blocks--;
    a->n_gone++;
    a->first++;
    a->overrun = true;
    answer_block_put(b);
    answer_count_locked(a);
}

/* Lets blocks make way while it holds too much. */
static void answer_trim_locked(struct answer *a)
{
    while (!a->over && a->n_blocks > 0 && answer_is_over_locked(a)) {
        if (a->n_readers > 1) {
            answer_cut_locked(a);
        }
        if (answer_slowest_locked(a) <= a->first) {
            return;
        }
        answer_drop_first_locked(a);
    }
}

/* There may be room, or nobody may read any more. */
static void answer_moved_locked(struct answer *a)
{
    answer_trim_locked(a);
    bool room = a->writer_waits && !answer_is_over_locked(a);
    if (a->writer != NULL && (room || a->n_readers == 0)) {
        a->writer_waits = a->writer_waits && !room;
        answer_tell_locked(a->writer);
    }
}

/* ---- the writer ---- */

void answer_write(struct answer_party *p, struct answer *a, struct answer_hub *hub,
                  void (*on_news)(void *ctx), void *ctx)
{
    *p = (struct answer_party){.answer = a, .hub = hub, .on_news = on_news, .ctx = ctx};
    answers_lock(a->store);
    ASSERT(a->writer == NULL && !a->over);
    answer_hold_locked(a);
    a->writer = p;
    answers_unlock(a->store);
}

static void answer_tell_readers_locked(struct answer *a)
{
    LIST_EACH(&a->readers, n)
    {
        answer_tell_locked(LIST_ENTRY(n, struct answer_party, at_answer));
    }
}

enum rc answer_begin_locked(struct answer *a, const struct answer_head *head)
{
    ASSERT(!a->begun && !a->over);
    buf_add_str(&a->lines, head->lines);
    if (!buf_ok(&a->lines)) {
        return RC_TOO_LARGE;
    }
    a->head = *head;
    a->head.lines = buf_str(&a->lines);
    a->begun = true;
    answer_count_locked(a);
    answer_tell_readers_locked(a);
    answer_mirror_note_locked(a);
    return RC_OK;
}

enum rc answer_begin(struct answer *a, const struct answer_head *head)
{
    answers_lock(a->store);
    enum rc rc = answer_begin_locked(a, head);
    answers_unlock(a->store);
    return rc;
}

/* Each block has its own number, each answer its own key: no nonce comes twice. */
void answer_nonce(uint64_t number, unsigned char out[CRYPTO_NONCE_BYTES])
{
    memset(out, 0, CRYPTO_NONCE_BYTES);
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (unsigned char)(number >> (8 * i));
    }
}

/* Whether a block is a comment is sealed with it. */
static struct str answer_aad(bool comment)
{
    return comment ? STR_LIT("comment") : STR_LIT("");
}

static struct answer_block *answer_seal(const struct answer *a, uint64_t number, struct str bytes,
                                        bool comment)
{
    unsigned char nonce[CRYPTO_NONCE_BYTES];
    struct answer_block *b = NULL;
    if (bytes.len < UINT32_MAX) {
        b = mem_try_alloc(sizeof(*b) + bytes.len);
    }
    if (b == NULL) {
        return NULL;
    }
    answer_nonce(number, nonce);
    b->n_refs = 1;
    b->n_bytes = (uint32_t)bytes.len;
    b->comment = comment ? 1 : 0;
    if (crypto_seal(a->key, nonce, answer_aad(comment), bytes, b->sealed, b->tag) != RC_OK) {
        mem_free(b);
        return NULL;
    }
    return b;
}

/* A place behind the last block: what is gone makes room once it is half. */
static bool answer_make_place_locked(struct answer *a)
{
    if (a->n_gone + a->n_blocks < a->n_room) {
        return true;
    }
    if (a->n_gone > a->n_room / 2) {
        memmove(a->blocks, a->blocks + a->n_gone, a->n_blocks * sizeof(struct answer_block *));
        a->n_gone = 0;
        return true;
    }
    uint32_t n = a->n_room == 0 ? 16 : 2 * a->n_room;
    struct answer_block **more = mem_try_realloc(a->blocks, n * sizeof(struct answer_block *));
    if (more != NULL) {
        a->blocks = more;
        a->n_room = n;
    }
    return more != NULL;
}

bool answer_push_locked(struct answer *a, struct answer_block *b)
{
    if (!answer_make_place_locked(a)) {
        return false;
    }
    a->blocks[a->n_gone + a->n_blocks++] = b;
    a->block_bytes += answer_block_cost(b);
    answer_count_locked(a);
    answer_trim_locked(a);
    answer_tell_readers_locked(a);
    answer_mirror_note_locked(a);
    return true;
}

RC answer_append(struct answer *a, struct str bytes, bool comment)
{
    answers_lock(a->store);
    uint64_t number = a->first + a->n_blocks; /* the writer's alone to move */
    answers_unlock(a->store);
    struct answer_block *b = answer_seal(a, number, bytes, comment);
    if (b == NULL) {
        return RC_NOMEM;
    }
    answers_lock(a->store);
    ASSERT(a->begun && !a->over && a->first + a->n_blocks == number);
    bool ok = answer_push_locked(a, b);
    answers_unlock(a->store);
    if (!ok) {
        mem_free(b);
    }
    return ok ? RC_OK : RC_NOMEM;
}

bool answer_is_full_locked(struct answer *a)
{
    answer_trim_locked(a);
    return answer_is_over_locked(a);
}

bool answer_is_full(struct answer *a)
{
    answers_lock(a->store);
    bool full = a->writer_waits = answer_is_full_locked(a);
    answers_unlock(a->store);
    return full;
}

uint32_t answer_n_readers(struct answer *a)
{
    answers_lock(a->store);
    uint32_t n = a->n_readers;
    answers_unlock(a->store);
    return n;
}

/* ---- readers ---- */

void answer_join(struct answer_party *p, struct answer *a, struct answer_hub *hub, uint64_t from,
                 void (*on_news)(void *ctx), void *ctx)
{
    *p = (struct answer_party){.answer = a, .hub = hub, .at = from, .on_news = on_news, .ctx = ctx};
    answers_lock(a->store);
    answer_hold_locked(a);
    list_push_back(&a->readers, &p->at_answer);
    a->n_readers++;
    p->cut = from < a->first;
    answer_tell_locked(p);
    answers_unlock(a->store);
}

void answer_leave(struct answer_party *p)
{
    struct answer *a = p->answer;
    if (a == NULL) {
        return;
    }
    struct answers *st = a->store;
    answers_lock(st);
    list_remove(&p->at_answer);
    if (list_is_linked(&p->at_hub)) {
        list_remove(&p->at_hub);
    }
    a->n_readers--;
    p->answer = NULL;
    answer_moved_locked(a);
    answer_put_locked(a);
    answers_unlock(st);
}

bool answer_head(struct answer *a, struct answer_head *out)
{
    answers_lock(a->store);
    bool begun = a->begun;
    *out = a->head;
    answers_unlock(a->store);
    return begun;
}

/* ---- its end ---- */

void answer_over_locked(struct answer *a, enum answer_how how, bool cut)
{
    ASSERT(!a->over);
    a->over = true;
    a->failed = how != ANSWER_DONE;
    a->dropped = how == ANSWER_DROPPED;
    a->cut = cut;
    answer_count_locked(a);
    answer_tell_readers_locked(a);
    answer_mirror_note_locked(a);
}

/* Behind the last block of one that is over. */
static enum answer_next answer_ending_locked(const struct answer *a)
{
    return a->interrupted        ? ANSWER_INTERRUPTED
           : a->overtaken        ? ANSWER_CUT
           : a->cut || !a->begun ? ANSWER_BROKEN
                                 : ANSWER_END;
}

bool answer_is_broken(struct answer *a, enum answer_next *why)
{
    answers_lock(a->store);
    bool broken = a->over && !a->begun;
    *why = answer_ending_locked(a);
    answers_unlock(a->store);
    return broken;
}

/* The next block, held; NULL when *next says something else. */
static struct answer_block *answer_take_locked(struct answer_party *p, enum answer_next *next)
{
    struct answer *a = p->answer;
    *next = ANSWER_BLOCK;
    if (p->cut || p->at < a->first) {
        *next = ANSWER_CUT;
    } else if (p->at >= a->first + a->n_blocks) { /* past it: a replica is behind its reader */
        *next = a->over ? answer_ending_locked(a) : ANSWER_WAIT;
    } else {
        struct answer_block *b = a->blocks[a->n_gone + (uint32_t)(p->at - a->first)];
        b->n_refs++;
        return b;
    }
    return NULL;
}

enum answer_next answer_read(struct answer_party *p, struct buf *out, bool *comment)
{
    struct answer *a = p->answer;
    unsigned char nonce[CRYPTO_NONCE_BYTES];
    enum answer_next next;
    answers_lock(a->store);
    struct answer_block *b = answer_take_locked(p, &next);
    answers_unlock(a->store);
    if (b == NULL) {
        return next;
    }
    *comment = b->comment != 0;
    answer_nonce(p->at, nonce);
    char *plain = buf_reserve(out, b->n_bytes + 1u);
    if (plain == NULL || crypto_open(a->key, nonce, answer_aad(*comment),
                                     str_make((const char *)b->sealed, b->n_bytes), b->tag,
                                     (unsigned char *)plain) != RC_OK) {
        next = ANSWER_BROKEN;
    } else {
        buf_commit(out, b->n_bytes);
    }
    answers_lock(a->store);
    answer_block_put(b);
    p->at += next == ANSWER_BLOCK ? 1 : 0;
    answer_moved_locked(a);
    answers_unlock(a->store);
    return next;
}
