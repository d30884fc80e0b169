/* Durations and sizes as people write them; see the header. */
#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit time_units[] = {
	{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};
static const struct unit size_units[] = {
	{"TiB", 1LL << 40}, {"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}, {"B", 1},
};

static int parse(const char *text, const struct unit *units, size_t nunits, const char *what, const char *hint, int64_t *out,
		 struct sd_err *err)
{
	const char *p = text;
	int64_t v = 0;

	while (isdigit((unsigned char)*p)) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return sd_err_set(err, SD_ERR_PERMANENT, "%s \"%.60s\" is too large", what, text);
		p++;
	}
	if (p == text) {
		sd_err_set(err, SD_ERR_PERMANENT, "\"%.60s\" is not a %s", text, what);
		return sd_err_hint(err, "%s", hint);
	}
	if (*p == '\0') {
		*out = v;
		return 0;
	}
	for (size_t i = 0; i < nunits; i++) {
		if (strcmp(p, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(v, units[i].factor, out))
			return sd_err_set(err, SD_ERR_PERMANENT, "%s \"%.60s\" is too large", what, text);
		return 0;
	}
	sd_err_set(err, SD_ERR_PERMANENT, "\"%.60s\" is not a %s: unknown unit \"%.20s\"", text, what, p);
	return sd_err_hint(err, "%s", hint);
}

static char *format(int64_t v, const struct unit *units, size_t nunits, char out[32])
{
	size_t i = 0;

	while (i < nunits - 1 && (v == 0 || v % units[i].factor != 0))
		i++;
	snprintf(out, 32, "%lld%s", (long long)(v / units[i].factor), units[i].name);
	return out;
}

int sd_duration_parse(const char *text, int64_t *ms, struct sd_err *err)
{
	return parse(text, time_units, sizeof time_units / sizeof time_units[0], "duration",
		     "a whole number and ms, s, m, h or d, as in 500ms or 5m; a bare number is milliseconds", ms, err);
}

int sd_size_parse(const char *text, int64_t *bytes, struct sd_err *err)
{
	return parse(text, size_units, sizeof size_units / sizeof size_units[0], "size",
		     "a whole number and B, KiB, MiB, GiB or TiB, as in 64KiB; a bare number is bytes", bytes, err);
}

char *sd_duration_format(int64_t ms, char out[32])
{
	return format(ms, time_units, sizeof time_units / sizeof time_units[0], out);
}

char *sd_size_format(int64_t bytes, char out[32])
{
	return format(bytes, size_units, sizeof size_units / sizeof size_units[0], out);
}
