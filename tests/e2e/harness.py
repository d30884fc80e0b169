"""What the end-to-end tests stand on: a private PostgreSQL, databases, steps built from source, and the daemon
under test with its log, its notify socket and its processes.  conftest.py makes fixtures of it.

Every wait is for an event, with a deadline; nothing sleeps and hopes.  The test process is a "child subreaper":
whatever a killed daemon leaves behind becomes our child, so a leak cannot hide.

Environment (all optional): STEPD_BUILD, the build folder (default: build/ of the checkout); STEPD_TEST_PG, conninfo
of a private PostgreSQL that runs already (default: start one); STEPD_TEST_SLOW, a factor on all deadlines.
"""

import contextlib
import ctypes
import glob
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg2
import psycopg2.extras

from ports import free_port

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STEPD_BUILD", SOURCE / "build")).resolve()
SLOW = float(os.environ.get("STEPD_TEST_SLOW", "1"))
ROOT = os.geteuid() == 0

# A build with sanitizers: every process the tests start writes what it finds to a file here, where conftest.py looks
# after each test.  A crash stays a crash: tests look for the signal a handler died of.  The quarantine is small, lest
# workers seem to grow.
SANITIZED = "".join(re.findall('^#define SD_SANITIZERS "(.*)"', (BUILD / "config.h").read_text(), re.M)) if (BUILD / "config.h").exists() else ""
FINDINGS = Path(tempfile.mkdtemp(prefix="stepd-findings-")) if SANITIZED else None
if SANITIZED:
    os.chmod(FINDINGS, 0o1777)
    for name, options in {
        "ASAN_OPTIONS": "handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:detect_leaks=1:quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:die_after_fork=0:second_deadlock_stack=1",
    }.items():
        os.environ[name] = ":".join(filter(None, [options, os.environ.get(name), f"log_path={FINDINGS}/found"]))

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# --- waiting -----------------------------------------------------------------------------------------------------

class Late(AssertionError):
    """A deadline passed."""


def wait_for(predicate, deadline=10.0, what=None, interval=0.01):
    """Call predicate until it gives something true; return that.  Raises Late after `deadline` seconds."""
    end = time.monotonic() + deadline * SLOW
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            what = what() if callable(what) else what
            raise Late(f"not within {deadline * SLOW:g} s: {what or getattr(predicate, '__name__', 'condition')}; last value: {value!r}")
        time.sleep(interval)


@contextlib.contextmanager
def running(n, work, stop):
    """While the block runs, n threads do work(), which ends when the event `stop` is set: at the end of the block."""
    threads = [threading.Thread(target=work) for _ in range(n)]
    for t in threads:
        t.start()
    try:
        yield
    finally:
        stop.set()
        for t in threads:
            t.join()


def in_time(measure, bound, tries=4):
    """Assert that the seconds which measure() tells are fewer than `bound`, at the first try or else at one of a few more: that
    the machine was busy elsewhere for a moment is no slowness of ours, but at each of them it is."""
    took = []
    while len(took) < tries:
        took.append(measure())
        if took[-1] < bound * SLOW:
            return
    raise AssertionError(f"never within {bound * SLOW:g} s: {took}")


# --- processes ---------------------------------------------------------------------------------------------------

class Proc:
    """A process as /proc showed it once."""

    def __init__(self, pid):
        stat = Path(f"/proc/{pid}/stat").read_text()
        rest = stat[stat.rindex(")") + 2:].split()
        self.pid, self.comm = pid, stat[stat.index("(") + 1:stat.rindex(")")]
        self.state, self.ppid, self.pgid = rest[0], int(rest[1]), int(rest[2])
        self.starttime = int(rest[19])
        self.cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()

    @property
    def alive(self):
        with contextlib.suppress(OSError, ValueError):
            now = Proc(self.pid)
            return now.starttime == self.starttime and now.state not in "ZX"
        return False

    def kill(self, sig=signal.SIGKILL):
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def status(self, key):
        """A line of /proc/PID/status, e.g. status("Uid")."""
        m = re.search(rf"^{key}:\s*(.*)$", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        return m and m.group(1)

    def __repr__(self):
        return f"<{self.pid} {self.state} {self.cmdline or self.comm}>"


def all_procs():
    procs = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError):
                procs[int(entry)] = Proc(int(entry))
    return procs


