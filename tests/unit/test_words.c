/* What people write and read: durations and sizes, suggestions for unknown words, UUIDs, the wall clock. */
#include "base/clock.h"
#include "base/suggest.h"
#include "base/units.h"
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int64_t duration(const char *text)
{
	struct sd_err err;
	int64_t v;

	if (sd_duration_parse(text, &v, &err) == 0)
		return v;
	assert_non_null(strstr(err.message, "duration"));
	return -1;
}

static int64_t size(const char *text)
{
	struct sd_err err;
	int64_t v;

	if (sd_size_parse(text, &v, &err) == 0)
		return v;
	assert_non_null(strstr(err.message, "size"));
	return -1;
}

static void test_durations(void **state)
{
	static const char *const bad[] = {"", "s", "-1", "+1", "1.5s", "1 s", " 1s", "1s ", "1S", "1w", "1m30s", "0x10", "١s",
					  "9223372036854775808", "99999999999999999999", "106751991168d"};

	assert_int_equal(duration("500ms"), 500);
	assert_int_equal(duration("30s"), 30000);
	assert_int_equal(duration("5m"), 300000);
	assert_int_equal(duration("2h"), 7200000);
	assert_int_equal(duration("7d"), 604800000);
	assert_int_equal(duration("1000"), 1000);
	assert_int_equal(duration("0"), 0);
	assert_int_equal(duration("0s"), 0);
	assert_int_equal(duration("106751991167d"), 106751991167 * 86400000);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(duration(bad[i]), -1);
}

static void test_sizes(void **state)
{
	static const char *const bad[] = {"", "KiB", "1KB", "1k", "1M", "1kib", "1.5MiB", "-1", "8388608TiB"};

	assert_int_equal(size("64KiB"), 65536);
	assert_int_equal(size("1MiB"), 1048576);
	assert_int_equal(size("2GiB"), 2147483648);
	assert_int_equal(size("1TiB"), 1099511627776);
	assert_int_equal(size("17B"), 17);
	assert_int_equal(size("17"), 17);
	assert_int_equal(size("8388607TiB"), 8388607LL << 40);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(size(bad[i]), -1);
}

static void test_formats(void **state)
{
	char out[32];

	assert_string_equal(sd_duration_format(300000, out), "5m");
	assert_string_equal(sd_duration_format(1500, out), "1500ms");
	assert_string_equal(sd_duration_format(86400000, out), "1d");
	assert_string_equal(sd_duration_format(0, out), "0ms");
	assert_string_equal(sd_size_format(65536, out), "64KiB");
	assert_string_equal(sd_size_format(1000, out), "1000B");
	assert_string_equal(sd_size_format(INT64_MAX, out), "9223372036854775807B");
}

static void test_suggestions(void **state)
{
	static const char *const known[] = {"maxRetries", "retryDelay", "maxRetryDelay", "strategy", "timeout", "backoff"};
	const size_t n = sizeof known / sizeof known[0];
	char huge[5000];

	assert_int_equal(sd_edit_distance("kitten", "sitting", 9), 3);
	assert_int_equal(sd_edit_distance("ab", "ba", 9), 1);
	assert_int_equal(sd_edit_distance("Ab", "aB", 9), 0);
	assert_int_equal(sd_edit_distance("", "abc", 9), 3);
	assert_int_equal(sd_edit_distance("abc", "xyz", 1), 2);
	assert_string_equal(sd_suggest("maxretries", known, n), "maxRetries");
	assert_string_equal(sd_suggest("max_retries", known, n), "maxRetries");
	assert_string_equal(sd_suggest("stragety", known, n), "strategy");
	assert_string_equal(sd_suggest("timout", known, n), "timeout");
	assert_null(sd_suggest("concurrency", known, n));
	assert_null(sd_suggest("", known, n));
	assert_null(sd_suggest("x", known, 0));
	memset(huge, 'm', sizeof huge - 1);
	huge[sizeof huge - 1] = '\0';
	assert_null(sd_suggest(huge, known, n));
}

static void test_uuids(void **state)
{
	char a[SD_UUID_LEN + 1], b[SD_UUID_LEN + 1];
	int64_t ms;

	assert_true(sd_uuid_valid(sd_uuid_v4(a)));
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
	assert_string_not_equal(a, sd_uuid_v4(b));
	sd_uuid_v7(a);
	assert_true(sd_uuid_valid(a));
	assert_int_equal(a[14], '7');
	assert_non_null(strchr("89ab", a[19]));
	/* the first 48 bits are the time */
	ms = strtoll((char[]){a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[9], a[10], a[11], a[12], 0}, NULL, 16);
	assert_in_range(ms, sd_wall_us() / 1000 - 10000, sd_wall_us() / 1000);
	for (int i = 0; i < 10000; i++) { /* faster than the clock's fractions: still ascending */
		sd_uuid_v7(b);
		assert_true(strcmp(a, b) < 0);
		strcpy(a, b);
	}
	assert_true(sd_uuid_valid("01A208E9-cbbb-757c-81ad-73dc63273277"));
	assert_false(sd_uuid_valid(""));
	assert_false(sd_uuid_valid("01a208e9-cbbb-757c-81ad-73dc6327327"));
	assert_false(sd_uuid_valid("01a208e9-cbbb-757c-81ad-73dc632732777"));
	assert_false(sd_uuid_valid("01a208e9xcbbb-757c-81ad-73dc63273277"));
	assert_false(sd_uuid_valid("{1a208e9-cbbb-757c-81ad-73dc6327327}"));
}

static void test_clocks(void **state)
{
	char out[28];
	int64_t before = sd_now_us();

	assert_true(sd_now_us() >= before);
	assert_in_range(sd_wall_us() / SD_SEC, time(NULL) - 1, time(NULL) + 1);
	assert_string_equal(sd_wall_format(0, out), "1970-01-01T00:00:00.000000Z");
	assert_string_equal(sd_wall_format(-1, out), "1969-12-31T23:59:59.999999Z");
	assert_string_equal(sd_wall_format(1795442709123456, out), "2026-11-23T14:05:09.123456Z");
	assert_string_equal(sd_wall_format(253402300799999999, out), "9999-12-31T23:59:59.999999Z");
	assert_string_equal(sd_wall_format(INT64_MAX, out), "out of range");
	assert_string_equal(sd_wall_format(INT64_MIN, out), "out of range");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_durations), cmocka_unit_test(test_sizes), cmocka_unit_test(test_formats),
		cmocka_unit_test(test_suggestions), cmocka_unit_test(test_uuids), cmocka_unit_test(test_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
