"""Long handlers, seen from outside: how far they are, which process runs them, and that they can be asked to end."""

import contextlib
import os
import re
import signal
import time

import pytest

import harness

# Reports in each turn of a tight loop, until somebody cancels it or its time is over.
LONG = r"""
#include <stepd/step.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	double ms = stepd_get_num(in, "ms", 0), begin = now_ms(), spent;
	long turns = 0;

	if (stepd_get_bool(in, "children", false) && fork() == 0) {
		if (fork() == 0)
			execlp("sleep", "sleep", "1000", NULL);
		execlp("sleep", "sleep", "1000", NULL);
	}
	if (stepd_get(in, "say") != NULL)
		stepd_progress(ctx, stepd_get_num(in, "percent", -1), stepd_get_str(in, "say"), stepd_json("in", in));
	if (stepd_get_bool(in, "odd", false)) {
		stepd_progress(ctx, NAN, "\xff caf\xc3\xa9 \"\x01", stepd_num("nan", NAN), stepd_str(NULL, "\xfe"));
		return STEPD_OK;
	}
	while ((spent = now_ms() - begin) < ms) {
		if (stepd_get_bool(in, "deaf", false)) {
			struct timespec t = {0, 1000000};
			nanosleep(&t, NULL);
			continue;
		}
		if (stepd_cancelled(ctx))
			return stepd_fail(ctx, "stopped after %ld turns", turns);
		stepd_progress(ctx, 100 * spent / ms, "turning", stepd_int("turns", ++turns));
	}
	if (stepd_get_bool(in, "fail", false))
		return stepd_fail(ctx, "asked to");
	return STEPD_OK;
}

STEPD_STEP(.name = "Long", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("long"), STEPD_QUEUE("timed"), STEPD_HTTP("POST", "/long")), .handler = handle);
"""


def manual_example():
    """The complete example of stepd_step(3)."""
    page = (harness.SOURCE / "src/step/stepd_step.3").read_text()
    [source] = [x for x in re.findall(r"^\.EX\n(.*?)^\.EE$", page, re.M | re.S) if "stepd_progress" in x]
    return source.replace(r"\-", "-").replace(r"\e", "\\")


@pytest.fixture
def long(stepd, db):
    stepd.step("long", LONG)
    stepd.step("count", manual_example())
    stepd.start(config=stepd.config(queues={"long": {"maxRetries": 0}, "timed": {"maxRetries": 0, "timeout": "300ms"}}, stop={"killGrace": "1500ms"}))
    return stepd


def progress(db, job):
    return db.value("select progress from stepd.jobs where id = %s", job)


def test_progress_while_it_runs_and_afterwards(long, db):
    [job] = db.enqueue("long", {"ms": 60000})
    first = harness.wait_for(lambda: progress(db, job), 5, "progress")
    assert first["message"] == "turning" and 0 <= first["percent"] < 100 and first["fields"]["turns"] > 0 and first["attempt"] == 1
    # the newest within a second, and told twice in it at most, however often it calls
    seen = []
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        p = progress(db, job)
        if not seen or p["at"] != seen[-1]["at"]:
            seen.append(p)
        time.sleep(0.02)
    assert 2 <= len(seen) <= 6, seen
    assert all(b["fields"]["turns"] > a["fields"]["turns"] and b["percent"] > a["percent"] for a, b in zip(seen, seen[1:]))
    row = db.job(job)
    assert row["status"] == "running" and row["node"]
    worker = [p for p in long.procs("worker") if p.pid == row["pid"]]
    assert worker, (row["pid"], long.procs())
    text = long.stepctl("job", job).stdout
    assert re.search(r"^progress +\d+\.\d % turning \{\"turns\": \d+\} \(attempt 1\)$", text, re.M), text
    assert re.search(rf"^node .*\(pid {row['pid']}\)$", text, re.M) and re.search(r"^reported +2\d\d\d-", text, re.M), text

    long.stepctl("cancel", job)
    ended = db.wait_status(job, "cancelled", "failed", "completed")
    assert ended["status"] == "cancelled"
    assert "stopped after" in ended["error"] and ended["progress"]["fields"]["turns"] >= seen[-1]["fields"]["turns"]
    assert worker[0].alive, "it returned in time: its worker goes on"

    # short ones report with their outcome, and who reports nothing leaves nothing
    before = db.values("select job_id from stepd.progress")
    said = [db.enqueue("long", {"say": "half", "percent": 50, "fail": True})[0], db.enqueue("long", {"odd": True})[0],
            db.enqueue("long", {"say": "over", "percent": 1e300})[0]]
    silent = [db.enqueue("long", {})[0] for _ in range(20)]
    for job in said + silent:
        db.wait_status(job, "completed", "failed")
    rows = [db.job(j) for j in said]
    assert rows[0]["status"] == "failed" and (rows[0]["progress"]["percent"], rows[0]["progress"]["message"]) == (50, "half")
    assert rows[0]["progress"]["fields"] == {"in": {"say": "half", "percent": 50, "fail": True}}
    assert rows[1]["progress"]["message"] == "\ufffd café \"\x01" and "percent" not in rows[1]["progress"]
    assert rows[1]["progress"]["fields"] == {"nan": None, "": "\ufffd"}
    assert rows[2]["progress"]["percent"] == 100
    assert db.values("select job_id from stepd.progress order by 1") == sorted(before + said)
    assert long.post("/long", {"say": "x"}).status == 204 and db.value("select count(*) from stepd.progress") == 4


