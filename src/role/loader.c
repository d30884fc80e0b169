/* The loader child and the side of it that waits; see loader.h. */
#include "role/loader.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "proc/spawn.h"
#include "role/pools.h"
#include "step/check.h"
#include "step/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CURRENT_LEN 4096
#define MAX_ANSWER (256u << 20)
#define LOOK_SECONDS 1.0
#define SECONDS_PER_FILE 30 /* a file that takes longer hangs */

struct answer_head {
	uint32_t magic;
	uint32_t conf_ok;
	uint64_t nsteps, nproblems, manifest_len, problems_len, warnings_len;
};
#define MAGIC 0x73746570u

struct sd_loader {
	struct ev_loop *loop;
	const struct sd_conf *conf;
	const char *file;
	const struct sd_user *user;
	void (*drop)(void *);
	void *drop_arg;
	sd_loader_done *done;
	void *done_arg;

	pid_t pid;
	int fd; /* read end in the parent */
	int write_fd;
	ev_io io;
	ev_timer look;
	struct sd_buf answer;
	char *current; /* shared with the child */
	char seen[CURRENT_LEN];
	int looks;     /* at the same file */
	bool hung, killed_before;
	const char **skip;
	size_t nskip;
	struct sd_buf fatal; /* problem lines of files that killed a try */
};

/* ---- in the child ---- */

static struct sd_conf *read_conf(const char *file, struct sd_buf *problems)
{
	struct sd_conf_problems found = {NULL, 0};
	struct sd_conf *conf = sd_conf_load(file, &found);
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (conf == NULL && (out = open_memstream(&text, &len)) != NULL) {
		sd_conf_problems_print(out, file, &found);
		fclose(out);
		sd_buf_append(problems, text, len);
		free(text);
	}
	sd_conf_problems_free(&found);
	return conf;
}

/*
 * A pool that names what is not there makes the configuration wrong; unless
 * steps are missing because they could not be loaded, which the daemon may
 * start without.
 */
static bool check_pools(const struct sd_loader *l, const struct sd_conf *conf, const struct sd_buf *manifest, struct sd_step_problems *problems,
			struct sd_buf *warnings)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_err err;
	const struct sd_manifest *m = sd_manifest_parse(manifest->data, manifest->len, arena, &err);
	size_t bad = m != NULL ? sd_pools_check(conf, m, &problems->text, warnings) : 0;

	bool ok = bad == 0 || problems->n + l->nskip > 0;

	problems->n += bad;
	sd_arena_free(arena);
	return ok;
}

/* The directories that can be read; the others are told with their place in the configuration. */
static size_t check_directories(const struct sd_conf *conf, const char **dirs, struct sd_step_problems *problems)
{
	size_t n = 0;

	for (size_t i = 0; i < conf->nsteps; i++) {
		const struct sd_conf_place *at = &conf->steps_at[i];
		DIR *d = opendir(conf->steps[i]);
		char *place = NULL;

		if (d != NULL) {
			closedir(d);
			dirs[n++] = conf->steps[i];
		} else if (at->line > 0) {
			int reason = errno;

			place = sd_xasprintf("%s:%d:%d", conf->file, at->line, at->col);
			sd_problem(problems, place, "steps: the directory \"%s\" can not be read: %s", conf->steps[i], strerror(reason));
		} else {
			sd_problem(problems, conf->steps[i], "the directory can not be read: %s", strerror(errno));
		}
		free(place);
	}
	return n;
}

