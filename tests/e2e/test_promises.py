"""Sentences of the contract that no other file is about, and the cases that the TypeScript original's own end-to-end
tests check (retry spacing, groups interleaved, redrive, fan-out, competing replicas, a crashing job beside healthy
ones), with our count of retries.  tests/SEMANTICS.md says which sentence is tested where."""

import json
import os
import threading
import time

import psycopg2
import pytest

import harness
from test_worker import KIT

# Does what its input says: enqueues with options, state operations with what a read then gives, odd ends.
TOOL = r"""
#define _GNU_SOURCE
#include <stepd/step.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct stepd_op op(const cJSON *o)
{
	const char *type = stepd_get_str(o, "type"), *path = stepd_get_str(o, "path");
	const cJSON *value = stepd_get(o, "value");
	double by = stepd_get_num(o, "by", 1);

	switch (type[0]) {
	case 's':
		return stepd_op_set(path, value);
	case 'm':
		return stepd_op_merge(path, value);
	case 'i':
		return stepd_op_increment(path, by);
	case 'd':
		return stepd_op_decrement(path, by);
	case 'a':
		return stepd_op_append(path, value);
	default:
		return stepd_op_remove(path);
	}
}

static int tool(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx), *o = stepd_get(in, "enqueue"), *text = stepd_get(in, "text");
	const char *key = stepd_get_str(in, "key");
	struct timespec t = {0, (long)(stepd_get_num(in, "ms", 0) * 1e6)};
	cJSON *out = NULL;

	if (o != NULL && stepd_enqueue(ctx, "kit", in, .priority = (int)stepd_get_num(o, "priority", 0), .delay_ms = (int64_t)stepd_get_num(o, "delay", 0),
		.run_at = (int64_t)stepd_get_num(o, "at", 0),
		.group = stepd_get_str(o, "group"), .unique = stepd_get_str(o, "unique")) < 0)
		return STEPD_RETRY;
	if (stepd_get_bool(in, "hang", false)) {
		stepd_state_set(ctx, "hung", "state", in);
		stepd_log_error(ctx, "hung");
		pause();
	}
	cJSON_ArrayForEach(o, stepd_get(in, "ops"))
		if (stepd_state_update(ctx, "ops", key, op(o)) < 0)
			return stepd_fail(ctx, "refused: %s", stepd_last_error(ctx));
	if (stepd_get(in, "ops") != NULL && stepd_state_get(ctx, "ops", key, &out) < 0)
		return STEPD_RETRY;
	if (cJSON_IsString(text) && stepd_state_set_text(ctx, "text", key, text->valuestring) < 0)
		return stepd_fail(ctx, "refused: %s", stepd_last_error(ctx));
	if (stepd_get_bool(in, "ruin", false))
		closefrom(3);
	nanosleep(&t, NULL);
	if (stepd_get(in, "big") != NULL)
		return stepd_return(ctx, stepd_own(ctx, cJSON_CreateNumber((double)strlen(stepd_get_str(in, "big")))));
	return out != NULL ? stepd_return(ctx, out) : STEPD_OK;
}

STEPD_STEP(.name = "Tool", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("tool"), STEPD_QUEUE("fan")), .enqueues = STEPD_LIST("kit"), .handler = tool);
"""
OTHER = 'static int other(struct stepd_ctx *ctx) { return STEPD_OK; }\n'


def config(d, queues, processes=2, **changes):
    return d.config(node={"name": d.name}, queues=queues, http={"listen": "off"}, admin={"listen": "off"},
                    pools={"default": {"processes": processes, "serves": ["queue"]}}, **changes)


@pytest.fixture
def start(db, make_stepd):  # in this order: the daemons go before their database
    """Function that starts a daemon with the kit and the tool."""
    def start(queues, name="a", **changes):
        d = make_stepd(db, name)
        d.step("kit", KIT)
        d.step("tool", TOOL)
        return d.start(config=config(d, queues, **changes))

    return start


