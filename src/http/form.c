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
#include <string.h>

static void put_values(struct sd_buf *b, const struct sd_pair *pairs, size_t n, size_t at, bool *done)
{
	size_t count = 0;

	sd_buf_json_str(b, pairs[at].name);
	sd_buf_chr(b, ':');
	for (size_t i = at; i < n; i++)
		count += strcmp(pairs[i].name, pairs[at].name) == 0;
	if (count == 1) {
		sd_buf_json(b, pairs[at].value, pairs[at].value_len);
		return;
	}
	sd_buf_chr(b, '[');
	for (size_t i = at; i < n; i++) {
		if (strcmp(pairs[i].name, pairs[at].name) != 0)
			continue;
		if (i > at)
			sd_buf_chr(b, ',');
		sd_buf_json(b, pairs[i].value, pairs[i].value_len);
		done[i] = true;
	}
	sd_buf_chr(b, ']');
}

static int form_json(const char *p, size_t n, struct sd_arena *arena, struct sd_buf *b, struct sd_err *err)
{
	struct sd_pair *pairs;
	size_t npairs;
	bool *done;

	if (sd_pairs_parse("form", p, n, arena, &pairs, &npairs, err) != 0)
		return -1;
	done = sd_arena_zalloc(arena, npairs + 1);
	sd_buf_chr(b, '{');
	for (size_t i = 0; i < npairs; i++) {
		if (done[i])
			continue;
		if (b->len > 1)
			sd_buf_chr(b, ',');
		put_values(b, pairs, npairs, i, done);
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
