/*
 * Frames, written and read.  The writer measures nothing ahead: it appends and
 * patches the two lengths at the end.  The reader walks a cursor that, once it
 * ran past the end, stays failed, so that a decoder checks once, at its end.
 */
#include "http/frame.h"

#include <string.h>

#define PREFIX 8 /* the two lengths */

/* --- writing --- */

static void put(struct sd_buf *b, const void *p, size_t n)
{
	sd_buf_append(b, p, n);
}

static void put_u8(struct sd_buf *b, uint8_t v)
{
	put(b, &v, sizeof(v));
}

static void put_u32(struct sd_buf *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_u64(struct sd_buf *b, uint64_t v)
{
	put(b, &v, sizeof(v));
}

static void put_str(struct sd_buf *b, const char *s, size_t n)
{
	put_u32(b, (uint32_t)n);
	if (n)
		put(b, s, n);
	put_u8(b, 0);
}

static void put_cstr(struct sd_buf *b, const char *s)
{
	put_str(b, s ? s : "", s ? strlen(s) : 0);
}

static void put_pairs(struct sd_buf *b, const struct sd_pair *v, size_t n)
{
	put_u32(b, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		put_cstr(b, v[i].name);
		put_str(b, v[i].value, v[i].value_len);
	}
}

static size_t begin(struct sd_buf *b, enum sd_frame_type type)
{
	size_t at = b->len;

	put_u64(b, 0);
	put_u8(b, (uint8_t)type);
	return at;
}

static int end(struct sd_buf *b, size_t at, const char *body, size_t body_len, struct sd_err *err)
{
	size_t head = b->len - at - PREFIX;
	uint32_t word[2];

	if (head > SD_FRAME_MAX_HEAD || body_len > SD_FRAME_MAX - PREFIX - head - 1) {
		b->len = at;
		b->data[at] = '\0';
		return sd_err_set(err, SD_ERR_PERMANENT, "a message of %zu bytes head and %zu bytes body is too large", head, body_len);
	}
	if (body_len)
		put(b, body, body_len);
	put_u8(b, 0);
	word[0] = (uint32_t)(b->len - at - sizeof(uint32_t));
	word[1] = (uint32_t)head;
	memcpy(b->data + at, word, sizeof(word));
	return 0;
}

void sd_frame_put_hello(struct sd_buf *b, const struct sd_frame_hello *f)
{
	size_t at = begin(b, SD_FRAME_HELLO);

	put_u32(b, f->version);
	put_u32(b, f->slot);
	put_u32(b, f->generation);
	(void)!end(b, at, NULL, 0, NULL);
}

int sd_frame_put_request(struct sd_buf *b, const struct sd_frame_request *f, struct sd_err *err)
{
	const struct sd_http_request *h = &f->http;
	size_t at = begin(b, SD_FRAME_REQUEST);

	put_u8(b, (uint8_t)f->media);
	put_u64(b, f->id);
	put_u32(b, f->step);
	put_u32(b, f->trigger);
	put_u64(b, (uint64_t)f->timeout_ms);
	put_cstr(b, f->trace_id);
	put_cstr(b, f->error_id);
	put_cstr(b, h->method);
	put_cstr(b, h->path);
	put_cstr(b, h->remote);
	put_pairs(b, h->params, h->nparams);
	put_pairs(b, h->query, h->nquery);
	put_pairs(b, h->headers, h->nheaders);
	return end(b, at, h->raw_body, h->raw_body_len, err);
}

static size_t put_reply_head(struct sd_buf *b, enum sd_frame_type type, const struct sd_frame_reply *f)
{
	size_t at = begin(b, type);

	put_u64(b, f->id);
	put_u32(b, f->status);
	put_u64(b, (uint64_t)f->handler_us);
	put_pairs(b, f->headers, f->nheaders);
	return at;
}

int sd_frame_put_reply(struct sd_buf *b, const struct sd_frame_reply *f, struct sd_err *err)
{
	return end(b, put_reply_head(b, SD_FRAME_REPLY, f), f->body, f->body_len, err);
}

int sd_frame_put_stream(struct sd_buf *b, const struct sd_frame_reply *f, struct sd_err *err)
{
	return end(b, put_reply_head(b, SD_FRAME_STREAM, f), NULL, 0, err);
}

void sd_frame_put_part(struct sd_buf *b, enum sd_frame_type type, const struct sd_frame_stream *f)
{
	size_t at = begin(b, type);

	put_u64(b, f->id);
	put_u64(b, (uint64_t)f->handler_us);
	put_u8(b, f->complete);
	put_u32(b, f->taken);
	(void)!end(b, at, f->data, f->data_len, NULL);
}

void sd_frame_put_return(struct sd_buf *b, const struct sd_frame_return *f)
{
	size_t at = begin(b, SD_FRAME_RETURN);

	put_u64(b, f->id);
	(void)!end(b, at, NULL, 0, NULL);
}

/* A frame that is its type alone. */
static void put_bare(struct sd_buf *b, enum sd_frame_type type)
{
	size_t at = begin(b, type);

	(void)!end(b, at, NULL, 0, NULL);
}

void sd_frame_put_bye(struct sd_buf *b)
{
	put_bare(b, SD_FRAME_BYE);
}

void sd_frame_put_stop(struct sd_buf *b)
{
	put_bare(b, SD_FRAME_STOP);
}

void sd_frame_put_welcome(struct sd_buf *b)
{
	put_bare(b, SD_FRAME_WELCOME);
}

/* --- reading --- */

struct cursor {
	const char *p, *end;
	bool failed;
};

static const char *take(struct cursor *c, size_t n)
{
	const char *p = c->p;

	if (c->failed || n > (size_t)(c->end - c->p)) {
		c->failed = true;
		return NULL;
	}
	c->p += n;
	return p;
}

static uint8_t get_u8(struct cursor *c)
{
	const char *p = take(c, 1);

	return p ? (uint8_t)*p : 0;
}

static uint32_t get_u32(struct cursor *c)
{
	const char *p = take(c, sizeof(uint32_t));
	uint32_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get_u64(struct cursor *c)
{
	const char *p = take(c, sizeof(uint64_t));
	uint64_t v = 0;

	if (p)
		memcpy(&v, p, sizeof(v));
	return v;
}

static const char *get_str(struct cursor *c, size_t *len)
{
	uint32_t n = get_u32(c);
	const char *s = take(c, (size_t)n + 1);

	*len = n;
	if (s && s[n] == '\0')
		return s;
	c->failed = true;
	return "";
}

/* A string that must not hold a NUL byte. */
static const char *get_cstr(struct cursor *c)
{
	size_t n;
	const char *s = get_str(c, &n);

	if (!c->failed && memchr(s, 0, n))
		c->failed = true;
	return s;
}

static struct sd_pair *get_pairs(struct cursor *c, struct sd_arena *arena, size_t *n)
{
	uint32_t count = get_u32(c);
	struct sd_pair *v;

	*n = 0;
	if (c->failed || count > SD_FRAME_MAX_PAIRS) {
		c->failed = true;
		return NULL;
	}
	if (count == 0)
		return NULL;
	v = sd_arena_alloc(arena, count * sizeof(*v));
	for (uint32_t i = 0; i < count && !c->failed; i++) {
		v[i].name = get_cstr(c);
		v[i].value = get_str(c, &v[i].value_len);
	}
	*n = count;
	return v;
}

int sd_frame_next(const char *p, size_t n, size_t *size, enum sd_frame_type *type, struct sd_err *err)
{
	uint32_t word[2];

	*size = 0;
	if (n < PREFIX + 1)
		return 0;
	memcpy(word, p, sizeof(word));
	if (word[0] < sizeof(uint32_t) + 2 || word[0] > SD_FRAME_MAX || word[1] == 0 || word[1] > SD_FRAME_MAX_HEAD ||
	    word[1] > word[0] - sizeof(uint32_t) - 1)
		return sd_err_set(err, SD_ERR_PERMANENT, "not a frame: %u bytes with a head of %u", word[0], word[1]);
	*type = (enum sd_frame_type)(unsigned char)p[PREFIX];
	if (*type < SD_FRAME_HELLO || *type > SD_FRAME_STOP)
		return sd_err_set(err, SD_ERR_PERMANENT, "not a frame: type %d", (int)*type);
	*size = word[0] + sizeof(uint32_t);
	if (n < *size)
		return 0;
	if (p[*size - 1] != '\0')
		return sd_err_set(err, SD_ERR_PERMANENT, "not a frame: no terminator");
	return 1;
}

/* A cursor over the head of a frame that sd_frame_next saw, behind its type; *body is what follows the head. */
static struct cursor open_frame(const char *p, size_t size, enum sd_frame_type type, const char **body, size_t *body_len)
{
	uint32_t word[2];
	struct cursor c = {p, p, true};

	if (size < PREFIX + 2 || (unsigned char)p[PREFIX] != type)
		return c;
	memcpy(word, p, sizeof(word));
	if (word[0] != size - sizeof(uint32_t) || word[1] == 0 || word[1] > size - PREFIX - 1)
		return c;
	c.failed = false;
	c.p = p + PREFIX + 1;
	c.end = p + PREFIX + word[1];
	*body = c.end;
	*body_len = size - PREFIX - word[1] - 1;
	return c;
}

static int finish(const struct cursor *c, const char *what, struct sd_err *err)
{
	if (c->failed || c->p != c->end)
		return sd_err_set(err, SD_ERR_PERMANENT, "a malformed %s frame", what);
	return 0;
}

int sd_frame_get_hello(const char *p, size_t size, struct sd_frame_hello *f, struct sd_err *err)
{
	const char *body;
	size_t body_len;
	struct cursor c = open_frame(p, size, SD_FRAME_HELLO, &body, &body_len);

	f->version = get_u32(&c);
	f->slot = get_u32(&c);
	f->generation = get_u32(&c);
	return finish(&c, "hello", err);
}

int sd_frame_get_request(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_request *f, struct sd_err *err)
{
	struct sd_http_request *h = &f->http;
	struct cursor c;

	memset(f, 0, sizeof(*f));
	c = open_frame(p, size, SD_FRAME_REQUEST, &h->raw_body, &h->raw_body_len);
	f->media = (enum sd_media)get_u8(&c);
	f->id = h->id = get_u64(&c);
	f->step = get_u32(&c);
	f->trigger = get_u32(&c);
	f->timeout_ms = (int64_t)get_u64(&c);
	f->trace_id = get_cstr(&c);
	f->error_id = get_cstr(&c);
	h->method = get_cstr(&c);
	h->path = get_cstr(&c);
	h->remote = get_cstr(&c);
	h->params = get_pairs(&c, arena, &h->nparams);
	h->query = get_pairs(&c, arena, &h->nquery);
	h->headers = get_pairs(&c, arena, &h->nheaders);
	return finish(&c, "request", err);
}

/* No header of a worker may end its line early or be something else than a header. */
static bool header_ok(const struct sd_pair *p)
{
	size_t n = strlen(p->name);

	return n > 0 && strcspn(p->name, " \t\r\n:") == n && !memchr(p->value, '\r', p->value_len) &&
	       !memchr(p->value, '\n', p->value_len) && !memchr(p->value, '\0', p->value_len);
}

static int get_reply(const char *p, size_t size, enum sd_frame_type type, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err)
{
	struct cursor c;

	memset(f, 0, sizeof(*f));
	c = open_frame(p, size, type, &f->body, &f->body_len);
	f->id = get_u64(&c);
	f->status = get_u32(&c);
	f->handler_us = (int64_t)get_u64(&c);
	f->headers = get_pairs(&c, arena, &f->nheaders);
	if (!c.failed && (f->status < 200 || f->status > 599))
		c.failed = true;
	for (size_t i = 0; i < f->nheaders && !c.failed; i++)
		c.failed = !header_ok(&f->headers[i]);
	return finish(&c, "reply", err);
}

int sd_frame_get_reply(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err)
{
	return get_reply(p, size, SD_FRAME_REPLY, arena, f, err);
}

int sd_frame_get_stream(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err)
{
	return get_reply(p, size, SD_FRAME_STREAM, arena, f, err);
}

int sd_frame_get_part(const char *p, size_t size, enum sd_frame_type type, struct sd_frame_stream *f, struct sd_err *err)
{
	struct cursor c;

	memset(f, 0, sizeof(*f));
	c = open_frame(p, size, type, &f->data, &f->data_len);
	f->id = get_u64(&c);
	f->handler_us = (int64_t)get_u64(&c);
	f->complete = get_u8(&c) != 0;
	f->taken = get_u32(&c);
	if ((type == SD_FRAME_DATA) != (f->data_len > 0) || f->data_len > SD_FRAME_WINDOW || f->taken > SD_FRAME_WINDOW)
		c.failed = true;
	return finish(&c, "stream", err);
}

int sd_frame_get_return(const char *p, size_t size, struct sd_frame_return *f, struct sd_err *err)
{
	const char *body;
	size_t body_len;
	struct cursor c = open_frame(p, size, SD_FRAME_RETURN, &body, &body_len);

	f->id = get_u64(&c);
	return finish(&c, "return", err);
}
