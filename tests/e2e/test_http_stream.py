"""Replies in pieces and server-sent events from a C handler, read by raw sockets: framing, back-pressure, every way to end early."""

import os
import signal
import socket
import subprocess
import time

import pytest
from harness import SLOW, Proc, in_time, wait_for
from test_http_tls import certificate

STREAM = r"""
#include <stepd/step.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char block[65536];

/* Tell the test what happens: state is stored in the end only, so by a file. */
static void note(struct stepd_ctx *ctx, const char *what)
{
	const char *file = stepd_query(ctx, "note");
	FILE *f = file ? fopen(file, "a") : NULL;

	if (f) {
		fprintf(f, "%s\n", what);
		fclose(f);
	}
}

static int events(struct stepd_ctx *ctx)
{
	stepd_event(ctx, stepd_object(ctx, stepd_str("text", "a\nb")), .event = "first", .id = "1", .retry_ms = 500);
	if (stepd_event(ctx, NULL, .text = "one\ntwo\r\nthree\rfour\n", .comment = "a\nb") < 0)
		return STEPD_RETRY;
	if (stepd_event(ctx, NULL, .text = "x", .id = "a\nb") == 0 || stepd_event(ctx, NULL, .text = "\xff") == 0 ||
	    stepd_event(ctx, stepd_data(ctx), .text = "both") == 0 || stepd_reply_header(ctx, "x-late", "1") == 0 ||
	    stepd_reply(ctx, 200, NULL) == 0 || stepd_stream(ctx, 200, NULL) == 0)
		return stepd_fail(ctx, "accepted what is wrong");
	return stepd_event(ctx, NULL, .comment = "");
}

/* Until nobody listens. */
static int forever(struct stepd_ctx *ctx)
{
	for (int i = 0; !stepd_stopping(ctx); i++) {
		if (stepd_event(ctx, stepd_object(ctx, stepd_int("i", i))) < 0) {
			note(ctx, "write failed");
			return STEPD_RETRY;
		}
		usleep(20000);
	}
	note(ctx, "stopping");
	return stepd_event(ctx, NULL, .text = "bye");
}

static int flood(struct stepd_ctx *ctx, int blocks)
{
	for (int i = 0; i < blocks; i++) {
		memset(block, 'a' + i % 26, sizeof(block));
		if (stepd_write(ctx, block, sizeof(block)) < 0) {
			note(ctx, stepd_last_error(ctx));
			stepd_state_set(ctx, "stream", "flood", stepd_own(ctx, cJSON_CreateNumber(i)));
			return STEPD_OK;
		}
		if (i % 8 == 7)
			note(ctx, stepd_format(ctx, "%d", i + 1));
	}
	note(ctx, "written");
	return STEPD_OK;
}

static int handle(struct stepd_ctx *ctx)
{
	const char *what = stepd_param(ctx, "what"), *status = stepd_query(ctx, "status");

	if (stepd_write(ctx, "x", 1) == 0)
		return stepd_fail(ctx, "a write before the beginning");
	if (!strcmp(what, "events"))
		return events(ctx);
	if (!strcmp(what, "forever"))
		return forever(ctx);
	if (!strcmp(what, "long")) { /* no stream: an ordinary handler that looks */
		note(ctx, "begun");
		for (int i = 0; i < 500 && !stepd_client_gone(ctx); i++)
			usleep(10000);
		note(ctx, stepd_client_gone(ctx) ? "gone" : "there");
		stepd_state_set(ctx, "stream", "long", NULL);
		return stepd_reply(ctx, 200, NULL);
	}
	if (!strcmp(what, "ignores")) {
		stepd_reply(ctx, 99, NULL);
		return STEPD_OK;
	}
	stepd_reply_header(ctx, "x-part", "1");
	if (stepd_stream(ctx, status ? atoi(status) : 200, stepd_query(ctx, "type")) < 0)
		return STEPD_RETRY;
	if (!strcmp(what, "flood"))
		return flood(ctx, 512);
	stepd_print(ctx, "%s %d\n", "part", 1);
	if (!strcmp(what, "crash")) {
		usleep(50000);
		abort();
	}
	if (!strcmp(what, "loop"))
		for (;;)
			pause();
	if (!strcmp(what, "slow"))
		usleep(300000);
	stepd_print(ctx, "part %d\n", 2);
	stepd_state_set(ctx, "stream", what, stepd_data(ctx));
	if (!strcmp(what, "fail"))
		return stepd_fail(ctx, "the secret reason");
	if (!strcmp(what, "refused"))
		return stepd_state_update(ctx, "stream", "number", stepd_op_append("", stepd_data(ctx)));
	return stepd_print(ctx, "end");
}

STEPD_STEP(.name = "Stream", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/:what"), STEPD_HTTP("POST", "/:what"),
	STEPD_HTTP("GET", "/brief/:what", .timeout_ms = 300), STEPD_HTTP("GET", "/patient/:what", .timeout_ms = 20000)));
"""


