/*
 * The child's side of the channel: the few things every role says to its
 * supervisor.  A child that cannot be heard cannot serve, so trouble here ends it.
 */
#include "base/buf.h"
#include "base/log.h"
#include "proc/spawn.h"
#include "role/role.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The supervisor reads its channels promptly; a full one empties in a moment. */
static int say(const struct sd_child *child, const struct sd_msg *msg, struct sd_err *err)
{
	for (int tries = 0; tries < 50; tries++) {
		struct pollfd p = {child->chan, POLLOUT, 0};

		if (sd_chan_send(child->chan, msg, err) == 0)
			return 0;
		if (err->class != SD_ERR_TRANSIENT || err->errnum != EAGAIN)
			return -1;
		poll(&p, 1, 100);
	}
	return -1;
}

void sd_child_ready(const struct sd_child *child)
{
	struct sd_msg msg = {.type = SD_MSG_READY};
	struct sd_err err;

	if (say(child, &msg, &err) != 0)
		sd_orphaned();
}

void sd_child_closed(const struct sd_child *child)
{
	struct sd_msg msg = {.type = SD_MSG_CLOSED};
	struct sd_err err;

	if (say(child, &msg, &err) != 0)
		sd_orphaned();
}

void sd_child_fail(const struct sd_child *child, int exit_code, const struct sd_err *e)
{
	struct sd_msg msg = {.type = SD_MSG_FAILED, .exit_code = exit_code};
	struct sd_buf text = SD_BUF_INIT;
	struct sd_err err;

	sd_buf_printf(&text, "%s%s%s%s%s", e->message, e->detail[0] ? ": " : "", e->detail, e->hint[0] ? "; " : "", e->hint);
	strncpy(msg.text, text.data, sizeof msg.text - 1);
	if (say(child, &msg, &err) != 0)
		sd_log_err(SD_LOG_ERROR, e, "cannot start");
	sd_leave(exit_code);
}

void sd_child_status(const struct sd_child *child, const char *fmt, ...)
{
	struct sd_msg msg = {.type = SD_MSG_STATUS};
	struct sd_err err;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg.text, sizeof msg.text, fmt, ap);
	va_end(ap);
	if (sd_chan_send(child->chan, &msg, &err) != 0)
		sd_log(SD_LOG_DEBUG, "status not sent: %s", err.message);
}
