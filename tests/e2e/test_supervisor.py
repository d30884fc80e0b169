"""The supervisor from outside: signals, exit codes, the notify protocol, reload, the death of every process, leaks."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from datetime import datetime

import pytest

import harness
from harness import BUILD, Proc, running, wait_for

# A step that does as its input says.
SOURCE = r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int handle(struct stepd_ctx *ctx)
{
	const char *what = stepd_get_str(stepd_data(ctx), "do");

	if (what == NULL)
		return STEPD_OK;
	if (strcmp(what, "abort") == 0)
		abort();
	if (strcmp(what, "hang") == 0)
		for (;;)
			pause();
	if (strcmp(what, "version") == 0)
		return stepd_return(ctx, stepd_object(ctx, stepd_str("version", VERSION)));
	if (strcmp(what, "nap") == 0)
		usleep(700000);
	if (strcmp(what, "strays") == 0 && system("sleep 1000 & setsid sleep 1001 & true") != 0)
		return stepd_fail(ctx, "system");
	return STEPD_OK;
}

static int hello(struct stepd_ctx *ctx)
{
	usleep(50000);
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_str("version", VERSION)));
}

static int both(struct stepd_ctx *ctx)
{
	return stepd_trigger(ctx) == STEPD_TRIGGER_HTTP ? hello(ctx) : handle(ctx);
}

STEPD_STEP(.name = "Sup", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("sup"), STEPD_HTTP("GET", "/hello")), .handler = both);
"""

CHILDREN = ["keeper", "cron", "http", "worker default/0", "worker default/1", "web web/0"]


def add_step(stepd, version="one"):
    stepd.step("sup", f'#define VERSION "{version}"\n' + SOURCE)


@pytest.fixture
def sup(stepd):
    add_step(stepd)
    stepd.start(config=stepd.config(queues={"sup": {"maxRetries": 1, "retryDelay": 50}}))
    return stepd


# --- command line and exit codes ---------------------------------------------------------------------------------

