/*
 * <stepd/step.h>: background steps for stepd in C.
 *
 * A step is one shared object: a handler, and a config that says what triggers
 * it.  Here is a complete one.  It runs for each job of the topic "order" and
 * answers POST /orders:
 *
 *	#include <stepd/step.h>
 *
 *	static const char order[] = STEPD_SCHEMA({
 *		"type": "object",
 *		"required": ["email", "quantity"],
 *		"properties": {"email": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}}
 *	});
 *
 *	static int handle(struct stepd_ctx *ctx)
 *	{
 *		const cJSON *data = stepd_data(ctx);
 *		const char *email = stepd_get_str(data, "email"); // the schema says it is there
 *		const char *id = stepd_uuid(ctx);
 *		cJSON *placed = stepd_object(ctx, stepd_str("id", id), stepd_json("quantity", stepd_get(data, "quantity")));
 *
 *		stepd_log_info(ctx, "order placed", stepd_str("orderId", id));
 *
 *		if (stepd_state_set(ctx, "orders", id, placed) < 0)
 *			return STEPD_RETRY;
 *		if (stepd_enqueue(ctx, "notification", stepd_object(ctx, stepd_str("email", email)), .delay_ms = 500) < 0)
 *			return STEPD_RETRY;
 *		return stepd_reply(ctx, 200, placed);
 *	}
 *
 *	STEPD_STEP(
 *		.name = "Order",
 *		.description = "Places an order",
 *		.triggers = STEPD_TRIGGERS(
 *			STEPD_QUEUE("order", .input = order),
 *			STEPD_HTTP("POST", "/orders", .body_schema = order)),
 *		.enqueues = STEPD_LIST("notification"),
 *		.flows = STEPD_LIST("shop"),
 *		.handler = handle);
 *
 * Build it, put it into one of the directories under `steps:` in stepd.yaml,
 * and send stepd SIGHUP (or start it):
 *
 *	cc -shared -fPIC $(pkg-config --cflags stepd-step) order.c -o order.so
 *
 * Nothing of stepd is linked: the daemon hands the handler a table of functions,
 * and the calls below go through it.  cJSON comes with the daemon.
 *
 * WHAT HAPPENS TO AN ATTEMPT
 *	A worker process runs one handler at a time, each in its turn, in one thread.
 *	State writes, enqueues, log lines and the outcome of an attempt are committed
 *	in ONE transaction after the handler has returned.  If the handler
 *	  returns STEPD_OK	all of them are stored, or none;
 *	  returns an error	state writes and log lines are stored, enqueues only those
 *				made with .always = true (the retry will make them again);
 *	  crashes or times out	nothing is stored but how it died, and that attempt counts.
 *	A step may therefore run more than once for one job (after a crash, a retry, a
 *	lost machine), but its effects in the database are those of one success.  What a
 *	handler does elsewhere (an email, a payment) it must make safe to repeat;
 *	stepd_uuid() gives it the same identifiers each time.
 *
 * RULES FOR ALL CALLS
 *	- `ctx` is valid until the handler returns and only in the handler's thread.
 *	- Everything a call returns belongs to ctx and is freed after the handler
 *	  returned: strings, trees, memory.  Never free it, never keep a pointer to it,
 *	  never hang a tree of ctx into another tree (stepd_json() copies one in).
 *	- Nothing passed to a call is taken over; it is copied where needed.
 *	- Text is UTF-8 and ends with '\0'.  JSON is RFC 8259, at most 512 levels deep,
 *	  without \u0000; what is handed over as JSON text is checked.
 *	- A call that returns int returns 0, or -1 with the reason in stepd_last_error().
 *	  -1 is also STEPD_RETRY: `return stepd_enqueue(…)` at the end of a handler is right.
 *	- Memory that runs out ends the worker; there is nothing to check.
 *	- One attempt may make 100,000 enqueues and state writes of 128 MiB together; the call
 *	  behind that returns -1.  It may log 10,000 lines; what follows is dropped.
 *	- Times are milliseconds.
 */
#ifndef STEPD_STEP_H
#define STEPD_STEP_H

