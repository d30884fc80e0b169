"""HTTP/2: what it serves, what a client may not do with it, and how a connection ends."""

import collections
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import h2
from harness import SLOW, running, wait_for
from test_http_tls import certificate

STEP = r"""
#include <stepd/step.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int handle(struct stepd_ctx *ctx)
{
	size_t len;
	const char *raw = stepd_raw_body(ctx, &len), *size = stepd_query(ctx, "size"), *us = stepd_query(ctx, "us");
	if (getenv("STEPS_COUNTED")) { /* how many came this far */
		int fd = open(getenv("STEPS_COUNTED"), O_WRONLY | O_APPEND | O_CREAT, 0666);
		if (fd < 0 || write(fd, "x", 1) != 1)
			return stepd_fail(ctx, "cannot count");
		close(fd);
	}
	if (us)
		usleep((unsigned)atoi(us));
	if (size) {
		char *big = malloc((size_t)atoi(size));
		memset(big, 'b', (size_t)atoi(size));
		stepd_reply_raw(ctx, 200, "text/plain", big, (size_t)atoi(size));
		free(big);
		return STEPD_OK;
	}
	return stepd_reply_raw(ctx, 200, "application/octet-stream", raw, len);
}
STEPD_STEP(.name = "Echo", .handler = handle,
	   .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/echo"), STEPD_HTTP("POST", "/echo")));
"""


def start(stepd, **http):
    stepd.step("echo", STEP)
    stepd.env["STEPS_COUNTED"] = stepd.dir / "counted"
    os.chmod(stepd.dir, 0o777)
    http = {"listen": f"127.0.0.1:{stepd.http_port}", "http2": "h2c", **http}
    stepd.start(config=stepd.config(http=http, pools={"web": {"processes": 2, "serves": ["http"]}}))
    return stepd


def counted(server):
    return (server.dir / "counted").stat().st_size if (server.dir / "counted").exists() else 0


def connect(server, **kw):
    return h2.H2.connect(server.http_port, deadline=20 * SLOW, **kw)


def code(body):
    return json.loads(body)["error"]["code"]


def test_requests(stepd):
    server = start(stepd, bodyLimit="64KiB", urlLimit="1KiB", headerLimit="8KiB")
    c = connect(server)
    many = [c.ask("POST", "/echo", b"x" * i) for i in (1, 0, 40000)]
    assert [c.reply(s) for s in many] == [(200, b"x"), (200, b""), (200, b"x" * 40000)]
    assert c.get("/echo?size=1000000") == (200, b"b" * 1000000)
    head = c.ask("HEAD", "/echo?size=1000000")
    assert c.reply(head) == (200, b"")
    status, body = c.get("/nowhere")
    assert status == 404 and code(body) == "not_found"
    status, body = c.get("/echo?" + "a" * 1100)
    assert status == 414 and code(body) == "uri_too_long"
    status, body = c.reply(c.ask("GET", "/echo", None, *[(f"x-{i}", "y" * 2000) for i in range(5)]))
    assert status == 431 and code(body) == "head_too_large"
    status, body = c.reply(c.ask("G T", "/echo"))
    assert status == 400
    status, body = c.reply(c.ask("GET", "http://x/echo"))
    assert status == 400
    assert c.reply(c.ask("POST", "/echo", b"x" * 65536)) == (200, b"x" * 65536)
    answer = c.reply(c.ask("POST", "/echo", b"x" * 65537))
    assert answer == ("reset", 7) or (answer[0] == 413 and code(answer[1]) == "body_too_large"), answer
    assert c.reply(c.ask("POST", "/echo", b"x" * 200000)) == ("reset", 7)  # REFUSED_STREAM: libh2o has no words here
    c.sock.sendall(h2.frame(200, 0, 0, b"unknown frames are ignored"))
    assert c.get("/echo") == (200, b"")
    assert "skipping frame" not in server.log()
    c.close()
    # HTTP/1 goes on beside it, and is not talked out of itself
    r = server.get("/echo", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"})
    assert r.status == 200
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20 * SLOW) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        assert s.recv(1000).startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n")


