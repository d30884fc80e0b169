/*
 * What the runner hands back, and whether it counts.
 */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

static void void_it(struct sd_attempt *a, const char *error)
{
	char job[24];

	snprintf(job, sizeof job, "%lld", (long long)a->job_id);
	sd_log_kv(SD_LOG_INFO, "the handler came to an end too late; what it did is void", "job", job, "error", error, NULL);
	a->outcome = SD_OUTCOME_TIMEOUT;
	a->error = sd_arena_strdup(a->arena, error);
	sd_attempt_drop_effects(a);
	sd_attempt_drop_words(a);
}

/* Who returned past its deadline, or as it was about to be ended for a limit: the supervisor may not have seen it, or TERM be on its way. */
static void judge(struct sd_worker *w, struct sd_attempt *a)
{
	char text[SD_LIMIT_TEXT];

	if (a->outcome == SD_OUTCOME_INVALID_INPUT)
		return;
	if (sd_limit_of_slot(w->child->slot, a->job_id, text) != NULL) {
		void_it(a, text);
	} else if (a->timeout_ms > 0 && a->finished_us - a->started_us > a->timeout_ms * SD_MS) {
		snprintf(text, sizeof text, "timed out after %lld ms", (long long)a->timeout_ms);
		void_it(a, text);
	}
}

void sd_worker_take_finished(struct sd_worker *w)
{
	struct sd_attempt *list = sd_runner_take(w->runner);
	while (list != NULL) {
		struct sd_attempt *a = list;
		list = a->next;
		a->next = NULL;
		struct sd_lane *l = sd_worker_lane(w, a->lane);
		if (l != NULL)
			sd_lane_ran(l, a->finished_us - a->started_us, (int64_t)a->input_len);
		if (w->finished.n == 0)
			w->finished_since_us = a->finished_us;
		if (w->ending && a->job_id == w->ending_job) {
			w->ended = a;
			continue;
		}
		judge(w, a);
		sd_chain_append(&w->finished, a);
	}
}
