/*
 * The file against the table of options.
 *
 * The YAML tree is walked once, with a pattern of the way so far ("pools.*")
 * that is looked up in the table and the same way with real names
 * ("pools.web") for the messages.  What is wrong is collected with its place
 * and the walk goes on, so that one run shows every mistake.  Options that were
 * not seen then get the table's defaults through the same value parser.
 */
#include "conf/conf.h"

#include "base/fdutil.h"
#include "base/suggest.h"
#include "base/yaml.h"
#include "conf/expand.h"
#include "conf/options.h"
#include "conf/value.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PROBLEMS 200
#define MAX_NAMES 10000 /* queues */

struct loader {
	struct sd_conf *conf;
	struct sd_conf_problems *problems;
	const char *dir; /* what relative paths start from */
};

/* One mapping of the file: where it is in the table, and the struct that its options go to. */
struct section {
	const char *pattern; /* "" at the top */
	const char *shown;
	void *base;
	bool *seen; /* by index into sd_options */
};

static void vproblem(struct loader *l, const struct sd_yaml *at, const char *fmt, va_list ap)
{
	struct sd_conf_problems *ps = l->problems;
	if (ps->n > MAX_PROBLEMS)
		return;
	ps->v = sd_xrealloc(ps->v, (ps->n + 1) * sizeof(*ps->v));
	struct sd_conf_problem *p = &ps->v[ps->n++];
	p->line = at ? at->line : 0;
	p->col = at ? at->col : 0;
	if (ps->n > MAX_PROBLEMS)
		snprintf(p->text, sizeof(p->text), "too many problems, the rest is not shown");
	else
		vsnprintf(p->text, sizeof(p->text), fmt, ap);
}

static void problem(struct loader *l, const struct sd_yaml *at, const char *fmt, ...) SD_PRINTF(3, 4);
static void problem(struct loader *l, const struct sd_yaml *at, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vproblem(l, at, fmt, ap);
	va_end(ap);
}

static const char *join(struct loader *l, const char *way, const char *key)
{
	return *way ? sd_arena_printf(l->conf->arena, "%s.%s", way, key) : key;
}

/* Is the key there already? Told, and its value is not looked at. */
static bool is_twin(struct loader *l, const struct sd_yaml *key)
{
	if (key->twin)
		problem(l, key, "key \"%.60s\" is given twice, first at %d:%d", key->text, key->twin->line, key->twin->col);
	return key->twin != NULL;
}

/* What of path is behind "way."; NULL when it is not below. */
static const char *below(const char *way, const char *path)
{
	size_t len = strlen(way);
	if (len == 0)
		return path;
	return strncmp(path, way, len) == 0 && path[len] == '.' ? path + len + 1 : NULL;
}

static bool is_section(const char *way)
{
	for (size_t i = 0; i < sd_noptions; i++) {
		if (below(way, sd_options[i].path))
			return true;
	}
	return false;
}

static bool is_option_of(const struct sd_option *o, const char *way)
{
	const char *rest = below(way, o->path);
	return rest && !strchr(rest, '*');
}

/* The keys that may stand in a section, each once; returns how many. */
static size_t known_keys(struct loader *l, const char *way, const char *keys[], size_t max)
{
	size_t n = 0;
	for (size_t i = 0; i < sd_noptions && n < max; i++) {
		const char *rest = below(way, sd_options[i].path);
		if (!rest)
			continue;
		size_t len = strcspn(rest, ".");
		if (n > 0 && strlen(keys[n - 1]) == len && strncmp(keys[n - 1], rest, len) == 0)
			continue;
		keys[n++] = sd_arena_memdup(l->conf->arena, rest, len);
	}
	return n;
}

static void unknown_key(struct loader *l, const struct section *s, const struct sd_yaml *key)
{
	const char *keys[32], *inside = *s->shown ? " in " : "";
	size_t n = known_keys(l, s->pattern, keys, 32);
	const char *near = sd_suggest(key->text, keys, n);

	if (near) {
		problem(l, key, "unknown key \"%.60s\"%s%.100s, did you mean \"%s\"?", key->text, inside, s->shown, near);
		return;
	}
	struct sd_buf list = SD_BUF_INIT;
	for (size_t i = 0; i < n; i++)
		sd_buf_printf(&list, "%s%s", i > 0 ? ", " : "", keys[i]);
	problem(l, key, "unknown key \"%.60s\"%s%.100s; known are %s", key->text, inside, s->shown, list.data);
	sd_buf_fini(&list);
}

