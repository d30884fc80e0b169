"""HTTP triggers from outside, with raw sockets: what is answered, what is refused, and that nothing shakes the process."""

import gzip
import json
import re
import socket
import struct
import time

import pytest
from harness import SLOW, wait_for

ECHO = r"""
#include <stepd/step.h>
#include <string.h>

static void pairs(cJSON *to, struct stepd_ctx *ctx, bool (*at)(struct stepd_ctx *, size_t, const char **, const char **))
{
	const char *name, *value;
	for (size_t i = 0; at(ctx, i, &name, &value); i++) {
		cJSON *p = cJSON_CreateArray();
		cJSON_AddItemToArray(p, cJSON_CreateString(name));
		cJSON_AddItemToArray(p, cJSON_CreateString(value));
		cJSON_AddItemToArray(to, p);
	}
}

static const char form[] = STEPD_SCHEMA({"type": "object", "required": ["n"], "properties": {"n": {"type": "number"},
	"tag": {"type": "array", "items": {"type": "string"}}, "ok": {"type": "boolean"}, "s": {"type": "string"}}});

static int handle(struct stepd_ctx *ctx)
{
	cJSON *out = stepd_object(ctx, stepd_str("method", stepd_method(ctx)), stepd_str("path", stepd_path(ctx)),
		stepd_str("remote", stepd_remote(ctx)), stepd_str("trace", stepd_trace_id(ctx)), stepd_str("data", stepd_data_text(ctx)));
	size_t len;
	const char *raw = stepd_raw_body(ctx, &len), *mode = stepd_query(ctx, "mode");

	if (mode && !strcmp(mode, "raw"))
		return stepd_reply_raw(ctx, 201, NULL, raw, len);
	if (mode && !strcmp(mode, "nothing"))
		return STEPD_OK;
	if (mode && !strcmp(mode, "headers")) {
		stepd_reply_header(ctx, "X-One", "1");
		stepd_reply_header(ctx, "Set-Cookie", "a=1");
		stepd_reply_header(ctx, "Set-Cookie", "b=2");
		return stepd_reply_raw(ctx, 418, "text/html", "<b>", 3);
	}
	cJSON_AddNumberToObject(out, "rawLength", (double)len);
	pairs(cJSON_AddArrayToObject(out, "params"), ctx, stepd_param_at);
	pairs(cJSON_AddArrayToObject(out, "query"), ctx, stepd_query_at);
	pairs(cJSON_AddArrayToObject(out, "headers"), ctx, stepd_header_at);
	return stepd_reply(ctx, 200, out);
}

STEPD_STEP(.name = "Echo", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_HTTP("GET", "/echo/:id"), STEPD_HTTP("POST", "/echo/:id"), STEPD_HTTP("DELETE", "/echo/:id"),
	STEPD_HTTP("GET", "/echo/fixed"), STEPD_HTTP("POST", "/json", .body_schema = "{}"), STEPD_HTTP("POST", "/big"),
	STEPD_HTTP("POST", "/form", .body_schema = form)));
"""


@pytest.fixture
def server(stepd):
    stepd.step("echo", ECHO)
    stepd.start(config=stepd.config(pools={"web": {"processes": 2, "serves": ["http"]}}))
    return stepd


class Client:
    """One connection; requests are bytes, replies are parsed by their framing."""

    def __init__(self, server):
        self.sock = socket.create_connection(("127.0.0.1", server.http_port), timeout=10 * SLOW)
        self.data = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def fill(self):
        more = self.sock.recv(65536)
        if not more:
            raise EOFError
        self.data += more

    def reply(self, head=False):
        """(status, headers, body)"""
        while b"\r\n\r\n" not in self.data:
            self.fill()
        top, _, self.data = self.data.partition(b"\r\n\r\n")
        lines = top.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            k, v = line.split(":", 1)
            headers.setdefault(k.lower(), []).append(v.strip())
        status = int(lines[0].split()[1])
        n = 0 if head or status in (204, 304) else int(headers["content-length"][0])
        while len(self.data) < n:
            self.fill()
        body, self.data = self.data[:n], self.data[n:]
        return status, headers, body

    def closed(self):
        """True when the server closes the connection without more bytes."""
        self.sock.settimeout(10 * SLOW)
        try:
            return self.data == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def post(path, body, *headers, type="application/json"):
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    if type:
        lines.append(f"Content-Type: {type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path, *headers, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""])


def ask(server, data):
    c = Client(server)
    c.send(data)
    status, headers, body = c.reply(head=data[:4] in (b"HEAD", "HEAD"))
    c.sock.close()
    return status, headers, body


def error_of(body):
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "details"} and isinstance(error["details"], list) and error["message"]
    return error["code"]


