/*
 * What the files of the supervisor share.  One struct, one thread, one loop:
 *
 *   supervisor.c   signals, phases, the tick, what the service manager is told
 *   settle.c       what is, against what should be
 *   generation.c   one configuration's children: start order, swap, retirement
 *   resize.c       pools that grow and shrink
 *   kids.c         one child: spawn, messages, ladder
 *   reap.c         its death: what of, and who is told
 *   enforce.c      looking at running attempts and at workers' size
 *   confine.c      cgroups and rlimits of pools with limits
 *   deaths.c       deaths on their way to the keeper
 *   reload.c       a new generation from the loader to the swap
 *   embedded.c     the private PostgreSQL's directory; postgres.c its child
 *   decide.c       all decisions, pure
 *
 * Everything is driven by sd_super_settle(): after any event it compares what
 * is with what should be and does the next step.  Handlers only note facts.
 */
#ifndef SD_ROLE_SUPER_H
#define SD_ROLE_SUPER_H

#include "proc/cgroup.h"
#include "proc/listen.h"
#include "proc/notify.h"
#include "role/deaths.h"
#include "role/decide.h"
#include "role/embedded.h"
#include "role/limit.h"
#include "role/loader.h"
#include "role/size.h"

#include <ev.h>

struct sd_super;
struct sd_gen;

/* Like children of one generation: the keeper, a pool. */
struct sd_group {
	enum sd_role_kind role;
	const struct sd_conf_pool *pool; /* NULL unless worker or web */
	int pool_index;			 /* -1 without */
	int number;			 /* in the scoreboard; -1 without a pool, and when its generation retires */
	unsigned want;
	char name[64];			 /* "worker default" */
	struct sd_health health;
	struct sd_size size;
	bool cpus_told;			 /* that maxCpus is not kept */
	unsigned waiting;		 /* work that waits for it, as it was told since the last look */
	struct sd_gen *gen;		 /* NULL: postgres, which belongs to none */
};

struct sd_kid {
	struct sd_kid *next;
	struct sd_super *su;
	struct sd_group *group;
	char name[80]; /* "worker default/0" */
	int index;
	uint32_t slot, slot_generation;
	pid_t pid;
	int chan; /* -1: closed */
	ev_io io;
	enum sd_kid_state state;
	int64_t spawned_us, ready_us;
	int64_t late_us;   /* when the present state's time is over; 0: never */
	int64_t grace_us;  /* TERM → KILL */
	int64_t killable_us; /* end of that; before it is killed only who cannot wait */
	bool superseded;   /* a younger one takes its place, then it drains */
	bool worn;	   /* for its jobs or its age, so it may run what it holds */
	bool asked;	   /* it was told to go */
	int64_t idle_us;   /* since when it has nothing to do; 0: it has */
	uint64_t jobs_seen;
	bool closed;	   /* it said that no new connection reaches it */
	bool quiet, silent; /* a keeper: its beat was late when last looked at; and that was said */
	struct sd_ending ending;
	char box[32];	   /* its cgroup; "": none */
	bool out_of_memory; /* the kernel said so */
	struct sd_meter meter;
	int reason;	   /* SD_SLOT_REASON_*: why it was told to end */
	int64_t limit, used; /* … when that was a memory or CPU limit: bytes, ms */
	int64_t reason_job; /* the attempt it was ended for */
};

enum sd_gen_state {
	SD_GEN_KEEPER, /* its keeper is not ready yet */
	SD_GEN_REST,   /* the others are starting */
	SD_GEN_LIVE,
	SD_GEN_RETIRING,
};
#define SD_GEN_FIXED 3 /* keeper, cron, http */

struct sd_gen {
	struct sd_gen *next;
	uint32_t number;
	enum sd_gen_state state;
	struct sd_conf *conf;
	char *manifest;
	size_t manifest_len, nsteps;
	struct sd_listener *http, *admin;
	int web_listen;
	bool keeper_was_ready;
	int64_t give_up_us; /* 0: never */
	char why[768];	    /* why it cannot be built; "": no reason yet */
	int exit_code;	    /* that belongs to why */
	bool other_users;
	struct sd_user users[SD_CONF_MAX_POOLS]; /* of the pools; no name: child_user of the supervisor */
	struct sd_group *groups;
	size_t ngroups;
};

