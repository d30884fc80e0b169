/*
 * Compiling a schema.
 *
 * The document is walked along its keywords, so that an enum which looks like a
 * schema is none; each subschema becomes a node at once, and references are
 * collected and resolved when all $id and anchors are known.  What a JSON
 * pointer leads to outside of any keyword is compiled then.  A metaschema is
 * read in as one more document when something refers to it.
 *
 * Which node belongs to an item of the tree stands in the item's valuedouble,
 * which cJSON does not use for objects and booleans.
 */
#include "base/schema_impl.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAFT_7 "http://json-schema.org/draft-07/schema"
#define DRAFT_2020_12 "https://json-schema.org/draft/2020-12/schema"

/* ---- where ---- */

void sd_way_put(struct sd_buf *b, const struct sd_way *way)
{
	if (way == NULL) {
		sd_buf_append(b, "", 0);
		return;
	}
	sd_way_put(b, way->up);
	sd_buf_chr(b, '/');
	if (way->key == NULL)
		sd_buf_i64(b, (int64_t)way->index);
	else
		for (const char *p = way->key; *p != '\0'; p++)
			if (*p == '~')
				sd_buf_str(b, "~0");
			else if (*p == '/')
				sd_buf_str(b, "~1");
			else
				sd_buf_chr(b, *p);
}

int sd_schema_wrong(struct sd_err *err, const struct sd_way *way, const char *fmt, ...)
{
	struct sd_buf at = SD_BUF_INIT;
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	sd_way_put(&at, way);
	sd_err_set(err, SD_ERR_PERMANENT, "%s%s%s", at.data, at.len > 0 ? ": " : "", text);
	sd_buf_fini(&at);
	return -1;
}

/* ---- resources and anchors ---- */

static struct sd_resource *find_resource(const struct sd_schema *s, const char *base)
{
	for (struct sd_resource *r = s->resources; r != NULL; r = r->next)
		if (strcmp(r->base, base) == 0)
			return r;
	return NULL;
}

static struct sd_resource *add_resource(struct sd_schema *s, const char *base, const cJSON *root, enum sd_schema_draft draft)
{
	struct sd_resource *r = sd_arena_zalloc(s->arena, sizeof *r);

	*r = (struct sd_resource){.base = base, .root = root, .draft = draft, .next = s->resources};
	s->resources = r;
	return r;
}

static struct sd_anchor *find_anchor(const struct sd_resource *r, const char *name)
{
	for (struct sd_anchor *a = r->anchors; a != NULL; a = a->next)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

static int add_anchor(struct sd_schema *s, struct sd_node *n, const char *name, bool dynamic, const struct sd_way *way, struct sd_err *err)
{
	struct sd_anchor *a = find_anchor(n->resource, name);

	if (a != NULL && a->node != n)
		return sd_schema_wrong(err, way, "the anchor \"%.100s\" is defined twice", name);
	if (a != NULL) {
		a->dynamic = a->dynamic || dynamic;
		return 0;
	}
	a = sd_arena_alloc(s->arena, sizeof *a);
	*a = (struct sd_anchor){name, n, dynamic, n->resource->anchors};
	n->resource->anchors = a;
	return 0;
}

/* ---- one subschema ---- */

/* $schema, where it may stand: at the root of a resource. */
static int read_dialect(const cJSON *item, enum sd_schema_draft *draft, const struct sd_way *way, struct sd_err *err)
{
	const cJSON *word = sd_json_get(item, "$schema");
	struct sd_way at = {way, "$schema", 0};
	size_t n;

	if (word == NULL)
		return 0;
	if (!cJSON_IsString(word))
		return sd_schema_wrong(err, &at, "must be a string");
	n = strcspn(word->valuestring, "#");
	if (n == strlen(DRAFT_7) && strncmp(word->valuestring, DRAFT_7, n) == 0)
		*draft = SD_SCHEMA_DRAFT_7;
	else if (n == strlen(DRAFT_2020_12) && strncmp(word->valuestring, DRAFT_2020_12, n) == 0)
		*draft = SD_SCHEMA_2020_12;
	else
		return sd_schema_wrong(err, &at, "\"%.150s\" is not supported; \"" DRAFT_2020_12 "\" and \"" DRAFT_7 "#\" are", word->valuestring);
	return 0;
}

/* $id and the anchors: which resource the node is in, and its names there. */
static int read_identity(struct sd_schema *s, struct sd_node *n, const cJSON *item, const struct sd_way *way, struct sd_err *err)
{
	const cJSON *id = sd_json_get(item, "$id"), *word;
	struct sd_way at = {way, "$id", 0};
	const char *fragment, *base;

	if (n->resource->draft == SD_SCHEMA_DRAFT_7 && sd_json_get(item, "$ref") != NULL)
		return 0; /* $ref hides what is beside it */
	if (id != NULL && !cJSON_IsString(id))
		return sd_schema_wrong(err, &at, "must be a string");
	if (id != NULL) {
		base = sd_uri_resolve(s->arena, n->resource->base, id->valuestring, &fragment);
		if (strcmp(base, n->resource->base) != 0) {
			enum sd_schema_draft draft = n->resource->draft;

			if (find_resource(s, base) != NULL)
				return sd_schema_wrong(err, &at, "\"%.200s\" is the $id of another schema too", base);
			if (read_dialect(item, &draft, way, err) < 0)
				return -1;
			n->resource = add_resource(s, base, item, draft);
		}
		if (*fragment != '\0' && n->resource->draft != SD_SCHEMA_DRAFT_7)
			return sd_schema_wrong(err, &at, "\"%.200s\" has a fragment; use $anchor", id->valuestring);
		if (*fragment != '\0' && *fragment != '/' && add_anchor(s, n, fragment, false, &at, err) < 0)
			return -1;
	}
	for (int dynamic = 0; dynamic < 2 && n->resource->draft != SD_SCHEMA_DRAFT_7; dynamic++) {
		at.key = dynamic ? "$dynamicAnchor" : "$anchor";
		word = sd_json_get(item, at.key);
		if (word != NULL && (!cJSON_IsString(word) || word->valuestring[0] == '\0' || strpbrk(word->valuestring, "#/") != NULL))
			return sd_schema_wrong(err, &at, "must be a plain name");
		if (word != NULL && add_anchor(s, n, word->valuestring, dynamic, &at, err) < 0)
			return -1;
	}
	return 0;
}

static struct sd_node *new_node(struct sd_schema *s, const cJSON *item, struct sd_resource *in)
{
	struct sd_node *n = sd_arena_zalloc(s->arena, sizeof *n);

