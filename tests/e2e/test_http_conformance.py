"""Raw bytes on the public listener: what each case is answered, and what nginx answers.

Every case is one connection.  `says` is stepd's answer: the statuses of all replies in order, then "open" (a further
request on the connection is served) or "closed".  `nginx` is what nginx 1.22 (Debian 12, in front of the same daemon,
same limits) said when the table was written; None: the same.  With nginx installed the table is held against it again.
A difference has its reason beside it.
"""

import os
import resource
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from harness import SLOW, free_port, wait_for

STEP = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx)
{
	size_t len;
	const char *raw = stepd_raw_body(ctx, &len);
	return stepd_reply_raw(ctx, 200, "application/octet-stream", raw, len);
}
STEPD_STEP(.name = "Any", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_HTTP("GET", "/"), STEPD_HTTP("POST", "/"), STEPD_HTTP("PUT", "/"), STEPD_HTTP("DELETE", "/"), STEPD_HTTP("PATCH", "/"),
	STEPD_HTTP("GET", "/p/:x"), STEPD_HTTP("GET", "/sentinel")));
"""

SENTINEL = b"GET /sentinel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
H = "Host: x\r\n"
GET = "GET / HTTP/1.1\r\n" + H
POST = "POST / HTTP/1.1\r\n" + H
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Case:
    name: str
    data: object  # str (latin-1), or a list of them, sent with a pause between
    says: str
    nginx: str = None
    why: str = None  # of the difference
    then: str = "sentinel"  # "sentinel": a good request follows at once; "eof": we say no more; "wait": nothing follows
    pause: float = 0.05


CASES = [
    # requests as they should be
    Case("get", GET + "\r\n", "200 open"),
    Case("http/1.0", "GET / HTTP/1.0\r\n\r\n", "200 closed"),
    Case("http/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 open"),
    Case("connection: close", GET + "Connection: close\r\n\r\n", "200 closed"),
    Case("head", "HEAD / HTTP/1.1\r\n" + H + "\r\n", "200 open"),
    Case("options", "OPTIONS / HTTP/1.1\r\n" + H + "\r\n", "204 open"),
    Case("options *", "OPTIONS * HTTP/1.1\r\n" + H + "\r\n", "204 open", "400 closed", "RFC 9110 has it; nginx does not"),
    Case("absolute form", "GET http://x/ HTTP/1.1\r\n" + H + "\r\n", "200 open"),
    Case("one empty line in front", "\r\n" + GET + "\r\n", "200 open"),
    Case("bare LF", "GET / HTTP/1.1\nHost: x\n\n", "200 open"),
    Case("high bytes in the path", "GET /p/\xc3\xa9 HTTP/1.1\r\n" + H + "\r\n", "200 open"),
    Case("post", POST + "Content-Length: 2\r\n\r\nhi", "200 open"),
    Case("post of nothing", POST + "Content-Length: 0\r\n\r\n", "200 open"),
    Case("post without a length", POST + "\r\n", "200 open"),
    Case("get with a body", GET + "Content-Length: 2\r\n\r\nhi", "200 open"),
    Case("put, patch, delete", "".join(f"{m} / HTTP/1.1\r\n{H}Content-Length: 1\r\n\r\nx" for m in ("PUT", "PATCH", "DELETE")), "200 200 200 open"),
    Case("chunked", CHUNKED + "2\r\nhi\r\n0\r\n\r\n", "200 open"),
    Case("chunked with extension and trailer", CHUNKED + "2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n", "200 open"),
    Case("chunked in bytes", [CHUNKED, "2", "\r", "\n", "h", "i", "\r", "\n", "0\r\n", "\r", "\n"], "200 open"),
    Case("head in bytes", list(GET + "\r\n"), "200 open", pause=0.002),
    Case("expect 100-continue", POST + "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nhi", "100 200 open"),
    Case("expect 100-continue, chunked later", [POST + "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", "2\r\nhi\r\n0\r\n\r\n"],
         "100 200 open"),
    Case("expect something else", POST + "Content-Length: 2\r\nExpect: wonders\r\n\r\nhi", "417 closed", "200 open",
         "RFC 9110, 10.1.1 allows either"),
    # routing
    Case("unknown path", "GET /nothing HTTP/1.1\r\n" + H + "\r\n", "404 open"),
    Case("wrong method", "PUT /sentinel HTTP/1.1\r\n" + H + "Content-Length: 0\r\n\r\n", "405 open"),
    Case("unknown method", "BREW / HTTP/1.1\r\n" + H + "\r\n", "405 open"),
    Case("broken escape", "GET /p/%zz HTTP/1.1\r\n" + H + "\r\n", "400 open", "400 closed", "the framing is in order"),
    Case("escaped NUL", "GET /p/%00 HTTP/1.1\r\n" + H + "\r\n", "400 open", "400 closed", "the framing is in order"),
    Case("not UTF-8 when decoded", "GET /p/%ff HTTP/1.1\r\n" + H + "\r\n", "400 open"),
    # pipelining
    Case("three at once", (GET + "\r\n") * 3, "200 200 200 open"),
    Case("body, then get", POST + "Content-Length: 2\r\n\r\nhi" + GET + "\r\n", "200 200 open"),
    Case("good, then garbage", GET + "\r\n" + "\x01\x02\x03\r\n\r\n", "200 closed", "200 400 closed", "what follows garbage is not answered"),
    Case("good, then smuggled lengths", GET + "\r\n" + POST + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200 closed",
         "200 400 closed", "what follows garbage is not answered"),
    # smuggling
    Case("two lengths", POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "400 closed"),
    Case("the same length twice", POST + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "400 closed"),
    Case("length, then chunked", POST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 closed"),
    Case("chunked, then length", POST + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 closed"),
    Case("chunked twice", POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 closed"),
    Case("gzip, chunked", POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 closed"),
    Case("chunked in capitals", POST + "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "200 open"),
    Case("xchunked", POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501 closed"),
    Case("identity", POST + "Transfer-Encoding: identity\r\n\r\n", "501 closed"),
    Case("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 closed"),
    Case("vertical tab before chunked", POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400 closed", "501 closed", "no header may hold it"),
    Case("list of lengths", POST + "Content-Length: 2, 2\r\n\r\nhi", "400 closed"),
    Case("signed length", POST + "Content-Length: +2\r\n\r\nhi", "400 closed"),
    Case("negative length", POST + "Content-Length: -1\r\n\r\n", "400 closed"),
    Case("hexadecimal length", POST + "Content-Length: 0x2\r\n\r\nhi", "400 closed"),
    Case("empty length", POST + "Content-Length:\r\n\r\n", "400 closed"),
    Case("length beyond 64 bits", POST + "Content-Length: 99999999999999999999\r\n\r\n", "400 closed"),
    Case("space before the colon", POST + "Content-Length : 2\r\n\r\nhi", "400 closed"),
    Case("space in a name", GET + "A B: c\r\n\r\n", "400 closed"),
    Case("folded line", GET + "A: b\r\n Content-Length: 5\r\n\r\n", "400 closed"),
    Case("space before the first field", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400 closed"),
    Case("field without colon", GET + "Content-Length\r\n\r\n", "400 closed"),
    Case("no name", GET + ": x\r\n\r\n", "400 closed"),
    Case("NUL in a value", GET + "A: b\0c\r\n\r\n", "400 closed"),
    Case("bare CR in a value", GET + "A: b\rContent-Length: 5\r\n\r\n", "400 closed"),
    Case("control character in a value", GET + "A: b\x01c\r\n\r\n", "400 closed", "400 open", "nginx passes it on, the 400 is ours"),
    # chunks
    Case("chunk size is no number", CHUNKED + "zz\r\nhi\r\n0\r\n\r\n", "400 closed"),
    Case("chunk size with 0x", CHUNKED + "0x2\r\nhi\r\n0\r\n\r\n", "400 closed"),
    Case("chunk size is negative", CHUNKED + "-2\r\nhi\r\n0\r\n\r\n", "400 closed"),
    Case("chunk size missing", CHUNKED + "\r\nhi\r\n0\r\n\r\n", "400 closed"),
    Case("chunk size beyond 64 bits", CHUNKED + "fffffffffffffffff\r\nhi", "400 closed"),
    Case("chunk longer than it says", CHUNKED + "2\r\nhi!\r\n0\r\n\r\n", "400 closed"),
    Case("chunk ends with LF", CHUNKED + "2\nhi\n0\n\n", "400 closed", "200 open", "proxies differ here: requests were smuggled with it"),
    Case("LF in an extension", CHUNKED + "2;\nhi\r\n0\r\n\r\n", "400 closed", "200 open", "proxies differ here: requests were smuggled with it"),
    Case("endless extension", CHUNKED + "2;" + "x" * 10000 + "\r\nhi\r\n0\r\n\r\n", "400 closed", "200 open", "CVE-2023-39326"),
    # request lines
    Case("no version", "GET /\r\n", "400 closed", "closed", "HTTP/0.9 is not spoken here; nginx just closes"),
    Case("HTTP/2.0", "GET / HTTP/2.0\r\n" + H + "\r\n", "505 closed"),
    Case("HTTP/1.2", "GET / HTTP/1.2\r\n" + H + "\r\n", "200 open"),
    Case("http/1.1", "GET / http/1.1\r\n" + H + "\r\n", "400 closed"),
    Case("HTTP/1.1 1", "GET / HTTP/1.1 1\r\n" + H + "\r\n", "400 closed"),
    Case("two spaces", "GET  / HTTP/1.1\r\n" + H + "\r\n", "400 closed", "200 open", "RFC 9112, 3: one space"),
    Case("space in the path", "GET /a b HTTP/1.1\r\n" + H + "\r\n", "400 closed"),
    Case("NUL in the path", "GET /\0 HTTP/1.1\r\n" + H + "\r\n", "400 closed"),
    Case("method in small letters", "get / HTTP/1.1\r\n" + H + "\r\n", "405 open", "400 closed", "a method is any token; none of ours"),
    Case("method with a slash", "GE/T / HTTP/1.1\r\n" + H + "\r\n", "400 closed"),
    Case("path without slash", "GET x HTTP/1.1\r\n" + H + "\r\n", "400 closed"),
    Case("connect", "CONNECT x:80 HTTP/1.1\r\n" + H + "\r\n", "501 closed", "400 closed", "RFC 9110, 15.6.2"),
    Case("no host", "GET / HTTP/1.1\r\n\r\n", "400 closed"),
    Case("two hosts", GET + "Host: y\r\n\r\n", "400 closed"),
    Case("host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400 closed"),
    Case("empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 open", "400 closed", "RFC 9112, 3.2: a target without authority has an empty Host"),
    Case("TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 500, "400 closed", then="wait"),
    Case("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", "505 closed", "400 closed", "its version is named", then="wait"),
    Case("garbage", "\xff\xfe\xfd" * 100 + "\r\n\r\n", "400 closed"),
    # limits
    Case("long path", "GET /p/" + "a" * 8100 + " HTTP/1.1\r\n" + H + "\r\n", "200 open"),
    Case("too long a path", "GET /p/" + "a" * 9000 + " HTTP/1.1\r\n" + H + "\r\n", "414 closed"),
    Case("far too long a path", "GET /" + "a" * 500000, "414 closed", then="wait"),
    Case("a large head", GET + "".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(25)) + "\r\n", "200 open"),
    Case("too large a head", GET + "".join(f"X-{i}: {'y' * 1000}\r\n" for i in range(60)) + "\r\n", "431 closed", "400 closed",
         "RFC 6585; nginx logs 431 and sends 400"),
    Case("too many fields", GET + "".join(f"X-{i}: y\r\n" for i in range(150)) + "\r\n", "431 closed", "431 open", "nginx has no such limit and passes it on, the 431 is ours"),
    Case("too large a body", POST + "Content-Length: 70000\r\n\r\n" + "x" * 70000, "413 closed"),
    Case("too large a chunked body", CHUNKED + ("1000\r\n" + "x" * 4096 + "\r\n") * 20 + "0\r\n\r\n", "413 closed"),
    Case("body that says it is too large", POST + "Content-Length: 70000000\r\n\r\n", "413 closed", then="wait"),
    # truncation
    Case("nothing", "", "closed", then="eof"),
    Case("half a request line", "GET / HT", "closed", then="eof"),
    Case("half a head", GET, "closed", then="eof"),
    Case("half a body", POST + "Content-Length: 10\r\n\r\nhi", "closed", then="eof"),
    Case("half a chunk", CHUNKED + "a\r\nhi", "closed", then="eof"),
    # time (headerTimeout, readTimeout and idleTimeout are 1 s here)
    Case("no request", "", "closed", then="wait"),
    Case("head without end", GET, "408 closed", "closed", "nginx logs 408 and sends nothing", then="wait"),
    Case("head in drops", list(GET + "A: " + "b" * 100), "408 closed", "closed", "nginx logs 408 and sends nothing", then="wait", pause=0.03),
    Case("body without end", POST + "Content-Length: 10\r\n\r\nhi", "408 closed", "closed", "nginx logs 408 and sends nothing", then="wait"),
    Case("chunk without end", CHUNKED + "a\r\nhi", "408 closed", "closed", "nginx logs 408 and sends nothing", then="wait"),
    Case("second head without end", GET + "\r\n" + GET, "200 408 closed", "200 closed", "nginx logs 408 and sends nothing", then="wait"),
    Case("body in drops", [POST + "Content-Length: 100\r\n\r\n"] + ["x"] * 99, "408 closed", "closed",
         "nginx counts between two reads, we count the whole body", then="wait", pause=0.03),
]


def receive(s, deadline):
    """Everything until the server closes."""
    data, end = b"", time.monotonic() + deadline
    while True:
        s.settimeout(max(0.01, end - time.monotonic()))
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def replies(data, head):
    """[(status, headers, body)] of what a server sent."""
    found = []
    while data:
        top, gap, data = data.partition(b"\r\n\r\n")
        assert gap, (found, top)
        lines = top.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        body = b""
        if not (head and not found) and status not in (100, 204, 304):
            if headers.get("transfer-encoding") == "chunked":
                body, _, data = data.partition(b"0\r\n\r\n")
            else:
                n = int(headers["content-length"]) if "content-length" in headers else len(data)
                body, data = data[:n], data[n:]
        found.append((status, headers, body))
    return found


def play(case, port):
    """What the server at that port does with a case; the replies."""
    parts = case.data if isinstance(case.data, list) else [case.data]
    with socket.create_connection(("127.0.0.1", port), timeout=20 * SLOW) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for i, part in enumerate(parts):
                if i:
                    time.sleep(case.pause)
                s.sendall(part.encode("latin-1"))
            if case.then == "sentinel":
                s.sendall(SENTINEL)
            elif case.then == "eof":
                s.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            pass
        got = replies(receive(s, 20 * SLOW), head=parts[0].startswith("HEAD"))
    said = [str(status) for status, _, _ in got]
    if case.then == "sentinel" and said and said[-1] == "200" and got[-1][1].get("x-trace-id") and got[-1][1]["connection"] == "close" \
            and len(said) > case.says.replace(" open", "").replace(" closed", "").count(" ") + 1:
        said[-1] = "open"
    else:
        said.append("closed")
    return " ".join(said), got


def play_all(port):
    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(lambda case: play(case, port), CASES))


@pytest.fixture
def server(stepd):
    stepd.step("any", STEP)
    http = {"listen": f"127.0.0.1:{stepd.http_port}", "bodyLimit": "64KiB", "idleTimeout": "1s", "headerTimeout": "1s", "readTimeout": "1s"}
    stepd.start(config=stepd.config(http=http, pools={"web": {"processes": 2, "serves": ["http"]}}))
    return stepd


def test_cases(server):
    http = server.child("stepd: http")
    wrong = []
    for case, (said, got) in zip(CASES, play_all(server.http_port)):
        if said != case.says:
            wrong.append(f"{case.name}: {said}, not {case.says}")
        for status, headers, body in got:
            if status >= 400 and b'{"error":{"code":"' not in body:
                wrong.append(f"{case.name}: {status} without our JSON: {headers} {body!r}")
    assert not wrong, "\n".join(wrong)
    assert http.alive and server.get("/").status == 200
    wait_for(lambda: b"stepd_http_connections 1\n" in server.get("/metrics", port=server.admin_port).body, what="no connection is left")


NGINX = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; client_max_body_size 64k; large_client_header_buffers 4 8k;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass_request_headers on; }}
    }}
}}
"""


