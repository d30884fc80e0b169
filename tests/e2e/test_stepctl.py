"""stepctl from outside: every command, both ways of printing, exit codes, and what it says when things are wrong.

No daemon runs here: a node and its steps are declared with the SQL functions that a daemon would call.
"""

import json
import os
import pty
import re
import shutil
import subprocess
import uuid

import psycopg2
import pytest

import harness

OK, FAILED, USAGE, DATABASE, CONFIG = 0, 1, 64, 69, 78
TRACE = "00000000-0000-4000-8000-000000000000"

MANIFEST = {"steps": [
    {"name": "ProcessOrder", "description": "orders", "file": "/x/process-order.so", "kind": "c", "flows": [],
     "enqueues": ["notification"],
     "triggers": [{"type": "queue", "topic": "process-order", "input": None},
                  {"type": "http", "method": "POST", "path": "/process-order", "respond": "sync"}]},
    {"name": "Audit", "file": "/x/audit.so", "kind": "c", "enqueues": [],
     "triggers": [{"type": "queue", "topic": "process-order", "input": None}]},
    {"name": "Nightly", "file": "/x/nightly.so", "kind": "c", "enqueues": [],
     "triggers": [{"type": "cron", "expression": "0 3 * * *", "timezone": "UTC"}]},
]}


@pytest.fixture
def run(tmp, stage):
    """run(*args, **env): a finished stepctl that knows no database but what it is told."""
    def go(*args, stdin="", env=None, **kw):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STEPD_", "PG", "XDG_"))}
        clean.update({"STEPD_SQL_DIR": str(stage.sql), "STEPD_CONFIG": "/dev/null", "TZ": "UTC", "LC_ALL": "C.UTF-8"})
        clean.update(env or {})
        return subprocess.run([str(stage.bin / "stepctl"), *(a if isinstance(a, bytes) else str(a) for a in args)], input=stdin, env=clean, cwd=tmp, timeout=60 * harness.SLOW, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    return go


@pytest.fixture
def ctl(run, db):
    """ctl(*args): stepctl on a migrated database with a node and steps; asserts the exit code."""
    def go(*args, rc=OK, stdin=""):
        done = run("--database", db.conninfo, *args, stdin=stdin)
        assert done.returncode == rc, f"stepctl {args} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if rc == OK else done.stderr
    go("migrate")
    db.rows("select stepd.node_join(%s, 'web1', 4711, '0.1.0', 30000)", str(uuid.uuid4()))
    db.rows("select stepd.configure('web1', %s, %s, '{}')", json.dumps(MANIFEST),
            json.dumps([{"name": "process-order", "strategy": "priority", "max_retries": 0}]))
    return go


def js(text):
    return json.loads(text)


def finish(db, job, outcome, error=None, logs=()):
    """Run one attempt of a job as a worker would."""
    [node] = db.rows("select max(id) as id from stepd.nodes")
    lanes = db.rows("select lane_id from stepd.lanes(array['ProcessOrder', 'Audit', 'Nightly'])")
    claimed = db.rows("select * from stepd.claim(%s, 0, 1, %s::int[], %s::bigint[], %s::int[], 100)", node["id"],
                      [r["lane_id"] for r in lanes], [0] * len(lanes), [100] * len(lanes))
    assert job in [r["job_id"] for r in claimed], claimed
    for r in claimed:
        mine = r["job_id"] == job
        effects = json.dumps([{"job": job, "enqueues": [], "states": [], "logs": list(logs)}]) if mine and logs else None
        db.rows("select * from stepd.finish(%s, 4712, array[%s::bigint], array[%s::bigint], array[%s], array[1500], array[1200], "
                "array[%s]::text[], array[%s]::text[], null, %s)", node["id"], r["lease_id"], r["job_id"],
                outcome if mine else "completed", '{"ok": true}' if outcome == "completed" else None, error if mine else None, effects)


# --- the command line --------------------------------------------------------------------------------------------

def test_usage_errors(run):
    for args, said in [
        ((), "a command is missing"),
        (("sttus",), 'did you mean "status"?'),
        (("jobs", "--stauts", "x"), 'did you mean "--status"?'),
        (("jobs", "--status", "complete"), 'did you mean "completed"?'),
        (("jobs", "--trace", "x"), "is not a trace id"),
        (("jobs", "--limit", "0"), "the limit must be"),
        (("jobs", "--limit", "99999999999999999999"), "the limit must be"),
        (("jobs", "--queue"), "needs a value"),
        (("jobs", "extra"), "too many arguments"),
        (("job",), "an argument is missing"),
        (("job", "12x"), "is not a job id"),
        (("job", "99999999999999999999"), "is not a job id"),
        (("logs", ""), "is not a job id"),
        (("retry",), "which job"),
        (("retry", "1", "--queue", "q"), "not both"),
        (("enqueue", "t"), "an argument is missing"),
        (("enqueue", "t", "1", "--priority", "40000"), "the priority must be"),
        (("enqueue", "t", "1", "--priority", "-1", "--delay", "soon"), "is not a duration"),
        (("enqueue", "t", "1", "--delay", "36526d"), "--delay: \"36526d\" is more than a hundred years"),
        (("--frob",), "unknown option"),
        (("--json=yes", "jobs"), "takes no value"),
        (("--database", "", "jobs"), "--database is empty"),
        (("--database", "no such conninfo", "jobs"), "malformed"),
    ]:
        done = run(*args)
        assert (done.returncode, done.stdout) == (USAGE, ""), (args, done)
        assert said in done.stderr, (args, done.stderr)


def test_help_and_version(run):
    done = run("--help")
    assert done.returncode == OK
    for command in "status steps queues schedules run jobs job logs enqueue cancel retry pause resume migrate check".split():
        assert f"\n  {command}" in done.stdout
        one = run(command, "--help")
        assert one.returncode == OK and f"] {command}" in one.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert run("help").stdout == done.stdout and run("help", "job").stdout == run("job", "--help").stdout
    assert run("help", "jab").returncode == USAGE
    assert run("--version").stdout.startswith("stepctl ")


def test_database_unreachable(run, tmp):
    done = run("--database", f"host={tmp} user=u password=geheim", "jobs")
    assert done.returncode == DATABASE
    assert "cannot connect" in done.stderr and "geheim" not in done.stderr
    done = run("jobs", env={"STEPD_DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"})
    assert done.returncode == DATABASE
    assert "$STEPD_DATABASE_URL" in done.stderr and "geheim" not in done.stderr


# --- the configuration and where the database is -------------------------------------------------------------------

def test_bad_configuration(run, tmp):
    conf = tmp / "bad.yaml"
    conf.write_text("databse: {}\nhttp: { listen: 1 }\nqueues: { q: { rateLimit: often } }\n")
    for args, env in [(("-c", conf, "check"), {}), (("jobs",), {"STEPD_CONFIG": str(conf)})]:
        done = run(*args, env=env)
        assert done.returncode == CONFIG
        lines = done.stderr.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"{conf}:1:1", f"{conf}:2:17", f"{conf}:3:27"]
        assert 'did you mean "database"?' in lines[0]
    done = run("-c", tmp / "none.yaml", "jobs")
    assert done.returncode == CONFIG and "No such file" in done.stderr


