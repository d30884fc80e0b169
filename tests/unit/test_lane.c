/* Batch sizes and cursors of a lane. */
#include "queue/lane.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct sd_lane lane;

static int fresh(void **state)
{
	sd_lane_init(&lane, 7, 0, 0);
	return 0;
}

/* One claim that gives n jobs up to cursor. */
static int64_t claim(int asked, int n, int64_t cursor, int64_t now)
{
	int64_t from = sd_lane_begin(&lane, asked, now);
	lane.got = n;
	lane.got_cursor = cursor;
	sd_lane_end(&lane, now, 100);
	return from;
}

static void unknown_lane_asks_for_one(void **state)
{
	assert_int_equal(sd_lane_want(&lane, 5000), 1);
	assert_true(sd_lane_is_slow(&lane));
}

static void batches_of_fast_jobs_grow_up_to_the_limit(void **state)
{
	int64_t now = SD_SEC;
	int want = 1, rounds = 0;
	assert_int_equal(lane.max_batch, SD_LANE_BATCH);
	lane.max_batch = 700;
	while (want < 700 && rounds++ < 4) {
		claim(want, want, rounds, now++);
		sd_lane_ran(&lane, 1, 100);
		assert_in_range(sd_lane_want(&lane, 50000), want, 64 * want);
		want = sd_lane_want(&lane, 50000);
	}
	assert_int_equal(want, 700);
	assert_false(sd_lane_is_slow(&lane));
}

static void batches_grow_slowly_after_a_death(void **state)
{
	static const int doubled[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, SD_LANE_BATCH, SD_LANE_BATCH};

	lane.last_batch = 500;
	sd_lane_ran(&lane, 1, 100);
	sd_lane_warn(&lane);
	for (size_t i = 0; i < sizeof doubled / sizeof *doubled; i++) {
		assert_int_equal(sd_lane_want(&lane, 50000), doubled[i]);
		claim(doubled[i], doubled[i], (int64_t)i + 1, SD_SEC);
	}
	assert_false(lane.wary);
	sd_lane_warn(&lane);
	claim(1, 0, 100, SD_SEC);
	assert_int_equal(sd_lane_want(&lane, 50000), 1); /* nothing came, so nothing is known */
	claim(1, 1, 101, SD_SEC);
	claim(1, 1, 102, SD_SEC); /* it might have been two: something else keeps them small */
	assert_false(lane.wary);
	assert_int_equal(sd_lane_want(&lane, 50000), 64);
}

static void what_the_database_does_counts_as_well(void **state)
{
	lane.last_batch = 500;
	sd_lane_ran(&lane, 0, 100);
	assert_int_equal(sd_lane_want(&lane, 2000), 200);
	assert_int_equal(sd_lane_want(&lane, 50000), SD_LANE_BATCH);
}

static void slow_jobs_are_claimed_singly(void **state)
{
	claim(1, 1, 1, SD_SEC);
	lane.last_batch = 500;
	sd_lane_ran(&lane, 1, 100);
	sd_lane_ran(&lane, SD_SEC, 100);
	assert_int_equal(sd_lane_want(&lane, 5000), 1);
	assert_true(sd_lane_is_slow(&lane));
}

static void jobs_that_are_nobody_elses_come_in_whole_batches(void **state)
{
	assert_int_equal(sd_lane_most(&lane, 50000), 1);
	claim(1, 1, 1, SD_SEC);
	lane.last_batch = 500;
	sd_lane_ran(&lane, 5000, 100);
	assert_int_equal(sd_lane_want(&lane, 2000), 1);
	assert_int_equal(sd_lane_most(&lane, 50000), 9);
	lane.mean_us = 8000; /* what waits behind one of these is given back */
	assert_int_equal(sd_lane_most(&lane, 50000), 1);
}

