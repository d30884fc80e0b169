/*
 * Cron expressions for the oracles: each line of stdin is
 *     expression TAB zone TAB after (seconds since the epoch) TAB count
 * and is answered by a line of ticks in seconds, or "error: " and why.  The
 * expression "offset" asks for the zone's offset at that time.
 */
#include "base/clock.h"
#include "base/cronspec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
	struct sd_zoneset *zones = sd_zoneset_new();
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, stdin) > 0) {
		char *rest = line, *expression = strsep(&rest, "\t"), *zone_name = strsep(&rest, "\t"), *after = strsep(&rest, "\t");
		const struct sd_zone *zone;
		struct sd_cronspec spec;
		struct sd_err err;
		int64_t at;
		int count;

		if (rest == NULL)
			return 64;
		at = atoll(after) * SD_SEC;
		count = atoi(rest);
		zone = sd_zoneset_get(zones, zone_name, &err);
		if (zone != NULL && strcmp(expression, "offset") == 0) {
			printf("%d\n", sd_zone_offset(zone, at / SD_SEC));
			continue;
		}
		if (zone == NULL || sd_cron_parse(expression, &spec, &err) < 0) {
			printf("error: %s\n", err.message);
			continue;
		}
		while (count-- > 0 && sd_cron_next(&spec, zone, at, &at))
			printf("%lld ", (long long)(at / SD_SEC));
		putchar('\n');
	}
	free(line);
	sd_zoneset_free(zones);
	return 0;
}
