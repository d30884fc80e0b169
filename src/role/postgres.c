/*
 * The child that becomes the embedded PostgreSQL.
 *
 * It holds the directory's lock through its parent, so whatever it finds there
 * is left from a former run: a postmaster that is still stopping is waited
 * for, a postmaster.pid whose process is none is removed (its number may be
 * somebody else's by now, and PostgreSQL would refuse), backends that lost
 * their postmaster are told to quit.  The first time, the cluster is made in
 * DIR/data.new and renamed when it is whole, so that an interrupted initdb is
 * simply begun again.  Then it executes postgres and keeps its pid.
 *
 * The supervisor's death reaches the postmaster as SIGQUIT (the parent-death
 * signal survives exec): it ends its backends at once, removes its shared
 * memory, and recovers at the next start.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "proc/spawn.h"
#include "role/embedded.h"
#include "role/role.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OLD_POSTMASTER_US (30 * SD_SEC) /* a shutdown checkpoint may take its time */
#define OLD_NOT_ENDING_US (3 * SD_SEC)
#define LOOK_US (20 * SD_MS)
#define BIG_LOG (16 << 20)

static volatile sig_atomic_t making, stop_asked;

static void stop_now(int sig)
{
	(void)sig;
	sd_orphaned(); /* with initdb, if it runs */
}

/* A second or two of initdb is waited for: what it runs leaves shared memory behind when it is killed. */
static void stop_soon(int sig)
{
	if (!making)
		stop_now(sig);
	stop_asked = 1;
}

static void nap(void)
{
	struct timespec t = {.tv_nsec = LOOK_US * 1000};

	nanosleep(&t, NULL);
}

/* ---- what a former run left ---- */

/* Is pid a process whose working directory is the cluster?  PostgreSQL's processes all live there. */
static bool lives_in(pid_t pid, const char *data)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof path, "/proc/%d/cwd", pid);
	return stat(path, &a) == 0 && stat(data, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool is_postgres(pid_t pid)
{
	char path[64];
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	bool yes;

	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	yes = sd_read_file(path, 64, &b, &err) == 0 && b.len > 0 && strncmp(b.data, "postgres", 8) == 0;
	sd_buf_fini(&b);
	return yes;
}

/* What postmaster.pid says: whose it is (0: there is none; -1: it is empty), and, in its last line, whether that one is stopping. */
static pid_t old_postmaster(const struct sd_embedded *e, char *path, size_t pathlen, bool *stopping)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	pid_t pid = 0;

	*stopping = false;
	snprintf(path, pathlen, "%s/postmaster.pid", e->data);
	if (sd_read_file(path, 4096, &b, &err) == 0) {
		pid = b.len > 0 ? atoi(b.data) : -1;
		*stopping = b.len > 0 && strstr(b.data, "\nstopping") != NULL;
	}
	sd_buf_fini(&b);
	return pid;
}

/* That of a former run ends by itself, for its supervisor is gone; one that does not begin to is somebody else's. */
static void wait_for_old_postmaster(const struct sd_child *child)
{
	const struct sd_embedded *e = child->embedded;
	int64_t began = sd_now_us();
	bool told = false, stopping;
	char path[4096];
	struct sd_err err;
	pid_t pid;

	while ((pid = old_postmaster(e, path, sizeof path, &stopping)) > 0 && is_postgres(pid) && lives_in(pid, e->data)) {
		if (!told)
			sd_log(SD_LOG_INFO, "waiting for the PostgreSQL of a former run to end, pid %d", pid);
		told = true;
		if (sd_now_us() > began + (stopping ? OLD_POSTMASTER_US : OLD_NOT_ENDING_US)) {
			sd_err_set(&err, SD_ERR_PERMANENT, "%s is in use by a PostgreSQL that is not ours, pid %d", e->data, pid);
			sd_err_hint(&err, "pg_ctl -D %s stop", e->data);
			sd_child_fail(child, 78, &err);
		}
		nap();
	}
	if (pid != 0 && unlink(path) == 0)
		sd_log(SD_LOG_INFO, "removed the postmaster.pid of a process that is gone");
}

static unsigned quit_orphans(const struct sd_embedded *e)
{
	DIR *d = opendir("/proc");
	unsigned n = 0;

	for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 1 && pid != getpid() && is_postgres(pid) && lives_in(pid, e->data) && kill(pid, SIGQUIT) == 0)
			n++;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

static void end_orphans(const struct sd_embedded *e)
{
	int64_t late = sd_now_us() + 5 * SD_SEC;

	while (quit_orphans(e) > 0 && sd_now_us() < late)
		nap();
}

