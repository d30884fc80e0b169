/*
 * Cross-origin requests (the Fetch standard, "CORS protocol").  With http.cors
 * set, a page of an allowed origin may read replies, ours to errors included,
 * and a preflight is told the methods the path takes and gets the headers it
 * asks for.  Cookies are for handlers that answer for themselves:
 * Access-Control-Allow-Credentials is never ours, and a handler's own
 * Access-Control headers come beside these, so it is one or the other.
 */
#include "role/http.h"

#include <string.h>

#define EXPOSE "x-trace-id, traceparent, retry-after, location, preference-applied"

static bool listed(const char *origins, const char *origin, size_t len)
{
	while (*origins) {
		size_t n = strcspn(origins, " ");

		if ((n == 1 && *origins == '*') || (n == len && memcmp(origins, origin, n) == 0))
			return true;
		origins += n + strspn(origins + n, " ");
	}
	return false;
}

size_t sd_http_cors(const struct sd_http *h, const struct sd_exchange *x, const char *allow, struct sd_pair out[SD_HTTP_CORS_HEADERS])
{
	const char *origins = h->child->conf->http.cors, *origin, *wanted;
	size_t len, wanted_len, n = 0;

	if (!origins || !*origins)
		return 0;
	out[n++] = (struct sd_pair){"vary", "origin", 6};
	origin = sd_exchange_header(x, "origin", &len);
	if (!origin || !listed(origins, origin, len))
		return n;
	out[n++] = (struct sd_pair){"access-control-allow-origin", origin, len};
	if (!allow || !sd_exchange_header(x, "access-control-request-method", &wanted_len)) {
		out[n++] = (struct sd_pair){"access-control-expose-headers", EXPOSE, strlen(EXPOSE)};
		return n;
	}
	out[n++] = (struct sd_pair){"access-control-allow-methods", allow, strlen(allow)};
	out[n++] = (struct sd_pair){"access-control-max-age", "600", 3};
	wanted = sd_exchange_header(x, "access-control-request-headers", &wanted_len);
	if (wanted)
		out[n++] = (struct sd_pair){"access-control-allow-headers", wanted, wanted_len};
	return n;
}