def test_floods_cost_one_connection(stepd):
    """Among them rapid reset (CVE-2023-44487)."""
    server = start(stepd)
    http = server.child("stepd: http")
    request = h2.block("GET", "/echo")
    ids = range(1, 100001, 2)
    floods = {
        "resets": b"".join(h2.frame(h2.HEADERS, 5, i, request) + h2.frame(h2.RST_STREAM, 0, i, b"\0\0\0\x08") for i in ids),
        "resets of uploads": b"".join(h2.frame(h2.HEADERS, 4, i, request) + h2.frame(h2.RST_STREAM, 0, i, b"\0\0\0\x08") for i in ids),
        "pings": h2.frame(h2.PING, 0, 0, b"12345678") * 50000,
        "settings": h2.frame(h2.SETTINGS, 0, 0, b"\0\x04\0\1\0\0") * 50000,
        "empty data": h2.frame(h2.HEADERS, 4, 1, request) + h2.frame(h2.DATA, 0, 1) * 50000,
        "continuation": h2.frame(h2.HEADERS, 1, 1, request) + h2.frame(h2.CONTINUATION, 0, 1, b"\0\1a\1b" * 2000) * 1000,
        "priorities": b"".join(h2.frame(h2.PRIORITY, 0, i, b"\0\0\0\0\x10") for i in ids),
    }
    for name, flood in floods.items():
        before, mark = counted(server), server.log_mark()
        c = connect(server)
        c.send(flood)
        assert c.wait_closed(), name
        c.close()
        server.wait_log("connection cut.*remote=127.0.0.1", mark)
        assert counted(server) - before <= 110, (name, counted(server) - before)
        assert server.get("/echo").status == 200
    assert http.alive
    # a browser that cancels now and then is no attacker
    c = connect(server)
    for _ in range(60):
        c.sock.sendall(h2.frame(h2.RST_STREAM, 0, c.ask("GET", "/echo"), b"\0\0\0\x08"))
        assert c.get("/echo") == (200, b"")
    c.close()


def test_bodies_share_their_memory(stepd):
    server = start(stepd, bodyLimit="1MiB", bodyMemory="4MiB")
    c = connect(server)
    try:
        for _ in range(8):
            c.ask("POST", "/echo", b"x" * 900000, end=False)
        assert c.wait_closed()
    finally:
        c.close()
    server.wait_log("connection cut.*too many bodies")
    c = connect(server)
    assert c.reply(c.ask("POST", "/echo", b"x" * 1000000)) == (200, b"x" * 1000000)
    c.close()


def test_deadlines(stepd):
    server = start(stepd, readTimeout="1s", headerTimeout="1s", writeTimeout="1s", idleTimeout="3s")

    def body_never_ends(c):
        c.ask("POST", "/echo", b"x", end=False)

    def head_never_ends(c):
        c.sock.sendall(h2.frame(h2.HEADERS, 1, 1, h2.block("GET", "/echo")))

    def window_never_opens(c):
        c.ask("GET", "/echo?size=200000")

    for misdeed, settings, within in ((body_never_ends, b"", 2.8), (head_never_ends, b"", 2.8), (window_never_opens, b"\0\4\0\0\0\0", 2.8)):
        began = time.monotonic()
        c = connect(server, settings=settings)
        misdeed(c)
        assert c.wait_closed() and time.monotonic() - began < within * SLOW, misdeed
        c.close()
    c = connect(server)  # but who is waiting for a slow handler is not late
    assert c.get("/echo?us=2000000") == (200, b"")
    assert c.wait_closed()  # idle
    c.close()


