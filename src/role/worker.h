/*
 * Inside of a queue worker; shared by the worker_*.c files only.
 *
 * Two threads.  The step thread (step/runner.h) runs handlers; everything here
 * is the loop thread: it claims, feeds the runner, commits outcomes, gives
 * back what should not wait, answers the handler's state reads, and obeys the
 * supervisor.
 *
 * An attempt is in exactly one place: with the runner (queued or running), in
 * `finished` (ran, not sent), in `sending` (in the exchange under way), or in
 * `spare` (empty, for reuse).
 */
#ifndef SD_ROLE_WORKER_H
#define SD_ROLE_WORKER_H

#include "db/db.h"
#include "queue/claim.h"
#include "queue/finish.h"
#include "queue/lane.h"
#include "role/limit.h"
#include "role/role.h"
#include "step/registry.h"
#include "step/runner.h"

#include <ev.h>

struct sd_worker {
	const struct sd_child *child;
	struct ev_loop *loop;
	struct sd_db_loop db_loop;
	struct sd_db_ev *db_ev;
	struct sd_db *db;
	struct sd_registry *registry;
	struct sd_runner *runner;

	ev_io chan_io, wake_io, runner_io;
	ev_timer flush_timer; /* a finished job becomes visible in time */
	ev_timer slow_timer;  /* nothing waits behind a slow job */
	ev_timer retry_timer; /* after a failed exchange */
	ev_timer patience_timer; /* with a database that is away while we drain */
	ev_timer report_timer; /* what the handler says of its progress is told */
	ev_timer orphan_timer; /* the supervisor is dead, and who succeeds it must not find us at work */
	ev_timer began_timer;  /* that it runs is told */
	ev_timer lease_timer;  /* whether its lease still holds it, should the node be silent */
	ev_signal term;

	int group;	/* in the scoreboard */
	uint32_t peers;	 /* the pools that serve one of our lanes too, by index */
	uint32_t equals; /* those that serve all of them */
	struct sd_lane *lanes;
	size_t nlanes, first_lane;
	uint32_t settings_version;
	bool lanes_loaded, said_ready;
	bool warm; /* the session has planned what a claim needs, or is past caring */

	struct sd_claim claim;
	struct sd_finish finish;
	struct sd_chain finished, sending;
	int64_t finished_since_us; /* when the oldest of finished ended */
	int64_t exchange_us;	   /* when the exchange under way was sent */
	int64_t given_us;	   /* when the runner got a batch last */
	int64_t taken;		   /* jobs that were claimed, less those given back */
	int64_t memory_limit;	   /* between two jobs; 0: none */
	int64_t looked_us;	   /* at its memory, by the step thread */
	_Atomic bool too_big;	   /* it held more */
	bool asked_for_successor;
	int64_t claim_us[2];	   /* how long the last two claims took, the latest first */
	bool busy;		   /* an exchange, the reading of a claim, or the loading of lanes, is under way */
	bool claiming;		   /* the exchange contains a claim */
	size_t suspects;	   /* one of so many outcomes is refused by the database; they go in batches of … */
	size_t suspects_most;	   /* … so many, halved until it is alone, and doubled again */
	int32_t claimed_node;	   /* whose claims the queued attempts are */
	int backend;		   /* pid of the server process of the present connection, or of the last one */
	bool lost_claim;	   /* a claim may have committed, or may yet commit, without our seeing it … */
	int lost_backend;	   /* … in this server process */
	bool unread;		   /* it did: there was no memory for what came */
	int64_t died_us;	   /* the last death in the pool that its lanes know of */
	int singly;		   /* claim one job at a time, so often: one of them is too large for us */
	bool woken;		   /* a wake-up was taken that no claim has answered yet */
	bool sleeping;		   /* the last claim was empty: wait for a wake-up */
	int releasing;		   /* release calls under way */

	bool orphaned;		   /* the supervisor is dead */
	bool impatient;		   /* has drained for so long that it only waits for a database that is there */
	bool draining;		   /* take no more work, exit when all is told */
	bool ending;		   /* TERM: the running attempt is to end … */
	int64_t ending_job;
	const char *ending_outcome; /* … as this; NULL: not by us */
	char ending_error[SD_LIMIT_TEXT];
	struct sd_attempt *ended;   /* the attempt that was to end and did */
	bool leaving;		    /* exit without waiting for the handler … */
	bool struck;		    /* … by a TERM that was none of the supervisor's */

