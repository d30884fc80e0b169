/* Frames: what is written is read back, and no hostile bytes are believed. */
#include "http/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sd_pair pair(const char *name, const char *value)
{
	return (struct sd_pair){name, value, strlen(value)};
}

static void put_sample(struct sd_buf *b)
{
	struct sd_pair params[] = {pair("id", "42")}, query[] = {pair("a", "1"), pair("a", "2")};
	struct sd_pair headers[] = {pair("host", "x"), pair("x-empty", "")};
	struct sd_frame_request f = {
		.id = 7, .step = 3, .trigger = 1, .timeout_ms = 30000, .media = SD_MEDIA_FORM, .trace_id = "t", .error_id = "e",
		.http = {.method = "POST", .path = "/a", .remote = "::1", .params = params, .nparams = 1, .query = query, .nquery = 2,
			 .headers = headers, .nheaders = 2, .raw_body = "{\"n\":\0}", .raw_body_len = 7},
	};
	struct sd_err err;

	assert_int_equal(sd_frame_put_request(b, &f, &err), 0);
}

static void test_request(void **state)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf b = SD_BUF_INIT;
	struct sd_frame_request f;
	enum sd_frame_type type;
	struct sd_err err;
	size_t size;

	(void)state;
	put_sample(&b);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(sd_frame_next(b.data, n, &size, &type, &err), 0);
	assert_int_equal(sd_frame_next(b.data, b.len, &size, &type, &err), 1);
	assert_int_equal(size, b.len);
	assert_int_equal(type, SD_FRAME_REQUEST);
	assert_int_equal(sd_frame_get_request(b.data, size, arena, &f, &err), 0);
	assert_int_equal(f.id, 7);
	assert_int_equal(f.http.id, 7);
	assert_int_equal(f.step, 3);
	assert_int_equal(f.trigger, 1);
	assert_int_equal(f.timeout_ms, 30000);
	assert_int_equal(f.media, SD_MEDIA_FORM);
	assert_string_equal(f.trace_id, "t");
	assert_string_equal(f.error_id, "e");
	assert_string_equal(f.http.method, "POST");
	assert_string_equal(f.http.remote, "::1");
	assert_int_equal(f.http.nquery, 2);
	assert_string_equal(f.http.query[1].value, "2");
	assert_string_equal(f.http.headers[1].name, "x-empty");
	assert_int_equal(f.http.headers[1].value_len, 0);
	assert_int_equal(f.http.raw_body_len, 7);
	assert_memory_equal(f.http.raw_body, "{\"n\":\0}", 8);
	sd_buf_fini(&b);
	sd_arena_free(arena);
}

static void test_reply(void **state)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf b = SD_BUF_INIT;
	struct sd_pair headers[] = {pair("content-type", "text/plain")};
	struct sd_frame_reply f = {.id = UINT64_MAX, .status = 201, .handler_us = 12, .headers = headers, .nheaders = 1, .body = "ok", .body_len = 2}, g;
	struct sd_frame_hello hello = {SD_FRAME_VERSION, 4, 9}, h2;
	struct sd_frame_return ret = {99}, r2;
	enum sd_frame_type type;
	struct sd_err err;
	size_t size, at = 0;

	(void)state;
	sd_frame_put_hello(&b, &hello);
	assert_int_equal(sd_frame_put_reply(&b, &f, &err), 0);
	sd_frame_put_return(&b, &ret);
	assert_int_equal(sd_frame_next(b.data, b.len, &size, &type, &err), 1);
	assert_int_equal(type, SD_FRAME_HELLO);
	assert_int_equal(sd_frame_get_hello(b.data, size, &h2, &err), 0);
	assert_int_equal(h2.slot, 4);
	assert_int_equal(h2.generation, 9);
	at += size;
	assert_int_equal(sd_frame_next(b.data + at, b.len - at, &size, &type, &err), 1);
	assert_int_equal(sd_frame_get_reply(b.data + at, size, arena, &g, &err), 0);
	assert_true(g.id == UINT64_MAX);
	assert_int_equal(g.status, 201);
	assert_string_equal(g.headers[0].value, "text/plain");
	assert_memory_equal(g.body, "ok", 3);
	assert_int_equal(sd_frame_get_return(b.data + at, size, &r2, &err), -1);
	at += size;
	assert_int_equal(sd_frame_next(b.data + at, b.len - at, &size, &type, &err), 1);
	assert_int_equal(sd_frame_get_return(b.data + at, size, &r2, &err), 0);
	assert_int_equal(r2.id, 99);
	assert_int_equal(at + size, b.len);
	sd_buf_fini(&b);
	sd_arena_free(arena);
}