static const char *absolute(struct loader *l, const char *path)
{
	if (path[0] == '/' || path[0] == '\0')
		return path;
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	if (strcmp(path, ".") == 0)
		return l->dir;
	return sd_arena_printf(l->conf->arena, "%s/%s", strcmp(l->dir, "/") == 0 ? "" : l->dir, path);
}

static void read_scalar(struct loader *l, const struct sd_option *o, const char *shown, void *base,
			const struct sd_yaml *node)
{
	struct sd_err err;
	if (node->kind != SD_YAML_SCALAR) {
		problem(l, node, "%.150s: expected a single value, found a %s", shown, sd_yaml_kind_name(node->kind));
		return;
	}
	if (sd_yaml_is_null(node)) {
		problem(l, node, "%.150s has no value", shown);
		return;
	}
	const char *text = sd_expand(node->text, l->conf->arena, &err);
	if (text && (o->type == SD_OPTION_DIRS || o->type == SD_OPTION_FILE))
		text = absolute(l, text);
	if (!text || sd_value_set(o, base, text, l->conf->arena, &err) < 0)
		problem(l, node, "%.150s: %s%s%s", shown, err.message, *err.hint ? "; it is " : "", err.hint);
}

static bool is_list(enum sd_option_type type)
{
	return type == SD_OPTION_DIRS || type == SD_OPTION_WORDSET || type == SD_OPTION_NAMES;
}

static bool good_variable(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
	size_t len = strlen(name);
	return len > 0 && len <= 200 && strspn(name, letters) == len && !(*name >= '0' && *name <= '9');
}

/* A value is never shown: it may be secret. */
static void read_environment(struct loader *l, const struct sd_option *o, const char *shown, void *base, const struct sd_yaml *node)
{
	struct sd_err err;
	if (node->kind != SD_YAML_MAPPING) {
		problem(l, node, "%.150s: expected a mapping (NAME: value)", shown);
		return;
	}
	for (const struct sd_yaml *value = node->child; value; value = value->next) {
		const char *name = value->key->text, *text = NULL;
		if (is_twin(l, value->key))
			continue;
		if (!good_variable(name))
			problem(l, value->key, "%.150s: \"%.60s\" is not the name of an environment variable", shown, name);
		else if (value->kind != SD_YAML_SCALAR || sd_yaml_is_null(value))
			problem(l, value, "%.150s.%.100s: expected a single value", shown, name);
		else if (!(text = sd_expand(value->text, l->conf->arena, &err)))
			problem(l, value, "%.150s.%.100s: %s", shown, name, err.message);
		else if (sd_value_set(o, base, sd_arena_printf(l->conf->arena, "%s=%s", name, text), l->conf->arena, &err) < 0)
			problem(l, value, "%.150s.%.100s: cannot be set", shown, name);
	}
}

static void read_option(struct loader *l, const struct sd_option *o, const char *shown, const struct section *s,
			const struct sd_yaml *node)
{
	s->seen[o - sd_options] = true;
	if (o->type == SD_OPTION_ENVIRONMENT) {
		read_environment(l, o, shown, s->base, node);
		return;
	}
	if (o->type == SD_OPTION_NAMES) {
		struct sd_conf_names *names = (struct sd_conf_names *)((char *)s->base + o->offset);
		names->line = node->line;
		names->col = node->col;
	}
	if (node->kind != SD_YAML_SEQUENCE || !is_list(o->type)) {
		read_scalar(l, o, shown, s->base, node);
		return;
	}
	if (node->n == 0 && o->type != SD_OPTION_DIRS)
		problem(l, node, "%.150s: the list is empty", shown);
	if (node->n > 1000) {
		problem(l, node, "%.150s: the list has more than 1000 items", shown);
		return;
	}
	for (const struct sd_yaml *item = node->child; item; item = item->next)
		read_scalar(l, o, shown, s->base, item);
}

/* Options of this section that the file left out. Subsections belong to it unless they have names. */
static void apply_defaults(struct loader *l, const struct section *s)
{
	struct sd_err err;
	for (size_t i = 0; i < sd_noptions; i++) {
		const struct sd_option *o = &sd_options[i];
		if (!o->def || s->seen[i] || !is_option_of(o, s->pattern))
			continue;
		if (sd_value_set(o, s->base, o->def, l->conf->arena, &err) < 0)
			problem(l, NULL, "default of %s: %s", o->path, err.message);
	}
}

