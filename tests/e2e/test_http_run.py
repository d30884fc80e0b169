"""HTTP triggers: effects and their commit, and every way a request can fail behind the router."""

import concurrent.futures
import contextlib
import os
import pwd
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import SLOW, running, wait_for

WORK = r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int handle(struct stepd_ctx *ctx)
{
	const char *what = stepd_param(ctx, "what");
	const cJSON *data = stepd_data(ctx);
	cJSON *got;

	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "loop"))
		for (;;)
			pause();
	if (!strcmp(what, "sleep"))
		usleep((useconds_t)(stepd_get_num(data, "ms", 100) * 1000));
	if (!strcmp(what, "fail")) {
		stepd_state_set(ctx, "work", "failed", data);
		stepd_enqueue(ctx, "later", data);
		return stepd_fail(ctx, "the secret reason");
	}
	if (!strcmp(what, "snooze"))
		return stepd_snooze(ctx, 5000);
	if (!strcmp(what, "effects")) {
		stepd_state_set(ctx, "work", stepd_get_str(data, "key"), data);
		stepd_log_info(ctx, "working", stepd_str("key", stepd_get_str(data, "key")));
		stepd_enqueue(ctx, "later", data);
	}
	if (!strcmp(what, "read")) {
		if (stepd_state_get(ctx, "work", stepd_get_str(data, "key"), &got) < 0)
			return STEPD_RETRY;
		return stepd_reply(ctx, 200, got);
	}
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_int("pid", getpid())));
}

