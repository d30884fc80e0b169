"""Narrow places: a death or a lost connection between two steps that belong together, and wake-ups nobody sees."""

import ctypes
import os
import socket
import time

import harness

# Jobs of one step say how long they take; the other step is quick.
TWO = r"""
#include <stepd/step.h>
#include <sys/time.h>
#include <time.h>

static int slow(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	double ms = stepd_get_num(in, "ms", 0), bomb = stepd_get_num(in, "bomb", 0);
	struct timespec t = {(time_t)(ms / 1000), (long)((long long)(ms * 1e6) % 1000000000LL)};

	if (bomb > 0 && stepd_attempt(ctx) == 1)
		setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = (long)(bomb * 1000)}, NULL);
	if (stepd_get_bool(in, "patient", false))
		while (!stepd_cancelled(ctx) && stepd_attempt(ctx) == 1)
			nanosleep(&(struct timespec){0, 2000000}, NULL);
	nanosleep(&t, &t);
	return STEPD_OK;
}

STEPD_STEP(.name = "Slow", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("slow")), .handler = slow);
"""

QUICK = r"""
#include <stepd/step.h>
static int quick(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Quick", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("quick")), .handler = quick);
"""


def start(stepd, processes, **conf):
    stepd.step("slow", TWO)
    stepd.step("quick", QUICK)
    pools = {"default": {"processes": processes, "serves": ["queue"]}}
    stepd.start(config=stepd.config(queues={"slow": {"maxRetries": 1, "retryDelay": 50, "jitter": 0}}, pools=pools, **conf))


def idle(db):
    harness.wait_for(lambda: db.value("select count(*) from stepd.lease") == 0, 10, "no leases")


def waits(db, who="worker"):
    """Does a session of ours wait for a lock?"""
    return db.value("select count(*) from pg_stat_activity where application_name like %s and wait_event_type = 'Lock'"
                    " and datname = current_database()", f"stepd {who}%") > 0


def test_one_lane_full_wakes_others(stepd, db):
    """A worker whose quick lane wanted much and whose slow lane gave the one it wanted must wake the next for the rest."""
    start(stepd, 4)
    for _ in range(4):
        db.value("select count(*) from stepd.enqueue_many('quick', (select jsonb_agg(jsonb_build_object('data', i)) from generate_series(1, 1000) i))")
        harness.wait_for(lambda: db.value("select count(*) from stepd.jobs where status <> 'completed'") == 0, 20, "quick jobs done")
    worst = []
    for _ in range(2):
        idle(db)
        time.sleep(0.1)  # all asleep; nothing tells
        db.value("select count(*) from stepd.enqueue_many('slow', (select jsonb_agg(jsonb_build_object('data', '{\"ms\": 1200}'::jsonb)) from generate_series(1, 4)))")
        harness.wait_for(lambda: db.value("select count(*) from stepd.lease") == 4, 10, "four jobs at once")
        worst.append(db.value("select extract(epoch from max(since) - min(since))::float8 from stepd.lease"))
        harness.wait_for(lambda: db.value("select count(*) from stepd.jobs where status <> 'completed'") == 0, 20, "slow jobs done")
    assert min(worst) < 0.4, worst  # the fallback would need three of its half seconds


def test_a_queue_with_much_to_do_does_not_keep_the_next_one_waiting(stepd, db):
    """The turn goes to the next lane that has work, not through all that have none."""
    topics = ", ".join(f'STEPD_QUEUE("t{i:02}")' for i in range(60))
    stepd.step("many", "#include <stepd/step.h>\n#include <unistd.h>\nstatic int many(struct stepd_ctx *ctx) { usleep(1000); return STEPD_OK; }\n"
               f'STEPD_STEP(.name = "Many", .triggers = STEPD_TRIGGERS({topics}), .handler = many);\n')
    stepd.start(config=stepd.config(pools={"default": {"processes": 1, "serves": ["queue"]}}))

    def much(n):
        db.value("select count(*) from stepd.enqueue_many('t05', (select jsonb_agg('{}'::jsonb) from generate_series(1, %s)))", n)

    much(200)  # it learns that they are quick, and claims many at once
    db.wait_value("select count(*) from stepd.jobs where status <> 'completed'", 0)
    much(20000)
    jobs = []
    for _ in range(5):
        jobs += db.enqueue("t06", {})
        db.wait_status(jobs[-1], "completed", deadline=20)
    assert db.value("select ready from stepd.queues where name = 't05'") > 1000, "there was much to do all the time"
    waits = db.values("select extract(epoch from started_at - enqueued_at)::float8 from stepd.jobs where id = any (%s) order by 1", jobs)
    assert waits[2] < 1.0 * harness.SLOW, waits  # a batch takes 50 ms, and the turn through all lanes 60 of them