def ended(db, jobs, deadline=20):
    """All jobs of a list when they have ended, without their data: [{id, status, attempt, started_at, finished_at}]."""
    harness.wait_for(lambda: db.value("select count(*) from stepd.outcome where id = any(%s)", jobs) == len(jobs), deadline,
                     lambda: f"all ended; {db.rows('select status, count(*) from stepd.jobs group by 1')}", 0.02)
    return db.rows("select id, status, attempt, started_at, finished_at from stepd.jobs where id = any(%s) order by id", jobs)


def completed(db, jobs, deadline=20):
    assert {r["status"] for r in ended(db, jobs, deadline)} == {"completed"}


# --- life --------------------------------------------------------------------------------------------------------

def test_fan_out_replicas_and_unsubscribing(start, db):
    """One job for each subscribed step, with one trace; the same step on two nodes competes; one that is gone gets no more."""
    a = start({})
    start({}, name="b")
    source = "#include <stepd/step.h>\n" + OTHER + 'STEPD_STEP(.name = "Other", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("fan")), .handler = other);\n'
    a.step("other", source)
    a.reload()
    pairs = [db.enqueue("fan", {"n": i}) for i in range(5)]
    for pair in pairs:
        jobs = [db.wait_status(j, "completed") for j in pair]
        assert sorted(j["step"] for j in jobs) == ["Other", "Tool"] and all(j["attempt"] == 1 for j in jobs)
        assert len({j["trace_id"] for j in jobs}) == 1 and all(j["parent_id"] is None and j["input"] == jobs[0]["input"] for j in jobs)
    assert len({db.job(p[0])["trace_id"] for p in pairs}) == 5
    (a.steps / "other.so").unlink()
    a.reload()
    [alone] = db.enqueue("fan", {})
    assert db.wait_status(alone, "completed")["step"] == "Tool"


def test_an_enqueue_that_returned_is_on_disk(stepd, db):
    """Also for a session, or a whole database, that does not care."""
    stepd.start(config=config(stepd, {}))
    conn = db.connect(autocommit=False)
    with conn.cursor() as cur:
        cur.execute("set synchronous_commit = off")
        conn.commit()
        cur.execute("select stepd.enqueue('nobody'), stepd.enqueue_many('nobody', '[{}]')")
        cur.execute("show synchronous_commit")
        assert cur.fetchone()["synchronous_commit"] == "on"
        conn.commit()
        cur.execute("show synchronous_commit")
        assert cur.fetchone()["synchronous_commit"] == "off"
    conn.close()


def test_every_option_of_an_enqueue(start, db):
    """From SQL, from stepctl and from a handler, to the same columns."""
    d = start({"kit": {"strategy": "priority"}})
    db.execute("select stepd.pause('kit')")
    want = {"priority": -7, "group_id": "g", "unique_key": "k", "status": "scheduled"}
    [sql] = db.values("select stepd.enqueue('kit', '{}', -7, clock_timestamp() + interval '1 h', 'g', 'k')")
    [bulk] = db.values("select stepd.enqueue_many('kit', '[{\"priority\": -7, \"delay_ms\": 3600000, \"group\": \"g\", \"unique\": \"k2\"}]')")
    ctl = int(d.stepctl("enqueue", "kit", "{}", "--priority", "-7", "--delay", "1h", "--group", "g", "--unique", "k3").stdout)
    [tool] = db.enqueue("tool", {"enqueue": {"priority": -7, "delay": 3600000, "group": "g", "unique": "k4"}})
    parent = db.wait_status(tool, "completed")
    [c] = db.values("select id from stepd.jobs where parent_id = %s", tool)
    at = int((time.time() + 3600) * 1000)
    [tool2] = db.enqueue("tool", {"enqueue": {"priority": -7, "at": at, "group": "g", "unique": "k5"}})
    db.wait_status(tool2, "completed")
    [c2] = db.values("select id from stepd.jobs where parent_id = %s", tool2)
    assert db.value("select round(extract(epoch from run_at) * 1000)::bigint from stepd.jobs where id = %s", c2) == at
    for n, job in enumerate((sql, bulk, ctl, c, c2)):
        row = db.job(job)
        assert {k: row[k] for k in want} == {**want, "unique_key": "k" if n == 0 else f"k{n + 1}"}
        assert 3590 < (row["run_at"] - row["enqueued_at"]).total_seconds() < 3610
    assert db.job(c)["trace_id"] == parent["trace_id"]


