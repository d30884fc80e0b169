/*
 * The real supervisor with made-up roles: this program defines every
 * sd_*_main, so the children do exactly what a test wants of them.  Parent and
 * children share one page of counters and switches.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "proc/spawn.h"
#include "role/role.h"
#include "role/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEATHS 16

static struct shared {
	_Atomic int spawned[SD_ROLE_COUNT];
	_Atomic int last_pid[SD_ROLE_COUNT];
	_Atomic int crashes;	    /* pool "crash": so many more workers die of SIGSEGV in a job */
	_Atomic int instant;	    /* pool "instant": die before ready while set */
	_Atomic int keeper_drops;   /* so many keepers die when they are told of a death */
	_Atomic int keeper_fails;   /* exit code keepers fail with */
	_Atomic int worker_fails;   /* the same for workers */
	_Atomic int reopened;
	_Atomic int64_t left_us[SD_ROLE_COUNT]; /* when one of the role drained last */
	_Atomic int ndeaths;
	struct sd_msg_death deaths[MAX_DEATHS];
} *shared;

/* ---- the roles ---- */

static void note_death(const struct sd_child *child, const struct sd_msg *msg)
{
	struct sd_msg ack = {.type = SD_MSG_DEATH_ACK, .serial = msg->serial};
	struct sd_err err;
	int n = atomic_load(&shared->ndeaths);

	if (atomic_load(&shared->keeper_drops) > 0) {
		atomic_fetch_sub(&shared->keeper_drops, 1);
		_exit(9);
	}
	if (n < MAX_DEATHS) {
		shared->deaths[n] = msg->death;
		atomic_store(&shared->ndeaths, n + 1);
	}
	if (sd_chan_send(child->chan, &ack, &err) != 0)
		_exit(8);
}

static _Noreturn void serve(const struct sd_child *child, bool deaf)
{
	struct sd_msg msg;
	struct sd_err err;

	for (;;) {
		struct pollfd p = {child->chan, POLLIN, 0};
		int rc;

		poll(&p, 1, -1);
		rc = sd_chan_recv(child->chan, &msg, &err);
		if (rc < 0)
			sd_orphaned();
		if (rc == 0 || deaf)
			continue;
		if (msg.type == SD_MSG_REOPEN_LOGS)
			atomic_fetch_add(&shared->reopened, 1);
		if (msg.type == SD_MSG_DEATH)
			note_death(child, &msg);
		if (msg.type == SD_MSG_DRAIN) {
			atomic_store(&shared->left_us[child->role], sd_now_us());
			_exit(0);
		}
	}
}

static void count(const struct sd_child *child)
{
	atomic_store(&shared->last_pid[child->role], getpid());
	atomic_fetch_add(&shared->spawned[child->role], 1);
}

static void fail_if(const struct sd_child *child, int exit_code)
{
	struct sd_err err;

	if (exit_code == 0)
		return;
	sd_err_set(&err, SD_ERR_PERMANENT, "made to fail\nMAINPID=1");
	sd_child_fail(child, exit_code, &err);
}

static _Noreturn void plain(const struct sd_child *child)
{
	count(child);
	sd_child_ready(child);
	serve(child, false);
}

_Noreturn void sd_keeper_main(const struct sd_child *child)
{
	fail_if(child, atomic_load(&shared->keeper_fails));
	plain(child);
}

_Noreturn void sd_cron_main(const struct sd_child *child)
{
	plain(child);
}

_Noreturn void sd_http_main(const struct sd_child *child)
{
	plain(child);
}

_Noreturn void sd_web_main(const struct sd_child *child)
{
	plain(child);
}

