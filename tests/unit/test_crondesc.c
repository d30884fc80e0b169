/* Cron expressions in words. */
#include "base/crondesc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_words(void **state)
{
	static const char *const cases[][2] = {
		{"* * * * *", "every minute"},
		{"* * * * * *", "every second"},
		{"*/5 * * * *", "every 5 minutes"},
		{"0-59/15 * * * *", "every 15 minutes"},
		{"0,15,30,45 * * * *", "every 15 minutes"},
		{"*/10 * * * * *", "every 10 seconds"},
		{"0 * * * *", "every hour"},
		{"@hourly", "every hour"},
		{"0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00"},
		{"0 */2 * * *", "every 2 hours"},
		{"*/7 * * * *", "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"},
		{"30 * * * *", "at minute 30 of every hour"},
		{"*/5 9-17 * * *", "every 5 minutes of hours 9 to 17"},
		{"* 9 * * *", "every minute of hour 9"},
		{"0 3 * * *", "at 03:00"},
		{"@daily", "at 00:00"},
		{"30 9,17 * * *", "at 09:30 and 17:30"},
		{"15 0 3 * * *", "at 03:00:15"},
		{"*/5 30 * * * *", "every 5 seconds at minute 30 of every hour"},
		{"*/5 */2 * * * *", "every 5 seconds of every 2 minutes"},
		{"30 9 * * mon-fri", "at 09:30 on Monday to Friday"},
		{"30 9 * * 6,0", "at 09:30 on Saturday and Sunday"},
		{"30 9 * * fri-sun", "at 09:30 on Friday to Sunday"},
		{"@weekly", "at 00:00 on Sunday"},
		{"@monthly", "at 00:00 on day 1 of the month"},
		{"@yearly", "at 00:00 on day 1 of the month in January"},
		{"0 0 1,15 * *", "at 00:00 on day 1 and 15 of the month"},
		{"0 0 L * *", "at 00:00 on the last day of the month"},
		{"0 0 L-2 * *", "at 00:00 on the day 2 days before the last of the month"},
		{"0 0 LW * *", "at 00:00 on the last Monday to Friday of the month"},
		{"0 0 15W * *", "at 00:00 on the Monday to Friday nearest to day 15"},
		{"0 0 * * 5#2", "at 00:00 on the second Friday of the month"},
		{"0 0 * * friL", "at 00:00 on the last Friday of the month"},
		{"0 0 1,L * *", "at 00:00 on day 1 of the month and the last day of the month"},
		{"0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday"},
		{"0 0 */2 * 1,2", "at 00:00 on day 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of the month, only on Monday and Tuesday"},
		{"0 0 1 1,7 *", "at 00:00 on day 1 of the month in January and July"},
		{"0 0 1 jan-mar,dec *", "at 00:00 on day 1 of the month in January to March and December"},
		{"0 0 0 1 1 ? 2030", "at 00:00 on day 1 of the month in January in 2030"},
		{"0 0 0 1 1 ? 2030-2032,2040", "at 00:00 on day 1 of the month in January in 2030 to 2032 and 2040"},
		{"@every 90s", "every 90 seconds"},
		{"@every 5m", "every 5 minutes"},
		{"@every 1h", "every hour"},
		{"@every 7d", "every 7 days"},
	};
	struct sd_buf b = SD_BUF_INIT;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sd_cronspec spec;

		assert_int_equal(sd_cron_parse(cases[i][0], &spec, NULL), 0);
		sd_buf_reset(&b);
		sd_cron_describe(&spec, &b);
		if (strcmp(b.data, cases[i][1]) != 0)
			print_error("%s\n", cases[i][0]);
		assert_string_equal(b.data, cases[i][1]);
	}
	sd_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_words)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
