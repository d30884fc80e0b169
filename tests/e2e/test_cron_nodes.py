"""Every tick once: three nodes that are killed at random, clocks that differ, clocks that are set."""

import datetime
import os
import random
import time
from pathlib import Path

import pytest

import harness

UTC = datetime.timezone.utc
SECONDS = float(os.environ.get("STEPD_TEST_CRON_SECONDS", "30"))
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(FAKETIME is None or bool(harness.SANITIZED), reason="no libfaketime (package faketime), "
                                    "or a sanitizer: each wants to be loaded first, and then they wait for each other for ever")

STEP = r"""
#include <stepd/step.h>
static int tick(struct stepd_ctx *ctx)
{
	return STEPD_OK;
}
STEPD_STEP(.name = "%s", .triggers = STEPD_TRIGGERS(%s), .handler = tick);
"""


def steps(stepd, n=1, each=1, expression="* * * * * *", options=""):
    for i in range(n):
        stepd.step(f"tick{i}", STEP % (f"Tick{i}", ",".join([f'STEPD_CRON("{expression}"{options})'] * each)))


def launch(node, fake=None):
    if fake is not None:
        node.fake_file = node.dir / "faketime"
        node.fake_file.write_text(fake)
        node.env.update(LD_PRELOAD=FAKETIME, FAKETIME_TIMESTAMP_FILE=node.fake_file, FAKETIME_NO_CACHE="1",
                        FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_DISABLE_SHM="1")
        os.chmod(node.fake_file, 0o644)
    node.launch(config={**node.config(), "node": {"name": node.name}})


