"""Steps in C against the real thing: the calls of <stepd/step.h>, the sample steps, files that are no steps."""

import re

import pytest

# Does what the list in its input says, one call after the other, and returns what the reads gave.
CALLS = r"""
#include <stepd/step.h>
#include <string.h>

static int call(struct stepd_ctx *ctx, const cJSON *c, cJSON *out)
{
	const char *what = stepd_get_str(c, "call"), *group = stepd_get_str(c, "group"), *key = stepd_get_str(c, "key");
	const cJSON *value = stepd_get(c, "value");
	cJSON *got = NULL;
	int rc = 0;

	if (strcmp(what, "get") == 0)
		rc = stepd_state_get(ctx, group, key, &got);
	else if (strcmp(what, "list") == 0)
		rc = stepd_state_list(ctx, group, &got);
	else if (strcmp(what, "groups") == 0)
		rc = stepd_state_groups(ctx, &got);
	else if (strcmp(what, "set") == 0)
		return stepd_state_set(ctx, group, key, value);
	else if (strcmp(what, "swap") == 0)
		rc = stepd_state_swap(ctx, group, key, value, &got);
	else if (strcmp(what, "delete") == 0)
		return stepd_state_delete(ctx, group, key);
	else if (strcmp(what, "clear") == 0)
		return stepd_state_clear(ctx, group);
	else if (strcmp(what, "count") == 0)
		return stepd_state_update(ctx, group, key, stepd_op_increment("/n", 1), stepd_op_append("/jobs", value));
	else if (strcmp(what, "bad update") == 0)
		return stepd_state_update(ctx, group, key, stepd_op_append("", value));
	else if (strcmp(what, "enqueue") == 0)
		return stepd_enqueue(ctx, key, value, .always = stepd_get_bool(c, "always", false), .delay_ms = stepd_get_num(c, "delay", 0));
	else if (strcmp(what, "retry") == 0)
		return stepd_retry(ctx, "asked to");
	cJSON_AddItemToArray(out, got != NULL ? cJSON_Duplicate(got, 1) : cJSON_CreateNull());
	return rc;
}

static int handle(struct stepd_ctx *ctx)
{
	cJSON *out = stepd_own(ctx, cJSON_CreateArray());
	const cJSON *c;

	stepd_log_debug(ctx, "begin");
	stepd_log_warn(ctx, "calls", stepd_json("input", stepd_data(ctx)));
	cJSON_ArrayForEach(c, stepd_data(ctx))
		if (call(ctx, c, out) < 0)
			return STEPD_RETRY;
	return stepd_return(ctx, out);
}

STEPD_STEP(.name = "Calls", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("calls")), .enqueues = STEPD_LIST("next"), .handler = handle);
"""


def op(call, group=None, key=None, value=None, **more):
    return dict(call=call, group=group, key=key, value=value, **more)


@pytest.fixture
def calls(stepd, db):
    """Run a list of calls as one job; the job's row when it ended."""
    stepd.step("calls", CALLS)
    stepd.start(config=stepd.config(queues={"calls": {"maxRetries": 0}}))

    def run(*ops):
        [job] = db.enqueue("calls", list(ops))
        return db.wait_status(job, "completed", "failed")

    return run


def test_reads_see_own_writes_over_what_is_stored(calls, db):
    db.execute("select stepd.state_set('g', k, v) from (values ('a', '1'::jsonb), ('b', '{\"x\": 1.50}'), ('c', '3')) v(k, v)")
    db.execute("select stepd.state_set('old', 'k', '1')")
    job = calls(op("get", "g", "b"), op("get", "g", "none"), op("set", "g", "b", [2]), op("delete", "g", "c"), op("set", "g", "aa", 0),
                op("list", "g"), op("get", "g", "b"), op("swap", "g", "a", 9), op("get", "g", "c"), op("set", "new", "k", 1),
                op("clear", "old"), op("list", "old"), op("groups"))
    assert job["status"] == "completed", job
    assert job["output"] == [{"x": 1.5}, None, [1, 0, [2]], [2], 1, None, [], ["g", "new"]]
    assert {r["key"]: r["value"] for r in db.rows("select key, value from stepd.state where group_id = 'g'")} == {"a": 9, "aa": 0, "b": [2]}
    assert db.values("select distinct group_id from stepd.state order by 1") == ["g", "new"]


