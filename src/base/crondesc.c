/*
 * From masks to words.  The words say what the masks mean, not how they were
 * written: "0-59/15" and "0,15,30,45" are both every 15 minutes.
 *
 * First the time of day (when it is a short list, as times; else second, minute
 * and hour one after the other), then the days, months and years.
 */
#include "base/crondesc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TIMES_MAX 6 /* up to so many are listed as 09:30 */
#define YEARS (SD_CRON_LAST_YEAR - SD_CRON_FIRST_YEAR + 1)

static const char *const weekdays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"",     "January", "February", "March",	 "April",   "May",	"June",
				     "July", "August",	"September", "October", "November", "December"};
static const char *const nths[] = {"first", "second", "third", "fourth", "fifth"};

static uint64_t full(int n)
{
	return (1ULL << n) - 1;
}

/* The step k when the mask is exactly 0, k, 2k … below n and k divides n; 0: it is not. */
static int step_of(uint64_t mask, int n)
{
	for (int k = 1; k < n; k++) {
		uint64_t want = 0;

		for (int v = 0; v < n; v += k)
			want |= 1ULL << v;
		if (n % k == 0 && mask == want)
			return k;
	}
	return 0;
}

/* A list of phrases: "a", "a and b", "a, b and c". */
struct list {
	struct sd_buf *out;
	int left;
	int done;
	const char *word; /* before the last */
};

static void item(struct list *l, const char *fmt, ...) SD_PRINTF(2, 3);

static void item(struct list *l, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (l->done++ > 0)
		sd_buf_printf(l->out, "%s", --l->left == 0 ? l->word : ", ");
	else
		l->left--;
	sd_buf_str(l->out, text);
}

/* Length of the run of bits from v on. */
static int run_length(const uint64_t *bits, int nbits, int v)
{
	int n = 0;

	while (v + n < nbits && (bits[(v + n) / 64] >> (v + n) % 64 & 1) != 0)
		n++;
	return n;
}

/* "1 to 5, 10 and 12"; names NULL: the numbers plus base. */
static void put_bits(struct sd_buf *out, const uint64_t *bits, int nbits, const char *const *names, int base)
{
	struct list l = {.out = out, .word = " and "};

	for (int pass = 0; pass < 2; pass++)
		for (int v = 0; v < nbits; v++) {
			int n = run_length(bits, nbits, v);

			if (n == 0)
				continue;
			if (n < 3)
				n = 1;
			if (pass == 0)
				l.left++;
			else if (names != NULL && n > 1)
				item(&l, "%s to %s", names[v], names[v + n - 1]);
			else if (names != NULL)
				item(&l, "%s", names[v]);
			else if (n > 1)
				item(&l, "%d to %d", v + base, v + base + n - 1);
			else
				item(&l, "%d", v + base);
			v += n - 1;
		}
}

static void put_mask(struct sd_buf *out, uint64_t mask, const char *const *names)
{
	put_bits(out, &mask, 64, names, 0);
}

/* "every second", "every 5 seconds", "at second 0 and 30". */
static void put_part(struct sd_buf *out, uint64_t mask, int n, const char *unit)
{
	int step = step_of(mask, n);

	if (step == 1)
		sd_buf_printf(out, "every %s", unit);
	else if (step > 1)
		sd_buf_printf(out, "every %d %ss", step, unit);
	else {
		sd_buf_printf(out, "at %s ", unit);
		put_mask(out, mask, NULL);
	}
}

static void put_times(const struct sd_cronspec *s, struct sd_buf *out, int count)
{
	struct list l = {.out = out, .word = " and ", .left = count};

	sd_buf_str(out, "at ");
	for (int t = 0; t < 86400; t++) {
		int sec = t % 60;

		if ((s->hours >> (t / 3600) & 1) == 0 || (s->minutes >> (t / 60 % 60) & 1) == 0 || (s->seconds >> sec & 1) == 0)
			continue;
		if (s->seconds == 1)
			item(&l, "%02d:%02d", t / 3600, t / 60 % 60);
		else
			item(&l, "%02d:%02d:%02d", t / 3600, t / 60 % 60, sec);
	}
}

static void put_time_of_day(const struct sd_cronspec *s, struct sd_buf *out)
{
	int count = __builtin_popcountll(s->seconds) * __builtin_popcountll(s->minutes) * __builtin_popcount(s->hours);
	bool every_minute = s->minutes == full(60), every_hour = s->hours == full(24);
	bool some = false;

	if (count <= TIMES_MAX) {
		put_times(s, out, count);
		return;
	}
	if (s->seconds != 1) {
		put_part(out, s->seconds, 60, "second");
		some = true;
	}
	if (!every_minute || !some) {
		if (some)
			sd_buf_chr(out, ' ');
		if (s->seconds == 1 && s->minutes == 1 && every_hour) {
			sd_buf_str(out, "every hour");
			return;
		}
		if (s->seconds == 1 && s->minutes == 1 && step_of(s->hours, 24) > 1) {
			put_part(out, s->hours, 24, "hour");
			return;
		}
		if (some && step_of(s->minutes, 60) > 0)
			sd_buf_str(out, "of ");
		put_part(out, s->minutes, 60, "minute");
	}
	if (every_hour && (every_minute || step_of(s->minutes, 60) > 0))
		return;
	if (every_hour || step_of(s->hours, 24) > 1) {
		sd_buf_str(out, " of ");
		put_part(out, s->hours, 24, "hour");
	} else {
		sd_buf_str(out, __builtin_popcount(s->hours) == 1 ? " of hour " : " of hours ");
		put_mask(out, s->hours, NULL);
	}
}

