"""The http options that shape connections, replies and what is kept of a run."""

import json
import socket
import time

from harness import SLOW, wait_for

STEP = r"""
#include <stepd/step.h>
#include <string.h>

static int handle(struct stepd_ctx *ctx)
{
	const char *what = stepd_param(ctx, "what");
	static char big[4 << 20];

	if (!strcmp(what, "fail"))
		return stepd_fail(ctx, "no");
	if (!strcmp(what, "effect"))
		stepd_state_set(ctx, "g", "k", cJSON_CreateTrue());
	if (!strcmp(what, "big"))
		return stepd_reply_raw(ctx, 200, NULL, big, sizeof(big));
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_str("what", what)));
}
STEPD_STEP(.name = "Opt", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/:what"), STEPD_HTTP("POST", "/:what")));
"""


def start(stepd, **http):
    stepd.step("opt", STEP)
    stepd.start(config=stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", **http}))
    return stepd


def kept(server, db, history):
    mark = db.value("select count(*) from stepd.jobs")
    server.write_config(server.config(http={"listen": f"127.0.0.1:{server.http_port}", "history": history}))
    server.reload()
    assert [server.get("/" + what).status for what in ("plain", "fail", "effect")] == [200, 500, 200]
    return db.values("select status from stepd.jobs order by id offset %s", mark)


def test_history(stepd, db):
    start(stepd)
    assert kept(stepd, db, "all") == ["completed", "failed", "completed"]
    assert kept(stepd, db, "effects") == ["failed", "completed"]
    assert kept(stepd, db, "none") == ["completed"]
    assert json.loads(stepd.get("/fail").body)["error"]["code"] == "handler_error"


def test_cors(stepd):
    start(stepd, cors="https://a.example https://b.example:8443")
    good, bad = {"origin": "https://b.example:8443"}, {"origin": "https://b.example"}
    for path, status in (("/x", 200), ("/fail", 500), ("/not/there", 404)):
        reply = stepd.get(path, headers=good)
        assert (reply.status, reply.headers["access-control-allow-origin"], reply.headers["vary"]) == (status, good["origin"], "origin")
        assert stepd.get(path, headers=bad).headers["access-control-allow-origin"] is None
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-y"}
    reply = stepd.request("OPTIONS", "/x", headers={**good, **asks})
    assert reply.status == 204 and "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "content-type, x-y" and reply.headers["access-control-max-age"] == "600"
    assert stepd.request("OPTIONS", "/x", headers={**bad, **asks}).headers["access-control-allow-methods"] is None


def test_access_log(stepd):
    start(stepd, accessLog="on")
    trace = stepd.get("/hello?secret=1").headers["x-trace-id"]
    line = stepd.wait_log(f".*{trace}.*").group(0)
    assert all(word in line for word in ("request", "GET", "/hello", "200", "127.0.0.1")) and "secret" not in line
    stepd.get("/not/there")
    stepd.wait_log("request.*/not/there.*404")


def test_limits_of_connections_and_time(stepd):
    start(stepd, maxConnections=3, idleTimeout="1s", headerTimeout="1s", writeTimeout="1s")
    idle = [socket.create_connection(("127.0.0.1", stepd.http_port)) for _ in range(3)]
    began = time.monotonic()
    assert stepd.get("/health", port=stepd.admin_port).status == 200 and time.monotonic() - began < 0.9 * SLOW  # its own account
    assert stepd.get("/x").status == 200  # when the idle ones were closed
    assert time.monotonic() - began > 0.5
    for s in idle:
        s.close()
    with socket.create_connection(("127.0.0.1", stepd.http_port), timeout=20 * SLOW) as s:  # half a head
        s.sendall(b"GET /x HTTP/1.1\r\nHo")
        reply = b""
        while got := s.recv(1000):
            reply += got
        assert reply.startswith(b"HTTP/1.1 408 ") and b'"request_timeout"' in reply
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", stepd.http_port))
    slow.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")  # and never read

    def closed():
        page = stepd.get("/metrics", port=stepd.admin_port).body.decode()
        return "stepd_http_connections 1\n" in page  # ours

    wait_for(closed, 30)
    slow.close()
