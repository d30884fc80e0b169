/*
 * What the cron process decides, under a clock of our own: policies for missed
 * ticks, clocks that jump, and a year over every change of ten zones.
 */
#include "base/clock.h"
#include "role/cron_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LATE (10 * SD_SEC)
#define DAY (86400 * SD_SEC)
#define NOON (1795651200 * SD_SEC) /* 2026-11-26 00:00:00 UTC + 12 h */

static struct sd_cron_plan plan_of(const char *expression, enum sd_cron_missed missed, int64_t catch_up)
{
	struct sd_cron_plan p = {.missed = missed, .catch_up_us = catch_up};

	assert_int_equal(sd_cron_parse(expression, &p.spec, NULL), 0);
	return p;
}

static void test_words(void **state)
{
	enum sd_cron_missed m;
	struct sd_err err;

	assert_int_equal(sd_cron_missed_parse("all", &m, &err), 0);
	assert_int_equal(m, SD_CRON_MISSED_ALL);
	assert_int_equal(sd_cron_missed_parse("All", &m, &err), -1);
}

static void test_after_downtime(void **state)
{
	int64_t now = NOON / (60 * SD_SEC) * 60 * SD_SEC + 30 * SD_SEC, minute = 60 * SD_SEC, top = now - 30 * SD_SEC;
	struct sd_cron_plan p = plan_of("* * * * *", SD_CRON_MISSED_ONE, DAY);

	sd_cron_plan_begin(&p, now - 600 * SD_SEC, now, 0);
	assert_int_equal(p.next_us, top);
	sd_cron_plan_late(&p, now, LATE);
	assert_int_equal(p.next_us, top); /* the answer stands */
	p.missed = SD_CRON_MISSED_SKIP;
	sd_cron_plan_begin(&p, now - 600 * SD_SEC, now, 0);
	assert_int_equal(p.next_us, top + minute);
	p.missed = SD_CRON_MISSED_ALL;
	sd_cron_plan_begin(&p, now - 600 * SD_SEC, now, 0);
	assert_int_equal(p.next_us, top - 9 * minute);
	sd_cron_plan_late(&p, now, LATE);
	assert_int_equal(p.next_us, top - 9 * minute);
	p.catch_up_us = 150 * SD_SEC;
	sd_cron_plan_begin(&p, now - 600 * SD_SEC, now, 0);
	assert_int_equal(p.next_us, top - 2 * minute);
	p.catch_up_us = 20 * SD_SEC;
	for (int m = SD_CRON_MISSED_SKIP; m <= SD_CRON_MISSED_ALL; m++) {
		p.missed = (enum sd_cron_missed)m;
		sd_cron_plan_begin(&p, now - 600 * SD_SEC, now, 0);
		assert_int_equal(p.next_us, top + minute);
	}
}

static void test_late_is_not_missed(void **state)
{
	struct sd_cron_plan p = plan_of("* * * * * *", SD_CRON_MISSED_SKIP, DAY);

	sd_cron_plan_begin(&p, NOON - 3 * SD_SEC, NOON, LATE);
	assert_int_equal(p.next_us, NOON - 2 * SD_SEC);
	sd_cron_plan_late(&p, NOON, LATE);
	assert_int_equal(p.next_us, NOON - 2 * SD_SEC);
	sd_cron_plan_begin(&p, NOON - 3 * SD_SEC, NOON, 0);
	assert_int_equal(p.next_us, NOON + SD_SEC);
	sd_cron_plan_begin(&p, NOON - 60 * SD_SEC, NOON, LATE);
	assert_int_equal(p.next_us, NOON + SD_SEC);
}

static void test_clock_set(void **state)
{
	struct sd_cron_plan p = plan_of("*/10 * * * * *", SD_CRON_MISSED_ONE, DAY);

	/* back: nothing until it has come that far again */
	sd_cron_plan_begin(&p, NOON, NOON - 3600 * SD_SEC, LATE);
	assert_int_equal(p.next_us, NOON + 10 * SD_SEC);
	/* forward: as after a downtime */
	sd_cron_plan_late(&p, NOON + 3600 * SD_SEC + 5 * SD_SEC, LATE);
	assert_int_equal(p.next_us, NOON + 3600 * SD_SEC);
	/* past the last tick there is */
	p = plan_of("0 0 0 1 1 ? 2020", SD_CRON_MISSED_ONE, DAY);
	sd_cron_plan_begin(&p, NOON - 60 * SD_SEC, NOON, 0);
	assert_int_equal(p.next_us, SD_CRON_NEVER);
}

/* Looks of a process from one instant to another; the ticks it brought, in order, go to out. */
static size_t live(struct sd_cron_plan *p, int64_t from, int64_t to, int64_t every, int64_t *out, size_t max)
{
	size_t n = 0;

	for (int64_t now = from; now <= to; now += every) {
		if (p->next_us > now)
			continue;
		sd_cron_plan_late(p, now, every + LATE);
		while (p->next_us <= now) {
			assert_true(n < max);
			out[n++] = p->next_us;
			p->next_us = sd_cron_plan_after(p, p->next_us);
		}
	}
	return n;
}

