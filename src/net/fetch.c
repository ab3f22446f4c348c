/* fetch.c: see fetch.h. curl_global_init and _cleanup count their calls and take a lock of their
 * own (libcurl 7.84 and later), so that each request may bracket itself by them. */
#include "net/fetch.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/addr.h"

#if LIBCURL_VERSION_NUM < 0x075500
#error "libcurl 7.85 or later is needed"
#endif

struct fetch {
    const struct fetch_conf *conf;
    struct fetch_reply *reply;
    bool plain;   /* the URL says http */
    bool refused; /* an address was */
    bool too_large;
};

/* ---- addresses ---- */

static bool fetch_v4_is_inside(uint32_t ip)
{
    static const struct {
        uint32_t net;
        unsigned bits;
    } ranges[] = {
        {0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
        {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24}, {0xC0A80000, 16}, {0xC6120000, 15},
        {0xC6336400, 24}, {0xCB007100, 24}, {0xE0000000, 3}, /* multicast and reserved */
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        if ((ip ^ ranges[i].net) >> (32 - ranges[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

bool fetch_addr_is_inside(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        return fetch_v4_is_inside(
            ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr));
    }
    if (sa->sa_family != AF_INET6) {
        return true;
    }
    const uint8_t *b = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr;
    static const uint8_t nat64[12] = {0x00, 0x64, 0xFF, 0x9B};
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    uint32_t last = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];
    if (memcmp(b, nat64, 12) == 0 || memcmp(b, mapped, 12) == 0) {
        return fetch_v4_is_inside(last);
    }
    /* Of the whole space 2000::/3 alone is given out; in it documentation, 6to4 and Teredo, which
     * can lead anywhere. */
    bool global = b[0] >> 5 == 1;
    bool teredo = b[0] == 0x20 && b[1] == 0x01 && (b[2] >> 1) == 0;
    bool documentation = b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0D && b[3] == 0xB8;
    bool six_to_four = b[0] == 0x20 && b[1] == 0x02;
    return !global || teredo || documentation || six_to_four;
}

/* The one place where it is known whom we would talk to, whatever the name resolved to. */
static curl_socket_t fetch_open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct fetch *f = ctx;
    struct addr a = {.sa_bytes = to->addrlen};
    UNUSED(purpose);
    if (to->addrlen > sizeof(a.sa)) {
        return CURL_SOCKET_BAD;
    }
    memcpy(&a.sa, &to->addr, to->addrlen);
    bool local = addr_is_local(&a);
    if ((!f->conf->inside && fetch_addr_is_inside(&to->addr)) ||
        (f->plain && !f->conf->http && !local)) {
        f->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- what comes ---- */

static size_t fetch_on_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct fetch *f = ctx;
    buf_add(&f->reply->body, bytes, size * n);
    f->too_large = !buf_ok(&f->reply->body);
    return f->too_large ? 0 : size * n;
}

static void fetch_read_cache_control(struct fetch_reply *r, struct str value)
{
    while (value.len > 0) {
        struct str part = str_trim(str_cut(&value, ','));
        struct str age = part;
        struct str name = str_trim(str_cut(&age, '='));
        uint64_t s = 0;
        if (str_eq_nocase(name, STR_LIT("no-store")) || str_eq_nocase(name, STR_LIT("no-cache"))) {
            r->has_max_age = true;
            r->max_age_s = 0;
            return;
        }
        if (str_eq_nocase(name, STR_LIT("max-age")) && str_to_u64(str_trim(age), &s)) {
            r->has_max_age = true;
            r->max_age_s = (uint32_t)MIN(s, (uint64_t)UINT32_MAX);
        }
    }
}

static size_t fetch_on_header(char *bytes, size_t size, size_t n, void *ctx)
{
    struct fetch *f = ctx;
    struct str value = str_make(bytes, size * n);
    struct str name = str_cut(&value, ':');
    if (str_eq_nocase(str_trim(name), STR_LIT("cache-control"))) {
        fetch_read_cache_control(f->reply, str_trim(value));
    }
    return size * n;
}

static int fetch_on_progress(void *ctx, curl_off_t dl_all, curl_off_t dl, curl_off_t ul_all,
                             curl_off_t ul)
{
    const struct fetch *f = ctx;
    UNUSED(dl_all);
    UNUSED(dl);
    UNUSED(ul_all);
    UNUSED(ul);
    return f->conf->stop != NULL && atomic_load_explicit(f->conf->stop, memory_order_relaxed);
}

/* ---- the request ---- */

static enum rc fetch_check_url(struct fetch *f, struct err *err)
{
    struct str url = str_from(f->conf->url);
    f->plain = str_starts(url, STR_LIT("http://"));
    if (!f->plain && !str_starts(url, STR_LIT("https://"))) {
        return err_set(err, RC_INVALID, "a URL that begins with neither https:// nor http://");
    }
    return url.len < FETCH_URL_BYTES_MAX
               ? RC_OK
               : err_set(err, RC_INVALID, "a URL of over %d bytes", FETCH_URL_BYTES_MAX);
}

/* False: out of memory. */
static bool fetch_headers(const struct fetch_conf *c, struct curl_slist **out)
{
    for (uint32_t i = 0; c->headers != NULL && c->headers[i] != NULL; i++) {
        struct curl_slist *more = curl_slist_append(*out, c->headers[i]);
        if (more == NULL || i >= FETCH_HEADERS_MAX) {
            return false;
        }
        *out = more;
    }
    return true;
}

static bool fetch_set(CURL *h, struct fetch *f, char *message)
{
    const struct fetch_conf *c = f->conf;
    bool ok = true;
#define FETCH_SET(option, value) ok = ok && curl_easy_setopt(h, option, value) == CURLE_OK
    FETCH_SET(CURLOPT_URL, c->url);
    FETCH_SET(CURLOPT_PROTOCOLS_STR, "http,https");
    FETCH_SET(CURLOPT_FOLLOWLOCATION, 0L);
    FETCH_SET(CURLOPT_PROXY, "");
    FETCH_SET(CURLOPT_NOSIGNAL, 1L);
    FETCH_SET(CURLOPT_SSL_VERIFYPEER, 1L);
    FETCH_SET(CURLOPT_SSL_VERIFYHOST, 2L);
    FETCH_SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    FETCH_SET(CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
    FETCH_SET(CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(c->timeout_ms, (uint32_t)FETCH_CONNECT_MS));
    FETCH_SET(CURLOPT_USERAGENT, "bud/" BUD_VERSION);
    FETCH_SET(CURLOPT_ERRORBUFFER, message);
    FETCH_SET(CURLOPT_OPENSOCKETFUNCTION, fetch_open_socket);
    FETCH_SET(CURLOPT_OPENSOCKETDATA, f);
    FETCH_SET(CURLOPT_WRITEFUNCTION, fetch_on_body);
    FETCH_SET(CURLOPT_WRITEDATA, f);
    FETCH_SET(CURLOPT_HEADERFUNCTION, fetch_on_header);
    FETCH_SET(CURLOPT_HEADERDATA, f);
    FETCH_SET(CURLOPT_NOPROGRESS, 0L);
    FETCH_SET(CURLOPT_XFERINFOFUNCTION, fetch_on_progress);
    FETCH_SET(CURLOPT_XFERINFODATA, f);
    if (c->ca_file != NULL) {
        FETCH_SET(CURLOPT_CAINFO, c->ca_file);
    }
    if (c->body.ptr != NULL) {
        FETCH_SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len);
        FETCH_SET(CURLOPT_POSTFIELDS, c->body.ptr);
    }
    if (c->method != NULL) {
        FETCH_SET(CURLOPT_CUSTOMREQUEST, c->method);
    }
#undef FETCH_SET
    return ok;
}

static enum rc fetch_result(const struct fetch *f, CURLcode code, const char *message,
                            struct err *err)
{
    const char *url = f->conf->url;
    const char *why = message[0] != '\0' ? message : curl_easy_strerror(code);
    if (code == CURLE_OK) {
        return RC_OK;
    }
    if (f->refused) {
        return err_set(err, RC_FORBIDDEN, "%s: leads to an address that is not allowed", url);
    }
    if (f->too_large) {
        return err_set(err, RC_TOO_LARGE, "%s: more than %zu bytes", url, f->reply->body.cap_bytes);
    }
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        return err_set(err, RC_CANCELLED, "%s: stopped", url);
    }
    return err_set(err, code == CURLE_OPERATION_TIMEDOUT ? RC_TIMEOUT : RC_UNAVAILABLE, "%s: %s",
                   url, why);
}

static enum rc fetch_perform(struct fetch *f, struct err *err)
{
    char message[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    CURL *h = curl_easy_init();
    long status = 0;
    bool ok = h != NULL && fetch_set(h, f, message) && fetch_headers(f->conf, &headers) &&
              curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers) == CURLE_OK;
    enum rc rc = RC_OK;
    if (!ok) {
        rc = err_set(err, RC_INVALID, "%s: cannot be asked for", f->conf->url);
    } else {
        rc = fetch_result(f, curl_easy_perform(h), message, err);
    }
    if (rc == RC_OK) {
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
        f->reply->status = (int)status;
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(h);
    return rc;
}

enum rc fetch_run(const struct fetch_conf *conf, struct fetch_reply *reply, struct err *err)
{
    struct fetch f = {.conf = conf, .reply = reply};
    ASSERT(conf->timeout_ms > 0);
    reply->status = 0;
    reply->has_max_age = false;
    reply->max_age_s = 0;
    enum rc rc = fetch_check_url(&f, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return err_set(err, RC_UNAVAILABLE, "%s: libcurl cannot be used", conf->url);
    }
    rc = fetch_perform(&f, err);
    curl_global_cleanup();
    return rc;
}