def start(stepd, web=2, **http):
    stepd.step("stream", STREAM)
    pools = {"web": {"processes": web, "serves": ["http"]}}
    stepd.start(config=stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", **http}, pools=pools))
    return stepd


@pytest.fixture
def server(stepd):
    return start(stepd)


class Cut(Exception):
    """The reply ended before its end."""


class Reader:
    """One request on a connection of its own; the reply is read by its framing, piece by piece."""

    def __init__(self, server, target, method="GET", version="1.1", receive=None):
        self.sock = socket.socket()
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(20 * SLOW)
        self.sock.connect(("127.0.0.1", server.http_port))
        self.sock.sendall(f"{method} {target} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
        self.data = b""

    def fill(self):
        try:
            more = self.sock.recv(1 << 20)
        except ConnectionResetError:
            raise Cut from None
        self.data += more
        return bool(more)

    def line(self):
        while b"\r\n" not in self.data:
            if not self.fill():
                raise Cut
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def head(self):
        status = int(self.line().split()[1])
        self.headers = {}
        while line := self.line():
            name, value = line.decode().split(": ", 1)
            self.headers[name.lower()] = value
        return status

    def chunk(self):
        """The next chunk; b"" is the end."""
        try:
            size = int(self.line(), 16)
        except ValueError:
            raise Cut from None
        while len(self.data) < size + 2:
            if not self.fill():
                raise Cut
        piece, rest = self.data[:size], self.data[size:]
        if rest[:2] != b"\r\n":
            raise Cut
        self.data = rest[2:]
        return piece

    def rest(self):
        """What comes up to the proper end."""
        if "transfer-encoding" in self.headers:
            body = b""
            while piece := self.chunk():
                body += piece
            return body
        while self.fill():
            pass
        return self.data

    def close(self):
        self.sock.close()


def whole(server, target, **options):
    r = Reader(server, target, **options)
    status = r.head()
    body = r.rest()
    r.close()
    return status, r.headers, body


def cut(server, target, **options):
    """A reply that is cut: what came of it."""
    r = Reader(server, target, **options)
    assert r.head() == 200
    got = b""
    with pytest.raises(Cut):
        if "transfer-encoding" in r.headers:
            while piece := r.chunk():
                got += piece
        else:
            try:
                r.rest()
            finally:
                got = r.data
    r.close()
    return got


def notes(path):
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.fixture
def note(tmp):
    d = tmp / "notes"
    d.mkdir()
    d.chmod(0o777)
    return d / "n"


def test_pieces_and_framing(server, db):
    status, headers, body = whole(server, "/plain")
    assert (status, body) == (200, b"part 1\npart 2\nend") and headers["transfer-encoding"] == "chunked"
    assert headers["content-type"] == "application/octet-stream" and headers["x-part"] == "1" and headers["x-trace-id"]
    assert "content-length" not in headers
    status, headers, body = whole(server, "/plain?status=404&type=text/csv")
    assert (status, body) == (404, b"part 1\npart 2\nend") and headers["content-type"] == "text/csv"
    status, headers, body = whole(server, "/plain", version="1.0")
    assert (status, body) == (200, b"part 1\npart 2\nend") and "transfer-encoding" not in headers
    # A piece arrives before the next is made, and the connection is good for more.
    r = Reader(server, "/slow")
    assert r.head() == 200 and r.chunk() == b"part 1\n"
    assert r.rest() == b"part 2\nend"
    r.sock.sendall(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    assert r.head() == 200 and r.rest() == b"part 1\npart 2\nend"
    r.sock.sendall(b"HEAD /plain HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    assert r.head() == 200 and "content-length" not in r.headers
    assert r.head() == 200 and r.rest() == b"part 1\npart 2\nend"
    r.close()
    assert server.get("/plain?status=204").status == 500 and server.get("/plain?status=999").status == 500
    assert server.get("/ignores").status == 500, "all its replies were refused, whatever it returns"
    assert db.value("select error from stepd.jobs order by id desc limit 1").startswith("status 99 is out of range")


def test_effects_are_stored_before_the_end(server, db):
    assert whole(server, "/plain")[2] == b"part 1\npart 2\nend"
    assert db.value("select count(*) from stepd.state where group_id = 'stream' and key = 'plain'") == 1
    job = db.row("select * from stepd.jobs")
    assert (job["status"], job["step"], job["output"]) == ("completed", "Stream", None)


def test_events(server):
    status, headers, body = whole(server, "/events")
    assert status == 200 and headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache" and headers["x-accel-buffering"] == "no"
    assert body.decode() == ('retry: 500\nevent: first\nid: 1\ndata: {"text":"a\\nb"}\n\n'
                             ": a\n: b\ndata: one\ndata: two\ndata: three\ndata: four\ndata: \n\n: \n\n")


def test_whatever_goes_wrong_cuts_the_reply(stepd, db):
    server = start(stepd, timeout="1s")
    db.execute("select stepd.state_set('stream', 'number', '1')")
    for version in ("1.1", "1.0"):
        assert cut(server, "/fail", version=version) == b"part 1\npart 2\n"
    job = db.row("select * from stepd.jobs order by id limit 1")
    assert job["status"] == "failed" and "the secret reason (error id " in job["error"]
    server.wait_log("the secret reason")
    assert db.value("select count(*) from stepd.state where key = 'fail'") == 1, "states of an error stay"
    assert cut(server, "/refused") == b"part 1\npart 2\n"
    assert cut(server, "/crash") == b"part 1\n"
    db.wait_value("select count(*) from stepd.attempts where outcome = 'crashed' and signal = 6", 1)
    wait_for(lambda: server.get("/events").status == 200)
    for version in ("1.1", "1.0"):
        began = time.monotonic()
        assert cut(server, "/loop", version=version) == b"part 1\n"
        assert time.monotonic() - began < 3 * SLOW
    wait_for(lambda: server.get("/events").status == 200)
    # A trigger's own time.
    def brief():
        wait_for(lambda: server.get("/events").status == 200)
        began = time.monotonic()
        assert cut(server, "/brief/loop") == b"part 1\n"
        return time.monotonic() - began

    in_time(brief, 0.9)
    wait_for(lambda: server.get("/events").status == 200)
    r = Reader(server, "/patient/forever")
    assert r.head() == 200
    while b'{"i":70}' not in r.chunk():
        pass
    r.close()


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge", "-k"])
def test_real_clients(stepd, version):
    """curl knows a whole reply from a cut one, by each version of HTTP and with TLS (-k); streams of one connection do not mix."""
    tls = {}
    if version == "-k":
        certificate(stepd.dir, "x")
        tls["tls"] = {"cert": str(stepd.dir / "cert.pem"), "key": str(stepd.dir / "key.pem")}
    server = start(stepd, http2="h2c", web=4, **tls)
    url = f"http{'s' if tls else ''}://127.0.0.1:{server.http_port}"

    def curl(target, *options):
        p = subprocess.run(["curl", "-sS", "-N", "-m", "20", version, *options, url + target], capture_output=True)
        return p.returncode, p.stdout

    assert curl("/plain") == (0, b"part 1\npart 2\nend")
    assert curl("/plain?status=404") == (0, b"part 1\npart 2\nend")
    assert curl("/events", "-H", "Accept: text/event-stream")[0] == 0
    code, body = curl("/fail")
    assert code in (18, 56, 92) and b"part 1\npart 2\n".startswith(body), "HTTP/2's RST_STREAM may overtake what was not sent yet"
    code, body = curl("/fail", "--http1.0")
    assert code in (18, 56) and b"end" not in body
    code, body = curl("/flood?type=text/plain")
    assert code == 0 and len(body) == 32 << 20
    assert curl("/plain", "-I")[0] == 0
    if version == "--http2-prior-knowledge":
        many = subprocess.run(["nghttp", "-ns", *[f"{url}/flood?{i}" for i in range(4)]], capture_output=True, timeout=60)
        assert many.stdout.count(b"200  32M /flood") == 4, many
    else:
        many = subprocess.run(["curl", "-sS", "-Z", "-m", "60", version, f"{url}/flood?[1-4]"], capture_output=True)
        assert many.returncode == 0 and len(many.stdout) == 128 << 20
    code, body = curl("/forever", "-m", "0.5")
    assert code == 28 and b"data" in body
    wait_for(lambda: curl("/plain")[0] == 0)


def test_a_slow_client_holds_the_handler_not_memory(server, note):
    """32 MiB for a client that reads nothing: the handler waits, the http process keeps little; then all of it arrives."""
    http = server.child("stepd: http").pid
    before = resident(http)
    r = Reader(server, f"/flood?note={note}", receive=65536)
    wait_for(lambda: notes(note), what="the first 512 KiB were written")
    seen = None
    while seen != notes(note):  # until it goes on no more
        seen = notes(note)
        time.sleep(0.3)
    assert "written" not in seen and int(seen[-1]) < 256
    assert resident(http) - before < 4 << 20
    assert server.get("/events").status == 200, "others are served meanwhile"
    assert r.head() == 200
    body = r.rest()
    assert len(body) == 32 << 20 and body == b"".join(bytes([97 + i % 26]) * 65536 for i in range(512))
    assert notes(note)[-1] == "written"
    r.close()


def resident(pid):
    return int(Proc(pid).status("VmRSS").split()[0]) * 1024


def test_clients_that_leave(server, db, note):
    """Writes fail, waiting ones too; handlers that do not write can look; the work is not lost."""
    for target, what in [("/forever", "write failed"), ("/flood", "the client has left")]:
        r = Reader(server, f"{target}?note={note}")
        r.head()
        r.chunk()
        r.close()
        wait_for(lambda: notes(note) and notes(note)[-1] == what, what=lambda: f"{target}: {notes(note)}")
        note.unlink()
    db.wait_value("select count(*) from stepd.state where key = 'flood'", 1)
    assert db.value("select count(*) from stepd.jobs where status = 'failed'") == 0
    r = Reader(server, f"/long?note={note}")
    wait_for(lambda: notes(note) == ["begun"])
    r.close()
    wait_for(lambda: notes(note) == ["begun", "gone"], what=lambda: notes(note))
    db.wait_value("select count(*) from stepd.jobs where status = 'completed'", 2)
    # Who closes one direction only still gets the reply.
    r = Reader(server, "/slow")
    r.sock.shutdown(socket.SHUT_WR)
    assert r.head() == 200 and r.rest() == b"part 1\npart 2\nend"
    r.close()


def test_a_client_that_takes_nothing_is_cut_off(stepd, note):
    """http.writeTimeout holds for streams: the handler does not wait for such a client until its own time is over."""
    server = start(stepd, writeTimeout="1s")
    r = Reader(server, f"/flood?note={note}", receive=65536)
    began = time.monotonic()
    wait_for(lambda: notes(note) and notes(note)[-1] == "the client has left", 25)
    assert time.monotonic() - began < 20 * SLOW
    r.close()


def test_reload_and_stop_end_streams(server, note):
    """A stream goes on through a reload, sees that its worker is to end, and ends well."""
    for act in (server.reload, lambda: os.kill(server.process.pid, signal.SIGTERM)):
        r = Reader(server, f"/forever?note={note}")
        assert r.head() == 200 and b'{"i":0}' in r.chunk()
        act()
        assert r.rest().endswith(b"data: bye\n\n")
        assert notes(note) == ["stopping"]
        note.unlink()
        r.close()
    assert server.process.wait(30) == 0


def test_http_process_killed_in_a_stream(server, note):
    r = Reader(server, f"/forever?note={note}")
    assert r.head() == 200 and r.chunk()
    http = server.child("stepd: http")
    http.kill()
    with pytest.raises(Cut):
        r.rest()
    r.close()
    wait_for(lambda: notes(note) == ["write failed"])

    def served():
        try:
            return server.get("/events", timeout=5).status == 200
        except OSError:
            return False

    wait_for(served)
