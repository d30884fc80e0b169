/*
 * The finish call: outcomes of a batch of attempts, with their effects, as the
 * arrays that SQL's stepd.finish takes.  One call is one transaction.
 */
#ifndef SD_QUEUE_FINISH_H
#define SD_QUEUE_FINISH_H

#include "base/buf.h"
#include "db/db.h"
#include "db/number.h"

#include <stddef.h>
#include <stdint.h>

struct sd_finish {
	struct sd_buf leases, jobs, outcomes, ages, durations, outputs, errors, delays, effects;
	int noutputs, nerrors, ndelays;
	size_t n;
	struct sd_db_numbers numbers;
	const char *values[11];
};

/* The outcome of one attempt.  Texts are borrowed; NULL where there is none. */
struct sd_finish_row {
	int64_t lease_id, job_id;
	const char *outcome; /* completed error fail snooze invalid_input cancelled skipped */
	int64_t started_us;  /* sd_now_us */
	int64_t duration_us;
	const char *output;
	size_t output_len;
	const char *error;
	int64_t delay_ms; /* -1: by the queue's rules */
	/* effects as in step/attempt.h: objects joined by commas */
	const struct sd_buf *enqueues, *states, *logs;
	const char *progress; /* what it reported last and was not told yet, JSON text; NULL: nothing */
};

void sd_finish_begin(struct sd_finish *f);
void sd_finish_add(struct sd_finish *f, const struct sd_finish_row *row, int64_t now_us);
/* Close the arrays; add nothing after.  The call is valid until the next begin. */
struct sd_db_call sd_finish_call(struct sd_finish *f, int node_id, int pid);
/* {"job":ID,"enqueues":[…],"states":[…],"logs":[…],"progress":{…}} appended to b. */
void sd_finish_effects(struct sd_buf *b, int64_t job_id, const struct sd_buf *enqueues, const struct sd_buf *states,
		       const struct sd_buf *logs, const char *progress);

#endif