def tree(root, include_root=False):
    """Every live descendant of process `root`, parents before children."""
    procs, found = all_procs(), []
    todo = [root]
    while todo:
        pid = todo.pop(0)
        if (pid != root or include_root) and pid in procs and procs[pid].state not in "ZX":
            found.append(procs[pid])
        todo.extend(sorted(p.pid for p in procs.values() if p.ppid == pid))
    return found


# --- PostgreSQL --------------------------------------------------------------------------------------------------

class PgServer:
    """A private PostgreSQL (tests/pg), always on the same port.  `settings` e.g. fsync="on"."""

    def __init__(self, directory, **settings):
        self.dir = Path(directory)
        self.settings = [f"{k}={v}" for k, v in {"port": free_port(), **settings}.items()]
        self.conninfo = None

    def start(self):
        self.conninfo = subprocess.run([SOURCE / "tests/pg", "start", self.dir, *self.settings], check=True,
                                       stdout=subprocess.PIPE, text=True).stdout.strip()
        return self

    @property
    def pid(self):
        return int((self.dir / "data/postmaster.pid").read_text().split()[0])

    def procs(self):
        with contextlib.suppress(OSError, ValueError, IndexError):
            return tree(self.pid, include_root=True)
        return []

    def stop(self, mode="fast"):
        # Not by pg_ctl: it would wait for a process that, being our child, only we can reap.
        procs = self.procs()
        if not procs:
            return
        procs[0].kill({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        wait_for(lambda: not any(p.alive for p in procs), 60, f"PostgreSQL stopped ({mode}): {procs}")
        reap_orphans()

    def kill9(self):
        """Kill every process of it at once, as a power cut would; start() recovers."""
        procs = self.procs()
        for p in procs:
            p.kill()
        wait_for(lambda: not any(p.alive for p in procs), what="PostgreSQL dead")
        reap_orphans()

    def restart(self, mode="fast"):
        """Stop and start again."""
        self.stop(mode)
        return self.start()


def reap_orphans():
    """Collect dead processes that became our children; those that Popen objects own are left alone."""
    owned = {p.pid for p in Stepd.popen}
    for p in all_procs().values():
        if p.ppid == os.getpid() and p.state == "Z" and p.pid not in owned:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(p.pid, os.WNOHANG)


class Database:
    """A fresh database and one autocommit connection to it.  `like`: the Database it is a copy of."""

    numbers = itertools.count(1)

    def __init__(self, server_conninfo, like=None):
        self.server = server_conninfo
        self.name = f"t{os.getpid()}_{next(self.numbers)}"
        self.conninfo = f"{server_conninfo} dbname={self.name}"
        conn = psycopg2.connect(server_conninfo)
        conn.autocommit = True
        # A copy of files: writing a schema through the log takes ten times as long.
        strategy = "strategy file_copy" if conn.server_version >= 150000 else ""
        conn.cursor().execute(f'create database "{self.name}"' + (f' template "{like.name}" {strategy}' if like else ""))
        conn.close()
        self._conn = None

    def connect(self, autocommit=True):
        """A new connection, rows as dicts; the caller closes it."""
        conn = psycopg2.connect(self.conninfo, cursor_factory=psycopg2.extras.RealDictCursor)
        conn.autocommit = autocommit
        return conn

    @property
    def conn(self):
        if self._conn is None or self._conn.closed:
            self._conn = self.connect()
        return self._conn

    def rows(self, sql, *args):
        """All rows as dicts; reconnects once if the server was restarted."""
        for last in (False, True):
            try:
                with self.conn.cursor() as cur:
                    cur.execute(sql, args or None)
                    return [dict(r) for r in cur.fetchall()] if cur.description else []
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if last or not self._conn.closed:
                    raise

    execute = rows

    def row(self, sql, *args):
        rows = self.rows(sql, *args)
        return rows[0] if rows else None

    def value(self, sql, *args):
        row = self.row(sql, *args)
        return next(iter(row.values())) if row else None

    def values(self, sql, *args):
        return [next(iter(r.values())) for r in self.rows(sql, *args)]

    # stepd's own words
    def enqueue(self, topic, data=None, **options):
        """stepd.enqueue; options priority, run_at, group_id, unique_key.  The job ids."""
        named = "".join(f", {k} => %s" for k in options)
        return self.values(f"select stepd.enqueue(%s, %s::jsonb{named})", topic, json.dumps(data), *options.values())

    def job(self, job_id):
        return self.row("select * from stepd.jobs where id = %s", job_id)

    def attempts(self, job_id):
        return self.rows("select * from stepd.attempts where job_id = %s order by attempt", job_id)

    def logs(self, job_id):
        return self.rows("select * from stepd.logs where job_id = %s order by at", job_id)

    def state(self, group, key):
        return self.value("select value from stepd.state where group_id = %s and key = %s", group, key)

    def wait_status(self, job_id, *statuses, deadline=10.0):
        """Wait until the job has one of the statuses; the job."""
        return wait_for(lambda: (j := self.job(job_id)) and j["status"] in statuses and j, deadline,
                        lambda: f"job {job_id} {' or '.join(statuses)}: {self.job(job_id)}")

    def wait_value(self, sql, expected, *args, deadline=10.0):
        return wait_for(lambda: self.value(sql, *args) == expected or None, deadline,
                        lambda: f"{sql} = {expected!r}, is {self.value(sql, *args)!r}")

    def close(self):
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def drop(self):
        self.close()
        conn = psycopg2.connect(self.server)
        conn.autocommit = True
        conn.cursor().execute(f'drop database if exists "{self.name}" with (force)')
        conn.close()


# --- the built tree ----------------------------------------------------------------------------------------------

class Stage:
    """What an installation would have, copied where every user can read it: programs, SQL, sample steps, the header.

    The checkout may lie below a folder that an unprivileged user cannot enter, and a daemon started as root runs
    its children as one.
    """

    def __init__(self, directory):
        self.dir = Path(directory)
        self.sql, self.steps, self.include, self.bin = (self.dir / name for name in ("sql", "steps", "include", "bin"))
        shutil.copytree(SOURCE / "sql", self.sql, ignore=lambda d, names: [n for n in names if not n.endswith(".sql")])
        self.steps.mkdir()
        self.bin.mkdir()
        for program in ("stepd", "stepctl"):
            shutil.copy(BUILD / "src" / program, self.bin)
        for so in glob.glob(str(BUILD / "steps/*.so")):
            shutil.copy(so, self.steps)
        shutil.copytree(SOURCE / "src/step/stepd", self.include / "stepd")
        os.chmod(self.dir, 0o755)

    def compile_step(self, name, source, into, flags=()):
        """Build the C source text as into/NAME.so, as a user would; its path."""
        into = Path(into)
        into.mkdir(exist_ok=True)
        c, so = into / f".{name}.c", into / f"{name}.so"
        c.write_text(source)
        # Beside it first, then moved: a daemon that looks meanwhile never sees half a file.
        cmd = ["cc", "-shared", "-fPIC", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", f"-I{self.include}", *flags,
               "-o", f"{so}.new", str(c)]
        done = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{' '.join(cmd)}\n{done.stdout}"
        os.rename(f"{so}.new", so)
        return so


# With pytest-xdist several of us work side by side: root has its own SysV shared memory then, so that nobody takes another's
# dead server for a leak of its own.
WORKER, WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
CLONE_NEWIPC = 0x08000000
if WORKERS > 1 and ROOT:
    ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWIPC)


# --- systemd's side of sd_notify ---------------------------------------------------------------------------------

class NotifySocket:
    """Listens where NOTIFY_SOCKET points; keeps every message as a dict, in order, with the sender's pid."""

    def __init__(self, path):
        self.path = str(path)
        self.messages = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o777)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                data, anc, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(12))
            except OSError:
                return
            if data == b"\0close":
                return
            pid = next((int.from_bytes(c[:4], "little") for level, kind, c in anc
                        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS), 0)
            message = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
            message["_pid"], message["_at"] = pid, time.monotonic()
            self.messages.append(message)

    def seen(self, key, value=None, since=0):
        """The first message from number `since` on that has key (and value: a string or a compiled pattern)."""
        for m in self.messages[since:]:
            if key in m and (value is None or m[key] == value or (hasattr(value, "search") and value.search(m[key]))):
                return m
        return None

    def wait(self, key, value=None, since=0, deadline=10.0):
        return wait_for(lambda: self.seen(key, value, since), deadline,
                        lambda: f"notify {key}={value}; seen {self.messages[since:]}")

    def close(self):
        with contextlib.suppress(OSError):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            s.sendto(b"\0close", self.path)
            s.close()
        self.thread.join(5)
        self.sock.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


