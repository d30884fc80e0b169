/*
 * Time zones from TZif files (RFC 9636).
 *
 * A file lists past changes of the offset, and its footer holds a POSIX TZ rule
 * for all later ones.  Reading unfolds the rule into the same list, so that a
 * question about an instant is one binary search.  Files of version 1 (32-bit
 * times, no footer) are read as far as they go.  Leap seconds do not concern us:
 * the system's clock has none.
 *
 * Zone files are trusted no more than other input: every count is checked
 * against the length.
 */
#include "base/zone.h"
#include "base/buf.h"
#include "base/fdutil.h"
#include "base/mem.h"
#include "base/tzrule.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
	int64_t at;
	int32_t offset; /* from then on */
};

struct sd_zone {
	char *name;
	int32_t first_offset; /* before the first change */
	size_t n;
	struct change *changes; /* ascending; each one does change the offset */
};

enum { MAX_FILE = 256 * 1024, MAX_CHANGES = 8192, HEADER = 44 };

int64_t sd_days_of_date(int64_t year, int month, int day)
{
	/* years begin in March here, so that the leap day is the last one */
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t of_era = y - era * 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void sd_date_of_days(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t of_era = z - era * 146097;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * of_year + 2) / 153;

	*day = (int)(of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = y + era * 400 + (*month <= 2);
}

static int64_t big_endian(const unsigned char *p, int bytes)
{
	uint64_t v = 0;

	for (int i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return bytes == 4 ? (int32_t)(uint32_t)v : (int64_t)v;
}

/* The parts of one data block. */
struct block {
	const unsigned char *times, *indices, *types;
	size_t ntimes, ntypes;
	int width;   /* bytes of a time */
	size_t size; /* header included */
};

static int read_header(const unsigned char *p, size_t len, int width, struct block *b)
{
	uint32_t count[6]; /* isut, isstd, leap, time, type, char */
	uint64_t size = HEADER;

	if (len < HEADER || memcmp(p, "TZif", 4) != 0)
		return -1;
	for (int i = 0; i < 6; i++)
		count[i] = (uint32_t)big_endian(p + 20 + 4 * i, 4);
	b->width = width;
	b->ntimes = count[3];
	b->ntypes = count[4];
	b->times = p + HEADER;
	size += (uint64_t)count[3] * (unsigned)width + count[3] + (uint64_t)count[4] * 6 + count[5] +
		(uint64_t)count[2] * ((unsigned)width + 4) + count[1] + count[0];
	if (size > len || count[4] == 0 || count[3] > MAX_CHANGES)
		return -1;
	b->size = (size_t)size;
	b->indices = b->times + b->ntimes * (size_t)width;
	b->types = b->indices + b->ntimes;
	return 0;
}

static void add_change(struct sd_zone *z, int64_t at, int32_t offset)
{
	int32_t before = z->n > 0 ? z->changes[z->n - 1].offset : z->first_offset;

	if (offset == before) /* only the name or the daylight flag changes */
		return;
	z->changes[z->n++] = (struct change){at, offset};
}

static int read_changes(struct sd_zone *z, const struct block *b)
{
	z->first_offset = (int32_t)big_endian(b->types, 4);
	for (size_t i = 0; i < b->ntimes; i++) {
		int64_t at = big_endian(b->times + i * (size_t)b->width, b->width);
		int64_t offset;

		if (b->indices[i] >= b->ntypes)
			return -1;
		if (i > 0 && at <= big_endian(b->times + (i - 1) * (size_t)b->width, b->width))
			return -1;
		offset = big_endian(b->types + b->indices[i] * 6, 4);
		if (offset < -90000 || offset > 93600) /* RFC 9636, 3.2 */
			return -1;
		add_change(z, at, (int32_t)offset);
	}
	return 0;
}

static int64_t last_listed(const struct block *b)
{
	return b->ntimes > 0 ? big_endian(b->times + (b->ntimes - 1) * (size_t)b->width, b->width) : INT64_MIN;
}

/* The footer's rule, from the last listed change on. */
static int unfold_rule(struct sd_zone *z, const struct block *b, const char *footer)
{
	struct sd_tzrule rule;
	int64_t last = last_listed(b), year = SD_ZONE_FIRST_RULE_YEAR;
	int month, day;

	if (*footer == '\0')
		return 0;
	if (sd_tzrule_parse(footer, &rule) < 0)
		return -1;
	if (!rule.has_dst) {
		if (b->ntimes == 0)
			z->first_offset = rule.offset;
		return 0;
	}
	if (last > sd_days_of_date(year, 1, 1) * 86400) {
		sd_date_of_days(last / 86400, &year, &month, &day);
		year--;
	}
	for (; year <= SD_ZONE_LAST_YEAR; year++) {
		int64_t on = sd_tzrule_change(&rule, year, true), off = sd_tzrule_change(&rule, year, false);
		bool on_first = on < off;

		for (int i = 0; i < 2; i++) {
			bool dst = (i == 0) == on_first;
			int64_t at = dst ? on : off;

			if (at > last)
				add_change(z, at, dst ? rule.dst_offset : rule.offset);
		}
	}
	return 0;
}

/* Rules such as "always daylight time" make two changes at one instant: only the last one counts. */
static void drop_empty_spans(struct sd_zone *z)
{
	size_t n = 0;

	for (size_t i = 0; i < z->n; i++) {
		if (i + 1 < z->n && z->changes[i + 1].at <= z->changes[i].at)
			continue;
		if (z->changes[i].offset == (n > 0 ? z->changes[n - 1].offset : z->first_offset))
			continue;
		z->changes[n++] = z->changes[i];
	}
	z->n = n;
}

static int read_all(struct sd_zone *z, const unsigned char *p, size_t len)
{
	struct block b;
	char footer[128] = "";

	if (read_header(p, len, 4, &b) < 0)
		return -1;
	if (p[4] >= '2') { /* the same again with 64-bit times, then the footer between two newlines */
		const unsigned char *end;

		p += b.size;
		len -= b.size;
		if (read_header(p, len, 8, &b) < 0)
			return -1;
		p += b.size;
		len -= b.size;
		if (len < 2 || p[0] != '\n' || (end = memchr(p + 1, '\n', len - 1)) == NULL ||
		    (size_t)(end - p) > sizeof footer || memchr(p, '\0', (size_t)(end - p)) != NULL)
			return -1;
		memcpy(footer, p + 1, (size_t)(end - p) - 1);
		footer[end - p - 1] = '\0';
	}
	z->changes = sd_xmalloc((b.ntimes + 2 * (SD_ZONE_LAST_YEAR - SD_ZONE_FIRST_RULE_YEAR + 2)) * sizeof z->changes[0]);
	if (read_changes(z, &b) < 0 || unfold_rule(z, &b, footer) < 0)
		return -1;
	drop_empty_spans(z);
	z->changes = sd_xrealloc(z->changes, z->n * sizeof z->changes[0]);
	return 0;
}

struct sd_zone *sd_zone_read(const char *name, const void *tzif, size_t len, struct sd_err *err)
{
	struct sd_zone *z = sd_xcalloc(1, sizeof *z);

	z->name = sd_xstrdup(name);
	if (read_all(z, tzif, len) == 0)
		return z;
	sd_zone_free(z);
	sd_err_set(err, SD_ERR_PERMANENT, "the zone file of \"%.100s\" is damaged or no zone file", name);
	return NULL;
}

static bool is_utc(const char *name)
{
	return name == NULL || *name == '\0' || strcmp(name, "UTC") == 0 || strcmp(name, "Etc/UTC") == 0 ||
	       strcmp(name, "GMT") == 0;
}

/* Area/City: nothing that leads out of the directory or to its other files. */
static bool is_zone_name(const char *name)
{
	if (!isupper((unsigned char)*name) || strlen(name) > 100)
		return false;
	for (const char *p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr("_+-/", *p) == NULL)
			return false;
	return strstr(name, "//") == NULL && name[strlen(name) - 1] != '/';
}

struct sd_zone *sd_zone_load(const char *name, struct sd_err *err)
{
	const char *dir = getenv("TZDIR");
	struct sd_buf b = SD_BUF_INIT;
	struct sd_zone *z = NULL;
	struct sd_err why;
	char *path;

	if (is_utc(name)) {
		z = sd_xcalloc(1, sizeof *z);
		z->name = sd_xstrdup("UTC");
		return z;
	}
	if (dir == NULL || *dir == '\0')
		dir = "/usr/share/zoneinfo";
	if (!is_zone_name(name)) {
		sd_err_set(err, SD_ERR_PERMANENT, "\"%.100s\" is not a time zone", name);
		sd_err_hint(err, "zones are named like Europe/Berlin; see %s", dir);
		return NULL;
	}
	path = sd_xasprintf("%s/%s", dir, name);
	if (sd_read_file(path, MAX_FILE, &b, &why) == 0) {
		z = sd_zone_read(name, b.data, b.len, err);
	} else if (why.errnum == ENOENT || why.errnum == ENOTDIR || why.errnum == EISDIR) {
		sd_err_set(err, SD_ERR_PERMANENT, "unknown time zone \"%.100s\"", name);
		sd_err_hint(err, "zones are named like Europe/Berlin; see %s (Debian package tzdata)", dir);
	} else if (err != NULL) {
		*err = why;
	}
	sd_buf_fini(&b);
	free(path);
	return z;
}

void sd_zone_free(struct sd_zone *zone)
{
	if (zone == NULL)
		return;
	free(zone->changes);
	free(zone->name);
	free(zone);
}

/* How many changes are not after `at`. */
static size_t changes_until(const struct sd_zone *zone, int64_t at)
{
	size_t lo = 0, hi = zone->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (zone->changes[mid].at <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int32_t sd_zone_offset(const struct sd_zone *zone, int64_t at)
{
	size_t n = zone != NULL ? changes_until(zone, at) : 0;

	if (zone == NULL)
		return 0;
	return n > 0 ? zone->changes[n - 1].offset : zone->first_offset;
}

int64_t sd_zone_next_change(const struct sd_zone *zone, int64_t at)
{
	size_t n = zone != NULL ? changes_until(zone, at) : 0;

	return zone != NULL && n < zone->n ? zone->changes[n].at : INT64_MAX;
}

struct sd_zoneset {
	size_t n;
	struct sd_zone **zones;
};

struct sd_zoneset *sd_zoneset_new(void)
{
	return sd_xcalloc(1, sizeof(struct sd_zoneset));
}

const struct sd_zone *sd_zoneset_get(struct sd_zoneset *set, const char *name, struct sd_err *err)
{
	const char *known_as = is_utc(name) ? "UTC" : name;
	struct sd_zone *z;

	for (size_t i = 0; i < set->n; i++)
		if (strcmp(set->zones[i]->name, known_as) == 0)
			return set->zones[i];
	z = sd_zone_load(name, err);
	if (z == NULL)
		return NULL;
	set->zones = sd_xrealloc(set->zones, (set->n + 1) * sizeof set->zones[0]);
	set->zones[set->n++] = z;
	return z;
}

void sd_zoneset_free(struct sd_zoneset *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->n; i++)
		sd_zone_free(set->zones[i]);
	free(set->zones);
	free(set);
}
