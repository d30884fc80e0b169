/*
 * What becomes of an attempt whose outcome the database refuses.
 */
#ifndef SD_ROLE_REFUSED_H
#define SD_ROLE_REFUSED_H

#include "base/err.h"
#include "step/attempt.h"

/*
 * First it becomes an error that says why, without its effects, but with its
 * log lines to tell what went before; refused once more, it is what the handler
 * said, and that goes too.  False: nothing is left to leave out.
 */
bool sd_refused(struct sd_attempt *a, const struct sd_err *err);

#endif
