"""A large batch is claimed first and read after that, so that others can claim meanwhile.  Whatever happens in between, each
job runs once and no attempt is used."""

import signal

import pytest

import harness

STEP = r"""
#include <stepd/step.h>
#include <stdio.h>

static int count(struct stepd_ctx *ctx)
{
	char key[24];

	snprintf(key, sizeof key, "%.0f", stepd_get_num(stepd_data(ctx), "n", 0));
	return stepd_state_update(ctx, "ran", key, stepd_op_increment("", 1));
}

STEPD_STEP(.name = "Count", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("count")), .handler = count);
"""

READER = """select pid from pg_stat_activity where datname = current_database() and application_name like 'stepd worker %'
    and wait_event_type = 'Lock' and wait_event = 'advisory' and query like '%stepd.claimed%'"""


class Batch:
    """One worker that reads a batch of 100 jobs and waits."""

    def __init__(self, stepd, db):
        self.db = db
        self.holder = db.connect()
        warm = db.values("select stepd.enqueue('count', '{}') from generate_series(1, 400)")
        self.wait(warm)
        # claimed() waits from now on while somebody holds the lock 99
        claimed = db.value("select pg_get_functiondef('stepd.claimed(int, int, bigint, bigint[])'::regprocedure)")
        db.execute(claimed.replace("\nbegin\n", "\nbegin\n\tperform pg_advisory_lock(99), pg_advisory_unlock(99);\n", 1))
        self.holder.cursor().execute("select pg_advisory_lock(99)")
        self.jobs = db.values("select stepd.enqueue_many('count', (select jsonb_agg(jsonb_build_object('data', jsonb_build_object('n', i))) from generate_series(1, 100) i))")
        self.reader = harness.wait_for(lambda: db.value(READER), 20, "a batch that is being read")
        self.held = db.values("select unnest(ids) from stepd.lease")
        assert len(self.held) > 16 and set(self.held) <= set(self.jobs)

    def go_on(self):
        self.holder.cursor().execute("select pg_advisory_unlock(99)")

    def wait(self, jobs):
        self.db.wait_value("select count(*) from stepd.jobs where status = 'completed' and id = any (%s)", len(jobs), jobs, deadline=30)

    def ran_once(self, *but, lost=()):
        """Each job but those; each at its first attempt, unless one was lost."""
        jobs = sorted(set(self.jobs) - set(but))
        self.wait(jobs)
        ran = self.db.rows("select key::int as n, value::int as times from stepd.state where group_id = 'ran' and key <> '0'")
        assert sorted((self.jobs[r["n"] - 1], r["times"]) for r in ran) == [(j, 1) for j in jobs]
        assert self.db.values("select id from stepd.jobs where id = any (%s) and attempt > 1", jobs) == list(lost)
        assert self.db.values("select job_id from stepd.attempts where job_id = any (%s)", self.jobs) == list(lost)


@pytest.fixture
def batch(stepd, db):
    stepd.step("count", STEP)
    stepd.start(config=stepd.config(pools={"default": {"processes": 1}}))
    return Batch(stepd, db)


def test_read_and_run(batch, stepd):
    batch.go_on()
    batch.ran_once()


def test_the_connection_breaks(batch, stepd, db):
    db.execute("select pg_terminate_backend(%s)", batch.reader)
    stepd.wait_log("reading the claimed jobs failed, giving them back")
    batch.go_on()
    batch.ran_once()


def test_the_database_refuses(batch, stepd, db):
    db.execute("select pg_cancel_backend(%s)", batch.reader)
    stepd.wait_log("reading the claimed jobs failed, giving them back.*canceling statement")
    batch.go_on()
    batch.ran_once()


def test_the_worker_is_killed(batch, stepd, db):
    stepd.child("^stepd: worker default/0$").kill()
    batch.go_on()
    batch.ran_once()


def test_the_daemon_stops(batch, stepd, db):
    stepd.send(signal.SIGTERM)
    stepd.wait_log("stopping: ")
    batch.go_on()
    assert stepd.wait() == 0
    assert db.value("select count(*) from stepd.jobs where id = any (%s) and status = 'ready' and attempt = 0", batch.jobs) == len(batch.jobs)
    stepd.launch()
    batch.ran_once()


def test_a_job_of_it_is_cancelled(batch, stepd, db):
    gone = batch.held[5]
    assert db.value("select stepd.cancel(%s)", gone)
    batch.go_on()
    batch.ran_once(gone)
    assert db.job(gone)["status"] == "cancelled"


def test_the_node_is_declared_dead(batch, stepd, db):
    """Another node has taken the batch back: it is not run by who had claimed it.  The first of it may have begun, as far as
    the database knows."""
    db.execute("update stepd.node set lost_at = now()")
    db.execute("select stepd.rescue()")
    assert db.value("select count(*) from stepd.lease") == 0
    batch.go_on()
    batch.ran_once(lost=batch.held[:1])
