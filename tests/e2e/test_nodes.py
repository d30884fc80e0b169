"""Several nodes on one database: rescue, fences, starts.  The random run in which everything is killed is test_storm.py."""

import json
import os
import signal
import time

import pytest

import harness
from test_worker import KIT

# Writes down that it began; may stop its own process: by raise(), for with kill(getpid(), …) the loop's thread may take the
# signal while this one goes on, through the whole batch; or kill the supervisor.
WITNESS = r"""
#include <stepd/step.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int witness(struct stepd_ctx *ctx)
{
	char line[64];
	int fd = open(JOURNAL, O_WRONLY | O_APPEND | O_CLOEXEC), n = snprintf(line, sizeof line, "%lld\n", (long long)stepd_job_id(ctx));

	if (fd < 0 || write(fd, line, (size_t)n) != n)
		return STEPD_RETRY;
	close(fd);
	if (stepd_get_bool(stepd_data(ctx), "stop", false) && stepd_attempt(ctx) == 1)
		raise(SIGSTOP);
	if (stepd_get_bool(stepd_data(ctx), "kill", false))
		kill(getppid(), SIGKILL);
	if (stepd_get_bool(stepd_data(ctx), "all", false)) {
		kill(getppid(), SIGKILL);
		kill(getpid(), SIGKILL);
	}
	if (stepd_get_bool(stepd_data(ctx), "kill", false) || stepd_get_bool(stepd_data(ctx), "long", false))
		nanosleep(&(struct timespec){60, 0}, NULL);
	return STEPD_OK;
}

STEPD_STEP(.name = "Witness", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("witness")), .handler = witness);
"""


def config(d, queues, processes=2, lease="2s", grace="500ms"):
    return d.config(node={"name": d.name}, queues=queues, http={"listen": "off"}, admin={"listen": "off"}, stop={"killGrace": grace},
                    database={"url": d.db.conninfo, "lease": lease}, logging={"level": "info"},
                    pools={"default": {"processes": processes, "serves": ["queue"]}})


@pytest.fixture
def node(db, make_stepd):
    def start(name, **more):
        d = make_stepd(db, name)
        d.step("kit", KIT)
        return d.start(config=config(d, {"kit": {"maxRetries": 3, "retryDelay": 50}}, **more))

    return start


def test_stopped_node_is_rescued_and_its_late_outcome_refused(node, db):
    a = node("a")
    [job] = db.enqueue("kit", {"ms": 2000, "key": "late"})
    db.wait_status(job, "running")
    frozen = [harness.Proc(a.pid)] + a.procs()
    for p in frozen:
        p.kill(signal.SIGSTOP)
    node("b")
    done = db.wait_status(job, "completed", deadline=20)
    assert (done["node"], done["attempt"]) == ("b", 2)
    mark = a.log_mark()
    for p in frozen:
        p.kill(signal.SIGCONT)
    a.wait_log("outcome refused", mark, deadline=20)
    assert [x["outcome"] for x in db.attempts(job)] == ["lost"]
    assert db.state("seen", "late") == {"attempt": 2}
    assert db.job(job)["node"] == "b"
    # and the node takes part again, under a new life
    db.wait_value("select count(*) from stepd.nodes where name = 'a' and status = 'alive'", 1, deadline=20)


def test_what_runs_on_a_node_that_was_lost_is_ended_when_it_is_back(node, db):
    """Others have its jobs.  A handler that asks is told so, and one that does not is killed; neither leaves a trace."""
    a = node("a")
    jobs = [db.enqueue("kit", {"do": what, "until_attempt": 2})[0] for what in ("wait_cancel", "loop")]
    for j in jobs:
        db.wait_status(j, "running")
    polite, stubborn = (harness.Proc(db.job(j)["pid"]) for j in jobs)
    frozen = [harness.Proc(a.pid)] + a.procs()
    for p in frozen:
        p.kill(signal.SIGSTOP)
    b = node("b")
    for j in jobs:
        db.wait_status(j, "completed", deadline=20)
    mark = a.log_mark()
    for p in frozen:
        p.kill(signal.SIGCONT)
    a.wait_log(r"ending (\d jobs? that runs? here|job %d:)" % jobs[1], mark, deadline=20)  # the keeper or the worker, who comes first
    a.wait_log(f"outcome refused.*job={jobs[0]}\\b", mark, deadline=20)
    harness.wait_for(lambda: not stubborn.alive, 20, "the handler that does not ask is ended")
    assert polite.alive
    assert b.stop() == 0
    last = [db.enqueue("kit", {"ms": 100})[0] for _ in range(2)]
    assert polite.pid in {db.wait_status(j, "completed", deadline=20)["pid"] for j in last}
    assert [(x["outcome"], x["node"]) for j in jobs for x in db.attempts(j)] == [("lost", "a")] * 2
    assert {db.job(j)["node"] for j in jobs} == {"b"}


