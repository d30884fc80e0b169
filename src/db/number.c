/* Numbers among the values of a call: see number.h. */
#include "db/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char *sd_db_number(struct sd_db_numbers *n, int64_t v)
{
	if (n->n == SD_DB_NUMBERS)
		abort();
	snprintf(n->text[n->n], sizeof n->text[0], "%" PRId64, v);
	return n->text[n->n++];
}
