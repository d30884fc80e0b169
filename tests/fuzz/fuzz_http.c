/*
 * What strangers send to the http process and what a wild worker may: the first
 * byte chooses the reader.  Nothing is read beyond the input, and what is
 * accepted is what its contract says.
 */
#include "base/json.h"
#include "http/form.h"
#include "http/frame.h"
#include "http/h2guard.h"
#include "http/head.h"
#include "http/router.h"
#include "http/target.h"

#include <stdlib.h>
#include <string.h>

/* In one piece and byte by byte: the same messages, the same verdict. */
static void scan(const char *p, size_t n)
{
	static const struct sd_scan_limits limits = {200, 100};
	struct sd_scan whole = {0}, bytes = {0};
	size_t used = 0;

	sd_scan_feed(&whole, p, n, &limits);
	for (size_t have = 1; have <= n && bytes.status == 0; have++)
		used += sd_scan_feed(&bytes, p + used, have - used, &limits);
	if (whole.messages != bytes.messages || whole.heads != bytes.heads || (whole.status == 0) != (bytes.status == 0))
		abort();
}

static void guard(const char *p, size_t n)
{
	struct sd_h2_guard g;
	uint8_t *copy = malloc(n);
	size_t left = n;

	memcpy(copy, p, n);
	sd_h2_guard_init(&g, 0);
	g.preface = true;
	if (!sd_h2_guard_feed(&g, copy, &left, 4096, 1) && (left > n || g.nuploads > SD_H2_MAX_UPLOADS))
		abort();
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void frames(const char *p, size_t n, struct sd_arena *arena)
{
	enum sd_frame_type type;
	struct sd_frame_request q;
	struct sd_frame_reply r;
	struct sd_frame_stream part;
	struct sd_err err;
	size_t size;

	if (sd_frame_next(p, n, &size, &type, &err) != 1)
		return;
	if (size > n)
		abort();
	if (sd_frame_get_request(p, size, arena, &q, &err) == 0)
		for (size_t i = 0; i < q.http.nheaders; i++)
			if (q.http.headers[i].value[q.http.headers[i].value_len] != '\0')
				abort();
	if (sd_frame_get_part(p, size, type, &part, &err) == 0 && (part.data_len > SD_FRAME_WINDOW || part.taken > SD_FRAME_WINDOW))
		abort();
	if (sd_frame_get_reply(p, size, arena, &r, &err) == 0 || sd_frame_get_stream(p, size, arena, &r, &err) == 0)
		for (size_t i = 0; i < r.nheaders; i++)
			if (memchr(r.headers[i].value, '\n', r.headers[i].value_len))
				abort();
}

static void route(const char *p, size_t n, struct sd_arena *arena)
{
	struct sd_router *r = sd_router_new(arena);
	struct sd_route_match m;
	struct sd_err err;

	if (sd_router_add(r, "GET", "/a/:b", 0, 0, "x", &err) != 0 || sd_router_add(r, "GET", "/:a/c", 1, 0, "x", &err) != 0 ||
	    sd_router_add(r, "POST", "/a/c/:d/e", 2, 0, "x", &err) != 0)
		abort();
	if (sd_router_match(r, "GET", p, n, arena, &m) == SD_ROUTE_FOUND)
		for (size_t i = 0; i < m.nparams; i++)
			if (strlen(m.params[i].value) != m.params[i].value_len || m.params[i].value_len == 0)
				abort();
}

static void query(const char *p, size_t n, struct sd_arena *arena)
{
	struct sd_pair *pairs;
	size_t npairs;
	struct sd_err err;

	if (sd_pairs_parse("query", p, n, arena, &pairs, &npairs, &err) != 0)
		return;
	for (size_t i = 0; i < npairs; i++)
		if (strlen(pairs[i].value) != pairs[i].value_len)
			abort();
}

/* What a form or a text becomes is JSON. */
static void body(const char *p, size_t n, struct sd_arena *arena)
{
	static const enum sd_media media[] = {SD_MEDIA_FORM, SD_MEDIA_TEXT};
	struct sd_err err;

	for (size_t i = 0; i < 2; i++) {
		const char *json;
		size_t len;

		if (sd_body_json(media[i], p, n, arena, &json, &len, &err) == 0 && sd_json_check(json, len, &err) != 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sd_arena *arena = sd_arena_new();
	char *p = malloc(len); /* a block of its own, so that a read behind it is seen */
	char uuid[37];

	if (len > 0) {
		size_t n = len - 1;

		memcpy(p, data + 1, n);
		switch (data[0] % 7) {
		case 0:
			frames(p, n, arena);
			break;
		case 1:
			route(p, n, arena);
			break;
		case 2:
			query(p, n, arena);
			break;
		case 3:
			scan(p, n);
			break;
		case 4:
			sd_media_of(p, n);
			body(p, n, arena);
			break;
		case 5:
			if (sd_traceparent_parse(p, n, uuid) && strlen(uuid) != 36)
				abort();
			break;
		case 6:
			guard(p, n);
			break;
		}
	}
	free(p);
	sd_arena_free(arena);
	return 0;
}
