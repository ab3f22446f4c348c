/* kms_file.c: the key-encryption key in a local file: one line of 64 hex digits. */
#include "stores/kms.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { KMS_FILE_BYTES = 2 * CRYPTO_KEY_BYTES + 1 };

struct kms {
    unsigned char key[CRYPTO_KEY_BYTES];
    char id[KMS_ID_BYTES];
};

/* A new key, written aside and linked in place: link fails when another process was first. */
static enum rc kms_file_create(const char *path, struct err *err)
{
    unsigned char key[CRYPTO_KEY_BYTES];
    char text[KMS_FILE_BYTES + 1];
    char temp[PATH_MAX];
    crypto_random(key, sizeof(key));
    crypto_hex(key, sizeof(key), text);
    text[KMS_FILE_BYTES - 1] = '\n';
    mem_wipe(key, sizeof(key));
    unsigned char random[8];
    char suffix[2 * sizeof(random) + 1];
    crypto_random(random, sizeof(random));
    crypto_hex(random, sizeof(random), suffix);
    int n = snprintf(temp, sizeof(temp), "%s.new-%s", path, suffix);
    enum rc rc = n < 0 || (size_t)n >= sizeof(temp)
                     ? err_set(err, RC_INVALID, "%s: path too long", path)
                     : file_write_atomic(temp, str_make(text, KMS_FILE_BYTES), 0600, err);
    mem_wipe(text, sizeof(text));
    if (rc != RC_OK) {
        return rc;
    }
    if (link(temp, path) != 0 && errno != EEXIST) {
        rc = err_set(err, RC_IO, "%s: cannot create the key file: %m", path);
    }
    unlink(temp);
    return rc;
}

static bool kms_hex_digit(char c, unsigned *out)
{
    if (c >= '0' && c <= '9') {
        *out = (unsigned)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
        *out = (unsigned)(c - 'a') + 10;
    } else {
        return false;
    }
    return true;
}

static enum rc kms_parse(struct kms *k, struct str text, const char *path, struct err *err)
{
    text = str_trim(text);
    bool ok = text.len == 2 * CRYPTO_KEY_BYTES;
    for (size_t i = 0; ok && i < CRYPTO_KEY_BYTES; i++) {
        unsigned high = 0;
        unsigned low = 0;
        ok = kms_hex_digit(text.ptr[2 * i], &high) && kms_hex_digit(text.ptr[2 * i + 1], &low);
        k->key[i] = (unsigned char)(high * 16 + low);
    }
    if (!ok) {
        return err_set(err, RC_CORRUPT, "%s: not a key file (64 hex digits expected)", path);
    }
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(str_make((const char *)k->key, sizeof(k->key)), STR_LIT("bud kms key id"),
                       mac);
    crypto_hex(mac, (KMS_ID_BYTES - 1) / 2, k->id);
    return RC_OK;
}

static enum rc kms_load(struct kms *k, const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0) {
        return err_set(err, RC_FORBIDDEN, "%s: readable by others (mode %03o): chmod 600 it", path,
                       (unsigned)st.st_mode & 0777u);
    }
    struct buf text;
    buf_init(&text, 4096);
    enum rc rc = file_read(path, &text, err);
    if (rc == RC_OK) {
        rc = kms_parse(k, buf_str(&text), path, err);
    }
    if (text.ptr != NULL) {
        mem_wipe(text.ptr, text.len);
    }
    buf_deinit(&text);
    return rc;
}

enum rc kms_open_file(struct kms **out, const char *path, struct err *err)
{
    *out = NULL;
    enum rc rc = file_exists(path) ? RC_OK : kms_file_create(path, err);
    if (rc != RC_OK) {
        return rc;
    }
    struct kms *k = mem_zalloc(sizeof(*k));
    rc = kms_load(k, path, err);
    if (rc != RC_OK) {
        kms_close(k);
        return rc;
    }
    *out = k;
    return RC_OK;
}

void kms_close(struct kms *k)
{
    if (k != NULL) {
        mem_wipe(k, sizeof(*k));
        mem_free(k);
    }
}

const char *kms_key_id(const struct kms *k)
{
    return k->id;
}

/* wrapped = nonce | sealed data key | tag */
enum rc kms_wrap(const struct kms *k, struct str context,
                 const unsigned char data_key[CRYPTO_KEY_BYTES],
                 unsigned char wrapped[KMS_WRAPPED_BYTES])
{
    crypto_random(wrapped, CRYPTO_NONCE_BYTES);
    unsigned char *sealed = wrapped + CRYPTO_NONCE_BYTES;
    return crypto_seal(k->key, wrapped, context, str_make((const char *)data_key, CRYPTO_KEY_BYTES),
                       sealed, sealed + CRYPTO_KEY_BYTES);
}

enum rc kms_unwrap(const struct kms *k, struct str context,
                   const unsigned char wrapped[KMS_WRAPPED_BYTES],
                   unsigned char data_key[CRYPTO_KEY_BYTES], struct err *err)
{
    const unsigned char *sealed = wrapped + CRYPTO_NONCE_BYTES;
    enum rc rc =
        crypto_open(k->key, wrapped, context, str_make((const char *)sealed, CRYPTO_KEY_BYTES),
                    sealed + CRYPTO_KEY_BYTES, data_key);
    if (rc != RC_OK) {
        return err_set(err, rc, "a data key does not open with key %s", k->id);
    }
    return RC_OK;
}
