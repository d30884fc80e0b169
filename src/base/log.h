/*
 * The daemon's own log: one line an event, to stderr or a file, as text or JSON.
 * Under systemd (stderr is the journal) lines carry the "<N>" priority prefix.
 * Each line is one write(2), so lines of several processes never mix.
 * Secrets must not be passed here; conninfo strings go through sd_log_conninfo().
 */
#ifndef SD_BASE_LOG_H
#define SD_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>

enum sd_loglevel { SD_LOG_DEBUG, SD_LOG_INFO, SD_LOG_WARN, SD_LOG_ERROR };

/* Fields of a line: `sd_log_kv(SD_LOG_INFO, "job failed", "job", "42", "queue", q, NULL)`; the value of a "#key" is a number, also in JSON. */
void sd_log(enum sd_loglevel level, const char *fmt, ...) SD_PRINTF(2, 3);
void sd_log_kv(enum sd_loglevel level, const char *message, ...) __attribute__((sentinel));
/* message, detail and hint of an error, with what was being done in front. */
void sd_log_err(enum sd_loglevel level, const struct sd_err *err, const char *fmt, ...) SD_PRINTF(3, 4);

/* The name in front of every line of this process, e.g. "worker default/0"; copied. */
void sd_log_set_name(const char *name);
void sd_log_set_level(enum sd_loglevel level);
void sd_log_set_json(bool json);
/* Append to this file from now on (NULL: stderr).  sd_log_reopen() opens it anew after rotation. */
int sd_log_set_file(const char *path, struct sd_err *err) SD_MUST_CHECK;
int sd_log_reopen(struct sd_err *err) SD_MUST_CHECK;
int sd_log_fd(void); /* of that file, -1: stderr; for a child that closes all it does not need */
bool sd_log_enabled(enum sd_loglevel level);
/* -1 when name is none of debug info warn error. */
int sd_loglevel_parse(const char *name, enum sd_loglevel *level);

/* conninfo with every password replaced by "***"; into out, always terminated. Works for URLs and key=value. */
void sd_log_conninfo(const char *conninfo, char *out, unsigned long outlen);

#endif