def test_unique_keys_under_concurrency(start, db):
    """Many at once with one key: one job, and all get its number; when it has ended the key is free."""
    start({"kit": {"retryDelay": 100000}})
    db.execute("select stepd.pause('kit')")
    for turn in range(3):
        got, threads = [], []

        def one():
            conn = psycopg2.connect(db.conninfo)
            conn.autocommit = True
            with conn.cursor() as cur:
                cur.execute("select stepd.enqueue('kit', '{}', unique_key => 'u')")
                got.append(cur.fetchone()[0])
            conn.close()

        for _ in range(12):
            threads.append(threading.Thread(target=one))
            threads[-1].start()
        for t in threads:
            t.join()
        assert len(got) == 12 and len(set(got)) == 1
        assert db.value("select count(*) from stepd.jobs where unique_key = 'u' and status = 'ready'") == 1
        if turn == 0:
            db.execute("select stepd.resume('kit')")
            db.wait_status(got[0], "completed")
            db.execute("select stepd.pause('kit')")
        else:
            db.execute("select stepd.cancel(%s)", got[0])
    assert db.value("select count(*) from stepd.jobs where unique_key = 'u'") == 3


# --- outcomes and retries ----------------------------------------------------------------------------------------

def test_nothing_persists_of_an_attempt_that_timed_out(start, db):
    start({"tool": {"maxRetries": 0, "timeout": "200ms"}}, stop={"killGrace": "300ms"})
    [job] = db.enqueue("tool", {"hang": True, "enqueue": {}})
    db.wait_status(job, "failed")
    assert [a["outcome"] for a in db.attempts(job)] == ["timeout"]
    assert db.state("hung", "state") is None and db.logs(job) == []
    assert db.value("select count(*) from stepd.jobs where parent_id = %s", job) == 0


def test_what_only_the_database_refuses_fails_that_job_alone(start, db):
    """jsonb takes no number beyond its range; the rest of the batch is stored."""
    start({"tool": {"maxRetries": 0}})
    db.execute("select stepd.pause('tool')")
    bad = [db.enqueue("tool", {"key": "huge", "text": "1e200000"})[0], db.enqueue("tool", {"key": "nul", "text": '"\\u0000"'})[0]]
    good = [db.enqueue("tool", {"key": f"fine{i}", "text": f"{i}"})[0] for i in range(20)]
    db.execute("select stepd.resume('tool')")
    for job in bad:
        assert db.wait_status(job, "failed")["error"]
    completed(db, good)
    assert db.value("select count(*) from stepd.state where group_id = 'text'") == 20


def test_delays_jitter_and_cap(start, db):
    """The delay that was drawn is in run_at, so nobody has to wait for it."""
    start({"kit": {"retryDelay": 100000, "jitter": 0.5, "maxRetries": 5}, "kit-once": {"retryDelay": 7200000, "maxRetries": 1}})

    def delays(queue, data, n, status="retrying"):
        jobs = db.values(f"select stepd.enqueue('{queue}', %s::jsonb) from generate_series(1, {n})", json.dumps(data))
        for j in jobs:
            db.wait_status(j, status)
        return [db.value("select extract(epoch from j.run_at - a.finished_at)::float8 from stepd.jobs j join stepd.attempts a on a.job_id = j.id where j.id = %s", j)
                for j in jobs]

    drawn = delays("kit", {"do": "retry"}, 40)
    assert 50 <= min(drawn) < 80 and 120 < max(drawn) <= 150 + 3 * harness.SLOW and len(set(drawn)) == 40
    capped = delays("kit-once", {"do": "retry"}, 2)  # two hours, but an hour is the default cap
    assert all(3600 <= d < 3600 + 3 * harness.SLOW for d in capped)
    exact = delays("kit", {"do": "retry_after"}, 3)  # neither jittered nor of the queue
    assert all(0.3 <= d < 0.3 + 3 * harness.SLOW for d in exact)
    assert db.value("select jitter from stepd.queues where name = 'kit-once'") == 0.1


