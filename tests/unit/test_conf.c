/*
 * The configuration: that the table, the sample file and the manual agree, that
 * what people write is read as they mean it, and that what is wrong is named at
 * its place, all of it at once.
 */
#include "base/buf.h"
#include "base/fdutil.h"
#include "base/json.h"
#include "base/yaml.h"
#include "conf/conf.h"
#include "conf/expand.h"
#include "conf/options.h"
#include "conf/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SAMPLE SD_TOP_SRCDIR "/etc/stepd.yaml"
#define MANUAL SD_TOP_SRCDIR "/etc/stepd.yaml.5"
#define USUAL_STEPS "/usr/local/lib/stepd/steps"

static struct sd_conf *parse(const char *text, struct sd_conf_problems *problems)
{
	return sd_conf_parse(text, strlen(text), "/etc/stepd/stepd.yaml", problems);
}

static struct sd_conf *load_good(const char *text)
{
	struct sd_conf_problems problems;
	struct sd_conf *conf = parse(text, &problems);
	if (!conf)
		sd_conf_problems_print(stderr, "test", &problems);
	assert_non_null(conf);
	assert_int_equal(problems.n, 0);
	return conf;
}

/* text is refused with exactly the problems that follow, "line:col: message", ended by NULL. */
static void expect(const char *text, ...)
{
	struct sd_conf_problems problems;
	struct sd_conf *conf = parse(text, &problems);
	size_t i = 0;
	va_list ap;

	if (conf)
		fail_msg("accepted: %s", text);
	va_start(ap, text);
	for (const char *want; (want = va_arg(ap, const char *)); i++) {
		char got[600] = "";
		if (i < problems.n)
			snprintf(got, sizeof(got), "%d:%d: %s", problems.v[i].line, problems.v[i].col, problems.v[i].text);
		assert_string_equal(got, want);
	}
	va_end(ap);
	if (problems.n > i)
		sd_conf_problems_print(stderr, "unexpected", &problems);
	assert_int_equal(problems.n, i);
	sd_conf_problems_free(&problems);
}

static void read_whole(const char *path, struct sd_buf *b)
{
	struct sd_err err;
	if (sd_read_file(path, 1 << 20, b, &err) < 0)
		fail_msg("%s", err.message);
}

static void test_defaults(void **state)
{
	static const char *const empty[] = {"", "# nothing\n", "---\n", "{}\n", "queues:\nhttp:\npools: {}\n"};
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		struct sd_conf *c = load_good(empty[i]);
		assert_string_equal(c->database_url, "postgresql:///stepd");
		assert_int_equal(c->database_lease_ms, 30000);
		assert_int_equal(c->nsteps, 1);
		assert_string_equal(c->steps[0], SD_PKGLIBDIR "/steps");
		assert_string_equal(c->http.listen.host, "127.0.0.1");
		assert_int_equal(c->http.listen.port, 3111);
		assert_int_equal(c->http.body_limit, 1 << 20);
		assert_int_equal(c->admin.listen.port, 3113);
		assert_int_equal(c->npools, 2);
		assert_int_equal(c->pools[0].processes, 4);
		assert_int_equal(c->pools[0].serves, SD_SERVES_QUEUE);
		assert_int_equal(c->pools[0].max_rss, 512 << 20);
		assert_string_equal(c->pools[1].name, "web");
		assert_int_equal(c->pools[1].serves, SD_SERVES_HTTP);
		assert_int_equal(c->nqueues, 0);
		assert_int_equal(c->queue_defaults.max_retries, 3);
		assert_int_equal(c->queue_defaults.retry_delay_ms, 1000);
		assert_int_equal(c->queue_defaults.max_concurrency, 0);
		assert_true(c->queue_defaults.jitter == 0.1);
		assert_true(c->history_keep_ms == 30LL * 86400000);
		assert_string_equal(c->log_level, "info");
		assert_null(c->log_file);
		assert_non_null(c->node_name);
		sd_conf_free(c);
	}
}

