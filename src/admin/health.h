/* health.h: /livez, /readyz and /health: open, and near to free. */
#ifndef ADMIN_HEALTH_H
#define ADMIN_HEALTH_H

#include "net/http_server.h"

/* Answers when the path is one of the three; false when it is not. /livez is 200 as long as the
 * loop turns; the others are 503 until `ready`. */
bool health_handle(struct http_exchange *x, bool ready);

#endif
