/*
 * Time zones, read from the system's zone files (TZif, RFC 9636).
 *
 * Our own small reader instead of setenv("TZ") and tzset(): a cron expression
 * can be asked about any zone without changing the process for everybody else in
 * it, an unknown zone is an error instead of silently UTC, and gaps and overlaps
 * are seen as what they are (mktime(3) leaves open what it makes of them).
 *
 * A zone is immutable.  Its rule for the future is unfolded up to
 * SD_ZONE_LAST_YEAR; behind that the last offset stays.
 */
#ifndef SD_BASE_ZONE_H
#define SD_BASE_ZONE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SD_ZONE_LAST_YEAR 2500

struct sd_zone;

/*
 * From $TZDIR or /usr/share/zoneinfo.  NULL, "", "UTC", "Etc/UTC" and "GMT" need no file.
 * NULL with *err set when there is no such zone.
 */
struct sd_zone *sd_zone_load(const char *name, struct sd_err *err);
/* The same from the bytes of a zone file. */
struct sd_zone *sd_zone_read(const char *name, const void *tzif, size_t len, struct sd_err *err);
void sd_zone_free(struct sd_zone *zone); /* NULL is allowed */

/* Seconds east of Greenwich at this second since the epoch. */
int32_t sd_zone_offset(const struct sd_zone *zone, int64_t at);
/* The first change of the offset after `at`; INT64_MAX when there is none. */
int64_t sd_zone_next_change(const struct sd_zone *zone, int64_t at);

/* Zones by name, each loaded once; a zone got from the set lives as long as the set. */
struct sd_zoneset;
struct sd_zoneset *sd_zoneset_new(void);
const struct sd_zone *sd_zoneset_get(struct sd_zoneset *set, const char *name, struct sd_err *err);
void sd_zoneset_free(struct sd_zoneset *set); /* NULL is allowed */

/* Days since 1970-01-01 of a date of the Gregorian calendar, for any day number (month 1 to 12). */
int64_t sd_days_of_date(int64_t year, int month, int day);
void sd_date_of_days(int64_t days, int64_t *year, int *month, int *day);

#endif
