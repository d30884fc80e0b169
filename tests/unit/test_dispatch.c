/* Which web worker gets which request; what a reply looks like; how requests are counted. */
#include "http/dispatch.h"
#include "http/error.h"
#include "http/metrics.h"
#include "http/reply.h"
#include "http/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAST 0
#define SLOW 1

struct fixture {
	struct sd_dispatch d;
	struct sd_backend b[3];
	struct sd_flight f[64];
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	sd_dispatch_init(&x->d, 2, 1000);
	for (int i = 0; i < 3; i++) {
		x->b[i].usable = true;
		sd_dispatch_attach(&x->d, &x->b[i]);
	}
	sd_dispatch_learn(&x->d, FAST, 10);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	sd_dispatch_fini(&x->d);
	free(x);
	return 0;
}

static void add(struct fixture *x, int from, int n, uint32_t step)
{
	for (int i = from; i < from + n; i++) {
		x->f[i].step = step;
		sd_dispatch_add(&x->d, &x->f[i]);
	}
}

static int dispatch_all(struct fixture *x)
{
	int n = 0;

	while (sd_dispatch_next(&x->d))
		n++;
	return n;
}

/* Idle ones first; an unknown step is taken to be slow, so nothing goes behind it. */
static void test_unknown_steps_spread(void **state)
{
	struct fixture *x = *state;

	add(x, 0, 5, SLOW);
	assert_int_equal(dispatch_all(x), 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(x->b[i].flights.n, 1);
	assert_int_equal(x->d.waiting.n, 2);
	assert_ptr_equal(x->d.waiting.head, &x->f[3]);
	sd_dispatch_remove(&x->d, &x->f[1]);
	assert_ptr_equal(sd_dispatch_next(&x->d), &x->f[3]);
	assert_null(sd_dispatch_next(&x->d));
}

static void test_fast_ones_go_ahead(void **state)
{
	struct fixture *x = *state;

	add(x, 0, 64, FAST);
	assert_int_equal(dispatch_all(x), 3 * SD_DISPATCH_MAX_AHEAD);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(x->b[i].flights.n, SD_DISPATCH_MAX_AHEAD);
		assert_int_equal(x->b[i].load_us, 10 * SD_DISPATCH_MAX_AHEAD);
	}
	assert_true(x->f[0].id == 1001 && x->f[1].id == 1002);
}

static void test_nothing_goes_behind_a_slow_one(void **state)
{
	struct fixture *x = *state;

	add(x, 0, 2, SLOW);
	add(x, 2, 4, FAST);
	assert_int_equal(dispatch_all(x), 6);
	for (int i = 2; i < 6; i++)
		assert_ptr_equal(x->f[i].backend, x->f[2].backend);
	assert_ptr_not_equal(x->f[2].backend, x->f[0].backend);
	assert_ptr_not_equal(x->f[2].backend, x->f[1].backend);
}

static void test_unusable_gets_nothing(void **state)
{
	struct fixture *x = *state;

	x->b[0].usable = x->b[1].usable = false;
	sd_dispatch_detach(&x->d, &x->b[1]);
	add(x, 0, 2, SLOW);
	assert_int_equal(dispatch_all(x), 1);
	assert_ptr_equal(x->f[0].backend, &x->b[2]);
	sd_dispatch_detach(&x->d, &x->b[2]);
	assert_null(sd_dispatch_next(&x->d));
}

static void test_returned_ones_keep_their_place(void **state)
{
	struct fixture *x = *state;
	uint64_t first_id;

	add(x, 0, 6, FAST);
	x->b[1].usable = x->b[2].usable = false;
	assert_int_equal(dispatch_all(x), 6);
	first_id = x->f[2].id;
	add(x, 6, 1, FAST);
	for (int i = 5; i >= 2; i--)
		sd_dispatch_return(&x->d, &x->f[i]);
	assert_int_equal(x->b[0].flights.n, 2);
	assert_int_equal(x->b[0].load_us, 20);
	for (int i = 2; i < 7; i++) {
		struct sd_flight *f = sd_dispatch_next(&x->d);

		assert_ptr_equal(f, &x->f[i]);
	}
	assert_true(x->f[2].id > first_id); /* a new id each time */
	assert_ptr_equal(sd_backend_find(&x->b[0], x->f[2].id), &x->f[2]);
	assert_null(sd_backend_find(&x->b[0], first_id));
}