static void refuse_reply(uint32_t status, const char *name, const char *value, size_t value_len)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf b = SD_BUF_INIT;
	struct sd_pair header = {name, value, value_len};
	struct sd_frame_reply f = {.id = 1, .status = status, .headers = &header, .nheaders = 1}, g;
	struct sd_err err;

	assert_int_equal(sd_frame_put_reply(&b, &f, &err), 0);
	assert_int_equal(sd_frame_get_reply(b.data, b.len, arena, &g, &err), -1);
	sd_buf_fini(&b);
	sd_arena_free(arena);
}

static void test_bad_replies(void **state)
{
	(void)state;
	refuse_reply(100, "a", "b", 1);
	refuse_reply(0, "a", "b", 1);
	refuse_reply(1000, "a", "b", 1);
	refuse_reply(200, "", "b", 1);
	refuse_reply(200, "a b", "b", 1);
	refuse_reply(200, "a\r\nx", "b", 1);
	refuse_reply(200, "a", "b\r\nSet-Cookie: c", 17);
	refuse_reply(200, "a", "b\0c", 3);
}

static int next_of(uint32_t total, uint32_t head, unsigned char type)
{
	char p[64] = {0};
	enum sd_frame_type t;
	struct sd_err err;
	size_t size;

	memcpy(p, &total, 4);
	memcpy(p + 4, &head, 4);
	p[8] = (char)type;
	return sd_frame_next(p, sizeof(p), &size, &t, &err);
}

