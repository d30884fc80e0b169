/*
 * Values of options.  Each type is one small function that reads the whole
 * text or refuses it; nothing is rounded, clamped or guessed.
 */
#include "conf/value.h"

#include "base/units.h"
#include "conf/conf.h"

#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_WINDOW_MAX_MS (365 * INT64_C(86400000))

static int parse_int(const char *text, int64_t *value, struct sd_err *err)
{
	const char *digits = *text == '-' ? text + 1 : text;
	if (*digits && strspn(digits, "0123456789") == strlen(digits)) {
		errno = 0;
		*value = strtoll(text, NULL, 10);
		if (errno == 0)
			return 0;
	}
	return sd_err_set(err, SD_ERR_PERMANENT, "expected a whole number, found \"%.60s\"", text);
}

static const char *show(enum sd_option_type type, int64_t n, char out[32])
{
	if (type == SD_OPTION_TIME && n > 0)
		return sd_duration_format(n, out);
	if (type == SD_OPTION_SIZE)
		return sd_size_format(n, out);
	snprintf(out, 32, "%" PRId64, n);
	return out;
}

static int check_range(const struct sd_option *o, int64_t n, const char *text, struct sd_err *err)
{
	char min[32], max[32];
	if (n >= o->min && n <= o->max)
		return 0;
	return sd_err_set(err, SD_ERR_PERMANENT, "must be from %s to %s%s%s, found \"%.60s\"", show(o->type, o->min, min),
			  show(o->type, o->max, max), o->none ? ", or " : "", o->none ? o->none : "", text);
}

static int set_number(const struct sd_option *o, void *member, const char *text, struct sd_err *err)
{
	int64_t n = 0;
	if (!o->none || strcmp(text, o->none) != 0) {
		int rc = o->type == SD_OPTION_TIME   ? sd_duration_parse(text, &n, err)
			 : o->type == SD_OPTION_SIZE ? sd_size_parse(text, &n, err)
						     : parse_int(text, &n, err);
		if (rc < 0 || check_range(o, n, text, err) < 0)
			return -1;
	}
	if (o->type == SD_OPTION_INT)
		*(int *)member = (int)n;
	else
		*(int64_t *)member = n;
	return 0;
}

static int set_factor(const struct sd_option *o, double *member, const char *text, struct sd_err *err)
{
	char *end;
	double d = strtod(text, &end);
	if (o->none && strcmp(text, o->none) == 0) {
		*member = 0;
		return 0;
	}
	if (*text == '\0' || strspn(text, "0123456789.") != strlen(text) || *end != '\0' || !isfinite(d))
		return sd_err_set(err, SD_ERR_PERMANENT, "expected a number such as 0.1, found \"%.60s\"", text);
	if (d * 1000 < (double)o->min || d * 1000 > (double)o->max)
		return sd_err_set(err, SD_ERR_PERMANENT, "must be from %g to %g%s%s, found \"%.60s\"", (double)o->min / 1000,
				  (double)o->max / 1000, o->none ? ", or " : "", o->none ? o->none : "", text);
	*member = d;
	return 0;
}

/* The index of text in words, or -1 with the words listed. */
static int find_word(const struct sd_option *o, const char *text, struct sd_err *err)
{
	char list[200] = "";
	for (int i = 0; o->words[i]; i++) {
		if (strcmp(o->words[i], text) == 0)
			return i;
		const char *joint = i == 0 ? "" : o->words[i + 1] ? ", " : " or ";
		size_t used = strlen(list);
		snprintf(list + used, sizeof(list) - used, "%s%s", joint, o->words[i]);
	}
	return sd_err_set(err, SD_ERR_PERMANENT, "expected %s, found \"%.60s\"", list, text);
}

static int set_word(const struct sd_option *o, void *member, const char *text, struct sd_err *err)
{
	int i = find_word(o, text, err);
	if (i < 0)
		return -1;
	if (o->type == SD_OPTION_WORD)
		*(int *)member = i;
	else if (o->type == SD_OPTION_WORDSET)
		*(unsigned *)member |= 1u << i;
	else
		*(const char **)member = o->words[i];
	return 0;
}

/* HOST:PORT, [IPV6]:PORT or off.  The host is resolved where the socket is made. */
static int set_listen(struct sd_conf_listen *l, const char *text, struct sd_arena *arena, struct sd_err *err)
{
	if (strcmp(text, "off") == 0) {
		*l = (struct sd_conf_listen){NULL, 0};
		return 0;
	}
	const char *colon = strrchr(text, ':');
	size_t host_len = colon ? (size_t)(colon - text) : 0;
	const char *host = text;
	bool bracketed = host_len > 2 && text[0] == '[' && colon[-1] == ']';
	if (bracketed) {
		host++;
		host_len -= 2;
	}
	if (host_len == 0 || host_len > 255 || strcspn(host, bracketed ? " []/" : " :[]/") < host_len)
		return sd_err_set(err, SD_ERR_PERMANENT,
				  "expected HOST:PORT, [IPV6]:PORT or off, found \"%.60s\"", text);
	const char *digits = colon + 1;
	long port = strlen(digits) <= 5 && strspn(digits, "0123456789") == strlen(digits) ? atol(digits) : 0;
	if (port < 1 || port > 65535)
		return sd_err_set(err, SD_ERR_PERMANENT, "the port must be from 1 to 65535, found \"%.60s\"", digits);
	l->host = sd_arena_memdup(arena, host, host_len);
	l->port = (uint16_t)port;
	return 0;
}

