/* certs.h: a folder of certificates for a test: a CA, leaves under it, and what must be refused. */
#ifndef TESTS_NET_CERTS_H
#define TESTS_NET_CERTS_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "base/file.h"
#include "net/tls_cert.h"

struct certs {
    char dir[64];
    struct buf ca, ca_key;
};

static inline const char *certs_path(const struct certs *c, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", c->dir, name);
    return out;
}

static inline void certs_put(const struct certs *c, const char *name, struct str bytes)
{
    char path[128];
    assert_int_equal(file_write_atomic(certs_path(c, name, path), bytes, 0600, NULL), RC_OK);
}

/* NAME.pem and NAME.key, valid from now-from_s to now+to_s; signed by our CA, or by itself. */
static inline void certs_make(const struct certs *c, const char *name, const char *host,
                              bool client, int64_t to_s)
{
    char file[64];
    struct buf cert, key;
    struct str names[] = {str_from(host)};
    int64_t now = (int64_t)time(NULL);
    struct tls_cert_conf conf = {.names = names,
                                 .n_names = 1,
                                 .from_s = now - 3600,
                                 .to_s = now + to_s,
                                 .client = client,
                                 .ca_cert = buf_str(&c->ca),
                                 .ca_key = buf_str(&c->ca_key)};
    buf_init(&cert, TLS_CERT_PEM_BYTES_MAX);
    buf_init(&key, TLS_CERT_PEM_BYTES_MAX);
    assert_int_equal(tls_cert_make(&conf, &cert, &key, NULL), RC_OK);
    snprintf(file, sizeof(file), "%s.pem", name);
    certs_put(c, file, buf_str(&cert));
    snprintf(file, sizeof(file), "%s.key", name);
    certs_put(c, file, buf_str(&key));
    buf_deinit(&cert);
    buf_deinit(&key);
}

/* ca.pem, server.{pem,key} for localhost, other-ca.pem: a stranger's. */
static inline void certs_init(struct certs *c)
{
    struct certs none = {0};
    snprintf(c->dir, sizeof(c->dir), "/tmp/bud-certs-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    buf_init(&c->ca, TLS_CERT_PEM_BYTES_MAX);
    buf_init(&c->ca_key, TLS_CERT_PEM_BYTES_MAX);
    struct str names[] = {STR_LIT("test CA")};
    struct tls_cert_conf conf = {.names = names,
                                 .n_names = 1,
                                 .from_s = (int64_t)time(NULL) - 7200,
                                 .to_s = (int64_t)time(NULL) + 86400};
    assert_int_equal(tls_cert_make(&conf, &c->ca, &c->ca_key, NULL), RC_OK);
    certs_put(c, "ca.pem", buf_str(&c->ca));
    memcpy(none.dir, c->dir, sizeof(none.dir));
    certs_make(&none, "other-ca", "other", false, 86400);
    certs_make(c, "server", "localhost", false, 86400);
}

static inline void certs_deinit(struct certs *c)
{
    DIR *dir = opendir(c->dir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        (void)unlinkat(dirfd(dir), e->d_name, 0); /* not "." and ".." */
    }
    closedir(dir);
    assert_int_equal(rmdir(c->dir), 0);
    buf_deinit(&c->ca);
    buf_deinit(&c->ca_key);
}

#endif
