/*
 * JSON at the door: a validating scanner, and reading of trees.
 *
 * The scanner is a loop with one bit a level (object or array) instead of
 * recursion.  It accepts exactly RFC 8259 in valid UTF-8, minus what
 * PostgreSQL's jsonb refuses, so that no payload accepted here fails later in
 * the database for its form.  Line and column are counted only for an error.
 */
#include "base/json.h"
#include "base/decimal.h"
#include "base/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scan {
	const unsigned char *start, *p, *end;
	const unsigned char *bad; /* where the error is */
	const char *why;
	unsigned depth;
	unsigned char in_object[SD_JSON_MAX_DEPTH / 8];
};

static int fail(struct scan *s, const unsigned char *at, const char *why)
{
	s->bad = at;
	s->why = why;
	return -1;
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static bool top_is_object(const struct scan *s)
{
	return s->depth > 0 && (s->in_object[(s->depth - 1) / 8] >> ((s->depth - 1) % 8) & 1) != 0;
}

static int push(struct scan *s, bool object)
{
	unsigned char bit = (unsigned char)(1u << (s->depth % 8));

	if (s->depth == SD_JSON_MAX_DEPTH)
		return fail(s, s->p, "nested too deep");
	if (object)
		s->in_object[s->depth / 8] |= bit;
	else
		s->in_object[s->depth / 8] &= (unsigned char)~bit;
	s->depth++;
	return 0;
}

/* The four hex digits of \uXXXX behind p; -1 when they are not. */
static long hex4(const struct scan *s, const unsigned char *p)
{
	long v = 0;

	if (s->end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		if (!isxdigit(p[i]))
			return -1;
		v = v * 16 + (isdigit(p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	}
	return v;
}

/* At a backslash within a string; moves past the escape. */
static int scan_escape(struct scan *s)
{
	const unsigned char *at = s->p++;
	long code;

	if (s->p == s->end)
		return fail(s, s->p, "the string does not end");
	if (*s->p != 'u') {
		if (*s->p == '\0' || strchr("\"\\/bfnrt", *s->p) == NULL)
			return fail(s, at, "no such escape in a string");
		s->p++;
		return 0;
	}
	code = hex4(s, s->p + 1);
	if (code < 0)
		return fail(s, at, "\\u needs four hex digits");
	if (code == 0)
		return fail(s, at, "\\u0000 can not be stored");
	if (code >= 0xdc00 && code <= 0xdfff)
		return fail(s, at, "a low surrogate without a high one before it");
	s->p += 5;
	if (code >= 0xd800 && code <= 0xdbff) {
		if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' || (code = hex4(s, s->p + 2)) < 0xdc00 ||
		    code > 0xdfff)
			return fail(s, at, "a high surrogate without a low one behind it");
		s->p += 6;
	}
	return 0;
}

/* At the opening quote; moves past the closing one. */
static int scan_string(struct scan *s)
{
	s->p++;
	while (s->p < s->end) {
		unsigned char c = *s->p;

		if (c == '"') {
			s->p++;
			return 0;
		}
		if (c == '\\') {
			if (scan_escape(s) < 0)
				return -1;
		} else if (c < 0x20) {
			return fail(s, s->p, "a control character in a string must be escaped");
		} else if (c < 0x80) {
			s->p++;
		} else {
			size_t len = sd_utf8_len(s->p, (size_t)(s->end - s->p));

			if (len == 0)
				return fail(s, s->p, "invalid UTF-8");
			s->p += len;
		}
	}
	return fail(s, s->p, "the string does not end");
}

static bool digits(struct scan *s)
{
	const unsigned char *from = s->p;

	while (s->p < s->end && isdigit(*s->p))
		s->p++;
	return s->p > from;
}

static int scan_number(struct scan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0') {
		s->p++;
		if (s->p < s->end && isdigit(*s->p))
			return fail(s, s->p - 1, "a number can not start with 0");
	} else if (!digits(s)) {
		return fail(s, s->p, "a digit was expected");
	}
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!digits(s))
			return fail(s, s->p, "a digit was expected behind the point");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!digits(s))
			return fail(s, s->p, "a digit was expected in the exponent");
	}
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fail(s, s->p, "a value was expected");
	s->p += n;
	return 0;
}

/* A member's name and its colon. */
static int scan_name(struct scan *s, const char *why)
{
	skip_space(s);
	if (s->p == s->end || *s->p != '"')
		return fail(s, s->p, why);
	if (scan_string(s) < 0)
		return -1;
	skip_space(s);
	if (s->p == s->end || *s->p != ':')
		return fail(s, s->p, "':' was expected");
	s->p++;
	return 0;
}