_Noreturn void sd_worker_main(const struct sd_child *child)
{
	const char *pool = child->pool->name;
	struct sd_slot *slot = child->slot;

	count(child);
	fail_if(child, atomic_load(&shared->worker_fails));
	if (strcmp(pool, "instant") == 0 && atomic_load(&shared->instant))
		_exit(3);
	sd_child_ready(child);
	if (strcmp(pool, "crash") == 0 && atomic_fetch_sub(&shared->crashes, 1) > 0) {
		atomic_store(&slot->attempt, 2);
		atomic_store(&slot->started_us, sd_now_us());
		atomic_store(&slot->job, 77);
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	if (strcmp(pool, "late") == 0) {
		signal(SIGTERM, SIG_IGN);
		atomic_store(&slot->job, 42);
		atomic_store(&slot->deadline_us, sd_now_us() + 100 * SD_MS);
		serve(child, true);
	}
	if (strcmp(pool, "cancel") == 0) {
		atomic_store(&slot->job, 43);
		atomic_store(&slot->cancel_job, 43);
		serve(child, true);
	}
	if (strcmp(pool, "worn") == 0 && atomic_load(&shared->spawned[SD_ROLE_WORKER]) == 1)
		atomic_store(&slot->jobs_done, 10);
	if (strcmp(pool, "rubbish") == 0 && atomic_load(&shared->spawned[SD_ROLE_WORKER]) == 1) {
		memset((void *)&slot->job, 0xa5, sizeof *slot - offsetof(struct sd_slot, job));
		if (send(child->chan, "xyz", 3, 0) != 3)
			_exit(4);
	}
	serve(child, strcmp(pool, "deaf") == 0);
}

/* ---- the daemon under test ---- */

static char dir[64], conf_path[128], log_path[128];
static int notify_fd;
static pid_t daemon_pid;
static char *said; /* everything the service manager heard */

static void write_conf(const char *pools)
{
	FILE *f = fopen(conf_path, "w");

	assert_non_null(f);
	fprintf(f, "steps: []\nhttp: { listen: off }\nadmin: { listen: off }\nlogging: { level: debug, file: %s }\n"
		"stop: { timeout: 400ms, killGrace: 300ms }\npools:\n%s", log_path, pools);
	fclose(f);
}

static void start(const char *pools)
{
	struct sd_conf_problems problems = {NULL, 0};
	struct sd_conf *conf;

	memset(shared, 0, sizeof *shared);
	free(said);
	said = sd_xstrdup("");
	unlink(log_path);
	write_conf(pools);
	conf = sd_conf_load(conf_path, &problems);
	sd_conf_problems_print(stderr, conf_path, &problems);
	assert_non_null(conf);
	fflush(NULL);
	daemon_pid = fork();
	assert_true(daemon_pid >= 0);
	if (daemon_pid == 0)
		exit(sd_supervise(&(struct sd_supervise){.conf = conf, .conf_file = conf_path}));
	sd_conf_free(conf);
}

static void hear(int ms)
{
	struct pollfd p = {notify_fd, POLLIN, 0};
	char text[2048];

	while (poll(&p, 1, ms) > 0) {
		ssize_t n = recv(notify_fd, text, sizeof text - 1, MSG_DONTWAIT);
		char *all;

		if (n <= 0)
			return;
		text[n] = '\0';
		all = sd_xasprintf("%s%s", said, text);
		free(said);
		said = all;
		ms = 0;
	}
}

static bool logged(const char *text)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	bool found = sd_read_file(log_path, 1 << 24, &b, &err) == 0 && b.len > 0 && strstr(b.data, text) != NULL;

	sd_buf_fini(&b);
	return found;
}

