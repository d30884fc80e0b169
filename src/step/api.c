/*
 * The calls of <stepd/step.h>: the table, and what is neither state nor http.
 */
#include "step/ctx.h"
#include "base/clock.h"
#include "base/decimal.h"
#include "base/json.h"
#include "base/units.h"
#include "base/uuid.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_MESSAGE_MAX 1000
#define PROGRESS_FIELDS_MAX 16384

static void *api_alloc(struct stepd_ctx *pub, size_t size)
{
	return sd_arena_zalloc(sd_ctx_of(pub)->a->arena, size > 0 ? size : 1);
}

static char *api_format(struct stepd_ctx *pub, const char *fmt, va_list ap)
{
	struct sd_arena *arena = sd_ctx_of(pub)->a->arena;
	va_list again;
	char *s;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	s = sd_arena_zalloc(arena, n > 0 ? (size_t)n + 1 : 1);
	if (n > 0)
		vsnprintf(s, (size_t)n + 1, fmt, ap);
	return s;
}

/*
 * A name-based UUID (RFC 9562, version 5) of the trace, the job and the how-manieth, so that a retry gets the same ones.
 * A request that is answered at once has no job and no retry, and its trace id is the client's: a random one.
 */
static const char *api_uuid(struct stepd_ctx *pub)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	unsigned char h[SHA_DIGEST_LENGTH];
	char *out = sd_arena_alloc(c->a->arena, SD_UUID_LEN + 1);
	char name[128];
	int n;

	if (c->a->job_id == 0)
		return sd_uuid_v4(out);
	n = snprintf(name, sizeof name, "%.64s/%lld/%u", c->pub.trace_id, (long long)c->a->job_id, ++c->uuids);
	SHA1((const unsigned char *)name, (size_t)n, h);
	h[6] = (unsigned char)((h[6] & 0x0f) | 0x50);
	h[8] = (unsigned char)((h[8] & 0x3f) | 0x80);
	snprintf(out, SD_UUID_LEN + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", h[0], h[1], h[2], h[3], h[4],
		 h[5], h[6], h[7], h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15]);
	return out;
}

static const char *api_now(struct stepd_ctx *pub)
{
	char text[28];

	sd_wall_format(sd_wall_us(), text);
	return sd_arena_printf(sd_ctx_of(pub)->a->arena, "%.23sZ", text);
}

static cJSON *api_own(struct stepd_ctx *pub, cJSON *tree)
{
	return sd_ctx_own(sd_ctx_of(pub), tree);
}

static cJSON *field_tree(const struct stepd_field *f)
{
	switch (f->type) {
	case STEPD_FIELD_STR:
		return f->v.s != NULL ? cJSON_CreateString(f->v.s) : cJSON_CreateNull();
	case STEPD_FIELD_INT:
		/* beyond a double's exact integers the digits are kept as they are */
		if (f->v.i > (INT64_C(1) << 53) || f->v.i < -(INT64_C(1) << 53)) {
			char digits[24];

			snprintf(digits, sizeof digits, "%lld", (long long)f->v.i);
			return cJSON_CreateRaw(digits);
		}
		return cJSON_CreateNumber((double)f->v.i);
	case STEPD_FIELD_NUM:
		return cJSON_CreateNumber(f->v.n);
	case STEPD_FIELD_BOOL:
		return cJSON_CreateBool(f->v.i != 0);
	case STEPD_FIELD_JSON:
		return f->v.j != NULL ? cJSON_Duplicate(f->v.j, 1) : cJSON_CreateNull();
	default:
		return cJSON_CreateNull();
	}
}

static cJSON *api_object(struct stepd_ctx *pub, const struct stepd_field *fields, size_t n)
{
	cJSON *tree = sd_ctx_own(sd_ctx_of(pub), cJSON_CreateObject());

	if (tree == NULL)
		abort();
	for (size_t i = 0; i < n; i++)
		cJSON_AddItemToObject(tree, fields[i].name != NULL ? fields[i].name : "", field_tree(&fields[i]));
	return tree;
}

static const cJSON *api_data(struct stepd_ctx *pub)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	if (c->data != NULL)
		return c->data;
	c->data = cJSON_Parse(c->pub.data);
	sd_json_keep_digits(c->data, c->pub.data);
	if (c->data == NULL) { /* a number cJSON can not hold: the text still has it */
		sd_ctx_error(c, "the data can not be read as a tree; use stepd_data_text()");
		c->data = cJSON_CreateNull();
	}
	return c->data;
}

