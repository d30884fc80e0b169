/*
 * Validation: a value against a node.
 *
 * Every keyword is looked at, so that all violations are told at once; inside of
 * anyOf, oneOf, not, if and contains, where a failure is no violation, the first
 * one ends it.  unevaluatedProperties and unevaluatedItems need to know what the
 * keywords beside them and in the subschemas that succeeded have looked at:
 * marks are kept only where such a keyword is on the way.
 */
#include "base/schema_impl.h"
#include "base/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- violations and limits ---- */

bool sd_run_violation(struct sd_run *r, const struct sd_way *way, const char *keyword, const char *fmt, ...)
{
	struct sd_violations *out = r->out;
	struct sd_buf pointer = SD_BUF_INIT;
	char text[400];
	va_list ap;

	if (r->silent > 0 || r->over || out == NULL)
		return false;
	if (out->n == SD_SCHEMA_VIOLATIONS_MAX) {
		out->more = true;
		return false;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	for (size_t n = strlen(text); n >= sizeof text - 4 && n > 0 && (text[n - 1] & 0x80) != 0; n--)
		text[n - 1] = '\0'; /* a character that was cut */
	sd_way_put(&pointer, way);
	out->list[out->n++] = (struct sd_violation){sd_arena_memdup(out->arena, pointer.data, pointer.len), keyword,
						    sd_arena_strdup(out->arena, text)};
	sd_buf_fini(&pointer);
	return false;
}

static bool give_up(struct sd_run *r, const struct sd_way *way, const char *why)
{
	if (!r->over) {
		r->silent = 0; /* whatever surrounds this, the value is not valid */
		if (r->out != NULL && r->out->n == SD_SCHEMA_VIOLATIONS_MAX)
			r->out->n--;
		sd_run_violation(r, way, "limit", "%s", why);
		r->over = true;
	}
	return false;
}

bool sd_run_spend(struct sd_run *r, long work)
{
	r->work -= work;
	if (r->work >= 0)
		return true;
	if (!r->extended) {
		r->extended = true;
		r->work += SD_SCHEMA_WORK_PER_VALUE * sd_value_count(r->root);
		if (r->work >= 0)
			return true;
	}
	return give_up(r, NULL, "validating this takes too many steps");
}

/* ---- keywords for any value ---- */

static const char *type_list(unsigned types, char *text, size_t size)
{
	static const char *const names[] = {"null", "boolean", "number", "integer", "string", "array", "object"};
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (types & 1u << i)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n > 0 ? " or " : "", names[i]);
	return text;
}

static bool check_type(struct sd_run *r, const struct sd_spot *at)
{
	unsigned have = sd_value_types(at->value);
	char want[100];

	if (at->node->types == 0 || (at->node->types & have) != 0)
		return true;
	if (have & SD_TYPE_INTEGER)
		have = SD_TYPE_INTEGER;
	return sd_run_violation(r, at->way, "type", "must be %s, not %s", type_list(at->node->types, want, sizeof want),
				type_list(have, (char[40]){0}, 40));
}

bool sd_run_equal(struct sd_run *r, const cJSON *a, const cJSON *b)
{
	long work = r->work;
	bool same = sd_value_equal(a, b, &work);

	if (work < 0 && sd_run_spend(r, r->work + 1)) { /* the budget has grown */
		work = r->work;
		same = sd_value_equal(a, b, &work);
	}
	return !r->over && sd_run_spend(r, r->work - work) && same;
}

static void show(const cJSON *v, struct sd_buf *b)
{
	if (cJSON_IsString(v))
		sd_buf_json_str(b, v->valuestring);
	else if (cJSON_IsNumber(v))
		sd_buf_str(b, sd_decimal_print((char[SD_DECIMAL_MAX]){0}, 17, 'g', v->valuedouble));
	else
		sd_buf_str(b, cJSON_IsTrue(v) ? "true" : cJSON_IsFalse(v) ? "false" : cJSON_IsNull(v) ? "null" : cJSON_IsArray(v) ? "[…]" : "{…}");
}

static bool check_enum(struct sd_run *r, const struct sd_spot *at)
{
	struct sd_buf list = SD_BUF_INIT;
	const cJSON *e;

	cJSON_ArrayForEach(e, at->node->one_of_values)
		if (sd_run_equal(r, e, at->value))
			return true;
	cJSON_ArrayForEach(e, at->node->one_of_values) {
		if (list.len > 200) {
			sd_buf_str(&list, ", …");
			break;
		}
		if (list.len > 0)
			sd_buf_str(&list, ", ");
		show(e, &list);
	}
	sd_run_violation(r, at->way, "enum", "must be one of %s", list.len > 0 ? list.data : "no values");
	sd_buf_fini(&list);
	return false;
}

