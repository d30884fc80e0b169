/*
 * A running embedded instance leaves a pointer: a file with one line of
 * conninfo, in a folder that belongs to its user alone.  Whoever may write it
 * chooses our database, so it is followed only in a folder of our own or of
 * root, or in /run/stepd, which nobody but root can have given away; and only
 * if no one but the folder's owner can have written it.
 */
#include "cli/find.h"

#include "base/fdutil.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OF_ROOT "/run/stepd"

static bool only_owner_writes(const struct stat *st)
{
	return (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* The pointer in dir, or NULL. */
static char *read_pointer(const char *dir)
{
	struct stat folder, file;
	char line[4096], *path = sd_xasprintf("%s/embedded", dir);
	ssize_t n = -1;
	int fd = -1;

	if (lstat(dir, &folder) != 0 || !S_ISDIR(folder.st_mode) || !only_owner_writes(&folder) ||
	    (folder.st_uid != geteuid() && folder.st_uid != 0 && strcmp(dir, OF_ROOT) != 0))
		goto out;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && only_owner_writes(&file) &&
	    (file.st_uid == folder.st_uid || file.st_uid == 0))
		n = read(fd, line, sizeof(line) - 1);
out:
	sd_close(&fd);
	free(path);
	if (n <= 0)
		return NULL;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return sd_xstrdup(line);
}

char *sd_cli_embedded(char **where)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *dirs[3] = {NULL, NULL, sd_xstrdup(OF_ROOT)}, *found = NULL;

	*where = NULL;
	if (geteuid() != 0) {
		if (runtime && runtime[0] == '/')
			dirs[0] = sd_xasprintf("%s/stepd", runtime);
		dirs[1] = sd_xasprintf("/tmp/stepd-%u", (unsigned)geteuid());
	}
	for (int i = 0; i < 3; i++) {
		if (dirs[i] && !found && (found = read_pointer(dirs[i])))
			*where = sd_xasprintf("%s/embedded", dirs[i]);
		free(dirs[i]);
	}
	return found;
}