static _Noreturn void loader_main(void *arg)
{
	struct sd_loader *l = arg;
	struct sd_buf manifest = SD_BUF_INIT, warnings = SD_BUF_INIT;
	struct sd_step_problems problems = {SD_BUF_INIT, 0};
	struct answer_head head = {.magic = MAGIC};
	struct sd_conf *own = l->conf == NULL ? read_conf(l->file, &problems.text) : NULL;
	const struct sd_conf *conf = l->conf != NULL ? l->conf : own;
	struct sd_err err;

	head.conf_ok = conf != NULL;
	if (conf != NULL) {
		const char **dirs = sd_xcalloc(conf->nsteps + 1, sizeof *dirs);
		size_t ndirs = check_directories(conf, dirs, &problems);

		head.nsteps = sd_steps_discover(dirs, ndirs, l->skip, l->nskip, &manifest, &problems, l->current, CURRENT_LEN);
		free(dirs);
		l->current[0] = '\0';
		head.conf_ok = check_pools(l, conf, &manifest, &problems, &warnings);
	}
	head.nproblems = problems.n;
	head.manifest_len = manifest.len;
	head.problems_len = problems.text.len;
	head.warnings_len = warnings.len;
	if (sd_write_full(l->write_fd, &head, sizeof head, &err) != 0 ||
	    sd_write_full(l->write_fd, manifest.data, manifest.len, &err) != 0 ||
	    sd_write_full(l->write_fd, problems.text.data, problems.text.len, &err) != 0 ||
	    sd_write_full(l->write_fd, warnings.data, warnings.len, &err) != 0)
		sd_leave(1);
	sd_conf_free(own);
	sd_buf_fini(&manifest);
	sd_buf_fini(&problems.text);
	sd_buf_fini(&warnings);
	sd_leave(0);
}

/* ---- in the parent ---- */

static void read_answer(struct sd_loader *l)
{
	for (;;) {
		ssize_t n;

		sd_buf_reserve(&l->answer, 65536);
		n = read(l->fd, l->answer.data + l->answer.len, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || l->answer.len > MAX_ANSWER)
			break;
		l->answer.len += (size_t)n;
	}
	ev_io_stop(l->loop, &l->io);
}

static void on_answer(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop, (void)events;
	read_answer(w->data);
}

static void on_look(struct ev_loop *loop, ev_timer *w, int events)
{
	struct sd_loader *l = w->data;

	(void)loop, (void)events;
	if (strncmp(l->seen, l->current, sizeof l->seen - 1) != 0) {
		memcpy(l->seen, l->current, sizeof l->seen - 1);
		l->looks = 0;
	} else if (++l->looks >= SECONDS_PER_FILE && l->pid > 0) {
		l->hung = true;
		kill(-l->pid, SIGKILL);
	}
}

static int start_child(struct sd_loader *l, struct sd_err *err)
{
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) != 0)
		return sd_err_errno(err, errno, "cannot make the loader's pipe");
	l->fd = pipes[0];
	l->write_fd = pipes[1];
	l->current[0] = '\0';
	l->looks = 0;
	l->hung = false;
	sd_buf_reset(&l->answer);

	struct sd_spawn spawn = {
		.title = "loader",
		.comm = "stepd-loader",
		.keep = {pipes[1]},
		.nkeep = 1,
		.user = l->user,
		.drop = l->drop,
		.drop_arg = l->drop_arg,
		.main = loader_main,
		.main_arg = l,
	};
	l->pid = sd_fd_nonblock(pipes[0], err) == 0 ? sd_spawn(&spawn, err) : -1;
	sd_close(&l->write_fd);
	if (l->pid < 0) {
		sd_close(&l->fd);
		return -1;
	}
	ev_io_set(&l->io, l->fd, EV_READ);
	ev_io_start(l->loop, &l->io);
	ev_timer_again(l->loop, &l->look);
	return 0;
}

struct sd_loader *sd_loader_start(struct ev_loop *loop, const struct sd_conf *conf, const char *file,
				  const struct sd_user *user, void (*drop)(void *), void *drop_arg, sd_loader_done *done, void *done_arg, struct sd_err *err)
{
	struct sd_loader *l = sd_xcalloc(1, sizeof *l);

	*l = (struct sd_loader){.loop = loop, .conf = conf, .file = file, .user = user, .drop = drop, .drop_arg = drop_arg, .done = done,
				.done_arg = done_arg, .fd = -1, .write_fd = -1};
	l->current = mmap(NULL, CURRENT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l->current == MAP_FAILED) {
		sd_err_errno(err, errno, "cannot map the loader's memory");
		free(l);
		return NULL;
	}
	ev_init(&l->io, on_answer);
	l->io.data = l;
	ev_init(&l->look, on_look);
	l->look.repeat = LOOK_SECONDS;
	l->look.data = l;
	if (start_child(l, err) != 0) {
		sd_loader_free(l);
		return NULL;
	}
	return l;
}

pid_t sd_loader_pid(const struct sd_loader *l)
{
	return l->pid;
}

