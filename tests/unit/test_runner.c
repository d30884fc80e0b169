/* The step thread, fed and emptied as a worker's loop thread does it. */
#include "step_fixture.h"

#include "base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct sd_slot slot;

static struct sd_runner *new_runner(void)
{
	struct sd_err err;
	struct sd_runner *r;

	memset(&slot, 0, sizeof slot);
	r = sd_runner_new(NULL, &slot, &err);
	assert_non_null(r);
	return r;
}

static void wait_readable(struct sd_runner *r)
{
	struct pollfd p = {.fd = sd_runner_fd(r), .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	sd_runner_clear(r);
}

/* Wait for the next n ended attempts; they are freed, their jobs are checked to be first, first + 1 … */
static void expect_ended(struct sd_runner *r, int64_t first, int n)
{
	while (n > 0) {
		struct sd_attempt *a = sd_runner_take(r), *next;

		if (a == NULL)
			wait_readable(r);
		for (; a != NULL; a = next) {
			next = a->next;
			assert_int_equal(a->job_id, first++);
			assert_true(a->finished_us >= a->started_us);
			sd_attempt_free(a);
			n--;
		}
	}
	assert_int_equal(n, 0);
}

static struct sd_attempt *chain(const struct sd_step *s, int64_t first, int n)
{
	struct sd_attempt *head = NULL, **tail = &head;

	for (int i = 0; i < n; i++) {
		*tail = fixture_attempt(s, first + i, "null");
		tail = &(*tail)->next;
	}
	return head;
}

static int trivial(struct stepd_ctx *ctx)
{
	(void)ctx;
	return STEPD_OK;
}

static void test_order(void **state)
{
	struct sd_step s = fixture_step(trivial);
	struct sd_runner *r = new_runner();

	(void)state;
	for (int round = 0; round < 50; round++) {
		sd_runner_give(r, chain(&s, 100 * round, 30));
		sd_runner_give(r, chain(&s, 100 * round + 30, 1));
		expect_ended(r, 100 * round, 31);
	}
	assert_int_equal(atomic_load(&slot.jobs_done), 50 * 31);
	assert_int_equal(atomic_load(&slot.job), 0);
	assert_int_equal(atomic_load(&slot.deadline_us), 0);
	sd_runner_free(r);
}

/* ---- a handler that waits for the test ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int entered;

static int gated(struct stepd_ctx *ctx)
{
	(void)ctx;
	atomic_fetch_add(&entered, 1);
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	return STEPD_FAIL;
}

static void wait_entered(int n)
{
	while (atomic_load(&entered) < n)
		sched_yield();
}

static void test_slot_and_recall(void **state)
{
	struct sd_step s = fixture_step(gated);
	struct sd_runner *r = new_runner();
	struct sd_attempt *list = chain(&s, 1, 5), *back;
	const struct sd_attempt *current;
	int64_t since;

	(void)state;
	list->timeout_ms = 60000;
	list->step_index = 3;
	list->attempt = 2;
	atomic_store(&entered, 0);
	pthread_mutex_lock(&gate);
	sd_runner_give(r, list);
	wait_entered(1);
	current = sd_runner_current(r, &since);
	assert_ptr_equal(current, list);
	assert_int_equal(atomic_load(&slot.job), 1);
	assert_int_equal(atomic_load(&slot.step), 3);
	assert_int_equal(atomic_load(&slot.attempt), 2);
	assert_int_equal(atomic_load(&slot.started_us), since);
	assert_int_equal(atomic_load(&slot.deadline_us), since + 60000 * SD_MS);
	assert_int_equal(sd_runner_queued(r), 4);
	back = sd_runner_recall(r);
	assert_int_equal(sd_runner_queued(r), 0);
	assert_null(sd_runner_recall(r));
	pthread_mutex_unlock(&gate);
	expect_ended(r, 1, 1);
	assert_null(sd_runner_current(r, &since));
	assert_int_equal(atomic_load(&slot.jobs_failed), 1);
	sd_runner_give(r, back);
	expect_ended(r, 2, 4);
	sd_runner_free(r);
}

/* A job that runs when its worker is told to drain goes on, the next does not start; requests that were sent are served. */
static void test_draining_slot(void **state)
{
	struct sd_step gate_step = fixture_step(gated), quick = fixture_step(trivial);
	struct sd_runner *r = new_runner();
	struct sd_attempt *list = chain(&gate_step, 1, 3), *back, *web;
	struct sd_http_request http = {.id = 7};

	(void)state;
	atomic_store(&entered, 0);
	pthread_mutex_lock(&gate);
	sd_runner_give(r, list);
	wait_entered(1);
	atomic_store(&slot.state, SD_SLOT_DRAINING);
	pthread_mutex_unlock(&gate);
	expect_ended(r, 1, 1);
	assert_int_equal(sd_runner_queued(r), 2);
	back = sd_runner_recall(r);
	assert_int_equal(back->job_id, 2);
	web = chain(&quick, 9, 1);
	web->http = &http;
	sd_runner_give(r, web);
	expect_ended(r, 9, 1);
	atomic_store(&slot.state, SD_SLOT_READY);
	sd_runner_give(r, back);
	expect_ended(r, 2, 2);
	sd_runner_free(r);
}

/* Somebody sets the clock back by an hour, between any two looks at it. */
static _Atomic bool clock_set_back;

int clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = (int)syscall(SYS_clock_gettime, id, t);

	if (id == CLOCK_REALTIME && clock_set_back)
		t->tv_sec += 3600;
	return rc;
}

