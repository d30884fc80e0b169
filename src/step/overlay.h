/*
 * An attempt's own state writes, so that its reads see them: a map of groups,
 * each a map of keys, laid over what the database has.
 */
#ifndef SD_STEP_OVERLAY_H
#define SD_STEP_OVERLAY_H

#include "base/buf.h"
#include "step/attempt.h"

struct sd_state_overlay;

void sd_overlay_free(struct sd_state_overlay *o); /* NULL is allowed; strings stay in the attempt's arena */

/* value: JSON text in the attempt's arena; NULL: the key is deleted.  group and key are copied. */
void sd_overlay_set(struct sd_attempt *a, const char *group, const char *key, const char *value);
void sd_overlay_clear(struct sd_attempt *a, const char *group);

/*
 * Operations on a value (a JSON array in the attempt's arena, see step/stateop.h).  They are done at once on a value that
 * is known here, else when it is read.  -1: they do not fit the value that is known.
 */
int sd_overlay_update(struct sd_attempt *a, const char *group, const char *key, const char *ops, struct sd_err *err) SD_MUST_CHECK;

/* Does the overlay know the key?  Then *value is its text, or NULL for deleted. */
bool sd_overlay_get(const struct sd_attempt *a, const char *group, const char *key, const char **value);
/* *value: what is stored (NULL: nothing); becomes what this attempt sees: the same, or with its updates. */
int sd_overlay_resolve(struct sd_attempt *a, const char *group, const char *key, const char **value, struct sd_err *err) SD_MUST_CHECK;
/* Nothing of what is stored in the group counts any more. */
bool sd_overlay_hides(const struct sd_attempt *a, const char *group);

/*
 * The values of a group as a JSON array in byte order of the keys, appended to out.  stored: the group as the database
 * has it, a valid JSON object, NULL for none.  Values are spliced in as they are.
 */
int sd_overlay_list(struct sd_attempt *a, const char *group, const char *stored, struct sd_buf *out, struct sd_err *err) SD_MUST_CHECK;

/* The groups that were written to, in the order of the first write; NULL behind the last one. */
const char *sd_overlay_group(const struct sd_attempt *a, size_t index);

#endif
