/*
 * The next tick of a cron expression.
 *
 * Seen from a zone, time is a row of spans of constant offset, and within a span
 * local time is plain arithmetic.  The search walks the spans: it looks for a
 * match in the local times of each, and at the seam to the next one decides
 * about the local times that were skipped or come twice.  `covered` is the local
 * time up to which earlier spans reached; it starts two days back, so that an
 * instant within an overlap knows of the first pass.
 */
#include "base/clock.h"
#include "base/cronday.h"
#include "base/cronspec.h"

enum { DAY_S = 86400, LOOK_BACK_S = 2 * DAY_S };

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* The first time of the day not before `from` (seconds since midnight); -1: none is left. */
static int next_time(const struct sd_cronspec *spec, int from)
{
	int h = from / 3600, m = from / 60 % 60, s = from % 60;
	uint64_t left;

	if ((spec->hours >> h & 1) != 0) {
		if ((spec->minutes >> m & 1) != 0 && (left = spec->seconds >> s) != 0)
			return h * 3600 + m * 60 + s + __builtin_ctzll(left);
		left = spec->minutes >> m >> 1;
		if (left != 0)
			return h * 3600 + (m + 1 + __builtin_ctzll(left)) * 60 + __builtin_ctzll(spec->seconds);
	}
	left = (uint64_t)spec->hours >> h >> 1;
	if (left == 0)
		return -1;
	return (h + 1 + __builtin_ctzll(left)) * 3600 + __builtin_ctzll(spec->minutes) * 60 + __builtin_ctzll(spec->seconds);
}

/* The first local time that matches in [from, limit). */
static bool next_local(const struct sd_cronspec *spec, int64_t from, int64_t limit, int64_t *found)
{
	int64_t day = floor_div(from, DAY_S), last = floor_div(limit + DAY_S - 1, DAY_S);
	int time = (int)(from - day * DAY_S);
	int64_t match;

	while (from < limit && sd_cron_next_day(spec, day, last, &match)) {
		if (match > day)
			time = 0;
		time = next_time(spec, time);
		if (time >= 0) {
			*found = match * DAY_S + time;
			return *found < limit;
		}
		day = match + 1;
		time = 0;
	}
	return false;
}

/* Has local time a tick that the clock skipped, going from before to behind?  It then falls on the first instant behind. */
static bool skipped_tick(const struct sd_cronspec *spec, int64_t before, int64_t behind)
{
	int64_t found;

	return spec->hours != 0xffffff && next_local(spec, before, behind, &found);
}

static int64_t max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* The first tick at or after the second `from`. */
static bool next_second(const struct sd_cronspec *spec, const struct sd_zone *zone, int64_t from, int64_t *next)
{
	const int64_t horizon = sd_days_of_date(SD_ZONE_LAST_YEAR, 1, 1) * DAY_S;
	int64_t start = from - LOOK_BACK_S, end, covered = INT64_MIN, local;
	int32_t offset = sd_zone_offset(zone, start), next_offset;

	for (; start < horizon; start = end, offset = next_offset) {
		int64_t first = max64(start, from) + offset;

		end = sd_zone_next_change(zone, start);
		if (end > horizon)
			end = horizon;
		if (!spec->real_time)
			first = max64(first, covered);
		if (end > from && next_local(spec, first, end + offset, &local)) {
			*next = local - offset;
			return true;
		}
		covered = max64(covered, end + offset);
		next_offset = sd_zone_offset(zone, end);
		if (end >= from && end < horizon && skipped_tick(spec, covered, end + next_offset)) {
			*next = end;
			return true;
		}
	}
	return false;
}

bool sd_cron_next(const struct sd_cronspec *spec, const struct sd_zone *zone, int64_t after_us, int64_t *next_us)
{
	const int64_t first = sd_days_of_date(SD_CRON_FIRST_YEAR, 1, 1) * DAY_S;
	const int64_t last = sd_days_of_date(SD_ZONE_LAST_YEAR, 1, 1) * DAY_S;
	int64_t from = floor_div(after_us, SD_SEC) + 1, next;

	if (from < first)
		from = first;
	if (from >= last)
		return false;
	if (spec->every_s > 0)
		next = (from + spec->every_s - 1) / spec->every_s * spec->every_s;
	else if (!next_second(spec, zone, from, &next))
		return false;
	*next_us = next * SD_SEC;
	return true;
}
