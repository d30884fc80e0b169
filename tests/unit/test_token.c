/* Names of jobs, and what clients prefer. */
#include "http/target.h"
#include "http/token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static void test_token(void **state)
{
	static const uint64_t ids[] = {0, 1, 2, 123456789, UINT64_C(1) << 62, UINT64_MAX};
	unsigned char key[SD_TOKEN_KEY], other[SD_TOKEN_KEY];
	char token[SD_TOKEN_LEN + 1], before[SD_TOKEN_LEN + 1] = "";
	uint64_t id;

	(void)state;
	assert_true(sd_token_key(hex, key));
	memcpy(other, key, sizeof(key));
	other[31] ^= 1;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		sd_token_make(key, ids[i], token);
		assert_int_equal(strlen(token), SD_TOKEN_LEN);
		assert_true(sd_token_shape(token, strlen(token)));
		assert_string_not_equal(token, before);
		strcpy(before, token);
		assert_true(sd_token_read(key, token, &id));
		assert_int_equal(id, ids[i]);
		assert_false(sd_token_read(other, token, &id));
		for (int k = 0; k < SD_TOKEN_LEN; k++) { /* any other digit is none of ours */
			char changed[SD_TOKEN_LEN + 1];

			strcpy(changed, token);
			changed[k] = changed[k] == 'a' ? 'b' : 'a';
			assert_false(sd_token_read(key, changed, &id));
		}
	}
	sd_token_make(key, UINT64_C(0x0011223344556677), token); /* by openssl enc -aes-256-ecb -nopad */
	assert_string_equal(token, "ed3eb1123cbcb8ad0164e6c3eb0dc53e");
}

static void test_shapes(void **state)
{
	unsigned char key[SD_TOKEN_KEY];

	(void)state;
	assert_false(sd_token_shape("0123456789abcdef0123456789abcde", 31));
	assert_false(sd_token_shape("0123456789abcdef0123456789abcdeF", 32));
	assert_false(sd_token_shape("0123456789abcdef0123456789abcde/", 32));
	assert_true(sd_token_shape("0123456789abcdef0123456789abcdef", 32));
	assert_false(sd_token_key("", key));
	assert_false(sd_token_key("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1", key));
	assert_false(sd_token_key("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1x", key));
}

static void test_prefer(void **state)
{
	static const struct {
		const char *text;
		int want;
	} t[] = {
		{"wait=10", 10}, {"Wait = 5 ; x=y", 5}, {"respond-async, wait=3", 3}, {"wait=0", 0}, {"wait=999999999999999999", 86400},
		{"wait=", -1}, {"wait", -1}, {"wait=x", -1}, {"wait=1.5", -1}, {"wait=-1", -1}, {"waiting=3", -1}, {"", -1}, {",,", -1},
		{"wait=x, wait=2", 2}, {"handling=lenient", -1}, {"wait=\"7\" , x", 7}, {"wait=\"7", -1}, {"wait=\"\"", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (sd_prefer_wait(t[i].text, strlen(t[i].text)) != t[i].want)
			fail_msg("\"%s\"", t[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_token), cmocka_unit_test(test_shapes), cmocka_unit_test(test_prefer)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
