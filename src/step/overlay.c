/*
 * Read-your-writes.  Nothing here is sent to the database: what is stored comes
 * from the attempt's `states`, in order; the overlay only answers reads.
 *
 * A list merges two sources without parsing values: the stored group is a JSON
 * object that PostgreSQL printed, so walking it needs no checks, and each value
 * is carried over as the bytes it is made of.
 */
#include "step/overlay.h"
#include "base/json.h"
#include "step/stateop.h"

#include <stdlib.h>
#include <string.h>

#define uthash_malloc(size) sd_xmalloc(size)
#include <uthash.h>

/* Operations on a value that is not known yet, in order. */
struct pending {
	const char *ops;
	struct pending *next;
};

struct entry {
	const char *key;
	const char *value; /* NULL: deleted; nothing while there are pending operations */
	struct pending *pending, **pending_tail;
	UT_hash_handle hh;
};

struct group {
	const char *name;
	bool cleared;
	struct entry *entries;
	UT_hash_handle hh;
};

struct sd_state_overlay {
	struct group *groups;
};

void sd_overlay_free(struct sd_state_overlay *o)
{
	struct group *g, *next;

	if (o == NULL)
		return;
	HASH_ITER(hh, o->groups, g, next)
		HASH_CLEAR(hh, g->entries);
	HASH_CLEAR(hh, o->groups);
}

static struct group *find_group(const struct sd_attempt *a, const char *name)
{
	struct group *g = NULL;

	if (a->overlay != NULL)
		HASH_FIND_STR(a->overlay->groups, name, g);
	return g;
}

static struct group *make_group(struct sd_attempt *a, const char *name)
{
	struct group *g = find_group(a, name);

	if (g != NULL)
		return g;
	if (a->overlay == NULL)
		a->overlay = sd_arena_zalloc(a->arena, sizeof *a->overlay);
	g = sd_arena_zalloc(a->arena, sizeof *g);
	g->name = sd_arena_strdup(a->arena, name);
	HASH_ADD_KEYPTR(hh, a->overlay->groups, g->name, strlen(g->name), g);
	return g;
}

static struct entry *find_entry(const struct group *g, const char *key)
{
	struct entry *e = NULL;

	if (g != NULL)
		HASH_FIND_STR(g->entries, key, e);
	return e;
}

static struct entry *make_entry(struct sd_attempt *a, struct group *g, const char *key)
{
	struct entry *e = find_entry(g, key);

	if (e == NULL) {
		e = sd_arena_zalloc(a->arena, sizeof *e);
		e->key = sd_arena_strdup(a->arena, key);
		HASH_ADD_KEYPTR(hh, g->entries, e->key, strlen(e->key), e);
	}
	return e;
}

static void know(struct entry *e, const char *value)
{
	e->value = value;
	e->pending = NULL;
}

void sd_overlay_set(struct sd_attempt *a, const char *group, const char *key, const char *value)
{
	know(make_entry(a, make_group(a, group), key), value);
}

/* *value with the operations done. */
static int apply(struct sd_attempt *a, const char *ops, const char **value, struct sd_err *err)
{
	struct sd_buf b = SD_BUF_INIT;
	int rc = sd_stateops_apply(*value, ops, &b, err);

	if (rc == 0)
		*value = b.len > 0 ? sd_arena_memdup(a->arena, b.data, b.len) : NULL;
	sd_buf_fini(&b);
	return rc;
}

/* Do what is pending, on what is stored. */
static int settle(struct sd_attempt *a, struct entry *e, const char *stored, struct sd_err *err)
{
	for (const struct pending *p = e->pending; p != NULL; p = p->next)
		if (apply(a, p->ops, &stored, err) < 0)
			return -1;
	know(e, stored);
	return 0;
}

int sd_overlay_update(struct sd_attempt *a, const char *group, const char *key, const char *ops, struct sd_err *err)
{
	struct group *g = make_group(a, group);
	struct entry *e = find_entry(g, key);
	bool known = e != NULL ? e->pending == NULL : g->cleared;
	struct pending *p;

	e = make_entry(a, g, key);
	if (known)
		return apply(a, ops, &e->value, err);
	p = sd_arena_zalloc(a->arena, sizeof *p);
	p->ops = ops;
	if (e->pending == NULL)
		e->pending_tail = &e->pending;
	*e->pending_tail = p;
	e->pending_tail = &p->next;
	return 0;
}

void sd_overlay_clear(struct sd_attempt *a, const char *group)
{
	struct group *g = make_group(a, group);

	HASH_CLEAR(hh, g->entries);
	g->cleared = true;
}

bool sd_overlay_get(const struct sd_attempt *a, const char *group, const char *key, const char **value)
{
	struct group *g = find_group(a, group);
	struct entry *e = find_entry(g, key);

	*value = NULL;
	if (e == NULL)
		return g != NULL && g->cleared;
	if (e->pending != NULL)
		return false;
	*value = e->value;
	return true;
}

