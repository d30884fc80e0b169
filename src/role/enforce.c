/*
 * Looking at the scoreboard and at what workers use, ten times a second and
 * where a deadline is due between: attempts past their deadline, past a limit
 * of their pool, or cancelled are ended; workers that did their share of jobs
 * or grew too big are replaced, gently: the new one is up before the old one is
 * asked to drain.  A keeper that hangs is told of.
 *
 * Memory and CPU time are looked at ten times a second, and only of pools that
 * limit them.  limit.h says what counts.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void look_at_attempt(struct sd_kid *kid, const struct sd_seen *seen, int64_t now_us)
{
	int reason = sd_ending_decide(&kid->ending, seen, now_us, kid->grace_us);

	if (reason == SD_SLOT_REASON_NONE || (kid->state != SD_KID_READY && kid->state != SD_KID_DRAINING))
		return;
	if (seen->job != 0)
		sd_log(SD_LOG_WARN, "%s (pid %d): job %lld %s; ending it", kid->name, kid->pid, (long long)seen->job,
		       reason == SD_SLOT_REASON_TIMEOUT ? "is past its timeout" : "was told to end (cancelled, or taken over by others) and goes on");
	else
		sd_log(SD_LOG_WARN, "%s (pid %d): an HTTP request is past its timeout; ending it", kid->name, kid->pid);
	sd_kid_end(kid, reason, seen->job);
}

/* ---- limits ---- */

#define MAX_ORPHANS 256
struct orphans {
	struct sd_orphan v[MAX_ORPHANS];
	size_t n;
	bool known;
};

static bool is_kid(const void *arg, pid_t pid)
{
	const struct sd_super *su = arg;

	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->pid == pid)
			return true;
	return false;
}

/* Told to the worker before it gets TERM: it does not measure. */
static void end_for_limit(struct sd_kid *kid, const struct sd_seen *seen, int reason)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	struct sd_slot *slot = sd_kid_slot(kid);
	bool memory = reason == SD_SLOT_REASON_MEMORY;
	char text[SD_LIMIT_TEXT], what[32] = "an HTTP request";

	kid->limit = memory ? pool->max_memory : pool->max_cpu_ms;
	kid->used = memory ? kid->meter.memory : kid->meter.cpu_us / SD_MS;
	atomic_store(&slot->ending_limit, kid->limit);
	atomic_store(&slot->ending_used, kid->used);
	atomic_store(&slot->ending_run, sd_seen_run(seen));
	atomic_store(&slot->ending, reason);
	if (seen->job != 0)
		snprintf(what, sizeof what, "job %lld", (long long)seen->job);
	sd_log(SD_LOG_WARN, "%s (pid %d): %s: %s; ending it", kid->name, kid->pid, what,
	       sd_limit_text(reason, kid->limit, kid->used, text));
	sd_kid_end(kid, reason, seen->job);
}

static bool is_worth_a_look(const struct sd_kid *kid, const struct sd_seen *seen, bool slow)
{
	const struct sd_conf_pool *pool = kid->group->pool;

	if (pool == NULL || (pool->max_memory == 0 && pool->max_cpu_ms == 0))
		return false;
	switch (kid->state) {
	case SD_KID_READY:
	case SD_KID_DRAINING:
		return slow || sd_seen_run(seen) != 0 || kid->meter.run != 0;
	case SD_KID_TERMED:
		return kid->reason == SD_SLOT_REASON_MEMORY;
	default:
		return false;
	}
}

static void look_at_limits(struct sd_kid *kid, const struct sd_seen *seen, struct orphans *orphans, bool slow)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	struct sd_usage now;
	int reason;

	if (!is_worth_a_look(kid, seen, slow))
		return;
	if (!orphans->known && kid->box[0] == '\0')
		orphans->n = sd_usage_orphans(orphans->v, MAX_ORPHANS, is_kid, kid->su);
	orphans->known = kid->box[0] == '\0' || orphans->known;
	sd_confine_usage(kid, orphans->v, orphans->n, &now);
	if (kid->state == SD_KID_TERMED) {
		if (sd_limit_wild(pool, &now))
			sd_kid_event(kid, SD_KID_LATE, 0);
		return;
	}
	reason = sd_limit_decide(&kid->meter, pool, seen, &now);
	if (reason != SD_SLOT_REASON_NONE)
		end_for_limit(kid, seen, reason);
}

/* ---- wear ---- */

static bool one_is_being_replaced(const struct sd_super *su, const struct sd_group *group)
{
	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group == group && (k->superseded || k->state == SD_KID_STARTING))
			return true;
	return false;
}

