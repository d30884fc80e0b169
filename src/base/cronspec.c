/*
 * Cron expressions, read: text to masks.
 *
 * One table describes the seven fields; every field is a comma list of items,
 * and an item is `*`, a number, a name or a range, maybe with a step, or one of
 * the words of the two day fields.  An error names the field, its text and why.
 * At the end the expression must match some date of the calendar.
 */
#include "base/cronspec.h"
#include "base/cronday.h"
#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum field { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, YEAR, NFIELDS };
enum { TEXT_MAX = 1024 };

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
					  "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

static const struct {
	const char *name;
	int min, max;
	const char *const *names; /* names[i] means first_named + i */
	int nnames, first_named;
} fields[NFIELDS] = {
	[SECOND] = {"second", 0, 59, NULL, 0, 0},
	[MINUTE] = {"minute", 0, 59, NULL, 0, 0},
	[HOUR] = {"hour", 0, 23, NULL, 0, 0},
	[DAY] = {"day of month", 1, 31, NULL, 0, 0},
	[MONTH] = {"month", 1, 12, month_names, 12, 1},
	[WEEKDAY] = {"day of week", 0, 7, weekday_names, 7, 0},
	[YEAR] = {"year", SD_CRON_FIRST_YEAR, SD_CRON_LAST_YEAR, NULL, 0, 0},
};

/* What is being read, and where. */
struct reading {
	struct sd_cronspec *spec;
	enum field field;
	const char *text; /* the whole field */
	int len;
	const char *p, *end; /* the item that is left to read */
	struct sd_err *err;
};

static int refuse(struct reading *r, const char *fmt, ...) SD_PRINTF(2, 3);

static int refuse(struct reading *r, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	return sd_err_set(r->err, SD_ERR_PERMANENT, "field %s \"%.*s\": %s", fields[r->field].name,
			  r->len > 100 ? 100 : r->len, r->text, why);
}

static bool at_end(const struct reading *r)
{
	return r->p == r->end;
}

static bool take(struct reading *r, char c)
{
	if (at_end(r) || *r->p != c)
		return false;
	r->p++;
	return true;
}

/* A letter that must end the item. */
static bool take_last(struct reading *r, char c)
{
	if (r->end - r->p != 1 || toupper((unsigned char)*r->p) != c)
		return false;
	r->p++;
	return true;
}

static int take_digits(struct reading *r, int *out)
{
	const char *start = r->p;
	int v = 0;

	while (!at_end(r) && isdigit((unsigned char)*r->p)) {
		if (v < 1000000)
			v = v * 10 + (*r->p - '0');
		r->p++;
	}
	if (r->p == start) {
		if (at_end(r))
			return refuse(r, "a number is missing at the end of an item");
		return refuse(r, "\"%.*s\" is no number", (int)(r->end - r->p), r->p);
	}
	*out = v;
	return 0;
}

/* A number within the field, or one of its names. */
static int take_value(struct reading *r, int *out)
{
	const char *const *names = fields[r->field].names;
	const char *start = r->p;
	int n = 0;

	if (!at_end(r) && isalpha((unsigned char)*r->p)) {
		while (r->p + n < r->end && isalpha((unsigned char)r->p[n]))
			n++;
		for (int i = 0; i < fields[r->field].nnames; i++) {
			/* an L may follow: friL */
			bool last = n == 4 && r->field == WEEKDAY && toupper((unsigned char)r->p[3]) == 'L';

			if ((n == 3 || last) && strncasecmp(r->p, names[i], 3) == 0) {
				r->p += 3;
				*out = fields[r->field].first_named + i;
				return 0;
			}
		}
		if (names != NULL)
			return refuse(r, "\"%.*s\" is no name; names are the first three letters (%s)", n, start,
				      r->field == MONTH ? "jan to dec" : "sun to sat");
		return refuse(r, "\"%.*s\" is no number", n, start);
	}
	if (take_digits(r, out) < 0)
		return -1;
	if (*out < fields[r->field].min || *out > fields[r->field].max)
		return refuse(r, "%.*s is not within %d to %d", (int)(r->p - start), start, fields[r->field].min,
			      fields[r->field].max);
	return 0;
}

