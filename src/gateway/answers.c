/* answers.c: the store of answers: claims, names, ends, and the hubs that carry news to loops. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "gateway/answer_private.h"
#include "net/loop.h"

uint64_t answers_now_ms(const struct answers *st)
{
    return clock_mono_ns(st->conf.clock) / 1000000u;
}

/* ---- names ---- */

/* HMAC of "what" and the parts, each with its length before it: no two lists of parts meet. */
static void answers_mark(const struct answers *st, const char *what, struct str a, struct str b,
                         unsigned char out[CRYPTO_SHA256_BYTES])
{
    struct buf text;
    buf_init(&text, 64 << 10);
    buf_add_printf(&text, "bud answer %s %zu %zu ", what, a.len, b.len);
    buf_add_str(&text, a);
    buf_add_str(&text, b);
    ASSERT(buf_ok(&text)); /* heads are smaller */
    crypto_hmac_sha256(str_make((const char *)st->secret, sizeof(st->secret)), buf_str(&text), out);
    buf_deinit(&text);
}

/* Bodies are long: hashed fast, and only that hash under the key. */
static void answers_mark_body(const struct answers *st, struct str body,
                              unsigned char out[CRYPTO_SHA256_BYTES])
{
    struct hash128 h = hash128_bytes(body.ptr, body.len, 0);
    answers_mark(st, "body", str_make((const char *)(const void *)&h, sizeof(h)),
                 str_make((const char *)(const void *)&body.len, sizeof(body.len)), out);
}

bool answer_key_ok(struct str key)
{
    for (size_t i = 0; i < key.len; i++) {
        if (key.ptr[i] < 0x20 || key.ptr[i] > 0x7e) {
            return false;
        }
    }
    return key.len > 0 && key.len <= ANSWER_KEY_BYTES_MAX;
}

void answer_event_id(const struct answer *a, uint64_t number, char out[ANSWER_EVENT_ID_BYTES])
{
    unsigned char tag[8];
    for (unsigned i = 0; i < sizeof(tag); i++) {
        tag[i] = (unsigned char)(a->tag >> (8 * (7 - i)));
    }
    crypto_hex(a->name, sizeof(a->name), out);
    out[32] = '.';
    crypto_hex(tag, sizeof(tag), out + 33);
    out[49] = '.';
    out[50 + str_put_u64(out + 50, number)] = '\0';
}

static bool answers_read_last(struct str text, struct answer_last *out)
{
    unsigned char tag[8];
    bool ok = text.len > 50 && text.ptr[32] == '.' && text.ptr[49] == '.' &&
              crypto_unhex(str_slice(text, 0, 32), out->name, sizeof(out->name)) &&
              crypto_unhex(str_slice(text, 33, 49), tag, sizeof(tag)) &&
              str_to_u64(str_slice(text, 50, text.len), &out->number) && out->number < UINT64_MAX;
    out->tag = 0;
    for (unsigned i = 0; ok && i < sizeof(tag); i++) {
        out->tag = out->tag << 8 | tag[i];
    }
    return ok;
}

/* ---- ends ---- */

void answer_unlist_locked(struct answer *a)
{
    if (a->listed) {
        a->listed = false;
        map_remove(&a->store->by_name, answers_name(a));
        answer_put_locked(a);
    }
}

static void answers_forget_locked(struct answer *a)
{
    answer_hold_locked(a);
    answer_unlist_locked(a);
    if (list_is_linked(&a->ended)) {
        list_remove(&a->ended);
        answer_put_locked(a);
    }
    answer_put_locked(a);
}

static void answers_sweep_locked(struct answers *st)
{
    uint64_t now = answers_now_ms(st);
    struct list_node *n;
    while ((n = list_first(&st->ended)) != NULL) {
        struct answer *a = LIST_ENTRY(n, struct answer, ended);
        if (now - a->ended_ms < st->conf.keep_ms) {
            return;
        }
        answers_forget_locked(a);
    }
}

void answers_sweep(struct answers *st)
{
    answers_lock(st);
    answers_sweep_locked(st);
    answers_unlock(st);
}

size_t answers_held(struct answers *st)
{
    answers_lock(st);
    size_t n = st->held_bytes;
    answers_unlock(st);
    return n;
}

void answers_end_locked(struct answer *a, enum answer_how how, bool cut)
{
    a->ended_ms = answers_now_ms(a->store);
    answer_over_locked(a, how, cut);
    if (how == ANSWER_DROPPED) {
        answer_unlist_locked(a);
    } else {
        answer_hold_locked(a);
        list_push_back(&a->store->ended, &a->ended);
    }
}

