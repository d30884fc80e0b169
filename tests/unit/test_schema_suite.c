/*
 * The JSON Schema Test Suite: every required case of drafts 7 and 2020-12 but
 * those that need another document from the network.
 *
 * Debian has two copies: json-schema-test-suite (draft 7 of 2019) and
 * libtest-json-schema-acceptance-perl (both drafts).  Their counts are asserted.
 * STEPD_SCHEMA_SUITE names the folder of another copy (it holds tests/draft7…).
 *
 * A few cases have \u0000 in a text, which no value of ours can have (jsonb
 * refuses it, sd_json_check already); U+E000 stands in for it here.
 */
#include "base/json.h"
#include "base/schema.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DEBIAN "/usr/share/json-schema-test-suite"
#define DEBIAN_PERL "/usr/share/perl5/auto/share/dist/Test-JSON-Schema-Acceptance"

struct count {
	int passed, failed, remote;
};

static cJSON *read_file(const char *path)
{
	static char text[4 << 20];
	FILE *f = fopen(path, "rb");
	struct sd_err err;
	size_t len;
	cJSON *tree;

	assert_non_null(f);
	len = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[len] = '\0';
	for (char *p = text; (p = strstr(p, "\\u0000")) != NULL;)
		memcpy(p, "\\ue000", 6);
	tree = sd_json_parse(text, len, &err);
	if (tree == NULL)
		fail_msg("%s: %s", path, err.message);
	return tree;
}

/* It cannot be compiled because it needs a document that is elsewhere. */
static bool is_remote(const cJSON *schema, const struct sd_err *err)
{
	struct sd_buf b = SD_BUF_INIT;
	bool remote;

	sd_json_print(&b, schema);
	remote = strstr(b.data, "http://localhost:1234") != NULL &&
		 (strstr(err->message, "remote reference") != NULL || strstr(err->message, "/$schema: \"http://localhost:1234") != NULL);
	sd_buf_fini(&b);
	return remote;
}

static void run_group(const cJSON *group, const char *path, enum sd_schema_draft draft, struct count *c)
{
	const cJSON *schema = sd_json_get(group, "schema"), *t, *tests = sd_json_get(group, "tests");
	const char *about = sd_json_str(group, "description", "");
	struct sd_buf text = SD_BUF_INIT;
	struct sd_schema *s;
	struct sd_err err;

	sd_json_print(&text, schema);
	s = sd_schema_compile(text.data, text.len, draft, &err);
	if (s == NULL) {
		if (is_remote(schema, &err)) {
			c->remote += cJSON_GetArraySize(tests);
		} else {
			c->failed += cJSON_GetArraySize(tests);
			print_message("%s: %s: refused: %s\n", path, about, err.message);
		}
	}
	cJSON_ArrayForEach(t, tests) {
		struct sd_violations out = {.arena = sd_arena_new()};
		bool want = cJSON_IsTrue(sd_json_get(t, "valid")), have;

		if (s != NULL) {
			have = sd_schema_validate(s, sd_json_get(t, "data"), &out);
			if (have == want && have == sd_schema_validate(s, sd_json_get(t, "data"), NULL) && have == (out.n == 0)) {
				c->passed++;
			} else {
				c->failed++;
				print_message("%s: %s: %s: %d, should be %d\n", path, about, sd_json_str(t, "description", ""), have, want);
			}
		}
		sd_arena_free(out.arena);
	}
	sd_schema_free(s);
	sd_buf_fini(&text);
}

static int is_json(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && strcmp(e->d_name + n - 5, ".json") == 0;
}

/* -1: there is no such folder. */
static int run_suite(const char *suite, const char *folder, enum sd_schema_draft draft, struct count *c)
{
	char path[4096];
	struct dirent **files;
	int n;

	*c = (struct count){0, 0, 0};
	snprintf(path, sizeof path, "%s/tests/%s", suite, folder);
	n = scandir(path, &files, is_json, alphasort);
	if (n < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		const cJSON *group;
		cJSON *tree;

		snprintf(path, sizeof path, "%s/tests/%s/%s", suite, folder, files[i]->d_name);
		tree = read_file(path);
		cJSON_ArrayForEach(group, tree)
			run_group(group, path, draft, c);
		cJSON_Delete(tree);
		free(files[i]);
	}
	free(files);
	print_message("%s, %s: %d passed, %d failed, %d remote\n", suite, folder, c->passed, c->failed, c->remote);
	return 0;
}

static void expect(const char *suite, const char *folder, enum sd_schema_draft draft, const char *package, int passed, int remote)
{
	struct count c;

	if (run_suite(suite, folder, draft, &c) < 0) {
		print_message("%s is not installed\n", package);
		skip();
	}
	assert_int_equal(c.failed, 0);
	assert_int_equal(c.passed, passed);
	assert_int_equal(c.remote, remote);
}

static void test_debian_draft_7(void **state)
{
	expect(DEBIAN, "draft7", SD_SCHEMA_DRAFT_7, "json-schema-test-suite", 408, 15);
}

static void test_perl_draft_7(void **state)
{
	expect(DEBIAN_PERL, "draft7", SD_SCHEMA_DRAFT_7, "libtest-json-schema-acceptance-perl", 840, 21);
}

static void test_perl_2020_12(void **state)
{
	expect(DEBIAN_PERL, "draft2020-12", SD_SCHEMA_2020_12, "libtest-json-schema-acceptance-perl", 1131, 45);
}

static void test_other_copy(void **state)
{
	const char *suite = getenv("STEPD_SCHEMA_SUITE");
	struct count seven, twenty;

	if (suite == NULL)
		skip();
	assert_int_equal(run_suite(suite, "draft7", SD_SCHEMA_DRAFT_7, &seven), 0);
	assert_int_equal(run_suite(suite, "draft2020-12", SD_SCHEMA_2020_12, &twenty), 0);
	assert_int_equal(seven.failed + twenty.failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_debian_draft_7),
		cmocka_unit_test(test_perl_draft_7),
		cmocka_unit_test(test_perl_2020_12),
		cmocka_unit_test(test_other_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
