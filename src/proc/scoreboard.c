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
