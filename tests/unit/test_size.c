/* How many processes a pool has: the decision of role/size.h, from values. */
#include "base/clock.h"
#include "role/size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define IDLE (10 * SD_SEC)

static struct sd_size size;
static struct sd_size_seen seen;
static int64_t now;

static int begin(void **state)
{
	(void)state;
	size = (struct sd_size){0};
	seen = (struct sd_size_seen){.min = 1, .max = 16, .idle_us = IDLE, .want = 1, .ready = 1};
	now = 1000 * SD_SEC;
	return 0;
}

/* Decide, and let it be so. */
static unsigned next(int64_t after_us)
{
	now += after_us;
	seen.want = sd_size_decide(&size, &seen, now);
	seen.ready = seen.want;
	seen.waiting = 0;
	seen.worked = false;
	return seen.want;
}

static void test_grows_by_doubling(void **state)
{
	static const unsigned steps[] = {2, 4, 8, 16, 16};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		seen.waiting = 100;
		assert_int_equal(next(100 * SD_MS), steps[i]);
	}
}

static void test_grows_by_what_waits(void **state)
{
	(void)state;
	seen.waiting = 100;
	assert_int_equal(next(0), 2);
	seen.waiting = 1;
	assert_int_equal(next(100 * SD_MS), 3);
	seen.waiting = 100; /* after a pause it begins at one again */
	assert_int_equal(next(SD_SIZE_CALM_US), 4);
}

static void test_does_not_grow(void **state)
{
	(void)state;
	assert_int_equal(next(0), 1); /* nothing waits */
	seen.waiting = 5;
	seen.idle = 1; /* somebody is about to take it */
	assert_int_equal(next(0), 1);
	seen.waiting = 5;
	seen.idle = 0;
	seen.starting = 1;
	assert_int_equal(next(0), 1);
	seen.waiting = 5;
	seen.starting = 0;
	seen.ready = 0; /* it died: its like would too */
	now++;
	assert_int_equal(sd_size_decide(&size, &seen, now), 1);
	seen.want = seen.ready = seen.max;
	assert_int_equal(next(0), seen.max);
}

static void test_from_none_and_back(void **state)
{
	(void)state;
	seen.min = seen.want = seen.ready = 0;
	assert_int_equal(next(0), 0);
	seen.waiting = 1;
	assert_int_equal(next(0), 1);
	seen.idle = 1;
	assert_int_equal(next(1), 1);
	for (int i = 0; i < 5; i++) { /* some work in each idle time keeps the last one */
		seen.worked = true;
		assert_int_equal(next(IDLE / 2), 1);
		assert_int_equal(next(IDLE / 2), 1);
		assert_int_equal(next(1), 1);
	}
	assert_int_equal(next(IDLE), 0);
}

static void test_shrinks_to_what_is_needed(void **state)
{
	(void)state;
	seen.want = seen.ready = 10;
	seen.idle = 6;
	assert_int_equal(next(0), 10);
	seen.idle = 3; /* at the busiest moment seven worked */
	assert_int_equal(next(IDLE / 2), 10);
	seen.idle = 9;
	assert_int_equal(next(IDLE / 2), 7);
	seen.idle = 7;
	assert_int_equal(next(1), 7);
	assert_int_equal(next(IDLE), 1);
}

static void test_the_idle_time_begins_anew_when_all_work(void **state)
{
	(void)state;
	seen.want = seen.ready = 4;
	seen.idle = 1;
	assert_int_equal(next(0), 4);
	seen.idle = 0;
	assert_int_equal(next(IDLE - 1), 4);
	seen.idle = 2;
	assert_int_equal(next(1), 4);
	assert_int_equal(next(IDLE - 1), 4);
	assert_int_equal(next(1), 2);
}

static void test_those_idle_all_the_time_go_together(void **state)
{
	(void)state;
	seen.want = seen.ready = 16;
	seen.idle = 1; /* the first that was done */
	assert_int_equal(next(0), 16);
	seen.idle = 16;
	assert_int_equal(next(1), 16);
	seen.idle_long = 16;
	assert_int_equal(next(IDLE), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, begin)
	const struct CMUnitTest tests[] = {
		T(test_grows_by_doubling), T(test_grows_by_what_waits), T(test_does_not_grow), T(test_from_none_and_back),
		T(test_shrinks_to_what_is_needed), T(test_the_idle_time_begins_anew_when_all_work),
		T(test_those_idle_all_the_time_go_together),
	};

	return cmocka_run_group_tests_name("size", tests, NULL, NULL);
}
