"""A storm: three nodes on one database, a mixed load of everything a queue can do, and nobody is safe.

Workers, keepers, supervisors and whole nodes are killed with -9, nodes are frozen and thawed, PostgreSQL is restarted
twice; people cancel, pause and retry meanwhile.  When it is over, every accepted job has ended, as it should have, and
the books must balance:

  - counters that handlers raised in the state, with an update and with a read and a write, equal the completed jobs;
  - enqueues of handlers are there once for each completed job, and those of failed attempts never;
  - fifo groups wrote down their jobs in the order of enqueue, and never two at a time;
  - limits were never exceeded, by the database's word and by the handlers' own: each appends what it begins and ends
    to a file, which no transaction and no clock of the server stands between;
  - each attempt that did not succeed is in the history, and nothing is left in the places of unfinished jobs.

STEPD_TEST_STORM=SECONDS makes it longer, STEPD_TEST_SEED=N another one; a red one says its seed.
"""

import collections
import os
import random
import signal
import threading
import time

import psycopg2
import pytest

import harness

SECONDS = float(os.environ.get("STEPD_TEST_STORM", "14"))
SEED = int(os.environ.get("STEPD_TEST_SEED", "1"))
NODES, PROCESSES = 3, 2
RATE, WINDOW = 15, 0.5
QUEUES = {q: {"maxRetries": 1000, "retryDelay": 20, **more} for q, more in {
    "std": {}, "prio": {"strategy": "priority"}, "fifo": {"strategy": "fifo"}, "lim": {"maxConcurrency": 2},
    "grp": {"concurrencyPerGroup": 1}, "rate": {"rateLimit": f"{RATE}/{int(WINDOW * 1000)}ms"}, "child": {}}.items()}

STEP = r"""
#include <stepd/step.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void note(struct stepd_ctx *ctx, char what)
{
	char line[160];
	struct timespec t;
	int fd = open(JOURNAL, O_WRONLY | O_APPEND | O_CLOEXEC);

	clock_gettime(CLOCK_REALTIME, &t);
	int n = snprintf(line, sizeof line, "%c %lld %d %d %s %s %lld.%09ld\n", what, (long long)stepd_job_id(ctx), stepd_attempt(ctx),
			 (int)getpid(), stepd_queue(ctx), stepd_group(ctx) != NULL ? stepd_group(ctx) : "-", (long long)t.tv_sec, t.tv_nsec);
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		abort();
	close(fd);
}

static int work(struct stepd_ctx *ctx)
{
	const cJSON *in = stepd_data(ctx), *id = stepd_own(ctx, cJSON_CreateNumber((double)stepd_job_id(ctx)));
	const char *what = stepd_get_str(in, "do"), *key = stepd_format(ctx, "%lld", (long long)stepd_job_id(ctx));
	struct timespec t = {0, (long)(stepd_get_num(in, "ms", 0) * 1e6)};
	cJSON *old = NULL;

	/* effects of what fails, in the middle of others' */
	if (stepd_enqueue(ctx, "child", id) < 0)
		return STEPD_RETRY;
	if (stepd_state_get(ctx, "met", key, &old) < 0)
		return STEPD_RETRY;
	if (old == NULL && strcmp(what, "snooze") == 0)
		return stepd_state_set(ctx, "met", key, id) < 0 ? STEPD_RETRY : stepd_snooze(ctx, 30);
	if (strcmp(what, "error") == 0 && stepd_attempt(ctx) <= 2) {
		stepd_state_update(ctx, "sum", "errors", stepd_op_increment("/n", 1));
		return stepd_retry(ctx, "not yet");
	}
	if (strcmp(what, "fail") == 0)
		return stepd_fail(ctx, "no use");
	if (strcmp(what, "segv") == 0 && stepd_attempt(ctx) == 1)
		raise(SIGSEGV);
	nanosleep(&t, NULL);
	if (stepd_state_update(ctx, "sum", stepd_queue(ctx), stepd_op_increment("/n", 1)) < 0)
		return STEPD_RETRY;
	if (strcmp(stepd_queue(ctx), "fifo") == 0 && stepd_state_update(ctx, "order", stepd_group(ctx), stepd_op_append("", id)) < 0)
		return STEPD_RETRY;
	if (stepd_state_get(ctx, "once", key, &old) < 0 ||
	    stepd_state_set(ctx, "once", key, stepd_own(ctx, cJSON_CreateNumber(old == NULL ? 1 : old->valuedouble + 1))) < 0)
		return STEPD_RETRY;
	return stepd_return(ctx, id);
}

static int storm(struct stepd_ctx *ctx)
{
	note(ctx, '<');
	int rc = work(ctx);
	note(ctx, '>');
	return rc;
}

STEPD_STEP(.name = "Storm", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("std"), STEPD_QUEUE("prio"), STEPD_QUEUE("fifo"), STEPD_QUEUE("lim"),
	   STEPD_QUEUE("grp"), STEPD_QUEUE("rate")), .enqueues = STEPD_LIST("child"), .handler = storm);
"""
CHILD = r"""
#include <stepd/step.h>
static int child(struct stepd_ctx *ctx)
{
	return stepd_state_update(ctx, "sum", "child", stepd_op_increment("/n", 1));
}
STEPD_STEP(.name = "Child", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("child")), .handler = child);
"""


