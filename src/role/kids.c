/*
 * One child from the supervisor's side: its start, what it says, the ladder by
 * which it is asked and then made to go, and its death.
 *
 * A dead child is looked at before it is reaped (WNOWAIT): while it is a
 * zombie its pid, and so its process group, cannot belong to anyone else, and
 * what its handlers started can be killed with it.
 */
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "proc/spawn.h"
#include "role/setup.h"
#include "role/super.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define POSTGRES_QUIT_US (10 * SD_SEC) /* SIGQUIT → SIGKILL */

/* ---- looking ---- */

bool sd_kid_present(const struct sd_kid *kid)
{
	return (kid->state == SD_KID_STARTING || kid->state == SD_KID_READY) && !kid->superseded;
}

unsigned sd_kids_count(const struct sd_super *su, const struct sd_group *group, bool ready_only)
{
	unsigned n = 0;

	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group == group && sd_kid_present(k) && (!ready_only || k->state == SD_KID_READY))
			n++;
	return n;
}

struct sd_kid *sd_keeper_ready(const struct sd_super *su)
{
	struct sd_kid *found = NULL;

	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		if (k->group->role != SD_ROLE_KEEPER || k->state != SD_KID_READY || k->chan < 0)
			continue;
		if (found == NULL || k->group->gen == su->live)
			found = k;
	}
	return found;
}

static struct sd_slot *slot_of(const struct sd_kid *kid)
{
	return &kid->su->sb->slot[kid->slot];
}

/* ---- what it says ---- */

static void note_ready(struct sd_kid *kid)
{
	kid->ready_us = sd_now_us();
	atomic_store(&slot_of(kid)->state, SD_SLOT_READY);
	sd_log(SD_LOG_DEBUG, "%s (pid %d) is ready", kid->name, kid->pid);
}

static void note_failed(struct sd_kid *kid, const struct sd_msg *msg)
{
	struct sd_gen *gen = kid->group->gen;
	bool first = gen != NULL ? gen->why[0] == '\0' : kid->su->building != NULL;

	sd_log(SD_LOG_ERROR, "%s (pid %d) cannot start: %s", kid->name, kid->pid, msg->text);
	if (gen == NULL)
		gen = kid->su->building; /* postgres: the generation that waits for it */
	if (gen == NULL || !first || gen->state == SD_GEN_LIVE || gen->state == SD_GEN_RETIRING ||
	    !sd_roles[kid->group->role].vital_at_start)
		return;
	snprintf(gen->why, sizeof gen->why, "%s: %s", kid->name, msg->text);
	gen->exit_code = msg->exit_code > 0 && msg->exit_code < 256 ? msg->exit_code : 1;
}

static void on_message(struct sd_kid *kid, struct sd_msg *msg)
{
	struct sd_kid_step step;

	if (msg->type == SD_MSG_FAILED || msg->type == SD_MSG_STATUS) {
		msg->text[sizeof msg->text - 1] = '\0';
		sd_notify_line(msg->text);
	}
	switch (msg->type) {
	case SD_MSG_READY:
		sd_kid_event(kid, SD_KID_SAYS_READY, 0);
		break;
	case SD_MSG_FAILED:
		step = sd_kid_decide(kid->state, SD_KID_SAYS_FAILED);
		kid->state = step.next;
		if (step.action == SD_KID_NOTE_FAILED)
			note_failed(kid, msg);
		break;
	case SD_MSG_DEATH_ACK:
		if (kid->group->role == SD_ROLE_KEEPER)
			sd_deaths_ack(&kid->su->deaths, msg->serial);
		break;
	case SD_MSG_DEMAND:
		sd_group_demand(kid->su, &msg->demand);
		break;
	case SD_MSG_CLOSED:
		kid->closed = true;
		break;
	case SD_MSG_STATUS:
		sd_log(SD_LOG_DEBUG, "%s: %s", kid->name, msg->text);
		if (kid->su->phase == SD_PHASE_START)
			sd_notify_say(&kid->su->notify, "STATUS=%s: %s\n", kid->name, msg->text);
		break;
	default:
		sd_log(SD_LOG_ERROR, "%s (pid %d) sent a message of unknown type %u; ending it", kid->name, kid->pid, msg->type);
		sd_kid_event(kid, SD_KID_WANT_END, 0);
	}
}

static void close_channel(struct sd_kid *kid)
{
	ev_io_stop(kid->su->loop, &kid->io);
	sd_close(&kid->chan);
}

