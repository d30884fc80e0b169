"""TLS on the public listener: what is spoken, and certificates that change."""

import http.client
import os
import socket
import ssl
import subprocess

import pytest
from harness import SLOW

HELLO = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx)
{
	size_t len;
	const char *raw = stepd_raw_body(ctx, &len);
	return stepd_reply_raw(ctx, 200, NULL, raw, len);
}
STEPD_STEP(.name = "Hello", .handler = handle, .triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/hello")));
"""


def certificate(directory, name, days=100):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days), "-subj",
                    f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
                   check=True, stderr=subprocess.DEVNULL)
    os.chmod(directory / "key.pem", 0o600)  # the supervisor's user's alone
    return (directory / "cert.pem").read_text()


def settings(stepd):
    tls = {"cert": str(stepd.dir / "cert.pem"), "key": str(stepd.dir / "key.pem")}
    return stepd.config(http={"listen": f"127.0.0.1:{stepd.http_port}", "bodyLimit": "8MiB", "tls": tls})


@pytest.fixture
def server(stepd):
    stepd.step("hello", HELLO)
    certificate(stepd.dir, "one")
    stepd.start(config=settings(stepd))
    return stepd


def context(server, **attributes):
    c = ssl.create_default_context(cafile=server.dir / "cert.pem")
    for k, v in attributes.items():
        setattr(c, k, v)
    return c


def post(server, body, tls=None):
    conn = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=20 * SLOW, context=tls or context(server))
    try:
        conn.request("POST", "/hello", body)
        r = conn.getresponse()
        return r.status, r.read()
    finally:
        conn.close()


def handshake(server, tls):
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10 * SLOW) as s, tls.wrap_socket(s, server_hostname="127.0.0.1") as t:
        return t.version(), t.selected_alpn_protocol(), t.cipher()[0]


def test_requests(server):
    assert post(server, b"hi") == (200, b"hi")
    big = os.urandom(4 << 20)
    assert post(server, big) == (200, big)
    assert server.get("/health", port=server.admin_port).status == 200
    with pytest.raises((http.client.HTTPException, ConnectionError)):  # no plain text there
        server.post("/hello", b"x")
    conn = http.client.HTTPSConnection("127.0.0.1", server.http_port, timeout=20 * SLOW, context=context(server))
    for _ in range(3):
        conn.request("POST", "/hello", b"again")
        assert conn.getresponse().read() == b"again"
    conn.close()


def test_what_is_spoken(server):
    assert handshake(server, context(server))[0] == "TLSv1.3"
    version, _, cipher = handshake(server, context(server, maximum_version=ssl.TLSVersion.TLSv1_2))
    assert version == "TLSv1.2" and cipher.startswith("ECDHE-") and "GCM" in cipher
    old = context(server, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak = context(server, maximum_version=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-SHA")
    for refused in (old, weak):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(server, refused)
    both, h2 = context(server), context(server)
    both.set_alpn_protocols(["h2", "http/1.1"])
    h2.set_alpn_protocols(["h2"])
    assert handshake(server, both)[1] == "http/1.1"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, h2)


def test_garbage_and_silence_harm_nobody(server):
    silent = [socket.create_connection(("127.0.0.1", server.http_port)) for _ in range(50)]
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 200, os.urandom(500)):
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10 * SLOW) as s:
            s.sendall(data)
    assert post(server, b"x") == (200, b"x")
    for s in silent:
        s.close()


def test_reload_takes_the_new_certificate(server):
    one = context(server)
    certificate(server.dir, "two")
    assert post(server, b"x", one) == (200, b"x")
    server.reload()
    assert post(server, b"x") == (200, b"x")
    with pytest.raises(ssl.SSLError):
        post(server, b"x", one)


@pytest.mark.parametrize("file,text,says", [
    ("cert.pem", "nonsense\n", "http.tls.cert: .*is not a certificate chain in PEM"),
    ("key.pem", None, "http.tls.key: cannot open"),
])
def test_reload_with_broken_files_keeps_the_old(server, file, text, says):
    tls, path = context(server), server.dir / file
    path.unlink()
    if text:
        path.write_text(text)
    mark = server.log_mark()
    server.reload()
    server.wait_log("reload failed.*" + says, mark)
    assert post(server, b"x", tls) == (200, b"x")


def test_start_with_a_key_that_does_not_match(stepd):
    stepd.step("hello", HELLO)
    certificate(stepd.dir, "one")
    key = (stepd.dir / "key.pem").read_text()
    certificate(stepd.dir, "two")
    (stepd.dir / "key.pem").write_text(key)
    assert stepd.run(config=settings(stepd)) == 78
    stepd.wait_log("http.tls.key: .*is not the certificate's private key")


def check(stepd):
    """--check: its exit code and what it printed."""
    done = subprocess.run(stepd.command("-c", stepd.config_file, "--check"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=stepd.environment(), timeout=60 * SLOW)
    return done.returncode, done.stdout


def test_check_looks_at_the_files(stepd):
    stepd.step("hello", HELLO)
    cert, key = stepd.dir / "cert.pem", stepd.dir / "key.pem"
    certificate(stepd.dir, "one")
    file = stepd.write_config(f"""steps: [ {stepd.steps} ]
database: {{ url: "dbname=nothing" }}
http:
  tls:
    cert: {cert}
    key: {key}
""")
    good_key = key.read_text()
    code, out = check(stepd)
    assert code == 0 and "http.tls" not in out, out
    certificate(stepd.dir, "other")  # another pair, of which only the certificate stays
    key.write_text(good_key)
    code, out = check(stepd)
    assert code == 78 and f'{file}:6:10: http.tls.key: "{key}" is not the certificate\'s private key' in out, out
    key.write_text("nonsense")
    code, out = check(stepd)
    assert code == 78 and f"{file}:6:10: http.tls.key: " in out and "is not the certificate's private key in PEM" in out, out
    key.unlink()
    for make, what in (os.mkfifo, "not a regular file"), (os.mkdir, "a directory"):  # neither is waited for
        make(key)
        code, out = check(stepd)
        assert code == 78 and f'{file}:6:10: http.tls.key: "{key}" is {what}' in out, out
        (key.rmdir if key.is_dir() else key.unlink)()
    code, out = check(stepd)
    assert code == 78 and f'{file}:6:10: http.tls.key: cannot open "{key}"' in out, out
    cert.write_text("nonsense")
    key.write_text(good_key)
    code, out = check(stepd)
    assert code == 78 and f"{file}:5:11: http.tls.cert: " in out and "is not a certificate chain in PEM" in out, out
    stepd.env["STEPD_CONFIG"] = file
    done = stepd.stepctl("check", check=False)
    assert done.returncode == 78 and "is not a certificate chain" in done.stderr, done
    certificate(stepd.dir, "soon", days=3)
    code, out = check(stepd)
    assert code == 0 and f"warning: {file}:5:11: http.tls.cert: " in out and "/CN=soon expires 2" in out, out
    certificate(stepd.dir, "gone")
    subprocess.run(["openssl", "x509", "-in", cert, "-signkey", key, "-days", "-1", "-out", stepd.dir / "old.pem"], check=True)
    cert.write_text((stepd.dir / "old.pem").read_text())
    code, out = check(stepd)
    assert code == 0 and "/CN=gone expired 2" in out, out
