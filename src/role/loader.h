/*
 * The loader: a child that reads the configuration and loads every step file,
 * because only a child may meet what is in them.  It answers with the manifest
 * and a list of problems over a pipe.  A step file that kills it is named (the
 * file being loaded is written in shared memory before it is touched) and left
 * out of the next try, so discovery always ends.
 */
#ifndef SD_ROLE_LOADER_H
#define SD_ROLE_LOADER_H

#include "base/buf.h"
#include "conf/conf.h"
#include "proc/user.h"

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

struct sd_loaded {
	bool conf_ok;	       /* the configuration has no problem, with these steps */
	size_t nsteps;
	size_t nproblems;      /* of step files, and names in pools */
	struct sd_buf manifest;
	struct sd_buf warnings; /* lines: work that no pool does */
	struct sd_buf problems; /* lines "file: message", those of the configuration "file:line:col: message" */
};

struct sd_loader;
/* Called once; takes what it wants from *loaded with sd_buf_take.  err is set, and loaded NULL, when loading itself failed. */
typedef void sd_loader_done(void *arg, struct sd_loaded *loaded, const struct sd_err *err);

/*
 * Start one.  With conf the steps of conf are loaded; without, file is read and
 * checked first (NULL: the built-in defaults).  user, drop and drop_arg: as in
 * struct sd_spawn.  NULL with *err when nothing could be started.
 */
struct sd_loader *sd_loader_start(struct ev_loop *loop, const struct sd_conf *conf, const char *file,
				  const struct sd_user *user, void (*drop)(void *), void *drop_arg, sd_loader_done *done, void *done_arg, struct sd_err *err);
pid_t sd_loader_pid(const struct sd_loader *l);
/* Its pid was reaped with this wait status.  May call done, which may free it. */
void sd_loader_reaped(struct sd_loader *l, int status);
void sd_loader_free(struct sd_loader *l); /* NULL is allowed; kills what runs; its pid may still have to be reaped */

#endif
