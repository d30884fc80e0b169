/* A schema and a value, one behind the other on two lines: whatever they are, there is a verdict, the same with and without reasons. */
#include "base/json.h"
#include "base/schema.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void judge(const struct sd_schema *s, cJSON *v)
{
	struct sd_violations out = {.arena = sd_arena_new()};
	bool ok = sd_schema_validate(s, v, &out);

	if (ok != (out.n == 0) || ok != sd_schema_validate(s, v, NULL))
		abort();
	for (size_t i = 0; i < out.n; i++)
		if (out.list[i].message[0] == '\0' || out.list[i].keyword[0] == '\0' || (out.list[i].pointer[0] != '\0' && out.list[i].pointer[0] != '/'))
			abort();
	if (cJSON_IsObject(v)) {
		sd_schema_coerce(s, v);
		sd_schema_validate(s, v, &out);
	}
	sd_arena_free(out.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data, *line = memchr(text, '\n', len);
	size_t first = line != NULL ? (size_t)(line - text) : len;
	struct sd_err err;

	for (int draft = SD_SCHEMA_2020_12; draft <= SD_SCHEMA_DRAFT_7; draft++) {
		struct sd_schema *s = sd_schema_compile(text, first, draft, &err);
		cJSON *v = line != NULL ? sd_json_parse(line + 1, len - first - 1, NULL) : NULL;

		if (s == NULL && err.message[0] == '\0')
			abort();
		if (s != NULL && v != NULL)
			judge(s, v);
		cJSON_Delete(v);
		sd_schema_free(s);
	}
	return 0;
}