# --- the daemon --------------------------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Stepd:
    """One stepd under test.  Made by the `stepd` fixture; start() returns when it said READY=1."""

    popen = []  # every daemon of this test process, so that orphans and own children are told apart

    def __init__(self, stage, directory, db=None, name="stepd"):
        self.stage, self.dir, self.db, self.name = stage, Path(directory), db, name
        self.steps = self.dir / "steps"  # for steps of the test itself
        self.steps.mkdir(exist_ok=True)
        self.config_file = self.dir / f"{name}.yaml"
        self.log_file = self.dir / f"{name}.log"
        self.http_port, self.admin_port = free_port(), free_port()
        self.env = {}
        self.process = None
        self.notify = None

    # what it runs with
    def config(self, samples=False, **changes):
        """The default configuration for tests as a dict: this database, free ports, few processes.

        Keyword arguments replace top-level keys (None removes one).  samples=True adds the sample steps' folder.
        """
        conf = {
            "steps": [str(self.steps)] + ([str(self.stage.steps)] if samples else []),
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "pools": {"default": {"processes": 2, "serves": ["queue"]}, "web": {"processes": 1, "serves": ["http"]}},
            "logging": {"level": "debug"},
        }
        if self.db is not None:
            conf["database"] = {"url": self.db.conninfo}
        conf.update(changes)
        return {k: v for k, v in conf.items() if v is not None}

    def write_config(self, config=None):
        """Write the configuration: a dict, YAML text, or None for the default one."""
        if config is None:
            config = self.config()
        # JSON is YAML.
        self.config_file.write_text(config if isinstance(config, str) else json.dumps(config, indent=1, ensure_ascii=False))
        return self.config_file

    def step(self, name, source, flags=()):
        return self.stage.compile_step(name, source, self.steps, flags)

    # start and stop
    def command(self, *args):
        return [str(BUILD / "src/stepd"), *map(str, args)]

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "STEPD_", "NOTIFY_", "WATCHDOG_"))}
        if "STEPD_TEST_RUN" in os.environ:
            env["STEPD_TEST_RUN"] = os.environ["STEPD_TEST_RUN"]
        env.update(STEPD_SQL_DIR=str(self.stage.sql), LC_ALL="C.UTF-8")
        if self.notify:
            env["NOTIFY_SOCKET"] = self.notify.path
        env.update({k: str(v) for k, v in self.env.items()})
        return env

    def launch(self, *args, config=None):
        """Start it with `-c CONFIG ARGS…` and return at once."""
        assert self.process is None or self.process.poll() is not None, "already running"
        if config is not None or not self.config_file.exists():
            self.write_config(config)
        if self.notify is None:
            self.notify = NotifySocket(self.dir / f"{self.name}.notify")
        self.since = len(self.notify.messages)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command("-c", self.config_file, *args), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.environment(), cwd=self.dir, start_new_session=True)
        Stepd.popen.append(self.process)
        return self

    def start(self, *args, config=None, deadline=30.0):
        """Start it and wait until it is ready."""
        self.launch(*args, config=config)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"stepd ended with {self.process.returncode} before it was ready:\n{self.log()[-6000:]}")
            return self.notify.seen("READY", "1", self.since)

        wait_for(ready, deadline, lambda: f"READY=1; log:\n{self.log()[-6000:]}")
        return self

    def run(self, *args, config=None, deadline=30.0):
        """Start it, wait until it ends; the exit code.  For starts that are meant to fail and for --check."""
        self.launch(*args, config=config)
        return self.wait(deadline)

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def send(self, sig):
        self.process.send_signal(sig)

    def wait(self, deadline=30.0):
        """The exit code (negative: the signal), when it ended by itself."""
        try:
            return self.process.wait(deadline * SLOW)
        except subprocess.TimeoutExpired:
            raise Late(f"stepd still runs after {deadline * SLOW:g} s: {self.procs()}; log:\n{self.log()[-6000:]}") from None

    def stop(self, sig=signal.SIGTERM, deadline=30.0):
        if self.running:
            self.send(sig)
        return self.wait(deadline)

    def reload(self, deadline=30.0):
        """HUP, and wait until RELOADING=1 was followed by READY=1."""
        since = len(self.notify.messages)
        self.send(signal.SIGHUP)
        self.notify.wait("RELOADING", "1", since, deadline)
        at = next(i for i, m in enumerate(self.notify.messages) if i >= since and m.get("RELOADING") == "1")
        self.notify.wait("READY", "1", at + 1, deadline)

    def procs(self, pattern=None):
        """Its live child processes of all depths; with a pattern, those whose command line matches."""
        if not self.running:
            return []
        return [p for p in tree(self.pid) if pattern is None or re.search(pattern, p.cmdline)]

    def workers(self, pool=r"\S+"):
        """The workers the supervisor forked.  Not what has their title but is their child: a handler's fork, or the
        tracer that LeakSanitizer clones as a process ends."""
        return [p for p in self.procs(rf"^stepd: worker {pool}/") if p.ppid == self.pid]

    def child(self, pattern, deadline=10.0):
        """The child whose command line matches; waits for it."""
        return wait_for(lambda: self.procs(pattern), deadline, lambda: f"child {pattern}: {self.procs()}")[0]

    def kill9(self):
        """kill -9 of all its processes at once."""
        victims = [Proc(self.pid)] + self.procs() if self.running else []
        for p in victims:
            p.kill(signal.SIGSTOP)
        for p in victims + self.procs():
            p.kill()
        self.process.wait(10)
        wait_for(lambda: not any(p.alive for p in victims), what="all dead")
        reap_orphans()

    def close(self):
        """End of the test: whatever still runs is ended.  True if it went as asked."""
        ok = True
        if self.running:
            self.send(signal.SIGTERM)
            try:
                self.process.wait(20 * SLOW)
            except subprocess.TimeoutExpired:
                ok = False
                self.kill9()
        if self.notify:
            self.notify.close()
            self.notify = None
        return ok

    # what it says
    def log(self, since=0):
        """The log as text from byte `since` on."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[since:].decode(errors="replace")

    def log_mark(self):
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def wait_log(self, pattern, since=0, deadline=10.0):
        """Wait for a line of the log that matches; the match."""
        return wait_for(lambda: re.search(pattern, self.log(since), re.M), deadline,
                        lambda: f"log /{pattern}/ in:\n{self.log(since)[-4000:]}")

    def request(self, method, path, body=None, headers=None, port=None, timeout=30):
        """One HTTP request; a dict or list as body is sent as JSON."""
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        conn = http.client.HTTPConnection("127.0.0.1", port or self.http_port, timeout=timeout * SLOW)
        try:
            conn.request(method, path, body, headers)
            r = conn.getresponse()
            return Reply(r.status, r.headers, r.read())
        finally:
            conn.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def stepctl(self, *args, check=True, stdin=None):
        """stepctl with this daemon's configuration file; the finished process, text."""
        env = self.environment()
        env.pop("NOTIFY_SOCKET", None)
        if self.db is not None:
            env.setdefault("STEPD_DATABASE_URL", self.db.conninfo)
        done = subprocess.run([str(BUILD / "src/stepctl"), *map(str, args)], input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=env, cwd=self.dir, timeout=60 * SLOW)
        if check:
            assert done.returncode == 0, f"stepctl {args} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done


# --- what sanitizers found ---------------------------------------------------------------------------------------

def take_findings():
    """The reports written since the last call, and then no more.  An empty one is of a process killed before it wrote it."""
    files = sorted(FINDINGS.iterdir()) if FINDINGS else []
    texts = [f.read_text(errors="replace") for f in files]
    for f in files:
        f.unlink()
    return [t for t in texts if t.strip()]


# --- folders -----------------------------------------------------------------------------------------------------

def temp_dir(prefix):
    """A folder any user may enter; short, because Unix socket paths are."""
    d = Path(tempfile.mkdtemp(prefix=prefix))
    os.chmod(d, 0o755)
    return d
