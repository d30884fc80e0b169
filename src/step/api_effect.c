/*
 * Enqueue and state: the calls that leave effects.  An effect is appended to
 * the attempt as the JSON that will be sent (step/attempt.h); a call that fails
 * leaves the attempt as it was.
 */
#include "step/ctx.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"
#include "step/overlay.h"

#include <math.h>
#include <string.h>

#define NAME_MAX_BYTES 1000 /* as sql has it */
#define RUN_AT_MAX_MS 253402300799000LL /* 9999-12-31T23:59:59Z */

/* Group, key: text of 1 to 1000 bytes. */
static int check_name(struct sd_ctx *c, const char *what, const char *s)
{
	if (s == NULL || *s == '\0')
		return sd_ctx_error(c, "the %s is empty", what);
	if (strnlen(s, NAME_MAX_BYTES + 1) > NAME_MAX_BYTES)
		return sd_ctx_error(c, "the %s is longer than %d bytes", what, NAME_MAX_BYTES);
	if (!sd_text_valid(s))
		return sd_ctx_error(c, "the %s is not valid UTF-8", what);
	return 0;
}

static int check_room(struct sd_ctx *c)
{
	const struct sd_attempt *a = c->a;

	if (a->nenqueues + a->nstates >= SD_EFFECTS_MAX)
		return sd_ctx_error(c, "this attempt has %d enqueues and state writes already; split the work over several jobs", SD_EFFECTS_MAX);
	if (a->enqueues.len + a->states.len > SD_EFFECTS_MAX_BYTES)
		return sd_ctx_error(c, "this attempt has more than %u MiB of enqueues and state writes; split the work over several jobs",
				    SD_EFFECTS_MAX_BYTES / 1024 / 1024);
	return 0;
}

static int check_topic(struct sd_ctx *c, const char *topic)
{
	const struct sd_mf_step *mf = c->step->mf;

	if (topic == NULL || *topic == '\0')
		return sd_ctx_error(c, "the topic is empty");
	for (size_t i = 0; i < mf->nenqueues; i++)
		if (strcmp(mf->enqueues[i], topic) == 0)
			return 0;
	return sd_ctx_error(c, "topic \"%.200s\" is not among the topics that step \"%s\" lists in .enqueues", topic, mf->name);
}

static int check_options(struct sd_ctx *c, const struct stepd_enqueue_options *o)
{
	if (o->data != NULL && o->text != NULL)
		return sd_ctx_error(c, "data and .text are both given");
	if (o->priority < INT16_MIN || o->priority > INT16_MAX)
		return sd_ctx_error(c, "priority %d is out of range -32768…32767", (int)o->priority);
	if (o->delay_ms < 0 || o->delay_ms > SD_DELAY_MAX_MS)
		return sd_ctx_error(c, "delay_ms %lld is out of range", (long long)o->delay_ms);
	if (o->run_at < 0 || o->run_at > RUN_AT_MAX_MS)
		return sd_ctx_error(c, "run_at %lld is out of range", (long long)o->run_at);
	if (o->delay_ms > 0 && o->run_at > 0)
		return sd_ctx_error(c, ".delay_ms and .run_at are both given");
	if (o->group != NULL && check_name(c, "group", o->group) < 0)
		return -1;
	return o->unique != NULL ? check_name(c, "unique key", o->unique) : 0;
}

static void put_member(struct sd_buf *b, const char *name, const char *value)
{
	sd_buf_str(b, name);
	sd_buf_json_str(b, value);
}

static void put_options(struct sd_buf *b, const struct stepd_enqueue_options *o)
{
	char at[28];

	if (o->priority != 0) {
		sd_buf_str(b, ",\"priority\":");
		sd_buf_i64(b, o->priority);
	}
	if (o->delay_ms > 0) {
		sd_buf_str(b, ",\"delay_ms\":");
		sd_buf_i64(b, o->delay_ms);
	}
	if (o->run_at > 0)
		put_member(b, ",\"run_at\":", sd_wall_format(o->run_at * 1000, at));
	if (o->group != NULL)
		put_member(b, ",\"group\":", o->group);
	if (o->unique != NULL)
		put_member(b, ",\"unique\":", o->unique);
	if (o->always)
		sd_buf_str(b, ",\"always\":true");
}

/* Take back what was appended since `at`; -1. */
static int undo(struct sd_buf *b, size_t at)
{
	b->len = at;
	b->data[at] = '\0';
	return -1;
}

int sd_api_enqueue(struct stepd_ctx *pub, const struct stepd_enqueue_options *given)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_buf *b = &c->a->enqueues;
	struct stepd_enqueue_options o = {.size = 0};
	size_t at = b->len;

	memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
	if (check_topic(c, o.topic) < 0 || check_options(c, &o) < 0 || check_room(c) < 0)
		return -1;
	put_member(b, at > 0 ? ",{\"topic\":" : "{\"topic\":", o.topic);
	sd_buf_str(b, ",\"data\":");
	if (sd_ctx_put_json(c, b, o.data, o.text, "the data") < 0)
		return undo(b, at);
	put_options(b, &o);
	sd_buf_chr(b, '}');
	c->a->nenqueues++;
	return 0;
}