def test_snooze_spacing_and_count(start, db):
    start({"kit-once": {"maxRetries": 0}})
    [job] = db.enqueue("kit-once", {"do": "snooze"})
    seen = set()
    harness.wait_for(lambda: seen.add(db.value("select run_at from stepd.jobs where id = %s and status = 'scheduled'", job)) or len(seen - {None}) >= 4, 10, "four snoozes", interval=0.005)
    runs = sorted(seen - {None})
    gaps = [(b - a).total_seconds() for a, b in zip(runs, runs[1:])]
    assert all(0.19 <= g <= 0.2 * len(gaps) + 0.3 * harness.SLOW for g in gaps)
    row = db.job(job)
    assert row["attempt"] in (0, 1) and row["max_attempts"] == 1 and db.attempts(job) == []
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled")


def test_redrive(start, db):
    """Fails until its sixth attempt: three attempts, redrive, three more; its data and history are kept."""
    d = start({"kit": {"maxRetries": 2, "retryDelay": 50, "jitter": 0}})
    payload = {"do": "retry", "until_attempt": 6, "items": [{"sku": "ABC-123", "qty": 3}], "total": 99.99}
    jobs = [db.enqueue("kit", payload)[0] for _ in range(3)]
    for job in jobs:
        row = db.wait_status(job, "failed")
        assert (row["attempt"], row["max_attempts"], row["input"], row["error"]) == (3, 3, payload, "asked to retry")
    first = db.attempts(jobs[0])
    gaps = [(b["started_at"] - a["finished_at"]).total_seconds() for a, b in zip(first, first[1:])]
    assert 0.05 <= gaps[0] and 0.1 <= gaps[1]
    assert d.stepctl("retry", jobs[0]).stdout
    assert d.stepctl("retry", "--queue", "kit").stdout == "2 jobs are to run again\n"
    for job in jobs:
        row = db.wait_status(job, "completed")
        assert (row["attempt"], row["max_attempts"], row["input"]) == (6, 6, payload)
        assert [(a["attempt"], a["outcome"]) for a in db.attempts(job)] == [(n, "error") for n in range(1, 6)]
    assert d.stepctl("retry", "--queue", "kit").stdout == "0 jobs are to run again\n"
    assert "has not ended" in d.stepctl("retry", db.enqueue("kit", {"ms": 1000})[0], check=False).stderr
    assert "is completed" in d.stepctl("retry", jobs[0], check=False).stderr


def test_a_job_that_kills_its_worker_beside_healthy_ones(start, db):
    start({"kit": {"maxRetries": 2, "retryDelay": 100}})
    [bad] = db.enqueue("kit", {"do": "segv"})
    good = [db.enqueue("kit", {"key": f"k{i}"})[0] for i in range(60)]
    completed(db, good)  # one that had ended just before, untold, ran again, and the history says so
    again = db.rows("select outcome, error from stepd.attempts where job_id = any(%s)", good)
    assert len(again) <= 6 and all(a["outcome"] == "lost" and a["error"].startswith("It had ended") for a in again)
    assert db.value("select sum(attempt - 1) from stepd.outcome where id = any(%s)", good) == len(again)
    row = db.wait_status(bad, "failed", deadline=20)
    assert row["attempt"] == 3 and [(a["outcome"], a["signal"]) for a in db.attempts(bad)] == [("crashed", 11)] * 3


