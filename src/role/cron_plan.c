/* What a schedule does next: policies for missed ticks, as pure functions of the calendar and the time. */
#include "role/cron_plan.h"
#include "base/clock.h"

#include <string.h>

int sd_cron_missed_parse(const char *word, enum sd_cron_missed *missed, struct sd_err *err)
{
	static const char *const words[] = {
		[SD_CRON_MISSED_SKIP] = "skip", [SD_CRON_MISSED_ONE] = "one", [SD_CRON_MISSED_ALL] = "all"};

	for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(word, words[i]) == 0) {
			*missed = (enum sd_cron_missed)i;
			return 0;
		}
	return sd_err_set(err, SD_ERR_PERMANENT, "missed \"%.40s\" is none of skip, one, all", word);
}

int64_t sd_cron_plan_after(const struct sd_cron_plan *plan, int64_t tick_us)
{
	int64_t next;

	return sd_cron_next(&plan->spec, plan->zone, tick_us, &next) ? next : SD_CRON_NEVER;
}

/* The newest tick in (from, now], or SD_CRON_NEVER; from the near past to the far, since ticks may be many. */
static int64_t newest(const struct sd_cron_plan *plan, int64_t from, int64_t now)
{
	for (int64_t span = 60 * SD_SEC;; span *= 60) {
		int64_t begin = now - span > from ? now - span : from, found = SD_CRON_NEVER;

		for (int64_t t = sd_cron_plan_after(plan, begin); t <= now; t = sd_cron_plan_after(plan, t))
			found = t;
		if (found != SD_CRON_NEVER || begin == from)
			return found;
	}
}

void sd_cron_plan_begin(struct sd_cron_plan *plan, int64_t last_us, int64_t now_us, int64_t late_us)
{
	int64_t limit = now_us - plan->catch_up_us - 1, from = last_us > limit ? last_us : limit;

	plan->next_us = sd_cron_plan_after(plan, last_us);
	if (plan->next_us > now_us || plan->next_us >= now_us - late_us)
		return;
	switch (plan->missed) {
	case SD_CRON_MISSED_SKIP:
		plan->next_us = sd_cron_plan_after(plan, now_us);
		break;
	case SD_CRON_MISSED_ONE:
		plan->next_us = newest(plan, from, now_us);
		if (plan->next_us == SD_CRON_NEVER)
			plan->next_us = sd_cron_plan_after(plan, now_us);
		break;
	case SD_CRON_MISSED_ALL:
		plan->next_us = sd_cron_plan_after(plan, from);
		break;
	}
}

void sd_cron_plan_late(struct sd_cron_plan *plan, int64_t now_us, int64_t late_us)
{
	/* what is next already is the answer about ticks before it */
	if (plan->next_us < now_us - late_us && plan->missed != SD_CRON_MISSED_ALL)
		sd_cron_plan_begin(plan, plan->next_us - 1, now_us, late_us);
	else if (plan->next_us < now_us - plan->catch_up_us - late_us)
		sd_cron_plan_begin(plan, plan->next_us - 1, now_us, late_us);
}
