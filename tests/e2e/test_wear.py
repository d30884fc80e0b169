"""Wear: workers that did their share of jobs or hold too much memory are replaced, and nobody pays for that."""

import pytest

import harness
from harness import wait_for
from test_supervisor import add_step


def test_recycling_by_max_jobs(stepd, db):
    add_step(stepd)
    conf = stepd.config()
    conf["pools"]["default"] = {"processes": 1, "serves": ["queue"], "maxJobs": 20}
    stepd.start(config=conf)
    first = stepd.child("^stepd: worker")
    jobs = [db.enqueue("sup", {})[0] for _ in range(100)]
    for j in jobs:
        db.wait_status(j, "completed", deadline=20)
    wait_for(lambda: not first.alive, 10, "the worn worker gone")
    assert db.value("select max(n) from (select count(*) as n from stepd.jobs group by pid) x") == 20
    assert db.value("select count(*) from stepd.attempts") == 0
    assert "killed by" not in stepd.log()


@pytest.mark.parametrize("share", [1, 7, 1000])
def test_no_worker_does_more_than_max_jobs(stepd, db, share):
    """Whatever it could claim at once."""
    add_step(stepd)
    conf = stepd.config()
    conf["pools"]["default"] = {"processes": 2, "serves": ["queue"], "maxJobs": share}
    stepd.start(config=conf)
    jobs = min(40 * share, 8000)
    db.execute("select count(*) from stepd.enqueue_many('sup', (select jsonb_agg('{}'::jsonb) from generate_series(1, %s)))", jobs)
    wait_for(lambda: db.value("select count(*) from stepd.outcome where status = 'completed'") == jobs, 60, "all jobs")
    by = db.values("select count(*) as n from stepd.jobs group by pid")
    assert max(by) <= share and len(by) >= jobs // share, by
    assert db.value("select count(*) from stepd.attempts") == 0


NAP = r"""
#include <stepd/step.h>
#include <time.h>
static int handle(struct stepd_ctx *ctx)
{
	struct timespec t = {0, (long)stepd_get_num(stepd_data(ctx), "ms", 0) * 1000000};
	nanosleep(&t, NULL);
	return STEPD_OK;
}
STEPD_STEP(.name = "Nap", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("nap")), .handler = handle);
"""


def naps(db, n, ms):
    db.execute("select count(*) from stepd.enqueue_many('nap', (select jsonb_agg(jsonb_build_object('data', jsonb_build_object('ms', %s)))"
               " from generate_series(1, %s)))", ms, n)


def test_worn_workers_make_room_before_others_come(stepd, db):
    """As many processes as the pool may have, however long the last job of each takes."""
    stepd.step("nap", NAP)
    conf = stepd.config(pools={"default": {"processes": 2, "serves": ["queue"], "maxJobs": 1}}, http={"listen": "off"})
    stepd.start(config=conf)
    naps(db, 12, 300)
    most = 0

    def done():
        nonlocal most
        most = max(most, len(stepd.workers()))
        return db.value("select count(*) from stepd.outcome") == 12

    wait_for(done, 30, "all naps")
    assert most <= 4, most  # those that end may be seen beside their successors
    overlapping = db.value("select max(n) from (select (select count(*) from stepd.jobs b where b.started_at <= a.started_at"
                           " and b.finished_at > a.started_at) n from stepd.jobs a) x")
    assert overlapping <= 2, overlapping
    assert db.value("select count(distinct pid) from stepd.jobs") == 12


def test_worn_workers_need_no_connection_beside_their_successors(stepd, db):
    """A role that may have no more sessions than the node has processes."""
    stepd.step("nap", NAP)
    conf = stepd.config(pools={"default": {"processes": 2, "serves": ["queue"], "maxJobs": 5}}, http={"listen": "off"}, admin={"listen": "off"})
    role = "tight_" + db.value("select current_database()")
    db.execute(f"create role {role} login")
    db.execute(f"do $$ begin execute format('grant %I to {role}', current_user); end $$")
    try:
        conf["database"]["url"] += f" user={role}"
        stepd.start(config=conf)
        naps(db, 1, 0)
        db.wait_value("select count(*) from stepd.outcome", 1)
        used = db.value("select count(*) from pg_stat_activity where usename = %s", role)
        db.execute(f"alter role {role} connection limit {used}")
        naps(db, 60, 5)
        db.wait_value("select count(*) from stepd.outcome", 61, deadline=60)
        stepd.stop()
    finally:
        stepd.close()
        db.execute(f"drop role {role}")


