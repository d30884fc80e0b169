"""Memory and CPU limits of an attempt: the attempt that passes one ends like one that passes its timeout, the reason is
named, and nobody else pays for it."""

import contextlib
import os
import re
import time
from pathlib import Path

import pytest

import harness

# Eats memory or burns CPU, itself or in processes of its own, until it is told to stop, or deaf to that.
HOG = r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}

static char *eat(double mib, bool shared)
{
	size_t n = (size_t)(mib * 1048576);
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);

	if (p != MAP_FAILED)
		memset(p, 1, n);
	return p == MAP_FAILED ? NULL : p;
}

static void burn(double ms)
{
	struct timespec t, t0;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	while ((t.tv_sec - t0.tv_sec) * 1e3 + (t.tv_nsec - t0.tv_nsec) / 1e6 < ms);
}

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx);
	double mib = stepd_get_num(in, "mib", 0), cpu = stepd_get_num(in, "cpu", 0);
	bool shared = stepd_get_bool(in, "shared", false);
	int children = (int)stepd_get_num(in, "children", 0);

	if (stepd_get_bool(in, "at once", false)) {
		for (;;) { /* faster than anyone looks; malloc() fails in the end */
			char *p = malloc(1 << 20);
			memset(p, 1, 1 << 20);
		}
	}
	if (children > 0) {
		char *inherited = eat(stepd_get_num(in, "inherit", 0) + 0.1, false);
		for (int i = 0; i < children; i++)
			if (fork() == 0) {
				if (stepd_get_bool(in, "setsid", false))
					setsid();
				if (mib > 0)
					eat(mib, shared);
				burn(cpu);
				for (;;)
					nap(1000);
			}
		nap((long)stepd_get_num(in, "ms", 60000));
		inherited[0] = 2;
		return STEPD_OK;
	}
	if (mib > 0)
		eat(mib, shared);
	burn(cpu);
	if (stepd_get_bool(in, "deaf", false))
		nap(60000);
	for (int i = 0; i < (int)stepd_get_num(in, "ms", 0) && !stepd_cancelled(ctx); i++)
		nap(1);
	if (stepd_cancelled(ctx))
		return stepd_fail(ctx, "told to stop");
	return STEPD_OK;
}

