/*
 * Heads are taken line by line when they are complete; of an incomplete one
 * only the request line is judged, so that garbage is refused at once.  Bodies
 * are walked over: a length is counted down, a chunked one goes through a small
 * state machine.
 *
 * Lines may end with a bare LF in heads, as nginx has it; not in chunked bodies,
 * where proxies are known to differ.
 */
#include "http/head.h"

#include <string.h>
#include <strings.h>

#define MAX_METHOD 32
#define MAX_EXTENSIONS 4096 /* bytes of chunk extensions in one body */
#define VERSION_LEN 8	    /* HTTP/1.1 */

enum { HEAD, BODY, CHUNK_SIZE, CHUNK_EXT, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF, TRAILER, TRAILER_LINE, TRAILER_LF, END_LF };

static const char broken_chunk[] = "the chunked encoding of the body is broken";

static bool refuse(struct sd_scan *s, int status, const char *code, const char *message)
{
	s->status = status;
	s->code = code;
	s->message = message;
	return false;
}

static bool bad(struct sd_scan *s, const char *message)
{
	return refuse(s, 400, "bad_request", message);
}

static bool too_large(struct sd_scan *s)
{
	return refuse(s, 431, "head_too_large", "the request's head is larger than http.headerLimit, or has more than 100 fields");
}

