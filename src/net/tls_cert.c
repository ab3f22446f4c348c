/* tls_cert.c: X.509 (RFC 5280) through OpenSSL's builder: what browsers and strict clients ask for
 * and no more. Serial numbers are 127 random bits. */
#include "net/tls_cert.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/crypto.h"

struct tls_cert {
    X509 *cert, *ca;
    EVP_PKEY *key, *ca_key;
};

static void tls_cert_deinit(struct tls_cert *c)
{
    X509_free(c->cert);
    X509_free(c->ca);
    EVP_PKEY_free(c->key);
    EVP_PKEY_free(c->ca_key);
}

static bool tls_cert_extend(struct tls_cert *c, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, c->ca != NULL ? c->ca : c->cert, c->cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool good = ext != NULL && X509_add_ext(c->cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return good;
}

static bool tls_cert_name_good(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool good = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                    (ch >= '0' && ch <= '9') || ch == '-' || ch == '.' || ch == ':' || ch == '*' ||
                    ch == '_';
        if (!good) {
            return false;
        }
    }
    return name.len > 0 && name.len <= TLS_CERT_NAME_BYTES_MAX;
}

/* "DNS:host,IP:::1" */
static RC tls_cert_alt(const struct tls_cert_conf *conf, struct buf *out, struct err *err)
{
    for (uint32_t i = 0; i < conf->n_names; i++) {
        char text[TLS_CERT_NAME_BYTES_MAX + 1];
        struct in6_addr any;
        if (!tls_cert_name_good(conf->names[i])) {
            return err_set(err, RC_INVALID, "'%.*s' is no host name and no address",
                           (int)MIN(conf->names[i].len, (size_t)100), conf->names[i].ptr);
        }
        (void)str_copy(text, sizeof(text), conf->names[i]);
        bool ip = inet_pton(AF_INET, text, &any) == 1 || inet_pton(AF_INET6, text, &any) == 1;
        buf_add_printf(out, "%s%s:%s", i > 0 ? "," : "", ip ? "IP" : "DNS", text);
    }
    return RC_OK;
}

static RC tls_cert_extensions(struct tls_cert *c, const struct tls_cert_conf *conf, struct err *err)
{
    bool is_ca = c->ca == NULL;
    struct buf alt;
    buf_init(&alt, TLS_CERT_PEM_BYTES_MAX);
    enum rc rc = is_ca ? RC_OK : tls_cert_alt(conf, &alt, err);
    bool good =
        tls_cert_extend(c, NID_basic_constraints,
                        is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
        tls_cert_extend(c, NID_key_usage,
                        is_ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
        tls_cert_extend(c, NID_subject_key_identifier, "hash") &&
        tls_cert_extend(c, NID_authority_key_identifier, "keyid:always");
    if (rc == RC_OK && good && !is_ca) {
        good = tls_cert_extend(c, NID_ext_key_usage, conf->client ? "clientAuth" : "serverAuth") &&
               tls_cert_extend(c, NID_subject_alt_name, alt.ptr);
    }
    buf_deinit(&alt);
    if (rc == RC_OK && !good) {
        rc = err_set(err, RC_INVALID, "certificate: its names or extensions do not fit");
    }
    return rc;
}

static RC tls_cert_fill(struct tls_cert *c, const struct tls_cert_conf *conf, struct err *err)
{
    unsigned char serial[16];
    crypto_random(serial, sizeof(serial));
    serial[0] = (unsigned char)((serial[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    X509_NAME *subject = X509_get_subject_name(c->cert);
    struct str name = conf->names[0];
    bool good =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(c->cert)) &&
        X509_set_version(c->cert, X509_VERSION_3) == 1 &&
        ASN1_TIME_set(X509_getm_notBefore(c->cert), (time_t)conf->from_s) != NULL &&
        ASN1_TIME_set(X509_getm_notAfter(c->cert), (time_t)conf->to_s) != NULL &&
        X509_set_pubkey(c->cert, c->key) == 1 &&
        /* A common name holds 64 characters; the names that count are the extension's. */
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)name.ptr, (int)MIN(name.len, (size_t)64),
                                   -1, 0) == 1 &&
        X509_set_issuer_name(c->cert, X509_get_subject_name(c->ca != NULL ? c->ca : c->cert)) == 1;
    BN_free(number);
    enum rc rc = good ? tls_cert_extensions(c, conf, err)
                      : err_set(err, RC_INVALID, "certificate: a name or a date does not fit");
    EVP_PKEY *signer = c->ca != NULL ? c->ca_key : c->key;
    if (rc == RC_OK && X509_sign(c->cert, signer, EVP_sha256()) == 0) {
        rc = err_set(err, RC_INVALID, "certificate: the CA's key cannot sign it");
    }
    return rc;
}

static RC tls_cert_load_ca(struct tls_cert *c, const struct tls_cert_conf *conf, struct err *err)
{
    BIO *cert = BIO_new_mem_buf(conf->ca_cert.ptr, (int)conf->ca_cert.len);
    BIO *key = BIO_new_mem_buf(conf->ca_key.ptr, (int)conf->ca_key.len);
    char no_password[1] = {0};
    c->ca = cert != NULL ? PEM_read_bio_X509(cert, NULL, NULL, NULL) : NULL;
    c->ca_key = key != NULL ? PEM_read_bio_PrivateKey(key, NULL, NULL, no_password) : NULL;
    BIO_free(cert);
    BIO_free(key);
    if (c->ca == NULL || c->ca_key == NULL || X509_check_private_key(c->ca, c->ca_key) != 1) {
        return err_set(err, RC_INVALID, "the CA's certificate and key cannot be read together");
    }
    return RC_OK;
}

static RC tls_cert_write(const struct tls_cert *c, struct buf *cert, struct buf *key,
                         struct err *err)
{
    char *bytes = NULL;
    BIO *out = BIO_new(BIO_s_mem());
    bool good = out != NULL && PEM_write_bio_X509(out, c->cert) == 1;
    long n = good ? BIO_get_mem_data(out, &bytes) : 0;
    buf_add(cert, bytes, (size_t)n);
    BIO_free(out);
    out = BIO_new(BIO_s_secmem());
    good = good && out != NULL &&
           PEM_write_bio_PKCS8PrivateKey(out, c->key, NULL, NULL, 0, NULL, NULL) == 1;
    n = good ? BIO_get_mem_data(out, &bytes) : 0;
    buf_add(key, bytes, (size_t)n);
    BIO_free(out);
    return good && buf_ok(cert) && buf_ok(key) ? RC_OK
                                               : err_set(err, RC_NOMEM, "certificate: no memory");
}

RC tls_cert_make(const struct tls_cert_conf *conf, struct buf *cert, struct buf *key,
                 struct err *err)
{
    struct tls_cert c = {0};
    if (conf->n_names == 0 || conf->n_names > TLS_CERT_NAMES_MAX) {
        return err_set(err, RC_INVALID, "a certificate has 1 to %d names", TLS_CERT_NAMES_MAX);
    }
    c.cert = X509_new();
    c.key = EVP_EC_gen("P-256");
    enum rc rc = RC_OK;
    if (c.cert == NULL || c.key == NULL) {
        rc = err_set(err, RC_NOMEM, "certificate: out of memory");
    } else if (conf->ca_cert.len > 0 || conf->ca_key.len > 0) {
        rc = tls_cert_load_ca(&c, conf, err);
    }
    rc = rc == RC_OK ? tls_cert_fill(&c, conf, err) : rc;
    rc = rc == RC_OK ? tls_cert_write(&c, cert, key, err) : rc;
    tls_cert_deinit(&c);
    return rc;
}
