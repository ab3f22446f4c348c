/* crypto_public.c: see crypto_public.h. OpenSSL keeps a queue of errors per thread; each entry
 * point clears what it left there. */
#include "base/crypto_public.h"

#include <limits.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/assert.h"
#include "base/mem.h"

enum public_kind { PUBLIC_RSA, PUBLIC_P256, PUBLIC_P384, PUBLIC_ED25519 };

/* ---- limits ---- */

enum {
    PUBLIC_COORDINATE_BYTES_MAX = 48,
    PUBLIC_DER_BYTES_MAX = 2 * PUBLIC_COORDINATE_BYTES_MAX + 16, /* of an ECDSA signature */
    PUBLIC_EXPONENT_BYTES_MAX = 8,                               /* a longer one only costs time */
    PUBLIC_EXPONENT_MIN = 65537,                                 /* FIPS 186-5 §5.1 */
    PUBLIC_PEM_BYTES_MAX = 64 << 10,
};

struct crypto_public {
    enum public_kind kind;
    EVP_PKEY *pkey;
};

static const struct public_alg {
    const char *name;
    enum public_kind kind;
    const char *digest; /* NULL: the algorithm has its own */
} public_algs[CRYPTO_ALGS_N] = {
    [CRYPTO_RS256] = {"RS256", PUBLIC_RSA, "SHA256"},
    [CRYPTO_RS384] = {"RS384", PUBLIC_RSA, "SHA384"},
    [CRYPTO_RS512] = {"RS512", PUBLIC_RSA, "SHA512"},
    [CRYPTO_ES256] = {"ES256", PUBLIC_P256, "SHA256"},
    [CRYPTO_ES384] = {"ES384", PUBLIC_P384, "SHA384"},
    [CRYPTO_EDDSA] = {"EdDSA", PUBLIC_ED25519, NULL},
};

static const struct public_curve {
    const char *jose, *openssl;
    enum public_kind kind;
    size_t bytes; /* of a coordinate */
} public_curves[] = {
    {"P-256", "prime256v1", PUBLIC_P256, 32},
    {"P-384", "secp384r1", PUBLIC_P384, 48},
};

bool crypto_alg_from(struct str name, enum crypto_alg *out)
{
    for (unsigned i = 0; i < CRYPTO_ALGS_N; i++) {
        if (str_is(name, public_algs[i].name)) {
            *out = (enum crypto_alg)i;
            return true;
        }
    }
    return false;
}

const char *crypto_alg_name(enum crypto_alg alg)
{
    return public_algs[alg].name;
}

/* ---- checks of a key, whatever it was made from ---- */

static enum rc public_check_rsa(const EVP_PKEY *pkey, struct err *err)
{
    BIGNUM *e = NULL;
    int bits = EVP_PKEY_get_bits(pkey);
    if (bits < CRYPTO_RSA_BITS_MIN || bits > CRYPTO_RSA_BITS_MAX) {
        return err_set(err, RC_INVALID, "an RSA key of %d bits: %d to %d are taken", bits,
                       CRYPTO_RSA_BITS_MIN, CRYPTO_RSA_BITS_MAX);
    }
    bool ok = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_is_odd(e) &&
              BN_num_bytes(e) <= PUBLIC_EXPONENT_BYTES_MAX && BN_get_word(e) >= PUBLIC_EXPONENT_MIN;
    BN_free(e);
    return ok ? RC_OK : err_set(err, RC_INVALID, "an RSA key with a weak or huge exponent");
}

static enum rc public_check_ec(EVP_PKEY *pkey, enum public_kind *kind, struct err *err)
{
    char name[64];
    size_t n = 0;
    const struct public_curve *curve = NULL;
    if (EVP_PKEY_get_group_name(pkey, name, sizeof(name), &n) != 1) {
        name[0] = '\0';
    }
    for (size_t i = 0; i < ARRAY_LEN(public_curves); i++) {
        curve = strcmp(name, public_curves[i].openssl) == 0 ? &public_curves[i] : curve;
    }
    if (curve == NULL) {
        return err_set(err, RC_INVALID, "a curve other than P-256 and P-384: %s", name);
    }
    *kind = curve->kind;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool on_curve = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return on_curve ? RC_OK : err_set(err, RC_INVALID, "a point that is not on its curve");
}

