/*
 * Pools that grow and shrink: what is known of a group, for the decision in
 * size.h, and what follows from it.  Who goes is drained as in a reload: it
 * takes nothing more, finishes what it runs, gives back what it holds, and
 * leaves.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <string.h>

void sd_group_demand(struct sd_super *su, const struct sd_msg_demand *d)
{
	for (struct sd_gen *gen = su->gens; gen != NULL; gen = gen->next)
		for (size_t i = 0; i < gen->ngroups; i++)
			if (gen->groups[i].number >= 0 && gen->groups[i].number == d->group && d->waiting > 0)
				gen->groups[i].waiting = (unsigned)d->waiting;
}

void sd_group_show(struct sd_super *su, const struct sd_group *group)
{
	struct sd_slot_group *show;

	if (group->number < 0)
		return;
	show = &su->sb->group[group->number];
	atomic_store(&show->min, group->pool->min);
	atomic_store(&show->max, group->pool->max);
	atomic_store(&show->want, (int32_t)group->want);
	atomic_store(&show->degraded, group->health.degraded);
	atomic_store(&show->retry_us, group->health.not_before_us);
}

/* A reload does not take away the workers that work had brought. */
unsigned sd_group_first_want(const struct sd_super *su, const struct sd_conf_pool *pool)
{
	unsigned want = (unsigned)pool->min;

	if (su->live == NULL)
		return want;
	for (size_t i = 0; i < su->live->ngroups; i++) {
		const struct sd_group *old = &su->live->groups[i];

		if (old->pool != NULL && strcmp(old->pool->name, pool->name) == 0 && old->want > want)
			want = old->want;
	}
	return want < (unsigned)pool->max ? want : (unsigned)pool->max;
}

/* Who claims is idle if nothing came of that lately: with quick jobs a worker claims nearly all the time. */
static bool is_idle(const struct sd_kid *kid, const struct sd_slot *slot, bool ran)
{
	uint32_t sleep = atomic_load(&slot->asleep);

	if (kid->group->role == SD_ROLE_WEB)
		return !atomic_load(&slot->serving);
	return (sleep == SD_ASLEEP || (sleep == SD_CLAIMING && !ran)) && atomic_load(&slot->job) == 0;
}

/* Is it idle, and since when?  Between two looks it may have run many jobs. */
static void look(struct sd_super *su, struct sd_kid *kid, bool *worked, int64_t now_us)
{
	const struct sd_slot *slot = sd_kid_slot(kid);
	uint64_t done = atomic_load(&slot->jobs_done);
	bool idle = is_idle(kid, slot, done != kid->jobs_seen);

	if (done != kid->jobs_seen)
		kid->idle_us = 0;
	*worked |= !idle || done != kid->jobs_seen;
	kid->jobs_seen = done;
	if (!idle)
		kid->idle_us = 0;
	else if (kid->idle_us == 0)
		kid->idle_us = now_us;
}

static void look_at_all(struct sd_super *su, const struct sd_group *group, struct sd_size_seen *seen, int64_t now_us)
{
	*seen = (struct sd_size_seen){
		.min = (unsigned)group->pool->min,
		.max = (unsigned)group->pool->max,
		.idle_us = group->pool->idle_ms * SD_MS,
		.want = group->want,
		.waiting = group->waiting,
	};
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		if (k->group != group || !sd_kid_present(k))
			continue;
		if (k->state != SD_KID_READY) {
			seen->starting++;
			continue;
		}
		look(su, k, &seen->worked, now_us);
		seen->ready++;
		seen->idle += k->idle_us != 0;
		seen->idle_long += k->idle_us != 0 && now_us - k->idle_us >= seen->idle_us;
	}
}

static struct sd_kid *longest_idle(const struct sd_super *su, const struct sd_group *group)
{
	struct sd_kid *found = NULL;

	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group == group && sd_kid_present(k) && k->state == SD_KID_READY && k->idle_us != 0 &&
		    (found == NULL || k->idle_us < found->idle_us))
			found = k;
	return found;
}

void sd_group_resize(struct sd_super *su, struct sd_group *group)
{
	struct sd_size_seen seen;
	struct sd_kid *kid;
	int64_t now = sd_now_us();
	unsigned want;

	if (group->pool == NULL || group->pool->min == group->pool->max)
		return;
	look_at_all(su, group, &seen, now);
	want = sd_size_decide(&group->size, &seen, now);
	group->waiting = 0;
	if (want == group->want)
		return;
	sd_log(SD_LOG_DEBUG, "%s: from %u to %u processes", group->name, group->want, want);
	for (; group->want > want && (kid = longest_idle(su, group)) != NULL; group->want--)
		sd_kid_event(kid, SD_KID_WANT_DRAIN, 0);
	if (group->want < want)
		group->want = want;
	sd_group_show(su, group);
}
