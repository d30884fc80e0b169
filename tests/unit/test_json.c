/* JSON at the door: what passes, what does not and where, hostile sizes, and trees that print as they were. */
#include "base/fdutil.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/schema_impl.h"

#include <ftw.h>
#include <locale.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_accepted(void **state)
{
	static const char *const good[] = {
		"null", "true", "false", "0", "-0", "-0.0", "1e5", "1E+5", "1.25e-300", "123456789012345678901234567890.5", "\"\"",
		"[]", "{}", " \t\r\n[ 1 , 2 ]\n", "{\"a\":{\"b\":[{},[],\"\"]},\"a\":2}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
		"\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", "\"é€😀\x7f\"", "\"\\u001f\"", "\"\xf4\x8f\xbf\xbf\"", "\"\xed\x9f\xbf\"",
	};

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(sd_json_check(good[i], strlen(good[i]), NULL), 0);
}

static void test_refused_with_place(void **state)
{
	static const struct {
		const char *text, *where, *why;
	} bad[] = {
		{"", "line 1, column 1", "a value was expected"},
		{" \n ", "line 2, column 2", "a value was expected"},
		{"01", "line 1, column 1", "start with 0"},
		{"-01", "line 1, column 2", "start with 0"},
		{"1.", "line 1, column 3", "behind the point"},
		{".5", "line 1, column 1", "a value"},
		{"1.e5", "line 1, column 3", "behind the point"},
		{"1e", "line 1, column 3", "exponent"},
		{"1e+", "line 1, column 4", "exponent"},
		{"+1", "line 1, column 1", "a value"},
		{"-", "line 1, column 2", "a digit"},
		{"-a", "line 1, column 2", "a digit"},
		{"0x10", "line 1, column 2", "something follows"},
		{"NaN", "line 1, column 1", "a value"},
		{"nul", "line 1, column 1", "a value"},
		{"True", "line 1, column 1", "a value"},
		{"1 2", "line 1, column 3", "something follows"},
		{"[1,]", "line 1, column 4", "a value"},
		{"[,1]", "line 1, column 2", "a value"},
		{"[1 2]", "line 1, column 4", "',' or ']'"},
		{"[1}", "line 1, column 3", "',' or ']'"},
		{"{\"a\":1]", "line 1, column 7", "',' or '}'"},
		{"[\n\n  1,\n  x]", "line 4, column 3", "a value"},
		{"{a:1}", "line 1, column 2", "name"},
		{"{\"a\"}", "line 1, column 5", "':'"},
		{"{\"a\":}", "line 1, column 6", "a value"},
		{"{\"a\":1,}", "line 1, column 8", "name"},
		{"{,}", "line 1, column 2", "name"},
		{"[", "line 1, column 2", "a value"},
		{"[1", "line 1, column 3", "',' or ']'"},
		{"]", "line 1, column 1", "a value"},
		{"\"abc", "line 1, column 5", "does not end"},
		{"\"abc\\", "line 1, column 6", "does not end"},
		{"\"a\nb\"", "line 1, column 3", "control character"},
		{"\"é\tb\"", "line 1, column 3", "control character"},
		{"'a'", "line 1, column 1", "a value"},
		{"\"\\x41\"", "line 1, column 2", "escape"},
		{"\"\\u12g4\"", "line 1, column 2", "hex digits"},
		{"\"\\u12", "line 1, column 2", "hex digits"},
		{"\"ab\\u0000\"", "line 1, column 4", "\\u0000"},
		{"{\"\\u0000\":1}", "line 1, column 3", "\\u0000"},
		{"\"\\ud800\"", "line 1, column 2", "high surrogate"},
		{"\"\\ud800\\ud800\"", "line 1, column 2", "high surrogate"},
		{"\"\\ud800x\\udc00\"", "line 1, column 2", "high surrogate"},
		{"\"\\ud83d\\u\"", "line 1, column 2", "high surrogate"},
		{"\"\\udc00\"", "line 1, column 2", "low surrogate"},
		{"\"\xff\"", "line 1, column 2", "UTF-8"},
		{"\"\xc0\xaf\"", "line 1, column 2", "UTF-8"},
		{"\"\xe0\x80\xaf\"", "line 1, column 2", "UTF-8"},
		{"\"\xed\xa0\x80\"", "line 1, column 2", "UTF-8"},
		{"\"\xf4\x90\x80\x80\"", "line 1, column 2", "UTF-8"},
		{"\"\x80\"", "line 1, column 2", "UTF-8"},
		{"\"é\xe2\x82\"", "line 1, column 3", "UTF-8"},
		{"\"\xe2\x82", "line 1, column 2", "UTF-8"},
		{"\xef\xbb\xbf{}", "line 1, column 1", "a value"},
		{"// x\n1", "line 1, column 1", "a value"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct sd_err err = {0};

		assert_int_equal(sd_json_check(bad[i].text, strlen(bad[i].text), &err), -1);
		assert_int_equal(err.class, SD_ERR_PERMANENT);
		assert_non_null(strstr(err.message, bad[i].where));
		assert_non_null(strstr(err.message, bad[i].why));
		assert_non_null(strstr(err.detail, "found "));
		assert_null(sd_json_parse(bad[i].text, strlen(bad[i].text), NULL));
	}
	assert_int_equal(sd_json_check("\"a\0b\"", 5, NULL), -1); /* a zero byte is a control character */
	assert_int_equal(sd_json_check("1\0", 2, NULL), -1);
	assert_int_equal(sd_json_check(NULL, 0, NULL), -1);
}

/* Exactly len bytes on the heap: reading one too far is seen by valgrind and ASan. */
static void test_every_prefix(void **state)
{
	static const char text[] = "{\"a\":[1.5e+3,true,\"\\ud83d\\ude00é\"],\"b\":null}";
	const size_t len = sizeof text - 1;

	for (size_t n = 0; n < len; n++) {
		char *copy = sd_xmalloc(n);

		memcpy(copy, text, n);
		assert_int_equal(sd_json_check(copy, n, NULL), -1);
		free(copy);
	}
	assert_int_equal(sd_json_check(text, len, NULL), 0);
}

static char *nested(const char *open, const char *inside, const char *close, size_t n)
{
	struct sd_buf b = SD_BUF_INIT;

	for (size_t i = 0; i < n; i++)
		sd_buf_str(&b, open);
	sd_buf_str(&b, inside);
	for (size_t i = 0; i < n; i++)
		sd_buf_str(&b, close);
	return sd_buf_take(&b, NULL);
}

static void test_depth(void **state)
{
	static const char *const forms[][3] = {{"[", "", "]"}, {"{\"a\":", "1", "}"}, {"[{\"a\":", "1", "}]"}};

	for (int f = 0; f < 3; f++) {
		size_t most = f == 2 ? SD_JSON_MAX_DEPTH / 2 : SD_JSON_MAX_DEPTH;
		char *good = nested(forms[f][0], forms[f][1], forms[f][2], most);
		char *bad = nested(forms[f][0], forms[f][1], forms[f][2], most + 1);
		struct sd_buf b = SD_BUF_INIT;
		struct sd_err err;
		cJSON *tree = sd_json_parse(good, strlen(good), &err);

		assert_non_null(tree);
		sd_json_print(&b, tree);
		assert_string_equal(b.data, good);
		cJSON_Delete(tree);
		sd_buf_fini(&b);
		assert_int_equal(sd_json_check(bad, strlen(bad), &err), -1);
		assert_non_null(strstr(err.message, "nested too deep"));
		free(good);
		free(bad);
	}
}

static void test_64_mib(void **state)
{
	const size_t len = 64 << 20;
	char *text = sd_xmalloc(len);
	struct sd_err err;
	clock_t start;

	memset(text, '[', len);
	start = clock();
	assert_int_equal(sd_json_check(text, len, &err), -1);
	memset(text, 'x', len);
	text[0] = text[len - 1] = '"';
	assert_int_equal(sd_json_check(text, len, &err), 0);
	text[len - 1] = 'x';
	assert_int_equal(sd_json_check(text, len, &err), -1);
	assert_non_null(strstr(err.message, "column 67108865"));
	for (size_t i = 0; i < len; i++)
		text[i] = "1,"[i % 2];
	text[0] = '[';
	text[len - 1] = ']';
	text[1] = ' ';
	assert_int_equal(sd_json_check(text, len, &err), 0);
	/* of CPU, generous for valgrind and sanitizers; it is a fifth of a second */
	assert_true(clock() - start < 120 * CLOCKS_PER_SEC);
	free(text);
}

static void check_print(const char *text, const char *want)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	cJSON *tree = sd_json_parse(text, strlen(text), &err);

	assert_non_null(tree);
	sd_json_print(&b, tree);
	assert_string_equal(b.data, want);
	cJSON_Delete(tree);
	sd_buf_fini(&b);
}

