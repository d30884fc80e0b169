/*
 * The configuration: one file, one table of options (src/conf/options.c) that
 * drives the parser, the reload check, the sample file and stepd.yaml(5).
 *
 * A loaded configuration is immutable and owned by one arena; every generation
 * of children is forked with the configuration it runs with.
 * Times are milliseconds, sizes bytes.  0 means "no limit" only where said.
 */
#ifndef SD_CONF_CONF_H
#define SD_CONF_CONF_H

#include "base/backoff.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum sd_serves { SD_SERVES_QUEUE = 1, SD_SERVES_HTTP = 2 };
enum sd_strategy { SD_STANDARD, SD_FIFO, SD_PRIORITY };

#define SD_CONF_MAX_POOLS 32

/* Where something is in the file; line 0: it is not. */
struct sd_conf_place {
	int line, col;
};

struct sd_conf_names {
	const char **v;
	size_t n;
	int line, col; /* where the list is in the file */
};

struct sd_conf_pool {
	const char *name;
	int processes;	    /* as written when it is one number; min and max are what counts */
	int min, max;	    /* processes; the same when their number is fixed */
	int64_t idle_ms;    /* this long without work for it, and a process beyond min goes */
	unsigned serves; /* enum sd_serves, or'ed */
	struct sd_conf_names queues, steps; /* a job is served when both its queue and its step are in here; n 0: all */
	int64_t max_jobs; /* recycle a worker after this many jobs; 0: never */
	int64_t max_rss;  /* recycle a worker above this many bytes; 0: never */
	int64_t max_age_ms; /* recycle a worker that has run for this long; 0: never */
	int64_t max_memory; /* bytes a worker may hold in an attempt, with what it started; 0: no limit */
	int64_t max_cpu_ms; /* CPU time of an attempt; 0: no limit */
	double max_cpus;    /* that a worker may use at a time; 0: no limit */
	int nice;	  /* added to the daemon's own */
	const char *user; /* its workers run as; NULL: as the daemon does */
	int user_line, user_col; /* where that is in the file */
	struct sd_conf_names environment; /* NAME=VALUE; values may be secret */
};

/* Settings of one queue; passed on to SQL as they are (stepd.configure). */
struct sd_conf_queue {
	const char *name;
	enum sd_strategy strategy;
	int max_retries;
	int64_t retry_delay_ms;
	enum sd_backoff_kind backoff;
	int64_t max_retry_delay_ms;
	double jitter;
	int max_concurrency;	/* 0: none */
	int64_t timeout_ms;	/* 0: none */
	int rate_limit;		/* starts per window; 0: none */
	int64_t rate_window_ms;
	int concurrency_per_group; /* 0: none */
	int64_t history_ms;	/* 0: as history.keep */
};

/* Which runs of http triggers become rows of stepd.jobs; those that leave effects always do. */
enum sd_http_history { SD_HTTP_HISTORY_ALL, SD_HTTP_HISTORY_EFFECTS, SD_HTTP_HISTORY_NONE };

struct sd_conf_listen {
	const char *host; /* as written; NULL: this listener is off */
	uint16_t port;
};

struct sd_conf {
	struct sd_arena *arena;
	const char *file; /* NULL: built-in defaults */
	const char *database_url;
	bool database_given; /* database.url is in the file, not the default */
	int64_t database_wait_ms;  /* how long start waits for the database before exit 69 */
	int64_t database_lease_ms; /* node lease, default 30 s */
	const char *node_name;	   /* default: the host name */
	const char *user;	   /* who to become when started as root; NULL: see sd_setup_user() */
	struct sd_conf_place user_at;
	const char **steps;	   /* directories, absolute after load (relative ones are relative to the file) */
	size_t nsteps;
	const struct sd_conf_place *steps_at; /* of each; line 0: it is the default */
	struct {
		struct sd_conf_listen listen;
		int64_t body_limit, timeout_ms;
		int max_in_flight, max_connections;
		int64_t idle_timeout_ms, header_timeout_ms, read_timeout_ms, write_timeout_ms;
		int64_t header_limit, url_limit, body_memory;
		int http2; /* enum sd_http2 (http/server.h) */
		const char *tls_cert, *tls_key;
		struct sd_conf_place tls_cert_at, tls_key_at;
		const char *cors;   /* "*" or origins divided by spaces; NULL: none */
		int access_log;	    /* 1: on */
		int history;	    /* enum sd_http_history */
		const char *jobs;   /* path of the addresses of accepted requests' jobs; NULL: none are given */
		int jobs_output;    /* 1: what is read there has the output */
	} http;
	struct {
		struct sd_conf_listen listen;
		const char *token;
	} admin;
	struct sd_conf_pool *pools;
	size_t npools;
	struct sd_conf_queue *queues;
	size_t nqueues;
	struct sd_conf_queue queue_defaults; /* name NULL: what a queue without a block gets */
	int64_t history_keep_ms;
	const char *log_level;	  /* debug info warn error */
	const char *log_format;	  /* text json */
	const char *log_file;	  /* NULL: stderr */
	struct sd_conf_place log_file_at;
	const char *log_database; /* what goes to stepd.logs; "off": nothing */
	int64_t stop_timeout_ms;  /* drain time of TERM, default 25 s */
	int64_t kill_grace_ms;	  /* TERM → KILL, default 5 s */
};

/* One problem, printed as `file:line:col: message`; line 0: it is about the whole file. */
struct sd_conf_problem {
	int line, col;
	char text[512];
};
struct sd_conf_problems {
	struct sd_conf_problem *v;
	size_t n;
};

/*
 * The file to read: given, or $STEPD_CONFIG, or the installed default file if
 * there is one; NULL: none, the built-in defaults are the configuration.
 */
const char *sd_conf_find_file(const char *given);

/*
 * Read file (NULL: defaults only).  Returns NULL when there is any problem; all
 * of them are then in *problems, in order of position.  The caller frees both.
 */
struct sd_conf *sd_conf_load(const char *file, struct sd_conf_problems *problems);
/* The same from text that was read already; file (may be NULL) gives the directory that relative paths start from. */
struct sd_conf *sd_conf_parse(const char *text, size_t len, const char *file, struct sd_conf_problems *problems);
void sd_conf_free(struct sd_conf *conf);
void sd_conf_problems_free(struct sd_conf_problems *problems);
/* One line a problem, `file:line:col: message`. */
void sd_conf_problems_print(FILE *out, const char *file, const struct sd_conf_problems *problems);

/*
 * For a reload: options that take effect only after a restart keep in new the
 * value they have in old.  Those that differed are appended to *names, joined
 * by ", "; returns how many.
 */
size_t sd_conf_keep_restart_options(const struct sd_conf *old, struct sd_conf *new, struct sd_buf *names);

bool sd_conf_names_has(const struct sd_conf_names *names, const char *name);
/* Do the pool's workers run jobs of this step in this queue? */
bool sd_conf_pool_runs(const struct sd_conf_pool *pool, const char *queue, const char *step);

/*
 * The queue blocks as the JSON array that SQL's stepd.configure takes, and the
 * defaults as one such object without a name; owned by arena.  Members: name,
 * strategy, max_retries, retry_delay_ms, backoff, max_retry_delay_ms, jitter,
 * max_concurrency, timeout_ms, rate_limit, rate_window_ms,
 * concurrency_per_group, history_ms; null stands for "none".
 */
const char *sd_conf_queues_json(const struct sd_conf *conf, struct sd_arena *arena);
const char *sd_conf_queue_defaults_json(const struct sd_conf *conf, struct sd_arena *arena);

#endif
