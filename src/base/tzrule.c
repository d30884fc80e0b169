/* POSIX TZ strings; see the header. */
#include "base/tzrule.h"
#include "base/zone.h"

#include <ctype.h>

static bool is_leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* A number of lo to hi; moves on. */
static int number(const char **p, int lo, int hi, int *out)
{
	int v = 0;

	if (!isdigit((unsigned char)**p))
		return -1;
	while (isdigit((unsigned char)**p)) {
		v = v * 10 + (*(*p)++ - '0');
		if (v > hi)
			return -1;
	}
	*out = v;
	return v >= lo ? 0 : -1;
}

/* <+03> or at least three letters. */
static int skip_name(const char **p)
{
	const char *start = *p;

	if (**p == '<') {
		while (**p != '\0' && **p != '>')
			(*p)++;
		return *(*p)++ == '>' ? 0 : -1;
	}
	while (isalpha((unsigned char)**p))
		(*p)++;
	return *p - start >= 3 ? 0 : -1;
}

/* [+-]hh[:mm[:ss]] */
static int time_of(const char **p, int32_t *out)
{
	int sign = 1, h, m = 0, s = 0;

	if (**p == '+' || **p == '-')
		sign = *(*p)++ == '-' ? -1 : 1;
	if (number(p, 0, 167, &h) < 0)
		return -1;
	if (**p == ':' && ((*p)++, number(p, 0, 59, &m) < 0))
		return -1;
	if (**p == ':' && ((*p)++, number(p, 0, 59, &s) < 0))
		return -1;
	*out = sign * (h * 3600 + m * 60 + s);
	return 0;
}

static int date_of(const char **p, struct sd_tzdate *d)
{
	d->time = 2 * 3600;
	if (**p == 'M') {
		d->kind = SD_TZ_WEEKDAY;
		(*p)++;
		if (number(p, 1, 12, &d->month) < 0 || *(*p)++ != '.' || number(p, 1, 5, &d->week) < 0 || *(*p)++ != '.' ||
		    number(p, 0, 6, &d->weekday) < 0)
			return -1;
	} else if (**p == 'J') {
		d->kind = SD_TZ_JULIAN;
		(*p)++;
		if (number(p, 1, 365, &d->n) < 0)
			return -1;
	} else {
		d->kind = SD_TZ_DAY;
		if (number(p, 0, 365, &d->n) < 0)
			return -1;
	}
	if (**p != '/')
		return 0;
	(*p)++;
	return time_of(p, &d->time);
}

int sd_tzrule_parse(const char *text, struct sd_tzrule *rule)
{
	const char *p = text;
	int32_t west;

	*rule = (struct sd_tzrule){0};
	if (skip_name(&p) < 0 || time_of(&p, &west) < 0)
		return -1;
	rule->offset = -west;
	if (*p == '\0')
		return 0;
	rule->has_dst = true;
	if (skip_name(&p) < 0)
		return -1;
	west -= 3600;
	if (*p != ',' && time_of(&p, &west) < 0)
		return -1;
	rule->dst_offset = -west;
	if (*p++ != ',' || date_of(&p, &rule->on) < 0 || *p++ != ',' || date_of(&p, &rule->off) < 0)
		return -1;
	return *p == '\0' ? 0 : -1;
}

static int64_t day_of(const struct sd_tzdate *d, int64_t year)
{
	int64_t first, next;
	int weekday;

	switch (d->kind) {
	case SD_TZ_JULIAN: /* 1 to 365, 29 February is never counted */
		return sd_days_of_date(year, 1, 1) + d->n - 1 + (is_leap(year) && d->n >= 60);
	case SD_TZ_DAY: /* 0 to 365 */
		return sd_days_of_date(year, 1, 1) + d->n;
	default:
		break;
	}
	first = sd_days_of_date(year, d->month, 1);
	next = d->month == 12 ? sd_days_of_date(year + 1, 1, 1) : sd_days_of_date(year, d->month + 1, 1);
	weekday = (int)(((first + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
	first += (d->weekday - weekday + 7) % 7 + 7 * (d->week - 1);
	return first < next ? first : first - 7; /* the fifth is the last */
}

int64_t sd_tzrule_change(const struct sd_tzrule *rule, int64_t year, bool on)
{
	const struct sd_tzdate *d = on ? &rule->on : &rule->off;

	return day_of(d, year) * 86400 + d->time - (on ? rule->offset : rule->dst_offset);
}