def test_request_reaches_the_handler(server):
    status, headers, body = ask(server, post("/echo/a%2Fb?x=1&y=%20z&x=2&e", '{"n": 1.50}', "X-Thing: A", "x-thing: b"))
    got = json.loads(body)
    assert status == 200 and headers["content-type"] == ["application/json"]
    assert got["method"] == "POST" and got["path"] == "/echo/a/b" and got["remote"] == "127.0.0.1"
    assert got["params"] == [["id", "a/b"]]
    assert got["query"] == [["x", "1"], ["y", " z"], ["x", "2"], ["e", ""]]
    assert got["data"] == '{"n": 1.50}' and got["rawLength"] == 11
    assert [v for k, v in got["headers"] if k == "x-thing"] == ["A", "b"]
    assert ["host", "x"] in got["headers"] and ["content-length", "11"] in got["headers"]
    assert headers["x-trace-id"] == [got["trace"]]
    assert re.fullmatch("00-" + got["trace"].replace("-", "") + "-[0-9a-f]{16}-01", headers["traceparent"][0])


def test_trace_of_the_client_is_kept(server):
    trace = "0af76519-16cd-43dd-8448-eb211c80319c"
    parent = f"00-{trace.replace('-', '')}-b7ad6b7169203331-01"
    status, headers, body = ask(server, get("/echo/1", f"traceparent: {parent}"))
    assert headers["x-trace-id"] == [trace] and json.loads(body)["trace"] == trace
    status, headers, body = ask(server, get("/echo/1", "traceparent: 00-nonsense"))
    assert status == 200 and headers["x-trace-id"] != [trace]


