/*
 * One attempt: what the handler is given and what it leaves behind.
 *
 * The loop thread fills the upper half and hands the attempt to the step
 * thread (step/runner.h); the handler's calls append to the lower half; the
 * loop thread takes it back and commits the lower half in one transaction.
 * Never both at once.  Everything lives in the attempt's arena.
 *
 * Effects are kept as they will be sent: JSON objects joined by commas, the
 * user's payloads spliced in as raw text, so that nothing is parsed twice.
 *   enqueues: {"topic":T,"data":RAW,"priority":N,"delay_ms":N,"run_at":S,"group":S,"unique":S,"always":true}
 *   states:   {"op":"set","group":G,"key":K,"value":RAW} | {"op":"delete","group":G,"key":K}
 *             | {"op":"clear","group":G} | {"op":"update","group":G,"key":K,"ops":RAW}
 *   logs:     {"at_us":WALL,"level":"info","message":S,"fields":RAW}
 *   progress: {"percent":N,"message":S,"fields":RAW}, one object: the last that was said and not told before
 * Absent members are left out.
 */
#ifndef SD_STEP_ATTEMPT_H
#define SD_STEP_ATTEMPT_H

#include "base/buf.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_step; /* step/registry.h */

enum sd_trigger { SD_TRIGGER_QUEUE, SD_TRIGGER_HTTP, SD_TRIGGER_CRON };

enum sd_outcome {
	SD_OUTCOME_COMPLETED,
	SD_OUTCOME_ERROR,	  /* retry by the queue's rules, or after delay_ms if >= 0 */
	SD_OUTCOME_FAIL,	  /* fail now, no retry */
	SD_OUTCOME_SNOOZE,	  /* run again in delay_ms, no attempt used */
	SD_OUTCOME_INVALID_INPUT, /* the handler never ran */
	SD_OUTCOME_CANCELLED,	  /* the job was cancelled and the handler returned in time */
	SD_OUTCOME_SKIPPED,	  /* condition false */
	SD_OUTCOME_TIMEOUT,	  /* it ended past its time, or past a limit: nothing of it counts */
};

/* A request as it came, for http triggers; names and values are UTF-8 or raw bytes as sent, with a '\0' behind them. */
struct sd_pair {
	const char *name, *value;
	size_t value_len;
};
struct sd_http_request {
	const char *method, *path; /* decoded path without query */
	const char *remote;	   /* address of the peer */
	struct sd_pair *params, *query, *headers; /* header names in lower case; repeated ones repeated */
	size_t nparams, nquery, nheaders;
	const char *raw_body; /* exact bytes; '\0' behind them */
	size_t raw_body_len;
	bool form; /* the body was one: its values are text, and stand for what the schema wants them to be */
	uint64_t id; /* of the frame protocol */
};
struct sd_http_reply {
	int status; /* 0 only if the attempt did not complete; then there is no reply */
	struct sd_pair *headers; /* names in lower case; content-type at most once, framing headers never */
	size_t nheaders, cap_headers;
	const char *body;
	size_t body_len;
	bool body_is_json; /* default content type application/json, else text/plain */
};

struct sd_attempt {
	struct sd_arena *arena;
	struct sd_attempt *next; /* for whoever holds it */

	/* given */
	const struct sd_step *step;
	int step_index;
	enum sd_trigger trigger;
	int trigger_index;     /* which of the step's triggers; -1: it subscribes to the job's topic no more */
	int64_t job_id;	       /* 0 for a synchronous http run */
	int32_t node_id; /* that claimed it */
	int64_t lease_id;
	int lane;	       /* index in the worker's lanes */
	int attempt, max_attempts; /* attempt counts from 1 */
	const char *queue;     /* topic, or the step's own queue */
	const char *group_id;  /* NULL: none */
	int64_t parent_id;     /* 0: none */
	const char *trace_id;
	int64_t enqueued_wall_us;
	const char *input;     /* JSON text, validated; never NULL ("null") */
	size_t input_len;
	const struct sd_http_request *http; /* NULL unless trigger is http */
	int64_t timeout_ms;    /* 0: none */

	/* left behind */
	enum sd_outcome outcome;
	int64_t delay_ms;      /* -1: not given */
	const char *error;     /* message; NULL: none */
	const char *violations; /* why the input is invalid: JSON objects joined by commas; NULL: it is not */
	const char *output;    /* JSON text; NULL: none. An http reply's JSON body is it too */
	size_t output_len;
	struct sd_http_reply reply;
	bool streamed;	  /* the reply was begun while the handler ran: reply has its head only */
	bool client_gone; /* a part of it found nobody */
	struct sd_buf enqueues, states, logs; /* freed by sd_attempt_free */
	int nenqueues, nstates, nlogs;
	const char *progress; /* NULL: none */
	struct sd_state_overlay *overlay; /* own writes, for reads in the attempt */
	int64_t started_us, finished_us;  /* sd_now_us, by the step thread */
	int effects_refused;		  /* by the loop thread: so often the database refused the effects */
	bool perhaps_stored;   /* the connection broke while its outcome was being stored */
};

struct sd_attempt *sd_attempt_new(void);
void sd_attempt_reset(struct sd_attempt *a); /* for reuse */
void sd_attempt_free(struct sd_attempt *a);
void sd_attempt_drop_effects(struct sd_attempt *a); /* output, delay, enqueues, state writes */
void sd_attempt_drop_words(struct sd_attempt *a);   /* logs and progress */

/* Attempts in their order. */
struct sd_chain {
	struct sd_attempt *head, **tail;
	size_t n;
};

void sd_chain_init(struct sd_chain *c);
void sd_chain_append(struct sd_chain *c, struct sd_attempt *list);
struct sd_attempt *sd_chain_take(struct sd_chain *c); /* all; it is empty then */

#endif
