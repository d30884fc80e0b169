/*
 * Wear: a worker that has done its share of jobs, or holds more memory than its
 * pool allows between two of them, takes no more; when it has nothing left to
 * run and to tell it asks to be replaced, and goes.
 *
 * maxJobs is never exceeded: what is claimed counts, less what is given back.
 *
 * Memory is looked at by the step thread after a handler, at most every few
 * milliseconds: what the next one needs is not counted, nor what files are
 * mapped.  What is left of the batch goes back.  The supervisor looks too, once
 * a second, for what a handler's processes hold.  Who is too big from the start
 * is left to it: a new one would be no smaller.
 */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "conf/conf.h"
#include "proc/scoreboard.h"
#include "proc/usage.h"

#include <unistd.h>

#define LOOK_US (5 * SD_MS)
#define AGAIN_SECONDS 0.1

static const struct sd_conf_pool *pool_of(const struct sd_worker *w)
{
	return &w->child->conf->pools[atomic_load(&w->child->slot->pool)];
}

int64_t sd_worker_jobs_left(const struct sd_worker *w)
{
	int64_t max = pool_of(w)->max_jobs;

	return max == 0 ? INT64_MAX : w->taken < max ? max - w->taken : 0;
}

bool sd_worker_is_worn(const struct sd_worker *w)
{
	return atomic_load(&w->too_big) || sd_worker_jobs_left(w) == 0;
}

/* By the step thread. */
static bool may_go_on(void *arg, struct sd_attempt *a)
{
	struct sd_worker *w = arg;
	const struct sd_conf_pool *pool = pool_of(w);
	int64_t now = sd_now_us(), holds;

	(void)a;
	if (now - w->looked_us < LOOK_US)
		return true;
	w->looked_us = now;
	holds = sd_usage_resident(getpid(), false);
	if (holds <= w->memory_limit)
		return true;
	sd_log(SD_LOG_INFO, "holds %lld MiB, more than %s: is to be replaced", (long long)(holds >> 20),
	       w->memory_limit == pool->max_rss ? "maxRss" : "three quarters of maxMemory");
	atomic_store(&w->too_big, true);
	return false;
}

void sd_worker_watch_memory(struct sd_worker *w)
{
	const struct sd_conf_pool *pool = pool_of(w);
	int64_t most = pool->max_memory / 4 * 3;

	w->memory_limit = pool->max_rss != 0 && (most == 0 || pool->max_rss < most) ? pool->max_rss : most;
	if (w->memory_limit != 0 && sd_usage_resident(getpid(), false) < w->memory_limit)
		sd_runner_set_hook(w->runner, may_go_on, w);
}

void sd_worker_retire(struct sd_worker *w)
{
	uint64_t one;

	if (atomic_load(&w->too_big))
		sd_worker_recall(w);
	if (!sd_worker_stopping(w) && atomic_exchange(&w->child->slot->asleep, SD_AWAKE) != SD_AWAKE &&
	    read(w->wake_io.fd, &one, sizeof one) == sizeof one)
		sd_worker_hand_over(w);
	w->sleeping = false;
}

void sd_worker_replace_if_done(struct sd_worker *w, bool idle)
{
	struct sd_msg msg = {.type = SD_MSG_WORN};
	struct sd_err err;

	if (!sd_worker_is_worn(w) || !idle || w->busy || w->lost_claim || w->releasing > 0 || w->finished.n + w->sending.n > 0 ||
	    sd_worker_stopping(w) || w->asked_for_successor)
		return;
	w->asked_for_successor = sd_chan_send(w->child->chan, &msg, &err) == 0;
	if (!w->asked_for_successor)
		sd_worker_retry_later(w, AGAIN_SECONDS);
}
