/*
 * Looking at the scoreboard: attempts past their deadline or cancelled are
 * ended, workers that did their share of jobs or grew too big are replaced,
 * gently: the new one is up before the old one is asked to drain.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void look_at_attempt(struct sd_kid *kid, const struct sd_seen *seen, int64_t now_us)
{
	int reason = sd_watch_decide(&kid->watch, seen, now_us, kid->grace_us);

	if (reason == SD_SLOT_REASON_NONE || (kid->state != SD_KID_READY && kid->state != SD_KID_DRAINING))
		return;
	if (seen->job != 0)
		sd_log(SD_LOG_WARN, "%s (pid %d): job %lld %s; ending it", kid->name, kid->pid, (long long)seen->job,
		       reason == SD_SLOT_REASON_TIMEOUT ? "is past its timeout" : "was cancelled and goes on");
	else
		sd_log(SD_LOG_WARN, "%s (pid %d): an HTTP request is past its timeout; ending it", kid->name, kid->pid);
	sd_kid_end(kid, reason, seen->job);
}

/* Resident bytes, 0 when unknown.  The file is the kernel's, the digits are still read with care. */
static int64_t resident(pid_t pid)
{
	char path[40], text[128], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	strtoll(text, &p, 10);
	return strtoll(p, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static bool one_is_being_replaced(const struct sd_super *su, const struct sd_group *group)
{
	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group == group && (k->superseded || k->state == SD_KID_STARTING))
			return true;
	return false;
}

static void look_at_wear(struct sd_kid *kid, const struct sd_seen *seen, int64_t now_us, bool slow)
{
	const struct sd_conf_pool *pool = kid->group->pool;
	int64_t rss = 0;
	bool worn = pool->max_jobs > 0 && seen->jobs_done >= (uint64_t)pool->max_jobs;
	bool old = pool->max_age_ms > 0 && now_us - kid->ready_us >= pool->max_age_ms * 1000;

	if (slow && pool->max_rss > 0)
		rss = resident(kid->pid);
	if (!worn && !old && rss <= pool->max_rss)
		return;
	if (one_is_being_replaced(kid->su, kid->group))
		return; /* one at a time: each costs a database connection twice over */
	kid->superseded = true;
	if (worn)
		sd_log(SD_LOG_DEBUG, "%s (pid %d) did %llu jobs: replacing it", kid->name, kid->pid,
		       (unsigned long long)seen->jobs_done);
	else if (old)
		sd_log(SD_LOG_DEBUG, "%s (pid %d) is older than maxAge: replacing it", kid->name, kid->pid);
	else
		sd_log(SD_LOG_INFO, "%s (pid %d) has %lld MiB resident, more than maxRss: replacing it", kid->name, kid->pid,
		       (long long)(rss >> 20));
}

void sd_enforce(struct sd_super *su, int64_t now_us, bool slow)
{
	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		struct sd_seen seen;

		if (!sd_roles[k->group->role].holds_jobs)
			continue;
		sd_slot_look(&su->sb->slot[k->slot], now_us, &seen);
		look_at_attempt(k, &seen, now_us);
		if (k->state == SD_KID_READY && !k->superseded && k->group->gen->state == SD_GEN_LIVE && !sd_super_stopping(su))
			look_at_wear(k, &seen, now_us, slow);
	}
}
