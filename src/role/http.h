/*
 * Inside of the http process; shared by the http*.c files of this folder only.
 *
 * One thread, one loop (http/server.h).  A request of the public listener
 * becomes a flight: it waits in the dispatcher, goes to a web worker as a
 * frame, and comes back as a reply frame, as a returned one (to be sent to
 * another worker), or not at all when its worker dies.
 *
 * A flight outlives its exchange when the client leaves or the time is over:
 * its worker still has it.  Then x is NULL and what comes back is dropped.
 */
#ifndef SD_ROLE_HTTP_H
#define SD_ROLE_HTTP_H

#include "db/db.h"
#include "http/dispatch.h"
#include "http/frame.h"
#include "http/metrics.h"
#include "http/router.h"
#include "http/server.h"
#include "http/token.h"
#include "proc/chan.h"
#include "role/role.h"
#include "step/manifest.h"

struct sd_http_flight {
	struct sd_flight f; /* first */
	struct sd_exchange *x;
	struct sd_arena *arena;
	struct sd_frame_request frame;
	char trace_id[37], error_id[37]; /* error_id: "" until it is to run */
	struct sd_http_flight *spare_next;

	bool streaming;	 /* a part of the reply was sent */
	size_t untaken;	 /* bytes of the stream that the client did not take yet */
	uint32_t credit; /* bytes it took that the worker was not told of */

	bool accepted; /* it is in one of the accept lists, not in the dispatcher */
	const char *data; /* the body as JSON: always kept of an accepted one; NULL: there is none */
	size_t data_len;
	const char *key; /* Idempotency-Key; NULL: none */
	uint64_t job_id;    /* accepted: once it is committed.  asks: the job */
	bool asks;	    /* for a job's status */
	int wait_s;	    /* Prefer: wait; 0: not */
	int64_t wait_until_us;
	size_t batch_most; /* accepted: no more than so many in its statement; 0: any number */
	struct sd_http_flight *accept_next;
};

struct sd_http_accept_list {
	struct sd_http_flight *head, *tail;
};

static inline void sd_http_list_append(struct sd_http_accept_list *l, struct sd_http_flight *fl)
{
	fl->accept_next = NULL;
	*(l->tail ? &l->tail->accept_next : &l->head) = fl;
	l->tail = fl;
}

static inline struct sd_http_flight *sd_http_list_take(struct sd_http_accept_list *l)
{
	struct sd_http_flight *fl = l->head;

	if (fl) {
		l->head = fl->accept_next;
		if (!l->head)
			l->tail = NULL;
	}
	return fl;
}

/* Who wants to know what became of a job: they wait to be asked for, or the database is being asked. */
struct sd_http_jobs {
	struct sd_http_accept_list waiting, asked;
	size_t nasked;
	bool busy;	 /* the database is being asked */
	int64_t poll_us; /* when to ask next */
	bool key_known;
	unsigned char key[SD_TOKEN_KEY];
};

/* Requests that become jobs: they wait for the next commit, or are in the one under way. */
struct sd_http_batch {
	struct sd_http *http;
	struct sd_http_db *db;
	struct sd_http_accept_list asked;
	size_t nasked; /* 0: no commit is under way */
};

#define SD_HTTP_BATCHES 2

struct sd_http_accept {
	struct sd_http_accept_list waiting;
	size_t nwaiting;
	struct sd_http_batch batches[SD_HTTP_BATCHES]; /* each on its own connection */
	bool due; /* look at waiting at the end of this turn */
	struct sd_input **inputs; /* of each step; their schemas are pure data, nothing of a step is loaded here */
};

/* An own database connection. */
struct sd_http_db {
	struct sd_http *http;
	struct sd_db *db;
	struct sd_watch *epoll;
	int fd;		/* in epoll; -1: none */
	int64_t due_us; /* of the timer; INT64_MAX: not set */
	int64_t patience_us;
	bool was_up;
};

