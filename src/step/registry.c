/*
 * The registry: the manifest's steps, loaded.  What discovery found in its own
 * process is loaded again here, and must still be the same.
 */
#include "step/registry.h"
#include "step/ctx.h"
#include "step/input.h"
#include "step/manifest.h"
#include "step/object.h"

#include <stdlib.h>
#include <string.h>

struct sd_registry {
	struct sd_arena *arena;
	struct sd_step *steps;
	size_t n;
	int log_level;
};

static size_t count_triggers(const struct sd_object *o)
{
	struct stepd_trigger t;
	size_t n = 0;

	while (sd_object_trigger(o, n, &t))
		n++;
	return n;
}

static int load(struct sd_registry *r, const struct sd_mf_step *mf, struct sd_err *err)
{
	struct sd_step *s = &r->steps[r->n];
	struct sd_object o;

	if (strcmp(mf->kind, "c") != 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "%s: steps of kind \"%s\" are not supported by this version of stepd", mf->file, mf->kind);
	if (sd_object_open(mf->file, &o, err) < 0)
		return sd_err_prefix(err, "%s", mf->file);
	if (o.step.name == NULL || strcmp(o.step.name, mf->name) != 0 || count_triggers(&o) != mf->ntriggers || o.step.handler == NULL) {
		sd_object_close(&o);
		sd_err_set(err, SD_ERR_PERMANENT, "%s: changed after it was discovered", mf->file);
		return sd_err_hint(err, "reload (SIGHUP)");
	}
	s->inputs = sd_inputs_new(mf, err);
	if (s->inputs == NULL) {
		sd_object_close(&o);
		return -1;
	}
	s->mf = mf;
	s->object = o.handle;
	s->handler = o.step.handler;
	s->log_level = &r->log_level;
	r->n++;
	return 0;
}

struct sd_registry *sd_registry_load(const char *manifest, size_t len, struct sd_err *err)
{
	struct sd_registry *r = sd_xcalloc(1, sizeof *r);
	struct sd_manifest *m;

	r->arena = sd_arena_new();
	r->log_level = STEPD_LOG_INFO;
	m = sd_manifest_parse(manifest, len, r->arena, err);
	if (m == NULL)
		goto fail;
	r->steps = sd_xcalloc(m->nsteps + 1, sizeof *r->steps);
	for (size_t i = 0; i < m->nsteps; i++)
		if (load(r, &m->steps[i], err) < 0)
			goto fail;
	return r;
fail:
	sd_registry_free(r);
	return NULL;
}

void sd_registry_free(struct sd_registry *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n; i++) {
		struct sd_object o = {.handle = r->steps[i].object};

		sd_inputs_free(r->steps[i].inputs, r->steps[i].mf->ntriggers);
		sd_object_close(&o);
	}
	free(r->steps);
	sd_arena_free(r->arena);
	free(r);
}

size_t sd_registry_count(const struct sd_registry *r)
{
	return r->n;
}

const struct sd_step *sd_registry_step(const struct sd_registry *r, size_t index)
{
	return index < r->n ? &r->steps[index] : NULL;
}

const struct sd_step *sd_registry_find(const struct sd_registry *r, const char *name, size_t *index)
{
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->steps[i].mf->name, name) == 0) {
			if (index != NULL)
				*index = i;
			return &r->steps[i];
		}
	return NULL;
}

const char *sd_step_name(const struct sd_step *s)
{
	return s->mf->name;
}

int sd_step_trigger(const struct sd_step *s, enum sd_trigger type, int index, const char *queue)
{
	const struct sd_mf_trigger *t = s->mf->triggers;
	size_t n = s->mf->ntriggers;

	if (type != SD_TRIGGER_QUEUE ||
	    (index >= 0 && (size_t)index < n && t[index].type == SD_TRIGGER_QUEUE && strcmp(t[index].topic, queue) == 0))
		return index;
	for (size_t i = 0; i < n; i++)
		if (t[i].type == SD_TRIGGER_QUEUE && strcmp(t[i].topic, queue) == 0)
			return (int)i;
	return -1;
}

void sd_registry_set_log_level(struct sd_registry *r, const char *level)
{
	enum sd_loglevel parsed;

	if (level == NULL)
		return;
	if (strcmp(level, "off") == 0)
		r->log_level = STEPD_LOG_ERROR + 1;
	else if (sd_loglevel_parse(level, &parsed) == 0)
		r->log_level = (int)parsed;
}