def test_methods_and_routes(server):
    assert json.loads(ask(server, get("/echo/fixed"))[2])["params"] == []
    status, headers, body = ask(server, get("/echo/1", method="PUT"))
    assert status == 405 and error_of(body) == "method_not_allowed"
    assert {m.strip() for m in headers["allow"][0].split(",")} == {"GET", "POST", "DELETE", "HEAD", "OPTIONS"}
    status, headers, body = ask(server, get("/echo/1", method="OPTIONS"))
    assert status == 204 and "GET" in headers["allow"][0] and "content-length" not in headers
    status, headers, body = ask(server, get("/echo/1", method="HEAD"))
    assert status == 200 and int(headers["content-length"][0]) > 0
    status, headers, body = ask(server, get("/nothing", "Connection: close"))
    assert status == 404 and error_of(body) == "not_found" and headers["connection"] == ["close"]
    assert ask(server, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 204
    assert ask(server, get("http://other.example/echo/7"))[0] == 200
    for bad in ("/echo/%", "/echo/%zz", "/echo/%00", "/echo/%ff", "/echo/%ed%a0%80"):
        status, _, body = ask(server, get(bad))
        assert status == 400 and error_of(body) == "bad_path", bad
    for bad in ("a=%1", "a=%c3", "%ff"):
        status, _, body = ask(server, get("/echo/1?" + bad))
        assert status == 400 and error_of(body) == "bad_query"


def test_replies(server):
    status, headers, body = ask(server, post("/echo/1?mode=raw", b"\x00\xff bytes", type="application/octet-stream"))
    assert (status, body) == (201, b"\x00\xff bytes")
    status, headers, body = ask(server, get("/echo/1?mode=headers"))
    assert (status, body) == (418, b"<b>") and headers["content-type"] == ["text/html"]
    assert headers["set-cookie"] == ["a=1", "b=2"] and headers["x-one"] == ["1"]
    status, headers, body = ask(server, get("/echo/1?mode=nothing"))
    assert status == 204


def test_bodies(server):
    deep = "[" * 600 + "]" * 600
    cases = [
        (post("/json", '{"a": }'), 400, "invalid_json"), (post("/json", '{"a": "\\u0000"}'), 400, "invalid_json"),
        (post("/json", b'{"a": "\xff"}'), 400, "invalid_json"), (post("/json", "{} x"), 400, "invalid_json"),
        (post("/json", deep), 400, "invalid_json"), (post("/json", "{}", type="application/octet-stream"), 415, "unsupported_media_type"),
        (post("/json", "{}", type="application/json; charset=latin1"), 415, "unsupported_media_type"),
        (post("/json", "a=1", type="application/x-www-form-urlencoded; charset=utf-16"), 415, "unsupported_media_type"),
        (post("/json", "x", type="multipart/form-data; boundary=x"), 415, "unsupported_media_type"),
        (post("/json", gzip.compress(b"{}"), "Content-Encoding: gzip"), 415, "unsupported_media_type"),
        (post("/json", "{}", "Content-Type: text/plain"), 415, "unsupported_media_type"),
        (post("/echo/1", b"a=%f", type="application/x-www-form-urlencoded"), 400, "invalid_form"),
        (post("/echo/1", b"a=%ff", type="application/x-www-form-urlencoded"), 400, "invalid_form"),
        (post("/echo/1", b"&".join([b"a"] * 1001), type="application/x-www-form-urlencoded"), 400, "invalid_form"),
        (post("/echo/1", b"\xff", type="text/plain"), 400, "invalid_text"), (post("/echo/1", b"a\x00", type="text/csv"), 400, "invalid_text"),
        (post("/json", "nonsense", type=None), 400, "invalid_json"),
    ]
    for data, want, code in cases:
        status, _, body = ask(server, data)
        assert (status, error_of(body)) == (want, code), data[:200]
    assert "line 1" in json.loads(ask(server, cases[0][0])[2])["error"]["message"]
    assert ask(server, post("/json", "{}", type=None))[0] == 200
    assert ask(server, post("/json", "{}", type="application/vnd.api+json"))[0] == 200
    got = json.loads(ask(server, post("/echo/1", "a=1", type="application/x-www-form-urlencoded"))[2])
    assert got["data"] == '{"a":"1"}' and got["rawLength"] == 3
    assert json.loads(ask(server, post("/json", ""))[2])["data"] == "null"
    assert ask(server, post("/json", "{}", "Content-Encoding: Identity"))[0] == 200
    got = json.loads(ask(server, post("/echo/1", gzip.compress(b"{}"), "Content-Encoding: gzip"))[2])
    assert got["data"] == "null" and got["rawLength"] == len(gzip.compress(b"{}"))


def test_forms_and_text(server):
    """Forms become objects and text becomes a string, for handlers and schemas alike; the bytes are there as they came."""
    form = "application/x-www-form-urlencoded"

    def data(path, body, type=form):
        status, _, reply = ask(server, post(path, body, type=type))
        got = json.loads(reply)
        assert got["rawLength"] == len(body) if status == 200 else status == 400, (status, got)
        return json.loads(got["data"]) if status == 200 else [(d["pointer"], d["keyword"]) for d in got["error"]["details"]]

    assert data("/echo/1", b"a=1&b=x+y%26%C3%A4&a=&c&&a=3&a[b]=4", form.upper() + "; charset=UTF-8") == {
        "a": ["1", "", "3"], "b": "x y&\u00e4", "c": "", "a[b]": "4"}
    assert data("/echo/1", 'say "hi"\n\u20ac\x01'.encode(), "text/plain") == 'say "hi"\n\u20ac\x01'
    assert data("/echo/1", b"\xe4", "text/plain; charset=iso-8859-1") is None, "bytes in another charset are only raw"
    assert data("/echo/1", b"--x--", "multipart/form-data; boundary=x") is None
    # What a schema wants to be a number is one, for the handler too, to the digit.
    assert data("/form", b"n=12345678901234567890&tag=a&ok=true&s=7") == {"n": 12345678901234567890, "tag": ["a"], "ok": True, "s": "7"}
    assert data("/form", b"n=x&tag=a&tag=b") == [("/n", "type")]
    assert data("/form", b"tag=a&ok=maybe") == [("/ok", "type"), ("/n", "required")]
    assert data("/form", b"n", "text/plain") == [("", "type")]


def test_body_limit(server):
    limit = 1 << 20
    c = Client(server)
    c.send(f"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: {64 << 20}\r\n\r\n")
    status, headers, body = c.reply()  # before any of it was sent
    assert status == 413 and error_of(body) == "body_too_large" and headers["connection"] == ["close"]
    for size, want in ((limit, 200), (limit + 1, 413), (64 << 20, 413)):
        c = Client(server)
        head = f"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nContent-Type: text/plain\r\n\r\n".encode()
        c.send(head)
        try:
            for _ in range(0, size, 1 << 20):
                c.send(b"x" * min(size, 1 << 20))
            c.send(b"x" * (size % (1 << 20) if size > limit else 0))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was told, then cut off
        assert c.reply()[0] == want, size
        if want == 413:
            assert c.closed()
    c = Client(server)
    c.send("POST /big HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        for _ in range(40):
            c.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
    status, _, body = c.reply()
    assert status == 413 and error_of(body) == "body_too_large"
    assert server.get("/echo/1").status == 200


def test_chunked_and_expect(server):
    c = Client(server)
    c.send("POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\n{\"a\r\n")
    c.send("4\r\n\": 1\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n" + get("/echo/next"))
    assert json.loads(c.reply()[2])["data"] == '{"a": 1}'
    assert json.loads(c.reply()[2])["params"] == [["id", "next"]]
    c = Client(server)
    c.send("POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    while b"\r\n\r\n" not in c.data:
        c.fill()
    assert c.data.startswith(b"HTTP/1.1 100")
    c.data = b""
    c.send("{}")
    assert c.reply()[0] == 200
    status, _, body = ask(server, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: wonders\r\n\r\n{}")
    assert status == 417 and error_of(body) == "expectation_failed"


SMUGGLING = [
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST /json HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nX: 1\r\n Content-Length: 2\r\n\r\n{}",
    "POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "GET /echo/1 HTTP/1.1\r\n\r\n",
    "GET /echo/1 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "GET /echo/1 HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
    "GET /echo/1\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /" + "a" * 500000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /echo/1 HTTP/1.1\r\nHost: x\r\n" + "".join(f"X-{i}: y\r\n" for i in range(300)) + "\r\n",
]


def test_hostile_requests(server):
    """Each is refused with our JSON error (test_http_conformance.py has the statuses), or cut off, and the connection is
    not used further."""
    for data in SMUGGLING:
        c = Client(server)
        c.send(data.encode("latin-1") + b"GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            status, headers, body = c.reply()
        except (EOFError, ConnectionResetError):
            continue
        assert status in (400, 413, 414, 431, 501, 505), (data[:120], status, body[:200])
        assert error_of(body), (data[:120], body)
        assert headers["connection"] == ["close"], data[:120]
        assert c.closed(), data[:120]
    assert server.get("/echo/1").status == 200


def test_pipelining_and_keep_alive(server):
    c = Client(server)
    c.send("".join(get(f"/echo/{i}") for i in range(200)))
    for i in range(200):
        status, headers, body = c.reply()
        assert json.loads(body)["params"] == [["id", str(i)]]
    data = post("/json", '{"slow": true}')
    for i in range(len(data)):  # byte by byte
        c.send(data[i:i + 1])
    assert json.loads(c.reply()[2])["data"] == '{"slow": true}'


def test_slow_clients_do_not_hold_up_others(server):
    slow = []
    for i in range(200):
        c = Client(server)
        c.send(("POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", "GET /echo/1 HT", "")[i % 3])
        slow.append(c)
    began = time.monotonic()
    for _ in range(50):
        assert server.get("/echo/1").status == 200
    assert time.monotonic() - began < 5 * SLOW
    for c in slow:
        c.reset()
    assert server.get("/echo/1").status == 200


def test_admin(server):
    admin = {"port": server.admin_port}
    assert server.get("/health", **admin).json == {"status": "ok"}
    ready = server.get("/ready", **admin)
    assert ready.status == 200 and ready.json["database"] and ready.json["workers"]
    server.get("/echo/1")
    server.get("/nothing")
    page = server.get("/metrics", **admin)
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = page.body.decode().splitlines()
    assert 'stepd_http_requests_total{status="2xx"} 1' in lines and 'stepd_http_requests_total{status="4xx"} 1' in lines
    assert "stepd_http_request_duration_seconds_count 2" in lines
    assert 'stepd_processes_ready{role="web"} 2' in lines
    for line in lines:
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"[^\"]*\"(,\w+=\"[^\"]*\")*\})? [-+.\deInf]+", line), line
    assert server.get("/metrics").status == 404  # never on the public listener
    assert server.post("/metrics", b"", **admin).status == 405
    assert server.get("/echo/1", **admin).status == 404


def test_admin_token(stepd):
    stepd.step("echo", ECHO)
    stepd.start(config=stepd.config(admin={"listen": f"127.0.0.1:{stepd.admin_port}", "token": "s3cret"}))
    assert stepd.get("/metrics", port=stepd.admin_port).status == 401
    assert stepd.get("/metrics", port=stepd.admin_port, headers={"Authorization": "Bearer wrong!"}).status == 401
    assert stepd.get("/metrics", port=stepd.admin_port, headers={"Authorization": "Bearer s3cret"}).status == 200
    assert stepd.get("/metrics", port=stepd.admin_port, headers={"Authorization": "bearer s3cret"}).status == 200


def test_memory(server):
    """PSS of the idle http process."""
    for _ in range(100):
        server.get("/echo/1")
    proc = server.child(r"stepd: http")
    pss = wait_for(lambda: re.search(r"^Pss:\s+(\d+)", open(f"/proc/{proc.pid}/smaps_rollup").read(), re.M))
    assert int(pss.group(1)) <= 12 * 1024
