"""Queues over several nodes: limits that are kept and used, bulk enqueue, retries by hand, settings that act at once."""

import os
import time

import pytest

import harness
from test_worker import KIT

NODES = 2


@pytest.fixture
def nodes(db, make_stepd):
    """Function that starts NODES daemons with the kit on one database."""
    made = []

    def start(queues, processes=2, **changes):
        for i in range(NODES):
            d = make_stepd(db, f"n{i}")
            d.step("kit", KIT)
            d.start(config=config(d, queues, processes, **changes))
            made.append(d)
        return made

    return start


def config(daemon, queues, processes=2, **changes):
    return daemon.config(node={"name": daemon.name}, queues=queues, http={"listen": "off"}, admin={"listen": "off"},
                         pools={"default": {"processes": processes, "serves": ["queue"]}}, **changes)


def bulk(db, topic, n, item="jsonb_build_object('data', '{}'::jsonb)"):
    return db.value(f"select count(*) from stepd.enqueue_many(%s, (select jsonb_agg({item} order by i) from generate_series(1, {n}) i))", topic)


def done(db, n, deadline=30):
    db.wait_value("select count(*) from stepd.outcome where status = 'completed'", n, deadline=deadline)


def most_in_window(db, seconds):
    """The most attempts that began within any stretch of time of that length."""
    return db.value("select max(n) from (select count(*) over (order by started_at range between current row and %s * interval '1 s' following) n"
                    " from stepd.jobs where started_at is not null) x", seconds - 0.000001)


def test_rate_limit_holds_and_is_used(nodes, db):
    nodes({"kit": {"rateLimit": "20/1s"}})
    bulk(db, "kit", 70)
    begin = time.monotonic()
    done(db, 70)
    assert most_in_window(db, 1) <= 20
    # 20 at once, then 20 each second
    assert 2.9 < time.monotonic() - begin < 3 + 2 * harness.SLOW


def test_rate_limit_with_jobs_longer_than_its_window(nodes, db):
    """That a job runs is told while it does, so that it does not take the place of another for as long as it runs."""
    nodes({"kit": {"rateLimit": "2/100ms"}})
    bulk(db, "kit", 8, "jsonb_build_object('data', '{\"ms\": 600}'::jsonb)")
    harness.wait_for(lambda: db.value("select count(*) from stepd.lease where begun = any (ids)") == 2 * NODES, 10, "all workers at work at a time")
    done(db, 8)
    assert most_in_window(db, 0.1) <= 2


def test_rate_limit_of_a_short_window(nodes, db):
    nodes({"kit": {"rateLimit": "5/100ms"}})
    bulk(db, "kit", 60)
    begin = time.monotonic()
    done(db, 60)
    assert most_in_window(db, 0.1) <= 5
    assert time.monotonic() - begin < 1.2 + 2 * harness.SLOW


def overlap(db, per=""):
    """The most jobs of the history that ran at one moment; per: of one such group."""
    return db.value("select max(n) from (select (select count(*) from stepd.jobs b where b.started_at <= a.started_at"
                    f" and b.finished_at > a.started_at {'and b.group_id = a.group_id' if per else ''}) n"
                    f" from stepd.jobs a where a.started_at is not null {'and a.group_id is not null' if per else ''}) x")


def test_max_concurrency_over_nodes_while_workers_are_killed(nodes, db):
    a, b = nodes({"kit": {"maxConcurrency": 2, "maxRetries": 20, "retryDelay": 20}})
    bulk(db, "kit", 60, "jsonb_build_object('data', '{\"ms\": 50}'::jsonb)")
    samples = []
    for turn in range(6):
        (a, b)[turn % 2].child("stepd.*worker").kill()
        for _ in range(10):
            # a killed worker and the next in its place are one, though its job is shown as running until its death is recorded
            samples.append(db.value("select count(distinct (node_id, slot)) from stepd.lease"))
            time.sleep(0.01)
    done(db, 60)
    assert max(samples) == 2
    assert overlap(db) <= 2
    # and no slot leaked
    db.wait_value("select count(*) from stepd.lease", 0)
    bulk(db, "kit", 10, "jsonb_build_object('data', '{\"ms\": 200}'::jsonb)")
    db.wait_value("select count(distinct (node_id, slot)) from stepd.lease", 2)
    done(db, 70)


