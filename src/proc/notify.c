/* sd_notify(3) and sd_listen_fds(3) as far as a daemon needs them. */
#include "proc/notify.h"
#include "base/fdutil.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_LISTEN_FD 3

static int64_t env_int(const char *name)
{
	const char *s = getenv(name);
	char *end;
	long long v;

	if (s == NULL || *s == '\0')
		return 0;
	errno = 0;
	v = strtoll(s, &end, 10);
	return errno == 0 && *end == '\0' && v > 0 ? v : 0;
}

static int connect_to(const char *path, int *fd, struct sd_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || len >= sizeof to.sun_path)
		return sd_err_set(err, SD_ERR_PERMANENT, "NOTIFY_SOCKET is neither a path nor an abstract name: %s", path);
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	*fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return sd_err_errno(err, errno, "cannot make a socket");
	if (connect(*fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) != 0) {
		sd_err_errno(err, errno, "cannot connect to the service manager at %s", path);
		sd_close(fd);
		return -1;
	}
	return 0;
}

int sd_notify_open(struct sd_notify_socket *n, struct sd_err *err)
{
	const char *path = getenv("NOTIFY_SOCKET");
	int64_t pid = env_int("WATCHDOG_PID");
	int result = 0;

	n->fd = -1;
	n->watchdog_us = pid == 0 || pid == getpid() ? env_int("WATCHDOG_USEC") : 0;
	if (path != NULL && *path != '\0')
		result = connect_to(path, &n->fd, err);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return result;
}

void sd_notify_close(struct sd_notify_socket *n)
{
	sd_close(&n->fd);
}

void sd_notify_say(const struct sd_notify_socket *n, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int len;

	if (n->fd < 0)
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof text)
		len = sizeof text - 1;
	while (send(n->fd, text, (size_t)len, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

char *sd_notify_line(char *text)
{
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == '\x7f')
			*p = ' ';
	return text;
}

/* Is name the i-th of "a:b:c"? */
static int name_position(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; names != NULL; i++) {
		const char *colon = strchr(names, ':');

		if (strncmp(names, name, len) == 0 && (names[len] == ':' || names[len] == '\0'))
			return i;
		names = colon != NULL ? colon + 1 : NULL;
	}
	return -1;
}

int sd_notify_listen_fd(const char *name, int position)
{
	int64_t n = env_int("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	int listening = 0, i, fd;
	socklen_t len = sizeof listening;
	struct sd_err err;

	if (env_int("LISTEN_PID") != getpid() || n > 64)
		return -1;
	i = names != NULL && name_position(names, name) >= 0 ? name_position(names, name) : position;
	if (i >= n)
		return -1;
	fd = FIRST_LISTEN_FD + i;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || !listening)
		return -1;
	if (sd_fd_cloexec(fd, &err) != 0 || sd_fd_nonblock(fd, &err) != 0)
		return -1;
	return fd;
}

void sd_notify_listen_done(void)
{
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}
