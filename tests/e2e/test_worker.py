"""What the queue worker promises: atomic outcomes, crashes that cost one attempt, retries, who waits for whom."""

import json
import re
import time
import uuid

import pytest

import harness

# One step that does as its input says.
KIT = r"""
#include <stepd/step.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void nap(double ms)
{
	struct timespec t = {(time_t)(ms / 1000), (long)((long long)(ms * 1e6) % 1000000000LL)};
	while (nanosleep(&t, &t) < 0)
		;
}

static int kit(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	const char *what = stepd_get_str(in, "do");
	const char *key = stepd_get_str(in, "key");
	double until = stepd_get_num(in, "until_attempt", 0);

	if (key != NULL && stepd_state_set(ctx, "seen", key, stepd_object(ctx, stepd_int("attempt", stepd_attempt(ctx)))) < 0)
		return STEPD_RETRY;
	if (stepd_get(in, "enqueue") != NULL &&
	    stepd_enqueue(ctx, stepd_get_str(in, "enqueue"), stepd_get(in, "data"), .always = stepd_get_bool(in, "always", false)) < 0)
		return STEPD_RETRY;
	if (stepd_get_bool(in, "log", false))
		stepd_log_info(ctx, "kit runs", stepd_int("attempt", stepd_attempt(ctx)));
	nap(stepd_get_num(in, "ms", 0));
	if (what == NULL || (until > 0 && stepd_attempt(ctx) >= until))
		return STEPD_OK;
	if (strcmp(what, "abort") == 0)
		abort();
	if (strcmp(what, "segv") == 0)
		raise(SIGSEGV);
	if (strcmp(what, "exit") == 0)
		_exit(7);
	if (strcmp(what, "term") == 0) {
		kill(getpid(), SIGTERM);
		nap(5000);
	}
	if (strcmp(what, "loop") == 0)
		for (volatile int i = 0;; i++)
			;
	if (strcmp(what, "wait_cancel") == 0) {
		while (!stepd_cancelled(ctx))
			nap(2);
		return stepd_fail(ctx, "stopped because it was cancelled");
	}
	if (strcmp(what, "fail") == 0)
		return stepd_fail(ctx, "no use: %s", "broken");
	if (strcmp(what, "retry_after") == 0)
		return stepd_retry_after(ctx, 300, "later");
	if (strcmp(what, "retry_never") == 0)
		return stepd_retry_after(ctx, INT64_MAX, "much later");
	if (strcmp(what, "snooze") == 0)
		return stepd_snooze(ctx, 200);
	if (strcmp(what, "snooze_for_ever") == 0)
		return stepd_snooze(ctx, INT64_MAX);
	return stepd_retry(ctx, "asked to %s", what);
}

STEPD_STEP(.name = "Kit", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("kit"), STEPD_QUEUE("kit-once")),
	   .enqueues = STEPD_LIST("kit", "kit-once", "elsewhere"), .handler = kit);
"""

QUEUES = {"kit": {"maxRetries": 2, "retryDelay": 100, "jitter": 0}, "kit-once": {"maxRetries": 0}}


@pytest.fixture
def kit(stepd):
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES))
    return stepd


def test_completes_within_milliseconds(kit, db):
    best = 10.0
    for _ in range(20):
        begin = time.monotonic()
        [job] = db.enqueue("kit", {})
        harness.wait_for(lambda: db.value("select status from stepd.jobs where id = %s", job) == "completed", 5, interval=0.001)
        best = min(best, time.monotonic() - begin)
    assert best < 0.05 * harness.SLOW


def test_rolled_back_enqueue_adds_nothing(kit, db):
    conn = db.connect(autocommit=False)
    cur = conn.cursor()
    cur.execute("select stepd.enqueue('kit', '{}') as id")
    job = cur.fetchone()["id"]
    conn.rollback()
    cur.execute("select stepd.enqueue('kit', '{}') as id")
    kept = cur.fetchone()["id"]
    conn.commit()
    conn.close()
    db.wait_status(kept, "completed")
    assert db.job(job) is None