def test_what_runs_beside_a_keeper_that_hangs_is_ended_when_others_have_it(node, db):
    """Its worker asks by itself.  The node is silent, but its supervisor and its workers are well."""
    a = node("a")
    jobs = [db.enqueue("kit", {"do": what, "until_attempt": 2})[0] for what in ("wait_cancel", "loop")]
    for j in jobs:
        db.wait_status(j, "running")
    stubborn = harness.Proc(db.job(jobs[1])["pid"])
    keeper = a.child("^stepd: keeper")
    keeper.kill(signal.SIGSTOP)
    node("b")
    for j in jobs:
        done = db.wait_status(j, "completed", deadline=20)
        assert (done["node"], done["attempt"]) == ("b", 2)
        a.wait_log(f"ending job {j}: the node's lease was not renewed", deadline=20)
    a.wait_log(f"outcome refused.*job={jobs[0]}\\b", deadline=20)
    harness.wait_for(lambda: not stubborn.alive, 20, "the handler that does not ask is ended")
    a.wait_log(r"keeper \(pid %d\) gave no sign of life for \d+ s" % keeper.pid, deadline=20)
    assert harness.Proc(keeper.pid).state == "T"
    keeper.kill(signal.SIGCONT)
    a.wait_log(r"keeper \(pid %d\) is alive again" % keeper.pid, deadline=20)
    db.wait_value("select count(*) from stepd.nodes where name = 'a' and status = 'alive'", 1, deadline=20)
    assert [(x["outcome"], x["node"]) for j in jobs for x in db.attempts(j)] == [("lost", "a")] * 2


def test_what_runs_beside_a_keeper_that_hangs_goes_on_while_it_is_ours(node, db):
    """The lease is over, but nobody took the job; it is the only run of it."""
    a = node("a")
    [job] = db.enqueue("kit", {"do": "wait_cancel", "key": "mine"})
    db.wait_status(job, "running")
    keeper = a.child("^stepd: keeper")
    keeper.kill(signal.SIGSTOP)
    a.wait_log("gave no sign of life", deadline=20)
    db.wait_value("select count(*) > 0 from pg_stat_activity where application_name like 'stepd worker%%' and query like '%%stepd.holds(%%'"
                  " and datname = current_database()", True)
    keeper.kill(signal.SIGCONT)
    a.wait_log("is alive again", deadline=20)
    assert db.job(job)["status"] == "running"
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")
    assert [(x["outcome"], x["attempt"]) for x in db.attempts(job)] == [("cancelled", 1)]


def test_an_outage_longer_than_the_lease_ends_nothing(own_pg, make_stepd):
    """Nobody can have taken what runs meanwhile; that the lease is over does not matter."""
    db = harness.Database(own_pg.conninfo)
    a = make_stepd(db, "a")
    a.step("kit", KIT)
    a.start(config=config(a, {"kit": {"maxRetries": 3, "retryDelay": 50}}))
    [job] = db.enqueue("kit", {"do": "wait_cancel"})
    worker = db.wait_status(job, "running")["pid"]
    mark, began = a.log_mark(), time.monotonic()
    own_pg.stop("fast")
    harness.wait_for(lambda: time.monotonic() - began > 3, 10, "longer than the lease")
    own_pg.start()
    a.wait_log("the database is back", mark, deadline=20)
    [other] = db.enqueue("kit", {})
    db.wait_status(other, "completed")
    harness.wait_for(lambda: time.monotonic() - began > 6, 10, "a moment in which it might be ended")
    assert db.job(job)["status"] == "running" and db.attempts(job) == []
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")
    assert [(x["outcome"], x["attempt"], x["pid"]) for x in db.attempts(job)] == [("cancelled", 1, worker)]
    assert a.stop() == 0
    db.close()


