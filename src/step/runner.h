/*
 * The step thread.  A worker's loop thread feeds attempts in; the step thread
 * runs their handlers one at a time, in order, and hands them back.
 *
 * What a handler may need while it runs (a state read that misses the
 * attempt's own writes) is asked of the loop thread: the step thread blocks,
 * the loop thread answers.  What it reports while it runs (stepd_progress) is
 * left here, only the last report, for the loop thread to fetch as often as it
 * sees fit; what was not told by the end goes with the attempt.  All functions
 * are for the loop thread but the few at the end.
 *
 * The step thread blocks the signals the daemon uses for itself (HUP, INT,
 * USR1, USR2) but not TERM, because the processes a handler starts inherit its
 * mask and must die of TERM.  A handler that crashes takes the process with it:
 * that is what the process is for.
 */
#ifndef SD_STEP_RUNNER_H
#define SD_STEP_RUNNER_H

#include "proc/scoreboard.h"
#include "step/attempt.h"
#include "step/registry.h"
#include "step/stream.h"

struct sd_runner;

enum sd_ask_kind { SD_ASK_STATE_GET, SD_ASK_STATE_LIST, SD_ASK_STATE_GROUPS };
/* A question of the running handler; lives on the step thread's stack until answered. */
struct sd_ask {
	enum sd_ask_kind kind;
	struct sd_attempt *attempt;
	const char *group, *key;
	/* the answer: JSON text copied into attempt->arena by the loop thread. GET: the value or NULL.
	 * LIST: an object {key: value…} of the group as stored. GROUPS: an array of strings. */
	const char *json;
	struct sd_err err;
	bool failed;
};

/* The runner's thread writes job, attempt, request, serving, step, started_us, deadline_us, jobs_done and jobs_failed of slot. NULL as slot: none of it. */
struct sd_runner *sd_runner_new(const struct sd_registry *registry, struct sd_slot *slot, struct sd_err *err);
void sd_runner_free(struct sd_runner *r); /* only when nothing runs; joins the thread; attempts that were not taken are not freed */

/*
 * Readable when sd_runner_take, sd_runner_ask or sd_runner_reported has something; cleared by sd_runner_clear, to be
 * called before the three.  At once for a question and when nothing is left to run, else at most 2 ms after an attempt ended, so that a
 * batch of short jobs does not wake the loop thread for each.
 */
int sd_runner_fd(const struct sd_runner *r);
void sd_runner_clear(struct sd_runner *r);

/*
 * Called by the step thread when a handler has returned, before the next one starts.  true: go on.  false: start no
 * other before sd_runner_resume.  Set before the first attempt is given; without a hook it always goes on.
 */
typedef bool sd_runner_hook(void *arg, struct sd_attempt *a);
void sd_runner_set_hook(struct sd_runner *r, sd_runner_hook *hook, void *arg);
void sd_runner_resume(struct sd_runner *r);

/*
 * Start a job only while the lease of the node that claimed it holds, by the board's node_id and lease_until_us.  Others
 * stay queued until the lease is renewed or they are recalled: a process that stood still does not begin what runs
 * elsewhere by now.  Without a board, and for requests, nothing is asked.
 */
void sd_runner_set_board(struct sd_runner *r, const struct sd_scoreboard *board);
bool sd_runner_is_leased(const struct sd_runner *r, const struct sd_attempt *a); /* by that; without a board always */

/* Where replies in pieces go; set before the first attempt is given.  Without it they go nowhere. */
void sd_runner_set_stream(struct sd_runner *r, const struct sd_stream_ops *ops, void *arg);
void sd_runner_set_stopping(struct sd_runner *r); /* from now on handlers see that the worker wants to end */

void sd_runner_give(struct sd_runner *r, struct sd_attempt *list); /* a chain by ->next, in order */
struct sd_attempt *sd_runner_take(struct sd_runner *r);	/* all that finished since, as a chain in order; NULL: none */
struct sd_ask *sd_runner_ask(struct sd_runner *r);	/* the open question, each returned once; NULL: none */
void sd_runner_answer(struct sd_runner *r, struct sd_ask *ask);
/* Take back what was given and has not started, as a chain in order. */
struct sd_attempt *sd_runner_recall(struct sd_runner *r);
/* The attempt that runs now (NULL: idle) and since when; a snapshot. */
const struct sd_attempt *sd_runner_current(struct sd_runner *r, int64_t *started_us);
size_t sd_runner_queued(struct sd_runner *r); /* given, not started */

/* The running handler reported something new: true once until it is fetched. */
bool sd_runner_reported(struct sd_runner *r);
/* The last report, if it was not told: copied to *out, with whose it is.  Its number, for sd_runner_told; 0: there is none. */
uint64_t sd_runner_report(struct sd_runner *r, struct sd_buf *out, int64_t *lease_id, int64_t *job_id);
void sd_runner_told(struct sd_runner *r, uint64_t number);

/* For the step thread.  NULL as runner: nobody answers, nothing is cancelled. */
void sd_runner_await(struct sd_runner *r, struct sd_ask *ask); /* ask and wait for the answer */
bool sd_runner_cancelled(struct sd_runner *r, const struct sd_attempt *a);
void sd_runner_say(struct sd_runner *r, const struct sd_buf *report); /* replaces what it said before */
bool sd_runner_stopping(const struct sd_runner *r);
const struct sd_stream_ops *sd_runner_stream(const struct sd_runner *r, void **arg); /* NULL: there is none */

#endif