def test_database_from_configuration(run, db, tmp):
    conf = tmp / "app.yaml"
    conf.write_text('database: { url: "${APP_DB}" }\n')
    env = {"APP_DB": db.conninfo}
    assert run("migrate", "-c", conf, env=env).returncode == OK
    assert run("jobs", env={**env, "STEPD_CONFIG": str(conf)}).returncode == OK
    done = run("-c", conf, "jobs")
    assert done.returncode == CONFIG and "APP_DB is not set" in done.stderr
    # what is nearer to the command wins
    assert run("-c", conf, "jobs", env={**env, "STEPD_DATABASE_URL": f"host={tmp}"}).returncode == DATABASE
    assert run("--database", db.conninfo, "jobs", env={"STEPD_DATABASE_URL": f"host={tmp}"}).returncode == OK


def test_embedded_pointer(run, db, tmp):
    """As an ordinary user: root's pointer is in /run, where others may be at work."""
    user = {"user": "nobody", "extra_groups": []} if harness.ROOT else {}
    (tmp / "stepd").mkdir(mode=0o700)
    pointer = tmp / "stepd/embedded"
    pointer.write_text(db.conninfo + "\n")
    pointer.chmod(0o600)
    if harness.ROOT:
        shutil.chown(pointer.parent, "nobody")
        shutil.chown(pointer, "nobody")
    env = {"XDG_RUNTIME_DIR": str(tmp)}
    assert run("migrate", env=env, **user).returncode == OK
    conf = tmp / "no-database.yaml"
    conf.write_text("http: { listen: off }\n")
    assert run("-c", conf, "jobs", env=env, **user).returncode == OK
    conf.write_text(f"database: {{ url: 'host={tmp}' }}\n")
    assert run("-c", conf, "jobs", env=env, **user).returncode == DATABASE  # what was named is not replaced
    pointer.chmod(0o666)  # anybody could have written it
    assert run("jobs", env=env, **user).returncode == DATABASE
    pointer.chmod(0o600)
    pointer.parent.chmod(0o777)
    assert run("jobs", env=env, **user).returncode == DATABASE


