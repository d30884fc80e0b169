/*
 * A child's death: what it died of, whom it takes with it, and who is told.
 *
 * A dead child is looked at before it is reaped (WNOWAIT): while it is a
 * zombie its pid, and so its process group, cannot belong to anyone else, and
 * what its handlers started can be killed with it.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

/*
 * Which job, if any, is the death's, and why.
 *   - Ended for a job's sake: that one, even when its handler has returned
 *     meanwhile and the worker did not come to tell (had it told, SQL finds it
 *     gone); what has started since is given back, not blamed.
 *   - The daemon took its time away: what ran is given back.
 *   - By itself: what ran; when nothing ran, the last one, in case its outcome
 *     was never told.  Or a job that ruins its worker as it ends would run
 *     again for ever.  KILL comes from outside, though: from somebody, or for
 *     want of memory.
 */
static void blame(const struct sd_kid *kid, const struct sd_seen *seen, bool signaled, struct sd_msg_death *d)
{
	if (kid->reason != SD_SLOT_REASON_NONE) {
		d->job = seen->job == 0 || seen->job == kid->reason_job ? kid->reason_job : 0;
		d->reason = d->job != 0 ? kid->reason : SD_SLOT_REASON_NONE;
	} else if (kid->state >= SD_KID_TERMED && atomic_load(&sd_kid_slot(kid)->state) == SD_SLOT_DRAINING) {
		d->job = 0;
		d->reason = SD_SLOT_REASON_STOP;
	} else if (seen->job == 0 && (signaled || !kid->asked)) {
		d->job = seen->last_job;
		d->ended = d->signal == SIGKILL && !kid->out_of_memory;
	}
}

/* Which limit, if one was passed; also when it was faster than we look and met the wall: the kernel says so, or its peak. */
static void blame_limit(const struct sd_kid *kid, const struct sd_seen *seen, struct sd_msg_death *d)
{
	const struct sd_conf_pool *pool = kid->group->pool;

	d->limit = kid->limit;
	d->used = kid->used;
	if (d->reason != SD_SLOT_REASON_NONE || d->signal == 0 || pool == NULL || d->job != seen->job)
		return;
	if (kid->out_of_memory)
		d->used = sd_limit_wall(pool);
	else if (kid->box[0] == '\0' && sd_limit_killed(&kid->meter, pool, seen, d->max_rss_kb * 1024))
		d->used = d->max_rss_kb * 1024;
	else
		return;
	d->reason = SD_SLOT_REASON_MEMORY;
	d->limit = pool->max_memory;
}