def test_a_worker_that_is_idle_while_its_node_joins_anew_works_on(node, db):
    """It learns that its life is over after the node has none any more, and before it has another."""
    a = node("a", processes=1, grace="20s")
    [job] = db.enqueue("kit", {"ms": 3000})
    db.wait_status(job, "running")
    worker = a.child("^stepd: worker")
    frozen = [harness.Proc(a.pid)] + a.procs()
    for p in frozen:
        p.kill(signal.SIGSTOP)
    harness.wait_for(lambda: db.rows("select * from stepd.rescue()"), 10, "the node is lost")
    db.execute("create function hold() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock(77); return new; end'")
    db.execute("create trigger hold before insert on stepd.node for each row execute function hold()")
    joining = db.connect(autocommit=False)
    joining.cursor().execute("select pg_advisory_xact_lock(77)")
    mark = a.log_mark()
    for p in frozen:
        if p.pid != worker.pid:
            p.kill(signal.SIGCONT)
    a.wait_log("declared dead", mark)
    worker.kill(signal.SIGCONT)
    a.wait_log("outcome refused", mark)
    joining.close()
    a.wait_log("joined as node", mark)
    [after] = db.enqueue("kit", {})
    for j in (job, after):
        assert db.wait_status(j, "completed")["pid"] == worker.pid


def test_restart_of_a_host_rescues_at_once(node, db):
    a = node("a", lease="60s")
    [job] = db.enqueue("kit", {"ms": 2000, "key": "k"})
    db.wait_status(job, "running")
    a.kill9()
    begin = time.monotonic()
    a.start()
    assert db.wait_status(job, "completed", deadline=15)["attempt"] == 2
    assert time.monotonic() - begin < 15 * harness.SLOW
    assert [x["outcome"] for x in db.attempts(job)] == ["lost"]
    assert db.value("select count(distinct boot_id) from stepd.nodes where name = 'a'") == 2


def test_a_node_whose_process_can_not_be_seen_is_left_alone(node, db):
    """Nobody knows when it was started: its lease decides."""
    node("a")
    db.wait_value("select count(*) from stepd.node where pid_started is not null", 1)
    db.execute("update stepd.node set pid_started = null")
    b = node("b")
    db.wait_value("select count(*) from stepd.node where name = 'b' and pid_started is not null", 1)
    db.wait_status(db.enqueue("kit", {"ms": 400})[0], "completed")  # longer than what b waits before it says that one is gone
    assert db.values("select name from stepd.nodes where status = 'alive' order by name") == ["a", "b"]
    assert "ran on this host" not in b.log()


def test_two_nodes_started_at_once_on_an_empty_database(make_stepd, db):
    made = [make_stepd(db, n) for n in "ab"]
    for d in made:
        d.step("kit", KIT)
        d.launch(config=config(d, {}))
    for d in made:
        d.notify.wait("READY", "1", deadline=30)
    [job] = db.enqueue("kit", {})
    db.wait_status(job, "completed")
    assert db.value("select count(*) from stepd.nodes where status = 'alive'") == 2


