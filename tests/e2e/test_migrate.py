"""The schema is made and upgraded by the daemon at start and by `stepctl migrate`, and by nobody twice."""

import shutil

import pytest

pytestmark = pytest.mark.no_schema


def numbered(stage):
    return sorted(p.name for p in stage.sql.glob("[0-9]*.sql"))


def version_of(db):
    return db.value("select max(version) from stepd.migration")


def test_fresh_database(stepd, db, stage):
    stepd.start()
    files = numbered(stage)
    assert [r["name"] for r in db.rows("select name from stepd.migration order by version")] == files
    assert db.value("select stepd.version()") == len(files)
    assert db.value("select count(*) from stepd.migration where length(sha256) <> 64 or applied_at > now()") == 0


def test_second_start_changes_nothing(stepd, db):
    stepd.start()
    before = db.rows("select * from stepd.migration order by version")
    [job] = db.enqueue("nobody-listens", {"kept": True})
    assert stepd.stop() == 0
    stepd.start()
    assert db.rows("select * from stepd.migration order by version") == before
    assert db.job(job)["status"] == "unrouted"


def test_stepctl_and_daemon_agree(stepd, db):
    stepd.write_config()
    stepd.stepctl("migrate")
    before = version_of(db)
    stepd.start()
    assert version_of(db) == before


def test_upgrade_keeps_data(stepd, db, stage, tmp):
    sql = tmp / "sql"
    shutil.copytree(stage.sql, sql)
    stepd.env["STEPD_SQL_DIR"] = sql
    stepd.start()
    [job] = db.enqueue("nobody-listens", {"n": 1})
    n = version_of(db)
    assert stepd.stop() == 0
    (sql / f"{n + 1:03d}_next.sql").write_text("create table stepd.next_thing (a int);\n")
    stepd.start()
    assert version_of(db) == n + 1
    assert db.job(job)["input"] == {"n": 1}
    stepd.wait_log(rf"schema upgraded from version {n} to {n + 1}")


def test_whoever_migrates_all_is_the_owners(stepd, db, stage, tmp):
    """A member of the owner's role upgrades as the owner would; what he made before, as an older version had it, is given back."""
    owner, member = f"{db.name}_owner", f"{db.name}_member"
    sql = tmp / "sql"
    shutil.copytree(stage.sql, sql)
    stepd.env["STEPD_SQL_DIR"] = sql
    db.execute(f"create role {owner} login; create role {member} login in role {owner}; create schema stepd authorization {owner}")
    strangers = f"""select coalesce(string_agg(x, ' '), '') from (
        select c.oid::regclass::text from pg_class c where c.relnamespace = 'stepd'::regnamespace and c.relowner <> '{owner}'::regrole
        union all select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'stepd'::regnamespace and p.proowner <> '{owner}'::regrole
        union all select t.oid::regtype::text from pg_type t where t.typnamespace = 'stepd'::regnamespace and t.typowner <> '{owner}'::regrole) s (x)"""

    def migrate(role):
        stepd.stepctl("--database", f"{db.conninfo} user={role}", "migrate")

    try:
        migrate(member)
        assert db.value(strangers) == "", "the schema was made for its owner"
        migrate(owner)
        n = version_of(db)
        db.execute(f"alter function stepd.claim owner to {member}; alter type stepd._claimed owner to {member}; alter view stepd.jobs owner to {member};"
                   f" alter table stepd.job_default owner to {member}")
        with open(sql / "006_claim.sql", "a") as f:
            f.write("-- changed\n")
        (sql / f"{n + 1:03d}_next.sql").write_text("create table stepd.next_thing (a serial);\n")
        migrate(member)
        assert version_of(db) == n + 1
        assert db.value(strangers) == ""
        with open(sql / "007_effect.sql", "a") as f:
            f.write("-- changed\n")
        migrate(db.value("select current_user"))
        assert db.value(strangers) == ""
        migrate(owner)
    finally:
        db.execute(f"drop owned by {owner} cascade; drop owned by {member} cascade; drop role {member}; drop role {owner}")


def test_newer_database_is_refused(stepd, db):
    stepd.start()
    assert stepd.stop() == 0
    db.execute("insert into stepd.migration (version, name, sha256) values (999, '999_future.sql', '')")
    mark = stepd.log_mark()
    assert stepd.run() == 78
    assert "is version 999, newer than this stepd" in stepd.log(mark)
    done = stepd.stepctl("migrate", check=False)
    assert done.returncode != 0 and "newer than this stepd" in done.stderr


def test_a_schema_of_somebody_else_is_left_alone(stepd, db):
    db.rows("create schema stepd")
    db.rows("create table stepd.ours (a int)")
    assert stepd.run() == 78
    stepd.wait_log('the schema "stepd" in database ".*" was not made by stepd: it holds "ours".*Is it the right database')
    assert db.values("select relname::text from pg_class where relnamespace = 'stepd'::regnamespace") == ["ours"]
    db.rows("drop table stepd.ours")
    stepd.stepctl("migrate")  # an empty one, as an administrator may have made it for us
    assert version_of(db) > 0


def test_broken_migration_is_named(stepd, db, stage, tmp):
    sql = tmp / "sql"
    shutil.copytree(stage.sql, sql)
    n = len(numbered(stage)) + 1
    (sql / f"{n:03d}_broken.sql").write_text("create table stepd.half (a int);\n\nselect no_such_thing;\n")
    stepd.env["STEPD_SQL_DIR"] = sql
    assert stepd.run() == 78
    stepd.wait_log(rf'{n:03d}_broken\.sql:3: column "no_such_thing" does not exist')
    assert db.value("select to_regnamespace('stepd')") is None, "an upgrade happens as a whole or not at all"


def test_changed_file_is_warned_about(stepd, db, stage, tmp):
    stepd.start()
    assert stepd.stop() == 0
    sql = tmp / "sql"
    shutil.copytree(stage.sql, sql)
    first = sql / numbered(stage)[0]
    first.write_text(first.read_text() + "\n-- changed\n")
    stepd.env["STEPD_SQL_DIR"] = sql
    stepd.start()
    stepd.wait_log(rf"{first.name} has changed since it was applied")


def test_many_nodes_at_once(make_stepd, db, stage):
    nodes = [make_stepd(db, f"node{i}") for i in range(3)]
    for node in nodes:
        node.launch(config=node.config(node={"name": node.name}))
    for node in nodes:
        node.notify.wait("READY", "1", deadline=30)
    assert db.value("select count(*) from stepd.migration") == len(numbered(stage))
    assert db.value("select count(*) from stepd.nodes") == 3


def test_without_the_right_to_create(stepd, pg, db):
    role = f"poor_{db.name}"
    db.execute(f"create role {role} login")
    db.execute(f'revoke create on database "{db.name}" from public')
    try:
        config = stepd.config(database={"url": f"{db.conninfo} user={role}"})
        assert stepd.run(config=config) == 78
        stepd.wait_log("permission denied for database")
        # an administrator made the schema for it: that is enough
        db.execute(f"create schema stepd authorization {role}")
        stepd.start(config=config)
        assert stepd.stop() == 0
    finally:
        db.execute(f"drop owned by {role} cascade")
        db.execute(f"drop role {role}")


def test_wrong_encoding(stepd, pg, db, make_db):
    name = f"{db.name}_latin"
    db.execute(f"create database \"{name}\" encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0")
    try:
        assert stepd.run(config=stepd.config(database={"url": f"{pg.conninfo} dbname={name}"})) == 78
        stepd.wait_log("has the encoding LATIN1; stepd needs UTF8")
    finally:
        db.execute(f'drop database "{name}" with (force)')
