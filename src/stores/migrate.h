/* migrate.h: numbered schema changes, each applied once, in one transaction, under the database's
 * own lock, so that several processes may start together. */
#ifndef STORES_MIGRATE_H
#define STORES_MIGRATE_H

#include <sqlite3.h>

#include "base/err.h"

/* RC_UNSUPPORTED when the file is newer than this program. */
RC migrate_sqlite(sqlite3 *db, struct err *err);

#endif