@pytest.mark.parametrize("what, signal_, code", [("abort", 6, None), ("segv", 11, None), ("term", 15, None), ("exit", None, 7)])
def test_death_is_recorded_and_costs_one_attempt(kit, db, what, signal_, code):
    [job] = db.enqueue("kit", {"do": what, "until_attempt": 2, "key": what})
    others = [db.enqueue("kit", {})[0] for _ in range(20)]
    done = db.wait_status(job, "completed", "failed")
    assert (done["status"], done["attempt"]) == ("completed", 2)
    [died] = db.attempts(job)
    assert (died["attempt"], died["outcome"], died["signal"], died["exit_code"]) == (1, "crashed", signal_, code)
    assert died["max_rss_kb"] > 0 and died["cpu_ms"] > 0 and died["pid"] > 0
    for other in others:
        assert db.wait_status(other, "completed")["attempt"] == 1
    # Nothing of the crashed attempt was stored, everything of the other one was.
    assert db.state("seen", what) == {"attempt": 2}


def test_crash_with_retries_used_up_fails(kit, db):
    def once():
        begin = time.monotonic()
        [job] = db.enqueue("kit-once", {"do": "abort"})
        done = db.wait_status(job, "failed", deadline=5)
        took = time.monotonic() - begin
        [died] = db.attempts(job)
        assert (died["outcome"], died["signal"]) == ("crashed", 6)
        assert "signal 6" in done["error"] or "SIGABRT" in done["error"]
        return took

    harness.in_time(once, 1.0)


def test_poison_job_ends_failed(kit, db):
    [job] = db.enqueue("kit", {"do": "segv"})
    done = db.wait_status(job, "failed", deadline=30)
    assert done["attempt"] == 3 == done["max_attempts"]
    assert [a["outcome"] for a in db.attempts(job)] == ["crashed"] * 3


def test_a_crash_takes_little_with_it(stepd, db):
    """What ended in its batch and was not told runs once more, however many jobs crash: batches begin with one job after a death."""
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES, pools={"default": {"processes": 1}}))
    warm = db.values("select stepd.enqueue('kit-once') from generate_series(1, 400)")
    db.wait_value("select count(*) from stepd.outcome", len(warm))
    db.execute("select count(*) from stepd.enqueue_many('kit-once', (select jsonb_agg(jsonb_build_object('data',"
               " case when i %% %s = 0 then '{\"do\": \"segv\"}' else '{}' end::jsonb)) from generate_series(1, %s) i))", 20, 1000)
    db.wait_value("select count(*) from stepd.outcome", len(warm) + 1000, deadline=60)
    ended = {r["outcome"]: r["n"] for r in db.rows("select outcome, count(*)::int as n from stepd.attempts group by 1")}
    assert ended["crashed"] == 50 == db.value("select count(*) from stepd.jobs where status = 'failed'")
    assert ended.get("lost", 0) < 50 * 16, "some 1,600, were batches large from the start"


def test_a_worker_that_is_killed_after_its_job_had_ended(kit, db):
    """Not the job's fault, though its outcome is gone: it runs once more, and that does not count."""
    [job] = db.enqueue("kit-once", {"ms": 300})
    db.wait_value("select count(*)::int from stepd.lease where begun = %s", 1, job)  # it waits for the lock with the outcome only
    holder = db.connect(autocommit=False)
    try:
        holder.cursor().execute("select from stepd.lease where %s = any (ids) for update", (job,))
        pid = db.job(job)["pid"]
        db.wait_value("select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and application_name like 'stepd worker %'", 1)
        harness.Proc(pid).kill()
        kit.wait_log(f"pid {pid}\\) was killed by signal 9")
    finally:
        holder.close()
    done = db.wait_status(job, "completed")
    assert (done["attempt"], done["max_attempts"]) == (2, 2)
    assert [(a["outcome"], a["pid"], a["error"]) for a in db.attempts(job)] == [("lost", pid, "It had ended, but its worker was killed before the outcome was stored.")]


def test_retry_spacing_and_count(kit, db):
    gaps = []
    for job in [db.enqueue("kit", {"do": "retry"})[0] for _ in range(6)]:
        done = db.wait_status(job, "failed", deadline=10)
        attempts = db.attempts(job)
        assert done["attempt"] == 3 and len(attempts) == 3
        assert done["error"] == "asked to retry"
        gaps.append([(b["started_at"] - a["finished_at"]).total_seconds() for a, b in zip(attempts, attempts[1:])])
    for got, want in zip(zip(*gaps), (0.1, 0.2)):  # never sooner, and the promptest in time
        assert want - 0.005 <= min(got) <= want + 0.1 * harness.SLOW, gaps