def test_retry_of_a_cancelled_job_is_not_cancelled_again(stepd, db):
    start(stepd, 1, stop={"killGrace": "300ms"})
    [job] = db.enqueue("slow", {"patient": True})
    db.wait_status(job, "running")
    time.sleep(0.1)
    db.value("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")
    db.value("select count(*) from stepd.retry(%s)", job)
    assert db.wait_status(job, "completed", "cancelled", "failed")["status"] == "completed"


def test_worker_that_dies_after_its_handler_returned(stepd, db):
    """The outcome was never told: the attempt is recorded crashed, or such a job would run for ever."""
    start(stepd, 1)
    lock = db.connect(autocommit=False)
    with lock.cursor() as c:
        c.execute("lock table stepd.outcome in share mode")
    [job] = db.enqueue("slow", {"bomb": 300})
    harness.wait_for(lambda: waits(db, "keeper"), 10, "the keeper recording the death")  # the old session is gone then
    lock.rollback()
    lock.close()
    harness.wait_for(lambda: db.attempts(job), 10, "the record of the attempt")
    assert db.attempts(job)[0]["outcome"] == "crashed"
    assert db.wait_status(job, "completed")["attempt"] == 2


def test_claim_that_outlives_its_worker(stepd, db):
    """Its lease must not appear when the worker's death is already recorded."""
    start(stepd, 1)
    lock = db.connect(autocommit=False)
    with lock.cursor() as c:
        c.execute("lock table stepd.lease in share mode")  # reading goes, a claim waits
    [job] = db.enqueue("slow", {})
    harness.wait_for(lambda: waits(db), 10, "a claim that waits")
    worker = stepd.child("^stepd: worker default/0$")
    worker.kill()
    harness.wait_for(lambda: not worker.alive, 5, "the worker gone")
    stepd.child("^stepd: worker default/0$")
    time.sleep(1)  # the keeper has long recorded the death
    lock.rollback()
    lock.close()
    assert db.wait_status(job, "completed", deadline=5)["attempt"] == 1


def sever(pid):
    """Shut a process' connection to PostgreSQL, from outside."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    pidfd = os.pidfd_open(pid)
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
        except FileNotFoundError:
            continue
        fd = syscall(438, pidfd, int(name), 0)  # pidfd_getfd
        assert fd >= 0, os.strerror(ctypes.get_errno())
        with socket.socket(fileno=fd) as s:
            peer = s.getpeername() if s.type == socket.SOCK_STREAM else ""
            if peer and (isinstance(peer, tuple) or "PGSQL" in str(peer)):
                s.shutdown(socket.SHUT_RDWR)
                found += 1
    os.close(pidfd)
    assert found == 1


def test_claim_that_outlives_its_connection(stepd, db):
    """The connection breaks while the server still works on the claim: given back only when that can commit no more."""
    start(stepd, 1)
    lock = db.connect(autocommit=False)
    with lock.cursor() as c:
        c.execute("lock table stepd.lease in share mode")
    [job] = db.enqueue("slow", {})
    harness.wait_for(lambda: waits(db), 10, "a claim that waits")
    worker = stepd.child("^stepd: worker default/0$")
    sever(worker.pid)
    stepd.wait_log("database connection lost")
    time.sleep(1)
    lock.rollback()
    lock.close()
    assert db.wait_status(job, "completed", deadline=10)["attempt"] == 1


def test_stop_while_the_database_is_away(make_stepd, own_pg):
    """A claim that may have committed is no reason to wait for as long as a stop may take: nobody ran anything of it."""
    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db)
    start(stepd, 1)  # a stop may take 25 s
    lock = db.connect(autocommit=False)
    lock.cursor().execute("lock table stepd.lease in share mode")
    [job] = db.enqueue("slow", {})
    harness.wait_for(lambda: waits(db), 10, "a claim that waits")
    own_pg.kill9()
    stepd.wait_log("worker default/0: database connection lost")
    begin = time.monotonic()
    assert stepd.stop() == 0
    assert time.monotonic() - begin < 15 * harness.SLOW
    own_pg.start()
    stepd.start()
    assert db.wait_status(job, "completed", deadline=10)["attempt"] == 1