#ifdef __cplusplus
#error "write the step itself in C (designated initialisers) and call your C++ from its handler"
#endif

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stepd_ctx; /* one attempt, as the handler sees it */

/* ---- the config ------------------------------------------------------------------------------------------------ */

/*
 * A step's triggers; any mix, at most 256.
 *	STEPD_QUEUE("topic", .input = SCHEMA)		  a job for each enqueue on the topic
 *	STEPD_HTTP("POST", "/orders/:id", .body_schema = SCHEMA, .query_schema = SCHEMA, .respond = STEPD_ACCEPTED)
 *		.timeout_ms: how long the handler may take, a stream as a whole; http.timeout of stepd.yaml(5) unless given
 *	STEPD_CRON("0 3 * * *", .timezone = "Europe/Berlin") minute hour day month weekday, as in
 *		crontab(5); six fields put seconds first; the zone is UTC unless given.
 *		.missed = "skip", "one" or "all": which of the runs that fell into a time without a
 *			daemon are made up for; the newest one unless given
 *		.catch_up_limit_ms: those older than this are let go; 24 hours unless given
 *		.overlap = "skip": no run while the one before is unfinished; "allow" unless given
 * What begins with a dot may be left out.  A SCHEMA is JSON Schema as text, of draft 2020-12 or, with a "$schema" that
 * says so, draft 7; a step with a wrong one is not loaded.  The handler sees only what fits: a job whose input does not
 * fails at once (invalid_input), a request gets 400 with all violations.  A query is seen by its schema as an object, in
 * which "3" is a number where no string is wanted, and a repeated name an array.  "format" is not checked.
 */
#define STEPD_TRIGGERS(...) ((const struct stepd_trigger[]){__VA_ARGS__, {.type = STEPD_TRIGGER_NONE}})
#define STEPD_QUEUE(topic_, ...) {.type = STEPD_TRIGGER_QUEUE, .topic = (topic_), STEPD_HERE_, __VA_ARGS__}
#define STEPD_HTTP(method_, path_, ...) {.type = STEPD_TRIGGER_HTTP, .method = (method_), .path = (path_), STEPD_HERE_, __VA_ARGS__}
#define STEPD_CRON(expression_, ...) {.type = STEPD_TRIGGER_CRON, .expression = (expression_), STEPD_HERE_, __VA_ARGS__}
#define STEPD_HERE_ .source = __FILE__, .line = __LINE__ /* what is wrong with a config is reported with its place in the source */

/* Names: the topics a handler may enqueue, the flows a step belongs to. */
#define STEPD_LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

/* JSON written as itself: STEPD_SCHEMA({"type": "object"}) is the string "{\"type\": \"object\"}". */
#define STEPD_SCHEMA(...) #__VA_ARGS__

/*
 * Defines the step; once in a shared object, at file level.
 *	.name		 required; unique over all steps of a daemon
 *	.triggers	 required; STEPD_TRIGGERS(…)
 *	.handler	 required; see STEPD_OK
 *	.enqueues	 STEPD_LIST(…) of the topics the handler enqueues; another topic is an error
 *	.description	 one line for people
 *	.flows		 STEPD_LIST(…), groups steps that belong together
 */
#define STEPD_STEP(...)                                                                                                \
	extern const struct stepd_step stepd_step;                                                                     \
	__attribute__((visibility("default"), used)) const struct stepd_step stepd_step = {                           \
		.magic = STEPD_MAGIC,                                                                                  \
		.abi = STEPD_ABI,                                                                                      \
		.step_size = sizeof(struct stepd_step),                                                                \
		.trigger_size = sizeof(struct stepd_trigger),                                                          \
		.ctx_size = sizeof(struct stepd_ctx),                                                                  \
		.api_size = sizeof(struct stepd_api),                                                                  \
		STEPD_HERE_,                                                                                           \
		__VA_ARGS__}

enum stepd_trigger_type {
	STEPD_TRIGGER_NONE,
	STEPD_TRIGGER_QUEUE,
	STEPD_TRIGGER_HTTP,
	STEPD_TRIGGER_CRON,
};

