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
} room;

void sd_title_init(int argc, char **argv)
{
	char *end = argv[0];
	size_t n = 0;
	char **env;

	for (int i = 0; i < argc; i++)
		if (argv[i] == end)
			end += strlen(argv[i]) + 1;
	for (n = 0; environ[n] != NULL; n++)
		if (environ[n] == end)
			end += strlen(environ[n]) + 1;
	env = sd_xcalloc(n + 1, sizeof *env);
	for (size_t i = 0; i < n; i++)
		env[i] = sd_xstrdup(environ[i]);
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
