/*
 * The embedded PostgreSQL's directory.
 *
 *   DIR/stepd.pid   flock()ed by the supervisor for as long as it lives
 *   DIR/data        the cluster; DIR/data.new while initdb makes it
 *   DIR/run         its socket, or a link to a short 0700 directory in /tmp
 *   DIR/log/postgresql.log
 *   DIR/conninfo    one line, while it runs
 *
 * A pointer for stepctl holds the same line: /run/stepd/embedded for root and for our systemd unit,
 * else $XDG_RUNTIME_DIR/stepd/embedded, else /tmp/stepd-UID/embedded.
 */
#ifndef SD_ROLE_EMBEDDED_H
#define SD_ROLE_EMBEDDED_H

#include "base/err.h"
#include "proc/user.h"

#include <stdbool.h>
#include <sys/types.h>

struct sd_embedded {
	char *dir, *data, *fresh, *socket_dir, *log, *conninfo;
	char *bindir;	      /* of PostgreSQL's programs */
	int major;	      /* their version */
	char *pointer;	      /* NULL: there is no safe place for it */
	bool made_pointer_dir;
	bool socket_in_tmp;
	bool first, made;     /* the directory held no lock yet; was not there */
	int lock_fd;
	unsigned connections; /* max_connections */
};

/* As root, `user` is who everything will run as: the directories are made its own.  NULL: stay who we are. */
struct sd_embedded *sd_embedded_open(const char *dir, const struct sd_user *user, unsigned children, struct sd_err *err);
/* Ready to be told to others: write conninfo and the pointer. */
int sd_embedded_announce(struct sd_embedded *e, struct sd_err *err) SD_MUST_CHECK;
/* Take back what open and announce left behind, but for the cluster. */
void sd_embedded_close(struct sd_embedded *e);
/* Does postmaster `pid` take connections?  From its own postmaster.pid. */
bool sd_embedded_ready(const struct sd_embedded *e, pid_t pid);
/* The last lines of its log that say why it failed, into out. */
void sd_embedded_why(const struct sd_embedded *e, char *out, unsigned long outlen);

#endif
