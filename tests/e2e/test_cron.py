"""Due ticks become jobs: exactly once over all nodes, in time, and missed ones once."""

import datetime
import signal
import time

import harness

UTC = datetime.timezone.utc


def far():
    """A minute of the hour that is half an hour away: no test meets it."""
    return (datetime.datetime.now(UTC).minute + 30) % 60


STEP = r"""
#include <stepd/step.h>
static int tick(struct stepd_ctx *ctx)
{
	return STEPD_OK;
}
STEPD_STEP(.name = "%s", .triggers = STEPD_TRIGGERS(STEPD_CRON("%s")), .handler = tick);
"""


def cron_step(stepd, expression, name="Tick"):
    stepd.step(name.lower(), STEP % (name, expression))


def ticks(db):
    return db.values("select fire_at from stepd.tick order by fire_at")


def jobs(db):
    return db.rows("select * from stepd.jobs where trigger = 'cron' order by id")


def no_duplicates(db):
    # in one statement: the daemon may go on
    counts = db.row("select (select count(*) from stepd.tick) as ticks, (select count(*) from stepd.jobs where trigger = 'cron') as jobs")
    assert counts["ticks"] == counts["jobs"]


def test_every_second(stepd, db):
    cron_step(stepd, "* * * * * *")
    started = datetime.datetime.now(UTC)
    stepd.start()
    harness.wait_for(lambda: len(ticks(db)) >= 4, 10, "four ticks")
    seen = ticks(db)
    assert seen[0] >= started.replace(microsecond=0)
    assert [b - a for a, b in zip(seen, seen[1:])] == [datetime.timedelta(seconds=1)] * (len(seen) - 1)
    done = [db.wait_status(j["id"], "completed") for j in jobs(db)[:4]]
    late = [(job["started_at"] - at).total_seconds() for at, job in zip(seen, done)]
    assert min(late) >= 0 and min(late) < 0.1 * harness.SLOW, late
    for job in done:
        assert (job["trigger"], job["queue"], job["step"]) == ("cron", "Tick", "Tick")
    no_duplicates(db)


def test_shown(stepd, db):
    hour = (datetime.datetime.now(UTC).hour + 12) % 24
    cron_step(stepd, f"0 {hour} * * *")
    cron_step(stepd, "0 0 0 1 1 * 2199", "Never")
    stepd.start()
    schedule = db.row("select * from stepd.schedules where step = 'Tick'")
    now = datetime.datetime.now(UTC)
    want = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    assert schedule["next_run"] == (want if want > now else want + datetime.timedelta(days=1))
    assert schedule["last_run"] is None and schedule["last_job_id"] is None
    assert jobs(db) == []


def test_a_new_schedule_does_not_fire_for_the_past(stepd, db):
    cron_step(stepd, "0 0 1 1 *")
    stepd.start()
    assert stepd.stop() == 0
    # changed to one that had ticks in between: they were not missed
    cron_step(stepd, "0,10,20,30,40,50 * * * *")
    stepd.start()
    harness.wait_for(lambda: db.value("select next_run from stepd.schedules"), 5)
    assert len(jobs(db)) <= 1  # one if this very moment is such a minute
    assert all(t > datetime.datetime.now(UTC) - datetime.timedelta(minutes=1) for t in ticks(db))


def set_back(db, **ago):
    """As if the schedule had fired last that long ago."""
    then = datetime.datetime.now(UTC) - datetime.timedelta(**ago)
    db.execute("update stepd.schedule set last_tick = %s, since = %s", then, then)


def test_missed_ticks_are_made_up_for_once(stepd, db):
    minute = far()
    cron_step(stepd, f"{minute} * * * *")
    stepd.start()
    assert stepd.stop() == 0
    had = ticks(db)
    set_back(db, hours=5)
    stepd.start()
    harness.wait_for(lambda: len(ticks(db)) > len(had), 5, "the missed tick")
    [made] = [t for t in ticks(db) if t not in had]
    now = datetime.datetime.now(UTC)
    latest = now.replace(minute=minute, second=0, microsecond=0)
    assert made == (latest if latest <= now else latest - datetime.timedelta(hours=1))
    db.wait_value("select last_run = %s from stepd.schedules", True, made)
    no_duplicates(db)


def test_missed_more_than_a_day_ago_is_let_go(stepd, db):
    yesterday = datetime.datetime.now(UTC) - datetime.timedelta(hours=26)
    cron_step(stepd, f"{yesterday.minute} {yesterday.hour} {yesterday.day} {yesterday.month} *")
    stepd.start()
    assert stepd.stop() == 0
    set_back(db, days=3)
    stepd.start()
    harness.wait_for(lambda: db.value("select next_run > now() from stepd.schedules"), 5)
    assert jobs(db) == []


