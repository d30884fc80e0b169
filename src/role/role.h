/*
 * Roles: what a child process can be.  The supervisor knows them only as rows
 * of one table (role/table.c) and never returns into a child's stack, nor a
 * child into the supervisor's.
 */
#ifndef SD_ROLE_ROLE_H
#define SD_ROLE_ROLE_H

#include "conf/conf.h"
#include "proc/chan.h"
#include "proc/scoreboard.h"
#include "proc/user.h"
#include "proc/wake.h"

#include <stdbool.h>
#include <stddef.h>

enum sd_role_kind {
	SD_ROLE_POSTGRES, /* only with --embedded */
	SD_ROLE_KEEPER,
	SD_ROLE_CRON,
	SD_ROLE_HTTP,
	SD_ROLE_WORKER,	  /* a pool that serves queue */
	SD_ROLE_WEB,	  /* a pool that serves http */
	SD_ROLE_COUNT
};

struct sd_embedded; /* role/embedded.h */

/* What a child is given.  All of it stays valid for the child's life; the descriptors are the child's own. */
struct sd_child {
	enum sd_role_kind role;
	const struct sd_conf *conf;
	const char *conninfo;	     /* conf->database_url, or the embedded server's */
	const char *manifest;	     /* the discovered steps, JSON text, see step/manifest.h */
	size_t manifest_len;
	struct sd_scoreboard *scoreboard;
	struct sd_slot *slot;	     /* own slot, already allocated */
	uint32_t slot_index;
	uint32_t slot_generation;
	const struct sd_conf_pool *pool; /* NULL unless worker or web */
	const struct sd_user *users; /* of the pools, by index; without a name: as the http process; http */
	int chan;		     /* to the supervisor */
	const struct sd_wake *wake;  /* where idle queue workers sleep: the own group's is wake->fd[slot->group]; worker, keeper */
	int http_listen, admin_listen; /* listening TCP sockets, -1: none; http */
	int tls_cert, tls_key;	     /* open files of http.tls, -1: none, or not to be opened; http */
	int web_listen;		     /* listening Unix socket of this generation, made by the supervisor (autobound abstract address): web workers connect to its getsockname() address, http accepts and checks SO_PEERCRED */
	const char *boot_id;	     /* UUID text, new at each start of the supervisor */
	const struct sd_embedded *embedded; /* postgres only */
};

struct sd_role {
	const char *name;
	const char *comm;     /* the process' name in ps, top and killall (15 bytes) */
	void (*main)(const struct sd_child *child) __attribute__((__noreturn__));
	bool needs_database;  /* started only after the keeper is ready */
	bool vital_at_start;  /* SD_MSG_FAILED before the first READY ends the daemon with its exit_code */
	bool holds_jobs;      /* its death is told to the keeper */
};

extern const struct sd_role sd_roles[SD_ROLE_COUNT];

/*
 * What every role says to its supervisor (role/child.c).  The rest of a child's duties:
 * watch child->chan: SD_MSG_DRAIN, SD_MSG_REOPEN_LOGS (sd_log_reopen), and on EOF call sd_orphaned() (proc/spawn.h),
 * which ends the process and all it started.  SIGTERM ends a child at once unless it installs a handler of its own;
 * HUP, INT, USR1 and PIPE do nothing in children.
 */
void sd_child_ready(const struct sd_child *child);
_Noreturn void sd_child_fail(const struct sd_child *child, int exit_code, const struct sd_err *err);
void sd_child_closed(const struct sd_child *child);
void sd_child_status(const struct sd_child *child, const char *fmt, ...) SD_PRINTF(2, 3);

_Noreturn void sd_postgres_main(const struct sd_child *child);
_Noreturn void sd_keeper_main(const struct sd_child *child);
_Noreturn void sd_cron_main(const struct sd_child *child);
_Noreturn void sd_http_main(const struct sd_child *child);
_Noreturn void sd_worker_main(const struct sd_child *child);
_Noreturn void sd_web_main(const struct sd_child *child);

#endif
