/*
 * Migrations: numbered files (001_name.sql, 002_…), those with tables applied
 * once, those with functions and views (they begin with "-- Repeatable")
 * whenever one of them changed; all in one transaction under an advisory lock,
 * recorded in stepd.migration.  Any number of nodes may do it at once: one does,
 * the others see it done.
 */
#ifndef SD_DB_MIGRATE_H
#define SD_DB_MIGRATE_H

#include "base/err.h"

#include <libpq-fe.h>

/*
 * Bring the database to the version of the files in sql_dir (NULL:
 * $STEPD_SQL_DIR, else where they are installed).  *from and *to are the
 * versions before and after; 0 is an empty database.  Blocks.
 *
 * Permanent errors: no files, a file that fails (named with its line), a
 * database newer than the files, a server too old or not in UTF-8: the
 * database is then as it was.  A file applied once that changed afterwards is
 * only warned about.
 */
int sd_migrate(PGconn *conn, const char *sql_dir, int *from, int *to, struct sd_err *err) SD_MUST_CHECK;

/* Only look: the database's version; 0: it has no schema of ours. */
int sd_schema_version(PGconn *conn, int *version, struct sd_err *err) SD_MUST_CHECK;

#endif
