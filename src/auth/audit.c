/* audit.c: see audit.h. */
#include "auth/audit.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "stores/seal_setting.h"

#define AUDIT_KEY_SETTING "auth.audit_key"

enum { AUDIT_TEXTS = 6, AUDIT_MESSAGE_BYTES_MAX = 8192 };

_Static_assert((int)META_AUDIT_MAC_BYTES == (int)CRYPTO_SHA256_BYTES, "a mac is an HMAC-SHA-256");

struct audit {
    struct crypto_hmac hmac;
};

/* ---- what is signed ---- */

static void audit_add_u64(struct buf *b, uint64_t v)
{
    char bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (char)(v >> (8 * i));
    }
    buf_add(b, bytes, sizeof(bytes));
}

/* Lengths before texts: no two different entries give the same bytes. */
static void audit_mac_entry(const struct audit *a, const unsigned char before[META_AUDIT_MAC_BYTES],
                            const struct meta_audit *e, unsigned char out[META_AUDIT_MAC_BYTES])
{
    const struct str texts[AUDIT_TEXTS] = {e->who,    e->what,   e->object,
                                           e->source, e->before, e->after};
    struct buf b;
    buf_init(&b, AUDIT_MESSAGE_BYTES_MAX);
    buf_add_cstr(&b, "bud audit entry 1");
    buf_add(&b, before, META_AUDIT_MAC_BYTES);
    audit_add_u64(&b, (uint64_t)e->seq);
    audit_add_u64(&b, (uint64_t)e->time_ms);
    for (int i = 0; i < AUDIT_TEXTS; i++) {
        audit_add_u64(&b, texts[i].len);
        buf_add_str(&b, str_slice(texts[i], 0, META_AUDIT_TEXT_BYTES_MAX));
    }
    ASSERT(buf_ok(&b));
    crypto_hmac_run(&a->hmac, buf_str(&b), out);
    buf_deinit(&b);
}

static void audit_sign_head(const struct audit *a, const struct meta_audit_head *h,
                            unsigned char out[META_AUDIT_MAC_BYTES])
{
    struct buf b;
    buf_init(&b, 256);
    buf_add_cstr(&b, "bud audit head 1");
    audit_add_u64(&b, (uint64_t)h->seq);
    buf_add(&b, h->mac, META_AUDIT_MAC_BYTES);
    crypto_hmac_run(&a->hmac, buf_str(&b), out);
    buf_deinit(&b);
}

static bool audit_mac_equal(const unsigned char *x, const unsigned char *y)
{
    return crypto_equal(str_make((const char *)x, META_AUDIT_MAC_BYTES),
                        str_make((const char *)y, META_AUDIT_MAC_BYTES));
}

static enum rc audit_head_check(const struct audit *a, const struct meta_audit_head *h,
                                struct err *err)
{
    unsigned char want[META_AUDIT_MAC_BYTES];
    audit_sign_head(a, h, want);
    return audit_mac_equal(want, h->signature)
               ? RC_OK
               : err_set(err, RC_CORRUPT,
                         "the audit log's head is not signed by this installation");
}

static void audit_head_text(const struct meta_audit_head *h, char out[AUDIT_HEAD_TEXT_BYTES])
{
    char mac[2 * META_AUDIT_MAC_BYTES + 1];
    crypto_hex(h->mac, META_AUDIT_MAC_BYTES, mac);
    snprintf(out, AUDIT_HEAD_TEXT_BYTES, "%lld:%s", (long long)h->seq, mac);
}

/* ---- adding ---- */

static void audit_log(const struct audit_entry *e, const struct meta_audit_head *h)
{
    char head[AUDIT_HEAD_TEXT_BYTES];
    audit_head_text(h, head);
    log_event(LOG_AUDIT, log_str("user.id", e->who), log_str("what", e->what),
              log_str("object", e->object), log_str("source.address", e->source),
              log_cstr("head", head));
}

static struct str audit_cut(struct str s)
{
    return str_slice(s, 0, META_AUDIT_TEXT_BYTES_MAX);
}