/* ---- the first time ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

/* Run a program with its output in the log and input on stdin. */
static int run(const struct sd_embedded *e, const char *input, char *const argv[], struct sd_err *err)
{
	int in[2], status;
	pid_t parent = getpid(), pid;

	if (pipe2(in, O_CLOEXEC) != 0)
		return sd_err_errno(err, errno, "cannot make a pipe");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		dup2(in[0], STDIN_FILENO);
		execv(argv[0], argv);
		fprintf(stderr, "cannot execute %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	sd_close(&in[0]);
	if (pid < 0) {
		sd_close(&in[1]);
		return sd_err_errno(err, errno, "cannot fork");
	}
	if (input != NULL && sd_write_full(in[1], input, strlen(input), err) != 0)
		sd_log(SD_LOG_DEBUG, "%s does not read: %s", argv[0], err->message);
	sd_close(&in[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	char why[400];
	sd_embedded_why(e, why, sizeof why);
	return sd_err_set(err, SD_ERR_PERMANENT, "%s failed: %s (%s)", strrchr(argv[0], '/') + 1, why, e->log);
}

static int append_include(const struct sd_embedded *e, struct sd_err *err)
{
	static const char line[] = "\n# What stepd sets, written anew at each start; settings below it win.\ninclude 'stepd.conf'\n";
	char path[4096];
	int fd, rc;

	snprintf(path, sizeof path, "%s/postgresql.conf", e->fresh);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return sd_err_errno(err, errno, "cannot open %s", path);
	rc = sd_write_full(fd, line, strlen(line), err);
	if (rc == 0 && fsync(fd) != 0)
		rc = sd_err_errno(err, errno, "cannot sync %s", path);
	close(fd);
	return rc;
}

static int write_settings(const struct sd_embedded *e, const char *data, struct sd_err *err)
{
	struct sd_buf b = SD_BUF_INIT;
	char path[4096];
	int rc;

	sd_buf_printf(&b,
		      "# Written by stepd at each start; change postgresql.conf instead.\n"
		      "max_connections = %u\n"
		      "shared_buffers = 64MB\n"
		      "fsync = on\n"
		      "synchronous_commit = on\n"
		      "dynamic_shared_memory_type = mmap\n" /* in the cluster: a kill -9 leaves nothing in /dev/shm */
		      "jit = off\n"
		      "log_line_prefix = '%%m [%%p] %%q%%u@%%d %%a '\n"
		      "log_checkpoints = off\n"
		      "log_autovacuum_min_duration = -1\n",
		      e->connections);
	snprintf(path, sizeof path, "%s/stepd.conf", data);
	rc = sd_write_file_atomic(path, b.data, b.len, 0600, err);
	sd_buf_fini(&b);
	return rc;
}

static int sync_dir(const char *path, struct sd_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd < 0 || fsync(fd) != 0)
		rc = sd_err_errno(err, errno, "cannot sync %s", path);
	sd_close(&fd);
	return rc;
}

static int make_cluster(const struct sd_embedded *e, struct sd_err *err)
{
	char initdb[4096], postgres[4096];
	char *init_argv[] = {initdb, "-D", e->fresh, "-U", "stepd", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8",
			     "--locale=C.UTF-8", "--data-checksums", "--no-instructions", NULL};
	char *single_argv[] = {postgres, "--single", "-D", e->fresh, "postgres", NULL};

	snprintf(initdb, sizeof initdb, "%s/initdb", e->bindir);
	snprintf(postgres, sizeof postgres, "%s/postgres", e->bindir);
	nftw(e->fresh, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* of an initdb that was interrupted */
	if (run(e, NULL, init_argv, err) != 0 || write_settings(e, e->fresh, err) != 0 || append_include(e, err) != 0 ||
	    run(e, "create database stepd\n", single_argv, err) != 0)
		return -1;
	if (rename(e->fresh, e->data) != 0)
		return sd_err_errno(err, errno, "cannot rename %s to %s", e->fresh, e->data);
	return sync_dir(e->dir, err);
}

static bool has_cluster(const struct sd_embedded *e)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/PG_VERSION", e->data);
	return access(path, F_OK) == 0;
}

/* ---- becoming it ---- */

static void log_to_file(const struct sd_child *child)
{
	const struct sd_embedded *e = child->embedded;
	char old[4096];
	struct stat st;
	struct sd_err err;
	int fd;

	if (stat(e->log, &st) == 0 && st.st_size > BIG_LOG) {
		snprintf(old, sizeof old, "%s.1", e->log);
		rename(e->log, old);
	}
	fd = open(e->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		sd_err_errno(&err, errno, "cannot open %s", e->log);
		sd_child_fail(child, 78, &err);
	}
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

static _Noreturn void become(const struct sd_child *child)
{
	const struct sd_embedded *e = child->embedded;
	char postgres[4096], sockets[4096];
	char *argv[] = {postgres, "-D", e->data, "-c", "listen_addresses=", "-c", "port=5432", "-c", sockets, "-c",
			"unix_socket_permissions=0700", NULL};
	struct sd_err err;

	snprintf(postgres, sizeof postgres, "%s/postgres", e->bindir);
	snprintf(sockets, sizeof sockets, "unix_socket_directories=\"%s\"", e->socket_dir);
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	execv(postgres, argv);
	sd_err_errno(&err, errno, "cannot execute %s", postgres);
	sd_child_fail(child, 78, &err);
}

_Noreturn void sd_postgres_main(const struct sd_child *child)
{
	const struct sd_embedded *e = child->embedded;
	struct sd_err err;

	signal(SIGINT, stop_soon);
	signal(SIGQUIT, stop_now);
	if (chdir("/") != 0 || access(e->dir, R_OK | W_OK | X_OK) != 0) {
		sd_err_errno(&err, errno, "user %u cannot work in %s", geteuid(), e->dir);
		sd_err_hint(&err, "a directory above it may be closed to that user; choose one that is not, such as /var/lib/stepd");
		sd_child_fail(child, 78, &err);
	}
	wait_for_old_postmaster(child);
	if (has_cluster(e))
		end_orphans(e);
	else
		sd_log(SD_LOG_INFO, "making a database cluster in %s", e->data);
	log_to_file(child);
	making = 1;
	if (!has_cluster(e) && make_cluster(e, &err) != 0)
		sd_child_fail(child, 78, &err);
	making = 0;
	if (stop_asked)
		sd_leave(0);
	if (write_settings(e, e->data, &err) != 0)
		sd_child_fail(child, 78, &err);
	become(child);
}
