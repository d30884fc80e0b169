/*
 * The embedded PostgreSQL's directory: made, locked, announced and cleaned up
 * by the supervisor.  What happens inside of it is postgres.c's.
 *
 * Two daemons on one directory are kept apart by a lock on DIR/stepd.pid,
 * which the kernel releases however we die; its text only names us.
 */
#include "role/embedded.h"
#include "base/buf.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME_LEN 14 /* "/.s.PGSQL.5432" */
#define SPARE_CONNECTIONS 24 /* people with psql, autovacuum's manners, stepctl */

/* ---- PostgreSQL's programs ---- */

static bool is_bindir(const char *dir)
{
	char *postgres = sd_xasprintf("%s/postgres", dir), *initdb = sd_xasprintf("%s/initdb", dir);
	bool ok = access(postgres, X_OK) == 0 && access(initdb, X_OK) == 0;

	free(postgres);
	free(initdb);
	return ok;
}

/* The version of an existing cluster, 0: there is none. */
static int cluster_major(const char *data)
{
	char *path = sd_xasprintf("%s/PG_VERSION", data);
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	int major = sd_read_file(path, 64, &b, &err) == 0 && b.len > 0 ? atoi(b.data) : 0;

	free(path);
	sd_buf_fini(&b);
	return major;
}

/* Debian keeps versions side by side: the cluster's own one, or else the newest from 14 up. */
static int find_programs(struct sd_embedded *e, int wanted, struct sd_err *err)
{
	static const char *const roots[] = {"/usr/lib/postgresql", "/usr/local/lib/postgresql"};
	const char *given = getenv("STEPD_PG_BINDIR");

	if (given != NULL && *given != '\0') {
		if (!is_bindir(given))
			return sd_err_set(err, SD_ERR_PERMANENT, "STEPD_PG_BINDIR: no postgres and initdb in %s", given);
		e->bindir = sd_xstrdup(given);
		e->major = wanted;
		return 0;
	}
	for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
		DIR *d = opendir(roots[i]);

		for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
			int major = atoi(entry->d_name);
			char *bindir = sd_xasprintf("%s/%s/bin", roots[i], entry->d_name);

			if (major >= 14 && major > e->major && (wanted == 0 || major == wanted) && is_bindir(bindir)) {
				free(e->bindir);
				e->bindir = bindir;
				e->major = major;
			} else {
				free(bindir);
			}
		}
		if (d != NULL)
			closedir(d);
	}
	if (e->bindir != NULL)
		return 0;
	if (wanted != 0)
		sd_err_set(err, SD_ERR_PERMANENT, "%s was made by PostgreSQL %d, which is not installed", e->data, wanted);
	else
		sd_err_set(err, SD_ERR_PERMANENT, "--embedded needs PostgreSQL's server programs, which are not installed");
	return sd_err_hint(err, "apt-get install postgresql-%d, or set STEPD_PG_BINDIR", wanted != 0 ? wanted : 15);
}

/* ---- directories ---- */

/* Never through a symbolic link: as root we work in a directory that belongs to someone else. */
static int own(const char *path, const struct sd_user *user, mode_t mode, struct sd_err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return sd_err_errno(err, errno, "cannot open directory %s", path);
	if (user != NULL && fchown(fd, user->uid, user->gid) != 0)
		rc = sd_err_errno(err, errno, "cannot give %s to user \"%s\"", path, user->name);
	else if (fchmod(fd, mode) != 0)
		rc = sd_err_errno(err, errno, "cannot set the mode of %s", path);
	close(fd);
	return rc;
}

static bool holds_only_ours(const char *dir)
{
	static const char *const ours[] = {".", "..", "data", "data.new", "run", "log", "conninfo", "conninfo.tmp", "stepd.pid"};
	DIR *d = opendir(dir);
	bool all = true, lock = false;

	for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
		bool known = false;

		for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
			known |= strcmp(entry->d_name, ours[i]) == 0;
		lock |= strcmp(entry->d_name, "stepd.pid") == 0;
		all &= known;
	}
	if (d != NULL)
		closedir(d);
	return all || lock;
}