static int count_days(const struct sd_cronspec *s)
{
	int n = (s->days != 0) + (s->days_from_last & 1) + (s->days_from_last > 1) + (s->nearest != 0) + s->last_workday;

	n += (s->weekdays != 0) + (s->last_weekdays != 0);
	for (int i = 0; i < 5; i++)
		n += s->nth[i] != 0;
	return n;
}

static void phrase(struct list *l, const char *before, uint64_t mask, const char *const *names, const char *behind)
{
	struct sd_buf b = SD_BUF_INIT;

	put_mask(&b, mask, names);
	item(l, "%s%s%s", before, b.data, behind);
	sd_buf_fini(&b);
}

static void put_month_days(const struct sd_cronspec *s, struct list *l)
{
	if (s->days != 0)
		phrase(l, "day ", s->days, NULL, " of the month");
	if ((s->days_from_last & 1) != 0)
		item(l, "the last day of the month");
	if (s->days_from_last > 1)
		phrase(l, "the day ", s->days_from_last & ~1U, NULL, " days before the last of the month");
	if (s->nearest != 0)
		phrase(l, "the Monday to Friday nearest to day ", s->nearest, NULL, "");
	if (s->last_workday)
		item(l, "the last Monday to Friday of the month");
}

static void put_weekdays(const struct sd_cronspec *s, struct list *l)
{
	/* Sunday ends a week: Saturday and Sunday, Friday to Sunday */
	static const char *const from_monday[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

	if (s->weekdays != 0)
		phrase(l, "", (uint64_t)(s->weekdays >> 1 | (s->weekdays & 1) << 6), from_monday, "");
	for (int i = 0; i < 5; i++)
		if (s->nth[i] != 0) {
			char before[24];

			snprintf(before, sizeof before, "the %s ", nths[i]);
			phrase(l, before, s->nth[i], weekdays, " of the month");
		}
	if (s->last_weekdays != 0)
		phrase(l, "the last ", s->last_weekdays, weekdays, " of the month");
}

static void put_days(const struct sd_cronspec *s, struct sd_buf *out)
{
	bool days = s->days != (uint32_t)(full(32) & ~1ULL) || !s->any_day, week = s->weekdays != full(7) || !s->any_weekday;
	bool both = days && week, either = both && !s->any_day && !s->any_weekday;
	struct list l = {.out = out, .word = " and "};
	struct sd_cronspec one = *s;

	if (!days) {
		one.days = 0;
		one.days_from_last = one.nearest = 0;
		one.last_workday = false;
	}
	if (!week) {
		one.weekdays = 0;
		one.last_weekdays = 0;
		memset(one.nth, 0, sizeof one.nth);
	}
	if (!days && !week)
		return;
	sd_buf_str(out, " on ");
	if (!both) {
		l.left = count_days(&one);
		put_month_days(&one, &l);
		put_weekdays(&one, &l);
		return;
	}
	struct sd_cronspec other = one;

	other.weekdays = other.last_weekdays = 0;
	memset(other.nth, 0, sizeof other.nth);
	l.left = count_days(&other);
	put_month_days(&other, &l);
	sd_buf_str(out, either ? " or on " : ", only on ");
	other = one;
	other.days = other.days_from_last = other.nearest = 0;
	other.last_workday = false;
	l = (struct list){.out = out, .word = " and ", .left = count_days(&other)};
	put_weekdays(&other, &l);
}

static void put_every(int64_t seconds, struct sd_buf *out)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
	size_t i = 0;

	while (seconds % units[i].seconds != 0)
		i++;
	if (seconds == units[i].seconds)
		sd_buf_printf(out, "every %s", units[i].name);
	else
		sd_buf_printf(out, "every %lld %ss", (long long)(seconds / units[i].seconds), units[i].name);
}

void sd_cron_describe(const struct sd_cronspec *spec, struct sd_buf *out)
{
	if (spec->every_s > 0) {
		put_every(spec->every_s, out);
		return;
	}
	put_time_of_day(spec, out);
	put_days(spec, out);
	if (spec->months != 0x1ffe) {
		sd_buf_str(out, " in ");
		put_mask(out, spec->months, months);
	}
	if (!spec->any_year && run_length(spec->years, YEARS, 0) < YEARS) {
		sd_buf_str(out, " in ");
		put_bits(out, spec->years, YEARS, NULL, SD_CRON_FIRST_YEAR);
	}
}
