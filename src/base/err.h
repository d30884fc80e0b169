/*
 * Errors as values.
 *
 * A function that can fail is `int f(…, struct sd_err *err)`: 0, or -1 with
 * *err filled.  The message is short and factual, the detail says what was
 * seen, the hint says what to do.  Errors of libraries are converted where the
 * library is called.  A caller logs an error or returns it, never both.
 */
#ifndef SD_BASE_ERR_H
#define SD_BASE_ERR_H

#include <stdarg.h>

#define SD_MUST_CHECK __attribute__((warn_unused_result))
#define SD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* What a caller may do about it: try again, give up, or report a defect. */
enum sd_errclass {
	SD_ERR_NONE = 0,
	SD_ERR_TRANSIENT, /* the same call may succeed later (connection lost, EAGAIN, disk full) */
	SD_ERR_PERMANENT, /* the same call fails again (bad input, bad configuration) */
	SD_ERR_BUG,	  /* an invariant of ours does not hold */
};

struct sd_err {
	enum sd_errclass class;
	int errnum;	  /* errno, or 0 */
	char sqlstate[6]; /* PostgreSQL's five characters, or "" */
	char message[512];
	char detail[1024];
	char hint[512];
};

void sd_err_clear(struct sd_err *err);

/* Fill *err (NULL is allowed: the error is dropped).  Always returns -1, so that `return sd_err_set(…)` reads well. */
int sd_err_set(struct sd_err *err, enum sd_errclass class, const char *fmt, ...) SD_PRINTF(3, 4);
/* The same, with errnum and ": strerror" appended; the class is derived from errnum. */
int sd_err_errno(struct sd_err *err, int errnum, const char *fmt, ...) SD_PRINTF(3, 4);
/* Add to an error already set; return -1. */
int sd_err_detail(struct sd_err *err, const char *fmt, ...) SD_PRINTF(2, 3);
int sd_err_hint(struct sd_err *err, const char *fmt, ...) SD_PRINTF(2, 3);
/* Put "what: " before the message, to say where on the way up; return -1. */
int sd_err_prefix(struct sd_err *err, const char *fmt, ...) SD_PRINTF(2, 3);

#endif