static enum rc audit_add(const struct audit *a, struct meta *m, const struct meta_audit_head *last,
                         const struct audit_entry *e, struct meta_audit_head *out, struct err *err)
{
    struct meta_audit row = {.seq = last->seq + 1,
                             .time_ms = e->time_ms,
                             .who = audit_cut(e->who),
                             .what = audit_cut(e->what),
                             .object = audit_cut(e->object),
                             .source = audit_cut(e->source),
                             .before = audit_cut(e->before),
                             .after = audit_cut(e->after)};
    struct meta_audit_head head = {.seq = row.seq};
    audit_mac_entry(a, last->mac, &row, row.mac);
    memcpy(head.mac, row.mac, sizeof(head.mac));
    audit_sign_head(a, &head, head.signature);
    *out = head;
    return meta_audit_add(m, &row, &head, err);
}

static enum rc audit_append(const struct audit *a, struct meta *m, const struct audit_entry *e,
                            struct meta_audit_head *head, struct err *err)
{
    struct meta_audit_head last = {0};
    ASSERT(meta_is_in_transaction(m));
    enum rc rc = meta_audit_head_get(m, &last, err);
    rc = rc == RC_OK ? audit_head_check(a, &last, err) : rc;
    if (rc == RC_NOT_FOUND || rc == RC_CORRUPT) {
        return err_set(err, RC_CORRUPT,
                       "the audit log was changed from outside, nothing is done on top of that: "
                       "see 'bud audit verify'");
    }
    if (rc != RC_OK) {
        return err_context(err, "the audit log cannot be read");
    }
    return audit_add(a, m, &last, e, head, err);
}

enum rc audit_commit(const struct audit *a, struct meta *m, const struct audit_entry *e,
                     struct err *err)
{
    struct meta_audit_head head;
    enum rc rc = audit_append(a, m, e, &head, err);
    rc = rc == RC_OK ? meta_commit(m, err) : rc;
    if (rc == RC_OK) {
        audit_log(e, &head);
    }
    return rc;
}

/* ---- opening ---- */

static enum rc audit_no_entry(void *ctx, const struct meta_audit *entry)
{
    UNUSED(ctx);
    UNUSED(entry);
    return RC_CONFLICT;
}

/* The first entry says since when there is a log; a head that is gone is no reason for another. */
static enum rc audit_begin(const struct audit *a, struct meta *m, struct err *err)
{
    const struct meta_audit_walk all = {.from = INT64_MIN};
    const struct meta_audit_head none = {0};
    struct meta_audit_head head, made;
    const struct audit_entry first = {.time_ms =
                                          (int64_t)(clock_wall_ns(clock_system()) / 1000000u),
                                      .who = STR_LIT("bud"),
                                      .what = STR_LIT("audit.begin")};
    enum rc rc = meta_begin(m, err);
    if (rc != RC_OK) {
        return rc;
    }
    rc = meta_audit_head_get(m, &head, NULL);
    if (rc == RC_NOT_FOUND) {
        rc = meta_audit_each(m, &all, audit_no_entry, NULL, err);
        rc = rc == RC_CONFLICT
                 ? err_set(err, RC_CORRUPT, "the audit log has entries, but its head is gone")
                 : rc;
        rc = rc == RC_OK ? audit_add(a, m, &none, &first, &made, err) : rc;
    } else if (rc != RC_OK) {
        rc = err_set(err, rc, "the audit log cannot be read");
    }
    rc = rc == RC_OK ? meta_commit(m, err) : rc;
    meta_rollback(m);
    return rc;
}

static enum rc audit_open_with(struct audit **out, const struct secret *key)
{
    struct audit *a = mem_zalloc(sizeof(*a));
    crypto_hmac_init(&a->hmac, secret_str(key));
    *out = a;
    return RC_OK;
}

enum rc audit_open(struct audit **out, struct meta *m, const struct kms *k, struct err *err)
{
    struct secret key = {0};
    *out = NULL;
    enum rc rc = seal_setting_load(&key, m, k, AUDIT_KEY_SETTING, err);
    rc = rc == RC_OK ? audit_open_with(out, &key) : rc;
    rc = rc == RC_OK ? audit_begin(*out, m, err) : rc;
    secret_wipe(&key);
    if (rc != RC_OK) {
        audit_close(*out);
        *out = NULL;
    }
    return rc;
}

