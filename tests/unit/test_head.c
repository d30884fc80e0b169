/* http/head.h and http/h2guard.h: what a connection may send. */
#include "http/h2guard.h"
#include "http/head.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define H "Host: x\r\n"
#define CHUNKED "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"

static const struct sd_scan_limits limits = {.head = 300, .target = 100};

/* status 0: `messages` whole ones and nothing wrong. */
static const struct {
	const char *text;
	int status, messages;
} cases[] = {
	{"GET / HTTP/1.1\r\n" H "\r\n", 0, 1},
	{"GET / HTTP/1.1\nhost: x\n\n", 0, 1},
	{"\r\nGET / HTTP/1.1\r\nHOST:x\r\n\r\n", 0, 1},
	{"\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"GET / HTTP/1.0\r\n\r\n", 0, 1},
	{"GET http://x/y HTTP/1.1\r\n" H "\r\n", 0, 1},
	{"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, 1},
	{"GET * HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"GET y HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"CONNECT x:1 HTTP/1.1\r\n" H "\r\n", 501, 0},
	{"GET / HTTP/2.0\r\n" H "\r\n", 505, 0},
	{"GET / http/1.1\r\n" H "\r\n", 400, 0},
	{"GET /\r\n", 400, 0},
	{"GET  / HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"GET / HTTP/1.1 \r\n" H "\r\n", 400, 0},
	{"GET /a b HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"GET /\x01 HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"G(T / HTTP/1.1\r\n" H "\r\n", 400, 0},
	{"\x16\x03\x01\x02", 400, 0},
	{"GET / HTTP/1.1\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "host: x\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, 1},
	{"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0, 1},
	{"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "A : b\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H ": b\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "A\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "A: \xff\tb\r\n\r\n", 0, 1},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nabGET / HTTP/1.1\r\n" H "\r\n", 0, 2},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\nContent-Length: 1\r\n\r\n", 400, 1},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 2\r\ncontent-length: 2\r\n\r\nab", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\nab", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length: +2\r\n\r\nab", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length: -2\r\n\r\n", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, 0},
	{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 501, 0},
	{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0},
	{CHUNKED "3\r\nabc\r\n0\r\n\r\n", 0, 1},
	{CHUNKED "A;x=\"y\"\r\n0123456789\r\n00\r\nTrail: er\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", 0, 2},
	{CHUNKED "3\nabc\r\n0\r\n\r\n", 400, 0},
	{CHUNKED "3\r\nabcd\r\n0\r\n\r\n", 400, 0},
	{CHUNKED "3\r\nabc0\r\n\r\n", 400, 0},
	{CHUNKED "\r\n0\r\n\r\n", 400, 0},
	{CHUNKED "-1\r\n", 400, 0},
	{CHUNKED "0x3\r\nabc\r\n0\r\n\r\n", 400, 0},
	{CHUNKED "3;\nabc\r\n0\r\n\r\n", 400, 0},
	{CHUNKED "ffffffffffffffff1\r\n", 400, 0},
	{CHUNKED "0\r\nA: b\n\r\n", 400, 0},
	{"GET / HTTP/1.1\r\n" H "\r\nGARBAGE", 0, 1}, /* may become a method */
	{"GET / HTTP/1.1\r\n" H "\r\nGARBAGE\x01", 400, 1},
};

static void check(size_t i, const struct sd_scan *s, const char *how)
{
	if (s->status != cases[i].status || s->messages != (uint64_t)cases[i].messages)
		fail_msg("%s, %s: status %d (%s), %d messages", cases[i].text, how, s->status, s->message ? s->message : "", (int)s->messages);
	assert_true((s->status != 0) == (s->code != NULL && s->message != NULL));
}

static void test_messages(void **state)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *p = cases[i].text;
		struct sd_scan whole = {0}, pieces = {0};
		size_t used = 0, n = strlen(p);

		sd_scan_feed(&whole, p, n, &limits);
		check(i, &whole, "whole");
		for (size_t have = 1; have <= n && !pieces.status; have++)
			used += sd_scan_feed(&pieces, p + used, have - used, &limits);
		check(i, &pieces, "byte by byte");
	}
}

static int status_of(const char *line, int fields, int value, bool end)
{
	struct sd_scan s = {0};
	char text[20000] = "";

	strcat(text, line);
	for (int i = 0; i < fields; i++)
		sprintf(text + strlen(text), "A: %0*d\r\n", value, 0);
	strcat(text, end ? "\r\n" : "");
	sd_scan_feed(&s, text, strlen(text), &limits);
	return s.status;
}

static void test_limits(void **state)
{
	char target[200];

	snprintf(target, sizeof(target), "GET /%0100d HTTP/1.1\r\n", 0);
	assert_int_equal(status_of(target, 0, 0, false), 414);
	assert_int_equal(status_of(target, 0, 0, true), 414);
	target[100] = '\0';
	assert_int_equal(status_of(target, 0, 0, false), 0);
	snprintf(target, sizeof(target), "GET /%0150d", 0);
	assert_int_equal(status_of(target, 0, 0, false), 414);
	assert_int_equal(status_of("GET / HTTP/1.1\r\n" H, 1, 400, true), 431);
	assert_int_equal(status_of("GET / HTTP/1.1\r\n" H, 1, 400, false), 431);
	assert_int_equal(status_of("GET / HTTP/1.1\r\n" H, 1, 200, true), 0);
}

/* --- HTTP/2 --- */

struct fixture {
	struct sd_h2_guard g;
	uint8_t buf[65536];
	size_t n;
};