# --- the schema ----------------------------------------------------------------------------------------------------

@pytest.mark.no_schema
def test_schema_versions(run, db):
    done = run("--database", db.conninfo, "jobs")
    assert done.returncode == FAILED and "has no schema stepd" in done.stderr and "stepctl migrate" in done.stderr
    first = js(run("--database", db.conninfo, "--json", "migrate").stdout)
    assert first["from"] == 0 and first["to"] > 0
    assert js(run("--database", db.conninfo, "--json", "migrate").stdout) == {"from": first["to"], "to": first["to"]}
    db.rows("insert into stepd.migration (version, name, sha256) values (9999, 'x', '')")
    for command in (("jobs",), ("migrate",)):
        done = run("--database", db.conninfo, *command)
        assert done.returncode == FAILED and "version 9999, newer than this" in done.stderr
    db.rows("delete from stepd.migration where version > 1")
    done = run("--database", db.conninfo, "jobs")
    assert done.returncode == FAILED and "version 1, older than this stepctl" in done.stderr


# --- jobs ------------------------------------------------------------------------------------------------------------

def test_enqueue(ctl, db, tmp):
    ids = ctl("enqueue", "process-order", '{"n": 1.10, "s": "ü"}', "--priority", "-7", "--group", "g", "--delay", "1h").split()
    assert len(ids) == 2
    [job] = [j for j in (js(ctl("--json", "job", i)) for i in ids) if j["step"] == "ProcessOrder"]
    assert job["priority"] == -7 and job["group_id"] == "g" and job["status"] == "scheduled"
    assert job["input"] == {"n": 1.10, "s": "ü"}
    (tmp / "data.json").write_text("[1, 2]\n")
    assert len(js(ctl("--json", "enqueue", "process-order", f"@{tmp}/data.json"))["jobs"]) == 2
    again = [js(ctl("enqueue", "process-order", "-", "--unique", "k", "--json", stdin='"text"'))["jobs"] for _ in range(2)]
    assert again[0] == again[1]
    assert db.rows("select count(*) as n from stepd.jobs")[0]["n"] == 6


def test_enqueue_hostile_data(ctl, db, tmp):
    for data, said in [("{", "line 1, column 2"), ("", "JSON"), ("1 2", "JSON"), ('"\\u0000"', "\\u0000"), ('"\\ud800"', "JSON"),
                       ("[" * 600 + "]" * 600, "too deep"), ("{'a': 1}", "JSON"), ("01", "JSON"), ("NaN", "JSON"), ("-", "JSON"),
                       ("1e200000", "overflow")]:
        assert said in ctl("enqueue", "process-order", data, rc=USAGE), data
    (tmp / "latin1.json").write_bytes(b'"\xfc"')
    assert "UTF-8" in ctl("enqueue", "process-order", f"@{tmp}/latin1.json", rc=USAGE)
    for data, said in [("@/nonexistent", "No such file"), (f"@{tmp}", "directory")]:
        assert said in ctl("enqueue", "process-order", data, rc=FAILED), data
    for args, said in [(("", "1"), "topic: must not be empty"), (("t" * 256, "1"), "topic: is 256 bytes long"), ((b"\xfc", "1"), "invalid byte"),
                       (("t", "1", "--unique", ""), "unique_key: must not be empty"), (("t", "1", "--group", "g" * 1001), "group_id: is 1001")]:
        assert said in ctl("enqueue", *args, rc=USAGE), args
    assert db.rows("select count(*) as n from stepd.jobs")[0]["n"] == 0
    ctl("enqueue", "process-order", "'; drop schema stepd cascade; --", rc=USAGE)
    ctl("enqueue", "process-order", '"\'; drop schema stepd cascade; --"')


def test_unrouted(ctl):
    job = ctl("enqueue", "nobody", "1").strip()  # the warning is on stderr
    assert js(ctl("--json", "job", job))["status"] == "unrouted"
    assert "has no subscriber yet" in ctl("retry", job, rc=FAILED)
    assert "unrouted" in ctl("status")


