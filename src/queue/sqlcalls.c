/* The text of the queue's SQL calls, in one place. */
#include "queue/sqlcalls.h"

const struct sd_db_stmt sd_sql_lanes = {
	"lanes", "select lane_id, step, queue, timeout_ms, batch from stepd.lanes($1)", 1};
const struct sd_db_stmt sd_sql_warm_up = {"warm_up", "select stepd.warm_up($1, $2, $3)", 3};
#define CLAIMED                                                                                                        \
	"select lease_id, lane_id, job_id, attempt, max_attempts, trigger, trigger_index, queue, group_id, parent_id,"   \
	" trace_id, enqueued_at_us, cursor, input, more from "
const struct sd_db_stmt sd_sql_claim = {"claim", CLAIMED "stepd.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", 10};
const struct sd_db_stmt sd_sql_claimed = {"claimed", CLAIMED "stepd.claimed($1, $2, $3, $4)", 4};
const struct sd_db_stmt sd_sql_finish = {
	"finish", "select job_id, verdict from stepd.finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)", 11};
const struct sd_db_stmt sd_sql_release = {"release", "select stepd.release($1, $2)", 2};
const struct sd_db_stmt sd_sql_give_back = {"give_back", "select stepd.give_back($1, $2, $3, $4)", 4};
const struct sd_db_stmt sd_sql_unread = {"unread", "select job_id, verdict from stepd.unread($1, $2, $3, $4, $5, $6)", 6};
const struct sd_db_stmt sd_sql_end_session = {"end_session", "select stepd.end_session($1)", 1};
const struct sd_db_stmt sd_sql_died = {
	"died", "select job_id, verdict from stepd.died($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)", 13};
const struct sd_db_stmt sd_sql_began = {"began", "select stepd.began($1, $2, $3, $4)", 4};
const struct sd_db_stmt sd_sql_holds = {"holds", "select stepd.holds($1, $2, $3)", 3};
const struct sd_db_stmt sd_sql_http_finish = {
	"http_finish", "select stepd.http_finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)", 12};
const struct sd_db_stmt sd_sql_http_died = {
	"http_died", "select stepd.http_died($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)", 15};
const struct sd_db_stmt sd_sql_http_accept = {
	"http_accept", "select job_id, verdict from stepd.http_accept($1, $2, $3, $4, $5)", 5};
const struct sd_db_stmt sd_sql_http_key = {"http_key", "select stepd.http_key()", 0};
const struct sd_db_stmt sd_sql_http_jobs = {"http_jobs", "select ended, document from stepd.http_jobs($1, $2, $3)", 3};
const struct sd_db_stmt sd_sql_worker_here = {"worker_here", "select stepd.worker_here($1, $2, $3, $4)", 4};
const struct sd_db_stmt sd_sql_progress = {"progress", "select stepd.progress_report($1, $2, $3, $4)", 4};
const struct sd_db_stmt sd_sql_state_get = {"state_get", "select stepd.state_get($1, $2)", 2};
const struct sd_db_stmt sd_sql_state_list = {"state_list", "select stepd.state_list($1)", 1};
const struct sd_db_stmt sd_sql_state_groups = {"state_groups", "select stepd.state_groups()", 0};