/* The connection of one web worker. */
struct sd_http_worker {
	struct sd_backend b; /* first */
	struct sd_http *http;
	struct sd_http_worker *next;
	struct sd_watch *watch;
	struct sd_buf in, out;
	size_t sent;	 /* of out */
	pid_t pid;
	bool greeted;	 /* the hello came */
	bool leaving;	 /* it said goodbye */
	bool dirty;	 /* out is to be written at the end of this turn */
	bool dead;	 /* to be freed at the end of this turn */
	bool blocked;	 /* its socket is full */
	uint32_t slot, generation;
	int64_t since_us; /* of the connection; of the goodbye when leaving */
};

#define SD_HTTP_READERS 16
#define SD_HTTP_DEATHS 16

/* What /metrics says about queues. */
struct sd_http_depths {
	struct sd_buf text;
	int64_t at_us; /* when it was asked for; 0: text is empty */
	struct sd_exchange *readers[SD_HTTP_READERS]; /* wait for it */
	size_t nreaders;
	bool busy; /* the database was asked */
};

struct sd_http {
	const struct sd_child *child;
	struct sd_server *server;
	struct sd_arena *arena; /* manifest and routes */
	struct sd_manifest *manifest;
	struct sd_router *router;
	struct sd_dispatch dispatch;
	struct sd_http_worker *workers;
	struct sd_http_flight *spare;
	size_t nspare, in_flight; /* exchanges that wait for an answer */
	struct sd_http_metrics metrics;
	struct sd_http_db db, second; /* second: for every other batch of accepted requests, nothing else */
	struct sd_http_accept accept;
	struct sd_http_jobs jobs;
	struct sd_http_depths depths;
	struct sd_http_lost *lost; /* requests whose worker died, to be recorded */
	size_t nlost;
	struct sd_msg_death deaths[SD_HTTP_DEATHS]; /* the last ones of web workers, a ring */
	size_t ndeaths;
	struct sd_arena *scratch; /* for the decoding of one frame */
	struct sd_watch *web_listener, *chan, *term;
	uint64_t random[2]; /* of the span ids */
	int64_t now_us;	    /* at the start of the turn */
	int64_t stranger_us; /* when a stranger at the workers' socket was last told of; 0: never */
	bool draining, dispatch_due;
};

/* http_request.c: a request's way to the dispatcher and back to its client. */
void sd_http_request(struct sd_http *h, struct sd_exchange *x);
void sd_http_gone(struct sd_http *h, struct sd_exchange *x);
size_t sd_http_headers(struct sd_http *h, struct sd_http_flight *fl, const struct sd_frame_reply *r, struct sd_pair **headers); /* of a reply, with our own */
struct sd_exchange *sd_http_detach(struct sd_http *h, struct sd_http_flight *fl); /* it is being answered, or gone */
void sd_http_answer(struct sd_http *h, struct sd_http_flight *fl, const struct sd_frame_reply *r);
void sd_http_answer_error(struct sd_http *h, struct sd_http_flight *fl, int status, const char *code, const char *message);
void sd_http_answer_failed(struct sd_http *h, struct sd_http_flight *fl, int status, const char *code, const char *message); /* with its error id, which is logged */
void sd_http_forget(struct sd_http *h, struct sd_http_flight *fl); /* out of the dispatcher, into spare; an accepted one is in no list any more */
void sd_http_expire(struct sd_http *h);	/* answer those whose time is over, or whose database is away */

/* http_worker.c: connections of web workers. */
void sd_http_lose(struct sd_http_worker *w, const char *why); /* it is of no more use; NULL: that is no news */
/* The head of a reply to a request that has none yet; NULL: it is none, and w is lost. */
struct sd_http_flight *sd_http_reply_begins(struct sd_http_worker *w, sd_frame_get_head *get, const char *p, size_t size, struct sd_frame_reply *r);
struct sd_http_flight *sd_http_flight_of(struct sd_http_worker *w, uint64_t id); /* NULL: it has none of that id, and is lost */
void sd_http_accept_workers(void *arg);
void sd_http_dispatch(struct sd_http *h);	/* send waiting requests to workers that may take them */
void sd_http_flush_workers(struct sd_http *h);	/* write what this turn put together; bury the dead */
void sd_http_check_workers(struct sd_http *h);	/* now and then: late greetings, goodbyes, database state */
void sd_http_stop_workers(struct sd_http *h);	/* we drain: tell them */
bool sd_http_database_away(const struct sd_http *h);

