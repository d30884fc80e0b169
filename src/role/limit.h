/*
 * Limits of one attempt: what its worker, with all that the handler started,
 * may hold of memory and use of CPU time.  Decisions only: values in, decision
 * out; enforce.c measures and acts.
 *
 * Memory that a worker holds is counted from its birth, whoever left it there:
 * to be fair to the next job a worker is replaced between jobs when it holds
 * three quarters of the limit (sd_limit_worn).  CPU time is counted from where
 * the attempt was first seen.
 */
#ifndef SD_ROLE_LIMIT_H
#define SD_ROLE_LIMIT_H

#include "conf/conf.h"
#include "proc/scoreboard.h"
#include "proc/usage.h"

#include <stdbool.h>
#include <stdint.h>

/* What is known of the attempt that runs; zero-initialise. */
struct sd_meter {
	int64_t run, started_us; /* what this is about, as sd_seen_run; and which attempt of it */
	int64_t cpu0_us;  /* the family's CPU time when it was first seen */
	int64_t cpu_us;	  /* used since; never falls, though a process that nobody waited for takes its time along */
	int64_t memory;	  /* at the last look */
	int64_t exact, sum; /* when shared pages were told apart last: what it was, and what it had seemed; 0: never */
	int64_t peak;	  /* of the worker's life, at the last look; 0: never looked */
	int64_t peak0;	  /* the same before this attempt */
};

/* SD_SLOT_REASON_NONE, _MEMORY or _CPU.  Call it also when nothing runs: it keeps the peak. */
int sd_limit_decide(struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen, const struct sd_usage *now);
/*
 * Telling shared pages apart takes the kernel a walk over all of them.  So what the processes seem to hold together is
 * scaled by what was found last time, and only if that passes the limit we look again.
 */
int64_t sd_limit_worth(const struct sd_meter *m, const struct sd_conf_pool *pool);
void sd_limit_estimate(struct sd_meter *m, struct sd_usage *now);
/* Past even the tolerance: it has to go now, not after its grace. */
bool sd_limit_wild(const struct sd_conf_pool *pool, const struct sd_usage *now);
/* Its jobs left so much behind that the next one had too little left. */
bool sd_limit_worn(const struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen);
/* A worker died by a signal while this ran, its life's peak was `peak` bytes: did it die of the limit? */
bool sd_limit_killed(const struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen, int64_t peak);

/*
 * The wall: more than this nobody gets, so that who is faster than we look meets the end of its memory, not that of the
 * machine: memory.max of the worker's cgroup, or RLIMIT_DATA of each process.  So far above the limit that who reaches it
 * has passed that.  0: none.
 */
int64_t sd_limit_wall(const struct sd_conf_pool *pool);

static inline bool sd_limit_any(const struct sd_conf_pool *pool)
{
	return pool != NULL && (pool->max_memory > 0 || pool->max_cpu_ms > 0 || pool->max_cpus > 0);
}

#define SD_LIMIT_TEXT 96
/* "memory limit 64MiB exceeded (71 MiB in use)", "CPU time limit 2s exceeded (2.10 s used)". */
const char *sd_limit_text(int reason, int64_t limit, int64_t used, char out[SD_LIMIT_TEXT]);

/* The record of who passed a limit is not to contradict it: what was used counts processes that rusage of the worker does not. */
void sd_limit_correct(int reason, int64_t used, int64_t *rss_kb, int64_t *cpu_ms);

/* The worker's side: was run ended for a limit?  The text why, or NULL. */
const char *sd_limit_of_slot(const struct sd_slot *slot, int64_t run, char out[SD_LIMIT_TEXT]);

#endif
