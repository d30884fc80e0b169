"""`respond: accepted`: requests that become jobs, committed before the client hears of it."""

import concurrent.futures
import contextlib
import http.client
import threading
import time

import harness
import pytest
from harness import SLOW, running, wait_for

TAKE = r"""
#include <stepd/step.h>
#include <string.h>

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *data = stepd_data(ctx);
	size_t len;

	if (stepd_get_bool(data, "fail", false) && stepd_attempt(ctx) == 1)
		return stepd_retry(ctx, "not yet");
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_str("trigger", stepd_trigger_name(ctx)),
		stepd_str("queue", stepd_queue(ctx)), stepd_str("method", stepd_method(ctx)),
		stepd_bool("raw", stepd_raw_body(ctx, &len) != NULL), stepd_json("n", stepd_get(data, "n"))));
}

static const char order[] = STEPD_SCHEMA({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
static const char page[] = STEPD_SCHEMA({"properties": {"page": {"type": "integer"}}});

STEPD_STEP(.name = "Take", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_HTTP("POST", "/orders", .body_schema = order, .query_schema = page, .respond = STEPD_ACCEPTED),
	STEPD_HTTP("POST", "/take", .respond = STEPD_ACCEPTED), STEPD_HTTP("GET", "/sync")));
"""


def start(stepd):
    stepd.step("take", TAKE)
    pools = {"default": {"processes": 1, "serves": ["queue"]}, "web": {"processes": 1, "serves": ["http"]}}
    stepd.start(config=stepd.config(pools=pools, queues={"Take": {"retryDelay": 10}}))
    return stepd


@pytest.fixture
def server(stepd):
    return start(stepd)


def test_body_becomes_a_job(server, db):
    trace = "0af76519-16cd-43dd-8448-eb211c80319c"
    reply = server.post("/take", {"n": 1.5}, headers={"traceparent": f"00-{trace.replace('-', '')}-b7ad6b7169203331-01"})
    assert reply.status == 202 and set(reply.json) == {"jobId"} and reply.headers["x-trace-id"] == trace
    job = db.wait_status(reply.json["jobId"], "completed")
    assert (job["trigger"], job["queue"], job["step"], str(job["trace_id"])) == ("http", "Take", "Take", trace)
    assert job["input"] == {"n": 1.5}
    assert job["output"] == {"trigger": "http", "queue": "Take", "method": None, "raw": False, "n": 1.5}
    again = db.wait_status(server.post("/take", {"fail": True, "n": 2}).json["jobId"], "completed")
    assert again["attempt"] == 2 and server.get("/sync").status == 200
    assert db.wait_status(server.post("/take").json["jobId"], "completed")["input"] is None


def test_what_is_no_json_is_refused(server, db):
    for body, type, status in [(b"{", "application/json", 400), (b"{}", "application/octet-stream", 415), (b'"\\u0000"', "application/json", 400)]:
        assert server.request("POST", "/take", body, headers={"content-type": type}).status == status
    assert server.post("/take", {}, headers={"idempotency-key": "x" * 256}).status == 400
    twice = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10 * SLOW)
    twice.putrequest("POST", "/take")
    for name, value in [("Content-Length", "0"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]:
        twice.putheader(name, value)
    twice.endheaders()
    reply = twice.getresponse()
    assert reply.status == 400 and b"bad_idempotency_key" in reply.read()
    twice.close()
    assert db.value("select count(*) from stepd.jobs") == 0


def test_schemas_are_held_against_it_first(server, db):
    for path, body, told in [("/orders", {"n": "x"}, [("body", "/n")]), ("/orders", None, [("body", "")]), ("/orders", {}, [("body", "/n")]),
                             ("/orders?page=x", {"n": True}, [("body", "/n"), ("query", "/page")])]:
        reply = server.post(path, body)
        assert (reply.status, reply.json["error"]["code"]) == (400, "validation_failed")
        assert [(d["in"], d["pointer"]) for d in reply.json["error"]["details"]] == told
    assert db.value("select count(*) from stepd.jobs") == 0
    job = db.wait_status(server.post("/orders?page=2", {"n": 7}).json["jobId"], "completed")
    assert job["output"]["n"] == 7
    form = server.request("POST", "/orders", b"n=8&more=x&more=y", headers={"content-type": "application/x-www-form-urlencoded"})
    job = db.wait_status(form.json["jobId"], "completed")
    assert job["input"] == {"n": 8, "more": ["x", "y"]} and job["output"]["n"] == 8
    text = server.request("POST", "/take", "\u00e4".encode(), headers={"content-type": "text/plain"})
    assert db.wait_status(text.json["jobId"], "completed")["input"] == "\u00e4"


def test_idempotency_key_gives_the_first_job(server, db):
    key = {"idempotency-key": "order-1"}
    first = server.post("/take", {"n": 1}, headers=key).json["jobId"]
    db.wait_status(first, "completed")
    assert server.post("/take", {"n": 1}, headers=key).json["jobId"] == first
    other = server.post("/take", {"n": 2}, headers=key)
    assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert server.post("/take", {"n": 1}).json["jobId"] != first
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda i: server.post("/take", {"n": 3}, headers={"idempotency-key": f"k{i % 4}"}).json["jobId"], range(40)))
    assert [len(set(replies[i::4])) for i in range(4)] == [1] * 4 and len(set(replies)) == 4
    assert db.value("select count(*) from stepd.jobs") == 6