static void test_bad_lengths(void **state)
{
	(void)state;
	assert_int_equal(next_of(0, 0, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(5, 1, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(UINT32_MAX, 1, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(SD_FRAME_MAX + 1, 1, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(20, 16, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(20, 0, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(20, UINT32_MAX, SD_FRAME_REPLY), -1);
	assert_int_equal(next_of(20, 15, 0), -1);
	assert_int_equal(next_of(20, 15, SD_FRAME_STOP + 1), -1);
	assert_int_equal(next_of(20, 15, 255), -1);
	assert_int_equal(next_of(SD_FRAME_MAX, 15, SD_FRAME_REPLY), 0);
	assert_int_equal(next_of(20, 15, SD_FRAME_REPLY), 1);
}

static void test_too_large(void **state)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_frame_reply f = {.status = 200, .body = "", .body_len = SD_FRAME_MAX};
	struct sd_err err;

	(void)state;
	sd_buf_str(&b, "before");
	assert_int_equal(sd_frame_put_reply(&b, &f, &err), -1);
	assert_string_equal(b.data, "before");
	sd_buf_fini(&b);
}

/* Every byte of a request changed in several ways: refused or read, within bounds (the sanitizers watch), the frame in a block of its own. */
static void test_mutations(void **state)
{
	static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf b = SD_BUF_INIT;

	(void)state;
	put_sample(&b);
	for (size_t i = 0; i < b.len; i++) {
		for (size_t v = 0; v < sizeof(values); v++) {
			char *copy = malloc(b.len);
			struct sd_frame_request f;
			enum sd_frame_type type;
			struct sd_err err;
			size_t size;

			memcpy(copy, b.data, b.len);
			copy[i] = (char)values[v];
			if (sd_frame_next(copy, b.len, &size, &type, &err) == 1 && type == SD_FRAME_REQUEST &&
			    sd_frame_get_request(copy, size, arena, &f, &err) == 0)
				for (size_t k = 0; k < f.http.nheaders; k++)
					assert_true(strlen(f.http.headers[k].name) <= b.len);
			free(copy);
			sd_arena_reset(arena);
		}
	}
	sd_buf_fini(&b);
	sd_arena_free(arena);
}

/* Noise behind a well-formed prefix, from a fixed seed. */
static void test_noise(void **state)
{
	struct sd_arena *arena = sd_arena_new();
	uint64_t x = 88172645463325252u;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint32_t size = 16 + (uint32_t)(x % 200), total = size - 4, head = 1 + (uint32_t)(x >> 20) % (size - 9);
		char *p = malloc(size);
		enum sd_frame_type type;
		struct sd_frame_request q;
		struct sd_frame_reply r;
		struct sd_err err;
		size_t got;

		for (uint32_t i = 0; i < size; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			p[i] = (char)(x & 0x100 ? 0 : x & 0x0f);
		}
		memcpy(p, &total, 4);
		memcpy(p + 4, &head, 4);
		p[8] = (char)(1 + x % 4);
		p[size - 1] = '\0';
		assert_int_equal(sd_frame_next(p, size, &got, &type, &err), 1);
		(void)!sd_frame_get_request(p, got, arena, &q, &err);
		(void)!sd_frame_get_reply(p, got, arena, &r, &err);
		free(p);
		sd_arena_reset(arena);
	}
	sd_arena_free(arena);
}

static void test_stream(void **state)
{
	static const struct sd_pair header = {"x", "1", 1};
	const struct sd_frame_reply head = {.id = 9, .status = 200, .headers = &header, .nheaders = 1, .body = "ignored", .body_len = 7};
	const struct sd_frame_stream parts[] = {{.id = 9, .data = "a\0b", .data_len = 3},
						{.id = 9, .handler_us = 77, .complete = true},
						{.id = 9, .taken = SD_FRAME_WINDOW},
						{.id = 9, .complete = true}};
	static const enum sd_frame_type types[] = {SD_FRAME_DATA, SD_FRAME_END, SD_FRAME_CREDIT, SD_FRAME_GONE};
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf b = SD_BUF_INIT;
	struct sd_frame_stream s;
	struct sd_frame_reply r;
	enum sd_frame_type type;
	struct sd_err err;
	size_t size, at;

	(void)state;
	assert_int_equal(sd_frame_put_stream(&b, &head, &err), 0);
	assert_int_equal(sd_frame_next(b.data, b.len, &size, &type, &err), 1);
	assert_int_equal(type, SD_FRAME_STREAM);
	assert_int_equal(sd_frame_get_stream(b.data, size, arena, &r, &err), 0);
	assert_int_equal(r.status, 200);
	assert_int_equal(r.body_len, 0);
	assert_int_equal(sd_frame_get_reply(b.data, size, arena, &r, &err), -1);
	for (size_t i = 0; i < 4; i++) {
		at = b.len;
		sd_frame_put_part(&b, types[i], &parts[i]);
		assert_int_equal(sd_frame_next(b.data + at, b.len - at, &size, &type, &err), 1);
		assert_int_equal(type, types[i]);
		assert_int_equal(sd_frame_get_part(b.data + at, size, type, &s, &err), 0);
		assert_int_equal(s.id, 9);
		assert_int_equal(s.data_len, parts[i].data_len);
		assert_memory_equal(s.data, parts[i].data ? parts[i].data : "", s.data_len);
		assert_int_equal(s.handler_us, parts[i].handler_us);
		assert_int_equal(s.complete, parts[i].complete);
		assert_int_equal(s.taken, parts[i].taken);
		assert_int_equal(sd_frame_get_part(b.data + at, size, SD_FRAME_RETURN, &s, &err), -1);
	}
	at = b.len; /* a piece without bytes is none, and an end has no bytes */
	sd_frame_put_part(&b, SD_FRAME_DATA, &parts[1]);
	assert_int_equal(sd_frame_get_part(b.data + at, b.len - at, SD_FRAME_DATA, &s, &err), -1);
	at = b.len;
	sd_frame_put_part(&b, SD_FRAME_END, &parts[0]);
	assert_int_equal(sd_frame_get_part(b.data + at, b.len - at, SD_FRAME_END, &s, &err), -1);
	sd_buf_fini(&b);
	sd_arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),	  cmocka_unit_test(test_reply),	    cmocka_unit_test(test_bad_lengths),
		cmocka_unit_test(test_bad_replies), cmocka_unit_test(test_too_large), cmocka_unit_test(test_mutations), cmocka_unit_test(test_noise),
		cmocka_unit_test(test_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