def test_handler_chooses_retry_after_fail_and_snooze(kit, db):
    waiting = [db.enqueue("kit", {"do": "retry_after", "until_attempt": 2})[0] for _ in range(4)]
    [fail] = db.enqueue("kit", {"do": "fail"})
    assert db.wait_status(fail, "failed")["error"] == "no use: broken"
    assert len(db.attempts(fail)) == 1
    gaps = []
    for after in waiting:
        second = db.wait_status(after, "completed")
        [first] = db.attempts(after)
        gaps.append((second["started_at"] - first["finished_at"]).total_seconds())
    assert 0.29 <= min(gaps) <= 0.3 + 0.1 * harness.SLOW, gaps
    [snooze] = db.enqueue("kit-once", {"do": "snooze"})
    db.wait_status(snooze, "scheduled", "retrying")
    job = db.job(snooze)
    assert job["attempt"] in (0, None) or db.attempts(snooze) == []
    db.execute("select stepd.cancel(%s)", snooze)
    db.wait_status(snooze, "cancelled")


def test_handler_error_keeps_state_and_logs_but_not_enqueues(kit, db):
    [job] = db.enqueue("kit-once", {"do": "retry", "key": "kept", "enqueue": "elsewhere", "data": 1, "log": True})
    db.wait_status(job, "failed")
    assert db.state("seen", "kept") == {"attempt": 1}
    assert [r["message"] for r in db.logs(job) if r["level"] == "info"] == ["kit runs"]
    assert db.value("select count(*) from stepd.jobs where queue = 'elsewhere'") == 0
    [job] = db.enqueue("kit-once", {"do": "retry", "enqueue": "elsewhere", "data": 2, "always": True})
    db.wait_status(job, "failed")
    assert db.value("select count(*) from stepd.jobs where queue = 'elsewhere' and parent_id = %s", job) == 1


def test_children_inherit_the_trace(kit, db):
    [job] = db.enqueue("kit", {"enqueue": "kit", "data": {"enqueue": "kit-once", "data": {}}})
    trace = db.wait_status(job, "completed")["trace_id"]
    db.wait_value("select count(*) from stepd.jobs where trace_id = %s and status = 'completed'", 3, trace)
    chain = db.rows("select id, parent_id from stepd.jobs where trace_id = %s order by id", trace)
    assert [c["parent_id"] for c in chain] == [None, chain[0]["id"], chain[1]["id"]]


def test_undeclared_topic_is_an_error_of_the_handler(kit, db):
    [job] = db.enqueue("kit-once", {"enqueue": "never-declared", "data": {}})
    assert "never-declared" in db.wait_status(job, "failed")["error"]


def test_effect_refused_by_the_database_fails_that_job_alone(kit, db):
    # A check on the state table stands for anything that only the database can refuse.
    db.execute("alter table stepd.state add check (key <> 'forbidden')")
    # Fast ones first, so that the next are claimed, and end, many at once.
    db.values("select stepd.enqueue('kit-once', '{}') from generate_series(1, 200)")
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 200)
    jobs = db.values("select stepd.enqueue('kit-once', jsonb_build_object('key', case when i % 20 = 10 then 'forbidden' else 'fine' || i end)) from generate_series(1, 60) i")
    bad = jobs[9::20]
    for job in bad:
        assert "23514" in db.wait_status(job, "failed")["error"]
    for job in set(jobs) - set(bad):
        assert db.wait_status(job, "completed", "failed")["status"] == "completed"
    assert db.value("select count(*) from stepd.state where group_id = 'seen'") == 57
    assert db.value("select count(*) from stepd.attempts") == len(bad)


def test_a_refused_attempt_keeps_what_it_said(kit, db):
    """Its log lines tell what went before, and the handler's own error is not lost either."""
    db.execute("alter table stepd.state add check (key <> 'forbidden')")
    [job] = db.enqueue("kit-once", {"key": "forbidden", "log": True, "do": "fail"})
    error = db.wait_status(job, "failed")["error"]
    assert "(SQLSTATE 23514)" in error and "the handler had said: no use: broken" in error, error
    assert db.values("select message from stepd.logs where job_id = %s", job) == ["kit runs"]
    assert db.value("select count(*) from stepd.state where key = 'forbidden'") == 0
    # and if it is the lines that are refused, they go, too
    db.execute("alter table stepd.log add check (message <> 'kit runs') not valid")
    [job] = db.enqueue("kit-once", {"key": "forbidden", "log": True})
    assert db.wait_status(job, "failed")["error"] == "the database refused the effects of this attempt, and what it said"
    assert db.values("select message from stepd.logs where job_id = %s", job) == []