/* The directory itself: made, or one of ours, or empty.  Anything else is somebody's and stays as it is. */
static int take_directory(const char *dir, const struct sd_user *user, char **absolute, struct sd_err *err)
{
	struct stat st;

	if (sd_mkdir_p(dir, 0755, err) != 0)
		return -1;
	*absolute = realpath(dir, NULL);
	if (*absolute == NULL || stat(*absolute, &st) != 0)
		return sd_err_errno(err, errno, "cannot use %s", dir);
	if (strpbrk(*absolute, "'\\\n") != NULL)
		return sd_err_set(err, SD_ERR_PERMANENT, "a path with quotes or backslashes cannot hold the database: %s", *absolute);
	if (!holds_only_ours(*absolute)) {
		sd_err_set(err, SD_ERR_PERMANENT, "%s holds other files and no embedded database", *absolute);
		return sd_err_hint(err, "give --embedded a directory of its own; it is made when it does not exist");
	}
	if (user == NULL && st.st_uid != geteuid()) {
		sd_err_set(err, SD_ERR_PERMANENT, "%s belongs to user %u, this is user %u", *absolute, st.st_uid, geteuid());
		return sd_err_hint(err, "run as the user that made it, or as root");
	}
	return own(*absolute, user, 0700, err);
}

static int take_lock(struct sd_embedded *e, const struct sd_user *user, struct sd_err *err)
{
	char *path = sd_xasprintf("%s/stepd.pid", e->dir), text[32] = "";
	int n;

	e->first = access(path, F_OK) != 0;
	e->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	free(path);
	if (e->lock_fd < 0)
		return sd_err_errno(err, errno, "cannot open %s/stepd.pid", e->dir);
	if (flock(e->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		ssize_t got = pread(e->lock_fd, text, sizeof text - 1, 0);

		text[got > 0 ? got : 0] = '\0';
		sd_close(&e->lock_fd);
		if (errno != EWOULDBLOCK)
			return sd_err_errno(err, errno, "cannot lock %s/stepd.pid", e->dir);
		sd_err_set(err, SD_ERR_PERMANENT, "%s is in use by pid %d", e->dir, atoi(text));
		return sd_err_hint(err, "stop that stepd, or give --embedded another directory");
	}
	n = snprintf(text, sizeof text, "%d\n", getpid());
	if (ftruncate(e->lock_fd, 0) != 0 || pwrite(e->lock_fd, text, (size_t)n, 0) != n ||
	    (user != NULL && fchown(e->lock_fd, user->uid, user->gid) != 0))
		return sd_err_errno(err, errno, "cannot write %s/stepd.pid", e->dir);
	return 0;
}

/* A directory in /tmp that a former run of ours left, still ours and closed to others? */
static bool safe_socket_dir(const char *path, uid_t uid)
{
	struct stat st;

	return strncmp(path, "/tmp/stepd-", 11) == 0 && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid &&
	       (st.st_mode & 077) == 0;
}

/* DIR/run, or behind a link of that name a directory whose path is short enough for a socket's address. */
static int make_socket_dir(struct sd_embedded *e, const struct sd_user *user, struct sd_err *err)
{
	char *run = sd_xasprintf("%s/run", e->dir), target[64] = "";
	uid_t uid = user != NULL ? user->uid : geteuid();
	int rc = -1;

	if (strlen(run) + SOCKET_NAME_LEN < sizeof((struct sockaddr_un *)0)->sun_path) {
		e->socket_dir = run;
		if (sd_mkdir_p(run, 0700, err) != 0)
			return -1;
		return own(run, user, 0700, err);
	}
	e->socket_in_tmp = true;
	if (readlink(run, target, sizeof target - 1) > 0 && safe_socket_dir(target, uid)) {
		e->socket_dir = sd_xstrdup(target);
		rc = 0;
		goto out;
	}
	unlink(run);
	snprintf(target, sizeof target, "/tmp/stepd-XXXXXX");
	if (mkdtemp(target) == NULL) {
		sd_err_errno(err, errno, "cannot make a directory for the socket in /tmp");
		goto out;
	}
	e->socket_dir = sd_xstrdup(target);
	if (symlink(target, run) != 0) {
		sd_err_errno(err, errno, "cannot link %s", run);
		goto out;
	}
	rc = own(target, user, 0700, err);
	if (rc == 0 && user != NULL && lchown(run, user->uid, user->gid) != 0)
		rc = sd_err_errno(err, errno, "cannot give %s to user \"%s\"", run, user->name);
out:
	free(run);
	return rc;
}

static int make_log(struct sd_embedded *e, const struct sd_user *user, struct sd_err *err)
{
	char *dir = sd_xasprintf("%s/log", e->dir);
	int rc = sd_mkdir_p(dir, 0700, err);

	if (rc == 0)
		rc = own(dir, user, 0700, err);
	e->log = sd_xasprintf("%s/postgresql.log", dir);
	free(dir);
	return rc;
}

/* A data directory another user made cannot be run by this one: PostgreSQL would say so, this says what to do. */
static int check_owner(const struct sd_embedded *e, const struct sd_user *user, struct sd_err *err)
{
	uid_t uid = user != NULL ? user->uid : geteuid();
	struct stat st;

	if (stat(e->data, &st) != 0 || st.st_uid == uid)
		return 0;
	sd_err_set(err, SD_ERR_PERMANENT, "%s belongs to user %u, but PostgreSQL would run as user %u", e->data, st.st_uid, uid);
	return sd_err_hint(err, "chown -R it, or set `user:` in the configuration to its owner");
}

/* ---- the pointer for stepctl ---- */

static char *pointer_dir(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR"), *unit = getenv("RUNTIME_DIRECTORY");

	/* Our unit has RuntimeDirectory=stepd: made by systemd, owned by the user we are. */
	if (geteuid() == 0 || (unit != NULL && strcmp(unit, "/run/stepd") == 0))
		return sd_xstrdup("/run/stepd");
	if (runtime != NULL && runtime[0] == '/' && access(runtime, W_OK) == 0)
		return sd_xasprintf("%s/stepd", runtime);
	return sd_xasprintf("/tmp/stepd-%u", geteuid());
}

static void find_pointer(struct sd_embedded *e, const struct sd_user *user)
{
	bool root = geteuid() == 0;
	uid_t uid = root && user != NULL ? user->uid : geteuid();
	char *dir = pointer_dir();
	struct stat st;
	struct sd_err err;

	e->made_pointer_dir = mkdir(dir, root ? 0755 : 0700) == 0;
	if (root && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && own(dir, user, 0755, &err) != 0)
		sd_log_err(SD_LOG_DEBUG, &err, "pointer for stepctl");
	if (lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != uid || (st.st_mode & 022) != 0)
		sd_log(SD_LOG_WARN, "%s is not ours alone: stepctl will need --database", dir);
	else
		e->pointer = sd_xasprintf("%s/embedded", dir);
	free(dir);
}

static char *conninfo_line(const struct sd_embedded *e, size_t *len)
{
	char *line = sd_xasprintf("%s\n", e->conninfo);

	*len = strlen(line);
	return line;
}

int sd_embedded_announce(struct sd_embedded *e, struct sd_err *err)
{
	char *path = sd_xasprintf("%s/conninfo", e->dir);
	size_t len;
	char *line = conninfo_line(e, &len);
	int rc = sd_write_file_atomic(path, line, len, 0600, err);

	if (rc == 0 && e->pointer != NULL)
		rc = sd_write_file_atomic(e->pointer, line, len, 0644, err);
	free(path);
	free(line);
	return rc;
}

static void unlink_if_ours(const char *path, const char *line, size_t len)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;

	if (sd_read_file(path, 4096, &b, &err) == 0 && b.len == len && memcmp(b.data, line, len) == 0)
		unlink(path);
	sd_buf_fini(&b);
}