/*
 * How an http trigger answers.  STEPD_SYNC, the default: with what the handler replies.  STEPD_ACCEPTED: the body as JSON
 * is stored as a job of the queue that is named like the step, the client gets 202 {"jobId": N} once that is committed,
 * and a queue worker runs the handler with the queue's retries.  The trigger is still http and stepd_data() the body,
 * but the request itself is over: there are no params, query, headers or raw body.  A request with an Idempotency-Key
 * header that came before (within 24 hours, to the same step) gets the first one's job and adds nothing; with another
 * body it gets 422.  The 202's Location is where the client reads what became of the job (http.jobs in stepd.yaml(5)); with
 * "Prefer: wait=N" it gets that at once, as 200, if the job ends within N seconds.  stepd_reply()'s body, or
 * stepd_return(), is the output that http.jobsOutput shows there.
 */
enum stepd_respond {
	STEPD_SYNC,
	STEPD_ACCEPTED,
};

struct stepd_trigger {
	int32_t type;	 /* enum stepd_trigger_type */
	int32_t respond; /* http: enum stepd_respond */
	const char *topic, *input;				  /* queue */
	const char *method, *path, *body_schema, *query_schema; /* http */
	const char *expression, *timezone;			  /* cron */
	const char *missed, *overlap;
	int64_t catch_up_limit_ms;
	const char *source; /* where it is written */
	int64_t line;
	int64_t timeout_ms; /* http */
};

/* What a handler returns.  Any other value is an error like STEPD_RETRY. */
enum {
	STEPD_OK = 0,
	STEPD_RETRY = -1,  /* error: tried again as the queue's retry settings say; the message is the last one of ctx */
	STEPD_FAIL = -2,   /* error: never tried again */
	STEPD_SNOOZE = -3, /* not now: run again later, no attempt used */
};

/* ---- what triggered the handler -------------------------------------------------------------------------------- */

/* Which kind of trigger: STEPD_TRIGGER_QUEUE, STEPD_TRIGGER_HTTP or STEPD_TRIGGER_CRON. */
static inline enum stepd_trigger_type stepd_trigger(const struct stepd_ctx *ctx);
static inline const char *stepd_trigger_name(const struct stepd_ctx *ctx); /* "queue", "http" or "cron" */
/* Which of STEPD_TRIGGERS(…), from 0. */
static inline int stepd_trigger_index(const struct stepd_ctx *ctx); /* in .triggers; -1: the job's topic is there no more */

/*
 * The data: the input of a queue job; the body of an http request, by its Content-Type:
 *	application/json, …+json		as it is
 *	application/x-www-form-urlencoded	an object: "a=1&b=2&b=3" is {"a": "1", "b": ["2", "3"]}; where the .body_schema wants a
 *						number, a boolean or an array, the value is one
 *	text/…					a string
 *	none					as JSON if there is a .body_schema or .respond = STEPD_ACCEPTED
 *	anything else, another charset than UTF-8, a Content-Encoding	null; 415 if there is a .body_schema or STEPD_ACCEPTED
 *	no body			null
 * What is not what its Content-Type says gets 400 and never comes here; stepd_raw_body() has the bytes in any case.
 * For cron {"scheduledAt", "firedAt": the time of the tick and when it became a job, "2026-11-23T14:05:00.000Z",
 * "expression", "timezone", "manual": true when somebody asked for it (stepctl run)}.  Never NULL.  A number in the tree is a double, exact to 2^53; passed on as it is (in an enqueue, a
 * value, a reply) it keeps every digit, as the text does.
 */
static inline const cJSON *stepd_data(struct stepd_ctx *ctx);
static inline const char *stepd_data_text(const struct stepd_ctx *ctx);

/* A member of an object.  NULL (or the fallback) if there is none, if it has another type, or if obj is no object or NULL. */
static inline const cJSON *stepd_get(const cJSON *obj, const char *name);
static inline const char *stepd_get_str(const cJSON *obj, const char *name);
static inline double stepd_get_num(const cJSON *obj, const char *name, double fallback);
static inline bool stepd_get_bool(const cJSON *obj, const char *name, bool fallback);

