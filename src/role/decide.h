/*
 * The supervisor's decisions, as tables and pure functions: state × event →
 * next state and action.  Nothing here makes a system call or reads a clock,
 * so every path, the rare ones too, is tested from values.
 */
#ifndef SD_ROLE_DECIDE_H
#define SD_ROLE_DECIDE_H

#include "base/backoff.h"
#include "role/role.h"

#include <stdbool.h>
#include <stdint.h>

/* The daemon. */
enum sd_phase {
	SD_PHASE_START,	 /* nothing served yet */
	SD_PHASE_RUN,
	SD_PHASE_RELOAD, /* a new generation is being built beside the one that serves */
	SD_PHASE_DRAIN,	 /* TERM: running jobs get their time */
	SD_PHASE_FAST,	 /* second TERM, or INT: they do not */
	SD_PHASE_COUNT
};
enum sd_daemon_event {
	SD_ON_TERM,
	SD_ON_INT,
	SD_ON_HUP,
	SD_ON_GEN_LIVE,	  /* the generation being built is ready, all of it */
	SD_ON_GEN_FAILED, /* it cannot be built */
	SD_ON_EVENT_COUNT
};
enum sd_daemon_action {
	SD_DO_NOTHING,
	SD_DO_DRAIN,
	SD_DO_FAST,
	SD_DO_RELOAD,
	SD_DO_RELOAD_LATER, /* remember it until the present building ends */
	SD_DO_SERVE,	    /* first generation: READY=1 */
	SD_DO_SWAP,	    /* the new generation serves, the old one drains */
	SD_DO_KEEP_OLD,
	SD_DO_GIVE_UP,	    /* start failed: stop with its exit code */
};
struct sd_daemon_step {
	enum sd_phase next;
	enum sd_daemon_action action;
};
struct sd_daemon_step sd_daemon_decide(enum sd_phase phase, enum sd_daemon_event event);

/* One child: the ladder from asked to forced. */
enum sd_kid_state { SD_KID_STARTING, SD_KID_READY, SD_KID_DRAINING, SD_KID_TERMED, SD_KID_KILLED, SD_KID_STATE_COUNT };
enum sd_kid_event {
	SD_KID_SAYS_READY,
	SD_KID_SAYS_FAILED,
	SD_KID_WANT_DRAIN, /* finish and go */
	SD_KID_WANT_END,   /* go now: timeout, cancel, misbehaviour, fast stop */
	SD_KID_LATE,	   /* the time given to the present state is over */
	SD_KID_EVENT_COUNT
};
enum sd_kid_action { SD_KID_NOTHING, SD_KID_NOTE_READY, SD_KID_NOTE_FAILED, SD_KID_SEND_DRAIN, SD_KID_HURRY, SD_KID_SEND_TERM, SD_KID_SEND_KILL };
struct sd_kid_step {
	enum sd_kid_state next;
	enum sd_kid_action action;
};
struct sd_kid_step sd_kid_decide(enum sd_kid_state state, enum sd_kid_event event);

/*
 * Stopping goes in tiers: a role is asked to go when nothing of a lower tier is
 * left.  First those that take work in (workers, cron, http), then the web
 * workers http needed to answer, then the keeper that records how they all
 * went, then PostgreSQL that the keeper needed.
 */
enum { SD_TIER_INTAKE, SD_TIER_WEB, SD_TIER_KEEPER, SD_TIER_POSTGRES, SD_TIER_NONE };
int sd_role_tier(enum sd_role_kind role);
/* The tier that goes now, from how many children of each role are left. */
int sd_stop_tier(const unsigned left[SD_ROLE_COUNT]);

/*
 * A running attempt: is it to be ended?  Its deadline must have been seen
 * passed at two looks, so that a handler that ends at its deadline is not
 * mistaken for the next one; a cancelled job gets grace_us to notice by itself.
 */
struct sd_ending {
	int64_t run;	     /* what these are about: a job, or minus an HTTP request */
	bool overdue;	     /* at the last look */
	int64_t cancelled_us; /* first seen cancelled; 0: not */
};
struct sd_seen; /* proc/scoreboard.h */
/* SD_SLOT_REASON_NONE, _TIMEOUT or _CANCEL. */
int sd_ending_decide(struct sd_ending *w, const struct sd_seen *seen, int64_t now_us, int64_t grace_us);

/*
 * The health of a group of like children: when may a dead one be replaced?
 *
 * At once, unless deaths are instant: before it was ready, or idle within
 * SD_HEALTH_STABLE_US of its start.  The second instant death in a row waits
 * 1 s, doubling to 60 s, the group is degraded, and one child at a time is
 * tried; one that stays up, or finishes a job, brings the group back.  Deaths
 * of all of a group at once count as one.  A flood of jobs that kill their
 * workers (more than SD_HEALTH_BURST deaths in SD_HEALTH_WINDOW_US) waits 1 s.
 */
#define SD_HEALTH_STABLE_US (1 * 1000000LL)
#define SD_HEALTH_WINDOW_US (10 * 1000000LL)
#define SD_HEALTH_BURST 400
struct sd_health { /* zero-initialise */
	struct sd_respawn respawn;
	int64_t not_before_us;
	int64_t last_death_us;
	int64_t window_us;
	int burst;
	bool degraded;
};
struct sd_life {
	int64_t spawned_us, ready_us; /* ready_us 0: never was */
	int64_t job;		      /* what ran when it died */
	uint64_t jobs_done;
	bool asked; /* it was told to go */
};
void sd_health_died(struct sd_health *h, const struct sd_life *life, int64_t now_us);
/* A child of the group is up since ready_us and has finished jobs_done jobs: true when that brings a degraded group back. */
bool sd_health_up(struct sd_health *h, int64_t ready_us, uint64_t jobs_done, int64_t now_us);
/* How many of the missing may be started now, when starting are not ready yet. */
unsigned sd_health_allow(const struct sd_health *h, unsigned missing, unsigned starting, int64_t now_us);

#endif
