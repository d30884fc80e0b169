/*
 * The channel.  SOCK_SEQPACKET keeps message borders, so a message is one
 * send and one receive, and a child that writes rubbish can spoil at most its
 * own message: anything that is not exactly one struct sd_msg is an error.
 */
#include "proc/chan.h"
#include "base/fdutil.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int sd_chan_pair(int fd[2], struct sd_err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) != 0)
		return sd_err_errno(err, errno, "cannot make a channel");
	return 0;
}

int sd_chan_send(int fd, const struct sd_msg *msg, struct sd_err *err)
{
	ssize_t n;

	do
		n = send(fd, msg, sizeof *msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof *msg)
		return 0;
	if (n >= 0)
		return sd_err_set(err, SD_ERR_BUG, "channel took %zd of %zu bytes", n, sizeof *msg);
	if (errno == EAGAIN || errno == ENOBUFS) {
		sd_err_set(err, SD_ERR_TRANSIENT, "channel is full");
		if (err != NULL)
			err->errnum = EAGAIN;
		return -1;
	}
	return sd_err_errno(err, errno, "cannot send on channel");
}

int sd_chan_recv(int fd, struct sd_msg *msg, struct sd_err *err)
{
	struct iovec iov = {msg, sizeof *msg};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	do
		n = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return sd_err_errno(err, errno, "cannot receive from channel");
	if (n == 0) {
		sd_err_set(err, SD_ERR_TRANSIENT, "channel closed");
		if (err != NULL)
			err->errnum = 0;
		return -1;
	}
	if (n != (ssize_t)sizeof *msg || (hdr.msg_flags & MSG_TRUNC))
		return sd_err_set(err, SD_ERR_BUG, "message of %zd bytes on channel, expected %zu", n, sizeof *msg);
	return 1;
}
