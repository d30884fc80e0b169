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

static void tell(struct sd_super *su, const char *why_not)
{
	su->cgroup_told = true;
	if (su->cgroup != NULL)
		sd_log(SD_LOG_INFO, "limits of pools: in cgroups under %s", sd_cgroup_folder(su->cgroup));
	else
		sd_log(SD_LOG_INFO, "limits of pools: by looking at processes and rlimits; no cgroups: %s", why_not);
}

static void open_cgroup(struct sd_super *su, const struct sd_user *user, struct sd_err *err)
{
	su->cgroup_tried = true;
	su->cgroup = sd_cgroup_open(err);
	if (su->cgroup != NULL && user != NULL && sd_cgroup_give(su->cgroup, user->uid, user->gid, err) != 0) {
		sd_cgroup_close(su->cgroup);
		su->cgroup = NULL;
	}
}

/* Who is going to leave root does it in any case: limits may come with a reload, and it could not do it then. */
void sd_confine_prepare(struct sd_super *su, const struct sd_conf *conf, const struct sd_user *user)
{
	struct sd_err err;

	if (!has_limits(conf) && user == NULL)
		return;
	open_cgroup(su, user, &err);
	if (has_limits(conf))
		tell(su, err.message);
	else if (su->cgroup == NULL)
		su->cgroup_tried = false;
}

/* Once for each pool, not for each of its workers. */
static void warn_of_cpus(const struct sd_kid *kid, const char *why)
{
	if (!kid->group->cpus_told)
		sd_log(SD_LOG_WARN, "%s: maxCpus is not kept: %s", kid->group->name, why);
	kid->group->cpus_told = true;
}

/* The rest of the box is worth having without it. */
static void limit_cpus(const struct sd_kid *kid)
{
	struct sd_err err;

	if (kid->group->pool->max_cpus > 0 &&
	    sd_cgroup_cpus(kid->su->cgroup, kid->box, kid->group->pool->max_cpus, &err) != 0)
		warn_of_cpus(kid, err.message);
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
	struct sd_super *su = kid->su;
	struct sd_err err = {0};

	if (sd_limit_any(kid->group->pool) && !su->cgroup_told) { /* limits that came with a reload */
		if (!su->cgroup_tried)
			open_cgroup(su, NULL, &err);
		tell(su, err.message);
	}
	return su->cgroup != NULL;
}

/* The hard limit too, so that the handler does not lift it.  pid 0: our own. */
static void set_wall(pid_t pid, const struct sd_conf_pool *pool)
{
	rlim_t max = (rlim_t)sd_limit_wall(pool);
	struct rlimit wall;

	if (prlimit(pid, RLIMIT_DATA, NULL, &wall) != 0)
		return;
	wall.rlim_max = wall.rlim_max < max ? wall.rlim_max : max;
	wall.rlim_cur = wall.rlim_cur < max ? wall.rlim_cur : max;
	if (prlimit(pid, RLIMIT_DATA, &wall, NULL) != 0)
		sd_log(SD_LOG_WARN, "limiting the memory failed: %m");
}

void sd_confine(struct sd_kid *kid)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	struct sd_err err;

	if (!sd_limit_any(pool))
		return;
	if (kid->su->cgroup != NULL && put_into_box(kid, &err) != 0) {
		sd_log_err(SD_LOG_WARN, &err, "%s (pid %d): no cgroup for it: its memory is looked at, and RLIMIT_DATA", kid->name, kid->pid);
		if (pool->max_memory > 0)
			set_wall(kid->pid, pool);
	}
	if (pool->max_cpus > 0 && kid->box[0] == '\0')
		warn_of_cpus(kid, "there is no cgroup for its workers");
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
		set_wall(0, pool);
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
	kid->out_of_memory = kid->group->pool->max_memory > 0 && sd_cgroup_out_of_memory(kid->su->cgroup, kid->box);
	sd_cgroup_drop(kid->su->cgroup, kid->box);
}