static void test_print(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	check_print("{\"a\":[1,2,{\"b\":null}],\"d\":{},\"e\":[],\"f\":\"\\u00e9\\n\"}",
		    "{\"a\":[1,2,{\"b\":null}],\"d\":{},\"e\":[],\"f\":\"é\\n\"}");
	check_print("[0.1,1e21,-2.5,9007199254740991,4503599627370497,1e400,1e-400]",
		    "[0.1,1e+21,-2.5,9007199254740991,4503599627370497,null,0]");
	check_print("[[],[[]],{\"\":{}}]", "[[],[[]],{\"\":{}}]");
	check_print("\"x\"", "\"x\"");
	sd_json_print(&b, NULL);
	assert_string_equal(b.data, "null");
	sd_buf_fini(&b);
}

/* Digits that a double can not hold stay as they were written, wherever they stand; a changed number prints anew. */
static void test_digits_are_kept(void **state)
{
	static const char text[] = "{\"1\":12345678901234567890,\"a\\\"2\":[0.10,\"3.0\",1e400,-1.50,7],\"b\":100000000000000000001}";
	cJSON *tree = sd_json_parse(text, strlen(text), NULL);
	struct sd_buf b = SD_BUF_INIT;

	sd_json_keep_digits(tree, text);
	sd_json_print(&b, tree);
	assert_string_equal(b.data, text);
	cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(tree, "b"), 5);
	sd_buf_reset(&b);
	sd_json_print(&b, sd_json_get(tree, "b"));
	assert_string_equal(b.data, "5");
	cJSON_Delete(tree);
	sd_buf_fini(&b);
}

