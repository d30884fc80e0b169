"""What became of an accepted request: the address in its 202, and Prefer: wait."""

import concurrent.futures
import re
import time

import harness
from harness import SLOW, wait_for

TAKE = r"""
#include <stepd/step.h>
#include <unistd.h>

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *data = stepd_data(ctx);

	usleep((useconds_t)(stepd_get_num(data, "ms", 0) * 1000));
	if (stepd_get_bool(data, "fail", false))
		return stepd_fail(ctx, "the secret reason");
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_json("n", stepd_get(data, "n"))));
}

STEPD_STEP(.name = "Take", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_HTTP("POST", "/take", .respond = STEPD_ACCEPTED), STEPD_HTTP("GET", "/_jobs/:own"), STEPD_QUEUE("take")));
"""


def start(stepd, **http):
    stepd.step("take", TAKE)
    pools = {"default": {"processes": 2, "serves": ["queue"]}, "web": {"processes": 1, "serves": ["http"]}}
    config = stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", **http}, pools=pools, queues={"Take": {"maxRetries": 1}})
    stepd.start(config=config)
    return stepd


def prefer(server, body, wait, **headers):
    return server.post("/take", body, headers={"prefer": f"wait={wait}", **headers}, timeout=30 * SLOW)


def test_address(stepd, db):
    """It tells the status while the job runs and afterwards, and nothing else; nobody can guess another's."""
    server = start(stepd)
    reply = server.post("/take", {"n": 1, "ms": 300})
    where, job = reply.headers["location"], reply.json["jobId"]
    assert reply.status == 202 and re.fullmatch("/_jobs/[0-9a-f]{32}", where)
    now = server.get(where)
    assert now.status == 200 and now.json["jobId"] == job and now.json["status"] in ("ready", "running")
    assert set(now.json) <= {"jobId", "status", "attempt", "maxAttempts", "enqueuedAt", "startedAt"}
    db.wait_status(job, "completed")
    now = server.get(where)
    assert now.headers["content-type"] == "application/json" and now.headers["cache-control"] == "no-store"
    told = now.json
    at = {name: told.pop(name) for name in ("enqueuedAt", "startedAt", "finishedAt")}
    assert told == {"jobId": job, "status": "completed", "attempt": 1, "maxAttempts": 2}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", t) for t in at.values()) and at["startedAt"] < at["finishedAt"]
    head = server.request("HEAD", where)
    assert (head.status, head.body) == (200, b"")
    failed = server.post("/take", {"fail": True})
    assert failed.headers["location"] != where
    db.wait_status(failed.json["jobId"], "failed")
    told = server.get(failed.headers["location"])
    assert told.json["status"] == "failed" and b"secret" not in told.body
    # Not there: another token, another method, a job that is no request's.
    assert server.get("/_jobs/" + "0" * 32).status == 404
    changed = where[:-1] + ("0" if where[-1] != "0" else "1")
    assert server.get(changed).status == 404
    refused = server.request("DELETE", where)
    assert refused.status == 405 and refused.headers["allow"] == "GET, HEAD, OPTIONS"
    assert server.request("OPTIONS", where).status == 204
    assert server.get("/_jobs/mine").status == 200, "a step's own route"
    [other] = db.enqueue("take", {})
    db.wait_status(other, "completed")
    assert db.value("select document from stepd.http_jobs(array[%s], '{f}', false)", other) is None
    # A job that is forgotten is not there.
    db.execute("delete from stepd.outcome where id = %s", job)
    db.execute("delete from stepd.job where id = %s", job)
    assert server.get(where).status == 404


def test_waiting_for_the_end(stepd, db):
    server = start(stepd, jobs="/jobs/of", jobsOutput="on", timeout="5s")
    began = time.monotonic()
    reply = prefer(server, {"n": 7, "ms": 100}, 10)
    assert reply.status == 200 and time.monotonic() - began < 3 * SLOW
    assert reply.json["status"] == "completed" and reply.json["output"] == {"n": 7}
    assert reply.headers["preference-applied"] == "wait=5", "the request's own time is shorter"
    assert server.get(reply.headers["location"]).json == reply.json and reply.headers["location"].startswith("/jobs/of/")
    reply = prefer(server, {"fail": True}, 2)
    assert (reply.status, reply.json["status"], reply.headers["preference-applied"]) == (200, "failed", "wait=2")
    began = time.monotonic()
    reply = prefer(server, {"ms": 2500}, 1)
    assert reply.status == 202 and 0.9 < time.monotonic() - began < 2.4 * SLOW
    assert reply.headers["preference-applied"] == "wait=1" and server.get(reply.headers["location"]).json["status"] == "running"
    assert prefer(server, {}, 0).status == 202 and prefer(server, {}, "x").status == 202
    again = prefer(server, {"n": 1}, 3, **{"idempotency-key": "k"}).json
    assert prefer(server, {"n": 1}, 3, **{"idempotency-key": "k"}).json == again
    assert prefer(server, {"n": 2}, 3, **{"idempotency-key": "k"}).status == 422
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: prefer(server, {"n": i}, 4), range(64)))
    assert [r.json["output"]["n"] for r in replies] == list(range(64))
    # A stop does not wait for those who wait: their jobs are safe.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(prefer, server, {"ms": 3000}, 4)
        db.wait_value("select count(*) from stepd.jobs where status = 'running'", 1)
        server.process.terminate()
        assert waiting.result().status == 202


def test_no_addresses(stepd, db):
    server = start(stepd, jobs="off")
    reply = prefer(server, {"n": 1}, 3)
    assert reply.status == 200 and "location" not in reply.headers and "output" not in reply.json
    assert server.get("/_jobs/" + "0" * 32).status == 200, "the step's"
    db.execute("drop function stepd.http_jobs(bigint[], boolean[], boolean)")
    began = time.monotonic()
    assert prefer(server, {"n": 2}, 1).status == 202, "a database that refuses the question is waited for no longer either"
    assert time.monotonic() - began < 5 * SLOW


def test_database_away(own_pg, make_stepd):
    db = harness.Database(own_pg.conninfo)
    server = start(make_stepd(db, name="away"))
    where = server.post("/take", {}).headers["location"]
    db.close()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(prefer, server, {"ms": 4000}, 2)
        wait_for(lambda: server.get(where).json["status"] == "completed")
        time.sleep(0.2)
        own_pg.stop("immediate")
        assert waiting.result().status == 202, "it is committed, whatever the database does now"
    assert wait_for(lambda: (r := server.get(where)).status == 503 and r).headers["retry-after"]
    own_pg.start()
    wait_for(lambda: server.get(where).status == 200, 20)