def test_what_waited_behind_a_frozen_job_does_not_start_after_the_thaw(make_stepd, db, tmp):
    """A batch is claimed, its first job freezes, then the node; another one has run them all when it thaws."""
    written = tmp / "journal"
    written.touch()
    written.chmod(0o666)
    made = [make_stepd(db, n) for n in "ab"]
    for d in made:
        d.step("witness", WITNESS, [f'-DJOURNAL="{written}"'])
    a, b = made
    a.start(config=config(a, {"witness": {"retryDelay": 10}}, processes=1))

    def enqueue(n, first="{}"):
        return db.values("select stepd.enqueue_many('witness', (select jsonb_agg(jsonb_build_object('data', case when i = 1 then %s else '{}' end::jsonb)"
                         " order by i) from generate_series(1, %s) i))", first, n)

    for _ in range(3):  # it learns that they are quick, and claims many at once
        enqueue(300)
        db.wait_value("select count(*) from stepd.jobs where status <> 'completed'", 0)
    db.execute("select stepd.pause('witness')")
    jobs = enqueue(30, '{"stop": true}')
    db.execute("select stepd.resume('witness')")
    worker = a.child("stepd.*worker")
    harness.wait_for(lambda: harness.Proc(worker.pid).state == "T", 10, "the worker stopped itself")
    assert db.value("select cardinality(ids) from stepd.lease") > 1
    assert [int(line) for line in written.read_text().split()][-1] == jobs[0]
    frozen = [harness.Proc(a.pid)] + a.procs()
    for p in frozen:
        p.kill(signal.SIGSTOP)
    b.start(config=config(b, {"witness": {"retryDelay": 10}}))
    for job in jobs:
        db.wait_status(job, "completed", deadline=20)
    for p in frozen:
        p.kill(signal.SIGCONT)
    a.wait_log("outcome refused", deadline=20)
    db.wait_value("select count(*) from stepd.nodes where name = 'a' and status = 'alive'", 1, deadline=20)
    [after] = enqueue(1)
    db.wait_status(after, "completed", deadline=20)
    begun = [int(line) for line in written.read_text().split()]
    assert [begun.count(j) for j in jobs] == [2] + [1] * (len(jobs) - 1)


@pytest.fixture
def martyr(db, make_stepd):
    d = make_stepd(db, "m")
    journal = d.dir / "journal"
    journal.touch(0o666)
    d.step("witness", WITNESS, [f'-DJOURNAL="{journal}"'])
    d.begun = lambda: [int(x) for x in journal.read_text().split()]
    d.conf = config(d, {"witness": {"maxRetries": 1, "retryDelay": 10, "jitter": 0}}, lease="30s")
    d.conf["stop"]["timeout"] = "1s"
    return d


