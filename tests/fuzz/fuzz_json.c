/* What sd_json_check accepts, cJSON reads, and what is printed from that tree is accepted again. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sd_buf once = SD_BUF_INIT, twice = SD_BUF_INIT;
	struct sd_err err;
	cJSON *tree;

	if (sd_json_check((const char *)data, len, &err) < 0) {
		if (err.message[0] == '\0' || err.class != SD_ERR_PERMANENT)
			abort();
		return 0;
	}
	tree = sd_json_parse((const char *)data, len, &err);
	if (tree == NULL)
		return 0; /* a number of more than 63 characters */
	sd_json_print(&once, tree);
	cJSON_Delete(tree);
	tree = sd_json_parse(once.data, once.len, &err);
	if (tree == NULL)
		abort();
	sd_json_print(&twice, tree);
	cJSON_Delete(tree);
	if (once.len != twice.len || memcmp(once.data, twice.data, once.len) != 0)
		abort();
	sd_buf_fini(&once);
	sd_buf_fini(&twice);
	return 0;
}
