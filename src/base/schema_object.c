/* Validation of objects: each member is looked up once among the names the schema knows. */
#include "base/schema_impl.h"

#include <stdlib.h>
#include <string.h>

static const struct sd_name *find_name(const struct sd_node *n, const char *name)
{
	size_t low = 0, high = n->nnames;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(name, n->names[mid].name);

		if (c == 0)
			return &n->names[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool check_property_name(struct sd_run *r, const struct sd_spot *at, const char *name, const struct sd_way *way)
{
	cJSON text = {.type = cJSON_String, .valuestring = (char *)(uintptr_t)name};

	return sd_run_node(r, at->node->property_names, &text, way, at->scope, NULL);
}

/* One member against properties, patternProperties, additionalProperties and propertyNames. */
static bool check_member(struct sd_run *r, const struct sd_spot *at, const struct sd_name *name, const cJSON *m, size_t index)
{
	const struct sd_node *n = at->node;
	struct sd_way way = {at->way, m->string, 0};
	bool ok = true, known = false;

	if (n->property_names != NULL)
		ok = check_property_name(r, at, m->string, &way);
	if (name != NULL && name->property != NULL && !sd_run_enough(r, ok)) {
		known = true;
		ok = sd_run_node(r, name->property, m, &way, at->scope, NULL) && ok;
	}
	for (size_t i = 0; i < n->npatterns && !sd_run_enough(r, ok); i++) {
		if (!sd_run_matches(r, n->patterns[i].regex, m->string, &way))
			continue;
		known = true;
		ok = sd_run_node(r, n->patterns[i].node, m, &way, at->scope, NULL) && ok;
	}
	if (!known && n->additional != NULL && !sd_run_enough(r, ok)) {
		if (n->additional->never)
			ok = sd_run_violation(r, &way, "additionalProperties", "is not an allowed property");
		else
			ok = sd_run_node(r, n->additional, m, &way, at->scope, NULL) && ok;
	}
	if (at->marks != NULL && (known || n->additional != NULL))
		sd_marks_set(at->marks, index);
	return ok;
}

static bool has_member(struct sd_run *r, const cJSON *object, const char *name)
{
	const cJSON *m;
	long steps = 0;

	cJSON_ArrayForEach(m, object) {
		steps++;
		if (strcmp(m->string, name) == 0)
			break;
	}
	return sd_run_spend(r, steps) && m != NULL;
}

/* required, dependentRequired and dependentSchemas, knowing which names are there. */
static bool check_names(struct sd_run *r, const struct sd_spot *at, const unsigned char *seen)
{
	const struct sd_node *n = at->node;
	bool ok = true;

	for (size_t i = 0; i < n->nnames && !sd_run_enough(r, ok); i++) {
		const struct sd_name *name = &n->names[i];
		struct sd_way way = {at->way, name->name, 0};

		if (!seen[i]) {
			if (name->required)
				ok = sd_run_violation(r, &way, "required", "is required");
			continue;
		}
		for (size_t j = 0; j < name->nrequires; j++) {
			struct sd_way missing = {at->way, name->requires[j], 0};

			if (!has_member(r, at->value, name->requires[j]))
				ok = sd_run_violation(r, &missing, "dependentRequired", "is required beside \"%.100s\"", name->name);
		}
		if (name->dependent != NULL)
			ok = sd_run_node(r, name->dependent, at->value, at->way, at->scope, at->marks) && ok;
	}
	return ok;
}

bool sd_run_object(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	unsigned char few[64] = {0}, *seen = n->nnames <= sizeof few ? few : sd_xcalloc(n->nnames, 1);
	size_t count = 0;
	bool ok = true;
	const cJSON *m;

	cJSON_ArrayForEach(m, at->value) {
		const struct sd_name *name = find_name(n, m->string);

		if (name != NULL)
			seen[name - n->names] = 1;
		if (!sd_run_enough(r, ok))
			ok = check_member(r, at, name, m, count) && ok;
		count++;
	}
	ok = sd_run_spend(r, (long)(count + n->nnames) / 4) && ok;
	if (count > n->max_properties)
		ok = sd_run_violation(r, at->way, "maxProperties", "must have at most %zu propert%s", n->max_properties,
				      n->max_properties == 1 ? "y" : "ies");
	if (count < n->min_properties)
		ok = sd_run_violation(r, at->way, "minProperties", "must have at least %zu propert%s", n->min_properties,
				      n->min_properties == 1 ? "y" : "ies");
	if (!sd_run_enough(r, ok))
		ok = check_names(r, at, seen) && ok;
	if (seen != few)
		free(seen);
	return ok;
}

bool sd_run_unevaluated_properties(struct sd_run *r, const struct sd_spot *at)
{
	size_t i = 0;
	bool ok = true;
	const cJSON *m;

	if (!cJSON_IsObject(at->value))
		return true;
	cJSON_ArrayForEach(m, at->value) {
		struct sd_way way = {at->way, m->string, 0};

		if (sd_marks_get(at->marks, i++) || sd_run_enough(r, ok))
			continue;
		if (at->node->unevaluated_properties->never)
			ok = sd_run_violation(r, &way, "unevaluatedProperties", "is not an allowed property");
		else
			ok = sd_run_node(r, at->node->unevaluated_properties, m, &way, at->scope, NULL) && ok;
	}
	at->marks->all = true;
	return ok;
}
