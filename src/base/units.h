/*
 * Durations and sizes as people write them.
 *
 * A duration is a whole number and ms, s, m, h or d, or bare milliseconds:
 * 500ms 30s 5m 2h 7d 1000.  A size is a whole number and B, KiB, MiB, GiB, TiB,
 * or bare bytes.  Nothing else: no sign, no fraction, no space, and KB is refused
 * since it means two things.
 */
#ifndef SD_BASE_UNITS_H
#define SD_BASE_UNITS_H

#include "base/err.h"

#include <stdint.h>

#define SD_DELAY_MAX_MS 3155760000000LL /* a hundred years: no job may wait longer, in the database neither */

int sd_duration_parse(const char *text, int64_t *ms, struct sd_err *err) SD_MUST_CHECK;
int sd_size_parse(const char *text, int64_t *bytes, struct sd_err *err) SD_MUST_CHECK;

/* The shortest exact form ("5m", "1500ms", "64KiB", "1000B") into out; returns out. */
char *sd_duration_format(int64_t ms, char out[32]);
char *sd_size_format(int64_t bytes, char out[32]);

#endif
