/* Waking idle queue workers: see wake.h. */
#include "proc/wake.h"

#include "base/fdutil.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

_Static_assert(SD_GROUPS <= 64, "sd_wake_ring returns a bit for each group");

int sd_wake_open(struct sd_wake *w, struct sd_err *err)
{
	for (int i = 0; i < SD_GROUPS; i++) {
		w->fd[i] = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
		if (w->fd[i] < 0)
			return sd_err_errno(err, errno, "cannot make the wake-up descriptors");
	}
	return 0;
}

void sd_wake_close(struct sd_wake *w)
{
	for (int i = 0; i < SD_GROUPS; i++)
		sd_close(&w->fd[i]);
}

uint64_t sd_wake_ring(const struct sd_wake *w, const struct sd_scoreboard *sb, int64_t except, uint64_t most)
{
	uint64_t asleep[SD_GROUPS] = {0}, rung = 0;

	for (uint32_t i = 0; i < sb->nslots; i++) {
		const struct sd_slot *s = &sb->slot[i];
		int32_t group = atomic_load(&s->group);

		uint32_t sleep = atomic_load(&s->asleep);

		if (sleep == SD_AWAKE || atomic_load(&s->state) != SD_SLOT_READY || i == except || group < 0 || group >= SD_GROUPS)
			continue;
		rung |= UINT64_C(1) << group;
		asleep[group] += sleep == SD_ASLEEP;
	}
	for (int i = 0; i < SD_GROUPS; i++) {
		uint64_t tokens = asleep[i] == 0 ? 1 : asleep[i] < most ? asleep[i] : most;
		if ((rung >> i & 1) && write(w->fd[i], &tokens, sizeof tokens) < 0 && errno != EAGAIN)
			sd_log(SD_LOG_WARN, "waking a worker failed: %s", strerror(errno));
	}
	return rung;
}
