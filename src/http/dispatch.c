/* Who serves which request next. */
#include "http/dispatch.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void unlink_flight(struct sd_flight_list *l, struct sd_flight *f)
{
	*(f->prev ? &f->prev->next : &l->head) = f->next;
	*(f->next ? &f->next->prev : &l->tail) = f->prev;
	f->prev = f->next = NULL;
	l->n--;
}

/* Put f behind `after`; NULL: at the front. */
static void link_behind(struct sd_flight_list *l, struct sd_flight *after, struct sd_flight *f)
{
	f->prev = after;
	f->next = after ? after->next : l->head;
	*(f->prev ? &f->prev->next : &l->head) = f;
	*(f->next ? &f->next->prev : &l->tail) = f;
	l->n++;
}

void sd_dispatch_init(struct sd_dispatch *d, size_t nsteps, uint64_t first_id)
{
	memset(d, 0, sizeof(*d));
	d->last_id = first_id;
	d->nsteps = nsteps;
	d->step_us = sd_xcalloc(nsteps, sizeof(*d->step_us));
}

void sd_dispatch_fini(struct sd_dispatch *d)
{
	free(d->step_us);
	memset(d, 0, sizeof(*d));
}

void sd_dispatch_attach(struct sd_dispatch *d, struct sd_backend *b)
{
	b->next = d->backends;
	d->backends = b;
}

void sd_dispatch_detach(struct sd_dispatch *d, struct sd_backend *b)
{
	for (struct sd_backend **p = &d->backends; *p; p = &(*p)->next) {
		if (*p == b) {
			*p = b->next;
			return;
		}
	}
}

void sd_dispatch_add(struct sd_dispatch *d, struct sd_flight *f)
{
	f->seq = ++d->last_seq;
	f->backend = NULL;
	link_behind(&d->waiting, d->waiting.tail, f);
}

static bool may_take(const struct sd_backend *b)
{
	return b->usable && (b->flights.n == 0 || (b->load_us < SD_DISPATCH_AHEAD_US && b->flights.n < SD_DISPATCH_MAX_AHEAD));
}

struct sd_flight *sd_dispatch_next(struct sd_dispatch *d)
{
	struct sd_flight *f = d->waiting.head;
	struct sd_backend *best = NULL;

	if (!f)
		return NULL;
	for (struct sd_backend *b = d->backends; b; b = b->next)
		if (may_take(b) && (!best || b->flights.n < best->flights.n))
			best = b;
	if (!best)
		return NULL;
	unlink_flight(&d->waiting, f);
	f->backend = best;
	f->id = ++d->last_id;
	f->expected_us = f->step < d->nsteps && d->step_us[f->step] ? d->step_us[f->step] : SD_DISPATCH_UNKNOWN_US;
	best->load_us += f->expected_us;
	link_behind(&best->flights, best->flights.tail, f);
	return f;
}

void sd_dispatch_remove(struct sd_dispatch *d, struct sd_flight *f)
{
	if (f->backend) {
		f->backend->load_us -= f->expected_us;
		unlink_flight(&f->backend->flights, f);
		f->backend = NULL;
	} else {
		unlink_flight(&d->waiting, f);
	}
}

void sd_dispatch_return(struct sd_dispatch *d, struct sd_flight *f)
{
	struct sd_flight *after = NULL;

	sd_dispatch_remove(d, f);
	for (struct sd_flight *w = d->waiting.head; w && w->seq < f->seq; w = w->next)
		after = w;
	link_behind(&d->waiting, after, f);
}

void sd_dispatch_learn(struct sd_dispatch *d, uint32_t step, int64_t us)
{
	int64_t *avg;

	if (step >= d->nsteps)
		return;
	avg = &d->step_us[step];
	if (us < 1)
		us = 1;
	if (us > SD_DISPATCH_UNKNOWN_US)
		us = SD_DISPATCH_UNKNOWN_US; /* so that one bad run is soon forgotten */
	*avg = *avg ? (*avg * 3 + us + 3) / 4 : us;
}

struct sd_flight *sd_backend_find(const struct sd_backend *b, uint64_t id)
{
	for (struct sd_flight *f = b->flights.head; f; f = f->next)
		if (f->id == id)
			return f;
	return NULL;
}
