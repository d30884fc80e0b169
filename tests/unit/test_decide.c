/* The supervisor's decisions: tables walked cell by cell where it matters, and the rules around time. */
#include "proc/scoreboard.h"
#include "role/decide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define S 1000000LL

static void check_daemon(enum sd_phase phase, enum sd_daemon_event event, enum sd_phase next, enum sd_daemon_action action)
{
	struct sd_daemon_step step = sd_daemon_decide(phase, event);

	assert_int_equal(step.next, next);
	assert_int_equal(step.action, action);
}

static void test_daemon_signals(void **state)
{
	(void)state;
	check_daemon(SD_PHASE_RUN, SD_ON_TERM, SD_PHASE_DRAIN, SD_DO_DRAIN);
	check_daemon(SD_PHASE_DRAIN, SD_ON_TERM, SD_PHASE_FAST, SD_DO_FAST);
	check_daemon(SD_PHASE_DRAIN, SD_ON_INT, SD_PHASE_FAST, SD_DO_FAST);
	check_daemon(SD_PHASE_RUN, SD_ON_INT, SD_PHASE_FAST, SD_DO_FAST);
	check_daemon(SD_PHASE_START, SD_ON_TERM, SD_PHASE_DRAIN, SD_DO_DRAIN);
	check_daemon(SD_PHASE_RUN, SD_ON_HUP, SD_PHASE_RELOAD, SD_DO_RELOAD);
	check_daemon(SD_PHASE_RELOAD, SD_ON_HUP, SD_PHASE_RELOAD, SD_DO_RELOAD_LATER);
	check_daemon(SD_PHASE_START, SD_ON_HUP, SD_PHASE_START, SD_DO_RELOAD_LATER);
	check_daemon(SD_PHASE_DRAIN, SD_ON_HUP, SD_PHASE_DRAIN, SD_DO_NOTHING);
}

static void test_daemon_generations(void **state)
{
	(void)state;
	check_daemon(SD_PHASE_START, SD_ON_GEN_LIVE, SD_PHASE_RUN, SD_DO_SERVE);
	check_daemon(SD_PHASE_START, SD_ON_GEN_FAILED, SD_PHASE_FAST, SD_DO_GIVE_UP);
	check_daemon(SD_PHASE_RELOAD, SD_ON_GEN_LIVE, SD_PHASE_RUN, SD_DO_SWAP);
	check_daemon(SD_PHASE_RELOAD, SD_ON_GEN_FAILED, SD_PHASE_RUN, SD_DO_KEEP_OLD);
	/* A stop that came during a reload is not undone by its end. */
	check_daemon(SD_PHASE_DRAIN, SD_ON_GEN_LIVE, SD_PHASE_DRAIN, SD_DO_NOTHING);
	check_daemon(SD_PHASE_DRAIN, SD_ON_GEN_FAILED, SD_PHASE_DRAIN, SD_DO_NOTHING);
}

static void test_daemon_stop_is_final(void **state)
{
	(void)state;
	for (int e = 0; e < SD_ON_EVENT_COUNT; e++) {
		check_daemon(SD_PHASE_FAST, (enum sd_daemon_event)e, SD_PHASE_FAST, SD_DO_NOTHING);
		assert_true(sd_daemon_decide(SD_PHASE_DRAIN, (enum sd_daemon_event)e).next >= SD_PHASE_DRAIN);
	}
}

static void check_kid(enum sd_kid_state s, enum sd_kid_event e, enum sd_kid_state next, enum sd_kid_action action)
{
	struct sd_kid_step step = sd_kid_decide(s, e);

	assert_int_equal(step.next, next);
	assert_int_equal(step.action, action);
}

