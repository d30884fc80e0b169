/*
 * The rules of a step's config.  They are those of the queues (names fit into
 * SQL and into a line of a log), of the router (src/http/router.h) and of
 * cron(5); a step that passes here is never refused later.
 */
#include "step/check.h"
#include "base/cronspec.h"
#include "base/schema.h"
#include "base/utf8.h"
#include "base/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128
#define TOPIC_MAX_BYTES 255
#define PATH_MAX_BYTES 1024
#define SEGMENTS_MAX 64
#define PARAMS_MAX 16
#define HTTP_TIMEOUT_MAX_MS (86400 * 1000LL)
#define CATCH_UP_MAX_MS (366 * 86400 * 1000LL)

struct check {
	const char *file, *source; /* source and line: of what is being looked at */
	int64_t line;
	struct sd_step_problems *problems;
	size_t n;
};

static void add_line(struct sd_step_problems *p, const char *file, const char *source, int64_t line, const char *fmt, va_list ap)
{
	struct sd_buf b = SD_BUF_INIT;
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		text = sd_xstrdup("out of memory");
	if (source != NULL)
		sd_buf_printf(&b, "%s:%lld:1: %s (%s)", source, (long long)line, text, file);
	else
		sd_buf_printf(&b, "%s: %s", file, text);
	for (char *c = b.data; *c != '\0'; c++) /* a step's text must not break the line */
		if ((unsigned char)*c < 0x20)
			*c = ' ';
	sd_buf_printf(&p->text, "%s\n", b.data);
	p->n++;
	free(text);
	sd_buf_fini(&b);
}

void sd_problem(struct sd_step_problems *p, const char *file, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(p, file, NULL, 0, fmt, ap);
	va_end(ap);
}

void sd_problem_at(struct sd_step_problems *p, const char *file, const char *source, int64_t line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(p, file, source, line, fmt, ap);
	va_end(ap);
}

static void SD_PRINTF(2, 3) complain(struct check *c, const char *fmt, ...)
{
	va_list ap;

	c->n++;
	va_start(ap, fmt);
	add_line(c->problems, c->file, c->source, c->line, fmt, ap);
	va_end(ap);
}

/* Why s is no name of at most max bytes; NULL: it is one. */
static const char *bad_name(const char *s, size_t max)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n;

	if (s == NULL || *s == '\0')
		return "is empty";
	n = strnlen(s, max + 1);
	if (n > max)
		return "is too long";
	if (s[0] == ' ' || s[n - 1] == ' ')
		return "begins or ends with a space";
	for (size_t len; n > 0; p += len, n -= len) {
		len = sd_utf8_len(p, n);
		if (len == 0)
			return "is not valid UTF-8";
		if (*p < 0x20 || *p == 0x7f)
			return "has a control character";
	}
	return NULL;
}

static void check_text(struct check *c, const char *what, const char *s)
{
	size_t n = s != NULL ? strlen(s) : 0;

	for (size_t i = 0, len; i < n; i += len) {
		len = sd_utf8_len((const unsigned char *)s + i, n - i);
		if (len == 0) {
			complain(c, "%s is not valid UTF-8", what);
			return;
		}
	}
}

static void check_schema(struct check *c, const char *what, const char *schema)
{
	struct sd_schema *compiled;
	struct sd_err err;

	if (schema == NULL)
		return;
	compiled = sd_schema_compile(schema, strlen(schema), SD_SCHEMA_2020_12, &err);
	if (compiled == NULL)
		complain(c, "%s: %s%s%s%s%s%s", what, err.message, err.detail[0] != '\0' ? ", " : "", err.detail, err.hint[0] != '\0' ? " (" : "",
			 err.hint, err.hint[0] != '\0' ? ")" : "");
	sd_schema_free(compiled);
}

static void check_queue(struct check *c, const struct sd_object *o, size_t index, const struct stepd_trigger *t)
{
	const char *why = bad_name(t->topic, TOPIC_MAX_BYTES);
	struct stepd_trigger before;

	if (why != NULL)
		complain(c, "trigger %zu: the topic %s", index, why);
	else
		for (size_t i = 0; i < index && sd_object_trigger(o, i, &before); i++)
			if (before.type == STEPD_TRIGGER_QUEUE && before.topic != NULL && strcmp(before.topic, t->topic) == 0)
				complain(c, "triggers %zu and %zu are both for topic \"%s\"", i, index, t->topic);
	check_schema(c, "the schema .input", t->input);
}

/* Why a segment (n bytes) of a path is wrong; NULL: it is right. */
static const char *bad_segment(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= 0x20 || s[i] == 0x7f || strchr("?#%", s[i]) != NULL)
			return "has a character that no path has ('?', '#', '%', a space …)";
	if (n == 1 && s[0] == ':')
		return "has a parameter without a name";
	return NULL;
}

static void check_path(struct check *c, const char *path)
{
	const char *names[PARAMS_MAX], *why = NULL;
	size_t lens[PARAMS_MAX], segments = 0, params = 0;

	if (path == NULL || path[0] != '/') {
		complain(c, "path \"%s\" does not begin with '/'", path != NULL ? path : "");
		return;
	}
	if (strlen(path) > PATH_MAX_BYTES)
		why = "is too long";
	for (const char *s = path; why == NULL && *s == '/';) {
		size_t n = strcspn(++s, "/");

		why = ++segments > SEGMENTS_MAX ? "has too many segments" : bad_segment(s, n);
		if (why == NULL && s[0] == ':') {
			for (size_t i = 0; i < params; i++)
				if (lens[i] == n && memcmp(names[i], s, n) == 0)
					why = "has two parameters of one name";
			if (params == PARAMS_MAX)
				why = "has too many parameters";
			else
				names[params] = s, lens[params++] = n;
		}
		s += n;
	}
	if (why != NULL)
		complain(c, "path \"%s\" %s", path, why);
}