/* At most so many at a time: a child that floods its channel must not starve the others. */
static void read_channel(struct sd_kid *kid)
{
	struct sd_msg msg;
	struct sd_err err;

	for (int i = 0; i < 64 && kid->chan >= 0; i++) {
		int rc = sd_chan_recv(kid->chan, &msg, &err);

		if (rc == 0)
			return;
		if (rc > 0) {
			on_message(kid, &msg);
			continue;
		}
		if (err.errnum == 0 && err.class == SD_ERR_BUG) {
			sd_log_err(SD_LOG_ERROR, &err, "%s (pid %d) broke the channel's protocol; ending it", kid->name, kid->pid);
			sd_kid_event(kid, SD_KID_WANT_END, 0);
		}
		close_channel(kid); /* it died, or it executed another program, as postgres does */
	}
}

static void on_channel(struct ev_loop *loop, ev_io *w, int events)
{
	struct sd_kid *kid = w->data;
	struct sd_super *su = kid->su;

	(void)loop, (void)events;
	read_channel(kid);
	sd_super_settle(su);
}

/* ---- the ladder ---- */

static void send_signal(struct sd_kid *kid, int sig)
{
	bool postgres = kid->group->role == SD_ROLE_POSTGRES;

	if (postgres && sig == SIGTERM)
		sig = SIGQUIT; /* the postmaster's TERM waits for its clients */
	if (kill(postgres ? kid->pid : -kid->pid, sig) != 0 && errno != ESRCH)
		sd_log(SD_LOG_ERROR, "cannot send signal %d to %s (pid %d): %s", sig, kid->name, kid->pid, strerror(errno));
}

static void send_drain(struct sd_kid *kid)
{
	struct sd_msg msg = {.type = SD_MSG_DRAIN};
	struct sd_err err;

	atomic_store(&slot_of(kid)->state, SD_SLOT_DRAINING);
	if (kid->group->role == SD_ROLE_POSTGRES) {
		send_signal(kid, SIGINT); /* fast shutdown */
		return;
	}
	if (kid->chan >= 0 && sd_chan_send(kid->chan, &msg, &err) == 0)
		return;
	kid->late_us = sd_now_us(); /* it does not listen */
}

void sd_kid_event(struct sd_kid *kid, enum sd_kid_event event, int64_t late_us)
{
	struct sd_kid_step step = sd_kid_decide(kid->state, event);

	kid->state = step.next;
	switch (step.action) {
	case SD_KID_NOTE_READY:
		note_ready(kid);
		break;
	case SD_KID_SEND_DRAIN:
		kid->asked = true;
		kid->late_us = late_us;
		send_drain(kid);
		break;
	case SD_KID_SEND_TERM:
		kid->asked = true;
		kid->late_us = kid->killable_us = sd_now_us() + kid->grace_us;
		send_signal(kid, SIGTERM);
		break;
	case SD_KID_SEND_KILL:
		kid->late_us = sd_now_us() + SD_SEC;
		sd_log(SD_LOG_WARN, "%s (pid %d) did not end %s: KILL", kid->name, kid->pid,
		       sd_now_us() < kid->killable_us ? "and takes ever more memory" : "within stop.killGrace of TERM");
		send_signal(kid, SIGKILL);
		break;
	case SD_KID_NOTE_FAILED: /* comes with a message: on_message */
	case SD_KID_NOTHING:
		break;
	}
}

void sd_kid_end(struct sd_kid *kid, int reason, int64_t job)
{
	kid->reason = reason;
	kid->reason_job = job;
	sd_kid_event(kid, SD_KID_WANT_END, 0);
}

void sd_kids_late(struct sd_super *su, int64_t now_us)
{
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->late_us != 0 && k->late_us <= now_us)
			sd_kid_event(k, SD_KID_LATE, 0);
}

/* ---- start ---- */

static int free_slot(const struct sd_super *su)
{
	for (uint32_t i = 0; i < su->sb->nslots; i++)
		if (su->kid_of_slot[i] == NULL)
			return (int)i;
	return -1;
}

static void fill_slot(struct sd_kid *kid)
{
	struct sd_slot *slot = slot_of(kid);
	const struct sd_gen *gen = kid->group->gen;

	kid->slot_generation = sd_slot_renew(slot);
	atomic_store(&slot->pid, 0);
	atomic_store(&slot->role, (int32_t)kid->group->role);
	atomic_store(&slot->pool, kid->group->pool_index);
	atomic_store(&slot->group, kid->group->number);
	atomic_store(&slot->index, kid->index);
	atomic_store(&slot->conf_generation, gen != NULL ? (int32_t)gen->number : 0);
	atomic_store(&slot->spawned_us, kid->spawned_us);
	atomic_store(&slot->state, SD_SLOT_STARTING);
}