@pytest.mark.parametrize("strategy", ["standard", "priority"])
def test_concurrency_per_group(nodes, db, strategy):
    nodes({"kit": {"strategy": strategy, "concurrencyPerGroup": 1}})
    n = 0

    def forty():
        nonlocal n
        bulk(db, "kit", 40, "jsonb_build_object('data', '{\"ms\": 40}'::jsonb, 'group', 'g' || i %% 4)")
        n += 40
        begin = time.monotonic()
        done(db, n)
        took = time.monotonic() - begin
        assert overlap(db, "group") == 1
        return took

    # four groups side by side: 10 × 40 ms, not 40 × 40 ms
    harness.in_time(forty, 1.5)
    assert overlap(db) >= 3


def test_few_groups_of_quick_jobs_are_claimed_in_batches(nodes, db):
    """Workers that wait for each other's claims are no idle ones, for whom each would take one job at a time."""
    nodes({"kit": {"concurrencyPerGroup": 1}})
    bulk(db, "kit", 1500, "jsonb_build_object('data', '{\"ms\": 1}'::jsonb, 'group', 'g' || i %% 6)")
    done(db, 1500)
    # of one worker's jobs, which go one after the other, the times are as exact as the way to the database is even
    assert db.rows("select a.id, b.id from stepd.jobs a join stepd.jobs b on b.group_id = a.group_id and (a.node, a.pid) <> (b.node, b.pid)"
                   " and b.started_at <= a.started_at and b.finished_at > a.started_at + interval '1 ms'") == []
    assert overlap(db) >= 2
    claims = db.value("select last_value from pg_sequences where schemaname = 'stepd' and sequencename = 'lease_id_seq'")
    assert claims < 750


def test_a_busy_group_is_in_nobodys_way(nodes, db):
    """Thousands of jobs of one group stand first, of which one may run: those behind them, also without a group, come at once."""
    nodes({"kit": {"concurrencyPerGroup": 1}})
    bulk(db, "kit", 1500, "jsonb_build_object('data', '{\"ms\": 4}'::jsonb, 'group', 'busy')")
    db.wait_value("select count(*) > 0 from stepd.outcome", True)
    bulk(db, "kit", 60, "jsonb_build_object('data', '{\"ms\": 4}'::jsonb, 'group', case when i > 10 then 'g' || i %% 30 end)")
    done(db, 1560)
    assert db.value("select count(*) from stepd.jobs where group_id = 'busy' and started_at >"
                    " (select max(started_at) from stepd.jobs where group_id is distinct from 'busy')") > 700
    assert overlap(db, per="group") <= 2  # of one worker's jobs, one after the other, the times are not that exact


def test_bulk_enqueue_of_100000_items_in_one_call(db, stepd):
    stepd.start(config=stepd.config(http={"listen": "off"}))
    begin = time.monotonic()
    assert bulk(db, "nobody", 100000) == 100000
    assert time.monotonic() - begin < 20 * harness.SLOW
    assert db.value("select count(distinct id) from stepd.jobs where status = 'unrouted'") == 100000


def test_retry_of_a_queue_keeps_history(nodes, db):
    a, _ = nodes({"kit": {"maxRetries": 0}})
    jobs = [db.enqueue("kit", {"do": "retry", "until_attempt": 2})[0] for _ in range(3)]
    for j in jobs:
        db.wait_status(j, "failed")
    a.stepctl("retry", "--queue", "kit")
    for j in jobs:
        assert db.wait_status(j, "completed")["attempt"] == 2
        assert [x["outcome"] for x in db.attempts(j)] == ["error"]


