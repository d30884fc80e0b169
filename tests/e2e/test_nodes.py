"""Several nodes on one database: rescue, fences, and a random run in which everything is killed."""

import random
import signal
import threading
import time

import psycopg2
import pytest

import harness
from test_worker import KIT

# Counts itself in the state, and writes its group's order down.
LOAD = r"""
#include <stepd/step.h>
#include <stdio.h>
#include <time.h>

static int load(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	const char *key = stepd_get_str(in, "key");
	struct timespec t = {0, (long)(stepd_get_num(in, "ms", 0) * 1e6)};
	cJSON *old = NULL;

	if (stepd_state_get(ctx, "count", key, &old) < 0)
		return STEPD_RETRY;
	if (stepd_state_set(ctx, "count", key, stepd_own(ctx, cJSON_CreateNumber(old == NULL ? 1 : old->valuedouble + 1))) < 0)
		return STEPD_RETRY;
	nanosleep(&t, NULL);
	return STEPD_OK;
}

STEPD_STEP(.name = "Load", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("std"), STEPD_QUEUE("prio"), STEPD_QUEUE("fifo"), STEPD_QUEUE("lim"),
	   STEPD_QUEUE("grp"), STEPD_QUEUE("rate")), .handler = load);
"""
QUEUES = {q: {"maxRetries": 1000, "retryDelay": 20, **more} for q, more in {
    "std": {}, "prio": {"strategy": "priority"}, "fifo": {"strategy": "fifo"}, "lim": {"maxConcurrency": 2},
    "grp": {"concurrencyPerGroup": 1}, "rate": {"rateLimit": "20/500ms"}}.items()}


def config(d, queues, processes=2, lease="2s"):
    return d.config(node={"name": d.name}, queues=queues, http={"listen": "off"}, admin={"listen": "off"},
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
    [job] = db.enqueue("kit", {"ms": 500, "key": "late"})
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


def test_restart_of_a_host_rescues_at_once(node, db):
    a = node("a", lease="60s")
    [job] = db.enqueue("kit", {"ms": 300, "key": "k"})
    db.wait_status(job, "running")
    a.kill9()
    begin = time.monotonic()
    a.start()
    assert db.wait_status(job, "completed", deadline=15)["attempt"] == 2
    assert time.monotonic() - begin < 15 * harness.SLOW
    assert [x["outcome"] for x in db.attempts(job)] == ["lost"]
    assert db.value("select count(distinct boot_id) from stepd.nodes where name = 'a'") == 2


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


@pytest.mark.slow
def test_random_kills_of_everything(make_stepd, own_pg):
    """Three nodes, all strategies; workers, keepers, nodes and the server are killed for half a minute."""
    db = harness.Database(own_pg.conninfo)
    rnd = random.Random(4711)
    made = [make_stepd(db, n) for n in "abc"]
    for d in made:
        d.step("load", LOAD)
        d.start(config=config(d, QUEUES))
    accepted, samples, stop = [], [], threading.Event()

    def enqueuer():
        conn, n = None, 0
        while not stop.is_set():
            q = rnd.choice(list(QUEUES))
            n += 1
            try:
                if conn is None:
                    conn = psycopg2.connect(db.conninfo)
                    conn.autocommit = True
                cur = conn.cursor()
                cur.execute("select stepd.enqueue(%s, jsonb_build_object('key', %s::text, 'ms', %s::int), %s, null, %s)",
                            (q, f"{q}{n}", 10 if q in ("lim", "grp") else rnd.choice((0, 0, 2)), n % 7, f"g{n % 5}"))
                accepted.append(cur.fetchone()[0])
            except psycopg2.Error:
                conn = None
                stop.wait(0.05)
            stop.wait(0.004)

    def sampler():
        conn = None
        while not stop.is_set():
            try:
                if conn is None:
                    conn = psycopg2.connect(db.conninfo)
                    conn.autocommit = True
                cur = conn.cursor()
                cur.execute("select (select running from stepd.queues where name = 'lim'), (select coalesce(max(n), 0) from (select count(*) n"
                            " from stepd.jobs where queue = 'grp' and status = 'running' group by group_id) x)")
                samples.append(cur.fetchone())
            except psycopg2.Error:
                conn = None
            stop.wait(0.05)

    threads = [threading.Thread(target=t) for t in (enqueuer, sampler)]
    for t in threads:
        t.start()
    begin, restarts = time.monotonic(), 0
    try:
        while time.monotonic() - begin < 25:
            d = rnd.choice(made)
            what = rnd.choice(("worker", "worker", "worker", "keeper", "node"))
            if restarts < 2 and time.monotonic() - begin > 8 * (restarts + 1):
                restarts += 1
                own_pg.restart("immediate")
            elif what == "node":
                d.kill9()
                d.launch()
            else:
                victims = d.procs(f"stepd.*{what}")
                if victims:
                    rnd.choice(victims).kill()
            stop.wait(rnd.uniform(0.1, 0.8))
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert len(accepted) > 200 and samples
    left = "select count(*) from stepd.job j where not exists (select from stepd.outcome o where o.id = j.id and o.bucket = j.bucket)"
    harness.wait_for(lambda: db.value(left) == 0, 60, interval=0.2, what=lambda: "all jobs end; " + str(
        db.rows("select queue, status, count(*) from stepd.jobs group by 1, 2")))
    assert set(accepted) <= set(db.values("select id from stepd.jobs where status = 'completed'"))
    assert db.value("select count(*) from stepd.jobs where status <> 'completed'") == 0
    # each completed job's effect is there exactly once
    assert db.rows("select j.id from stepd.jobs j left join stepd.state s on s.group_id = 'count' and s.key = j.input->>'key'"
                   " where s.value is distinct from '1'") == []
    assert max(s[0] for s in samples) <= 2 and max(s[1] for s in samples) <= 1
    # fifo: in its group a job began after the one before it had ended
    assert db.rows("select id from (select id, started_at, lag(finished_at) over (partition by group_id order by id) before from stepd.jobs"
                   " where queue = 'fifo') x where started_at < before") == []
    assert db.value("select max(n) from (select count(*) over (order by started_at range between current row and interval '499 ms' following) n"
                    " from (select started_at from stepd.jobs where queue = 'rate' union all select a.started_at from stepd.attempts a"
                    " join stepd.jobs j on j.id = a.job_id where j.queue = 'rate') y) x") <= 20
    assert db.value("select count(*) from stepd.group_slot") == 0 and db.value("select count(*) from stepd.lease") == 0
    db.close()
