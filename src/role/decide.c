/* The supervisor's decisions; decide.h says what each is about. */
#include "role/decide.h"
#include "proc/scoreboard.h"

#include <stddef.h>

static const struct sd_daemon_step daemon_table[SD_PHASE_COUNT][SD_ON_EVENT_COUNT] = {
	[SD_PHASE_START] = {
		[SD_ON_TERM] = {SD_PHASE_DRAIN, SD_DO_DRAIN},
		[SD_ON_INT] = {SD_PHASE_FAST, SD_DO_FAST},
		[SD_ON_HUP] = {SD_PHASE_START, SD_DO_RELOAD_LATER},
		[SD_ON_GEN_LIVE] = {SD_PHASE_RUN, SD_DO_SERVE},
		[SD_ON_GEN_FAILED] = {SD_PHASE_FAST, SD_DO_GIVE_UP},
	},
	[SD_PHASE_RUN] = {
		[SD_ON_TERM] = {SD_PHASE_DRAIN, SD_DO_DRAIN},
		[SD_ON_INT] = {SD_PHASE_FAST, SD_DO_FAST},
		[SD_ON_HUP] = {SD_PHASE_RELOAD, SD_DO_RELOAD},
		[SD_ON_GEN_LIVE] = {SD_PHASE_RUN, SD_DO_NOTHING},
		[SD_ON_GEN_FAILED] = {SD_PHASE_RUN, SD_DO_NOTHING},
	},
	[SD_PHASE_RELOAD] = {
		[SD_ON_TERM] = {SD_PHASE_DRAIN, SD_DO_DRAIN},
		[SD_ON_INT] = {SD_PHASE_FAST, SD_DO_FAST},
		[SD_ON_HUP] = {SD_PHASE_RELOAD, SD_DO_RELOAD_LATER},
		[SD_ON_GEN_LIVE] = {SD_PHASE_RUN, SD_DO_SWAP},
		[SD_ON_GEN_FAILED] = {SD_PHASE_RUN, SD_DO_KEEP_OLD},
	},
	[SD_PHASE_DRAIN] = {
		[SD_ON_TERM] = {SD_PHASE_FAST, SD_DO_FAST},
		[SD_ON_INT] = {SD_PHASE_FAST, SD_DO_FAST},
		[SD_ON_HUP] = {SD_PHASE_DRAIN, SD_DO_NOTHING},
		[SD_ON_GEN_LIVE] = {SD_PHASE_DRAIN, SD_DO_NOTHING},
		[SD_ON_GEN_FAILED] = {SD_PHASE_DRAIN, SD_DO_NOTHING},
	},
	[SD_PHASE_FAST] = {
		[SD_ON_TERM] = {SD_PHASE_FAST, SD_DO_NOTHING},
		[SD_ON_INT] = {SD_PHASE_FAST, SD_DO_NOTHING},
		[SD_ON_HUP] = {SD_PHASE_FAST, SD_DO_NOTHING},
		[SD_ON_GEN_LIVE] = {SD_PHASE_FAST, SD_DO_NOTHING},
		[SD_ON_GEN_FAILED] = {SD_PHASE_FAST, SD_DO_NOTHING},
	},
};

struct sd_daemon_step sd_daemon_decide(enum sd_phase phase, enum sd_daemon_event event)
{
	return daemon_table[phase][event];
}

static const struct sd_kid_step kid_table[SD_KID_STATE_COUNT][SD_KID_EVENT_COUNT] = {
	[SD_KID_STARTING] = {
		[SD_KID_SAYS_READY] = {SD_KID_READY, SD_KID_NOTE_READY},
		[SD_KID_SAYS_FAILED] = {SD_KID_STARTING, SD_KID_NOTE_FAILED},
		[SD_KID_WANT_DRAIN] = {SD_KID_DRAINING, SD_KID_SEND_DRAIN},
		[SD_KID_WANT_END] = {SD_KID_TERMED, SD_KID_SEND_TERM},
		[SD_KID_LATE] = {SD_KID_STARTING, SD_KID_NOTHING},
	},
	[SD_KID_READY] = {
		[SD_KID_SAYS_READY] = {SD_KID_READY, SD_KID_NOTHING},
		[SD_KID_SAYS_FAILED] = {SD_KID_READY, SD_KID_NOTE_FAILED},
		[SD_KID_WANT_DRAIN] = {SD_KID_DRAINING, SD_KID_SEND_DRAIN},
		[SD_KID_WANT_END] = {SD_KID_TERMED, SD_KID_SEND_TERM},
		[SD_KID_LATE] = {SD_KID_READY, SD_KID_NOTHING},
	},
	[SD_KID_DRAINING] = {
		[SD_KID_SAYS_READY] = {SD_KID_DRAINING, SD_KID_NOTHING},
		[SD_KID_SAYS_FAILED] = {SD_KID_DRAINING, SD_KID_NOTE_FAILED},
		[SD_KID_WANT_DRAIN] = {SD_KID_DRAINING, SD_KID_HURRY},
		[SD_KID_WANT_END] = {SD_KID_TERMED, SD_KID_SEND_TERM},
		[SD_KID_LATE] = {SD_KID_TERMED, SD_KID_SEND_TERM},
	},
	[SD_KID_TERMED] = {
		[SD_KID_SAYS_READY] = {SD_KID_TERMED, SD_KID_NOTHING},
		[SD_KID_SAYS_FAILED] = {SD_KID_TERMED, SD_KID_NOTE_FAILED},
		[SD_KID_WANT_DRAIN] = {SD_KID_TERMED, SD_KID_NOTHING},
		[SD_KID_WANT_END] = {SD_KID_TERMED, SD_KID_NOTHING},
		[SD_KID_LATE] = {SD_KID_KILLED, SD_KID_SEND_KILL},
	},
	[SD_KID_KILLED] = {
		[SD_KID_SAYS_READY] = {SD_KID_KILLED, SD_KID_NOTHING},
		[SD_KID_SAYS_FAILED] = {SD_KID_KILLED, SD_KID_NOTE_FAILED},
		[SD_KID_WANT_DRAIN] = {SD_KID_KILLED, SD_KID_NOTHING},
		[SD_KID_WANT_END] = {SD_KID_KILLED, SD_KID_NOTHING},
		[SD_KID_LATE] = {SD_KID_KILLED, SD_KID_SEND_KILL},
	},
};