static void set_value(struct sd_cronspec *spec, enum field field, int v)
{
	switch (field) {
	case SECOND:
		spec->seconds |= 1ULL << v;
		break;
	case MINUTE:
		spec->minutes |= 1ULL << v;
		break;
	case HOUR:
		spec->hours |= 1U << v;
		break;
	case DAY:
		spec->days |= 1U << v;
		break;
	case MONTH:
		spec->months |= (uint16_t)(1U << v);
		break;
	case WEEKDAY:
		spec->weekdays |= (uint8_t)(1U << v % 7);
		break;
	default:
		v -= SD_CRON_FIRST_YEAR;
		spec->years[v / 64] |= 1ULL << v % 64;
	}
}

/* The rest of `*`, `a-b` and `a`: an optional step, then the values. */
static int finish_range(struct reading *r, int from, int to, bool single)
{
	int step = 1, last = r->field == WEEKDAY ? 6 : fields[r->field].max;
	bool open = single;

	if (take(r, '/')) {
		if (single)
			to = last;
		open = false;
		if (take_digits(r, &step) < 0)
			return -1;
		if (step == 0)
			return refuse(r, "a step of 0 goes nowhere");
		if (step > last - fields[r->field].min + 1)
			return refuse(r, "a step of %d is more than the field holds (%d)", step,
				      last - fields[r->field].min + 1);
		if (single && r->field <= HOUR)
			r->spec->real_time = true;
	}
	if (!at_end(r))
		return refuse(r, "\"%.*s\" makes no sense there", (int)(r->end - r->p), r->p);
	for (int v = from; v <= (open ? from : to); v += step)
		set_value(r->spec, r->field, v);
	return 0;
}

static int read_star(struct reading *r)
{
	if (r->field <= HOUR)
		r->spec->real_time = true;
	else if (r->field == DAY)
		r->spec->any_day = true;
	else if (r->field == WEEKDAY)
		r->spec->any_weekday = true;
	return finish_range(r, fields[r->field].min, r->field == WEEKDAY ? 6 : fields[r->field].max, false);
}

/* L, LW and L-n, behind the L. */
static int read_last_day(struct reading *r)
{
	int n;

	if (at_end(r)) {
		r->spec->days_from_last |= 1;
		return 0;
	}
	if (take_last(r, 'W')) {
		r->spec->last_workday = true;
		return 0;
	}
	if (!take(r, '-'))
		return refuse(r, "behind L only W or -n makes sense");
	if (take_digits(r, &n) < 0)
		return -1;
	if (!at_end(r) || n < 1 || n > 30)
		return refuse(r, "L-n needs a number of 1 to 30");
	r->spec->days_from_last |= 1U << n;
	return 0;
}

/* What only the day fields know, behind the value v.  1: it was none of this. */
static int read_day_word(struct reading *r, int v)
{
	int n;

	if (r->field == DAY && take_last(r, 'W')) {
		r->spec->nearest |= 1U << v;
		return 0;
	}
	if (r->field == WEEKDAY && take_last(r, 'L')) {
		r->spec->last_weekdays |= (uint8_t)(1U << v % 7);
		return 0;
	}
	if (r->field == WEEKDAY && take(r, '#')) {
		if (take_digits(r, &n) < 0)
			return -1;
		if (!at_end(r) || n < 1 || n > 5)
			return refuse(r, "behind # only 1 to 5 makes sense");
		r->spec->nth[n - 1] |= (uint8_t)(1U << v % 7);
		return 0;
	}
	return 1;
}

static int read_item(struct reading *r)
{
	int from, to, rc;

	if (at_end(r))
		return refuse(r, "an item of the list is empty");
	if (take(r, '*'))
		return read_star(r);
	if (*r->p == '?') {
		if (r->field != DAY && r->field != WEEKDAY)
			return refuse(r, "? is for the day fields");
		if (r->len != 1)
			return refuse(r, "? must stand alone");
		r->p++;
		return read_star(r);
	}
	if (r->field == DAY && toupper((unsigned char)*r->p) == 'L') {
		r->p++;
		return read_last_day(r);
	}
	if (r->field == WEEKDAY && toupper((unsigned char)*r->p) == 'L' && r->end - r->p == 1)
		return refuse(r, "L needs a weekday before it, as in 5L or friL");
	if (take_value(r, &from) < 0)
		return -1;
	rc = read_day_word(r, from);
	if (rc <= 0)
		return rc;
	if (!take(r, '-'))
		return finish_range(r, from, from, true);
	if (take_value(r, &to) < 0)
		return -1;
	if (r->field == WEEKDAY && to == 0 && from > 0)
		to = 7; /* Sunday ends the week too */
	if (to < from)
		return refuse(r, "the range runs backward");
	return finish_range(r, from, to, false);
}

