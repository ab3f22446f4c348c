/* key.c: making, storing and checking API keys. */
#include "auth/key.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "stores/seal_setting.h"

#define KEY_PREFIX "sk-bud-"

enum { KEY_SECRET_BYTES = 32, KEY_BODY_CHARS = 43, KEY_HINT_CHARS = 11 };

_Static_assert(sizeof(KEY_PREFIX) + KEY_BODY_CHARS <= KEY_TEXT_BYTES, "a key fits its buffer");

enum rc key_pepper_load(struct secret *out, struct meta *m, const struct kms *k, struct err *err)
{
    return seal_setting_load(out, m, k, "auth.key_pepper", err);
}

/* ---- making ---- */

static void key_hash(const struct secret *pepper, struct str text,
                     unsigned char out[CRYPTO_SHA256_BYTES])
{
    crypto_hmac_sha256(secret_str(pepper), text, out);
}

static void key_fill_row(const struct secret *pepper, const struct key_options *opt,
                         struct str text, struct meta_key *row)
{
    unsigned char id[12];
    char id_text[sizeof(id) * 2 + 1];
    *row = (struct meta_key){.created_s = opt->created_s, .expires_s = opt->expires_s};
    crypto_random(id, sizeof(id));
    crypto_hex(id, sizeof(id), id_text);
    snprintf(row->id, sizeof(row->id), "key_%s", id_text);
    str_copy(row->name, sizeof(row->name), str_from(opt->name));
    str_copy(row->role, sizeof(row->role), str_from(opt->role));
    str_copy(row->hint, sizeof(row->hint), str_slice(text, 0, KEY_HINT_CHARS));
    str_copy(row->project, sizeof(row->project), str_from(opt->project));
    str_copy(row->user, sizeof(row->user), str_from(opt->user));
    str_copy(row->scopes, sizeof(row->scopes), str_from(opt->scopes));
    str_copy(row->limits, sizeof(row->limits), str_from(opt->limits));
    key_hash(pepper, text, row->hash);
}

void key_make(const struct secret *pepper, const struct key_options *opt, char text[KEY_TEXT_BYTES],
              struct meta_key *row)
{
    unsigned char random[KEY_SECRET_BYTES];
    ASSERT(crypto_base64url_len(sizeof(random)) == KEY_BODY_CHARS);
    crypto_random(random, sizeof(random));
    memcpy(text, KEY_PREFIX, sizeof(KEY_PREFIX) - 1);
    crypto_base64url(random, sizeof(random), text + sizeof(KEY_PREFIX) - 1);
    mem_wipe(random, sizeof(random));
    key_fill_row(pepper, opt, str_from(text), row);
}

static bool key_looks_right(struct str text)
{
    if (text.len != sizeof(KEY_PREFIX) - 1 + KEY_BODY_CHARS ||
        !str_starts(text, STR_LIT(KEY_PREFIX))) {
        return false;
    }
    for (size_t i = sizeof(KEY_PREFIX) - 1; i < text.len; i++) {
        char c = text.ptr[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
        if (!ok) {
            return false;
        }
    }
    return true;
}

enum rc key_from_text(const struct secret *pepper, const struct key_options *opt, struct str text,
                      struct meta_key *row, struct err *err)
{
    if (!key_looks_right(text)) {
        return err_set(err, RC_INVALID, "not a key: expected %s and %d characters", KEY_PREFIX,
                       KEY_BODY_CHARS);
    }
    key_fill_row(pepper, opt, text, row);
    return RC_OK;
}

/* ---- keyring ---- */

struct keyring {
    struct crypto_hmac hmac; /* under the pepper */
    struct meta_key *keys;
    uint32_t n_keys, n_room;
    struct map by_hash; /* hash bytes, borrowed from keys[] → index */
};

static enum rc keyring_add(void *ctx, const struct meta_key *key)
{
    struct keyring *r = ctx;
    if (r->n_keys == KEYS_MAX) {
        return RC_TOO_LARGE;
    }
    if (r->n_keys == r->n_room) {
        r->n_room = r->n_room == 0 ? 16 : r->n_room * 2;
        r->keys = mem_realloc(r->keys, r->n_room * sizeof(*r->keys));
    }
    r->keys[r->n_keys++] = *key;
    return RC_OK;
}

enum rc keyring_load(struct keyring **out, struct meta *m, const struct secret *pepper,
                     struct err *err)
{
    *out = NULL;
    struct keyring *r = mem_zalloc(sizeof(*r));
    crypto_hmac_init(&r->hmac, secret_str(pepper));
    uint64_t seed;
    crypto_random(&seed, sizeof(seed));
    map_init(&r->by_hash, seed);
    enum rc rc = meta_key_each(m, keyring_add, r, err);
    if (rc == RC_TOO_LARGE) {
        rc = err_set(err, rc, "more than %d keys in the store", KEYS_MAX);
    }
    for (uint32_t i = 0; rc == RC_OK && i < r->n_keys; i++) {
        struct str hash = str_make((const char *)r->keys[i].hash, META_KEY_HASH_BYTES);
        if (!map_put(&r->by_hash, hash, &r->keys[i], NULL)) {
            rc = err_set(err, RC_NOMEM, "out of memory for %u keys", r->n_keys);
        }
    }
    if (rc != RC_OK) {
        keyring_destroy(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

void keyring_destroy(struct keyring *r)
{
    if (r != NULL) {
        map_deinit(&r->by_hash);
        mem_free(r->keys);
        crypto_hmac_wipe(&r->hmac);
        mem_free(r);
    }
}

uint32_t keyring_size(const struct keyring *r)
{
    return r->n_keys;
}

const struct meta_key *keyring_at(const struct keyring *r, uint32_t idx)
{
    ASSERT(idx < r->n_keys);
    return &r->keys[idx];
}

uint32_t keyring_index(const struct keyring *r, const struct meta_key *key)
{
    ASSERT(key >= r->keys && key < r->keys + r->n_keys);
    return (uint32_t)(key - r->keys);
}

bool keyring_is_valid(const struct keyring *r, const struct meta_key *key)
{
    const struct meta_key *now =
        map_get(&r->by_hash, str_make((const char *)key->hash, META_KEY_HASH_BYTES));
    return now != NULL && now->revoked_s == 0 && now->expires_s == key->expires_s;
}

enum rc keyring_refuse(struct err *err)
{
    return err_set(err, RC_UNAUTHENTICATED,
                   "Incorrect API key provided. A key looks like sk-bud-… and was shown once when "
                   "it was made.");
}

enum rc keyring_check(const struct keyring *r, struct str text, int64_t now_s,
                      const struct meta_key **out, struct err *err)
{
    *out = NULL;
    const struct meta_key *key = NULL;
    if (key_looks_right(text)) {
        unsigned char hash[CRYPTO_SHA256_BYTES];
        crypto_hmac_run(&r->hmac, text, hash);
        key = map_get(&r->by_hash, str_make((const char *)hash, sizeof(hash)));
    }
    bool valid =
        key != NULL && key->revoked_s == 0 && (key->expires_s == 0 || now_s < key->expires_s);
    if (!valid) {
        return keyring_refuse(err);
    }
    *out = key;
    return RC_OK;
}

struct str key_from_bearer(struct str header_value)
{
    struct str rest = str_trim(header_value);
    struct str scheme = str_cut(&rest, ' ');
    if (!str_eq_nocase(scheme, STR_LIT("bearer"))) {
        return STR_NULL;
    }
    return str_trim(rest);
}