def kill_faked(node):
    """kill -9, and what its libfaketime could then not remove."""
    node.kill9()
    for name in (f"faketime_shm_{node.pid}", f"sem.faketime_sem_{node.pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)


def ready(node):
    node.notify.wait("READY", "1", node.since, deadline=60)


def ticks(db):
    return db.values("select distinct fire_at from stepd.tick order by fire_at")


def once(db):
    """No tick without its job, no job without its tick, none twice, none lost between a schedule's first and last."""
    per_schedule = db.rows("""select schedule_id, count(*) as n, extract(epoch from max(fire_at) - min(fire_at)) + 1 as seconds
        from stepd.tick group by 1""")
    lost = {r["schedule_id"]: int(r["seconds"]) - r["n"] for r in per_schedule if r["seconds"] != r["n"]}
    assert not lost, (lost, db.rows("select min(fire_at), max(fire_at), count(*) from stepd.tick"))
    jobs = """select c.id as schedule_id, (j.input ->> 'scheduledAt')::timestamptz as fire_at, count(*) as n from stepd.job j
        join stepd.schedule c on c.lane_id = j.lane_id and c.trigger_index = j.trigger_index where j.trigger = 'cron' group by 1, 2"""
    assert db.value(f"select count(*) from ({jobs}) j where n > 1") == 0
    assert db.value(f"select count(*) from ({jobs}) j full join stepd.tick t using (schedule_id, fire_at) where j.n is null or t.fire_at is null") == 0
    return per_schedule


def test_every_tick_once_over_three_nodes_that_are_killed(make_stepd, db):
    nodes = [make_stepd(db, f"node{i}") for i in range(3)]
    for node in nodes:
        steps(node, 4, 50)
    launch(nodes[0])
    ready(nodes[0])
    for node in nodes[1:]:
        launch(node)
    for node in nodes[1:]:
        ready(node)
    harness.wait_for(lambda: db.value("select count(*) from stepd.tick") >= 200, 20, "first ticks")
    r = random.Random(20261123)
    kills, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        victim = r.choice(nodes)
        if r.random() < 0.3 and victim.procs("stepd: cron"):
            victim.procs("stepd: cron")[0].kill()
        else:
            victim.kill9()
            pause = time.monotonic() + r.uniform(0, 1.5)
            harness.wait_for(lambda: time.monotonic() > pause, 5, "a pause")
            launch(victim)
            ready(victim)  # before the next one dies: somebody is there for every tick
        kills += 1
        pause = time.monotonic() + r.uniform(0, 0.7)
        harness.wait_for(lambda: time.monotonic() > pause, 5, "a pause")
    for node in nodes:
        assert node.stop() == 0
    found = once(db)
    print(f"{kills} kills, {len(found)} schedules, {sum(x['n'] for x in found)} ticks")
    assert kills >= 3 and len(found) == 200 and min(x["n"] for x in found) >= SECONDS - 2


@needs_faketime
def test_clocks_that_differ(make_stepd, db):
    """One node is ten seconds ahead: it brings each tick first, the others never bring it again, also when it is gone."""
    nodes = [make_stepd(db, name) for name in ("true", "ahead", "behind")]
    for node, fake in zip(nodes, (None, "+10", "-10")):
        steps(node, 1, 5)
        launch(node, fake)
        ready(node)
    now = datetime.datetime.now(UTC)
    harness.wait_for(lambda: (t := ticks(db)) and t[-1] > now + datetime.timedelta(seconds=12), 15, "ticks of the fast clock")
    kill_faked(nodes[1])
    newest = ticks(db)[-1]
    harness.wait_for(lambda: ticks(db)[-1] > newest + datetime.timedelta(seconds=2), 30, "ticks of the right clock")
    for i in (0, 2):
        assert nodes[i].stop() == 0
    once(db)
    assert "ahead of that of the database" in nodes[1].log() and "behind that of the database" in nodes[2].log()


@needs_faketime
def test_a_clock_that_is_set(make_stepd, db):
    """Back: nothing fires twice.  Forward: as after a downtime, the newest of the ticks in between fires."""
    node = make_stepd(db, "node")
    steps(node)
    launch(node, "+0")
    ready(node)
    harness.wait_for(lambda: len(ticks(db)) >= 3, 10, "ticks")
    node.fake_file.write_text("-5")
    node.wait_log("the clock was set back by")
    newest = ticks(db)[-1]
    harness.wait_for(lambda: ticks(db)[-1] >= newest + datetime.timedelta(seconds=2), 20, "it came that far again")
    once(db)
    node.fake_file.write_text("+3600")
    harness.wait_for(lambda: ticks(db)[-1] > newest + datetime.timedelta(minutes=50), 10, "ticks an hour ahead")
    seen = ticks(db)
    gaps = [b - a for a, b in zip(seen, seen[1:]) if b - a != datetime.timedelta(seconds=1)]
    assert len(gaps) == 1 and gaps[0] > datetime.timedelta(minutes=50)
    assert db.value("select count(*) from stepd.tick") == db.value("select count(*) from stepd.jobs where trigger = 'cron'")


def offset(at):
    return f"{(at - datetime.datetime.now(UTC)).total_seconds():+.0f}"


@needs_faketime
def test_daylight_saving_under_a_faked_clock(make_stepd, db):
    """The whole daemon lives through the nights in which Berlin's clocks change, in steps of six hours."""
    def night(*date):
        return datetime.datetime(2026, *date, tzinfo=UTC)

    node = make_stepd(db, "node")
    node.step("tick", STEP % ("Tick", 'STEPD_CRON("30 2 * * *", .timezone = "Europe/Berlin", .missed = "all")'))
    launch(node, offset(night(3, 27, 12)))
    ready(node)
    for first, last in ((night(3, 27, 12), night(3, 31, 12)), (night(10, 23, 12), night(10, 27, 12))):
        while first < last:
            first += datetime.timedelta(hours=6)
            node.fake_file.write_text(offset(first))
            harness.wait_for(lambda: (t := db.value("select next_run from stepd.schedules")) and t > first, 20, f"{first} is done")
    kill_faked(node)
    got = [t for t in ticks(db) if t < night(4, 1) or t > night(10, 23, 12)]
    assert got == [night(3, 28, 1, 30), night(3, 29, 1, 0), night(3, 30, 0, 30), night(3, 31, 0, 30),
                   night(10, 24, 0, 30), night(10, 25, 0, 30), night(10, 26, 1, 30), night(10, 27, 1, 30)]
