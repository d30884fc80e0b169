"""Seconds, years, nth and last weekdays within time zones, against python3-apscheduler: what croniter and systemd are asked about
in UTC only, or not by the thousand.

It counts weekdays from Monday = 0 (names are used here), lets both day fields match only (one is left open here, or holds a `*`), and
knows zones up to 2037.  It has other rules for changes of the clock: the hours here are not those of the night.
"""

import datetime as dt
import random

import pytest

from test_cron import DAYS, UTC, ZONES, ask, crontool  # noqa: F401 (crontool builds the program, for this module too)

CronTrigger = pytest.importorskip("apscheduler.triggers.cron", reason="no python3-apscheduler").CronTrigger
NTH = ["1st", "2nd", "3rd", "4th", "5th"]


def field(r, low, high):
    """A step is no larger there than what it steps over."""
    a, b = sorted(r.sample(range(low, high + 1), 2))
    return r.choice([str(a), f"{a},{b}", f"{a}-{b}", f"{a}-{b}/{r.randint(1, b - a)}", f"{a}/{r.randint(1, high - a)}",
                     "*", f"*/{r.randint(1, high - low)}"])


def days(r):
    """(day of month, weekday) in our words and in theirs."""
    day, n = r.choice(DAYS), r.randint(1, 5)
    star = f"*/{r.randint(1, 15)}", r.choice(["mon-fri", day, f"{day},wed"])
    month_day = field(r, 1, 28), "*"
    return r.choice([
        (("L", "?"), ("last", "*")),
        (("?", f"{day}L"), (f"last {day}", "*")),
        (("*", f"{day}#{n}"), (f"{NTH[n - 1]} {day}", "*")),
        (("?", star[1]), ("*", star[1])),
        (star, star),
        (month_day, month_day),
    ])


def by_apscheduler(trigger, after, count):
    ticks = []
    while len(ticks) < count:
        after = trigger.get_next_fire_time(None, dt.datetime.fromtimestamp(after + 1, UTC))
        if after is None:  # the last year is over
            break
        after = int(after.timestamp())
        ticks.append(after)
    return ticks


def test_years_and_zones():
    r = random.Random(20261124)
    questions, expected = [], []
    first, last = (int(dt.datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2010, 2030))
    for _ in range(1500):
        second, minute, month = field(r, 0, 59), field(r, 0, 59), field(r, 1, 12)
        hour = field(r, 5, 22)
        hour = "5-22" + hour[1:] if hour[0] == "*" else hour.replace("/", "-22/") if "-" not in hour else hour
        year = r.choice(["*", "2011-2035", "2012-2036/3", "2031,2034"])
        zone = r.choice(ZONES)
        ours, theirs = days(r)
        trigger = CronTrigger(second=second, minute=minute, hour=hour, day=theirs[0], month=month, day_of_week=theirs[1],
                              year="2010-2037" if year == "*" else year, timezone=zone)
        after = r.randint(first, last)
        ticks = by_apscheduler(trigger, after, 5)
        questions.append((f"{second} {minute} {hour} {ours[0]} {month} {ours[1]} {year}", zone, after, len(ticks) if year == "*" else 5))
        expected.append(ticks)
    assert sum(map(bool, expected)) > 1300
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want or not want and got == "error: never matches: no year has such a day", q
