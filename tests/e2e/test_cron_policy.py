"""Cron as the operator sees it: policies for missed and overlapping runs, what the handler gets, pause, run, next."""

import datetime
import json
import re

import harness
from test_cron import far

UTC = datetime.timezone.utc

STEP = r"""
#include <stepd/step.h>
#include <unistd.h>
static int tick(struct stepd_ctx *ctx)
{
	usleep(%d);
	stepd_log_info(ctx, stepd_trigger_name(ctx), stepd_json("data", stepd_data(ctx)));
	return stepd_enqueue(ctx, "ticked", stepd_data(ctx));
}
STEPD_STEP(.name = "Tick", .triggers = STEPD_TRIGGERS(STEPD_CRON("%s" %s)), .enqueues = STEPD_LIST("ticked"), .handler = tick);
"""


def cron_step(stepd, expression, options="", sleep_us=0):
    stepd.step("tick", STEP % (sleep_us, expression, options))


def ticks(db):
    return db.values("select fire_at from stepd.tick order by fire_at")


def set_back(db, **ago):
    then = datetime.datetime.now(UTC) - datetime.timedelta(**ago)
    db.execute("update stepd.schedule set last_tick = %s, since = %s", then, then)


def test_what_the_handler_gets(stepd, db):
    cron_step(stepd, "* * * * * *", ', .timezone = "Asia/Kathmandu"')
    stepd.start()
    job = harness.wait_for(lambda: db.row("select * from stepd.jobs where trigger = 'cron' and status = 'completed' order by id"), 10)
    [log] = db.logs(job["id"])
    data = log["fields"]["data"]
    assert log["message"] == "cron" and data == job["input"]
    assert data["expression"] == "* * * * * *" and data["timezone"] == "Asia/Kathmandu" and data["manual"] is False
    at = datetime.datetime.fromisoformat(data["scheduledAt"].replace("Z", "+00:00"))
    fired = datetime.datetime.fromisoformat(data["firedAt"].replace("Z", "+00:00"))
    assert at in ticks(db) and datetime.timedelta(0) <= fired - at < datetime.timedelta(seconds=5)
    # the run's other jobs share its trace, the next run has another
    assert db.value("select count(*) from stepd.jobs where trace_id = %s", job["trace_id"]) == 2
    harness.wait_for(lambda: db.value("select count(distinct trace_id) from stepd.jobs where trigger = 'cron'") > 1, 5)


def missed(stepd, db, options):
    """Ticks that a start five hours after the last one makes."""
    cron_step(stepd, f"{far()} * * * *", options)
    stepd.start()
    assert stepd.stop() == 0
    had = ticks(db)
    set_back(db, hours=5)
    stepd.start()
    harness.wait_for(lambda: db.value("select next_run > now() from stepd.schedules"), 10, "the next run")
    assert stepd.stop() == 0
    return [t for t in ticks(db) if t not in had]


def test_missed_all(stepd, db):
    made = missed(stepd, db, ', .missed = "all"')
    assert len(made) == 5 and [b - a for a, b in zip(made, made[1:])] == [datetime.timedelta(hours=1)] * 4


def test_missed_all_within_the_limit(stepd, db):
    assert len(missed(stepd, db, ', .missed = "all", .catch_up_limit_ms = 2 * 3600 * 1000')) == 2


def test_missed_skip(stepd, db):
    assert missed(stepd, db, ', .missed = "skip"') == []


def test_overlap_skip(stepd, db):
    cron_step(stepd, "* * * * * *", ', .overlap = "skip"', sleep_us=2500000)
    stepd.start()
    harness.wait_for(lambda: db.value("select count(*) from stepd.jobs where trigger = 'cron' and status = 'completed'") >= 2, 15)
    jobs = db.rows("select started_at, finished_at from stepd.jobs where trigger = 'cron' and status = 'completed' order by id")
    assert all(a["finished_at"] <= b["started_at"] for a, b in zip(jobs, jobs[1:]))
    shown = db.row("select skipped, overlap from stepd.schedules")
    assert shown["skipped"] >= 2 and shown["overlap"] == "skip"
    seen = ticks(db)
    assert [b - a for a, b in zip(seen, seen[1:])] == [datetime.timedelta(seconds=1)] * (len(seen) - 1)


