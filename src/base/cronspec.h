/*
 * Cron expressions: when is the next tick?  Pure functions of their arguments.
 *
 * Five fields are minute, hour, day of month, month, day of week, as in
 * crontab(5); six put seconds first; seven add the year last.  Fields hold
 * lists of numbers, three-letter names (months and weekdays), ranges, steps and
 * `*`.  Day of week is 0 to 7, Sunday being 0 and 7.  Beyond crontab(5), from
 * Quartz: `?` in a day field (means `*`), `L` (last day of the month), `L-n` (n
 * days before it), `LW` (last Monday-to-Friday day), `nW` (the such day nearest
 * to n, within the month), `d#n` (the n-th d of the month), `dL` (the last d),
 * `a/n` (from a to the end in steps).  A range may only run forward, but for
 * weekdays it may end on Sunday (fri-sun).
 *
 * @yearly @annually @monthly @weekly @daily @midnight @hourly are the usual
 * five fields; `@every 90s` ticks at the multiples of 90 s since the epoch, so
 * that every node knows the same ticks.
 *
 * Day of month and day of week: when neither holds a `*`, a day that matches
 * either one counts; else both must match (crontab(5)).
 *
 * Changes of the clock:
 * - Forward: when an expression has ticks in the skipped time, it ticks once, at
 *   the first instant after the gap.  Expressions for every hour just go on.
 * - Backward: an expression with fixed times ticks at the first of two equal
 *   local times.  One with `*` or `/` in seconds, minutes or hours goes by real
 *   time and ticks in both.
 */
#ifndef SD_BASE_CRONSPEC_H
#define SD_BASE_CRONSPEC_H

#include "base/err.h"
#include "base/zone.h"

#include <stdbool.h>
#include <stdint.h>

#define SD_CRON_FIRST_YEAR 1970
#define SD_CRON_LAST_YEAR 2199 /* the last that a year field may name */

/* A parsed expression: a plain value, copied and dropped freely.  Bit n of a mask stands for the number n. */
struct sd_cronspec {
	uint64_t seconds, minutes;
	uint32_t hours;
	uint32_t days;		 /* of the month, 1 to 31 */
	uint32_t days_from_last; /* bit n: n days before the last of the month */
	uint32_t nearest;	 /* nW */
	bool last_workday;	 /* LW */
	uint16_t months;	 /* 1 to 12 */
	uint8_t weekdays;	 /* 0 to 6 */
	uint8_t nth[5];		 /* d#1 to d#5: masks of weekdays */
	uint8_t last_weekdays;	 /* dL */
	bool any_day, any_weekday; /* the field holds a `*` or is `?` */
	bool real_time;		   /* ticks in both passes of an overlap */
	bool any_year;
	uint64_t years[4]; /* bit n: 1970 + n */
	int64_t every_s;   /* @every; nothing else counts then.  0: none */
};

/*
 * The error names the field, its text and the reason, but not the expression: it goes on behind "cron expression "…": ".
 * An expression that no date of the calendar matches is refused.
 */
int sd_cron_parse(const char *text, struct sd_cronspec *spec, struct sd_err *err) SD_MUST_CHECK;

/* The first tick after the instant `after` (µs since the epoch; zone NULL: UTC).  False: there is none any more. */
bool sd_cron_next(const struct sd_cronspec *spec, const struct sd_zone *zone, int64_t after_us, int64_t *next_us);

#endif
