/* Channel, death queue, service manager protocol, listening sockets, fork protocol. */
#include "base/clock.h"
#include "proc/chan.h"
#include "proc/listen.h"
#include "proc/notify.h"
#include "proc/place.h"
#include "proc/spawn.h"
#include "proc/wake.h"
#include "role/deaths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_channel(void **state)
{
	struct sd_msg out = {.type = SD_MSG_FAILED, .exit_code = 69}, in;
	struct sd_err err;
	int fd[2], sent = 0;

	(void)state;
	strcpy(out.text, "why");
	assert_int_equal(sd_chan_pair(fd, &err), 0);
	assert_int_equal(sd_chan_recv(fd[0], &in, &err), 0);
	assert_int_equal(sd_chan_send(fd[1], &out, &err), 0);
	assert_int_equal(sd_chan_recv(fd[0], &in, &err), 1);
	assert_int_equal(in.exit_code, 69);
	assert_string_equal(in.text, "why");
	while (sd_chan_send(fd[1], &out, &err) == 0)
		assert_true(++sent < 100000);
	assert_int_equal(err.class, SD_ERR_TRANSIENT);
	close(fd[1]);
	while (sent-- > 0)
		assert_int_equal(sd_chan_recv(fd[0], &in, &err), 1);
	assert_int_equal(sd_chan_recv(fd[0], &in, &err), -1);
	assert_int_equal(err.errnum, 0);
	close(fd[0]);
}

static void test_channel_refuses_other_sizes(void **state)
{
	char big[4096] = {0};
	struct sd_msg in;
	struct sd_err err;
	int fd[2];

	(void)state;
	assert_int_equal(sd_chan_pair(fd, &err), 0);
	assert_int_equal(send(fd[1], big, 3, 0), 3);
	assert_int_equal(sd_chan_recv(fd[0], &in, &err), -1);
	assert_int_equal(err.class, SD_ERR_BUG);
	assert_int_equal(send(fd[1], big, sizeof big, 0), sizeof big);
	assert_int_equal(sd_chan_recv(fd[0], &in, &err), -1);
	assert_int_equal(err.class, SD_ERR_BUG);
	close(fd[0]);
	close(fd[1]);
}

static void test_deaths_are_told_until_acknowledged(void **state)
{
	struct sd_deaths d = {0};
	struct sd_msg in;
	struct sd_err err;
	int fd[2];

	(void)state;
	assert_int_equal(sd_chan_pair(fd, &err), 0);
	for (int i = 0; i < 3; i++)
		sd_deaths_add(&d, &(struct sd_msg_death){.job = 10 + i});
	sd_deaths_send(&d, fd[0], 100);
	sd_deaths_send(&d, fd[0], 100); /* the same keeper is not told twice */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(sd_chan_recv(fd[1], &in, &err), 1);
		assert_int_equal(in.type, SD_MSG_DEATH);
		assert_int_equal(in.death.job, 10 + i);
		assert_int_equal(in.serial, i + 1);
		assert_int_equal(in.death.serial, i + 1);
	}
	assert_int_equal(sd_chan_recv(fd[1], &in, &err), 0);
	sd_deaths_ack(&d, 2);
	sd_deaths_ack(&d, 77);
	assert_int_equal(d.n, 2);
	sd_deaths_send(&d, fd[0], 101); /* the next one is told what is open */
	assert_int_equal(sd_chan_recv(fd[1], &in, &err), 1);
	assert_int_equal(in.death.job, 10);
	assert_int_equal(sd_chan_recv(fd[1], &in, &err), 1);
	assert_int_equal(in.death.job, 12);
	sd_deaths_ack(&d, 3);
	sd_deaths_add(&d, &(struct sd_msg_death){.job = 13});
	sd_deaths_ack(&d, 1);
	sd_deaths_ack(&d, 4);
	assert_int_equal(d.n, 0);
	assert_null(d.first);
	assert_null(d.last);
	/* More than a channel holds: the rest follows when there is room. */
	for (int i = 0; i < 5000; i++)
		sd_deaths_add(&d, &(struct sd_msg_death){.job = i + 1});
	for (int got = 0; got < 5000;) {
		sd_deaths_send(&d, fd[0], 102);
		while (sd_chan_recv(fd[1], &in, &err) == 1)
			assert_int_equal(in.death.job, ++got);
	}
	sd_deaths_fini(&d);
	close(fd[0]);
	close(fd[1]);
}

