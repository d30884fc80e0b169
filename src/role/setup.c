/* Before the loop: who we are, where we log; and --check. */
#include "role/setup.h"
#include "base/log.h"
#include "role/loader.h"
#include "role/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int sd_setup_user(const struct sd_conf *conf, bool embedded, struct sd_user *user, struct sd_err *err)
{
	static const char *const usual[] = {"stepd", "postgres", "nobody"};

	if (geteuid() != 0) {
		if (conf->user != NULL)
			sd_log(SD_LOG_DEBUG, "user: %s is honoured only when started as root", conf->user);
		return 0;
	}
	if (conf->user != NULL) {
		if (sd_user_find(conf->user, user, err) != 0)
			return sd_err_prefix(err, "%s:%d:%d: user", conf->file, conf->user_at.line, conf->user_at.col);
		if (embedded && user->uid == 0)
			return sd_err_set(err, SD_ERR_PERMANENT, "%s:%d:%d: user: PostgreSQL does not run as root; name another user", conf->file,
					  conf->user_at.line, conf->user_at.col);
		return 1;
	}
	if (!embedded)
		return 0;
	for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
		if (sd_user_find(usual[i], user, err) == 0)
			return 1;
	return sd_err_set(err, SD_ERR_PERMANENT, "no user to run PostgreSQL as: set `user:` in the configuration");
}

static int find_pool_user(const struct sd_conf_pool *pool, bool embedded, struct sd_user *user, struct sd_err *err)
{
	if (sd_user_find(pool->user, user, err) != 0)
		return -1;
	if (geteuid() != 0 && user->uid != geteuid())
		return sd_err_set(err, SD_ERR_PERMANENT,
				  "only root may run workers as \"%.60s\"; a daemon that was started as root without a pool's user "
				  "gave root up: restart it", pool->user);
	if (embedded)
		return sd_err_set(err, SD_ERR_PERMANENT, "the embedded PostgreSQL is for one user only");
	return 0;
}

int sd_setup_pool_users(const struct sd_conf *conf, bool embedded, struct sd_user users[SD_CONF_MAX_POOLS], bool *any, struct sd_err *err)
{
	*any = false;
	memset(users, 0, SD_CONF_MAX_POOLS * sizeof *users);
	for (size_t i = 0; i < conf->npools; i++) {
		const struct sd_conf_pool *pool = &conf->pools[i];

		if (pool->user == NULL)
			continue;
		if (find_pool_user(pool, embedded, &users[i], err) != 0)
			return sd_err_prefix(err, "%s:%d:%d: pools.%s.user", conf->file, pool->user_line, pool->user_col, pool->name);
		*any |= geteuid() == 0;
	}
	return 0;
}

void sd_setup_log_format(const struct sd_conf *conf)
{
	enum sd_loglevel level;

	if (conf->log_level != NULL && sd_loglevel_parse(conf->log_level, &level) == 0)
		sd_log_set_level(level);
	sd_log_set_json(conf->log_format != NULL && strcmp(conf->log_format, "json") == 0);
}

int sd_setup_log(const struct sd_conf *conf, const struct sd_user *user, struct sd_err *err)
{
	sd_setup_log_format(conf);
	if (sd_log_set_file(conf->log_file, err) != 0)
		return -1;
	if (conf->log_file != NULL && user != NULL && fchown(sd_log_fd(), user->uid, user->gid) != 0)
		return sd_err_errno(err, errno, "cannot give %s to user \"%s\"", conf->log_file, user->name);
	return 0;
}

/* ---- --check ---- */

struct check {
	struct ev_loop *loop;
	struct sd_loader *loader;
	ev_signal chld;
	int problems;
};

static void drop_check(void *arg)
{
	struct check *c = arg;

	ev_signal_stop(c->loop, &c->chld);
}

/* A line each; they do not make the check fail. */
static void print_warnings(const struct sd_buf *text)
{
	for (const char *p = text->data, *end = p + text->len; text->len > 0 && p < end;) {
		size_t n = strcspn(p, "\n");

		fprintf(stderr, "warning: %.*s\n", (int)n, p);
		p += n + 1;
	}
}

static void on_checked(void *arg, struct sd_loaded *loaded, const struct sd_err *err)
{
	struct check *c = arg;

	if (loaded == NULL) {
		fprintf(stderr, "stepd: %s\n", err->message);
		c->problems = -1;
	} else {
		fwrite(loaded->problems.data, 1, loaded->problems.len, stderr);
		print_warnings(&loaded->warnings);
		c->problems = (int)loaded->nproblems;
	}
	ev_break(c->loop, EVBREAK_ALL);
}

static void on_check_child(struct ev_loop *loop, ev_signal *w, int events)
{
	struct check *c = w->data;
	int status;
	pid_t pid;

	(void)loop, (void)events;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == sd_loader_pid(c->loader))
			sd_loader_reaped(c->loader, status);
}

/* Could the log be opened?  Without making it. */
static int check_log(const struct sd_conf *conf)
{
	const char *file = conf->log_file, *slash = file != NULL ? strrchr(file, '/') : NULL;
	char folder[4096];
	struct stat st;
	int problem = 0;

	if (file == NULL)
		return 0;
	snprintf(folder, sizeof folder, "%.*s", slash != NULL && slash > file ? (int)(slash - file) : 1, slash != NULL ? file : ".");
	if (stat(file, &st) == 0)
		problem = S_ISDIR(st.st_mode) ? EISDIR : access(file, W_OK) != 0 ? errno : 0;
	else if (errno != ENOENT || access(folder, W_OK | X_OK) != 0)
		problem = errno;
	if (problem != 0)
		fprintf(stderr, "%s:%d:%d: logging.file: cannot open \"%s\": %s\n", conf->file, conf->log_file_at.line, conf->log_file_at.col, file,
			strerror(problem));
	return problem != 0;
}

int sd_supervise_check(const struct sd_conf *conf, bool embedded)
{
	struct check c = {.problems = -1};
	struct sd_user user, pool_users[SD_CONF_MAX_POOLS];
	struct sd_err err;
	bool any;

	if (sd_setup_pool_users(conf, embedded, pool_users, &any, &err) != 0) {
		fprintf(stderr, "%s\n", err.message);
		return -1;
	}
	int files = sd_setup_check_tls(conf) + check_log(conf); /* as who we were started */
	int become = sd_setup_user(conf, embedded, &user, &err);

	if (become < 0 || (become > 0 && sd_user_become(&user, &err) != 0)) {
		fprintf(stderr, "%s\n", err.message);
		return -1; /* no step is loaded as somebody else */
	}
	c.loop = ev_loop_new(EVFLAG_AUTO);
	if (c.loop == NULL) {
		fprintf(stderr, "stepd: cannot make an event loop\n");
		return -1;
	}
	ev_signal_init(&c.chld, on_check_child, SIGCHLD);
	c.chld.data = &c;
	ev_signal_start(c.loop, &c.chld);
	c.loader = sd_loader_start(c.loop, conf, NULL, NULL, drop_check, &c, on_checked, &c, &err);
	if (c.loader == NULL)
		fprintf(stderr, "stepd: %s\n", err.message);
	else
		ev_run(c.loop, 0);
	sd_loader_free(c.loader);
	ev_signal_stop(c.loop, &c.chld);
	ev_loop_destroy(c.loop);
	return c.problems < 0 ? c.problems : c.problems + files;
}
