/*
 * Discovery: directories in, manifest and problems out.
 *
 * Runs in a child that may crash at any dlopen; `current`, shared with the
 * parent, always names the file at hand.  A file with a problem provides no
 * step, and the others go on.
 */
#include "step/registry.h"
#include "base/json.h"
#include "step/check.h"
#include "step/object.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 8
#define CATCH_UP_MS (24 * 3600 * 1000LL)

/* What names and routes are taken, and by which file. */
struct taken {
	const char *key, *file;
	struct taken *next;
};

struct discovery {
	struct sd_arena *arena;
	struct sd_buf *manifest;
	struct sd_step_problems *problems;
	struct taken *names, *routes, *files;
	const char *const *skip;
	size_t nskip;
	char *current;
	size_t current_len;
	size_t nsteps;
};

static const char *find(const struct taken *list, const char *key)
{
	for (; list != NULL; list = list->next)
		if (strcmp(list->key, key) == 0)
			return list->file;
	return NULL;
}

static void take(struct discovery *d, struct taken **list, const char *key, const char *file)
{
	struct taken *t = sd_arena_alloc(d->arena, sizeof *t);

	t->key = sd_arena_strdup(d->arena, key);
	t->file = sd_arena_strdup(d->arena, file);
	t->next = *list;
	*list = t;
}

/* ---- one step into the manifest ---- */

static void put_list(struct sd_buf *b, const char *key, const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	sd_buf_printf(b, ",\"%s\":", key);
	sd_buf_json_strs(b, list, n);
}

static void put_str(struct sd_buf *b, const char *key, const char *value)
{
	sd_buf_printf(b, ",\"%s\":", key);
	sd_buf_json_str(b, value);
}

static void put_schema(struct sd_buf *b, const char *key, const char *schema)
{
	sd_buf_printf(b, ",\"%s\":", key);
	sd_buf_str(b, schema != NULL ? schema : "null");
}

static void put_trigger(struct sd_buf *b, const struct stepd_trigger *t)
{
	switch (t->type) {
	case STEPD_TRIGGER_QUEUE:
		sd_buf_str(b, "{\"type\":\"queue\"");
		put_str(b, "topic", t->topic);
		put_schema(b, "input", t->input);
		break;
	case STEPD_TRIGGER_HTTP:
		sd_buf_str(b, "{\"type\":\"http\"");
		put_str(b, "method", t->method);
		put_str(b, "path", t->path);
		put_schema(b, "bodySchema", t->body_schema);
		put_schema(b, "querySchema", t->query_schema);
		put_str(b, "respond", t->respond == STEPD_ACCEPTED ? "accepted" : "sync");
		sd_buf_printf(b, ",\"timeout\":%lld", (long long)t->timeout_ms);
		break;
	default:
		sd_buf_str(b, "{\"type\":\"cron\"");
		put_str(b, "expression", t->expression);
		put_str(b, "timezone", t->timezone != NULL && *t->timezone != '\0' ? t->timezone : "UTC");
		put_str(b, "missed", t->missed != NULL ? t->missed : "one");
		sd_buf_printf(b, ",\"catchUpLimit\":%lld", t->catch_up_limit_ms != 0 ? (long long)t->catch_up_limit_ms : CATCH_UP_MS);
		put_str(b, "overlap", t->overlap != NULL ? t->overlap : "allow");
	}
	sd_buf_chr(b, '}');
}

static void put_step(struct discovery *d, const struct sd_object *o, const char *file)
{
	struct sd_buf *b = d->manifest;
	struct stepd_trigger t;

	sd_buf_str(b, d->nsteps++ > 0 ? ",{\"kind\":\"c\"" : "{\"kind\":\"c\"");
	put_str(b, "name", o->step.name);
	put_str(b, "description", o->step.description);
	put_str(b, "file", file);
	put_list(b, "flows", o->step.flows);
	put_list(b, "enqueues", o->step.enqueues);
	sd_buf_str(b, ",\"triggers\":[");
	for (size_t i = 0; sd_object_trigger(o, i, &t); i++) {
		if (i > 0)
			sd_buf_chr(b, ',');
		put_trigger(b, &t);
	}
	sd_buf_str(b, "]}");
}

/* ---- one file ---- */

