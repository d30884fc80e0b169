/*
 * An attempt's memory.  One attempt object serves many jobs in turn: its arena
 * and buffers keep their memory over a reset, unless a job made them large.
 */
#include "step/attempt.h"
#include "step/overlay.h"

#include <stdlib.h>
#include <string.h>

#define KEEP (256 * 1024) /* a buffer that grew past this is given back */

struct sd_attempt *sd_attempt_new(void)
{
	struct sd_attempt *a = sd_xcalloc(1, sizeof *a);

	a->arena = sd_arena_new();
	a->delay_ms = -1;
	return a;
}

void sd_attempt_reset(struct sd_attempt *a)
{
	struct sd_attempt kept;

	sd_overlay_free(a->overlay);
	sd_buf_empty(&a->enqueues, KEEP);
	sd_buf_empty(&a->states, KEEP);
	sd_buf_empty(&a->logs, KEEP);
	sd_arena_reset(a->arena);
	kept = *a;
	memset(a, 0, sizeof *a);
	a->arena = kept.arena;
	a->enqueues = kept.enqueues;
	a->states = kept.states;
	a->logs = kept.logs;
	a->delay_ms = -1;
}

void sd_attempt_free(struct sd_attempt *a)
{
	if (a == NULL)
		return;
	sd_overlay_free(a->overlay);
	sd_buf_fini(&a->enqueues);
	sd_buf_fini(&a->states);
	sd_buf_fini(&a->logs);
	sd_arena_free(a->arena);
	free(a);
}
