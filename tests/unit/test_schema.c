/* The validator beyond the official suite (test_schema_suite.c): what is told, what is refused, and what cannot make it hang. */
#include "base/json.h"
#include "base/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct sd_schema *compile(const char *text)
{
	struct sd_err err;
	struct sd_schema *s = sd_schema_compile(text, strlen(text), SD_SCHEMA_2020_12, &err);

	if (s == NULL)
		fail_msg("%s: %s", text, err.message);
	return s;
}

static cJSON *value(const char *text)
{
	struct sd_err err;
	cJSON *v = sd_json_parse(text, strlen(text), &err);

	if (v == NULL)
		fail_msg("%s: %s", text, err.message);
	return v;
}

/* "pointer keyword; …" of what is wrong; "" for valid. */
static char *check(const char *schema, const char *text)
{
	struct sd_violations out = {.arena = sd_arena_new()};
	struct sd_schema *s = compile(schema);
	struct sd_buf b = SD_BUF_INIT;
	cJSON *v = value(text);
	bool ok = sd_schema_validate(s, v, &out);

	assert_int_equal(ok, out.n == 0);
	assert_int_equal(ok, sd_schema_validate(s, v, NULL));
	sd_buf_append(&b, "", 0);
	for (size_t i = 0; i < out.n; i++)
		sd_buf_printf(&b, "%s%s %s", i > 0 ? "; " : "", out.list[i].pointer, out.list[i].keyword);
	cJSON_Delete(v);
	sd_schema_free(s);
	sd_arena_free(out.arena);
	return sd_buf_take(&b, NULL);
}

static void expect(const char *schema, const char *text, const char *violations)
{
	char *got = check(schema, text);

	if (strcmp(got, violations) != 0)
		fail_msg("%s against %s: got \"%s\", not \"%s\"", text, schema, got, violations);
	free(got);
}

static void expect_refused(const char *schema, const char *message)
{
	struct sd_err err;
	struct sd_schema *s = sd_schema_compile(schema, strlen(schema), SD_SCHEMA_2020_12, &err);

	if (s != NULL)
		fail_msg("%s was taken", schema);
	if (strstr(err.message, message) != err.message)
		fail_msg("%s: \"%s\" does not begin with \"%s\"", schema, err.message, message);
}

