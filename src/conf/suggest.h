/* "Did you mean …?" */
#ifndef SD_CONF_SUGGEST_H
#define SD_CONF_SUGGEST_H

#include <stddef.h>

/* The candidate most like word, or NULL when none is near. Case, '_' and '-' do not count. */
const char *sd_suggest(const char *word, const char *const *candidates, size_t n);

#endif
