/*
 * The daemon's own log.
 *
 * A line is composed in memory and leaves with one write(2).  It is kept within
 * PIPE_BUF, so that lines of several processes do not mix even when stderr is a
 * pipe; what does not fit is cut and marked.  Text from outside (messages of
 * steps, of the database) may hold anything: control characters are escaped and
 * invalid UTF-8 is replaced, so that a line stays one line.
 *
 * The state here is what a process may have of its own: name, level, form, file.
 */
#include "base/log.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = PIPE_BUF, VALUE_MAX = 2048, TAIL_ROOM = 32 };

static struct {
	enum sd_loglevel level;
	bool json;
	char name[64];
	char *path; /* NULL: stderr */
	int fd;
	int journal; /* is stderr the journal?  -1: not looked yet */
} state = {.level = SD_LOG_INFO, .fd = -1, .journal = -1};

static const struct {
	const char *name;
	const char *shown;
	int priority; /* of syslog */
} levels[] = {
	[SD_LOG_DEBUG] = {"debug", "DEBUG", 7},
	[SD_LOG_INFO] = {"info", "INFO ", 6},
	[SD_LOG_WARN] = {"warn", "WARN ", 4},
	[SD_LOG_ERROR] = {"error", "ERROR", 3},
};

int sd_loglevel_parse(const char *name, enum sd_loglevel *level)
{
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*level = (enum sd_loglevel)i;
			return 0;
		}
	}
	return -1;
}

void sd_log_set_name(const char *name)
{
	snprintf(state.name, sizeof state.name, "%s", name != NULL ? name : "");
}

void sd_log_set_level(enum sd_loglevel level)
{
	state.level = level;
}

void sd_log_set_json(bool json)
{
	state.json = json;
}

bool sd_log_enabled(enum sd_loglevel level)
{
	return level >= state.level;
}

/* Is the folder such that nobody but root decides what the file's name stands for? */
static bool only_root_writes_in(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == NULL ? sd_xstrdup(".") : sd_xasprintf("%.*s/", (int)(slash - path), path);
	struct stat st;
	bool only = stat(dir, &st) == 0 && st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;

	free(dir);
	return only;
}

/*
 * Root, who may give the file to the daemon's user next, goes where no link leads that this user may have laid: it would
 * be a way to any file of the system.
 */
static int open_log(const char *path, struct sd_err *err)
{
	bool careful = geteuid() == 0 && !only_root_writes_in(path);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | (careful ? O_NOFOLLOW : 0), 0640);
	struct stat st;

	if (fd < 0 && !(careful && errno == ELOOP))
		return sd_err_errno(err, errno, "cannot open log file %s", path);
	if (!careful || (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1))
		return fd;
	sd_close(&fd);
	sd_err_set(err, SD_ERR_PERMANENT, "log file %s is a link or no regular file", path);
	return sd_err_hint(err, "others than root may write in that folder, so root follows no links there; name the file itself");
}

int sd_log_set_file(const char *path, struct sd_err *err)
{
	int fd = -1;

	if (path != NULL && (fd = open_log(path, err)) < 0)
		return -1;
	sd_close(&state.fd);
	free(state.path);
	state.fd = fd;
	state.path = path != NULL ? sd_xstrdup(path) : NULL;
	return 0;
}

int sd_log_fd(void)
{
	return state.fd;
}

int sd_log_reopen(struct sd_err *err)
{
	int fd;

	if (state.path == NULL)
		return 0;
	fd = open_log(state.path, err);
	if (fd < 0)
		return -1; /* the old file goes on being written */
	sd_close(&state.fd);
	state.fd = fd;
	return 0;
}

/* systemd names the journal's stream in the environment; stderr may have been redirected since (sd-daemon(3)). */
static bool to_journal(void)
{
	if (state.fd >= 0)
		return false;
	if (state.journal < 0) {
		const char *stream = getenv("JOURNAL_STREAM");
		unsigned long long dev, ino;
		struct stat st;

		state.journal = stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
				fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
	}
	return state.journal == 1;
}

/* s as part of a text line: control characters escaped, and quotes where the value is quoted. */
static void text_escaped(struct sd_buf *b, const char *s, size_t n, bool quoted)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n;

	while (p < end) {
		size_t len = sd_utf8_len(p, (size_t)(end - p));

		if (len == 0) {
			sd_buf_printf(b, "\\x%02x", *p++);
			continue;
		}
		if (*p == '\n')
			sd_buf_str(b, "\\n");
		else if (*p == '\t')
			sd_buf_str(b, "\\t");
		else if (*p < 0x20 || *p == 0x7f)
			sd_buf_printf(b, "\\x%02x", *p);
		else if (quoted && (*p == '"' || *p == '\\'))
			sd_buf_printf(b, "\\%c", *p);
		else
			sd_buf_append(b, p, len);
		p += len;
	}
}

static bool needs_quotes(const char *s)
{
	return *s == '\0' || strpbrk(s, " \t\n\"=\\") != NULL;
}

