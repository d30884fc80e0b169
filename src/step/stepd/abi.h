/*
 * <stepd/abi.h>: how a step and the daemon agree.  Part of <stepd/step.h>, which says all that is needed to write a step.
 *
 * The shared object exports one symbol, `stepd_step`.  It carries the sizes of the structs it
 * was compiled with.  Structs only ever grow at their end: an object with smaller ones runs on a
 * newer daemon, one with larger ones is refused by an older daemon, and one with another STEPD_ABI
 * is refused by all.  A table of functions rather than symbols of the daemon: a step can not collide
 * with the daemon's own names, a missing function is found when the step is loaded and named, and a
 * test can drive a handler with a table of its own.
 */
#ifndef STEPD_ABI_H
#define STEPD_ABI_H

#ifndef STEPD_STEP_H
#error "include <stepd/step.h>"
#endif

#define STEPD_MAGIC 0x314450455453ULL /* "STEPD1", least significant byte first */
#define STEPD_ABI 1u

struct stepd_step {
	uint64_t magic;
	uint32_t abi, step_size, trigger_size, ctx_size, api_size, reserved;
	const char *name, *description;
	const struct stepd_trigger *triggers;
	const char *const *enqueues, *const *flows;
	int (*handler)(struct stepd_ctx *ctx);
	const char *source; /* where STEPD_STEP is */
	int64_t line;
};

enum { STEPD_FIELD_STR, STEPD_FIELD_INT, STEPD_FIELD_NUM, STEPD_FIELD_BOOL, STEPD_FIELD_JSON };
struct stepd_field {
	const char *name;
	int64_t type;
	union {
		const char *s;
		int64_t i;
		double n;
		const cJSON *j;
	} v;
};
enum { STEPD_OP_SET, STEPD_OP_MERGE, STEPD_OP_INCREMENT, STEPD_OP_DECREMENT, STEPD_OP_APPEND, STEPD_OP_REMOVE };
struct stepd_op {
	const char *path;
	int64_t type;
	const cJSON *value;
	double by;
};
/* An array and its length, from a list that may be empty.  What is passed in arrays never changes its size. */
#define STEPD_FIELDS(...) \
	((const struct stepd_field[]){{NULL, 0, {NULL}}, __VA_ARGS__} + 1), \
		sizeof((const struct stepd_field[]){{NULL, 0, {NULL}}, __VA_ARGS__}) / sizeof(struct stepd_field) - 1

enum { STEPD_HTTP_METHOD, STEPD_HTTP_PATH, STEPD_HTTP_REMOTE, STEPD_HTTP_PARAM, STEPD_HTTP_QUERY, STEPD_HTTP_HEADER, STEPD_HTTP_BODY };

struct stepd_api {
	void *(*alloc)(struct stepd_ctx *, size_t size);
	char *(*format)(struct stepd_ctx *, const char *fmt, va_list ap);
	const char *(*uuid)(struct stepd_ctx *);
	const char *(*now)(struct stepd_ctx *);
	cJSON *(*own)(struct stepd_ctx *, cJSON *tree);
	cJSON *(*object)(struct stepd_ctx *, const struct stepd_field *fields, size_t n);
	const cJSON *(*data)(struct stepd_ctx *);
	bool (*cancelled)(struct stepd_ctx *);
	int (*enqueue)(struct stepd_ctx *, const struct stepd_enqueue_options *);
	/* of tree and text, the one that is not NULL */
	int (*state_get)(struct stepd_ctx *, const char *group, const char *key, cJSON **tree, const char **text);
	int (*state_set)(struct stepd_ctx *, const char *group, const char *key, const cJSON *tree, const char *text, cJSON **old);
	int (*state_list)(struct stepd_ctx *, const char *group, cJSON **tree, const char **text);
	int (*state_groups)(struct stepd_ctx *, cJSON **tree);
	int (*state_clear)(struct stepd_ctx *, const char *group);
	int (*state_update)(struct stepd_ctx *, const char *group, const char *key, const struct stepd_op *ops, size_t n);
	void (*log)(struct stepd_ctx *, int level, const char *message, const struct stepd_field *fields, size_t n);
	const char *(*http_get)(struct stepd_ctx *, int what, const char *name, size_t *len);
	bool (*http_at)(struct stepd_ctx *, int what, size_t index, const char **name, const char **value);
	int (*reply)(struct stepd_ctx *, int status, const cJSON *body);
	int (*reply_raw)(struct stepd_ctx *, int status, const char *content_type, const void *body, size_t len);
	int (*reply_header)(struct stepd_ctx *, const char *name, const char *value);
	int (*output)(struct stepd_ctx *, const cJSON *tree);
	int (*outcome)(struct stepd_ctx *, int result, int64_t delay_ms, const char *fmt, va_list ap); /* delay_ms -1: none */
	const char *(*last_error)(struct stepd_ctx *);
	void (*progress)(struct stepd_ctx *, double percent, const char *message, const struct stepd_field *fields, size_t n);
	int (*stream)(struct stepd_ctx *, int status, const char *content_type);
	int (*write)(struct stepd_ctx *, const void *bytes, size_t len);
	int (*print)(struct stepd_ctx *, const char *fmt, va_list ap);
	int (*event)(struct stepd_ctx *, const struct stepd_event_options *);
	bool (*client_gone)(struct stepd_ctx *);
	bool (*stopping)(struct stepd_ctx *);
};

