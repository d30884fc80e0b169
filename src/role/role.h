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
	int chan;		     /* to the supervisor */
	int wake;		     /* eventfd (EFD_SEMAPHORE | EFD_NONBLOCK) that wakes idle queue workers, shared by all of the node; worker, keeper */
	int http_listen, admin_listen; /* listening TCP sockets, -1: none; http */
	int web_listen;		     /* listening Unix socket of this generation, made by the supervisor (autobound abstract address): web workers connect to its getsockname() address, http accepts and checks SO_PEERCRED */
	const char *boot_id;	     /* UUID text, new at each start of the supervisor */
};

struct sd_role {
	const char *name;
	void (*main)(const struct sd_child *child) __attribute__((__noreturn__));
	bool needs_database;  /* started only after the keeper is ready */
	bool vital_at_start;  /* SD_MSG_FAILED before the first READY ends the daemon with its exit_code */
};

extern const struct sd_role sd_roles[SD_ROLE_COUNT];

_Noreturn void sd_keeper_main(const struct sd_child *child);
_Noreturn void sd_cron_main(const struct sd_child *child);
_Noreturn void sd_http_main(const struct sd_child *child);
_Noreturn void sd_worker_main(const struct sd_child *child);
_Noreturn void sd_web_main(const struct sd_child *child);

#endif