struct sd_kid_step sd_kid_decide(enum sd_kid_state state, enum sd_kid_event event)
{
	return kid_table[state][event];
}

int sd_role_tier(enum sd_role_kind role)
{
	static const int tier[SD_ROLE_COUNT] = {
		[SD_ROLE_POSTGRES] = SD_TIER_POSTGRES,
		[SD_ROLE_KEEPER] = SD_TIER_KEEPER,
		[SD_ROLE_CRON] = SD_TIER_INTAKE,
		[SD_ROLE_HTTP] = SD_TIER_INTAKE,
		[SD_ROLE_WORKER] = SD_TIER_INTAKE,
		[SD_ROLE_WEB] = SD_TIER_WEB,
	};

	return tier[role];
}

int sd_stop_tier(const unsigned left[SD_ROLE_COUNT])
{
	int lowest = SD_TIER_NONE;

	for (int role = 0; role < SD_ROLE_COUNT; role++)
		if (left[role] > 0 && sd_role_tier((enum sd_role_kind)role) < lowest)
			lowest = sd_role_tier((enum sd_role_kind)role);
	return lowest;
}

int sd_ending_decide(struct sd_ending *w, const struct sd_seen *seen, int64_t now_us, int64_t grace_us)
{
	int64_t run = sd_seen_run(seen);
	bool overdue = run != 0 && seen->deadline_us > 0 && seen->deadline_us < now_us;
	bool cancelled = seen->job != 0 && seen->cancel_job == seen->job;
	bool was_overdue = w->overdue && w->run == run;

	if (w->run != run)
		*w = (struct sd_ending){.run = run};
	w->overdue = overdue;
	if (overdue && was_overdue)
		return SD_SLOT_REASON_TIMEOUT;
	if (!cancelled) {
		w->cancelled_us = 0;
		return SD_SLOT_REASON_NONE;
	}
	if (w->cancelled_us == 0)
		w->cancelled_us = now_us;
	return now_us - w->cancelled_us >= grace_us ? SD_SLOT_REASON_CANCEL : SD_SLOT_REASON_NONE;
}

static void wait_until(struct sd_health *h, int64_t when_us)
{
	if (h->not_before_us < when_us)
		h->not_before_us = when_us;
}

static void count_burst(struct sd_health *h, int64_t now_us)
{
	if (now_us - h->window_us > SD_HEALTH_WINDOW_US) {
		h->window_us = now_us;
		h->burst = 0;
	}
	if (++h->burst <= SD_HEALTH_BURST)
		return;
	h->degraded = true;
	wait_until(h, now_us + 1000000);
}

void sd_health_died(struct sd_health *h, const struct sd_life *life, int64_t now_us)
{
	bool idle = life->job == 0 && life->jobs_done == 0;
	bool instant = life->ready_us == 0 || (idle && now_us - life->ready_us < SD_HEALTH_STABLE_US);
	int64_t delay;

	if (life->asked)
		return;
	if (!instant) {
		count_burst(h, now_us);
		return;
	}
	if (h->respawn.deaths > 0 && life->spawned_us < h->last_death_us)
		return; /* one of the same volley */
	h->last_death_us = now_us;
	delay = sd_respawn_died(&h->respawn, 0);
	if (delay == 0)
		return;
	h->degraded = true;
	wait_until(h, now_us + delay);
}

bool sd_health_up(struct sd_health *h, int64_t ready_us, uint64_t jobs_done, int64_t now_us)
{
	bool was = h->degraded;

	if (jobs_done == 0 && now_us - ready_us < SD_HEALTH_STABLE_US)
		return false;
	if (ready_us < h->last_death_us)
		return false; /* it was up before the trouble began and says nothing about it */
	h->respawn.deaths = 0;
	if (now_us - h->window_us > SD_HEALTH_WINDOW_US)
		h->burst = 0;
	if (h->burst > SD_HEALTH_BURST)
		return false;
	h->degraded = false;
	h->not_before_us = 0;
	return was;
}

unsigned sd_health_allow(const struct sd_health *h, unsigned missing, unsigned starting, int64_t now_us)
{
	if (now_us < h->not_before_us)
		return 0;
	if (h->respawn.deaths > 1)
		return missing > 0 && starting == 0 ? 1 : 0;
	return missing;
}