int sd_overlay_resolve(struct sd_attempt *a, const char *group, const char *key, const char **value, struct sd_err *err)
{
	struct entry *e = find_entry(find_group(a, group), key);

	if (e == NULL || e->pending == NULL)
		return 0;
	if (settle(a, e, *value, err) < 0)
		return -1;
	*value = e->value;
	return 0;
}

bool sd_overlay_hides(const struct sd_attempt *a, const char *group)
{
	struct group *g = find_group(a, group);

	return g != NULL && g->cleared;
}

const char *sd_overlay_group(const struct sd_attempt *a, size_t index)
{
	struct group *g = a->overlay != NULL ? a->overlay->groups : NULL;

	while (g != NULL && index-- > 0)
		g = g->hh.next;
	return g != NULL ? g->name : NULL;
}

/* ---- lists ---- */

struct member {
	const char *key;
	const char *value;
	size_t len;
};

struct members {
	struct member *v;
	size_t n, cap;
};

static void add(struct members *m, const char *key, const char *value, size_t len)
{
	if (m->n == m->cap) {
		m->cap = m->cap > 0 ? m->cap * 2 : 64;
		m->v = sd_xrealloc(m->v, m->cap * sizeof *m->v);
	}
	m->v[m->n++] = (struct member){key, value, len};
}

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Behind the string that opens at p. */
static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

/* Behind the value at p, which is valid JSON. */
static const char *skip_value(const char *p)
{
	size_t depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p);
		} else if (*p == '{' || *p == '[') {
			depth++;
			p++;
		} else if (*p == '}' || *p == ']') {
			depth--;
			p++;
		} else if (depth > 0) {
			p++;
		} else {
			p += strcspn(p, ",}] \t\r\n");
		}
	} while (depth > 0);
	return p;
}

/* The text of a name between its quotes. */
static const char *name_text(struct sd_arena *arena, const char *p, const char *end)
{
	cJSON *tree;
	char *s;

	if (memchr(p, '\\', (size_t)(end - p)) == NULL)
		return sd_arena_memdup(arena, p + 1, (size_t)(end - p) - 2);
	tree = cJSON_ParseWithLength(p, (size_t)(end - p));
	s = sd_arena_strdup(arena, cJSON_IsString(tree) ? tree->valuestring : "");
	cJSON_Delete(tree);
	return s;
}

/* What is stored and not written over; updates are done on it. */
static int add_stored(struct members *m, struct sd_attempt *a, const struct group *g, const char *p, struct sd_err *err)
{
	p = skip_space(p);
	if (*p != '{')
		return 0;
	p = skip_space(p + 1);
	while (*p == '"') {
		const char *end = skip_string(p);
		const char *key = name_text(a->arena, p, end);
		const char *value = skip_space(skip_space(end) + 1);
		struct entry *own = find_entry(g, key);

		end = skip_value(value);
		if (own == NULL)
			add(m, key, value, (size_t)(end - value));
		else if (own->pending != NULL && settle(a, own, sd_arena_memdup(a->arena, value, (size_t)(end - value)), err) < 0)
			return -1;
		p = skip_space(end);
		if (*p == ',')
			p = skip_space(p + 1);
	}
	return 0;
}

/* What this attempt wrote. */
static int add_own(struct members *m, struct sd_attempt *a, const struct group *g, struct sd_err *err)
{
	for (struct entry *e = g->entries; e != NULL; e = e->hh.next) {
		if (e->pending != NULL && settle(a, e, NULL, err) < 0)
			return -1;
		if (e->value != NULL)
			add(m, e->key, e->value, strlen(e->value));
	}
	return 0;
}

static int by_key(const void *x, const void *y)
{
	const struct member *a = x, *b = y;

	return strcmp(a->key, b->key);
}

static void sort(struct members *m)
{
	for (size_t i = 1; i < m->n; i++)
		if (by_key(&m->v[i - 1], &m->v[i]) > 0) {
			qsort(m->v, m->n, sizeof *m->v, by_key);
			return;
		}
}

int sd_overlay_list(struct sd_attempt *a, const char *group, const char *stored, struct sd_buf *out, struct sd_err *err)
{
	struct group *g = find_group(a, group);
	struct members m = {NULL, 0, 0};
	int rc = 0;

	if (stored != NULL && (g == NULL || !g->cleared))
		rc = add_stored(&m, a, g, stored, err);
	if (rc == 0 && g != NULL)
		rc = add_own(&m, a, g, err);
	sort(&m);
	sd_buf_chr(out, '[');
	for (size_t i = 0; i < m.n; i++) {
		if (i > 0)
			sd_buf_chr(out, ',');
		sd_buf_append(out, m.v[i].value, m.v[i].len);
	}
	sd_buf_chr(out, ']');
	free(m.v);
	return rc;
}