struct sd_super {
	struct ev_loop *loop;
	ev_signal on_term, on_int, on_hup, on_usr1, on_chld;
	ev_timer tick, watchdog;
	ev_timer deadline; /* of an attempt, between two ticks */
	enum sd_phase phase;
	const char *conf_file; /* NULL: built-in defaults */
	struct sd_notify_socket notify;
	struct sd_scoreboard *sb;
	struct sd_kid **kid_of_slot;
	struct sd_kid *kids;
	struct sd_gen *gens; /* newest first */
	struct sd_gen *live, *building;
	uint32_t last_number;
	struct sd_wake wake;
	char boot_id[40];
	struct sd_user user;
	const struct sd_user *child_user; /* who children become, as the supervisor stays root; NULL: they stay who they are */
	struct sd_deaths deaths;
	struct sd_cgroup *cgroup; /* NULL: none, limits are kept by looking */
	bool cgroup_tried, cgroup_told; /* so far; and the log says which it is */
	struct sd_embedded *embedded; /* NULL: none */
	struct sd_group postgres;
	struct sd_loader *loader;
	bool reload_later, settling, done;
	int64_t handover_late_us; /* a reload is done but for old http processes that may still accept; 0: no */
	int64_t stop_late_us; /* end of the drain time */
	int64_t start_late_us; /* embedded: PostgreSQL is up by then */
	int exit_code;
	int64_t slow_us; /* last slow tick */
	char status[256];     /* last STATUS= */
};

/* settle.c */
void sd_super_settle(struct sd_super *su);
void sd_super_set_tick(struct sd_super *su);
unsigned sd_degraded_names(const struct sd_super *su, char *out, size_t outlen); /* how many groups are degraded, and their names */

/* supervisor.c */
void sd_super_event(struct sd_super *su, enum sd_daemon_event event);
void sd_super_handover(struct sd_super *su); /* say READY=1 of a reload when nothing new reaches the old generation */
void sd_super_drop(void *su); /* in a fresh child: let go of every watcher */
bool sd_super_stopping(const struct sd_super *su);

/* generation.c: takes conf and manifest.  NULL with *err: conf stays the caller's. */
struct sd_gen *sd_gen_new(struct sd_super *su, struct sd_conf *conf, char *manifest, size_t manifest_len, size_t nsteps,
			  struct sd_err *err);
void sd_gen_settle(struct sd_super *su, struct sd_gen *gen);
void sd_gen_retire(struct sd_super *su, struct sd_gen *gen);
bool sd_gen_collect(struct sd_super *su, struct sd_gen *gen); /* free a retiring one without children: true when it did */
unsigned sd_conf_children(const struct sd_conf *conf);
void sd_group_fill(struct sd_super *su, struct sd_group *group);

/* resize.c */
void sd_group_demand(struct sd_super *su, const struct sd_msg_demand *d); /* a child says that work waits */
void sd_group_resize(struct sd_super *su, struct sd_group *group);
unsigned sd_group_first_want(const struct sd_super *su, const struct sd_conf_pool *pool); /* of a new generation */
void sd_group_show(struct sd_super *su, const struct sd_group *group); /* in the scoreboard */

/* kids.c */
struct sd_kid *sd_kid_start(struct sd_super *su, struct sd_group *group, int index); /* NULL: it could not be; the group's health knows */
void sd_kid_event(struct sd_kid *kid, enum sd_kid_event event, int64_t late_us);
void sd_kid_end(struct sd_kid *kid, int reason, int64_t job);
void sd_kid_hear(struct sd_kid *kid); /* do what it says on its channel, if anything */
void sd_kid_free(struct sd_kid *kid); /* dead, or never born: its slot is free again */
void sd_kids_late(struct sd_super *su, int64_t now_us); /* the next rung for those whose time is over */
bool sd_kid_present(const struct sd_kid *kid); /* starting or ready, and not superseded */
unsigned sd_kids_count(const struct sd_super *su, const struct sd_group *group, bool ready_only);
struct sd_kid *sd_keeper_ready(const struct sd_super *su); /* the one deaths go to; NULL: none now */
static inline struct sd_slot *sd_kid_slot(const struct sd_kid *kid)
{
	return &kid->su->sb->slot[kid->slot];
}

/* reap.c */
void sd_kids_reap(struct sd_super *su); /* all that are dead by now */

/* enforce.c */
void sd_enforce(struct sd_super *su, int64_t now_us, bool slow);
void sd_kid_worn(struct sd_kid *kid); /* says that it did its share */

/* confine.c: where the limits of pools are the kernel's to keep */
void sd_confine_prepare(struct sd_super *su, const struct sd_conf *conf, const struct sd_user *user); /* user NULL: none to become */
bool sd_confine_in_cgroups(const struct sd_kid *kid); /* about to be forked */
void sd_confine(struct sd_kid *kid); /* just forked */
void sd_confine_self(const struct sd_conf_pool *pool, bool cgroups); /* in the child */
void sd_confine_usage(struct sd_kid *kid, const struct sd_orphan *orphans, size_t n, struct sd_usage *out);
void sd_confine_dead(struct sd_kid *kid); /* reaped: out_of_memory is known then, and what it left is killed */

/* reload.c */
void sd_load_first(struct sd_super *su, struct sd_conf *conf);
void sd_reload_start(struct sd_super *su);
void sd_reload_failed(struct sd_super *su, const char *why);

#endif
