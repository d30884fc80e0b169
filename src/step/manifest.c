/* Reading a manifest of ours.  It was written by a child of ours, so what is missing is a defect, but never a crash. */
#include "step/manifest.h"
#include "base/json.h"

#include <string.h>

static const char *text(struct sd_arena *arena, const cJSON *obj, const char *key)
{
	return sd_arena_strdup(arena, sd_json_str(obj, key, NULL));
}

/* A schema as text again. */
static const char *schema(struct sd_arena *arena, const cJSON *obj, const char *key)
{
	const cJSON *tree = sd_json_get(obj, key);
	struct sd_buf b = SD_BUF_INIT;
	const char *s;

	if (tree == NULL || cJSON_IsNull(tree))
		return NULL;
	sd_json_print(&b, tree);
	s = sd_arena_memdup(arena, b.data, b.len);
	sd_buf_fini(&b);
	return s;
}

static int read_trigger(const cJSON *j, struct sd_mf_trigger *t, struct sd_arena *arena, struct sd_err *err)
{
	const char *type = sd_json_str(j, "type", "");

	if (strcmp(type, "queue") == 0) {
		t->type = SD_TRIGGER_QUEUE;
		t->topic = text(arena, j, "topic");
		t->schema = schema(arena, j, "input");
		if (t->topic != NULL)
			return 0;
	} else if (strcmp(type, "http") == 0) {
		t->type = SD_TRIGGER_HTTP;
		t->method = text(arena, j, "method");
		t->path = text(arena, j, "path");
		t->schema = schema(arena, j, "bodySchema");
		t->query_schema = schema(arena, j, "querySchema");
		t->timeout_ms = sd_json_int(j, "timeout", 0);
		t->accepted = strcmp(sd_json_str(j, "respond", "sync"), "accepted") == 0;
		if (t->method != NULL && t->path != NULL)
			return 0;
	} else if (strcmp(type, "cron") == 0) {
		t->type = SD_TRIGGER_CRON;
		t->expression = text(arena, j, "expression");
		t->timezone = sd_arena_strdup(arena, sd_json_str(j, "timezone", "UTC"));
		if (t->expression != NULL)
			return 0;
	}
	return sd_err_set(err, SD_ERR_BUG, "the manifest has a trigger of type \"%s\" that can not be read", type);
}

static size_t count(const cJSON *array)
{
	return cJSON_IsArray(array) ? (size_t)cJSON_GetArraySize(array) : 0;
}

static int read_step(const cJSON *j, struct sd_mf_step *s, struct sd_arena *arena, struct sd_err *err)
{
	const cJSON *triggers = sd_json_get(j, "triggers"), *enqueues = sd_json_get(j, "enqueues"), *item;
	size_t i = 0;

	s->name = text(arena, j, "name");
	s->description = text(arena, j, "description");
	s->file = text(arena, j, "file");
	s->kind = text(arena, j, "kind");
	if (s->name == NULL || s->file == NULL || s->kind == NULL)
		return sd_err_set(err, SD_ERR_BUG, "the manifest has a step without name, file or kind");
	s->enqueues = sd_arena_zalloc(arena, (count(enqueues) + 1) * sizeof *s->enqueues);
	cJSON_ArrayForEach(item, enqueues)
		if (cJSON_IsString(item))
			s->enqueues[s->nenqueues++] = sd_arena_strdup(arena, item->valuestring);
	s->ntriggers = count(triggers);
	s->triggers = sd_arena_zalloc(arena, (s->ntriggers + 1) * sizeof *s->triggers);
	cJSON_ArrayForEach(item, triggers)
		if (read_trigger(item, &s->triggers[i++], arena, err) < 0)
			return sd_err_prefix(err, "step \"%s\"", s->name);
	return 0;
}

struct sd_manifest *sd_manifest_parse(const char *json, size_t len, struct sd_arena *arena, struct sd_err *err)
{
	struct sd_manifest *m = sd_arena_zalloc(arena, sizeof *m);
	cJSON *tree = sd_json_parse(json, len, err);
	const cJSON *steps = sd_json_get(tree, "steps"), *item;
	size_t i = 0;

	if (tree == NULL) {
		sd_err_prefix(err, "the manifest");
		return NULL;
	}
	if (!cJSON_IsArray(steps)) {
		sd_err_set(err, SD_ERR_BUG, "the manifest has no list of steps");
		cJSON_Delete(tree);
		return NULL;
	}
	sd_json_keep_digits(tree, json); /* which reads to the last number's end: an object goes on behind it */
	m->nsteps = count(steps);
	m->steps = sd_arena_zalloc(arena, (m->nsteps + 1) * sizeof *m->steps);
	cJSON_ArrayForEach(item, steps)
		if (read_step(item, &m->steps[i++], arena, err) < 0) {
			m = NULL;
			break;
		}
	cJSON_Delete(tree);
	return m;
}