static void test_ladder(void **state)
{
	(void)state;
	check_kid(SD_KID_STARTING, SD_KID_SAYS_READY, SD_KID_READY, SD_KID_NOTE_READY);
	check_kid(SD_KID_READY, SD_KID_WANT_DRAIN, SD_KID_DRAINING, SD_KID_SEND_DRAIN);
	check_kid(SD_KID_DRAINING, SD_KID_LATE, SD_KID_TERMED, SD_KID_SEND_TERM);
	check_kid(SD_KID_TERMED, SD_KID_LATE, SD_KID_KILLED, SD_KID_SEND_KILL);
	check_kid(SD_KID_KILLED, SD_KID_LATE, SD_KID_KILLED, SD_KID_SEND_KILL);
	check_kid(SD_KID_READY, SD_KID_WANT_END, SD_KID_TERMED, SD_KID_SEND_TERM);
	/* Asked twice is asked once; READY from one that goes does not bring it back. */
	check_kid(SD_KID_DRAINING, SD_KID_WANT_DRAIN, SD_KID_DRAINING, SD_KID_HURRY);
	check_kid(SD_KID_DRAINING, SD_KID_SAYS_READY, SD_KID_DRAINING, SD_KID_NOTHING);
	check_kid(SD_KID_TERMED, SD_KID_WANT_END, SD_KID_TERMED, SD_KID_NOTHING);
	check_kid(SD_KID_READY, SD_KID_SAYS_READY, SD_KID_READY, SD_KID_NOTHING);
}

/* From every state, whatever is said, a child that is late often enough is killed; and no event moves it back down. */
static void test_ladder_always_ends(void **state)
{
	(void)state;
	for (int s = 0; s < SD_KID_STATE_COUNT; s++)
		for (int e = 0; e < SD_KID_EVENT_COUNT; e++)
			assert_true((int)sd_kid_decide((enum sd_kid_state)s, (enum sd_kid_event)e).next >= s);
	for (int s = SD_KID_DRAINING; s < SD_KID_STATE_COUNT; s++) {
		enum sd_kid_state now = (enum sd_kid_state)s;

		for (int i = 0; i < 2; i++)
			now = sd_kid_decide(now, SD_KID_LATE).next;
		assert_int_equal(now, SD_KID_KILLED);
	}
}

static void test_stop_order(void **state)
{
	unsigned left[SD_ROLE_COUNT] = {1, 1, 1, 1, 4, 2};

	(void)state;
	assert_int_equal(sd_stop_tier(left), SD_TIER_INTAKE);
	left[SD_ROLE_WORKER] = left[SD_ROLE_CRON] = 0;
	assert_int_equal(sd_stop_tier(left), SD_TIER_INTAKE);
	left[SD_ROLE_HTTP] = 0;
	assert_int_equal(sd_stop_tier(left), SD_TIER_WEB);
	left[SD_ROLE_WEB] = 0;
	assert_int_equal(sd_stop_tier(left), SD_TIER_KEEPER);
	left[SD_ROLE_KEEPER] = 0;
	assert_int_equal(sd_stop_tier(left), SD_TIER_POSTGRES);
	left[SD_ROLE_POSTGRES] = 0;
	assert_int_equal(sd_stop_tier(left), SD_TIER_NONE);
}

static void test_timeout_is_seen_twice(void **state)
{
	struct sd_ending w = {0};
	struct sd_seen seen = {.job = 7, .deadline_us = 10 * S};

	(void)state;
	assert_int_equal(sd_ending_decide(&w, &seen, 9 * S, S), SD_SLOT_REASON_NONE);
	assert_int_equal(sd_ending_decide(&w, &seen, 10 * S + 1, S), SD_SLOT_REASON_NONE);
	assert_int_equal(sd_ending_decide(&w, &seen, 10 * S + 2, S), SD_SLOT_REASON_TIMEOUT);
	/* Another job in between: it starts anew. */
	w = (struct sd_ending){0};
	assert_int_equal(sd_ending_decide(&w, &seen, 11 * S, S), SD_SLOT_REASON_NONE);
	seen.job = 8;
	assert_int_equal(sd_ending_decide(&w, &seen, 11 * S + 1, S), SD_SLOT_REASON_NONE);
	assert_int_equal(sd_ending_decide(&w, &seen, 11 * S + 2, S), SD_SLOT_REASON_TIMEOUT);
	/* Nothing runs, or no deadline: never. */
	seen.job = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(sd_ending_decide(&w, &seen, 20 * S, S), SD_SLOT_REASON_NONE);
	seen = (struct sd_seen){.job = 9, .deadline_us = 0};
	for (int i = 0; i < 3; i++)
		assert_int_equal(sd_ending_decide(&w, &seen, 20 * S, S), SD_SLOT_REASON_NONE);
}

