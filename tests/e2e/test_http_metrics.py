"""/metrics as Prometheus reads it."""

import pytest
from harness import wait_for

STEP = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return stepd_trigger(ctx) == STEPD_TRIGGER_HTTP ? STEPD_OK : stepd_fail(ctx, "no"); }
STEPD_STEP(.name = "Odd \"one\\", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_QUEUE("count"), STEPD_HTTP("GET", "/count")));
"""


def scrape(server):
    parser = pytest.importorskip("prometheus_client.parser")
    reply = server.get("/metrics", port=server.admin_port)
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {f.name: f for f in parser.text_string_to_metric_families(reply.body.decode())}


def value(families, name, **labels):
    [v] = [s.value for f in families.values() for s in f.samples if s.name == name and s.labels == labels]
    return v


def test_prometheus_reads_it(stepd, db):
    stepd.step("odd", STEP)
    stepd.start(config=stepd.config(queues={"count": {"maxRetries": 0}}))
    [failed] = db.enqueue("count", 1)
    db.wait_status(failed, "failed")
    db.execute("select stepd.pause('count')")
    db.execute("select stepd.enqueue('count', '1', run_at => now() + interval '1 hour'), stepd.enqueue('count', '2')")
    for _ in range(3):
        assert stepd.get("/count").status == 204

    def counted():
        f = scrape(stepd)
        return f if value(f, "stepd_jobs", queue="count", status="ready") == 1 else None

    f = wait_for(counted, 15)
    assert [value(f, "stepd_jobs", queue="count", status=s) for s in ("scheduled", "running", "retrying", "failed")] == [1, 0, 0, 1]
    assert value(f, "stepd_queue_depth", queue="count") == 1 and value(f, "stepd_queue_paused", queue="count") == 1
    assert value(f, "stepd_queue_oldest_ready_seconds", queue="count") > 0
    assert value(f, "stepd_queue_depth", queue='Odd "one\\') == 0
    assert value(f, "stepd_http_requests_total", status="2xx") == 3
    assert f["stepd_http_request_duration_seconds"].type == "histogram"
    buckets = [s for s in f["stepd_http_request_duration_seconds"].samples if s.name.endswith("_bucket")]
    assert [s.value for s in buckets] == sorted(s.value for s in buckets) and buckets[-1].labels["le"] == "+Inf"
    assert value(f, "stepd_http_request_duration_seconds_count") == buckets[-1].value == 3
    assert value(f, "stepd_database_up") == 1 and value(f, "stepd_processes_ready", role="worker") == 2
    samples = [(s.name, tuple(s.labels.items())) for x in f.values() for s in x.samples]
    assert len(samples) == len(set(samples)) and all(x.documentation for x in f.values())


def test_without_a_database(own_pg, make_stepd):
    import harness

    db = harness.Database(own_pg.conninfo)
    stepd = make_stepd(db, name="away")
    stepd.step("odd", STEP)
    # a worker whose claim was under way waits for the database to give it back, as long as a stop may take
    stepd.start(config=stepd.config(stop={"timeout": "2s", "killGrace": "1s"}))
    db.close()
    own_pg.stop("immediate")
    f = wait_for(lambda: (f := scrape(stepd)) and value(f, "stepd_database_up") == 0 and "stepd_jobs" not in f and f, 20)
    assert value(f, "stepd_processes_ready", role="http") == 1
