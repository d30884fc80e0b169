"""Pause, resume and every setting of a queue, changed by SQL, stepctl and reload: they act on every node within a second."""

import json
import time

import pytest

import harness
from harness import wait_for
from test_queues import NODES, bulk, config, nodes  # noqa: F401  nodes is a fixture

SOON = 1.0 * harness.SLOW


class Change:
    """Change settings of the queue in one of the three ways; the time on the database's clock when that had been done."""

    def __init__(self, how, made, db):
        self.how, self.made, self.db, self.settings = how, made, db, {}

    def now(self):
        return self.db.value("select clock_timestamp()")

    def __call__(self, **settings):
        self.settings.update(settings)
        if self.how == "sql":
            self.db.execute("select stepd.queue_set('kit', %s)", json.dumps(settings))
        elif self.how == "stepctl":
            self.made[1].stepctl("queue", "set", "kit", *(f"{k}={v}" for k, v in settings.items()))
        else:
            self.made[0].write_config(config(self.made[0], {"kit": self.settings}))
            self.made[0].reload()
        return self.now()

    def pause(self, paused):
        if self.how == "sql":
            self.db.execute(f"select stepd.{'pause' if paused else 'resume'}('kit')")
        else:
            self.made[0].stepctl("pause" if paused else "resume", "kit")
        return self.now()


def work(db, n, ms):
    bulk(db, "kit", n, f"jsonb_build_object('data', '{{\"ms\": {ms}}}'::jsonb, 'group', (i %% 2)::text)")


def clear(db):
    """Cancel what waits, and wait for the rest."""
    db.execute("select stepd.cancel(id) from stepd.jobs where status in ('ready', 'scheduled', 'retrying')")
    db.wait_value("select count(*) from stepd.jobs where status not in ('completed', 'failed', 'cancelled')", 0, deadline=20)


def running_at_once(db, since, per=""):
    """The most jobs that ran at one moment among those that began later than a second after `since`."""
    return db.value("with j as (select * from stepd.jobs where started_at > %s + %s * interval '1 s')"
                    " select max((select count(*) from j b where b.started_at <= a.started_at and coalesce(b.finished_at, 'infinity') > a.started_at"
                    f" {'and b.group_id = a.group_id' if per else ''})) from j a", since, SOON)


def began_within(db, since, seconds):
    return db.value("select count(*) from stepd.jobs where started_at between %s and %s + %s * interval '1 s'", since, since, seconds)


