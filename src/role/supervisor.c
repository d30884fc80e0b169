/*
 * The supervisor.  It forks, watches and ends; it holds the sockets; it has no
 * database connection, runs no step and parses nothing that comes from outside
 * (the loader child reads a new configuration before it does).  It stays so
 * small that it cannot crash: the postmaster's rule.
 *
 * Its loop is its own (ev_loop_new) and SIGCHLD an ordinary signal watcher:
 * libev's ev_child would reap children and lose their rusage, which the
 * attempt's record needs.
 */
#include "role/supervisor.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "role/setup.h"
#include "role/super.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOW_EVERY_US SD_SEC
#define FAST_DRAIN_US (500 * SD_MS)	/* a fast stop: from DRAIN to TERM */
#define HANDOVER_US (5 * SD_SEC)	/* an old http process that is stuck does not hold up a reload */
#define MIN_SLOTS 256
#define CHILDREN_MAX_BYTES (1 << 20)

bool sd_super_stopping(const struct sd_super *su)
{
	return su->phase == SD_PHASE_DRAIN || su->phase == SD_PHASE_FAST;
}

/* Memory and signal dispositions only: the loop's descriptors are shared with the parent and are just closed later. */
void sd_super_drop(void *arg)
{
	struct sd_super *su = arg;

	ev_signal_stop(su->loop, &su->on_term);
	ev_signal_stop(su->loop, &su->on_int);
	ev_signal_stop(su->loop, &su->on_hup);
	ev_signal_stop(su->loop, &su->on_usr1);
	ev_signal_stop(su->loop, &su->on_chld);
}

/* ---- what is said to the service manager ---- */

static void count(const struct sd_super *su, unsigned *ready, unsigned *running)
{
	*ready = *running = 0;
	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		*ready += k->state == SD_KID_READY;
		*running += atomic_load(&sd_kid_slot(k)->job) != 0;
	}
}

static void say_status(struct sd_super *su)
{
	char text[sizeof su->status], degraded[128];
	unsigned ready, running;

	if (su->phase != SD_PHASE_RUN || strncmp(su->status, "reload failed", 13) == 0)
		return;
	count(su, &ready, &running);
	sd_degraded_names(su, degraded, sizeof degraded);
	snprintf(text, sizeof text, "%u processes ready, %u jobs running%s", ready, running, degraded);
	if (strcmp(text, su->status) == 0)
		return;
	snprintf(su->status, sizeof su->status, "%s", text);
	sd_notify_say(&su->notify, "STATUS=%s\n", text);
}

static void on_watchdog(struct ev_loop *loop, ev_timer *w, int events)
{
	struct sd_super *su = w->data;

	(void)loop, (void)events;
	sd_notify_say(&su->notify, "WATCHDOG=1\n");
}

/* ---- actions of the phases ---- */

static void say_psql(const struct sd_super *su)
{
	if (su->embedded != NULL)
		sd_log(SD_LOG_INFO, "the embedded PostgreSQL: %s/psql \"%s\"", su->embedded->bindir, su->embedded->conninfo);
}

/* What is being built serves. */
static void make_live(struct sd_super *su)
{
	struct sd_msg msg = {.type = SD_MSG_LIVE};
	struct sd_err err;

	su->live = su->building;
	su->building = NULL;
	atomic_store(&su->sb->live_generation, (int32_t)su->live->number);
	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group->role == SD_ROLE_KEEPER && k->chan >= 0 && sd_chan_send(k->chan, &msg, &err) != 0)
			sd_log_err(SD_LOG_DEBUG, &err, "telling %s that it is live", k->name); /* it looks twice a second */
}

static void serve(struct sd_super *su)
{
	make_live(su);
	sd_log(SD_LOG_INFO, "ready: %u processes, %zu step%s", sd_conf_children(su->live->conf), su->live->nsteps,
	       su->live->nsteps == 1 ? "" : "s");
	say_psql(su);
	snprintf(su->status, sizeof su->status, "ready");
	sd_notify_say(&su->notify, "READY=1\nSTATUS=ready\n");
}