static bool *new_seen(struct loader *l)
{
	return sd_arena_zalloc(l->conf->arena, sd_noptions * sizeof(bool));
}

static const struct sd_yaml *need_mapping(struct loader *l, const struct sd_yaml *node, const char *shown)
{
	if (node->kind == SD_YAML_MAPPING)
		return node;
	if (!sd_yaml_is_null(node))
		problem(l, node, "%.150s%sexpected a mapping (key: value), found %s", shown, *shown ? ": " : "",
			node->kind == SD_YAML_SCALAR ? "a single value" : "a list");
	return NULL;
}

static void read_named(struct loader *l, const char *way, const struct sd_yaml *node);

static void read_section(struct loader *l, const struct section *s, const struct sd_yaml *node)
{
	if (!need_mapping(l, node, s->shown))
		return;
	for (const struct sd_yaml *value = node->child; value; value = value->next) {
		if (is_twin(l, value->key))
			continue;
		const char *key = value->key->text;
		const char *way = join(l, s->pattern, key);
		const struct sd_option *option = NULL;
		bool plain = *key && !strpbrk(key, ".*");
		for (size_t i = 0; i < sd_noptions && plain && !option; i++) {
			if (strcmp(sd_options[i].path, way) == 0)
				option = &sd_options[i];
		}
		bool deeper = plain && is_section(way); /* an option may also be a section: one number, or a mapping */
		if (option && !(deeper && value->kind == SD_YAML_MAPPING))
			read_option(l, option, join(l, s->shown, key), s, value);
		else if (!deeper)
			unknown_key(l, s, value->key);
		else if (is_section(join(l, way, "*")))
			read_named(l, way, value);
		else
			read_section(l, &(struct section){way, join(l, s->shown, key), s->base, s->seen}, value);
	}
}

static bool good_name(const char *name, bool pool)
{
	static const char pool_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	size_t len = strlen(name);
	if (pool)
		return len > 0 && len <= 32 && strspn(name, pool_chars) == len;
	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 127)
			return false;
	}
	return len > 0 && len <= 255;
}

/* processes: 4, or processes: {min: 2, max: 16}. */
static void set_size(struct loader *l, struct sd_conf_pool *pool, const char *shown, const struct sd_yaml *processes)
{
	if (!processes || processes->kind != SD_YAML_MAPPING) {
		pool->min = pool->max = pool->processes;
	} else if (!sd_yaml_get(processes, "max")) {
		problem(l, processes, "%s.processes: max is missing", shown);
	} else if (pool->max > 0 && pool->min > pool->max) {
		problem(l, processes, "%s.processes: min %d is more than max %d", shown, pool->min, pool->max);
	} else if (pool->min == 0 && (pool->serves & SD_SERVES_HTTP)) {
		problem(l, processes, "%s.processes: a pool that serves http has a min of 1 or more", shown);
	}
}

static void read_pool(struct loader *l, struct sd_conf_pool *pool, const char *shown, const struct sd_yaml *node)
{
	struct section s = {"pools.*", shown, pool, new_seen(l)};
	if (node)
		read_section(l, &s, node);
	apply_defaults(l, &s);
	const struct sd_yaml *user = sd_yaml_get(node, "user");
	pool->user_line = user ? user->line : 0;
	pool->user_col = user ? user->col : 0;
	set_size(l, pool, shown, sd_yaml_get(node, "processes"));
	if (!(pool->serves & SD_SERVES_QUEUE) && pool->queues.n + pool->steps.n > 0)
		problem(l, sd_yaml_get(node, pool->queues.n > 0 ? "queues" : "steps"),
			"%s.%s is about jobs: this pool serves only http, which serves every route", shown,
			pool->queues.n > 0 ? "queues" : "steps");
	if (pool->serves == (SD_SERVES_QUEUE | SD_SERVES_HTTP))
		problem(l, sd_yaml_get(node, "serves"),
			"%s.serves: one pool for both queue and http is not supported yet; make two pools", shown);
}

static void read_queue(struct loader *l, struct sd_conf_queue *queue, const char *shown, const struct sd_yaml *node)
{
	struct section s = {"queues.*", shown, queue, new_seen(l)};
	if (node)
		read_section(l, &s, node);
	apply_defaults(l, &s);
	if (queue->strategy == SD_FIFO && queue->concurrency_per_group > 0)
		problem(l, sd_yaml_get(node, "concurrencyPerGroup"),
			"%.150s.concurrencyPerGroup: a fifo queue always runs one job of a group", shown);
}