def test_a_worker_that_lost_its_lease_changes_nothing(long, db):
    [job] = db.enqueue("long", {"ms": 60000})
    first = harness.wait_for(lambda: progress(db, job), 5, "progress")
    pid = db.job(job)["pid"]
    os.kill(pid, signal.SIGSTOP)
    # what rescue() does when a node vanished, for this lease alone
    db.execute("select stepd._take_back(array(select id from stepd.lease where %s = any (ids)), true)", job)
    assert db.attempts(job)[0]["outcome"] == "lost"
    lost = progress(db, job)
    os.kill(pid, signal.SIGCONT)
    time.sleep(1.2)  # two reports would have come
    assert progress(db, job) == lost and lost["percent"] >= first["percent"]
    assert db.job(job)["status"] == "failed"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def sleepers_of(db, job):
    """The two processes that its handler started, once they run."""
    pid = db.wait_status(job, "running")["pid"]
    return harness.wait_for(lambda: len(s := [p for p in harness.all_procs().values() if p.pgid == pid and p.comm == "sleep"]) == 2 and s,
                            5, "two sleepers")


def test_timeout_and_its_grace(long, db):
    # one that listens returns in time: its worker is not killed, and ends by itself
    [job] = db.enqueue("timed", {"ms": 60000})
    row = db.wait_status(job, "failed", "completed", "cancelled")
    [a] = db.attempts(job)
    assert (row["status"], a["outcome"], a["signal"], a["exit_code"], a["error"]) == ("failed", "timeout", None, None, "timed out after 300 ms"), a
    assert a["max_rss_kb"] > 0 and row["progress"]["message"] == "turning"
    long.wait_log(rf"the handler came to an end within its grace; what it did is void.*{job}.*timeout")
    # one that does not is killed after the grace; what it started had TERM at once
    [job] = db.enqueue("timed", {"ms": 60000, "deaf": True, "children": True})
    sleepers = sleepers_of(db, job)
    worker = harness.Proc(sleepers[0].pgid)
    harness.wait_for(lambda: not any(p.alive for p in sleepers), 5, f"the handler's children ended: {sleepers}")
    assert worker.alive, "it has its grace, and its children had TERM before KILL came"
    assert db.job(job)["status"] == "running"
    db.wait_status(job, "failed")
    [a] = db.attempts(job)
    assert (a["outcome"], a["signal"]) == ("timeout", 9) and a["error"].startswith("timed out after ") and "SIGKILL" in a["error"], a
    took = (a["finished_at"] - a["started_at"]).total_seconds()
    assert 1.8 <= took < 1.8 + 3 * harness.SLOW, took
    [after] = db.enqueue("timed", {})
    db.wait_status(after, "completed")


def test_cancel_of_a_deaf_handler_ends_its_children_too(long, db, tmp):
    [job] = db.enqueue("long", {"ms": 60000, "deaf": True, "children": True, "say": "deaf"})
    sleepers = sleepers_of(db, job)
    begin = time.monotonic()
    db.execute("select stepd.cancel(%s)", job)
    assert db.wait_status(job, "cancelled", "failed", "completed")["status"] == "cancelled"
    took = time.monotonic() - begin
    assert 3.0 <= took < 3.0 + 4 * harness.SLOW, took  # to notice, then from TERM to KILL
    [a] = db.attempts(job)
    assert (a["outcome"], a["signal"], a["exit_code"]) == ("cancelled", 9, None), a
    assert db.job(job)["progress"]["message"] == "deaf"
    harness.wait_for(lambda: not any(p.alive for p in sleepers), 5, f"the handler's children ended: {sleepers}")

    # and the example of the manual, which listens
    files = []
    for i in range(3):
        files.append(str(tmp / f"{i}.txt"))
        (tmp / f"{i}.txt").write_text("line\n" * 1500 * (i + 1))
    [job] = db.enqueue("count-lines", {"files": files})
    done = db.wait_status(job, "completed", "failed")
    assert done["output"] == {"lines": 9000}, done
    assert done["progress"]["percent"] == 100 and done["progress"]["fields"] == {"done": 3, "total": 3, "lines": 9000}
    fifo = str(tmp / "fifo")
    os.mkfifo(fifo, 0o666)
    os.chmod(fifo, 0o666)
    [job] = db.enqueue("count-lines", {"files": files[:1] + [fifo]})
    harness.wait_for(lambda: (p := progress(db, job)) and p["percent"] == 50, 5, "half")
    with open(fifo, "w") as f:
        db.execute("select stepd.cancel(%s)", job)
        with contextlib.suppress(BrokenPipeError):
            for _ in range(200):
                f.write("line\n" * 1000)
                f.flush()
                time.sleep(0.002)
    ended = db.wait_status(job, "cancelled", "failed", "completed", "retrying")
    assert (ended["status"], ended["error"]) == ("cancelled", "stopped after 1 of 2 files")


def test_progress_goes_on_after_a_database_restart(make_stepd, own_pg):
    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db)
    stepd.step("long", LONG)
    stepd.start(config=stepd.config(queues={"long": {"maxRetries": 0}}))
    [job] = db.enqueue("long", {"ms": 60000})
    before = harness.wait_for(lambda: progress(db, job), 10, "progress")
    own_pg.restart()
    after = harness.wait_for(lambda: (p := progress(db, job)) and p["fields"]["turns"] > before["fields"]["turns"] and p["at"] > before["at"] and p,
                             20, "progress after the restart")
    row = db.job(job)
    assert (row["status"], after["attempt"]) == ("running", 1)
    assert row["pid"] in [p.pid for p in stepd.procs("worker")]
    db.execute("select stepd.cancel(%s)", job)
    db.wait_status(job, "cancelled", deadline=20)
    stepd.close()
    db.close()