def stepd_command(*args, **kw):
    return subprocess.run([str(BUILD / "src/stepd"), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, **kw)


def test_help_and_version():
    r = stepd_command("--help")
    assert r.returncode == 0 and "--embedded DIR" in r.stdout and r.stderr == ""
    r = stepd_command("--version")
    assert r.returncode == 0 and re.match(r"stepd \d+\.\d+", r.stdout)


@pytest.mark.parametrize("args", [["--nonsense"], ["-c"], ["--embedded"], ["--embedded", ""], ["stray"], ["--check", "--chek=1"]])
def test_usage_is_64(args):
    r = stepd_command(*args)
    assert r.returncode == 64
    assert "stepd --help" in r.stderr and r.stdout == ""


def test_check_of_a_good_configuration(stepd):
    add_step(stepd)
    stepd.write_config()
    r = stepd_command("-c", stepd.config_file, "--check", env=stepd.environment())
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_check_names_every_problem(stepd):
    (stepd.steps / "text.so").write_text("this is no shared object\n")
    stepd.write_config(f"steps: [ {stepd.steps} ]\nhttp: {{ listen: nowhere }}\nquues: {{}}\n")
    r = stepd_command("-c", stepd.config_file, "--check")
    assert r.returncode == 78
    assert re.search(rf"^{stepd.config_file}:2:\d+: ", r.stderr, re.M)
    assert re.search(rf"^{stepd.config_file}:3:\d+: .*quues.*queues", r.stderr, re.M)
    stepd.write_config(f"steps: [ {stepd.steps} ]\n")
    r = stepd_command("-c", stepd.config_file, "--check")
    assert r.returncode == 78
    assert re.search(rf"^{stepd.steps}/text.so: ", r.stderr, re.M)
    stepd.write_config(f"steps:\n  - {stepd.dir}/nowhere\n  - {stepd.steps}\n  - {stepd.config_file}\nlogging: {{ file: {stepd.dir} }}\n")
    r = stepd_command("-c", stepd.config_file, "--check")
    assert r.returncode == 78
    for said in ('2:5: steps: the directory "%s/nowhere" can not be read: No such file' % stepd.dir, "4:5: steps: .*: Not a directory",
                 '5:18: logging.file: cannot open "%s": Is a directory' % stepd.dir):
        assert re.search(f"^{stepd.config_file}:{said}", r.stderr, re.M), (said, r.stderr)
    assert "text.so: " in r.stderr
    stepd.write_config("logging: { file: nowhere/stepd.log }\nuser: no-such-user\n")
    r = stepd_command("-c", stepd.config_file, "--check")
    assert r.returncode == (78 if harness.ROOT else r.returncode)
    assert f"{stepd.config_file}:1:18: logging.file: cannot open" in r.stderr
    assert not harness.ROOT or f'{stepd.config_file}:2:7: user: there is no user "no-such-user"' in r.stderr


def test_missing_configuration_file_is_78(tmp):
    r = stepd_command("-c", tmp / "none.yaml")
    assert r.returncode == 78 and "none.yaml" in r.stderr and "No such file" in r.stderr


def test_no_database_is_69(stepd):
    add_step(stepd)
    conf = stepd.config(database={"url": f"postgresql:///x?host={stepd.dir}", "wait": "500ms"})
    assert stepd.run(config=conf) == 69
    assert not stepd.notify.seen("READY")
    assert re.search(r"keeper.*cannot start", stepd.log())


def test_taken_port_is_said_with_its_address(stepd):
    add_step(stepd)
    with socket.create_server(("127.0.0.1", stepd.http_port)):
        assert stepd.run(config=stepd.config(logging={"format": "json"})) == 78
    assert all(json.loads(line)["level"] for line in stepd.log().splitlines())  # from the first line on
    assert f"http.listen: cannot listen on 127.0.0.1:{stepd.http_port}: Address already in use" in stepd.log()


def test_no_step_left_is_78(stepd):
    (stepd.steps / "text.so").write_text("not one")
    assert stepd.run() == 78
    assert "text.so" in stepd.log() and "no step is left" in stepd.log()


# --- steps that do not load --------------------------------------------------------------------------------------

@pytest.mark.parametrize("body,says", [
    ("__builtin_trap();", r"bad\.so: killed its process with signal 4 "),
    ("exit(3);", r"bad\.so: ended its process with exit code 3 "),
    ("exit(0);", r"bad\.so: ended its process with exit code 0 "),
])
def test_step_that_kills_the_loader(stepd, db, body, says):
    add_step(stepd)
    stepd.step("bad", f"#include <stdlib.h>\n__attribute__((constructor)) static void f(void) {{ {body} }}\n")
    stepd.start()
    assert re.search(says, stepd.log())
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed")
    r = stepd_command("-c", stepd.config_file, "--check", env=stepd.environment())
    assert r.returncode == 78 and re.search(says, r.stderr)


# --- start and stop ----------------------------------------------------------------------------------------------

def test_ready_means_jobs_can_run(sup, db):
    assert "no pools" not in sup.stepctl("status").stdout
    db.wait_value("select count(*) = 2 and bool_and(processes = min) from stepd.pools", True)
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed", deadline=2)
    assert sup.get("/hello").status == 200
    assert sorted(p.cmdline for p in sup.procs()) == sorted("stepd: " + c for c in CHILDREN)
    assert all(p.pgid == p.pid for p in sup.procs())


def test_titles_hold_no_secret(make_stepd, db):
    d = make_stepd(db)
    add_step(d)
    d.env["SECRET_OF_MINE"] = "hunter2"
    d.start()
    assert not [p for p in d.procs() if "hunter2" in p.cmdline or "SECRET" in p.cmdline or "dbname" in p.cmdline]


def sockets(pid):
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return {link for link in links if link.startswith("socket:")}


def test_children_hold_only_what_they_need(sup):
    """No child holds the notify socket, a listening socket that is not its own, or another's channel."""
    parents = sockets(sup.pid)
    shared = {p.cmdline: sockets(p.pid) & parents for p in sup.procs()}
    assert not any(shared[f"stepd: {c}"] for c in CHILDREN if c not in ("http", "web web/0"))
    assert len(shared["stepd: http"]) == 3  # http, admin, the web workers'
    assert len(shared["stepd: web web/0"]) <= 1
    channels = [sockets(p.pid) for p in sup.procs("default|keeper|cron")]
    assert sum(len(c) for c in channels) == len(set().union(*channels))


def test_term_drains(sup, db):
    [job] = db.enqueue("sup", {"do": "nap"})
    db.wait_status(job, "running")
    assert sup.stop() == 0
    assert db.job(job)["status"] == "completed"
    assert db.attempts(job) == []
    keys = [m for m in sup.notify.messages if "STOPPING" in m]
    assert keys and keys[0]["STOPPING"] == "1"


def test_what_outlives_the_drain_time_is_given_back(stepd, db):
    add_step(stepd)
    stepd.start(config=stepd.config(stop={"timeout": "300ms", "killGrace": "300ms"}))
    [job] = db.enqueue("sup", {"do": "hang"})
    db.wait_status(job, "running")
    assert stepd.stop() == 0
    assert db.job(job)["status"] == "ready"
    assert db.attempts(job) == []


def test_what_was_left_of_a_reload_gets_the_drain_time_too(stepd, db):
    """Its workers may take as long as they like, until the daemon is to stop."""
    add_step(stepd)
    stepd.start(config=stepd.config(stop={"timeout": "300ms", "killGrace": "300ms"}))
    [job] = db.enqueue("sup", {"do": "hang"})
    db.wait_status(job, "running")
    stepd.reload()
    assert db.job(job)["status"] == "running"
    assert stepd.stop() == 0
    assert db.job(job)["status"] == "ready"
    assert db.attempts(job) == []


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_fast_stop(sup, db, signals):
    [job] = db.enqueue("sup", {"do": "hang"})
    db.wait_status(job, "running")
    for i, s in enumerate(signals):
        if i:
            sup.notify.wait("STOPPING", "1")
        sup.send(s)
    begin = time.monotonic()
    assert sup.wait(10) == 0
    assert time.monotonic() - begin < 8 * harness.SLOW
    assert db.job(job)["status"] == "ready"


def test_term_while_starting(stepd):
    add_step(stepd)
    stepd.launch(config=stepd.config(database={"url": f"postgresql:///x?host={stepd.dir}"}))
    stepd.wait_log("keeper started")
    stepd.send(signal.SIGTERM)
    assert stepd.wait(15) == 0


def test_usr1_reopens_the_log_everywhere(stepd):
    add_step(stepd)
    log = stepd.dir / "own.log"
    stepd.start(config=stepd.config(logging={"level": "debug", "file": str(log)}))
    log.rename(stepd.dir / "own.log.1")
    stepd.send(signal.SIGUSR1)
    wait_for(log.exists, 5, "the new log")

    def old_log_is_closed():
        for p in [Proc(stepd.pid)] + stepd.procs():
            for fd in os.listdir(f"/proc/{p.pid}/fd"):
                if os.readlink(f"/proc/{p.pid}/fd/{fd}").endswith("own.log.1"):
                    return False
        return True

    wait_for(old_log_is_closed, 5, "the old log closed by all")


# --- the service manager -----------------------------------------------------------------------------------------

def test_watchdog(make_stepd, db):
    d = make_stepd(db)
    add_step(d)
    d.env["WATCHDOG_USEC"] = "400000"
    d.start()
    since = len(d.notify.messages)
    wait_for(lambda: sum("WATCHDOG" in m for m in d.notify.messages[since:]) >= 3, 3, "three pings")


def test_status_is_told(sup):
    wait_for(lambda: any("processes ready" in m.get("STATUS", "") for m in sup.notify.messages), 5, "STATUS")


def test_socket_activation(make_stepd, db):
    d = make_stepd(db)
    add_step(d)
    d.write_config()
    d.notify = harness.NotifySocket(d.dir / "n")
    d.since = 0
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        code = (f"import os,sys; os.dup2({given.fileno()}, 3); os.set_inheritable(3, True); "
                "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='http'); "
                "os.execv(sys.argv[1], sys.argv[1:])")
        with open(d.log_file, "ab") as log:
            d.process = subprocess.Popen(["/usr/bin/python3", "-c", code, *d.command("-c", d.config_file)], stdout=log, stderr=log,
                                         pass_fds=[given.fileno()], env=d.environment(), start_new_session=True)
        d.notify.wait("READY", "1", 0, 30)
        assert d.get("/hello", port=port).status == 200
    assert d.stop() == 0


# --- deaths ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("who", CHILDREN)
def test_killed_child_is_replaced(sup, db, who):
    def gap():
        nonlocal again
        victim = sup.child(f"^stepd: {who}$")
        victim.kill()
        again = wait_for(lambda: [p for p in sup.procs(f"^stepd: {who}$") if p.pid != victim.pid], 5, f"a new {who}", interval=0.002)[0]
        # /proc is slow to look through: the log knows when.
        died = sup.wait_log(rf"^(\S+)Z .* {who} \(pid {victim.pid}\) was killed by signal 9").group(1)
        began = sup.wait_log(rf"^(\S+)Z .* {who} started, pid {again.pid}").group(1)
        return (datetime.fromisoformat(began) - datetime.fromisoformat(died)).total_seconds()

    again = None
    harness.in_time(gap, 0.1, 2)
    assert again.alive
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed")
    wait_for(lambda: sup.get("/hello").status == 200, 5, "http answers")
    assert sup.stop() == 0


def test_crash_is_recorded_with_its_signal(sup, db):
    [bad] = db.enqueue("sup", {"do": "abort"})
    good = [db.enqueue("sup", {})[0] for _ in range(20)]
    db.wait_status(bad, "failed")
    for j in good:
        db.wait_status(j, "completed")
    rows = db.attempts(bad)
    assert [r["outcome"] for r in rows] == ["crashed", "crashed"]
    assert all(r["signal"] == 6 and r["max_rss_kb"] > 0 and r["pid"] for r in rows)


def test_many_jobs_that_kill_their_workers(sup, db):
    """Each costs its own attempts and nothing else; the pool is not held back for it."""
    bad = db.value("select array_agg(j) from generate_series(1, 40) n, stepd.enqueue('sup', jsonb_build_object('do', 'abort', 'n', n)) j")
    good = db.value("select array_agg(j) from generate_series(1, 200) n, stepd.enqueue('sup', jsonb_build_object('n', n)) j")
    wait_for(lambda: db.value("select count(*) from stepd.jobs where id = any(%s) and status = 'failed'", bad) == 40, 60, "all failed")
    wait_for(lambda: db.value("select count(*) from stepd.jobs where id = any(%s) and status = 'completed'", good) == 200, 60, "others")
    assert db.value("select count(*) from stepd.attempts where outcome = 'crashed' and signal = 6") == 80
    assert db.value("select count(*) from stepd.attempts") == 80


def test_timeout_ends_the_attempt(stepd, db):
    add_step(stepd)
    stepd.start(config=stepd.config(queues={"sup": {"maxRetries": 0, "timeout": "400ms"}}))
    [job] = db.enqueue("sup", {"do": "hang"})
    db.wait_status(job, "failed")
    [a] = db.attempts(job)
    assert a["outcome"] == "timeout"
    [next_one] = db.enqueue("sup", {})
    db.wait_status(next_one, "completed")


def test_what_a_handler_started_dies_with_its_worker(sup, db):
    [job] = db.enqueue("sup", {"do": "strays"})
    db.wait_status(job, "completed")
    assert len([p for p in sup.procs("^sleep 100[01]")]) == 2
    worker = Proc(db.job(job)["pid"])
    worker.kill()
    wait_for(lambda: not sup.procs("^sleep 1000"), 5, "its process group ended")
    # The other one left its group: it goes with the daemon.
    assert sup.stop() == 0  # the leak check looks for it


def test_killed_supervisor_takes_all_with_it(sup, db, make_stepd):
    [job] = db.enqueue("sup", {"do": "hang"})
    db.wait_status(job, "running")
    children = sup.procs()
    Proc(sup.pid).kill()
    sup.process.wait(5)
    wait_for(lambda: not any(p.alive for p in children), 2, "children gone")
    harness.reap_orphans()
    # The next start finds and rescues the job.
    sup.start()
    wait_for(lambda: [a["outcome"] for a in db.attempts(job)] == ["lost"], 60, "rescued")
    db.execute("select stepd.cancel(%s)", job)  # else it hangs again, and the stop waits for it


def shown_degraded(sup, db):
    """Where one can see that the pool is degraded; what all of them say."""
    ready = sup.get("/ready", port=sup.admin_port)
    metrics = sup.get("/metrics", port=sup.admin_port).body.decode()
    assert all(f.documentation for f in pytest.importorskip("prometheus_client.parser").text_string_to_metric_families(metrics))
    metric = re.search(r'^stepd_pool_degraded\{pool="default"\} (\d)$', metrics, re.M)
    status = json.loads(sup.stepctl("--json", "status").stdout)
    says = {"/ready": ready.json["degraded"] == ["default"], "/metrics": metric[1] == "1",
            "stepctl pools": [p["degraded"] for p in status["pools"] if p["pool"] == "default"] == [True],
            "stepctl warnings": any("pool default of node" in w and "degraded" in w for w in status["warnings"]),
            "table": bool(re.search(r"default .* degraded", sup.stepctl("status").stdout))}
    return ready.status, set(says.values()) == {True} or set(says.values()) != {False} and says


def delayed_starts(sup, mark):
    """When worker processes of the pool were started since it is degraded, seconds."""
    since = sup.log(mark).partition("children die at once")[2]
    times = re.findall(r"^(\S+)Z DEBUG .*worker default/\d+ started", since, re.M)
    return [datetime.fromisoformat(t).timestamp() for t in times]


def test_pool_that_cannot_live_is_degraded_and_recovers(sup, db):
    """Workers that die at once: back-off, everything says so; when the cause is gone the pool comes back, by itself or with a reload."""
    mark = sup.log_mark()
    assert shown_degraded(sup, db) == (200, False)
    library = sup.steps / "sup.so"
    good = library.read_bytes()
    library.unlink()
    library.write_bytes(b"broken")
    try:
        for p in sup.procs("^stepd: worker default"):
            p.kill()
        sup.wait_log(r"worker default")
        wait_for(lambda: any("degraded: worker default" in m.get("STATUS", "") for m in sup.notify.messages), 15, "STATUS degraded")
        seen = {p.pid for p in sup.workers("default")}
        assert len(seen) <= 1  # one at a time is tried
        wait_for(lambda: shown_degraded(sup, db) == (503, True), 10, lambda: f"shown everywhere: {shown_degraded(sup, db)}")
        sup.wait_log("children die at once.*worker default", mark)
        # from then on one at a time is tried, each time after twice as long
        wait_for(lambda: len(delayed_starts(sup, mark)) >= 3, 20, "tries")
        began = delayed_starts(sup, mark)
        assert began[2] - began[1] > 1.7 * (began[1] - began[0]) - 0.3 and began[1] - began[0] > 0.9
    finally:
        library.unlink()
        library.write_bytes(good)
    sup.reload()
    wait_for(lambda: shown_degraded(sup, db) == (200, False), 10, lambda: f"recovered: {shown_degraded(sup, db)}")
    assert len(sup.workers("default")) == 2

    # and without a reload
    library.unlink()
    library.write_bytes(b"broken")
    try:
        for p in sup.procs("^stepd: worker default"):
            p.kill()
        wait_for(lambda: shown_degraded(sup, db)[0] == 503, 15, "degraded again")
        [job] = db.enqueue("sup", {})
    finally:
        library.unlink()
        library.write_bytes(good)
    sup.wait_log("worker default is no longer degraded", deadline=70)
    db.wait_status(job, "completed")
    wait_for(lambda: shown_degraded(sup, db) == (200, False), 10, lambda: f"recovered: {shown_degraded(sup, db)}")


# --- reload ------------------------------------------------------------------------------------------------------

def test_reload_takes_new_steps_and_settings(sup, db):
    before = {p.pid for p in sup.procs()}
    (sup.steps / "sup.so").unlink()
    add_step(sup, "two")
    conf = sup.config(queues={"sup": {"maxRetries": 7}})
    conf["pools"]["default"]["processes"] = 3
    sup.write_config(conf)
    sup.reload()
    assert sup.get("/hello").json["version"] == "two"
    wait_for(lambda: not before & {p.pid for p in sup.procs()}, 10, "the old generation gone")
    assert len(sup.procs("^stepd: worker default")) == 3
    [job] = db.enqueue("sup", {"do": "abort"})
    assert db.job(job)["max_attempts"] == 8
    m = next(m for m in sup.notify.messages if m.get("RELOADING") == "1")
    assert abs(int(m["MONOTONIC_USEC"]) - time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6) < 60e6


def test_nothing_that_begins_after_the_reload_meets_an_old_step(sup, db):
    for version in ["two", "three", "four"]:
        add_step(sup, version)
        db.enqueue("sup", {"do": "nap"})  # one old worker goes on for a while
        sup.reload()
        jobs = [db.enqueue("sup", {"do": "version"})[0] for _ in range(10)]
        assert sup.get("/hello").json["version"] == version
        for job in jobs:
            assert db.wait_status(job, "completed")["output"] == {"version": version}


def test_reload_refuses_no_request(sup):
    codes, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            codes.append(sup.get("/hello").status)

    with running(3, ask, stop):
        for _ in range(3):
            sup.reload()
    assert len(codes) >= 3 and set(codes) == {200}


def test_running_job_survives_reload(sup, db):
    [job] = db.enqueue("sup", {"do": "nap"})
    db.wait_status(job, "running")
    sup.reload()
    db.wait_status(job, "completed")
    assert db.attempts(job) == []


@pytest.mark.parametrize("change,says", [
    ("quues: {}\n", r"quues"),
    ("steps: [\n", r"stepd.yaml:\d+:\d+"),
])
def test_reload_of_a_broken_configuration_keeps_the_old(sup, db, change, says):
    before = {p.pid for p in sup.procs()}
    mark = sup.log_mark()
    text = sup.config_file.read_text()
    sup.write_config(change)
    sup.reload()
    assert {p.pid for p in sup.procs()} == before
    sup.wait_log("reload failed", mark)
    assert re.search(says, sup.log(mark))
    assert any("reload failed" in m.get("STATUS", "") for m in sup.notify.messages)
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed")
    sup.write_config(text)
    sup.reload()
    sup.wait_log("reloaded", mark)


def test_reload_with_a_broken_step_keeps_the_old(sup, db):
    mark = sup.log_mark()
    (sup.steps / "text.so").write_text("no")
    sup.reload()
    sup.wait_log(r"reload failed.*text\.so", mark)
    assert sup.get("/hello").json["version"] == "one"
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed")


def test_reload_moves_the_listener(sup):
    new = harness.free_port()
    conf = sup.config()
    conf["http"]["listen"] = f"127.0.0.1:{new}"
    sup.write_config(conf)
    sup.reload()
    assert sup.get("/hello", port=new).status == 200

    def old_is_closed():
        try:
            socket.create_connection(("127.0.0.1", sup.http_port), 1).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(old_is_closed, 10, "the old address closed")


def test_reload_to_a_taken_port_keeps_the_old(sup):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        conf = sup.config()
        conf["http"]["listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        mark = sup.log_mark()
        sup.write_config(conf)
        sup.reload()
        sup.wait_log("reload failed.*Address already in use", mark)
    assert sup.get("/hello").status == 200


def test_reload_takes_logging(sup, db):
    log = sup.dir / "new.log"
    old = sup.procs("^stepd: worker")
    sup.write_config(sup.config(logging={"level": "info", "format": "json", "file": str(log)}))
    sup.reload()
    wait_for(lambda: not any(p.alive for p in old), 10, "the old workers are gone")
    sup.child("^stepd: worker default/0$").kill()
    wait_for(lambda: log.exists() and "was killed by signal 9" in log.read_text(), 5, "lines in the new log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert not [entry for entry in lines if entry["level"] == "debug"]
    sup.send(signal.SIGUSR1)
    sup.stop()
    assert any("stopped" in line for line in log.read_text().splitlines())


def test_stop_without_the_database(make_stepd, own_pg):
    """Nothing can be recorded: what is left is rescued later.  The stop still comes to its end."""
    d = make_stepd(harness.Database(own_pg.conninfo))
    add_step(d)
    d.start(config=d.config(stop={"timeout": "2s", "killGrace": "1s"}))
    own_pg.stop("immediate")
    assert d.stop(deadline=20) == 0


# --- size and user -----------------------------------------------------------------------------------------------

def test_supervisor_is_small(sup):
    if harness.SANITIZED:
        pytest.skip("sanitizers are big")
    text = open(f"/proc/{sup.pid}/smaps_rollup").read()
    pss = int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1))
    assert pss <= 3 * 1024


@pytest.mark.skipif(not harness.ROOT, reason="needs root")
def test_drops_to_the_configured_user(stepd, db):
    add_step(stepd)
    stepd.start(config=stepd.config(user="nobody"))
    import pwd
    uid = pwd.getpwnam("nobody").pw_uid
    for p in [Proc(stepd.pid)] + stepd.procs():
        assert p.status("Uid").split() == [str(uid)] * 4, p
        assert p.status("Groups").split() in ([], [str(pwd.getpwnam("nobody").pw_gid)])
    [job] = db.enqueue("sup", {})
    db.wait_status(job, "completed")
    assert stepd.stop() == 0
