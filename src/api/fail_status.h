/* fail_status.h: the error body for a failure that only HTTP's own layer has seen: a broken or
 * over-long head, a slow client. */
#ifndef API_FAIL_STATUS_H
#define API_FAIL_STATUS_H

#include "base/buf.h"

/* Appends the error of the row that has this HTTP status, or of RC_INVALID. Fits
 * http_server_conf.error_format. */
void api_fail_status(struct buf *out, int http_status, const char *message);

#endif