void answer_end(struct answer_party *p, enum answer_how how, bool cut)
{
    struct answer *a = p->answer;
    struct answers *st = a->store;
    answers_lock(st);
    ASSERT(a->writer == p && !a->over);
    a->writer = NULL;
    answers_end_locked(a, how, cut);
    if (list_is_linked(&p->at_hub)) {
        list_remove(&p->at_hub);
    }
    p->answer = NULL;
    answer_put_locked(a);
    answers_unlock(st);
}

/* ---- claims ---- */

struct answer *answers_new_locked(struct answers *st, const struct answer_marks *m, uint64_t tag)
{
    struct str name = str_make((const char *)m->name, ANSWER_NAME_BYTES);
    struct answer *old = map_get(&st->by_name, name);
    struct answer *a = mem_try_zalloc(sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    if (old != NULL) {
        answers_forget_locked(old);
    }
    a->store = st;
    memcpy(a->name, m->name, sizeof(a->name));
    memcpy(a->scope, m->scope, sizeof(a->scope));
    memcpy(a->body, m->body, sizeof(a->body));
    a->tag = tag;
    answers_mark(st, "seal", answers_name(a),
                 str_make((const char *)(const void *)&a->tag, sizeof(a->tag)), a->key);
    buf_init(&a->lines, ANSWER_HEAD_BYTES_MAX);
    list_init(&a->readers);
    void *before = NULL;
    if (!map_put(&st->by_name, answers_name(a), a, &before)) {
        mem_free(a);
        return NULL;
    }
    ASSERT(before == NULL);
    a->listed = true;
    a->n_refs = 2; /* the map's, the caller's */
    answer_count_locked(a);
    return a;
}

static enum answer_claim answers_find_locked(struct answer *a, const struct answer_marks *m,
                                             uint64_t *from)
{
    *from = m->has_last ? m->last.number + 1 : 0;
    if (m->has_last) {
        bool behind = a->share.replica && !a->over; /* its reader may have been ahead of Redis */
        bool there = a->tag == m->last.tag && *from >= a->first &&
                     (behind || *from <= a->first + a->n_blocks);
        if (!there) {
            return ANSWER_LOST;
        }
    }
    if (!crypto_equal(str_make((const char *)m->body, sizeof(m->body)),
                      str_make((const char *)a->body, sizeof(a->body)))) {
        return ANSWER_OTHER_BODY;
    }
    return !m->has_last && a->overrun ? ANSWER_OVERRUN : ANSWER_FOUND;
}

enum answer_claim answers_look_locked(struct answers *st, const struct answer_marks *m,
                                      struct answer **out, uint64_t *from)
{
    enum answer_claim found = ANSWER_LOST;
    answers_sweep_locked(st);
    struct answer *a = map_get(&st->by_name, str_make((const char *)m->name, ANSWER_NAME_BYTES));
    bool ours = a != NULL && memcmp(a->scope, m->scope, sizeof(a->scope)) == 0;
    *out = NULL;
    if (ours && (!a->failed || m->has_last)) {
        found = answers_find_locked(a, m, from);
        *out = found == ANSWER_FOUND ? answer_hold_locked(a) : NULL;
        if (found != ANSWER_LOST) {
            return found;
        }
    }
    if (m->has_last && st->mirror == NULL) {
        return ANSWER_LOST;
    }
    return answers_has_room_locked(st) ? ANSWER_ASK : ANSWER_NO_ROOM;
}

bool answers_mark_ask(const struct answers *st, const struct answer_ask *ask,
                      struct answer_marks *m)
{
    *m = (struct answer_marks){.has_key = ask->key.ptr != NULL, .has_last = ask->last.ptr != NULL};
    answers_mark(st, "scope", ask->scope, STR_LIT(""), m->scope);
    answers_mark_body(st, ask->body, m->body);
    if (m->has_key) {
        answers_mark(st, "name", ask->scope, ask->key, m->name);
    } else {
        crypto_random(m->name, sizeof(m->name));
    }
    if (!m->has_last) {
        return true;
    }
    bool ok = answers_read_last(ask->last, &m->last) &&
              (!m->has_key || memcmp(m->name, m->last.name, sizeof(m->last.name)) == 0);
    memcpy(m->name, m->last.name, sizeof(m->last.name));
    return ok;
}

/* Where only this memory counts, what is not here is the caller's. So is, always, what nobody else
 * can ask for yet: a random name. */
static enum answer_claim answers_claim_locked(struct answers *st, const struct answer_marks *m,
                                              struct answer **out, uint64_t *from)
{
    uint64_t tag;
    enum answer_claim found = answers_look_locked(st, m, out, from);
    if (found != ANSWER_ASK || (st->mirror != NULL && (m->has_key || m->has_last))) {
        return found;
    }
    *from = 0;
    crypto_random(&tag, sizeof(tag));
    *out = answers_new_locked(st, m, tag);
    if (*out == NULL) {
        return ANSWER_NO_ROOM;
    }
    answer_mirror_add_locked(*out);
    return ANSWER_CLAIMED;
}

enum answer_claim answers_claim(struct answers *st, const struct answer_ask *ask,
                                struct answer **out, uint64_t *from)
{
    struct answer_marks m;
    *out = NULL;
    if (!answers_mark_ask(st, ask, &m)) {
        return ANSWER_LOST;
    }
    answers_lock(st);
    enum answer_claim c = answers_claim_locked(st, &m, out, from);
    answers_unlock(st);
    return c;
}

/* ---- hubs ---- */

void answer_tell_locked(struct answer_party *p)
{
    if (!list_is_linked(&p->at_hub)) {
        list_push_back(&p->hub->news, &p->at_hub);
        loop_wake_send(p->hub->wake);
    }
}

/* Those that wait now: who has news again by what is done here is called by the next wake-up. */
static void answer_hub_tell(struct answer_hub *h)
{
    struct answers *st = h->store;
    struct list_node end = {0};
    bool more = true;
    answers_lock(st);
    list_push_back(&h->news, &end);
    while (more) {
        struct list_node *n = list_pop_front(&h->news);
        more = n != &end;
        if (more) {
            struct answer_party *p = LIST_ENTRY(n, struct answer_party, at_hub);
            answers_unlock(st);
            p->on_news(p->ctx);
            answers_lock(st);
        }
    }
    answers_unlock(st);
}

static void answer_hub_on_wake(void *ctx)
{
    answer_wait_tell(ctx);
    answer_hub_tell(ctx);
}

RC answer_hub_open(struct answer_hub **out, struct answers *st, struct loop *l, struct err *err)
{
    struct answer_hub *h = mem_zalloc(sizeof(*h));
    h->store = st;
    h->loop = l;
    list_init(&h->news);
    list_init(&h->waits);
    enum rc rc = loop_wake_create(&h->wake, l, answer_hub_on_wake, h, err);
    if (rc != RC_OK) {
        mem_free(h);
        return rc;
    }
    answers_lock(st);
    st->n_hubs++;
    answers_unlock(st);
    *out = h;
    return RC_OK;
}

void answer_hub_close(struct answer_hub *h)
{
    if (h == NULL) {
        return;
    }
    ASSERT(list_is_empty(&h->news) && list_is_empty(&h->waits));
    answers_lock(h->store);
    h->store->n_hubs--;
    answers_unlock(h->store);
    loop_wake_destroy(h->wake);
    mem_free(h);
}

/* ---- life ---- */

void answers_create(struct answers **out, const struct answers_conf *conf)
{
    struct answers *st = mem_zalloc(sizeof(*st));
    uint64_t seed;
    st->conf = *conf;
    st->conf.bytes_max = conf->bytes_max != 0 ? conf->bytes_max : ANSWERS_BYTES_MAX;
    st->conf.answer_bytes_max =
        conf->answer_bytes_max != 0 ? conf->answer_bytes_max : ANSWER_BYTES_MAX;
    st->conf.keep_ms = conf->keep_ms != 0 ? conf->keep_ms : ANSWER_KEEP_MS;
    st->conf.dead_ms = conf->dead_ms != 0 ? conf->dead_ms : ANSWER_DEAD_MS;
    st->conf.claim_ms = conf->claim_ms != 0 ? conf->claim_ms : ANSWER_CLAIM_MS;
    st->conf.secret = STR_NULL;
    if (conf->secret.len > 0) {
        crypto_hmac_sha256(conf->secret, STR_LIT("bud answers"), st->secret);
    } else {
        crypto_random(st->secret, sizeof(st->secret));
    }
    crypto_random(&seed, sizeof(seed));
    map_init(&st->by_name, seed);
    list_init(&st->ended);
    pthread_mutex_init(&st->lock, NULL);
    *out = st;
}

void answers_destroy(struct answers *st)
{
    struct list_node *n;
    if (st == NULL) {
        return;
    }
    ASSERT(st->n_hubs == 0 && st->mirror == NULL);
    while ((n = list_first(&st->ended)) != NULL) {
        answers_forget_locked(LIST_ENTRY(n, struct answer, ended));
    }
    ASSERT(map_count(&st->by_name) == 0 && st->held_bytes == 0);
    map_deinit(&st->by_name);
    mem_wipe(st->secret, sizeof(st->secret));
    pthread_mutex_destroy(&st->lock);
    mem_free(st);
}
