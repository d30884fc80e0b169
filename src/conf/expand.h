/* ${NAME} and ${NAME:default} in a scalar, from the environment. */
#ifndef SD_CONF_EXPAND_H
#define SD_CONF_EXPAND_H

#include "base/err.h"
#include "base/mem.h"

/*
 * text with every ${NAME} and ${NAME:default} replaced; in arena, or text
 * itself when there is none.  The default is taken when NAME is unset or
 * empty, and may have ${...} in it, up to eight deep; NAME unset without a
 * default is an error.  "$${" stands for "${".
 * What is put in is not expanded again.  NULL with *err.
 */
const char *sd_expand(const char *text, struct sd_arena *arena, struct sd_err *err);

#endif