static inline bool is_token(char c)
{
	static const bool token[256] = {
		['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true,
		['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true,
		['`'] = true, ['|'] = true, ['~'] = true,
	};

	return token[(unsigned char)c];
}

static inline bool is_visible(char c)
{
	return (unsigned char)c > ' ' && c != '\x7f';
}

static inline size_t span(const char *p, size_t n, bool (*is)(char c))
{
	size_t i = 0;

	while (i < n && is(p[i]))
		i++;
	return i;
}

bool sd_head_method_ok(const char *method, size_t n)
{
	return n > 0 && n <= MAX_METHOD && span(method, n, is_token) == n;
}

/* --- the request line --- */

static bool target_form(struct sd_scan *s, const char *method, size_t mlen, const char *t, size_t n)
{
	if (t[0] == '/' || (n > 7 && strncasecmp(t, "http://", 7) == 0) || (n > 8 && strncasecmp(t, "https://", 8) == 0))
		return true;
	if (n == 1 && t[0] == '*' && mlen == 7 && memcmp(method, "OPTIONS", 7) == 0)
		return true;
	if (mlen == 7 && memcmp(method, "CONNECT", 7) == 0)
		return refuse(s, 501, "not_implemented", "this is no proxy: CONNECT is not served");
	return bad(s, "the request target is neither a path nor an http URL");
}

static bool version(struct sd_scan *s, const char *v, size_t n)
{
	if (n != VERSION_LEN || memcmp(v, "HTTP/", 5) != 0 || v[6] != '.' || v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9')
		return bad(s, "the request line does not end with an HTTP version");
	if (v[5] != '1')
		return refuse(s, 505, "http_version", "only HTTP/1.0 and HTTP/1.1 are spoken here");
	return true;
}

/* A request line or, when !whole, its beginning. */
static bool request_line(struct sd_scan *s, const char *p, size_t n, bool whole, const struct sd_scan_limits *limits)
{
	size_t method = span(p, n < MAX_METHOD + 1 ? n : MAX_METHOD + 1, is_token), target;
	const char *t = p + method + 1;

	if (method == n && !whole)
		return method <= MAX_METHOD || bad(s, "the request's method is too long");
	if (method == 0 || method > MAX_METHOD || p[method] != ' ')
		return bad(s, "the request line does not begin with a method");
	target = span(t, n - method - 1, is_visible);
	if (target > limits->target)
		return refuse(s, 414, "uri_too_long", "the request target is longer than http.urlLimit");
	if (method + 1 + target == n && !whole)
		return true;
	if (target == 0 || method + 1 + target == n || t[target] != ' ')
		return bad(s, "the request target has a space or a control character, or there is none");
	n -= method + 2 + target;
	if (!whole)
		return n <= VERSION_LEN + 1 || bad(s, "the request line does not end with an HTTP version");
	return version(s, t + target + 1, n) && target_form(s, p, method, t, target);
}

/* --- header fields --- */

struct fields {
	unsigned n, lengths, encodings, hosts;
	uint64_t length;
};

static bool is_name(const char *name, size_t n, const char *want)
{
	return n == strlen(want) && strncasecmp(name, want, n) == 0;
}

static bool content_length(struct sd_scan *s, struct fields *f, const char *v, size_t n)
{
	if (f->lengths++)
		return bad(s, "Content-Length is given twice");
	if (n == 0 || n > 18)
		return bad(s, "Content-Length is not a number");
	for (size_t i = 0; i < n; i++) {
		if (v[i] < '0' || v[i] > '9')
			return bad(s, "Content-Length is not a number");
		f->length = f->length * 10 + (uint64_t)(v[i] - '0');
	}
	return true;
}

static bool transfer_encoding(struct sd_scan *s, struct fields *f, const char *v, size_t n)
{
	if (f->encodings++)
		return bad(s, "Transfer-Encoding is given twice");
	if (!is_name(v, n, "chunked"))
		return refuse(s, 501, "not_implemented", "the only Transfer-Encoding taken is chunked");
	return true;
}

/* RFC 3986's reg-name and IP-literal, and a port, by their characters. */
static bool host(struct sd_scan *s, struct fields *f, const char *v, size_t n)
{
	if (f->hosts++)
		return bad(s, "several Host headers");
	for (size_t i = 0; i < n; i++)
		if (!is_visible(v[i]) || strchr("/?#@\\\"<>^`{|}", v[i]))
			return bad(s, "the Host header is no host name");
	return true;
}

static bool field(struct sd_scan *s, struct fields *f, const char *p, size_t n)
{
	size_t name = span(p, n, is_token);
	const char *v = p + name + 1, *end = p + n;

	if (++f->n > SD_HEAD_MAX_FIELDS)
		return too_large(s);
	if (name == 0 || name == n || p[name] != ':')
		return bad(s, "a header line is folded or has no proper name");
	for (const char *c = v; c < end; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == '\x7f')
			return bad(s, "a header has a control character");
	while (v < end && (*v == ' ' || *v == '\t'))
		v++;
	while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (is_name(p, name, "content-length"))
		return content_length(s, f, v, (size_t)(end - v));
	if (is_name(p, name, "transfer-encoding"))
		return transfer_encoding(s, f, v, (size_t)(end - v));
	if (is_name(p, name, "host"))
		return host(s, f, v, (size_t)(end - v));
	return true;
}

/* --- heads --- */

static const char *end_of_line(const char *p, const char *end, size_t *len)
{
	const char *nl = memchr(p, '\n', (size_t)(end - p));

	if (nl)
		*len = (size_t)(nl - p) - (nl > p && nl[-1] == '\r');
	return nl ? nl + 1 : NULL;
}

/* The size of the head at p up to its empty line; 0: not all is there.  at: where its first line begins. */
static size_t head_size(struct sd_scan *s, const char *p, size_t n, size_t at)
{
	const char *end = p + n, *c = p + (s->searched > at ? s->searched : at);

	while ((c = memchr(c, '\n', (size_t)(end - c)))) {
		c++;
		if (c < end && *c == '\n')
			return (size_t)(c + 1 - p);
		if (end - c > 1 && c[0] == '\r' && c[1] == '\n')
			return (size_t)(c + 2 - p);
		if (end - c <= 1) /* it may go on with the empty line */
			break;
	}
	s->searched = n > 3 ? n - 3 : 0;
	return 0;
}

static void complete(struct sd_scan *s)
{
	s->messages++;
	s->state = HEAD;
	s->searched = 0;
}

static bool begin_body(struct sd_scan *s, const struct fields *f, bool http10)
{
	if (f->lengths && f->encodings)
		return bad(s, "the length of the body is given twice (Content-Length, Transfer-Encoding)");
	if (f->encodings && http10)
		return bad(s, "Transfer-Encoding in an HTTP/1.0 request");
	if (f->hosts == 0 && !http10)
		return bad(s, "no Host header");
	s->heads++;
	s->left = f->length;
	s->digits = 0;
	s->extra = 0;
	if (f->encodings)
		s->state = CHUNK_SIZE;
	else if (f->length > 0)
		s->state = BODY;
	else
		complete(s);
	return true;
}

/* A head that is all there, without the empty line in front. */
static bool whole_head(struct sd_scan *s, const char *p, size_t n, const struct sd_scan_limits *limits)
{
	const char *end = p + n, *next;
	struct fields f = {0};
	size_t len = 0;
	bool http10;

	next = end_of_line(p, end, &len);
	if (!next || !request_line(s, p, len, true, limits))
		return s->status == 0 && bad(s, "the request line is broken");
	http10 = p[len - 1] == '0';
	for (p = next; (next = end_of_line(p, end, &len)) && len > 0; p = next)
		if (!field(s, &f, p, len))
			return false;
	return begin_body(s, &f, http10);
}

static size_t feed_head(struct sd_scan *s, const char *p, size_t n, const struct sd_scan_limits *limits)
{
	size_t at = n > 0 && p[0] == '\n' ? 1 : n > 1 && p[0] == '\r' && p[1] == '\n' ? 2 : 0; /* one empty line (RFC 9112, 2.2) */
	size_t size, line = 0;

	if (n == at || (n == 1 && p[0] == '\r'))
		return 0;
	size = head_size(s, p, n, at);
	if (size > limits->head || (size == 0 && n > limits->head)) {
		const char *nl = memchr(p + at, '\n', n - at);

		if (request_line(s, p + at, nl ? (size_t)(nl - p) - at : n - at, false, limits)) /* the target may be to blame */
			too_large(s);
		return 0;
	}
	if (size > 0)
		return whole_head(s, p + at, size - at, limits) ? size : 0;
	if (!end_of_line(p + at, p + n, &line)) {
		line = n - at;
		request_line(s, p + at, line - (p[n - 1] == '\r'), false, limits);
	} else {
		request_line(s, p + at, line, true, limits);
	}
	return 0;
}

/* --- bodies --- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
		return (c | 32) - 'a' + 10;
	return -1;
}

static bool chunk_size(struct sd_scan *s, char c)
{
	int v = hex_value(c);

	if (v >= 0 && s->digits < 15) {
		s->left = (s->digits ? s->left : 0) * 16 + (uint64_t)v;
		s->digits++;
		return true;
	}
	if (s->digits == 0 || v >= 0 || (c != ';' && c != ' ' && c != '\t' && c != '\r'))
		return bad(s, broken_chunk);
	s->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
	return true;
}

static bool chunk_extension(struct sd_scan *s, char c)
{
	if (c == '\r')
		s->state = CHUNK_SIZE_LF;
	else if (((unsigned char)c < ' ' && c != '\t') || ++s->extra > MAX_EXTENSIONS)
		return bad(s, broken_chunk);
	return true;
}

static bool trailer(struct sd_scan *s, char c, const struct sd_scan_limits *limits)
{
	if (c == '\r')
		s->state = s->state == TRAILER ? END_LF : TRAILER_LF;
	else if ((unsigned char)c < ' ' && c != '\t')
		return bad(s, broken_chunk);
	else if (++s->extra > limits->head)
		return too_large(s);
	else
		s->state = TRAILER_LINE;
	return true;
}

static bool expect(struct sd_scan *s, char c, char want, int then)
{
	if (c != want)
		return bad(s, broken_chunk);
	s->state = then;
	return true;
}

/* One byte of a chunked body that is not data. */
static bool chunk_byte(struct sd_scan *s, char c, const struct sd_scan_limits *limits)
{
	switch (s->state) {
	case CHUNK_SIZE: return chunk_size(s, c);
	case CHUNK_EXT: return chunk_extension(s, c);
	case CHUNK_SIZE_LF:
		s->digits = 0;
		return expect(s, c, '\n', s->left ? CHUNK_DATA : TRAILER);
	case CHUNK_CR: return expect(s, c, '\r', CHUNK_LF);
	case CHUNK_LF: return expect(s, c, '\n', CHUNK_SIZE);
	case TRAILER_LF: return expect(s, c, '\n', TRAILER);
	case END_LF:
		if (!expect(s, c, '\n', HEAD))
			return false;
		complete(s);
		return true;
	default: return trailer(s, c, limits);
	}
}

static size_t feed_body(struct sd_scan *s, const char *p, size_t n, const struct sd_scan_limits *limits)
{
	size_t k;

	if (s->state != BODY && s->state != CHUNK_DATA)
		return chunk_byte(s, *p, limits) ? 1 : 0;
	k = s->left < n ? (size_t)s->left : n;
	s->left -= k;
	if (s->left == 0 && s->state == BODY)
		complete(s);
	else if (s->left == 0)
		s->state = CHUNK_CR;
	return k;
}

bool sd_scan_in_body(const struct sd_scan *s)
{
	return s->state != HEAD;
}

size_t sd_scan_feed(struct sd_scan *s, const char *p, size_t n, const struct sd_scan_limits *limits)
{
	size_t at = 0, k = 1;

	while (at < n && k > 0 && s->status == 0) {
		k = s->state == HEAD ? feed_head(s, p + at, n - at, limits) : feed_body(s, p + at, n - at, limits);
		at += k;
	}
	return at;
}
