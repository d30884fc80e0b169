/* A handler's state reads as calls of SQL: see ask.h. */
#include "role/ask.h"

#include "queue/sqlcalls.h"

static const struct sd_db_stmt *const statements[] = {
	[SD_ASK_STATE_GET] = &sd_sql_state_get,
	[SD_ASK_STATE_LIST] = &sd_sql_state_list,
	[SD_ASK_STATE_GROUPS] = &sd_sql_state_groups,
};

struct sd_db_call sd_ask_call(struct sd_ask *ask, const char *values[2])
{
	ask->json = NULL;
	ask->failed = false;
	values[0] = ask->group;
	values[1] = ask->key;
	return (struct sd_db_call){statements[ask->kind], values};
}

void sd_ask_answered(struct sd_ask *ask, PGresult *const *results, const struct sd_err *err)
{
	if (results == NULL) {
		ask->failed = true;
		ask->err = *err;
	} else if (PQntuples(results[0]) > 0 && !PQgetisnull(results[0], 0, 0)) {
		ask->json = sd_arena_memdup(ask->attempt->arena, PQgetvalue(results[0], 0, 0), (size_t)PQgetlength(results[0], 0, 0));
	}
}