enum rc audit_open_existing(struct audit **out, struct meta *m, const struct kms *k,
                            struct err *err)
{
    struct secret key = {0};
    *out = NULL;
    enum rc rc = seal_setting_read(&key, m, k, AUDIT_KEY_SETTING, err);
    if (rc == RC_NOT_FOUND) {
        rc = err_set(err, rc, "there is no audit log: no key to check one with");
    }
    rc = rc == RC_OK ? audit_open_with(out, &key) : rc;
    secret_wipe(&key);
    return rc;
}

void audit_close(struct audit *a)
{
    if (a != NULL) {
        crypto_hmac_wipe(&a->hmac);
        mem_free(a);
    }
}

/* ---- verifying ---- */

struct audit_walk {
    const struct audit *audit;
    struct audit_report *report;
    unsigned char mac[META_AUDIT_MAC_BYTES]; /* of the entry before */
    struct str known;                        /* mac of an earlier head, as text */
    uint64_t known_seq;
    bool known_seen;
    struct err *err;
};

static enum rc audit_walk_bad(struct audit_walk *w, int64_t seq, const char *what)
{
    w->report->bad_seq = seq;
    return err_set(w->err, RC_CORRUPT, "audit entry %lld: %s", (long long)seq, what);
}

static enum rc audit_walk_entry(void *ctx, const struct meta_audit *e)
{
    struct audit_walk *w = ctx;
    unsigned char want[META_AUDIT_MAC_BYTES];
    char hex[2 * META_AUDIT_MAC_BYTES + 1];
    int64_t seq = w->report->n_entries + 1;
    if (e->seq != seq) {
        return audit_walk_bad(w, seq, "is missing");
    }
    audit_mac_entry(w->audit, w->mac, e, want);
    if (!audit_mac_equal(want, e->mac)) {
        return audit_walk_bad(w, seq, "was changed, or what stood before it");
    }
    memcpy(w->mac, e->mac, sizeof(w->mac));
    w->report->n_entries = seq;
    if ((uint64_t)seq == w->known_seq) {
        crypto_hex(e->mac, META_AUDIT_MAC_BYTES, hex);
        w->known_seen = str_is(w->known, hex);
    }
    return RC_OK;
}

static enum rc audit_walk_head(struct audit_walk *w, struct meta *m)
{
    struct meta_audit_head head;
    enum rc rc = meta_audit_head_get(m, &head, w->err);
    if (rc == RC_NOT_FOUND) {
        return audit_walk_bad(w, w->report->n_entries + 1, "the head is gone");
    }
    rc = rc == RC_OK ? audit_head_check(w->audit, &head, w->err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (head.seq != w->report->n_entries || !audit_mac_equal(head.mac, w->mac)) {
        return audit_walk_bad(w, w->report->n_entries + 1,
                              head.seq > w->report->n_entries ? "and those behind it were cut off"
                                                              : "is not what the head signs");
    }
    audit_head_text(&head, w->report->head);
    return RC_OK;
}

static enum rc audit_walk_known(struct audit_walk *w, struct str known)
{
    struct str rest = known;
    if (known.len == 0) {
        return RC_OK;
    }
    if (!str_to_u64(str_cut(&rest, ':'), &w->known_seq) ||
        rest.len != (size_t)2 * META_AUDIT_MAC_BYTES) {
        return err_set(w->err, RC_INVALID, "'%.*s' is not a head: NUMBER:MAC", STR(known));
    }
    w->known = rest;
    return RC_OK;
}

enum rc audit_verify(const struct audit *a, struct meta *m, struct str known,
                     struct audit_report *out, struct err *err)
{
    const struct meta_audit_walk all = {.from = INT64_MIN};
    struct audit_walk w = {.audit = a, .report = out, .err = err};
    *out = (struct audit_report){0};
    enum rc rc = audit_walk_known(&w, known);
    rc = rc == RC_OK ? meta_begin_read(m, err) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    rc = meta_audit_each(m, &all, audit_walk_entry, &w, err);
    rc = rc == RC_OK ? audit_walk_head(&w, m) : rc;
    if (rc == RC_OK && known.len > 0 && !w.known_seen) {
        rc = audit_walk_bad(&w, (int64_t)w.known_seq, "is not the one of the head that was given");
    }
    meta_rollback(m);
    return rc;
}

void audit_digest(struct str bytes, char out[AUDIT_DIGEST_BYTES])
{
    unsigned char hash[CRYPTO_SHA256_BYTES];
    crypto_sha256(bytes, hash);
    crypto_hex(hash, sizeof(hash), out);
}
