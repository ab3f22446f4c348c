/* administer.h: administrative requests of commands: to the server that --server or $BUD_SERVER
 * names, with the key of $BUD_KEY, or else on the stores of this machine, as its operator. Both
 * ways the same code decides and answers (admin/call.h). */
#ifndef CLI_ADMINISTER_H
#define CLI_ADMINISTER_H

#include "base/buf.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/load_url.h"
#include "net/http_head.h"

#define ADMINISTER_OPTIONS                                                                         \
    {"--server", 0, "URL", "ask this server's admin address, with the key of $BUD_KEY"},           \
        LOAD_URL_OPTIONS,                                                                          \
    {                                                                                              \
        "--json", 0, NULL, "print JSON"                                                            \
    }

struct administer; /* opaque */

RC administer_open(struct administer **out, const struct args *a, struct err *err);
/* The same; of this machine's stores, with the records settled that ended processes left open. */
RC administer_open_settled(struct administer **out, const struct args *a, struct err *err);
/* NULL is allowed. */
void administer_close(struct administer *a);

/* `target` is a path with a query, such as "/admin/v1/keys?limit=5"; body "" = none. The answer
 * lives until the next call or the close. A refusal is an error with the answer's message. */
RC administer_call(struct administer *a, enum http_method method, const char *target,
                   struct str body, const struct json **out, struct err *err);
/* The same answer as text. */
struct str administer_text(const struct administer *a);
/* Every item of a list, page by page. */
RC administer_each(struct administer *a, const char *target,
                   void (*each)(void *ctx, const struct json *item), void *ctx, struct err *err);

/* Appends a name to a path, percent-encoded. */
void administer_add_name(struct buf *path, const char *name);
/* A text member, cut to fit, "" when absent; returns out. */
const char *administer_member(const struct json *o, const char *name, char out[128]);
int64_t administer_number(const struct json *o, const char *name);
/* "2026-01-31T08:30Z", "-" for 0. */
const char *administer_time(int64_t s, char out[24]);

#endif
