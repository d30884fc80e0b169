/* Expansion happens after YAML, on single scalars: a value from the environment can never change the file's structure. */
#include "conf/expand.h"

#include "base/buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool name_char(char c, bool first)
{
	return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (!first && c >= '0' && c <= '9');
}

#define NESTED_MAX 8

static const char *expand(const char *p, bool inside, int depth, struct sd_buf *out, struct sd_err *err);

/* p is behind "${".  Appends the value (out NULL: nothing, it is only read over) and returns what follows the '}', or NULL with *err. */
static const char *expand_one(const char *ref, int depth, struct sd_buf *out, struct sd_err *err)
{
	char name[128];
	size_t len = 0;

	while (name_char(ref[len], len == 0))
		len++;
	if (len == 0 || len >= sizeof(name) || (ref[len] != '}' && ref[len] != ':')) {
		sd_err_set(err, SD_ERR_PERMANENT, "expected ${NAME} or ${NAME:default}, found \"${%.40s\"", ref);
		return NULL;
	}
	memcpy(name, ref, len);
	name[len] = '\0';
	const char *value = getenv(name), *end = ref + len;
	if (*end == ':') {
		bool fallback = !value || *value == '\0';
		end = expand(end + 1, true, depth + 1, fallback ? out : NULL, err);
		if (!end)
			return NULL;
		if (*end != '}') {
			sd_err_set(err, SD_ERR_PERMANENT, "\"${%s\" has no closing brace", name);
			return NULL;
		}
		value = fallback ? "" : value;
	} else if (!value && out) {
		sd_err_set(err, SD_ERR_PERMANENT, "the environment variable %s is not set and ${%s} has no default", name,
			   name);
		return NULL;
	}
	if (out)
		sd_buf_str(out, value);
	return end + 1;
}

/* Up to the end of the text, or, inside of a default, to its '}'; returns that place. */
static const char *expand(const char *p, bool inside, int depth, struct sd_buf *out, struct sd_err *err)
{
	if (depth > NESTED_MAX) {
		sd_err_set(err, SD_ERR_PERMANENT, "${NAME:default} is nested more than %d deep", NESTED_MAX);
		return NULL;
	}
	while (*p && !(inside && *p == '}')) {
		bool escaped = strncmp(p, "$${", 3) == 0;
		if (!escaped && strncmp(p, "${", 2) == 0) {
			if (!(p = expand_one(p + 2, depth, out, err)))
				return NULL;
			continue;
		}
		p += escaped;
		size_t n = escaped ? 2 : 1;
		if (out)
			sd_buf_append(out, p, n);
		p += n;
	}
	return p;
}

const char *sd_expand(const char *text, struct sd_arena *arena, struct sd_err *err)
{
	struct sd_buf out = SD_BUF_INIT;
	const char *result = NULL;

	if (!strstr(text, "${"))
		return text;
	sd_buf_str(&out, "");
	if (expand(text, false, 0, &out, err))
		result = sd_arena_memdup(arena, out.data, out.len);
	sd_buf_fini(&out);
	return result;
}
