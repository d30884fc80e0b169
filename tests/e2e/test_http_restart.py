"""With systemd's socket, a restart of the service under load refuses no request."""

import signal
import socket
import subprocess
import threading

import harness
from harness import wait_for

STEP = r"""
#include <stepd/step.h>
static int handle(struct stepd_ctx *ctx) { return stepd_reply(ctx, 200, NULL); }
STEPD_STEP(.name = "Up", .handler = handle, .triggers = STEPD_TRIGGERS(
	STEPD_HTTP("GET", "/up"), STEPD_HTTP("POST", "/up", .respond = STEPD_ACCEPTED)));
"""


def launch(d, given):
    """As systemd would: the socket is descriptor 3."""
    code = (f"import os,sys; os.dup2({given.fileno()}, 3); os.set_inheritable(3, True); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='http'); os.execv(sys.argv[1], sys.argv[1:])")
    d.since = len(d.notify.messages)
    with open(d.log_file, "ab") as log:
        d.process = subprocess.Popen(["/usr/bin/python3", "-c", code, *d.command("-c", d.config_file)], stdout=log, stderr=log,
                                     pass_fds=[given.fileno()], env=d.environment(), start_new_session=True)
    harness.Stepd.popen.append(d.process)
    d.notify.wait("READY", "1", d.since, 30)


def test_restart_refuses_nobody(make_stepd, db):
    d = make_stepd(db)
    d.step("up", STEP)
    d.write_config()
    d.notify = harness.NotifySocket(d.dir / "n")
    replies, stop = [], threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as given:
        port = given.getsockname()[1]

        def ask(method):
            while not stop.is_set():
                try:
                    r = d.request(method, "/up", port=port)
                    replies.append((r.status, r.json["jobId"] if r.status == 202 else None))
                except Exception as e:  # whatever a client would see
                    replies.append((repr(e), None))

        launch(d, given)
        threads = [threading.Thread(target=ask, args=(m,)) for m in ("GET", "GET", "POST")]
        for t in threads:
            t.start()
        try:
            for _ in range(2):
                before = len(replies)
                wait_for(lambda: len(replies) > before + 20)
                d.send(signal.SIGTERM)
                assert d.wait(30) == 0
                launch(d, given)
            before = len(replies)
            wait_for(lambda: len(replies) > before + 20)
        finally:
            stop.set()
            for t in threads:
                t.join()
    assert {s for s, _ in replies} == {200, 202}
    jobs = [j for s, j in replies if s == 202]
    db.wait_value("select count(*) from stepd.jobs where status = 'completed' and id = any(%s)", len(jobs), jobs)
    assert d.stop() == 0
