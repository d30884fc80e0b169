"""Inputs held against their schemas, from outside: jobs, request bodies, queries; steps whose schema is wrong."""

import pytest

STEP = r"""
#include <stepd/step.h>

static const char order[] = STEPD_SCHEMA({
	"type": "object",
	"required": ["email", "lines"],
	"properties": {
		"email": {"type": "string", "pattern": "^[^@]+@[^@]+$"},
		"lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}},
		"note": {"anyOf": [{"type": "string"}, {"type": "null"}]}
	},
	"additionalProperties": false,
	"$defs": {"line": {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer", "minimum": 1}}}}
});
static const char page[] = STEPD_SCHEMA({
	"required": ["page"],
	"properties": {
		"page": {"type": "integer", "minimum": 1},
		"tag": {"type": "array", "items": {"enum": ["a", "b"]}},
		"deep": {"type": "boolean"}
	},
	"additionalProperties": false
});
static const char draft_7[] = STEPD_SCHEMA({
	"$schema": "http://json-schema.org/draft-07/schema#",
	"items": [{"type": "string"}], "additionalItems": false
});

static int handle(struct stepd_ctx *ctx)
{
	stepd_log_info(ctx, "ran");
	if (stepd_state_set(ctx, "ran", stepd_uuid(ctx), stepd_data(ctx)) < 0)
		return STEPD_RETRY;
	return stepd_return(ctx, stepd_data(ctx));
}

STEPD_STEP(.name = "Orders", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_QUEUE("order", .input = order),
	STEPD_QUEUE("seven", .input = draft_7),
	STEPD_QUEUE("free"),
	STEPD_HTTP("POST", "/orders", .body_schema = order),
	STEPD_HTTP("GET", "/list", .query_schema = page),
	STEPD_HTTP("POST", "/later", .body_schema = order, .query_schema = page, .respond = STEPD_ACCEPTED),
	STEPD_HTTP("POST", "/both", .body_schema = order, .query_schema = page)));
"""

GOOD = {"email": "a@b.c", "lines": [{"count": 1}, {"count": 2.0}], "note": None}
BAD = {"email": "nobody", "lines": [{"count": 0}, {}], "note": 7, "more": 1}
WRONG = {  # of BAD: pointer → keyword
    "/email": "pattern",
    "/lines/0/count": "minimum",
    "/lines/1/count": "required",
    "/note": "anyOf",
    "/more": "additionalProperties",
}


@pytest.fixture
def server(stepd):
    stepd.step("orders", STEP)
    stepd.start()
    return stepd


def test_a_job_with_a_wrong_input_never_runs(server, db):
    [bad] = db.enqueue("order", BAD)
    [good] = db.enqueue("order", GOOD)
    [seven] = db.enqueue("seven", ["x", 1])
    [free] = db.enqueue("free", [1, "anything"])
    job = db.wait_status(bad, "failed")
    assert job["attempt"] == 1 and job["error"].startswith("invalid input: ")
    assert all(pointer in job["error"] for pointer in WRONG)
    [attempt] = db.attempts(bad)
    assert attempt["outcome"] == "invalid_input" and attempt["error"] == job["error"]
    assert db.logs(bad) == []
    assert db.wait_status(seven, "failed")["error"] == "invalid input: /1 is not allowed here"
    assert db.wait_status(good, "completed")["output"] == GOOD
    db.wait_status(free, "completed")
    assert db.value("select count(*) from stepd.state where group_id = 'ran'") == 2


def violations(reply):
    assert reply.status == 400 and reply.json["error"]["code"] == "validation_failed", reply
    return {(v["in"], v["pointer"]): v["keyword"] for v in reply.json["error"]["details"]}


