"""The embedded PostgreSQL: first start, second start, in use, killed in every way, users, odd directories."""

import os
import pwd
import re
import socket
import subprocess
import time
from pathlib import Path

import psycopg2
import pytest

import harness
from harness import BUILD, Proc, wait_for

pytestmark = pytest.mark.skipif(not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no PostgreSQL server")

STEP = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return STEPD_OK; }
STEPD_STEP(.name = "Emb", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("emb")), .handler = handle);
"""


class Embedded:
    """A daemon with a database of its own in `dir`."""

    def __init__(self, daemon, directory):
        self.daemon, self.dir = daemon, Path(directory)
        daemon.step("emb", STEP)

    def config(self, **changes):
        conf = self.daemon.config(**changes)
        conf["pools"] = {"default": {"processes": 1, "serves": ["queue"]}}
        return conf

    def start(self, deadline=60, **changes):
        self.daemon.start("--embedded", self.dir, config=self.config(**changes), deadline=deadline)
        return self

    def stop(self, **kw):
        return self.daemon.stop(**kw)

    @property
    def conninfo(self):
        return (self.dir / "conninfo").read_text().strip()

    def sql(self, query, *args):
        conn = psycopg2.connect(self.conninfo)
        try:
            conn.autocommit = True
            with conn.cursor() as c:
                c.execute(query, args or None)
                return c.fetchall()
        finally:
            conn.close()

    def run_job(self):
        [[job]] = self.sql("select stepd.enqueue('emb', '{}')")
        wait_for(lambda: self.sql("select status from stepd.jobs where id = %s", job) == [("completed",)], 10, "job completed")
        return job

    def postmaster(self):
        return Proc(int((self.dir / "data/postmaster.pid").read_text().split()[0]))


@pytest.fixture
def make_emb(make_stepd, tmp):
    n = 0

    def make(directory=None):
        nonlocal n
        n += 1
        return Embedded(make_stepd(None, f"e{n}"), directory or tmp / "emb")

    return make


@pytest.fixture(scope="module")
def made(stage, session_dir):
    """A directory as a first start leaves it; to be copied, for initdb takes its time."""
    d = session_dir / "embedded"
    d.mkdir()
    first = Embedded(harness.Stepd(stage, d), d / "emb").start()
    assert first.stop() == 0
    first.daemon.close()
    return first.dir


@pytest.fixture
def emb(make_emb, made):
    emb = make_emb()
    subprocess.run(["cp", "-a", made, emb.dir], check=True)
    return emb.start()


def test_first_start(make_emb):
    emb = make_emb().start()
    job = emb.run_job()
    assert job >= 1
    assert re.search(rf'psql "host={emb.dir}/run port=5432 user=stepd dbname=stepd"', emb.daemon.log())
    settings = dict(emb.sql("select name, setting from pg_settings where name in "
                            "('fsync', 'listen_addresses', 'full_page_writes', 'synchronous_commit', 'data_checksums')"))
    assert settings == {"fsync": "on", "listen_addresses": "", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on"}
    assert (emb.dir.stat().st_mode & 0o777) == 0o700
    postmaster = emb.postmaster()
    assert postmaster.ppid == emb.daemon.pid
    assert postmaster.status("Uid").split()[0] != "0"
    assert emb.sql("select current_user, pg_encoding_to_char(encoding) from pg_database where datname = 'stepd'") == [("stepd", "UTF8")]
    assert emb.stop() == 0
    assert not (emb.dir / "conninfo").exists()
    assert not list((emb.dir / "run").iterdir())


def test_stopped_last_and_cleanly(emb):
    emb.run_job()
    assert emb.stop() == 0
    log = emb.daemon.log()
    assert log.index("keeper (pid") < log.index("postgres (pid", log.index("stopping"))
    assert re.search(r"postgres \(pid \d+\) ended with exit code 0", log)
    server = (emb.dir / "log/postgresql.log").read_text()
    assert "database system is shut down" in server


def test_second_start_has_the_history(emb):
    job = emb.run_job()
    assert emb.stop() == 0
    began = time.monotonic()
    emb.start()
    assert time.monotonic() - began < 10 * harness.SLOW
    assert emb.sql("select status from stepd.jobs where id = %s", job) == [("completed",)]
    assert emb.run_job() > job


def test_directory_in_use_is_refused(emb, make_emb):
    other = make_emb(emb.dir)
    assert other.daemon.run("--embedded", other.dir, config=other.config()) == 78
    assert re.search(rf"{emb.dir} is in use by pid {emb.daemon.pid}\b", other.daemon.log())
    emb.run_job()
    assert emb.stop() == 0
    other.start()
    other.run_job()


def test_killed_all_at_once(emb):
    job = emb.run_job()
    for _ in range(2):
        emb.daemon.kill9()
        emb.start()
        assert emb.sql("select status from stepd.jobs where id = %s", job) == [("completed",)]
        job = emb.run_job()
    assert emb.stop() == 0


def test_killed_supervisor_takes_postgres_with_it(emb):
    job = emb.run_job()
    children = emb.daemon.procs()
    assert any(p.comm == "postgres" for p in children)
    Proc(emb.daemon.pid).kill()
    emb.daemon.process.wait(5)
    wait_for(lambda: harness.reap_orphans() or not any(p.alive for p in children), 5, "all gone")
    emb.start()
    assert emb.sql("select status from stepd.jobs where id = %s", job) == [("completed",)]
    assert emb.stop() == 0


def test_restart_right_after_kill(emb):
    """The next supervisor may come while the old PostgreSQL is still ending: it waits for it."""
    emb.run_job()
    Proc(emb.daemon.pid).kill()
    emb.daemon.process.wait(5)
    emb.start()
    emb.run_job()


def test_killed_postmaster_comes_again(emb):
    emb.run_job()
    first = emb.postmaster()
    first.kill()

    def again():
        try:
            return emb.postmaster().pid != first.pid and emb.sql("select 1")
        except (OSError, IndexError, psycopg2.Error):  # IndexError: postmaster.pid is there, still empty
            return False

    wait_for(again, 20, "a new postmaster")
    emb.run_job()
    assert emb.stop() == 0


def test_killed_backend_is_survived(emb):
    emb.run_job()
    backends = [p for p in emb.daemon.procs(r"^postgres: stepd stepd")]
    assert backends
    backends[0].kill()  # PostgreSQL restarts all its backends
    wait_for(lambda: not backends[0].alive, 5)

    def works():
        try:
            return emb.run_job()
        except (psycopg2.Error, harness.Late):
            return False

    wait_for(works, 20, "jobs run again")
    assert emb.stop() == 0


def test_interrupted_initdb_is_begun_again(make_emb):
    emb = make_emb()
    emb.daemon.launch("--embedded", emb.dir, config=emb.config())
    wait_for(lambda: (emb.dir / "data.new").exists(), 20, "initdb at work", interval=0.001)
    emb.daemon.kill9()
    assert not (emb.dir / "data").exists()
    emb.start()
    assert not (emb.dir / "data.new").exists()
    emb.run_job()


def test_term_during_initdb(make_emb):
    emb = make_emb()
    emb.daemon.launch("--embedded", emb.dir, config=emb.config())
    wait_for(lambda: (emb.dir / "data.new").exists(), 20, "initdb at work", interval=0.001)
    assert emb.stop() == 0


def test_stale_postmaster_pid_of_another_process(emb):
    """After a crash its number may belong to anyone: here to this test."""
    emb.run_job()
    emb.daemon.kill9()
    pidfile = emb.dir / "data/postmaster.pid"
    lines = pidfile.read_text().splitlines(keepends=True)
    lines[0] = f"{os.getpid()}\n"
    owner = pidfile.stat()
    pidfile.write_text("".join(lines))
    os.chown(pidfile, owner.st_uid, owner.st_gid)
    emb.start()
    emb.run_job()


def test_someone_elses_postmaster_on_our_data_is_refused(emb):
    """Started by hand on the data directory: not ours to stop."""
    assert emb.stop() == 0
    bindir = next(Path("/usr/lib/postgresql").glob("*/bin"))
    data = emb.dir / "data"
    owner = data.stat().st_uid
    run = ["runuser", "-u", pwd.getpwuid(owner).pw_name, "--"] if harness.ROOT else []
    subprocess.run([*run, bindir / "pg_ctl", "-D", data, "-w", "-s", "-o", f"-k {emb.dir}/run -c listen_addresses=", "-l",
                    emb.dir / "log/hand.log", "start"], check=True, cwd="/", stdin=subprocess.DEVNULL)
    try:
        hand = emb.postmaster()
        assert emb.daemon.run("--embedded", emb.dir, config=emb.config(), deadline=90) == 78
        assert re.search(rf"{data} is in use by a PostgreSQL that is not ours, pid {hand.pid}", emb.daemon.log())
        assert hand.alive
    finally:
        subprocess.run([*run, bindir / "pg_ctl", "-D", data, "-w", "-s", "-m", "fast", "stop"], check=True, cwd="/")


def test_long_directory(make_emb, tmp):
    """Too long for a Unix socket's address: the socket is in a short directory of its own, removed at stop."""
    emb = make_emb(tmp / ("long" * 25))
    emb.start()
    assert len(emb.conninfo) < 100
    link = os.readlink(emb.dir / "run")
    assert link.startswith("/tmp/stepd-") and (os.stat(link).st_mode & 0o777) == 0o700
    emb.run_job()
    emb.daemon.kill9()
    emb.start()
    assert os.readlink(emb.dir / "run") == link  # used again, not leaked
    emb.run_job()
    assert emb.stop() == 0
    assert not os.path.lexists(link)


