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
/* All n bytes or an error; EINTR and short writes handled; a blocking descriptor. */
int sd_write_full(int fd, const void *p, size_t n, struct sd_err *err) SD_MUST_CHECK;
/* For reading; only a regular file, so that neither this nor a read from it can block. */
int sd_open_regular(const char *path, struct sd_err *err) SD_MUST_CHECK;
/*
 * Send b from *sent on to a socket, never blocking, and move *sent.  1: all is sent; 0: the socket takes no more now;
 * -1, errno set: the connection is broken.
 */
int sd_send_rest(int fd, const struct sd_buf *b, size_t *sent) SD_MUST_CHECK;
/* A whole file of at most max bytes into b. */
int sd_read_file(const char *path, size_t max, struct sd_buf *b, struct sd_err *err) SD_MUST_CHECK;
/* Write path.tmp, fsync, rename. */
int sd_write_file_atomic(const char *path, const void *p, size_t n, mode_t mode, struct sd_err *err) SD_MUST_CHECK;
/* mkdir -p; existing directories are fine. */
int sd_mkdir_p(const char *path, mode_t mode, struct sd_err *err) SD_MUST_CHECK;

#endif