static void put(struct fixture *x, uint8_t type, uint8_t flags, uint32_t stream, size_t size)
{
	uint8_t *p = x->buf + x->n;

	memset(p, 0, 9 + size);
	p[0] = (uint8_t)(size >> 16);
	p[1] = (uint8_t)(size >> 8);
	p[2] = (uint8_t)size;
	p[3] = type;
	p[4] = flags;
	p[7] = (uint8_t)(stream >> 8);
	p[8] = (uint8_t)stream;
	x->n += 9 + size;
}

static const char *feed(struct fixture *x, int64_t now)
{
	const char *why = sd_h2_guard_feed(&x->g, x->buf, &x->n, 4096, now);

	x->n = 0;
	return why;
}

static int begin(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	sd_h2_guard_init(&x->g, 0);
	x->n = 24; /* the preface; libh2o reads it */
	assert_null(feed(x, 0));
	*state = x;
	return 0;
}

static int end(void **state)
{
	free(*state);
	return 0;
}

static void test_resets(void **state)
{
	struct fixture *x = *state;

	for (int i = 0; i < SD_H2_RESETS; i++) {
		put(x, 1, 5, (uint32_t)i * 2 + 1, 3);
		put(x, 3, 0, (uint32_t)i * 2 + 1, 4);
	}
	assert_null(feed(x, 0));
	put(x, 3, 0, 999, 4);
	assert_non_null(feed(x, 0));
	for (int s = 1; s <= 30; s++) { /* a browser's pace */
		for (int i = 0; i < SD_H2_RESETS_S; i++)
			put(x, 3, 0, 999, 4);
		assert_null(feed(x, (s + 2) * SD_SEC));
	}
}

static void test_noise(void **state)
{
	static const struct {
		uint8_t type, flags;
		size_t size;
	} noise[] = {{6, 0, 8}, {4, 0, 6}, {2, 0, 5}, {0, 0, 0}, {99, 0, 3}};
	struct fixture *x = *state;

	for (int k = 0; k < 5; k++) {
		const char *why = NULL;
		int n = 0;

		sd_h2_guard_init(&x->g, 0);
		x->g.preface = true;
		for (; !why && n < 5000; n++) {
			put(x, noise[k].type, noise[k].flags, 1, noise[k].size);
			why = feed(x, 0);
		}
		assert_int_equal(n, SD_H2_NOISE + 1);
	}
}

static void test_unknown_frames_are_taken_out(void **state)
{
	struct fixture *x = *state;
	size_t n;

	put(x, 99, 0, 1, 7);
	put(x, 1, 5, 1, 3);
	put(x, 10, 0, 1, 0);
	put(x, 8, 0, 0, 4);
	put(x, 99, 0, 0, 100);
	n = x->n - 50; /* the last one is not all there */
	assert_null(sd_h2_guard_feed(&x->g, x->buf, &n, 4096, 0));
	assert_int_equal(n, 12 + 13 + 9 + 50);
	assert_int_equal(x->buf[3], 1);
	assert_int_equal(x->buf[15], 8);
	assert_int_equal(x->g.windows, 1);
}

static void test_header_blocks(void **state)
{
	struct fixture *x = *state;

	put(x, 1, 0, 1, 100); /* neither END_HEADERS nor END_STREAM */
	assert_null(feed(x, 5));
	assert_int_equal(sd_h2_guard_head_since(&x->g), 5);
	put(x, 9, 4, 1, 100);
	assert_null(feed(x, 9));
	assert_int_equal(sd_h2_guard_head_since(&x->g), INT64_MAX);
	assert_int_equal(sd_h2_guard_body_since(&x->g), 5);
	put(x, 1, 0, 3, 16000);
	put(x, 9, 0, 3, 9000);
	assert_non_null(feed(x, 9)); /* CONTINUATION without end */
	assert_int_equal(x->g.last_stream, 3);
}

static void test_bodies(void **state)
{
	struct fixture *x = *state;

	put(x, 1, 4, 1, 3);
	assert_null(feed(x, 1));
	put(x, 1, 4, 3, 3);
	put(x, 1, 5, 5, 3);
	assert_null(feed(x, 2));
	assert_int_equal(x->g.nuploads, 2);
	put(x, 0, 0, 1, 100);
	put(x, 0, 0, 3, 50);
	assert_null(feed(x, 2));
	assert_int_equal(x->g.buffered, 150);
	assert_int_equal(sd_h2_guard_body_since(&x->g), 1);
	put(x, 0, 1, 1, 10);
	assert_null(feed(x, 3));
	assert_int_equal(sd_h2_guard_body_since(&x->g), 2);
	assert_int_equal(x->g.buffered, 50);
	put(x, 3, 0, 3, 4);
	assert_null(feed(x, 4));
	assert_int_equal(sd_h2_guard_body_since(&x->g), INT64_MAX);
	put(x, 1, 4, 7, 3);
	put(x, 1, 5, 7, 3); /* trailers */
	assert_null(feed(x, 5));
	assert_int_equal(x->g.nuploads, 0);
	for (uint32_t i = 0; i < 126; i++)
		put(x, 1, 4, 9 + 2 * i, 3);
	assert_null(feed(x, 6));
	put(x, 1, 4, 901, 3);
	put(x, 1, 4, 903, 3);
	assert_non_null(feed(x, 6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_limits),
		cmocka_unit_test_setup_teardown(test_resets, begin, end),
		cmocka_unit_test_setup_teardown(test_noise, begin, end),
		cmocka_unit_test_setup_teardown(test_unknown_frames_are_taken_out, begin, end),
		cmocka_unit_test_setup_teardown(test_header_blocks, begin, end),
		cmocka_unit_test_setup_teardown(test_bodies, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
