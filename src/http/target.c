/*
 * Text of a request taken apart.  Everything here reads bytes a stranger sent:
 * lengths are explicit, nothing is assumed to end, nothing is guessed.
 */
#include "http/target.h"

#include "base/utf8.h"

#include <string.h>
#include <strings.h>

static int hexval(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_utf8(const char *s, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = sd_utf8_len((const unsigned char *)s + i, n - i);
		if (len == 0)
			return false;
	}
	return true;
}

ptrdiff_t sd_percent_decode(const char *s, size_t n, bool plus, char *out)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (c == '%') {
			int hi = i + 1 < n ? hexval(s[i + 1]) : -1;
			int lo = i + 2 < n ? hexval(s[i + 2]) : -1;

			if (hi < 0 || lo < 0 || (hi | lo) == 0)
				return -1;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		} else if (c == '\0') {
			return -1;
		}
		out[o++] = c;
	}
	out[o] = '\0';
	return is_utf8(out, o) ? (ptrdiff_t)o : -1;
}

static size_t count_byte(const char *s, size_t n, char c)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		k += s[i] == c;
	return k;
}

static int bad_encoding(const char *what, struct sd_err *err)
{
	return sd_err_set(err, SD_ERR_PERMANENT, "the %s has a broken percent-encoding or is not UTF-8", what);
}

int sd_pairs_parse(const char *what, const char *s, size_t n, struct sd_arena *arena, struct sd_pair **pairs, size_t *npairs,
		   struct sd_err *err)
{
	size_t max = n ? count_byte(s, n, '&') + 1 : 0, k = 0;
	const char *end = s + n;
	char *out;

	*pairs = NULL;
	*npairs = 0;
	if (max == 0)
		return 0;
	if (max > SD_QUERY_MAX_PAIRS)
		return sd_err_set(err, SD_ERR_PERMANENT, "the %s has %zu parameters, more than %d", what, max, SD_QUERY_MAX_PAIRS);
	*pairs = sd_arena_alloc(arena, max * sizeof(**pairs));
	out = sd_arena_alloc(arena, n + 2 * max); /* decoding never grows; each name and value gets its '\0' */
	while (s < end) {
		const char *amp = memchr(s, '&', (size_t)(end - s)), *stop = amp ? amp : end;
		const char *eq = memchr(s, '=', (size_t)(stop - s)), *name_end = eq ? eq : stop;
		struct sd_pair *p = &(*pairs)[k];
		ptrdiff_t len;

		if (stop == s) {
			s = stop + 1;
			continue;
		}
		p->name = out;
		len = sd_percent_decode(s, (size_t)(name_end - s), true, out);
		if (len < 0)
			return bad_encoding(what, err);
		out += len + 1;
		p->value = out;
		len = eq ? sd_percent_decode(eq + 1, (size_t)(stop - eq - 1), true, out) : sd_percent_decode("", 0, true, out);
		if (len < 0)
			return bad_encoding(what, err);
		p->value_len = (size_t)len;
		out += len + 1;
		k++;
		s = stop + 1;
	}
	*npairs = k;
	return 0;
}

static bool is_json_type(const char *s, size_t n)
{
	const char *slash = memchr(s, '/', n);

	if (n == 16 && strncasecmp(s, "application/json", 16) == 0)
		return true;
	return slash && n - (size_t)(slash - s) > 6 && strncasecmp(s + n - 5, "+json", 5) == 0;
}

/* Does "; charset=…" name anything but UTF-8 (or its subset ASCII)? */
static bool foreign_charset(const char *s, size_t n)
{
	const char *end = s + n;

	while (s < end) {
		const char *semi = memchr(s, ';', (size_t)(end - s)), *stop = semi ? semi : end, *v;
		size_t len;

		while (s < stop && (*s == ' ' || *s == '\t'))
			s++;
		if (stop - s > 8 && strncasecmp(s, "charset=", 8) == 0) {
			v = s + 8;
			len = (size_t)(stop - v);
			while (len && (v[len - 1] == ' ' || v[len - 1] == '\t'))
				len--;
			if (len >= 2 && v[0] == '"' && v[len - 1] == '"') {
				v++;
				len -= 2;
			}
			return !(len == 5 && strncasecmp(v, "utf-8", 5) == 0) && !(len == 4 && strncasecmp(v, "utf8", 4) == 0) &&
			       !(len == 8 && strncasecmp(v, "us-ascii", 8) == 0);
		}
		s = stop + 1;
	}
	return false;
}

