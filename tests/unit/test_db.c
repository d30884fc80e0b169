/*
 * The database connection against a real server.  $STEPD_TEST_PG is the
 * conninfo of a private PostgreSQL; without it there is nothing to test (77).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "db/db.h"
#include "db/db_ev.h"

#include <ev.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *conninfo;

struct fixture {
	struct ev_loop *loop;
	struct sd_db_loop adapter;
	struct sd_db_ev *ev;
	struct sd_db *db;
	int ups, downs, notified;
	char payload[64];
	struct sd_err down_err;
};

/* What became of one request. */
struct answer {
	int calls; /* of the callback */
	size_t n;
	char value[64];
	struct sd_err err;
	int order;
	size_t len;
};
static int order;

static void on_up(void *arg, struct sd_db *db)
{
	((struct fixture *)arg)->ups++;
}

static void on_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct fixture *f = arg;
	f->downs++;
	f->down_err = *err;
}

static void on_notify(void *arg, struct sd_db *db, const char *channel, const char *payload)
{
	struct fixture *f = arg;
	f->notified++;
	snprintf(f->payload, sizeof f->payload, "%s:%s", channel, payload);
}

static void on_done(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct answer *a = arg;
	a->calls++;
	a->order = ++order;
	if (err) {
		a->err = *err;
		return;
	}
	a->n = n;
	if (PQntuples(results[n - 1]) > 0) {
		a->len = (size_t)PQgetlength(results[n - 1], 0, 0);
		snprintf(a->value, sizeof a->value, "%s", PQgetvalue(results[n - 1], 0, 0));
	}
}

static void start_with(struct fixture *f, const char *info)
{
	static const char *const listen[] = {"stepd_test", NULL};
	memset(f, 0, sizeof *f);
	f->loop = ev_loop_new(EVFLAG_AUTO);
	f->ev = sd_db_ev_new(f->loop, &f->adapter);
	const struct sd_db_events events = {.up = on_up, .down = on_down, .notify = on_notify, .arg = f};
	f->db = sd_db_new(info, "stepd test", listen, &f->adapter, &events);
	sd_db_start(f->db);
}

static void stop(struct fixture *f)
{
	sd_db_free(f->db);
	sd_db_ev_free(f->ev);
	ev_loop_destroy(f->loop);
}

/* Run the loop until *counter reaches at least n; fails after 60 s. */
static void run_until(struct fixture *f, const int *counter, int n)
{
	int64_t until = sd_now_us() + 60 * SD_SEC;
	while (*counter < n && sd_now_us() < until)
		ev_run(f->loop, EVRUN_ONCE);
	assert_true(*counter >= n);
}

static void start(struct fixture *f)
{
	start_with(f, conninfo);
	run_until(f, &f->ups, 1);
}

static void ask(struct fixture *f, const struct sd_db_stmt *stmt, const char *value, unsigned flags, int64_t ms,
		struct answer *a)
{
	const char *values[] = {value};
	memset(a, 0, sizeof *a);
	const struct sd_db_call call = {stmt, values};
	sd_db_submit(f->db, &call, 1, flags, ms, on_done, a);
	assert_int_equal(a->calls, 0);
}

static const struct sd_db_stmt st_echo = {"echo", "select $1::text", 1};
static const struct sd_db_stmt st_sleep = {"sleep", "select pg_sleep($1::float8)::text", 1};
static const struct sd_db_stmt st_divide = {"divide", "select 1 / $1::int", 1};
static const struct sd_db_stmt st_setting = {"setting", "select current_setting($1)", 1};
static const struct sd_db_stmt st_kill = {"kill_me", "select pg_terminate_backend(pg_backend_pid())::text from (select $1::text) x", 1};
static const struct sd_db_stmt st_insert = {"insert_t", "insert into pg_temp.t values ($1::int) returning n", 1};
static const struct sd_db_stmt st_count = {"count_t", "select count(*) from pg_temp.t where $1::text is null", 1};

static void create(struct fixture *f, const struct sd_db_stmt *ddl)
{
	struct answer a = {0};
	const struct sd_db_call call = {ddl, NULL};
	sd_db_submit(f->db, &call, 1, 0, 0, on_done, &a);
	run_until(f, &a.calls, 1);
	assert_string_equal(a.err.message, "");
}

