"""Cron expressions and time zones against independent oracles: python3-croniter for the expressions, Python's zoneinfo for
the zones, and the contract's rules for changes of the clock worked out from both.

Everything is generated from a fixed seed.  Where croniter departs from crontab(5) it is told what crontab(5) says:
- `*/2` holds a `*`, so that day of month and day of week must both match; croniter takes it as restricted (day_or=False).
- `0-6` holds no `*`, so that with a restricted day of month every day matches; croniter takes it as `*`: not asked.
- croniter 1.3.5 loses the first days of March when a list holds a day that February has not (`0 0 */15 * *` from
  18 February 2025: 16 March instead of 1 March).  It is asked about days up to 28, systemd about the others.
"""

import datetime as dt
import os
import pathlib
import random
import shutil
import subprocess
import zoneinfo

import pytest

croniter = pytest.importorskip("croniter").croniter
TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("STEPD_BUILD", TOP / "build"))
UTC = dt.timezone.utc

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()
LIMITS = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]

# Changes by half an hour and by two hours, at midnight, with a day that is missing, by a table of Ramadans, with
# winter time as the exception, and some that have none.
ZONES = """Europe/Berlin America/New_York Australia/Lord_Howe Antarctica/Troll America/Sao_Paulo Asia/Beirut Africa/Cairo
Pacific/Apia Africa/Casablanca Asia/Tehran Pacific/Kwajalein Europe/Dublin America/St_Johns Asia/Kathmandu Asia/Gaza
America/Havana Asia/Amman Pacific/Chatham Etc/GMT+5 UTC""".split()


@pytest.fixture(scope="module", autouse=True)
def crontool():
    if (BUILD / "Makefile").exists():
        subprocess.run(["make", "-s", "-C", BUILD, "tests/oracle/crontool"], check=True, timeout=300)


