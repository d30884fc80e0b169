"""The harness itself: a database each, waiting with a deadline, the notify socket, the leak check."""

import os
import socket
import subprocess

import harness
import leaks
import pytest


def test_each_test_has_its_own_database(db, make_db):
    other = make_db()
    db.execute("create table only_here ()")
    assert db.name != other.name
    assert other.value("select to_regclass('only_here')") is None


def test_wait_for_gives_the_value_or_says_what_was_late():
    values = iter([None, 0, 7])
    assert harness.wait_for(lambda: next(values), 5) == 7
    with pytest.raises(harness.Late, match="the moon"):
        harness.wait_for(lambda: False, 0.05, "the moon")


def test_notify_socket_keeps_messages_with_their_sender(tmp):
    n = harness.NotifySocket(tmp / "n")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(b"READY=1\nSTATUS=fine", n.path)
    m = n.wait("READY", "1")
    assert m["STATUS"] == "fine" and m["_pid"] == os.getpid()
    s.close()
    n.close()
    assert not os.path.exists(n.path)


def test_leak_check_finds_an_orphan(pg):
    check = leaks.LeakCheck(keep=[pg])
    assert check.leaks() == []
    # A grandchild whose parent ends at once becomes ours.
    subprocess.run(["sh", "-c", "sleep 60 & :"], check=True)
    harness.wait_for(lambda: any("sleep 60" in leak for leak in check.leaks()), 5, "orphan found")
    check.clean_up()
    harness.wait_for(lambda: not check.leaks(), 5, "orphan gone")


def test_own_postgres_survives_kill9(own_pg):
    db = harness.Database(own_pg.conninfo)
    db.execute("create table t as select 1 as x")
    own_pg.kill9()
    own_pg.restart()
    assert db.value("select x from t") == 1
    db.close()


LEAKY = """
#include <stdlib.h>
#include <stepd/step.h>
static int leaky(struct stepd_ctx *ctx)
{
	void *volatile lost = malloc(4321);
	lost = NULL;
	return lost == NULL ? STEPD_OK : 1;
}
STEPD_STEP(.name = "Leaky", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("leaky")), .handler = leaky);
"""

if "address" in harness.SANITIZED:
    def test_a_leak_in_a_worker_is_found(stepd, db):
        stepd.step("leaky", LEAKY)
        stepd.start()
        [job] = db.enqueue("leaky", {})
        db.wait_status(job, "completed")
        assert stepd.stop() == 0
        [found] = harness.take_findings()
        assert "LeakSanitizer" in found and "4321 byte(s)" in found