static void test_cancel_waits_for_the_grace(void **state)
{
	struct sd_ending w = {0};
	struct sd_seen seen = {.job = 7, .cancel_job = 6};

	(void)state;
	assert_int_equal(sd_ending_decide(&w, &seen, 1 * S, 5 * S), SD_SLOT_REASON_NONE);
	seen.cancel_job = 7;
	assert_int_equal(sd_ending_decide(&w, &seen, 2 * S, 5 * S), SD_SLOT_REASON_NONE);
	assert_int_equal(sd_ending_decide(&w, &seen, 7 * S - 1, 5 * S), SD_SLOT_REASON_NONE);
	assert_int_equal(sd_ending_decide(&w, &seen, 7 * S, 5 * S), SD_SLOT_REASON_CANCEL);
	seen.job = 8; /* it ended by itself, the next one runs */
	assert_int_equal(sd_ending_decide(&w, &seen, 30 * S, 5 * S), SD_SLOT_REASON_NONE);
}

/* One death after long life, or in the middle of a job: replaced at once, any number of times. */
static void test_health_ordinary_deaths(void **state)
{
	struct sd_health h = {0};

	(void)state;
	for (int i = 0; i < 100; i++) {
		int64_t now = (100 + i * 5) * S;

		sd_health_died(&h, &(struct sd_life){.spawned_us = now - 4 * S, .ready_us = now - 3 * S}, now);
		assert_int_equal(sd_health_allow(&h, 3, 0, now), 3);
		sd_health_died(&h, &(struct sd_life){.spawned_us = now - 2, .ready_us = now - 1, .job = 5}, now);
		assert_int_equal(sd_health_allow(&h, 3, 0, now), 3);
		assert_false(h.degraded);
	}
}

static void test_health_instant_deaths(void **state)
{
	static const int64_t waits[] = {0, 1, 2, 4, 8, 16, 32, 60, 60, 60};
	struct sd_health h = {0};
	int64_t now = 100 * S;

	(void)state;
	for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
		sd_health_died(&h, &(struct sd_life){.spawned_us = now - 1}, now);
		assert_int_equal(h.degraded, i > 0);
		if (waits[i] > 0)
			assert_int_equal(sd_health_allow(&h, 4, 0, now + waits[i] * S - 1), 0);
		/* On trial: one, and no second one while it starts. */
		assert_int_equal(sd_health_allow(&h, 4, 0, now + waits[i] * S), i > 0 ? 1 : 4);
		if (i > 0)
			assert_int_equal(sd_health_allow(&h, 3, 1, now + waits[i] * S), 0);
		now += waits[i] * S + 2;
	}
}

static void test_health_way_out(void **state)
{
	struct sd_health h = {0};
	int64_t now = 100 * S;

	(void)state;
	for (int i = 0; i < 4; i++) {
		sd_health_died(&h, &(struct sd_life){.spawned_us = now - 1}, now);
		now += 10 * S;
	}
	assert_true(h.degraded);
	/* One that was up before the trouble says nothing. */
	assert_false(sd_health_up(&h, 50 * S, 100, now));
	assert_true(h.degraded);
	/* The trial child: not before a second is over … */
	assert_false(sd_health_up(&h, now, 0, now + S - 1));
	/* … or a job is done. */
	assert_true(sd_health_up(&h, now, 1, now + 10));
	assert_false(h.degraded);
	assert_int_equal(sd_health_allow(&h, 4, 0, now + 10), 4);
	sd_health_died(&h, &(struct sd_life){.spawned_us = now + 20}, now + 21);
	assert_int_equal(sd_health_allow(&h, 4, 0, now + 21), 4);
}

