"""contrib/quickstart: the first command a newcomer types.  On a port and in a folder of the test's own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def env():
    d = tempfile.mkdtemp(prefix="qs-")
    os.chmod(d, 0o755)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    yield {**os.environ, "STEPD_QUICKSTART_PORT": str(port), "STEPD_QUICKSTART_DIR": f"{d}/home"}
    shutil.rmtree(d, ignore_errors=True)


def start(env, *args):
    return subprocess.Popen([SOURCE / "contrib/quickstart", *args], cwd="/", env=env, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def left_over(env):
    home = env["STEPD_QUICKSTART_DIR"]
    found = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            command = (p / "cmdline").read_bytes().decode(errors="replace")
            if home in command or os.readlink(p / "cwd").startswith(home):
                found.append(command)
        except OSError:
            pass
    return found


@pytest.mark.parametrize("time", ["first", "second"])
def test_once_shows_the_reply_and_the_whole_run(env, time):
    q = start(env, "--once")
    out, _ = q.communicate(timeout=300)
    assert q.returncode == 0, out
    assert re.search(r'^HTTP 200 \{.*"name": ?"Rex"', out, re.M), out
    rows = [[f.strip() for f in line.split("|")] for line in out.splitlines() if "| completed |" in line]
    names = [r[2] for r in rows]
    assert sorted(names) == ["CreateOrder", "Notification", "ProcessFoodOrder"], out
    assert len({r[-1] for r in rows}) == 1, "one trace_id"
    ids = {name: r[0] for name, r in zip(names, rows)}
    parents = {name: r[1] for name, r in zip(names, rows)}
    assert parents == {"CreateOrder": "", "ProcessFoodOrder": ids["CreateOrder"], "Notification": ids["ProcessFoodOrder"]}
    assert "every job completed" in out
    assert left_over(env) == []


def test_stays_until_ctrl_c(env):
    q = start(env)
    seen = []
    for line in q.stdout:
        seen.append(line)
        if "Ctrl-C stops it" in line:
            break
    assert q.poll() is None, "".join(seen)
    with socket.create_connection(("127.0.0.1", int(env["STEPD_QUICKSTART_PORT"])), 5):
        pass
    os.kill(q.pid, signal.SIGINT)
    rest, _ = q.communicate(timeout=60)
    assert q.returncode == 130, "".join(seen) + rest
    assert left_over(env) == []


def test_a_taken_port_is_named(env):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(env["STEPD_QUICKSTART_PORT"])))
        s.listen()
        q = start(env, "--once")
        out, _ = q.communicate(timeout=120)
    assert q.returncode == 1
    assert f"port {env['STEPD_QUICKSTART_PORT']} on 127.0.0.1 is taken" in out
