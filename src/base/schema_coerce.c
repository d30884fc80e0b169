/* Text into the types a schema asks for.  What does not read as one stays text, and validation says what was wanted. */
#include "base/schema_impl.h"
#include "base/json.h"

#include <string.h>

#define REFS_MAX 32

static const struct sd_node *behind_ref(const struct sd_node *n)
{
	for (int i = 0; n != NULL && n->ref != NULL && n->types == 0 && n->nnames == 0 && i < REFS_MAX; i++)
		n = n->ref;
	return n;
}

/* The schema of a member; NULL: it has none of its own. */
static const struct sd_node *member_node(const struct sd_node *n, const char *name)
{
	for (size_t i = 0; i < n->nnames; i++)
		if (strcmp(n->names[i].name, name) == 0 && n->names[i].property != NULL)
			return n->names[i].property;
	return n->additional;
}

/* The types that fit; 0: any. */
static unsigned wanted(const struct sd_node *n, int depth)
{
	unsigned types = 0;

	n = behind_ref(n);
	if (n == NULL || n->types != 0 || depth > 4)
		return n != NULL ? n->types : 0;
	for (size_t i = 0; i < n->any_of.n; i++) {
		unsigned more = wanted(n->any_of.at[i], depth + 1);

		if (more == 0)
			return 0;
		types |= more;
	}
	return types;
}

/* A new item that a text reads as; NULL: it stays text. */
static cJSON *read_text(const char *text, unsigned types)
{
	cJSON *v;

	if (types == 0 || (types & SD_TYPE_STRING) != 0)
		return NULL;
	v = sd_json_parse(text, strlen(text), NULL);
	sd_json_keep_digits(v, text);
	if (v != NULL && (sd_value_types(v) & types & ~(unsigned)(SD_TYPE_ARRAY | SD_TYPE_OBJECT)) == 0) {
		cJSON_Delete(v);
		v = NULL;
	}
	return v;
}

static void coerce_items(const struct sd_node *n, cJSON *array)
{
	unsigned types = n != NULL ? wanted(n->items, 0) : 0;
	cJSON *e, *next;

	for (e = array->child; e != NULL; e = next) {
		cJSON *v = cJSON_IsString(e) ? read_text(e->valuestring, types) : NULL;

		next = e->next;
		if (v != NULL)
			cJSON_ReplaceItemViaPointer(array, e, v);
	}
}

void sd_schema_coerce(const struct sd_schema *s, cJSON *object)
{
	const struct sd_node *root = behind_ref(s->root);
	cJSON *m, *next;

	for (m = object->child; m != NULL; m = next) {
		const struct sd_node *n = behind_ref(member_node(root, m->string));
		unsigned types = wanted(n, 0);
		cJSON *v = NULL;

		next = m->next;
		if (cJSON_IsString(m))
			v = read_text(m->valuestring, types);
		if (v == NULL && cJSON_IsString(m) && (types & SD_TYPE_ARRAY) != 0 && (types & SD_TYPE_STRING) == 0) {
			v = cJSON_CreateArray();
			cJSON_AddItemToArray(v, cJSON_CreateString(m->valuestring));
		}
		if (v != NULL) {
			v->string = sd_xstrdup(m->string);
			cJSON_ReplaceItemViaPointer(object, m, v);
			m = v;
		}
		if (cJSON_IsArray(m))
			coerce_items(n, m);
	}
}
