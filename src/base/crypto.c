/* crypto.c: see crypto.h. The only file outside TLS that calls libcrypto. OpenSSL 3 looks an
 * algorithm up by name on each use, behind a lock; fetching once avoids that.
 *
 * A failure inside libcrypto other than a wrong tag means that the library is broken or out of
 * memory: nothing secure can go on, so an assert ends the process. */
/* SHA256_CTX is the only hash state that can be kept in our memory and copied without a lock or an
 * allocation; OpenSSL 3 calls it deprecated, in favour of objects that cannot. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/crypto.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/mem.h"

/* ---- algorithms: fetched once, read-only afterwards ---- */

static struct {
    pthread_once_t once;
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_CIPHER *aes_gcm;
} algorithms = {.once = PTHREAD_ONCE_INIT};

static void fetch_algorithms(void)
{
    algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    algorithms.aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    ASSERT(algorithms.sha256 != NULL);
    ASSERT(algorithms.hmac != NULL);
    ASSERT(algorithms.aes_gcm != NULL);
}

static void need_algorithms(void)
{
    ASSERT(pthread_once(&algorithms.once, fetch_algorithms) == 0);
}

/* ---- secrets ---- */

bool secret_set(struct secret *s, struct str bytes)
{
    if (bytes.len > sizeof(s->bytes)) {
        return false;
    }
    secret_wipe(s);
    if (bytes.len > 0) {
        memcpy(s->bytes, bytes.ptr, bytes.len);
    }
    s->len = bytes.len;
    return true;
}

void secret_wipe(struct secret *s)
{
    mem_wipe(s, sizeof(*s));
}

bool crypto_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

void crypto_random(void *out, size_t bytes)
{
    unsigned char *at = out;
    while (bytes > 0) {
        ssize_t n = getrandom(at, bytes, 0);
        ASSERT(n > 0 || errno == EINTR);
        if (n > 0) {
            at += n;
            bytes -= (size_t)n;
        }
    }
}

/* ---- hashes ---- */

void crypto_sha256(struct str data, unsigned char out[CRYPTO_SHA256_BYTES])
{
    need_algorithms();
    unsigned n = 0;
    int ok = EVP_Digest(data.ptr, data.len, out, &n, algorithms.sha256, NULL);
    ASSERT(ok == 1 && n == CRYPTO_SHA256_BYTES);
}

void crypto_hmac_sha256(struct str key, struct str data, unsigned char out[CRYPTO_SHA256_BYTES])
{
    need_algorithms();
    static const unsigned char none[1];
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    const unsigned char *key_ptr = key.len > 0 ? (const unsigned char *)key.ptr : none;
    size_t n = 0;
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(algorithms.hmac);
    ASSERT(ctx != NULL);
    ASSERT(EVP_MAC_init(ctx, key_ptr, key.len, params) == 1);
    ASSERT(EVP_MAC_update(ctx, (const unsigned char *)data.ptr, data.len) == 1);
    ASSERT(EVP_MAC_final(ctx, out, &n, CRYPTO_SHA256_BYTES) == 1);
    ASSERT(n == CRYPTO_SHA256_BYTES);
    EVP_MAC_CTX_free(ctx);
}

/* ---- HMAC with a prepared key (RFC 2104) ---- */

_Static_assert(sizeof(SHA256_CTX) == CRYPTO_HASH_STATE_BYTES, "a state fits its place");

static void hmac_start(unsigned char *state, const unsigned char *key, unsigned char pad)
{
    unsigned char block[SHA256_CBLOCK];
    SHA256_CTX ctx;
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ pad;
    }
    ASSERT(SHA256_Init(&ctx) == 1);
    ASSERT(SHA256_Update(&ctx, block, sizeof(block)) == 1);
    memcpy(state, &ctx, sizeof(ctx));
    mem_wipe(block, sizeof(block));
    mem_wipe(&ctx, sizeof(ctx));
}

void crypto_hmac_init(struct crypto_hmac *h, struct str key)
{
    unsigned char block[SHA256_CBLOCK] = {0};
    if (key.len > sizeof(block)) {
        crypto_sha256(key, block);
    } else if (key.len > 0) {
        memcpy(block, key.ptr, key.len);
    }
    hmac_start(h->inner, block, 0x36);
    hmac_start(h->outer, block, 0x5C);
    mem_wipe(block, sizeof(block));
}

void crypto_hmac_wipe(struct crypto_hmac *h)
{
    mem_wipe(h, sizeof(*h));
}

void crypto_hmac_run(const struct crypto_hmac *h, struct str data,
                     unsigned char out[CRYPTO_SHA256_BYTES])
{
    SHA256_CTX ctx;
    memcpy(&ctx, h->inner, sizeof(ctx));
    ASSERT(SHA256_Update(&ctx, data.ptr, data.len) == 1);
    ASSERT(SHA256_Final(out, &ctx) == 1);
    memcpy(&ctx, h->outer, sizeof(ctx));
    ASSERT(SHA256_Update(&ctx, out, CRYPTO_SHA256_BYTES) == 1);
    ASSERT(SHA256_Final(out, &ctx) == 1);
}