def test_unrouted_is_routed_later(nodes, db):
    a, _ = nodes({})
    [job] = db.enqueue("elsewhere", {})
    assert db.job(job)["status"] == "unrouted"
    a.step("kit2", KIT.replace('"Kit"', '"Kit2"').replace('STEPD_QUEUE("kit"), STEPD_QUEUE("kit-once")', 'STEPD_QUEUE("elsewhere")'))
    a.reload()
    a.stepctl("retry", job)
    assert db.wait_status(job, "completed")["step"] == "Kit2"


def test_reload_pause_and_resume_act_everywhere_within_a_second(nodes, db):
    made = nodes({"kit": {"maxRetries": 7}})
    for d in made:
        d.write_config(config(d, {"kit": {"maxRetries": 7, "maxConcurrency": 1}}))
    made[0].reload()
    bulk(db, "kit", 8, "jsonb_build_object('data', '{\"ms\": 30}'::jsonb)")
    done(db, 8)
    assert overlap(db) == 1
    made[1].stepctl("pause", "kit")
    time.sleep(1)
    bulk(db, "kit", 5)
    time.sleep(0.3)
    assert db.value("select ready from stepd.queues where name = 'kit'") == 5
    made[0].stepctl("resume", "kit")
    done(db, 13, deadline=2)


@pytest.mark.parametrize("backoff, expected", [("fixed", [0.1, 0.1, 0.1]), ("linear", [0.1, 0.2, 0.25]), ("exponential", [0.1, 0.2, 0.25])])
def test_backoff_kinds_and_cap(nodes, db, backoff, expected):
    nodes({"kit": {"maxRetries": 3, "retryDelay": 100, "backoff": backoff, "maxRetryDelay": 250, "jitter": 0}})
    gaps = []
    for job in [db.enqueue("kit", {"do": "retry"})[0] for _ in range(6)]:
        assert db.wait_status(job, "failed")["attempt"] == 4
        tries = db.attempts(job)
        gaps.append([(b["started_at"] - a["finished_at"]).total_seconds() for a, b in zip(tries, tries[1:])])
    for got, want in zip(zip(*gaps), expected):  # never sooner, and the promptest in time
        assert want - 0.01 <= min(got) <= want + 0.15 * harness.SLOW, gaps


def test_pool_nice_and_replacement_by_age(stepd, db):
    stepd.step("kit", KIT)
    stepd.start(config=stepd.config(pools={"default": {"processes": 1, "serves": ["queue"], "nice": 7, "maxAge": "1s"}}))
    first = stepd.child("stepd.*worker")
    assert os.getpriority(os.PRIO_PROCESS, first.pid) == os.getpriority(os.PRIO_PROCESS, stepd.pid) + 7
    jobs = [db.enqueue("kit", {"ms": 100})[0] for _ in range(20)]
    harness.wait_for(lambda: not first.alive, 20, "replaced")
    for job in jobs:
        assert db.wait_status(job, "completed")["attempt"] == 1


UNIQUE = r"""
#include <stepd/step.h>

#ifdef KID
static int handle(struct stepd_ctx *ctx)
{
	return STEPD_OK;
}

STEPD_STEP(.name = "Kid", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("kid")), .handler = handle);
#else
static int handle(struct stepd_ctx *ctx)
{
	const cJSON *key;

	cJSON_ArrayForEach(key, stepd_get(stepd_data(ctx), "keys"))
		if (stepd_enqueue(ctx, "kid", NULL, .unique = key->valuestring) < 0)
			return STEPD_FAIL;
	return STEPD_OK;
}

STEPD_STEP(.name = "Hot", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("hot")), .enqueues = STEPD_LIST("kid"), .handler = handle);
#endif
"""