/*
 * Run what is meant for this trigger and return what it returns; STEPD_OK where nothing is given:
 *	return stepd_match(ctx, order, .http = reply_with_order);
 * `data` is passed on.  Each is an int (*)(struct stepd_ctx *, void *data).
 */
#define stepd_match(ctx, data, ...) stepd_match_((ctx), (data), &(const struct stepd_match_arms){__VA_ARGS__})
struct stepd_match_arms {
	int (*queue)(struct stepd_ctx *ctx, void *data);
	int (*http)(struct stepd_ctx *ctx, void *data);
	int (*cron)(struct stepd_ctx *ctx, void *data);
};

/* ---- about the job --------------------------------------------------------------------------------------------- */

static inline int64_t stepd_job_id(const struct stepd_ctx *ctx);     /* stepd.jobs.id; 0: an http request that is answered at once */
static inline int64_t stepd_parent_id(const struct stepd_ctx *ctx);  /* the job that enqueued this one; 0: none */
static inline int stepd_attempt(const struct stepd_ctx *ctx);	     /* this attempt, from 1 */
static inline int stepd_max_attempts(const struct stepd_ctx *ctx);   /* the last one */
static inline const char *stepd_trace_id(const struct stepd_ctx *ctx); /* common to all jobs of a workflow run */
static inline const char *stepd_step_name(const struct stepd_ctx *ctx);
static inline const char *stepd_queue(const struct stepd_ctx *ctx);  /* the topic; for http and cron the step's own queue */
static inline const char *stepd_group(const struct stepd_ctx *ctx);  /* NULL: none */
static inline int64_t stepd_enqueued_at(const struct stepd_ctx *ctx); /* ms since 1970 */
/*
 * The job is to end: somebody cancelled it, a limit (time, memory, CPU) is passed, or the node was silent for longer than
 * its lease, so that others took the job over and nothing that this attempt does counts.  Return soon, or the worker is
 * killed after the grace period (stop.killGrace).  A handler that runs long asks now and then; that costs nothing.  Once
 * this was true the attempt ends as cancelled (past a limit: as timeout), whatever the handler returns.  Of a cancelled
 * attempt counts what does after an error, if the handler has asked and so could tidy up; else only its log lines.
 */
static inline bool stepd_cancelled(struct stepd_ctx *ctx);

/* ---- making things; all of them belong to ctx ------------------------------------------------------------------ */

