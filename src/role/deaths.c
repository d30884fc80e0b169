/* Deaths on their way to the keeper; see deaths.h. */
#include "role/deaths.h"
#include "base/mem.h"

#include <stdlib.h>

struct sd_death_entry {
	struct sd_death_entry *next;
	struct sd_msg_death death;
	int told; /* pid of the keeper it was sent to; 0: none */
};

void sd_deaths_add(struct sd_deaths *d, const struct sd_msg_death *death)
{
	struct sd_death_entry *e = sd_xcalloc(1, sizeof *e);

	e->death = *death;
	e->death.serial = ++d->serial;
	if (d->last != NULL)
		d->last->next = e;
	else
		d->first = e;
	d->last = e;
	d->n++;
}

void sd_deaths_send(struct sd_deaths *d, int chan, int keeper_pid)
{
	for (struct sd_death_entry *e = d->first; e != NULL; e = e->next) {
		struct sd_msg msg = {.type = SD_MSG_DEATH, .serial = e->death.serial};
		struct sd_err err;

		if (e->told == keeper_pid)
			continue;
		msg.death = e->death;
		if (sd_chan_send(chan, &msg, &err) != 0)
			return; /* full, or it is dying: the next tick or the next keeper */
		e->told = keeper_pid;
	}
}

void sd_deaths_ack(struct sd_deaths *d, uint64_t serial)
{
	struct sd_death_entry *before = NULL;

	for (struct sd_death_entry *e = d->first; e != NULL; before = e, e = e->next) {
		if (e->death.serial != serial)
			continue;
		if (before != NULL)
			before->next = e->next;
		else
			d->first = e->next;
		if (d->last == e)
			d->last = before;
		d->n--;
		free(e);
		return;
	}
}

void sd_deaths_fini(struct sd_deaths *d)
{
	while (d->first != NULL) {
		struct sd_death_entry *e = d->first;

		d->first = e->next;
		free(e);
	}
	*d = (struct sd_deaths){0};
}
