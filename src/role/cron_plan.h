/*
 * What a schedule does next: the decisions of the cron process, without its
 * clock and its database.
 *
 * A tick is late when it is brought a little after its time, and missed when
 * nobody could bring it for longer than that.  Late ticks are all brought.  Of
 * missed ones, none older than the catch-up limit:
 *	skip	none
 *	one	the newest; the job sees what came due meanwhile in one run
 *	all	each, the oldest first
 * A stretch in which some were missed is dealt with as a whole, up to now.
 */
#ifndef SD_ROLE_CRON_PLAN_H
#define SD_ROLE_CRON_PLAN_H

#include "base/cronspec.h"

#include <stdint.h>

#define SD_CRON_NEVER INT64_MAX

enum sd_cron_missed { SD_CRON_MISSED_SKIP, SD_CRON_MISSED_ONE, SD_CRON_MISSED_ALL };
int sd_cron_missed_parse(const char *word, enum sd_cron_missed *missed, struct sd_err *err) SD_MUST_CHECK;

/* Times are wall time in microseconds. */
struct sd_cron_plan {
	struct sd_cronspec spec;
	const struct sd_zone *zone;
	enum sd_cron_missed missed;
	int64_t catch_up_us;
	int64_t next_us; /* the tick to bring next, due or still to come; SD_CRON_NEVER: none any more */
};

/* All ticks up to last_us were brought: what is next?  Ticks since now - late_us are late at most. */
void sd_cron_plan_begin(struct sd_cron_plan *plan, int64_t last_us, int64_t now_us, int64_t late_us);
/* Look at the next tick again before it is brought: the clock may have jumped, or we were stopped. */
void sd_cron_plan_late(struct sd_cron_plan *plan, int64_t now_us, int64_t late_us);
/* The tick after a tick. */
int64_t sd_cron_plan_after(const struct sd_cron_plan *plan, int64_t tick_us);

#endif
