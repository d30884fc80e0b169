"""Requests without pause while configuration, workers and PostgreSQL change under them.

Allowed are 2xx, one 502 for each web worker killed in the middle of a request, and 503 while the database is away.
Every 202 has its completed job in the end, once.  STEPD_STORM_SECONDS (20) says for how long.
"""

import asyncio
import collections
import json
import os
import random
import signal
import time

import harness
import pytest
from harness import SLOW, wait_for

SECONDS = float(os.environ.get("STEPD_STORM_SECONDS", "20"))

STEPS = {
    "quick": r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <unistd.h>
static int handle(struct stepd_ctx *ctx)
{
	const char *us = stepd_query(ctx, "us");
	if (us)
		usleep((unsigned)atoi(us));
	return stepd_reply_raw(ctx, 200, "text/plain", "ok", 2);
}
STEPD_STEP(.name = "Quick", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/quick")));
""",
    "order": r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Order", .handler = handle,
	   .triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/order", .respond = STEPD_ACCEPTED)));
""",
}


class Storm:
    def __init__(self, port):
        self.port, self.end = port, time.monotonic() + SECONDS
        self.counts = collections.Counter()
        self.answers = []  # (when, kind, status, code) of all that is not 2xx
        self.jobs = []
        self.slowest = 0

    async def reply(self, reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length), "connection: close" not in head

    async def client(self, kind, number):
        """One request after the other on one connection, a new one when the server says that it closes."""
        connection, n = None, 0
        while time.monotonic() < self.end:
            n += 1
            if kind == "job":
                body = json.dumps({"client": number, "n": n})
                request = f"POST /order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            else:
                request = f"GET /quick{'?us=20000' if kind == 'slow' else ''} HTTP/1.1\r\nHost: x\r\n\r\n"
            began = time.monotonic()
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                connection[1].write(request.encode())
                status, body, stays = await asyncio.wait_for(self.reply(connection[0]), 30 * SLOW)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
                status, body, stays = type(e).__name__, b"", False
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.counts[kind, status] += 1
            if status == 202:
                self.jobs.append(json.loads(body)["jobId"])
            elif status != 200:
                code = json.loads(body)["error"]["code"] if body else None
                self.answers.append((time.monotonic(), kind, status, code))
                await asyncio.sleep(0.05)  # as Retry-After has it, only sooner
            if not stays:
                if connection:
                    connection[1].close()
                connection = None
        if connection:
            connection[1].close()

    async def run(self, trouble):
        clients = [self.client(kind, i) for kind, n in (("quick", 8), ("slow", 8), ("job", 16)) for i in range(n)]
        await asyncio.gather(asyncio.to_thread(trouble), *clients)


@pytest.mark.slow
def test_storm(own_pg, make_stepd):
    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db)
    for name, source in STEPS.items():
        stepd.step(name, source)
    pools = {"default": {"processes": 2, "serves": ["queue"]}, "web": {"processes": 4, "serves": ["http"]}}
    stepd.start(config=stepd.config(pools=pools, logging={"level": "info"}))
    storm, done, away = Storm(stepd.http_port), collections.Counter(), []
    quiet = random.Random(7)

    def kill(pattern):
        victims = stepd.procs(pattern)
        if victims:
            quiet.choice(victims).kill(signal.SIGKILL)

    def restart():
        began = time.monotonic()
        own_pg.restart()
        wait_for(lambda: stepd.get("/ready", port=stepd.admin_port).status == 200, 30, "ready again")
        # one kind of worker may be back later than another
        away.append((began, time.monotonic() + 3 * SLOW))

    troubles = {"web worker killed": lambda: kill("stepd: web "), "reload": stepd.reload, "worker killed": lambda: kill("stepd: worker "),
                "PostgreSQL restarted": restart}

    def trouble():
        while time.monotonic() < storm.end - 3:
            for name, make in troubles.items():
                if time.monotonic() > storm.end - 3:
                    break
                time.sleep(quiet.uniform(0.2, 0.8))  # any moment is as good
                make()
                done[name] += 1

    asyncio.run(storm.run(trouble))
    ended = time.monotonic()
    print(f"\n{SECONDS:g} s: {dict(storm.counts)}; {dict(done)}; slowest {storm.slowest:.3f} s; away {[round(b - a, 1) for a, b in away]}")
    assert min(done.get(name, 0) for name in troubles) >= 1, done
    wrong = [a for a in storm.answers if a[2] not in (502, 503)]
    assert not wrong, wrong[:20]
    died = [a for a in storm.answers if a[2] == 502]
    assert len(died) <= done["web worker killed"] and all(a[1] != "job" and a[3] == "worker_died" for a in died), died
    late = [a for a in storm.answers if a[2] == 503 and not any(begin <= a[0] <= end for begin, end in away)]
    assert not late, (late[:20], away)
    assert all(a[3] == "database_unavailable" for a in storm.answers if a[2] == 503), storm.answers[:20]
    assert storm.slowest < 15 * SLOW
    assert len(set(storm.jobs)) == len(storm.jobs) > 0
    unfinished = "select id, status, attempt, node, pid, run_at, error from stepd.jobs where step = 'Order' and status <> 'completed' order by id limit 20"
    wait_for(lambda: not db.rows(unfinished), 60, lambda: f"every job completed; {db.rows(unfinished)}")
    print(f"every job completed {time.monotonic() - ended:.1f} s later")
    kept = set(db.values("select id from stepd.jobs where step = 'Order'"))
    assert kept >= set(storm.jobs), f"{len(set(storm.jobs) - kept)} answered with 202 are no jobs"
    # a 503 with "not known" may have been stored, a 202 never twice
    twice = db.value("select count(*) from (select input from stepd.jobs where step = 'Order' group by input having count(*) > 1) x")
    assert twice == 0