def test_delays_beyond_all_measure(kit, db):
    [job] = db.enqueue("kit", {"do": "retry_never"})
    row = db.wait_status(job, "retrying")
    assert 98 < (row["run_at"] - row["enqueued_at"]).days / 365.25 < 101
    [job] = db.enqueue("kit", {"do": "snooze_for_ever"})
    row = db.wait_status(job, "scheduled")
    assert 98 < (row["run_at"] - row["enqueued_at"]).days / 365.25 < 101
    assert db.value("select count(*) from stepd.attempts where outcome <> 'error' or error <> 'much later'") == 0


def test_refused_effect_is_found_by_halves(stepd, db):
    """Its neighbours in a batch of hundreds are not stored one by one, a commit each."""
    db.execute("do $$ begin execute format('alter database %I set track_functions = pl', current_database()); end $$")
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES, pools={"default": {"processes": 1, "serves": ["queue"]}}))
    db.execute("alter table stepd.state add check (key <> 'forbidden')")
    db.values("select stepd.enqueue('kit-once', '{}') from generate_series(1, 200)")
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 200)
    calls = "select coalesce(sum(calls), 0)::int from pg_stat_user_functions where schemaname = 'stepd' and funcname = 'finish'"
    harness.wait_for(lambda: db.value(calls) > 0, what="calls are counted")
    before = db.value(calls)
    jobs = db.values("select stepd.enqueue_many('kit-once', (select jsonb_agg(jsonb_build_object('data', case when i = 300 then '{\"key\": \"forbidden\"}'"
                     " else '{}' end::jsonb) order by i) from generate_series(1, 500) i))")
    db.wait_value("select count(*) from stepd.outcome where id = any(%s)", 500, jobs)
    assert db.values("select id from stepd.jobs where status = 'failed'") == [jobs[299]]
    assert stepd.stop() == 0
    assert db.value(calls) - before < 60


def test_endless_handler_is_timed_out(stepd, db):
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues={"kit": {"maxRetries": 0, "timeout": "300ms"}}, ))
    [job] = db.enqueue("kit", {"do": "loop"})
    db.wait_status(job, "failed", deadline=20)
    [a] = db.attempts(job)
    assert a["outcome"] == "timeout"
    [ok] = db.enqueue("kit", {})
    db.wait_status(ok, "completed")


def test_handlers_are_timed_out_in_time(stepd, db):
    """A tenth more than they may take is too much, though the supervisor looks only so often."""
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues={"kit": {"maxRetries": 0, "timeout": "500ms"}}, ))
    late = [db.enqueue("kit", {"ms": 550})[0] for _ in range(6)]
    in_time = [db.enqueue("kit", {"ms": 50})[0] for _ in range(6)]
    db.wait_value("select count(*) from stepd.outcome", 12, deadline=30)
    assert db.value("select count(*) from stepd.jobs where id = any (%s) and status = 'completed'", in_time) == 6
    assert db.value("select count(*) from stepd.attempts where job_id = any (%s) and outcome = 'timeout'", late) >= 4


def test_who_returns_past_its_deadline_is_timed_out(stepd, db):
    """Whether somebody looked in time or not; nothing of the attempt counts."""
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues={"kit": {"maxRetries": 0, "timeout": "20ms"}}, ))
    late = [db.enqueue("kit", {"ms": 25, "key": f"late{i}", "log": True})[0] for i in range(20)]
    db.wait_value("select count(*) from stepd.outcome", 20, deadline=30)
    assert db.value("select count(*) from stepd.jobs where id = any (%s) and status = 'failed' and error like 'timed out after %%'", late) == 20
    assert db.value("select count(*) from stepd.attempts where outcome = 'timeout'") == 20
    assert db.value("select count(*) from stepd.state") == 0 and db.value("select count(*) from stepd.logs") == 0


SHELL = r"""
#include <stepd/step.h>
#include <stdlib.h>

static int handle(struct stepd_ctx *ctx)
{
	return stepd_return(ctx, stepd_object(ctx, stepd_int("rc", system(stepd_get_str(stepd_data(ctx), "cmd")))));
}
STEPD_STEP(.name = "Shell", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("shell")), .handler = handle);
"""