@pytest.mark.parametrize("how", ["sql", pytest.param("stepctl", marks=pytest.mark.slow), pytest.param("reload", marks=pytest.mark.slow)])
def test_settings_act_everywhere_within_a_second(nodes, db, how):  # noqa: F811
    made = nodes({"kit": {}})
    change = Change(how, made, db)
    workers = 2 * NODES

    # pause and resume; a reload has no say in that
    work(db, 1500, 40)
    wait_for(lambda: db.value("select count(distinct node) from stepd.jobs where status = 'running'") == NODES, 10, "both at work")
    paused = change.pause(True)
    db.wait_value("select running from stepd.queues where name = 'kit'", 0)
    time.sleep(SOON)
    assert db.value("select max(started_at) - %s from stepd.jobs", paused).total_seconds() < SOON
    assert db.value("select ready from stepd.queues where name = 'kit'") > 100
    resumed = change.pause(False)
    wait_for(lambda: began_within(db, resumed, SOON) > 0, SOON, "work goes on")

    # maxConcurrency, down and up
    at = change(maxConcurrency=1)
    time.sleep(SOON + 0.5)
    assert running_at_once(db, at) == 1
    at = change(maxConcurrency="none")
    wait_for(lambda: db.value("select count(*) from stepd.jobs where status = 'running'") == workers, SOON + 1, "all at work")

    # concurrencyPerGroup: there are two groups
    clear(db)
    work(db, 100, 40)
    at = change(concurrencyPerGroup=1)
    work(db, 100, 40)
    time.sleep(SOON + 0.7)
    assert running_at_once(db, at, per="group") == 1
    change(concurrencyPerGroup="none")
    clear(db)

    # rateLimit
    work(db, 100, 40)
    at = change(rateLimit="4/1s")
    work(db, 100, 40)
    time.sleep(SOON + 1.5)
    later = db.rows("select started_at from stepd.jobs where started_at > %s + %s * interval '1 s' order by 1", at, SOON)
    assert 2 <= len(later) <= 8
    at = change(rateLimit="none")
    wait_for(lambda: began_within(db, at, SOON) > 10, SOON + 1, "full use again")
    clear(db)

    # strategy: jobs that wait are put in the new order
    change.pause(True)
    for i, priority in enumerate([1, 3, 2, 5, 4]):
        db.enqueue("kit", {"i": i, "ms": 30}, priority=priority, group_id="g")
    change(strategy="priority", maxConcurrency=1)
    assert db.value("select paused from stepd.queues where name = 'kit'")
    change.pause(False)
    db.wait_value("select count(*) from stepd.jobs where group_id = 'g' and status = 'completed'", 5, deadline=SOON + 2)
    assert db.value("select array_agg(priority order by started_at) from stepd.jobs where group_id = 'g'") == [5, 4, 3, 2, 1]
    change(strategy="fifo", maxConcurrency="none")
    fifo = [db.enqueue("kit", {"ms": 30}, group_id="h")[0] for _ in range(8)]
    for job in fifo:
        db.wait_status(job, "completed")
    rows = db.rows("select started_at, finished_at from stepd.jobs where group_id = 'h' order by id")
    assert all(a["finished_at"] <= b["started_at"] for a, b in zip(rows, rows[1:]))
    change(strategy="standard")

    # timeout, retries and their delays: of jobs that fail on either node
    change(timeout="150ms", maxRetries=1, retryDelay="200ms", backoff="fixed", jitter=0)
    time.sleep(SOON)
    jobs = [db.enqueue("kit", {"ms": 1000})[0] for _ in range(workers)] + [db.enqueue("kit", {"do": "retry"})[0]]
    for job in jobs:
        assert db.wait_status(job, "failed", deadline=15)["attempt"] == 2
        first, second = db.attempts(job)
        assert first["outcome"] == ("error" if job == jobs[-1] else "timeout")
        assert 0.19 < (second["started_at"] - first["finished_at"]).total_seconds() < 0.2 + SOON
    change(timeout="none", maxRetries=0, history="2d")
    [job] = db.enqueue("kit", {"do": "retry"})
    assert db.wait_status(job, "failed")["attempt"] == 1
    assert db.value("select history_ms from stepd.queues where name = 'kit'") == 2 * 86400000


def test_settings_by_hand_outlive_reloads_and_are_seen(nodes, db):  # noqa: F811
    made = nodes({"kit": {"maxRetries": 5, "timeout": "1h"}})
    d = made[0]
    out = d.stepctl("queue", "set", "kit", "maxRetries=1", "rateLimit=50/1s").stdout
    assert "set by hand" in out
    d.write_config(config(d, {"kit": {"maxRetries": 6, "timeout": "2h"}}))
    d.reload()
    shown = {line.split()[0]: line.split(maxsplit=2)[1:] for line in d.stepctl("queue", "kit").stdout.splitlines()[1:]}
    assert shown["maxRetries"] == ["1", "set by hand"] and shown["rateLimit"] == ["50/1s", "set by hand"]
    assert shown["timeout"] == ["2h", "configuration"]
    [q] = json.loads(d.stepctl("--json", "queue", "kit").stdout)
    assert q["overrides"] == {"max_retries": 1, "rate_limit": 50, "rate_window_ms": 1000}
    d.stepctl("queue", "reset", "kit", "rateLimit")
    out = d.stepctl("queue", "reset", "kit").stdout
    assert "set by hand" not in out
    assert db.row("select max_retries, rate_limit, overrides from stepd.queues where name = 'kit'") == {
        "max_retries": 6, "rate_limit": 0, "overrides": {}}
    for args, code, says in [(("set", "kit", "maxRetry=1"), 1, "there is no setting 'maxRetry'"), (("set", "nope", "jitter=0"), 1, "nope"),
                             (("set", "kit", "timeout"), 64, "is not SETTING=VALUE"), (("set", "kit"), 64, "SETTING=VALUE"),
                             (("get", "kit"), 64, "neither set nor reset"), (("nope",), 1, "no queue"),
                             (("set", "kit", "timeout=soon"), 1, "timeout: must be a time")]:
        done = d.stepctl("queue", *args, check=False)
        assert done.returncode == code and says in done.stderr, (args, done)
