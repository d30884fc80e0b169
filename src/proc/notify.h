/*
 * The service manager: sd_notify(3)'s protocol and socket activation.
 *
 * Our own writer instead of libsystemd: the protocol is one datagram of
 * VAR=VALUE lines, promised stable, and the library would bring its
 * decompressors and crypto into every process of ours for it.
 */
#ifndef SD_PROC_NOTIFY_H
#define SD_PROC_NOTIFY_H

#include "base/err.h"

#include <stdint.h>

struct sd_notify_socket {
	int fd;		     /* connected, -1: no one listens */
	int64_t watchdog_us; /* WATCHDOG=1 is wanted at least this often; 0: not at all */
};

/*
 * Connect to $NOTIFY_SOCKET and read $WATCHDOG_USEC; both leave the environment, so that children do not speak for us.
 * Called while still root, because the socket may be closed to the user we drop to.  No socket is not an error.
 */
int sd_notify_open(struct sd_notify_socket *n, struct sd_err *err) SD_MUST_CHECK;
void sd_notify_close(struct sd_notify_socket *n);
/* Send "VAR=VALUE\n…"; never blocks, failures are dropped: the manager finds out by its own timeouts. */
void sd_notify_say(const struct sd_notify_socket *n, const char *fmt, ...) SD_PRINTF(2, 3);

/* What others said, made fit to stand behind "STATUS=": a line break would begin a variable of theirs.  In place; returns text. */
char *sd_notify_line(char *text);

/*
 * Sockets passed by the manager ($LISTEN_FDS): the one named name in $LISTEN_FDNAMES, or without
 * names the position-th.  Close-on-exec, non-blocking.  -1: none.
 */
int sd_notify_listen_fd(const char *name, int position);
/* Take the variables out of the environment. */
void sd_notify_listen_done(void);

#endif