/* The members of "pools" or "queues". */
static void read_named(struct loader *l, const char *way, const struct sd_yaml *node)
{
	struct sd_conf *conf = l->conf;
	bool pools = strcmp(way, "pools") == 0;

	if (!need_mapping(l, node, way))
		return;
	if (pools && node->n > SD_CONF_MAX_POOLS) {
		problem(l, node, "%zu pools are more than %d", node->n, SD_CONF_MAX_POOLS);
		return;
	}
	if (node->n > MAX_NAMES) {
		problem(l, node, "%s has more than %d members", way, MAX_NAMES);
		return;
	}
	conf->pools = pools ? sd_arena_zalloc(conf->arena, (node->n + 1) * sizeof(*conf->pools)) : conf->pools;
	conf->queues = pools ? conf->queues : sd_arena_zalloc(conf->arena, (node->n + 1) * sizeof(*conf->queues));
	for (const struct sd_yaml *value = node->child; value; value = value->next) {
		if (is_twin(l, value->key))
			continue;
		const char *name = value->key->text, *shown = join(l, way, name);
		if (!good_name(name, pools)) {
			problem(l, value->key, pools ? "a pool's name is 1 to 32 letters, digits, '-' and '_'"
						     : "a queue's name is 1 to 255 bytes without control characters");
			continue;
		}
		if (pools) {
			conf->pools[conf->npools].name = name;
			read_pool(l, &conf->pools[conf->npools++], shown, value);
		} else {
			conf->queues[conf->nqueues].name = name;
			read_queue(l, &conf->queues[conf->nqueues++], shown, value);
		}
	}
}

static void default_pools(struct loader *l)
{
	struct sd_conf *conf = l->conf;
	conf->npools = 2;
	conf->pools = sd_arena_zalloc(conf->arena, 2 * sizeof(*conf->pools));
	conf->pools[0].name = "default";
	read_pool(l, &conf->pools[0], "pools.default", NULL);
	conf->pools[1].name = "web";
	read_pool(l, &conf->pools[1], "pools.web", NULL);
	conf->pools[1].processes = conf->pools[1].min = conf->pools[1].max = 2;
	conf->pools[1].serves = SD_SERVES_HTTP;
}

/* An address, not a name that begins like one. */
static bool is_loopback(const char *host)
{
	unsigned char ip[4];

	return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || (inet_pton(AF_INET, host, ip) == 1 && ip[0] == 127);
}

static struct sd_conf_place place_of(const struct sd_yaml *node)
{
	return node ? (struct sd_conf_place){node->line, node->col} : (struct sd_conf_place){0, 0};
}

static const struct sd_conf_place *places_of_steps(const struct sd_conf *conf, const struct sd_yaml *steps)
{
	struct sd_conf_place *at = sd_arena_zalloc(conf->arena, (conf->nsteps + 1) * sizeof(*at));
	const struct sd_yaml *item = steps && steps->kind == SD_YAML_SEQUENCE ? steps->child : steps;

	for (size_t i = 0; i < conf->nsteps && item; i++, item = item->next)
		at[i] = place_of(item);
	return at;
}

