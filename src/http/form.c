/*
 * Bodies as JSON.
 *
 * A form's shape is the one of a query string in Express: a name that is there
 * once gives its text, one that is there more than once an array.  What the
 * values mean (a number, a boolean, a list of one) is for the schema to say
 * (base/schema.h, sd_schema_coerce).  Names are taken as they are: "a[b]" is
 * the name "a[b]", nothing is nested.
 */
#include "http/form.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct name {
	const char *name;
	size_t at;
};

static int by_name(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* For each pair the next one of its name (0: none; no pair comes before the first), and whether there is one before it. */
static void link_names(const struct sd_pair *pairs, size_t n, struct sd_arena *arena, size_t **next, bool **later)
{
	struct name *names = sd_arena_alloc(arena, (n + 1) * sizeof(*names));

	*next = sd_arena_zalloc(arena, (n + 1) * sizeof(**next));
	*later = sd_arena_zalloc(arena, n + 1);
	for (size_t i = 0; i < n; i++)
		names[i] = (struct name){pairs[i].name, i};
	qsort(names, n, sizeof(*names), by_name);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(names[i - 1].name, names[i].name) != 0)
			continue;
		(*next)[names[i - 1].at] = names[i].at;
		(*later)[names[i].at] = true;
	}
}

static void put_values(struct sd_buf *b, const struct sd_pair *pairs, const size_t *next, size_t at)
{
	bool many = next[at] != 0;

	sd_buf_json_str(b, pairs[at].name);
	sd_buf_str(b, many ? ":[" : ":");
	sd_buf_json(b, pairs[at].value, pairs[at].value_len);
	while ((at = next[at]) != 0) {
		sd_buf_chr(b, ',');
		sd_buf_json(b, pairs[at].value, pairs[at].value_len);
	}
	if (many)
		sd_buf_chr(b, ']');
}

static int form_json(const char *p, size_t n, struct sd_arena *arena, struct sd_buf *b, struct sd_err *err)
{
	struct sd_pair *pairs;
	size_t npairs, *next;
	bool *later;

	if (sd_pairs_parse("form", p, n, arena, &pairs, &npairs, err) != 0)
		return -1;
	link_names(pairs, npairs, arena, &next, &later);
	sd_buf_chr(b, '{');
	for (size_t i = 0; i < npairs; i++) {
		if (later[i])
			continue;
		if (b->len > 1)
			sd_buf_chr(b, ',');
		put_values(b, pairs, next, i);
	}
	sd_buf_chr(b, '}');
	return 0;
}

static int text_json(const char *p, size_t n, struct sd_buf *b, struct sd_err *err)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = sd_utf8_len((const unsigned char *)p + i, n - i);
		if (len == 0 || p[i] == '\0')
			return sd_err_set(err, SD_ERR_PERMANENT, len == 0 ? "the text is not valid UTF-8 at byte %zu" : "the text has a NUL at byte %zu",
					  i + 1);
	}
	sd_buf_json(b, p, n);
	return 0;
}

int sd_body_json(enum sd_media media, const char *p, size_t n, struct sd_arena *arena, const char **json, size_t *len, struct sd_err *err)
{
	struct sd_buf b = SD_BUF_INIT;
	int rc;

	if (media == SD_MEDIA_JSON) {
		*json = p;
		*len = n;
		return sd_json_check(p, n, err);
	}
	if (media != SD_MEDIA_FORM && media != SD_MEDIA_TEXT) {
		*json = "null";
		*len = 4;
		return 0;
	}
	rc = media == SD_MEDIA_FORM ? form_json(p, n, arena, &b, err) : text_json(p, n, &b, err);
	if (rc == 0) {
		*json = sd_arena_memdup(arena, b.data, b.len);
		*len = b.len;
	}
	sd_buf_fini(&b);
	return rc;
}
