/*
 * Small truths about file descriptors: whole writes, whole files,
 * directories.  Nothing here knows a loop.
 */
#include "base/fdutil.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int add_flag(int fd, int get, int set, int flag, struct sd_err *err)
{
	int flags = fcntl(fd, get);

	if (flags < 0 || fcntl(fd, set, flags | flag) < 0)
		return sd_err_errno(err, errno, "cannot set flags of descriptor %d", fd);
	return 0;
}

int sd_fd_nonblock(int fd, struct sd_err *err)
{
	return add_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, err);
}

int sd_fd_cloexec(int fd, struct sd_err *err)
{
	return add_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, err);
}

void sd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int sd_write_full(int fd, const void *p, size_t n, struct sd_err *err)
{
	const char *from = p;

	while (n > 0) {
		ssize_t w = write(fd, from, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return sd_err_errno(err, errno, "cannot write");
		from += w;
		n -= (size_t)w;
	}
	return 0;
}

int sd_send_rest(int fd, const struct sd_buf *b, size_t *sent)
{
	while (*sent < b->len) {
		ssize_t n = send(fd, b->data + *sent, b->len - *sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			*sent += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		else if (errno != EINTR)
			return -1;
	}
	return 1;
}

int sd_open_regular(const char *path, struct sd_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return sd_err_errno(err, errno, "cannot open \"%.200s\"", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return sd_err_set(err, SD_ERR_PERMANENT, "\"%.200s\" is %s", path, S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
}

int sd_read_file(const char *path, size_t max, struct sd_buf *b, struct sd_err *err)
{
	int fd, rc = -1;
	size_t got = 0;
	struct stat st;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return sd_err_errno(err, errno, "cannot open %s", path);
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		sd_err_errno(err, EISDIR, "cannot read %s", path);
		goto out;
	}
	for (;;) {
		ssize_t r;

		sd_buf_reserve(b, 16384);
		r = read(fd, b->data + b->len, b->cap - b->len - 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			sd_err_errno(err, errno, "cannot read %s", path);
			goto out;
		}
		if (r == 0)
			break;
		b->len += (size_t)r;
		b->data[b->len] = '\0';
		got += (size_t)r;
		if (got > max) {
			sd_err_set(err, SD_ERR_PERMANENT, "%s is larger than %zu bytes", path, max);
			goto out;
		}
	}
	rc = 0;
out:
	sd_close(&fd);
	return rc;
}

/* The rename itself must survive a crash too. */
static int sync_parent(const char *path, struct sd_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == NULL ? sd_xstrdup(".") : slash == path ? sd_xstrdup("/") : strndup(path, (size_t)(slash - path));
	int fd, rc = 0;

	fd = dir != NULL ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	/* some file systems can not sync a directory: EINVAL */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		rc = sd_err_errno(err, errno, "cannot sync the directory of %s", path);
	sd_close(&fd);
	free(dir);
	return rc;
}

int sd_write_file_atomic(const char *path, const void *p, size_t n, mode_t mode, struct sd_err *err)
{
	char *tmp = sd_xasprintf("%s.tmp", path);
	int fd, rc = -1;

	/* left over from a crash, or a trap somebody laid: O_EXCL follows no link */
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0) {
		sd_err_errno(err, errno, "cannot create %s", tmp);
		free(tmp);
		return -1;
	}
	if (sd_write_full(fd, p, n, err) < 0)
		sd_err_prefix(err, "%s", tmp);
	else if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
		sd_err_errno(err, errno, "cannot sync %s", tmp);
	else if (rename(tmp, path) < 0)
		sd_err_errno(err, errno, "cannot rename %s to %s", tmp, path);
	else
		rc = sync_parent(path, err);
	if (rc < 0)
		unlink(tmp);
	sd_close(&fd);
	free(tmp);
	return rc;
}

int sd_mkdir_p(const char *path, mode_t mode, struct sd_err *err)
{
	char *copy = sd_xstrdup(path), *p = copy;
	struct stat st;
	int rc = 0;

	while (*p == '/')
		p++;
	for (;;) {
		char *slash = strchrnul(p, '/');
		char was = *slash;

		*slash = '\0';
		if (*copy != '\0' && mkdir(copy, mode) < 0) {
			int errnum = errno;

			/* where it exists, mkdir may also say EROFS or EACCES */
			if (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode)) {
				rc = sd_err_errno(err, errnum == EEXIST ? ENOTDIR : errnum, "cannot make directory %s", copy);
				break;
			}
		}
		if (was == '\0')
			break;
		*slash = was;
		p = slash;
		while (*p == '/')
			p++;
		if (*p == '\0')
			break;
	}
	free(copy);
	return rc;
}
