/* The rule behind a zone file's list: a POSIX TZ string with RFC 9636's wider hours, "CET-1CEST,M3.5.0,M10.5.0/3". */
#ifndef SD_BASE_TZRULE_H
#define SD_BASE_TZRULE_H

#include <stdbool.h>
#include <stdint.h>

#define SD_ZONE_FIRST_RULE_YEAR 1970

struct sd_tzdate {
	enum { SD_TZ_JULIAN, SD_TZ_DAY, SD_TZ_WEEKDAY } kind; /* Jn, n, Mm.w.d */
	int n, month, week, weekday;
	int32_t time; /* of the local day, in seconds; may be negative */
};

struct sd_tzrule {
	int32_t offset; /* seconds east */
	bool has_dst;
	int32_t dst_offset;
	struct sd_tzdate on, off;
};

int sd_tzrule_parse(const char *text, struct sd_tzrule *rule); /* -1: not such a string */
/* The instant at which daylight time begins (on) or ends in that year, in seconds since the epoch. */
int64_t sd_tzrule_change(const struct sd_tzrule *rule, int64_t year, bool on);

#endif
