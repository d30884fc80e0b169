/*
 * The keywords of one subschema: a table of them, and a reader for each form
 * their values take.  A value of the wrong form is refused, as the metaschema
 * would; what is no keyword is an annotation and left alone.
 */
#include "base/schema_impl.h"
#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct sd_schema *s;
	struct sd_node *n;
	const cJSON *item; /* the subschema */
	struct sd_way way; /* to the keyword */
	struct sd_err *err;
	size_t cap; /* of n->names while it grows */
};

#define WRONG(r, ...) sd_schema_wrong((r)->err, &(r)->way, __VA_ARGS__)
#define FIELD(type, r, offset) ((type *)(void *)((char *)(r)->n + (offset)))

static struct sd_node *child(struct reader *r, const cJSON *item, const char *key, size_t index)
{
	struct sd_way at = {&r->way, key, index};

	return sd_schema_node(r->s, item, r->n->resource, &at, r->err);
}

/* ---- forms; each stores at offset in the node ---- */

static int read_node(struct reader *r, const cJSON *v, size_t offset)
{
	struct sd_node *n = sd_schema_node(r->s, v, r->n->resource, &r->way, r->err);

	*FIELD(struct sd_node *, r, offset) = n;
	return n != NULL ? 0 : -1;
}

static int read_nodes(struct reader *r, const cJSON *v, size_t offset)
{
	struct sd_nodes *list = FIELD(struct sd_nodes, r, offset);
	const cJSON *e;

	if (!cJSON_IsArray(v) || v->child == NULL)
		return WRONG(r, "must be an array of schemas, not empty");
	list->at = sd_arena_alloc(r->s->arena, (size_t)cJSON_GetArraySize(v) * sizeof *list->at);
	cJSON_ArrayForEach(e, v) {
		list->at[list->n] = child(r, e, NULL, list->n);
		if (list->at[list->n] == NULL)
			return -1;
		list->n++;
	}
	return 0;
}

static int read_size(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsNumber(v) || v->valuedouble < 0 || !sd_value_is_integer(v))
		return WRONG(r, "must be an integer from 0");
	*FIELD(size_t, r, offset) = v->valuedouble >= 9e15 ? SIZE_MAX - 1 : (size_t)v->valuedouble;
	return 0;
}

static int read_number(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsNumber(v))
		return WRONG(r, "must be a number");
	*FIELD(double, r, offset) = v->valuedouble;
	return 0;
}

static int read_multiple(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsNumber(v) || !(v->valuedouble > 0))
		return WRONG(r, "must be a number above 0");
	return read_number(r, v, offset);
}

static int read_flag(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsBool(v))
		return WRONG(r, "must be true or false");
	*FIELD(bool, r, offset) = cJSON_IsTrue(v);
	return 0;
}

static int read_value(struct reader *r, const cJSON *v, size_t offset)
{
	*FIELD(const cJSON *, r, offset) = v;
	return 0;
}

static int read_list(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsArray(v))
		return WRONG(r, "must be an array");
	return read_value(r, v, offset);
}

static int read_text(struct reader *r, const cJSON *v, size_t offset)
{
	return cJSON_IsString(v) ? 0 : WRONG(r, "must be a string");
}

static int read_ref(struct reader *r, const cJSON *v, size_t dynamic)
{
	struct sd_ref *ref = sd_arena_alloc(r->s->arena, sizeof *ref);
	struct sd_buf where = SD_BUF_INIT;

	if (read_text(r, v, 0) < 0)
		return -1;
	sd_way_put(&where, &r->way);
	*ref = (struct sd_ref){.from = r->n, .text = v->valuestring, .dynamic = dynamic != 0, .next = r->s->refs};
	ref->where = sd_arena_memdup(r->s->arena, where.data, where.len);
	sd_buf_fini(&where);
	r->s->refs = ref;
	return 0;
}

static int read_pattern(struct reader *r, const cJSON *v, size_t offset)
{
	if (read_text(r, v, 0) < 0)
		return -1;
	r->n->pattern = sd_schema_regex(r->s, v->valuestring, &r->way, r->err);
	return r->n->pattern != NULL ? 0 : -1;
}

