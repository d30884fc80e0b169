"""The keeper: waiting for the database, the node's life, wake-ups, due jobs, deaths, cancels, rescue."""

import datetime
import re
import signal
import socket
import statistics
import threading
import time

import pytest

import harness

NOTE = r"""
#include <stepd/step.h>
#include <signal.h>
#include <time.h>

static void nap(double ms)
{
	struct timespec t = {(time_t)(ms / 1000), (long)((long long)(ms * 1e6) % 1000000000LL)};
	while (nanosleep(&t, &t) < 0)
		;
}

static int note(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	if (stepd_get_bool(in, "crash", false))
		raise(SIGSEGV);
	for (double ms = stepd_get_num(in, "ms", 0); ms > 0 && !stepd_cancelled(ctx); ms -= 5)
		nap(5);
	return stepd_cancelled(ctx) ? stepd_fail(ctx, "cancelled") : STEPD_OK;
}

STEPD_STEP(.name = "Note", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("note")), .handler = note);
"""


def configured(stepd, lease="30s", workers=2, **database):
    return stepd.config(pools={"default": {"processes": workers, "serves": ["queue"]}}, database={"url": stepd.db.conninfo, "lease": lease, **database},
                        queues={"note": {"maxRetries": 1, "retryDelay": 200, "jitter": 0}})


@pytest.fixture
def note(stepd):
    stepd.step("note", NOTE)
    return stepd.start(config=configured(stepd))


def delay(db, job):
    """Seconds from when it could run until it did."""
    j = db.wait_status(job, "completed")
    return (j["started_at"] - max(j["enqueued_at"], j["run_at"] or j["enqueued_at"])).total_seconds()


# --- the database at start ---------------------------------------------------------------------------------------

def test_unknown_database_is_told_at_once(stepd, pg):
    began = time.monotonic()
    assert stepd.run(config=stepd.config(database={"url": f"{pg.conninfo} dbname=no_such_db password=hush", "wait": "20s"})) == 69
    assert time.monotonic() - began < 10
    stepd.wait_log('database "no_such_db" does not exist')
    assert "hush" not in stepd.log()


def test_unreachable_database_is_waited_for(stepd):
    began = time.monotonic()
    url = f"host=127.0.0.1 port={harness.free_port()} dbname=x user=u password=hush"
    assert stepd.run(config=stepd.config(database={"url": url, "wait": "1500ms"})) == 69
    assert 1.4 <= time.monotonic() - began < 10
    stepd.wait_log("the database cannot be reached, waited 1 s: .*Connection refused")
    assert "hush" not in stepd.log()
    assert stepd.notify.seen("STATUS", value=None)


