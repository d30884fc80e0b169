/*
 * Cron expressions: what is read, what is refused and why, days only we know,
 * and changes of the clock.  The bulk is compared with other programs in
 * tests/oracle; here stands what the contract says word by word.
 */
#include "base/clock.h"
#include "base/cronspec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct sd_zoneset *zones;

static int set_up(void **state)
{
	zones = sd_zoneset_new();
	return 0;
}

static int tear_down(void **state)
{
	sd_zoneset_free(zones);
	return 0;
}

static int64_t instant(const char *utc)
{
	struct tm tm = {0};

	assert_non_null(strptime(utc, "%Y-%m-%d %H:%M:%S", &tm));
	return timegm(&tm) * SD_SEC;
}

/* The ticks after `after` (UTC), in UTC, each in that format of strftime(3). */
static const char *ticks_of(const char *expression, const char *zone_name, const char *after, int n, const char *format)
{
	static char out[1024];
	const struct sd_zone *zone = sd_zoneset_get(zones, zone_name, NULL);
	struct sd_cronspec spec;
	int64_t at = instant(after);
	size_t len = 0;

	assert_non_null(zone);
	assert_int_equal(sd_cron_parse(expression, &spec, NULL), 0);
	out[0] = '\0';
	while (n-- > 0 && sd_cron_next(&spec, zone, at, &at)) {
		time_t sec = (time_t)(at / SD_SEC);
		struct tm tm;

		assert_int_equal(at % SD_SEC, 0);
		len += strftime(out + len, sizeof out - len, format, gmtime_r(&sec, &tm));
	}
	return out;
}

static const char *ticks(const char *expression, const char *zone, const char *after, int n)
{
	return ticks_of(expression, zone, after, n, "%m-%d %H:%M ");
}

static const char *dates(const char *expression, const char *after, int n)
{
	return ticks_of(expression, "UTC", after, n, "%Y-%m-%d ");
}