static unsigned type_bit(const cJSON *v)
{
	static const char *const names[] = {"null", "boolean", "number", "integer", "string", "array", "object"};

	for (size_t i = 0; cJSON_IsString(v) && i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], v->valuestring) == 0)
			return 1u << i;
	return 0;
}

static int read_type(struct reader *r, const cJSON *v, size_t offset)
{
	static const char must[] = "must be one of null, boolean, number, integer, string, array, object, or an array of them";
	const cJSON *e;

	if (cJSON_IsArray(v)) {
		if (v->child == NULL)
			return WRONG(r, "%s", must);
		cJSON_ArrayForEach(e, v) {
			unsigned bit = type_bit(e);

			if (bit == 0)
				return WRONG(r, "%s", must);
			if (r->n->types & bit)
				return WRONG(r, "has \"%s\" twice", e->valuestring);
			r->n->types |= bit;
		}
		return 0;
	}
	r->n->types = type_bit(v);
	return r->n->types != 0 ? 0 : WRONG(r, "%s", must);
}

/* ---- names; collected unsorted, see join_names ---- */

static struct sd_name *add_name(struct reader *r, const char *name)
{
	struct sd_node *n = r->n;

	if (n->nnames == r->cap) {
		struct sd_name *more;

		r->cap = r->cap > 0 ? r->cap * 2 : 8;
		more = sd_arena_alloc(r->s->arena, r->cap * sizeof *more);
		if (n->nnames > 0)
			memcpy(more, n->names, n->nnames * sizeof *more);
		n->names = more;
	}
	n->names[n->nnames] = (struct sd_name){.name = name};
	return &n->names[n->nnames++];
}

static int must_be_object(struct reader *r, const cJSON *v)
{
	return cJSON_IsObject(v) ? 0 : WRONG(r, "must be an object");
}

/* Schemas by name that are only there to be referred to. */
static int read_definitions(struct reader *r, const cJSON *v, size_t offset)
{
	const cJSON *e;

	if (must_be_object(r, v) < 0)
		return -1;
	cJSON_ArrayForEach(e, v)
		if (child(r, e, e->string, 0) == NULL)
			return -1;
	return 0;
}

/* A schema for each member, kept at offset in that member's struct sd_name. */
static int read_members(struct reader *r, const cJSON *v, size_t offset)
{
	const cJSON *e;

	if (must_be_object(r, v) < 0)
		return -1;
	cJSON_ArrayForEach(e, v) {
		struct sd_node *n = child(r, e, e->string, 0);

		if (n == NULL)
			return -1;
		*(struct sd_node **)(void *)((char *)add_name(r, e->string) + offset) = n;
	}
	return 0;
}

static int read_patterns(struct reader *r, const cJSON *v, size_t offset)
{
	const cJSON *e;

	if (must_be_object(r, v) < 0)
		return -1;
	r->n->patterns = sd_arena_alloc(r->s->arena, (size_t)cJSON_GetArraySize(v) * sizeof *r->n->patterns);
	cJSON_ArrayForEach(e, v) {
		struct sd_way at = {&r->way, e->string, 0};
		struct sd_pattern *p = &r->n->patterns[r->n->npatterns++];

		p->node = child(r, e, e->string, 0);
		p->regex = sd_schema_regex(r->s, e->string, &at, p->node != NULL ? r->err : NULL);
		if (p->node == NULL || p->regex == NULL)
			return -1;
	}
	return 0;
}

/* An array of distinct strings; NULL with *err. */
static const char **read_strings(struct reader *r, const cJSON *v, const struct sd_way *at, size_t *n)
{
	const char **list = sd_arena_alloc(r->s->arena, ((size_t)cJSON_GetArraySize(v) + 1) * sizeof *list);
	const cJSON *e;

	*n = 0;
	if (!cJSON_IsArray(v)) {
		sd_schema_wrong(r->err, at, "must be an array of names");
		return NULL;
	}
	cJSON_ArrayForEach(e, v) {
		if (!cJSON_IsString(e)) {
			sd_schema_wrong(r->err, at, "must be an array of names");
			return NULL;
		}
		for (size_t i = 0; i < *n; i++)
			if (strcmp(list[i], e->valuestring) == 0) {
				sd_schema_wrong(r->err, at, "has \"%.100s\" twice", list[i]);
				return NULL;
			}
		list[(*n)++] = e->valuestring;
	}
	return list;
}

