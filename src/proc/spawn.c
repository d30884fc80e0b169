/* The fork protocol; see spawn.h for its order and why. */
#include "proc/spawn.h"
#include "base/log.h"
#include "proc/title.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

/* How the kernel tells a child that its parent died.  From anybody else it means nothing: the parent is there then. */
#define SIG_PARENT_DIED SIGUSR2

_Noreturn void sd_leave(int status)
{
#ifdef __SANITIZE_ADDRESS__
	__lsan_do_recoverable_leak_check();
#endif
	_exit(status);
}

_Noreturn void sd_orphaned(void)
{
	if (getpgrp() == getpid())
		kill(0, SIGKILL);
	_exit(1);
}

static pid_t the_parent;
static _Atomic bool orphan;

bool sd_is_orphan(void)
{
	return atomic_load_explicit(&orphan, memory_order_relaxed);
}

static void parent_died(int sig)
{
	if (sig == SIGALRM || getppid() != the_parent)
		sd_orphaned();
}

static void linger(int sig)
{
	struct sigaction end = {.sa_handler = parent_died};

	if (getppid() == the_parent)
		return;
	orphan = true;
	sigaction(SIGALRM, &end, NULL);
	alarm(SD_ORPHAN_SECONDS);
}

static void nothing(int sig)
{
	(void)sig;
}

static void handle(int sig, void (*fn)(int))
{
	struct sigaction sa = {.sa_handler = fn, .sa_flags = SA_RESTART};

	sigemptyset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

static void reset_signals(void)
{
	for (int sig = 1; sig < NSIG; sig++)
		handle(sig, SIG_DFL);
	handle(SIGHUP, nothing);
	handle(SIGINT, nothing);
	handle(SIGUSR1, nothing);
	handle(SIGPIPE, nothing);
	handle(SIG_PARENT_DIED, parent_died);
}

void sd_orphan_lingers(void)
{
	handle(SIG_PARENT_DIED, linger);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Close every descriptor from 3 up that is not in keep. */
static void close_foreign(const int *keep, size_t nkeep)
{
	int sorted[SD_SPAWN_MAX_KEEP + 2], from = 3;
	size_t n = 0;

	for (size_t i = 0; i < nkeep && n < SD_SPAWN_MAX_KEEP; i++)
		if (keep[i] >= 3)
			sorted[n++] = keep[i];
	if (sd_log_fd() >= 3)
		sorted[n++] = sd_log_fd();
	qsort(sorted, n, sizeof *sorted, by_number);
	for (size_t i = 0; i < n; i++) {
		if (sorted[i] > from)
			close_range((unsigned)from, (unsigned)sorted[i] - 1, 0);
		if (sorted[i] >= from)
			from = sorted[i] + 1;
	}
	close_range((unsigned)from, ~0U, 0);
}

/* A child never reads the terminal the daemon was started from. */
static void empty_stdin(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd > 0) {
		dup2(fd, STDIN_FILENO);
		close(fd);
	}
}

/* Asked anew after a change of user, which makes the kernel forget it. */
static void ask_for_parents_death(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIG_PARENT_DIED);
	if (getppid() != parent)
		_exit(1);
	the_parent = parent;
}

static void become(const struct sd_user *user, pid_t parent)
{
	struct sd_err err;

	if (sd_user_become(user, &err) != 0) {
		sd_log_err(SD_LOG_ERROR, &err, "cannot start");
		_exit(77);
	}
	ask_for_parents_death(parent);
}

static _Noreturn void child(const struct sd_spawn *s, pid_t parent, const sigset_t *mask)
{
	if (s->drop != NULL)
		s->drop(s->drop_arg);
	reset_signals();
	ask_for_parents_death(parent);
	setpgid(0, 0);
	close_foreign(s->keep, s->nkeep);
	empty_stdin();
	prctl(PR_SET_NAME, s->comm);
	sd_title_set("stepd: %s", s->title);
	sd_log_set_name(s->title);
	if (s->user != NULL)
		become(s->user, parent);
	sigprocmask(SIG_SETMASK, mask, NULL);
	s->main(s->main_arg);
}

pid_t sd_spawn(const struct sd_spawn *s, struct sd_err *err)
{
	sigset_t all, before, none;
	pid_t parent = getpid(), pid;

	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child(s, parent, &none);
	if (pid < 0)
		sd_err_errno(err, errno, "cannot fork %s", s->title);
	else
		setpgid(pid, pid); /* both sides do it: whoever needs the group first finds it */
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}