static inline void *stepd_alloc(struct stepd_ctx *ctx, size_t size); /* zeroed, aligned for any type */
static inline char *stepd_format(struct stepd_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A UUID: the n-th call gives the same one on every attempt of this job, and another one in every other job or request. */
static inline const char *stepd_uuid(struct stepd_ctx *ctx);
/* The time now, "2026-11-23T14:05:09.123Z". */
static inline const char *stepd_now(struct stepd_ctx *ctx);

/* Members, for stepd_object() and for the fields of log lines.  A NULL string or tree becomes null. */
static inline struct stepd_field stepd_str(const char *name, const char *value);
static inline struct stepd_field stepd_int(const char *name, int64_t value);
static inline struct stepd_field stepd_num(const char *name, double value);
static inline struct stepd_field stepd_bool(const char *name, bool value);
static inline struct stepd_field stepd_json(const char *name, const cJSON *value); /* the tree is copied in */

/* An object of any number of members: stepd_object(ctx, stepd_str("id", id), stepd_int("count", 3)). Yours to change with cJSON. */
#define stepd_object(ctx, ...) \
	((ctx)->api->object((ctx), STEPD_FIELDS(__VA_ARGS__)))
/* Have a tree that cJSON made for you freed after the handler; returns it. */
static inline cJSON *stepd_own(struct stepd_ctx *ctx, cJSON *tree);

/* ---- enqueue --------------------------------------------------------------------------------------------------- */

/*
 * Enqueue a job on a topic, with this attempt's outcome:
 *	stepd_enqueue(ctx, "send-email", data, .priority = 5, .unique = order_id)
 * `data` is a tree, or NULL for JSON null (or for .text).  The options:
 *	.text		the data as JSON text instead, passed on digit for digit
 *	.priority	-32768…32767, higher first (only under strategy: priority); 0
 *	.delay_ms	run no earlier than this long after the outcome; or
 *	.run_at		run no earlier than this, in ms since 1970
 *	.group		strategy fifo keeps the order within a group
 *	.unique		while an unfinished job of the same step has this key, nothing is added
 *	.always		keep it even if this attempt ends with an error
 * -1: the topic is not among the step's .enqueues, the JSON is invalid, an option is out of range.
 */
#define stepd_enqueue(ctx, topic_, data_, ...)                                                                         \
	((ctx)->api->enqueue((ctx), &(const struct stepd_enqueue_options){.size = sizeof(struct stepd_enqueue_options), \
									  .topic = (topic_), .data = (data_), __VA_ARGS__}))
struct stepd_enqueue_options {
	size_t size;
	const char *topic;
	const cJSON *data;
	const char *text;
	const char *group, *unique;
	int64_t delay_ms, run_at;
	int32_t priority;
	bool always;
};

/* ---- state: JSON values by group and key ----------------------------------------------------------------------- */

/*
 * Reads see this attempt's own writes on top of what is stored.  A read that needs the
 * database waits for it; -1: it could not be read.  Writes are stored with the outcome,
 * so two attempts that read and then write one key can overwrite each other: use
 * stepd_state_update(), or give jobs that do so one fifo group.
 * Groups and keys are text of 1 to 1000 bytes.
 */
/* *value is NULL if there is none; the tree is yours to change. */
static inline int stepd_state_get(struct stepd_ctx *ctx, const char *group, const char *key, cJSON **value);
static inline int stepd_state_set(struct stepd_ctx *ctx, const char *group, const char *key, const cJSON *value);
static inline int stepd_state_delete(struct stepd_ctx *ctx, const char *group, const char *key);
/* Set (value NULL: delete) and give the value from before; *old is NULL if there was none. */
static inline int stepd_state_swap(struct stepd_ctx *ctx, const char *group, const char *key, const cJSON *value, cJSON **old);
/* The values of a group as an array, in order of their keys (byte order); empty if there are none. */
static inline int stepd_state_list(struct stepd_ctx *ctx, const char *group, cJSON **values);
/* The names of all groups as an array of strings. */
static inline int stepd_state_groups(struct stepd_ctx *ctx, cJSON **names);
static inline int stepd_state_clear(struct stepd_ctx *ctx, const char *group);
/*
 * Change a value by operations, in order.  They are done on the value that is there when the outcome is stored, and no
 * two attempts' updates get lost.  A read in this attempt sees them, computed with doubles:
 *	stepd_state_update(ctx, "stats", "orders", stepd_op_increment("/count", 1), stepd_op_append("/ids", id))
 * A path is a JSON Pointer (RFC 6901): "" or NULL is the whole value, "/a/0" position 0 of member "a" ("/a/-1" its last);
 * objects are made on the way, at an array's end (or start) for a position beyond it.  -1: an operation that is wrong in
 * itself.  One that does not fit the value that is there in the end (append to a number) fails the attempt.
 */
#define stepd_state_update(ctx, group, key, ...)                                                                       \
	((ctx)->api->state_update((ctx), (group), (key), (const struct stepd_op[]){__VA_ARGS__},                       \
				  sizeof((const struct stepd_op[]){__VA_ARGS__}) / sizeof(struct stepd_op)))
static inline struct stepd_op stepd_op_set(const char *path, const cJSON *value);
static inline struct stepd_op stepd_op_merge(const char *path, const cJSON *object); /* its members, over those that are there */
static inline struct stepd_op stepd_op_increment(const char *path, double by);	     /* from 0 if nothing is there */
static inline struct stepd_op stepd_op_decrement(const char *path, double by);
static inline struct stepd_op stepd_op_append(const char *path, const cJSON *value); /* to an array */
static inline struct stepd_op stepd_op_remove(const char *path);
/* The same with JSON text, exact to the digit.  *text is NULL if there is none. */
static inline int stepd_state_get_text(struct stepd_ctx *ctx, const char *group, const char *key, const char **text);
static inline int stepd_state_set_text(struct stepd_ctx *ctx, const char *group, const char *key, const char *text);
static inline int stepd_state_list_text(struct stepd_ctx *ctx, const char *group, const char **text);

/* ---- log ------------------------------------------------------------------------------------------------------- */

/*
 * Rows of stepd.logs, with fields: stepd_log_info(ctx, "sent", stepd_str("to", email), stepd_int("bytes", n)).
 * Lines below `logging.database` are dropped.  Never fails; invalid UTF-8 is replaced.
 */
#define stepd_log_debug(ctx, message, ...) ((ctx)->api->log((ctx), STEPD_LOG_DEBUG, (message), STEPD_FIELDS(__VA_ARGS__)))
#define stepd_log_info(ctx, message, ...) ((ctx)->api->log((ctx), STEPD_LOG_INFO, (message), STEPD_FIELDS(__VA_ARGS__)))
#define stepd_log_warn(ctx, message, ...) ((ctx)->api->log((ctx), STEPD_LOG_WARN, (message), STEPD_FIELDS(__VA_ARGS__)))
#define stepd_log_error(ctx, message, ...) ((ctx)->api->log((ctx), STEPD_LOG_ERROR, (message), STEPD_FIELDS(__VA_ARGS__)))
enum { STEPD_LOG_DEBUG, STEPD_LOG_INFO, STEPD_LOG_WARN, STEPD_LOG_ERROR };

/*
 * How far the handler is, for people who look: stepd.jobs.progress and `stepctl job` show it within a second, while the
 * handler runs and afterwards:
 *	stepd_progress(ctx, 100.0 * done / total, "resizing", stepd_int("done", done), stepd_int("total", total))
 * percent is 0 to 100, less than 0 when it is not known; message may be NULL; the fields are yours.  What is said last
 * counts, all of it.  Call it as often as you like: it only notes what to say, and the worker tells the database at most
 * twice a second.  It is no effect of the attempt: it stays whatever becomes of it, and the next attempt begins anew.
 * Never fails; what is too long (a message of 1000 bytes, fields of 16 KiB) or not valid is cut or left out.  A request
 * that is answered at once is no job, there it does nothing.
 */
#define stepd_progress(ctx, percent, message, ...) \
	((ctx)->api->progress((ctx), (percent), (message), STEPD_FIELDS(__VA_ARGS__)))

/* ---- http ------------------------------------------------------------------------------------------------------ */

/* The request; NULL (or length 0) where there is none, and for other triggers. */
static inline const char *stepd_method(struct stepd_ctx *ctx);
static inline const char *stepd_path(struct stepd_ctx *ctx);   /* decoded, without the query */
static inline const char *stepd_remote(struct stepd_ctx *ctx); /* address of the peer */
static inline const char *stepd_param(struct stepd_ctx *ctx, const char *name);  /* ":name" of the path, decoded */
static inline const char *stepd_query(struct stepd_ctx *ctx, const char *name);  /* first of that name, decoded */
static inline const char *stepd_header(struct stepd_ctx *ctx, const char *name); /* first of that name; case does not matter */
/* All of them: the index-th param, query or header and its name.  false when there are no more. */
static inline bool stepd_param_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value);
static inline bool stepd_query_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value);
static inline bool stepd_header_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value);
/* The body as it was sent, byte for byte, say to verify a signature; '\0' behind it, *len bytes before that. */
static inline const char *stepd_raw_body(struct stepd_ctx *ctx, size_t *len);