	if (s->nnodes == s->cap) {
		s->cap = s->cap > 0 ? s->cap * 2 : 32;
		s->nodes = sd_xrealloc(s->nodes, s->cap * sizeof *s->nodes);
	}
	s->nodes[s->nnodes++] = n;
	((cJSON *)(uintptr_t)item)->valuedouble = (double)s->nnodes; /* the tree is ours */
	n->resource = in;
	n->max_length = n->max_items = n->max_properties = n->max_contains = SIZE_MAX;
	n->min_contains = 1;
	n->multiple_of = n->maximum = n->minimum = n->exclusive_maximum = n->exclusive_minimum = NAN;
	return n;
}

static struct sd_node *known_node(const struct sd_schema *s, const cJSON *item)
{
	return (cJSON_IsObject(item) || cJSON_IsBool(item)) && item->valuedouble > 0 ? s->nodes[(size_t)item->valuedouble - 1] : NULL;
}

struct sd_node *sd_schema_node(struct sd_schema *s, const cJSON *item, struct sd_resource *in, const struct sd_way *way, struct sd_err *err)
{
	struct sd_node *n = known_node(s, item);

	if (n != NULL)
		return n;
	if (!cJSON_IsObject(item) && !cJSON_IsBool(item)) {
		sd_schema_wrong(err, way, "must be a schema: an object, true or false");
		return NULL;
	}
	n = new_node(s, item, in);
	if (cJSON_IsBool(item)) {
		n->never = cJSON_IsFalse(item);
		n->always = !n->never;
		return n;
	}
	if (read_identity(s, n, item, way, err) < 0 || sd_schema_words(s, n, item, way, err) < 0)
		return NULL;
	return n;
}

/* ---- references ---- */

static struct sd_resource *add_document(struct sd_schema *s, const char *text, size_t len, const char *base, struct sd_node **root,
					struct sd_err *err)
{
	struct sd_doc *d = sd_arena_alloc(s->arena, sizeof *d);
	enum sd_schema_draft draft = s->fallback;
	struct sd_resource *r;

	d->tree = sd_json_parse(text, len, err);
	if (d->tree == NULL)
		return NULL;
	d->next = s->docs;
	s->docs = d;
	if (cJSON_IsObject(d->tree) && read_dialect(d->tree, &draft, NULL, err) < 0)
		return NULL;
	r = add_resource(s, base, d->tree, draft);
	*root = sd_schema_node(s, d->tree, r, NULL, err);
	return *root != NULL ? (*root)->resource : NULL;
}

static const cJSON *step_into(const cJSON *item, const char *token)
{
	char *end;
	unsigned long index;

	if (cJSON_IsObject(item))
		return sd_json_get(item, token);
	if (!cJSON_IsArray(item) || *token < '0' || *token > '9' || (*token == '0' && token[1] != '\0'))
		return NULL;
	index = strtoul(token, &end, 10);
	return *end == '\0' && index <= INT32_MAX ? cJSON_GetArrayItem(item, (int)index) : NULL;
}

/* Along a JSON pointer from the root of r; the node there, compiled if it was not yet.  NULL with *err, or without: nothing is there. */
static struct sd_node *follow_pointer(struct sd_schema *s, struct sd_resource *r, const char *pointer, const char *where, struct sd_err *err)
{
	const cJSON *item = r->root;
	struct sd_way at = {NULL, where, 0};
	char *copy = sd_arena_strdup(s->arena, pointer), *p = copy;

