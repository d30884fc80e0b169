/*
 * Pools with limits and the kernel: each of their workers gets a cgroup of its
 * own where we may make one.  There the kernel counts everything that a handler
 * starts, even what left the process group, and kills all of it when it reaches
 * the wall (limit.h) before we have looked.  Without cgroups each process of
 * such a worker gets the wall as RLIMIT_DATA, and we count ourselves.
 *
 * The supervisor puts it there right behind the fork, so that it knows how it
 * went: the child has connected to nothing yet, and run no step.
 */
#include "base/log.h"
#include "proc/user.h"
#include "role/super.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static bool has_limits(const struct sd_conf *conf)
{
	for (size_t i = 0; i < conf->npools; i++)
		if (sd_limit_any(&conf->pools[i]))
			return true;
	return false;
}

static void open_cgroup(struct sd_super *su, const struct sd_user *user)
{
	struct sd_err err;

	su->cgroup_tried = true;
	su->cgroup = sd_cgroup_open(&err);
	if (su->cgroup != NULL && user != NULL && sd_cgroup_give(su->cgroup, user->uid, user->gid, &err) != 0) {
		sd_cgroup_close(su->cgroup);
		su->cgroup = NULL;
	}
	if (su->cgroup != NULL)
		sd_log(SD_LOG_INFO, "limits of pools: in cgroups under %s", sd_cgroup_folder(su->cgroup));
	else
		sd_log(SD_LOG_INFO, "limits of pools: by looking at processes and rlimits; no cgroups: %s", err.message);
}

void sd_confine_prepare(struct sd_super *su, const struct sd_conf *conf, const struct sd_user *user)
{
	if (has_limits(conf))
		open_cgroup(su, user);
}

/* The rest of the box is worth having without it. */
static void limit_cpus(const struct sd_kid *kid)
{
	struct sd_err err;

	if (kid->group->pool->max_cpus > 0 &&
	    sd_cgroup_cpus(kid->su->cgroup, kid->box, kid->group->pool->max_cpus, &err) != 0)
		sd_log_err(SD_LOG_WARN, &err, "%s (pid %d): maxCpus is not kept", kid->name, kid->pid);
}

static int put_into_box(struct sd_kid *kid, struct sd_err *err)
{
	struct sd_cgroup *c = kid->su->cgroup;

	snprintf(kid->box, sizeof kid->box, "worker-%u-%u", kid->slot, kid->slot_generation);
	if (sd_cgroup_box(c, kid->box, sd_limit_wall(kid->group->pool), err) == 0) {
		limit_cpus(kid);
		if (sd_cgroup_enter(c, kid->box, kid->pid, err) == 0)
			return 0;
		sd_cgroup_drop(c, kid->box);
	}
	kid->box[0] = '\0';
	return -1;
}

bool sd_confine_in_cgroups(const struct sd_kid *kid)
{
	if (sd_limit_any(kid->group->pool) && !kid->su->cgroup_tried) /* limits that came with a reload */
		open_cgroup(kid->su, NULL);
	return kid->su->cgroup != NULL;
}

void sd_confine(struct sd_kid *kid)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	struct sd_err err;

	if (!sd_limit_any(pool))
		return;
	if (kid->su->cgroup != NULL && put_into_box(kid, &err) != 0)
		sd_log_err(SD_LOG_WARN, &err, "%s (pid %d): no cgroup for it: its memory is only looked at", kid->name, kid->pid);
	if (pool->max_cpus > 0 && kid->box[0] == '\0')
		sd_log(SD_LOG_WARN, "%s (pid %d): maxCpus is not kept: there is no cgroup for it", kid->name, kid->pid);
}

/* The hard limit too, so that the handler does not lift it. */
static void set_wall(rlim_t max)
{
	struct rlimit wall;

	if (getrlimit(RLIMIT_DATA, &wall) != 0)
		return;
	wall.rlim_max = wall.rlim_max < max ? wall.rlim_max : max;
	wall.rlim_cur = wall.rlim_cur < max ? wall.rlim_cur : max;
	if (setrlimit(RLIMIT_DATA, &wall) != 0)
		sd_log(SD_LOG_WARN, "limiting the memory failed: %m");
}

/*
 * Who left root is not to be looked into by its equals, and that is inherited.  But without a look at which pages its
 * processes share, those that a handler forks count in full.
 */
void sd_confine_self(const struct sd_conf_pool *pool, bool cgroups)
{
	if (pool->max_memory == 0)
		return;
	prctl(PR_SET_DUMPABLE, 1);
	if (!cgroups)
		set_wall((rlim_t)sd_limit_wall(pool));
}

void sd_confine_usage(struct sd_kid *kid, const struct sd_orphan *orphans, size_t n, struct sd_usage *out)
{
	const struct sd_conf_pool *pool = kid->group->pool;

	if (kid->box[0] != '\0' && sd_cgroup_usage(kid->su->cgroup, kid->box, out))
		return;
	sd_usage_of(kid->pid, orphans, n, pool->max_memory > 0, sd_limit_worth(&kid->meter, pool), out);
	sd_limit_estimate(&kid->meter, out);
}

void sd_confine_dead(struct sd_kid *kid)
{
	if (kid->box[0] == '\0')
		return;
	kid->out_of_memory = sd_cgroup_out_of_memory(kid->su->cgroup, kid->box);
	sd_cgroup_drop(kid->su->cgroup, kid->box);
}