/* ---- life ---- */

static int open_all(struct sd_embedded *e, const char *dir, const struct sd_user *user, struct sd_err *err)
{
	e->made = access(dir, F_OK) != 0 && errno == ENOENT;
	if (take_directory(dir, user, &e->dir, err) != 0)
		return -1;
	e->data = sd_xasprintf("%s/data", e->dir);
	e->fresh = sd_xasprintf("%s/data.new", e->dir);
	if (take_lock(e, user, err) != 0 || check_owner(e, user, err) != 0 ||
	    find_programs(e, cluster_major(e->data), err) != 0 || make_socket_dir(e, user, err) != 0 || make_log(e, user, err) != 0)
		return -1;
	find_pointer(e, user);
	e->conninfo = sd_xasprintf(strpbrk(e->socket_dir, " =") != NULL ? "host='%s' port=5432 user=stepd dbname=stepd"
									 : "host=%s port=5432 user=stepd dbname=stepd",
				   e->socket_dir);
	return 0;
}

/* What a first start made before it failed; where there is a cluster, or a log that tells why there is none, all stays. */
static void take_back(const struct sd_embedded *e)
{
	char *log = sd_xasprintf("%s/log", e->dir), *run = sd_xasprintf("%s/run", e->dir), *lock = sd_xasprintf("%s/stepd.pid", e->dir);

	if (access(e->data, F_OK) != 0 && access(e->fresh, F_OK) != 0 && (rmdir(log) == 0 || errno == ENOENT)) {
		rmdir(run);
		unlink(lock);
		if (e->made)
			rmdir(e->dir);
	}
	free(log);
	free(run);
	free(lock);
}

