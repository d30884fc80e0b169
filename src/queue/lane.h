/*
 * A lane is one step's line in one queue, as one worker sees it: where it read
 * last, how long its jobs take, and from both how many jobs to claim next.
 * Pure: times come in as arguments.
 *
 * The cursor.  A claim reads the lane's index from the cursor on, so that it
 * never walks again over entries that are dead but cannot be removed because
 * some session holds a transaction open.  An enqueue that commits late has a
 * position behind the cursor, so three starting points are used:
 *   - the cursor itself while the lane comes back full (under load),
 *   - the cursor of about ten seconds ago when it came back short (idle), and
 *   - the very start once a second, or more rarely when that proves slow:
 *     at most a twentieth of the time goes into it.
 */
#ifndef SD_QUEUE_LANE_H
#define SD_QUEUE_LANE_H

#include <stdbool.h>
#include <stdint.h>

#define SD_LANE_BATCH 500
#define SD_LANE_MAX_BATCH 1000
#define SD_LANE_SAMPLES 10

/* Could another worker find jobs in the lane now, behind what we got?  SD_MORE_IF_FULL: if that is all we asked for. */
enum sd_more { SD_MORE_IF_FULL, SD_MORE, SD_NO_MORE };

struct sd_lane {
	int id;		     /* SQL's lane_id */
	int step_index;	     /* in the registry */
	int64_t timeout_ms;  /* of an attempt; 0: none */
	int max_batch;	     /* as the database says, up to SD_LANE_MAX_BATCH */

	int64_t cursor;
	struct {
		int64_t at_us, cursor;
	} sample[SD_LANE_SAMPLES]; /* a ring, about one a second */
	int newest;
	bool full;	     /* the last claim gave all that was asked */
	int64_t rescan_us;   /* when the next reading from the start is due */
	bool rescanning;     /* the claim under way reads from the start */
	bool ahead;	     /* … or goes on where the last one ended: what stands before that it does not see */

	double mean_us;	     /* moving mean of the handler's time; < 0: not known */
	double mean_bytes;   /* moving mean of the input's size */
	int last_batch;	     /* what was asked last: batches grow step by step … */
	bool wary;	     /* … and by small ones, since a worker died of a job */

	/* the claim under way, and what the caller found in its answer */
	int asked;
	int got;
	int64_t got_cursor;
	enum sd_more more;
};

void sd_lane_init(struct sd_lane *l, int id, int step_index, int64_t timeout_ms);
/*
 * How many to ask for, so that they take about budget_us together, with what the
 * database does for each: one while nothing is known or jobs are slow, hundreds
 * when they take microseconds.
 */
int sd_lane_want(const struct sd_lane *l, int64_t budget_us);
/* The same for jobs that nobody else could run meanwhile. */
int sd_lane_most(const struct sd_lane *l, int64_t budget_us);
/* Is another worker to be woken for what is left? */
bool sd_lane_has_more(const struct sd_lane *l);
/* A claim of `asked` jobs starts now: the cursor to send. */
int64_t sd_lane_begin(struct sd_lane *l, int asked, int64_t now_us);
/* It came back after took_us with what is noted in got and got_cursor. */
void sd_lane_end(struct sd_lane *l, int64_t now_us, int64_t took_us);
/* A handler of the lane ran for us on bytes of input. */
void sd_lane_ran(struct sd_lane *l, int64_t us, int64_t bytes);
/*
 * A worker died, perhaps of a job of this lane: what it had run and not told runs once more.  So that the next one takes
 * less with it, the following batches begin with one job and double, until something else keeps them small or they are large.
 */
void sd_lane_warn(struct sd_lane *l);
/* Do the lane's jobs take so long that none should wait behind another? */
bool sd_lane_is_slow(const struct sd_lane *l);

#endif
