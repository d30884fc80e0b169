/* Cron expressions in words: "at 09:30 on Monday to Friday". */
#ifndef SD_BASE_CRONDESC_H
#define SD_BASE_CRONDESC_H

#include "base/buf.h"
#include "base/cronspec.h"

/* What a parsed expression means, appended to out. */
void sd_cron_describe(const struct sd_cronspec *spec, struct sd_buf *out);

#endif