static void test_notify(void **state)
{
	struct sd_notify_socket n;
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	socklen_t len = sizeof at;
	struct sd_err err;
	char name[128], text[128] = "";
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at.sun_family), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	snprintf(name, sizeof name, "@%.*s", (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), at.sun_path + 1);
	setenv("NOTIFY_SOCKET", name, 1);
	setenv("WATCHDOG_USEC", "2000000", 1);
	assert_int_equal(sd_notify_open(&n, &err), 0);
	assert_int_equal(n.watchdog_us, 2000000);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	sd_notify_say(&n, "READY=1\nSTATUS=%d\n", 5);
	assert_int_equal(recv(fd, text, sizeof text - 1, 0), 17);
	assert_string_equal(text, "READY=1\nSTATUS=5\n");
	snprintf(text, sizeof text, "%s", "worker/0: bad\nMAINPID=1\r\tof 5 \xc3\xa9");
	assert_string_equal(sd_notify_line(text), "worker/0: bad MAINPID=1  of 5 \xc3\xa9");
	sd_notify_close(&n);
	close(fd);
	sd_notify_say(&n, "READY=1\n"); /* nobody: nothing */
	assert_int_equal(sd_notify_open(&n, &err), 0);
	assert_int_equal(n.fd, -1);
	setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
	assert_int_equal(sd_notify_open(&n, &err), -1);
	setenv("NOTIFY_SOCKET", "vsock:1", 1);
	assert_int_equal(sd_notify_open(&n, &err), -1);
	setenv("WATCHDOG_USEC", "-5x", 1);
	assert_int_equal(sd_notify_open(&n, &err), 0);
	assert_int_equal(n.watchdog_us, 0);
}

static void test_listen(void **state)
{
	struct sd_listener *a, *b;
	struct sd_err err;
	char at[128];
	int port;

	(void)state;
	a = sd_listen_open("127.0.0.1", 0, &err);
	assert_non_null(a);
	sd_listen_address(a, at, sizeof at);
	assert_int_equal(sscanf(at, "127.0.0.1:%d", &port), 1);
	b = sd_listen_open("127.0.0.1", (uint16_t)port, &err);
	assert_null(b);
	assert_non_null(strstr(err.message, "Address already in use"));
	snprintf(at, sizeof at, "127.0.0.1:%d", port);
	assert_non_null(strstr(err.message, at));
	assert_null(sd_listen_open("no.such.host.invalid", 80, &err));
	assert_null(sd_listen_open("203.0.113.7", 1, &err)); /* not ours */
	assert_true(sd_listen_same(a, "127.0.0.1", 0));
	assert_false(sd_listen_same(a, "127.0.0.2", 0));
	assert_ptr_equal(sd_listen_ref(a), a);
	sd_listen_unref(a);
	assert_true(fcntl(a->fd, F_GETFD) >= 0);
	sd_listen_unref(a);
	sd_listen_unref(NULL);
	int fd = sd_listen_unix(&err);
	assert_true(fd >= 0);
	close(fd);
}

/* ---- the fork protocol ---- */

struct report {
	int open_fds, keep_open, foreign_open, pgid_is_pid, blocked, chan;
};

static int foreign_fd;

static _Noreturn void report_main(void *arg)
{
	int fd = *(int *)arg;
	sigset_t mask;
	struct report r = {0};

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int sig = 1; sig < 32; sig++)
		r.blocked += sigismember(&mask, sig) == 1;
	r.keep_open = fcntl(fd, F_GETFD) >= 0;
	r.foreign_open = fcntl(foreign_fd, F_GETFD) >= 0;
	r.pgid_is_pid = getpgrp() == getpid();
	kill(getpid(), SIGHUP); /* does nothing in a child */
	kill(getpid(), SIGINT);
	kill(getpid(), SIGUSR1);
	if (write(fd, &r, sizeof r) != sizeof r)
		_exit(2);
	_exit(7);
}

static void test_spawn(void **state)
{
	int fd[2], status;
	struct report r;
	struct sd_err err;
	struct sd_spawn s = {.title = "test", .comm = "test", .nkeep = 2, .main = report_main};
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	foreign_fd = dup(fd[0]);
	s.keep[0] = -1;
	s.keep[1] = fd[1];
	s.main_arg = &fd[1];
	pid = sd_spawn(&s, &err);
	assert_true(pid > 0);
	assert_int_equal(read(fd[0], &r, sizeof r), sizeof r);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	assert_true(r.keep_open);
	assert_false(r.foreign_open);
	assert_true(r.pgid_is_pid);
	assert_int_equal(r.blocked, 0);
	close(fd[0]);
	close(fd[1]);
	close(foreign_fd);
}

