/* Waiting longer each time: before a retry, and before a child that keeps dying is started again.  Pure. */
#ifndef SD_BASE_BACKOFF_H
#define SD_BASE_BACKOFF_H

#include <stdint.h>

enum sd_backoff_kind { SD_BACKOFF_EXPONENTIAL, SD_BACKOFF_LINEAR, SD_BACKOFF_FIXED };

/*
 * The delay before retry k (from 1): base·2^(k-1), base·k or base, times a
 * factor in [1-jitter, 1+jitter], at most cap (0: no cap).  unit is a random
 * number in [0, 1).  Same unit as base; never negative, never overflows.
 */
int64_t sd_backoff_delay(enum sd_backoff_kind kind, int64_t base, int k, double jitter, int64_t cap, double unit);

/*
 * Respawning: the first death is answered at once, each further one that comes
 * before the child was healthy doubles the wait from 1 s to 60 s.  Zero-initialise.
 */
struct sd_respawn {
	int deaths; /* in a row, without a healthy time between */
};
#define SD_RESPAWN_HEALTHY_US (10 * 1000000LL)

/* A child that lived lived_us died: wait this many µs before the next. */
int64_t sd_respawn_died(struct sd_respawn *r, int64_t lived_us);

#endif