STEPD_STEP(.name = "Hog", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("hog"), STEPD_HTTP("POST", "/hog", .respond = STEPD_SYNC)), .handler = handle);
"""

MEMORY = r"^memory limit 64MiB exceeded \((\d+) MiB in use\)"
CPU = r"^CPU time limit 1s exceeded \((\d+\.\d\d) s used\)"


@pytest.fixture
def hog(stepd, db):
    stepd.step("hog", HOG)
    conf = stepd.config(
        pools={"default": {"processes": 2, "maxMemory": "64MiB", "maxCpuTime": "1s"},
               "web": {"processes": 1, "serves": ["http"], "maxMemory": "64MiB"}},
        queues={"hog": {"maxRetries": 0}}, stop={"killGrace": "700ms"})
    if harness.ROOT:
        conf["user"] = "nobody"  # the supervisor is no more than that then
    return stepd.start(config=conf)


def ended(db, job):
    """The one attempt of a job that failed."""
    row = db.wait_status(job, "failed", "completed", "cancelled", deadline=30)
    assert row["status"] == "failed", row
    [a] = db.attempts(job)
    assert a["error"] == row["error"] and a["max_rss_kb"] > 0 and a["cpu_ms"] is not None
    return a


def test_memory(hog, db):
    workers = {p.pid for p in hog.procs(r"worker default")}
    for p in hog.procs(r"worker default"):
        assert re.search(r"^Max data size +134217728 +134217728", open(f"/proc/{p.pid}/limits").read(), re.M), "the wall"
    fits = [db.enqueue("hog", {"mib": 30, "ms": 300})[0] for _ in range(2)]
    for job in fits:
        db.wait_status(job, "completed")

    # it listens: recorded by the worker itself, which ends
    a = ended(db, db.enqueue("hog", {"mib": 80, "ms": 60000})[0])
    assert a["outcome"] == "timeout" and (a["exit_code"], a["signal"]) == (None, None), a
    assert 64 < int(re.match(MEMORY + "$", a["error"])[1]) < 128

    # it does not: killed after the grace
    begin = time.monotonic()
    a = ended(db, db.enqueue("hog", {"mib": 70, "shared": True, "deaf": True})[0])
    assert (a["outcome"], a["signal"]) == ("timeout", 9) and re.search(MEMORY + r", killed by signal 9 \(SIGKILL\)$", a["error"]), a
    assert time.monotonic() - begin > 0.7

    # faster than anyone looks: it meets the wall
    a = ended(db, db.enqueue("hog", {"at once": True})[0])
    assert a["outcome"] == "timeout" and re.search(MEMORY, a["error"]) and a["signal"] in (9, 11) and a["max_rss_kb"] < 140 * 1024, a

    # past the wall, by what its processes hold together: no grace
    a = ended(db, db.enqueue("hog", {"children": 4, "mib": 50})[0])
    assert a["outcome"] == "timeout" and re.search(MEMORY, a["error"]), a
    harness.wait_for(lambda: not [p for p in harness.all_procs().values() if p.pgid == a["pid"] and p.state not in "ZX"], 5,
                     "its processes went with it")

    # what processes inherit counts once: four times 25 MiB are too much, four forks of one are not
    [job] = db.enqueue("hog", {"children": 4, "inherit": 30, "ms": 500})
    db.wait_status(job, "completed")
    assert workers != {p.pid for p in hog.procs(r"worker default")}
    assert db.value("select count(*) from stepd.attempts where outcome <> 'timeout'") == 0

    # a request
    reply = hog.post("/hog", {"mib": 80, "ms": 60000})
    assert reply.status == 502, reply
    row = harness.wait_for(lambda: db.row("select * from stepd.jobs where trigger = 'http'"), 5, "the request's row")
    assert row["status"] == "failed" and re.search(MEMORY, row["error"]), row
    assert hog.post("/hog", {}).status == 204


def test_cpu(hog, db):
    # waiting costs nothing, nor what earlier jobs used
    jobs = [db.enqueue("hog", {"ms": 1500})[0]] + [db.enqueue("hog", {"cpu": 500})[0] for _ in range(4)]
    for job in jobs:
        db.wait_status(job, "completed", deadline=30)
    own = ended(db, db.enqueue("hog", {"cpu": 1e9})[0])
    assert (own["outcome"], own["signal"]) == ("timeout", 9)
    assert 1.0 < float(re.match(CPU, own["error"])[1]) < 3 and own["cpu_ms"] >= 1000
    theirs = ended(db, db.enqueue("hog", {"cpu": 1e9, "children": 2})[0])
    assert theirs["outcome"] == "timeout" and re.search(CPU, theirs["error"]), theirs
    hog.wait_log(r"worker default/\d \(pid \d+\): job \d+: CPU time limit 1s exceeded \(\d\.\d\d s used\); ending it")


def test_limits_are_checked_and_reloaded(stepd, db):
    stepd.step("hog", HOG)
    bad = {"default": {"maxMemory": "1MiB", "maxCpuTime": "0s"}, "b": {"maxMemory": -1, "maxCpuTime": [1]}, "c": {"maxMemory": "9999999GiB", "maxCpuTme": "1s"}, "d": {"maxCpus": 0}}
    assert stepd.run("--check", config=stepd.config(pools=bad)) == 78
    for what in (r"pools.default.maxMemory: .*16MiB", r"pools.default.maxCpuTime: .*100ms", r"pools.b.maxMemory", r"pools.b.maxCpuTime",
                 r"pools.c.maxMemory", r"pools.d.maxCpus: must be from 0.01 to 1024, or none", r'maxCpuTme".*did you mean "maxCpuTime"'):
        assert re.search(what, stepd.log()), (what, stepd.log())
    stepd.start(config=stepd.config(pools={"default": {"processes": 1, "maxMemory": "16MiB", "maxCpus": 0.5}}, queues={"hog": {"maxRetries": 0}}))
    [job] = db.enqueue("hog", {"ms": 2500})
    db.wait_status(job, "completed")
    assert "replacing it" not in stepd.log(), "the smallest limit leaves room for the worker itself"
    stepd.wait_log("maxCpus is not kept|limits of pools: in cgroups")
    stepd.write_config(stepd.config(pools={"default": {"processes": 1}}, queues={"hog": {"maxRetries": 0}}))
    stepd.reload()
    [job] = db.enqueue("hog", {"mib": 200, "ms": 300})
    db.wait_status(job, "completed")
    stepd.write_config(stepd.config(pools={"default": {"processes": 1, "maxMemory": "64MiB"}}, queues={"hog": {"maxRetries": 0}}))
    stepd.reload()
    a = ended(db, db.enqueue("hog", {"mib": 100, "ms": 60000})[0])
    assert a["outcome"] == "timeout" and re.search(MEMORY, a["error"])


@pytest.fixture
def delegated(stepd):
    """The daemon in a cgroup of its own that was delegated to it, as systemd's Delegate=yes does; its folder."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        if harness.ROOT and "memory" in (root / "cgroup.controllers").read_text().split():
            box = root / f"stepd-test-{os.getpid()}"
            (root / "cgroup.subtree_control").write_text("+memory +cpu")
            box.mkdir()
            os.setxattr(box, "trusted.delegate", b"1")
            plain = stepd.command
            stepd.command = lambda *a: ["/bin/sh", "-c", f'echo 0 >{box}/cgroup.procs && exec "$@"', "sh", *map(str, plain(*a))]
            yield box
            stepd.close()
            for d in sorted(box.glob("**/"), reverse=True):
                d.rmdir()
            return
    pytest.skip("no cgroup v2 with the memory controller that we may divide")


