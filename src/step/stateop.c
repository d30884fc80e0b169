/* The operations of a state update on a tree. */
#include "step/stateop.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_null(const cJSON *v)
{
	return v == NULL || cJSON_IsNull(v);
}

/* A position of an array of n, up to nine digits without leading zeros, counted from the end when negative; false: name is none. */
static bool position(const char *name, int n, long *at)
{
	const char *digits = name + (name[0] == '-');
	size_t len = strspn(digits, "0123456789");

	if (len == 0 || len > 9 || digits[len] != '\0' || (digits[0] == '0' && strcmp(name, "0") != 0))
		return false;
	*at = strtol(name, NULL, 10);
	if (*at < 0)
		*at += n;
	return true;
}

static cJSON *member(cJSON *v, const char *name)
{
	long at;

	if (cJSON_IsObject(v))
		return cJSON_GetObjectItemCaseSensitive(v, name);
	if (cJSON_IsArray(v) && position(name, cJSON_GetArraySize(v), &at) && at >= 0)
		return cJSON_GetArrayItem(v, (int)at);
	return NULL;
}

/* Put item, which is taken, into v; beyond an array's ends it is added there. */
static int put(cJSON *v, const char *name, cJSON *item, struct sd_err *err)
{
	int n = cJSON_GetArraySize(v);
	long at;

	if (cJSON_IsObject(v)) {
		cJSON_DeleteItemFromObjectCaseSensitive(v, name);
		cJSON_AddItemToObject(v, name, item);
		return 0;
	}
	if (!cJSON_IsArray(v) || !position(name, n, &at)) {
		cJSON_Delete(item);
		return sd_err_set(err, SD_ERR_PERMANENT, "the value has no member \"%s\" to change", name);
	}
	if (at < 0)
		cJSON_InsertItemInArray(v, 0, item);
	else if (at >= n)
		cJSON_AddItemToArray(v, item);
	else
		cJSON_ReplaceItemInArray(v, (int)at, item);
	return 0;
}

static void remove_member(cJSON *v, const char *name)
{
	long at;

	if (cJSON_IsObject(v))
		cJSON_DeleteItemFromObjectCaseSensitive(v, name);
	else if (cJSON_IsArray(v) && position(name, cJSON_GetArraySize(v), &at) && at >= 0)
		cJSON_DeleteItemFromArray(v, (int)at);
}

/* What the operation makes of what is at its path (NULL: nothing); NULL with *err. */
static cJSON *changed(const cJSON *at, const cJSON *op, const char *type, struct sd_err *err)
{
	const cJSON *v = sd_json_get(op, "value"), *item;
	double by = cJSON_IsNumber(sd_json_get(op, "by")) ? sd_json_get(op, "by")->valuedouble : 1;
	cJSON *made;

	if (strcmp(type, "set") == 0)
		return v != NULL ? cJSON_Duplicate(v, 1) : cJSON_CreateNull();
	if (strcmp(type, "merge") == 0 && cJSON_IsObject(v) && (is_null(at) || cJSON_IsObject(at))) {
		made = is_null(at) ? cJSON_CreateObject() : cJSON_Duplicate(at, 1);
		cJSON_ArrayForEach(item, v) {
			cJSON_DeleteItemFromObjectCaseSensitive(made, item->string);
			cJSON_AddItemToObject(made, item->string, cJSON_Duplicate(item, 1));
		}
		return made;
	}
	if ((strcmp(type, "increment") == 0 || strcmp(type, "decrement") == 0) && (is_null(at) || cJSON_IsNumber(at)))
		return cJSON_CreateNumber((is_null(at) ? 0 : at->valuedouble) + (type[0] == 'i' ? by : -by));
	if (strcmp(type, "append") == 0 && (is_null(at) || cJSON_IsArray(at))) {
		made = is_null(at) ? cJSON_CreateArray() : cJSON_Duplicate(at, 1);
		cJSON_AddItemToArray(made, v != NULL ? cJSON_Duplicate(v, 1) : cJSON_CreateNull());
		return made;
	}
	sd_err_set(err, SD_ERR_PERMANENT, "%s does not fit the value that is there", type);
	return NULL;
}

/* The last parent on the path, with objects made where nothing is; NULL: the path leads through something else. */
static cJSON *parent_of(cJSON **value, const cJSON *path, int n, bool make)
{
	cJSON *v;

	if (is_null(*value) && make) {
		cJSON_Delete(*value);
		*value = cJSON_CreateObject();
	}
	v = *value;
	for (int i = 0; i < n - 1 && v != NULL; i++) {
		const char *name = cJSON_GetArrayItem(path, i)->valuestring;
		cJSON *next = member(v, name);

		if (make && is_null(next)) {
			next = cJSON_CreateObject();
			if (put(v, name, next, NULL) < 0)
				return NULL;
		}
		v = next;
	}
	return cJSON_IsObject(v) || cJSON_IsArray(v) ? v : NULL;
}

static int apply(cJSON **value, const cJSON *op, struct sd_err *err)
{
	const char *type = sd_json_str(op, "type", ""), *last;
	const cJSON *path = sd_json_get(op, "path");
	int n = cJSON_GetArraySize(path);
	bool removes = strcmp(type, "remove") == 0;
	cJSON *made, *parent;

	if (removes && *value == NULL)
		return 0;
	if (n == 0) {
		made = removes ? cJSON_CreateNull() : changed(*value, op, type, err);
		if (made == NULL)
			return -1;
		cJSON_Delete(*value);
		*value = made;
		return 0;
	}
	last = cJSON_GetArrayItem(path, n - 1)->valuestring;
	parent = parent_of(value, path, n, !removes);
	if (removes) {
		remove_member(parent, last);
		return 0;
	}
	if (parent == NULL)
		return sd_err_set(err, SD_ERR_PERMANENT, "the path leads through a value that has no members");
	made = changed(member(parent, last), op, type, err);
	return made != NULL ? put(parent, last, made, err) : -1;
}

int sd_stateops_apply(const char *value, const char *ops, struct sd_buf *out, struct sd_err *err)
{
	cJSON *tree = value != NULL ? cJSON_Parse(value) : NULL, *list = cJSON_Parse(ops), *op;
	int rc = 0;

	if ((tree == NULL && value != NULL) || list == NULL)
		rc = sd_err_set(err, SD_ERR_PERMANENT, "a number of more than 63 characters can not be computed with");
	if (tree != NULL)
		sd_json_keep_digits(tree, value);
	sd_json_keep_digits(list, ops);
	for (op = list != NULL ? list->child : NULL; op != NULL && rc == 0; op = op->next)
		rc = apply(&tree, op, err);
	if (rc == 0 && tree != NULL)
		sd_json_print(out, tree);
	cJSON_Delete(tree);
	cJSON_Delete(list);
	return rc;
}