class Client(threading.Thread):
    """Somebody with a connection, which breaks now and then: does one thing again and again until the storm is over."""

    def __init__(self, db, seed, pause):
        super().__init__()
        self.db, self.rnd, self.pause, self.over, self.conn, self.problem = db, random.Random(seed), pause, threading.Event(), None, None

    def call(self, sql, *args):
        with self.conn.cursor() as cur:
            cur.execute(sql, args or None)
            return [r[0] if len(r) == 1 else r for r in cur.fetchall()]

    def run(self):
        while not self.over.is_set():
            try:
                if self.conn is None or self.conn.closed:
                    self.conn = psycopg2.connect(self.db.conninfo)
                    self.conn.autocommit = True
                self.turn()
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.conn = None
            except psycopg2.errors.InvalidParameterValue:
                pass  # the job moved on meanwhile
            except Exception as e:
                if type(e) is not psycopg2.DatabaseError:  # what psycopg2 says when the server vanishes amid an answer
                    self.problem = e  # told in the test's own thread
                    return
                self.conn = None
            self.over.wait(self.pause)

    def stop(self):
        self.over.set()
        self.join()
        if self.problem is not None:
            raise self.problem


class Enqueuer(Client):
    """One for all fifo groups, so that the order of enqueue is known; others for the rest."""

    def __init__(self, db, seed, queues):
        super().__init__(db, seed, 0.01)
        self.seed, self.queues, self.accepted, self.n = seed, queues, {}, 0

    def turn(self):
        r, self.n = self.rnd, self.n + 1
        q = r.choice(self.queues)
        what = r.choices(("ok", "error", "snooze", "fail", "segv"), (85, 6, 3, 3, 1 if q != "fifo" else 0.5))[0]
        unique = f"{self.seed} {self.n // 3}" if q == "std" and r.random() < 0.2 else None
        delay = r.uniform(0, 0.4) if q != "fifo" and r.random() < 0.2 else 0
        [job] = self.call("select stepd.enqueue(%s, jsonb_build_object('do', %s::text, 'ms', %s::int), %s,"
                          " clock_timestamp() + %s * interval '1 s', %s, %s)",
                          q, what, r.choice((0, 2, 5)) if q in ("lim", "grp", "fifo") else 0, r.randrange(-9, 9), delay, f"g{r.randrange(6)}", unique)
        self.accepted.setdefault(job, what)


class Person(Client):
    """Cancels, retries, pauses for a moment."""

    def __init__(self, db, seed):
        super().__init__(db, seed, 0.1)
        self.cancelled = set()

    def turn(self):
        job = self.call("select last_value - floor(random() * 40)::bigint from stepd.job_id")[0]
        what = self.rnd.random()
        if what < 0.3:
            self.cancelled.add(job)  # before: the answer may be lost
            self.call("select stepd.cancel(%s)", job)
        elif what < 0.4:
            self.call("select stepd.retry(max(id)) from stepd.jobs where status in ('failed', 'cancelled') and queue <> 'fifo'")
        elif what < 0.45:
            q = self.rnd.choice(sorted(QUEUES))
            try:
                self.call("select stepd.pause(%s)", q)
            finally:
                self.over.wait(0.2)
                self.call("select stepd.resume(%s)", q)


class Watcher(Client):
    """Samples what the database says about the limits."""

    def __init__(self, db):
        super().__init__(db, 0, 0.05)
        self.lim, self.grp, self.fifo = [], [], []

    def turn(self):
        groups = "(select coalesce(max(n), 0) from (select count(*) n from stepd.jobs where queue = '%s' and status = 'running' group by group_id) x)"
        [(lim, grp, fifo)] = self.call(f"select (select running from stepd.queues where name = 'lim'), {groups % 'grp'}, {groups % 'fifo'}")
        self.lim.append(lim), self.grp.append(grp), self.fifo.append(fifo)


def config(d):
    return d.config(node={"name": d.name}, queues=QUEUES, http={"listen": "off"}, admin={"listen": "off"},
                    database={"url": d.db.conninfo, "lease": "4s"}, logging={"level": "info"},
                    pools={"default": {"processes": PROCESSES, "serves": ["queue"]}})


