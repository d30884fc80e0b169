/* A handler's state reads as calls of SQL, for the queue worker and the web worker. */
#ifndef SD_ROLE_ASK_H
#define SD_ROLE_ASK_H

#include "db/db.h"
#include "step/runner.h"

/* The call; it borrows *values.  The answer is cleared. */
struct sd_db_call sd_ask_call(struct sd_ask *ask, const char *values[2]);
/* Put what came into ask, in its attempt's arena: for a sd_db_done, to which results and err were given. */
void sd_ask_answered(struct sd_ask *ask, PGresult *const *results, const struct sd_err *err);

#endif