@pytest.mark.skipif(not os.path.exists("/usr/sbin/nginx"), reason="nginx is not installed")
def test_nginx_still_says_so(server):
    d, port = server.dir / "nginx", free_port()
    d.mkdir()
    (d / "nginx.conf").write_text(NGINX.format(dir=d, port=port, upstream=server.http_port))
    nginx = subprocess.Popen(["/usr/sbin/nginx", "-c", d / "nginx.conf", "-p", d], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (d / "nginx.pid").exists() and (d / "nginx.pid").read_text().strip(), what="nginx has started")
        said = [said for said, _ in play_all(port)]
    finally:
        nginx.terminate()
        nginx.wait(20)
    wrong = [f"{c.name}: nginx {s}, not {c.nginx or c.says}" for c, s in zip(CASES, said) if s != (c.nginx or c.says)]
    assert not wrong, "\n".join(wrong)


def rss_kib(proc):
    return int(proc.status("VmRSS").split()[0])


def test_ten_thousand_idle_connections(stepd):
    """A third of them said nothing, a third is between two requests, a third in the middle of a head; others are served."""
    count = 9999
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count + 500:
        pytest.skip(f"at most {hard} descriptors here")
    stepd.step("any", STEP)
    http = {"listen": f"127.0.0.1:{stepd.http_port}", "idleTimeout": "5m", "headerTimeout": "5m", "maxInFlight": 4096}
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        stepd.start(config=stepd.config(http=http))  # it raises the limit itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard) if hard > 0 else 65536, hard))
        proc = stepd.child("stepd: http")
        assert stepd.get("/").status == 200
        before, sockets = rss_kib(proc), []
        try:
            for i in range(count):
                s = socket.create_connection(("127.0.0.1", stepd.http_port), timeout=20 * SLOW)
                sockets.append(s)
                s.sendall((b"", GET.encode() + b"\r\n", GET.encode())[i % 3])
            for s in sockets[1::3]:
                assert s.recv(4096).startswith(b"HTTP/1.1 200 ")

            def connections():
                page = stepd.get("/metrics", port=stepd.admin_port).body.decode()
                return int(float(next(x for x in page.splitlines() if x.startswith("stepd_http_connections ")).split()[1])) > count

            wait_for(connections, 30)
            began = time.monotonic()
            assert all(stepd.get("/").status == 200 for _ in range(50)) and time.monotonic() - began < 5 * SLOW
            each = (rss_kib(proc) - before) * 1024 // count
            print(f"{each} bytes of memory a connection")
            assert each < 9000
            for s in sockets[2::999]:  # the heads that were begun are taken up again
                s.sendall(b"\r\n")
                assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        finally:
            for s in sockets:
                s.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    wait_for(lambda: b"stepd_http_connections 1\n" in stepd.get("/metrics", port=stepd.admin_port).body, 30, what="no connection is left")
