/* The small readers of text: units, connection strings, suggestions, and quoting that can be read back. */
#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/suggest.h"
#include "base/units.h"
#include "base/uuid.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const words[] = {"maxRetries", "timeout", "strategy"};
	struct sd_buf b = SD_BUF_INIT;
	char *text = malloc(len + 1), shown[64], back[32];
	struct sd_err err;
	int64_t v, again;

	if (text == NULL)
		abort();
	memcpy(text, data, len);
	text[len] = '\0';
	if (sd_duration_parse(text, &v, &err) == 0 &&
	    (v < 0 || sd_duration_parse(sd_duration_format(v, back), &again, &err) < 0 || again != v))
		abort();
	if (sd_size_parse(text, &v, &err) == 0 &&
	    (v < 0 || sd_size_parse(sd_size_format(v, back), &again, &err) < 0 || again != v))
		abort();
	sd_log_conninfo(text, shown, sizeof shown);
	if (memchr(shown, '\0', sizeof shown) == NULL)
		abort();
	sd_suggest(text, words, 3);
	sd_uuid_valid(text);
	/* a JSON string of any bytes but '\0' is valid JSON */
	sd_buf_json_str(&b, text);
	if (sd_json_check(b.data, b.len, &err) < 0)
		abort();
	sd_buf_reset(&b);
	sd_buf_chr(&b, '{');
	sd_buf_pgarray(&b, text, strlen(text));
	sd_buf_pgarray(&b, NULL, 0);
	sd_buf_chr(&b, '}');
	sd_buf_fini(&b);
	free(text);
	return 0;
}