/*
 * The reply; sent if the handler then returns STEPD_OK, else the client gets 500.  The last one counts.
 * Status 200 to 599; body NULL: none.  A handler that never replies replies 200 with what stepd_return() gave, or 204.
 * One whose replies were all refused (-1) has failed, even if it returns STEPD_OK.
 * For queue and cron triggers the JSON body becomes the job's output and the rest is ignored.
 */
static inline int stepd_reply(struct stepd_ctx *ctx, int status, const cJSON *body);
static inline int stepd_reply_raw(struct stepd_ctx *ctx, int status, const char *content_type, const void *body, size_t len);
/*
 * Add a header to the reply.  -1: not a header name, a line break or another control character in the value, or a
 * header that stepd sets itself (Content-Length, Transfer-Encoding, Connection, …).
 */
static inline int stepd_reply_header(struct stepd_ctx *ctx, const char *name, const char *value);

/*
 * A reply in pieces, sent while the handler runs:
 *	if (stepd_stream(ctx, 200, "text/csv") < 0)
 *		return STEPD_RETRY;
 *	while (next_row(&row))
 *		if (stepd_print(ctx, "%s;%d\n", row.name, row.count) < 0)
 *			return STEPD_RETRY; // the client has left
 *	return STEPD_OK;
 * stepd_stream() sends status and headers (stepd_reply_header() comes before it, and there is no stepd_reply() after it);
 * content_type NULL: as set before, or application/octet-stream.  Each stepd_write() goes out at once, and waits while the
 * client has 256 KiB before it that it did not take.
 *
 * The end of the reply goes out when the handler has returned STEPD_OK and its effects are stored: who saw the end can
 * rely on them.  If it returns an error, crashes, or runs into http.timeout, the connection is cut, so that no client
 * takes a part for the whole.
 *
 * -1 from a write: the client has left (also: HEAD, which wants no body).  What the handler does then is its affair: go
 * on and return STEPD_OK, and all effects are stored; or return an error, and the attempt ends as cancelled, with
 * its state writes and log lines.  A handler that streams keeps its web worker for itself until it returns.  Without a
 * client (other triggers, STEPD_ACCEPTED) the calls return 0 and do nothing.
 */