def test_outcomes_that_take_and_give_up_unique_keys_do_not_deadlock(db, make_stepd):
    for i in range(NODES):
        d = make_stepd(db, f"n{i}")
        d.step("hot", UNIQUE)
        d.step("kid", "#define KID\n" + UNIQUE)
        d.start(config=config(d, {}))
    for spread in (20, 300, 3000):
        key = f"'k' || (random() * {spread})::int"
        bulk(db, "hot", 2000, f"jsonb_build_object('data', jsonb_build_object('keys', jsonb_build_array({key}, {key})))")
        db.wait_value("select sum(ready + running + retrying) from stepd.queues", 0, deadline=60)
    assert db.value("select count(*) from stepd.outcome where status <> 'completed'") == 0
    assert db.value("select count(*) from stepd.unique_job") == 0
    db.execute("select pg_stat_clear_snapshot()")
    assert db.value("select deadlocks from pg_stat_database where datname = current_database()") == 0


def test_a_day_that_looks_empty(stepd, db):
    """Its statistics were made while a large transaction was open: no plan may go by them."""
    stepd.step("kit", KIT)
    stepd.start(config=config(stepd, {"kit": {"strategy": "fifo"}}))
    with db.connect(autocommit=False) as other, other.cursor() as cur:
        cur.execute("select count(*) from generate_series(1, 10000) i, lateral stepd.enqueue('kit', to_jsonb(i), group_id => 'g' || i % 5000)")
        db.execute("analyze stepd.job")
        other.commit()
    assert db.value("select reltuples from pg_class where relname = 'job_p' || to_char(stepd._today(), 'YYYYMMDD')") == 0
    done(db, 10000, deadline=60)
    # the workers' counters come with a delay: at most a few for each job, where it was thousands
    read = db.value("select sum(idx_tup_read) from pg_stat_user_indexes where relname ~ '^job_p'")
    assert read < 50 * 10000, read


def wait_quick(db, topic, n):
    """Quick jobs, so that the workers come to claim many at once."""
    before = db.value("select count(*) from stepd.outcome")
    bulk(db, topic, n)
    done(db, before + n)


@pytest.mark.parametrize("strategy", ["standard", "priority"])
def test_slow_jobs_after_quick_ones(stepd, db, strategy):
    """What was claimed when jobs were thought to be quick is given back: for an urgent one, and when the queue is paused."""
    stepd.step("kit", KIT)
    stepd.start(config=config(stepd, {"kit": {"strategy": strategy}}, processes=1))
    wait_quick(db, "kit", 3000)
    bulk(db, "kit", 300, "jsonb_build_object('data', '{\"ms\": 20}'::jsonb)")
    harness.wait_for(lambda: db.value("select count(*) from stepd.jobs where queue = 'kit' and status = 'completed'") > 3010, 20, "some are done")
    if strategy == "priority":
        urgent = db.wait_status(db.enqueue("kit", {}, priority=5)[0], "completed")
        assert (urgent["started_at"] - urgent["enqueued_at"]).total_seconds() < 0.5 * harness.SLOW
    db.execute("select stepd.pause('kit')")
    paused = db.value("select clock_timestamp()")
    ready = lambda: db.value("select ready from stepd.queues where name = 'kit'")  # noqa: E731
    harness.wait_for(lambda: db.value("select count(*) from stepd.lease") == 0, 10, "nothing is held")
    assert ready() > 0
    assert db.value("select count(*) from stepd.jobs where queue = 'kit' and started_at > %s::timestamptz + interval '1 s'", paused) == 0


def test_jobs_longer_than_thought_are_shared(stepd, db):
    stepd.step("kit", KIT)
    stepd.start(config=config(stepd, {}, processes=4))
    wait_quick(db, "kit", 8000)
    first = db.value("select last_value from stepd.job_id")
    bulk(db, "kit", 100, "jsonb_build_object('data', '{\"ms\": 9}'::jsonb)")
    done(db, 8100)
    by = db.rows("select pid, count(*) as n from stepd.jobs where id > %s group by pid", first)
    assert len(by) == 4 and max(r["n"] for r in by) < 60, by
