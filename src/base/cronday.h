/* Which days a cron expression means: the calendar's part of it, shared by parsing and by the search for the next tick. */
#ifndef SD_BASE_CRONDAY_H
#define SD_BASE_CRONDAY_H

#include "base/cronspec.h"

#include <stdbool.h>
#include <stdint.h>

/* The first matching day not before `days` and before `limit` (days since the epoch); false: there is none. */
bool sd_cron_next_day(const struct sd_cronspec *spec, int64_t days, int64_t limit, int64_t *found);
/* Does any day match at all? */
bool sd_cron_ever(const struct sd_cronspec *spec);

#endif