def test_updates_of_many_jobs_are_all_there(calls, db):
    jobs = db.values("select stepd.enqueue('calls', jsonb_build_array(jsonb_build_object('call', 'count', 'group', 'g', 'key', 'k',"
                     " 'value', i))) from generate_series(1, 300) i")
    for job in jobs:
        db.wait_status(job, "completed")
    state = db.state("g", "k")
    assert state["n"] == 300 and sorted(state["jobs"]) == list(range(1, 301))


def test_own_updates_are_read(calls, db):
    db.execute("select stepd.state_set('g', 'k', '{\"n\": 5}')")
    job = calls(op("count", "g", "k", "x"), op("get", "g", "k"), op("count", "g", "k", "y"), op("list", "g"))
    assert job["output"] == [{"n": 6, "jobs": ["x"]}, [{"n": 7, "jobs": ["x", "y"]}]]
    assert db.state("g", "k") == {"n": 7, "jobs": ["x", "y"]}


def test_update_that_does_not_fit_fails_that_job_alone(calls, db):
    db.execute("select stepd.state_set('g', 'k', '5')")
    job = calls(op("set", "g", "other", 1), op("bad update", "g", "k", 1))
    assert job["status"] == "failed" and "append" in job["error"]
    assert db.state("g", "k") == 5 and db.state("g", "other") is None
    assert calls(op("set", "g", "other", 1))["status"] == "completed"


def test_error_keeps_state_and_logs_and_what_is_always_enqueued(calls, db):
    job = calls(op("set", "jobs", "1", {"status": "failed"}), op("enqueue", key="next", value=1),
                op("enqueue", key="next", value=2, always=True), op("retry"))
    assert (job["status"], job["error"]) == ("failed", "asked to")
    assert db.state("jobs", "1") == {"status": "failed"}
    assert db.values("select input from stepd.jobs where queue = 'next'") == [2]
    assert [(r["level"], r["message"]) for r in db.logs(job["id"])] == [("warn", "calls")]


def test_topic_that_is_not_declared(calls, db):
    job = calls(op("enqueue", key="evil", value=1))
    assert job["status"] == "failed" and '"evil" is not among the topics that step "Calls" lists' in job["error"]
    assert db.value("select count(*) from stepd.jobs where queue = 'evil'") == 0


def test_numbers_keep_their_digits(calls, db):
    digits = "12345678901234567890.123456789"
    [job] = db.values("select stepd.enqueue('calls', %s::jsonb)",
                      '[{"call": "enqueue", "key": "next", "value": %s}, {"call": "set", "group": "g", "key": "k", "value": %s},'
                      ' {"call": "get", "group": "g", "key": "k"}]' % (digits, digits))
    db.wait_status(job, "completed")
    assert db.value("select input::text from stepd.jobs where queue = 'next'") == digits
    assert db.value("select value::text from stepd.state where group_id = 'g'") == digits
    assert db.value("select output::text from stepd.jobs where id = %s", job) == f"[{digits}]"


@pytest.mark.parametrize("level, kept", [("debug", ["begin", "calls"]), ("warn", ["calls"]), ("off", [])])
def test_log_level_of_the_database(stepd, db, level, kept):
    stepd.step("calls", CALLS)
    stepd.start(config=stepd.config(logging={"level": "info", "database": level}))
    [job] = db.enqueue("calls", [])
    db.wait_status(job, "completed")
    assert [r["message"] for r in db.logs(job)] == kept


# --- the sample steps ---------------------------------------------------------------------------------------------

def test_greeting(stepd, db):
    stepd.start(config=stepd.config(samples=True))
    [job] = db.enqueue("process-greeting", {"timestamp": "T", "appName": "App", "greetingPrefix": "Hello", "requestId": "r1"})
    db.wait_status(job, "completed")
    greeting = db.state("greetings", "r1")
    assert greeting["greeting"] == "Hello App!" and greeting["originalTimestamp"] == "T"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", greeting["processedAt"])
    assert [r["message"] for r in db.logs(job)] == ["Processing greeting", "Greeting processed successfully"]
    [job] = db.enqueue("process-greeting", {})
    assert "/timestamp is required" in db.wait_status(job, "failed")["error"]