def test_operate(stepd, db):
    cron_step(stepd, "30 9 * * mon-fri", ', .timezone = "Europe/Berlin"')
    stepd.start()
    text = stepd.stepctl("schedules").stdout
    assert "at 09:30 on Monday to Friday" in text and "Europe/Berlin" in text
    coming = stepd.stepctl("schedules", "next", "Tick", "--count", 3, "--from", "2026-03-27 12:00").stdout
    assert coming == ("2026-03-30T07:30:00Z  2026-03-30 09:30:00+02:00\n"
                      "2026-03-31T07:30:00Z  2026-03-31 09:30:00+02:00\n"
                      "2026-04-01T07:30:00Z  2026-04-01 09:30:00+02:00\n")
    coming = json.loads(stepd.stepctl("--json", "schedules", "next", "Tick", "--from", "2026-03-27T08:30:00Z").stdout)
    assert len(coming) == 10 and coming[0] == {"at": "2026-03-30T07:30:00Z", "local": "2026-03-30T09:30:00+02:00"}

    job = int(stepd.stepctl("run", "Tick").stdout)
    done = db.wait_status(job, "completed")
    assert done["trigger"] == "cron" and done["input"]["manual"] is True

    assert stepd.stepctl("schedules", "pause", "Tick").stdout == "Tick is paused\n"
    assert stepd.stepctl("schedules", "pause", "Tick").stdout == "Tick was paused\n"
    assert db.value("select next_run from stepd.schedules") is None
    assert json.loads(stepd.stepctl("--json", "schedules", "resume", "Tick").stdout) == [
        {"step": "Tick", "trigger_index": 0, "paused": False}]
    db.wait_value("select next_run > now() from stepd.schedules", True)

    for args, code, text in [(("run", "Nix"), 1, 'no step "Nix"'), (("schedules", "next", "Nix"), 1, "no such cron trigger"),
                             (("schedules", "next"), 64, "which step"), (("schedules", "stop", "Tick"), 64, "none of"),
                             (("schedules", "next", "Tick", "--count", "0"), 64, "no number from 1"),
                             (("schedules", "next", "Tick", "--from", "then"), 64, '--from "then" is no time'),
                             (("schedules", "next", "Tick", "--from", "infinity"), 64, "is no time"),
                             (("schedules", "next", "Tick", "--from", "9999-12-31"), 0, "no tick after that"),
                             (("schedules", "--count", "3"), 64, "belong to"), (("run", "Tick", "--trigger", "4"), 1, "trigger 4"),
                             (("schedules", "pause", "Nix"), 1, 'no step "Nix"')]:
        done = stepd.stepctl(*args, check=False)
        assert done.returncode == code and text in done.stderr, (args, done)


def test_pause_and_resume(stepd, db):
    cron_step(stepd, "* * * * * *", ', .missed = "all"')
    stepd.start()
    harness.wait_for(lambda: ticks(db), 10, "a tick")
    stepd.stepctl("schedules", "pause", "Tick")
    paused = db.value("select clock_timestamp()")
    stepd.reload()  # a new cron process does not know better
    harness.wait_for(lambda: db.value("select clock_timestamp() > %s + interval '3 s'", paused), 10)
    stepd.stepctl("schedules", "resume", "Tick")
    resumed = db.value("select clock_timestamp()")
    harness.wait_for(lambda: len([t for t in ticks(db) if t > resumed]) >= 2, 10, "ticks after it")
    assert [t for t in ticks(db) if paused < t < resumed - datetime.timedelta(seconds=1)] == []


def test_bad_triggers_are_refused(stepd, db):
    cron_step(stepd, "0 25 * * *")
    assert stepd.run("--check", config=stepd.config()) == 78
    line = STEP.split("STEPD_STEP")[0].count("\n") + 1
    assert re.search(rf'^\S*/\.tick\.c:{line}:1: cron expression "0 25 \* \* \*": field hour "25": 25 is not within 0 to 23 \(/\S*/tick\.so\)$', stepd.log(), re.M)
    for expression, options, text in [("0 0 30 2 *", "", "never matches"), ("0 0 * *", "", "minute hour day-of-month"),
                                      ("@daily", ', .timezone = "Mars/Olympus"', "Mars/Olympus"),
                                      ("@daily", ', .missed = "most"', 'missed "most" is none of skip, one, all'),
                                      ("@daily", ', .overlap = "no"', 'overlap "no" is none of allow, skip'),
                                      ("@daily", ", .catch_up_limit_ms = -1", "catch_up_limit_ms -1 is not within")]:
        mark = stepd.log_mark()
        cron_step(stepd, expression, options)
        assert stepd.run("--check") == 78
        assert text in stepd.log(mark) and "tick.so" in stepd.log(mark)
