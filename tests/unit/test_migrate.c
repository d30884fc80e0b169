/* Migrations against a real server ($STEPD_TEST_PG; without it skipped): each test has a database and a folder of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "db/db.h"
#include "db/migrate.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *server;

struct fixture {
	char dir[64], name[64], *conninfo;
	PGconn *conn;
};

static PGconn *open_db(const char *conninfo)
{
	struct sd_err err;
	PGconn *conn = sd_db_connect(conninfo, "stepd test", 5000, &err);
	if (!conn)
		fail_msg("%s", err.message);
	return conn;
}

static void exec(PGconn *conn, const char *sql)
{
	PGresult *res = PQexec(conn, sql);
	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(conn));
	PQclear(res);
}

static int setup(void **state)
{
	static int number;
	struct fixture *f = calloc(1, sizeof *f);
	snprintf(f->dir, sizeof f->dir, "/tmp/stepd-migrate-XXXXXX");
	snprintf(f->name, sizeof f->name, "migrate_%d_%d", getpid(), ++number);
	assert_non_null(mkdtemp(f->dir));
	PGconn *conn = open_db(server);
	char *sql = sd_xasprintf("create database %s", f->name);
	exec(conn, sql);
	free(sql);
	PQfinish(conn);
	f->conninfo = sd_xasprintf("%s dbname=%s", server, f->name);
	f->conn = open_db(f->conninfo);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	PQfinish(f->conn);
	PGconn *conn = open_db(server);
	char *sql = sd_xasprintf("drop database %s with (force)", f->name);
	exec(conn, sql);
	free(sql);
	PQfinish(conn);
	sql = sd_xasprintf("rm -rf %s", f->dir);
	assert_int_equal(system(sql), 0);
	free(sql);
	free(f->conninfo);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *name, const char *sql)
{
	char *path = sd_xasprintf("%s/%s", f->dir, name);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	fputs(sql, out);
	fclose(out);
	free(path);
}

static void want(struct fixture *f, const char *sql, const char *value)
{
	PGresult *res = PQexec(f->conn, sql);
	assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
	assert_string_equal(PQgetvalue(res, 0, 0), value);
	PQclear(res);
}

static void good(struct fixture *f, int from, int to)
{
	struct sd_err err;
	int a, b;
	if (sd_migrate(f->conn, f->dir, &a, &b, &err) != 0)
		fail_msg("%s", err.message);
	assert_int_equal(a, from);
	assert_int_equal(b, to);
}

static void bad(struct fixture *f, const char *message)
{
	struct sd_err err;
	int a, b;
	assert_int_equal(sd_migrate(f->conn, f->dir, &a, &b, &err), -1);
	if (!strstr(err.message, message))
		fail_msg("\"%s\" is not in: %s", message, err.message);
	assert_int_equal(err.class, SD_ERR_PERMANENT);
	assert_int_equal(PQtransactionStatus(f->conn), PQTRANS_IDLE);
}

static void test_in_order(void **state)
{
	struct fixture *f = *state;
	put(f, "002_b.sql", "create table stepd.b (a int references stepd.a (a)); insert into stepd.b values (1);");
	put(f, "001_a.sql", "create table stepd.a (a int primary key); insert into stepd.a values (1);");
	put(f, "README", "not a migration");
	good(f, 0, 2);
	want(f, "select count(*) from stepd.b", "1");
	want(f, "select string_agg(format('%s %s %s', version, name, length(sha256)), ',' order by version) from stepd.migration",
	     "1 001_a.sql 64,2 002_b.sql 64");
	good(f, 2, 2);
	put(f, "003_c.sql", "insert into stepd.b values (1);");
	put(f, "001_a.sql", "syntax error here: it is applied already, and only warned about");
	good(f, 2, 3);
	want(f, "select count(*) from stepd.b", "2");
}

static void test_failing_file(void **state)
{
	struct fixture *f = *state;
	put(f, "001_a.sql", "create table stepd.a (a int);");
	put(f, "002_b.sql", "create table stepd.b (b int);\n-- ünïcode\nselect nothing from stepd.nowhere;\n");
	bad(f, "002_b.sql:3: relation \"stepd.nowhere\" does not exist");
	want(f, "select to_regclass('stepd.a') is null and to_regnamespace('stepd') is null", "t");
	put(f, "002_b.sql", "create table stepd.b (b int);");
	good(f, 0, 2);
	put(f, "003_c.sql", "create table stepd.c (c int); commit;");
	bad(f, "must not end the transaction");
}

static void test_repeatable(void **state)
{
	struct fixture *f = *state;
	put(f, "001_a.sql", "create table stepd.a (a int); insert into stepd.a values (1);");
	put(f, "002_f.sql", "-- Repeatable.\ndrop type if exists stepd.t cascade; create type stepd.t as (a int, b int);");
	put(f, "003_g.sql", "-- Repeatable.\ncreate or replace function stepd.g(x stepd.t) returns int language sql as 'select x.a';");
	put(f, "004_b.sql", "alter table stepd.a add b int default 7;");
	good(f, 0, 4);
	want(f, "select stepd.g((3, 4))", "3");

	/* one of them changed: all of them again, and the tables left alone */
	put(f, "002_f.sql", "-- Repeatable.\ndrop type if exists stepd.t cascade; create type stepd.t as (b int, a int);");
	good(f, 4, 4);
	want(f, "select stepd.g((3, 4))", "4");
	want(f, "select count(*) || ' ' || min(b) from stepd.a", "1 7");

	/* nothing changed: nothing applied */
	exec(f->conn, "drop function stepd.g(stepd.t)");
	good(f, 4, 4);
	want(f, "select to_regprocedure('stepd.g(stepd.t)') is null", "t");

	/* a later table file comes before them, whatever its number */
	put(f, "003_g.sql", "-- Repeatable.\ncreate or replace function stepd.g(x stepd.t) returns int language sql as 'select c from stepd.a';");
	bad(f, "003_g.sql:2: column \"c\" does not exist");
	want(f, "select count(*) from pg_proc where pronamespace = 'stepd'::regnamespace", "0");
	put(f, "005_c.sql", "alter table stepd.a add c int default 9;");
	good(f, 4, 5);
	want(f, "select stepd.g((3, 4))", "9");
}

