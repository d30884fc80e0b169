/* Error replies. */
#include "http/error.h"

#include "base/utf8.h"

#include <string.h>

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {203, "Non-Authoritative Information"}, {204, "No Content"},
	{205, "Reset Content"}, {206, "Partial Content"}, {300, "Multiple Choices"}, {301, "Moved Permanently"}, {302, "Found"},
	{303, "See Other"}, {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"},
	{401, "Unauthorized"}, {402, "Payment Required"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
	{406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {411, "Length Required"},
	{412, "Precondition Failed"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {418, "I'm a teapot"}, {421, "Misdirected Request"},
	{422, "Unprocessable Content"}, {423, "Locked"}, {424, "Failed Dependency"}, {425, "Too Early"}, {426, "Upgrade Required"},
	{428, "Precondition Required"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"}, {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"},
	{503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
};

const char *sd_http_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status";
}

/* Append text as a JSON string; each byte that is not UTF-8 becomes U+FFFD. */
static void put_text(struct sd_buf *b, const char *s)
{
	struct sd_buf clean = SD_BUF_INIT;
	const unsigned char *p = (const unsigned char *)s, *end = p + strlen(s);

	while (p < end) {
		size_t n = sd_utf8_len(p, (size_t)(end - p));

		if (n == 0)
			sd_buf_str(&clean, "\xef\xbf\xbd");
		else
			sd_buf_append(&clean, p, n);
		p += n ? n : 1;
	}
	sd_buf_json(b, clean.len ? clean.data : "", clean.len);
	sd_buf_fini(&clean);
}

void sd_error_body(struct sd_buf *b, const char *code, const char *message, const char *details)
{
	sd_buf_str(b, "{\"error\":{\"code\":");
	put_text(b, code);
	sd_buf_str(b, ",\"message\":");
	put_text(b, message);
	sd_buf_str(b, ",\"details\":[");
	if (details)
		sd_buf_str(b, details);
	sd_buf_str(b, "]}}");
}

void sd_error_reply_with(struct sd_exchange *x, int status, const char *code, const char *message, const char *detail,
			 const struct sd_pair *headers, size_t nheaders)
{
	struct sd_buf b = SD_BUF_INIT, details = SD_BUF_INIT;
	struct sd_pair h[16] = {{"content-type", "application/json", 16}};
	size_t n = 1;

	if (status == 503)
		h[n++] = (struct sd_pair){"retry-after", "1", 1};
	for (size_t i = 0; i < nheaders && n < sizeof(h) / sizeof(h[0]); i++)
		h[n++] = headers[i];
	if (detail && *detail)
		put_text(&details, detail);
	sd_error_body(&b, code, message, details.data);
	sd_exchange_reply(x, status, h, n, b.data, b.len);
	sd_buf_fini(&details);
	sd_buf_fini(&b);
}

void sd_error_reply(struct sd_exchange *x, int status, const char *code, const char *message, const char *detail)
{
	sd_error_reply_with(x, status, code, message, detail, NULL, 0);
}
