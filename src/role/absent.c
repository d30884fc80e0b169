/* Roles that are still being written: ready at once, nothing to do.  Weak, last in the library, and gone when they land. */
#include "proc/spawn.h"
#include "role/role.h"

#include <poll.h>
#include <unistd.h>

static _Noreturn void idle(const struct sd_child *child)
{
	struct sd_msg msg;
	struct sd_err err;

	sd_child_ready(child);
	for (;;) {
		struct pollfd p = {child->chan, POLLIN, 0};
		int rc;

		poll(&p, 1, -1);
		rc = sd_chan_recv(child->chan, &msg, &err);
		if (rc < 0)
			sd_orphaned();
		if (rc > 0 && msg.type == SD_MSG_DRAIN)
			_exit(0);
		if (rc > 0 && msg.type == SD_MSG_DEATH) {
			msg = (struct sd_msg){.type = SD_MSG_DEATH_ACK, .serial = msg.serial};
			if (sd_chan_send(child->chan, &msg, &err) != 0)
				sd_orphaned();
		}
	}
}

__attribute__((weak)) _Noreturn void sd_cron_main(const struct sd_child *child)
{
	idle(child);
}