static int read_required(struct reader *r, const cJSON *v, size_t offset)
{
	size_t n;
	const char **list = read_strings(r, v, &r->way, &n);

	for (size_t i = 0; list != NULL && i < n; i++)
		add_name(r, list[i])->required = true;
	return list != NULL ? 0 : -1;
}

static int read_dependent_required(struct reader *r, const cJSON *v, size_t offset)
{
	const cJSON *e;

	if (must_be_object(r, v) < 0)
		return -1;
	cJSON_ArrayForEach(e, v) {
		struct sd_way at = {&r->way, e->string, 0};
		size_t n;
		const char **list = read_strings(r, e, &at, &n);
		struct sd_name *name = list != NULL ? add_name(r, e->string) : NULL;

		if (name == NULL)
			return -1;
		name->requires = list;
		name->nrequires = n;
	}
	return 0;
}

static int read_dependencies(struct reader *r, const cJSON *v, size_t offset)
{
	const cJSON *e;

	if (must_be_object(r, v) < 0)
		return -1;
	cJSON_ArrayForEach(e, v) {
		struct sd_way at = {&r->way, e->string, 0};
		struct sd_name name = {.name = e->string};

		if (cJSON_IsArray(e))
			name.requires = read_strings(r, e, &at, &name.nrequires);
		else
			name.dependent = child(r, e, e->string, 0);
		if (name.requires == NULL && name.dependent == NULL)
			return -1;
		*add_name(r, e->string) = name;
	}
	return 0;
}

/* ---- items, which both drafts have and mean differently ---- */

static int read_items_7(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsArray(v))
		return read_node(r, v, offsetof(struct sd_node, items));
	return v->child != NULL ? read_nodes(r, v, offsetof(struct sd_node, prefix)) : 0;
}

static int read_additional_items(struct reader *r, const cJSON *v, size_t offset)
{
	struct sd_node *n = sd_schema_node(r->s, v, r->n->resource, &r->way, r->err);

	if (n != NULL && cJSON_IsArray(sd_json_get(r->item, "items")))
		r->n->items = n;
	return n != NULL ? 0 : -1;
}

static int read_items(struct reader *r, const cJSON *v, size_t offset)
{
	if (!cJSON_IsArray(v))
		return read_node(r, v, offset);
	WRONG(r, "must be a schema; an array of them is prefixItems");
	return sd_err_hint(r->err, "for draft 7 say so: \"$schema\": \"http://json-schema.org/draft-07/schema#\"");
}

/* ---- the table ---- */

#define BOTH 3
#define D7 1
#define D2020 2
#define AT(field) offsetof(struct sd_node, field)