/* At most `most` bytes of s, at the end of a character. */
static size_t value_len(const char *s, size_t most, bool *cut)
{
	size_t n = strnlen(s, most + 1);

	if (n <= most)
		return n;
	*cut = true;
	for (n = most; n > most - 4 && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
		;
	return n;
}

static void add_value(struct sd_buf *b, const char *key, const char *value, size_t n)
{
	bool quoted = needs_quotes(value), number = *key == '#';

	key += number;
	if (state.json) {
		sd_buf_chr(b, ',');
		sd_buf_json_str(b, key);
		sd_buf_chr(b, ':');
		if (number)
			sd_buf_append(b, value, n);
		else
			sd_buf_json(b, value, n);
		return;
	}
	sd_buf_printf(b, quoted ? " %s=\"" : " %s=", key);
	text_escaped(b, value, n, quoted);
	if (quoted)
		sd_buf_chr(b, '"');
}

/* One field; cut shorter, and at last left out, when the line would grow too long. */
static void add_field(struct sd_buf *b, const char *key, const char *value, bool *cut)
{
	static const size_t most[] = {VALUE_MAX, 256, 32};
	size_t start = b->len;

	if (value == NULL)
		value = "";
	for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
		add_value(b, key, value, value_len(value, most[i], cut));
		if (b->len <= LINE_MAX_BYTES - TAIL_ROOM)
			return;
		b->len = start;
		b->data[start] = '\0';
		*cut = true;
	}
}

/* All of a line before its fields. */
static void add_head(struct sd_buf *b, enum sd_loglevel level, const char *message, bool *cut)
{
	char when[28];
	size_t start, n = value_len(message, VALUE_MAX, cut);

	sd_wall_format(sd_wall_us(), when);
	if (to_journal())
		sd_buf_printf(b, "<%d>", levels[level].priority);
	if (state.json) {
		sd_buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\",\"name\":", when, levels[level].name);
		sd_buf_json_str(b, state.name);
		sd_buf_printf(b, ",\"pid\":%d,\"message\":", (int)getpid());
		start = b->len;
		sd_buf_json(b, message, n);
	} else {
		if (!to_journal()) /* which writes time and pid itself */
			sd_buf_printf(b, "%s %s [%d] ", when, levels[level].shown, (int)getpid());
		if (state.name[0] != '\0')
			sd_buf_printf(b, "%s: ", state.name);
		start = b->len;
		text_escaped(b, message, n, false);
	}
	if (b->len > LINE_MAX_BYTES - TAIL_ROOM) { /* mostly escapes, six bytes for one */
		b->len = start;
		n = value_len(message, 512, cut);
		if (state.json)
			sd_buf_json(b, message, n);
		else
			text_escaped(b, message, n, false);
		*cut = true;
	}
}

static void add_tail_and_write(struct sd_buf *b, bool cut)
{
	if (cut)
		sd_buf_str(b, state.json ? ",\"truncated\":true" : " [truncated]");
	sd_buf_str(b, state.json ? "}\n" : "\n");
	/* a log that can not be written has nowhere to say so */
	while (write(state.fd >= 0 ? state.fd : STDERR_FILENO, b->data, b->len) < 0 && errno == EINTR)
		;
	sd_buf_fini(b);
}

void sd_log(enum sd_loglevel level, const char *fmt, ...)
{
	struct sd_buf b = SD_BUF_INIT;
	char message[VALUE_MAX + 2]; /* one more than is shown, so that a cut is seen */
	int saved = errno;
	bool cut = false;
	va_list ap;

	if (!sd_log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	add_head(&b, level, message, &cut);
	add_tail_and_write(&b, cut);
	errno = saved;
}

void sd_log_kv(enum sd_loglevel level, const char *message, ...)
{
	struct sd_buf b = SD_BUF_INIT;
	int saved = errno;
	bool cut = false;
	const char *key;
	va_list ap;

	if (!sd_log_enabled(level))
		return;
	add_head(&b, level, message, &cut);
	va_start(ap, message);
	while ((key = va_arg(ap, const char *)) != NULL)
		add_field(&b, key, va_arg(ap, const char *), &cut);
	va_end(ap);
	add_tail_and_write(&b, cut);
	errno = saved;
}

void sd_log_err(enum sd_loglevel level, const struct sd_err *err, const char *fmt, ...)
{
	struct sd_buf b = SD_BUF_INIT;
	char message[VALUE_MAX + 2];
	int saved = errno;
	bool cut = false;
	va_list ap;
	size_t n;

	if (!sd_log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(message, sizeof message - sizeof err->message, fmt, ap);
	va_end(ap);
	n = strlen(message);
	snprintf(message + n, sizeof message - n, ": %s", err->message);
	add_head(&b, level, message, &cut);
	if (err->sqlstate[0] != '\0')
		add_field(&b, "sqlstate", err->sqlstate, &cut);
	if (err->detail[0] != '\0')
		add_field(&b, "detail", err->detail, &cut);
	if (err->hint[0] != '\0')
		add_field(&b, "hint", err->hint, &cut);
	add_tail_and_write(&b, cut);
	errno = saved;
}