	int64_t report_us;	    /* when progress was told last */
	int64_t began_job, began_lease; /* whose start was told last … */
	bool telling_start;	    /* … or is on its way */
	int64_t asked_job, asked_lease; /* is it still ours?  0: nothing is asked */
	struct sd_attempt *spare;
};

/* worker.c: look at everything and do what is due; called after each event. */
void sd_worker_pump(struct sd_worker *w);
void sd_worker_recall(struct sd_worker *w); /* what has not begun goes back */
bool sd_worker_stopping(const struct sd_worker *w); /* it takes no more work */
bool sd_worker_halted(const struct sd_worker *w);   /* nor begins what it holds */
void sd_worker_retry_later(struct sd_worker *w, double seconds);

/* worker_judge.c */
void sd_worker_take_finished(struct sd_worker *w);

/* worker_wake.c */
/* Other workers that sleep: how many could run some of what this one can, and the slots of those that could run all, as SQL's array. */
int sd_worker_idle_peers(const struct sd_worker *w, struct sd_buf *slots);
/* Wake up to `most` more workers of each pool, of those that sleep. */
void sd_worker_ring(struct sd_worker *w, size_t most);
void sd_worker_hand_over(struct sd_worker *w);

/* worker_claim.c */
void sd_worker_load_lanes(struct sd_worker *w);
void sd_worker_warm_up(struct sd_worker *w);
struct sd_db_call sd_worker_claim_call(struct sd_worker *w, int64_t now_us);
bool sd_worker_is_peer(const struct sd_worker *w, int pool); /* does that pool of our generation serve a lane of ours? */
void sd_worker_claimed(struct sd_worker *w, const PGresult *res); /* large batches are read now; busy until then */
bool sd_worker_saw_all(const struct sd_worker *w);
bool sd_worker_is_unread(const struct sd_err *err);
void sd_worker_claim_lost(struct sd_worker *w, const struct sd_err *err, int backend);
void sd_worker_claim_failed(struct sd_worker *w);
void sd_worker_forget(struct sd_worker *w, struct sd_attempt *a); /* into spare */
struct sd_lane *sd_worker_lane(struct sd_worker *w, int lane_id);

/* worker_commit.c */
void sd_worker_exchange(struct sd_worker *w, bool with_claim);
void sd_worker_release(struct sd_worker *w, struct sd_attempt *list); /* unstarted ones, back to ready */
void sd_worker_give_back(struct sd_worker *w); /* what a lost claim may have left */
void sd_worker_end_attempt(struct sd_worker *w, struct sd_attempt *a, const char *outcome, const char *error);

/* worker_wear.c */
int64_t sd_worker_jobs_left(const struct sd_worker *w); /* by maxJobs */
bool sd_worker_is_worn(const struct sd_worker *w);	/* it is to take no more */
void sd_worker_watch_memory(struct sd_worker *w);	/* from now on; before the first attempt is given */
/* Worn, it claims no more: what it is woken for is for others, and what waits behind the last job, should it have grown too big. */
void sd_worker_retire(struct sd_worker *w);
void sd_worker_replace_if_done(struct sd_worker *w, bool idle); /* worn, and everything run and told */

/* worker_orphan.c */
void sd_worker_orphaned(struct sd_worker *w);	/* the supervisor is dead */
void sd_worker_orphan_goes(struct sd_worker *w); /* if all is told */

/* worker_ask.c */
void sd_worker_answer(struct sd_worker *w, struct sd_ask *ask);

/* worker_lease.c */
void sd_worker_lease_init(struct sd_worker *w);
void sd_worker_watch_lease(struct sd_worker *w); /* as long as handlers run */

/* worker_report.c: that a handler runs, and how far it is */
void sd_worker_report_init(struct sd_worker *w);
void sd_worker_look_for_report(struct sd_worker *w);
void sd_worker_look_for_start(struct sd_worker *w);
bool sd_worker_start_is_told(struct sd_worker *w); /* of the running attempt; if not, it is told now */

#endif