static void test_answers(void **state)
{
	struct fixture f;
	struct answer a, b;
	start(&f);
	ask(&f, &st_echo, "hello", 0, 0, &a);
	ask(&f, &st_echo, NULL, 0, 0, &b);
	run_until(&f, &b.calls, 1);
	assert_string_equal(a.value, "hello");
	assert_int_equal(a.calls, 1);
	stop(&f);
}

static void test_session(void **state)
{
	static const char *const want[][2] = {{"TimeZone", "UTC"}, {"client_encoding", "UTF8"}, {"jit", "off"},
		{"synchronous_commit", "on"}, {"application_name", "stepd test"},
		{"search_path", "pg_catalog, stepd, pg_temp"}, {"idle_in_transaction_session_timeout", "1min"},
		{"client_connection_check_interval", "5s"}, {"default_transaction_isolation", "read committed"}};
	struct fixture f;
	start(&f);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		struct answer a;
		ask(&f, &st_setting, want[i][0], 0, 0, &a);
		run_until(&f, &a.calls, 1);
		assert_string_equal(a.value, want[i][1]);
	}
	stop(&f);
}

static void test_errors_stay_apart(void **state)
{
	struct fixture f;
	struct answer a[4];
	start(&f);
	ask(&f, &st_divide, "1", 0, 0, &a[0]);
	ask(&f, &st_divide, "0", 0, 0, &a[1]);
	ask(&f, &st_echo, "after", 0, 0, &a[2]);
	ask(&f, &st_divide, "x", 0, 0, &a[3]);
	run_until(&f, &a[3].calls, 1);
	assert_string_equal(a[0].value, "1");
	assert_string_equal(a[1].err.sqlstate, "22012");
	assert_int_equal(a[1].err.class, SD_ERR_PERMANENT);
	assert_string_equal(a[2].value, "after");
	assert_string_equal(a[3].err.sqlstate, "22P02");
	for (int i = 1; i < 4; i++)
		assert_true(a[i].order > a[i - 1].order);
	assert_int_equal(f.downs, 0);
	stop(&f);
}

static void test_request_is_atomic(void **state)
{
	static const struct sd_db_stmt ddl = {"ddl1", "create temp table t (n int primary key deferrable initially deferred)", 0};
	struct fixture f;
	struct answer a = {0}, b, c = {0};
	const char *one[] = {"1"}, *zero[] = {"0"};
	start(&f);
	create(&f, &ddl);
	/* the second statement fails: the first is undone */
	const struct sd_db_call calls[] = {{&st_insert, one}, {&st_divide, zero}};
	sd_db_submit(f.db, calls, 2, 0, 0, on_done, &a);
	ask(&f, &st_count, NULL, 0, 0, &b);
	run_until(&f, &b.calls, 1);
	assert_string_equal(a.err.sqlstate, "22012");
	assert_string_equal(b.value, "0");
	/* the commit fails: both statements had worked */
	const struct sd_db_call twice[] = {{&st_insert, one}, {&st_insert, one}};
	sd_db_submit(f.db, twice, 2, 0, 0, on_done, &c);
	ask(&f, &st_count, NULL, 0, 0, &b);
	run_until(&f, &b.calls, 1);
	assert_string_equal(c.err.sqlstate, "23505");
	assert_string_equal(b.value, "0");
	assert_int_equal(f.downs, 0);
	stop(&f);
}

static void test_parse_error_is_told(void **state)
{
	static const struct sd_db_stmt late = {"late", "select pg_temp.late($1::int)", 1};
	static const struct sd_db_stmt ddl = {"ddl2", "create function pg_temp.late(int) returns int language sql as 'select $1'", 0};
	static const struct sd_db_stmt temp = {"temp", "create temp table makes_the_schema ()", 0};
	struct fixture f;
	struct answer a, b, c;
	start(&f);
	create(&f, &temp);
	ask(&f, &late, "1", 0, 0, &a);
	ask(&f, &late, "2", 0, 0, &b); /* pipelined behind the Parse that will fail */
	ask(&f, &st_echo, "fine", 0, 0, &c);
	run_until(&f, &c.calls, 1);
	assert_string_equal(a.err.sqlstate, "42883");
	assert_string_equal(b.err.sqlstate, "42883");
	assert_string_equal(c.value, "fine");
	create(&f, &ddl);
	ask(&f, &late, "3", 0, 0, &a);
	run_until(&f, &a.calls, 1);
	assert_string_equal(a.value, "3");
	assert_int_equal(f.downs, 0);
	stop(&f);
}