/* ---- AES-256-GCM ---- */

/* A context with key, nonce and additional data set; encrypt 1 = seal, 0 = open. */
static EVP_CIPHER_CTX *gcm_begin(const unsigned char *key, const unsigned char *nonce,
                                 struct str aad, int encrypt)
{
    need_algorithms();
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    ASSERT(ctx != NULL);
    /* The default nonce length of GCM is CRYPTO_NONCE_BYTES. */
    ASSERT(EVP_CipherInit_ex2(ctx, algorithms.aes_gcm, key, nonce, encrypt, NULL) == 1);
    if (aad.len > 0) {
        int ok = EVP_CipherUpdate(ctx, NULL, &n, (const unsigned char *)aad.ptr, (int)aad.len);
        ASSERT(ok == 1);
    }
    return ctx;
}

/* libcrypto counts in int. */
static bool gcm_fits(struct str aad, struct str data)
{
    return aad.len <= INT_MAX && data.len <= INT_MAX;
}

static void gcm_update(EVP_CIPHER_CTX *ctx, struct str in, unsigned char *out)
{
    int n = 0;
    if (in.len > 0) {
        int ok = EVP_CipherUpdate(ctx, out, &n, (const unsigned char *)in.ptr, (int)in.len);
        ASSERT(ok == 1 && (size_t)n == in.len);
    }
}

enum rc crypto_seal(const unsigned char key[CRYPTO_KEY_BYTES],
                    const unsigned char nonce[CRYPTO_NONCE_BYTES], struct str aad, struct str plain,
                    unsigned char *out, unsigned char tag[CRYPTO_TAG_BYTES])
{
    if (!gcm_fits(aad, plain)) {
        return RC_TOO_LARGE;
    }
    EVP_CIPHER_CTX *ctx = gcm_begin(key, nonce, aad, 1);
    unsigned char rest[CRYPTO_TAG_BYTES]; /* GCM has no last block: nothing is written here */
    int n = 0;
    gcm_update(ctx, plain, out);
    ASSERT(EVP_CipherFinal_ex(ctx, rest, &n) == 1 && n == 0);
    ASSERT(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_BYTES, tag) == 1);
    EVP_CIPHER_CTX_free(ctx);
    return RC_OK;
}

enum rc crypto_open(const unsigned char key[CRYPTO_KEY_BYTES],
                    const unsigned char nonce[CRYPTO_NONCE_BYTES], struct str aad,
                    struct str sealed, const unsigned char tag[CRYPTO_TAG_BYTES],
                    unsigned char *out)
{
    if (!gcm_fits(aad, sealed)) {
        return RC_TOO_LARGE;
    }
    EVP_CIPHER_CTX *ctx = gcm_begin(key, nonce, aad, 0);
    unsigned char rest[CRYPTO_TAG_BYTES], expected[CRYPTO_TAG_BYTES];
    int n = 0;
    memcpy(expected, tag, sizeof(expected)); /* the library's parameter is not const */
    gcm_update(ctx, sealed, out);
    ASSERT(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_BYTES, expected) == 1);
    bool genuine = EVP_CipherFinal_ex(ctx, rest, &n) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!genuine) {
        if (sealed.len > 0) {
            mem_wipe(out, sealed.len);
        }
        return RC_CORRUPT;
    }
    return RC_OK;
}

/* ---- as text ---- */

void crypto_hex(const void *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

void crypto_base64url(const void *bytes, size_t n, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *p = bytes;
    uint32_t bits = 0, n_bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = (bits << 8) | p[i];
        for (n_bits += 8; n_bits >= 6; n_bits -= 6) {
            *out++ = digits[(bits >> (n_bits - 6)) & 63];
        }
    }
    if (n_bits > 0) {
        *out++ = digits[(bits << (6 - n_bits)) & 63];
    }
    *out = '\0';
}

static int crypto_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool crypto_unhex(struct str text, void *out, size_t n)
{
    unsigned char *at = out;
    if (text.len != 2 * n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int high = crypto_hex_digit(text.ptr[2 * i]), low = crypto_hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        at[i] = (unsigned char)(high * 16 + low);
    }
    return true;
}

static int crypto_base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool crypto_unbase64url(struct str text, void *out, size_t room, size_t *n)
{
    unsigned char *at = out;
    uint32_t bits = 0, n_bits = 0;
    if (text.len % 4 == 1 || crypto_unbase64url_len(text.len) > room) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        int digit = crypto_base64url_digit(text.ptr[i]);
        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)digit) & 0xFFFFu;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *at++ = (unsigned char)(bits >> n_bits);
        }
    }
    *n = crypto_unbase64url_len(text.len);
    return (bits & ((1u << n_bits) - 1u)) == 0;
}
