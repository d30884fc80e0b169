/*
 * The queue's SQL functions that C calls.  C knows these names and no table;
 * what each does, takes and returns is in sql/ (\df+ stepd.* in psql).
 */
#ifndef SD_QUEUE_SQLCALLS_H
#define SD_QUEUE_SQLCALLS_H

#include "db/db.h"

extern const struct sd_db_stmt sd_sql_lanes;	 /* steps text[] */
extern const struct sd_db_stmt sd_sql_warm_up;	 /* node, slot, lanes[] */
extern const struct sd_db_stmt sd_sql_claim;	 /* node, slot, generation, lanes[], cursors[], maxes[], total, large */
extern const struct sd_db_stmt sd_sql_claimed;	 /* node, slot, generation, leases[] */
extern const struct sd_db_stmt sd_sql_finish;	 /* node, pid, leases[], jobs[], outcomes[], ages_us[], durations_us[], outputs[], errors[], delays_ms[], effects */
extern const struct sd_db_stmt sd_sql_release;	 /* leases[], jobs[] */
extern const struct sd_db_stmt sd_sql_give_back; /* node, slot, generation, leases to keep[] */
extern const struct sd_db_stmt sd_sql_unread; /* node, slot, generation, leases to keep[], pid, error */
extern const struct sd_db_stmt sd_sql_end_session; /* pid of a server process of ours */
extern const struct sd_db_stmt sd_sql_died;	 /* node, slot, generation, job, outcome, error, exit_code, signal, max_rss_kb, cpu_ms, age_us, duration_us, pid */
extern const struct sd_db_stmt sd_sql_http_finish; /* node, pid, step, trigger_index, trace_id, outcome, age_us, duration_us, input, output, error, effects */
extern const struct sd_db_stmt sd_sql_http_died;   /* node, pid, step, trigger_index, trace_id, error_id, outcome, age_us, duration_us, input, error, exit_code, signal, max_rss_kb, cpu_ms */
extern const struct sd_db_stmt sd_sql_http_accept; /* steps[], trigger_indexes[], inputs[], trace_ids[], keys[] */
extern const struct sd_db_stmt sd_sql_http_key;	   /* nothing; 64 hex digits */
extern const struct sd_db_stmt sd_sql_http_jobs;   /* ids[], waits[], output */
extern const struct sd_db_stmt sd_sql_worker_here; /* node, slot, generation, pid */
extern const struct sd_db_stmt sd_sql_began;	  /* node, lease, job, age_us */
extern const struct sd_db_stmt sd_sql_holds;	  /* node, lease, job */
extern const struct sd_db_stmt sd_sql_progress;	  /* node, lease, job, progress */
extern const struct sd_db_stmt sd_sql_state_get;  /* group, key */
extern const struct sd_db_stmt sd_sql_state_list; /* group */
extern const struct sd_db_stmt sd_sql_state_groups;

#endif