def ask(questions):
    """One answer, a list of numbers or an error, for each (expression, zone, after, count)."""
    text = "".join("%s\t%s\t%d\t%d\n" % q for q in questions)
    run = subprocess.run([BUILD / "tests/oracle/crontool"], input=text, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(questions)
    return [line if line.startswith("error") else [int(n) for n in line.split()] for line in lines]


def number_field(r, limits, names=None):
    low, high = limits

    def value(n):
        return names[n - low] if names and r.random() < 0.3 else str(n)

    def item():
        kind = r.random()
        if kind < 0.5:
            return value(r.randint(low, high))
        a, b = sorted(r.sample(range(low, high + 1), 2))
        if kind < 0.75:
            return f"{value(a)}-{value(b)}"
        return f"{value(a)}-{value(b)}/{r.randint(1, max(1, (high - low) // 2))}"

    kind = r.random()
    if kind < 0.35:
        return "*"
    if kind < 0.5:
        return f"*/{r.randint(1, max(2, (high - low) // 2))}" if high != 28 else f"1-28/{r.randint(1, 14)}"
    return ",".join(item() for _ in range(r.randint(1, 3)))


def expression(r):
    fields = [number_field(r, LIMITS[0]), number_field(r, LIMITS[1]), number_field(r, LIMITS[2]),
              number_field(r, LIMITS[3], MONTHS), number_field(r, LIMITS[4], DAYS)]
    kind = r.random()
    if kind < 0.1:
        fields[2], fields[4] = "l", "*"
    elif kind < 0.2:
        fields[2], fields[4] = "*", f"{r.randint(0, 6)}#{r.randint(1, 5)}"
    elif kind < 0.3:
        fields[4] = r.choice(["7", "5-7", "sun", "1,7"])
    return " ".join(fields)


def all_days_listed(text):
    """A day field that names every day without a `*`."""
    fields = text.split()
    every = [sorted(int(d) for d in range(low, high + 1)) for low, high in (LIMITS[2], LIMITS[4])]
    expanded = croniter(text).expanded
    return any("*" not in fields[i] and (expanded[i] == ["*"] or sorted(expanded[i]) == days)
               for i, days in zip((2, 4), every))


def by_croniter(text, start):
    fields = text.split()
    star = "*" in fields[2] or "*" in fields[4]
    both = fields[2] != "*" and fields[4] != "*"
    return croniter(text, start, day_or=not (both and star), max_years_between_matches=60)


def take(iterator, n):
    return [iterator.get_next(dt.datetime) for _ in range(n)]


def test_expressions_in_utc():
    r = random.Random(20261123)
    questions = []
    expected = []
    while len(questions) < 2000:
        text = expression(r)
        if all_days_listed(text):
            continue
        start = dt.datetime(2000, 1, 1, tzinfo=UTC) + dt.timedelta(seconds=r.randint(0, 40 * 365 * 86400))
        try:
            ticks = take(by_croniter(text, start), 8)
        except Exception:  # 30 February and the like; rare enough for croniter to give up
            continue
        questions.append((text, "UTC", int(start.timestamp()), 8))
        expected.append([int(t.timestamp()) for t in ticks])
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want, q


def test_seconds_in_front():
    r = random.Random(7)
    questions, expected = [], []
    for _ in range(300):
        seconds = number_field(r, LIMITS[0])
        text = " ".join([number_field(r, LIMITS[0]), number_field(r, LIMITS[1]), "*", "*", number_field(r, LIMITS[4], DAYS)])
        start = dt.datetime(2026, 1, 1, tzinfo=UTC) + dt.timedelta(seconds=r.randint(0, 86400 * 365))
        questions.append((f"{seconds} {text}", "UTC", int(start.timestamp()), 20))
        expected.append([int(t.timestamp()) for t in take(croniter(f"{text} {seconds}", start), 20)])
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want, q


def offset(zone, at):
    return dt.datetime.fromtimestamp(at, zone).utcoffset() // dt.timedelta(seconds=1)


def test_offsets_of_every_zone():
    r = random.Random(1)
    questions, expected = [], []
    names = sorted(n for n in zoneinfo.available_timezones() if n[0].isupper() and n != "Factory")
    assert len(names) > 400
    for name in names:
        zone = zoneinfo.ZoneInfo(name)
        for _ in range(40):
            at = r.randint(-2**31, 2**33)  # 1901 to 2242
            questions.append(("offset", name, at, 0))
            expected.append([offset(zone, at)])
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want, q


def changes(zone, first, last):
    """(instant, offset before, offset behind) of each change, found by looking."""
    step, at, found = 6 * 3600, first, []
    while at < last:
        if offset(zone, at) != offset(zone, at + step):
            low, high = at, at + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == offset(zone, low) else (low, middle)
            found.append((high, offset(zone, low), offset(zone, high)))
        at += step
    return found


def by_the_contract(text, all_changes, first, last):
    """The ticks in [first, last], from croniter's local times and the rules of the contract."""
    minute, hour = text.split()[:2]
    real_time = "*" in minute or "*" in hour
    every_hour = hour == "*" or hour == "*/1"
    spans = []
    begin, current = first - 4 * 86400, None
    for at, before, behind in all_changes:
        if current is None:
            current = before
        spans.append((begin, at, current))
        begin, current = at, behind
    spans.append((begin, last + 86400, current))
    ticks, covered = set(), -2**60
    epoch = dt.datetime(1970, 1, 1)
    for begin, end, off in spans:
        local, local_end = begin + off, end + off
        if covered > -2**60 and local > covered and not every_hour:  # a gap
            t = by_croniter(text, epoch + dt.timedelta(seconds=covered - 1)).get_next(dt.datetime)
            if (t - epoch).total_seconds() < local:
                ticks.add(begin)
        start = local if real_time else max(local, covered)
        iterator = by_croniter(text, epoch + dt.timedelta(seconds=start - 1))
        while True:
            t = int((iterator.get_next(dt.datetime) - epoch).total_seconds())
            if t >= local_end:
                break
            ticks.add(t - off)
        covered = max(covered, local_end)
    return sorted(t for t in ticks if first < t <= last)


def zone_expression(r):
    """Times of day near those at which clocks change."""
    minute = r.choice(["0", "30", "15", "*/15", "*/30", "59", "1", "0,30", "10-50/20", "5"])
    hour = r.choice(["*", "0", "1", "2", "3", "*/2", "1-3", "0,2", "0-4", "23", "*/1", "12"])
    day = r.choice(["*", "*", "*", "*/2", "1-31", "30"])
    weekday = r.choice(["*", "*", "sun", "0-6", "fri,sat"]) if day == "*" else "*"
    return f"{minute} {hour} {day} * {weekday}"


@pytest.mark.parametrize("name", ZONES)
def test_changes_of_the_clock(name):
    r = random.Random(name)
    zone = zoneinfo.ZoneInfo(name)
    year0, year1 = (1991, 1996) if name == "Pacific/Kwajalein" else (2009, 2030)
    low, high = (int(dt.datetime(y, 1, 1, tzinfo=UTC).timestamp()) for y in (year0, year1))
    found = changes(zone, low, high)
    questions, expected = [], []
    for at, _, _ in r.sample(found, min(len(found), 12)) or [(low + 86400 * 30, 0, 0)]:
        near = changes(zone, at - 8 * 86400, at + 8 * 86400)
        if not near:
            near = [(at, offset(zone, at - 1), offset(zone, at))]
        for _ in range(12):
            text = zone_expression(r)
            after = at + r.choice([-3 * 86400, -7200, -3600, -1800, -1, 0, 1, 900, 1800, 3600, 5400, 86400])
            want = by_the_contract(text, near, after, at + 3 * 86400)
            questions.append((text, name, after, len(want)))
            expected.append(want)
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want, q


def by_systemd(text, n):
    """The first n times of a systemd calendar expression from 2026 on."""
    run = subprocess.run(["systemd-analyze", "calendar", f"--iterations={n}", "--base-time=2026-01-01 00:00:00 UTC", text],
                         capture_output=True, text=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})
    assert run.returncode == 0, run.stderr
    lines = [line.split(": ", 1)[1].strip() for line in run.stdout.splitlines()
             if "Next elapse: " in line or "Iter. #" in line or "Iteration #" in line]
    times = [dt.datetime.strptime(t, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC) for t in lines]
    assert len(times) == n, run.stdout
    return [int(t.timestamp()) for t in times]


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
JUST_BEFORE_2026 = int(dt.datetime(2026, 1, 1, tzinfo=UTC).timestamp()) - 1