static bool check_const(struct sd_run *r, const struct sd_spot *at)
{
	struct sd_buf text = SD_BUF_INIT;

	if (sd_run_equal(r, at->node->value, at->value))
		return true;
	show(at->node->value, &text);
	sd_run_violation(r, at->way, "const", "must be %s", text.data);
	sd_buf_fini(&text);
	return false;
}

static bool check_number(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	double v = at->value->valuedouble;
	bool ok = true;

	if (v > n->maximum)
		ok = sd_run_violation(r, at->way, "maximum", "must be at most %.17g", n->maximum);
	if (v >= n->exclusive_maximum)
		ok = sd_run_violation(r, at->way, "exclusiveMaximum", "must be below %.17g", n->exclusive_maximum);
	if (v < n->minimum)
		ok = sd_run_violation(r, at->way, "minimum", "must be at least %.17g", n->minimum);
	if (v <= n->exclusive_minimum)
		ok = sd_run_violation(r, at->way, "exclusiveMinimum", "must be above %.17g", n->exclusive_minimum);
	if (!isnan(n->multiple_of) && !sd_value_multiple(v, n->multiple_of))
		ok = sd_run_violation(r, at->way, "multipleOf", "must be a multiple of %.17g", n->multiple_of);
	return ok;
}

static bool check_string(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	const char *s = at->value->valuestring;
	bool ok = true;

	if (n->max_length != SIZE_MAX || n->min_length > 0) {
		size_t chars = sd_text_chars(s);

		if (chars > n->max_length)
			ok = sd_run_violation(r, at->way, "maxLength", "must have at most %zu character%s", n->max_length,
					      n->max_length == 1 ? "" : "s");
		if (chars < n->min_length)
			ok = sd_run_violation(r, at->way, "minLength", "must have at least %zu character%s", n->min_length,
					      n->min_length == 1 ? "" : "s");
	}
	if (n->pattern != NULL && !sd_run_matches(r, n->pattern, s, at->way))
		ok = sd_run_violation(r, at->way, "pattern", "must match the pattern \"%.200s\"", n->pattern->text);
	return ok;
}

/* ---- subschemas for the same value ---- */

static bool into(struct sd_run *r, const struct sd_spot *at, const struct sd_node *n)
{
	return sd_run_node(r, n, at->value, at->way, at->scope, at->marks);
}

/* Without violations: does it hold? */
static bool holds(struct sd_run *r, const struct sd_spot *at, const struct sd_node *n)
{
	bool ok;

	r->silent++;
	ok = into(r, at, n);
	if (!r->over)
		r->silent--;
	return ok;
}

static bool check_any_of(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_nodes *list = &at->node->any_of;
	bool ok = false;

	if (list->n == 1)
		return into(r, at, list->at[0]);
	for (size_t i = 0; i < list->n && (!ok || at->marks != NULL) && !r->over; i++)
		ok = holds(r, at, list->at[i]) || ok;
	return ok || sd_run_violation(r, at->way, "anyOf", "fits none of the %zu alternatives", list->n);
}

static bool check_one_of(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_nodes *list = &at->node->one_of;
	size_t n = 0, which[2] = {0, 0};

	if (list->n == 1)
		return into(r, at, list->at[0]);
	for (size_t i = 0; i < list->n && n < 2 && !r->over; i++)
		if (holds(r, at, list->at[i]))
			which[n++] = i;
	if (n == 0)
		return sd_run_violation(r, at->way, "oneOf", "fits none of the %zu alternatives", list->n);
	if (n == 2)
		return sd_run_violation(r, at->way, "oneOf", "fits more than one alternative (%zu and %zu)", which[0], which[1]);
	return true;
}

static bool check_not(struct sd_run *r, const struct sd_spot *at)
{
	struct sd_spot apart = *at;

	apart.marks = NULL;
	return !holds(r, &apart, at->node->not_) && !r->over ? true : sd_run_violation(r, at->way, "not", "must not fit the schema under \"not\"");
}

static bool check_if(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = holds(r, at, at->node->if_) ? at->node->then_ : at->node->else_;

	return n == NULL || into(r, at, n);
}

