/*
 * Where the database is.  In this order: --database, $STEPD_DATABASE_URL,
 * database.url of a configuration that was named (-c, $STEPD_CONFIG), the
 * installed configuration, a running embedded instance, the default.
 *
 * A running embedded instance leaves a pointer, a file with one line of
 * conninfo in a place that belongs to its user alone.  It is followed only if
 * it belongs to us or to root: whoever may write it chooses the database.
 */
#include "cli/find.h"

#include "base/fdutil.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *pointer_path(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return sd_xstrdup("/run/stepd/embedded");
	if (runtime && runtime[0] == '/')
		return sd_xasprintf("%s/stepd/embedded", runtime);
	return sd_xasprintf("/tmp/stepd-%u/embedded", (unsigned)geteuid());
}

static bool ours(const struct stat *st)
{
	return (st->st_uid == geteuid() || st->st_uid == 0) && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool safe_dir(const char *path)
{
	struct stat st;
	char *dir = sd_xstrdup(path);

	*strrchr(dir, '/') = '\0';
	bool safe = lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && ours(&st);
	free(dir);
	return safe;
}

char *sd_cli_embedded(char **path)
{
	struct stat st;
	char line[4096];
	ssize_t n = -1;

	*path = pointer_path();
	int fd = open(*path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ours(&st) && safe_dir(*path))
		n = read(fd, line, sizeof(line) - 1);
	sd_close(&fd);
	if (n <= 0) {
		free(*path);
		*path = NULL;
		return NULL;
	}
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return sd_xstrdup(line);
}
