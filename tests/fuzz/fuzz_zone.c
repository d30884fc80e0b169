/* Whatever a zone file holds: offsets stay within a day or so, and changes come in order. */
#include "base/zone.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sd_err err = {0};
	struct sd_zone *zone = sd_zone_read("Test", data, len, &err);
	int64_t at = INT64_MIN, next;

	if (zone == NULL) {
		if (err.message[0] == '\0')
			abort();
		return 0;
	}
	for (int i = 0; i < 3000 && (next = sd_zone_next_change(zone, at)) != INT64_MAX; i++, at = next)
		if (next <= at || sd_zone_offset(zone, next) == sd_zone_offset(zone, next - 1) ||
		    abs(sd_zone_offset(zone, next)) > 10 * 86400)
			abort();
	sd_zone_free(zone);
	return 0;
}