static bool api_cancelled(struct stepd_ctx *pub)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	if (!c->saw_cancel)
		c->saw_cancel = sd_runner_cancelled(c->runner, c->a);
	return c->saw_cancel;
}

/* Why a tree can not be printed as valid JSON; NULL: it can, but for raw nodes, which are counted. */
static const char *bad_tree(const cJSON *v, int depth, size_t *raws)
{
	const char *why = NULL;

	for (; v != NULL && why == NULL; v = depth > 0 ? v->next : NULL) {
		if (v->string != NULL && !sd_text_valid(v->string))
			return "invalid UTF-8";
		if (cJSON_IsString(v) && !sd_text_valid(v->valuestring))
			return "invalid UTF-8";
		if (depth >= SD_JSON_MAX_DEPTH && (cJSON_IsArray(v) || cJSON_IsObject(v)))
			return "nested too deep";
		if (cJSON_IsRaw(v))
			++*raws;
		else if (v->child != NULL)
			why = bad_tree(v->child, depth + 1, raws);
	}
	return why;
}

static int put_tree(struct sd_ctx *c, struct sd_buf *b, const cJSON *tree, const char *what)
{
	size_t at = b->len, raws = 0;
	const char *why = bad_tree(tree, 0, &raws);
	struct sd_err err;

	if (why != NULL)
		return sd_ctx_error(c, "%s: %s", what, why);
	sd_json_print(b, tree);
	if (b->len - at > SD_TEXT_MAX)
		sd_ctx_error(c, "%s is larger than 64 MiB", what);
	else if (raws > 0 && sd_json_check(b->data + at, b->len - at, &err) < 0)
		sd_ctx_error_from(c, &err, what);
	else
		return 0;
	b->len = at;
	b->data[at] = '\0';
	return -1;
}

int sd_ctx_put_json(struct sd_ctx *c, struct sd_buf *b, const cJSON *tree, const char *text, const char *what)
{
	struct sd_err err;
	size_t len;

	if (text == NULL)
		return put_tree(c, b, tree, what);
	len = strnlen(text, SD_TEXT_MAX + 1);
	if (len > SD_TEXT_MAX)
		return sd_ctx_error(c, "%s is larger than 64 MiB", what);
	if (sd_json_check(text, len, &err) < 0)
		return sd_ctx_error_from(c, &err, what);
	sd_buf_append(b, text, len);
	return 0;
}

/* Append an object of fields; never fails: what is no JSON becomes a string that says so. */
static void put_fields(struct sd_arena *arena, struct sd_buf *b, const struct stepd_field *fields, size_t n)
{
	sd_buf_chr(b, '{');
	for (size_t i = 0; i < n; i++) {
		const struct stepd_field *f = &fields[i];
		size_t at;

		if (i > 0)
			sd_buf_chr(b, ',');
		sd_buf_json_str(b, sd_clean_text(arena, f->name != NULL ? f->name : "", 1024));
		sd_buf_chr(b, ':');
		at = b->len;
		if (f->type == STEPD_FIELD_STR && f->v.s != NULL) {
			sd_buf_json_str(b, sd_clean_text(arena, f->v.s, SD_TEXT_MAX));
		} else if (f->type == STEPD_FIELD_INT) {
			sd_buf_i64(b, f->v.i);
		} else if (f->type == STEPD_FIELD_JSON) {
			sd_json_print(b, f->v.j);
			if (sd_json_check(b->data + at, b->len - at, NULL) < 0) {
				b->len = at;
				sd_buf_str(b, "\"(not valid JSON)\"");
			}
		} else {
			cJSON *tree = field_tree(f);

			sd_json_print(b, tree);
			cJSON_Delete(tree);
		}
	}
	sd_buf_chr(b, '}');
}