/* ---- state ---- */

static void begin_state(struct sd_attempt *a, const char *op, const char *group, const char *key)
{
	struct sd_buf *b = &a->states;

	put_member(b, b->len > 0 ? ",{\"op\":" : "{\"op\":", op);
	put_member(b, ",\"group\":", group);
	if (key != NULL)
		put_member(b, ",\"key\":", key);
}

static void end_state(struct sd_attempt *a)
{
	sd_buf_chr(&a->states, '}');
	a->nstates++;
}

/* Ask the database; *json is what it says (see sd_ask), in the arena. */
static int ask(struct sd_ctx *c, enum sd_ask_kind kind, const char *group, const char *key, const char **json)
{
	struct sd_ask q = {.kind = kind, .attempt = c->a, .group = group, .key = key};

	sd_runner_await(c->runner, &q);
	*json = q.json;
	return q.failed ? sd_ctx_error_from(c, &q.err, "state can not be read") : 0;
}

static int get(struct sd_ctx *c, const char *group, const char *key, const char **text)
{
	struct sd_err err;

	if (check_name(c, "group", group) < 0 || check_name(c, "key", key) < 0)
		return -1;
	if (sd_overlay_get(c->a, group, key, text))
		return 0;
	if (ask(c, SD_ASK_STATE_GET, group, key, text) < 0)
		return -1;
	return sd_overlay_resolve(c->a, group, key, text, &err) < 0 ? sd_ctx_error_from(c, &err, "update of state") : 0;
}

/* Give text as the caller wants it. */
static int hand_over(struct sd_ctx *c, const char *text, cJSON **tree, const char **out)
{
	if (out != NULL)
		*out = text;
	if (tree == NULL)
		return 0;
	*tree = NULL;
	return text != NULL ? sd_ctx_tree(c, text, tree) : 0;
}

int sd_api_state_get(struct stepd_ctx *pub, const char *group, const char *key, cJSON **tree, const char **text)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	const char *json = NULL;

	if (tree != NULL)
		*tree = NULL;
	if (text != NULL)
		*text = NULL;
	return get(c, group, key, &json) < 0 ? -1 : hand_over(c, json, tree, text);
}

int sd_api_state_set(struct stepd_ctx *pub, const char *group, const char *key, const cJSON *tree, const char *text, cJSON **old)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_attempt *a = c->a;
	bool set = tree != NULL || text != NULL;
	const char *value = NULL;
	size_t at = a->states.len, from;

	if (check_name(c, "group", group) < 0 || check_name(c, "key", key) < 0 || check_room(c) < 0)
		return -1;
	if (old != NULL && sd_api_state_get(pub, group, key, old, NULL) < 0)
		return -1;
	begin_state(a, set ? "set" : "delete", group, key);
	if (set) {
		sd_buf_str(&a->states, ",\"value\":");
		from = a->states.len;
		if (sd_ctx_put_json(c, &a->states, tree, text, "the value") < 0)
			return undo(&a->states, at);
		value = sd_arena_memdup(a->arena, a->states.data + from, a->states.len - from);
	}
	end_state(a);
	sd_overlay_set(a, group, key, value);
	return 0;
}

int sd_api_state_clear(struct stepd_ctx *pub, const char *group)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	if (check_name(c, "group", group) < 0 || check_room(c) < 0)
		return -1;
	begin_state(c->a, "clear", group, NULL);
	end_state(c->a);
	sd_overlay_clear(c->a, group);
	return 0;
}

/* A JSON Pointer (RFC 6901) as an array of names. */
static int put_path(struct sd_ctx *c, struct sd_buf *b, const char *pointer)
{
	int steps = 0;

	if (*pointer != '/' || !sd_text_valid(pointer))
		return sd_ctx_error(c, "path \"%.200s\" is no JSON Pointer: it begins with '/'", sd_text_valid(pointer) ? pointer : "");
	sd_buf_str(b, ",\"path\":[");
	for (const char *p = pointer; *p == '/'; p += strcspn(p, "/")) {
		struct sd_buf name = SD_BUF_INIT;

		if (steps++ == SD_JSON_MAX_DEPTH)
			return sd_ctx_error(c, "path \"%.200s\"... has more than %d steps", pointer, SD_JSON_MAX_DEPTH);
		if (p != pointer)
			sd_buf_chr(b, ',');
		for (p++; *p != '/' && *p != '\0'; p++) {
			bool escape = *p == '~';

			if (escape && p[1] != '0' && p[1] != '1') {
				sd_buf_fini(&name);
				return sd_ctx_error(c, "path \"%.200s\" is no JSON Pointer: a '~' is written ~0", pointer);
			}
			sd_buf_chr(&name, !escape ? *p : p[1] == '0' ? '~' : '/');
			p += escape;
		}
		sd_buf_json(b, name.len > 0 ? name.data : "", name.len);
		sd_buf_fini(&name);
	}
	sd_buf_chr(b, ']');
	return 0;
}