@needs_systemd
@pytest.mark.parametrize("ours, theirs", [
    ("30 4 L * *", "*-*~01 04:30:00"),
    ("0 0 L-2 2 *", "*-02~03 00:00:00"),
    ("0 12 * * 5L", "Fri *-*~07/1 12:00:00"),
    ("0 12 * * 1#2", "Mon *-*-08..14 12:00:00"),
    ("0 0 29 2 *", "*-02-29 00:00:00"),
    ("15 10 0 */7 * *", "*-*-01/7 00:10:15"),
    ("0 0 0 1 1 ? 2030-2060/2", "2030..2060/2-01-01 00:00:00"),
])
def test_days_only_systemd_knows(ours, theirs):
    """`~` counts from the end of the month there, as L does here."""
    n = 12
    assert ask([(ours, "UTC", JUST_BEFORE_2026, n)])[0] == by_systemd(theirs, n)


@needs_systemd
def test_days_at_the_end_of_months():
    r = random.Random(31)
    questions, expected = [], []
    for _ in range(60):
        days = sorted(r.sample(range(1, 32), r.randint(1, 3)) + [r.randint(29, 31)])
        months = sorted(r.sample(range(1, 13), r.randint(1, 6))) + [12]
        minute, hour = r.randint(0, 59), r.randint(0, 23)
        text = ",".join(map(str, days)), ",".join(map(str, months))
        questions.append((f"{minute} {hour} {text[0]} {text[1]} *", "UTC", JUST_BEFORE_2026, 12))
        expected.append(by_systemd(f"*-{text[1]}-{text[0]} {hour:02}:{minute:02}:00", 12))
    for q, want, got in zip(questions, expected, ask(questions)):
        assert got == want, q
