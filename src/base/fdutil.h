/* Small truths about file descriptors. All descriptors of ours are close-on-exec. */
#ifndef SD_BASE_FDUTIL_H
#define SD_BASE_FDUTIL_H

#include "base/err.h"
#include "base/buf.h"

#include <stddef.h>
#include <sys/types.h>

int sd_fd_nonblock(int fd, struct sd_err *err) SD_MUST_CHECK;
int sd_fd_cloexec(int fd, struct sd_err *err) SD_MUST_CHECK;
void sd_close(int *fd); /* close if >= 0, set to -1, errno kept */
/* All n bytes or an error; EINTR and short writes handled; blocking descriptors. */
int sd_write_full(int fd, const void *p, size_t n, struct sd_err *err) SD_MUST_CHECK;
int sd_read_full(int fd, void *p, size_t n, struct sd_err *err) SD_MUST_CHECK; /* early EOF is an error */
/* For reading; only a regular file, so that neither this nor a read from it can block. */
int sd_open_regular(const char *path, struct sd_err *err) SD_MUST_CHECK;
/* A whole file of at most max bytes into b. */
int sd_read_file(const char *path, size_t max, struct sd_buf *b, struct sd_err *err) SD_MUST_CHECK;
/* Write path.tmp, fsync, rename. */
int sd_write_file_atomic(const char *path, const void *p, size_t n, mode_t mode, struct sd_err *err) SD_MUST_CHECK;
/* mkdir -p; existing directories are fine. */
int sd_mkdir_p(const char *path, mode_t mode, struct sd_err *err) SD_MUST_CHECK;

#endif