def test_order_workflow(stepd, db):
    stepd.start(config=stepd.config(samples=True))  # with a step for each minute among them
    reply = stepd.post("/orders", {"pet": {"name": "Rex", "photoUrl": "x"}, "foodOrder": {"quantity": 2}})
    pet = reply.json
    assert reply.status == 200 and pet["name"] == "Rex"
    run = "from stepd.jobs where trace_id = (select trace_id from stepd.jobs where step = 'CreateOrder')"  # and nothing that cron began
    db.wait_value(f"select count(*) {run} and status = 'completed'", 3)
    jobs = db.rows(f"select id, step, trigger, parent_id, trace_id {run} order by id")
    assert [j["step"] for j in jobs] == ["CreateOrder", "ProcessFoodOrder", "Notification"]
    assert [j["parent_id"] for j in jobs] == [None, jobs[0]["id"], jobs[1]["id"]]
    assert len({j["trace_id"] for j in jobs}) == 1
    assert db.state("pets", pet["id"]) == pet
    order = db.value("select value from stepd.state where group_id = 'orders'")
    assert order["petId"] == pet["id"] and order["status"] == "placed" and order["quantity"] == 2
    [sent] = db.rows("select fields from stepd.logs where step = 'Notification'")
    assert sent["fields"] == {"email": "cu******@example.com", "templateId": "new-order"}


def test_process_order_by_both_triggers(stepd, db):
    stepd.start(config=stepd.config(samples=True))
    order = {"email": "a@example.com", "quantity": 1, "petId": "p"}
    reply = stepd.post("/process-order", order)
    assert reply.status == 200 and reply.json["success"] is True and reply.json["order"]["petId"] == "p"
    assert stepd.post("/process-order", {"email": "a@example.com"}).status == 400
    [job] = db.enqueue("process-order", order)
    db.wait_status(job, "completed")
    assert db.value("select count(*) from stepd.state where group_id = 'orders'") == 2
    types = db.values("select fields ->> 'triggerType' from stepd.logs where message = 'Processing order' order by at")
    assert types == ["http", "queue"]


def test_batch_of_ten_thousand_items(stepd, db):
    stepd.start(config=stepd.config(samples=True))
    db.execute("insert into stepd.state (group_id, key, value)"
               " select 'pending-items', 'item-' || i, jsonb_build_object('id', i) from generate_series(1, 10000) i")
    db.execute("select stepd.cron_fire(array[s.id], array[now()], array[now() + interval '6 hours'])"
               " from stepd.schedule s join stepd.step t on t.id = s.step_id where t.name = 'BatchProcessor'")
    job = db.wait_value("select status from stepd.jobs where step = 'BatchProcessor'", "completed", deadline=30)
    assert job
    assert db.value("select count(distinct input -> 'id') from stepd.jobs where queue = 'process-item'") == 10000
    assert "Found 10000 pending items" in db.values("select message from stepd.logs where step = 'BatchProcessor'")


# --- files that are no steps --------------------------------------------------------------------------------------

def test_check_names_every_file_with_the_reason(stepd, db):
    stepd.step("calls", CALLS)
    (stepd.steps / "text.so").write_text("this is text\n")
    (stepd.steps / "later.step.ts").write_text("export const config = {}\n")
    stepd.step("unresolved", "extern int missing(void); int f(void) { return missing(); }\n")
    stepd.step("crash", "#include <stdlib.h>\n__attribute__((constructor)) static void boom(void) { abort(); }\n")
    stepd.step("twin", CALLS)
    assert stepd.run("--check") == 78
    log = stepd.log()
    for name, reason in (("text.so", "it is text"), ("later.step.ts", "TypeScript steps are not supported"),
                         ("unresolved.so", "undefined symbol: missing"), ("crash.so", "")):
        assert re.search(rf"{re.escape(str(stepd.steps))}/{re.escape(name)}.*{re.escape(reason)}", log), (name, log)
    steps = re.escape(str(stepd.steps))
    assert re.search(rf'^{steps}/\.twin\.c:\d+:1: a step "Calls" is already in {steps}/calls\.so \({steps}/twin\.so\)$', log, re.M), log