/*
 * A year from the first of March, so that every change of a year is in it.  The
 * expected ticks come from walking real time minute by minute: a time of day
 * ticks at its first real instant, or at the end of the gap that swallowed it.
 */
static size_t expected(const struct sd_zone *zone, int hour, int minute, int64_t from, int64_t to, int64_t *out)
{
	size_t n = 0;
	int64_t done_day = INT64_MIN;

	for (int64_t t = from / SD_SEC; t <= to / SD_SEC; t += 60) {
		int64_t local = t + sd_zone_offset(zone, t), before = t - 60 + sd_zone_offset(zone, t - 60);
		/* the local minutes that this real minute brought: one, none again in an overlap, many behind a gap */
		for (int64_t m = before + 60 <= local ? before + 60 : local; m <= local; m += 60) {
			int64_t day = (m - (m % 86400 + 86400) % 86400) / 86400;

			if (m - day * 86400 == hour * 3600 + minute * 60 && day > done_day) {
				done_day = day;
				if (n == 0 || out[n - 1] != t * SD_SEC) /* two days may begin in one instant (Apia) */
					out[n++] = t * SD_SEC;
			}
		}
	}
	return n;
}

static void test_a_year_in_ten_zones(void **state)
{
	static const char *const names[] = {"Europe/Berlin",   "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll",
					    "America/Sao_Paulo", "Asia/Beirut",	   "Africa/Cairo",	  "America/Havana",
					    "Africa/Casablanca", "Pacific/Apia"};
	static const int times[][2] = {{0, 0}, {0, 30}, {1, 0}, {1, 30}, {2, 0}, {2, 15}, {2, 30}, {3, 0}, {12, 0}, {23, 30}};
	static int64_t got[2000], want[2000];
	struct sd_zoneset *zones = sd_zoneset_new();
	size_t changes = 0;

	for (size_t z = 0; z < sizeof names / sizeof *names; z++) {
		struct sd_err err;
		const struct sd_zone *zone = sd_zoneset_get(zones, names[z], &err);
		/* 2011 for the zones whose changes ended since: Sao Paulo (at midnight), Apia (no 30 December) */
		int64_t from = (z == 4 || z == 9 ? 1298937600 : 1772323200) * SD_SEC, to = from + 366 * DAY;

		assert_non_null(zone);
		for (int64_t t = from / SD_SEC; (t = sd_zone_next_change(zone, t)) <= to / SD_SEC;)
			changes++;
		for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
			char expression[32];
			struct sd_cron_plan p;
			size_t n, m;

			snprintf(expression, sizeof expression, "%d %d * * *", times[i][1], times[i][0]);
			p = plan_of(expression, SD_CRON_MISSED_ONE, DAY);
			p.zone = zone;
			sd_cron_plan_begin(&p, from, from, 0);
			n = live(&p, from, to, 15 * SD_SEC, got, 2000);
			m = expected(zone, times[i][0], times[i][1], from + 60 * SD_SEC, to, want);
			if (n != m || memcmp(got, want, n * sizeof *got) != 0)
				print_error("%s in %s: %zu ticks, %zu expected\n", expression, names[z], n, m);
			assert_int_equal(n, m);
			assert_memory_equal(got, want, n * sizeof *got);
		}
	}
	assert_true(changes >= 20);
	sd_zoneset_free(zones);
}

/* The same year with a process that dies at random: what it brought before and after, no double, none lost. */
static void test_a_year_of_restarts(void **state)
{
	static int64_t got[20000], want[20000];
	struct sd_zoneset *zones = sd_zoneset_new();
	struct sd_cron_plan p = plan_of("*/30 * * * *", SD_CRON_MISSED_ALL, DAY), q = p;
	int64_t from = 1772323200 * SD_SEC, to = from + 366 * DAY, last = from, at = from;
	size_t n = 0, m;

	p.zone = q.zone = sd_zoneset_get(zones, "Europe/Berlin", NULL);
	sd_cron_plan_begin(&q, from, from, 0);
	m = live(&q, from, to, 15 * SD_SEC, want, 20000);
	srand(5);
	while (at < to) {
		int64_t end = at + rand() % (2 * 86400) * SD_SEC;

		sd_cron_plan_begin(&p, last, at, rand() % 2 ? LATE : 0);
		n += live(&p, at, end < to ? end : to, 15 * SD_SEC, got + n, 20000 - n);
		if (n > 0)
			last = got[n - 1];
		at = end + rand() % 20000 * SD_SEC; /* away for up to five and a half hours */
	}
	sd_cron_plan_begin(&p, last, to, 0);
	n += live(&p, to, to, 15 * SD_SEC, got + n, 20000 - n);
	assert_int_equal(n, m);
	assert_memory_equal(got, want, n * sizeof *got);
	sd_zoneset_free(zones);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),	       cmocka_unit_test(test_after_downtime),	   cmocka_unit_test(test_late_is_not_missed),
		cmocka_unit_test(test_clock_set),      cmocka_unit_test(test_a_year_in_ten_zones), cmocka_unit_test(test_a_year_of_restarts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
