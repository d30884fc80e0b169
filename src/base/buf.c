/*
 * A growing byte buffer.
 *
 * Appending can not fail: without memory the process ends (mem.h).  The byte
 * behind len is always '\0'.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sd_buf_fini(struct sd_buf *b)
{
	free(b->data);
	b->data = NULL;
	b->len = b->cap = 0;
}

void sd_buf_reset(struct sd_buf *b)
{
	b->len = 0;
	if (b->data != NULL)
		b->data[0] = '\0';
}

void sd_buf_empty(struct sd_buf *b, size_t keep)
{
	if (b->cap > keep)
		sd_buf_fini(b);
	else
		sd_buf_reset(b);
}

void sd_buf_reserve(struct sd_buf *b, size_t n)
{
	size_t need, cap;

	if (b->data != NULL && n < b->cap - b->len)
		return;
	/* a size no allocator has: let sd_xrealloc end the process as for any other lack of memory */
	need = n < SIZE_MAX / 2 - b->len ? b->len + n + 1 : SIZE_MAX;
	cap = b->cap < SIZE_MAX / 4 ? b->cap * 2 : b->cap;
	if (cap < 64)
		cap = 64;
	if (cap < need)
		cap = need;
	b->data = sd_xrealloc(b->data, cap);
	b->cap = cap;
	b->data[b->len] = '\0';
}

void sd_buf_append(struct sd_buf *b, const void *p, size_t n)
{
	sd_buf_reserve(b, n);
	if (n > 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void sd_buf_str(struct sd_buf *b, const char *s)
{
	sd_buf_append(b, s, strlen(s));
}

void sd_buf_chr(struct sd_buf *b, char c)
{
	sd_buf_append(b, &c, 1);
}

void sd_buf_printf(struct sd_buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	sd_buf_reserve(b, 128);
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n < 0) { /* an invalid conversion: nothing to append */
		b->data[b->len] = '\0';
		return;
	}
	if ((size_t)n >= b->cap - b->len) {
		sd_buf_reserve(b, (size_t)n);
		va_start(ap, fmt);
		vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

void sd_buf_i64(struct sd_buf *b, int64_t v)
{
	char digits[24];
	char *p = digits + sizeof digits;
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do
		*--p = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	if (v < 0)
		*--p = '-';
	sd_buf_append(b, p, (size_t)(digits + sizeof digits - p));
}

void sd_buf_consume(struct sd_buf *b, size_t n)
{
	if (n >= b->len) {
		sd_buf_reset(b);
		return;
	}
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

/* One byte that JSON wants escaped. */
static void json_escape(struct sd_buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		sd_buf_append(b, "\\\"", 2);
		break;
	case '\\':
		sd_buf_append(b, "\\\\", 2);
		break;
	case '\n':
		sd_buf_append(b, "\\n", 2);
		break;
	case '\r':
		sd_buf_append(b, "\\r", 2);
		break;
	case '\t':
		sd_buf_append(b, "\\t", 2);
		break;
	default:
		sd_buf_printf(b, "\\u%04x", c);
	}
}

void sd_buf_json(struct sd_buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n, *run = p;

	sd_buf_reserve(b, n + 2);
	sd_buf_chr(b, '"');
	while (p < end) {
		size_t len = sd_utf8_len(p, (size_t)(end - p));

		if (len > 1 || (len == 1 && *p >= 0x20 && *p != '"' && *p != '\\')) {
			p += len;
			continue;
		}
		sd_buf_append(b, run, (size_t)(p - run));
		if (len == 0)
			sd_buf_append(b, "\xef\xbf\xbd", 3); /* U+FFFD: the output is UTF-8 whatever the input was */
		else
			json_escape(b, *p);
		run = ++p;
	}
	sd_buf_append(b, run, (size_t)(p - run));
	sd_buf_chr(b, '"');
}

void sd_buf_json_str(struct sd_buf *b, const char *s)
{
	if (s == NULL)
		sd_buf_append(b, "null", 4);
	else
		sd_buf_json(b, s, strlen(s));
}

void sd_buf_json_strs(struct sd_buf *b, const char *const *list, size_t n)
{
	sd_buf_chr(b, '[');
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			sd_buf_chr(b, ',');
		sd_buf_json_str(b, list[i]);
	}
	sd_buf_chr(b, ']');
}

/* An element never ends in '{' (it is quoted, a number or NULL), so '{' means that none came yet. */
static void pgarray_comma(struct sd_buf *b)
{
	if (b->len > 0 && b->data[b->len - 1] != '{')
		sd_buf_chr(b, ',');
}

void sd_buf_pgarray(struct sd_buf *b, const char *s, size_t n)
{
	size_t i, run = 0;

	pgarray_comma(b);
	if (s == NULL) {
		sd_buf_append(b, "NULL", 4);
		return;
	}
	sd_buf_reserve(b, n + 2);
	sd_buf_chr(b, '"');
	for (i = 0; i < n; i++) {
		if (s[i] == '"' || s[i] == '\\') {
			sd_buf_append(b, s + run, i - run);
			sd_buf_chr(b, '\\');
			run = i;
		}
	}
	sd_buf_append(b, s + run, n - run);
	sd_buf_chr(b, '"');
}

void sd_buf_pgarray_i64(struct sd_buf *b, int64_t v)
{
	pgarray_comma(b);
	sd_buf_i64(b, v);
}

char *sd_buf_take(struct sd_buf *b, size_t *len)
{
	char *data;

	sd_buf_reserve(b, 0);
	data = b->data;
	if (len != NULL)
		*len = b->len;
	b->data = NULL;
	b->len = b->cap = 0;
	return data;
}