static void test_values(void **state)
{
	struct sd_conf *c = load_good("database: { url: 'host=a,b dbname=app', wait: 500ms }\n"
				      "steps: [ /usr/lib/x, ./steps, ../up, . ]\n"
				      "http: { listen: '[::1]:80', bodyLimit: 64KiB, timeout: 5m }\n"
				      "admin: { listen: off }\n"
				      "pools:\n  a: { processes: 1, serves: http, maxJobs: none, maxRss: 16777216, maxMemory: 64MiB, maxCpuTime: 90s, maxCpus: 1.5 }\n"
				      "queues:\n  order.created: { strategy: priority, timeout: 2h, jitter: 0, maxConcurrency: 7,\n"
				      "    rateLimit: none, history: keep }\n  \"b c\":\n"
				      "history: { keep: 7d }\nlogging: { file: log/x, database: off }\n");
	assert_string_equal(c->database_url, "host=a,b dbname=app");
	assert_int_equal(c->database_wait_ms, 500);
	assert_int_equal(c->nsteps, 4);
	assert_string_equal(c->steps[0], "/usr/lib/x");
	assert_string_equal(c->steps[1], "/etc/stepd/steps");
	assert_string_equal(c->steps[2], "/etc/stepd/../up");
	assert_string_equal(c->steps[3], "/etc/stepd");
	assert_string_equal(c->http.listen.host, "::1");
	assert_int_equal(c->http.listen.port, 80);
	assert_int_equal(c->http.body_limit, 65536);
	assert_null(c->admin.listen.host);
	assert_int_equal(c->npools, 1);
	assert_int_equal(c->pools[0].serves, SD_SERVES_HTTP);
	assert_int_equal(c->pools[0].max_jobs, 0);
	assert_int_equal(c->pools[0].max_rss, 16 << 20);
	assert_int_equal(c->pools[0].max_memory, 64 << 20);
	assert_int_equal(c->pools[0].max_cpu_ms, 90000);
	assert_true(c->pools[0].max_cpus == 1.5);
	assert_int_equal(c->nqueues, 2);
	assert_string_equal(c->queues[0].name, "order.created");
	assert_int_equal(c->queues[0].strategy, SD_PRIORITY);
	assert_int_equal(c->queues[0].timeout_ms, 7200000);
	assert_true(c->queues[0].jitter == 0);
	assert_int_equal(c->queues[0].max_concurrency, 7);
	assert_string_equal(c->queues[1].name, "b c");
	assert_int_equal(c->queues[1].max_retries, 3);
	assert_string_equal(c->log_file, "/etc/stepd/log/x");
	assert_string_equal(c->log_database, "off");
	sd_conf_free(c);
}

static void test_all_at_once(void **state)
{
	expect("databse: {}\n"
	       "http: { listen: nowhere, bodyLimit: 65MiB, maxInFlight: 0, tls: { cert: a, key: b } }\n"
	       "queues:\n"
	       "  q:\n"
	       "    stratgy: fifo\n"
	       "    backoff: cubic\n"
	       "    maxRetries: -1\n"
	       "    retryDelay: 5 parsecs\n"
	       "    jitter: 1.5\n"
	       "    timeout: 0\n",
	       "1:1: unknown key \"databse\", did you mean \"database\"?",
	       "2:17: http.listen: expected HOST:PORT, [IPV6]:PORT or off, found \"nowhere\"",
	       "2:37: http.bodyLimit: must be from 1KiB to 64MiB, found \"65MiB\"",
	       "2:57: http.maxInFlight: must be from 1 to 65536, found \"0\"",
	       "5:5: unknown key \"stratgy\" in queues.q, did you mean \"strategy\"?",
	       "6:14: queues.q.backoff: expected exponential, linear or fixed, found \"cubic\"",
	       "7:17: queues.q.maxRetries: must be from 0 to 10000, found \"-1\"",
	       "8:17: queues.q.retryDelay: \"5 parsecs\" is not a duration: unknown unit \" parsecs\"; it is a whole number "
	       "and ms, s, m, h or d, as in 500ms or 5m; a bare number is milliseconds",
	       "9:13: queues.q.jitter: must be from 0 to 1, found \"1.5\"",
	       "10:14: queues.q.timeout: must be from 10ms to 30d, or none, found \"0\"", NULL);
}

