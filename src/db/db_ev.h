/* The libev adapter of db.h. */
#ifndef SD_DB_DB_EV_H
#define SD_DB_DB_EV_H

#include "db/db.h"

struct ev_loop;
struct sd_db_ev; /* watchers of one connection */

/* Fill *adapter for one connection on loop; free after sd_db_free. */
struct sd_db_ev *sd_db_ev_new(struct ev_loop *loop, struct sd_db_loop *adapter);
void sd_db_ev_free(struct sd_db_ev *e);

#endif