@pytest.mark.parametrize("user", [None, "nobody"])
def test_limits_in_cgroups(delegated, stepd, db, user):
    stepd.step("hog", HOG)
    conf = stepd.config(pools={"default": {"processes": 1, "maxMemory": "64MiB", "maxCpuTime": "8s", "maxCpus": 0.75}},
                        queues={"hog": {"maxRetries": 0}}, stop={"killGrace": "10s"})
    if user:
        conf["user"] = user
    stepd.start(config=conf)
    stepd.wait_log("limits of pools: in cgroups under " + str(delegated))
    [box] = delegated.glob("worker-*")
    assert (box / "memory.max").read_text() == "134217728\n" and (box / "memory.oom.group").read_text() == "1\n"
    assert (box / "cpu.max").read_text() == "75000 100000\n"
    assert stepd.child("worker default").pid in map(int, (box / "cgroup.procs").read_text().split())
    [job] = db.enqueue("hog", {"children": 2, "mib": 20, "ms": 500})
    db.wait_status(job, "completed")

    a = ended(db, db.enqueue("hog", {"mib": 70, "ms": 60000})[0])
    assert a["outcome"] == "timeout" and a["signal"] is None and re.search(MEMORY + "$", a["error"]), a
    a = ended(db, db.enqueue("hog", {"at once": True})[0])
    assert (a["outcome"], a["signal"]) == ("timeout", 9) and re.search(MEMORY + r", killed by signal 9 \(SIGKILL\)$", a["error"]), a
    # CPU time of processes that nobody waits for, in sessions of their own, counts; and they end with it
    a = ended(db, db.enqueue("hog", {"cpu": 1e9, "children": 3, "setsid": True})[0])
    assert a["outcome"] == "timeout" and re.search("^CPU time limit 8s exceeded", a["error"]), a
    harness.wait_for(lambda: [b.name for b in delegated.glob("worker-*")] != [box.name] and len(list(delegated.glob("worker-*"))) == 1, 5,
                     lambda: f"the boxes of the dead are gone: {list(delegated.glob('*'))}")
    assert len([p for p in stepd.procs() if p.comm == "stepd-worker" or "worker default" in p.cmdline]) == 1, stepd.procs()
    # what ends for want of the group's memory has passed no limit of its own, and no record contradicts its error
    rows = db.rows("select error, max_rss_kb, cpu_ms from stepd.attempts where outcome = 'timeout'")
    for r in rows:
        used = re.search(r"exceeded \(([\d.]+) (MiB in use|s used)", r["error"])
        assert float(used[1]) <= (r["max_rss_kb"] / 1024 + 1 if used[2] == "MiB in use" else r["cpu_ms"] / 1000 + 0.01), r
    (delegated / "memory.max").write_text("90M")
    stepd.write_config(dict(conf, pools={"default": dict(conf["pools"]["default"], maxMemory="1GiB")}))
    stepd.reload()
    a = ended(db, db.enqueue("hog", {"mib": 400, "ms": 60000})[0])
    assert (a["outcome"], a["signal"]) == ("crashed", 9) and "limit" not in a["error"], a
    assert stepd.stop() == 0 and not list(delegated.glob("worker-*"))