static void test_wrong_shapes(void **state)
{
	expect("just text\n", "1:1: expected a mapping (key: value), found a single value", NULL);
	expect("[a, b]\n", "1:1: expected a mapping (key: value), found a list", NULL);
	expect("http: 5\nqueues: [a]\n", "1:7: http: expected a mapping (key: value), found a single value",
	       "2:9: queues: expected a mapping (key: value), found a list", NULL);
	expect("queues: { q: fifo }\n", "1:14: queues.q: expected a mapping (key: value), found a single value", NULL);
	expect("database: { url: [a] }\n", "1:18: database.url: expected a single value, found a list", NULL);
	expect("database: { url: }\n", "1:18: database.url has no value", NULL);
	expect("database: { url: '' }\n", "1:18: database.url: must not be empty", NULL);
	expect("steps: { a: b }\n", "1:8: steps: expected a single value, found a mapping", NULL);
	expect("steps: [ [a] ]\n", "1:10: steps: expected a single value, found a list", NULL);
	expect("pools: { p: { serves: [] } }\n", "1:23: pools.p.serves: the list is empty", NULL);
	expect("pools: { 'a b': {} }\n", "1:10: a pool's name is 1 to 32 letters, digits, '-' and '_'", NULL);
	expect("queues: { '': {} }\n", "1:11: a queue's name is 1 to 255 bytes without control characters", NULL);
	expect("'http.listen': off\n", "1:1: unknown key \"http.listen\"; known are database, node, user, steps, http, admin, "
				       "pools, queues, history, logging, stop", NULL);
	expect("'*': 1\n", "1:1: unknown key \"*\"; known are database, node, user, steps, http, admin, pools, queues, "
			   "history, logging, stop", NULL);
	expect("http: { tls: { cret: a } }\n", "1:16: unknown key \"cret\" in http.tls, did you mean \"cert\"?", NULL);
	expect("queues: { q: { max_retries: 3 } }\n",
	       "1:16: unknown key \"max_retries\" in queues.q, did you mean \"maxRetries\"?", NULL);
}

static void test_duplicates(void **state)
{
	expect("http: { timeout: 1s, timeout: 2s, timeout: x }\nqueues:\n  q: { jitter: 2 }\n  q:\nhttp: 5\nhtpp: 1\n",
	       "1:22: key \"timeout\" is given twice, first at 1:9", "1:35: key \"timeout\" is given twice, first at 1:22",
	       "3:16: queues.q.jitter: must be from 0 to 1, found \"2\"", "4:3: key \"q\" is given twice, first at 3:3",
	       "5:1: key \"http\" is given twice, first at 1:1", "6:1: unknown key \"htpp\", did you mean \"http\"?", NULL);
}

static void test_addresses(void **state)
{
	static const char *const bad[] = {"3111", ":3111", "::1:3111", "[::1]", "[]:1", "a b:1", "http://a:1", "a:"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[100];
		struct sd_conf_problems problems;
		snprintf(text, sizeof(text), "http: { listen: '%s' }\n", bad[i]);
		assert_null(parse(text, &problems));
		assert_int_equal(problems.n, 1);
		sd_conf_problems_free(&problems);
	}
	expect("http: { listen: 'a:0' }\n", "1:17: http.listen: the port must be from 1 to 65535, found \"0\"", NULL);
	expect("http: { listen: 'a:65536' }\n", "1:17: http.listen: the port must be from 1 to 65535, found \"65536\"", NULL);
	expect("admin: { listen: '0.0.0.0:1' }\n",
	       "1:18: admin.listen: \"0.0.0.0\" is not a loopback address, which needs admin.token", NULL);
	expect("http: { listen: 'localhost:1' }\nadmin: { listen: 'localhost:1' }\n",
	       "2:18: http.listen and admin.listen are the same address", NULL);
	sd_conf_free(load_good("admin: { listen: '0.0.0.0:1', token: secret }\n"));
}

static void test_secrets_stay(void **state)
{
	struct sd_conf_problems problems;
	assert_null(parse("database: { url: 'postgresql://u:%zzsecret@h/d' }\n", &problems));
	assert_int_equal(problems.n, 1);
	assert_null(strstr(problems.v[0].text, "secret"));
	sd_conf_problems_free(&problems);
	assert_null(parse("database: { url: 'password=secret oops' }\n", &problems));
	assert_null(strstr(problems.v[0].text, "secret"));
	sd_conf_problems_free(&problems);
}

