/*
 * The operations of a state update, done here only so that an attempt sees its
 * own updates.  What is stored is what SQL makes of them (stepd._state_op), on
 * the value that is there when the outcome commits; the rules are the same.
 */
#ifndef SD_STEP_STATEOP_H
#define SD_STEP_STATEOP_H

#include "base/buf.h"
#include "base/err.h"

/*
 * value: JSON text, NULL when there is none.  ops: a JSON array of {"type", "path", "value" or "by"}, the path an array of
 * names and positions.  Appends the new value to out, nothing if there still is none.  An operation that does not fit the
 * value is an error.
 */
int sd_stateops_apply(const char *value, const char *ops, struct sd_buf *out, struct sd_err *err) SD_MUST_CHECK;

#endif
