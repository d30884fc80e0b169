/* Waiting longer each time: the three kinds, jitter, cap, numbers without sense, and respawning. */
#include "base/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_kinds(void **state)
{
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, 1000, 1, 0, 0, 0.3), 1000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, 1000, 4, 0, 0, 0.3), 8000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_LINEAR, 1000, 4, 0, 0, 0.3), 4000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 4, 0, 0, 0.3), 1000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, 1000, 0, 0, 0, 0.3), 1000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, 0, 9, 0.1, 0, 0.3), 0);
}

static void test_jitter_and_cap(void **state)
{
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 1, 0.1, 0, 0.0), 900);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 1, 0.1, 0, 0.5), 1000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 1, 0.1, 0, 0.999999), 1100);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 1, 1.0, 0, 0.0), 0);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, 1000, 30, 0.1, 3600000, 0.9), 3600000);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, 1000, 1, 0.1, 1050, 0.999999), 1050);
}

static void test_no_overflow(void **state)
{
	for (int k = 1; k < 2000; k += 7)
		for (int kind = 0; kind < 3; kind++)
			assert_true(sd_backoff_delay(kind, INT64_MAX / 2, k, 0.5, 0, 0.9) > 0);
	assert_true(sd_backoff_delay(SD_BACKOFF_LINEAR, INT64_MAX, INT32_MAX, 0.1, 0, 0.9) > 0);
	assert_int_equal(sd_backoff_delay(SD_BACKOFF_FIXED, -5, 1, 0.1, 0, 0.9), 0);
}

static void test_respawn(void **state)
{
	static const int seconds[] = {0, 1, 2, 4, 8, 16, 32, 60, 60, 60};
	struct sd_respawn r = {0};

	for (int i = 0; i < 10; i++)
		assert_int_equal(sd_respawn_died(&r, 1000), seconds[i] * 1000000LL);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(sd_respawn_died(&r, 0), 60000000);
	assert_int_equal(sd_respawn_died(&r, SD_RESPAWN_HEALTHY_US), 0);
	assert_int_equal(sd_respawn_died(&r, SD_RESPAWN_HEALTHY_US - 1), 1000000);
	assert_int_equal(sd_respawn_died(&r, SD_RESPAWN_HEALTHY_US + 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_jitter_and_cap),
		cmocka_unit_test(test_no_overflow),
		cmocka_unit_test(test_respawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