	while (*p == '/' && item != NULL) {
		char *token = ++p, *o = p, ended;

		for (; *p != '\0' && *p != '/'; p++)
			if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
				*o++ = *++p == '0' ? '~' : '/';
			else
				*o++ = *p;
		ended = *p;
		*o = '\0';
		item = step_into(item, token);
		if (item != NULL && known_node(s, item) != NULL)
			r = known_node(s, item)->resource;
		if (ended == '\0')
			break;
		*p = '/';
	}
	if (item == NULL || (!cJSON_IsObject(item) && !cJSON_IsBool(item))) {
		sd_err_clear(err);
		return NULL;
	}
	return sd_schema_node(s, item, r, &at, err);
}

/* The node a URI leads to; *anchor: it was by this anchor. */
static struct sd_node *find_target(struct sd_schema *s, const struct sd_ref *ref, const struct sd_anchor **anchor, struct sd_err *err)
{
	const char *fragment, *base = sd_uri_resolve(s->arena, ref->from->resource->base, ref->text, &fragment);
	struct sd_resource *r = find_resource(s, base);
	const char *meta = r == NULL ? sd_schema_meta(base) : NULL;
	struct sd_node *n = NULL;

	*anchor = NULL;
	if (meta != NULL) {
		r = add_document(s, meta, strlen(meta), base, &n, err);
		if (r == NULL)
			return NULL;
	}
	if (r == NULL) {
		sd_err_set(err, SD_ERR_PERMANENT, "%s: remote reference \"%.200s\": nothing outside of the schema is fetched", ref->where, ref->text);
		sd_err_hint(err, "put that schema under $defs with its $id");
		return NULL;
	}
	sd_err_clear(err);
	if (*fragment == '\0' || *fragment == '/') {
		n = follow_pointer(s, r, fragment, ref->where, err);
	} else {
		*anchor = find_anchor(r, fragment);
		n = *anchor != NULL ? (*anchor)->node : NULL;
	}
	if (n == NULL && err->message[0] == '\0')
		sd_err_set(err, SD_ERR_PERMANENT, "%s: \"%.200s\" leads nowhere", ref->where, ref->text);
	return n;
}

static int resolve_references(struct sd_schema *s, struct sd_err *err)
{
	while (s->refs != NULL) {
		struct sd_ref *ref = s->refs;
		const struct sd_anchor *anchor;
		struct sd_err local;
		struct sd_node *to;

		s->refs = ref->next;
		to = find_target(s, ref, &anchor, &local);
		if (to == NULL) {
			if (err != NULL)
				*err = local;
			return -1;
		}
		if (!ref->dynamic) {
			ref->from->ref = to;
			continue;
		}
		ref->from->dynamic_ref = to;
		if (anchor != NULL && anchor->dynamic)
			ref->from->dynamic_name = anchor->name;
	}
	return 0;
}

/* A chain of $ref that ends in itself would have no verdict. */
static int refuse_loops(struct sd_schema *s, struct sd_err *err)
{
	for (size_t i = 0; i < s->nnodes; i++)
		for (struct sd_node *n = s->nodes[i]; n != NULL && n->visited != s->nodes[i]; n = n->ref) {
			n->visited = s->nodes[i];
			if (n->ref == s->nodes[i])
				return sd_err_set(err, SD_ERR_PERMANENT, "a $ref refers to itself, directly or by way of others");
		}
	return 0;
}

/* ---- life ---- */

struct sd_schema *sd_schema_compile(const char *text, size_t len, enum sd_schema_draft fallback, struct sd_err *err)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_schema *s = sd_arena_zalloc(arena, sizeof *s);

	s->arena = arena;
	s->fallback = fallback;
	s->pcre = pcre2_compile_context_create(NULL);
	if (s->pcre == NULL)
		sd_xmalloc(SIZE_MAX / 2); /* says that memory is out */
	pcre2_set_compile_extra_options(s->pcre, PCRE2_EXTRA_ALT_BSUX);
	if (add_document(s, text, len, "", &s->root, err) != NULL && resolve_references(s, err) == 0 && refuse_loops(s, err) == 0)
		return s;
	sd_schema_free(s);
	return NULL;
}

void sd_schema_free(struct sd_schema *s)
{
	if (s == NULL)
		return;
	for (struct sd_doc *d = s->docs; d != NULL; d = d->next)
		cJSON_Delete(d->tree);
	for (struct sd_regex *x = s->regexes; x != NULL; x = x->next)
		pcre2_code_free(x->code);
	pcre2_compile_context_free(s->pcre);
	free(s->nodes);
	sd_arena_free(s->arena);
}
