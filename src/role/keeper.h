/*
 * What the files of the keeper share.  One process, one loop, one connection:
 *
 *   keeper.c        start, joining, heartbeat, rescue, maintenance, drain
 *   keeper_start.c  before there is a loop: waiting for the database, migrations
 *   keeper_wake.c   from NOTIFY and due times to a woken worker
 *   keeper_demand.c work that waits for workers which are not there
 *   keeper_pools.c  how the pools are, told to the database
 *   keeper_death.c  workers' deaths and cancelled jobs
 *   keeper_place.c  where this node runs, and daemons of this host that are gone
 */
#ifndef SD_ROLE_KEEPER_H
#define SD_ROLE_KEEPER_H

#include "db/db.h"
#include "db/db_ev.h"
#include "role/role.h"
#include "step/manifest.h"

#include <ev.h>

#define SD_KEEPER_CANCELS 64

struct sd_keeper_death;

struct sd_keeper {
	const struct sd_child *child;
	struct ev_loop *loop;
	struct sd_arena *arena; /* texts that live as long as the keeper */
	struct sd_db *db;
	struct sd_db_ev *db_ev;
	struct sd_db_loop db_loop;
	ev_io chan_io;

	/* keeper.c */
	uint32_t life;	   /* the scoreboard's, when we asked to join */
	int64_t join_us;   /* when that was, sd_boot_us() */
	int64_t beat_us;   /* when the first of the unanswered heartbeats was sent */
	unsigned beats;	   /* how many are unanswered */
	int32_t node_id;   /* 0: not joined on this connection yet */
	bool configured, said_ready, away;
	char away_what[128]; /* what the log knows of that: the error up to its first colon */
	bool joining;	   /* a request of the joining is under way */
	bool draining, leaving;
	struct sd_err start_err; /* why it is not ready yet */
	ev_timer beat_timer, rescue_timer, join_timer, drain_timer, start_timer;

	/* maintenance has a connection of its own: nobody waits behind it */
	struct sd_db *upkeep;
	struct sd_db_ev *upkeep_ev;
	struct sd_db_loop upkeep_loop;
	bool upkeep_done;
	ev_timer upkeep_timer;
	ev_timer gone_timer; /* looks whether what ran on nodes of this host that are gone has ended … */
	struct sd_buf gone, gone_workers; /* … those nodes, and the pids of their workers … */
	int64_t gone_by_us; /* … and at the latest then it has */

	/* keeper_wake.c */
	bool promoting, promote_again;
	bool listening;	      /* as SQL was told last */
	int64_t window_us;    /* counting notifications: since when, how many, how many busy windows in a row */
	unsigned window_count, busy_windows;
	bool looking;	      /* whether enqueuers wait for each other */
	unsigned crowded;     /* how often in a row they did */
	int64_t ready_seen_us; /* while polling: when work was last seen */
	unsigned sweeps;      /* polls left after the doorbell was switched on again */
	ev_timer promote_timer;

	/* keeper_demand.c */
	const char **steps; /* of our manifest */
	size_t nsteps;
	bool asking_backlog;
	unsigned waited[SD_CONF_MAX_POOLS]; /* how often in a row work was seen waiting */
	int64_t demand_until_us; /* work was seen waiting: ask again until then */
	ev_timer demand_timer;

	/* keeper_pools.c */
	struct sd_buf pools_told;
	int64_t pools_told_us;
	bool telling_pools;

	/* keeper_death.c */
	struct sd_keeper_death *deaths; /* in order */
	ev_timer death_timer, cancel_timer;
	bool asking_cancels, ask_cancels_again;
	int64_t heard[SD_KEEPER_CANCELS]; /* running jobs that a notification wants cancelled: SQL is to confirm it */
	size_t nheard;
	bool confirming;
	struct {
		int64_t job, until_us;
	} cancels[SD_KEEPER_CANCELS]; /* not seen in a slot yet; job 0: free */
};

/* keeper_start.c: does not come back before the database is there and has our schema. */
void sd_keeper_prepare(const struct sd_child *child);

/* keeper_wake.c */
void sd_keeper_wake_init(struct sd_keeper *k);
void sd_keeper_promote(struct sd_keeper *k);
void sd_keeper_notified(struct sd_keeper *k, const char *payload); /* stepd_ready */
void sd_keeper_beat(struct sd_keeper *k);	   /* heartbeat, with what we want to hear */

/* keeper_demand.c */
void sd_keeper_demand_init(struct sd_keeper *k);
void sd_keeper_demand(struct sd_keeper *k); /* there is work: are there workers for it? */

/* keeper_pools.c */
void sd_keeper_live(struct sd_keeper *k); /* our configuration serves: show the pools at once */
void sd_keeper_show_pools(struct sd_keeper *k); /* tell the database how our pools are, when that has changed */

/* keeper_death.c */
void sd_keeper_death_init(struct sd_keeper *k);
void sd_keeper_died(struct sd_keeper *k, const struct sd_msg_death *death);
void sd_keeper_send_deaths(struct sd_keeper *k);
void sd_keeper_ask_cancels(struct sd_keeper *k);
void sd_keeper_cancel(struct sd_keeper *k, int64_t job);
unsigned sd_keeper_cancel_running(struct sd_keeper *k); /* all jobs that run on this node, not HTTP requests; how many */

/* keeper_place.c: tell where this node runs, and declare those of this host lost whose daemon is gone */
void sd_keeper_place(struct sd_keeper *k);

/* keeper.c */
void sd_keeper_rescue(struct sd_keeper *k);
void sd_keeper_declared_dead(struct sd_keeper *k);
void sd_keeper_leave_when_done(struct sd_keeper *k);

/* One request of one statement; the answer goes to done with k. */
void sd_keeper_ask(struct sd_keeper *k, const struct sd_db_stmt *stmt, const char *const *values, int64_t timeout_ms,
		   sd_db_done *done);

#endif
