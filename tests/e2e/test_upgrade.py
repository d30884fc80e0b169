"""A database made by the first published schema (version 18) is brought to today's: its jobs go on, wherever they were, and
what is left differs in nothing from a fresh one."""

import tarfile
from pathlib import Path

import pytest

import harness

pytestmark = pytest.mark.no_schema

OLD = Path(__file__).parent / "data" / "schema-018.tar.gz"

SOURCE = """
#include <stepd/step.h>
static int run(struct stepd_ctx *ctx)
{
	return stepd_state_update(ctx, "ran", "n", stepd_op_increment("", 1));
}
STEPD_STEP(.name = "%s", .triggers = STEPD_TRIGGERS(STEPD_QUEUE("%s")), .handler = run);
"""

MANIFEST = """{"steps": [
    {"name": "Std", "kind": "c", "file": "Std.so", "triggers": [{"type": "queue", "topic": "std"}]},
    {"name": "Row", "kind": "c", "file": "Row.so", "triggers": [{"type": "queue", "topic": "row"}]}]}"""

# Everything that the schema is, as text: relations with their columns, functions, views, indexes, constraints, comments.
CATALOG = r"""
select format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
              pg_get_expr(d.adbin, d.adrelid)) as what
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'stepd'::regnamespace and c.relkind in ('r', 'p', 'v', 'c') and not c.relispartition
union all
select format('options %s %s', c.relname, c.reloptions) from pg_class c
 where c.relnamespace = 'stepd'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
union all
select 'function ' || pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'stepd'::regnamespace
union all
select format('view %s %s', c.relname, pg_get_viewdef(c.oid)) from pg_class c
 where c.relnamespace = 'stepd'::regnamespace and c.relkind = 'v'
union all
select 'index ' || pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid
 where c.relnamespace = 'stepd'::regnamespace and not c.relispartition
union all
select format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(k.oid)) from pg_constraint k join pg_class c on c.oid = k.conrelid
 where c.relnamespace = 'stepd'::regnamespace and not c.relispartition
union all
-- of partitions not for which day: midnight may have passed
select regexp_replace(format('comment %s: %s', pg_describe_object(classoid, objoid, objsubid), description),
   '\d{8}|\d{4}-\d\d-\d\d', 'DAY', 'g') from pg_description
 where pg_describe_object(classoid, objoid, objsubid) like '%stepd.%'
order by 1
"""


@pytest.fixture
def old(stepd, db, tmp):
    """The database at version 18, with jobs in several places."""
    with tarfile.open(OLD) as tar:
        tar.extractall(tmp / "old")
    stepd.env["STEPD_SQL_DIR"] = tmp / "old" / "sql"
    stepd.write_config()
    stepd.stepctl("migrate")
    del stepd.env["STEPD_SQL_DIR"]
    assert db.value("select stepd.version()") == 18
    db.execute("select stepd.configure('n1', %s, '[{\"name\": \"row\", \"strategy\": \"fifo\"}]', '{}')", MANIFEST)
    return db


def test_jobs_go_on_and_the_schema_is_that_of_a_fresh_database(stepd, old, make_db, make_stepd):
    db = old
    n = sum(len(db.enqueue("std", {"n": i})) for i in range(5))
    n += sum(len(db.enqueue("row", {"n": i}, group_id="g")) for i in range(5))
    later = db.values("select stepd.enqueue('std', '{}', run_at => now() + interval '1 s')")
    unrouted = db.enqueue("nobody", {"kept": True})
    ended = db.enqueue("std", {"cancelled": True})
    db.execute("select stepd.cancel(%s)", ended[0])
    db.execute("select stepd.state_set('kept', 'k', '{\"a\": 1.10}')")
    # held by a worker of a node that is no more
    node = db.value("select stepd.node_join(gen_random_uuid(), 'gone', 1, 'old', 1000)")
    lane = db.value("select lane_id from stepd.lanes(array['Std'])")
    held = db.values("select job_id from stepd.claim(%s, 1, 1, array[%s], array[0], array[2], 2)", node, lane)
    assert len(held) == 2

    for name, topic in (("Std", "std"), ("Row", "row")):
        stepd.step(name, SOURCE % (name, topic))
    stepd.start(config=stepd.config(queues={"row": {"strategy": "fifo"}}))
    stepd.wait_log(r"schema upgraded from version 18 to \d+")
    harness.wait_for(lambda: db.value("select count(*) from stepd.jobs where status = 'completed'") == n + len(later), 30, "all jobs")
    assert db.job(unrouted[0])["status"] == "unrouted"
    assert db.job(ended[0])["status"] == "cancelled"
    assert db.state("kept", "k") == {"a": 1.10}
    assert db.state("ran", "n") == n + len(later)
    assert stepd.stop() == 0

    fresh = make_db()
    other = make_stepd(fresh, "fresh")
    other.write_config()
    other.stepctl("migrate")
    want, got = fresh.values(CATALOG), db.values(CATALOG)
    assert sorted(set(got) - set(want)) == [] and sorted(set(want) - set(got)) == []