def test_exactly_once_over_nodes(make_stepd, db):
    nodes = [make_stepd(db, f"node{i}") for i in range(3)]
    for n in nodes:
        cron_step(n, "* * * * * *")
        n.launch(config={**n.config(), "node": {"name": n.name}})
    for n in nodes:
        n.notify.wait("READY", "1", deadline=30)
    start = len(ticks(db))
    harness.wait_for(lambda: len(ticks(db)) >= start + 4, 15, "ticks")
    seen = ticks(db)
    assert [b - a for a, b in zip(seen, seen[1:])] == [datetime.timedelta(seconds=1)] * (len(seen) - 1)
    no_duplicates(db)
    for n in nodes:
        assert "ERROR" not in n.log()


def test_cron_killed(stepd, db):
    cron_step(stepd, "* * * * * *")
    stepd.start()
    for _ in range(3):
        n = len(ticks(db))
        stepd.child("stepd: cron").kill()
        harness.wait_for(lambda: len(ticks(db)) > n, 10, "ticks go on")
    seen = ticks(db)
    assert len(set(seen)) == len(seen)
    no_duplicates(db)


def test_database_restart(stepd, own_pg):
    db = harness.Database(own_pg.conninfo)
    stepd.db = db
    cron_step(stepd, "* * * * * *")
    stepd.start()
    harness.wait_for(lambda: ticks(db), 10, "a tick")
    before = ticks(db)[-1]
    db.close()
    own_pg.stop("immediate")
    began = time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 3, 10, "three seconds without a database", interval=0.2)
    own_pg.restart()
    back = datetime.datetime.now(UTC)
    harness.wait_for(lambda: ticks(db)[-1] > back + datetime.timedelta(seconds=1), 15, "ticks go on")
    after = [t for t in ticks(db) if t > before]
    # the latest of those missed came once, then all of them
    assert [b - a for a, b in zip(after, after[1:])] == [datetime.timedelta(seconds=1)] * (len(after) - 1)
    no_duplicates(db)
    assert stepd.stop() == 0
    db.close()


def test_reload_changes_the_schedule(stepd, db):
    cron_step(stepd, "0 0 1 1 *")
    stepd.start()
    assert jobs(db) == []
    cron_step(stepd, "* * * * * *")
    stepd.reload()
    harness.wait_for(lambda: len(ticks(db)) >= 2, 10, "ticks of the new schedule")
    cron_step(stepd, "0 0 1 1 *")
    stepd.reload()
    n = len(ticks(db))
    began = time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 2, 5, "two quiet seconds")
    assert len(ticks(db)) <= n + 1  # one may have been under way
    no_duplicates(db)


def test_reloads_lose_no_tick(stepd, db):
    cron_step(stepd, "* * * * * *")
    stepd.start()
    harness.wait_for(lambda: ticks(db), 10, "a tick")
    n, began, reloads = len(ticks(db)), time.monotonic(), 0
    while time.monotonic() - began < 3:
        stepd.reload()
        reloads += 1
    harness.wait_for(lambda: len(ticks(db)) >= n + 4, 10, "ticks of the last process")
    seen = ticks(db)
    assert [b - a for a, b in zip(seen, seen[1:])] == [datetime.timedelta(seconds=1)] * (len(seen) - 1), (reloads, seen)
    no_duplicates(db)


def test_a_removed_step_is_silent(stepd, db):
    cron_step(stepd, "* * * * * *")
    stepd.start()
    harness.wait_for(lambda: ticks(db), 10, "a tick")
    (stepd.steps / "tick.so").unlink()
    stepd.reload()
    n = len(ticks(db))
    began = time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 2, 5, "two quiet seconds")
    assert len(ticks(db)) <= n + 1


def test_frozen_process_catches_up(stepd, db):
    """A process that was stopped for a moment brings the ticks it is late with."""
    cron_step(stepd, "* * * * * *")
    stepd.start()
    harness.wait_for(lambda: ticks(db), 10, "a tick")
    cron = stepd.child("stepd: cron")
    cron.kill(signal.SIGSTOP)
    n, began = len(ticks(db)), time.monotonic()
    harness.wait_for(lambda: time.monotonic() - began > 2.5, 5, "two and a half frozen seconds")
    assert len(ticks(db)) <= n + 1
    cron.kill(signal.SIGCONT)
    harness.wait_for(lambda: len(ticks(db)) >= n + 3, 5, "the late ticks")
    seen = ticks(db)
    assert [b - a for a, b in zip(seen, seen[1:])] == [datetime.timedelta(seconds=1)] * (len(seen) - 1)
    no_duplicates(db)


def test_without_cron_triggers_no_connection(stepd, db):
    stepd.start()
    assert db.value("select count(*) from pg_stat_activity where application_name = 'stepd cron'") == 0