def test_a_new_worker_within_100_ms(start, db):
    """The only worker dies with its job: how long until the next job of the queue has begun?"""
    start({"kit-once": {"maxRetries": 0}}, processes=1)
    waited = []
    for _ in range(5):
        bad, good = (db.enqueue("kit-once", data)[0] for data in ({"do": "segv", "ms": 20}, {}))
        completed(db, [good])
        waited.append((db.job(good)["started_at"] - db.attempts(bad)[0]["finished_at"]).total_seconds())
    assert min(waited) < 0.1 * harness.SLOW, waited


def test_a_session_plans_ahead_unless_jobs_wait(start, db):
    """As the daemon starts; but who replaces a dead worker has its jobs to do first, and has planned all by that."""
    db.execute("do $$ begin execute format('alter database %I set track_functions = pl', current_database()); end $$")
    calls = "select coalesce(sum(calls), 0)::int from pg_stat_user_functions where schemaname = 'stepd' and funcname = %s"
    start({"kit-once": {"maxRetries": 0}}, processes=1)
    db.wait_value(calls, 1, "warm_up")
    finished = db.value(calls, "finish")
    completed(db, [db.enqueue("kit-once", data)[0] for data in ({"do": "segv", "ms": 50}, {})][1:])
    harness.wait_for(lambda: db.value(calls, "finish") > finished, what="what the new worker called is counted")
    assert db.value(calls, "warm_up") == 1


def test_a_handler_that_closes_everything_ends_failed(start, db):
    """Without its descriptors the worker can tell nobody; it must not go round for ever."""
    start({"tool": {"maxRetries": 1, "retryDelay": 20}})
    [job] = db.enqueue("tool", {"ruin": True})
    assert db.wait_status(job, "failed", deadline=30)["attempt"] == 2
    assert [a["outcome"] for a in db.attempts(job)] == ["crashed"] * 2
    [after] = db.enqueue("tool", {})
    assert db.wait_status(after, "completed")["attempt"] == 1


# --- order -------------------------------------------------------------------------------------------------------

def test_order_of_the_strategies(start, db):
    """One worker: oldest first; higher priority first, then oldest; a group strictly in order, with and without a name."""
    start({"kit": {"strategy": "standard"}, "tool": {"strategy": "priority"}, "kit-once": {"strategy": "fifo", "maxRetries": 1, "retryDelay": 100}}, processes=1)
    for q in ("kit", "tool", "kit-once"):
        db.execute("select stepd.pause(%s)", q)
    priorities = [0, 5, -3, 5, 0, 32767, -32768, 5]
    std = [db.enqueue("kit", {}, priority=p)[0] for p in priorities]
    prio = [db.enqueue("tool", {}, priority=p)[0] for p in priorities]
    fifo = [db.enqueue("kit-once", {"do": "retry", "until_attempt": 2} if n == 1 else {"do": "fail"} if n == 3 else {}, priority=p)[0] for n, p in enumerate(priorities)]
    for q in ("kit", "tool", "kit-once"):
        db.execute("select stepd.resume(%s)", q)
    ended(db, [*std, *prio, *fifo])
    by_start = "select id from stepd.jobs where queue = %s order by started_at"
    assert db.values(by_start, "kit") == std
    assert db.values(by_start, "tool") == [j for _, j in sorted(zip(priorities, prio), key=lambda x: (-x[0], x[1]))]
    assert db.values(by_start, "kit-once") == fifo
    assert db.job(fifo[3])["status"] == "failed"  # and unblocked its group