struct birth {
	struct sd_child child;
	const struct sd_user *user; /* of its pool; NULL: none is set */
	bool cgroups; /* it is put into one, if it has limits */
	bool own_log; /* of a generation whose logging the supervisor has not taken over yet */
};

/* What its pool adds to the environment; nothing of that is ever logged. */
static void set_environment(const struct sd_conf_pool *pool, const struct sd_user *user)
{
	if (user != NULL) {
		setenv("USER", user->name, 1);
		setenv("LOGNAME", user->name, 1);
		setenv("HOME", user->home, 1);
	}
	for (size_t i = 0; i < pool->environment.n; i++)
		putenv((char *)pool->environment.v[i]);
}

static _Noreturn void enter_role(void *arg)
{
	struct birth *birth = arg;
	struct sd_err err;

	if (birth->own_log && sd_setup_log(birth->child.conf, NULL, &err) != 0)
		sd_log_err(SD_LOG_ERROR, &err, "the log stays as it is");
	if (birth->child.pool != NULL)
		set_environment(birth->child.pool, birth->user);
	if (birth->child.pool != NULL && birth->child.pool->nice > 0) {
		errno = 0;
		if (nice(birth->child.pool->nice) == -1 && errno != 0)
			sd_log(SD_LOG_WARN, "setting the nice value failed: %m");
	}
	if (birth->child.pool != NULL)
		sd_confine_self(birth->child.pool, birth->cgroups);
	sd_roles[birth->child.role].main(&birth->child);
}

static void describe_child(const struct sd_kid *kid, int chan, struct sd_child *c)
{
	const struct sd_super *su = kid->su;
	const struct sd_gen *gen = kid->group->gen;
	bool http = kid->group->role == SD_ROLE_HTTP, web = kid->group->role == SD_ROLE_WEB;

	*c = (struct sd_child){
		.role = kid->group->role,
		.scoreboard = su->sb,
		.slot = slot_of(kid),
		.slot_index = kid->slot,
		.slot_generation = kid->slot_generation,
		.pool = kid->group->pool,
		.chan = chan,
		.wake = &su->wake,
		.http_listen = -1,
		.admin_listen = -1,
		.tls_cert = -1,
		.tls_key = -1,
		.web_listen = -1,
		.boot_id = su->boot_id,
		.embedded = su->embedded,
	};
	if (gen == NULL)
		return;
	c->conf = gen->conf;
	c->conninfo = su->embedded != NULL ? su->embedded->conninfo : gen->conf->database_url;
	c->manifest = gen->manifest;
	c->manifest_len = gen->manifest_len;
	c->users = gen->users;
	if (http && gen->http != NULL)
		c->http_listen = gen->http->fd;
	if (http && gen->admin != NULL)
		c->admin_listen = gen->admin->fd;
	if (http && gen->conf->http.tls_cert != NULL && gen->conf->http.tls_key != NULL) {
		c->tls_cert = open(gen->conf->http.tls_cert, O_RDONLY | O_CLOEXEC);
		c->tls_key = open(gen->conf->http.tls_key, O_RDONLY | O_CLOEXEC);
	}
	if (http || web)
		c->web_listen = gen->web_listen;
}

static pid_t fork_kid(const struct sd_kid *kid, int chan, struct sd_err *err)
{
	const struct sd_super *su = kid->su;
	const struct sd_gen *gen = kid->group->gen;
	struct birth birth = {.own_log = gen != NULL && su->live != NULL && gen != kid->su->live};
	pid_t pid;

	describe_child(kid, chan, &birth.child);
	birth.cgroups = sd_confine_in_cgroups(kid);
	if (kid->group->pool != NULL && kid->group->pool->user != NULL)
		birth.user = &gen->users[kid->group->pool_index];
	struct sd_spawn spawn = {
		.title = kid->name,
		.comm = sd_roles[birth.child.role].comm,
		.keep = {chan, birth.child.http_listen, birth.child.admin_listen, birth.child.web_listen, birth.child.tls_cert,
			 birth.child.tls_key},
		.nkeep = 6,
		.user = birth.user != NULL && geteuid() == 0 ? birth.user : su->child_user,
		.drop = sd_super_drop,
		.drop_arg = kid->su,
		.main = enter_role,
		.main_arg = &birth,
	};
	if (birth.child.role == SD_ROLE_WORKER || birth.child.role == SD_ROLE_KEEPER)
		for (int i = 0; i < SD_GROUPS; i++)
			spawn.keep[spawn.nkeep++] = su->wake.fd[i];
	pid = sd_spawn(&spawn, err);
	sd_close(&birth.child.tls_cert);
	sd_close(&birth.child.tls_key);
	return pid;
}