/* Literal segments, no slash at the end. */
static bool is_path(const char *s)
{
	size_t n = strlen(s);

	return n > 1 && n <= 255 && s[0] == '/' && s[n - 1] != '/' && strstr(s, "//") == NULL &&
	       strspn(s, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~") == n;
}

/* What no single option can tell. */
static void check_together(struct loader *l, const struct sd_yaml *root)
{
	struct sd_conf *conf = l->conf;
	const struct sd_yaml *tls = sd_yaml_get(sd_yaml_get(root, "http"), "tls");
	const struct sd_yaml *admin = sd_yaml_get(sd_yaml_get(root, "admin"), "listen");
	const struct sd_conf_listen *a = &conf->admin.listen, *h = &conf->http.listen;

	if (!good_name(conf->node_name, false))
		problem(l, sd_yaml_get(sd_yaml_get(root, "node"), "name"), "node.name: expected 1 to 200 bytes without control characters");
	if (conf->http.jobs && !is_path(conf->http.jobs))
		problem(l, sd_yaml_get(sd_yaml_get(root, "http"), "jobs"), "http.jobs: expected a path such as /_jobs, or off, found \"%.60s\"",
			conf->http.jobs);
	if (tls && (conf->http.tls_cert == NULL) != (conf->http.tls_key == NULL))
		problem(l, tls, "http.tls needs both cert and key");
	conf->http.tls_cert_at = place_of(sd_yaml_get(tls, "cert"));
	conf->http.tls_key_at = place_of(sd_yaml_get(tls, "key"));
	conf->user_at = place_of(sd_yaml_get(root, "user"));
	conf->log_file_at = place_of(sd_yaml_get(sd_yaml_get(root, "logging"), "file"));
	conf->steps_at = places_of_steps(conf, sd_yaml_get(root, "steps"));
	if (a->host && !is_loopback(a->host) && !conf->admin.token)
		problem(l, admin, "admin.listen: \"%.100s\" is not a loopback address, which needs admin.token", a->host);
	if (a->host && h->host && a->port == h->port && strcmp(a->host, h->host) == 0)
		problem(l, admin ? admin : sd_yaml_get(sd_yaml_get(root, "http"), "listen"),
			"http.listen and admin.listen are the same address");
}

static const char *host_name(struct sd_arena *arena)
{
	char name[256] = "";
	if (gethostname(name, sizeof(name) - 1) < 0 || *name == '\0')
		return "localhost";
	return sd_arena_strdup(arena, name);
}

/* The directory of file as an absolute path; of the built-in configuration: the current one. */
static const char *directory_of(const char *file, struct sd_arena *arena)
{
	char cwd[4096];
	const char *slash = file ? strrchr(file, '/') : NULL;

	if (slash && slash == file)
		return "/";
	const char *dir = slash ? sd_arena_memdup(arena, file, (size_t)(slash - file)) : ".";
	if (*dir == '/' || !getcwd(cwd, sizeof(cwd)))
		return dir;
	return slash ? sd_arena_printf(arena, "%s/%s", cwd, dir) : sd_arena_strdup(arena, cwd);
}

static int by_place(const void *a, const void *b)
{
	const struct sd_conf_problem *x = a, *y = b;
	return x->line != y->line ? (x->line > y->line) - (x->line < y->line) : (x->col > y->col) - (x->col < y->col);
}

static void read_tree(struct loader *l, const struct sd_yaml *root)
{
	struct section top = {"", "", l->conf, new_seen(l)};
	struct section defaults = {"queues.*", "", &l->conf->queue_defaults, new_seen(l)};

	read_section(l, &top, root);
	apply_defaults(l, &top);
	apply_defaults(l, &defaults);
	l->conf->database_given = sd_yaml_get(sd_yaml_get(root, "database"), "url") != NULL;
	if (l->conf->npools == 0)
		default_pools(l);
	if (!l->conf->node_name)
		l->conf->node_name = host_name(l->conf->arena);
	if (l->conf->http.jobs && strcmp(l->conf->http.jobs, "off") == 0)
		l->conf->http.jobs = NULL;
	check_together(l, root);
}

struct sd_conf *sd_conf_parse(const char *text, size_t len, const char *file, struct sd_conf_problems *problems)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_conf *conf = sd_arena_zalloc(arena, sizeof(*conf));
	struct sd_yaml_problem bad;

	*problems = (struct sd_conf_problems){NULL, 0};
	conf->arena = arena;
	conf->file = sd_arena_strdup(arena, file);
	struct loader l = {conf, problems, directory_of(file, arena)};
	const struct sd_yaml *root = sd_yaml_parse_all(text, len, arena, &bad);
	if (root)
		read_tree(&l, root);
	else
		problem(&l, &(struct sd_yaml){.line = bad.line, .col = bad.col}, "%s", bad.text);
	if (problems->n == 0)
		return conf;
	qsort(problems->v, problems->n, sizeof(*problems->v), by_place);
	sd_arena_free(arena);
	return NULL;
}

struct sd_conf *sd_conf_load(const char *file, struct sd_conf_problems *problems)
{
	struct sd_buf text = SD_BUF_INIT;
	struct sd_err err;

	if (!file)
		return sd_conf_parse("", 0, NULL, problems);
	*problems = (struct sd_conf_problems){NULL, 0};
	if (sd_read_file(file, SD_YAML_MAX_SIZE, &text, &err) < 0) {
		struct loader l = {NULL, problems, NULL};
		problem(&l, NULL, "%s", err.errnum != 0 ? strerror(err.errnum) : err.message);
		sd_buf_fini(&text);
		return NULL;
	}
	struct sd_conf *conf = sd_conf_parse(text.data ? text.data : "", text.len, file, problems);
	sd_buf_fini(&text);
	return conf;
}
