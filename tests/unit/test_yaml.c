/* YAML trees: places, quoting, what is refused and where, and bombs that must end quickly. */
#include "base/buf.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct sd_arena *arena;
static struct sd_yaml_problem problem;

static int set_up(void **state)
{
	arena = sd_arena_new();
	return 0;
}

static int tear_down(void **state)
{
	sd_arena_free(arena);
	return 0;
}

static const struct sd_yaml *parse(const char *text)
{
	return sd_yaml_parse(text, strlen(text), arena, &problem);
}

static void assert_scalar(const struct sd_yaml *node, const char *text, int line, int col)
{
	assert_non_null(node);
	assert_int_equal(node->kind, SD_YAML_SCALAR);
	assert_string_equal(node->text, text);
	assert_int_equal(node->len, strlen(text));
	assert_int_equal(node->line, line);
	assert_int_equal(node->col, col);
}

static void test_tree(void **state)
{
	const struct sd_yaml *root = parse("# sample\na: 1\nb: [x, 'y', {z: ~}]\nc:\n  - d: e # f\n    g:\n\"h i\": |\n  two\n  lines\n");
	const struct sd_yaml *b, *c;

	assert_non_null(root);
	assert_int_equal(root->kind, SD_YAML_MAPPING);
	assert_int_equal(root->n, 4);
	assert_null(root->key);
	assert_scalar(sd_yaml_get(root, "a"), "1", 2, 4);
	assert_scalar(sd_yaml_get(root, "a")->key, "a", 2, 1);
	assert_true(sd_yaml_get(root, "a")->plain);
	b = sd_yaml_get(root, "b");
	assert_int_equal(b->kind, SD_YAML_SEQUENCE);
	assert_int_equal(b->n, 3);
	assert_scalar(b->child, "x", 3, 5);
	assert_scalar(b->child->next, "y", 3, 8);
	assert_false(b->child->next->plain);
	assert_true(sd_yaml_is_null(sd_yaml_get(b->child->next->next, "z")));
	c = sd_yaml_get(root, "c")->child;
	assert_scalar(sd_yaml_get(c, "d"), "e", 5, 8);
	assert_true(sd_yaml_is_null(sd_yaml_get(c, "g")));
	assert_scalar(sd_yaml_get(root, "h i"), "two\nlines\n", 7, 8);
	assert_false(sd_yaml_get(root, "h i")->plain);
	assert_null(sd_yaml_get(root, "A"));
	assert_null(sd_yaml_get(b, "a"));
	assert_null(sd_yaml_get(NULL, "a"));
	assert_string_equal(sd_yaml_kind_name(root->kind), "mapping");
}

static void test_nothing_and_null(void **state)
{
	assert_true(sd_yaml_is_null(parse("")));
	assert_true(sd_yaml_is_null(parse("# only this\n")));
	assert_true(sd_yaml_is_null(parse("---\n")));
	assert_true(sd_yaml_is_null(parse("null")));
	assert_false(sd_yaml_is_null(parse("'null'")));
	assert_false(sd_yaml_is_null(parse("''")));
	assert_false(sd_yaml_is_null(parse("{}")));
	assert_false(sd_yaml_is_null(NULL));
	assert_scalar(sd_yaml_get(parse("\xef\xbb\xbf" "a: 1"), "a"), "1", 1, 4);
	assert_scalar(sd_yaml_get(parse("é: {ü: ö}")->child, "ü"), "ö", 1, 8); /* columns are characters */
	assert_scalar(sd_yaml_get(parse("a: 1\r\nb: 2\r\n"), "b"), "2", 2, 4);
}