static void api_log(struct stepd_ctx *pub, int level, const char *message, const struct stepd_field *fields, size_t n)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_attempt *a = c->a;

	if (level < STEPD_LOG_DEBUG || level > STEPD_LOG_ERROR)
		level = STEPD_LOG_INFO;
	if (level < *c->step->log_level || a->nlogs > SD_LOG_LINES_MAX || a->logs.len > SD_EFFECTS_MAX_BYTES)
		return;
	if (a->nlogs++ == SD_LOG_LINES_MAX) {
		level = STEPD_LOG_WARN;
		message = "this attempt logged too much: what follows is dropped";
		n = 0;
	}
	sd_buf_str(&a->logs, a->logs.len > 0 ? ",{\"at_us\":" : "{\"at_us\":");
	sd_buf_i64(&a->logs, sd_wall_us());
	sd_buf_str(&a->logs, ",\"level\":\"");
	sd_buf_str(&a->logs, names[level]);
	sd_buf_str(&a->logs, "\",\"message\":");
	sd_buf_json_str(&a->logs, sd_clean_text(a->arena, message, 65536));
	if (n > 0) {
		sd_buf_str(&a->logs, ",\"fields\":");
		put_fields(a->arena, &a->logs, fields, n);
	}
	sd_buf_chr(&a->logs, '}');
}

static void api_progress(struct stepd_ctx *pub, double percent, const char *message, const struct stepd_field *fields, size_t n)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_buf b = SD_BUF_INIT;
	char number[SD_DECIMAL_MAX];
	size_t at;

	if (c->a->job_id == 0)
		return;
	sd_buf_chr(&b, '{');
	if (percent >= 0) /* nor is NaN */
		sd_buf_printf(&b, "\"percent\":%s", sd_decimal_print(number, 6, 'g', percent < 100 ? percent : 100.0));
	if (message != NULL) {
		sd_buf_str(&b, b.len > 1 ? ",\"message\":" : "\"message\":");
		sd_buf_json_str(&b, sd_clean_text(c->a->arena, message, PROGRESS_MESSAGE_MAX));
	}
	at = b.len;
	if (n > 0) {
		sd_buf_str(&b, b.len > 1 ? ",\"fields\":" : "\"fields\":");
		put_fields(c->a->arena, &b, fields, n);
		if (b.len - at > PROGRESS_FIELDS_MAX)
			b.len = at;
	}
	sd_buf_chr(&b, '}');
	sd_runner_say(c->runner, &b);
	sd_buf_fini(&b);
}

static int api_output(struct stepd_ctx *pub, const cJSON *tree)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_buf b = SD_BUF_INIT;
	int rc = sd_ctx_put_json(c, &b, tree, NULL, "the output");

	if (rc == 0) {
		c->a->output = sd_arena_memdup(c->a->arena, b.data, b.len);
		c->a->output_len = b.len;
	}
	sd_buf_fini(&b);
	return rc;
}

static int api_outcome(struct stepd_ctx *pub, int result, int64_t delay_ms, const char *fmt, va_list ap)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	c->result = result;
	c->delay_ms = delay_ms < SD_DELAY_MAX_MS ? delay_ms : SD_DELAY_MAX_MS;
	if (fmt != NULL)
		sd_ctx_error(c, "%s", api_format(pub, fmt, ap));
	return result;
}

static const char *api_last_error(struct stepd_ctx *pub)
{
	const char *error = sd_ctx_of(pub)->error;

	return error != NULL ? error : "";
}

const struct stepd_api sd_step_api = {
	.alloc = api_alloc,
	.format = api_format,
	.uuid = api_uuid,
	.now = api_now,
	.own = api_own,
	.object = api_object,
	.data = api_data,
	.cancelled = api_cancelled,
	.enqueue = sd_api_enqueue,
	.state_get = sd_api_state_get,
	.state_set = sd_api_state_set,
	.state_list = sd_api_state_list,
	.state_groups = sd_api_state_groups,
	.state_clear = sd_api_state_clear,
	.state_update = sd_api_state_update,
	.log = api_log,
	.http_get = sd_api_http_get,
	.http_at = sd_api_http_at,
	.reply = sd_api_reply,
	.reply_raw = sd_api_reply_raw,
	.reply_header = sd_api_reply_header,
	.output = api_output,
	.outcome = api_outcome,
	.last_error = api_last_error,
	.progress = api_progress,
	.stream = sd_api_stream,
	.write = sd_api_write,
	.print = sd_api_print,
	.event = sd_api_event,
	.client_gone = sd_api_client_gone,
	.stopping = sd_api_stopping,
};
