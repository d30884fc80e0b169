/* An accepted expression has ticks, each later than the one before, in a zone with changes and in one without. */
#include "base/clock.h"
#include "base/cronspec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Changes of 2 h and of half an hour backward, each a year long; enough to see seams. */
static const unsigned char tzif[] =
	"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4" /* version 1: one type, nothing else */
	"\0\0\0\0\0\0UTC\0"
	"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4"
	"\0\0\0\0\0\0UTC\0"
	"\n<+00>0<+02>-2,M3.5.0/1,M10.5.0/3\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct sd_zone *zone;
	struct sd_cronspec spec;
	struct sd_err err = {0};
	char *text = malloc(len + 1);

	if (text == NULL || (zone == NULL && (zone = sd_zone_read("Test", tzif, sizeof tzif - 1, &err)) == NULL))
		abort();
	memcpy(text, data, len);
	text[len] = '\0';
	if (sd_cron_parse(text, &spec, &err) < 0) {
		if (err.message[0] == '\0')
			abort();
	} else {
		for (int z = 0; z < 2; z++) {
			int64_t at = 1767225600 * SD_SEC, next;

			for (int i = 0; i < 20 && sd_cron_next(&spec, z ? zone : NULL, at, &next); i++, at = next)
				if (next <= at || next % SD_SEC != 0)
					abort();
			if (spec.any_year && at == 1767225600 * SD_SEC)
				abort();
		}
	}
	free(text);
	return 0;
}
