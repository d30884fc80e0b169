"""kill -9 of anything, while jobs run: every job ends completed, no effect is applied twice, nothing is left."""


import pytest

import harness

JOBS = 10000

# Each job appends itself to a table-backed counter through its state key; a second application would show as n > 1.
COUNT = r"""
#include <stepd/step.h>
#include <stdio.h>

static int count(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	char key[32];
	cJSON *old = NULL;

	snprintf(key, sizeof key, "%.0f", stepd_get_num(in, "n", -1));
	if (stepd_state_get(ctx, "count", key, &old) < 0)
		return STEPD_RETRY;
	if (stepd_state_set(ctx, "count", key, stepd_own(ctx, cJSON_CreateNumber(old == NULL ? 1 : old->valuedouble + 1))) < 0)
		return STEPD_RETRY;
	return stepd_enqueue(ctx, "counted", in);
}

STEPD_STEP(.name = "Count", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("count")), .enqueues = STEPD_LIST("counted"), .handler = count);
"""
COUNTED = r"""
#include <stepd/step.h>
static int counted(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Counted", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("counted")), .handler = counted);
"""
QUEUES = {q: {"maxRetries": 20, "retryDelay": 50} for q in ("count", "counted")}


def enqueue_all(db):
    db.execute("select count(*) from stepd.enqueue_many('count', (select jsonb_agg(jsonb_build_object('data', jsonb_build_object('n', i)))"
               f" from generate_series(1, {JOBS}) i))")


def finished(db):
    return db.value("select count(*) from stepd.jobs where status = 'completed'")


def check(db):
    harness.wait_for(lambda: finished(db) >= 2 * JOBS, 90, interval=0.1, what=lambda: "all jobs completed; " + str(
        db.rows("select queue, status, count(*) from stepd.jobs group by 1, 2")))
    assert finished(db) == 2 * JOBS
    assert db.value("select count(*) from stepd.jobs") == 2 * JOBS
    assert db.value("select count(*) from stepd.state where group_id = 'count' and value = '1'") == JOBS
    # Every recorded attempt is one that died, and no job has more of them than attempts before its last.
    assert db.values("select distinct outcome from stepd.attempts where outcome not in ('crashed', 'lost')") == []
    assert db.rows("select j.id from stepd.jobs j join (select job_id, count(*) n from stepd.attempts group by 1) a"
                   " on a.job_id = j.id where a.n <> j.attempt - 1") == []


@pytest.fixture
def running(make_stepd, own_pg):
    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db)
    stepd.step("count", COUNT)
    stepd.step("counted", COUNTED)
    stepd.start(config=stepd.config(queues=QUEUES, logging={"level": "info"}))
    enqueue_all(db)
    yield stepd, db, own_pg
    stepd.close()
    db.close()


@pytest.mark.parametrize("role", ["worker", "keeper", "cron", "http"])
def test_kill_one_role_again_and_again(running, role):
    stepd, db, _ = running
    for _ in range(4):
        n = finished(db)
        stepd.child(rf"stepd.*{role}").kill()
        harness.wait_for(lambda: finished(db) > min(n, 2 * JOBS - 1), 20, "progress")
    check(db)


def test_kill_everything(running):
    stepd, db, _ = running
    for _ in range(3):
        harness.wait_for(lambda: finished(db) > 50, 20)
        stepd.kill9()
        stepd.start()
    check(db)


def test_kill_the_supervisor(running):
    stepd, db, _ = running
    harness.wait_for(lambda: finished(db) > 50, 20)
    children = stepd.procs()
    stepd.process.kill()
    stepd.wait()
    harness.wait_for(lambda: not any(p.alive for p in children), 5, "children gone with the supervisor")
    stepd.start()
    check(db)


def test_kill_postgresql(running):
    stepd, db, pg = running
    for _ in range(2):
        harness.wait_for(lambda: finished(db) > 50, 20)
        pg.kill9()
        pg.restart("immediate")
    check(db)
    assert "outcome refused" not in stepd.log()  # what had been stored when the connection broke is no loss
