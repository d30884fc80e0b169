/* The text of a scalar, and what it means: numbers with units, words, addresses. */
#ifndef SD_CONF_VALUE_H
#define SD_CONF_VALUE_H

#include "base/err.h"
#include "base/mem.h"
#include "conf/options.h"

#include <stdint.h>

/* A time: a bare number is milliseconds; 500ms 30s 5m 2h 7d. */
int sd_value_time(const char *text, int64_t *ms, struct sd_err *err) SD_MUST_CHECK;
/* A size: a bare number is bytes; 64KiB 1MiB 2GiB. */
int sd_value_size(const char *text, int64_t *bytes, struct sd_err *err) SD_MUST_CHECK;
/* Decimal digits with an optional sign, nothing else. */
int sd_value_int(const char *text, int64_t *value, struct sd_err *err) SD_MUST_CHECK;

/*
 * Put text into o's member of the struct at base.  What has to be copied goes
 * to arena.  For lists this adds one element.  The error says what was
 * expected and what was found, without the option's name.
 */
int sd_value_set(const struct sd_option *o, void *base, const char *text, struct sd_arena *arena,
		 struct sd_err *err) SD_MUST_CHECK;

#endif