static int put_op(struct sd_ctx *c, struct sd_buf *b, const struct stepd_op *op)
{
	static const char *const types[] = {"set", "merge", "increment", "decrement", "append", "remove"};
	cJSON by = {.type = cJSON_Number, .valuedouble = op->by};

	if (op->type < 0 || (size_t)op->type >= sizeof types / sizeof *types)
		return sd_ctx_error(c, "there is no operation %d", (int)op->type);
	put_member(b, "{\"type\":", types[op->type]);
	if (op->path != NULL && *op->path != '\0' && put_path(c, b, op->path) < 0)
		return -1;
	if (op->type == STEPD_OP_INCREMENT || op->type == STEPD_OP_DECREMENT) {
		if (!isfinite(op->by))
			return sd_ctx_error(c, "%s by something that is no number", types[op->type]);
		sd_buf_str(b, ",\"by\":");
		sd_json_print(b, &by);
	} else if (op->type != STEPD_OP_REMOVE) {
		if (op->type == STEPD_OP_MERGE && !cJSON_IsObject(op->value))
			return sd_ctx_error(c, "merge needs an object");
		sd_buf_str(b, ",\"value\":");
		if (sd_ctx_put_json(c, b, op->value, NULL, "the value") < 0)
			return -1;
	}
	sd_buf_chr(b, '}');
	return 0;
}

int sd_api_state_update(struct stepd_ctx *pub, const char *group, const char *key, const struct stepd_op *ops, size_t n)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_buf *b = &c->a->states;
	size_t at = b->len, from;
	struct sd_err err;

	if (check_name(c, "group", group) < 0 || check_name(c, "key", key) < 0 || check_room(c) < 0)
		return -1;
	begin_state(c->a, "update", group, key);
	sd_buf_str(b, ",\"ops\":");
	from = b->len;
	sd_buf_chr(b, '[');
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			sd_buf_chr(b, ',');
		if (put_op(c, b, &ops[i]) < 0)
			return undo(b, at);
	}
	sd_buf_chr(b, ']');
	if (sd_overlay_update(c->a, group, key, sd_arena_memdup(c->a->arena, b->data + from, b->len - from), &err) < 0) {
		sd_ctx_error_from(c, &err, "update of state");
		return undo(b, at);
	}
	end_state(c->a);
	return 0;
}

/* The group as a JSON array of values, in the arena. */
static int list(struct sd_ctx *c, const char *group, const char **array)
{
	struct sd_buf b = SD_BUF_INIT;
	const char *stored = NULL;
	struct sd_err err;
	int rc;

	if (!sd_overlay_hides(c->a, group) && ask(c, SD_ASK_STATE_LIST, group, NULL, &stored) < 0)
		return -1;
	rc = sd_overlay_list(c->a, group, stored, &b, &err);
	*array = sd_arena_memdup(c->a->arena, b.data, b.len);
	sd_buf_fini(&b);
	return rc < 0 ? sd_ctx_error_from(c, &err, "update of state") : 0;
}

int sd_api_state_list(struct stepd_ctx *pub, const char *group, cJSON **tree, const char **text)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	const char *array = NULL;

	if (tree != NULL)
		*tree = NULL;
	if (text != NULL)
		*text = NULL;
	if (check_name(c, "group", group) < 0 || list(c, group, &array) < 0)
		return -1;
	return hand_over(c, array, tree, text);
}

static int find_string(const cJSON *array, const char *s)
{
	const cJSON *item;
	int i = 0;

	cJSON_ArrayForEach(item, array) {
		if (cJSON_IsString(item) && strcmp(item->valuestring, s) == 0)
			return i;
		i++;
	}
	return -1;
}

/* The stored names, corrected by each group this attempt wrote to. */
int sd_api_state_groups(struct stepd_ctx *pub, cJSON **tree)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	const char *stored = NULL, *name, *values;

	*tree = NULL;
	if (ask(c, SD_ASK_STATE_GROUPS, NULL, NULL, &stored) < 0 || sd_ctx_tree(c, stored != NULL ? stored : "[]", tree) < 0)
		return -1;
	for (size_t i = 0; (name = sd_overlay_group(c->a, i)) != NULL; i++) {
		int at = find_string(*tree, name);

		if (list(c, name, &values) < 0)
			return -1;
		if (strcmp(values, "[]") == 0 && at >= 0)
			cJSON_DeleteItemFromArray(*tree, at);
		else if (strcmp(values, "[]") != 0 && at < 0)
			cJSON_AddItemToArray(*tree, cJSON_CreateString(name));
	}
	return 0;
}