def test_directory_with_blanks(make_emb, tmp):
    emb = make_emb(tmp / "with some blanks")
    emb.start()
    emb.run_job()
    assert emb.stop() == 0


def test_directory_with_other_files_is_left_alone(make_emb, tmp):
    precious = tmp / "mine"
    precious.mkdir()
    (precious / "thesis.txt").write_text("words")
    before = precious.stat()
    emb = make_emb(precious)
    assert emb.daemon.run("--embedded", precious, config=emb.config()) == 78
    assert "holds other files" in emb.daemon.log()
    after = precious.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert [p.name for p in precious.iterdir()] == ["thesis.txt"]


def test_a_start_that_fails_leaves_no_directory(make_emb, tmp):
    emb = make_emb(tmp / "new")
    (tmp / "empty").mkdir()
    with socket.create_server(("127.0.0.1", emb.daemon.http_port)):
        for directory in ("new", "empty"):
            assert emb.daemon.run("--embedded", tmp / directory, config=emb.config()) == 78
    assert "Address already in use" in emb.daemon.log()
    assert not (tmp / "new").exists() and list((tmp / "empty").iterdir()) == []


def test_file_instead_of_directory(make_emb, tmp):
    (tmp / "file").write_text("x")
    emb = make_emb(tmp / "file")
    assert emb.daemon.run("--embedded", tmp / "file", config=emb.config()) == 78
    assert str(tmp / "file") in emb.daemon.log()