static int read_field(struct sd_cronspec *spec, enum field field, const char *text, int len, struct sd_err *err)
{
	struct reading r = {.spec = spec, .field = field, .text = text, .len = len, .p = text, .err = err};
	const char *end = text + len;

	for (;;) {
		const char *comma = memchr(r.p, ',', (size_t)(end - r.p));

		r.end = comma != NULL ? comma : end;
		if (read_item(&r) < 0)
			return -1;
		if (comma == NULL)
			return 0;
		r.p = comma + 1;
	}
}

static int read_every(const char *text, struct sd_cronspec *spec, struct sd_err *err)
{
	struct sd_err why;
	int64_t ms;

	while (isspace((unsigned char)*text))
		text++;
	if (sd_duration_parse(text, &ms, &why) < 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "@every: %s", why.message);
	if (ms < 1000 || ms % 1000 != 0 || ms > 365LL * 86400 * 1000)
		return sd_err_set(err, SD_ERR_PERMANENT, "@every \"%.60s\": whole seconds, from 1s to 365d, are possible", text);
	spec->every_s = ms / 1000;
	return 0;
}

/* The five fields an @word stands for. */
static const char *nickname(const char *text)
{
	static const char *const names[][2] = {
		{"@yearly", "0 0 1 1 *"},  {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
		{"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcasecmp(text, names[i][0]) == 0)
			return names[i][1];
	return NULL;
}

static int read_fields(const char *text, struct sd_cronspec *spec, struct sd_err *err)
{
	const char *start[NFIELDS];
	int len[NFIELDS], n = 0, first;
	const char *p = text;

	for (;;) {
		while (isspace((unsigned char)*p))
			p++;
		if (*p == '\0')
			break;
		if (n < NFIELDS)
			start[n] = p;
		for (len[n < NFIELDS ? n : 0] = 0; *p != '\0' && !isspace((unsigned char)*p); p++)
			if (n < NFIELDS)
				len[n]++;
		n++;
	}
	if (n < 5 || n > 7) {
		sd_err_set(err, SD_ERR_PERMANENT, "has %d field%s, five to seven are needed", n, n == 1 ? "" : "s");
		return sd_err_hint(err, "minute hour day-of-month month day-of-week; six fields put seconds first, seven add the year last");
	}
	first = n == 5 ? MINUTE : SECOND;
	if (n == 5)
		spec->seconds = 1;
	spec->any_year = n < 7;
	for (int i = 0; i < n; i++)
		if (read_field(spec, (enum field)(first + i), start[i], len[i], err) < 0)
			return -1;
	return 0;
}

int sd_cron_parse(const char *text, struct sd_cronspec *spec, struct sd_err *err)
{
	char copy[TEXT_MAX + 1];
	const char *fields_of_name;
	size_t n;

	*spec = (struct sd_cronspec){0};
	while (isspace((unsigned char)*text))
		text++;
	n = strnlen(text, TEXT_MAX + 1);
	if (n > TEXT_MAX)
		return sd_err_set(err, SD_ERR_PERMANENT, "is longer than %d bytes", TEXT_MAX);
	while (n > 0 && isspace((unsigned char)text[n - 1]))
		n--;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (n == 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "is empty");
	if (copy[0] == '@') {
		if (strncasecmp(copy, "@every", 6) == 0 && isspace((unsigned char)copy[6]))
			return read_every(copy + 6, spec, err);
		fields_of_name = nickname(copy);
		if (fields_of_name == NULL) {
			sd_err_set(err, SD_ERR_PERMANENT, "is no known name");
			return sd_err_hint(err, "@yearly @monthly @weekly @daily @hourly, or @every 90s");
		}
		return read_fields(fields_of_name, spec, err);
	}
	if (read_fields(copy, spec, err) < 0)
		return -1;
	if (!sd_cron_ever(spec))
		return sd_err_set(err, SD_ERR_PERMANENT, "never matches: no year has such a day");
	return 0;
}
