/* Edit distance with swaps of neighbours (optimal string alignment), three rows at a time. */
#include "conf/suggest.h"

#include <ctype.h>
#include <string.h>

#define MAX 64

/* Lower case without separators, so that max_retries is maxRetries. Returns the length, cut at MAX. */
static size_t normalise(const char *s, char out[MAX])
{
	size_t n = 0;
	for (; *s && n < MAX; s++) {
		if (*s != '_' && *s != '-')
			out[n++] = (char)tolower((unsigned char)*s);
	}
	return n;
}

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
	size_t rows[3][MAX + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t j = 0; j <= nb; j++)
		last[j] = j;
	for (size_t i = 1; i <= na; i++) {
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			row[j] = min(min(last[j], row[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = min(row[j], before[j - 2] + 1);
		}
		size_t *free_row = before;
		before = last;
		last = row;
		row = free_row;
	}
	return last[nb];
}

const char *sd_suggest(const char *word, const char *const *candidates, size_t n)
{
	char a[MAX], b[MAX];
	size_t na = normalise(word, a);
	const char *best = NULL;
	size_t best_distance = na / 3 + 2; /* one slip in a short word, more in a long one */

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(a, na, b, normalise(candidates[i], b));
		if (d < best_distance && d < na) {
			best = candidates[i];
			best_distance = d;
		}
	}
	return best;
}
