/*
 * Who serves which request next.  Lists and arithmetic only: no sockets, no
 * clock of its own.
 *
 * A *flight* is a request on its way through a web worker; a *backend* is one
 * web worker.  Flights wait in order of arrival until a backend may take one.
 * An idle backend always may.  A busy one may take a few more, so that its
 * thread need not sleep between two short handlers, but only while what it
 * already has is expected to be done within SD_DISPATCH_AHEAD_US.  (Should
 * that guess prove wrong, the worker gives back what has not started.)  With
 * one request at a time each way, a trivial handler reaches 0.15 of bare h2o's
 * rate; with 16 ahead 0.6 (2 workers, 64 connections, 2 cores with the client).
 */
#ifndef SD_HTTP_DISPATCH_H
#define SD_HTTP_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_DISPATCH_AHEAD_US 400
#define SD_DISPATCH_MAX_AHEAD 16
#define SD_DISPATCH_UNKNOWN_US 10000 /* what a step is taken to need before it ran once */

struct sd_backend;

struct sd_flight {
	struct sd_flight *prev, *next; /* in waiting, or in the backend's list */
	struct sd_backend *backend;    /* NULL: waits */
	uint64_t seq;		       /* order of arrival */
	uint64_t id;		       /* of the frame; new at each dispatch, rising */
	uint32_t step;
	int64_t expected_us; /* as counted in the backend's load */
	int64_t deadline_us;
};

struct sd_flight_list {
	struct sd_flight *head, *tail;
	size_t n;
};

struct sd_backend {
	struct sd_backend *next;
	struct sd_flight_list flights; /* by id, rising */
	int64_t load_us;	       /* expected time of all of them */
	bool usable;		       /* may be given requests */
};

struct sd_dispatch {
	struct sd_flight_list waiting; /* by seq, rising */
	struct sd_backend *backends;
	uint64_t last_seq, last_id;
	int64_t *step_us; /* moving average of each step's handler; 0: never ran */
	size_t nsteps;
};

/* first_id: ids start behind it; from the clock, so that a new http process does not repeat an old one's. */
void sd_dispatch_init(struct sd_dispatch *d, size_t nsteps, uint64_t first_id);
void sd_dispatch_fini(struct sd_dispatch *d);
void sd_dispatch_attach(struct sd_dispatch *d, struct sd_backend *b);
void sd_dispatch_detach(struct sd_dispatch *d, struct sd_backend *b); /* its flights stay in its list */

void sd_dispatch_add(struct sd_dispatch *d, struct sd_flight *f); /* a new request waits */
/* The next waiting flight and the backend that may take it now; the flight moves into its list with a new id.  NULL: nobody waits or all are busy. */
struct sd_flight *sd_dispatch_next(struct sd_dispatch *d);
/* Wait again, at the place of its arrival. */
void sd_dispatch_return(struct sd_dispatch *d, struct sd_flight *f);
/* Out of every list. */
void sd_dispatch_remove(struct sd_dispatch *d, struct sd_flight *f);
/* Remember how long its handler ran. */
void sd_dispatch_learn(struct sd_dispatch *d, uint32_t step, int64_t us);
struct sd_flight *sd_backend_find(const struct sd_backend *b, uint64_t id);

#endif