def test_a_request_is_told_every_violation(server, db):
    reply = server.post("/orders", BAD)
    assert violations(reply) == {("body", pointer): keyword for pointer, keyword in WRONG.items()}
    assert all(v["message"] for v in reply.json["error"]["details"])
    assert violations(server.post("/orders", [])) == {("body", ""): "type"}
    assert violations(server.post("/orders", None)) == {("body", ""): "type"}
    many = violations(server.post("/orders", {"email": "a@b.c", "lines": [{}] * 1000}))
    assert len(many) == 32 and many["body", "/lines/31/count"] == "required"
    assert db.value("select count(*) from stepd.jobs") == 0  # what was refused leaves nothing
    assert server.post("/orders", GOOD).json == GOOD
    assert db.value("select count(*) from stepd.jobs where status = 'completed'") == 1


def test_what_becomes_a_job_is_checked_before(server, db):
    assert violations(server.post("/later?page=0", BAD)) == {
        ("query", "/page"): "minimum", **{("body", pointer): keyword for pointer, keyword in WRONG.items()}}
    assert violations(server.post("/later?page=1")) == {("body", ""): "type"}
    assert db.value("select count(*) from stepd.jobs") == 0
    job = server.post("/later?page=1", GOOD).json["jobId"]
    assert db.wait_status(job, "completed")["input"] == GOOD


def test_a_query_is_read_as_its_schema_says(server):
    assert server.get("/list?page=3&tag=a&deep=true").status == 200
    assert server.get("/list?page=3&tag=a&tag=b").status == 200
    assert violations(server.get("/list")) == {("query", "/page"): "required"}
    assert violations(server.get("/list?page=x&tag=a&tag=c&deep=1&z=")) == {
        ("query", "/page"): "type",
        ("query", "/tag/1"): "enum",
        ("query", "/deep"): "type",
        ("query", "/z"): "additionalProperties",
    }
    both = violations(server.post("/both?page=0", {"email": "a@b.c"}))
    assert both == {("body", "/lines"): "required", ("query", "/page"): "minimum"}


def test_a_step_with_a_wrong_schema_is_refused(stepd):
    stepd.step("orders", STEP)
    stepd.step("wrong", r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Wrong", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_QUEUE("wrong",
	.input = STEPD_SCHEMA({"properties": {"a": {"type": "strnig"}}}))));
""")
    assert stepd.run("--check") == 78
    stepd.wait_log(r"\.wrong\.c:\d+:1: the schema \.input: /properties/a/type: must be one of .*/wrong\.so\)$")


MOVED = r"""
#include <stepd/step.h>
static int moved(struct stepd_ctx *ctx) { return stepd_return(ctx, stepd_own(ctx, cJSON_CreateNumber(stepd_trigger_index(ctx)))); }
STEPD_STEP(.name = "Moved", .handler = moved, .triggers = STEPD_TRIGGERS(%s));
"""
TRIGGER = r"""STEPD_QUEUE("%s", .input = "{\"required\":[\"%s\"],\"type\":\"object\"}")"""


def test_a_job_is_held_against_the_schema_of_its_own_topic_though_the_triggers_were_reordered(stepd, db):
    """Before the change the topic was the first trigger; then it is the second; then the step has it no more."""
    stepd.step("moved", MOVED % TRIGGER % ("one", "a"))
    stepd.start(config=stepd.config(queues={"one": {"maxRetries": 0}}))
    db.execute("select stepd.pause('one')")
    (good,), (bad,), (rest,) = (db.enqueue("one", data) for data in ({"a": 1}, {"b": 1}, {}))
    stepd.step("moved", MOVED % ", ".join([TRIGGER % ("two", "b"), TRIGGER % ("one", "a")]))
    stepd.reload()
    db.execute("select stepd.cancel(%s), stepd.resume('one')", rest)
    assert db.wait_status(good, "completed", "failed")["output"] == 1
    assert "/a is required" in db.wait_status(bad, "completed", "failed")["error"]
    stepd.step("moved", MOVED % TRIGGER % ("two", "b"))
    stepd.reload()
    db.execute("select stepd.retry(%s)", rest)
    assert db.wait_status(rest, "completed", "failed")["output"] == -1