static void test_not_supported(void **state)
{
	expect("pools: { p: { serves: [queue, http] } }\n",
	       "1:23: pools.p.serves: one pool for both queue and http is not supported yet; make two pools", NULL);
	expect("http: { tls: { cert: a } }\n", "1:14: http.tls needs both cert and key", NULL);
}

static void test_pools(void **state)
{
	struct sd_conf *c = load_good("pools:\n  a: { processes: 3, queues: [x, y], steps: S }\n"
				      "  b: { processes: { max: 8 } }\n"
				      "  c: { processes: { min: 0, max: 2, idleTimeout: 5m } }\n");
	assert_int_equal(c->pools[0].min, 3);
	assert_int_equal(c->pools[0].max, 3);
	assert_true(sd_conf_pool_runs(&c->pools[0], "y", "S"));
	assert_false(sd_conf_pool_runs(&c->pools[0], "z", "S"));
	assert_false(sd_conf_pool_runs(&c->pools[0], "x", "T"));
	assert_int_equal(c->pools[1].min, 1);
	assert_int_equal(c->pools[1].max, 8);
	assert_int_equal(c->pools[1].idle_ms, 30000);
	assert_true(sd_conf_pool_runs(&c->pools[1], "z", "T"));
	assert_int_equal(c->pools[2].min, 0);
	assert_int_equal(c->pools[2].idle_ms, 300000);
	sd_conf_free(c);
	setenv("POOL_SECRET", "s3cret", 1);
	c = load_good("pools: { p: { user: nobody, environment: { KEY: '${POOL_SECRET}', EMPTY: '', N: 7 } } }\n");
	assert_string_equal(c->pools[0].user, "nobody");
	assert_int_equal(c->pools[0].environment.n, 3);
	assert_string_equal(c->pools[0].environment.v[0], "KEY=s3cret");
	assert_string_equal(c->pools[0].environment.v[1], "EMPTY=");
	assert_string_equal(c->pools[0].environment.v[2], "N=7");
	sd_conf_free(c);
	expect("pools: { p: { environment: [A] } }\n", "1:28: pools.p.environment: expected a mapping (NAME: value)", NULL);
	expect("pools: { p: { environment: { A=B: c } } }\n",
	       "1:30: pools.p.environment: \"A=B\" is not the name of an environment variable", NULL);
	expect("pools: { p: { environment: { A: } } }\n", "1:33: pools.p.environment.A: expected a single value", NULL);
	expect("pools: { p: { processes: { min: 2 } } }\n", "1:26: pools.p.processes: max is missing", NULL);
	expect("pools: { p: { processes: { min: 3, max: 2 } } }\n", "1:26: pools.p.processes: min 3 is more than max 2", NULL);
	expect("pools: { p: { processes: { min: 0, max: 2 }, serves: http } }\n",
	       "1:26: pools.p.processes: a pool that serves http has a min of 1 or more", NULL);
	expect("pools: { p: { processes: { most: 2 } } }\n",
	       "1:26: pools.p.processes: max is missing",
	       "1:28: unknown key \"most\" in pools.p.processes; known are min, max, idleTimeout", NULL);
	expect("pools: { p: { processes: [2] } }\n", "1:26: pools.p.processes: expected a single value, found a list", NULL);
	expect("pools: { p: { queues: [] } }\n", "1:23: pools.p.queues: the list is empty", NULL);
	expect("pools: { p: { queues: [x, x] } }\n", "1:27: pools.p.queues: \"x\" is there twice", NULL);
	expect("pools: { p: { serves: http, steps: [x] } }\n",
	       "1:36: pools.p.steps is about jobs: this pool serves only http, which serves every route", NULL);
}