/* All workers of a pool killed at the same moment are one event. */
static void test_health_volley(void **state)
{
	struct sd_health h = {0};

	(void)state;
	for (int i = 0; i < 8; i++)
		sd_health_died(&h, &(struct sd_life){.spawned_us = 99 * S}, 100 * S + i);
	assert_false(h.degraded);
	assert_int_equal(sd_health_allow(&h, 8, 0, 100 * S + 9), 8);
}

static void test_health_asked(void **state)
{
	struct sd_health h = {0};

	(void)state;
	for (int i = 0; i < 20; i++)
		sd_health_died(&h, &(struct sd_life){.spawned_us = i * 10, .asked = true}, i * 10 + 5);
	assert_false(h.degraded);
	assert_int_equal(sd_health_allow(&h, 1, 0, 300), 1);
}

/* A flood of jobs that kill their workers slows down to a burst a second, and ends. */
static void test_health_poison(void **state)
{
	struct sd_health h = {0};
	int64_t now = 100 * S;

	(void)state;
	for (int i = 0; i < SD_HEALTH_BURST; i++) {
		sd_health_died(&h, &(struct sd_life){.spawned_us = now - 2, .ready_us = now - 1, .job = 1}, now);
		assert_int_equal(sd_health_allow(&h, 1, 0, now), 1);
		now += 1000;
	}
	sd_health_died(&h, &(struct sd_life){.spawned_us = now - 2, .ready_us = now - 1, .job = 1}, now);
	assert_true(h.degraded);
	assert_int_equal(sd_health_allow(&h, 1, 0, now + S - 1), 0);
	assert_int_equal(sd_health_allow(&h, 2, 0, now + S), 2);
	assert_false(sd_health_up(&h, now + S, 5, now + 2 * S));
	assert_true(sd_health_up(&h, now + S, 5, now + SD_HEALTH_WINDOW_US + S));
	assert_false(h.degraded);
}

/* A slot may hold anything. */
static void test_slot_distrust(void **state)
{
	struct sd_slot slot;
	struct sd_seen seen;

	(void)state;
	for (int fill = 0; fill < 256; fill += 51) {
		for (size_t i = 0; i < sizeof slot; i++)
			((unsigned char *)&slot)[i] = (unsigned char)fill;
		sd_slot_look(&slot, 100 * S, &seen);
		assert_true(seen.job >= 0);
		assert_true(seen.attempt >= 0);
		assert_true(seen.deadline_us >= 0);
		assert_true(seen.started_us >= 0 && seen.started_us <= 100 * S);
	}
	uint32_t before = atomic_load(&slot.generation);
	assert_int_equal(sd_slot_renew(&slot), before + 1);
	sd_slot_look(&slot, 100 * S, &seen);
	assert_int_equal(seen.job, 0);
	assert_int_equal(seen.deadline_us, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_daemon_signals),
		cmocka_unit_test(test_daemon_generations),
		cmocka_unit_test(test_daemon_stop_is_final),
		cmocka_unit_test(test_ladder),
		cmocka_unit_test(test_ladder_always_ends),
		cmocka_unit_test(test_stop_order),
		cmocka_unit_test(test_timeout_is_seen_twice),
		cmocka_unit_test(test_cancel_waits_for_the_grace),
		cmocka_unit_test(test_health_ordinary_deaths),
		cmocka_unit_test(test_health_instant_deaths),
		cmocka_unit_test(test_health_way_out),
		cmocka_unit_test(test_health_volley),
		cmocka_unit_test(test_health_asked),
		cmocka_unit_test(test_health_poison),
		cmocka_unit_test(test_slot_distrust),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