def test_a_commit_that_waits_holds_up_no_other(server, db):
    """There are two connections: a request whose key somebody else is about to take waits alone."""
    db.wait_value("select count(*) from pg_stat_activity where application_name = 'stepd http' and datname = current_database()", 2)
    with contextlib.closing(db.connect(autocommit=False)) as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        other.cursor().execute("insert into stepd.accepted_key (step, key, digest) values ('Take', 'held', '')")
        held = pool.submit(server.post, "/take", {"n": 1}, headers={"idempotency-key": "held"})
        db.wait_value("select count(*) from pg_stat_activity where application_name = 'stepd http' and wait_event_type = 'Lock'", 1)
        assert [server.post("/take", {"n": i}).status for i in range(20)] == [202] * 20 and not held.done()
        other.rollback()
        assert held.result().status == 202
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 21)


def test_a_body_the_database_refuses_harms_no_other(server, db):
    def post(i):
        return server.request("POST", "/take", b"1e999999" if i % 7 == 3 else b'{"n": %d}' % i, headers={"content-type": "application/json"})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(post, range(100)))
    assert all(r.status == (422 if i % 7 == 3 else 202) for i, r in enumerate(replies)), [r.status for r in replies]
    for i, r in enumerate(replies):
        if r.status == 202:
            assert db.job(r.json["jobId"])["input"] == {"n": i}


def test_every_202_is_a_job_whatever_happens(server, db):
    """Reloads and lost connections under load: only 202 and 503, and each 202 has its completed job."""
    replies, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            r = server.post("/take", {"n": 1})
            replies.append((r.status, r.json.get("jobId")))

    with running(4, ask, stop):
        for _ in range(2):
            before = len(replies)
            server.reload()
            wait_for(lambda: len(replies) > before + 20)
        assert {s for s, _ in replies} == {202}, "a reload refuses nobody"
        for _ in range(2):
            before = len(replies)
            db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stepd http'")
            wait_for(lambda: [s for s, _ in replies[before:]].count(202) > 20)
    assert {s for s, _ in replies} <= {202, 503}
    jobs = [j for s, j in replies if s == 202]
    assert len(set(jobs)) == len(jobs)
    db.wait_value("select count(*) from stepd.jobs where status = 'completed' and id = any(%s)", len(jobs), jobs)


def test_database_away(own_pg, make_stepd):
    db = harness.Database(own_pg.conninfo)
    server = start(make_stepd(db, name="away"))
    assert server.post("/take", {}).status == 202
    db.close()
    own_pg.stop("immediate")
    reply = wait_for(lambda: (r := server.post("/take", {})).status == 503 and r)

    def refused():
        began = time.monotonic()
        reply = server.post("/take", {})
        assert (reply.status, reply.json["error"]["code"], reply.headers["retry-after"]) == (503, "database_unavailable", "1")
        return time.monotonic() - began

    harness.in_time(refused, 1)
    own_pg.start()
    wait_for(lambda: server.post("/take", {}).status == 202, 20)
