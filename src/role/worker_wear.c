/*
 * Wear: a worker that has done its share of jobs, or holds more memory than its
 * pool allows between jobs, takes no more and asks to be replaced.
 *
 * maxJobs is never exceeded: what is claimed counts, less what is given back.
 * Where it is large the worker asks a fifth before, goes on until its successor
 * is up, and so nothing waits for that one to start.
 *
 * Memory is looked at whenever the loop sees that jobs have ended, which is
 * within milliseconds; what is left of the batch goes back.  The supervisor
 * looks too, once a second, for what children of a handler hold.
 */
#include "role/worker.h"

#include "base/log.h"
#include "conf/conf.h"
#include "proc/scoreboard.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define EARLY_FROM 1000

static const struct sd_conf_pool *pool_of(const struct sd_worker *w)
{
	return &w->child->conf->pools[atomic_load(&w->child->slot->pool)];
}

static void ask_for_successor(struct sd_worker *w)
{
	struct sd_msg msg = {.type = SD_MSG_WORN};
	struct sd_err err;

	if (w->asked_for_successor)
		return;
	w->asked_for_successor = true;
	if (sd_chan_send(w->child->chan, &msg, &err) != 0)
		sd_log(SD_LOG_DEBUG, "to be replaced not told: %s", err.message); /* the supervisor looks, too */
}

int64_t sd_worker_jobs_left(const struct sd_worker *w)
{
	int64_t max = pool_of(w)->max_jobs;

	return max == 0 ? INT64_MAX : w->taken < max ? max - w->taken : 0;
}

void sd_worker_took(struct sd_worker *w, int64_t n)
{
	int64_t max = pool_of(w)->max_jobs, soon = max < EARLY_FROM ? max : max / 5 * 4;

	w->taken += n;
	if (max > 0 && w->taken >= soon)
		ask_for_successor(w);
}

bool sd_worker_is_worn(const struct sd_worker *w)
{
	return w->too_big || sd_worker_jobs_left(w) == 0;
}

/* Resident bytes of this process; 0 when unknown. */
static int64_t resident(void)
{
	char text[128], *p;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	strtoll(text, &p, 10);
	return strtoll(p, NULL, 10) * sysconf(_SC_PAGESIZE);
}

bool sd_worker_outgrew(struct sd_worker *w)
{
	const struct sd_conf_pool *pool = pool_of(w);
	int64_t holds;

	if (w->too_big || (pool->max_rss == 0 && pool->max_memory == 0))
		return false;
	holds = resident();
	if ((pool->max_rss == 0 || holds <= pool->max_rss) && (pool->max_memory == 0 || holds <= pool->max_memory / 4 * 3))
		return false;
	w->too_big = true;
	sd_log(SD_LOG_INFO, "holds %lld MiB, more than %s: is to be replaced", (long long)(holds >> 20),
	       pool->max_rss > 0 && holds > pool->max_rss ? "maxRss" : "three quarters of maxMemory");
	ask_for_successor(w);
	return true;
}
