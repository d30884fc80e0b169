/* "Did you mean …?": the known word nearest to an unknown one. */
#ifndef SD_BASE_SUGGEST_H
#define SD_BASE_SUGGEST_H

#include <stddef.h>

/* Edits (insert, delete, replace, swap of neighbours; letter case is free) from a to b, or max + 1 when they are more than max. */
unsigned sd_edit_distance(const char *a, const char *b, unsigned max);

/* The nearest of n words, or NULL when none is near enough to be what was meant. */
const char *sd_suggest(const char *word, const char *const *known, size_t n);

#endif