static void test_lost_connection(void **state)
{
	struct fixture f;
	struct answer a, b, c;
	start(&f);
	ask(&f, &st_echo, "before", 0, 0, &a);
	ask(&f, &st_kill, "", 0, 0, &b);
	run_until(&f, &b.calls, 1);
	assert_string_equal(a.value, "before");
	assert_string_equal(b.err.sqlstate, "08007");
	assert_int_equal(b.err.class, SD_ERR_TRANSIENT);
	assert_int_equal(f.downs, 1);
	assert_string_equal(f.down_err.sqlstate, "57P01");
	assert_false(sd_db_is_up(f.db));
	ask(&f, &st_echo, "now", 0, 0, &a);
	ask(&f, &st_echo, "later", SD_DB_WAIT, 0, &c);
	run_until(&f, &c.calls, 1);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.err.class, SD_ERR_TRANSIENT);
	assert_string_equal(c.value, "later");
	assert_int_equal(f.ups, 2);
	ask(&f, &st_echo, "prepared again", 0, 0, &a);
	run_until(&f, &a.calls, 1);
	assert_string_equal(a.value, "prepared again");
	stop(&f);
}

static void test_deadline(void **state)
{
	struct fixture f;
	struct answer a, b, c;
	start(&f);
	int64_t t0 = sd_now_us();
	ask(&f, &st_sleep, "30", 0, 200, &a);
	ask(&f, &st_echo, "behind", 0, 0, &b);
	ask(&f, &st_echo, "x", SD_DB_WAIT, 0, &c);
	run_until(&f, &b.calls, 1);
	assert_true(sd_now_us() - t0 < 2 * SD_SEC);
	assert_string_equal(a.err.sqlstate, "08007");
	assert_string_equal(b.err.sqlstate, "08007");
	/* it was sent as well, so it is not sent again */
	assert_string_equal(c.err.sqlstate, "08007");
	run_until(&f, &f.ups, 2);
	stop(&f);
}

static void test_notify(void **state)
{
	static const struct sd_db_stmt st_notify = {"notify", "select pg_notify('stepd_test', $1)", 1};
	struct fixture f;
	struct answer a;
	start(&f);
	ask(&f, &st_notify, "ding", 0, 0, &a);
	run_until(&f, &f.notified, 1);
	assert_string_equal(f.payload, "stepd_test:ding");
	ask(&f, &st_kill, "", 0, 0, &a);
	run_until(&f, &f.ups, 2);
	ask(&f, &st_notify, "dong", 0, 0, &a); /* listening again */
	run_until(&f, &f.notified, 2);
	assert_string_equal(f.payload, "stepd_test:dong");
	stop(&f);
}

/* Much in both directions at once: whoever only writes, or only reads, hangs. */
static void test_large(void **state)
{
	enum { N = 6, SIZE = 4 << 20 };
	struct fixture f;
	struct answer a[N];
	char *text = malloc(SIZE + 1);
	memset(text, 'x', SIZE);
	text[SIZE] = '\0';
	start(&f);
	for (int i = 0; i < N; i++)
		ask(&f, &st_echo, text, 0, 60000, &a[i]);
	run_until(&f, &a[N - 1].calls, 1);
	for (int i = 0; i < N; i++) {
		assert_string_equal(a[i].err.message, "");
		assert_int_equal(a[i].len, SIZE);
	}
	free(text);
	stop(&f);
}

