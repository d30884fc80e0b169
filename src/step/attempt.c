/*
 * An attempt's memory, and lists of attempts.  One attempt object serves many
 * jobs in turn: its arena and buffers keep their memory over a reset, unless a
 * job made them large.
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

void sd_attempt_drop_effects(struct sd_attempt *a)
{
	a->output = NULL;
	a->delay_ms = -1;
	sd_buf_reset(&a->enqueues);
	sd_buf_reset(&a->states);
	a->nenqueues = a->nstates = 0;
}

void sd_attempt_drop_words(struct sd_attempt *a)
{
	sd_buf_reset(&a->logs);
	a->nlogs = 0;
	a->progress = NULL;
}

void sd_chain_init(struct sd_chain *c)
{
	c->head = NULL;
	c->tail = &c->head;
	c->n = 0;
}

void sd_chain_append(struct sd_chain *c, struct sd_attempt *list)
{
	while (list != NULL) {
		*c->tail = list;
		c->tail = &list->next;
		c->n++;
		list = list->next;
	}
}

struct sd_attempt *sd_chain_take(struct sd_chain *c)
{
	struct sd_attempt *list = c->head;
	sd_chain_init(c);
	return list;
}
