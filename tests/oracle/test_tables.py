"""Cron expressions against the test tables of two other projects, read from the Go sources that Debian ships.

Each fact there is compared with our answer.  A fact that differs has to be claimed by one of the REASONS, which are the headings
of DIFFERENCES.md, and our answer has to be the one that croniter and the rules of the contract lead to.
What is not about expressions (options of their parsers, helpers of their bit sets, their daemons) is not read.
"""

import datetime as dt
import itertools
import pathlib
import re
import typing
import zoneinfo

import pytest

from gotable import GoFile, Unknown
from test_cron import UTC, ask, by_croniter, by_the_contract, changes, crontool, offset  # noqa: F401 (crontool is a fixture)

HERE = pathlib.Path(__file__).resolve().parent
# Installed, or unpacked by tests/run: robfig/cron's package depends on a Go compiler, of which nothing here has any use.
ROOTS = [pathlib.Path("/"), HERE.parents[1] / "build/test-packages"]
FOLDERS = {"robfig/cron": "golang-github-robfig-cron-dev", "gorhill/cronexpr": "golang-github-gorhill-cronexpr-dev"}
REFUSED, ACCEPTED = "refused", "accepted"
STAR = 1 << 63


class Fact(typing.NamedTuple):
    expression: str  # without the zone that robfig/cron may have in front of it
    zone: str
    after: int
    want: typing.Any  # the first ticks; none of them: never; REFUSED, ACCEPTED; or what answers by True


def source(project, name):
    for root in ROOTS:
        path = root / "usr/share/gocode/src/github.com" / project / name
        if path.exists():
            return path
    pytest.skip(f"{FOLDERS[project]} is neither installed nor unpacked in build/test-packages (tests/run does it)")


def seconds(text, zone=UTC):
    """A time as their tests write it; one without an offset is in that zone."""
    for layout in ("%a %b %d %H:%M %Y", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S.%f %Y", "%Y-%m-%d %H:%M:%S",
                   "%a %Y-%m-%d %H:%M", "%a, %d %b %Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"):
        try:
            time = dt.datetime.strptime(text, layout)
        except ValueError:
            continue
        return int((time if time.tzinfo else time.replace(tzinfo=zone)).timestamp())
    raise Unknown(f"no time: {text}")


# robfig/cron

def zone_in_front(text):
    """(zone or None, the rest) of `TZ=Asia/Tokyo 0 5 * * *`."""
    match = re.fullmatch(r"(?:CRON_)?TZ=(\S+)\s+(.*)", text)
    return match.groups() if match else (None, text)


def robfig_next(row):
    in_time, after = zone_in_front(row["time"])
    in_expression, expression = zone_in_front(row["spec"])
    zone = in_expression or in_time
    if zone is None and (far := re.search(r"\d([+-]\d{4})$", after)):
        zone = {"+0530": "Asia/Kolkata"}[far[1]]
    return Fact(expression, zone or "UTC", seconds(after), [seconds(row["expected"])] if row["expected"] else [])


def robfig_activation(row):
    at = seconds(row["time"])
    return Fact(row["spec"], "UTC", at - 1, [at] if row["expected"] else lambda ticks: ticks[0] != at)


def by_sets(second, minute, hour, dom, month, dow, location):
    """What to expect when the fields are these bit sets."""
    if dow & 127 != 127:
        raise Unknown("a set of weekdays; the tables had none")

    def ticks():
        zone = zoneinfo.ZoneInfo(location)
        for day in itertools.count(dt.date(2026, 11, 23).toordinal()):
            day = dt.date.fromordinal(day)
            if month >> day.month & 1 and dom >> day.day & 1:
                for h, m, s in itertools.product(range(24), range(60), range(60)):
                    if hour >> h & 1 and minute >> m & 1 and second >> s & 1:
                        yield int(dt.datetime(day.year, day.month, day.day, h, m, s, tzinfo=zone).timestamp())
    after = int(dt.datetime(2026, 11, 23, 7, 30, tzinfo=UTC).timestamp())
    return location, after, list(itertools.islice((t for t in ticks() if t > after), 3))


def robfig_parser():
    """parser_test.go with what its expressions mention."""
    names = {"time.Local": "UTC", "time.UTC": "UTC", "tokyo": "Asia/Tokyo", "time.Minute": 60, "starBit": STAR, "zero": 0, "nil": None,
             "secondParser": None, "standardParser": None, "time.Duration": int}
    for field, low, high in ("seconds", 0, 59), ("minutes", 0, 59), ("hours", 0, 23), ("dom", 1, 31), ("months", 1, 12), ("dow", 0, 6):
        names[field] = sum(1 << n for n in range(low, high + 1)) | STAR
        names[field + ".min"] = low

    def spec(*items, **keyed):
        return by_sets(*items, **{name.lower(): value for name, value in keyed.items()})
    names |= {"all": lambda field: field, "SpecSchedule": spec,
              "ConstantDelaySchedule": lambda delay: ("UTC", 0, [delay, 2 * delay])}
    go = GoFile(source("robfig/cron", "parser_test.go"), names)
    for helper in "every5min", "every5min5s", "midnight", "annual":
        go.names[helper] = lambda location, helper=helper: go.call(helper, location)
    return go


