/* Days of a cron expression: month by month, each month as a mask of its days. */
#include "base/cronday.h"

/* After 400 years the calendar repeats, weekdays and all. */
enum { CYCLE_YEARS = 400 };

static int month_length(int64_t year, int month)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0))
		return 29;
	return lengths[month - 1];
}

static bool year_matches(const struct sd_cronspec *spec, int64_t year)
{
	int64_t n = year - SD_CRON_FIRST_YEAR;

	if (spec->any_year)
		return true;
	return year >= SD_CRON_FIRST_YEAR && year <= SD_CRON_LAST_YEAR && (spec->years[n / 64] >> (n % 64) & 1) != 0;
}

/* The weekday of a day, when the first of the month is a `first` (0: Sunday). */
static int weekday_of(int first, int day)
{
	return (first + day - 1) % 7;
}

/* The Monday-to-Friday day nearest to `day`, without leaving the month. */
static int nearest_workday(int first, int day, int last)
{
	switch (weekday_of(first, day)) {
	case 6:
		return day > 1 ? day - 1 : day + 2;
	case 0:
		return day < last ? day + 1 : day - 2;
	default:
		return day;
	}
}

/* The days that the day-of-month field means. */
static uint32_t by_day(const struct sd_cronspec *spec, int first, int last)
{
	uint32_t mask = spec->days;

	for (int n = 0; n < last; n++)
		if ((spec->days_from_last >> n & 1) != 0)
			mask |= 1U << (last - n);
	for (int d = 1; d <= last; d++)
		if ((spec->nearest >> d & 1) != 0)
			mask |= 1U << nearest_workday(first, d, last);
	if (spec->last_workday)
		mask |= 1U << nearest_workday(first, last, last);
	return mask;
}

/* The days that the day-of-week field means. */
static uint32_t by_weekday(const struct sd_cronspec *spec, int first, int last)
{
	uint32_t mask = 0;

	for (int d = 1; d <= last; d++) {
		int weekday = weekday_of(first, d);
		unsigned means = spec->weekdays | spec->nth[(d - 1) / 7];

		if (d + 7 > last)
			means |= spec->last_weekdays;
		if ((means >> weekday & 1) != 0)
			mask |= 1U << d;
	}
	return mask;
}

/* Bit d: day d of that month matches. */
static uint32_t days_of_month(const struct sd_cronspec *spec, int64_t year, int month)
{
	int64_t start = sd_days_of_date(year, month, 1);
	int first = (int)(((start + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
	int last = month_length(year, month);
	uint32_t all = (uint32_t)(((uint64_t)1 << (last + 1)) - 2);
	uint32_t day = by_day(spec, first, last), weekday = by_weekday(spec, first, last);

	/* crontab(5): with a `*` in one of the two, the other one decides */
	if (spec->any_day || spec->any_weekday)
		return all & day & weekday;
	return all & (day | weekday);
}

bool sd_cron_next_day(const struct sd_cronspec *spec, int64_t days, int64_t limit, int64_t *found)
{
	int64_t year;
	int month, day;

	sd_date_of_days(days, &year, &month, &day);
	while (sd_days_of_date(year, month, day) < limit) {
		if (year_matches(spec, year) && (spec->months >> month & 1) != 0) {
			uint32_t mask = days_of_month(spec, year, month) >> day << day;

			if (mask != 0) {
				*found = sd_days_of_date(year, month, __builtin_ctz(mask));
				return *found < limit;
			}
		}
		day = 1;
		if (++month > 12 || !year_matches(spec, year)) {
			month = 1;
			year++;
		}
	}
	return false;
}

bool sd_cron_ever(const struct sd_cronspec *spec)
{
	int64_t from = sd_days_of_date(SD_CRON_FIRST_YEAR, 1, 1), found;

	return sd_cron_next_day(spec, from, sd_days_of_date(SD_CRON_FIRST_YEAR + CYCLE_YEARS, 1, 1), &found);
}
