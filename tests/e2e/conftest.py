"""Fixtures of the end-to-end tests; the words are in harness.py.

    def test_greeting(db, stepd):
        stepd.step("hello", C_SOURCE)
        stepd.start(config=stepd.config(queues={"hello": {"maxRetries": 0}}))
        [job] = db.enqueue("hello", {"n": 1})
        assert db.wait_status(job, "completed")["attempt"] == 1

Each test gets its own database, folder and ports.  At its end every daemon is stopped, and a process, shared memory
segment or instance pointer that is left fails the test.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
import leaks  # noqa: E402


@pytest.fixture(scope="session")
def session_dir():
    d = harness.temp_dir("stepd-e2e-")
    os.environ.setdefault("STEPD_TEST_PG_TEMPLATE", str(d / "pg-template"))
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="session")
def stage(session_dir):
    """The built tree as installed: SQL, sample steps, header."""
    assert (harness.BUILD / "src/stepd").exists(), f"{harness.BUILD}/src/stepd is not built (STEPD_BUILD names another folder)"
    d = session_dir / "stage"
    d.mkdir()
    return harness.Stage(d)


@pytest.fixture(scope="session")
def pg(session_dir):
    """The shared private PostgreSQL; conninfo in .conninfo.  For databases of tests, never to be stopped."""
    # Side by side with others a test cannot be sure to end only its own connections: the others have their own server.
    if os.environ.get("STEPD_TEST_PG") and harness.WORKER == 0:
        server = harness.PgServer(session_dir / "none")
        server.conninfo = os.environ["STEPD_TEST_PG"]
        yield server
        return
    server = harness.PgServer(session_dir / "pg").start()
    yield server
    server.stop("immediate")


@pytest.fixture(autouse=True)
def sanitizers():
    """What a sanitizer found in any process fails the test."""
    yield
    findings = harness.take_findings()
    if findings:
        pytest.fail("\n".join(findings)[:8000])


@pytest.fixture
def tmp(request):
    """A folder for one test, readable for all users, with a short name."""
    d = harness.temp_dir("sd-")
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated(pg, stage):
    """What databases of tests are copied from: no jobs, the schema as `stepctl migrate` makes it."""
    d = harness.Database(pg.conninfo)
    subprocess.run([stage.bin / "stepctl", "--database", d.conninfo, "migrate"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "STEPD_SQL_DIR": str(stage.sql)})
    yield d
    d.drop()


@pytest.fixture
def make_db(pg, migrated, request):
    """Function that makes another fresh database."""
    made = []

    def make():
        made.append(harness.Database(pg.conninfo, None if request.node.get_closest_marker("no_schema") else migrated))
        return made[-1]

    yield make
    for d in made:
        d.drop()


@pytest.fixture
def db(make_db):
    """A database without jobs; in a test marked no_schema, without the schema stepd too."""
    return make_db()


@pytest.fixture
def own_pg(tmp, leak_check, request):
    """A PostgreSQL of this test alone, with fsync on, to be restarted and killed; own_pg.conninfo, .restart(), .kill9()."""
    server = harness.PgServer(tmp / "pg", fsync="on").start()
    yield server
    for d in getattr(request.node, "daemons", []):
        d.close()  # while their database is still there
    server.stop("immediate")


@pytest.fixture
def leak_check(pg, tmp):
    check = leaks.LeakCheck([pg], tmp)
    yield check
    try:
        harness.wait_for(lambda: not check.leaks(), 3, "no leaks")
    except harness.Late:
        left = check.leaks()
        check.clean_up()
        if left:
            pytest.fail("left behind: " + ", ".join(left))


@pytest.fixture
def make_stepd(stage, tmp, leak_check, request):
    """Function that makes another daemon: make_stepd(db, name="b").  Each name has its own folder and ports."""
    made = []

    def make(db=None, name="stepd"):
        d = tmp / name
        d.mkdir()
        made.append(harness.Stepd(stage, d, db, name))
        return made[-1]

    request.node.daemons = made
    yield make
    stuck = [d for d in made if not d.close()]
    if stuck:
        pytest.fail("\n".join(f"{d.name} did not stop after TERM:\n{d.log()[-6000:]}" for d in stuck))


@pytest.fixture
def stepd(db, make_stepd):  # in this order: the daemon goes before its database
    """A daemon on `db`, not yet started; steps of its own in stepd.steps (stepd.step(name, source))."""
    return make_stepd(db)


@pytest.fixture
def free_port():
    return harness.free_port


@pytest.fixture
def compile_step(stage):
    """compile_step(name, source, directory) builds a C step; its path."""
    return stage.compile_step


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; left out of the run with sanitizers")
    config.addinivalue_line("markers", "no_schema: its databases are empty, so that the daemon makes the schema")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for d in getattr(item, "daemons", []):
            report.sections.append((f"log of {d.name}", d.log()[-12000:]))


def pytest_sessionfinish(session, exitstatus):
    # Ours alone: what tests started and lost.
    for p in harness.tree(os.getpid()):
        if (p.comm == "stepd" or "stepd" in p.cmdline) and p.pid != os.getpid():
            p.kill()
    if harness.FINDINGS:
        for text in harness.take_findings():  # of a process that outlived the last test
            print(text, file=sys.stderr)
            session.exitstatus = 1
        shutil.rmtree(harness.FINDINGS, ignore_errors=True)