def freeze(d, seconds, over):
    """A whole node stands still; when that is longer than its lease, another node has its jobs by then."""
    frozen = [harness.Proc(d.pid)] + d.procs() if d.running else []
    for p in frozen:
        p.kill(signal.SIGSTOP)
    over.wait(seconds)
    for p in frozen:
        p.kill(signal.SIGCONT)


def blow(rnd, made, pg, over, what):
    d = rnd.choice(made)
    if what == "server":
        pg.restart(rnd.choice(("immediate", "fast")))
    elif what == "node":
        d.kill9()
        over.wait(rnd.uniform(0, 0.5))
        d.launch()
    elif what == "supervisor":
        children = d.procs()
        d.process.kill()
        d.wait()
        harness.wait_for(lambda: not any(p.alive for p in children), 10, "children gone with the supervisor")
        d.launch()
    elif what == "freeze":
        freeze(d, rnd.uniform(0.1, 1), over)
    elif d.running:
        victims = d.procs(f"stepd.*{what}")
        if victims:
            rnd.choice(victims).kill()


def journal(path):
    """What the handlers themselves wrote: [(job, attempt, queue, group, begin, end or None)]."""
    begun, runs = {}, []
    for line in path.read_text().splitlines():
        what, job, attempt, pid, queue, group, at = line.split()
        key = (int(job), int(attempt), int(pid))
        if what == "<":
            begun[key] = len(runs)
            runs.append([int(job), int(attempt), queue, group, float(at), None])
        else:
            runs[begun[key]][5] = float(at)
    return runs


def taken_away(runs):
    """Those that stood still for so long that their node was declared dead: the job ran once more, elsewhere."""
    last = {r[0]: r[4] for r in runs}
    return [r for r in runs if r[5] and r[5] - r[4] > 0.3 and last[r[0]] > r[4]]


def too_many(runs, most, group=lambda r: ""):
    """Runs of one group that went on at the same moment, if there are ever more than so many; a killed one counts as its begin."""
    edges = sorted((at, n, i) for i, r in enumerate(runs) for at, n in ((r[4], 1), (r[5] or r[4], 2)))
    now = collections.defaultdict(list)
    for _, n, i in edges:
        mine = now[group(runs[i])]
        if n == 2:
            mine.remove(runs[i])
            continue
        mine.append(runs[i])
        if len(mine) > most:
            return mine
    return []


def as_begun(db, runs):
    """The runs, begun when their workers say so, if that is earlier: a process may stand still before the handler's first line."""
    said = {(r["id"], r["attempt"]): r["at"] for r in db.rows(
        "select job_id as id, attempt, extract(epoch from started_at)::float8 as at from stepd.attempts where outcome = 'error'"
        " union all select id, attempt, extract(epoch from started_at)::float8 from stepd.jobs where status = 'completed'")}
    return [[*r[:4], min(r[4], said.get((r[0], r[1]), r[4])), r[5]] for r in runs]


def fullest_window(runs, seconds):
    """Those that began within so many seconds of each other, the most there ever were."""
    runs, worst, first = sorted(runs, key=lambda r: r[4]), [], 0
    for i, r in enumerate(runs):
        while runs[first][4] <= r[4] - seconds:
            first += 1
        if i - first + 1 > len(worst):
            worst = runs[first:i + 1]
    return worst


@pytest.mark.slow
def test_storm(make_stepd, own_pg, tmp):
    print(f"STEPD_TEST_SEED={SEED} STEPD_TEST_STORM={SECONDS:g}")
    rnd = random.Random(SEED)
    db = harness.Database(own_pg.conninfo)
    written = tmp / "journal"
    written.touch()
    written.chmod(0o666)
    made = [make_stepd(db, n) for n in "abc"[:NODES]]
    for d in made:
        d.step("storm", STEP, [f'-DJOURNAL="{written}"'])
        d.step("child", CHILD)
        d.start(config=config(d))
    enqueuers = [Enqueuer(db, SEED, ["fifo"]), Enqueuer(db, SEED + 1, ["std", "prio", "lim", "grp", "rate"]), Enqueuer(db, SEED + 2, ["std", "prio"])]
    person, watcher = Person(db, SEED), Watcher(db)
    clients = [*enqueuers, person, watcher]
    for c in clients:
        c.start()
    begin, restarts = time.monotonic(), 0
    try:
        while (now := time.monotonic() - begin) < SECONDS or restarts < 2:
            what = rnd.choices(("worker", "keeper", "supervisor", "node", "freeze"), (10, 3, 1, 2, 2))[0]
            if now > SECONDS * (restarts + 1) / 3 and restarts < 2:
                what, restarts = "server", restarts + 1
            blow(rnd, made, own_pg, watcher.over, what)
            watcher.over.wait(rnd.uniform(0.05, 0.7))
        freeze(made[0], 6, watcher.over)  # longer than its lease
    finally:
        for c in clients:
            c.over.set()
        for c in clients:
            c.stop()
        for d in made:
            if not d.running:
                d.launch()
    for q in QUEUES:
        db.value("select stepd.resume(%s)", q)
    accepted = {job: what for e in enqueuers for job, what in e.accepted.items()}
    assert restarts == 2 and len(accepted) > 25 * SECONDS and len(watcher.lim) > 2 * SECONDS

    left = "select count(*) from stepd.job j where not exists (select from stepd.outcome o where o.id = j.id and o.bucket = j.bucket)"
    harness.wait_for(lambda: db.value(left) == 0, 90, interval=0.2, what=lambda: "all jobs end; " + str(
        db.rows("select queue, status, count(*), min(id) from stepd.jobs where status not in ('completed', 'failed') group by 1, 2")))
    check_ends(db, accepted, person.cancelled)
    check_effects(db)
    check_attempts(db)
    runs = journal(written)
    void = taken_away(runs)
    assert len(void) <= 3 * PROCESSES * NODES
    check_order_and_limits(db, [r for r in runs if r not in void], watcher)
    for place in ("lease", "ready", "waiting", "fifo_inbox", "fifo_backlog", "fifo_group", "unique_job", "cancel_request"):
        if place not in ("fifo_inbox", "fifo_group", "cancel_request"):
            assert db.value(f"select count(*) from stepd.{place}") == 0, place
    for d in made:
        d.close()
    db.close()