/* A name or a route is another step's: false.  Taken for this one otherwise. */
static bool claim_names(struct discovery *d, const struct sd_object *o, const char *file)
{
	const char *other = find(d->names, o->step.name);
	struct stepd_trigger t;
	struct sd_buf key = SD_BUF_INIT;
	bool free_ = true;

	if (other != NULL) {
		sd_problem_at(d->problems, file, o->step.source, o->step.line, "a step \"%s\" is already in %s", o->step.name, other);
		return false;
	}
	for (int pass = 0; free_ && pass < 2; pass++) /* look at all before taking any */
		for (size_t i = 0; sd_object_trigger(o, i, &t); i++) {
			if (t.type != STEPD_TRIGGER_HTTP)
				continue;
			sd_buf_reset(&key);
			sd_route_key(t.method, t.path, &key);
			other = find(d->routes, key.data);
			if (other != NULL) {
				sd_problem_at(d->problems, file, t.source, t.line, "route %s %s is already in %s", t.method, t.path, other);
				free_ = false;
			} else if (pass == 1) {
				take(d, &d->routes, key.data, file);
			}
		}
	sd_buf_fini(&key);
	if (free_)
		take(d, &d->names, o->step.name, file);
	return free_;
}

static bool is_skipped(const struct discovery *d, const char *file)
{
	for (size_t i = 0; i < d->nskip; i++)
		if (strcmp(d->skip[i], file) == 0)
			return true;
	return false;
}

static void load_file(struct discovery *d, const char *path)
{
	char *file = realpath(path, NULL); /* absolute, since the children may stand elsewhere */
	struct sd_object o;
	struct sd_err err;

	if (file == NULL) {
		sd_problem(d->problems, path, "can not be opened: %s", strerror(errno));
		return;
	}
	if (is_skipped(d, file) || find(d->files, file) != NULL) { /* found: by way of another directory or link */
		free(file);
		return;
	}
	take(d, &d->files, file, file);
	if (d->current_len > 0)
		snprintf(d->current, d->current_len, "%s", file);
	if (sd_object_open(file, &o, &err) < 0) {
		sd_problem(d->problems, file, "%s%s%s%s", err.message, err.hint[0] != '\0' ? " (" : "", err.hint, err.hint[0] != '\0' ? ")" : "");
	} else {
		/* left open: unloading would run its destructors, and this process ends soon */
		if (sd_check_step(&o, file, d->problems) == 0 && claim_names(d, &o, file))
			put_step(d, &o, file);
	}
	free(file);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

static void look_at(struct discovery *d, const char *path)
{
	static const struct {
		const char *suffix, *kind;
	} others[] = {
		{".step.ts", "TypeScript"}, {".step.js", "JavaScript"}, {".step.mjs", "JavaScript"},
		{"_step.py", "Python"}, {".step.yaml", "executable"}, {".step.yml", "executable"},
	};

	if (ends_with(path, ".so")) {
		load_file(d, path);
		return;
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (ends_with(path, others[i].suffix))
			sd_problem(d->problems, path, "%s steps are not supported by this version of stepd", others[i].kind);
}

/* ---- directories ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.' && strcmp(e->d_name, "node_modules") != 0 && strcmp(e->d_name, "__pycache__") != 0;
}

static void walk(struct discovery *d, const char *dir, int depth)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_visible, by_name);

	if (n < 0) {
		sd_problem(d->problems, dir, "the directory can not be read: %s", strerror(errno));
		return;
	}
	for (int i = 0; i < n; i++) {
		char *path = sd_xasprintf("%s/%s", dir, entries[i]->d_name);
		struct stat st;

		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
			if (depth < DEPTH_MAX)
				walk(d, path, depth + 1);
		} else {
			look_at(d, path);
		}
		free(path);
		free(entries[i]);
	}
	free(entries);
}

size_t sd_steps_discover(const char *const *dirs, size_t ndirs, const char *const *skip, size_t nskip, struct sd_buf *manifest,
			 struct sd_step_problems *problems, char *current, size_t current_len)
{
	struct discovery d = {
		.arena = sd_arena_new(),
		.manifest = manifest,
		.problems = problems,
		.skip = skip,
		.nskip = nskip,
		.current = current,
		.current_len = current_len,
	};

	sd_buf_str(manifest, "{\"steps\":[");
	for (size_t i = 0; i < ndirs; i++)
		walk(&d, dirs[i], 0);
	sd_buf_str(manifest, "]}");
	if (current_len > 0)
		current[0] = '\0';
	sd_arena_free(d.arena);
	return d.nsteps;
}
