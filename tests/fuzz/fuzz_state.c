/*
 * Updates of state: on two lines a value and an operand, JSON each; then the
 * operations, three bytes each: what to do and two parts of a path.  What comes
 * out is JSON again, and a value set is the value that is there.
 */
#include "base/json.h"
#include "base/mem.h"
#include "step/stateop.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const types[] = {"set", "merge", "increment", "decrement", "append", "remove"};
static const char *const parts[] = {"a", "b", "0", "1", "-1", "99999999999999999999", "", "a\\u0001b"};

static void add_op(struct sd_buf *ops, const uint8_t *b, const char *operand)
{
	sd_buf_printf(ops, "%s{\"type\":\"%s\",\"path\":[", ops->len > 1 ? "," : "", types[b[0] % 6]);
	for (int i = 1; i <= 2; i++)
		if (b[i] & 8)
			sd_buf_printf(ops, "%s\"%s\"", i == 2 && (b[1] & 8) ? "," : "", parts[b[i] & 7]);
	sd_buf_printf(ops, "],\"%s\":%s}", b[0] % 6 == 2 || b[0] % 6 == 3 ? "by" : "value", operand);
}

static void check(const char *value, const char *operand, const uint8_t *steps, size_t n)
{
	struct sd_buf ops = SD_BUF_INIT, out = SD_BUF_INIT, again = SD_BUF_INIT;
	struct sd_err err;

	sd_buf_chr(&ops, '[');
	for (size_t i = 0; i + 3 <= n && i < 30; i += 3)
		add_op(&ops, steps + i, operand);
	sd_buf_chr(&ops, ']');
	if (sd_stateops_apply(value[0] != '\0' ? value : NULL, ops.data, &out, &err) == 0) {
		/* Nothing may still be nothing.  The numbers of the operand may be new text; from then on nothing changes. */
		if (out.len > 0 && (sd_json_check(out.data, out.len, &err) < 0 || sd_stateops_apply(out.data, "[]", &again, &err) < 0 ||
		    again.len != out.len || memcmp(again.data, out.data, out.len) != 0))
			abort();
	} else if (err.message[0] == '\0') {
		abort();
	}
	sd_buf_fini(&ops);
	sd_buf_fini(&out);
	sd_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = sd_xmalloc(len + 1), *operand, *steps;
	struct sd_err err;

	memcpy(text, data, len);
	text[len] = '\0';
	operand = memchr(text, '\n', len);
	steps = operand != NULL ? memchr(operand + 1, '\n', len - (size_t)(operand + 1 - text)) : NULL;
	if (steps != NULL) {
		*operand++ = *steps++ = '\0';
		if ((text[0] == '\0' || sd_json_check(text, (size_t)(operand - 1 - text), &err) == 0) &&
		    sd_json_check(operand, (size_t)(steps - 1 - operand), &err) == 0)
			check(text, operand, (uint8_t *)steps, len - (size_t)(steps - text));
	}
	free(text);
	return 0;
}
