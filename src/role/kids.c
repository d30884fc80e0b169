/*
 * One child from the supervisor's side while it lives: its start, what it says,
 * and the ladder by which it is asked and then made to go.  Its death: reap.c.
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

/* ---- what it says ---- */

static void note_ready(struct sd_kid *kid)
{
	kid->ready_us = sd_now_us();
	atomic_store(&sd_kid_slot(kid)->state, SD_SLOT_READY);
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
	case SD_MSG_WORN:
		sd_kid_worn(kid);
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
void sd_kid_hear(struct sd_kid *kid)
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
	sd_kid_hear(kid);
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

	atomic_store(&sd_kid_slot(kid)->state, SD_SLOT_DRAINING);
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
	case SD_KID_HURRY: /* it could take its time until now */
		if (atomic_exchange(&sd_kid_slot(kid)->relieved, 0) != 0) {
			kid->late_us = late_us;
			send_drain(kid);
		}
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
	struct sd_slot *slot = sd_kid_slot(kid);
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
		.slot = sd_kid_slot(kid),
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
		struct sd_err ignored; /* it tries itself, and says why not */

		c->tls_cert = sd_open_regular(gen->conf->http.tls_cert, &ignored);
		c->tls_key = sd_open_regular(gen->conf->http.tls_key, &ignored);
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

void sd_kid_free(struct sd_kid *kid)
{
	struct sd_kid **p = &kid->su->kids;

	while (*p != NULL && *p != kid)
		p = &(*p)->next;
	if (*p != NULL)
		*p = kid->next;
	close_channel(kid);
	atomic_store(&sd_kid_slot(kid)->state, SD_SLOT_FREE);
	atomic_store(&sd_kid_slot(kid)->asleep, SD_AWAKE);
	atomic_store(&sd_kid_slot(kid)->pid, 0);
	kid->su->kid_of_slot[kid->slot] = NULL;
	free(kid);
}

static struct sd_kid *new_kid(struct sd_super *su, struct sd_group *group, int index, uint32_t slot)
{
	struct sd_kid *kid = sd_xcalloc(1, sizeof *kid);

	*kid = (struct sd_kid){.su = su, .group = group, .index = index, .slot = slot, .chan = -1, .state = SD_KID_STARTING,
			       .spawned_us = sd_now_us()};
	kid->grace_us = group->gen != NULL ? group->gen->conf->kill_grace_ms * SD_MS : POSTGRES_QUIT_US;
	if (group->pool != NULL)
		snprintf(kid->name, sizeof kid->name, "%s/%d", group->name, index);
	else
		snprintf(kid->name, sizeof kid->name, "%s", group->name);
	ev_init(&kid->io, on_channel);
	kid->io.data = kid;
	su->kid_of_slot[slot] = kid;
	fill_slot(kid);
	return kid;
}

/* It could not be started: for its group that is a death like any other. */
static void note_stillborn(struct sd_group *group)
{
	int64_t now = sd_now_us();

	sd_health_died(&group->health, &(struct sd_life){.spawned_us = now}, now);
}

struct sd_kid *sd_kid_start(struct sd_super *su, struct sd_group *group, int index)
{
	int slot = free_slot(su), chan[2] = {-1, -1};
	struct sd_kid *kid;
	struct sd_err err;

	if (slot < 0) {
		sd_log(SD_LOG_ERROR, "cannot start %s: all %u slots of the scoreboard are in use", group->name, su->sb->nslots);
		note_stillborn(group);
		return NULL;
	}
	kid = new_kid(su, group, index, (uint32_t)slot);
	kid->pid = sd_chan_pair(chan, &err) == 0 ? fork_kid(kid, chan[1], &err) : -1;
	kid->chan = chan[0];
	sd_close(&chan[1]);
	if (kid->pid < 0) {
		sd_log_err(SD_LOG_ERROR, &err, "cannot start %s", kid->name);
		sd_kid_free(kid);
		note_stillborn(group);
		return NULL;
	}
	sd_confine(kid);
	atomic_store(&sd_kid_slot(kid)->pid, kid->pid);
	ev_io_set(&kid->io, kid->chan, EV_READ);
	ev_io_start(su->loop, &kid->io);
	kid->next = su->kids;
	su->kids = kid;
	sd_log(SD_LOG_DEBUG, "%s started, pid %d", kid->name, kid->pid);
	return kid;
}
