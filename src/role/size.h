/*
 * How many processes a pool has, between its min and its max.  Pure: values in,
 * decision out; resize.c applies it.
 *
 * Growing.  Work waits, nobody is idle, and all that were asked for are up:
 * then one more, and when that was not enough two more, four … so that a
 * backlog of slow jobs has its workers within a second, and a short one costs
 * one process.  Nothing is started while others are starting, or instead of
 * those that die.
 *
 * Shrinking.  Those that nobody needed for the whole idle time go: the lowest
 * number of idle ones in that time, or those that did nothing in all of it,
 * whichever is more (work is given to the idle in no order, so each of too
 * many may get some).  The last one stays as long as there is any work.
 */
#ifndef SD_ROLE_SIZE_H
#define SD_ROLE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

#define SD_SIZE_CALM_US (1 * 1000000LL) /* growth begins at one again when it paused for so long */

struct sd_size { /* zero-initialise */
	unsigned step;	   /* how many were added last */
	int64_t grown_us;
	int64_t spare_us;  /* since when somebody is always idle; 0: not now */
	unsigned spare;	   /* the lowest number of idle ones since then */
	bool worked;	   /* some job was run since then */
};

struct sd_size_seen {
	unsigned min, max;
	int64_t idle_us;
	unsigned want;	    /* as decided last */
	unsigned ready;	    /* up, and not on their way out */
	unsigned starting;
	unsigned idle;	    /* of ready */
	unsigned idle_long; /* of idle: for idle_us and longer */
	unsigned waiting;   /* pieces of work that nobody has taken; a guess from below */
	bool worked;	    /* since the last look */
};

/* The number of processes to have from now on. */
unsigned sd_size_decide(struct sd_size *s, const struct sd_size_seen *seen, int64_t now_us);

#endif
