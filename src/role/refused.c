/*
 * An attempt whose outcome the database refuses.
 */
#include "role/refused.h"

static void turn_into_error(struct sd_attempt *a, const struct sd_err *err)
{
	const char *own = a->outcome != SD_OUTCOME_COMPLETED && a->error != NULL ? a->error : NULL;

	a->outcome = SD_OUTCOME_ERROR;
	a->error = sd_arena_printf(a->arena, "the database refused the effects of this attempt: %s%s%s%s%s%s%s%s", err->message,
				   err->detail[0] ? ": " : "", err->detail, err->sqlstate[0] ? " (SQLSTATE " : "", err->sqlstate,
				   err->sqlstate[0] ? ")" : "", own != NULL ? "; the handler had said: " : "", own != NULL ? own : "");
	sd_attempt_drop_effects(a);
}

bool sd_refused(struct sd_attempt *a, const struct sd_err *err)
{
	if (a->effects_refused == 0) {
		turn_into_error(a, err);
	} else if (a->effects_refused == 1) {
		a->error = "the database refused the effects of this attempt, and what it said";
		sd_attempt_drop_words(a);
	} else {
		return false;
	}
	a->effects_refused++;
	return true;
}