static inline int stepd_stream(struct stepd_ctx *ctx, int status, const char *content_type);
static inline int stepd_write(struct stepd_ctx *ctx, const void *bytes, size_t len);
static inline int stepd_print(struct stepd_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * A server-sent event; the first one begins the reply (200 text/event-stream, Cache-Control: no-cache) unless
 * stepd_stream() did:
 *	stepd_event(ctx, stepd_object(ctx, stepd_int("done", 3)), .event = "progress", .id = "3")
 * `data` is a tree, sent as JSON, or NULL.  The options:
 *	.text		text instead of data; of any number of lines
 *	.event		its type; the browser takes "message" unless given
 *	.id		where the client was, in the header Last-Event-ID when it comes again
 *	.retry_ms	how long the client waits before it does
 *	.comment	what no client sees, say to keep a proxy from closing
 */
#define stepd_event(ctx, data_, ...)                                                                                   \
	((ctx)->api->event((ctx), &(const struct stepd_event_options){.size = sizeof(struct stepd_event_options),      \
								      .data = (data_), __VA_ARGS__}))
struct stepd_event_options {
	size_t size;
	const cJSON *data;
	const char *text, *event, *id, *comment;
	int64_t retry_ms;
};
/*
 * Nobody waits for the reply any more: the client closed the connection, or the request's time is over.  Known within a
 * tenth of a second; a client that only closed its sending direction looks the same.  Nothing else changes: the handler
 * may finish its work, and its effects are stored.
 */
static inline bool stepd_client_gone(struct stepd_ctx *ctx);
/* The worker wants to end (stop, reload, replacement): a handler that would go on for long should come to an end; all triggers. */
static inline bool stepd_stopping(struct stepd_ctx *ctx);

/* ---- the outcome ----------------------------------------------------------------------------------------------- */

/* The job's output, as stepd.jobs shows it. */
static inline int stepd_return(struct stepd_ctx *ctx, const cJSON *output);

/* For `return`: each notes the message and gives the value to return.  Delays are at most a hundred years. */
static inline int stepd_retry(struct stepd_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline int stepd_retry_after(struct stepd_ctx *ctx, int64_t delay_ms, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline int stepd_fail(struct stepd_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline int stepd_snooze(struct stepd_ctx *ctx, int64_t delay_ms);

/* Why the last call returned -1, or the last message given here; "" if there was none. */
static inline const char *stepd_last_error(struct stepd_ctx *ctx);

#include "abi.h" /* what the declarations above are made of; nothing there is for reading a step */

#endif