/* A job whose node's lease is over, or that another life of the node claimed, does not start; it does when the lease is renewed. */
static void test_lease(void **state)
{
	static struct sd_scoreboard board;
	struct sd_step step = fixture_step(trivial);
	struct sd_runner *r = new_runner();
	struct sd_attempt *list = chain(&step, 1, 2), *back;

	(void)state;
	atomic_store(&board.node_id, 7);
	atomic_store(&board.lease_until_us, sd_boot_us() - 1);
	sd_runner_set_board(r, &board);
	list->node_id = 7;
	list->next->node_id = 6;
	clock_set_back = true;
	sd_runner_give(r, list);
	poll(NULL, 0, 60);
	assert_int_equal(sd_runner_queued(r), 2);
	atomic_store(&board.lease_until_us, sd_boot_us() + 60 * SD_SEC);
	expect_ended(r, 1, 1);
	clock_set_back = false;
	poll(NULL, 0, 60);
	assert_int_equal(sd_runner_queued(r), 1);
	back = sd_runner_recall(r);
	assert_int_equal(back->job_id, 2);
	sd_attempt_free(back);
	sd_runner_free(r);
}

/* What ended is seen while the next one runs and runs. */
static void test_seen_in_time(void **state)
{
	struct sd_step quick = fixture_step(trivial), slow = fixture_step(gated);
	struct sd_runner *r = new_runner();
	struct sd_attempt *list = chain(&quick, 1, 1);

	(void)state;
	list->next = chain(&slow, 2, 1);
	atomic_store(&entered, 0);
	pthread_mutex_lock(&gate);
	sd_runner_give(r, list);
	expect_ended(r, 1, 1);
	pthread_mutex_unlock(&gate);
	expect_ended(r, 2, 1);
	sd_runner_free(r);
}

static int wait_for_cancel(struct stepd_ctx *ctx)
{
	atomic_fetch_add(&entered, 1);
	while (!stepd_cancelled(ctx))
		sched_yield();
	return STEPD_OK;
}

static void test_cancel(void **state)
{
	struct sd_step s = fixture_step(wait_for_cancel);
	struct sd_runner *r = new_runner();
	struct sd_attempt *a;

	(void)state;
	atomic_store(&entered, 0);
	sd_runner_give(r, chain(&s, 9, 1));
	wait_entered(1);
	atomic_store(&slot.cancel_job, 8); /* another job's */
	atomic_store(&slot.cancel_job, 9);
	while ((a = sd_runner_take(r)) == NULL)
		wait_readable(r);
	assert_int_equal(a->outcome, SD_OUTCOME_CANCELLED);
	sd_attempt_free(a);
	sd_runner_free(r);
}

/* ---- questions ---- */

static int reader(struct stepd_ctx *ctx)
{
	const char *text;
	cJSON *v;

	if (stepd_state_get(ctx, "g", "stored", &v) < 0)
		return STEPD_FAIL;
	assert_true(cJSON_IsNumber(v));
	stepd_state_set_text(ctx, "g", "k2", "[2]");
	stepd_state_delete(ctx, "g", "k1");
	stepd_state_set_text(ctx, "new", "k", "1");
	stepd_state_delete(ctx, "gone", "only");
	assert_int_equal(stepd_state_list_text(ctx, "g", &text), 0);
	assert_string_equal(text, "[[2],3]");
	assert_int_equal(stepd_state_groups(ctx, &v), 0);
	stepd_return(ctx, v);
	return STEPD_OK;
}

static void answer(struct sd_runner *r, bool fail)
{
	struct sd_ask *ask = sd_runner_ask(r);

	if (ask == NULL)
		return;
	assert_null(sd_runner_ask(r)); /* each once */
	if (fail) {
		ask->failed = true;
		sd_err_set(&ask->err, SD_ERR_TRANSIENT, "database away");
	} else if (ask->kind == SD_ASK_STATE_GET) {
		assert_string_equal(ask->key, "stored");
		ask->json = "5";
	} else if (ask->kind == SD_ASK_STATE_GROUPS) {
		ask->json = "[\"g\",\"gone\"]";
	} else if (strcmp(ask->group, "g") == 0) {
		ask->json = "{\"k1\":1,\"k3\":3}";
	} else if (strcmp(ask->group, "gone") == 0) {
		ask->json = "{\"only\":0}";
	}
	sd_runner_answer(r, ask);
}

