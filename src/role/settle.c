/*
 * What is, against what should be.  sd_super_settle() runs after every event
 * and does whatever is the next step: start PostgreSQL, the generations'
 * children, or while stopping ask the next tier to go.  It keeps no state of
 * its own and may be called at any time, so nothing that was missed once stays
 * undone.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <stdio.h>

#define TICK_SECONDS 0.1
#define FAST_TICK_SECONDS 0.02 /* while something is starting or stopping */
#define KEEPER_DRAIN_US (5 * SD_SEC)
#define POSTGRES_FAST_US (30 * SD_SEC) /* SIGINT → SIGQUIT */

/* ---- PostgreSQL and the generations ---- */

static bool postgres_ready(struct sd_super *su)
{
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		if (k->group != &su->postgres)
			continue;
		if (k->state == SD_KID_STARTING && sd_embedded_ready(su->embedded, k->pid))
			sd_kid_event(k, SD_KID_SAYS_READY, 0);
		if (k->state == SD_KID_READY)
			return true;
	}
	return false;
}

/* True when the generations may go on: PostgreSQL is someone else's, or up. */
static bool settle_postgres(struct sd_super *su)
{
	struct sd_err err;
	char why[400];

	if (su->embedded == NULL)
		return true;
	sd_group_fill(su, &su->postgres);
	if (postgres_ready(su)) {
		if (su->start_late_us != 0 && sd_embedded_announce(su->embedded, &err) != 0)
			sd_log_err(SD_LOG_WARN, &err, "the embedded PostgreSQL cannot be found by stepctl");
		su->start_late_us = 0;
		return true;
	}
	if (su->start_late_us == 0)
		return su->live != NULL; /* it was up and comes again; the children reconnect by themselves */
	if (su->building != NULL && su->building->why[0] == '\0' && su->postgres.health.respawn.deaths > 0 &&
	    (su->postgres.health.respawn.deaths > 3 || sd_now_us() > su->start_late_us)) {
		sd_embedded_why(su->embedded, why, sizeof why);
		snprintf(su->building->why, sizeof su->building->why, "the embedded PostgreSQL does not start: %.300s (%.300s)", why,
			 su->embedded->log);
		su->building->exit_code = 69;
	}
	if (su->building != NULL && su->building->why[0] != '\0')
		sd_super_event(su, SD_ON_GEN_FAILED);
	return false;
}

static void settle_generations(struct sd_super *su)
{
	struct sd_gen *next;

	if (su->live == NULL && su->loader != NULL)
		return; /* the first start: the steps are not known yet */
	if (!sd_super_stopping(su) && !settle_postgres(su))
		return;
	for (struct sd_gen *g = su->gens; g != NULL; g = next) {
		next = g->next;
		if (!sd_super_stopping(su))
			sd_gen_settle(su, g);
		if (sd_gen_collect(su, g))
			next = su->gens; /* the list changed; what was done already has nothing more to do */
	}
}

/* ---- stopping ---- */

static int64_t late_of(const struct sd_super *su, enum sd_role_kind role, int64_t now_us)
{
	switch (sd_role_tier(role)) {
	case SD_TIER_KEEPER:
		return now_us + KEEPER_DRAIN_US;
	case SD_TIER_POSTGRES:
		return now_us + POSTGRES_FAST_US;
	default:
		return su->stop_late_us > now_us ? su->stop_late_us : now_us + 1;
	}
}

static void settle_stop(struct sd_super *su)
{
	unsigned left[SD_ROLE_COUNT] = {0};
	int64_t now = sd_now_us();
	int tier;

	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		left[k->group->role]++;
	tier = sd_stop_tier(left);
	if (tier == SD_TIER_NONE) {
		su->done = true;
		ev_break(su->loop, EVBREAK_ALL);
		return;
	}
	/* While others end, whoever records how must be there. */
	if (tier <= SD_TIER_WEB && su->phase == SD_PHASE_DRAIN && su->live != NULL) {
		if (su->embedded != NULL) {
			sd_group_fill(su, &su->postgres);
			postgres_ready(su);
		}
		sd_group_fill(su, &su->live->groups[0]);
	}
	if (su->phase == SD_PHASE_FAST && tier < SD_TIER_WEB)
		tier = SD_TIER_WEB;
	if (tier == SD_TIER_KEEPER && su->deaths.n > 0 && sd_keeper_ready(su) != NULL && now < su->stop_late_us + KEEPER_DRAIN_US)
		return;
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (sd_role_tier(k->group->role) <= tier)
			sd_kid_event(k, SD_KID_WANT_DRAIN, late_of(su, k->group->role, now));
}

/* ---- health ---- */

unsigned sd_degraded_names(const struct sd_super *su, char *out, size_t outlen)
{
	const struct sd_gen *gen = su->live != NULL ? su->live : su->building;
	unsigned found = 0;
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; gen != NULL && i < gen->ngroups; i++) {
		if (!gen->groups[i].health.degraded)
			continue;
		if (n < outlen)
			n += (size_t)snprintf(out + n, outlen - n, "%s%s", found == 0 ? "; degraded: " : ", ", gen->groups[i].name);
		found++;
	}
	return found;
}

static void count_degraded(struct sd_super *su)
{
	char names[128];
	uint32_t n;

	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		if (k->state != SD_KID_READY)
			continue;
		if (sd_health_up(&k->group->health, k->ready_us, atomic_load(&sd_kid_slot(k)->jobs_done), sd_now_us()))
			sd_log(SD_LOG_INFO, "%s is no longer degraded", k->group->name);
	}
	for (const struct sd_gen *gen = su->gens; gen != NULL; gen = gen->next)
		for (size_t i = 0; i < gen->ngroups; i++)
			sd_group_show(su, &gen->groups[i]);
	n = sd_degraded_names(su, names, sizeof names);
	if (n > atomic_load(&su->sb->degraded))
		sd_log(SD_LOG_ERROR, "children die at once, starting them again is delayed%s", names);
	atomic_store(&su->sb->degraded, n);
}

/* Watched closely while something starts or stops, otherwise ten times a second. */
void sd_super_set_tick(struct sd_super *su)
{
	ev_tstamp want = su->phase == SD_PHASE_RUN ? TICK_SECONDS : FAST_TICK_SECONDS;

	if (su->tick.repeat == want)
		return;
	su->tick.repeat = want;
	ev_timer_again(su->loop, &su->tick);
}

void sd_super_settle(struct sd_super *su)
{
	struct sd_kid *keeper;

	if (su->settling)
		return;
	su->settling = true;
	settle_generations(su);
	if (sd_super_stopping(su))
		settle_stop(su);
	sd_super_handover(su);
	if (su->phase == SD_PHASE_RUN && su->reload_later && su->handover_late_us == 0) {
		su->reload_later = false;
		sd_super_event(su, SD_ON_HUP);
	}
	keeper = sd_keeper_ready(su);
	if (keeper != NULL)
		sd_deaths_send(&su->deaths, keeper->chan, keeper->pid);
	count_degraded(su);
	sd_super_set_tick(su);
	su->settling = false;
}