def test_jobs_filters(ctl, db):
    ids = [int(i) for i in ctl("enqueue", "process-order", "1").split() + ctl("enqueue", "process-order", "2").split()]
    assert [j["id"] for j in js(ctl("--json", "jobs"))] == sorted(ids, reverse=True)
    assert len(js(ctl("--json", "jobs", "--limit", "1"))) == 1
    assert {j["step"] for j in js(ctl("--json", "jobs", "--step", "Audit"))} == {"Audit"}
    assert len(js(ctl("--json", "jobs", "--queue", "process-order", "--status", "ready"))) == 4
    assert js(ctl("--json", "jobs", "--queue", "other")) == []
    trace = db.rows("select trace_id::text from stepd.jobs where id = %s", ids[0])[0]["trace_id"]
    assert sorted(j["id"] for j in js(ctl("--json", "jobs", "--trace", trace))) == ids[:2]
    assert sorted(j["id"] for j in js(ctl("--json", "jobs", "--trace", trace.replace("-", "")))) == ids[:2]  # as in a traceparent
    assert js(ctl("jobs", "--trace", TRACE, "--json")) == []
    table = ctl("jobs").splitlines()
    assert table[0].split() == ["ID", "STATUS", "STEP", "QUEUE", "TRY", "AGE", "TOOK", "ERROR"]
    assert len(table) == 5 and "\033" not in "".join(table)


def test_job_and_logs(ctl, db):
    job = next(int(i) for i in ctl("enqueue", "process-order", '{"a": [1, {"b": null}]}').split()
               if js(ctl("--json", "job", i))["step"] == "ProcessOrder")
    finish(db, job, "error", "boom \033[31mred\nsecond line",
           [{"at_us": 1790000000123456, "level": "warn", "message": "look \033]0;x\007out", "fields": {"k": 1}}])
    text = ctl("job", job)
    assert "status      failed" in text and "1 of 1" in text
    assert "boom \\x1b[31mred\n            second line" in text and "\033" not in text
    assert "Attempts that did not succeed:" in text and "error" in text
    obj = js(ctl("--json", "job", job))
    assert obj["status"] == "failed" and obj["attempts"][0]["outcome"] == "error" and obj["input"] == {"a": [1, {"b": None}]}
    logs = ctl("logs", job)
    assert logs == '2026-09-21 14:13:20.123 1 warn  look \\x1b]0;x\\x07out {"k": 1}\n'
    assert js(ctl("--json", "logs", job))[0]["fields"] == {"k": 1}
    assert "there is no job 999" in ctl("job", 999, rc=FAILED)
    assert "there is no job 999" in ctl("logs", 999, rc=FAILED)
    assert "there is no job 999" in ctl("--json", "job", 999, rc=FAILED)


def test_cancel_and_retry(ctl, db):
    job, other = ctl("enqueue", "process-order", "1", "--delay", "1h").split()
    assert ctl("cancel", job) == f"job {job} is cancelled\n"
    assert "has ended already" in ctl("cancel", job, rc=FAILED)
    assert "has not ended" in ctl("retry", other, rc=FAILED)
    assert js(ctl("--json", "retry", job)) == [{"id": int(job), "status": "ready"}]
    finish(db, int(job), "fail", "no")
    assert ctl("retry", "--queue", "process-order") == "1 job is to run again\n"
    assert js(ctl("--json", "retry", "--queue", "process-order")) == {"retried": 0, "left": 0}
    # what can not be retried is not passed over in silence
    one, _ = ctl("enqueue", "process-order", "1", "--unique", "u").split()
    finish(db, int(one), "fail", "no")
    ctl("enqueue", "process-order", "1", "--unique", "u")
    assert ctl("retry", "--queue", "process-order") == '0 jobs are to run again\n1 failed job is left as it is; "stepctl retry ID" says why\n'
    assert "unique key" in ctl("retry", one, rc=FAILED)
    # what nobody subscribed to
    ctl("enqueue", "nobody", "1")
    assert 'topic "nobody" has no subscriber yet' in ctl("retry", "--queue", "nobody", rc=FAILED)
    assert "there is no queue" in ctl("retry", "--queue", "nope", rc=FAILED)
    assert "there is no job" in ctl("cancel", 999, rc=FAILED)


# --- queues, steps, status ---------------------------------------------------------------------------------------------

