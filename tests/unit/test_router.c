/* The router and the text of request targets. */
#include "http/router.h"
#include "http/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct sd_arena *arena;
	struct sd_router *r;
	struct sd_route_match m;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->arena = sd_arena_new();
	f->r = sd_router_new(f->arena);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sd_arena_free(f->arena);
	free(f);
	return 0;
}

static void add(struct fixture *f, const char *method, const char *pattern, int step)
{
	struct sd_err err;

	assert_int_equal(sd_router_add(f->r, method, pattern, step, 0, "test", &err), 0);
}

static enum sd_route_result match(struct fixture *f, const char *method, const char *path)
{
	return sd_router_match(f->r, method, path, strlen(path), f->arena, &f->m);
}

static void assert_step(struct fixture *f, const char *method, const char *path, int step)
{
	assert_int_equal(match(f, method, path), SD_ROUTE_FOUND);
	assert_int_equal(f->m.step, step);
}

static void test_literal(void **state)
{
	struct fixture *f = *state;

	add(f, "GET", "/", 1);
	add(f, "POST", "/orders", 2);
	add(f, "GET", "/a/b", 3);
	add(f, "GET", "/a/", 4);
	assert_step(f, "GET", "/", 1);
	assert_step(f, "POST", "/orders", 2);
	assert_step(f, "GET", "/a/b", 3);
	assert_step(f, "GET", "/a/", 4);
	assert_int_equal(match(f, "GET", "/a"), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "POST", "/orders/"), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "GET", "//"), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "GET", ""), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "GET", "*"), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "GET", "/A/b"), SD_ROUTE_NOT_FOUND);
}

static void test_params(void **state)
{
	struct fixture *f = *state;

	add(f, "GET", "/users/:id", 1);
	add(f, "GET", "/users/:user/posts/:post", 2);
	assert_step(f, "GET", "/users/42", 1);
	assert_int_equal(f->m.nparams, 1);
	assert_string_equal(f->m.params[0].name, "id");
	assert_string_equal(f->m.params[0].value, "42");
	assert_step(f, "GET", "/users/a%2Fb%20c/posts/%C3%A9", 2);
	assert_string_equal(f->m.params[0].name, "user");
	assert_string_equal(f->m.params[0].value, "a/b c");
	assert_int_equal(f->m.params[0].value_len, 5);
	assert_string_equal(f->m.params[1].value, "\xc3\xa9");
	assert_string_equal(f->m.path, "/users/a/b c/posts/\xc3\xa9");
	assert_step(f, "GET", "/users/a+b", 1);
	assert_string_equal(f->m.params[0].value, "a+b");
	assert_int_equal(match(f, "GET", "/users/"), SD_ROUTE_NOT_FOUND);
	assert_int_equal(match(f, "GET", "/users/1/posts"), SD_ROUTE_NOT_FOUND);
}

static void test_most_specific(void **state)
{
	struct fixture *f = *state;

	add(f, "GET", "/:any/x", 1);
	add(f, "GET", "/users/me", 2);
	add(f, "GET", "/users/:id", 3);
	add(f, "DELETE", "/users/:id", 4);
	add(f, "GET", "/users/me/:what", 5);
	add(f, "GET", "/users/:id/settings", 6);
	assert_step(f, "GET", "/users/me", 2);
	assert_step(f, "GET", "/users/you", 3);
	assert_step(f, "GET", "/users/x", 3);
	assert_step(f, "GET", "/others/x", 1);
	assert_step(f, "DELETE", "/users/me", 4); /* of those that know the method */
	assert_step(f, "GET", "/users/me/settings", 5);
	assert_step(f, "GET", "/users/7/settings", 6);
	assert_string_equal(f->m.params[0].value, "7");
}

static void test_methods(void **state)
{
	struct fixture *f = *state;

	add(f, "GET", "/a", 1);
	add(f, "PUT", "/a", 2);
	add(f, "PATCH", "/:p", 3);
	add(f, "OPTIONS", "/own", 4);
	add(f, "HEAD", "/own", 5);
	assert_step(f, "HEAD", "/a", 1);
	assert_step(f, "HEAD", "/own", 5);
	assert_step(f, "OPTIONS", "/own", 4);
	assert_int_equal(match(f, "POST", "/a"), SD_ROUTE_WRONG_METHOD);
	assert_string_equal(f->m.allow, "PATCH, GET, PUT, HEAD, OPTIONS");
	assert_int_equal(match(f, "OPTIONS", "/a"), SD_ROUTE_OPTIONS);
	assert_int_equal(match(f, "get", "/a"), SD_ROUTE_WRONG_METHOD);
	assert_int_equal(match(f, "OPTIONS", "/none/here"), SD_ROUTE_NOT_FOUND);
}