@pytest.mark.parametrize("how", ["timeout", "cpu"])
def test_a_child_that_takes_the_signal_does_not_make_it_a_success(stepd, db, how):
    """TERM goes to what the handler started, too; the handler may return before its worker has looked at its own."""
    stepd.step("shell", SHELL)
    pool = {"processes": 2, "serves": ["queue"]}
    stepd.start(config=stepd.config(queues={"shell": {"maxRetries": 0, **({"timeout": "100ms"} if how == "timeout" else {})}},
                                    pools={"default": {**pool, **({"maxCpuTime": "200ms"} if how == "cpu" else {})}}, http={"listen": "off"}))
    cmd = "exec sleep 5" if how == "timeout" else "while :; do :; done"
    jobs = [db.enqueue("shell", {"cmd": cmd})[0] for _ in range(12 if how == "timeout" else 6)]
    db.wait_value("select count(*) from stepd.outcome", len(jobs), deadline=60)
    assert db.value("select count(*) from stepd.jobs where status = 'failed'") == len(jobs)
    assert db.value("select count(*) from stepd.attempts where outcome = 'timeout'") == len(jobs)


def test_nothing_waits_behind_a_slow_job_while_a_worker_idles(kit, db):
    # Teach the workers that the queue is fast, so that they claim many at once.
    db.values("select stepd.enqueue('kit', '{}') from generate_series(1, 500)")
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 500)
    def waited():
        jobs = db.values("select stepd.enqueue('kit', case when i = 1 then %s else '{}' end::jsonb)"
                         " from generate_series(1, 40) i", f'{{"ms": {2000 * harness.SLOW:.0f}}}')
        for job in jobs:
            db.wait_status(job, "completed")
        # by the database's clock: asking for each takes longer than all of them on a busy machine
        return db.value("select extract(epoch from max(finished_at) - min(enqueued_at))::float8 from stepd.jobs where id = any(%s)", jobs[1:])

    harness.in_time(waited, 1.5)


def test_giving_back_that_the_database_refuses_is_tried_again(stepd, db):
    """Whatever was wrong there: once it is mended, jobs do not wait for the end of the worker that holds them."""
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES, pools={"default": {"processes": 2}}))
    warm = db.values("select stepd.enqueue('kit', '{}') from generate_series(1, 200)")
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", len(warm))
    release = db.value("select pg_get_functiondef('stepd.release(bigint[], bigint[])'::regprocedure)")
    db.rows("create or replace function stepd.release(leases bigint[], jobs bigint[]) returns int language plpgsql as "
            "$$ begin raise 'out of order'; end $$")
    refused = "giving back unstarted jobs failed, trying again.*out of order"
    done = len(warm)
    for _ in range(20):
        # a batch that one worker takes whole, as its jobs have been quick: the first one is slow
        [slow, *quick] = db.values("select unnest(array(select stepd.enqueue_many('kit', '[{\"data\": {\"do\": \"wait_cancel\"}}, {}, {}, {}, {}, {}, {}, {}]')))")
        harness.wait_for(lambda: re.search(refused, stepd.log()) or db.value("select count(*) from stepd.jobs where status = 'completed'") == done + len(quick),
                         10, "refused, or nothing to give back")
        if re.search(refused, stepd.log()):
            break
        # a worker that had not run any took one job, the others went to the other worker
        db.rows("select stepd.cancel(%s)", slow)
        db.wait_status(slow, "cancelled")
        done += len(quick)
    stepd.wait_log(refused)
    db.rows(release)
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", done + len(quick))
    assert db.job(slow)["status"] == "running" and db.value("select count(*) from stepd.attempts where job_id = any (%s)", [slow, *quick]) == 0
    db.rows("select stepd.cancel(%s)", slow)
    db.wait_status(slow, "cancelled")


def test_finished_job_is_seen_while_the_next_runs(stepd, db):
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES, pools={"default": {"processes": 1, "serves": ["queue"]}}))
    unseen = []
    for turn in range(5):
        # fast ones first, so that the three are claimed at once
        db.values("select stepd.enqueue('kit', '{}') from generate_series(1, 200)")
        db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 203 * turn + 200)
        # a third one waits in the worker, so that it has no other reason to speak to the database than what has ended
        first, second, third = db.values("select stepd.enqueue('kit', case when i <> 2 then '{}' else %s end::jsonb) from generate_series(1, 3) i",
                                         f'{{"ms": {400 * harness.SLOW:.0f}}}')
        late = harness.wait_for(lambda: db.value("select extract(epoch from clock_timestamp() - finished_at)::float8 from stepd.jobs where id = %s", first), 5, interval=0.001)
        assert db.job(second)["status"] in ("running", "ready")
        unseen.append(late)
        db.wait_status(second, "completed")
        db.wait_status(third, "completed")
    assert min(unseen) < 0.05 * harness.SLOW, unseen