static void look_at_wear(struct sd_kid *kid, const struct sd_seen *seen, int64_t now_us, bool slow)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	int64_t rss = 0;
	bool worn = pool->max_jobs > 0 && seen->jobs_done >= (uint64_t)pool->max_jobs;
	bool old = pool->max_age_ms > 0 && now_us - kid->ready_us >= pool->max_age_ms * 1000;
	bool big;

	if (slow && pool->max_rss > 0 && (kid->group->role == SD_ROLE_WEB || sd_seen_run(seen) == 0)) /* not what a job holds for a moment */
		rss = sd_usage_resident(kid->pid, true);
	big = pool->max_rss > 0 && rss > pool->max_rss;
	if (!worn && !old && !big && !(slow && sd_limit_worn(&kid->meter, pool, seen)))
		return;
	if (one_is_being_replaced(kid->su, kid->group))
		return; /* one at a time: each costs a database connection twice over */
	kid->superseded = true;
	kid->worn = worn || old;
	if (worn)
		sd_log(SD_LOG_DEBUG, "%s (pid %d) did %llu jobs: replacing it", kid->name, kid->pid,
		       (unsigned long long)seen->jobs_done);
	else if (old)
		sd_log(SD_LOG_DEBUG, "%s (pid %d) is older than maxAge: replacing it", kid->name, kid->pid);
	else
		sd_log(SD_LOG_INFO, "%s (pid %d) holds %lld MiB, more than %s: replacing it", kid->name, kid->pid,
		       (long long)((big ? rss : kid->meter.memory) >> 20), big ? "maxRss" : "three quarters of maxMemory");
}

/* It takes no more and holds nothing: its place, and its database connection, are for the next one. */
void sd_kid_worn(struct sd_kid *kid)
{
	sd_log(SD_LOG_DEBUG, "%s (pid %d) asks to be replaced", kid->name, kid->pid);
	if (kid->state == SD_KID_READY)
		sd_kid_event(kid, SD_KID_WANT_DRAIN, 0);
}

/* ---- the keeper ---- */

/*
 * Seen late twice: after a stop of the whole machine, or of us, the beat is late in any case.  It is not replaced: whoever
 * stopped it may have meant to, and a kill would do away with what it is about to say.
 */
static void look_at_keeper(struct sd_kid *kid, int64_t now_us)
{
	int64_t beat = atomic_load(&sd_kid_slot(kid)->beat_us), lease_ms = kid->group->gen->conf->database_lease_ms;
	bool late = beat > 0 && beat < now_us - lease_ms * SD_MS;

	if (late && kid->quiet && !kid->silent) {
		kid->silent = true;
		sd_log(SD_LOG_WARN, "%s (pid %d) gave no sign of life for %lld s, which is longer than database.lease: other nodes may take over"
		       " what runs here; if it is stopped, continue it, and if it hangs, kill it (-9): another one is started",
		       kid->name, kid->pid, (long long)((now_us - beat) / SD_SEC));
	} else if (!late && kid->silent) {
		kid->silent = false;
		sd_log(SD_LOG_INFO, "%s (pid %d) is alive again", kid->name, kid->pid);
	}
	kid->quiet = late;
}

/* When to look at this attempt's deadline; it has to be seen past it twice (decide.h). */
static int64_t look_again_us(const struct sd_kid *kid, const struct sd_seen *seen, int64_t now_us)
{
	if (sd_seen_run(seen) == 0 || seen->deadline_us <= 0 || (kid->state != SD_KID_READY && kid->state != SD_KID_DRAINING))
		return INT64_MAX;
	return (seen->deadline_us < now_us ? now_us : seen->deadline_us) + SD_MS;
}

/* The next tick is soon enough for those that are not due before it. */
static void watch_deadline(struct sd_super *su, int64_t at_us, int64_t now_us)
{
	ev_timer_stop(su->loop, &su->deadline);
	if (at_us == INT64_MAX || (double)(at_us - now_us) / SD_SEC > ev_timer_remaining(su->loop, &su->tick))
		return;
	ev_timer_set(&su->deadline, (double)(at_us - now_us) / SD_SEC, 0.);
	ev_timer_start(su->loop, &su->deadline);
}

void sd_enforce(struct sd_super *su, int64_t now_us, bool slow)
{
	struct orphans orphans = {.known = false};
	int64_t again_us = INT64_MAX, at_us;

	if (slow && su->cgroup != NULL)
		sd_cgroup_sweep(su->cgroup);
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		struct sd_seen seen;

		if (k->group->role == SD_ROLE_KEEPER && slow && k->state == SD_KID_READY)
			look_at_keeper(k, now_us);
		if (!sd_roles[k->group->role].holds_jobs)
			continue;
		sd_slot_look(sd_kid_slot(k), now_us, &seen);
		look_at_attempt(k, &seen, now_us);
		at_us = look_again_us(k, &seen, now_us);
		again_us = at_us < again_us ? at_us : again_us;
		look_at_limits(k, &seen, &orphans, slow);
		if (k->state == SD_KID_READY && !k->superseded && k->group->gen->state == SD_GEN_LIVE && !sd_super_stopping(su))
			look_at_wear(k, &seen, now_us, slow);
	}
	watch_deadline(su, again_us, now_us);
}
