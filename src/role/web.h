/*
 * Inside of a web worker; shared by the web*.c files only.
 *
 * Two threads, as in the queue worker.  The step thread (step/runner.h) runs
 * handlers one at a time.  The loop thread reads request frames from the http
 * process, gives attempts to the runner, answers the handler's state reads, and
 * stores what an attempt left behind, in one transaction.
 *
 * A request is settled before the next one begins: a handler that crashes
 * takes no other request's reply with it.  So the step thread itself replies
 * when there is nothing to store, and otherwise waits until the loop thread has
 * stored and replied.  That is why the output side of the connection, and it
 * alone, is shared by both threads, under `lock`.
 *
 * An attempt is in exactly one place: with the runner, in `storing`, or in `spare`.
 */
#ifndef SD_ROLE_WEB_H
#define SD_ROLE_WEB_H

#include "db/db.h"
#include "http/frame.h"
#include "http/reply.h"
#include "role/role.h"
#include "step/manifest.h"
#include "step/registry.h"
#include "step/runner.h"

#include <ev.h>
#include <pthread.h>

/* What belongs to an attempt beside it; in its arena. */
struct sd_web_call {
	struct sd_frame_request frame;
	uint64_t connection;  /* on which it came: its reply goes nowhere else */
	int64_t deadline_us;  /* INT64_MAX: none */
	bool replied;	      /* by the step thread */
	bool left, gone;      /* nobody waits for the reply: maybe, for certain; under the lock */
	size_t room;	      /* bytes of the stream that may be sent; under the lock */
	bool database_failed; /* a state read failed because the database was away */
	const char *error_id; /* NULL: no error */
};

struct sd_web {
	const struct sd_child *child;
	struct ev_loop *loop;
	struct sd_db_loop db_loop;
	struct sd_db_ev *db_ev;
	struct sd_db *db;
	struct sd_registry *registry;
	struct sd_runner *runner;
	struct sd_arena *arena;
	struct sd_manifest *manifest;

	ev_io chan_io, runner_io, read_io, write_io;
	ev_timer connect_timer; /* the http process is away: try again */
	ev_timer slow_timer;	/* nothing waits behind a slow handler */
	ev_timer retry_timer;	/* the database is away: try again */
	ev_timer beat_timer;
	ev_prepare turn;
	ev_signal term;

	pthread_mutex_t lock; /* sock, connection, out, sent: written under it; the loop thread reads sock and connection without */
	int sock;	      /* to the http process; -1: not connected */
	uint64_t connection;  /* counts connections */
	struct sd_buf out;
	size_t sent; /* of out */
	pthread_cond_t room; /* a stream has room again, or nobody reads it */
	ev_async full;	     /* the step thread could not send all of out */

	bool welcome; /* there is an http process at the other end */
	struct sd_buf in;
	size_t running;		    /* attempts with the runner */
	struct sd_attempt *storing; /* ran; its effects are to be stored, then it is answered, then the runner goes on */
	int64_t storing_since_us;
	bool asked; /* the database was asked to store it */
	struct sd_attempt *spare;
	size_t nspare;
	bool said_ready, draining, ending;
	bool unrecorded; /* a request ran too long, and that could not be stored */
};

static inline struct sd_web_call *sd_web_call_of(const struct sd_attempt *a)
{
	return (struct sd_web_call *)((char *)a->http - offsetof(struct sd_web_call, frame.http));
}

/* web.c */
void sd_web_settle(struct sd_web *w); /* look whether it is time to say ready or to leave */
void sd_web_forget(struct sd_web *w, struct sd_attempt *a); /* into spare */

/* web_link.c: the connection to the http process. */
void sd_web_connect(struct sd_web *w);
void sd_web_reply(struct sd_web *w, const struct sd_attempt *a, const struct sd_frame_reply *r); /* either thread; written at once if possible */
bool sd_web_write_locked(struct sd_web *w); /* the lock is held; false: out is not empty */
void sd_web_bye(struct sd_web *w);
void sd_web_give_back(struct sd_web *w); /* return what has not started */
void sd_web_write(struct sd_web *w);	 /* what is left in out */
void sd_web_link_init(struct sd_web *w);

/* web_stream.c: replies in pieces. */
void sd_web_stream_init(struct sd_web *w);
void sd_web_end(struct sd_web *w, const struct sd_attempt *a, bool complete); /* either thread */
bool sd_web_hear(struct sd_web *w, enum sd_frame_type type, const char *p, size_t size); /* a frame about the running request; false: it is none */

/* web_commit.c: outcomes. */
bool sd_web_ended(void *arg, struct sd_attempt *a); /* the runner's hook, in the step thread: reply if nothing is to be stored */
void sd_web_finished(struct sd_web *w, struct sd_attempt *a); /* it ran: store what is to be stored, then reply */
void sd_web_store(struct sd_web *w);			      /* try what is in storing, unless the database has been asked */
void sd_web_timed_out(struct sd_web *w, const struct sd_attempt *a, const char *why); /* record that a passed a limit (NULL: its time); w->asked until that is done */
void sd_web_answer(struct sd_web *w, struct sd_ask *ask);
#endif