def test_queues_and_pause(ctl):
    ctl("enqueue", "process-order", "1")
    assert ctl("pause", "process-order") == "queue process-order is paused\n"
    [queue] = [q for q in js(ctl("--json", "queues")) if q["name"] == "process-order"]
    assert queue["paused"] is True and queue["ready"] == 2 and queue["strategy"] == "priority"
    assert "paused" in ctl("queues") and "queue process-order is paused" in ctl("status")
    assert js(ctl("--json", "resume", "process-order")) == [{"name": "process-order", "paused": False}]
    assert 'there is no queue "nope"' in ctl("pause", "nope", rc=FAILED)


def test_steps_and_schedules(ctl):
    steps = {s["name"]: s for s in js(ctl("--json", "steps"))}
    assert set(steps) == {"ProcessOrder", "Audit", "Nightly"} and steps["Audit"]["nodes"] == ["web1"]
    assert "queue process-order, POST /process-order" in ctl("steps")
    [schedule] = js(ctl("--json", "schedules"))
    assert schedule["step"] == "Nightly" and schedule["expression"] == "0 3 * * *"
    assert "0 3 * * *" in ctl("schedules")


def test_status(ctl, db):
    status = js(ctl("--json", "status"))
    assert [n["name"] for n in status["nodes"]] == ["web1"] and status["nodes"][0]["pid"] == 4711
    assert status["bytes"] > 0 and status["schema"] > 0 and status["warnings"] == []
    text = ctl("status")
    assert "web1" in text and "alive" in text and "Warnings" not in text
    db.rows("select stepd.node_pools(id, %s) from stepd.nodes", json.dumps([
        {"pool": "p", "serves": "queue", "processes": 1, "min": 1, "max": 1, "deaths": 0, "degraded": False, "queues": ["other"]}]))
    db.rows("select stepd.enqueue('process-order')")
    db.rows("update stepd.job set enqueued_at = now() + interval '1 h'")
    assert js(ctl("--json", "status"))["warnings"] == [], "a moment is nothing"
    db.rows("update stepd.job set enqueued_at = now() - interval '1 min'")
    [warning] = js(ctl("--json", "status"))["warnings"]
    assert re.fullmatch(r"queue process-order: job \d+ of step (ProcessOrder|Audit) has been waiting for [6-9][0-9] s: no pool serves the queue and the step", warning)
    db.rows("select stepd.node_leave(id) from stepd.nodes")
    assert "no node is alive" in ctl("status")
    assert "no node is alive: nothing runs" in js(ctl("--json", "status"))["warnings"]