def test_workers_wear_while_another_pool_can_not_start(stepd, db):
    stepd.step("nap", NAP)
    stepd.step("bad", r"""
#include <stepd/step.h>
#include <stdlib.h>
static int handle(struct stepd_ctx *ctx)
{
	return STEPD_OK;
}
__attribute__((constructor)) static void die(void)
{
	if (getenv("DIE") != NULL)
		abort();
}
STEPD_STEP(.name = "Bad", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("bad")), .handler = handle);
""")
    conf = stepd.config(pools={"default": {"processes": 1, "serves": ["queue"], "steps": ["Nap"], "maxJobs": 5},
                               "bad": {"processes": 1, "serves": ["queue"], "steps": ["Bad"], "environment": {"DIE": "1"}}},
                        http={"listen": "off"}, admin={"listen": "off"})
    stepd.launch(config=conf)
    stepd.wait_log("joined as node")
    harness.wait_for(lambda: db.value("select count(*) from stepd.subscription where topic = 'nap'") == 1, 20, "it is configured")
    naps(db, 20, 1)
    db.wait_value("select count(*) from stepd.outcome", 20, deadline=30)


def test_a_mapped_file_is_no_wear(stepd, db):
    """What a handler maps of a file is not the worker's: 60 MiB of a model do not make it too big for 64."""
    if harness.SANITIZED:
        pytest.skip("sanitizers are big")
    big = stepd.dir / "model"
    with open(big, "wb") as f:
        f.write(b"x" * (60 << 20))
    stepd.step("model", r"""
#include <stepd/step.h>
#include <fcntl.h>
#include <sys/mman.h>
static int handle(struct stepd_ctx *ctx)
{
	static const char *model;
	static int sum;

	if (model == NULL) {
		int fd = open(stepd_get_str(stepd_data(ctx), "file"), O_RDONLY);
		model = mmap(NULL, 60 << 20, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	}
	for (int i = 0; i < 60 << 20; i += 4096)
		sum += model[i];
	return STEPD_OK;
}
STEPD_STEP(.name = "Model", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("model")), .handler = handle);
""")
    conf = stepd.config(pools={"default": {"processes": 1, "serves": ["queue"], "maxMemory": "64MiB", "maxRss": "64MiB"}}, http={"listen": "off"})
    stepd.start(config=conf)
    for _ in range(40):
        db.enqueue("model", {"file": str(big)})
    db.wait_value("select count(*) from stepd.outcome where status = 'completed'", 40, deadline=30)
    assert db.value("select count(distinct pid) from stepd.jobs") <= 4


def test_recycling_under_load_gives_nothing_back(stepd, db):
    """A worker that did its share of jobs runs the rest of its batch: to give it back and claim it once more costs more."""
    add_step(stepd)
    conf = stepd.config()
    conf["pools"]["default"] = {"processes": 2, "serves": ["queue"], "maxJobs": 150}
    stepd.start(config=conf)
    stepd.stop()
    db.execute("select count(*) from stepd.enqueue_many('sup', (select jsonb_agg('{}'::jsonb) from generate_series(1, 20000)))")
    db.execute("do $$ begin execute format('alter database %I set track_functions = pl', current_database()); end $$")
    stepd.launch(config=conf)
    wait_for(lambda: db.value("select count(*) from stepd.outcome") >= 20000, 60, "all jobs")
    assert db.value("select count(distinct pid) from stepd.jobs") > 2
    assert db.value("select count(*) from stepd.attempts") == 0
    assert stepd.stop() == 0
    # a batch that takes too long on a busy machine goes back, too; those replaced were more than a hundred
    assert (db.value("select sum(calls) from pg_stat_user_functions where schemaname = 'stepd' and funcname = 'release'") or 0) < 10


def test_recycling_by_max_rss(stepd, db):
    stepd.step("fat", r"""
#include <stepd/step.h>
#include <stdlib.h>
#include <string.h>
static char *kept;
static int handle(struct stepd_ctx *ctx)
{
	kept = malloc(64 << 20);
	memset(kept, 1, 64 << 20);
	return STEPD_OK;
}
STEPD_STEP(.name = "Fat", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("fat")), .handler = handle);
""")
    conf = stepd.config()
    conf["pools"]["default"] = {"processes": 1, "serves": ["queue"], "maxRss": "60MiB"}
    stepd.start(config=conf)
    first = stepd.child("^stepd: worker")
    [job] = db.enqueue("fat", {})
    db.wait_status(job, "completed")
    stepd.wait_log("more than maxRss: is to be replaced")
    wait_for(lambda: not first.alive, 10, "the fat worker gone")
    [job] = db.enqueue("fat", {})
    db.wait_status(job, "completed")
    assert db.value("select count(*) from stepd.attempts") == 0