static void test_refused_with_place(void **state)
{
	static const struct {
		const char *text;
		int line, col;
		const char *why;
	} bad[] = {
		{"a: &x 1", 1, 4, "anchors (&x)"},
		{"a: &x [1]", 1, 4, "anchors (&x)"},
		{"a: 1\nb: *x", 2, 4, "aliases (*x)"},
		{"a: !!int 1", 1, 4, "tags ("},
		{"a: !local {}", 1, 4, "tags (!local)"},
		{"a: 1\nb: 2\na: 3\n", 3, 1, "\"a\" is given twice, first at 1:1"},
		{"x: {a: 1, 'a': 2}", 1, 11, "given twice"},
		{"a: 1\nb:\n  c: 1\n  c: 2\na: 2\n", 4, 3, "\"c\" is given twice"},
		{"[a]: 1", 1, 1, "a key must be text, not a list"},
		{"? {a: b}\n: c", 1, 3, "a key must be text, not a mapping"},
		{"a: \"x\\0y\"", 1, 4, "zero byte"},
		{"a: 1\n---\nb: 2\n", 2, 1, "second document"},
		{"a: b: c", 1, 5, "mapping values are not allowed"},
		{"a:\n\t- b", 2, 1, "a tab can not stand here: YAML is indented with spaces"},
		{"ä: @x", 1, 4, "a value that begins with @ needs quotes"},
		{"a: %x", 1, 4, "cannot start any token"},
		{"a: [1, 2\nb: 3", 2, 2, "did not find expected"},
		{"a: 'x", 1, 6, "unexpected end of stream"},
		{"a: \"\\q\"", 1, 5, "unknown escape"},
		{"a:\n  b: 1\n c: 2\n", 3, 2, "did not find expected key"},
		{"a: \xff", 1, 4, "UTF-8"},
		{"é: 1\nb: é\xe2\x82", 2, 5, "UTF-8"},
		{"a: \x01", 1, 4, "control characters are not allowed"},
		{"- a\nb: c", 2, 1, "did not find expected"},
		{"a: {\n\"é\": ${X}}", 2, 7, "needs quotes: \"${NAME}\""},
		{"a: [${X:1}]", 1, 6, "needs quotes"},
		{"a: [$x {}]", 1, 8, "did not find expected"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_null(parse(bad[i].text));
		assert_non_null(strstr(problem.text, bad[i].why));
		assert_int_equal(problem.line, bad[i].line);
		assert_int_equal(problem.col, bad[i].col);
	}
	assert_null(sd_yaml_parse("a: b\0c", 6, arena, &problem));
	assert_null(sd_yaml_parse("a\0:\0 \0b\0", 8, arena, &problem)); /* UTF-16 */
}

static void test_caps(void **state)
{
	char text[200];
	struct sd_buf b = SD_BUF_INIT;

	memset(text, '[', 64);
	memset(text + 64, ']', 64);
	assert_non_null(sd_yaml_parse(text, 128, arena, &problem));
	memset(text, '[', 65);
	memset(text + 65, ']', 65);
	assert_null(sd_yaml_parse(text, 130, arena, &problem));
	assert_non_null(strstr(problem.text, "more than 64 levels"));
	assert_int_equal(problem.col, 65);
	while (b.len < SD_YAML_MAX_SIZE)
		sd_buf_str(&b, "# 0123456789\n012");
	assert_non_null(sd_yaml_parse("#", 1, arena, &problem));
	b.len = SD_YAML_MAX_SIZE + 1;
	assert_null(sd_yaml_parse(b.data, b.len, arena, &problem));
	assert_non_null(strstr(problem.text, "larger than"));
	sd_buf_fini(&b);
}

/* 1 MiB of each; libyaml left alone needs minutes for some. */
static void test_bombs(void **state)
{
	static const char *const patterns[] = {
		"[", "{", "{a: ", "- ", "? ", "a: {", "- [", "&a ", "!a ", "[a, ", "{[", "''", "a:\n", "\"a\" ", "? a\n", "- a\n",
		"[],", "{},", " \t", "#\n", "|\n", "a: *a\n", "&a [*a, ", "%", "---\n", "...\n", "\\", "'", ":", ", ", "\xef\xbb\xbf",
	};
	char *text = sd_xmalloc(SD_YAML_MAX_SIZE);

	for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
		const clock_t start = clock();
		size_t len = strlen(patterns[i]);
		const struct sd_yaml *root;

		for (size_t n = 0; n < SD_YAML_MAX_SIZE; n++)
			text[n] = patterns[i][n % len];
		problem.text[0] = '\0';
		sd_arena_reset(arena);
		root = sd_yaml_parse(text, SD_YAML_MAX_SIZE, arena, &problem);
		assert_true(root != NULL || problem.text[0] != '\0');
		assert_true(clock() - start < 60 * CLOCKS_PER_SEC); /* a second without valgrind */
	}
	free(text);
}

/* 100,000 members, the first and the last of one name: found, and not by comparing each with each. */
static void test_many_members(void **state)
{
	struct sd_buf b = SD_BUF_INIT;
	const clock_t start = clock();

	for (int i = 0; i < 90000; i++)
		sd_buf_printf(&b, "k%d: 1\n", i);
	assert_int_equal(sd_yaml_parse(b.data, b.len, arena, &problem)->n, 90000);
	sd_buf_str(&b, "k0: 2\n");
	assert_null(sd_yaml_parse(b.data, b.len, arena, &problem));
	assert_int_equal(problem.line, 90001);
	assert_true(clock() - start < 60 * CLOCKS_PER_SEC);
	sd_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree), cmocka_unit_test(test_nothing_and_null), cmocka_unit_test(test_refused_with_place),
		cmocka_unit_test(test_caps), cmocka_unit_test(test_bombs),	      cmocka_unit_test(test_many_members),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
