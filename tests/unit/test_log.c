/* Lines of the log: forms, levels, hostile text, length, files and rotation; and connection strings without secrets. */
#include "base/buf.h"
#include "base/fdutil.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/stepd-log.XXXXXX";
static char moved[sizeof path + 2];
static struct sd_buf seen;

/* What was logged since the last call; one line must end it. */
static const char *logged(void)
{
	sd_buf_reset(&seen);
	assert_int_equal(sd_read_file(path, 1 << 20, &seen, NULL), 0);
	assert_int_equal(truncate(path, 0), 0);
	return seen.data;
}

static int set_up(void **state)
{
	int fd = mkstemp(path);

	sd_close(&fd);
	snprintf(moved, sizeof moved, "%s.1", path);
	return sd_log_set_file(path, NULL);
}

static int tear_down(void **state)
{
	sd_buf_fini(&seen);
	unlink(path);
	unlink(moved);
	return sd_log_set_file(NULL, NULL);
}

static void test_text(void **state)
{
	struct sd_err err;

	sd_log_set_json(false);
	sd_log_set_name("worker default/0");
	errno = EXDEV;
	sd_log(SD_LOG_INFO, "started %d", 3);
	assert_int_equal(errno, EXDEV);
	assert_non_null(strstr(logged(), "Z INFO  ["));
	assert_non_null(strstr(seen.data, "] worker default/0: started 3\n"));
	sd_log_kv(SD_LOG_WARN, "job failed", "job", "42", "why", "a \"b\"\n", "empty", "", "null", NULL, NULL);
	assert_non_null(strstr(logged(), "WARN "));
	assert_non_null(strstr(seen.data, ": job failed job=42 why=\"a \\\"b\\\"\\n\" empty=\"\" null=\"\"\n"));
	sd_err_set(&err, SD_ERR_PERMANENT, "no such table");
	sd_err_detail(&err, "table x");
	sd_err_hint(&err, "migrate");
	strcpy(err.sqlstate, "42P01");
	sd_log_err(SD_LOG_ERROR, &err, "claim of %s", "q");
	assert_non_null(strstr(logged(), ": claim of q: no such table sqlstate=42P01 detail=\"table x\" hint=migrate\n"));
	sd_log_set_name(NULL);
	sd_log(SD_LOG_INFO, "nameless");
	assert_non_null(strstr(logged(), "] nameless\n"));
}

static void test_levels(void **state)
{
	enum sd_loglevel level;

	sd_log_set_level(SD_LOG_WARN);
	sd_log(SD_LOG_INFO, "not seen");
	assert_string_equal(logged(), "");
	assert_false(sd_log_enabled(SD_LOG_INFO));
	sd_log(SD_LOG_WARN, "seen");
	assert_non_null(strstr(logged(), "seen"));
	sd_log_set_level(SD_LOG_INFO);
	assert_int_equal(sd_loglevel_parse("debug", &level), 0);
	assert_int_equal(level, SD_LOG_DEBUG);
	assert_int_equal(sd_loglevel_parse("WARN", &level), -1);
	assert_int_equal(sd_loglevel_parse("", &level), -1);
}

/* Whatever comes from outside: one line, at most PIPE_BUF, and valid JSON when it is JSON. */
static void test_hostile_text(void **state)
{
	char huge[20000];

	for (int json = 0; json < 2; json++) {
		sd_log_set_json(json);
		for (int fill = 0; fill < 4; fill++) {
			memset(huge, "x\n\x01\xff"[fill], sizeof huge - 1);
			huge[sizeof huge - 1] = '\0';
			sd_log(SD_LOG_INFO, "%s", huge);
			for (int form = 0; form < 3; form++) {
				if (form > 0)
					sd_log_kv(SD_LOG_INFO, form == 2 ? huge : "m", "a", huge, "b", huge, "c", huge, NULL);
				logged();
				assert_in_range(seen.len, 100, PIPE_BUF);
				assert_ptr_equal(strchr(seen.data, '\n'), seen.data + seen.len - 1);
				assert_non_null(strstr(seen.data, "truncated"));
				assert_null(strchr(seen.data, '\x01'));
				if (json)
					assert_int_equal(sd_json_check(seen.data, seen.len - 1, NULL), 0);
			}
		}
	}
	sd_log_set_json(false);
	sd_log(SD_LOG_INFO, "a\x1b[31m\r\x7f\xc3(");
	assert_non_null(strstr(logged(), "a\\x1b[31m\\x0d\\x7f\\xc3(\n"));
}