static void swap(struct sd_super *su)
{
	struct sd_gen *old = su->live;
	struct sd_err err;

	make_live(su);
	su->live->give_up_us = 0;
	if (sd_setup_log(su->live->conf, NULL, &err) != 0)
		sd_log_err(SD_LOG_ERROR, &err, "the log stays as it is");
	sd_log(SD_LOG_INFO, "reloaded: %zu step%s", su->live->nsteps, su->live->nsteps == 1 ? "" : "s");
	snprintf(su->status, sizeof su->status, "reloaded");
	sd_gen_retire(su, old);
	su->handover_late_us = sd_now_us() + HANDOVER_US;
}

/*
 * Who waits for READY=1 counts on the new steps from then on.  The old workers
 * take nothing more since their slots say DRAINING, which they look at before
 * they take or start anything; the old http process shares its sockets with
 * the new one, so it has to say that it has closed them.
 */
void sd_super_handover(struct sd_super *su)
{
	if (su->handover_late_us == 0)
		return;
	for (const struct sd_kid *k = su->kids; k != NULL && sd_now_us() < su->handover_late_us; k = k->next)
		if (k->group->role == SD_ROLE_HTTP && k->group->gen != su->live && k->state == SD_KID_DRAINING && !k->closed)
			return;
	su->handover_late_us = 0;
	if (!sd_super_stopping(su))
		sd_notify_say(&su->notify, "READY=1\nSTATUS=reloaded\n");
}

/* Its keeper has told the database of the new steps and queues: a fresh keeper of the old one takes that back. */
static void restore_settings(struct sd_super *su)
{
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group->gen == su->live && k->group->role == SD_ROLE_KEEPER && sd_kid_present(k))
			k->superseded = true;
}

static void keep_old(struct sd_super *su)
{
	struct sd_gen *gen = su->building;

	su->building = NULL;
	if (gen != NULL) {
		sd_reload_failed(su, gen->why);
		if (gen->keeper_was_ready)
			restore_settings(su);
		sd_gen_retire(su, gen);
	}
	sd_notify_say(&su->notify, "READY=1\nSTATUS=%s\n", su->status);
}

static void give_up(struct sd_super *su)
{
	if (su->building != NULL && su->building->why[0] != '\0') {
		sd_log(SD_LOG_ERROR, "cannot start: %s", su->building->why);
		su->exit_code = su->building->exit_code;
	}
	if (su->exit_code == 0)
		su->exit_code = 1;
}

static void begin_stop(struct sd_super *su, bool fast)
{
	const struct sd_gen *gen = su->live != NULL ? su->live : su->building;
	int64_t now = sd_now_us();

	sd_log(SD_LOG_INFO, fast ? "stopping fast" : "stopping: running jobs get %lld ms", (long long)gen->conf->stop_timeout_ms);
	sd_notify_say(&su->notify, "STOPPING=1\nSTATUS=%s\n", fast ? "stopping fast" : "draining");
	atomic_store(&su->sb->stopping, 1);
	su->stop_late_us = fast ? now + FAST_DRAIN_US : now + gen->conf->stop_timeout_ms * SD_MS;
	/* those that drain already, after a reload, had their own time, or all the time they like */
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if ((fast || k->late_us == 0) && k->state == SD_KID_DRAINING && sd_role_tier(k->group->role) <= SD_TIER_WEB)
			k->late_us = su->stop_late_us;
	if (su->loader != NULL) {
		sd_loader_free(su->loader);
		su->loader = NULL;
	}
}

void sd_super_event(struct sd_super *su, enum sd_daemon_event event)
{
	struct sd_daemon_step step = sd_daemon_decide(su->phase, event);

	su->phase = step.next;
	switch (step.action) {
	case SD_DO_NOTHING:
		break;
	case SD_DO_DRAIN:
		begin_stop(su, false);
		break;
	case SD_DO_FAST:
		begin_stop(su, true);
		break;
	case SD_DO_RELOAD:
		sd_reload_start(su);
		break;
	case SD_DO_RELOAD_LATER:
		su->reload_later = true;
		break;
	case SD_DO_SERVE:
		serve(su);
		break;
	case SD_DO_SWAP:
		swap(su);
		break;
	case SD_DO_KEEP_OLD:
		keep_old(su);
		break;
	case SD_DO_GIVE_UP:
		give_up(su);
		begin_stop(su, true);
		break;
	}
}

