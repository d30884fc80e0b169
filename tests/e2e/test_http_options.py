"""The http options that shape connections, replies and what is kept of a run."""

import json
import select
import signal
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
		stepd_state_set(ctx, "g", "k", stepd_object(ctx, stepd_bool("yes", true)));
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


def raw(server, data):
    """Everything the server says to these bytes on a connection of its own."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20 * SLOW) as s:
        s.sendall(data)
        got = b""
        while more := s.recv(65536):
            got += more
        return got


SECRET = "aHVudGVyMg"
HOSTILE_PATHS = [b'/"quo\\te"', b"/%0a%0dnewline", b"/\xff\xfe", "/Gr\u00fc\u00dfe\u2028\U0001f600".encode(), b"/{\"status\":200}", b"/=x", b"/" + b"p" * 3000]


def hostile_requests(server):
    for path in HOSTILE_PATHS:
        head = b"GET " + path + b"?token=" + SECRET.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {SECRET}\r\nCookie: id={SECRET}\r\nX-Note: a\tb\"c\xff\r\n\r\n".encode("latin-1")
        assert raw(server, head).startswith(b"HTTP/1.1 ")
    assert raw(server, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_access_log(stepd):
    start(stepd, accessLog="on")
    trace = stepd.get("/hello?secret=1").headers["x-trace-id"]
    line = stepd.wait_log(f".*{trace}.*").group(0)
    assert all(word in line for word in ("request", "GET", "/hello", "status=200", "127.0.0.1", "HTTP/1.1", "bytes=16"))
    assert "secret" not in line
    stepd.get("/not/there")
    stepd.wait_log("request.*/not/there.*404")
    mark = stepd.log_mark()
    hostile_requests(stepd)
    wait_for(lambda: stepd.log(mark).count(": request ") == len(HOSTILE_PATHS) + 1)
    lines = stepd.log(mark).rstrip("\n").split("\n")  # splitlines() would split at U+2028 too
    assert all(line.startswith("20") for line in lines), lines  # no request made a line of its own
    assert SECRET not in stepd.log()


def test_access_log_json(stepd):
    stepd.step("opt", STEP)
    file = stepd.dir / "access.log"
    stepd.start(config=stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", "accessLog": "on"},
                                    logging={"level": "info", "format": "json", "file": str(file)}))

    def requests():
        lines = [json.loads(line) for line in file.read_bytes().decode("utf-8").split("\n")[:-1]]  # strictly
        return [x for x in lines if x["message"] == "request"]

    reply = stepd.get("/hello")
    [line] = wait_for(requests)
    assert {k: line[k] for k in ("remote", "method", "path", "protocol", "status", "bytes", "level", "trace")} == {
        "remote": "127.0.0.1", "method": "GET", "path": "/hello", "protocol": "HTTP/1.1", "status": 200, "bytes": len(reply.body),
        "level": "info", "trace": reply.headers["x-trace-id"]}
    assert 0 < line["ms"] < 10000 * SLOW
    hostile_requests(stepd)
    lines = wait_for(lambda: len(r := requests()) == len(HOSTILE_PATHS) + 2 and r)
    assert [x["path"] for x in lines[1:3]] == [HOSTILE_PATHS[0].decode(), HOSTILE_PATHS[1].decode()] and lines[3]["path"][0] == "/"
    assert lines[4]["path"] == HOSTILE_PATHS[3].decode() and lines[-1]["status"] == 400
    assert SECRET.encode() not in file.read_bytes()
    file.rename(stepd.dir / "access.log.1")  # as logrotate does
    stepd.send(signal.SIGUSR1)

    def rotated():
        stepd.get("/after")
        return file.exists() and [x for x in requests() if x["path"] == "/after"]

    wait_for(rotated)


def test_trace_ids(stepd, db):
    """W3C Trace Context, level 1: a valid traceparent's id is the run's, anything else gets a new one."""
    stepd.step("opt", STEP)
    start(stepd)
    good = "4bf92f3577b34da6a3ce929d0e0e4736"
    span = "00f067aa0ba902b7"

    def trace_of(*headers):
        data = b"GET /effect HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + b"".join(b"traceparent: " + h + b"\r\n" for h in headers) + b"\r\n"
        head = raw(stepd, data).partition(b"\r\n\r\n")[0].decode()
        assert head.startswith("HTTP/1.1 200 "), head
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        version, trace, parent, flags = fields["traceparent"].split("-")
        assert (version, len(parent), flags) == ("00", 16, "01") and parent not in (span, "0" * 16)
        assert fields["x-trace-id"].replace("-", "") == trace
        return trace

    ours = [f"00-{good}-{span}-01", f"00-{good}-{span}-00", f"cc-{good}-{span}-01-what-comes-later"]
    for header in ours:
        assert trace_of(header.encode()) == good, header
    assert db.value("select count(*) from stepd.jobs where trace_id = %s", good) == len(ours)
    news = [f"ff-{good}-{span}-01", f"00-{'0' * 32}-{span}-01", f"00-{good}-{'0' * 16}-01", f"00-{good.upper()}-{span}-01", f"00-{good}-{span}",
            f"00-{good}-{span}-01-more", f"00-{good[:-1]}-{span}-01", f"00-{good[:-1]}g-{span}-01", "", "-" * 55, "x" * 4000, "'; drop table x; --"]
    seen = {trace_of(header.encode()) for header in news} | {trace_of(b"\xff" * 55), trace_of()}
    assert len(seen) == len(news) + 2 and good not in seen


def test_bodies_share_their_memory(stepd):
    start(stepd, bodyLimit="1MiB", bodyMemory="4MiB")
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", stepd.http_port), timeout=20 * SLOW) for _ in range(10)]
    refused = []
    for c in clients:
        try:
            c.sendall(head + b"x" * 900000)
        except (ConnectionResetError, BrokenPipeError):
            pass
    wait_for(lambda: len(select.select(clients, [], [], 0)[0]) >= 5, 10, "five are refused")
    for c in clients:
        c.settimeout(0.5)
        try:
            if got := c.recv(10000):
                assert got.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in got and b'"saturated"' in got
                refused.append(c)
        except TimeoutError:
            pass
    assert 5 <= len(refused) <= 7, len(refused)
    assert stepd.get("/x").status == 200
    for c in set(clients) - set(refused):
        c.settimeout(20 * SLOW)
        c.sendall(b"x" * 100000)
        assert c.recv(10000).startswith(b"HTTP/1.1 200 ")
    for c in clients:
        c.close()
    assert stepd.request("POST", "/x", b"x" * 1000000).status == 200  # all is given back


def test_idle_connections_make_room(stepd):
    start(stepd, maxConnections=3, idleTimeout="10m")
    silent = [socket.create_connection(("127.0.0.1", stepd.http_port), timeout=20 * SLOW) for _ in range(2)]
    with socket.create_connection(("127.0.0.1", stepd.http_port), timeout=20 * SLOW) as half:
        half.sendall(b"GET /x HTTP/1.1\r\nHo")  # not idle
        wait_for(lambda: b"stepd_http_connections 4\n" in stepd.get("/metrics", port=stepd.admin_port).body)
        assert stepd.get("/x").status == 200
        assert silent[0].recv(1) == b""
        half.sendall(b"st: x\r\nConnection: close\r\n\r\n")
        assert half.recv(1000).startswith(b"HTTP/1.1 200 ")
    for s in silent:
        s.close()


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
