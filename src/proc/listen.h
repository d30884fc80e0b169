/*
 * Listening TCP sockets.  The supervisor opens them, passes them to children
 * and keeps them over reloads while the address is the same; they are counted,
 * because two generations may hold one.
 */
#ifndef SD_PROC_LISTEN_H
#define SD_PROC_LISTEN_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sd_listener {
	int fd;
	unsigned refs;
	bool activated; /* given by the service manager: kept whatever the configuration says */
	char host[256];
	uint16_t port; /* as asked for; 0: the kernel chose */
};

/* A new listener with one reference; NULL with *err, which names the address and the reason. */
struct sd_listener *sd_listen_open(const char *host, uint16_t port, struct sd_err *err);
/* Around a socket the service manager passed. */
struct sd_listener *sd_listen_adopt(int fd);
bool sd_listen_same(const struct sd_listener *l, const char *host, uint16_t port);
struct sd_listener *sd_listen_ref(struct sd_listener *l); /* NULL gives NULL */
void sd_listen_unref(struct sd_listener *l);
/* The address it really has, "127.0.0.1:3111" or "[::1]:3111". */
void sd_listen_address(const struct sd_listener *l, char *out, unsigned long outlen);

/* A listening Unix socket with an address the kernel chose (autobind), not in the file system; -1 with *err. */
int sd_listen_unix(struct sd_err *err);

#endif