static void test_learning_forgets_one_bad_run(void **state)
{
	struct fixture *x = *state;

	sd_dispatch_learn(&x->d, SLOW, 20);
	sd_dispatch_learn(&x->d, SLOW, 60000000);
	assert_in_range(x->d.step_us[SLOW], 2000, SD_DISPATCH_UNKNOWN_US);
	for (int i = 0; i < 12; i++)
		sd_dispatch_learn(&x->d, SLOW, 20);
	assert_in_range(x->d.step_us[SLOW], 1, 200);
	sd_dispatch_learn(&x->d, 99, 20);
}

/* --- replies --- */

static const char *header(const struct sd_frame_reply *r, const char *name)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (strcmp(r->headers[i].name, name) == 0)
			return r->headers[i].value;
	return NULL;
}

static void test_replies(void **state)
{
	struct sd_http_request q = {.id = 5};
	struct sd_pair type = {"content-type", "image/png", 9};
	struct sd_attempt *a = sd_attempt_new();
	struct sd_frame_reply r;

	(void)state;
	a->http = &q;
	a->reply = (struct sd_http_reply){.status = 200, .body = "{}", .body_len = 2, .body_is_json = true};
	sd_reply_of(a, &r);
	assert_int_equal(r.id, 5);
	assert_string_equal(header(&r, "content-type"), "application/json");
	a->reply.body_is_json = false;
	sd_reply_of(a, &r);
	assert_string_equal(header(&r, "content-type"), "text/plain; charset=utf-8");
	a->reply.headers = &type;
	a->reply.nheaders = 1;
	sd_reply_of(a, &r);
	assert_int_equal(r.nheaders, 1);
	assert_string_equal(header(&r, "content-type"), "image/png");
	a->reply = (struct sd_http_reply){.status = 204};
	sd_reply_of(a, &r);
	assert_int_equal(r.nheaders, 0);
	sd_reply_error(a, &r, 500, "handler_error", "the handler failed", "id", 0);
	assert_int_equal(r.status, 500);
	assert_string_equal(r.body, "{\"error\":{\"code\":\"handler_error\",\"message\":\"the handler failed\",\"details\":[{\"errorId\":\"id\"}]}}");
	assert_null(header(&r, "retry-after"));
	sd_reply_error(a, &r, 503, "not_now", "m", NULL, 6);
	assert_string_equal(header(&r, "retry-after"), "6");
	sd_attempt_free(a);
}

static void test_error_bodies(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	(void)state;
	sd_error_body(&b, "c", "a \"quote\"\n\xff", NULL);
	assert_string_equal(b.data, "{\"error\":{\"code\":\"c\",\"message\":\"a \\\"quote\\\"\\n\xef\xbf\xbd\",\"details\":[]}}");
	sd_buf_fini(&b);
	assert_string_equal(sd_http_reason(404), "Not Found");
	assert_non_null(sd_http_reason(599));
}

static void test_metrics(void **state)
{
	struct sd_http_metrics m = {0};
	struct sd_buf b = SD_BUF_INIT;

	(void)state;
	sd_http_metrics_count(&m, 200, 400);
	sd_http_metrics_count(&m, 201, 600);
	sd_http_metrics_count(&m, 503, 60000000);
	sd_http_metrics_count(&m, 999, -1);
	sd_http_metrics_print(&b, &m);
	assert_non_null(strstr(b.data, "stepd_http_requests_total{status=\"2xx\"} 2\n"));
	assert_non_null(strstr(b.data, "stepd_http_requests_total{status=\"5xx\"} 2\n"));
	assert_non_null(strstr(b.data, "_bucket{le=\"0.0005\"} 2\n"));
	assert_non_null(strstr(b.data, "_bucket{le=\"0.001\"} 3\n"));
	assert_non_null(strstr(b.data, "_bucket{le=\"30\"} 3\n"));
	assert_non_null(strstr(b.data, "_bucket{le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(b.data, "_sum 60.001000\n"));
	sd_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unknown_steps_spread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fast_ones_go_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_goes_behind_a_slow_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unusable_gets_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_returned_ones_keep_their_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_learning_forgets_one_bad_run, setup, teardown),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_error_bodies),
		cmocka_unit_test(test_metrics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