/* Past one scalar or one opening bracket; *opened says which. */
static int scan_value(struct scan *s, bool *opened)
{
	*opened = false;
	skip_space(s);
	if (s->p == s->end)
		return fail(s, s->p, "a value was expected");
	switch (*s->p) {
	case '{':
	case '[':
		if (push(s, *s->p == '{') < 0)
			return -1;
		s->p++;
		*opened = true;
		return 0;
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		if (*s->p == '-' || isdigit(*s->p))
			return scan_number(s);
		return fail(s, s->p, "a value was expected");
	}
}

/* Behind a value: leave what ends here, then stand before the next value.  *done when nothing is open any more. */
static int scan_between(struct scan *s, bool *done)
{
	*done = false;
	for (;;) {
		bool object = top_is_object(s);

		if (s->depth == 0) {
			*done = true;
			return 0;
		}
		skip_space(s);
		if (s->p < s->end && *s->p == (object ? '}' : ']')) {
			s->p++;
			s->depth--;
			continue;
		}
		if (s->p == s->end || *s->p != ',')
			return fail(s, s->p, object ? "',' or '}' was expected" : "',' or ']' was expected");
		s->p++;
		return object ? scan_name(s, "a member's name was expected") : 0;
	}
}

static int scan_all(struct scan *s)
{
	bool opened, done = false;

	while (!done) {
		if (scan_value(s, &opened) < 0)
			return -1;
		if (opened) {
			bool object = top_is_object(s);

			skip_space(s);
			if (s->p == s->end || *s->p != (object ? '}' : ']')) {
				if (object && scan_name(s, "a member's name or '}' was expected") < 0)
					return -1;
				continue;
			}
			s->p++;
			s->depth--;
		}
		if (scan_between(s, &done) < 0)
			return -1;
	}
	skip_space(s);
	if (s->p != s->end)
		return fail(s, s->p, "something follows the value");
	return 0;
}

/* Why and where, with what stands there. */
static int report(const struct scan *s, struct sd_err *err)
{
	unsigned long line = 1, col = 1;
	char found[32];
	size_t len;

	if (err == NULL)
		return -1;
	for (const unsigned char *p = s->start; p < s->bad; p++) {
		if (*p == '\n') {
			line++;
			col = 1;
		} else if ((*p & 0xc0) != 0x80) { /* columns are characters */
			col++;
		}
	}
	len = sd_utf8_len(s->bad, (size_t)(s->end - s->bad));
	if (s->bad == s->end)
		snprintf(found, sizeof found, "the end of the text");
	else if (len == 0 || *s->bad < 0x20 || *s->bad == 0x7f)
		snprintf(found, sizeof found, "byte 0x%02x", *s->bad);
	else
		snprintf(found, sizeof found, "'%.*s'", (int)len, (const char *)s->bad);
	sd_err_set(err, SD_ERR_PERMANENT, "invalid JSON at line %lu, column %lu: %s", line, col, s->why);
	return sd_err_detail(err, "found %s", found);
}

int sd_json_check(const char *text, size_t len, struct sd_err *err)
{
	struct scan s;

	if (text == NULL)
		text = "";
	s.start = s.p = s.bad = (const unsigned char *)text;
	s.end = s.start + len;
	s.why = NULL;
	s.depth = 0;
	return scan_all(&s) == 0 ? 0 : report(&s, err);
}

cJSON *sd_json_parse(const char *text, size_t len, struct sd_err *err)
{
	cJSON *tree;

	if (sd_json_check(text, len, err) < 0)
		return NULL;
	tree = cJSON_ParseWithLength(text, len);
	if (tree == NULL) /* memory aside, upstream's number buffer of 63 characters is the one limit that is left (Debian's has none) */
		sd_err_set(err, SD_ERR_PERMANENT, "JSON with a number of more than 63 characters can not be read as a tree");
	return tree;
}

const cJSON *sd_json_get(const cJSON *obj, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(obj, key);
}

const char *sd_json_str(const cJSON *obj, const char *key, const char *fallback)
{
	const char *s = cJSON_GetStringValue(sd_json_get(obj, key));

	return s != NULL ? s : fallback;
}

int64_t sd_json_int(const cJSON *obj, const char *key, int64_t fallback)
{
	const cJSON *item = sd_json_get(obj, key);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= -0x1p63 && item->valuedouble < 0x1p63))
		return fallback;
	return (int64_t)item->valuedouble;
}

/* The shortest of the usual forms that reads back as the same number. */
static void format_number(char text[SD_DECIMAL_MAX], double v)
{
	if (!isfinite(v)) {
		snprintf(text, SD_DECIMAL_MAX, "null");
	} else if (v == floor(v) && fabs(v) < 0x1p53) {
		snprintf(text, SD_DECIMAL_MAX, "%lld", (long long)v);
	} else {
		sd_decimal_print(text, 15, 'g', v);
		if (sd_decimal_read(text) != v)
			sd_decimal_print(text, 17, 'g', v);
	}
}