def test_version_that_is_not_installed(emb):
    assert emb.stop() == 0
    version = emb.dir / "data/PG_VERSION"
    text = version.read_text()
    version.write_text("11\n")
    assert emb.daemon.run("--embedded", emb.dir, config=emb.config()) == 78
    assert "was made by PostgreSQL 11, which is not installed" in emb.daemon.log()
    version.write_text(text)


def test_broken_cluster_is_69_with_the_reason(emb):
    assert emb.stop() == 0
    conf = emb.dir / "data/postgresql.conf"
    conf.write_text(conf.read_text() + "\nno_such_setting = 1\n")
    assert emb.daemon.run("--embedded", emb.dir, config=emb.config(database={"wait": "2s"}), deadline=60) == 69
    assert re.search(r"the embedded PostgreSQL does not start: .*postgresql\.log", emb.daemon.log())


@pytest.mark.skipif(not harness.ROOT, reason="needs root")
def test_directory_the_user_cannot_reach(make_emb, tmp):
    closed = tmp / "closed"
    closed.mkdir(mode=0o700)
    emb = make_emb(closed / "emb")
    assert emb.daemon.run("--embedded", emb.dir, config=emb.config()) == 78
    assert re.search(r"cannot work in .*closed/emb.*directory above it", emb.daemon.log())


@pytest.mark.skipif(not harness.ROOT, reason="needs root")
def test_root_is_left_behind(emb):
    names = {Proc(emb.daemon.pid).status("Uid")} | {p.status("Uid") for p in emb.daemon.procs()}
    assert len(names) == 1 and names.pop().split()[0] != "0"
    assert Path("/run/stepd/embedded").read_text().strip() == emb.conninfo


def test_stepctl_finds_it(emb):
    emb.run_job()
    env = {k: v for k, v in emb.daemon.environment().items() if not k.startswith("STEPD_DATABASE")}
    r = subprocess.run([str(BUILD / "src/stepctl"), "--json", "jobs"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       env=env, cwd="/", timeout=30)
    assert r.returncode == 0 and '"emb"' in r.stdout.lower(), r.stdout + r.stderr


def test_reload_keeps_the_database(emb):
    postmaster = emb.postmaster()
    emb.daemon.reload()
    emb.run_job()
    assert emb.postmaster().pid == postmaster.pid


def test_many_processes_fit_the_connections(make_emb):
    emb = make_emb()
    conf = emb.config()
    conf["pools"]["default"]["processes"] = 40
    emb.daemon.start("--embedded", emb.dir, config=conf, deadline=60)
    emb.daemon.reload()
    emb.run_job()
    assert "too many clients" not in (emb.dir / "log/postgresql.log").read_text()
