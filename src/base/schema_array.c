/* Validation of arrays; the marks of what was evaluated. */
#include "base/schema_impl.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- marks ---- */

void sd_marks_fini(struct sd_marks *m)
{
	free(m->bits);
}

static void reserve(struct sd_marks *m, size_t n)
{
	if (n <= m->n)
		return;
	n = n < 64 ? 64 : n * 2;
	m->bits = sd_xrealloc(m->bits, n);
	memset(m->bits + m->n, 0, n - m->n);
	m->n = n;
}

void sd_marks_set(struct sd_marks *m, size_t index)
{
	if (m->all)
		return;
	reserve(m, index + 1);
	m->bits[index] = 1;
}

bool sd_marks_get(const struct sd_marks *m, size_t index)
{
	return m->all || (index < m->n && m->bits[index]);
}

void sd_marks_merge(struct sd_marks *to, const struct sd_marks *from)
{
	to->all = to->all || from->all;
	if (to->all)
		return;
	reserve(to, from->n);
	for (size_t i = 0; i < from->n; i++)
		to->bits[i] |= from->bits[i];
}

/* ---- keywords ---- */

static bool check_items(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	size_t i = 0;
	bool ok = true;
	const cJSON *e;

	cJSON_ArrayForEach(e, at->value) {
		const struct sd_node *item = i < n->prefix.n ? n->prefix.at[i] : n->items;
		struct sd_way way = {at->way, NULL, i};

		if (item == NULL || sd_run_enough(r, ok))
			break;
		ok = sd_run_node(r, item, e, &way, at->scope, NULL) && ok;
		if (at->marks != NULL)
			sd_marks_set(at->marks, i);
		i++;
	}
	return ok;
}

static bool check_contains(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	size_t found = 0, i = 0;
	const cJSON *e;

	cJSON_ArrayForEach(e, at->value) {
		struct sd_way way = {at->way, NULL, i};
		bool fits;

		if (r->over)
			break;
		r->silent++;
		fits = sd_run_node(r, n->contains, e, &way, at->scope, NULL);
		if (!r->over)
			r->silent--;
		found += fits;
		if (fits && at->marks != NULL)
			sd_marks_set(at->marks, i);
		i++;
	}
	if (found < n->min_contains)
		return sd_run_violation(r, at->way, n->min_contains == 1 ? "contains" : "minContains",
					"must contain at least %zu item%s that fit%s, has %zu", n->min_contains, n->min_contains == 1 ? "" : "s",
					n->min_contains == 1 ? "s" : "", found);
	if (found > n->max_contains)
		return sd_run_violation(r, at->way, "maxContains", "must contain at most %zu item%s that fit%s, has %zu", n->max_contains,
					n->max_contains == 1 ? "" : "s", n->max_contains == 1 ? "s" : "", found);
	return true;
}

struct hashed {
	uint64_t hash;
	size_t index;
	const cJSON *item;
};

static int by_hash(const void *a, const void *b)
{
	const struct hashed *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* The first of two equal items, among those sorted by hash; n: there are none. */
static size_t find_twin(struct sd_run *r, const struct hashed *list, size_t n, size_t *twin)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n && list[j].hash == list[i].hash; j++) {
			*twin = list[j].index;
			if (sd_run_equal(r, list[i].item, list[j].item))
				return list[i].index;
			if (r->over)
				return n;
		}
	return n;
}

static bool check_unique(struct sd_run *r, const struct sd_spot *at)
{
	size_t n = (size_t)cJSON_GetArraySize(at->value), i = 0, first, twin = 0;
	long work = LONG_MAX;
	struct hashed *list;
	const cJSON *e;

	if (n < 2)
		return true;
	list = sd_xmalloc(n * sizeof *list);
	cJSON_ArrayForEach(e, at->value) {
		list[i] = (struct hashed){sd_value_hash(e, &work), i, e};
		i++;
	}
	qsort(list, n, sizeof *list, by_hash);
	first = sd_run_spend(r, (LONG_MAX - work) + (long)n) ? find_twin(r, list, n, &twin) : n;
	free(list);
	return first == n ? !r->over : sd_run_violation(r, at->way, "uniqueItems", "items %zu and %zu are equal", first, twin);
}

bool sd_run_array(struct sd_run *r, const struct sd_spot *at)
{
	const struct sd_node *n = at->node;
	bool ok = true;

	if (n->max_items != SIZE_MAX || n->min_items > 0) {
		size_t count = (size_t)cJSON_GetArraySize(at->value);

		if (count > n->max_items)
			ok = sd_run_violation(r, at->way, "maxItems", "must have at most %zu item%s", n->max_items, n->max_items == 1 ? "" : "s");
		if (count < n->min_items)
			ok = sd_run_violation(r, at->way, "minItems", "must have at least %zu item%s", n->min_items, n->min_items == 1 ? "" : "s");
		ok = sd_run_spend(r, (long)count / 8) && ok;
	}
	if (n->unique && !sd_run_enough(r, ok))
		ok = check_unique(r, at) && ok;
	if ((n->items != NULL || n->prefix.n > 0) && !sd_run_enough(r, ok))
		ok = check_items(r, at) && ok;
	if (n->contains != NULL && !sd_run_enough(r, ok))
		ok = check_contains(r, at) && ok;
	return ok;
}

bool sd_run_unevaluated_items(struct sd_run *r, const struct sd_spot *at)
{
	size_t i = 0;
	bool ok = true;
	const cJSON *e;

	if (!cJSON_IsArray(at->value))
		return true;
	cJSON_ArrayForEach(e, at->value) {
		struct sd_way way = {at->way, NULL, i};

		if (sd_marks_get(at->marks, i++) || sd_run_enough(r, ok))
			continue;
		if (at->node->unevaluated_items->never)
			ok = sd_run_violation(r, &way, "unevaluatedItems", "is not an allowed item");
		else
			ok = sd_run_node(r, at->node->unevaluated_items, e, &way, at->scope, NULL) && ok;
	}
	at->marks->all = true;
	return ok;
}