static void describe_death(const struct sd_kid *kid, int status, const struct rusage *ru, const struct sd_seen *seen,
			   int64_t now_us, struct sd_msg_death *d)
{
	*d = (struct sd_msg_death){
		.slot = kid->slot,
		.generation = kid->slot_generation,
		.node_id = atomic_load(&kid->su->sb->node_id),
		.pid = kid->pid,
		.backend = atomic_load(&sd_kid_slot(kid)->backend),
		.job = seen->job,
		.attempt = seen->attempt,
		.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		.started_us = seen->started_us,
		.died_us = now_us,
		.max_rss_kb = ru->ru_maxrss,
		.cpu_ms = (int64_t)(ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000 +
			  (ru->ru_utime.tv_usec + ru->ru_stime.tv_usec) / 1000,
	};
	blame(kid, seen, WIFSIGNALED(status), d);
	blame_limit(kid, seen, d);
	sd_limit_correct(d->reason, d->used, &d->max_rss_kb, &d->cpu_ms);
}

static void log_death(const struct sd_kid *kid, int status, const struct sd_seen *seen, const struct sd_msg_death *d)
{
	char how[96], job[112] = "";
	enum sd_loglevel level = SD_LOG_WARN;

	if (WIFSIGNALED(status))
		snprintf(how, sizeof how, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof how, "ended with exit code %d", WEXITSTATUS(status));
	if (seen->job != 0)
		snprintf(job, sizeof job, " while running job %lld (attempt %d)", (long long)seen->job, seen->attempt);
	else if (kid->reason_job != 0)
		snprintf(job, sizeof job, " after job %lld, for whose sake it was asked to", (long long)kid->reason_job);
	else if (seen->request != 0)
		snprintf(job, sizeof job, " while running an HTTP request");
	if (kid->asked && (status == 0 || sd_super_stopping(kid->su)) && seen->job == 0)
		level = SD_LOG_DEBUG;
	sd_log(level, "%s (pid %d) %s%s%s; %lld ms CPU, %lld KiB at most", kid->name, kid->pid, how, job,
	       seen->job != 0 && d->job == 0 ? ", which is given back" : "", (long long)d->cpu_ms, (long long)d->max_rss_kb);
}

/* What a web worker ran has no job yet: the http process that waits for it makes one. */
static void tell_http(const struct sd_kid *kid, const struct sd_msg_death *death)
{
	struct sd_msg msg = {.type = SD_MSG_DEATH, .death = *death};
	struct sd_err err;

	if (kid->reason != SD_SLOT_REASON_NONE)
		msg.death.reason = kid->reason;
	for (const struct sd_kid *k = kid->su->kids; k != NULL; k = k->next)
		if (k->group->role == SD_ROLE_HTTP && sd_chan_send(k->chan, &msg, &err) != 0)
			sd_log_err(SD_LOG_DEBUG, &err, "telling %s of a death", k->name); /* it goes without */
}

static void bury(struct sd_kid *kid, int status, const struct rusage *ru)
{
	struct sd_super *su = kid->su;
	struct sd_group *group = kid->group;
	int64_t now = sd_now_us();
	struct sd_seen seen;
	struct sd_msg_death death;
	int64_t run;
	bool clean;

	sd_kid_hear(kid); /* its last words */
	sd_slot_look(sd_kid_slot(kid), now, &seen);
	sd_confine_dead(kid);
	describe_death(kid, status, ru, &seen, now, &death);
	run = seen.job != 0 ? seen.job : (int64_t)seen.request;
	/* One that drained has given everything back, but it may have been without its database: told all the same, unless
	 * the whole node is leaving. */
	clean = WIFEXITED(status) && WEXITSTATUS(status) == 0 && seen.job == 0 && kid->asked && sd_super_stopping(su);
	log_death(kid, status, &seen, &death);
	if (!clean && sd_roles[group->role].holds_jobs)
		sd_deaths_add(&su->deaths, &death);
	if (group->role == SD_ROLE_WEB)
		tell_http(kid, &death);
	if (!kid->asked && group->number >= 0)
		atomic_fetch_add(&su->sb->group[group->number].deaths, 1);
	if (death.job != 0 && group->number >= 0)
		atomic_store(&su->sb->group[group->number].died_us, now);
	sd_health_died(&group->health,
		       &(struct sd_life){kid->spawned_us, kid->ready_us, run, seen.jobs_done, kid->asked}, now);
	sd_kid_free(kid);
}

static struct sd_kid *kid_of_pid(const struct sd_super *su, pid_t pid)
{
	struct sd_kid *k = su->kids;

	while (k != NULL && k->pid != pid)
		k = k->next;
	return k;
}

void sd_kids_reap(struct sd_super *su)
{
	for (;;) {
		siginfo_t info = {.si_pid = 0};
		struct rusage ru;
		struct sd_kid *kid;
		int status;
		pid_t pid;

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
			return;
		pid = info.si_pid;
		kid = kid_of_pid(su, pid);
		if (kid != NULL || (su->loader != NULL && sd_loader_pid(su->loader) == pid))
			kill(-pid, SIGKILL);
		if (wait4(pid, &status, 0, &ru) != pid)
			return;
		if (kid != NULL)
			bury(kid, status, &ru);
		else if (su->loader != NULL && sd_loader_pid(su->loader) == pid)
			sd_loader_reaped(su->loader, status);
	}
}