static void free_kid(struct sd_kid *kid)
{
	close_channel(kid);
	atomic_store(&slot_of(kid)->state, SD_SLOT_FREE);
	atomic_store(&slot_of(kid)->asleep, 0);
	atomic_store(&slot_of(kid)->pid, 0);
	kid->su->kid_of_slot[kid->slot] = NULL;
	free(kid);
}

/* NULL when it could not be started; the group's health knows. */
struct sd_kid *sd_kid_start(struct sd_super *su, struct sd_group *group, int index)
{
	struct sd_life stillborn = {.spawned_us = sd_now_us()};
	struct sd_kid *kid = sd_xcalloc(1, sizeof *kid);
	struct sd_err err;
	int slot = free_slot(su), chan[2] = {-1, -1};

	if (slot < 0) {
		sd_log(SD_LOG_ERROR, "cannot start %s: all %u slots of the scoreboard are in use", group->name, su->sb->nslots);
		free(kid);
		sd_health_died(&group->health, &stillborn, sd_now_us());
		return NULL;
	}
	*kid = (struct sd_kid){.su = su, .group = group, .index = index, .slot = (uint32_t)slot, .chan = -1,
			       .state = SD_KID_STARTING, .spawned_us = stillborn.spawned_us};
	kid->grace_us = group->gen != NULL ? group->gen->conf->kill_grace_ms * SD_MS : POSTGRES_QUIT_US;
	if (group->pool != NULL)
		snprintf(kid->name, sizeof kid->name, "%s/%d", group->name, index);
	else
		snprintf(kid->name, sizeof kid->name, "%s", group->name);
	ev_init(&kid->io, on_channel);
	kid->io.data = kid;
	su->kid_of_slot[slot] = kid;
	fill_slot(kid);
	if (sd_chan_pair(chan, &err) == 0)
		kid->pid = fork_kid(kid, chan[1], &err);
	else
		kid->pid = -1;
	kid->chan = chan[0];
	sd_close(&chan[1]);
	if (kid->pid < 0) {
		sd_log_err(SD_LOG_ERROR, &err, "cannot start %s", kid->name);
		free_kid(kid);
		sd_health_died(&group->health, &stillborn, sd_now_us());
		return NULL;
	}
	sd_confine(kid);
	atomic_store(&slot_of(kid)->pid, kid->pid);
	ev_io_set(&kid->io, kid->chan, EV_READ);
	ev_io_start(su->loop, &kid->io);
	kid->next = su->kids;
	su->kids = kid;
	sd_log(SD_LOG_DEBUG, "%s started, pid %d", kid->name, kid->pid);
	return kid;
}

/* ---- death ---- */

/*
 * Which job, if any, is the death's, and why.
 *   - Ended for a job's sake: that one, even when its handler has returned
 *     meanwhile and the worker did not come to tell (had it told, SQL finds it
 *     gone); what has started since is given back, not blamed.
 *   - The daemon took its time away: what ran is given back.
 *   - By itself: what ran; when nothing ran, the last one, in case its outcome
 *     was never told.  Or a job that ruins its worker as it ends would run
 *     again for ever.
 */
static void blame(const struct sd_kid *kid, const struct sd_seen *seen, bool signaled, struct sd_msg_death *d)
{
	if (kid->reason != SD_SLOT_REASON_NONE) {
		d->job = seen->job == 0 || seen->job == kid->reason_job ? kid->reason_job : 0;
		d->reason = d->job != 0 ? kid->reason : SD_SLOT_REASON_NONE;
	} else if (kid->state >= SD_KID_TERMED && atomic_load(&slot_of(kid)->state) == SD_SLOT_DRAINING) {
		d->job = 0;
		d->reason = SD_SLOT_REASON_STOP;
	} else if (seen->job == 0 && (signaled || !kid->asked)) {
		d->job = seen->last_job;
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
		.backend = atomic_load(&slot_of(kid)->backend),
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

	read_channel(kid); /* its last words */
	sd_slot_look(slot_of(kid), now, &seen);
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
	sd_health_died(&group->health,
		       &(struct sd_life){kid->spawned_us, kid->ready_us, run, seen.jobs_done, kid->asked}, now);
	for (struct sd_kid **p = &su->kids; *p != NULL; p = &(*p)->next) {
		if (*p == kid) {
			*p = kid->next;
			break;
		}
	}
	free_kid(kid);
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
