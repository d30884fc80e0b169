/*
 * Nearest words.  The distance is Levenshtein's with swapped neighbours
 * (optimal string alignment), because swapping is how fingers err.
 */
#include "base/suggest.h"

#include <ctype.h>
#include <string.h>

enum { WORD_MAX = 64 }; /* longer ones are no options of ours */

static unsigned min2(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned sd_edit_distance(const char *a, const char *b, unsigned max)
{
	unsigned rows[3][WORD_MAX + 1]; /* the row before the last, the last, and this one */
	unsigned *before = rows[0], *last = rows[1], *row = rows[2], *spare;
	size_t na = strnlen(a, WORD_MAX + 1), nb = strnlen(b, WORD_MAX + 1);

	if (na > WORD_MAX || nb > WORD_MAX)
		return max + 1;
	for (size_t j = 0; j <= nb; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		int ca = tolower((unsigned char)a[i - 1]);

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			int cb = tolower((unsigned char)b[j - 1]);

			row[j] = min2(min2(last[j], row[j - 1]) + 1, last[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
			    cb == tolower((unsigned char)a[i - 2]))
				row[j] = min2(row[j], before[j - 2] + 1);
		}
		spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return min2(last[nb], max + 1);
}

const char *sd_suggest(const char *word, const char *const *known, size_t n)
{
	size_t len = strlen(word);
	unsigned best = len <= 2 ? 2 : len <= 5 ? 3 : 4; /* one more than is near enough */
	const char *found = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned d = sd_edit_distance(word, known[i], best);

		/* half of the word made anew is another word */
		if (d < best && d * 2 <= strlen(known[i])) {
			best = d;
			found = known[i];
		}
	}
	return found;
}