/* Takes pkey, which may be NULL: it could not be made. */
static enum rc public_take(struct crypto_public **out, EVP_PKEY *pkey, struct err *err)
{
    enum public_kind kind = PUBLIC_RSA;
    enum rc rc = RC_OK;
    *out = NULL;
    if (pkey == NULL) {
        rc = err_set(err, RC_INVALID, "not a public key");
    } else if (EVP_PKEY_is_a(pkey, "RSA")) {
        rc = public_check_rsa(pkey, err);
    } else if (EVP_PKEY_is_a(pkey, "EC")) {
        rc = public_check_ec(pkey, &kind, err);
    } else if (EVP_PKEY_is_a(pkey, "ED25519")) {
        kind = PUBLIC_ED25519;
    } else {
        rc = err_set(err, RC_INVALID, "a public key of a kind that is not taken");
    }
    ERR_clear_error();
    if (rc != RC_OK) {
        EVP_PKEY_free(pkey);
        return rc;
    }
    *out = mem_alloc(sizeof(**out));
    **out = (struct crypto_public){.kind = kind, .pkey = pkey};
    return RC_OK;
}

/* ---- making one ---- */

/* From parameters of OpenSSL's; NULL when they are not a key. */
static EVP_PKEY *public_from_params(const char *type, OSSL_PARAM_BLD *params)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    OSSL_PARAM *list = OSSL_PARAM_BLD_to_param(params);
    ASSERT(ctx != NULL);
    ASSERT(list != NULL);
    if (EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, list) != 1) {
        pkey = NULL;
    }
    OSSL_PARAM_free(list);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

enum rc crypto_public_rsa(struct crypto_public **out, struct str n, struct str e, struct err *err)
{
    *out = NULL;
    if (n.len == 0 || n.len > CRYPTO_RSA_BITS_MAX / 8 + 1 || e.len == 0 ||
        e.len > PUBLIC_EXPONENT_BYTES_MAX) {
        return err_set(err, RC_INVALID, "an RSA key of a size that is not taken");
    }
    OSSL_PARAM_BLD *params = OSSL_PARAM_BLD_new();
    BIGNUM *bn_n = BN_bin2bn((const unsigned char *)n.ptr, (int)n.len, NULL);
    BIGNUM *bn_e = BN_bin2bn((const unsigned char *)e.ptr, (int)e.len, NULL);
    ASSERT(params != NULL && bn_n != NULL && bn_e != NULL);
    ASSERT(OSSL_PARAM_BLD_push_BN(params, OSSL_PKEY_PARAM_RSA_N, bn_n) == 1);
    ASSERT(OSSL_PARAM_BLD_push_BN(params, OSSL_PKEY_PARAM_RSA_E, bn_e) == 1);
    EVP_PKEY *pkey = public_from_params("RSA", params);
    OSSL_PARAM_BLD_free(params);
    BN_free(bn_n);
    BN_free(bn_e);
    return public_take(out, pkey, err);
}

enum rc crypto_public_ec(struct crypto_public **out, struct str curve, struct str x, struct str y,
                         struct err *err)
{
    const struct public_curve *row = NULL;
    unsigned char point[1 + 2 * PUBLIC_COORDINATE_BYTES_MAX] = {0x04}; /* SEC 1 §2.3.3 */
    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(public_curves); i++) {
        row = str_is(curve, public_curves[i].jose) ? &public_curves[i] : row;
    }
    if (row == NULL || x.len != row->bytes || y.len != row->bytes) {
        return err_set(err, RC_INVALID, "an EC key of another curve or length than P-256, P-384");
    }
    memcpy(point + 1, x.ptr, x.len);
    memcpy(point + 1 + x.len, y.ptr, y.len);
    OSSL_PARAM_BLD *params = OSSL_PARAM_BLD_new();
    ASSERT(params != NULL);
    ASSERT(OSSL_PARAM_BLD_push_utf8_string(params, OSSL_PKEY_PARAM_GROUP_NAME, row->openssl, 0) ==
           1);
    ASSERT(OSSL_PARAM_BLD_push_octet_string(params, OSSL_PKEY_PARAM_PUB_KEY, point,
                                            1 + 2 * row->bytes) == 1);
    EVP_PKEY *pkey = public_from_params("EC", params);
    OSSL_PARAM_BLD_free(params);
    return public_take(out, pkey, err);
}