def check_ends(db, accepted, cancelled):
    ended = {r["id"]: r["status"] for r in db.rows("select id, status from stepd.jobs where step = 'Storm'")}
    assert set(accepted) <= set(ended), "an accepted job is gone"
    wrong = {job: (what, ended[job]) for job, what in accepted.items()
             if ended[job] != ("failed" if what == "fail" else "completed") and not (ended[job] == "cancelled" and job in cancelled)}
    assert not wrong, [(job, w, [dict(a) for a in db.attempts(job)]) for job, w in wrong.items()]


def check_effects(db):
    done = {r["queue"]: r["n"] for r in db.rows("select queue, count(*) n from stepd.jobs where status = 'completed' group by 1")}
    sums = {r["key"]: int(r["n"]) for r in db.rows("select key, value ->> 'n' n from stepd.state where group_id = 'sum' and key <> 'errors'")}
    assert sums == done
    assert db.rows("select j.id, j.status, s.value from stepd.jobs j left join stepd.state s on s.group_id = 'once' and s.key = j.id::text"
                   " where j.step = 'Storm' and s.value is distinct from case when j.status = 'completed' then '1'::jsonb end") == []
    assert db.rows("select j.id, j.status, count(c.id) from stepd.jobs j left join stepd.jobs c on c.parent_id = j.id and c.queue = 'child'"
                   " where j.step = 'Storm' group by 1, 2 having count(c.id) <> (j.status = 'completed')::int") == []
    assert db.value("select count(*) from stepd.attempts where error = 'not yet' and outcome = 'error'") == db.state("sum", "errors")["n"]


def check_attempts(db):
    assert db.rows("select outcome, count(*) from stepd.attempts where outcome not in ('error', 'crashed', 'lost', 'cancelled') group by 1") == []
    # every attempt is accounted for: those that are recorded, and the last one if it succeeded
    assert db.rows("select j.id, j.status, j.attempt, count(a.attempt), array_agg(a.attempt) from stepd.jobs j left join stepd.attempts a on a.job_id = j.id"
                   " group by 1, 2, 3 having count(a.attempt) + (j.status = 'completed')::int <> j.attempt"
                   " or count(distinct a.attempt) <> count(a.attempt)") == []


def check_order_and_limits(db, runs, watcher):
    for r in db.rows("select key, value from stepd.state where group_id = 'order'"):
        assert r["value"] == sorted(r["value"]), f"group {r['key']}"
    assert max(watcher.lim) <= 2 and max(watcher.grp) <= 1 and max(watcher.fifo) <= 1

    def of(queue):
        return [r for r in runs if r[2] == queue]

    assert too_many(of("lim"), 2) == []
    assert too_many(of("grp"), 1, lambda r: r[3]) == []
    assert too_many(of("fifo"), 1, lambda r: r[3]) == []
    # what ran and was not told is run again, in its turn: a group never goes back
    last = {}
    for r in of("fifo"):
        assert r[0] >= last.setdefault(r[3], r)[0], f"{r} after {last[r[3]]}"
        last[r[3]] = r
    full = fullest_window(as_begun(db, of("rate")), WINDOW)
    assert len(full) <= RATE, [(r, db.rows("select attempt, outcome, started_at, finished_at, node, pid from stepd.attempts where job_id = %s", r[0]),
                                db.rows("select status, attempt, started_at, finished_at, pid from stepd.jobs where id = %s", r[0])) for r in full]
