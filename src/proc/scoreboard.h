/*
 * The scoreboard: anonymous shared memory, made by the supervisor before its
 * first fork and shared with every child.
 *
 * Who writes what.  Only the supervisor allocates and frees slots and writes
 * the fields under "supervisor".  A child writes only the fields under "child"
 * of its own slot; the keeper also writes the header's "keeper" fields and
 * cancel_job of any slot.  All of them are atomics and all are read
 * distrustfully: a child that went wild may leave any bit pattern in its own
 * slot, and the supervisor must survive it (it never follows a pointer or an
 * index from there without a check).
 */
#ifndef SD_PROC_SCOREBOARD_H
#define SD_PROC_SCOREBOARD_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A worker that has nothing to do: one that claims may come back empty, and is to hear of what comes meanwhile. */
enum sd_sleep { SD_AWAKE, SD_CLAIMING, SD_ASLEEP };

enum sd_slot_state {
	SD_SLOT_FREE,
	SD_SLOT_STARTING, /* forked, not ready */
	SD_SLOT_READY,
	SD_SLOT_DRAINING, /* asked to stop */
};

#define SD_SLOT_REASON_NONE 0
#define SD_SLOT_REASON_TIMEOUT 1 /* the supervisor ended it: the attempt passed its deadline */
#define SD_SLOT_REASON_CANCEL 2	 /* the supervisor ended it: the job was cancelled */
#define SD_SLOT_REASON_MEMORY 3	 /* a memory limit of the pool */
#define SD_SLOT_REASON_CPU 4	 /* a CPU limit of the pool */
#define SD_SLOT_REASON_STOP 5	 /* the daemon stopped and the drain time was over: what ran is given back (job is 0 then) */

struct sd_slot {
	/* supervisor */
	_Atomic uint32_t generation; /* +1 at each allocation; with the slot's index it names one life of one child */
	_Atomic uint32_t state;	     /* enum sd_slot_state */
	_Atomic int32_t pid;
	_Atomic int32_t role;	     /* enum sd_role_kind */
	_Atomic int32_t pool;	     /* index into conf->pools, or -1 */
	_Atomic int32_t index;	     /* number within the pool */
	_Atomic int32_t group;	     /* index into group[], or -1 */
	_Atomic int32_t conf_generation;
	_Atomic int64_t spawned_us;
	_Atomic uint32_t relieved;   /* draining only because it did its share: what it holds it may run */
	/* why it gets TERM, said before that: a limit's SD_SLOT_REASON_*, of which run (sd_seen_run), and how much */
	_Atomic int32_t ending;
	_Atomic int64_t ending_run, ending_limit, ending_used; /* bytes, or ms of CPU time */

	/* child; times are sd_now_us() */
	_Atomic int64_t job;	     /* the job whose handler runs now; 0: none. Set before the handler starts. */
	_Atomic int64_t last_job;    /* the one whose handler ended last, its outcome may not have been told yet; or whose large input is being taken in */
	_Atomic int32_t backend;     /* pid of the database's process that serves it; 0: not connected yet */
	_Atomic int32_t attempt;
	_Atomic int32_t step;	     /* index into the manifest */
	_Atomic int64_t started_us;  /* start of that handler */
	_Atomic int64_t deadline_us; /* end the process (TERM, grace, KILL) when this passes; 0: none. Written after job, cleared before it. */
	_Atomic int64_t beat_us;     /* last time the loop thread was alive */
	_Atomic uint64_t request;    /* web: id of the request whose handler runs or ran last. Set before the handler starts, kept until the next. */
	_Atomic uint32_t serving;    /* web: that handler runs */
	_Atomic uint64_t jobs_done;
	_Atomic uint64_t jobs_failed;
	_Atomic uint32_t db_up;
	_Atomic uint32_t asleep;     /* worker: enum sd_sleep */

	/* keeper, and the worker itself, which clears it before each handler and sets it when others took the job */
	_Atomic int64_t cancel_job;  /* this job is to be cancelled; the handler sees it when it equals job */
} __attribute__((aligned(128)));     /* no two processes write one cache line */

/* The workers of one pool in one generation. */
#define SD_GROUPS 64
struct sd_slot_group {
	/* supervisor */
	_Atomic int32_t conf_generation; /* 0: unused */
	_Atomic int32_t pool;		 /* index into that configuration's pools */
	_Atomic int32_t want, min, max;	 /* processes; want is what it has now, or will have in a moment */
	_Atomic uint32_t degraded;	 /* its processes die at once and are started again with a delay */
	_Atomic int64_t retry_us;	 /* when the next one is started; 0: at once */
	_Atomic uint64_t deaths;	 /* unasked */
	_Atomic int64_t died_us;	 /* when one died of a job last; 0: none did */
};

struct sd_scoreboard {
	uint32_t nslots;
	/* keeper */
	_Atomic int32_t node_id;	  /* from stepd.node_join; 0: not joined (never claim then) */
	_Atomic int64_t lease_until_us;	  /* sd_boot_us(); until then nobody takes this node's jobs away: no job starts later */
	_Atomic uint32_t life;		  /* +1 when the node was declared dead and is to join anew */
	_Atomic uint32_t settings_version; /* +1 when queues, pauses or steps changed in SQL: workers read their lanes again */
	/* cron */
	_Atomic int64_t cron_us;	  /* until then all due ticks were brought; sd_now_us(), 0: none were ever looked at */
	/* supervisor */
	_Atomic uint32_t stopping;	  /* claims stop at once */
	_Atomic uint32_t degraded;	  /* pools in crash back-off */
	_Atomic int32_t live_generation;  /* the configuration that serves; 0: none yet */
	struct sd_slot_group group[SD_GROUPS];
	struct sd_slot slot[];
};

struct sd_scoreboard *sd_scoreboard_new(uint32_t nslots, struct sd_err *err);
void sd_scoreboard_free(struct sd_scoreboard *sb);

/* What the supervisor takes from a slot. */
struct sd_seen {
	int64_t job, cancel_job, last_job;
	uint64_t request; /* the HTTP request that runs; 0: none */
	int32_t attempt;
	int64_t started_us, deadline_us;
	uint64_t jobs_done;
};

/*
 * True from the moment the supervisor wants the child to take no more work.  That is before the child is told over its
 * channel, and before anyone hears READY=1 of the reload it may be about: what a child takes or starts after a look
 * at this was there before.
 */
static inline bool sd_slot_draining(const struct sd_slot *slot)
{
	return atomic_load(&slot->state) == SD_SLOT_DRAINING;
}

/* Is nothing to begin any more, not even what the child holds? */
static inline bool sd_slot_halted(const struct sd_slot *slot)
{
	return sd_slot_draining(slot) && !atomic_load(&slot->relieved);
}

/* Copy it, with impossible values replaced by "nothing". */
void sd_slot_look(const struct sd_slot *slot, int64_t now_us, struct sd_seen *seen);
/* What runs, as one number: the job, or minus the HTTP request; 0: nothing. */
static inline int64_t sd_seen_run(const struct sd_seen *seen)
{
	return seen->job != 0 ? seen->job : (int64_t)(0 - seen->request); /* any bits: no overflow */
}
/* A new life in this slot: generation + 1, then all of the child's fields zero.  Only the supervisor, only when no child has it. */
uint32_t sd_slot_renew(struct sd_slot *slot);

#endif