/* ---- events ---- */

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
	struct sd_super *su = w->data;
	int64_t now = sd_now_us();
	bool slow = now - su->slow_us >= SLOW_EVERY_US;

	(void)loop, (void)events;
	if (slow)
		su->slow_us = now;
	sd_enforce(su, now, slow);
	sd_kids_late(su, now);
	sd_super_settle(su);
	if (slow)
		say_status(su);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int events)
{
	struct sd_super *su = w->data;

	(void)loop, (void)events;
	sd_enforce(su, sd_now_us(), false);
	sd_super_settle(su);
}

static void reopen_logs(struct sd_super *su)
{
	struct sd_msg msg = {.type = SD_MSG_REOPEN_LOGS};
	struct sd_err err;

	if (sd_log_reopen(&err) != 0)
		sd_log_err(SD_LOG_ERROR, &err, "the old log file is still written");
	else
		sd_log(SD_LOG_INFO, "log reopened");
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->chan >= 0 && sd_chan_send(k->chan, &msg, &err) != 0)
			sd_log_err(SD_LOG_WARN, &err, "%s was not told to reopen its log", k->name);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
	struct sd_super *su = w->data;

	(void)loop, (void)events;
	switch (w->signum) {
	case SIGCHLD:
		sd_kids_reap(su);
		break;
	case SIGTERM:
		sd_super_event(su, SD_ON_TERM);
		break;
	case SIGINT:
		sd_super_event(su, SD_ON_INT);
		break;
	case SIGHUP:
		if (su->handover_late_us != 0)
			su->reload_later = true;
		else
			sd_super_event(su, SD_ON_HUP);
		break;
	case SIGUSR1:
		reopen_logs(su);
		break;
	}
	sd_super_settle(su);
}

/* ---- beginning and end ---- */

/* A signal that comes before there is a watcher waits for it. */
static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(how, &set, NULL);
}

static void watch_signal(struct sd_super *su, ev_signal *w, int sig)
{
	ev_signal_init(w, on_signal, sig);
	w->data = su;
	ev_signal_start(su->loop, w);
}

static void watch(struct sd_super *su)
{
	watch_signal(su, &su->on_term, SIGTERM);
	watch_signal(su, &su->on_int, SIGINT);
	watch_signal(su, &su->on_hup, SIGHUP);
	watch_signal(su, &su->on_usr1, SIGUSR1);
	watch_signal(su, &su->on_chld, SIGCHLD);
	ev_init(&su->tick, on_tick);
	su->tick.data = su;
	ev_init(&su->deadline, on_deadline);
	su->deadline.data = su;
	ev_init(&su->watchdog, on_watchdog);
	su->watchdog.data = su;
	su->watchdog.repeat = (ev_tstamp)su->notify.watchdog_us / 2e6;
	if (su->watchdog.repeat > 0)
		ev_timer_again(su->loop, &su->watchdog);
	sd_super_set_tick(su);
	hold_signals(SIG_UNBLOCK);
}

static int make_shared(struct sd_super *su, const struct sd_conf *conf, struct sd_err *err)
{
	uint32_t nslots = 4 * sd_conf_children(conf) + 32;

	su->sb = sd_scoreboard_new(nslots < MIN_SLOTS ? MIN_SLOTS : nslots, err);
	if (su->sb == NULL)
		return -1;
	su->kid_of_slot = sd_xcalloc(su->sb->nslots, sizeof *su->kid_of_slot);
	if (sd_wake_open(&su->wake, err) != 0)
		return -1;
	su->loop = ev_loop_new(EVFLAG_AUTO);
	if (su->loop == NULL)
		return sd_err_set(err, SD_ERR_PERMANENT, "cannot make an event loop");
	sd_uuid_v4(su->boot_id);
	return 0;
}

