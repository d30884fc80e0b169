/* Listening sockets: opened, shared, counted. */
#include "proc/listen.h"
#include "base/fdutil.h"
#include "base/mem.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096

static struct sd_listener *listener_new(int fd, const char *host, uint16_t port)
{
	struct sd_listener *l = sd_xcalloc(1, sizeof *l);

	l->fd = fd;
	l->refs = 1;
	l->port = port;
	snprintf(l->host, sizeof l->host, "%s", host);
	return l;
}

static int listen_on(const struct addrinfo *ai)
{
	int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 && bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	sd_close(&fd);
	return -1;
}

struct sd_listener *sd_listen_open(const char *host, uint16_t port, struct sd_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV}, *all;
	const char *node = strcmp(host, "*") == 0 ? NULL : host;
	char service[8];
	int rc, fd = -1, saved = 0;

	snprintf(service, sizeof service, "%u", port);
	rc = getaddrinfo(node, service, &hints, &all);
	if (rc == EAI_NONAME) { /* a name: only now is the resolver worth its memory */
		hints.ai_flags &= ~AI_NUMERICHOST;
		rc = getaddrinfo(node, service, &hints, &all);
	}
	if (rc != 0) {
		sd_err_set(err, SD_ERR_PERMANENT, "cannot listen on %s:%u: %s", host, port,
			   rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
		return NULL;
	}
	for (struct addrinfo *ai = all; ai != NULL && fd < 0; ai = ai->ai_next) {
		fd = listen_on(ai);
		saved = errno;
	}
	freeaddrinfo(all);
	if (fd >= 0)
		return listener_new(fd, host, port);
	sd_err_errno(err, saved, "cannot listen on %s:%u", host, port);
	if (saved == EADDRINUSE)
		sd_err_hint(err, "another process has this port: ss -ltnp 'sport = :%u' shows it", port);
	else if (saved == EACCES)
		sd_err_hint(err, "ports below 1024 need root or CAP_NET_BIND_SERVICE at start");
	return NULL;
}

struct sd_listener *sd_listen_adopt(int fd)
{
	struct sd_listener *l = listener_new(fd, "", 0);

	l->activated = true;
	return l;
}

bool sd_listen_same(const struct sd_listener *l, const char *host, uint16_t port)
{
	return l->activated || (l->port == port && strcmp(l->host, host) == 0);
}

struct sd_listener *sd_listen_ref(struct sd_listener *l)
{
	if (l != NULL)
		l->refs++;
	return l;
}

void sd_listen_unref(struct sd_listener *l)
{
	if (l == NULL || --l->refs > 0)
		return;
	sd_close(&l->fd);
	free(l);
}

void sd_listen_address(const struct sd_listener *l, char *out, unsigned long outlen)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	char host[128], port[16];

	if (getsockname(l->fd, (struct sockaddr *)&ss, &len) != 0 ||
	    getnameinfo((struct sockaddr *)&ss, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, outlen, "%s:%u", l->host, l->port);
	else
		snprintf(out, outlen, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
}

int sd_listen_unix(struct sd_err *err)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any.sun_family) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	sd_err_errno(err, errno, "cannot make the web workers' socket");
	sd_close(&fd);
	return -1;
}