def test_reload_tells_and_finishes(stepd):
    server = start(stepd)
    c, idle = connect(server), connect(server)
    assert idle.get("/echo") == (200, b"")
    stream = c.ask("GET", "/echo?us=1500000")
    head = connect(server)
    head.sock.sendall(h2.frame(h2.HEADERS, 1, 1, h2.block("GET", "/echo")))
    body = connect(server)
    upload = body.ask("POST", "/echo", b"x" * 20000, end=False)
    narrow = socket.socket()  # takes less than is written when the connection is to end
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    narrow.connect(("127.0.0.1", server.http_port))
    unread = h2.H2(narrow, deadline=20 * SLOW)
    large = unread.ask("GET", "/echo?size=3000000")
    unread.sock.sendall(h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\0\x7f\0\0") + h2.frame(h2.WINDOW_UPDATE, 0, large, b"\0\x7f\0\0"))
    silent, *others = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(30)]
    for other in others:
        other.sendall(h2.PREFACE[:10])
    quiet = [connect(server) for _ in range(5)]
    assert all(q.get("/echo") == (200, b"") for q in quiet)
    old = server.child("stepd: http")
    wait_for(lambda: counted(server) >= 3)
    began = time.monotonic()
    server.reload()
    # the old process has accepted this one, and hears only now that it is one
    late = h2.H2(silent, deadline=20 * SLOW)
    assert late.get("/echo") == (200, b"")
    for i, other in enumerate(others):  # some begin at the moment when others are shut
        wait_for(lambda: time.monotonic() > began + 0.9 + i * 0.015)
        assert h2.H2(other, deadline=20 * SLOW, begun=10).get("/echo") == (200, b"")
    assert all(q.wait_closed() and q.goaways[-1] == 1 for q in quiet) and old.alive
    assert late.wait_closed() and (late.goaways[0], late.goaways[-1]) == (0x7FFFFFFF, 1)
    assert c.reply(stream) == (200, b"") and c.wait_closed() and (c.goaways[0], c.goaways[-1]) == (0x7FFFFFFF, 1)
    assert idle.wait_closed() and (idle.goaways[0], idle.goaways[-1]) == (0x7FFFFFFF, 1)
    # heads and bodies that were under way are served, however late they end
    wait_for(lambda: time.monotonic() > began + 1.5)
    head.send(h2.frame(h2.CONTINUATION, 4, 1, b""))
    assert head.reply(1) == (200, b"") and head.wait_closed()
    body.send(h2.frame(h2.DATA, 1, upload, b"y"))
    assert body.reply(upload) == (200, b"x" * 20000 + b"y") and body.wait_closed() and body.goaways[-1] == upload
    assert unread.reply(large) == (200, b"b" * 3000000) and unread.wait_closed()
    wait_for(lambda: not old.alive)
    assert server.get("/echo").status == 200


def test_reloads_lose_no_request(stepd):
    """Clients that always have ten requests under way: each is answered, or named by the GOAWAY as not begun."""
    server = start(stepd)
    stop, lost, counts = threading.Event(), [], collections.Counter()

    def one_connection():
        c, asked = connect(server), []
        try:
            while not stop.is_set() and not c.goaways:
                while len(asked) - len(c.replies) < 10:
                    asked.append(c.ask("GET", "/echo?size=3000"))
                c.read_frame()
            if not c.goaways:
                return all(c.reply(s)[0] == 200 for s in asked) or lost.append("no 200")
            c.wait_closed()
        finally:
            c.close()
        done = {s for s, (status, body, end) in c.replies.items() if status == 200 and len(body) == 3000 and end}
        lost.extend((s, c.goaways) for s in asked if s <= c.goaways[-1] and s not in done)
        counts.update(connections=1, answered=len(done), refused=sum(s > c.goaways[-1] for s in asked))

    def load():
        try:
            while not stop.is_set():
                one_connection()
        except Exception as e:
            lost.append(e)

    with running(4, load, stop):
        for i in (1, 2):
            server.reload()
            wait_for(lambda: lost or counts["connections"] >= 4 * i)
    assert lost == [] and counts["connections"] >= 8 and counts["answered"] > 100, counts


def test_over_tls(stepd):
    certificate(stepd.dir, "one")
    tls = {"cert": str(stepd.dir / "cert.pem"), "key": str(stepd.dir / "key.pem")}
    server = start(stepd, http2="on", tls=tls)

    def handshake(*protocols):
        context = ssl.create_default_context(cafile=server.dir / "cert.pem")
        context.set_alpn_protocols(protocols)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", server.http_port)), server_hostname="127.0.0.1")

    s = handshake("http/1.1", "h2")
    assert s.selected_alpn_protocol() == "h2"
    c = h2.H2(s, deadline=20 * SLOW)
    assert c.reply(c.ask("POST", "/echo", b"y" * 30000)) == (200, b"y" * 30000)
    c.close()
    with handshake("http/1.1") as s:
        assert s.selected_alpn_protocol() == "http/1.1"
    if shutil.which("h2load"):
        done = subprocess.run(["h2load", "-n2000", "-c4", "-m20", f"https://127.0.0.1:{server.http_port}/echo?size=2000"],
                              stdout=subprocess.PIPE, text=True, timeout=60 * SLOW)
        assert "2000 succeeded, 0 failed" in done.stdout, done.stdout
    if shutil.which("nghttp"):
        done = subprocess.run(["nghttp", "-d", "/etc/passwd", f"https://127.0.0.1:{server.http_port}/echo"], stdout=subprocess.PIPE,
                              text=True, timeout=60 * SLOW)
        assert done.stdout == open("/etc/passwd").read()


def test_off_means_off(stepd):
    server = start(stepd, http2="off")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=20 * SLOW) as s:
        s.sendall(h2.PREFACE + h2.frame(h2.SETTINGS))
        assert s.recv(1000).startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\n")