def test_groups_side_by_side(start, db):
    """Groups interleave, each in order; one blocked by a retry or a long job does not hold up the others."""
    start({"kit": {"strategy": "fifo", "maxRetries": 1, "retryDelay": 60000}, "tool": {"strategy": "fifo"}}, processes=3)
    start({"kit": {"strategy": "fifo", "maxRetries": 1, "retryDelay": 60000}, "tool": {"strategy": "fifo"}}, name="b", processes=1)
    blocked = [db.enqueue("kit", {"do": "retry"} if n == 0 else {}, group_id="blocked")[0] for n in range(3)]
    db.wait_status(blocked[0], "retrying")
    jobs = [(g, db.enqueue("tool", {"ms": 30}, group_id=g)[0]) for _ in range(5) for g in "ABC"]
    others = [db.enqueue("kit", {}, group_id=f"g{i}")[0] for i in range(50)]
    completed(db, others + [j for _, j in jobs])
    rows = {r["id"]: r for r in db.rows("select id, started_at, finished_at from stepd.jobs where queue = 'tool'")}
    for g in "ABC":
        mine = [rows[j] for x, j in jobs if x == g]
        assert all(a["finished_at"] <= b["started_at"] for a, b in zip(mine, mine[1:]))
    first_third = sorted(rows.values(), key=lambda r: r["started_at"])[:6]
    assert len({g for g, j in jobs if j in [r["id"] for r in first_third]}) >= 2, "groups one after the other"
    assert [db.job(j)["status"] for j in blocked] == ["retrying", "ready", "ready"]
    db.execute("select stepd.cancel(%s)", blocked[0])
    for job in blocked[1:]:
        db.wait_status(job, "completed")


# --- state and sizes ---------------------------------------------------------------------------------------------

OPS = [
    [{"type": "set", "path": "", "value": {"a": [1, 2]}}, {"type": "append", "path": "/a", "value": {"b": 1}}, {"type": "increment", "path": "/a/2/b", "by": 2.5}],
    [{"type": "increment", "path": "/n"}, {"type": "decrement", "path": "/n", "by": 3}, {"type": "merge", "path": "/deep/er", "value": {"x": 1}},
     {"type": "merge", "path": "/deep/er", "value": {"y": None}}],
    [{"type": "set", "path": "/list", "value": [0, 1, 2]}, {"type": "remove", "path": "/list/0"}, {"type": "set", "path": "/list/-1", "value": "last"},
     {"type": "set", "path": "/list/9", "value": "beyond"}, {"type": "remove", "path": "/list/7"}],
    [{"type": "set", "path": "/a~1b/c~0d", "value": 1}, {"type": "append", "path": "/a~1b/list", "value": []}, {"type": "remove", "path": "/none/of/it"}],
    [{"type": "set", "path": "", "value": [1]}, {"type": "append", "path": "", "value": 2}, {"type": "remove", "path": "/0"}, {"type": "increment", "path": "/0", "by": -2}],
    [{"type": "merge", "path": "", "value": {"k": 1}}, {"type": "remove", "path": ""}, {"type": "increment", "path": ""}],
]


def pointer(path):
    return [p.replace("~1", "/").replace("~0", "~") for p in path.split("/")[1:]]


def test_state_operations_in_a_handler_and_in_sql_agree(start, db):
    """What a handler reads of its own updates is what is stored, and what stepd.state_update makes of the same."""
    start({"tool": {"maxRetries": 0}})
    for n, ops in enumerate(OPS):
        [job] = db.enqueue("tool", {"key": f"c{n}", "ops": ops})
        row = db.wait_status(job, "completed", "failed")
        assert row["status"] == "completed", row["error"]
        for op in ops:
            sql = db.value("select stepd.state_update('ops', %s, %s::jsonb)", f"sql{n}", json.dumps([{**op, "path": pointer(op["path"])}]))
        assert row["output"] == db.state("ops", f"c{n}") == sql["new"], ops
    for bad in ({"type": "append", "path": "/a/0", "value": 1}, {"type": "merge", "path": "/a", "value": {}}, {"type": "set", "path": "/a/x", "value": 1}):
        before = db.state("ops", "c0")
        [job] = db.enqueue("tool", {"key": "c0", "ops": [bad]})
        assert db.wait_status(job, "completed", "failed")["status"] == "failed", bad
        assert db.state("ops", "c0") == before