static void test_expand(void **state)
{
	setenv("SD_TEST_SET", "value: [x]", 1);
	setenv("SD_TEST_EMPTY", "", 1);
	unsetenv("SD_TEST_UNSET");
	static const char *const good[][2] = {
		{"plain $5 $$ {a}", "plain $5 $$ {a}"},
		{"<${SD_TEST_SET}>", "<value: [x]>"},
		{"${SD_TEST_UNSET:postgresql:///x}", "postgresql:///x"},
		{"${SD_TEST_EMPTY:d}${SD_TEST_UNSET:}", "d"},
		{"${SD_TEST_EMPTY}", ""},
		{"$${SD_TEST_SET}", "${SD_TEST_SET}"},
		{"${SD_TEST_UNSET:a}${SD_TEST_UNSET:b}$", "ab$"},
		{"<${SD_TEST_UNSET:${SD_TEST_EMPTY:${SD_TEST_SET}}}>", "<value: [x]>"},
		{"${SD_TEST_UNSET:a${SD_TEST_SET}b{c}d", "avalue: [x]b{cd"},
		{"${SD_TEST_SET:${SD_TEST_UNSET}}", "value: [x]"}, /* what is not taken need not be set */
		{"${SD_TEST_UNSET:$${SD_TEST_SET}", "${SD_TEST_SET"},
		{"${SD_TEST_EMPTY:}", ""},
	};
	struct sd_arena *arena = sd_arena_new();
	struct sd_err err;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_string_equal(sd_expand(good[i][0], arena, &err), good[i][1]);
	static const char *const bad[] = {"${}", "${", "${1A}", "${SD_TEST_UNSET}", "${A", "${A:b", "${A B}", "${A-b}", "${:x}", "${A:${B}", "${A:${}}",
					  "${SD_TEST_SET:${1}}", "${A:${A:${A:${A:${A:${A:${A:${A:${A:x}}}}}}}}}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(sd_expand(bad[i], arena, &err));
	sd_arena_free(arena);
	expect("node: { name: \"${SD_TEST_UNSET}\" }\nhttp: { timeout: \"${SD_TEST_SET}\" }\n",
	       "1:15: node.name: the environment variable SD_TEST_UNSET is not set and ${SD_TEST_UNSET} has no default",
	       "2:18: http.timeout: \"value: [x]\" is not a duration; it is a whole number and ms, s, m, h or d, as in 500ms "
	       "or 5m; a bare number is milliseconds", NULL);
	struct sd_conf *c = load_good("steps: [ \"${SD_TEST_UNSET:./a}\" ]\nqueues: { q: { maxRetries: \"${SD_TEST_UNSET:9}\" } }\n");
	assert_string_equal(c->steps[0], "/etc/stepd/a");
	assert_int_equal(c->queues[0].max_retries, 9);
	sd_conf_free(c);
}

static void test_rate(void **state)
{
	const struct sd_option *rate = NULL;
	for (size_t i = 0; i < sd_noptions; i++) {
		if (sd_options[i].type == SD_OPTION_RATE)
			rate = &sd_options[i];
	}
	struct sd_conf_queue q = {0};
	struct sd_err err;
	struct sd_arena *arena = sd_arena_new();
	assert_int_equal(sd_value_set(rate, &q, "100/1s", arena, &err), 0);
	assert_int_equal(q.rate_limit, 100);
	assert_int_equal(q.rate_window_ms, 1000);
	static const char *const bad[] = {"100", "/1s", "100/", "0/1s", "1/0", "-1/1s", "1/1s/1s", "99999999999999999999/1s", "1/366d",
					"1/99999999999d"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sd_value_set(rate, &q, bad[i], arena, &err), -1);
	sd_arena_free(arena);
}

static void test_hostile(void **state)
{
	static const char *const bad[] = {
		"a: b: c\n", "{", "\t- x", "http: { listen: x, listen: y }\n", "a: &x 1\nb: *x\n", "!!python/object x\n", "\xff\xfe",
		"\"\\0\": 1\n", "--- a\n--- b\n", "? [a]\n: b\n", "\"unfinished\n", "%YAML 9.9\n---\na: 1\n",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sd_conf_problems problems;
		assert_null(parse(bad[i], &problems));
		assert_true(problems.n >= 1);
		assert_true(problems.v[0].line >= 1);
		assert_true(strlen(problems.v[0].text) > 5);
		sd_conf_problems_free(&problems);
	}
	struct sd_buf deep = SD_BUF_INIT, many = SD_BUF_INIT;
	struct sd_conf_problems problems;
	for (int i = 0; i < 100000; i++)
		sd_buf_chr(&deep, '[');
	assert_null(parse(deep.data, &problems));
	sd_conf_problems_free(&problems);
	for (int i = 0; i < 5000; i++)
		sd_buf_printf(&many, "key%d: 1\n", i);
	assert_null(parse(many.data, &problems));
	assert_int_equal(problems.n, 201);
	assert_string_equal(problems.v[200].text, "too many problems, the rest is not shown");
	sd_conf_problems_free(&problems);
	sd_buf_reset(&many);
	sd_buf_str(&many, "queues:\n");
	for (int i = 0; i < 9000; i++)
		sd_buf_printf(&many, "  q%d: { maxRetries: %d }\n", i, i % 10);
	struct sd_conf *c = load_good(many.data);
	assert_int_equal(c->nqueues, 9000);
	sd_conf_free(c);
	sd_buf_fini(&deep);
	sd_buf_fini(&many);
}

static void test_files(void **state)
{
	struct sd_conf_problems problems;
	char text[600];

	assert_null(sd_conf_load("/nonexistent/stepd.yaml", &problems));
	assert_int_equal(problems.n, 1);
	assert_int_equal(problems.v[0].line, 0);
	FILE *out = fmemopen(text, sizeof(text), "w");
	sd_conf_problems_print(out, "/nonexistent/stepd.yaml", &problems);
	fclose(out);
	assert_non_null(strstr(text, "/nonexistent/stepd.yaml: "));
	assert_non_null(strstr(text, "No such file"));
	sd_conf_problems_free(&problems);
	assert_null(sd_conf_load("/", &problems));
	sd_conf_problems_free(&problems);
	assert_null(sd_conf_load("/dev/zero", &problems));
	sd_conf_problems_free(&problems);
	struct sd_conf *c = sd_conf_load(NULL, &problems);
	assert_non_null(c);
	assert_null(c->file);
	sd_conf_free(c);
}

static void test_queues_json(void **state)
{
	struct sd_err err;
	struct sd_conf *c = load_good("queues: { 'a\"b': { strategy: fifo, maxConcurrency: 3 }, c: {} }\n");
	const char *json = sd_conf_queues_json(c, c->arena);
	cJSON *tree = sd_json_parse(json, strlen(json), &err);
	assert_non_null(tree);
	assert_int_equal(cJSON_GetArraySize(tree), 2);
	const cJSON *first = cJSON_GetArrayItem(tree, 0);
	assert_string_equal(sd_json_str(first, "name", ""), "a\"b");
	assert_string_equal(sd_json_str(first, "strategy", ""), "fifo");
	assert_int_equal(sd_json_int(first, "max_concurrency", -1), 3);
	assert_int_equal(sd_json_int(first, "retry_delay_ms", -1), 1000);
	assert_true(cJSON_IsNull(sd_json_get(first, "timeout_ms")));
	cJSON_Delete(tree);
	json = sd_conf_queue_defaults_json(c, c->arena);
	tree = sd_json_parse(json, strlen(json), &err);
	assert_non_null(tree);
	assert_null(sd_json_get(tree, "name"));
	assert_int_equal(sd_json_int(tree, "max_retries", -1), 3);
	cJSON_Delete(tree);
	sd_conf_free(c);
}

static void test_restart_options(void **state)
{
	struct sd_conf *a = load_good("database: { url: 'dbname=a', lease: 10s }\n");
	struct sd_conf *b = load_good("http: { timeout: 1s }\nuser: x\nqueues: { q: {} }\ndatabase: { lease: 20s, url: 'dbname=b' }\n");
	struct sd_buf names = SD_BUF_INIT;
	for (size_t i = 0; i < sd_noptions; i++) { /* what sd_conf_keep_restart_options knows to copy */
		const struct sd_option *o = &sd_options[i];
		if (!o->reloadable && (strchr(o->path, '*') || (o->type != SD_OPTION_STRING && o->type != SD_OPTION_CONNINFO &&
								o->type != SD_OPTION_TIME)))
			fail_msg("%s cannot be kept over a reload", o->path);
	}
	assert_int_equal(sd_conf_keep_restart_options(a, a, &names), 0);
	assert_int_equal(sd_conf_keep_restart_options(a, b, &names), 3);
	assert_string_equal(names.data, "database.url, database.lease, user");
	sd_conf_free(a);
	assert_string_equal(b->database_url, "dbname=a");
	assert_int_equal(b->database_lease_ms, 10000);
	assert_null(b->user);
	assert_int_equal(b->http.timeout_ms, 1000);
	sd_buf_fini(&names);
	sd_conf_free(b);
}

/* The contract's sample. */
static void test_contract_sample(void **state)
{
	sd_conf_free(load_good(
		"database: { url: \"postgresql:///app\" }     # any libpq URL or conninfo, several hosts allowed\n"
		"steps: [ \"/usr/local/lib/stepd/steps\", \"./steps\" ]\n"
		"http:   { listen: \"127.0.0.1:3111\", bodyLimit: 1MiB, timeout: 30s, maxInFlight: 1024 }\n"
		"admin:  { listen: \"127.0.0.1:3113\" }\n"
		"pools:\n"
		"  default: { processes: 4, serves: [queue], maxJobs: 10000, maxRss: 512MiB }\n"
		"  web:     { processes: 2, serves: [http] }\n"
		"queues:                                     # this block is the Page's, word for word\n"
		"  process-order:\n    strategy: fifo\n    maxRetries: 3\n    retryDelay: 1000\n"
		"  send-email:\n    strategy: priority\n    maxConcurrency: 10\n"
		"history: { keep: 30d }\n"
		"logging: { level: info, format: text }\n"));
}

/* Does text hold words, whatever white space and '#' is between them? */
static bool holds(const char *text, const char *words)
{
	for (const char *start = text; *start; start++) {
		const char *t = start, *w = words;
		while (*w && *t) {
			if (*w == ' ' && strchr(" \n#", *t)) {
				t += strspn(t, " \n#");
				w++;
			} else if (*t++ != *w++) {
				w = NULL;
				break;
			}
		}
		if (w && *w == '\0')
			return true;
	}
	return false;
}

/* The sample with the options in its comments turned on: '#' and no space, or more than one. */
static void uncomment(const struct sd_buf *sample, struct sd_buf *out)
{
	for (const char *line = sample->data; *line;) {
		size_t len = strcspn(line, "\n") + (strchr(line, '\n') != NULL);
		bool option = line[0] == '#' && line[1] != '\n' && (line[1] != ' ' || line[2] == ' ');
		sd_buf_append(out, line + option, len - option);
		line += len;
	}
}

/* The value of an option in the sample; behind "*" in the first of these pools or queues that has it. */
static const struct sd_yaml *in_sample(const struct sd_yaml *root, const char *path)
{
	char key[64];
	const struct sd_yaml *node = root;
	while (node && *path) {
		size_t len = strcspn(path, ".");
		snprintf(key, sizeof(key), "%.*s", (int)len, path);
		if (strcmp(key, "*") == 0) {
			static const char *const names[] = {"default", "bulk", "any-other"};
			const struct sd_yaml *found = NULL;
			for (size_t i = 0; i < 3 && !found; i++)
				found = sd_yaml_get(node, names[i]) ? in_sample(sd_yaml_get(node, names[i]), path + 2) : NULL;
			return found;
		}
		node = sd_yaml_get(node, key);
		path += len + (path[len] == '.');
	}
	return node;
}

/* Both texts mean the same to option o. */
static bool same_meaning(const struct sd_option *o, const char *a, const char *b)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_err err;
	struct both {
		union {
			struct sd_conf conf;
			struct sd_conf_pool pool;
			struct sd_conf_queue queue;
		};
	} x, y;
	memset(&x, 0, sizeof(x));
	memset(&y, 0, sizeof(y));
	bool ok = sd_value_set(o, &x, a, arena, &err) == 0 && sd_value_set(o, &y, b, arena, &err) == 0;
	const void *mx = (char *)&x + o->offset, *my = (char *)&y + o->offset;
	switch (o->type) {
	case SD_OPTION_STRING:
	case SD_OPTION_FILE:
	case SD_OPTION_CONNINFO:
	case SD_OPTION_WORDTEXT:
		ok = ok && strcmp(*(const char *const *)mx, *(const char *const *)my) == 0;
		break;
	case SD_OPTION_LISTEN:
		ok = ok && strcmp(a, b) == 0;
		break;
	case SD_OPTION_DIRS:
		ok = ok && strcmp(x.conf.steps[0], y.conf.steps[0]) == 0;
		break;
	default:
		ok = ok && memcmp(&x, &y, sizeof(x)) == 0;
	}
	sd_arena_free(arena);
	return ok;
}