static void others_are_woken_for_what_is_left(void **state)
{
	static const struct {
		int got;
		enum sd_more more;
		bool has_more, full;
	} cases[] = {{8, SD_MORE_IF_FULL, true, true}, {3, SD_MORE_IF_FULL, false, false}, {3, SD_MORE, true, true}, {8, SD_NO_MORE, false, true}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		sd_lane_begin(&lane, 8, SD_SEC);
		assert_int_equal(lane.more, SD_MORE_IF_FULL);
		lane.got = cases[i].got;
		lane.more = cases[i].more;
		sd_lane_end(&lane, SD_SEC, 100);
		assert_int_equal(sd_lane_has_more(&lane), cases[i].has_more);
		assert_int_equal(lane.full, cases[i].full);
	}
}

static void who_finds_nothing_where_it_went_on_has_not_seen_all(void **state)
{
	lane.rescan_us = 100 * SD_SEC;
	claim(8, 8, 50, SD_SEC);
	assert_int_equal(claim(8, 0, 0, SD_SEC), 50);
	assert_true(lane.ahead);
	assert_int_equal(claim(8, 0, 0, SD_SEC), 0);
	assert_false(lane.ahead);
}

static void large_inputs_bound_the_batch(void **state)
{
	lane.last_batch = 500;
	sd_lane_ran(&lane, 1, 1048576);
	assert_int_equal(sd_lane_want(&lane, 5000), 4);
}

static void cursor_advances_while_full(void **state)
{
	int64_t now = SD_SEC;
	assert_int_equal(claim(10, 10, 100, now), 0);
	assert_int_equal(claim(10, 10, 200, now + 1), 100);
	assert_int_equal(claim(10, 10, 300, now + 2), 200);
}

static void short_claim_looks_back(void **state)
{
	int64_t now = SD_SEC;
	claim(10, 10, 100, now);
	claim(10, 3, 103, now + 1);
	/* nothing is ten seconds old yet: from the start */
	assert_int_equal(claim(10, 0, 0, now + 2), 0);
	/* with a second-by-second past, from ten seconds ago */
	for (int i = 1; i <= 30; i++)
		claim(10, 10, 100 + 10 * i, now + i * SD_SEC);
	lane.rescan_us = INT64_MAX;
	claim(10, 1, 401, now + 30 * SD_SEC + 1);
	int64_t from = claim(10, 0, 0, now + 30 * SD_SEC + 2);
	assert_in_range(from, 250, 310);
}

static void start_is_read_again_every_second(void **state)
{
	int64_t now = SD_SEC;
	claim(10, 10, 100, now);
	assert_int_equal(claim(10, 10, 200, now + SD_SEC / 2), 100);
	assert_int_equal(claim(10, 10, 300, now + SD_SEC), 0);
	assert_int_equal(claim(10, 10, 400, now + SD_SEC + 1), 300);
}

static void dear_rescans_become_rare(void **state)
{
	sd_lane_begin(&lane, 10, SD_SEC);
	lane.got = 10;
	lane.got_cursor = 5;
	sd_lane_end(&lane, 2 * SD_SEC, SD_SEC); /* it took a second */
	assert_true(lane.rescan_us >= 2 * SD_SEC + 20 * SD_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(unknown_lane_asks_for_one, fresh),
		cmocka_unit_test_setup(batches_of_fast_jobs_grow_up_to_the_limit, fresh),
		cmocka_unit_test_setup(batches_grow_slowly_after_a_death, fresh),
		cmocka_unit_test_setup(what_the_database_does_counts_as_well, fresh),
		cmocka_unit_test_setup(slow_jobs_are_claimed_singly, fresh),
		cmocka_unit_test_setup(jobs_that_are_nobody_elses_come_in_whole_batches, fresh),
		cmocka_unit_test_setup(others_are_woken_for_what_is_left, fresh),
		cmocka_unit_test_setup(who_finds_nothing_where_it_went_on_has_not_seen_all, fresh),
		cmocka_unit_test_setup(large_inputs_bound_the_batch, fresh),
		cmocka_unit_test_setup(cursor_advances_while_full, fresh),
		cmocka_unit_test_setup(short_claim_looks_back, fresh),
		cmocka_unit_test_setup(start_is_read_again_every_second, fresh),
		cmocka_unit_test_setup(dear_rescans_become_rare, fresh),
	};
	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