static void test_newer_database(void **state)
{
	struct fixture *f = *state;
	put(f, "001_a.sql", "select 1");
	good(f, 0, 1);
	exec(f->conn, "insert into stepd.migration (version, name, sha256) values (7, '007_future.sql', '')");
	bad(f, "is version 7, newer than this stepd, which knows up to 1");
}

static void test_bad_folders(void **state)
{
	struct fixture *f = *state;
	bad(f, "no migrations in");
	put(f, "002_b.sql", "select 1");
	bad(f, "migration 001 is expected here");
	put(f, "001_a.sql", "select 1");
	put(f, "002_c.sql", "select 1");
	bad(f, "migration 003 is expected here");
	rmdir(f->dir);
}

static void test_encoding(void **state)
{
	struct fixture *f = *state;
	char *sql = sd_xasprintf("create database %s_latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0", f->name);
	struct fixture other = *f;
	exec(f->conn, sql);
	free(sql);
	put(f, "001_a.sql", "select 1");
	char *info = sd_xasprintf("%s_latin", f->conninfo);
	other.conn = open_db(info);
	bad(&other, "encoding LATIN1");
	PQfinish(other.conn);
	free(info);
	sql = sd_xasprintf("drop database %s_latin with (force)", f->name);
	exec(f->conn, sql);
	free(sql);
}

/* Many nodes start at once: each file is applied once, and all of them succeed. */
static void test_together(void **state)
{
	enum { N = 6 };
	struct fixture *f = *state;
	pid_t pids[N];
	put(f, "001_a.sql", "create table stepd.a (a int); select pg_sleep(0.2);");
	put(f, "002_b.sql", "insert into stepd.a values (1);");
	put(f, "003_c.sql", "insert into stepd.a values (2);");
	for (int i = 0; i < N; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct sd_err err;
			int from, to;
			PGconn *conn = sd_db_connect(f->conninfo, "stepd test", 5000, &err);
			int failed = !conn || sd_migrate(conn, f->dir, &from, &to, &err) != 0 || to != 3;
			if (failed)
				fprintf(stderr, "%s\n", err.message);
			PQfinish(conn);
			_exit(failed);
		}
	}
	for (int i = 0; i < N; i++) {
		int status;
		waitpid(pids[i], &status, 0);
		assert_int_equal(status, 0);
	}
	want(f, "select count(*) from stepd.a", "2");
}

int main(void)
{
	server = getenv("STEPD_TEST_PG");
	if (!server)
		return 77;
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(test_in_order), T(test_failing_file), T(test_repeatable), T(test_newer_database),
					   T(test_bad_folders), T(test_encoding), T(test_together)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