/* A part of a tree has siblings and a name, which do not belong to it. */
static void test_print_of_a_part(void **state)
{
	cJSON *tree = sd_json_parse("{\"a\":{\"x\":1},\"b\":[2],\"c\":3}", 27, NULL);
	struct sd_buf b = SD_BUF_INIT;

	sd_json_print(&b, sd_json_get(tree, "a"));
	sd_json_print(&b, sd_json_get(tree, "b"));
	sd_json_print(&b, sd_json_get(tree, "c"));
	assert_string_equal(b.data, "{\"x\":1}[2]3");
	cJSON_Delete(tree);
	sd_buf_fini(&b);
}

static void test_members(void **state)
{
	static const char text[] = "{\"s\":\"t\",\"n\":42,\"b\":true,\"S\":1,\"big\":1e300,\"z\":null}";
	cJSON *tree = sd_json_parse(text, strlen(text), NULL);

	assert_string_equal(sd_json_str(tree, "s", "-"), "t");
	assert_string_equal(sd_json_str(tree, "n", "-"), "-");
	assert_null(sd_json_str(tree, "none", NULL));
	assert_int_equal(sd_json_int(tree, "n", 7), 42);
	assert_int_equal(sd_json_int(tree, "s", 7), 7);
	assert_int_equal(sd_json_int(tree, "big", 7), 7);
	assert_int_equal(sd_json_int(tree, "S", 7), 1);
	assert_null(sd_json_get(tree, "N"));
	assert_null(sd_json_get(NULL, "N"));
	cJSON_Delete(tree);
}

/* cJSON's buffer for a number had 63 characters: a longer one is read whole or refused, never cut. */
static void test_long_number(void **state)
{
	static const char text[] = "[1111111111111111111111111111111111111111111111111111111111111111111111111111111]";
	cJSON *tree;

	assert_int_equal(sd_json_check(text, strlen(text), NULL), 0);
	tree = sd_json_parse(text, strlen(text), NULL);
	if (tree != NULL)
		assert_true(tree->child->valuedouble > 1.1e78 && tree->child->valuedouble < 1.2e78);
	cJSON_Delete(tree);
}

/* A locale with a decimal comma in a folder of our own, because which ones are installed is not known.  false: it cannot be made here. */
static bool set_comma(char dir[])
{
	static const char source[] = "LC_CTYPE\ncopy \"POSIX\"\nEND LC_CTYPE\nLC_COLLATE\ncopy \"POSIX\"\nEND LC_COLLATE\n"
				     "LC_NUMERIC\ndecimal_point \",\"\nthousands_sep \"\"\ngrouping -1\nEND LC_NUMERIC\n";
	char from[64], to[64];
	char *argv[] = {"localedef", "-c", "--quiet", "-i", from, "-f", "ANSI_X3.4-1968", to, NULL};
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(from, sizeof from, "%s/source", dir);
	snprintf(to, sizeof to, "%s/xx_XX", dir);
	assert_int_equal(sd_write_file_atomic(from, source, strlen(source), 0600, NULL), 0);
	setenv("LOCPATH", dir, 1);
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 || waitpid(pid, NULL, 0) != pid)
		return false;
	return setlocale(LC_NUMERIC, "xx_XX") != NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

/* A handler calls setlocale(): numbers keep their point, or [12.5] would become [12,5]. */
static void test_locale(void **state)
{
	char dir[] = "/tmp/stepd-locale.XXXXXX", text[16];
	struct sd_buf b = SD_BUF_INIT;
	bool comma = set_comma(dir);
	cJSON *tree;

	(void)state;
	if (comma) {
		snprintf(text, sizeof text, "%.1f", 12.5);
		assert_string_equal(text, "12,5");
		tree = cJSON_Parse("[12.5,1e-7,0.30000000000000004,1.10]");
		assert_true(cJSON_GetArrayItem(tree, 0)->valuedouble == 12.5);
		sd_json_print(&b, tree);
		assert_string_equal(b.data, "[12.5,1e-07,0.30000000000000004,1.1]");
		cJSON_Delete(tree);
		assert_true(sd_value_multiple(4.5, 1.5));
	}
	setlocale(LC_NUMERIC, "C");
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	sd_buf_fini(&b);
	if (!comma)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused_with_place), cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_depth), cmocka_unit_test(test_64_mib), cmocka_unit_test(test_print),
		cmocka_unit_test(test_print_of_a_part), cmocka_unit_test(test_members),
		cmocka_unit_test(test_long_number), cmocka_unit_test(test_digits_are_kept),   cmocka_unit_test(test_locale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