def test_silent_database_is_given_up(stepd):
    """It accepts and says nothing: the worst of all."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(50)
        url = f"host=127.0.0.1 port={s.getsockname()[1]} dbname=x user=u connect_timeout=2"
        assert stepd.run(config=stepd.config(database={"url": url, "wait": "1s"})) == 69
    stepd.wait_log("did not answer in time")


def test_database_that_comes_late(stepd, own_pg):
    own_pg.stop()
    stepd.launch(config=stepd.config(database={"url": own_pg.conninfo, "wait": "30s"}))
    stepd.wait_log("waiting for the database")
    own_pg.restart()
    stepd.notify.wait("READY", "1", deadline=20)
    assert stepd.stop() == 0


def test_wrong_password_is_told_at_once(stepd, own_pg):
    port = dict(f.split("=", 1) for f in own_pg.conninfo.split())["port"]
    hba = own_pg.dir / "data/pg_hba.conf"
    hba.write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n")
    own_pg.restart()
    for user, message in [("nobody_here", "password authentication failed"), ("postgres", "password authentication failed")]:
        url = f"host=127.0.0.1 port={port} dbname=postgres user={user} password=hush"
        assert stepd.run(config=stepd.config(database={"url": url, "wait": "20s"}), deadline=10) == 69
        stepd.wait_log(message)
    url = f"host=127.0.0.1 port={port} dbname=postgres user=postgres"
    assert stepd.run(config=stepd.config(database={"url": url, "wait": "20s"}), deadline=10) == 69
    assert "hush" not in stepd.log()


def test_read_only_database(stepd, db):
    """A standby, say: the schema is there, but nobody can join."""
    stepd.start(config=configured(stepd))
    assert stepd.stop() == 0
    db.execute(f'alter database "{db.name}" set default_transaction_read_only = on')
    assert stepd.run(config=configured(stepd, wait="2s"), deadline=25) == 69
    stepd.wait_log("cannot execute .* in a read-only transaction")


# --- the node's life ---------------------------------------------------------------------------------------------

def test_database_that_becomes_read_only(stepd, db):
    """As the old primary after a failover: not ready once the lease is over, and told of once."""
    stepd.step("note", NOTE)
    stepd.start(config=configured(stepd, lease="1s"))

    def ready():
        return stepd.get("/ready", port=stepd.admin_port)

    assert ready().status == 200
    cut = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{db.name}' and pid <> pg_backend_pid()"
    db.rows(f'alter database "{db.name}" set default_transaction_read_only = on')
    db.rows(cut)
    harness.wait_for(lambda: (r := ready()).status == 503 and r.json["node"] is False, 10, "not ready")
    sessions = set()
    keeper = "select pid from pg_stat_activity where datname = %s and application_name like 'stepd keeper%%'"
    harness.wait_for(lambda: sessions.update(db.values(keeper, db.name)) or len(sessions) > 2, 30, "it tries again and again")
    told = re.findall("keeper: (database|.*read-only).*", stepd.log())
    assert len(re.findall("keeper: database: this database session cannot be used any longer: cannot execute", stepd.log())) == 1, told
    db.rows(f'alter database "{db.name}" reset default_transaction_read_only')
    db.rows("set default_transaction_read_only = off")
    mark = stepd.log_mark()
    db.rows(cut)
    stepd.wait_log("keeper: the database is back", mark)
    harness.wait_for(lambda: ready().status == 200, 10, "ready again")
    [job] = db.enqueue("note", {})
    db.wait_status(job, "completed")


def test_joins_and_leaves(note, db):
    [node] = db.rows("select * from stepd.node")
    assert node["pid"] == note.pid and node["lost_at"] is None and node["left_at"] is None and node["listening"]
    assert note.stop() == 0
    assert db.value("select left_at is not null from stepd.node") is True


def test_keeper_killed(note, db):
    """A new keeper takes over the same node; nobody else notices."""
    before = db.rows("select id from stepd.node")
    keeper = note.child("stepd: keeper")
    mark = note.log_mark()
    keeper.kill()
    note.wait_log(r"keeper \(pid \d+\) is ready", mark)
    harness.in_time(lambda: delay(db, *db.enqueue("note", {})), 0.5)
    assert db.rows("select id from stepd.node") == before
    assert db.value("select count(*) from stepd.node where lost_at is null and left_at is null") == 1


def test_declared_dead_joins_anew(stepd, db):
    stepd.step("note", NOTE)
    stepd.start(config=configured(stepd, lease="2s"))
    db.execute("update stepd.node set lost_at = now()")
    db.wait_value("select count(*) from stepd.node where lost_at is null", 1)
    [job] = db.enqueue("note", {})
    assert db.wait_status(job, "completed")["node"] is not None


def test_database_restart(stepd, own_pg, make_db):
    db = harness.Database(own_pg.conninfo)
    stepd.db = db
    stepd.step("note", NOTE)
    stepd.start(config=configured(stepd))
    jobs = db.enqueue("note", {"ms": 1500}) + [db.enqueue("note", {}) for _ in range(20)][-1]
    own_pg.restart()
    [after] = db.enqueue("note", {})
    for job in jobs + [after]:
        assert db.wait_status(job, "completed", deadline=15)["attempt"] == 1
    assert db.value("select count(*) from stepd.attempts") == 0
    assert db.value("select count(*) from stepd.node") == 1
    harness.in_time(lambda: delay(db, *db.enqueue("note", {})), 0.5)
    assert stepd.stop() == 0
    db.close()


def test_two_nodes_rescue(make_stepd, db):
    """One node is frozen with a job; the other takes it back when the lease is over."""
    a, b = make_stepd(db, "a"), make_stepd(db, "b")
    for n in (a, b):
        n.step("note", NOTE)
    a.start(config={**configured(a, "2s"), "node": {"name": "a"}})
    [job] = db.enqueue("note", {"ms": 60000})
    db.wait_status(job, "running")
    victims = [harness.Proc(a.pid)] + a.procs()
    for p in victims:
        p.kill(signal.SIGSTOP)
    try:
        b.start(config={**configured(b, "2s"), "node": {"name": "b"}})
        harness.wait_for(lambda: db.attempts(job), 10, "a rescue")
        [attempt] = db.attempts(job)
        assert (attempt["outcome"], attempt["attempt"]) == ("lost", 1)
        second = harness.wait_for(lambda: (j := db.job(job))["status"] == "running" and j["node"] == "b" and j, 10, "second attempt")
        assert second["attempt"] == 2
        db.execute("select stepd.cancel(%s)", job)
        db.wait_status(job, "cancelled")
    finally:
        for p in victims:
            p.kill(signal.SIGCONT)
    a.wait_log("was declared dead", deadline=15)
    db.wait_value("select count(*) from stepd.node where lost_at is null", 2)
    assert db.job(job)["status"] == "cancelled"
    [again] = db.enqueue("note", {})
    db.wait_status(again, "completed")


# --- wake-ups and due jobs ---------------------------------------------------------------------------------------

def test_wakes_within_milliseconds(note, db):
    delays = []
    for _ in range(40):
        [job] = db.enqueue("note", {})
        delays.append(delay(db, job))
    assert statistics.median(delays) < 0.02 * harness.SLOW


def test_wakes_every_idle_worker(note, db):
    """Several long jobs at once: each gets a worker of its own."""
    def longest():
        jobs = db.values("select stepd.enqueue('note', %s) from generate_series(1, 2)", f'{{"ms": {1000 * harness.SLOW:.0f}}}')
        return max(delay(db, job) for job in jobs)

    harness.in_time(longest, 0.3)


def test_due_jobs_start_in_time(note, db):
    jobs = db.values("""select stepd.enqueue('note', '{}', run_at => clock_timestamp() + n * interval '90 ms')
                        from generate_series(1, 20) n""")
    late = [delay(db, job) for job in jobs]
    assert statistics.median(late) < 0.1 * harness.SLOW
    assert min(late) >= 0


def test_a_due_job_before_the_one_waited_for(note, db):
    """The timer is set for the next due job: one that is due sooner moves it."""
    [later] = db.enqueue("note", {}, run_at=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30))
    late = []
    for _ in range(5):
        [sooner] = db.enqueue("note", {}, run_at=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=250))
        late.append(delay(db, sooner))
    assert statistics.median(late) < 0.1 * harness.SLOW
    assert db.job(later)["status"] == "scheduled"


def test_a_lost_doorbell_is_only_late(note, db):
    """A job that nobody was told of is found by looking."""
    def late():
        with db.connect() as conn, conn.cursor() as cur:
            cur.execute("select id, listening from stepd.node")
            cur.execute("update stepd.node set listening = false")
            cur.execute("select stepd.enqueue('note', '{}') as id")
            job = cur.fetchone()["id"]
        return delay(db, job)

    harness.in_time(late, 1.5)


def enqueue_singly(db, n):
    """n enqueues, each a transaction of its own, as fast as one session can."""
    conn = db.connect()
    conn.cursor().execute(f"""do $$ begin for i in 1 .. {n} loop
        perform stepd.enqueue('note', '{{}}'); commit; end loop; end $$""")
    conn.close()


def test_many_enqueuers(note, db):
    """The doorbell is switched off under load and on again after; nothing is lost or late meanwhile."""
    threads = [threading.Thread(target=enqueue_singly, args=(db, 1500)) for _ in range(4)]
    for t in threads:
        t.start()
    note.wait_log("polling instead of listening", deadline=15)
    for t in threads:
        t.join()
    db.wait_value("select count(*) from stepd.jobs where status <> 'completed'", 0, deadline=30)
    assert db.value("select count(*) from stepd.jobs") == 6000
    note.wait_log("listening again")
    db.wait_value("select listening from stepd.node", True)
    harness.in_time(lambda: delay(db, *db.enqueue("note", {})), 0.2)


def test_idle_is_quiet(stepd, own_pg):
    """Eight workers, no work: fewer than five statements a second, next to no CPU."""
    db = harness.Database(own_pg.conninfo)
    stepd.db = db
    stepd.step("note", NOTE)
    stepd.start(config=configured(stepd, workers=8))
    db.wait_status(db.enqueue("note", {})[0], "completed")
    log = own_pg.dir / "postgres.log"
    db.execute("alter system set log_statement = 'all'")
    db.execute("select pg_reload_conf()")
    db.wait_value("show log_statement", "all")

    def cpu():
        return sum(int(x) for p in stepd.procs() for x in open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])

    size, cpu_before, began = log.stat().st_size, cpu(), time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 8, 20, "eight idle seconds", interval=0.5)
    said = [line for line in log.read_bytes()[size:].decode().splitlines() if " stepd " in line and "LOG:  execute" in line]
    assert len(said) / (time.monotonic() - began) < 5, said
    assert cpu() - cpu_before <= 4 * harness.SLOW  # hundredths of a second in eight, over all processes
    assert stepd.stop() == 0
    db.close()


# --- deaths and cancels ------------------------------------------------------------------------------------------

def test_death_is_recorded(note, db):
    [job] = db.enqueue("note", {"crash": True})
    assert db.wait_status(job, "failed")["attempt"] == 2
    first, second = db.attempts(job)
    for a in (first, second):
        assert (a["outcome"], a["signal"], a["exit_code"]) == ("crashed", 11, None)
        assert "SIGSEGV" in a["error"] and a["max_rss_kb"] > 0 and a["pid"] > 0
    assert first["finished_at"] <= second["started_at"]


def test_death_while_the_database_is_away(stepd, own_pg):
    db = harness.Database(own_pg.conninfo)
    stepd.db = db
    stepd.step("note", NOTE)
    stepd.start(config=configured(stepd, workers=1))
    [job] = db.enqueue("note", {"ms": 60000})
    db.wait_status(job, "running")
    victim = stepd.child("stepd: worker").pid
    db.close()
    own_pg.stop("immediate")
    harness.Proc(victim).kill()
    stepd.wait_log(r"worker default/\d \(pid %d\) " % victim)
    own_pg.restart()
    harness.wait_for(lambda: db.attempts(job), 20, "the record of the death")
    [attempt] = db.attempts(job)
    assert (attempt["outcome"], attempt["signal"], attempt["pid"]) == ("crashed", 9, victim)
    assert (attempt["finished_at"] - attempt["started_at"]).total_seconds() < 30
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")
    assert stepd.stop() == 0
    db.close()


def test_keeper_dies_with_a_death_untold(stepd, db):
    """The supervisor keeps a death until a keeper has recorded it."""
    stepd.step("note", NOTE)
    note = stepd.start(config=configured(stepd, workers=1))
    [job] = db.enqueue("note", {"ms": 60000})
    db.wait_status(job, "running")
    worker = note.child("stepd: worker").pid
    keeper = note.child("stepd: keeper")
    keeper.kill(signal.SIGSTOP)
    harness.Proc(worker).kill()
    note.wait_log(r"worker default/\d \(pid %d\) " % worker)
    keeper.kill()
    harness.wait_for(lambda: db.attempts(job), 10, "the record of the death")
    assert db.attempts(job)[0]["signal"] == 9
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")


def test_cancel_reaches_the_handler(note, db):
    [job] = db.enqueue("note", {"ms": 60000})
    db.wait_status(job, "running")
    db.execute("select pg_notify('stepd_cancel', %s::text)", job)  # as any role may: it is not believed
    [other] = db.enqueue("note", {"ms": 100})
    db.wait_status(other, "completed")
    assert db.job(job)["status"] == "running"
    began = time.monotonic()
    assert db.value("select stepd.cancel(%s)", job) is True
    db.wait_status(job, "cancelled")
    assert time.monotonic() - began < 1 * harness.SLOW


# --- settings ----------------------------------------------------------------------------------------------------

def test_pause_holds_within_a_second(note, db):
    [running] = db.enqueue("note", {"ms": 500})
    db.wait_status(running, "running")
    db.execute("select stepd.pause('note')")
    [job] = db.enqueue("note", {})
    assert db.wait_status(running, "completed")["attempt"] == 1
    began = time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 1, 5, "a second")
    assert db.job(job)["status"] == "ready"
    db.execute("select stepd.resume('note')")
    assert db.wait_status(job, "completed")
