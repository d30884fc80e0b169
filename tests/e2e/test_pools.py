"""Pools: which work they do, how many processes they have, and as whom and with what those run."""

import pwd
import re
import subprocess
import time
from multiprocessing.pool import ThreadPool

import harness
from harness import BUILD, wait_for

# Two steps that take as long as their input says.
STEPS = r"""
#include <stepd/step.h>
#include <time.h>

static int work(struct stepd_ctx *ctx)
{
	double ms = stepd_get_num(stepd_data(ctx), "ms", 0);
	struct timespec t = {(time_t)(ms / 1000), (long)((long long)(ms * 1e6) % 1000000000LL)};

	nanosleep(&t, &t);
	return STEPD_OK;
}

static int hello(struct stepd_ctx *ctx)
{
	nanosleep(&(struct timespec){0, 300000000}, NULL);
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_str("hello", "world")));
}

#ifdef HTTP
STEPD_STEP(.name = NAME, .triggers = STEPD_TRIGGERS(STEPD_HTTP("GET", "/hello")), .handler = hello);
#else
STEPD_STEP(.name = NAME, .triggers = STEPD_TRIGGERS(STEPD_QUEUE(TOPIC)), .handler = work);
#endif
"""


def add_step(stepd, name, topic):
    stepd.step(name, f'#define NAME "{name}"\n#define TOPIC "{topic}"\n' + STEPS)


def pool(processes, **more):
    return {"processes": processes, "serves": ["queue"], **more}