def robfig_schedule(row):
    in_front, expression = zone_in_front(row["expr"])
    if row.get("err"):
        return Fact(expression, "UTC", 0, REFUSED)
    zone, after, ticks = row["expected"]
    assert zone == (in_front or "UTC")
    return Fact(expression, zone, after, ticks)


def robfig_set(row):
    """A field for itself: put into the seconds of the first minute, if bounds of its own play no part."""
    if row.get("err") in ("below minimum", "above maximum") or "*" in row["expr"] and not row["err"]:
        return None
    if row.get("err"):
        return Fact(row["expr"] + " * * * * *", "UTC", -1, REFUSED)
    ticks = [n for n in range(60) if row["expected"] >> n & 1]
    return Fact(row["expr"] + " * * * * *", "UTC", -1, ticks + [60 + ticks[0]])


def robfig_delay(row):
    """`@every`; a Duration is in nanoseconds there, of which they take whole seconds, one at least."""
    delay = max(1, row["delay"] // 10**9)
    after = seconds(row["time"])
    return Fact(f"@every {delay}s", "UTC", after, [seconds(row["expected"])])


def robfig_facts():
    spec = GoFile(source("robfig/cron", "spec_test.go"), {"true": True, "false": False})
    parser = robfig_parser()
    assert parser.function("TestParseSchedule").calls("time.LoadLocation") == [("Asia/Tokyo",)]
    units = {"time." + unit: n for unit, n in (("Nanosecond", 1), ("Millisecond", 10**6), ("Second", 10**9), ("Minute", 60 * 10**9),
                                              ("Hour", 3600 * 10**9))}
    delay = GoFile(source("robfig/cron", "constantdelay_test.go"), units)
    # Where, which table, what to make of a row, how many rows there are at least.
    tables = [
        (spec, "TestActivation", "tests", robfig_activation, 29),
        (spec, "TestNext", "runs", robfig_next, 58),
        (spec, "TestNextWithTz", "runs", robfig_next, 4),
        (spec, "TestErrors", "invalidSpecs", lambda text: Fact(text, "UTC", 0, REFUSED), 4),
        (parser, "TestRange", "ranges", robfig_set, 20),
        (parser, "TestField", "fields", robfig_set, 4),
        (parser, "TestParseScheduleErrors", "tests", robfig_schedule, 5),
        (parser, "TestParseSchedule", "entries", robfig_schedule, 12),
        (parser, "TestOptionalSecondSchedule", "entries", robfig_schedule, 3),
        (parser, "TestStandardSpecSchedule", "entries", robfig_schedule, 4),
        (delay, "TestConstantDelayNext", "tests", robfig_delay, 14),
    ]
    for go, test, table, fact, least in tables:
        rows = go.function(test).value(table)
        assert len(rows) >= least, f"{go.path}: {test} has {len(rows)} rows, it had {least}"
        yield from filter(None, map(fact, rows))
    yield Fact(zone_in_front(spec.function("TestSlash0NoHang").value("schedule"))[1], "UTC", 0, REFUSED)


# gorhill/cronexpr

def gorhill_facts():
    go = GoFile(source("gorhill/cronexpr", "cronexpr_test.go"), {})
    table = go.value("crontests")
    assert len(table) >= 13 and sum(len(test["times"]) for test in table) >= 61
    for test in table:
        for row in test["times"]:
            yield Fact(test["expr"], "UTC", seconds(row["from"]), [seconds(row["next"])])
    for name in "TestNextN", "TestNextN_every5min":
        test = go.function(name)
        (_, start), = test.calls("time.Parse")
        (expression,), = test.calls("MustParse")
        ticks = test.value("expected")
        assert len(ticks) >= 5
        yield Fact(expression, "UTC", seconds(start), [seconds(t) for t in ticks])
    refused = go.function("TestInterval_Interval60Issue").calls("Parse")
    assert len(refused) >= 4
    yield from (Fact(expression, "UTC", 0, REFUSED) for expression, in refused)
    years = go.function("TestZero").calls("MustParse")
    assert len(years) == 3
    yield from (Fact(expression, "UTC", 0, ACCEPTED) for expression, in years)
    accepted = go.value("benchmarkExpressions")
    assert len(accepted) >= 7
    yield from (Fact(expression, "UTC", 0, ACCEPTED) for expression in accepted)


# The comparison

def agree(want, got):
    if isinstance(got, str):
        return want in (REFUSED, [])  # what never comes is refused here
    if want == REFUSED or not got:
        return False
    return want == ACCEPTED or (want(got) if callable(want) else got[:len(want)] == want != [])


def five_fields(expression):
    """As croniter takes it: without a `0` for the seconds, with no `?`."""
    return re.sub(r"^0 (?=(?:\S+ ){4}\S+$)", "", expression).replace("?", "*")


def by_the_rules(fact):
    """The first tick by croniter and the contract's rules for changes of the clock."""
    zone = zoneinfo.ZoneInfo(fact.zone)
    text = five_fields(fact.expression)
    first = by_croniter(text, dt.datetime.fromtimestamp(fact.after, UTC)).get_next(dt.datetime).timestamp()
    last = int(first) + 3 * 86400
    begin = fact.after - 8 * 86400
    near = changes(zone, begin, last) or [(last, offset(zone, begin), offset(zone, begin))]
    return by_the_contract(text, near, fact.after, last)[:1]


def next_multiple(fact):
    n = int(re.fullmatch(r"@every (\d+)s", fact.expression)[1])
    return [fact.after // n * n + n]


def first_of_the_minute(fact):
    """`a/60` in the seconds is `a`."""
    return [int(fact.expression.split("/")[0].replace("*", "0")) or 60]


def is_star(fact, got):
    days = fact.expression.split()[-3:]
    return days[0].startswith("*/") and days[2][0] not in "*?"


def is_gap(fact, got):
    """Our tick is the first instant behind a gap."""
    zone = zoneinfo.ZoneInfo(fact.zone)
    return offset(zone, got[0] - 1) < offset(zone, got[0])


def is_overlap(fact, got):
    """Theirs is in the second pass of an hour that came twice."""
    return dt.datetime.fromtimestamp(fact.want[0], zoneinfo.ZoneInfo(fact.zone)).fold == 1


# A heading of DIFFERENCES.md: who differs, when this is the reason, what our answer is then.
REASONS = {
    "star": ("robfig/cron", is_star, by_the_rules),
    "gap-lost": ("robfig/cron", is_gap, by_the_rules),
    "overlap-twice": ("robfig/cron", is_overlap, by_the_rules),
    "every": ("robfig/cron", lambda fact, got: fact.expression.startswith("@every"), next_multiple),
    "step": ("gorhill/cronexpr", lambda fact, got: "/60 " in fact.expression, first_of_the_minute),
    "name": ("gorhill/cronexpr", lambda fact, got: re.search("[a-z]{4}", fact.expression), None),
    "sixth-field": ("gorhill/cronexpr", lambda fact, got: re.fullmatch(r"(\S+ ){5}\d{4}", fact.expression), None),
}


def compare(project, facts, least):
    facts = list(facts)
    assert len(facts) >= least
    answers = ask([(f.expression, f.zone, f.after, len(f.want) if isinstance(f.want, list) and f.want else 1) for f in facts])
    reasons = {name: rest for name, (who, *rest) in REASONS.items() if who == project}
    used = set()
    for fact, got in zip(facts, answers):
        if agree(fact.want, got):
            continue
        refused = isinstance(got, str)
        why = [name for name, (holds, ours) in reasons.items() if refused == (ours is None) and holds(fact, got)]
        assert len(why) == 1, f"{fact}: here {got}; reasons: {why}"
        assert refused or got == reasons[why[0]][1](fact), f"{fact}, {why}"
        used.update(why)
    assert used == set(reasons), "a reason for which nothing differs"


def test_robfig():
    compare("robfig/cron", robfig_facts(), 154)


def test_gorhill():
    compare("gorhill/cronexpr", gorhill_facts(), 77)


def test_every_reason_is_explained():
    explained = re.findall(r"^## (\S+)", (HERE / "DIFFERENCES.md").read_text(), re.M)
    assert sorted(explained) == sorted(set(explained))
    assert set(REASONS) <= set(explained)


@pytest.mark.parametrize("text", [
    'runs := []struct{ a, b string }{{"x"}}',             # a field is missing
    'runs := []struct{ a, b string }{{"x", "y", "z"}}',   # one too many
    'runs := []struct{ a, b string }{{c: "x"}}',          # another name
    'runs := []struct{ a string }{{"x" + unheard}}',      # something else than a literal
    'runs := []struct{ a string }{{"x"}',                 # no end
    'runs := []struct{ a string }{{"x"} {"y"}}',          # no comma
    'runs := append(tests, 1)',
    'runs := map[string]string{"x": "y"}',
    'other := []string{"x"}',                             # gone
    'runs := []string{"x"}; runs := []string{"y"}',       # twice
])
def test_the_reader_is_strict(tmp_path, text):
    (tmp_path / "x.go").write_text(f"package x\n\nfunc Test(t *testing.T) {{\n\t{text}\n}}\n")
    with pytest.raises(Unknown):
        GoFile(tmp_path / "x.go", {}).function("Test").value("runs")