def batch(db, n, **one):
    """So many quick jobs, and one in the middle."""
    return db.values("select e from stepd.enqueue_many('witness', (select jsonb_agg(jsonb_build_object('data', case when i = %s then %s::jsonb else '{}' end)"
                     " order by i) from generate_series(1, %s) i)) with ordinality as x (e, ord) order by ord", n // 2, json.dumps(one), n)


def test_a_job_that_kills_the_supervisor_is_the_one_that_is_lost(martyr, db):
    """Its workers say so before they go: its attempts count, however quick it is, and nobody else's."""
    martyr.start(config=martyr.conf)
    martyr.stop()
    jobs = batch(db, 60, kill=True)
    bad = jobs[29]
    for _ in range(2):
        martyr.launch(config=martyr.conf)
        martyr.process.wait(20)
        harness.wait_for(lambda: not [p for p in harness.all_procs().values() if p.ppid == os.getpid() and p.cmdline.startswith("stepd: ") and p.alive],
                         5, "all of it gone")
        harness.reap_orphans()
    martyr.start(config=martyr.conf)
    assert db.wait_status(bad, "failed")["attempt"] == 2
    for job in set(jobs) - {bad}:
        db.wait_status(job, "completed")
    assert martyr.begun().count(bad) == 2
    rows = db.rows("select job_id, attempt, outcome, error, pid from stepd.attempts order by job_id, attempt")
    assert [(r["attempt"], r["outcome"], r["error"]) for r in rows if r["job_id"] == bad] == [(n, "lost", "The node that ran it vanished.") for n in (1, 2)], rows
    assert all(r["pid"] for r in rows) and not [r for r in rows if "may have been" in r["error"]], rows


def test_a_job_that_kills_all_of_its_node_comes_to_an_end(martyr, db):
    """Nobody can say which job of the batch it was.  So what the node held comes one by one the next time."""
    martyr.conf["pools"]["default"]["processes"] = 1
    martyr.start(config=martyr.conf)
    warm = db.values("select stepd.enqueue('witness') from generate_series(1, 300)")
    db.wait_value("select count(*) from stepd.outcome", len(warm))
    jobs = batch(db, 60, all=True)
    bad = jobs[29]
    while db.job(bad)["status"] != "failed":
        martyr.process.wait(20)
        assert martyr.begun().count(bad) < 8, "attempts, three more, and the first time"
        martyr.launch(config=martyr.conf)
        harness.wait_for(lambda: martyr.process.poll() is not None or db.job(bad)["status"] == "failed", 20, "it dies again, or the job has failed")
    for job in set(jobs) - {bad}:
        db.wait_status(job, "completed")
    assert max(martyr.begun().count(job) for job in set(jobs) - {bad}) <= 2, "the others are not in it again"


def test_no_job_fails_unbegun_when_the_supervisor_is_killed(martyr, db):
    martyr.conf["queues"]["witness"]["maxRetries"] = 0
    every = []
    for n in range(8):
        martyr.start(config=martyr.conf)
        every += batch(db, 60)
        time.sleep(n * 0.003)  # anywhere in the course of it
        martyr.send(signal.SIGKILL)
        martyr.process.wait(10)
    martyr.start(config=martyr.conf)
    db.wait_value("select count(*) from stepd.outcome", len(every), deadline=30)
    failed = db.values("select id from stepd.jobs where status = 'failed'")
    assert not set(failed) - set(martyr.begun()), failed


def test_somebody_elses_signal_is_not_the_supervisors_death(martyr, db):
    martyr.start(config=martyr.conf)
    before = {p.pid for p in martyr.procs()}
    for p in martyr.procs():
        p.kill(signal.SIGUSR2)
    for job in db.values("select stepd.enqueue('witness') from generate_series(1, 20)"):
        db.wait_status(job, "completed")
    assert {p.pid for p in martyr.procs()} == before and all(p.alive for p in martyr.procs())


def test_what_ran_when_all_of_a_node_was_killed(martyr, db):
    martyr.start(config=martyr.conf)
    jobs = batch(db, 40, long=True)
    slow = jobs[19]
    db.wait_value("select count(*) from stepd.lease where begun = %s", 1, slow)
    martyr.kill9()
    martyr.start(config=martyr.conf)
    db.wait_value("select count(*) from stepd.attempts", 1)
    [a] = db.rows("select job_id, outcome, error, pid from stepd.attempts")
    assert (a["job_id"], a["outcome"], a["error"]) == (slow, "lost", "The node that ran it vanished.") and a["pid"], a


def test_a_start_that_met_an_error_is_told_again(martyr, db):
    db.execute("create function gate() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$;"
               " create trigger gate before update of begun on stepd.lease for each row execute function gate()")
    martyr.start(config=martyr.conf)
    db.execute("select pg_advisory_lock(1)")
    [job] = db.enqueue("witness", {"long": True})
    stuck = "select pid from pg_locks where locktype = 'advisory' and objid = 1 and not granted"
    first = harness.wait_for(lambda: db.value(stuck), 10, "its start is being told")
    db.execute("select pg_terminate_backend(%s)", first)
    harness.wait_for(lambda: (db.value(stuck) or first) != first, 10, "it is told again, by another session")
    db.execute("select pg_advisory_unlock(1)")
    db.wait_value("select count(*) from stepd.lease where begun = %s", 1, job)


def test_workers_go_with_the_supervisor_though_the_database_hangs(martyr, db):
    """Who succeeds them must not find them at work: what they can not tell in a moment stays untold."""
    martyr.start(config=martyr.conf)
    [job] = db.enqueue("witness", {"long": True})
    db.wait_value("select count(*) from stepd.lease where begun = %s", 1, job)
    [other] = db.enqueue("witness", {"long": True})  # its start may not be told yet
    harness.wait_for(lambda: other in martyr.begun(), 5, "both run")
    workers = martyr.workers()
    sessions = [harness.Proc(pid) for pid in db.values("select pid from pg_stat_activity where datname = current_database() and application_name like 'stepd %'")]
    for s in sessions:
        s.kill(signal.SIGSTOP)
    try:
        martyr.send(signal.SIGKILL)
        martyr.process.wait(10)
        martyr.launch(config=martyr.conf)
        db.wait_value("select count(distinct job_id) from stepd.attempts where outcome = 'lost'", 2)
        assert not [w for w in workers if w.alive], "taken back before they are gone"
    finally:
        for s in sessions:
            s.kill(signal.SIGCONT)