def test_cancel_running_and_pending(kit, db):
    [running] = db.enqueue("kit", {"do": "wait_cancel"})
    db.wait_status(running, "running")
    db.execute("select stepd.cancel(%s)", running)
    assert db.wait_status(running, "cancelled", "failed", "retrying")["status"] == "cancelled"
    db.execute("select stepd.pause('kit')")
    [pending] = db.enqueue("kit", {})
    db.execute("select stepd.cancel(%s)", pending)
    assert db.job(pending)["status"] == "cancelled"
    db.execute("select stepd.resume('kit')")
    [after] = db.enqueue("kit", {})
    db.wait_status(after, "completed")
    assert db.job(pending)["status"] == "cancelled"


def test_cancel_ends_a_handler_that_does_not_listen(stepd, db):
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES, stop={"killGrace": "300ms"}))
    [job] = db.enqueue("kit", {"do": "loop"})
    db.wait_status(job, "running")
    db.execute("select stepd.cancel(%s)", job)
    assert db.wait_status(job, "cancelled", "failed", "retrying", deadline=15)["status"] == "cancelled"


def test_large_and_odd_payloads_pass_unchanged(kit, db):
    big = {"do": None, "text": "x" * 900000, "n": 12345678901234567890123456789, "deep": json.loads("[" * 200 + "]" * 200)}
    [job] = db.enqueue("kit", big)
    db.wait_status(job, "completed")
    assert db.job(job)["input"] == big


def test_stop_drains_and_gives_back(kit, db):
    db.values("select stepd.enqueue('kit', '{\"ms\": 300}') from generate_series(1, 6)")
    db.wait_value("select count(*) > 0 from stepd.jobs where status = 'running'", True)
    assert kit.stop() == 0
    left = db.rows("select status, attempt from stepd.jobs where status <> 'completed'")
    assert {r["status"] for r in left} <= {"ready"}
    assert db.value("select count(*) from stepd.attempts") == 0
    kit.start()
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 6)


def test_database_restart_loses_and_repeats_nothing(make_stepd, own_pg):
    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db)
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(queues=QUEUES))
    [slow] = db.enqueue("kit", {"ms": 1500, "key": str(uuid.uuid4())})
    db.wait_status(slow, "running")
    own_pg.restart()
    done = db.wait_status(slow, "completed", deadline=20)
    assert done["attempt"] == 1 and db.attempts(slow) == []
    [after] = db.enqueue("kit", {})
    db.wait_status(after, "completed", deadline=20)
    stepd.close()
    db.close()


def test_outcome_that_was_on_its_way_when_the_connection_broke(kit, db):
    """Whether it was stored nobody knows, so it is sent again; once it counts."""
    db.execute("insert into stepd.state (group_id, key, value) values ('seen', 'held', '0')")
    holder = db.connect(autocommit=False)
    holder.cursor().execute("update stepd.state set value = '1' where key = 'held'")
    [job] = db.enqueue("kit", {"key": "held", "enqueue": "elsewhere", "data": {}})
    waiting = "select pid from pg_stat_activity where datname = current_database() and application_name like 'stepd worker %' and wait_event_type = 'Lock'" \
        " and clock_timestamp() - query_start > interval '0.3 s'"  # so long that the times of the job tell which run is meant
    backend = harness.wait_for(lambda: db.value(waiting), 10, "an outcome that is being stored")
    sent = db.value("select clock_timestamp()")
    db.execute("select pg_terminate_backend(%s)", backend)
    harness.wait_for(lambda: not db.value("select count(*) from pg_stat_activity where pid = %s", backend), 10, "its connection broke")
    holder.close()
    assert db.wait_status(job, "completed", "failed", "retrying")["attempt"] == 1
    assert (db.job(job)["status"], db.attempts(job), db.state("seen", "held")) == ("completed", [], {"attempt": 1})
    assert db.job(job)["started_at"] < sent, "it was run again"
    assert db.value("select count(*) from stepd.jobs where parent_id = %s", job) == 1