/* Everything that may need root comes before leaving it. */
static int prepare(struct sd_super *su, const struct sd_supervise *what, struct sd_err *err)
{
	struct sd_user user;

	sd_setup_log_format(what->conf);
	int become = sd_setup_user(what->conf, what->embedded_dir != NULL, &user, err);

	if (become < 0 || sd_setup_log(what->conf, become ? &user : NULL, err) != 0)
		return -1;
	if (become == 0 && geteuid() == 0)
		sd_log(SD_LOG_WARN, "running as root, and so will the steps; set `user:` in the configuration");
	if (sd_notify_open(&su->notify, err) != 0)
		sd_log_err(SD_LOG_WARN, err, "the service manager will not hear of us");
	if (what->embedded_dir != NULL) {
		su->embedded = sd_embedded_open(what->embedded_dir, become ? &user : NULL, sd_conf_children(what->conf), err);
		if (su->embedded == NULL)
			return -1;
		su->postgres = (struct sd_group){.role = SD_ROLE_POSTGRES, .pool_index = -1, .number = -1, .want = 1, .name = "postgres"};
		su->start_late_us = sd_now_us() + what->conf->database_wait_ms * SD_MS;
	}
	if (make_shared(su, what->conf, err) != 0)
		return -1;
	su->building = sd_gen_new(su, what->conf, NULL, 0, 0, err);
	if (su->building == NULL)
		return -1;
	sd_notify_listen_done();
	sd_confine_prepare(su, what->conf, become && !su->building->other_users ? &user : NULL);
	if (become && su->building->other_users) {
		su->user = user;
		su->child_user = &su->user;
		sd_log(SD_LOG_INFO, "staying root for the users of pools; other processes run as user \"%s\"", user.name);
		return 0;
	}
	if (become && sd_user_become(&user, err) != 0)
		return -1;
	if (become)
		sd_log(SD_LOG_INFO, "running as user \"%s\"", user.name);
	return 0;
}

static bool kill_children(void)
{
	char path[64], *p, *end;
	struct sd_err err;
	struct sd_buf b = SD_BUF_INIT;
	bool any = false;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
	if (sd_read_file(path, CHILDREN_MAX_BYTES, &b, &err) != 0 || b.len == 0)
		sd_buf_str(&b, "");
	p = b.data;
	for (long pid; (pid = strtol(p, &end, 10)) > 0 && end != p; p = end) {
		kill((pid_t)pid, SIGKILL);
		any = true;
	}
	sd_buf_fini(&b);
	return any;
}

/* What handlers left behind outside their process groups came to us, the subreaper: it goes with us. */
static void end_strays(void)
{
	struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};

	for (int tries = 0; tries < 100 && kill_children(); tries++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		nanosleep(&moment, NULL);
	}
}

static void clean_up(struct sd_super *su)
{
	end_strays();
	for (struct sd_gen *g; (g = su->gens) != NULL;) {
		g->state = SD_GEN_RETIRING;
		sd_gen_collect(su, g);
	}
	sd_embedded_close(su->embedded);
	sd_deaths_fini(&su->deaths);
	sd_cgroup_close(su->cgroup);
	if (su->loop != NULL)
		ev_loop_destroy(su->loop);
	sd_wake_close(&su->wake);
	free(su->kid_of_slot);
	sd_scoreboard_free(su->sb);
	sd_notify_close(&su->notify);
}

int sd_supervise(const struct sd_supervise *what)
{
	struct sd_super su = {.conf_file = what->conf_file, .notify = {.fd = -1}};
	struct sd_err err;

	memset(&su.wake, -1, sizeof su.wake);
	hold_signals(SIG_BLOCK);
	sd_log_set_name("supervisor");
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (prepare(&su, what, &err) != 0) {
		if (err.errnum == EMFILE && *err.hint == '\0')
			(void)sd_err_hint(&err, "allow more open files: ulimit -n, or LimitNOFILE= in the unit");
		sd_log_err(SD_LOG_ERROR, &err, "cannot start");
		if (su.building == NULL)
			sd_conf_free(what->conf);
		clean_up(&su);
		return 78;
	}
	sd_notify_say(&su.notify, "STATUS=starting\n");
	watch(&su);
	sd_load_first(&su, su.building->conf);
	sd_super_settle(&su);
	while (!su.done)
		ev_run(su.loop, 0);
	sd_super_drop(&su);
	sd_log(SD_LOG_INFO, "stopped");
	clean_up(&su);
	return su.exit_code;
}
