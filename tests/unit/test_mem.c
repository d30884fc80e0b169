/* Allocation and arenas: alignment, large pieces, reset, and what is held. */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_plain_allocation(void **state)
{
	void *p = sd_xmalloc(0);
	char *s;
	unsigned char *z = sd_xcalloc(3, 5);

	free(p);
	for (int i = 0; i < 15; i++)
		assert_int_equal(z[i], 0);
	z = sd_xrealloc(z, 100);
	free(z);
	s = sd_xstrdup("");
	assert_string_equal(s, "");
	free(s);
	s = sd_xasprintf("%s-%d", "a", 5);
	assert_string_equal(s, "a-5");
	free(s);
}

static void test_alignment_and_content(void **state)
{
	struct sd_arena *a = sd_arena_new();
	char *pieces[2000];

	for (size_t i = 0; i < 2000; i++) {
		pieces[i] = sd_arena_alloc(a, i);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		memset(pieces[i], (int)(i % 251), i);
	}
	for (size_t i = 0; i < 2000; i++)
		for (size_t j = 0; j < i; j += 97)
			assert_int_equal((unsigned char)pieces[i][j], i % 251);
	sd_arena_free(a);
	sd_arena_free(NULL);
}

static void test_strings(void **state)
{
	struct sd_arena *a = sd_arena_new();
	const char *long_text;
	char big[10000];

	assert_null(sd_arena_strdup(a, NULL));
	assert_string_equal(sd_arena_strdup(a, "abc"), "abc");
	assert_memory_equal(sd_arena_memdup(a, "a\0b", 3), "a\0b", 4);
	assert_string_equal(sd_arena_memdup(a, NULL, 0), "");
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	long_text = sd_arena_printf(a, "%s%d", big, 1);
	assert_int_equal(strlen(long_text), sizeof big);
	for (int i = 0; i < 100; i++)
		assert_int_equal(((char *)sd_arena_zalloc(a, 100))[i], 0);
	sd_arena_free(a);
}

static void test_large_pieces_waste_nothing(void **state)
{
	struct sd_arena *a = sd_arena_new();
	char *small = sd_arena_alloc(a, 16), *next;

	memset(sd_arena_alloc(a, 10 << 20), 1, 10 << 20);
	next = sd_arena_alloc(a, 16);
	assert_ptr_equal(next, small + 16); /* the room behind small is still used */
	assert_true(sd_arena_size(a) >= 10 << 20);
	sd_arena_reset(a);
	assert_true(sd_arena_size(a) < 1 << 20);
	sd_arena_free(a);
}

static void test_reset_reuses(void **state)
{
	struct sd_arena *a = sd_arena_new();
	size_t held = 0;

	assert_int_equal(sd_arena_size(a), 0);
	sd_arena_reset(a); /* of an empty one */
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 1000; i++)
			memset(sd_arena_alloc(a, 100), round, 100);
		if (round == 5)
			held = sd_arena_size(a);
		if (round > 5)
			assert_true(sd_arena_size(a) <= held * 2);
		sd_arena_reset(a);
	}
	sd_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_allocation),
		cmocka_unit_test(test_alignment_and_content),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_large_pieces_waste_nothing),
		cmocka_unit_test(test_reset_reuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