def test_input_that_is_too_large_for_its_worker(stepd, db):
    """Claimed, but never read: it must not be held for ever, nor come back for ever; and its neighbours are not touched."""
    stepd.step("hog", HOG)
    pools = {"default": {"processes": 1, "serves": ["queue"], "maxMemory": "16MiB"}}
    stepd.start(config=stepd.config(queues={"hog": {"maxRetries": 1, "retryDelay": 50}}, pools=pools))
    db.execute("select stepd.pause('hog')")
    # one for which libpq has no memory, one that comes through to be copied
    jobs = db.values("select stepd.enqueue_many('hog', jsonb_build_array('{}'::jsonb, jsonb_build_object('data', repeat('x', 34000000)), '{}'::jsonb,"
                     " jsonb_build_object('data', repeat('x', 27000000)), '{}'::jsonb))")
    db.execute("select stepd.resume('hog')")
    for job in jobs[::2]:
        assert db.wait_status(job, "completed", "failed", deadline=30)["status"] == "completed"
    for job in jobs[1::2]:
        assert db.wait_status(job, "failed", "completed", deadline=30)["status"] == "failed"
        assert [a["outcome"] for a in db.attempts(job)] in (["crashed"] * 2, ["timeout"] * 2), db.attempts(job)
    assert db.value("select count(*) from stepd.lease") == 0


LEAK = r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int handle(struct stepd_ctx *ctx)
{
	struct timespec t = {0, 5000000};
	static char *volatile leaked;

	leaked = malloc(20 << 20);
	if (leaked == NULL)
		return stepd_fail(ctx, "no memory");
	memset(leaked, 1, 20 << 20);
	nanosleep(&t, NULL);
	return STEPD_OK;
}
STEPD_STEP(.name = "Leak", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("leak")), .handler = handle);
"""


@pytest.mark.parametrize("limit", ["maxMemory", "maxRss"])
def test_jobs_do_not_pay_for_what_others_leaked(stepd, db, limit):
    """The worker is replaced between two jobs, before the next would pass the limit."""
    stepd.step("leak", LEAK)
    stepd.start(config=stepd.config(pools={"default": {"processes": 1, "serves": ["queue"], limit: "128MiB"}},
                                    queues={"leak": {"maxRetries": 0}}, http={"listen": "off"}))
    db.values("select stepd.enqueue('leak', '{}') from generate_series(1, 40)")
    db.wait_value("select count(*) from stepd.outcome where status = 'completed'", 40, deadline=60)
    assert db.value("select max(n) from (select count(*) as n from stepd.jobs group by pid) x") < 10
    assert db.value("select count(*) from stepd.attempts") == 0