#define WAIT_FOR(condition)                                                                                                        \
	do {                                                                                                                       \
		int64_t late_ = sd_now_us() + 60 * SD_SEC;                                                                          \
		while (!(condition)) {                                                                                             \
			if (sd_now_us() > late_)                                                                                    \
				fail_msg("not within 10 s: %s", #condition);                                                       \
			hear(5);                                                                                                   \
		}                                                                                                                  \
	} while (0)

static int exit_code(void)
{
	int status, code;
	pid_t got = 0;

	WAIT_FOR((got = waitpid(daemon_pid, &status, WNOHANG)) != 0);
	daemon_pid = 0;
	hear(0);
	code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	return code;
}

static bool heard(const char *text)
{
	return strstr(said, text) != NULL;
}

static int setup(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	socklen_t len = sizeof at;
	char name[128];

	(void)state;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(dir, "/tmp/stepd-unit-XXXXXX");
	if (shared == MAP_FAILED || mkdtemp(dir) == NULL)
		return -1;
	snprintf(conf_path, sizeof conf_path, "%s/c.yaml", dir);
	snprintf(log_path, sizeof log_path, "%s/log", dir);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(notify_fd, (struct sockaddr *)&at, sizeof at.sun_family) != 0 ||
	    getsockname(notify_fd, (struct sockaddr *)&at, &len) != 0)
		return -1;
	snprintf(name, sizeof name, "@%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), at.sun_path + 1);
	setenv("NOTIFY_SOCKET", name, 1);
	return 0;
}

static int end_test(void **state)
{
	(void)state;
	if (daemon_pid > 0) {
		kill(daemon_pid, SIGKILL);
		waitpid(daemon_pid, NULL, 0);
		daemon_pid = 0;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(conf_path);
	unlink(log_path);
	free(said);
	return rmdir(dir);
}

/* ---- tests ---- */

static void test_start_and_stop(void **state)
{
	(void)state;
	start("  plain: { processes: 3, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_KEEPER]), 1);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_CRON]), 1);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_WORKER]), 3);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_HTTP]), 0);
	kill(daemon_pid, SIGUSR1);
	WAIT_FOR(atomic_load(&shared->reopened) == 5);
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
	assert_true(heard("STOPPING=1"));
	assert_true(atomic_load(&shared->left_us[SD_ROLE_KEEPER]) >= atomic_load(&shared->left_us[SD_ROLE_WORKER]));
	assert_int_equal(atomic_load(&shared->ndeaths), 0); /* clean ends are not deaths */
}

static void test_failed_start(void **state)
{
	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	atomic_store(&shared->keeper_fails, 69);
	assert_int_equal(exit_code(), 69);
	assert_false(heard("READY=1"));
	assert_true(logged("keeper: made to fail"));
}

static void test_worker_that_cannot_start_ends_the_start(void **state)
{
	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	atomic_store(&shared->worker_fails, 78);
	assert_int_equal(exit_code(), 78);
}

static void test_crash_is_told_and_replaced(void **state)
{
	const struct sd_msg_death *d = &shared->deaths[0];

	(void)state;
	start("  crash: { processes: 1, serves: [queue] }\n");
	atomic_store(&shared->crashes, 1);
	WAIT_FOR(atomic_load(&shared->ndeaths) == 1);
	assert_int_equal(d->job, 77);
	assert_int_equal(d->attempt, 2);
	assert_int_equal(d->signal, SIGSEGV);
	assert_int_equal(d->exit_code, -1);
	assert_int_equal(d->reason, SD_SLOT_REASON_NONE);
	assert_true(d->max_rss_kb > 0);
	assert_true(d->started_us > 0 && d->died_us >= d->started_us);
	WAIT_FOR(atomic_load(&shared->spawned[SD_ROLE_WORKER]) == 2);
	WAIT_FOR(heard("READY=1"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_deaths_survive_keepers(void **state)
{
	(void)state;
	start("  crash: { processes: 1, serves: [queue] }\n");
	atomic_store(&shared->keeper_drops, 2);
	atomic_store(&shared->crashes, 1);
	WAIT_FOR(atomic_load(&shared->ndeaths) == 1);
	assert_int_equal(shared->deaths[0].job, 77);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_KEEPER]), 3);
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_replaced_within_100_ms(void **state)
{
	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	for (int i = 0; i < 2; i++) {
		int before = atomic_load(&shared->spawned[SD_ROLE_WORKER]);
		int64_t killed;

		killed = sd_now_us();
		kill(atomic_load(&shared->last_pid[SD_ROLE_WORKER]), SIGKILL);
		while (atomic_load(&shared->spawned[SD_ROLE_WORKER]) == before)
			assert_true(sd_now_us() - killed < 3 * SD_SEC);
		if (i == 0 && getenv("VALGRIND") == NULL)
			assert_true(sd_now_us() - killed < 100 * SD_MS);
	}
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_instant_deaths_back_off_and_recover(void **state)
{
	int64_t began = sd_now_us();

	(void)state;
	start("  instant: { processes: 2, serves: [queue] }\n  plain: { processes: 1, serves: [queue] }\n");
	atomic_store(&shared->instant, 1);
	WAIT_FOR(logged("delayed"));
	/* Two at once, two more at once, then one after 1 s; the plain one: 1. */
	WAIT_FOR(atomic_load(&shared->spawned[SD_ROLE_WORKER]) >= 6);
	assert_true(sd_now_us() - began >= 1 * SD_SEC);
	assert_false(heard("READY=1"));
	atomic_store(&shared->instant, 0);
	WAIT_FOR(heard("READY=1"));
	WAIT_FOR(logged("worker instant is no longer degraded"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_timeout_ladder(void **state)
{
	const struct sd_msg_death *d = &shared->deaths[0];

	(void)state;
	start("  late: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(atomic_load(&shared->ndeaths) > 0);
	assert_int_equal(d->job, 42);
	assert_int_equal(d->reason, SD_SLOT_REASON_TIMEOUT);
	assert_int_equal(d->signal, SIGKILL); /* it ignores TERM */
	assert_true(logged("job 42 is past its timeout"));
}

static void test_cancel_ladder(void **state)
{
	const struct sd_msg_death *d = &shared->deaths[0];

	(void)state;
	start("  cancel: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(atomic_load(&shared->ndeaths) > 0);
	assert_int_equal(d->job, 43);
	assert_int_equal(d->reason, SD_SLOT_REASON_CANCEL);
	assert_int_equal(d->signal, SIGTERM);
}

static void test_deaf_worker_is_killed_at_stop(void **state)
{
	int64_t began;

	(void)state;
	start("  deaf: { processes: 2, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	began = sd_now_us();
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
	assert_true(sd_now_us() - began >= 390 * SD_MS); /* they had the drain time */
	assert_int_equal(atomic_load(&shared->ndeaths), 2);
	assert_int_equal(shared->deaths[0].reason, SD_SLOT_REASON_STOP);
	assert_int_equal(shared->deaths[0].job, 0);
}

static void test_second_term_is_fast(void **state)
{
	(void)state;
	start("  deaf: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	kill(daemon_pid, SIGTERM);
	WAIT_FOR(heard("STATUS=draining"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
	assert_true(heard("STATUS=stopping fast"));
}

static void test_worn_worker_is_replaced_first(void **state)
{
	(void)state;
	start("  worn: { processes: 1, serves: [queue], maxJobs: 5 }\n");
	WAIT_FOR(atomic_load(&shared->spawned[SD_ROLE_WORKER]) == 2);
	WAIT_FOR(atomic_load(&shared->left_us[SD_ROLE_WORKER]) > 0);
	WAIT_FOR(logged("did 10 jobs: replacing it"));
	WAIT_FOR(atomic_load(&shared->ndeaths) == 1); /* in case it could not give back what it held */
	assert_int_equal(shared->deaths[0].job, 0);
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_WORKER]), 2);
}

static void test_rubbish_from_a_child(void **state)
{
	(void)state;
	start("  rubbish: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(logged("broke the channel's protocol"));
	WAIT_FOR(atomic_load(&shared->spawned[SD_ROLE_WORKER]) == 2);
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_reload(void **state)
{
	char *after;

	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	write_conf("  plain: { processes: 3, serves: [queue] }\n");
	kill(daemon_pid, SIGHUP);
	WAIT_FOR((after = strstr(said, "RELOADING=1\nMONOTONIC_USEC=")) != NULL && strstr(after, "READY=1") != NULL);
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_WORKER]), 4);
	WAIT_FOR(logged("generation 1 is gone"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_reload_of_a_broken_file_keeps_the_old(void **state)
{
	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	write_conf("  plain: { processes: 3, serves: [quue] }\n");
	kill(daemon_pid, SIGHUP);
	WAIT_FOR(heard("STATUS=reload failed"));
	assert_true(heard("c.yaml:7:"));
	assert_int_equal(atomic_load(&shared->spawned[SD_ROLE_WORKER]), 1);
	/* and the next one works */
	write_conf("  plain: { processes: 2, serves: [queue] }\n");
	kill(daemon_pid, SIGHUP);
	WAIT_FOR(heard("STATUS=reloaded"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_reload_whose_children_fail_keeps_the_old(void **state)
{
	(void)state;
	start("  plain: { processes: 1, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	atomic_store(&shared->worker_fails, 78);
	kill(daemon_pid, SIGHUP);
	WAIT_FOR(heard("STATUS=reload failed: worker plain/0: made to fail MAINPID=1")); /* what a child says stays on its line */
	/* The new keeper had told the database of the new settings: the old generation has a fresh one. */
	WAIT_FOR(atomic_load(&shared->spawned[SD_ROLE_KEEPER]) == 3);
	WAIT_FOR(logged("generation 2 is gone"));
	atomic_store(&shared->worker_fails, 0);
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static void test_many_reloads_at_once(void **state)
{
	(void)state;
	start("  plain: { processes: 2, serves: [queue] }\n");
	WAIT_FOR(heard("STATUS=starting"));
	for (int i = 0; i < 30; i++) {
		kill(daemon_pid, SIGHUP);
		hear(3);
	}
	WAIT_FOR(heard("STATUS=reloaded"));
	kill(daemon_pid, SIGTERM);
	assert_int_equal(exit_code(), 0);
}

static bool group_is_gone(pid_t pid)
{
	return kill(pid, 0) != 0 && errno == ESRCH;
}

static void test_killed_supervisor_leaves_nothing(void **state)
{
	(void)state;
	start("  deaf: { processes: 2, serves: [queue] }\n");
	WAIT_FOR(heard("READY=1"));
	kill(daemon_pid, SIGKILL);
	assert_int_equal(exit_code(), -SIGKILL);
	WAIT_FOR(group_is_gone(atomic_load(&shared->last_pid[SD_ROLE_WORKER])));
	WAIT_FOR(group_is_gone(atomic_load(&shared->last_pid[SD_ROLE_KEEPER])));
	WAIT_FOR(group_is_gone(atomic_load(&shared->last_pid[SD_ROLE_CRON])));
}

#define T(f) cmocka_unit_test_teardown(f, end_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_start_and_stop),
		T(test_failed_start),
		T(test_worker_that_cannot_start_ends_the_start),
		T(test_crash_is_told_and_replaced),
		T(test_deaths_survive_keepers),
		T(test_replaced_within_100_ms),
		T(test_instant_deaths_back_off_and_recover),
		T(test_timeout_ladder),
		T(test_cancel_ladder),
		T(test_deaf_worker_is_killed_at_stop),
		T(test_second_term_is_fast),
		T(test_worn_worker_is_replaced_first),
		T(test_rubbish_from_a_child),
		T(test_reload),
		T(test_reload_of_a_broken_file_keeps_the_old),
		T(test_reload_whose_children_fail_keeps_the_old),
		T(test_many_reloads_at_once),
		T(test_killed_supervisor_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