static const struct {
	const char *name;
	int drafts;
	int (*read)(struct reader *r, const cJSON *v, size_t offset);
	size_t offset;
} words[] = {
	{"$ref", BOTH, read_ref, 0},
	{"$dynamicRef", D2020, read_ref, 1},
	{"$defs", D2020, read_definitions, 0},
	{"definitions", BOTH, read_definitions, 0},
	{"$comment", BOTH, read_text, 0},
	{"title", BOTH, read_text, 0},
	{"description", BOTH, read_text, 0},
	{"format", BOTH, read_text, 0},
	{"type", BOTH, read_type, 0},
	{"enum", BOTH, read_list, AT(one_of_values)},
	{"const", BOTH, read_value, AT(value)},
	{"multipleOf", BOTH, read_multiple, AT(multiple_of)},
	{"maximum", BOTH, read_number, AT(maximum)},
	{"exclusiveMaximum", BOTH, read_number, AT(exclusive_maximum)},
	{"minimum", BOTH, read_number, AT(minimum)},
	{"exclusiveMinimum", BOTH, read_number, AT(exclusive_minimum)},
	{"maxLength", BOTH, read_size, AT(max_length)},
	{"minLength", BOTH, read_size, AT(min_length)},
	{"pattern", BOTH, read_pattern, 0},
	{"prefixItems", D2020, read_nodes, AT(prefix)},
	{"items", D2020, read_items, AT(items)},
	{"items", D7, read_items_7, 0},
	{"additionalItems", D7, read_additional_items, 0},
	{"contains", BOTH, read_node, AT(contains)},
	{"minContains", D2020, read_size, AT(min_contains)},
	{"maxContains", D2020, read_size, AT(max_contains)},
	{"maxItems", BOTH, read_size, AT(max_items)},
	{"minItems", BOTH, read_size, AT(min_items)},
	{"uniqueItems", BOTH, read_flag, AT(unique)},
	{"unevaluatedItems", D2020, read_node, AT(unevaluated_items)},
	{"properties", BOTH, read_members, offsetof(struct sd_name, property)},
	{"patternProperties", BOTH, read_patterns, 0},
	{"additionalProperties", BOTH, read_node, AT(additional)},
	{"propertyNames", BOTH, read_node, AT(property_names)},
	{"required", BOTH, read_required, 0},
	{"dependentRequired", D2020, read_dependent_required, 0},
	{"dependentSchemas", D2020, read_members, offsetof(struct sd_name, dependent)},
	{"dependencies", BOTH, read_dependencies, 0},
	{"maxProperties", BOTH, read_size, AT(max_properties)},
	{"minProperties", BOTH, read_size, AT(min_properties)},
	{"unevaluatedProperties", D2020, read_node, AT(unevaluated_properties)},
	{"allOf", BOTH, read_nodes, AT(all_of)},
	{"anyOf", BOTH, read_nodes, AT(any_of)},
	{"oneOf", BOTH, read_nodes, AT(one_of)},
	{"not", BOTH, read_node, AT(not_)},
	{"if", BOTH, read_node, AT(if_)},
	{"then", BOTH, read_node, AT(then_)},
	{"else", BOTH, read_node, AT(else_)},
};

static int read_word(struct reader *r, const cJSON *v, bool only_ref)
{
	int draft = r->n->resource->draft == SD_SCHEMA_DRAFT_7 ? D7 : D2020;

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if ((words[i].drafts & draft) == 0 || strcmp(words[i].name, v->string) != 0)
			continue;
		if (only_ref && words[i].read != read_ref && words[i].read != read_definitions)
			return 0;
		return words[i].read(r, v, words[i].offset);
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct sd_name *)a)->name, ((const struct sd_name *)b)->name);
}

/* Sort the names, and make one of what several keywords say about the same. */
static void join_names(struct sd_node *n)
{
	size_t kept = 0;

	if (n->nnames == 0)
		return;
	qsort(n->names, n->nnames, sizeof *n->names, by_name);
	for (size_t i = 1; i < n->nnames; i++) {
		struct sd_name *to = &n->names[kept], *from = &n->names[i];

		if (strcmp(to->name, from->name) != 0) {
			n->names[++kept] = *from;
			continue;
		}
		to->required = to->required || from->required;
		to->property = from->property != NULL ? from->property : to->property;
		to->dependent = from->dependent != NULL ? from->dependent : to->dependent;
		if (from->requires != NULL) {
			to->requires = from->requires;
			to->nrequires = from->nrequires;
		}
	}
	n->nnames = kept + 1;
}

int sd_schema_words(struct sd_schema *s, struct sd_node *n, const cJSON *item, const struct sd_way *way, struct sd_err *err)
{
	struct reader r = {.s = s, .n = n, .item = item, .way = {way, NULL, 0}, .err = err};
	bool only_ref = n->resource->draft == SD_SCHEMA_DRAFT_7 && sd_json_get(item, "$ref") != NULL;
	const cJSON *v;

	cJSON_ArrayForEach(v, item) {
		r.way.key = v->string;
		if (read_word(&r, v, only_ref) < 0)
			return -1;
	}
	join_names(n);
	return 0;
}
