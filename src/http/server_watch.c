/* Other descriptors in the server's loop: see server.h. */
#include "http/server_impl.h"

#include "base/mem.h"

#include <stdlib.h>

struct sd_watch {
	h2o_socket_t *sock;
	int fd;
	void (*on_readable)(void *arg);
	void (*on_writable)(void *arg);
	void *arg;
};

static void watch_read(h2o_socket_t *sock, const char *err)
{
	struct sd_watch *w = sock->data;

	w->on_readable(w->arg);
}

static void watch_write(h2o_socket_t *sock, const char *err)
{
	struct sd_watch *w = sock->data;

	w->on_writable(w->arg);
}

struct sd_watch *sd_watch_new(struct sd_server *s, int fd, void (*on_readable)(void *arg), void (*on_writable)(void *arg), void *arg)
{
	struct sd_watch *w = sd_xmalloc(sizeof(*w));

	*w = (struct sd_watch){NULL, fd, on_readable, on_writable, arg};
	w->sock = h2o_evloop_socket_create(s->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
	w->sock->data = w;
	h2o_socket_read_start(w->sock, watch_read);
	return w;
}

void sd_watch_writable(struct sd_watch *w)
{
	if (!h2o_socket_is_writing(w->sock))
		h2o_socket_notify_write(w->sock, watch_write);
}

int sd_watch_fd(const struct sd_watch *w)
{
	return w->fd;
}

void sd_watch_free(struct sd_watch *w)
{
	h2o_socket_close(w->sock);
	free(w);
}
