/* The text of a scalar, and what it means: numbers with units, words, addresses. */
#ifndef SD_CONF_VALUE_H
#define SD_CONF_VALUE_H

#include "base/err.h"
#include "base/mem.h"
#include "conf/options.h"

/*
 * Put text into o's member of the struct at base.  What has to be copied goes
 * to arena.  For lists this adds one element.  The error says what was
 * expected and what was found, without the option's name.
 */
int sd_value_set(const struct sd_option *o, void *base, const char *text, struct sd_arena *arena,
		 struct sd_err *err) SD_MUST_CHECK;

#endif