static void test_sample_agrees(void **state)
{
	struct sd_buf sample = SD_BUF_INIT, all = SD_BUF_INIT;
	struct sd_conf_problems problems;
	struct sd_yaml_problem bad;
	struct sd_arena *arena = sd_arena_new();

	read_whole(SAMPLE, &sample);
	struct sd_conf *conf = sd_conf_load(SAMPLE, &problems);
	if (!conf)
		sd_conf_problems_print(stderr, SAMPLE, &problems);
	assert_non_null(conf);
	sd_conf_free(conf);
	uncomment(&sample, &all);
	const struct sd_yaml *root = sd_yaml_parse(all.data, all.len, arena, &bad);
	if (!root)
		fail_msg("%s uncommented: %d:%d: %s", SAMPLE, bad.line, bad.col, bad.text);
	for (size_t i = 0; i < sd_noptions; i++) {
		const struct sd_option *o = &sd_options[i];
		const struct sd_yaml *node = in_sample(root, o->path);
		if (!node)
			fail_msg("%s is not in %s", o->path, SAMPLE);
		if (node->kind == SD_YAML_SEQUENCE)
			node = node->child;
		const char *def = o->type == SD_OPTION_DIRS ? USUAL_STEPS : o->def;
		if (def && !same_meaning(o, def, node->text))
			fail_msg("%s: the default is %s, but %s has %s", o->path, def, SAMPLE, node->text);
		if (!holds(sample.data, o->doc))
			fail_msg("%s has not what %s is for: %s", SAMPLE, o->path, o->doc);
	}
	/* and nothing but what the table knows */
	sd_conf_free(sd_conf_parse(all.data, all.len, SAMPLE, &problems));
	if (problems.n > 0)
		fail_msg("%s uncommented: %s", SAMPLE, problems.v[0].text);
	sd_conf_problems_free(&problems);
	sd_arena_free(arena);
	sd_buf_fini(&sample);
	sd_buf_fini(&all);
}