/* N/TIME: at most N starts in each TIME. */
static int set_rate(const struct sd_option *o, struct sd_conf_queue *q, const char *text, struct sd_err *err)
{
	char number[24];
	int64_t n, window;
	const char *slash = strchr(text, '/');

	if (strcmp(text, o->none) == 0) {
		q->rate_limit = 0;
		q->rate_window_ms = 0;
		return 0;
	}
	size_t len = slash ? (size_t)(slash - text) : 0;
	if (len == 0 || len >= sizeof(number))
		goto bad;
	memcpy(number, text, len);
	number[len] = '\0';
	if (parse_int(number, &n, NULL) < 0 || sd_duration_parse(slash + 1, &window, NULL) < 0 || window < 1 || window > RATE_WINDOW_MAX_MS)
		goto bad;
	if (check_range(o, n, text, err) < 0)
		return -1;
	q->rate_limit = (int)n;
	q->rate_window_ms = window;
	return 0;
bad:
	return sd_err_set(err, SD_ERR_PERMANENT, "expected a number per time of at most 365d such as 100/1s, found \"%.60s\"", text);
}

static int set_string(const char **member, const char *text, struct sd_arena *arena, struct sd_err *err)
{
	if (*text == '\0')
		return sd_err_set(err, SD_ERR_PERMANENT, "must not be empty");
	*member = sd_arena_strdup(arena, text);
	return 0;
}

/* The value may hold a password, so neither it nor libpq's words about it are shown if one may be in there. */
static int set_conninfo(const char **member, const char *text, struct sd_arena *arena, struct sd_err *err)
{
	char *why = NULL;
	PQconninfoOption *parsed = PQconninfoParse(text, &why);

	if (parsed) {
		PQconninfoFree(parsed);
		return set_string(member, text, arena, err);
	}
	if (why)
		why[strcspn(why, "\n")] = '\0';
	bool secret = strchr(text, '@') || strstr(text, "pass");
	sd_err_set(err, SD_ERR_PERMANENT, "is not a libpq URL or conninfo string%s%.200s", why && !secret ? ": " : "",
		   why && !secret ? why : "");
	PQfreemem(why);
	return -1;
}

static void add_dir(struct sd_conf *conf, const char *dir, struct sd_arena *arena)
{
	const char **grown = sd_arena_alloc(arena, (conf->nsteps + 1) * sizeof(*grown));
	if (conf->nsteps > 0)
		memcpy(grown, conf->steps, conf->nsteps * sizeof(*grown));
	grown[conf->nsteps++] = sd_arena_strdup(arena, dir);
	conf->steps = grown;
}

static int add_name(struct sd_conf_names *names, const char *text, struct sd_arena *arena, struct sd_err *err)
{
	if (*text == '\0')
		return sd_err_set(err, SD_ERR_PERMANENT, "must not be empty");
	if (sd_conf_names_has(names, text))
		return sd_err_set(err, SD_ERR_PERMANENT, "\"%.60s\" is there twice", text);
	const char **grown = sd_arena_alloc(arena, (names->n + 1) * sizeof(*grown));
	if (names->n > 0)
		memcpy(grown, names->v, names->n * sizeof(*grown));
	grown[names->n++] = sd_arena_strdup(arena, text);
	names->v = grown;
	return 0;
}

int sd_value_set(const struct sd_option *o, void *base, const char *text, struct sd_arena *arena, struct sd_err *err)
{
	void *member = (char *)base + o->offset;

	switch (o->type) {
	case SD_OPTION_STRING:
	case SD_OPTION_FILE:
		return set_string(member, text, arena, err);
	case SD_OPTION_CONNINFO:
		return set_conninfo(member, text, arena, err);
	case SD_OPTION_INT:
	case SD_OPTION_COUNT:
	case SD_OPTION_TIME:
	case SD_OPTION_SIZE:
		return set_number(o, member, text, err);
	case SD_OPTION_FACTOR:
		return set_factor(o, member, text, err);
	case SD_OPTION_WORD:
	case SD_OPTION_WORDTEXT:
	case SD_OPTION_WORDSET:
		return set_word(o, member, text, err);
	case SD_OPTION_LISTEN:
		return set_listen(member, text, arena, err);
	case SD_OPTION_RATE:
		return set_rate(o, base, text, err);
	case SD_OPTION_ENVIRONMENT: /* checked where name and value are still apart */
	case SD_OPTION_NAMES:
		return add_name(member, text, arena, err);
	case SD_OPTION_DIRS:
		if (*text == '\0')
			return sd_err_set(err, SD_ERR_PERMANENT, "must not be empty");
		add_dir(base, text, arena);
		return 0;
	}
	return sd_err_set(err, SD_ERR_BUG, "option %s has no type", o->path);
}
