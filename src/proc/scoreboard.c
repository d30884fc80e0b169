/*
 * The scoreboard's memory: one anonymous shared mapping.  Nothing of it has a
 * name, so nothing of it can be left behind.
 */
#include "proc/scoreboard.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static size_t size_of(uint32_t nslots)
{
	return sizeof(struct sd_scoreboard) + (size_t)nslots * sizeof(struct sd_slot);
}

struct sd_scoreboard *sd_scoreboard_new(uint32_t nslots, struct sd_err *err)
{
	struct sd_scoreboard *sb = mmap(NULL, size_of(nslots), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (sb == MAP_FAILED) {
		sd_err_errno(err, errno, "cannot map a scoreboard of %u slots", nslots);
		return NULL;
	}
	sb->nslots = nslots;
	return sb;
}

void sd_scoreboard_free(struct sd_scoreboard *sb)
{
	if (sb != NULL)
		munmap(sb, size_of(sb->nslots));
}

void sd_slot_look(const struct sd_slot *slot, int64_t now_us, struct sd_seen *seen)
{
	/* The deadline is written after the job and cleared before it: the job is the same before and after, or there is no deadline. */
	int64_t job = atomic_load(&slot->job);
	uint64_t request = atomic_load(&slot->request);

	*seen = (struct sd_seen){
		.job = job > 0 ? job : 0,
		.request = atomic_load(&slot->serving) ? request : 0,
		.cancel_job = atomic_load(&slot->cancel_job),
		.last_job = atomic_load(&slot->last_job),
		.attempt = atomic_load(&slot->attempt),
		.started_us = atomic_load(&slot->started_us),
		.deadline_us = atomic_load(&slot->deadline_us),
		.jobs_done = atomic_load(&slot->jobs_done),
	};
	if (atomic_load(&slot->job) != job || atomic_load(&slot->request) != request || seen->deadline_us < 0)
		seen->deadline_us = 0;
	if (seen->started_us <= 0 || seen->started_us > now_us)
		seen->started_us = 0;
	if (seen->last_job < 0)
		seen->last_job = 0;
	if (seen->attempt < 0)
		seen->attempt = 0;
}

uint32_t sd_slot_renew(struct sd_slot *slot)
{
	/* First, so that who reads a field and then the old generation again knows that the field was the old life's. */
	uint32_t generation = atomic_fetch_add(&slot->generation, 1) + 1;

	atomic_store(&slot->job, 0);
	atomic_store(&slot->last_job, 0);
	atomic_store(&slot->backend, 0);
	atomic_store(&slot->attempt, 0);
	atomic_store(&slot->step, 0);
	atomic_store(&slot->started_us, 0);
	atomic_store(&slot->deadline_us, 0);
	atomic_store(&slot->beat_us, 0);
	atomic_store(&slot->request, 0);
	atomic_store(&slot->serving, 0);
	atomic_store(&slot->jobs_done, 0);
	atomic_store(&slot->jobs_failed, 0);
	atomic_store(&slot->db_up, 0);
	atomic_store(&slot->asleep, SD_AWAKE);
	atomic_store(&slot->cancel_job, 0);
	atomic_store(&slot->relieved, 0);
	atomic_store(&slot->ending, 0);
	atomic_store(&slot->ending_run, 0);
	return generation;
}
