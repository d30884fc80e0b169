/*
 * Errors as values: filling and wording struct sd_err.
 *
 * Everything lives in the caller's fixed buffers, so that reporting an error
 * can not fail itself.  Text that does not fit is cut at the end.
 */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void sd_err_clear(struct sd_err *err)
{
	if (err == NULL)
		return;
	err->class = SD_ERR_NONE;
	err->errnum = 0;
	err->sqlstate[0] = '\0';
	err->message[0] = '\0';
	err->detail[0] = '\0';
	err->hint[0] = '\0';
}

int sd_err_set(struct sd_err *err, enum sd_errclass class, const char *fmt, ...)
{
	char text[sizeof err->message]; /* arguments may point into *err itself */
	va_list ap;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	sd_err_clear(err);
	err->class = class;
	memcpy(err->message, text, sizeof text);
	return -1;
}

/* What a caller can do about an errno; unknown ones do not go away by themselves. */
static enum sd_errclass class_of_errno(int errnum)
{
	switch (errnum) {
	case EAGAIN:
	case EINTR:
	case ENOMEM:
	case ENOBUFS:
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case EBUSY:
	case EIO:
	case EPIPE:
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ETIMEDOUT:
	case EADDRINUSE:
		return SD_ERR_TRANSIENT;
	case EBADF:
	case EFAULT:
		return SD_ERR_BUG;
	default:
		return SD_ERR_PERMANENT;
	}
}

int sd_err_errno(struct sd_err *err, int errnum, const char *fmt, ...)
{
	char text[sizeof err->message], why[128];
	va_list ap;
	size_t n;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	sd_err_clear(err);
	err->class = class_of_errno(errnum);
	err->errnum = errnum;
	memcpy(err->message, text, sizeof text);
	n = strlen(err->message);
	snprintf(err->message + n, sizeof err->message - n, ": %s", strerror_r(errnum, why, sizeof why));
	return -1;
}

/* Arguments may point into the field itself. */
static void put(char *field, size_t size, const char *fmt, va_list ap)
{
	char text[sizeof(struct sd_err)];

	vsnprintf(text, size, fmt, ap);
	memcpy(field, text, size);
}

int sd_err_detail(struct sd_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (err != NULL)
		put(err->detail, sizeof err->detail, fmt, ap);
	va_end(ap);
	return -1;
}

int sd_err_hint(struct sd_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (err != NULL)
		put(err->hint, sizeof err->hint, fmt, ap);
	va_end(ap);
	return -1;
}

int sd_err_prefix(struct sd_err *err, const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;
	size_t n;

	if (err == NULL)
		return -1;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	n = strlen(text);
	snprintf(text + n, sizeof text - n, ": %.*s", (int)(sizeof text - n), err->message);
	memcpy(err->message, text, sizeof text);
	return -1;
}