struct stepd_ctx {
	const struct stepd_api *api;
	int32_t trigger, trigger_index, attempt, max_attempts;
	int64_t job_id, parent_id, enqueued_at;
	const char *step, *queue, *group, *trace_id;
	const char *data; /* JSON text */
};

static inline enum stepd_trigger_type stepd_trigger(const struct stepd_ctx *ctx)
{
	return (enum stepd_trigger_type)ctx->trigger;
}
static inline const char *stepd_trigger_name(const struct stepd_ctx *ctx)
{
	switch (stepd_trigger(ctx)) {
	case STEPD_TRIGGER_HTTP:
		return "http";
	case STEPD_TRIGGER_CRON:
		return "cron";
	default:
		return "queue";
	}
}
static inline int stepd_trigger_index(const struct stepd_ctx *ctx)
{
	return ctx->trigger_index;
}
static inline const cJSON *stepd_data(struct stepd_ctx *ctx)
{
	return ctx->api->data(ctx);
}
static inline const char *stepd_data_text(const struct stepd_ctx *ctx)
{
	return ctx->data;
}
static inline const cJSON *stepd_get(const cJSON *obj, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(obj, name);
}
static inline const char *stepd_get_str(const cJSON *obj, const char *name)
{
	const cJSON *item = stepd_get(obj, name);

	return cJSON_IsString(item) ? item->valuestring : NULL;
}
static inline double stepd_get_num(const cJSON *obj, const char *name, double fallback)
{
	const cJSON *item = stepd_get(obj, name);

	return cJSON_IsNumber(item) ? item->valuedouble : fallback;
}
static inline bool stepd_get_bool(const cJSON *obj, const char *name, bool fallback)
{
	const cJSON *item = stepd_get(obj, name);

	return cJSON_IsBool(item) ? cJSON_IsTrue(item) : fallback;
}
static inline int stepd_match_(struct stepd_ctx *ctx, void *data, const struct stepd_match_arms *arms)
{
	int (*arm)(struct stepd_ctx *, void *) = NULL;

	switch (stepd_trigger(ctx)) {
	case STEPD_TRIGGER_QUEUE:
		arm = arms->queue;
		break;
	case STEPD_TRIGGER_HTTP:
		arm = arms->http;
		break;
	case STEPD_TRIGGER_CRON:
		arm = arms->cron;
		break;
	case STEPD_TRIGGER_NONE:
		break;
	}
	return arm != NULL ? arm(ctx, data) : STEPD_OK;
}
static inline int64_t stepd_job_id(const struct stepd_ctx *ctx)
{
	return ctx->job_id;
}
static inline int64_t stepd_parent_id(const struct stepd_ctx *ctx)
{
	return ctx->parent_id;
}
static inline int stepd_attempt(const struct stepd_ctx *ctx)
{
	return ctx->attempt;
}
static inline int stepd_max_attempts(const struct stepd_ctx *ctx)
{
	return ctx->max_attempts;
}
static inline const char *stepd_trace_id(const struct stepd_ctx *ctx)
{
	return ctx->trace_id;
}
static inline const char *stepd_step_name(const struct stepd_ctx *ctx)
{
	return ctx->step;
}
static inline const char *stepd_queue(const struct stepd_ctx *ctx)
{
	return ctx->queue;
}
static inline const char *stepd_group(const struct stepd_ctx *ctx)
{
	return ctx->group;
}
static inline int64_t stepd_enqueued_at(const struct stepd_ctx *ctx)
{
	return ctx->enqueued_at;
}
static inline bool stepd_cancelled(struct stepd_ctx *ctx)
{
	return ctx->api->cancelled(ctx);
}
static inline void *stepd_alloc(struct stepd_ctx *ctx, size_t size)
{
	return ctx->api->alloc(ctx, size);
}
static inline char *stepd_format(struct stepd_ctx *ctx, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = ctx->api->format(ctx, fmt, ap);
	va_end(ap);
	return s;
}
static inline const char *stepd_uuid(struct stepd_ctx *ctx)
{
	return ctx->api->uuid(ctx);
}
static inline const char *stepd_now(struct stepd_ctx *ctx)
{
	return ctx->api->now(ctx);
}
static inline struct stepd_field stepd_str(const char *name, const char *value)
{
	return (struct stepd_field){name, STEPD_FIELD_STR, {.s = value}};
}
static inline struct stepd_field stepd_int(const char *name, int64_t value)
{
	return (struct stepd_field){name, STEPD_FIELD_INT, {.i = value}};
}
static inline struct stepd_field stepd_num(const char *name, double value)
{
	return (struct stepd_field){name, STEPD_FIELD_NUM, {.n = value}};
}
static inline struct stepd_field stepd_bool(const char *name, bool value)
{
	return (struct stepd_field){name, STEPD_FIELD_BOOL, {.i = value}};
}
static inline struct stepd_field stepd_json(const char *name, const cJSON *value)
{
	return (struct stepd_field){name, STEPD_FIELD_JSON, {.j = value}};
}
static inline cJSON *stepd_own(struct stepd_ctx *ctx, cJSON *tree)
{
	return ctx->api->own(ctx, tree);
}
static inline int stepd_state_get(struct stepd_ctx *ctx, const char *group, const char *key, cJSON **value)
{
	return ctx->api->state_get(ctx, group, key, value, NULL);
}
static inline int stepd_state_get_text(struct stepd_ctx *ctx, const char *group, const char *key, const char **text)
{
	return ctx->api->state_get(ctx, group, key, NULL, text);
}
static inline int stepd_state_set(struct stepd_ctx *ctx, const char *group, const char *key, const cJSON *value)
{
	return ctx->api->state_set(ctx, group, key, value, value != NULL ? NULL : "null", NULL);
}
static inline int stepd_state_set_text(struct stepd_ctx *ctx, const char *group, const char *key, const char *text)
{
	return ctx->api->state_set(ctx, group, key, NULL, text != NULL ? text : "null", NULL);
}
static inline int stepd_state_delete(struct stepd_ctx *ctx, const char *group, const char *key)
{
	return ctx->api->state_set(ctx, group, key, NULL, NULL, NULL);
}
static inline int stepd_state_swap(struct stepd_ctx *ctx, const char *group, const char *key, const cJSON *value, cJSON **old)
{
	return ctx->api->state_set(ctx, group, key, value, NULL, old);
}
static inline int stepd_state_list(struct stepd_ctx *ctx, const char *group, cJSON **values)
{
	return ctx->api->state_list(ctx, group, values, NULL);
}
static inline int stepd_state_list_text(struct stepd_ctx *ctx, const char *group, const char **text)
{
	return ctx->api->state_list(ctx, group, NULL, text);
}
static inline int stepd_state_groups(struct stepd_ctx *ctx, cJSON **names)
{
	return ctx->api->state_groups(ctx, names);
}
static inline int stepd_state_clear(struct stepd_ctx *ctx, const char *group)
{
	return ctx->api->state_clear(ctx, group);
}
static inline struct stepd_op stepd_op_set(const char *path, const cJSON *value)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_SET, .value = value};
}
static inline struct stepd_op stepd_op_merge(const char *path, const cJSON *object)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_MERGE, .value = object};
}
static inline struct stepd_op stepd_op_increment(const char *path, double by)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_INCREMENT, .by = by};
}
static inline struct stepd_op stepd_op_decrement(const char *path, double by)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_DECREMENT, .by = by};
}
static inline struct stepd_op stepd_op_append(const char *path, const cJSON *value)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_APPEND, .value = value};
}
static inline struct stepd_op stepd_op_remove(const char *path)
{
	return (struct stepd_op){.path = path, .type = STEPD_OP_REMOVE};
}
static inline const char *stepd_method(struct stepd_ctx *ctx)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_METHOD, NULL, NULL);
}
static inline const char *stepd_path(struct stepd_ctx *ctx)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_PATH, NULL, NULL);
}
static inline const char *stepd_remote(struct stepd_ctx *ctx)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_REMOTE, NULL, NULL);
}
static inline const char *stepd_param(struct stepd_ctx *ctx, const char *name)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_PARAM, name, NULL);
}
static inline const char *stepd_query(struct stepd_ctx *ctx, const char *name)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_QUERY, name, NULL);
}
static inline const char *stepd_header(struct stepd_ctx *ctx, const char *name)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_HEADER, name, NULL);
}
static inline bool stepd_param_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value)
{
	return ctx->api->http_at(ctx, STEPD_HTTP_PARAM, index, name, value);
}
static inline bool stepd_query_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value)
{
	return ctx->api->http_at(ctx, STEPD_HTTP_QUERY, index, name, value);
}
static inline bool stepd_header_at(struct stepd_ctx *ctx, size_t index, const char **name, const char **value)
{
	return ctx->api->http_at(ctx, STEPD_HTTP_HEADER, index, name, value);
}
static inline const char *stepd_raw_body(struct stepd_ctx *ctx, size_t *len)
{
	return ctx->api->http_get(ctx, STEPD_HTTP_BODY, NULL, len);
}
static inline int stepd_reply(struct stepd_ctx *ctx, int status, const cJSON *body)
{
	return ctx->api->reply(ctx, status, body);
}
static inline int stepd_reply_raw(struct stepd_ctx *ctx, int status, const char *content_type, const void *body, size_t len)
{
	return ctx->api->reply_raw(ctx, status, content_type, body, len);
}
static inline int stepd_reply_header(struct stepd_ctx *ctx, const char *name, const char *value)
{
	return ctx->api->reply_header(ctx, name, value);
}
static inline int stepd_stream(struct stepd_ctx *ctx, int status, const char *content_type)
{
	return ctx->api->stream(ctx, status, content_type);
}
static inline int stepd_write(struct stepd_ctx *ctx, const void *bytes, size_t len)
{
	return ctx->api->write(ctx, bytes, len);
}
static inline int stepd_print(struct stepd_ctx *ctx, const char *fmt, ...)
{
	va_list ap;
	int result;

	va_start(ap, fmt);
	result = ctx->api->print(ctx, fmt, ap);
	va_end(ap);
	return result;
}
static inline bool stepd_client_gone(struct stepd_ctx *ctx)
{
	return ctx->api->client_gone(ctx);
}
static inline bool stepd_stopping(struct stepd_ctx *ctx)
{
	return ctx->api->stopping(ctx);
}
static inline int stepd_return(struct stepd_ctx *ctx, const cJSON *output)
{
	return ctx->api->output(ctx, output);
}
static inline int stepd_retry(struct stepd_ctx *ctx, const char *fmt, ...)
{
	va_list ap;
	int result;

	va_start(ap, fmt);
	result = ctx->api->outcome(ctx, STEPD_RETRY, -1, fmt, ap);
	va_end(ap);
	return result;
}
static inline int stepd_retry_after(struct stepd_ctx *ctx, int64_t delay_ms, const char *fmt, ...)
{
	va_list ap;
	int result;

	va_start(ap, fmt);
	result = ctx->api->outcome(ctx, STEPD_RETRY, delay_ms < 0 ? 0 : delay_ms, fmt, ap);
	va_end(ap);
	return result;
}
static inline int stepd_fail(struct stepd_ctx *ctx, const char *fmt, ...)
{
	va_list ap;
	int result;

	va_start(ap, fmt);
	result = ctx->api->outcome(ctx, STEPD_FAIL, -1, fmt, ap);
	va_end(ap);
	return result;
}
static inline int stepd_snooze_(struct stepd_ctx *ctx, int64_t delay_ms, ...)
{
	va_list ap;
	int result;

	va_start(ap, delay_ms);
	result = ctx->api->outcome(ctx, STEPD_SNOOZE, delay_ms, NULL, ap);
	va_end(ap);
	return result;
}
static inline int stepd_snooze(struct stepd_ctx *ctx, int64_t delay_ms)
{
	return stepd_snooze_(ctx, delay_ms < 0 ? 0 : delay_ms);
}
static inline const char *stepd_last_error(struct stepd_ctx *ctx)
{
	return ctx->api->last_error(ctx);
}

#endif