/* http_stream.c: replies in pieces, and clients that leave. */
void sd_http_stream_frame(struct sd_http_worker *w, enum sd_frame_type type, const char *p, size_t size);
void sd_http_stream_taken(struct sd_http *h, struct sd_exchange *x, size_t n);
void sd_http_tell_gone(struct sd_http_flight *fl); /* its worker, that nobody waits */
void sd_http_look_for_gone(struct sd_http *h);	   /* now and then */

/* http_death.c: requests whose worker died. */
void sd_http_worker_died(struct sd_http *h, const struct sd_http_worker *w, struct sd_http_flight *fl, int64_t started_us); /* fl was running: answer and record it */
void sd_http_death(struct sd_http *h, const struct sd_msg_death *d); /* the supervisor's word about a web worker */
void sd_http_deaths_turn(struct sd_http *h);

/* http_accept.c: requests that become jobs. */
bool sd_http_accept_key(struct sd_http_flight *fl); /* note its Idempotency-Key; false: it is none */
int sd_http_accept_init(struct sd_http *h, struct sd_err *err) SD_MUST_CHECK;
bool sd_http_accepts(const struct sd_http *h); /* some route does */
void sd_http_accept_add(struct sd_http *h, struct sd_http_flight *fl);
void sd_http_accept_turn(struct sd_http *h); /* begin the next commit */
void sd_http_accept_up(struct sd_http *h);
void sd_http_accept_down(struct sd_http *h); /* the database is away: answer who waits */
void sd_http_accept_expire(struct sd_http *h);

/* http_jobs.c: what became of them. */
void sd_http_jobs_up(struct sd_http *h);
const char *sd_http_jobs_token(const struct sd_http *h, const struct sd_exchange *x); /* of a path that is a job's; NULL: it is none */
bool sd_http_jobs_read(const struct sd_http *h, const char *token, uint64_t *id);     /* false: none of ours */
void sd_http_jobs_ask(struct sd_http *h, struct sd_http_flight *fl);		      /* and answer */
void sd_http_jobs_prefer(struct sd_http *h, struct sd_http_flight *fl);		      /* note how long it wants to wait */
bool sd_http_jobs_wait(struct sd_http *h, struct sd_http_flight *fl);		      /* its job is committed; false: do not wait */
void sd_http_jobs_accepted(struct sd_http *h, struct sd_http_flight *fl);	      /* answer 202 */
void sd_http_jobs_turn(struct sd_http *h);

/* http_db.c: the database connections. */
int sd_http_db_start(struct sd_http *h, struct sd_err *err) SD_MUST_CHECK;
bool sd_http_db_away(const struct sd_http *h); /* down, and not for the first moment of this process */
void sd_http_db_turn(struct sd_http *h, int64_t now_us); /* the timers */
int64_t sd_http_db_due(const struct sd_http *h); /* when that is needed next; INT64_MAX: not at all */

/* http_tls.c: *tls is NULL when TLS is off. */
int sd_http_tls(const struct sd_child *child, struct ssl_ctx_st **tls, struct sd_err *err) SD_MUST_CHECK;

/* http_cors.c: what is to be added to the reply to x; n of out are used. */
#define SD_HTTP_CORS_HEADERS 6
size_t sd_http_cors(const struct sd_http *h, const struct sd_exchange *x, const char *allow, struct sd_pair out[SD_HTTP_CORS_HEADERS]);

/* http_admin.c: /health, /ready and /metrics. */
void sd_http_admin(struct sd_http *h, struct sd_exchange *x);
void sd_http_metrics_reply(struct sd_http *h, struct sd_exchange *x);

/* http_depths.c: the part of /metrics that the database knows. */
void sd_http_metrics_request(struct sd_http *h, struct sd_exchange *x); /* replies now or when the database has answered */
void sd_http_metrics_gone(struct sd_http *h, const struct sd_exchange *x);

#endif
