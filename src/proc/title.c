/*
 * The kernel shows as a process' title the bytes of its first argument and
 * what lies behind it: the other arguments and the environment, which are one
 * block at start.  The environment is copied away, and the block is the room.
 */
#include "proc/title.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
	char *start;
	size_t len;
	char *environment; /* the strings of the environment; kept for ever, like those they replace */
} room;

void sd_title_init(int argc, char **argv)
{
	char *end = argv[0], *to, **env;
	size_t n = 0, bytes = 0;

	for (int i = 0; i < argc; i++)
		if (argv[i] == end)
			end += strlen(argv[i]) + 1;
	for (; environ[n] != NULL; n++) {
		bytes += strlen(environ[n]) + 1;
		if (environ[n] == end)
			end += strlen(environ[n]) + 1;
	}
	env = sd_xcalloc(n + 1, sizeof *env);
	to = room.environment = sd_xmalloc(bytes + 1);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(environ[i]) + 1;

		env[i] = memcpy(to, environ[i], len);
		to += len;
	}
	environ = env;
	room.start = argv[0];
	room.len = (size_t)(end - argv[0]);
}

void sd_title_set(const char *fmt, ...)
{
	va_list ap;

	if (room.len < 2)
		return;
	memset(room.start, 0, room.len);
	va_start(ap, fmt);
	vsnprintf(room.start, room.len, fmt, ap);
	va_end(ap);
}
