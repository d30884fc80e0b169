/*
 * Numbers among the values of a call, which are texts:
 *
 *	struct sd_db_numbers n = {0};
 *	const char *values[] = {sd_db_number(&n, node_id), name, sd_db_number(&n, pid)};
 */
#ifndef SD_DB_NUMBER_H
#define SD_DB_NUMBER_H

#include <stddef.h>
#include <stdint.h>

#define SD_DB_NUMBERS 16

struct sd_db_numbers { /* zero-initialise */
	char text[SD_DB_NUMBERS][21];
	size_t n;
};

/* v in decimal; the text lives as long as n.  More than SD_DB_NUMBERS of them end the process. */
const char *sd_db_number(struct sd_db_numbers *n, int64_t v);

#endif