def check(stepd, config):
    stepd.write_config(config)
    return subprocess.run([str(BUILD / "src/stepd"), "-c", stepd.config_file, "--check"], env=stepd.environment(), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def test_pools_by_queue_and_step(stepd, db):
    add_step(stepd, "A", "a")
    add_step(stepd, "B", "b")
    add_step(stepd, "B2", "b")
    pools = {"quick": pool(1, queues=["a"]), "slow": pool(2, queues=["b"], steps=["B"]), "rest": pool(1, steps=["B2"])}
    stepd.start(config=stepd.config(pools=pools))
    pids = {name: {p.pid for p in stepd.workers(name)} for name in pools}
    assert db.rows("select pool, queues, steps from stepd.pools where serves = 'queue' order by pool") == [
        {"pool": "quick", "queues": ["a"], "steps": None}, {"pool": "rest", "queues": None, "steps": ["B2"]},
        {"pool": "slow", "queues": ["b"], "steps": ["B"]}]

    # every pool is woken for its own work at once, whoever else sleeps
    late = []
    for _ in range(12):
        for job in db.enqueue("a", {}) + db.enqueue("b", {}):
            row = db.wait_status(job, "completed")
            late.append((row["started_at"] - row["enqueued_at"]).total_seconds())
    assert sorted(late)[len(late) * 3 // 4] < 0.1 * harness.SLOW and sorted(late)[-2:][0] < 1.0 * harness.SLOW, late

    # a pool full of long jobs delays no other
    long = [db.enqueue("b", {"ms": 1500})[0] for _ in range(4)]
    wait_for(lambda: sum(db.job(j)["status"] == "running" for j in long) == 2, 10, "two long jobs at work")
    [job] = db.enqueue("a", {})
    assert db.wait_status(job, "completed", deadline=1.0 * harness.SLOW)["pid"] in pids["quick"]
    for step, name in [("A", "quick"), ("B", "slow"), ("B2", "rest")]:
        ran = set(db.values("select pid from stepd.jobs where step = %s and status = 'completed'", step))
        assert ran and ran <= pids[name], (step, ran, pids)

    # a reload that moves a queue to another pool, with its jobs waiting
    pools["slow"], pools["quick"] = pool(1, queues=["a"]), pool(3, queues=["b"], steps=["B"])
    stepd.write_config(stepd.config(pools=pools))
    stepd.reload()
    pids = {p.pid for p in stepd.workers("quick")}
    [job] = db.enqueue("b", {})[:1]
    assert db.wait_status(job, "completed", deadline=5)["pid"] in pids | {p.pid for p in stepd.workers("rest")}
    for job in long:
        assert db.wait_status(job, "completed")["attempt"] == 1


def test_pools_that_name_what_is_not_there(stepd, db):
    add_step(stepd, "Mailer", "send-mail")
    r = check(stepd, stepd.config(pools={"p": pool(1, queues=["send-mial"]), "q": pool(1, steps=["Mailer", "Nobody"])}))
    assert r.returncode == 78
    assert re.search(rf'^{stepd.config_file}:\d+:\d+: pools.p.queues: there is no queue "send-mial", did you mean "send-mail"\?$', r.stderr, re.M)
    assert re.search(rf'^{stepd.config_file}:\d+:\d+: pools.q.steps: there is no step "Nobody"$', r.stderr, re.M)
    assert stepd.run() == 78
    stepd.wait_log('there is no queue "send-mial"')

    # work that no pool here does may be another node's: said, not refused
    r = check(stepd, stepd.config(queues={"other": {}}, pools={"p": pool(1, queues=["other"])}))
    assert r.returncode == 0
    assert "warning: no pool of this node runs step Mailer for queue send-mail\n" in r.stderr
    r = check(stepd, stepd.config(pools={"web": {"processes": 1, "serves": ["http"]}}))
    assert r.returncode == 0 and "no pool of this node serves queue" in r.stderr

    stepd.start(config=stepd.config())
    stepd.write_config(stepd.config(pools={"p": pool(1, queues=["send-mial"])}))
    stepd.reload()
    stepd.wait_log('reload failed.*there is no queue "send-mial"')
    [job] = db.enqueue("send-mail", {})
    db.wait_status(job, "completed")


def test_pool_grows_and_shrinks(stepd, db):
    add_step(stepd, "A", "a")
    stepd.start(config=stepd.config(pools={"default": pool({"min": 1, "max": 6, "idleTimeout": "700ms"})}))
    assert len(stepd.workers()) == 1

    # quick jobs one after the other need no more
    for _ in range(10):
        db.wait_status(db.enqueue("a", {})[0], "completed")
    assert len(stepd.workers()) == 1

    # a backlog of slow ones has its workers within a second
    jobs = [db.enqueue("a", {"ms": 700})[0] for _ in range(18)]
    wait_for(lambda: len(stepd.workers()) == 6, 10, "six workers")
    while db.value("select exists (select from stepd.jobs where status <> 'completed')"):
        assert len(stepd.workers()) <= 6
    sixth = db.value("select started_at - (select max(enqueued_at) from stepd.jobs) from stepd.jobs where id = any(%s) order by started_at offset 5", jobs)
    assert sixth.total_seconds() < 1.5 * harness.SLOW

    # while it shrinks, work is neither delayed nor lost
    late = []
    deadline = time.monotonic() + 20
    while len(stepd.workers()) > 1:
        assert time.monotonic() < deadline, stepd.workers()
        row = db.wait_status(db.enqueue("a", {})[0], "completed")
        late.append((row["started_at"] - row["enqueued_at"]).total_seconds())
    assert sorted(late)[len(late) * 3 // 4] < 0.1 * harness.SLOW and sorted(late)[-2] < 1.0 * harness.SLOW, late
    assert db.value("select count(*) from stepd.attempts") == 0

    # a reload keeps what had grown, and takes new limits
    jobs = [db.enqueue("a", {"ms": 1200})[0] for _ in range(6)]
    wait_for(lambda: sum(db.job(j)["status"] == "running" for j in jobs) >= 6, 10, "six at work again")
    stepd.write_config(stepd.config(pools={"default": pool({"min": 2, "max": 4, "idleTimeout": "60s"})}))
    old = {p.pid for p in stepd.workers()}
    stepd.reload()
    assert len([p for p in stepd.workers() if p.pid not in old]) == 4
    for job in jobs:
        assert db.wait_status(job, "completed")["attempt"] == 1


def test_pool_grows_for_quick_jobs_too(stepd, db):
    """Their worker is between two claims at nearly any moment, and yet it is not idle."""
    stepd.step("Count", """
#include <stepd/step.h>
static int run(struct stepd_ctx *ctx)
{
	return stepd_state_update(ctx, "sum", "n", stepd_op_increment("/n", 1));
}
STEPD_STEP(.name = "Count", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("count")), .handler = run);
""")
    stepd.start(config=stepd.config(pools={"default": pool({"min": 1, "max": 3, "idleTimeout": "60s"})}))
    db.value("select count(*) from stepd.enqueue_many('count', (select jsonb_agg('{}'::jsonb) from generate_series(1, 50000)))")
    wait_for(lambda: len(stepd.workers()) == 3, 10, "all workers that the pool may have")
    wait_for(lambda: db.value("select count(*) from stepd.outcome") == 50000, 60, "all jobs end")
    assert db.state("sum", "n") == {"n": 50000}


def test_pool_on_demand(stepd, db):
    add_step(stepd, "A", "a")
    stepd.step("hello", '#define NAME "Hello"\n#define HTTP\n' + STEPS)
    stepd.start(config=stepd.config(pools={"default": pool({"min": 0, "max": 2, "idleTimeout": "300ms"}),
                                           "web": {"processes": {"min": 1, "max": 3, "idleTimeout": "300ms"}, "serves": ["http"]}}))
    late = []
    for _ in range(3):
        wait_for(lambda: not stepd.workers(), 10, "no worker left")
        assert stepd.get("/ready", port=stepd.admin_port).status == 200
        row = db.wait_status(db.enqueue("a", {})[0], "completed")
        late.append((row["started_at"] - row["enqueued_at"]).total_seconds())
    assert sorted(late)[-2] < 1.0 * harness.SLOW, late
    late = []
    # jobs that come just as the last worker leaves
    for i in range(10):
        row = db.wait_status(db.enqueue("a", {})[0], "completed")
        assert row["attempt"] == 1
        late.append((row["started_at"] - row["enqueued_at"]).total_seconds())
        time.sleep(0.30 + 0.01 * i)
    assert sorted(late)[-2] < 1.0 * harness.SLOW, late

    # web workers come with waiting requests, and go
    with ThreadPool(8) as threads:
        replies = threads.map(lambda _: stepd.get("/hello").status, range(16))
        assert set(replies) == {200}
    assert len(stepd.procs("^stepd: web ")) > 1
    wait_for(lambda: len(stepd.procs("^stepd: web ")) == 1, 10, "one web worker left")
    assert stepd.get("/hello").status == 200


WHO = r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <unistd.h>

static cJSON *who(struct stepd_ctx *ctx)
{
	const char *key = getenv("API_KEY"), *home = getenv("HOME");

	return stepd_object(ctx, stepd_int("uid", getuid()), stepd_str("key", key ? key : "none"), stepd_str("home", home ? home : ""));
}

static int handle(struct stepd_ctx *ctx)
{
	return stepd_trigger(ctx) == STEPD_TRIGGER_HTTP ? stepd_reply(ctx, 200, who(ctx)) : stepd_return(ctx, who(ctx));
}

STEPD_STEP(.name = "Who", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("who"), STEPD_HTTP("GET", "/who")), .handler = handle);
"""


def told(db, topic="who"):
    return db.wait_status(db.enqueue(topic, {})[0], "completed")["output"]


def test_environment_of_a_pool_is_its_own_and_secret(stepd, db):
    stepd.step("who", WHO)
    stepd.env["TOKEN"] = "s3cret-one"
    pools = {"default": pool(1, environment={"API_KEY": "${TOKEN}"}), "web": {"processes": 1, "serves": ["http"]}}
    stepd.start(config=stepd.config(pools=pools))
    assert told(db)["key"] == "s3cret-one"
    assert stepd.get("/who").json["key"] == "none"
    for p in stepd.procs():
        seen = open(f"/proc/{p.pid}/cmdline", "rb").read() + open(f"/proc/{p.pid}/environ", "rb").read()
        assert b"s3cret" not in seen
    pools["default"]["environment"] = {"API_KEY": "s3cret-two"}
    stepd.write_config(stepd.config(pools=pools))
    stepd.reload()
    assert told(db)["key"] == "s3cret-two"
    pools["default"]["environment"] = {"API KEY": "s3cret-three", "B": ["s3cret-four"]}
    stepd.write_config(stepd.config(pools=pools))
    stepd.reload()
    stepd.wait_log('"API KEY" is not the name of an environment variable')
    assert "s3cret" not in stepd.log() and "s3cret" not in stepd.stepctl("--json", "status").stdout


def test_pools_as_other_users(stepd, db):
    stepd.step("who", WHO)
    if not harness.ROOT:
        r = check(stepd, stepd.config(pools={"default": pool(1, user="nobody")}))
        assert r.returncode == 78 and re.search(r"stepd.yaml:\d+:\d+: pools.default.user: only root", r.stderr)
        return
    nobody, daemon, games = (pwd.getpwnam(n) for n in ("nobody", "daemon", "games"))
    web = {"processes": 1, "serves": ["http"]}
    stepd.start(config=stepd.config(user="nobody", pools={"default": pool(2, user="daemon"), "web": {**web, "user": "games"}}))
    assert told(db) == {"uid": daemon.pw_uid, "key": "none", "home": daemon.pw_dir}
    assert stepd.get("/who").json["uid"] == games.pw_uid
    uids = {p.cmdline: p.status("Uid").split() for p in stepd.procs()}
    want = {"keeper": nobody, "cron": nobody, "http": nobody, "worker default/0": daemon, "worker default/1": daemon, "web web/0": games}
    assert uids == {f"stepd: {k}": [str(v.pw_uid)] * 4 for k, v in want.items()}

    # as every worker: a death is seen and recorded, a timeout can be enforced, a reload changes the user
    stepd.child("^stepd: worker default/0").kill()
    wait_for(lambda: len(stepd.workers()) == 2, 5, "two again")
    stepd.write_config(stepd.config(user="nobody", pools={"default": pool(1, user="games"), "web": web}))
    stepd.reload()
    assert told(db)["uid"] == games.pw_uid and stepd.get("/who").json["uid"] == nobody.pw_uid
    stepd.write_config(stepd.config(user="nobody", pools={"default": pool(1, user="no-such-user"), "web": web}))
    stepd.reload()
    stepd.wait_log(r'reload failed.*stepd.yaml:\d+:\d+: pools.default.user: there is no user "no-such-user"')
    assert told(db)["uid"] == games.pw_uid

    # the death of the supervisor ends workers of other users too
    children = stepd.procs()
    harness.Proc(stepd.pid).kill()
    stepd.process.wait(5)
    wait_for(lambda: not any(p.alive for p in children), 3, "children gone")
    harness.reap_orphans()

    # who gave up root cannot take it back
    stepd.start(config=stepd.config(user="nobody"))
    stepd.write_config(stepd.config(user="nobody", pools={"default": pool(1, user="games"), "web": web}))
    stepd.reload()
    stepd.wait_log("reload failed.*only root may run workers as .*restart it")
    assert told(db)["uid"] == nobody.pw_uid