static void test_json(void **state)
{
	const char *time;
	cJSON *line;

	sd_log_set_json(true);
	sd_log_set_name("cron");
	sd_log_kv(SD_LOG_WARN, "late \"é\"", "step", "a", "by", "3 s", NULL);
	logged();
	line = sd_json_parse(seen.data, seen.len, NULL);
	assert_non_null(line);
	time = sd_json_str(line, "time", "");
	assert_int_equal(strlen(time), 27);
	assert_string_equal(sd_json_str(line, "level", ""), "warn");
	assert_string_equal(sd_json_str(line, "name", ""), "cron");
	assert_string_equal(sd_json_str(line, "message", ""), "late \"é\"");
	assert_string_equal(sd_json_str(line, "by", ""), "3 s");
	assert_int_equal(sd_json_int(line, "pid", 0), getpid());
	cJSON_Delete(line);
	sd_log_set_json(false);
}

static void test_rotation(void **state)
{
	struct sd_err err;

	assert_int_equal(rename(path, moved), 0);
	sd_log(SD_LOG_INFO, "into the old one");
	assert_int_equal(sd_log_reopen(&err), 0);
	sd_log(SD_LOG_INFO, "into the new one");
	assert_non_null(strstr(logged(), "into the new one"));
	assert_null(strstr(seen.data, "old"));
	assert_int_equal(sd_log_set_file("/no/such/folder/log", &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	sd_log(SD_LOG_INFO, "still here");
	assert_non_null(strstr(logged(), "still here"));
}

static void test_conninfo(void **state)
{
	static const char *const cases[][2] = {
		{"postgresql://u:secret@h/db", "postgresql://u:***@h/db"},
		{"postgres://u:secret@h1,h2:5/db?a=b", "postgres://u:***@h1,h2:5/db?a=b"},
		{"postgresql://u:se:c@ret@h/db", "postgresql://u:***@h/db"},
		{"postgresql://u:se?cret@h/db?password=x", "postgresql://u:***@h/db?password=***"},
		{"postgresql://u:se/cret@h/db", "postgresql://u:***@h/db"},
		{"postgresql://u@h/db?password=secret&a=b&sslpassword=secret", "postgresql://u@h/db?password=***&a=b&sslpassword=***"},
		{"postgresql://h/db?pass%77ord=secret", "postgresql://h/db?pass%77ord=***"},
		{"postgresql://u@h/db?application_name=a@b", "postgresql://u@h/db?application_name=a@b"},
		{"POSTGRESQL://u:secret@h", "POSTGRESQL://u:***@h"},
		{"postgresql:///app", "postgresql:///app"},
		{"host=h password=secret user=u", "host=h password=*** user=u"},
		{"password = 'se \\' cret' host=h", "password = *** host=h"},
		{"password=se\\ cret host=h", "password=*** host=h"},
		{"PASSWORD=secret", "PASSWORD=***"},
		{"sslpassword='secret", "sslpassword=***"},
		{"host=h password secret", "host=h ***"},
		{"host=h dbname=app", "host=h dbname=app"},
		{"app", "app"},
		{"", ""},
	};
	char out[200], small[8];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		sd_log_conninfo(cases[i][0], out, sizeof out);
		assert_string_equal(out, cases[i][1]);
	}
	sd_log_conninfo("host=h password=secret", small, sizeof small);
	assert_string_equal(small, "host=h ");
	sd_log_conninfo("x", small, 0);
}

/* As root, in a folder of somebody else: a link that he laid leads nowhere. */
static void test_laid_links(void **state)
{
	char dir[] = "/tmp/test-log-XXXXXX", target[64], link_path[64], log[64];
	struct stat st;
	struct sd_err err;
	int fd;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_non_null(mkdtemp(dir));
	snprintf(target, sizeof target, "%s/target", dir);
	snprintf(link_path, sizeof link_path, "%s/link.log", dir);
	snprintf(log, sizeof log, "%s/own.log", dir);
	fd = open(target, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && chown(dir, 65534, 65534) == 0 && symlink(target, link_path) == 0);
	close(fd);
	assert_int_equal(sd_log_set_file(link_path, &err), -1);
	assert_non_null(strstr(err.message, "is a link"));
	assert_int_equal(unlink(link_path) | link(target, link_path), 0);
	assert_int_equal(sd_log_set_file(link_path, &err), -1);
	assert_int_equal(unlink(link_path) | mkfifo(link_path, 0600), 0);
	fd = open(link_path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(sd_log_set_file(link_path, &err), -1);
	close(fd);
	assert_int_equal(sd_log_set_file(log, &err), 0);
	assert_int_equal(sd_log_set_file(NULL, &err), 0);
	assert_int_equal(chown(dir, 0, 0) | unlink(link_path) | symlink(target, link_path), 0);
	assert_int_equal(sd_log_set_file(link_path, &err), 0); /* root's own link, in root's own folder */
	sd_log(SD_LOG_ERROR, "through it");
	assert_int_equal(sd_log_set_file(NULL, &err), 0);
	assert_true(stat(target, &st) == 0 && st.st_size > 0);
	unlink(link_path), unlink(target), unlink(log), rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text), cmocka_unit_test(test_levels),   cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_json), cmocka_unit_test(test_rotation), cmocka_unit_test(test_conninfo),
		cmocka_unit_test(test_laid_links),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