enum sd_media sd_media_of(const char *s, size_t n)
{
	static const char form[] = "application/x-www-form-urlencoded";
	const char *semi;
	size_t len;

	if (!s)
		return SD_MEDIA_NONE;
	semi = memchr(s, ';', n);
	len = semi ? (size_t)(semi - s) : n;
	while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	if (len == 0)
		return SD_MEDIA_NONE;
	if (semi && foreign_charset(semi + 1, n - (size_t)(semi + 1 - s)))
		return SD_MEDIA_OTHER;
	if (is_json_type(s, len))
		return SD_MEDIA_JSON;
	if (len == strlen(form) && strncasecmp(s, form, len) == 0)
		return SD_MEDIA_FORM;
	return len > 5 && strncasecmp(s, "text/", 5) == 0 ? SD_MEDIA_TEXT : SD_MEDIA_OTHER;
}

static const char *skip_space(const char *s, const char *end)
{
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	return s;
}

int sd_prefer_wait(const char *s, size_t n)
{
	for (const char *end = s + n, *stop; s < end; s = stop + 1) {
		int seconds = 0, digits = 0;

		stop = memchr(s, ',', (size_t)(end - s));
		stop = stop ? stop : end;
		s = skip_space(s, stop);
		if (stop - s < 4 || strncasecmp(s, "wait", 4) != 0)
			continue;
		s = skip_space(s + 4, stop);
		if (s == stop || *s != '=')
			continue;
		s = skip_space(s + 1, stop);
		bool quoted = s < stop && *s == '"';
		for (s += quoted; s < stop && *s >= '0' && *s <= '9'; s++, digits++)
			seconds = seconds < 86400 ? seconds * 10 + (*s - '0') : 86400;
		if (quoted && (s == stop || *s++ != '"'))
			continue;
		s = skip_space(s, stop);
		if (digits > 0 && (s == stop || *s == ';'))
			return seconds < 86400 ? seconds : 86400;
	}
	return -1;
}

/* n lower-case hex digits; W3C forbids capitals here. */
static bool lower_hex(const char *s, size_t n, bool *all_zero)
{
	*all_zero = true;
	for (size_t i = 0; i < n; i++) {
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
		if (s[i] != '0')
			*all_zero = false;
	}
	return true;
}

bool sd_traceparent_parse(const char *s, size_t n, char uuid[37])
{
	static const int group[] = {8, 4, 4, 4, 12};
	bool zero;
	char *o = uuid;

	if (n < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-')
		return false;
	if (!lower_hex(s, 2, &zero) || memcmp(s, "ff", 2) == 0)
		return false;
	if (zero ? n != 55 : (n > 55 && s[55] != '-'))
		return false;
	if (!lower_hex(s + 3, 32, &zero) || zero || !lower_hex(s + 36, 16, &zero) || zero || !lower_hex(s + 53, 2, &zero))
		return false;
	s += 3;
	for (int g = 0; g < 5; g++) {
		memcpy(o, s, (size_t)group[g]);
		s += group[g];
		o += group[g];
		*o++ = g < 4 ? '-' : '\0';
	}
	return true;
}

void sd_traceparent_format(const char *uuid, uint64_t span, char out[56])
{
	static const char hex[] = "0123456789abcdef";
	char *o = out;

	memcpy(o, "00-", 3);
	o += 3;
	for (const char *p = uuid; *p && o < out + 35; p++)
		if (*p != '-')
			*o++ = *p;
	*o++ = '-';
	if (span == 0)
		span = 1;
	for (int shift = 60; shift >= 0; shift -= 4)
		*o++ = hex[span >> shift & 15];
	memcpy(o, "-01", 4);
}
