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

/* ref is behind "${".  Appends the value and returns what follows the '}', or NULL with *err. */
static const char *expand_one(const char *ref, struct sd_buf *out, struct sd_err *err)
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
	const char *fallback = ref[len] == ':' ? ref + len + 1 : NULL;
	const char *end = strchr(ref + len, '}');
	if (!end) {
		sd_err_set(err, SD_ERR_PERMANENT, "\"${%s\" has no closing brace", name);
		return NULL;
	}
	const char *value = getenv(name);
	if (!value && !fallback) {
		sd_err_set(err, SD_ERR_PERMANENT, "the environment variable %s is not set and ${%s} has no default", name,
			   name);
		return NULL;
	}
	if (fallback && (!value || *value == '\0'))
		sd_buf_append(out, fallback, (size_t)(end - fallback));
	else
		sd_buf_str(out, value);
	return end + 1;
}

const char *sd_expand(const char *text, struct sd_arena *arena, struct sd_err *err)
{
	struct sd_buf out = SD_BUF_INIT;
	const char *p = text, *dollar;

	if (!strstr(text, "${"))
		return text;
	while ((dollar = strstr(p, "${"))) {
		bool escaped = dollar > p && dollar[-1] == '$';
		sd_buf_append(&out, p, (size_t)(dollar - p) - escaped);
		if (escaped) {
			sd_buf_str(&out, "${");
			p = dollar + 2;
		} else if (!(p = expand_one(dollar + 2, &out, err))) {
			sd_buf_fini(&out);
			return NULL;
		}
	}
	sd_buf_str(&out, p);
	const char *result = sd_arena_memdup(arena, out.data, out.len);
	sd_buf_fini(&out);
	return result;
}
