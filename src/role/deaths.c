/* Deaths on their way to the keeper; see deaths.h. */
#include "role/deaths.h"
#include "base/clock.h"
#include "base/mem.h"
#include "role/limit.h"
#include "proc/scoreboard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool sd_death_of_limit(const struct sd_msg_death *d)
{
	return d->reason == SD_SLOT_REASON_TIMEOUT || d->reason == SD_SLOT_REASON_MEMORY || d->reason == SD_SLOT_REASON_CPU;
}

void sd_death_describe(const struct sd_msg_death *d, char *out, size_t size)
{
	const char *name = d->signal > 0 ? sigabbrev_np(d->signal) : NULL;
	char how[64], limit[SD_LIMIT_TEXT];

	if (d->signal > 0)
		snprintf(how, sizeof how, "killed by signal %d%s%s%s", d->signal, name ? " (SIG" : "", name ? name : "", name ? ")" : "");
	else
		snprintf(how, sizeof how, "exited with status %d", d->exit_code);
	switch (d->reason) {
	case SD_SLOT_REASON_TIMEOUT:
		snprintf(out, size, "timed out after %lld ms, %s", (long long)((d->died_us - d->started_us) / SD_MS), how);
		break;
	case SD_SLOT_REASON_CANCEL:
		snprintf(out, size, "cancelled while it ran, %s", how);
		break;
	case SD_SLOT_REASON_MEMORY:
	case SD_SLOT_REASON_CPU:
		snprintf(out, size, "%s, %s", sd_limit_text(d->reason, d->limit, d->used, limit), how);
		break;
	case SD_SLOT_REASON_STOP:
		snprintf(out, size, "the daemon stopped and did not wait longer, %s", how);
		break;
	default:
		snprintf(out, size, "the worker %s%s", d->signal > 0 ? "was " : "", how);
	}
}
