/*
 * The supervisor is dead, and so nobody is left who would say what became of
 * us.  We take no more and are gone in a moment, with the handler; but what
 * ended is told, what has not begun is given back, and the job that runs is
 * named to the database: it is the one that is lost, when somebody rescues
 * what the node held.  It is not given back by us, for it runs as long as we
 * live.  Where the database is away nothing is told, and where it is slow not
 * all: a new daemon may be there soon, and waits so long before it takes back
 * what we held (keeper_place.c).
 */
#include "role/worker.h"

#include "proc/spawn.h"

static void on_late(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_orphaned();
}

void sd_worker_orphaned(struct sd_worker *w)
{
	if (!w->said_ready || !sd_db_is_up(w->db))
		sd_orphaned();
	if (w->orphaned)
		return;
	w->orphaned = true;
	ev_io_stop(w->loop, &w->chan_io);
	ev_timer_stop(w->loop, &w->retry_timer); /* there is no later */
	ev_timer_init(&w->orphan_timer, on_late, SD_LINGER_SECONDS, 0.);
	ev_timer_start(w->loop, &w->orphan_timer);
	sd_worker_take_finished(w);
	sd_worker_recall(w);
	sd_worker_pump(w);
}

void sd_worker_orphan_goes(struct sd_worker *w)
{
	if (!sd_db_is_up(w->db))
		sd_orphaned();
	if (w->busy || w->releasing > 0 || w->finished.n > 0)
		return;
	if (sd_worker_start_is_told(w))
		sd_orphaned();
}
