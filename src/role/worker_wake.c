/*
 * Wake-ups among the workers of a node: who sleeps that could run what we
 * have, and waking them.
 */
#include "role/worker.h"

#include "base/log.h"
#include "proc/scoreboard.h"
#include "proc/wake.h"

int sd_worker_idle_peers(const struct sd_worker *w, struct sd_buf *slots)
{
	const struct sd_scoreboard *sb = w->child->scoreboard;
	int n = 0;

	sd_buf_reset(slots);
	sd_buf_chr(slots, '{');
	for (uint32_t i = 0; i < sb->nslots; i++) {
		const struct sd_slot *s = &sb->slot[i];
		int pool = atomic_load(&s->pool);

		if (i == w->child->slot_index || atomic_load(&s->state) != SD_SLOT_READY || atomic_load(&s->asleep) == SD_AWAKE ||
		    atomic_load(&s->conf_generation) != atomic_load(&w->child->slot->conf_generation) ||
		    !sd_worker_is_peer(w, pool))
			continue;
		n++;
		if ((w->equals >> pool & 1) && atomic_load(&s->db_up))
			sd_buf_pgarray_i64(slots, i);
	}
	sd_buf_chr(slots, '}');
	return n;
}

void sd_worker_ring(struct sd_worker *w, size_t most)
{
	sd_wake_ring(w->child->wake, w->child->scoreboard, w->child->slot_index, most);
}

/* We leave: what we were woken for, or give back, is for others; when none of them sleeps, the pool may have to grow. */
void sd_worker_hand_over(struct sd_worker *w)
{
	struct sd_msg msg = {.type = SD_MSG_DEMAND, .demand = {.group = w->group, .waiting = 1}};
	struct sd_err err;

	if (sd_wake_ring(w->child->wake, w->child->scoreboard, w->child->slot_index, 1) == 0 &&
	    sd_chan_send(w->child->chan, &msg, &err) != 0)
		sd_log(SD_LOG_DEBUG, "work to hand over not told: %s", err.message);
}