struct sd_embedded *sd_embedded_open(const char *dir, const struct sd_user *user, unsigned children, struct sd_err *err)
{
	struct sd_embedded *e = sd_xcalloc(1, sizeof *e);

	e->lock_fd = -1;
	e->connections = 2 * children + SPARE_CONNECTIONS; /* a reload has two generations */
	if (open_all(e, dir, user, err) == 0)
		return e;
	sd_err_prefix(err, "--embedded");
	sd_embedded_close(e);
	return NULL;
}

void sd_embedded_close(struct sd_embedded *e)
{
	if (e == NULL)
		return;
	if (e->lock_fd >= 0 && e->conninfo != NULL) {
		char *path = sd_xasprintf("%s/conninfo", e->dir);
		size_t len;
		char *line = conninfo_line(e, &len);

		unlink(path);
		if (e->pointer != NULL) {
			unlink_if_ours(e->pointer, line, len);
			*strrchr(e->pointer, '/') = '\0';
			/* Not when another instance points from there; and in /run only root may, if it did not become `user:`. */
			if (e->made_pointer_dir || strncmp(e->pointer, "/tmp/", 5) == 0)
				rmdir(e->pointer);
		}
		free(path);
		free(line);
	}
	if (e->lock_fd >= 0 && e->socket_in_tmp && e->socket_dir != NULL) {
		char *run = sd_xasprintf("%s/run", e->dir);

		if (rmdir(e->socket_dir) == 0)
			unlink(run);
		free(run);
	}
	if (e->lock_fd >= 0 && ftruncate(e->lock_fd, 0) != 0)
		sd_log(SD_LOG_DEBUG, "stepd.pid keeps its text: %s", strerror(errno));
	if (e->lock_fd >= 0 && e->first)
		take_back(e);
	sd_close(&e->lock_fd);
	free(e->dir);
	free(e->data);
	free(e->fresh);
	free(e->socket_dir);
	free(e->log);
	free(e->conninfo);
	free(e->bindir);
	free(e->pointer);
	free(e);
}

/* postmaster.pid as pg_ctl reads it: line 1 is the pid, line 8 the state. */
bool sd_embedded_ready(const struct sd_embedded *e, pid_t pid)
{
	char *path = sd_xasprintf("%s/postmaster.pid", e->data);
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	bool ready = false;

	if (sd_read_file(path, 4096, &b, &err) == 0 && b.len > 0 && atoi(b.data) == pid) {
		const char *p = b.data;

		for (int line = 1; line < 8 && p != NULL; line++) {
			p = strchr(p, '\n');
			p = p != NULL ? p + 1 : NULL;
		}
		ready = p != NULL && strncmp(p, "ready", 5) == 0;
	}
	free(path);
	sd_buf_fini(&b);
	return ready;
}

static const char *last_of(const char *text, const char *word)
{
	const char *found = NULL;

	for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
		found = p;
	return found;
}

void sd_embedded_why(const struct sd_embedded *e, char *out, unsigned long outlen)
{
	int fd = open(e->log, O_RDONLY | O_CLOEXEC);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	char tail[4097];
	ssize_t n = fd >= 0 ? pread(fd, tail, sizeof tail - 1, size > 4096 ? size - 4096 : 0) : 0;
	const char *why;

	sd_close(&fd);
	tail[n > 0 ? n : 0] = '\0';
	why = last_of(tail, "FATAL:");
	if (why == NULL)
		why = last_of(tail, "error:");
	if (why == NULL)
		why = tail[0] != '\0' ? tail : "its log is empty";
	snprintf(out, outlen, "%.*s", (int)strcspn(why, "\n"), why);
}