static void test_bad_paths(void **state)
{
	static const char *const bad[] = {"/a/%", "/a/%4", "/a/%zz", "/%00", "/a/%0", "/a%2", "/%%41"};
	struct fixture *f = *state;
	char deep[400];
	size_t n = 0;

	add(f, "GET", "/a/:b", 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(match(f, "GET", bad[i]), SD_ROUTE_BAD_PATH);
	for (; n < sizeof(deep) - 2; n++)
		deep[n] = "/a"[n % 2];
	deep[n] = '\0';
	assert_int_equal(match(f, "GET", deep), SD_ROUTE_NOT_FOUND);
	assert_int_equal(sd_router_match(f->r, "GET", "/a/\0b", 5, f->arena, &f->m), SD_ROUTE_BAD_PATH);
}

static void refuse(struct fixture *f, const char *method, const char *pattern, const char *want)
{
	struct sd_err err;

	sd_err_clear(&err);
	assert_int_equal(sd_router_add(f->r, method, pattern, 9, 0, "b.so", &err), -1);
	if (!strstr(err.message, want) && !strstr(err.detail, want))
		fail_msg("\"%s\" / \"%s\" does not say \"%s\"", err.message, err.detail, want);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct sd_err err;

	assert_int_equal(sd_router_add(f->r, "GET", "/u/:id", 1, 0, "a.so", &err), 0);
	refuse(f, "GET", "/u/:name", "two steps");
	refuse(f, "GET", "/u/:name", "a.so has /u/:id, b.so has /u/:name");
	refuse(f, "GET", "u", "does not start with");
	refuse(f, "GET", "", "does not start with");
	refuse(f, "get", "/x", "not an HTTP method");
	refuse(f, "", "/x", "not an HTTP method");
	refuse(f, "GET X", "/x", "not an HTTP method");
	refuse(f, "GET", "/x/:", "without a name");
	refuse(f, "GET", "/x/:a/:a", "twice");
}

static void test_query(void **state)
{
	struct fixture *f = *state;
	struct sd_pair *p;
	struct sd_err err;
	size_t n;
	char many[2002];

	assert_int_equal(sd_pairs_parse("query", "a=1&b=x+y%26z&a=&c&&=v&d=e=f", 28, f->arena, &p, &n, &err), 0);
	assert_int_equal(n, 6);
	assert_string_equal(p[0].name, "a");
	assert_string_equal(p[0].value, "1");
	assert_string_equal(p[1].value, "x y&z");
	assert_int_equal(p[1].value_len, 5);
	assert_string_equal(p[2].name, "a");
	assert_string_equal(p[2].value, "");
	assert_string_equal(p[3].name, "c");
	assert_string_equal(p[3].value, "");
	assert_string_equal(p[4].name, "");
	assert_string_equal(p[5].value, "e=f");
	assert_int_equal(sd_pairs_parse("query", "", 0, f->arena, &p, &n, &err), 0);
	assert_int_equal(n, 0);
	assert_int_equal(sd_pairs_parse("query", "a=%0", 4, f->arena, &p, &n, &err), -1);
	assert_int_equal(sd_pairs_parse("query", "a%00=1", 6, f->arena, &p, &n, &err), -1);
	assert_int_equal(sd_pairs_parse("query", "a=%e4", 5, f->arena, &p, &n, &err), -1);
	memset(many, '&', sizeof(many));
	assert_int_equal(sd_pairs_parse("query", many, sizeof(many), f->arena, &p, &n, &err), -1);
}

static void test_media(void **state)
{
	static const struct {
		const char *text;
		enum sd_media want;
	} t[] = {
		{"application/json", SD_MEDIA_JSON},
		{"Application/JSON ; charset=UTF-8", SD_MEDIA_JSON},
		{"application/json;charset=\"utf-8\"", SD_MEDIA_JSON},
		{"application/problem+json", SD_MEDIA_JSON},
		{"application/json; charset=iso-8859-1", SD_MEDIA_OTHER},
		{"application/jsonp", SD_MEDIA_OTHER},
		{"text/plain", SD_MEDIA_TEXT},
		{"TEXT/csv;header=present", SD_MEDIA_TEXT},
		{"text/plain; charset=latin1", SD_MEDIA_OTHER},
		{"text/", SD_MEDIA_OTHER},
		{"+json", SD_MEDIA_OTHER},
		{"application/+json", SD_MEDIA_OTHER},
		{"application/x-www-form-urlencoded", SD_MEDIA_FORM},
		{"application/x-www-form-urlencoded-x", SD_MEDIA_OTHER},
		{"multipart/form-data; boundary=x", SD_MEDIA_OTHER},
		{"", SD_MEDIA_NONE},
		{";", SD_MEDIA_NONE},
	};

	(void)state;
	assert_int_equal(sd_media_of(NULL, 0), SD_MEDIA_NONE);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (sd_media_of(t[i].text, strlen(t[i].text)) != t[i].want)
			fail_msg("\"%s\"", t[i].text);
}

static void test_trace(void **state)
{
	static const char good[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	static const char *const bad[] = {
		"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
	};
	char uuid[37], out[56];

	(void)state;
	assert_true(sd_traceparent_parse(good, strlen(good), uuid));
	assert_string_equal(uuid, "0af76519-16cd-43dd-8448-eb211c80319c");
	assert_true(sd_traceparent_parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", 57, uuid));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (sd_traceparent_parse(bad[i], strlen(bad[i]), uuid))
			fail_msg("\"%s\"", bad[i]);
	sd_traceparent_format("0af76519-16cd-43dd-8448-eb211c80319c", 0xb7ad6b7169203331u, out);
	assert_string_equal(out, good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_literal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_params, setup, teardown),
		cmocka_unit_test_setup_teardown(test_most_specific, setup, teardown),
		cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_query, setup, teardown),
		cmocka_unit_test(test_media),
		cmocka_unit_test(test_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