/* A child with a child of its own; both hold the pipe open. */
static _Noreturn void family_main(void *arg)
{
	int fd = *(int *)arg;
	pid_t grandchild = fork();

	if (grandchild > 0 && write(fd, &grandchild, sizeof grandchild) != sizeof grandchild)
		_exit(2);
	for (;;)
		pause();
}

/* Kill the parent: the child ends, and with it what the child started. */
static void test_orphans_end(void **state)
{
	int fd[2];
	pid_t parent, grandchild;
	char byte;
	struct pollfd p;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	parent = fork();
	if (parent == 0) {
		struct sd_spawn s = {.title = "family", .comm = "family", .keep = {fd[1]}, .nkeep = 1, .main = family_main,
				     .main_arg = &fd[1]};
		struct sd_err err;

		if (sd_spawn(&s, &err) < 0)
			_exit(1);
		close(fd[1]);
		for (;;)
			pause();
	}
	close(fd[1]);
	assert_int_equal(read(fd[0], &grandchild, sizeof grandchild), sizeof grandchild);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	p = (struct pollfd){fd[0], POLLIN, 0};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(fd[0], &byte, 1), 0); /* EOF: no one holds the other end */
	close(fd[0]);
}

static int tokens(int fd)
{
	uint64_t one;
	int n = 0;

	while (read(fd, &one, sizeof one) == sizeof one)
		n++;
	return n;
}

static void test_place(void **state)
{
	int64_t started = sd_place_started(getpid());
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_true(sd_place_lives(getpid(), started));
	assert_true(sd_place_lives(getpid(), -1));
	assert_false(sd_place_lives(getpid(), started + 1)); /* another process of that pid */
	assert_false(sd_place_lives(0, -1));
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_false(sd_place_lives(pid, -1)); /* a zombie */
	waitpid(pid, NULL, 0);
	assert_false(sd_place_lives(pid, -1));
	assert_int_equal(sd_place_started(pid), -1);
}

static void test_wake(void **state)
{
	static const struct {
		int group;
		uint32_t sleep, slot_state;
	} slots[] = {{0, SD_ASLEEP, SD_SLOT_READY},   {0, SD_ASLEEP, SD_SLOT_READY}, {0, SD_ASLEEP, SD_SLOT_DRAINING},
		     {0, SD_CLAIMING, SD_SLOT_READY}, {1, SD_CLAIMING, SD_SLOT_READY}, {1, SD_CLAIMING, SD_SLOT_READY},
		     {2, SD_AWAKE, SD_SLOT_READY},    {-1, SD_ASLEEP, SD_SLOT_READY}};
	uint32_t n = sizeof slots / sizeof slots[0];
	struct sd_err err;
	struct sd_wake w;
	struct sd_scoreboard *sb = sd_scoreboard_new(n, &err);

	(void)state;
	assert_non_null(sb);
	assert_int_equal(sd_wake_open(&w, &err), 0);
	for (uint32_t i = 0; i < n; i++) {
		atomic_store(&sb->slot[i].group, slots[i].group);
		atomic_store(&sb->slot[i].asleep, slots[i].sleep);
		atomic_store(&sb->slot[i].state, slots[i].slot_state);
	}
	/* so many are woken, of those that sleep; one where somebody only may be about to */
	assert_int_equal(sd_wake_ring(&w, sb, -1, 1), 3);
	assert_int_equal(tokens(w.fd[0]), 1);
	assert_int_equal(tokens(w.fd[1]), 1);
	assert_int_equal(tokens(w.fd[2]), 0);
	sd_wake_ring(&w, sb, -1, 9);
	assert_int_equal(tokens(w.fd[0]), 2);
	assert_int_equal(tokens(w.fd[1]), 1);
	sd_wake_ring(&w, sb, 0, 9);
	assert_int_equal(tokens(w.fd[0]), 1);
	assert_int_equal(tokens(w.fd[1]), 1);
	/* nobody */
	for (uint32_t i = 0; i < n; i++)
		atomic_store(&sb->slot[i].asleep, SD_AWAKE);
	assert_int_equal(sd_wake_ring(&w, sb, -1, 9), 0);
	assert_int_equal(tokens(w.fd[0]) + tokens(w.fd[1]) + tokens(w.fd[2]), 0);
	sd_wake_close(&w);
	sd_scoreboard_free(sb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_channel),
		cmocka_unit_test(test_channel_refuses_other_sizes),
		cmocka_unit_test(test_deaths_are_told_until_acknowledged),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_spawn),
		cmocka_unit_test(test_orphans_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