static struct sd_attempt *run_reader(struct sd_runner *r, const struct sd_step *s, bool fail)
{
	struct sd_attempt *a;

	sd_runner_give(r, chain(s, 1, 1));
	while ((a = sd_runner_take(r)) == NULL) {
		wait_readable(r);
		answer(r, fail);
	}
	return a;
}

static void test_ask(void **state)
{
	struct sd_step s = fixture_step(reader);
	struct sd_runner *r = new_runner();
	struct sd_attempt *a = run_reader(r, &s, false);

	(void)state;
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_string_equal(a->output, "[\"g\",\"new\"]");
	sd_attempt_free(a);
	a = run_reader(r, &s, true);
	assert_int_equal(a->outcome, SD_OUTCOME_FAIL);
	assert_non_null(strstr(a->error, "database away"));
	sd_attempt_free(a);
	sd_runner_free(r);
}

static int look_at_mask(struct stepd_ctx *ctx)
{
	sigset_t mask;

	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	assert_true(sigismember(&mask, SIGHUP) == 1);
	assert_true(sigismember(&mask, SIGTERM) == 0);
	assert_true(sigismember(&mask, SIGSEGV) == 0);
	(void)ctx;
	return STEPD_OK;
}

static void test_mask(void **state)
{
	struct sd_step s = fixture_step(look_at_mask);
	struct sd_runner *r = new_runner();
	sigset_t mask;

	(void)state;
	sd_runner_give(r, chain(&s, 1, 1));
	expect_ended(r, 1, 1);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	assert_true(sigismember(&mask, SIGHUP) == 0);
	sd_runner_free(r);
}

/* ---- progress ---- */

static int telling(struct stepd_ctx *ctx)
{
	stepd_progress(ctx, 10, "first");
	stepd_progress(ctx, 250, "second", stepd_int("n", 2));
	gated(ctx);
	if (stepd_attempt(ctx) == 2)
		stepd_progress(ctx, -1, NULL);
	return STEPD_OK;
}

static struct sd_attempt *end_one(struct sd_runner *r)
{
	struct sd_attempt *a;

	pthread_mutex_unlock(&gate);
	while ((a = sd_runner_take(r)) == NULL)
		wait_readable(r);
	return a;
}

/* Start job 7 and wait until the loop thread is told of its report. */
static void begin_telling(struct sd_runner *r, const struct sd_step *s, int attempt)
{
	struct sd_attempt *a = chain(s, 7, 1);

	a->attempt = attempt;
	a->lease_id = 70;
	atomic_store(&entered, 0);
	pthread_mutex_lock(&gate);
	sd_runner_give(r, a);
	wait_entered(1);
	wait_readable(r);
	assert_true(sd_runner_reported(r));
	assert_false(sd_runner_reported(r)); /* once */
}

static void test_progress(void **state)
{
	struct sd_step s = fixture_step(telling);
	struct sd_runner *r = new_runner();
	struct sd_buf text = SD_BUF_INIT;
	struct sd_attempt *a;
	int64_t lease = 0, job = 0;
	uint64_t number;

	(void)state;
	/* told while it runs: nothing is left for the end */
	begin_telling(r, &s, 1);
	number = sd_runner_report(r, &text, &lease, &job);
	assert_true(number > 0 && lease == 70 && job == 7);
	assert_string_equal(text.data, "{\"percent\":100,\"message\":\"second\",\"fields\":{\"n\":2}}");
	sd_runner_told(r, number);
	assert_int_equal(sd_runner_report(r, &text, &lease, &job), 0);
	a = end_one(r);
	assert_null(a->progress);
	sd_attempt_free(a);

	/* something new was said after that: it goes with the attempt, and the next one starts without */
	begin_telling(r, &s, 2);
	number = sd_runner_report(r, &text, &lease, &job);
	sd_runner_told(r, number);
	a = end_one(r);
	assert_string_equal(a->progress, "{}");
	sd_attempt_free(a);
	assert_int_equal(sd_runner_report(r, &text, &lease, &job), 0);
	assert_false(sd_runner_reported(r));

	/* never fetched, and the answer to an old one comes late */
	begin_telling(r, &s, 1);
	a = end_one(r);
	assert_non_null(strstr(a->progress, "second"));
	sd_runner_told(r, number);
	assert_int_equal(sd_runner_report(r, &text, &lease, &job), 0);
	sd_attempt_reset(a);
	assert_null(a->progress);
	sd_attempt_free(a);
	sd_buf_fini(&text);
	sd_runner_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),	cmocka_unit_test(test_slot_and_recall),
		cmocka_unit_test(test_draining_slot), cmocka_unit_test(test_lease),
		cmocka_unit_test(test_seen_in_time), cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_ask),	cmocka_unit_test(test_mask),
		cmocka_unit_test(test_progress),
	};

	return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