def test_terminal_gets_colours_and_fits(ctl, db, stage):
    for i in range(3):
        ctl("enqueue", f"a-rather-long-topic-name-that-nobody-subscribes-to-{i}", "1")
    parent, child = pty.openpty()
    env = {**os.environ, "STEPD_SQL_DIR": str(stage.sql), "TERM": "xterm", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen([harness.BUILD / "src/stepctl", "--database", db.conninfo, "jobs"], stdin=child, stdout=child, stderr=child, env=env) as p:
        os.close(child)
        out = b""
        while True:
            try:
                chunk = os.read(parent, 65536)
            except OSError:
                break
            if not chunk:
                break
            out += chunk
    os.close(parent)
    assert p.returncode == OK
    assert b"\033[" in out and b"unrouted" in out


def test_no_rights(run, db, ctl):
    """A role that may do nothing is told so, it is not a crash."""
    role = f"nobody_{db.name}"
    db.rows(f"create role {role} login")
    try:
        done = run("--database", f"{db.conninfo} user={role}", "jobs")
        assert done.returncode == FAILED and "permission denied" in done.stderr
        done = run("--database", f"{db.conninfo} user={role}", "enqueue", "process-order", "1")
        assert done.returncode == FAILED and "permission denied" in done.stderr and "Rights in the database" in done.stderr
    finally:
        db.rows(f"drop role {role}")


def test_right_to_enqueue(run, db, ctl, stage, tmp):
    """What stepd(8) grants an application, word for word: it enqueues, and can do nothing else."""
    page = (harness.SOURCE / "src/stepd.8").read_text()
    section = page[page.index(".SH RIGHTS IN THE DATABASE"):page.index(".SH HTTP")].replace(r"\(aq", "'").replace(r"\-", "-")
    app, place, dashboard = re.findall(r"^\.nf\n(.*?)^\.fi", section, re.M | re.S)
    names = {r: f"{r}_{db.name}" for r in ("shop", "dashboard", "orders", "alice")}
    for r in names.values():
        db.rows(f"create role {r} login")
    try:
        for sql in (app, dashboard, place.replace("to shop", "to orders"), "grant postgres to alice"):
            db.rows(re.sub(r"\b(shop|dashboard|orders|alice)\b(?=;|$)", lambda m: names[m[1]], sql, flags=re.M))

        def can(role, *args):
            return run("--database", f"{db.conninfo} user={names[role]}", *args)
        done = can("shop", "enqueue", "process-order", '{"n": 1}', "--priority", "3")
        assert (done.returncode, done.stderr) == (OK, "")
        [a, b] = done.stdout.split()
        assert can("shop", "enqueue", "nobody-listens", "1").returncode == OK
        for args in (("job", a), ("jobs",), ("cancel", a), ("status",), ("pause", "process-order")):
            done = can("shop", *args)
            assert done.returncode == FAILED and "permission denied" in done.stderr, args
        assert js(can("dashboard", "--json", "job", a).stdout)["input"] == {"n": 1}
        db.rows("select stepd.run('Nightly')")
        for args in (("status",), ("--json", "status"), ("steps",), ("queues",), ("schedules",), ("schedules", "next", "Nightly"), ("logs", a)):
            done = can("dashboard", *args)
            assert (done.returncode, done.stderr) == (OK, f"job {a} has logged nothing\n" if "logs" in args else ""), (args, done)
        assert can("dashboard", "cancel", a).returncode == can("dashboard", "enqueue", "process-order", "1").returncode == FAILED
        assert can("alice", "cancel", a).returncode == can("alice", "job", a).returncode == OK

        # a new version that replaces every function and view takes no right away
        sql = tmp / "sql"
        shutil.copytree(stage.sql, sql)
        for file in sql.glob("*.sql"):
            if file.read_text().startswith("-- Repeatable"):
                file.write_text(file.read_text() + "-- changed\n")
        assert run("--database", db.conninfo, "migrate", env={"STEPD_SQL_DIR": str(sql)}).returncode == OK
        assert can("shop", "enqueue", "process-order", "{}", "--unique", "u").returncode == can("dashboard", "schedules").returncode == OK
        assert can("dashboard", "status").returncode == OK
        orders = psycopg2.connect(f"{db.conninfo} user={names['orders']}")
        orders.autocommit = True
        with orders.cursor() as cursor:
            cursor.execute("select place_order('{}')")
            [[placed]] = cursor.fetchall()
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("select stepd.enqueue('notification', '{}')")
        orders.close()
        assert db.rows("select count(*) as n from stepd.jobs")[0]["n"] == 8, placed
    finally:
        for r in names.values():
            db.rows(f"drop owned by {r}")
            db.rows(f"drop role {r}")


def test_output_that_goes_nowhere_is_an_error(run, db, ctl, stage):
    ctl("enqueue", "process-order", json.dumps("x" * 100000))
    for args in (["queues"], ["--json", "jobs"], ["--version"], ["--help"], ["job", "--help"]):
        for where in (">/dev/full", ">&-", "<&- >&-"):
            done = subprocess.run(["sh", "-c", f'exec "$@" {where}', "sh", harness.BUILD / "src/stepctl", "--database", db.conninfo, *args],
                                  stderr=subprocess.PIPE, text=True, env={**os.environ, "STEPD_SQL_DIR": str(stage.sql)}, timeout=60)
            assert done.returncode == FAILED and "cannot write" in done.stderr, (args, where, done)


# --- check -------------------------------------------------------------------------------------------------------------

def test_check(run, tmp):
    steps = tmp / "steps"
    steps.mkdir()
    conf = tmp / "app.yaml"
    conf.write_text("steps: [ ./steps ]\n")
    done = run("-c", conf, "check")
    assert (done.returncode, done.stdout) == (OK, f"{conf}: no problems\n"), done
    assert js(run("-c", conf, "--json", "check").stdout) == {"ok": True}
    (steps / "broken.so").write_text("this is no step\n")
    done = run("-c", conf, "check")
    assert done.returncode == CONFIG
    assert f"{steps}/broken.so: " in done.stderr + done.stdout
    conf.write_text("steps: [ ./nowhere ]\n")
    done = run("-c", conf, "check")
    assert done.returncode == CONFIG and f"{tmp}/nowhere" in done.stderr + done.stdout