static void say_how(struct sd_buf *b, const char *what, int status, bool hung)
{
	if (hung)
		sd_buf_printf(b, "%s: did not load within %d seconds\n", what, SECONDS_PER_FILE);
	else if (WIFSIGNALED(status))
		sd_buf_printf(b, "%s: killed its process with signal %d (%s) while being loaded\n", what, WTERMSIG(status),
			      strsignal(WTERMSIG(status)));
	else
		sd_buf_printf(b, "%s: ended its process with exit code %d while being loaded\n", what, WEXITSTATUS(status));
}

/* The answer in parts, or false when it is not one. */
static bool split_answer(const struct sd_loader *l, struct sd_loaded *loaded)
{
	struct answer_head head;
	const char *p;

	if (l->answer.len < sizeof head)
		return false;
	memcpy(&head, l->answer.data, sizeof head);
	if (head.magic != MAGIC || head.manifest_len > MAX_ANSWER || head.problems_len > MAX_ANSWER ||
	    head.warnings_len > MAX_ANSWER ||
	    l->answer.len != sizeof head + head.manifest_len + head.problems_len + head.warnings_len)
		return false;
	p = l->answer.data + sizeof head;
	*loaded = (struct sd_loaded){.conf_ok = head.conf_ok != 0, .nsteps = head.nsteps, .nproblems = head.nproblems + l->nskip};
	sd_buf_append(&loaded->manifest, p, head.manifest_len);
	sd_buf_append(&loaded->problems, l->fatal.data, l->fatal.len);
	sd_buf_append(&loaded->problems, p + head.manifest_len, head.problems_len);
	sd_buf_append(&loaded->warnings, p + head.manifest_len + head.problems_len, head.warnings_len);
	return true;
}

static void try_without(struct sd_loader *l, int status)
{
	struct sd_err err;
	char what[CURRENT_LEN];

	memcpy(what, l->current, sizeof what - 1);
	what[sizeof what - 1] = '\0';
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !l->hung && !l->killed_before) {
		l->killed_before = true; /* no fault of a file: someone, or the kernel short of memory, ended it; once more */
		if (start_child(l, &err) != 0)
			l->done(l->done_arg, NULL, &err);
		return;
	}
	if (what[0] == '\0' || (l->nskip > 0 && strcmp(l->skip[l->nskip - 1], what) == 0)) {
		struct sd_buf text = SD_BUF_INIT;

		say_how(&text, "loader", status, l->hung);
		text.data[text.len - 1] = '\0';
		sd_err_set(&err, SD_ERR_PERMANENT, "%.400s", text.data);
		sd_buf_fini(&text);
		l->done(l->done_arg, NULL, &err);
		return;
	}
	say_how(&l->fatal, what, status, l->hung);
	l->skip = sd_xrealloc(l->skip, (l->nskip + 1) * sizeof *l->skip);
	l->skip[l->nskip++] = sd_xstrdup(what);
	if (start_child(l, &err) != 0)
		l->done(l->done_arg, NULL, &err);
}

void sd_loader_reaped(struct sd_loader *l, int status)
{
	struct sd_loaded loaded;

	l->pid = 0;
	read_answer(l);
	ev_io_stop(l->loop, &l->io);
	ev_timer_stop(l->loop, &l->look);
	sd_close(&l->fd);
	if (l->hung || !WIFEXITED(status) || WEXITSTATUS(status) != 0 || !split_answer(l, &loaded)) {
		try_without(l, status);
		return;
	}
	l->done(l->done_arg, &loaded, NULL);
	sd_buf_fini(&loaded.manifest);
	sd_buf_fini(&loaded.problems);
	sd_buf_fini(&loaded.warnings);
}

void sd_loader_free(struct sd_loader *l)
{
	if (l == NULL)
		return;
	if (l->pid > 0)
		kill(-l->pid, SIGKILL);
	ev_io_stop(l->loop, &l->io);
	ev_timer_stop(l->loop, &l->look);
	sd_close(&l->fd);
	munmap(l->current, CURRENT_LEN);
	for (size_t i = 0; i < l->nskip; i++)
		free((char *)l->skip[i]);
	free(l->skip);
	sd_buf_fini(&l->answer);
	sd_buf_fini(&l->fatal);
	free(l);
}
