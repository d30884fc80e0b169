/*
 * A connection that is closed while its client still sends is reset by the
 * kernel, often before the reply is read.  So the socket of a refused upload, or
 * of a connection that ends because this process does, is duplicated before h2o
 * closes it; the copy comes here, is shut for writing and read empty until the
 * client closes or some seconds have passed.
 */
#include "http/server_impl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define LINGER_US (5 * SD_SEC)
#define DRAIN_LINGER_US SD_SEC /* this process is to end */

struct lingerer {
	struct lingerer *next, *prev;
	struct sd_server *server;
	h2o_socket_t *sock;
	int64_t until_us;
};

static void linger_end(struct lingerer *l)
{
	struct sd_server *s = l->server;

	if (l->prev)
		l->prev->next = l->next;
	else
		s->lingerers = l->next;
	if (l->next)
		l->next->prev = l->prev;
	s->nlingerers--;
	h2o_socket_close(l->sock);
	free(l);
}

static void linger_read(h2o_socket_t *sock, const char *err)
{
	struct lingerer *l = sock->data;
	char waste[16384];
	ssize_t n;

	do
		n = recv(h2o_socket_get_fd(sock), waste, sizeof(waste), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n == 0 || err || (errno != EAGAIN && errno != EWOULDBLOCK))
		linger_end(l);
}

void sd_server_linger(struct sd_server *s, int fd)
{
	struct lingerer *l = sd_xcalloc(1, sizeof(*l));

	shutdown(fd, SHUT_WR);
	l->server = s;
	l->until_us = sd_now_us() + LINGER_US;
	l->sock = h2o_evloop_socket_create(s->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
	l->sock->data = l;
	l->next = s->lingerers;
	if (l->next)
		l->next->prev = l;
	s->lingerers = l;
	s->nlingerers++;
	h2o_socket_read_start(l->sock, linger_read);
}

void sd_server_linger_turn(struct sd_server *s)
{
	int64_t now = sd_now_us();

	for (struct lingerer *l = s->lingerers, *next; l; l = next) {
		next = l->next;
		if (now >= (s->draining ? l->until_us - LINGER_US + DRAIN_LINGER_US : l->until_us))
			linger_end(l);
	}
}
