/*
 * Inputs against schemas.
 *
 * The values of a query are text; where its schema wants a number or a boolean
 * or a list they are taken for one while they are looked at.  The handler reads
 * them as they came.  A form's values too are text, but there the data itself
 * becomes what the schema wants, so that one handler serves forms and JSON.
 */
#include "step/input.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_VIOLATIONS_MAX 8 /* in the text of an error; the JSON has all */

static int compile(const char *text, struct sd_schema **schema, struct sd_err *err)
{
	if (text == NULL)
		return 0;
	*schema = sd_schema_compile(text, strlen(text), SD_SCHEMA_2020_12, err);
	return *schema != NULL ? 0 : -1;
}

struct sd_input *sd_inputs_new(const struct sd_mf_step *mf, struct sd_err *err)
{
	struct sd_input *inputs = sd_xcalloc(mf->ntriggers + 1, sizeof *inputs);

	for (size_t i = 0; i < mf->ntriggers; i++)
		if (compile(mf->triggers[i].schema, &inputs[i].data, err) < 0 || compile(mf->triggers[i].query_schema, &inputs[i].query, err) < 0) {
			sd_inputs_free(inputs, mf->ntriggers);
			sd_err_prefix(err, "%s: trigger %zu", mf->file, i);
			return NULL;
		}
	return inputs;
}

void sd_inputs_free(struct sd_input *inputs, size_t n)
{
	for (size_t i = 0; inputs != NULL && i < n; i++) {
		sd_schema_free(inputs[i].data);
		sd_schema_free(inputs[i].query);
	}
	free(inputs);
}

/* The query as an object: a text, or an array of texts for a name that is there more than once. */
static cJSON *query_object(const struct sd_http_request *http)
{
	cJSON *object = cJSON_CreateObject();

	for (size_t i = 0; i < http->nquery; i++) {
		const struct sd_pair *p = &http->query[i];
		cJSON *text = cJSON_CreateString(sd_text_valid(p->value) ? p->value : "\xef\xbf\xbd");
		cJSON *before = cJSON_GetObjectItemCaseSensitive(object, p->name);

		if (before == NULL) {
			cJSON_AddItemToObject(object, p->name, text);
			continue;
		}
		if (!cJSON_IsArray(before)) {
			cJSON *list = cJSON_CreateArray();

			cJSON_AddItemToArray(list, cJSON_Duplicate(before, false));
			cJSON_ReplaceItemInObjectCaseSensitive(object, p->name, list);
			before = list;
		}
		cJSON_AddItemToArray(before, text);
	}
	return object;
}

/* Add violations: to json as objects joined by commas, to text for people.  where: "body" or "query"; NULL for a job. */
static void tell(const struct sd_violations *v, const char *where, struct sd_buf *json, struct sd_buf *text, size_t *told)
{
	for (size_t i = 0; i < v->n; i++) {
		const struct sd_violation *x = &v->list[i];

		sd_buf_str(json, json->len > 0 ? ",{" : "{");
		if (where != NULL)
			sd_buf_printf(json, "\"in\":\"%s\",", where);
		sd_buf_str(json, "\"pointer\":");
		sd_buf_json_str(json, x->pointer);
		sd_buf_str(json, ",\"keyword\":");
		sd_buf_json_str(json, x->keyword);
		sd_buf_str(json, ",\"message\":");
		sd_buf_json_str(json, x->message);
		sd_buf_chr(json, '}');
		if ((*told)++ >= ERROR_VIOLATIONS_MAX)
			continue;
		sd_buf_printf(text, "%s%s%s %s", text->len > 0 ? "; " : "", x->pointer[0] != '\0' ? x->pointer : "it",
			      where != NULL && strcmp(where, "query") == 0 ? " of the query" : "", x->message);
	}
}

/* The data as a tree, for the handler too. */
static const cJSON *data_tree(struct sd_ctx *c)
{
	if (c->data == NULL) {
		c->data = cJSON_Parse(c->pub.data);
		sd_json_keep_digits(c->data, c->pub.data);
	}
	return c->data;
}

static const struct sd_input *input_of(const struct sd_ctx *c)
{
	const struct sd_attempt *a = c->a;

	if (c->step->inputs == NULL || a->trigger_index < 0 || (size_t)a->trigger_index >= c->step->mf->ntriggers)
		return NULL;
	return c->step->mf->triggers[a->trigger_index].type == a->trigger ? &c->step->inputs[a->trigger_index] : NULL;
}

bool sd_input_fits(const struct sd_input *in, const cJSON *data, const struct sd_http_request *http, struct sd_arena *arena,
		   const char **violations, const char **error)
{
	const char *where = http != NULL ? "body" : NULL;
	struct sd_violations v = {.arena = arena};
	struct sd_buf json = SD_BUF_INIT, text = SD_BUF_INIT;
	size_t told = 0;

	if (in->data != NULL && data == NULL) {
		struct sd_violation unread = {"", "limit", "has a number of more than 63 characters"};

		tell(&(struct sd_violations){.list = &unread, .n = 1}, where, &json, &text, &told);
	} else if (in->data != NULL && !sd_schema_validate(in->data, data, &v)) {
		tell(&v, where, &json, &text, &told);
	}
	if (in->query != NULL && http != NULL) {
		cJSON *query = query_object(http);

		sd_schema_coerce(in->query, query);
		if (!sd_schema_validate(in->query, query, &v))
			tell(&v, "query", &json, &text, &told);
		cJSON_Delete(query);
	}
	if (told > ERROR_VIOLATIONS_MAX)
		sd_buf_printf(&text, "; and %zu more", told - ERROR_VIOLATIONS_MAX);
	if (told > 0) {
		*violations = sd_arena_memdup(arena, json.data, json.len);
		*error = sd_arena_printf(arena, "invalid input: %s", sd_clean_text(arena, text.data, 4096));
	}
	sd_buf_fini(&json);
	sd_buf_fini(&text);
	return told == 0;
}

/* A form's texts as the schema wants them, for the handler too. */
static void read_form(struct sd_ctx *c, const struct sd_input *in)
{
	struct sd_attempt *a = c->a;
	struct sd_buf b = SD_BUF_INIT;

	sd_schema_coerce(in->data, c->data);
	sd_json_print(&b, c->data);
	a->input = c->pub.data = sd_arena_memdup(a->arena, b.data, b.len);
	a->input_len = b.len;
	sd_buf_fini(&b);
}

bool sd_input_valid(struct sd_ctx *c)
{
	const struct sd_input *in = input_of(c);
	const cJSON *data = in != NULL && in->data != NULL ? data_tree(c) : NULL;

	if (data != NULL && c->a->http != NULL && c->a->http->form)
		read_form(c, in);
	return in == NULL || sd_input_fits(in, data, c->a->http, c->a->arena, &c->a->violations, &c->a->error);
}