def test_updates_of_one_key_by_all_workers(start, db):
    """Handlers of two nodes and sessions of people: nothing is lost."""
    start({"tool": {"maxRetries": 0}})
    start({"tool": {"maxRetries": 0}}, name="b")
    ops = [{"type": "increment", "path": "/n"}, {"type": "append", "path": "/list", "value": 0}]
    jobs = db.values("select stepd.enqueue('tool', %s::jsonb) from generate_series(1, 200)", json.dumps({"key": "one", "ops": ops}))
    for _ in range(50):
        db.value("select stepd.state_update('ops', 'one', '[{\"type\": \"increment\", \"path\": \"n\"}, {\"type\": \"append\", \"path\": [\"list\"], \"value\": 0}]')")
    completed(db, jobs)
    state = db.state("ops", "one")
    assert state["n"] == 250 and len(state["list"]) == 250


def test_large_payloads(start, db):
    """STEPD_TEST_MEGABYTES=63 for all that is allowed; it takes half a minute."""
    size = int(os.environ.get("STEPD_TEST_MEGABYTES", "16")) << 20
    start({"tool": {"maxRetries": 0}}, processes=1)
    [job] = db.values("select stepd.enqueue('tool', jsonb_build_object('big', repeat('x', %s)))", size)
    completed(db, [job], 90)
    assert db.value("select output from stepd.outcome where id = %s", job) == size


# --- why does it not go faster? ----------------------------------------------------------------------------------

def test_self_diagnosis(start, db):
    a = start({"kit": {"maxRetries": 0}}, database={"url": db.conninfo, "lease": "1s"})
    db.execute("select stepd.pause('kit')")
    oldest, *_ = db.values("select stepd.enqueue_many('kit', (select jsonb_agg('{}'::jsonb) from generate_series(1, 3000)))")
    [row] = db.rows("select * from stepd.oldest_ready")
    assert (row["queue"], row["step"], row["job_id"], row["reason"]) == ("kit", "Kit", oldest, "the queue is paused")
    # depth does not matter, as long as vacuum may do its work
    [cost] = db.rows("select * from stepd.claim_costs")
    assert (cost["queue"], cost["depth"], cost["jobs"]) == ("kit", 3000, 100) and cost["blocks"] < 20
    holder = db.connect(autocommit=False)
    with holder.cursor() as cur:
        cur.execute("set transaction isolation level repeatable read")
        cur.execute("select pg_backend_pid() pid")
        pid = cur.fetchone()["pid"]
        db.execute("select stepd.cancel(id) from stepd.jobs where id < %s", oldest + 2900)
        db.execute("vacuum stepd.ready")
        [held] = db.rows("select * from stepd.vacuum_holders where pid = %s", pid)
        assert held["kind"] == "session" and held["state"] == "idle in transaction" and held["transactions"] > 0
    holder.rollback()
    holder.close()
    assert db.rows("select * from stepd.vacuum_holders where pid = %s", pid) == []
    # a node vanishes with the job that it runs
    [job] = db.enqueue("tool", {"ms": 900, "key": "k"})
    db.wait_status(job, "running")
    a.kill9()
    b = start({}, name="b")
    harness.wait_for(lambda: db.rows("select * from stepd.lost_leases where jobs_lost = 1 and jobs_held = 0"), 20, "the lost lease")
    [lost] = db.rows("select node, pid, lost_at from stepd.lost_leases")
    assert (lost["node"], lost["pid"]) == ("a", a.process.pid) and lost["lost_at"]
    warnings = json.loads(b.stepctl("--json", "status").stdout)["warnings"]
    assert any("node a" in w and "vanished" in w and "took 1 attempts" in w for w in warnings), warnings