/* The outermost resource on the way here that has the name decides. */
static bool check_dynamic_ref(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *to = at->node->dynamic_ref;
	long steps = 0;

	if (at->node->dynamic_name != NULL)
		for (const struct sd_scope *s = at->scope; s != NULL; s = s->up, steps++)
			for (const struct sd_anchor *a = s->resource->anchors; a != NULL; a = a->next)
				if (a->dynamic && strcmp(a->name, at->node->dynamic_name) == 0)
					to = a->node;
	return sd_run_spend(r, steps / 8) && into(r, at, to);
}

static bool check_in_place(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	bool ok = true;

	if (n->ref != NULL)
		ok = into(r, at, n->ref);
	if (n->dynamic_ref != NULL && !sd_run_enough(r, ok))
		ok = check_dynamic_ref(r, at) && ok;
	for (size_t i = 0; i < n->all_of.n && !sd_run_enough(r, ok); i++)
		ok = into(r, at, n->all_of.at[i]) && ok;
	if (n->any_of.n > 0 && !sd_run_enough(r, ok))
		ok = check_any_of(r, at) && ok;
	if (n->one_of.n > 0 && !sd_run_enough(r, ok))
		ok = check_one_of(r, at) && ok;
	if (n->not_ != NULL && !sd_run_enough(r, ok))
		ok = check_not(r, at) && ok;
	if (n->if_ != NULL && !sd_run_enough(r, ok))
		ok = check_if(r, at) && ok;
	return ok;
}

/* ---- a node ---- */

static bool check_by_type(struct sd_run *r, const struct sd_spot *at)
{
	switch (at->value->type & 0xff) {
	case cJSON_Number:
		return check_number(r, at);
	case cJSON_String:
		return check_string(r, at);
	case cJSON_Array:
		return sd_run_array(r, at);
	case cJSON_Object:
		return sd_run_object(r, at);
	default:
		return true;
	}
}

static bool check_node(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	bool ok = check_type(r, at);

	if (n->value != NULL && !sd_run_enough(r, ok))
		ok = check_const(r, at) && ok;
	if (n->one_of_values != NULL && !sd_run_enough(r, ok))
		ok = check_enum(r, at) && ok;
	if (!sd_run_enough(r, ok))
		ok = check_by_type(r, at) && ok;
	if (!sd_run_enough(r, ok))
		ok = check_in_place(r, at) && ok;
	if (n->unevaluated_items != NULL && !sd_run_enough(r, ok))
		ok = sd_run_unevaluated_items(r, at) && ok;
	if (n->unevaluated_properties != NULL && !sd_run_enough(r, ok))
		ok = sd_run_unevaluated_properties(r, at) && ok;
	return ok;
}

/* With marks of its own, which count for the outside only if the node holds. */
static __attribute__((noinline)) bool check_marked(struct sd_run *r, const struct sd_spot *outer)
{
	struct sd_marks own = {0};
	struct sd_spot at = *outer;
	bool ok;

	at.marks = &own;
	ok = check_node(r, &at);
	if (ok && outer->marks != NULL)
		sd_marks_merge(outer->marks, &own);
	sd_marks_fini(&own);
	return ok;
}

bool sd_run_node(struct sd_run *r, const struct sd_node *n, const cJSON *v, const struct sd_way *way, const struct sd_scope *scope,
		 struct sd_marks *marks)
{
	struct sd_scope entered = {scope, n->resource};
	struct sd_spot at = {n, v, way, &entered, marks};
	bool ok;

	if (n->always)
		return true;
	if (n->never)
		return sd_run_violation(r, way, "false", "is not allowed here");
	if (scope != NULL && scope->resource == n->resource)
		at.scope = scope;
	if (!sd_run_spend(r, 1))
		return false;
	if (r->depth == SD_SCHEMA_DEPTH_MAX)
		return give_up(r, way, "the schema goes too deep, or round in circles");
	r->depth++;
	if (marks != NULL || n->unevaluated_items != NULL || n->unevaluated_properties != NULL)
		ok = check_marked(r, &at);
	else
		ok = check_node(r, &at);
	r->depth--;
	return ok && !r->over;
}

bool sd_schema_validate(const struct sd_schema *s, const cJSON *value, struct sd_violations *out)
{
	struct sd_run r = {.root = value, .out = out, .work = SD_SCHEMA_WORK_MAX};
	bool ok;

	if (out != NULL) {
		out->list = sd_arena_alloc(out->arena, SD_SCHEMA_VIOLATIONS_MAX * sizeof *out->list);
		out->n = 0;
		out->more = false;
	}
	ok = sd_run_node(&r, s->root, value, NULL, NULL, NULL);
	pcre2_match_data_free(r.match_data);
	pcre2_match_context_free(r.match);
	return ok;
}