/* The manual's entry of an option, from its name to the next entry or section. */
static char *manual_entry(const char *manual, const char *path)
{
	struct sd_buf title = SD_BUF_INIT;
	sd_buf_str(&title, ".TP\n.B ");
	const char *star = strchr(path, '*');
	if (star)
		sd_buf_printf(&title, "%.*s\\fINAME\\fB%s", (int)(star - path), path, star + 1);
	else
		sd_buf_str(&title, path);
	sd_buf_chr(&title, '\n');
	const char *start = strstr(manual, title.data);
	if (!start)
		fail_msg("%s is not in %s", path, MANUAL);
	start += title.len;
	const char *end = strstr(start, ".TP\n"), *section = strstr(start, "\n.S");
	if (!end || (section && section < end))
		end = section;
	sd_buf_fini(&title);
	return strndup(start, (size_t)(end - start));
}

static void test_manual_agrees(void **state)
{
	struct sd_buf manual = SD_BUF_INIT;
	char def[200];

	read_whole(MANUAL, &manual);
	for (size_t i = 0; i < sd_noptions; i++) {
		const struct sd_option *o = &sd_options[i];
		char *entry = manual_entry(manual.data, o->path);
		if (!holds(entry, o->doc))
			fail_msg("%s: %s does not say: %s", MANUAL, o->path, o->doc);
		snprintf(def, sizeof(def), "Default: \\fB%s\\fR.", o->type == SD_OPTION_DIRS ? USUAL_STEPS : o->def);
		if (o->def ? !strstr(entry, def) : !strstr(entry, "Default: ") || strstr(entry, "\\fB"))
			fail_msg("%s: %s has another default: %s", MANUAL, o->path, entry);
		if ((strstr(entry, "takes effect after a restart") != NULL) == o->reloadable)
			fail_msg("%s: %s is wrong about the restart", MANUAL, o->path);
		free(entry);
	}
	sd_buf_fini(&manual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),	cmocka_unit_test(test_values),
		cmocka_unit_test(test_all_at_once),	cmocka_unit_test(test_wrong_shapes),
		cmocka_unit_test(test_addresses),	cmocka_unit_test(test_secrets_stay),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_pools), cmocka_unit_test(test_not_supported),	cmocka_unit_test(test_expand),
		cmocka_unit_test(test_rate),		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_files),		cmocka_unit_test(test_queues_json),
		cmocka_unit_test(test_restart_options), cmocka_unit_test(test_contract_sample),
		cmocka_unit_test(test_sample_agrees),	cmocka_unit_test(test_manual_agrees),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
