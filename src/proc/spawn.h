/*
 * The fork protocol.
 *
 * All signals are blocked around fork(2), so that none is delivered to a child
 * that still has its parent's handlers.  The child then, in this order: lets go
 * of the parent's watchers, puts every signal back to its default, asks to be
 * told of the parent's death (and looks whether it came too late to be told),
 * becomes the user it is to run as,
 * becomes the leader of its own process group, closes every descriptor it was
 * not given, takes its title, unblocks, and runs its main, which never returns.
 *
 * In a child HUP, INT, USR1 and PIPE do nothing (handlers, not SIG_IGN: what a
 * step executes must not inherit it); TERM ends it.
 */
#ifndef SD_PROC_SPAWN_H
#define SD_PROC_SPAWN_H

#include "base/err.h"
#include "proc/user.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SD_SPAWN_MAX_KEEP 96

struct sd_spawn {
	const char *title; /* in ps and in front of log lines: "worker default/0" */
	const char *comm;  /* at most 15 bytes */
	int keep[SD_SPAWN_MAX_KEEP]; /* descriptors that stay open beside 0, 1, 2 and the log; -1 is skipped */
	size_t nkeep;
	const struct sd_user *user; /* who to become, from root; NULL: stay */
	void (*drop)(void *arg); /* let go of the parent's watchers; memory only, no descriptor is touched; NULL: none */
	void *drop_arg;
	void (*main)(void *arg) __attribute__((__noreturn__));
	void *main_arg;
};

/* The child's pid, or -1.  Never returns in the child. */
pid_t sd_spawn(const struct sd_spawn *s, struct sd_err *err);

/*
 * The end of a child that is done: _exit, because what the parent registered for its own exit is none of the child's.
 * Built with AddressSanitizer it first looks for memory that nothing points to any more and reports it.
 */
_Noreturn void sd_leave(int status);

/* The parent is gone: end this process and everything it started (its process group).  Safe in a signal handler. */
_Noreturn void sd_orphaned(void);

/*
 * From now on this process does that itself when the parent dies: its channel comes to an end, and it calls sd_orphaned()
 * within SD_LINGER_SECONDS; should it hang, it is ended after SD_ORPHAN_SECONDS.
 */
#define SD_LINGER_SECONDS 0.25
#define SD_ORPHAN_SECONDS 1
void sd_orphan_lingers(void);
bool sd_is_orphan(void); /* the parent is dead and that was told; for any thread */

#endif
