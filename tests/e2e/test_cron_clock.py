"""A year under a faked clock, in ten zones, lived through by the whole daemon: no tick double, none lost.

The clock of the daemon is moved from stop to stop; what came due between two of them is brought at once (missed = all).  The
stops are right before and behind every change of the ten zones' clocks; STEPD_TEST_CRON_STEP=6 adds one each six hours (eight
minutes).  What is expected is worked out from Python's zoneinfo."""

import datetime as dt
import os
import zoneinfo

import harness
from test_cron_nodes import STEP, UTC, kill_faked, launch, needs_faketime, offset, ready

# Changes by half an hour, an hour and two, at midnight, at 23:00, twice around a Ramadan, south of the equator.
ZONES = """Europe/Berlin America/New_York Australia/Lord_Howe Antarctica/Troll Asia/Beirut Africa/Cairo America/Havana
Africa/Casablanca America/Nuuk Pacific/Chatham""".split()
FIRST, LAST = dt.datetime(2027, 1, 1, 12, tzinfo=UTC), dt.datetime(2028, 1, 1, 12, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)


def changes(zone):
    """The instants of the year at which the zone's offset changes."""
    at, found = FIRST, []
    while at < LAST:
        low, high = at, at + 3 * HOUR
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) / 2
                middle = middle.replace(microsecond=0)
                same = middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high)
        at += 3 * HOUR
    return found


def fixed(zone, hour, minute):
    """A fixed time: each day at the first instant that shows it; where none does, at the end of the gap."""
    ticks = set()
    for n in range(-2, 369):
        day = (FIRST + n * 24 * HOUR).date()
        wall = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone, fold=0)
        at = wall.astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
            at = min(changes(zone), key=lambda t: abs(t - at))
        ticks.add(at)
    return ticks


def interval(zone, hour):
    """Half hours of that hour, as often as it comes; where it does not, once at the end of the gap."""
    ticks, at = set(), FIRST - 48 * HOUR
    while at < LAST + 48 * HOUR:
        local = at.astimezone(zone)
        if local.hour == hour and local.minute in (0, 30):
            ticks.add(at)
        at += dt.timedelta(minutes=15)
    for t in changes(zone):
        before, behind = ((t - dt.timedelta(seconds=1)).astimezone(zone), t.astimezone(zone))
        wall = before.replace(tzinfo=None) + dt.timedelta(seconds=1)
        while wall < behind.replace(tzinfo=None):
            if wall.hour == hour and wall.minute in (0, 30):
                ticks.add(t)
            wall += dt.timedelta(minutes=15)
    return ticks


KINDS = [("30 2 * * *", lambda z: fixed(z, 2, 30)), ("0 0 * * *", lambda z: fixed(z, 0, 0)), ("*/30 2 * * *", lambda z: interval(z, 2)),
         ("*/30 23 * * *", lambda z: interval(z, 23))]


def stops():
    all_changes = {t for name in ZONES for t in changes(zoneinfo.ZoneInfo(name))}
    assert len(all_changes) >= 15
    found = {t + d for t in all_changes for d in (-dt.timedelta(seconds=30), dt.timedelta(minutes=40))} | {LAST}
    if "STEPD_TEST_CRON_STEP" in os.environ:
        step = float(os.environ["STEPD_TEST_CRON_STEP"]) * HOUR
        found |= {FIRST + step * n for n in range(1, int((LAST - FIRST) / step) + 1)}
    return sorted(t for t in found if FIRST < t <= LAST)


@needs_faketime
def test_a_year_in_ten_zones(make_stepd, db):
    node = make_stepd(db, "node")
    for i, (expression, _) in enumerate(KINDS):
        node.step(f"kind{i}", STEP % (f"Kind{i}", ", ".join(
            f'STEPD_CRON("{expression}", .timezone = "{name}", .missed = "all", .catch_up_limit_ms = 366 * 86400000LL)' for name in ZONES)))
    launch(node, offset(FIRST))
    ready(node)
    for stop in stops():
        node.fake_file.write_text(offset(stop))
        harness.wait_for(lambda: db.value("select min(next_run) > %s from stepd.schedule", stop), 30, f"{stop} is done", interval=0.02)
    kill_faked(node)
    rows = db.rows("""select s.name, c.trigger_index, array_agg(t.fire_at order by t.fire_at) as ticks from stepd.tick t
        join stepd.schedule c on c.id = t.schedule_id join stepd.step s on s.id = c.step_id group by 1, 2""")
    assert len(rows) == len(KINDS) * len(ZONES)
    total = 0
    for r in rows:
        want = KINDS[int(r["name"][4:])][1](zoneinfo.ZoneInfo(ZONES[r["trigger_index"]]))
        want = sorted(t for t in want if FIRST < t <= LAST)
        got = [t for t in r["ticks"] if FIRST < t <= LAST]  # before it those since the real present
        assert got == want, (r["name"], ZONES[r["trigger_index"]], sorted(set(got) ^ set(want)))
        total += len(got)
    print(f"{total} ticks of {len(rows)} schedules, {len(stops())} stops")
    # and each tick is one job
    assert db.value("select count(*) from stepd.tick") == db.value("""select count(distinct (lane_id, trigger_index, input ->> 'scheduledAt'))
        from stepd.job where trigger = 'cron'""") == db.value("select count(*) from stepd.job where trigger = 'cron'")