static void test_all_violations(void **state)
{
	(void)state;
	expect("{\"type\":\"object\",\"required\":[\"a\",\"b/c\"],\"properties\":{\"n\":{\"minimum\":1,\"multipleOf\":2},\"s\":{\"maxLength\":2,"
	       "\"pattern\":\"^a\"}},\"additionalProperties\":false}",
	       "{\"n\":-1,\"s\":\"xyz\",\"~\":0}",
	       "/n minimum; /n multipleOf; /s maxLength; /s pattern; /~0 additionalProperties; /a required; /b~1c required");
	expect("{\"items\":{\"type\":[\"integer\",\"null\"]}}", "[1,null,1.5,\"x\",2.0]", "/2 type; /3 type");
	expect("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "1", " anyOf");
	expect("{\"$defs\":{\"a\":{\"enum\":[1,2]}},\"properties\":{\"x\":{\"$ref\":\"#/$defs/a\"}}}", "{\"x\":3}", "/x enum");
	expect("{\"uniqueItems\":true}", "[{\"a\":1,\"b\":2},3,{\"b\":2,\"a\":1.0}]", " uniqueItems");
	expect("false", "1", " false");
	expect("true", "1", "");
	expect("{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{\"a\":\"x\",\"a\":1}", "/a type"); /* given twice */
}

static void test_messages(void **state)
{
	struct sd_violations out = {.arena = sd_arena_new()};
	struct sd_schema *s = compile("{\"properties\":{\"a\":{\"enum\":[\"x\",1,null]},\"b\":{\"type\":[\"string\",\"null\"]},\"c\":{\"minItems\":1}}}");
	cJSON *v = value("{\"a\":2,\"b\":2,\"c\":[]}");

	(void)state;
	assert_false(sd_schema_validate(s, v, &out));
	assert_int_equal(out.n, 3);
	assert_string_equal(out.list[0].message, "must be one of \"x\", 1, null");
	assert_string_equal(out.list[1].message, "must be null or string, not integer");
	assert_string_equal(out.list[2].message, "must have at least 1 item");
	cJSON_Delete(v);
	sd_schema_free(s);
	sd_arena_free(out.arena);
}

static void test_bounded(void **state)
{
	struct sd_violations out = {.arena = sd_arena_new()};
	struct sd_schema *s = compile("{\"items\":{\"type\":\"string\"}}");
	struct sd_buf b = SD_BUF_INIT;
	cJSON *v;

	(void)state;
	sd_buf_str(&b, "[0");
	for (int i = 0; i < 1000; i++)
		sd_buf_str(&b, ",0");
	sd_buf_str(&b, "]");
	v = value(b.data);
	assert_false(sd_schema_validate(s, v, &out));
	assert_int_equal(out.n, SD_SCHEMA_VIOLATIONS_MAX);
	assert_true(out.more);
	cJSON_Delete(v);
	sd_buf_fini(&b);
	sd_schema_free(s);
	sd_arena_free(out.arena);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refused("[]", "must be a schema");
	expect_refused("{\"type\":\"strin\"}", "/type: must be one of null");
	expect_refused("{\"properties\":{\"a/b\":{\"type\":[]}}}", "/properties/a~1b/type: must be one of");
	expect_refused("{\"properties\":{\"a\":{\"minLength\":-1}}}", "/properties/a/minLength: must be an integer from 0");
	expect_refused("{\"required\":\"a\"}", "/required: must be an array of names");
	expect_refused("{\"required\":[\"a\",\"a\"]}", "/required: has \"a\" twice");
	expect_refused("{\"anyOf\":[]}", "/anyOf: must be an array of schemas, not empty");
	expect_refused("{\"allOf\":[true,{\"not\":3}]}", "/allOf/1/not: must be a schema");
	expect_refused("{\"items\":[{}]}", "/items: must be a schema; an array of them is prefixItems");
	expect_refused("{\"multipleOf\":0}", "/multipleOf: must be a number above 0");
	expect_refused("{\"pattern\":\"(\"}", "/pattern: \"(\" is no pattern");
	expect_refused("{\"patternProperties\":{\"a\\\\Z\":{}}}", "/patternProperties/a\\Z: \"a\\Z\" is no pattern: it has an escape");
	expect_refused("{\"pattern\":\"(?R)\"}", "/pattern: \"(?R)\" is no pattern: it has a group");
	expect_refused("{\"pattern\":\"(*LIMIT_MATCH=9)a\"}", "/pattern: ");
	expect_refused("{\"$ref\":\"#/$defs/none\"}", "/$ref: \"#/$defs/none\" leads nowhere");
	expect_refused("{\"$ref\":\"#none\"}", "/$ref: \"#none\" leads nowhere");
	expect_refused("{\"$ref\":\"http://example.com/a.json\"}", "/$ref: remote reference \"http://example.com/a.json\"");
	expect_refused("{\"$ref\":\"file:///etc/passwd\"}", "/$ref: remote reference");
	expect_refused("{\"$schema\":\"http://json-schema.org/draft-04/schema#\"}", "/$schema: \"http://json-schema.org/draft-04/schema#\" is not");
	expect_refused("{\"$ref\":\"#\"}", "a $ref refers to itself");
	expect_refused("{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}}}", "a $ref refers to itself");
	expect_refused("{\"$defs\":{\"a\":{\"$anchor\":\"x\"},\"b\":{\"$anchor\":\"x\"}}}", "/$defs/b/$anchor: the anchor \"x\" is defined twice");
}

static void test_patterns(void **state)
{
	(void)state;
	expect("{\"pattern\":\"^a$\"}", "\"a\\n\"", " pattern");
	expect("{\"pattern\":\"^\\\\d+$\"}", "\"\\u0661\"", " pattern"); /* an Arabic digit */
	expect("{\"pattern\":\"^\\\\s[a\\\\s]\\\\S$\"}", "\"\u00a0\u2003x\"", "");
	expect("{\"pattern\":\"\\\\S\"}", "\" \ufeff\"", " pattern");
	expect("{\"pattern\":\"^[[:alpha:]]$\"}", "\":]\"", "");	   /* no POSIX class */
	expect("{\"pattern\":\"^\\\\u{1F600}$\"}", "\"\\ud83d\\ude00\"", "");
	expect("{\"pattern\":\"^.$\"}", "\"\\ud83d\\ude00\"", "");
	expect("{\"pattern\":\"^[^]$\"}", "\"x\"", "");
	expect("{\"pattern\":\"(?<y>\\\\p{Lu})\\\\k<y>\"}", "\"xAA\"", "");
	expect("{\"pattern\":\"[(*]\"}", "\"*\"", "");
}

/* What zod 4 makes of objects, unions, records, tuples, dates, e-mail addresses and recursive types. */
static void test_zod(void **state)
{
	static const char user[] =
		"{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"properties\":{"
		"\"email\":{\"type\":\"string\",\"format\":\"email\",\"pattern\":\"^(?!\\\\.)(?!.*\\\\.\\\\.)([A-Za-z0-9_'+\\\\-\\\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9]"
		"[A-Za-z0-9\\\\-]*\\\\.)+[A-Za-z]{2,}$\"},"
		"\"id\":{\"type\":\"string\",\"format\":\"uuid\",\"pattern\":\"^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-"
		"[0-9a-fA-F]{12}|00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff)$\"},"
		"\"age\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":0,\"maximum\":9007199254740991},{\"type\":\"null\"}]},"
		"\"role\":{\"default\":\"user\",\"type\":\"string\",\"enum\":[\"user\",\"admin\"]},"
		"\"at\":{\"type\":\"array\",\"prefixItems\":[{\"type\":\"number\"},{\"type\":\"number\"}]},"
		"\"tags\":{\"type\":\"object\",\"propertyNames\":{\"type\":\"string\"},\"additionalProperties\":{\"type\":\"boolean\"}},"
		"\"friends\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}},\"kind\":{\"type\":\"string\",\"const\":\"a\"}},"
		"\"required\":[\"email\",\"id\"],\"additionalProperties\":false}";

	(void)state;
	expect(user,
	       "{\"email\":\"a.b@example.com\",\"id\":\"0b0e4b6e-53c4-4a68-8a39-5d4fdb8c11ab\",\"age\":null,\"role\":\"admin\",\"at\":[1,2],"
	       "\"tags\":{\"x\":true},\"kind\":\"a\",\"friends\":[{\"email\":\"c@d.org\",\"id\":\"00000000-0000-0000-0000-000000000000\"}]}",
	       "");
	expect(user, "{\"email\":\"a..b@example.com\",\"id\":\"x\",\"age\":-1,\"role\":\"x\",\"at\":[1,\"2\"],\"tags\":{\"x\":1},\"kind\":\"b\",\"friends\":[{}]}",
	       "/email pattern; /id pattern; /age anyOf; /role enum; /at/1 type; /tags/x type; /kind const; /friends/0/email required; "
	       "/friends/0/id required");
	expect("{\"$schema\":\"http://json-schema.org/draft-07/schema#\",\"$ref\":\"#/definitions/U\",\"definitions\":{\"U\":{\"type\":\"array\","
	       "\"items\":[{\"type\":\"string\"}],\"additionalItems\":false}}}",
	       "[\"a\",1]", "/1 false");
}

static void test_numbers(void **state)
{
	(void)state;
	expect("{\"multipleOf\":0.01}", "19.99", "");
	expect("{\"multipleOf\":0.01}", "19.999", " multipleOf");
	expect("{\"multipleOf\":1e-8}", "12391239123", "");
	expect("{\"multipleOf\":0.123456789}", "1e308", " multipleOf");
	expect("{\"multipleOf\":3}", "3e300", "");
	expect("{\"type\":\"integer\"}", "1e400", "");
	expect("{\"const\":0}", "-0.0", "");
	expect("{\"maximum\":9007199254740993}", "9007199254740993", "");
}

/* Each is refused or decided in little time. */
static void test_hostile(void **state)
{
	static const char twice[] = "{\"allOf\":[{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/a%d\"}]}";
	struct sd_buf schema = SD_BUF_INIT, deep = SD_BUF_INIT, many = SD_BUF_INIT;
	const clock_t start = clock();

	(void)state;
	sd_buf_str(&schema, "{\"$ref\":\"#/$defs/a0\",\"$defs\":{");
	for (int i = 0; i < 40; i++) {
		sd_buf_printf(&schema, "\"a%d\":", i);
		sd_buf_printf(&schema, twice, i + 1, i + 1);
		sd_buf_chr(&schema, ',');
	}
	sd_buf_str(&schema, "\"a40\":{}}}");
	expect(schema.data, "1", " limit");

	expect("{\"allOf\":[{\"$ref\":\"#\"}]}", "1", " limit");
	expect("{\"$dynamicAnchor\":\"a\",\"not\":{\"$dynamicRef\":\"#a\"}}", "1", " limit");
	expect("{\"anyOf\":[{\"$ref\":\"#\"},true]}", "1", " limit");
	expect("{\"pattern\":\"^(a+)+$\"}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"", " limit");
	expect("{\"not\":{\"pattern\":\"^(a+)+$\"}}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"", " limit");

	for (int i = 0; i < 500; i++)
		sd_buf_str(&deep, "[");
	for (int i = 0; i < 500; i++)
		sd_buf_str(&deep, "]");
	expect("{\"items\":{\"allOf\":[{\"$ref\":\"#\"}]}}", deep.data, "");

	sd_buf_str(&many, "[");
	for (int i = 0; i < 200000; i++)
		sd_buf_printf(&many, "%s%d", i > 0 ? "," : "", i);
	sd_buf_str(&many, "]");
	expect("{\"uniqueItems\":true,\"items\":{\"type\":\"integer\",\"minimum\":0}}", many.data, "");
	assert_true(clock() - start < 60 * CLOCKS_PER_SEC);
	sd_buf_fini(&schema);
	sd_buf_fini(&deep);
	sd_buf_fini(&many);
}

static void test_coerce(void **state)
{
	struct sd_schema *s = compile("{\"$ref\":\"#/$defs/q\",\"$defs\":{\"q\":{\"properties\":{\"n\":{\"type\":\"integer\"},\"b\":{\"type\":\"boolean\"},"
				      "\"s\":{\"type\":\"string\"},\"l\":{\"type\":\"array\",\"items\":{\"type\":\"number\"}},\"m\":{\"type\":\"array\"},"
				      "\"e\":{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"null\"}]},\"x\":{\"type\":\"integer\"}}}}}");
	cJSON *v = value("{\"n\":\"3\",\"b\":\"true\",\"s\":\"4\",\"l\":[\"1\",\"2.5\",\"z\"],\"m\":\"one\",\"e\":\"null\",\"x\":\"3 \",\"other\":\"5\"}");
	struct sd_buf b = SD_BUF_INIT;

	(void)state;
	sd_schema_coerce(s, v);
	sd_json_print(&b, v);
	assert_string_equal(b.data, "{\"n\":3,\"b\":true,\"s\":\"4\",\"l\":[1,2.5,\"z\"],\"m\":[\"one\"],\"e\":null,\"x\":3,\"other\":\"5\"}");
	sd_buf_fini(&b);
	cJSON_Delete(v);
	sd_schema_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_violations), cmocka_unit_test(test_messages), cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_refused),	       cmocka_unit_test(test_patterns), cmocka_unit_test(test_zod),
		cmocka_unit_test(test_numbers),	       cmocka_unit_test(test_hostile),	cmocka_unit_test(test_coerce),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