static void test_many(void **state)
{
	enum { N = 1000 };
	struct fixture f;
	struct answer *a = calloc(N, sizeof *a);
	char value[16];
	start(&f);
	for (int i = 0; i < N; i++) {
		snprintf(value, sizeof value, "%d", i);
		ask(&f, &st_echo, value, 0, 0, &a[i]);
	}
	run_until(&f, &a[N - 1].calls, 1);
	for (int i = 0; i < N; i++) {
		snprintf(value, sizeof value, "%d", i);
		assert_string_equal(a[i].value, value);
	}
	free(a);
	stop(&f);
}

static void test_unreachable(void **state)
{
	struct fixture f;
	struct answer a, b;
	start_with(&f, "host=127.0.0.1 port=1 dbname=x password=hush");
	ask(&f, &st_echo, "1", 0, 0, &a);
	ask(&f, &st_echo, "2", SD_DB_WAIT, 300, &b);
	run_until(&f, &b.calls, 1);
	assert_int_equal(a.err.class, SD_ERR_TRANSIENT);
	assert_int_equal(b.err.class, SD_ERR_TRANSIENT);
	assert_int_equal(f.downs, 1); /* the same reason again is not told again */
	assert_int_equal(f.down_err.class, SD_ERR_TRANSIENT);
	stop(&f);
}

static void test_refused_for_good(void **state)
{
	struct fixture f;
	char *info = sd_xasprintf("%s dbname=no_such_database", conninfo);
	struct sd_err err;
	start_with(&f, info);
	run_until(&f, &f.downs, 1);
	assert_string_equal(f.down_err.sqlstate, "3D000");
	assert_int_equal(f.down_err.class, SD_ERR_PERMANENT);
	assert_null(strstr(f.down_err.message, "3D000"));
	assert_null(strstr(f.down_err.message, "LOCATION"));
	stop(&f);
	assert_null(sd_db_connect(info, "stepd test", 5000, &err));
	assert_string_equal(err.sqlstate, "3D000");
	free(info);
	assert_null(sd_db_connect("host=127.0.0.1 port=1 dbname=x", "stepd test", 5000, &err));
	assert_int_equal(err.class, SD_ERR_TRANSIENT);
}

static void test_malformed_conninfo_keeps_secrets(void **state)
{
	static const char *const bad[] = {"postgresql://u:hush@ho st:x/db?foo=hush", "host=a password='hush", "hush",
		"postgresql://u:hu%ZZhush@h/db", "postgresql://u:hush@hush@h/db", "host=a port=1 pasword=hush",
		"postgresql://u:p@[hush", "postgresql://u@h/db?hush=1"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sd_err err;
		assert_null(sd_db_connect(bad[i], "stepd test", 1000, &err));
		assert_int_equal(err.class, SD_ERR_PERMANENT);
		assert_null(strstr(err.message, "hush"));
		assert_null(strstr(err.detail, "hush"));
	}
	struct fixture f;
	start_with(&f, bad[0]);
	run_until(&f, &f.downs, 1);
	assert_int_equal(f.down_err.class, SD_ERR_PERMANENT);
	stop(&f);
}

/* A host that accepts and says nothing must not keep us from the next. */
static void test_silent_host(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof addr;
	struct sd_err err;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);

	PGconn *conn = sd_db_connect(conninfo, "stepd test", 5000, &err);
	assert_non_null(conn);
	char *info = sd_xasprintf("host=127.0.0.1,%s port=%d,%s user=%s dbname=%s connect_timeout=1", PQhost(conn),
				  ntohs(addr.sin_port), PQport(conn), PQuser(conn), PQdb(conn));
	PQfinish(conn);
	struct fixture f;
	start_with(&f, info);
	run_until(&f, &f.ups, 1);
	stop(&f);
	conn = sd_db_connect(info, "stepd test", 2000, &err);
	assert_non_null(conn);
	PQfinish(conn);
	free(info);
	close(fd);
}

int main(void)
{
	conninfo = getenv("STEPD_TEST_PG");
	if (!conninfo)
		return 77;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_errors_stay_apart),
		cmocka_unit_test(test_request_is_atomic),
		cmocka_unit_test(test_parse_error_is_told),
		cmocka_unit_test(test_lost_connection),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_unreachable),
		cmocka_unit_test(test_refused_for_good),
		cmocka_unit_test(test_malformed_conninfo_keeps_secrets),
		cmocka_unit_test(test_silent_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