static void test_refused_with_reason(void **state)
{
	static const struct {
		const char *text, *field, *why;
	} bad[] = {
		{"", "", "empty"},
		{"   ", "", "empty"},
		{"* * * *", "", "has 4 fields"},
		{"*", "", "has 1 field,"},
		{"* * * * * * * *", "", "has 8 fields"},
		{"60 * * * *", "minute \"60\"", "60 is not within 0 to 59"},
		{"* 24 * * *", "hour \"24\"", "not within 0 to 23"},
		{"* * 0 * *", "day of month \"0\"", "not within 1 to 31"},
		{"* * 32 * *", "day of month", "not within"},
		{"* * * 13 *", "month", "not within 1 to 12"},
		{"* * * 0 *", "month", "not within"},
		{"* * * * 8", "day of week", "not within 0 to 7"},
		{"60 * * * * *", "second", "not within"},
		{"* * * * * * 1969", "year", "not within 1970 to 2199"},
		{"* * * * * * 2200", "year", "not within"},
		{"99999999999999999999 * * * *", "minute", "not within"},
		{"-1 * * * *", "minute \"-1\"", "\"-1\" is no number"},
		{"1- * * * *", "minute", "a number is missing"},
		{"1-2-3 * * * *", "minute", "\"-3\" makes no sense"},
		{"5-3 * * * *", "minute", "runs backward"},
		{"* 22-2 * * *", "hour", "runs backward"},
		{"* * * nov-feb *", "month", "runs backward"},
		{"* * * * sat-mon", "day of week", "runs backward"},
		{"*/0 * * * *", "minute", "step of 0"},
		{"*/61 * * * *", "minute", "more than the field holds"},
		{"*/ * * * *", "minute", "a number is missing"},
		{"*/2/3 * * * *", "minute", "makes no sense"},
		{"*5 * * * *", "minute", "makes no sense"},
		{"5* * * * *", "minute", "makes no sense"},
		{"1,,2 * * * *", "minute", "empty"},
		{",1 * * * *", "minute", "empty"},
		{"1, * * * *", "minute", "empty"},
		{"a * * * *", "minute", "\"a\" is no number"},
		{"jan * * * *", "minute", "no number"},
		{"* * * foo *", "month", "\"foo\" is no name"},
		{"* * * january *", "month", "\"january\" is no name"},
		{"* * * * monday", "day of week", "no name"},
		{"* * * * jan", "day of week", "no name"},
		{"? * * * *", "minute", "for the day fields"},
		{"* * ?,1 * *", "day of month", "? must stand alone"},
		{"* * * * L", "day of week", "L needs a weekday"},
		{"* * * * 1#6", "day of week", "1 to 5"},
		{"* * * * 1#0", "day of week", "1 to 5"},
		{"* * * * 1#", "day of week", "missing"},
		{"* * * * 1#2#3", "day of week", "1 to 5"},
		{"* * * * 1W", "day of week", "makes no sense"},
		{"* * 1L * *", "day of month", "makes no sense"},
		{"* * L-31 * *", "day of month", "1 to 30"},
		{"* * L-0 * *", "day of month", "1 to 30"},
		{"* * LX * *", "day of month", "behind L"},
		{"* * 1-5W * *", "day of month", "makes no sense"},
		{"* * 1#2 * *", "day of month", "makes no sense"},
		{"* * W * *", "day of month", "no number"},
		{"0 0 30 2 *", "", "never matches"},
		{"0 0 31 4,6,9,11 *", "", "never matches"},
		{"0 0 31W 2 *", "", "never matches"},
		{"0 0 0 29 2 ? 2023", "", "never matches"},
		{"0 0 0 29 2 ? 2100", "", "never matches"},
		{"0 0 L-29 2 *", "", "never matches"},
		{"@reboot", "", "no known name"},
		{"@", "", "no known name"},
		{"@every", "", "no known name"},
		{"@every ", "", "no known name"},
		{"@every 0s", "", "whole seconds"},
		{"@every 1500ms", "", "whole seconds"},
		{"@every 366d", "", "whole seconds"},
		{"@every soon", "", "not a duration"},
		{"@daily 5", "", "no known name"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct sd_cronspec spec;
		struct sd_err err = {0};

		assert_int_equal(sd_cron_parse(bad[i].text, &spec, &err), -1);
		assert_int_equal(err.class, SD_ERR_PERMANENT);
		assert_non_null(strstr(err.message, bad[i].field));
		assert_non_null(strstr(err.message, bad[i].why));
	}
}

static void test_too_long(void **state)
{
	struct sd_cronspec spec;
	struct sd_err err;
	char text[3000];

	memset(text, '1', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(sd_cron_parse(text, &spec, &err), -1);
	assert_non_null(strstr(err.message, "longer than 1024"));
	memset(text, ' ', sizeof text - 1);
	memcpy(text + 1500, "0 0 * * *", 9);
	text[1520] = '\0';
	assert_int_equal(sd_cron_parse(text, &spec, &err), 0);
}

static void test_forms(void **state)
{
	const char *after = "2026-01-01 00:00:00"; /* a Thursday */

	assert_string_equal(ticks("*/20 5 * * *", "UTC", after, 4), "01-01 05:00 01-01 05:20 01-01 05:40 01-02 05:00 ");
	assert_string_equal(ticks("10/20 5 * * *", "UTC", after, 4), "01-01 05:10 01-01 05:30 01-01 05:50 01-02 05:10 ");
	assert_string_equal(ticks("1-9/4,30 0 * * *", "UTC", after, 4), "01-01 00:01 01-01 00:05 01-01 00:09 01-01 00:30 ");
	assert_string_equal(ticks(" \t0  0\t1 JAN,Mar * ", "UTC", after, 3), "03-01 00:00 01-01 00:00 03-01 00:00 ");
	assert_string_equal(ticks("0 0 * * 7", "UTC", after, 2), "01-04 00:00 01-11 00:00 ");
	assert_string_equal(ticks("0 0 * * 0", "UTC", after, 2), "01-04 00:00 01-11 00:00 ");
	assert_string_equal(ticks("0 0 * * fri-sun", "UTC", after, 4), "01-02 00:00 01-03 00:00 01-04 00:00 01-09 00:00 ");
	assert_string_equal(ticks("0 0 * * 5-7", "UTC", after, 4), "01-02 00:00 01-03 00:00 01-04 00:00 01-09 00:00 ");
	assert_string_equal(ticks("@hourly", "UTC", after, 2), "01-01 01:00 01-01 02:00 ");
	assert_string_equal(ticks("@Daily", "UTC", after, 2), "01-02 00:00 01-03 00:00 ");
	assert_string_equal(ticks("@weekly", "UTC", after, 2), "01-04 00:00 01-11 00:00 ");
	assert_string_equal(ticks("@monthly", "UTC", after, 2), "02-01 00:00 03-01 00:00 ");
	assert_string_equal(dates("@yearly", after, 2), "2027-01-01 2028-01-01 ");
	assert_string_equal(ticks_of("15 30 4 * * *", "UTC", after, 2, "%d %H:%M:%S "), "01 04:30:15 02 04:30:15 ");
	assert_string_equal(ticks_of("*/25 * * * * *", "UTC", after, 4, "%M:%S "), "00:25 00:50 01:00 01:25 ");
	assert_string_equal(dates("0 0 0 1 1 ? 2030,2032-2036/2", after, 9), "2030-01-01 2032-01-01 2034-01-01 2036-01-01 ");
	assert_string_equal(ticks_of("@every 90s", "UTC", after, 3, "%H:%M:%S "), "00:01:30 00:03:00 00:04:30 ");
	assert_string_equal(ticks_of("@every 7s", "UTC", "1970-01-01 00:00:00", 3, "%S "), "07 14 21 ");
}

/* crontab(5): two restricted day fields mean either; a field that holds a `*` leaves it to the other. */
static void test_either_day(void **state)
{
	const char *after = "2026-01-01 12:00:00";

	assert_string_equal(dates("0 0 13 * 5", after, 4), "2026-01-02 2026-01-09 2026-01-13 2026-01-16 ");
	assert_string_equal(dates("0 0 13 * *", after, 2), "2026-01-13 2026-02-13 ");
	assert_string_equal(dates("0 0 * * 5", after, 2), "2026-01-02 2026-01-09 ");
	assert_string_equal(dates("0 0 */2 * 5", after, 3), "2026-01-09 2026-01-23 2026-02-13 "); /* odd days that are Fridays */
	assert_string_equal(dates("0 0 13 * ?", after, 2), "2026-01-13 2026-02-13 ");
	assert_string_equal(dates("0 0 ? * ?", after, 2), "2026-01-02 2026-01-03 ");
	assert_string_equal(dates("0 0 L * 1", after, 6), "2026-01-05 2026-01-12 2026-01-19 2026-01-26 2026-01-31 2026-02-02 ");
}

static void test_days_of_quartz(void **state)
{
	assert_string_equal(dates("0 0 L * *", "2024-01-15 00:00:00", 3), "2024-01-31 2024-02-29 2024-03-31 ");
	assert_string_equal(dates("0 0 L-2 * *", "2026-01-15 00:00:00", 2), "2026-01-29 2026-02-26 ");
	assert_string_equal(dates("0 0 LW * *", "2026-01-01 00:00:00", 3), "2026-01-30 2026-02-27 2026-03-31 ");
	/* 15 August 2026 is a Saturday, 15 November a Sunday */
	assert_string_equal(dates("0 0 15W 8,11 *", "2026-01-01 00:00:00", 2), "2026-08-14 2026-11-16 ");
	/* 1 August 2026 is a Saturday: not back into July; 31 May a Sunday: not on into June */
	assert_string_equal(dates("0 0 1W 8 *", "2026-01-01 00:00:00", 1), "2026-08-03 ");
	assert_string_equal(dates("0 0 31W 5 *", "2026-01-01 00:00:00", 1), "2026-05-29 ");
	assert_string_equal(dates("0 0 * * 5#3", "2026-01-01 00:00:00", 2), "2026-01-16 2026-02-20 ");
	assert_string_equal(dates("0 0 * * mon#5", "2026-01-01 00:00:00", 2), "2026-03-30 2026-06-29 ");
	assert_string_equal(dates("0 0 * * 5L", "2026-01-01 00:00:00", 2), "2026-01-30 2026-02-27 ");
	assert_string_equal(dates("0 0 * * friL,1#1", "2026-01-01 00:00:00", 3), "2026-01-05 2026-01-30 2026-02-02 ");
	assert_string_equal(dates("0 0 * * 7L", "2026-01-01 00:00:00", 1), "2026-01-25 ");
	assert_string_equal(dates("0 0 29 2 *", "2096-03-01 00:00:00", 2), "2104-02-29 2108-02-29 "); /* 2100 has none */
	assert_string_equal(dates("0 0 29 2 */7", "2026-01-01 00:00:00", 2), "2032-02-29 2060-02-29 "); /* a Sunday too */
}

static void test_gap(void **state)
{
	/* Berlin, 29 March 2026: 02:00 to 03:00 does not exist; it ends at 01:00 UTC */
	const char *after = "2026-03-28 12:00:00";

	assert_string_equal(ticks("30 2 * * *", "Europe/Berlin", after, 2), "03-29 01:00 03-30 00:30 ");
	assert_string_equal(ticks("0,30 2 * * *", "Europe/Berlin", after, 2), "03-29 01:00 03-30 00:00 ");
	assert_string_equal(ticks("*/15 2 * * *", "Europe/Berlin", after, 2), "03-29 01:00 03-30 00:00 ");
	assert_string_equal(ticks("0 2,3 * * *", "Europe/Berlin", after, 2), "03-29 01:00 03-30 00:00 ");
	assert_string_equal(ticks("0 3 * * *", "Europe/Berlin", after, 2), "03-29 01:00 03-30 01:00 ");
	assert_string_equal(ticks("30 * * * *", "Europe/Berlin", "2026-03-29 00:00:00", 3), "03-29 00:30 03-29 01:30 03-29 02:30 ");
	assert_string_equal(ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:20:00", 3), "03-29 00:30 03-29 01:00 03-29 01:30 ");
	/* asked at the very instant behind the gap, the tick is past */
	assert_string_equal(ticks("30 2 * * *", "Europe/Berlin", "2026-03-29 01:00:00", 1), "03-30 00:30 ");
	assert_string_equal(ticks("30 2 * * *", "Europe/Berlin", "2026-03-29 00:59:59", 1), "03-29 01:00 ");
	/* half an hour, and at midnight: that day begins at 01:00 */
	assert_string_equal(ticks("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00:00", 2), "10-03 15:30 10-04 15:15 ");
	assert_string_equal(ticks("0 0 * * *", "Asia/Beirut", "2026-03-27 23:00:00", 2), "03-28 22:00 03-29 21:00 ");
	/* two hours at once */
	assert_string_equal(ticks("30 1 * * *", "Antarctica/Troll", "2026-03-28 12:00:00", 2), "03-29 01:00 03-29 23:30 ");
	/* Samoa had no 30 December 2011 */
	assert_string_equal(ticks("0 12 * * *", "Pacific/Apia", "2011-12-29 00:00:00", 3), "12-29 22:00 12-30 10:00 12-30 22:00 ");
	assert_string_equal(ticks("0 0 30 12 *", "Pacific/Apia", "2011-12-01 00:00:00", 1), "12-30 10:00 ");
}

static void test_overlap(void **state)
{
	/* Berlin, 25 October 2026: 02:00 to 03:00 comes twice, from 00:00 and from 01:00 UTC */
	const char *after = "2026-10-24 12:00:00";

	assert_string_equal(ticks("30 2 * * *", "Europe/Berlin", after, 2), "10-25 00:30 10-26 01:30 ");
	assert_string_equal(ticks("0,30 2 * * *", "Europe/Berlin", after, 3), "10-25 00:00 10-25 00:30 10-26 01:00 ");
	assert_string_equal(ticks("*/30 2 * * *", "Europe/Berlin", after, 5),
			    "10-25 00:00 10-25 00:30 10-25 01:00 10-25 01:30 10-26 01:00 ");
	assert_string_equal(ticks("30 * * * *", "Europe/Berlin", "2026-10-25 00:00:00", 3), "10-25 00:30 10-25 01:30 10-25 02:30 ");
	assert_string_equal(ticks("0 3 * * *", "Europe/Berlin", after, 1), "10-25 02:00 ");
	/* asked within the second pass, the fixed time is past */
	assert_string_equal(ticks("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10:00", 1), "10-26 01:30 ");
	assert_string_equal(ticks("*/30 2 * * *", "Europe/Berlin", "2026-10-25 01:10:00", 1), "10-25 01:30 ");
	assert_string_equal(ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 00:00:00", 2), "04-04 14:45 04-05 15:15 ");
}

static void test_instants(void **state)
{
	struct sd_cronspec spec;
	int64_t next;

	assert_int_equal(sd_cron_parse("0 0 * * *", &spec, NULL), 0);
	assert_true(sd_cron_next(&spec, NULL, -1, &next)); /* half a microsecond before the epoch, so to say */
	assert_int_equal(next, 0);
	assert_true(sd_cron_next(&spec, NULL, 0, &next));
	assert_int_equal(next, 86400 * SD_SEC);
	assert_true(sd_cron_next(&spec, NULL, INT64_MIN, &next));
	assert_int_equal(next, 0);
	assert_false(sd_cron_next(&spec, NULL, INT64_MAX, &next));
	assert_int_equal(sd_cron_parse("0 0 0 1 1 ? 2020", &spec, NULL), 0);
	assert_false(sd_cron_next(&spec, NULL, instant("2026-01-01 00:00:00"), &next));
	assert_true(sd_cron_next(&spec, NULL, instant("2019-01-01 00:00:00"), &next));
	assert_int_equal(sd_cron_parse("@every 1h", &spec, NULL), 0);
	assert_true(sd_cron_next(&spec, NULL, 3600 * SD_SEC - 1, &next));
	assert_int_equal(next, 3600 * SD_SEC);
}

/* Walking in steps and asking from anywhere between give the same ticks; none is left out, none comes twice. */
static void test_same_from_anywhere(void **state)
{
	static const char *const expressions[] = {"30 2 * * *", "*/20 1-3 * * *", "0 0 1 * *", "5 * * * sun", "0 0 L 3,10 *"};
	static const char *const names[] = {"Europe/Berlin", "Australia/Lord_Howe", "Asia/Beirut", "America/Sao_Paulo"};

	for (int e = 0; e < 5; e++) {
		for (int z = 0; z < 4; z++) {
			const struct sd_zone *zone = sd_zoneset_get(zones, names[z], NULL);
			int64_t at = instant("2016-01-01 00:00:00"), next, again;
			struct sd_cronspec spec;

			assert_int_equal(sd_cron_parse(expressions[e], &spec, NULL), 0);
			for (int i = 0; i < 800 && sd_cron_next(&spec, zone, at, &next); i++, at = next) {
				assert_true(next > at);
				for (int part = 1; part < 4; part++) {
					assert_true(sd_cron_next(&spec, zone, at + (next - at) / 4 * part, &again));
					assert_int_equal(again, next);
				}
				assert_true(sd_cron_next(&spec, zone, next - 1, &again));
				assert_int_equal(again, next);
			}
		}
	}
}

static void test_zones(void **state)
{
	static const char *const bad[] = {"Europe/Atlantis", "europe/berlin", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/",
					  "Europe//Berlin", "Europe/Berlin\n", "tzdata.zi", "CET-1CEST", " ", ":UTC", "+01:00"};
	const struct sd_zone *zone;
	struct sd_err err;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_null(sd_zone_load(bad[i], &err));
		assert_non_null(strstr(err.message, "time zone"));
		assert_non_null(strstr(err.hint, "Europe/Berlin"));
	}
	assert_null(sd_zone_read("X", "TZif2", 5, &err));
	assert_ptr_equal(sd_zoneset_get(zones, NULL, NULL), sd_zoneset_get(zones, "UTC", NULL));
	assert_ptr_equal(sd_zoneset_get(zones, "", NULL), sd_zoneset_get(zones, "Etc/UTC", NULL));
	zone = sd_zoneset_get(zones, "Europe/Berlin", &err);
	assert_ptr_equal(zone, sd_zoneset_get(zones, "Europe/Berlin", &err));
	assert_int_equal(sd_zone_offset(zone, 1767225600), 3600);
	assert_int_equal(sd_zone_offset(zone, 1782864000), 7200);
	assert_int_equal(sd_zone_offset(zone, INT64_MIN), 3208); /* local mean time */
	assert_int_equal(sd_zone_offset(zone, 7290950400), 3600); /* 2201 */
	assert_int_equal(sd_zone_next_change(zone, 1767225600), 1774746000);
	assert_int_equal(sd_zone_next_change(zone, 1774746000), 1792890000);
	assert_int_equal(sd_zone_next_change(zone, INT64_MAX), INT64_MAX);
	assert_int_equal(sd_zone_offset(NULL, 5), 0);
	assert_int_equal(sd_zone_next_change(NULL, 5), INT64_MAX);
	assert_null(sd_zoneset_get(zones, "Europe/Atlantis", &err));
}

static void test_dates(void **state)
{
	int64_t year, days = sd_days_of_date(1599, 12, 31);
	int month, day;

	assert_int_equal(sd_days_of_date(1970, 1, 1), 0);
	assert_int_equal(sd_days_of_date(2000, 2, 29), 11016);
	for (int64_t d = days; d < days + 400000; d++) {
		sd_date_of_days(d, &year, &month, &day);
		assert_int_equal(sd_days_of_date(year, month, day), d);
		assert_true(month >= 1 && month <= 12 && day >= 1 && day <= 31);
	}
	sd_date_of_days(-1, &year, &month, &day);
	assert_true(year == 1969 && month == 12 && day == 31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_with_reason), cmocka_unit_test(test_too_long), cmocka_unit_test(test_forms),
		cmocka_unit_test(test_either_day), cmocka_unit_test(test_days_of_quartz), cmocka_unit_test(test_gap),
		cmocka_unit_test(test_overlap), cmocka_unit_test(test_instants), cmocka_unit_test(test_same_from_anywhere),
		cmocka_unit_test(test_zones), cmocka_unit_test(test_dates),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