static void check_http(struct check *c, const struct stepd_trigger *t)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"};
	bool known = false;

	for (size_t i = 0; t->method != NULL && i < sizeof methods / sizeof *methods; i++)
		known = known || strcmp(t->method, methods[i]) == 0;
	if (!known)
		complain(c, "method \"%s\" is none of GET POST PUT PATCH DELETE HEAD OPTIONS", t->method != NULL ? t->method : "");
	check_text(c, "the path", t->path);
	check_path(c, t->path);
	check_schema(c, "the schema .body_schema", t->body_schema);
	check_schema(c, "the schema .query_schema", t->query_schema);
	if (t->respond != STEPD_SYNC && t->respond != STEPD_ACCEPTED)
		complain(c, ".respond is neither STEPD_SYNC nor STEPD_ACCEPTED");
	if (t->timeout_ms < 0 || t->timeout_ms > HTTP_TIMEOUT_MAX_MS)
		complain(c, ".timeout_ms %lld is not within 1 and %lld (24 hours)", (long long)t->timeout_ms, HTTP_TIMEOUT_MAX_MS);
	if (t->timeout_ms > 0 && t->respond == STEPD_ACCEPTED)
		complain(c, ".timeout_ms is for STEPD_SYNC; a job's time is its queue's timeout");
}

static void check_cron(struct check *c, const struct stepd_trigger *t)
{
	struct sd_cronspec spec;
	struct sd_zone *zone;
	struct sd_err err;

	if (t->expression == NULL) {
		complain(c, "the cron expression is missing");
		return;
	}
	if (sd_cron_parse(t->expression, &spec, &err) < 0)
		complain(c, "cron expression \"%s\": %s%s%s%s", t->expression, err.message, err.hint[0] != '\0' ? " (" : "", err.hint,
			 err.hint[0] != '\0' ? ")" : "");
	zone = sd_zone_load(t->timezone, &err);
	if (zone == NULL)
		complain(c, "cron expression \"%s\": %s", t->expression, err.message);
	sd_zone_free(zone);
	if (t->missed != NULL && strcmp(t->missed, "skip") != 0 && strcmp(t->missed, "one") != 0 && strcmp(t->missed, "all") != 0)
		complain(c, "cron expression \"%s\": .missed \"%.40s\" is none of skip, one, all", t->expression, t->missed);
	if (t->overlap != NULL && strcmp(t->overlap, "allow") != 0 && strcmp(t->overlap, "skip") != 0)
		complain(c, "cron expression \"%s\": .overlap \"%.40s\" is none of allow, skip", t->expression, t->overlap);
	if (t->catch_up_limit_ms < 0 || t->catch_up_limit_ms > CATCH_UP_MAX_MS)
		complain(c, "cron expression \"%s\": .catch_up_limit_ms %lld is not within 1 and %lld (366 days)", t->expression,
			 (long long)t->catch_up_limit_ms, CATCH_UP_MAX_MS);
}

static void check_triggers(struct check *c, const struct sd_object *o)
{
	struct stepd_trigger t;
	size_t n = 0;

	for (; n < SD_TRIGGERS_MAX && sd_object_trigger(o, n, &t); n++) {
		c->source = t.source != NULL ? t.source : o->step.source;
		c->line = t.source != NULL ? t.line : o->step.line;
		if (t.type == STEPD_TRIGGER_QUEUE)
			check_queue(c, o, n, &t);
		else if (t.type == STEPD_TRIGGER_HTTP)
			check_http(c, &t);
		else if (t.type == STEPD_TRIGGER_CRON)
			check_cron(c, &t);
		else
			complain(c, "trigger %zu has the unknown type %d", n, (int)t.type);
	}
	c->source = o->step.source;
	c->line = o->step.line;
	if (n == 0)
		complain(c, "the step has no triggers");
	if (n == SD_TRIGGERS_MAX && sd_object_trigger(o, n, &t))
		complain(c, "the step has more than %d triggers, or their list has no end (STEPD_TRIGGERS gives it one)", SD_TRIGGERS_MAX);
}

static void check_list(struct check *c, const char *what, const char *const *list, size_t max)
{
	for (; list != NULL && *list != NULL; list++) {
		const char *why = bad_name(*list, max);

		if (why != NULL)
			complain(c, "%s: a name %s", what, why);
	}
}

size_t sd_check_step(const struct sd_object *o, const char *file, struct sd_step_problems *p)
{
	struct check c = {.file = file, .source = o->step.source, .line = o->step.line, .problems = p};
	const char *why = bad_name(o->step.name, NAME_MAX_BYTES);

	if (why != NULL)
		complain(&c, "the step's name %s", why);
	if (o->step.handler == NULL)
		complain(&c, "the step has no handler");
	check_text(&c, "the description", o->step.description);
	check_list(&c, ".enqueues", o->step.enqueues, TOPIC_MAX_BYTES);
	check_list(&c, ".flows", o->step.flows, NAME_MAX_BYTES);
	check_triggers(&c, o);
	return c.n;
}

void sd_route_key(const char *method, const char *path, struct sd_buf *key)
{
	sd_buf_str(key, method);
	sd_buf_chr(key, ' ');
	while (*path == '/') {
		size_t n = strcspn(path + 1, "/");

		if (path[1] == ':')
			sd_buf_str(key, "/:");
		else
			sd_buf_append(key, path, n + 1);
		path += n + 1;
	}
}
