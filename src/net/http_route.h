/* http_route.h: small things that every HTTP role needs: path patterns and one-line replies. */
#ifndef NET_HTTP_ROUTE_H
#define NET_HTTP_ROUTE_H

#include "net/http_server.h"

/* Whether `path` is `pattern`; a pattern that ends in '/' takes what follows (not empty) as *rest.
 */
MUST_CHECK bool http_route_match(const char *pattern, struct str path, struct str *rest);
/* Whether a request's method is the route's; HEAD is served as GET. */
bool http_route_method(enum http_method route, enum http_method request);
/* A whole reply with that content type; a reply that cannot be sent breaks the connection. */
void http_route_reply(struct http_exchange *x, int status, struct str content_type,
                      struct str body);

#endif