STEPD_STEP(.name = "Work", .handler = handle, .enqueues = STEPD_LIST("later"),
	.triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/:what"), STEPD_HTTP("GET", "/:what")));
"""

LATER = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Later", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_QUEUE("later")));
"""


def start(stepd, web=2, **http):
    stepd.step("work", WORK)
    stepd.step("later", LATER)
    pools = {"default": {"processes": 1, "serves": ["queue"]}, "web": {"processes": web, "serves": ["http"]}}
    stepd.start(config=stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", **http}, pools=pools))
    return stepd


@pytest.fixture
def server(stepd):
    return start(stepd)


def code(reply):
    return reply.status, reply.json["error"]["code"]


def in_parallel(n, function, *args):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return [f.result() for f in [pool.submit(function, *args) for _ in range(n)]]


def test_effects_are_committed_before_the_reply(server, db):
    reply = server.post("/effects", {"key": "a", "n": 12345678901234567890})
    assert reply.status == 200
    job = db.row("select * from stepd.jobs where step = 'Work'")
    assert job["trigger"] == "http" and job["status"] == "completed" and str(job["trace_id"]) == reply.headers["x-trace-id"]
    assert db.value("select value ->> 'n' from stepd.state where group_id = 'work' and key = 'a'") == "12345678901234567890"
    assert db.value("select message from stepd.logs where job_id = %s", job["id"]) == "working"
    child = db.row("select * from stepd.jobs where step = 'Later'")
    assert child["parent_id"] == job["id"] and child["trace_id"] == job["trace_id"]
    db.wait_status(child["id"], "completed")
    assert server.post("/read", {"key": "a"}).json["key"] == "a"


def test_refused_effects_keep_what_was_said(server, db):
    db.execute("alter table stepd.state add check (key <> 'forbidden')")
    reply = server.post("/effects", {"key": "forbidden"})
    assert code(reply) == (500, "handler_error")
    [job] = db.rows("select id, status, error from stepd.jobs where trigger = 'http'")
    assert job["status"] == "failed" and "(SQLSTATE 23514)" in job["error"] and job["error"].count("(error id ") == 1, job
    assert db.values("select message from stepd.logs where job_id = %s", job["id"]) == ["working"]
    assert db.values("select 1 from stepd.jobs where queue = 'later'") == []
    db.execute("alter table stepd.log add check (message <> 'working') not valid")
    assert code(server.post("/effects", {"key": "forbidden"})) == (500, "handler_error")
    error = db.value("select error from stepd.jobs where trigger = 'http' order by id desc limit 1")
    assert re.fullmatch(r"the database refused the effects of this attempt, and what it said \(error id \S+\)", error), error


def test_without_effects_nothing_is_stored(server, db):
    for _ in range(20):
        assert server.get("/plain").status == 200
    assert db.value("select count(*) from stepd.jobs") == 0


def test_handler_error(server, db):
    reply = server.post("/fail", {"key": "x"})
    assert code(reply) == (500, "handler_error") and b"secret" not in reply.body
    error_id = reply.json["error"]["details"][0]["errorId"]
    job = db.row("select * from stepd.jobs where step = 'Work'")
    assert job["status"] == "failed" and error_id in job["error"] and "the secret reason" in job["error"]
    server.wait_log(error_id)
    assert db.value("select count(*) from stepd.state where key = 'failed'") == 1  # states of an error stay
    assert db.value("select count(*) from stepd.jobs where step = 'Later'") == 0  # its enqueues do not
    reply = server.get("/snooze")
    assert code(reply) == (503, "not_now") and reply.headers["retry-after"] == "6"


def test_crash_costs_one_request(server):
    """abort() answers its own request with 502; all others, also those sent at the same moment, get 200."""
    stop, bad = threading.Event(), []

    def others():
        while not stop.is_set():
            r = server.get("/plain")
            if r.status != 200:
                bad.append(r)

    with running(4, others, stop):
        for _ in range(5):
            r = server.get("/abort")
            assert code(r) == (502, "worker_died")
            server.child("stepd: web")
    assert bad == []


def test_crash_is_recorded(stepd, db):
    """A worker's death is a job with its attempt: signal, memory, input, and the error id that the client got."""
    server = start(stepd, web=1)
    trace = "0af76519-16cd-43dd-8448-eb211c80319c"
    reply = server.post("/abort", {"n": 1}, headers={"traceparent": f"00-{trace.replace('-', '')}-b7ad6b7169203331-01"})
    error_id = reply.json["error"]["details"][0]["errorId"]
    assert code(reply) == (502, "worker_died")
    server.wait_log(error_id)
    db.wait_value("select count(*) from stepd.jobs", 1)
    job = db.row("select * from stepd.jobs")
    assert (job["status"], job["trigger"], job["step"], job["input"], str(job["trace_id"])) == ("failed", "http", "Work", {"n": 1}, trace)
    assert job["error"] == f"the worker was killed by signal 6 (SIGABRT) (error id {error_id})"
    [attempt] = db.attempts(job["id"])
    assert (attempt["outcome"], attempt["signal"], attempt["exit_code"]) == ("crashed", 6, None) and attempt["max_rss_kb"] > 0
    # Its client gone, the database away at the moment: recorded all the same, once.
    wait_for(lambda: server.get("/plain").status == 200)
    slow = threading.Thread(target=lambda: server.post("/sleep", {"ms": 60000}))
    slow.start()
    wait_for(lambda: server.procs("stepd: web") and serving(server, db))
    db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stepd http'")
    server.child("stepd: web").kill()
    slow.join()
    db.wait_value("select count(*) from stepd.attempts where signal = 9 and outcome = 'crashed'", 1)
    assert db.value("select count(*) from stepd.jobs") == 2
    # The connection is cut while the record is under way: whether it was stored is not known then.
    wait_for(lambda: server.get("/plain").status == 200)
    with contextlib.closing(db.connect(autocommit=False)) as other:
        other.cursor().execute("lock table stepd.attempt in exclusive mode")
        assert code(server.post("/abort", {"n": 3})) == (502, "worker_died")
        cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stepd http' and wait_event_type = 'Lock'"
        db.wait_value(f"select count(*) from ({cut}) x", 1)
        other.rollback()
    db.wait_value("select count(*) from stepd.attempts where signal is not null and outcome = 'crashed'", 3)
    assert db.value("select count(*) from stepd.jobs") == 3


def serving(server, db):
    """Its one web worker runs a request: another is not answered at once."""
    try:
        server.get("/plain", timeout=0.3)
        return False
    except OSError:
        return True


def test_timeout(stepd, db):
    server = start(stepd, web=1, timeout="1s")
    before = server.child("stepd: web").pid
    began = time.monotonic()
    reply = server.get("/loop")
    assert code(reply) == (504, "timeout")
    assert time.monotonic() - began < 2 * SLOW
    error_id = reply.json["error"]["details"][0]["errorId"]
    server.wait_log(f"did not finish in time.*error_id={error_id}")
    db.wait_value("select count(*) from stepd.jobs where status = 'failed' and trigger = 'http' "
                  f"and error like 'timed out after 1___ ms (error id {error_id})'", 1)
    assert db.value("select outcome from stepd.attempts") == "timeout"
    wait_for(lambda: [p for p in server.procs("stepd: web") if p.pid != before], 20, "the worker was replaced")
    assert wait_for(lambda: (r := server.get("/plain")).status == 200 and r).json["pid"] != before


def test_slow_requests_run_in_parallel(server):
    """Nobody waits behind a slow request while another worker is idle."""
    for _ in range(50):
        server.get("/plain")
    slow = threading.Thread(target=lambda: server.post("/sleep", {"ms": 2000}))
    slow.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert all(r.status == 200 for r in in_parallel(8, server.get, "/plain"))
    assert time.monotonic() - began < 1.5 * SLOW
    slow.join()


def test_saturation(stepd):
    server = start(stepd, web=1, maxInFlight=4)
    replies = in_parallel(12, server.post, "/sleep", {"ms": 300})
    assert {r.status for r in replies} == {200, 503}
    refused = [r for r in replies if r.status == 503]
    assert len(refused) >= 6 and all(r.headers["retry-after"] and code(r) == (503, "saturated") for r in refused)
    assert server.get("/plain").status == 200


def test_workers_are_replaced_and_killed_under_load(stepd):
    """maxJobs replaces workers without a lost request; kill -9 costs at most the request its worker had begun."""
    stepd.step("work", WORK)
    stepd.step("later", LATER)
    web = {"processes": 2, "serves": ["http"], "maxJobs": 150}
    server = stepd.start(config=stepd.config(pools={"web": web}))
    before = {p.pid for p in server.procs("stepd: web")}

    def load():
        return [server.get("/plain").status for _ in range(400)]

    assert {status for statuses in in_parallel(4, load) for status in statuses} == {200}
    wait_for(lambda: before - {p.pid for p in server.procs("stepd: web")}, 20, "a worker was replaced")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        kills = 0
        while not all(f.done() for f in loads) and kills < 5:
            victims = server.procs("stepd: web")
            if victims:
                victims[0].kill()
                kills += 1
            time.sleep(0.1)
        statuses = [status for f in loads for status in f.result()]
    assert set(statuses) <= {200, 502} and statuses.count(502) <= kills


def test_clients_that_leave(server, db):
    """Reset while the request runs: its effects are stored all the same, and nothing breaks."""
    import socket
    import struct

    for i in range(20):
        s = socket.create_connection(("127.0.0.1", server.http_port))
        body = b'{"ms": 200}' if i % 2 else b'{"key": "k%d"}' % i
        path = b"/sleep" if i % 2 else b"/effects"
        s.sendall(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    wait_for(lambda: server.get("/plain").status == 200)
    http = server.child("stepd: http").pid
    db.wait_value("select count(*) > 0 from stepd.state", True)
    assert server.child("stepd: http").pid == http


def test_large_bodies(stepd, db):
    server = start(stepd, bodyLimit="64MiB")
    body = b'{"key": "big", "text": "' + b"x" * (4 << 20) + b'"}'
    reply = server.post("/effects", body, headers={"Content-Type": "application/json"}, timeout=60)
    assert reply.status == 200
    assert db.value("select length(value ->> 'text') from stepd.state where key = 'big'") == 4 << 20
    assert len(server.post("/read", {"key": "big"}, timeout=60).body) > 4 << 20


def test_database_away(own_pg, make_stepd):
    import harness

    db = harness.Database(own_pg.conninfo)
    server = start(make_stepd(db, name="away"))
    assert server.post("/effects", {"key": "a"}).status == 200
    db.close()
    own_pg.stop("immediate")
    reply = wait_for(lambda: (r := server.post("/effects", {"key": "b"})).status == 503 and r)
    assert reply.headers["retry-after"]

    def refused():
        began = time.monotonic()
        assert code(server.post("/effects", {"key": "c"})) == (503, "database_unavailable")
        return time.monotonic() - began

    harness.in_time(refused, 1)
    assert server.get("/health", port=server.admin_port).status == 200
    assert server.get("/ready", port=server.admin_port).status == 503
    own_pg.start()
    wait_for(lambda: server.post("/effects", {"key": "d"}).status == 200, 20)
    assert server.get("/ready", port=server.admin_port).status == 200


def test_http_process_killed(server):
    """kill -9 of the http process: its connections break, new ones are served by the next, the web workers stay."""
    workers = {p.pid for p in server.procs("stepd: web")}
    for _ in range(3):
        http = server.child("stepd: http")
        os.kill(http.pid, signal.SIGKILL)
        wait_for(lambda: not http.alive)
        assert wait_for(lambda: answers(server), 10)
    assert {p.pid for p in server.procs("stepd: web")} == workers


def answers(server):
    try:
        return server.get("/plain", timeout=5).status == 200
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_strangers_at_the_workers_socket(server):
    """Its address is in /proc/net/unix for all to see: who is none of ours is shown the door, and fills no log."""
    fds = Path(f"/proc/{server.child('^stepd: http').pid}/fd")
    ours = {os.readlink(f).strip("socket:[]") for f in fds.iterdir()}
    [address] = {line[7] for line in map(str.split, open("/proc/net/unix")) if len(line) == 8 and line[6] in ours and line[3] == "00010000"}
    knock = ("import socket, sys\nfor _ in range(300):\n s = socket.socket(socket.AF_UNIX)\n s.connect(sys.argv[1].replace('@', chr(0)))\n"
             " assert s.recv(1) == b''\n")
    subprocess.run(["/usr/bin/python3", "-c", knock, address], user="nobody", group="nogroup", check=True, timeout=30)
    assert server.post("/x", {}).status == 200
    assert server.log().count("connected to the web workers' socket; refused") == 1
    assert f"of user {pwd.getpwnam('nobody').pw_uid} connected" in server.log()


def test_reload_and_stop_lose_nothing(server):
    """Requests on fresh connections through two reloads and a stop: all are answered, until nobody listens."""
    stop, bad, good = threading.Event(), [], [0]

    def load():
        while not stop.is_set():
            try:
                r = server.post("/sleep", {"ms": 5})
                if r.status == 200:
                    good[0] += 1
                else:
                    bad.append(r)
            except ConnectionRefusedError:
                return
            except OSError as e:
                bad.append(e)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for t in threads:
        t.start()
    try:
        for _ in range(2):
            server.reload()
            wait_for(lambda n=good[0]: good[0] > n + 50)
        slow = []
        t = threading.Thread(target=lambda: slow.append(server.post("/sleep", {"ms": 1000}).status))
        t.start()
        time.sleep(0.2)
    finally:
        if bad:
            stop.set()
    assert server.stop() == 0
    t.join()
    stop.set()
    for t in threads:
        t.join()
    assert slow == [200]
    refused = [b for b in bad if isinstance(b, Exception)]
    assert [b for b in bad if b not in refused] == [] and len(refused) <= 6, bad  # those the stop caught while connecting


def test_keep_alive_through_reloads(server):
    """Connections kept open are told of their end in a reply; none is cut off between two requests."""
    import http.client

    stop, bad, counts = threading.Event(), [], []

    def load():
        n, conn = 0, None
        try:
            while not stop.is_set():
                conn = conn or http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
                conn.request("GET", "/plain")
                r = conn.getresponse()
                assert r.status == 200 and r.read()
                n += 1
                if r.will_close:
                    conn = None
        except Exception as e:
            bad.append(e)
        counts.append(n)

    with running(8, load, stop):
        for _ in range(4):
            server.reload()
    assert bad == [] and all(counts)


FAR = r"""
#include <stepd/step.h>

static int handle(struct stepd_ctx *ctx)
{
	if (stepd_state_set_text(ctx, "far", "called", "true") < 0)
		return STEPD_RETRY;
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_bool("ok", true)));
}

STEPD_STEP(.name = "Far", .triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/far")), .handler = handle);
"""


def test_body_that_the_database_does_not_take(stepd, db):
    """A number is beyond what PostgreSQL can hold: the handler is not to blame, its effects count, and the run is recorded."""
    stepd.step("far", FAR)
    stepd.start()
    r = stepd.post("/far", b'{"n": 1e999999}', headers={"Content-Type": "application/json"})
    assert r.status == 200
    assert db.state("far", "called") is True
    [job] = db.rows("select status, input from stepd.jobs where trigger = 'http'")
    assert job == {"status": "completed", "input": None}
    stepd.wait_log("does not take the body of a request, which is recorded without")
