/*
 * The claim call: what is sent, and its rows as values.
 */
#ifndef SD_QUEUE_CLAIM_H
#define SD_QUEUE_CLAIM_H

#include "base/buf.h"
#include "db/db.h"
#include "db/number.h"
#include "queue/lane.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The parameters of one claim; the buffers are reused.  idle is the caller's to fill: slots of workers who have nothing to do, as an array. */
struct sd_claim {
	struct sd_buf lanes, cursors, maxes, mosts, idle, leases;
	int node_id, slot;
	uint32_t generation;
	int asked;   /* in total; the caller may lower it before the call */
	bool strict; /* and set this: no more, in any case */
	struct sd_db_numbers numbers;
	const char *values[10];
};

/*
 * Ask all lanes, beginning with lane number `first` so that none is always
 * last, for what each wants and for at most as many in total as the most
 * eager of them.  budget_us: how long a batch should take to run; most_us: one
 * of jobs that nobody else could run meanwhile.
 */
void sd_claim_build(struct sd_claim *c, int node_id, int slot, uint32_t generation, struct sd_lane *lanes, size_t nlanes,
		    size_t first, int64_t budget_us, int64_t most_us, int64_t now_us);
struct sd_db_call sd_claim_call(struct sd_claim *c); /* valid until c is built or called again */
/* Did the claim only name some of its batches, as they are large (rows without a job)?  Then this asks what is in all of them. */
bool sd_claim_is_to_read(const PGresult *res);
struct sd_db_call sd_claim_read_call(struct sd_claim *c, const PGresult *res);

/* One claimed job, or (job_id 0) a batch of them that is to be read.  Strings belong to the result. */
struct sd_claimed {
	int64_t lease_id, job_id, parent_id, enqueued_wall_us, cursor;
	int lane_id, attempt, max_attempts, trigger_index;
	const char *trigger, *queue, *group_id, *trace_id, *input; /* group_id NULL: none */
	size_t input_len;
	enum sd_more more;
};
void sd_claim_row(const PGresult *res, int row, struct sd_claimed *out);

#endif
