/*
 * Connection strings without their secrets, for logs and messages.
 *
 * libpq takes a URL or key=value words.  Both are read here as libpq reads
 * them, but in doubt more is hidden: a string that libpq would refuse must not
 * give its password away in the message about it.
 */
#include "base/buf.h"
#include "base/log.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_secret(const char *key, size_t n)
{
	return (n == 8 && strncasecmp(key, "password", 8) == 0) || (n == 11 && strncasecmp(key, "sslpassword", 11) == 0);
}

static int hex(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* A parameter's name may be percent-encoded. */
static bool is_secret_encoded(const char *key, size_t n)
{
	char plain[16];
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		if (m == sizeof plain)
			return false;
		if (key[i] == '%' && i + 2 < n && hex(key[i + 1]) >= 0 && hex(key[i + 2]) >= 0) {
			plain[m++] = (char)(hex(key[i + 1]) * 16 + hex(key[i + 2]));
			i += 2;
		} else {
			plain[m++] = key[i];
		}
	}
	return is_secret(plain, m);
}

static const char *last_at(const char *from, const char *to)
{
	return to > from ? memrchr(from, '@', (size_t)(to - from)) : NULL;
}

static void mask_url(struct sd_buf *b, const char *s)
{
	const char *rest = strstr(s, "://") + 3;
	/* libpq: user and password reach to the first '@' that comes before any '/', even over a '?' */
	const char *stop = strpbrk(rest, "@/");
	const char *query = strchrnul(stop != NULL && *stop == '@' ? stop : rest, '?');
	const char *at = last_at(rest, query), *colon;

	sd_buf_append(b, s, (size_t)(rest - s));
	if (at != NULL) {
		colon = memchr(rest, ':', (size_t)(at - rest));
		if (colon != NULL) {
			sd_buf_append(b, rest, (size_t)(colon + 1 - rest));
			sd_buf_str(b, "***");
			rest = at;
		}
	}
	sd_buf_append(b, rest, (size_t)(query - rest));
	while (*query != '\0') { /* at '?' or '&' */
		const char *key = query + 1, *end = strchrnul(key, '&'), *eq = memchr(key, '=', (size_t)(end - key));

		if (eq != NULL && is_secret_encoded(key, (size_t)(eq - key))) {
			sd_buf_append(b, query, (size_t)(eq + 1 - query));
			sd_buf_str(b, "***");
		} else {
			sd_buf_append(b, query, (size_t)(end - query));
		}
		query = end;
	}
}

/* Past one value of key=value words: quoted or up to white space, with backslashes. */
static const char *skip_value(const char *p)
{
	if (*p == '\'') {
		for (p++; *p != '\0' && *p != '\''; p++)
			if (*p == '\\' && p[1] != '\0')
				p++;
		return *p == '\'' ? p + 1 : p;
	}
	for (; *p != '\0' && !isspace((unsigned char)*p); p++)
		if (*p == '\\' && p[1] != '\0')
			p++;
	return p;
}

static void mask_words(struct sd_buf *b, const char *s)
{
	while (*s != '\0') {
		const char *key, *p, *key_end;

		for (key = s; isspace((unsigned char)*key); key++)
			;
		for (p = key; *p != '\0' && *p != '=' && !isspace((unsigned char)*p); p++)
			;
		key_end = p;
		while (isspace((unsigned char)*p))
			p++;
		if (*p != '=') { /* libpq refuses this: hide the rest, if it may be a secret */
			sd_buf_str(b, strcasestr(s, "password") != NULL ? " ***" : s);
			return;
		}
		for (p++; isspace((unsigned char)*p); p++)
			;
		sd_buf_append(b, s, (size_t)(p - s));
		s = skip_value(p);
		if (is_secret(key, (size_t)(key_end - key)))
			sd_buf_str(b, "***");
		else
			sd_buf_append(b, p, (size_t)(s - p));
	}
}

void sd_log_conninfo(const char *conninfo, char *out, unsigned long outlen)
{
	struct sd_buf b = SD_BUF_INIT;

	if (outlen == 0)
		return;
	if (strncasecmp(conninfo, "postgresql://", 13) == 0 || strncasecmp(conninfo, "postgres://", 11) == 0)
		mask_url(&b, conninfo);
	else
		mask_words(&b, conninfo);
	snprintf(out, outlen, "%s", b.data != NULL ? b.data : "");
	sd_buf_fini(&b);
}
