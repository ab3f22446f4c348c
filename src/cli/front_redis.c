/* front_redis.c: the Redis server that several front doors share, and the limits counted in it. */
#include "base/crypto.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/front.h"
#include "gateway/lease.h"
#include "gateway/shared.h"

static enum rc front_redis_password(const struct settings_redis *s, struct buf *text,
                                    struct err *err)
{
    return s->password_file.len > 0 ? file_read(s->password_file.ptr, text, err) : RC_OK;
}

/* Which usage table this process loads from: the pepper lies in the same store. */
static void front_store_id(const struct front *f, char out[LEASE_ID_BYTES])
{
    unsigned char mac[CRYPTO_SHA256_BYTES];
    crypto_hmac_sha256(secret_str(&f->pepper), STR_LIT("limits"), mac);
    crypto_hex(mac, (LEASE_ID_BYTES - 1) / 2, out);
    mem_wipe(mac, sizeof(mac));
}

void front_lease_conf(const struct front *f, struct lease_conf *out, char store[LEASE_ID_BYTES])
{
    const struct settings_limits *s = &f->settings.limits;
    front_store_id(f, store);
    *out = (struct lease_conf){.redis = s->shared ? f->redis : NULL,
                               .open = s->when_away == SETTINGS_OPEN,
                               .n_gateways = s->gateways,
                               .store = str_from(store)};
}

enum rc front_start_redis(struct front *f, struct err *err)
{
    const struct settings_redis *s = &f->settings.redis;
    struct buf password;
    if (s->url.len == 0) {
        return RC_OK;
    }
    buf_init(&password, 4096);
    enum rc rc = front_redis_password(s, &password, err);
    const struct redis_conf conf = {.url = s->url,
                                    .user = s->user,
                                    .password = str_trim(buf_str(&password)),
                                    .tls = {.cert = s->tls_cert,
                                            .key = s->tls_key,
                                            .ca = s->tls_ca,
                                            .pins = s->tls_pins.at,
                                            .n_pins = s->tls_pins.n},
                                    .command_ms = s->command_ms};
    rc = rc == RC_OK ? redis_create(&f->redis, f->loop, &conf, err) : rc;
    if (password.ptr != NULL) {
        mem_wipe(password.ptr, password.len);
    }
    buf_deinit(&password);
    return rc;
}
