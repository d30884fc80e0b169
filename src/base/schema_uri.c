/* Resolving a URI reference against a base: RFC 3986, section 5.2, on strings. */
#include "base/schema_impl.h"

#include <ctype.h>
#include <string.h>

struct part {
	const char *at;
	size_t len;
};
struct uri {
	struct part scheme, authority, path, query; /* at NULL: absent */
};

static struct uri split(const char *s, const char *end)
{
	struct uri u = {{NULL, 0}, {NULL, 0}, {s, 0}, {NULL, 0}};
	const char *p = s;

	while (p < end && (isalnum((unsigned char)*p) || strchr("+-.", *p) != NULL))
		p++;
	if (p > s && p < end && *p == ':' && isalpha((unsigned char)*s)) {
		u.scheme = (struct part){s, (size_t)(p - s)};
		s = p + 1;
	}
	if (end - s >= 2 && s[0] == '/' && s[1] == '/') {
		for (p = s + 2; p < end && *p != '/' && *p != '?'; p++)
			;
		u.authority = (struct part){s + 2, (size_t)(p - s - 2)};
		s = p;
	}
	p = memchr(s, '?', (size_t)(end - s));
	u.path = (struct part){s, (size_t)((p != NULL ? p : end) - s)};
	if (p != NULL)
		u.query = (struct part){p + 1, (size_t)(end - p - 1)};
	return u;
}

/* remove_dot_segments in place. */
static void remove_dots(char *path)
{
	char *in = path, *out = path;

	while (*in != '\0') {
		size_t n = 1 + strcspn(in + 1, "/"); /* "/segment", or the first one without '/' */
		const char *segment = *in == '/' ? in + 1 : in;
		size_t len = n - (size_t)(segment - in);
		bool dot = len == 1 && segment[0] == '.', dots = len == 2 && segment[0] == '.' && segment[1] == '.';

		if (dots)
			while (out > path && *--out != '/')
				;
		if (!dot && !dots) {
			memmove(out, in, n);
			out += n;
		} else if (in[n] == '\0' && *in == '/') {
			*out++ = '/';
		}
		in += n;
	}
	*out = '\0';
}

/* The base's path up to its last '/', then the reference's. */
static void merge(struct sd_buf *b, const struct uri *base, const struct part *path)
{
	size_t keep = base->path.len;

	while (keep > 0 && base->path.at[keep - 1] != '/')
		keep--;
	if (base->authority.at != NULL && base->path.len == 0)
		sd_buf_chr(b, '/');
	sd_buf_append(b, base->path.at, keep);
	sd_buf_append(b, path->at, path->len);
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *decode(struct sd_arena *a, const char *s)
{
	char *out = sd_arena_strdup(a, s), *o = out;

	for (; *s != '\0'; s++) {
		if (s[0] == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0 && (hex(s[1]) | hex(s[2])) != 0) {
			*o++ = (char)(hex(s[1]) * 16 + hex(s[2]));
			s += 2;
		} else {
			*o++ = *s;
		}
	}
	*o = '\0';
	return out;
}

const char *sd_uri_resolve(struct sd_arena *a, const char *base, const char *reference, const char **fragment)
{
	const char *hash = strchr(reference, '#');
	const char *end = hash != NULL ? hash : reference + strlen(reference);
	struct uri r = split(reference, end), b = split(base, base + strlen(base));
	const struct uri *authority = r.scheme.at != NULL || r.authority.at != NULL ? &r : &b;
	const struct part *scheme = r.scheme.at != NULL ? &r.scheme : &b.scheme, *query = &r.query;
	struct sd_buf path = SD_BUF_INIT, out = SD_BUF_INIT;
	const char *result;

	if (fragment != NULL)
		*fragment = hash != NULL ? decode(a, hash + 1) : "";
	if (end == reference)
		return base;
	if (authority == &r || (r.path.len > 0 && r.path.at[0] == '/')) {
		sd_buf_append(&path, r.path.at, r.path.len);
	} else if (r.path.len == 0) {
		sd_buf_append(&path, b.path.at, b.path.len);
		if (r.query.at == NULL)
			query = &b.query;
	} else {
		merge(&path, &b, &r.path);
	}
	sd_buf_append(&path, "", 0);
	if (scheme->at != NULL && (path.len == 0 || path.data[0] == '/'))
		remove_dots(path.data);
	if (scheme->at != NULL)
		sd_buf_printf(&out, "%.*s:", (int)scheme->len, scheme->at);
	if (authority->authority.at != NULL)
		sd_buf_printf(&out, "//%.*s", (int)authority->authority.len, authority->authority.at);
	sd_buf_str(&out, path.data);
	if (query->at != NULL)
		sd_buf_printf(&out, "?%.*s", (int)query->len, query->at);
	result = sd_arena_memdup(a, out.data, out.len);
	sd_buf_fini(&path);
	sd_buf_fini(&out);
	return result;
}