enum rc crypto_public_ed25519(struct crypto_public **out, struct str x, struct err *err)
{
    return public_take(
        out,
        EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, (const unsigned char *)x.ptr, x.len),
        err);
}

enum rc crypto_public_pem(struct crypto_public **out, struct str pem, struct err *err)
{
    EVP_PKEY *pkey = NULL;
    *out = NULL;
    if (pem.len == 0 || pem.len > PUBLIC_PEM_BYTES_MAX) {
        return err_set(err, RC_INVALID, "not a public key in PEM: %zu bytes", pem.len);
    }
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    ASSERT(bio != NULL);
    if (str_find(pem, STR_LIT("-----BEGIN CERTIFICATE-----")) < pem.len) {
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        pkey = cert != NULL ? X509_get_pubkey(cert) : NULL;
        X509_free(cert);
    } else {
        pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    }
    BIO_free(bio);
    return public_take(out, pkey, err);
}

void crypto_public_destroy(struct crypto_public *k)
{
    if (k != NULL) {
        EVP_PKEY_free(k->pkey);
        mem_free(k);
    }
}

/* ---- signatures ---- */

bool crypto_public_fits(const struct crypto_public *k, enum crypto_alg alg)
{
    return public_algs[alg].kind == k->kind;
}

/* JOSE's r and s, one behind the other, as the DER that OpenSSL takes; 0 when they are not. */
static size_t public_ecdsa_der(enum public_kind kind, struct str rs,
                               unsigned char der[PUBLIC_DER_BYTES_MAX])
{
    size_t half = kind == PUBLIC_P256 ? 32 : 48;
    if (rs.len != 2 * half) {
        return 0;
    }
    const unsigned char *bytes = (const unsigned char *)rs.ptr;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, (int)half, NULL), *s = BN_bin2bn(bytes + half, (int)half, NULL);
    ASSERT(sig != NULL && r != NULL && s != NULL);
    ASSERT(ECDSA_SIG_set0(sig, r, s) == 1); /* takes both */
    int n = i2d_ECDSA_SIG(sig, NULL);
    if (n > 0 && n <= PUBLIC_DER_BYTES_MAX) {
        unsigned char *at = der;
        n = i2d_ECDSA_SIG(sig, &at);
    }
    ECDSA_SIG_free(sig);
    return n > 0 ? (size_t)n : 0;
}

bool crypto_public_verify(const struct crypto_public *k, enum crypto_alg alg, struct str message,
                          struct str signature)
{
    unsigned char der[PUBLIC_DER_BYTES_MAX];
    const unsigned char *sig = (const unsigned char *)signature.ptr;
    size_t n = signature.len;
    if (!crypto_public_fits(k, alg) || n == 0 || n > CRYPTO_SIGNATURE_BYTES_MAX) {
        return false;
    }
    if (k->kind == PUBLIC_P256 || k->kind == PUBLIC_P384) {
        n = public_ecdsa_der(k->kind, signature, der);
        sig = der;
    }
    if (n == 0) {
        return false;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    ASSERT(ctx != NULL);
    bool good = EVP_DigestVerifyInit_ex(ctx, NULL, public_algs[alg].digest, NULL, NULL, k->pkey,
                                        NULL) == 1 &&
                EVP_DigestVerify(ctx, sig, n, (const unsigned char *)message.ptr, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}