/* Is s one JSON number, and this one? */
static bool is_number_text(const char *s, double v)
{
	struct scan scan = {.p = (const unsigned char *)s, .end = (const unsigned char *)s + strlen(s)};

	return scan.p < scan.end && (*s == '-' || isdigit((unsigned char)*s)) && scan_number(&scan) == 0 && scan.p == scan.end &&
	       sd_decimal_read(s) == v;
}

static void print_number(struct sd_buf *b, const cJSON *n)
{
	char text[SD_DECIMAL_MAX];

	if (n->valuestring != NULL && is_number_text(n->valuestring, n->valuedouble)) {
		sd_buf_str(b, n->valuestring);
		return;
	}
	format_number(text, n->valuedouble);
	sd_buf_str(b, text);
}

/* The next number of a text, outside of its strings. */
static const char *next_number(const char *p, size_t *len)
{
	for (; *p != '\0'; p++) {
		if (*p == '"') {
			for (p++; *p != '"' && *p != '\0'; p++)
				if (*p == '\\' && p[1] != '\0')
					p++;
			if (*p == '\0')
				break;
		} else if (*p == '-' || isdigit((unsigned char)*p)) {
			*len = strspn(p, "+-.0123456789eE");
			return p;
		}
	}
	*len = 0;
	return p;
}

/* Up to 15 plain digits are exact in a double and print as they are. */
static bool is_plain(const char *s, size_t len)
{
	return len <= 15 && strspn(s, "-0123456789") >= len;
}

static const char *keep_digits(cJSON *v, const char *p)
{
	char printed[40];
	size_t len;

	if (!cJSON_IsNumber(v)) {
		for (cJSON *child = v->child; child != NULL; child = child->next)
			p = keep_digits(child, p);
		return p;
	}
	p = next_number(p, &len);
	if (is_plain(p, len) || v->valuestring != NULL)
		return p + len;
	format_number(printed, v->valuedouble);
	if (strlen(printed) != len || memcmp(printed, p, len) != 0) {
		v->valuestring = cJSON_malloc(len + 1);
		if (v->valuestring != NULL) {
			memcpy(v->valuestring, p, len);
			v->valuestring[len] = '\0';
		}
	}
	return p + len;
}

void sd_json_keep_digits(cJSON *tree, const char *text)
{
	if (tree != NULL)
		keep_digits(tree, text);
}

static void print_value(struct sd_buf *b, const cJSON *v)
{
	switch (v->type & 0xff) {
	case cJSON_False:
		sd_buf_str(b, "false");
		break;
	case cJSON_True:
		sd_buf_str(b, "true");
		break;
	case cJSON_Number:
		print_number(b, v);
		break;
	case cJSON_String:
		sd_buf_json_str(b, v->valuestring != NULL ? v->valuestring : "");
		break;
	case cJSON_Raw:
		sd_buf_str(b, v->valuestring != NULL ? v->valuestring : "null");
		break;
	default:
		sd_buf_str(b, "null");
	}
}

/* Down and up along the tree: an array of parents instead of recursion, so that depth costs no stack. */
void sd_json_print(struct sd_buf *b, const cJSON *tree)
{
	struct sd_buf parents = SD_BUF_INIT;
	const cJSON *v = tree;
	const cJSON *up;

	if (v == NULL) {
		sd_buf_str(b, "null");
		return;
	}
	for (;;) {
		if (v != tree && v->string != NULL && parents.len > 0) {
			memcpy(&up, parents.data + parents.len - sizeof up, sizeof up);
			if (cJSON_IsObject(up)) {
				sd_buf_json_str(b, v->string);
				sd_buf_chr(b, ':');
			}
		}
		if (cJSON_IsObject(v) || cJSON_IsArray(v)) {
			sd_buf_chr(b, cJSON_IsObject(v) ? '{' : '[');
			if (v->child != NULL) {
				sd_buf_append(&parents, &v, sizeof v);
				v = v->child;
				continue;
			}
			sd_buf_chr(b, cJSON_IsObject(v) ? '}' : ']');
		} else {
			print_value(b, v);
		}
		/* up as long as nothing follows; `tree` itself may have siblings, which are not ours */
		while (parents.len > 0 && v->next == NULL) {
			parents.len -= sizeof v;
			memcpy(&v, parents.data + parents.len, sizeof v);
			sd_buf_chr(b, cJSON_IsObject(v) ? '}' : ']');
			if (parents.len == 0)
				break;
		}
		if (parents.len == 0)
			break;
		v = v->next;
		sd_buf_chr(b, ',');
	}
	sd_buf_fini(&parents);
}
