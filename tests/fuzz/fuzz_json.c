/* What sd_json_check accepts, cJSON reads, and what is printed from that tree is accepted again. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* With the numbers' own text the tree prints as valid JSON, and then keeps every digit: printed once more, nothing changes. */
static void check_digits(const char *data, size_t len)
{
	struct sd_buf text = SD_BUF_INIT, once = SD_BUF_INIT, twice = SD_BUF_INIT;
	cJSON *tree;

	sd_buf_append(&text, data, len);
	for (int round = 0; round < 2; round++) {
		struct sd_buf *from = round == 0 ? &text : &once, *to = round == 0 ? &once : &twice;

		tree = sd_json_parse(from->data, from->len, NULL);
		if (tree == NULL)
			abort();
		sd_json_keep_digits(tree, from->data);
		sd_json_print(to, tree);
		cJSON_Delete(tree);
	}
	if (once.len != twice.len || memcmp(once.data, twice.data, once.len) != 0)
		abort();
	sd_buf_fini(&text);
	sd_buf_fini(&once);
	sd_buf_fini(&twice);
}

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
	check_digits((const char *)data, len);
	sd_buf_fini(&once);
	sd_buf_fini(&twice);
	return 0;
}
