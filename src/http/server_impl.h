/* Inside of the HTTP server; included by the server*.c only, the files that know h2o. */
#ifndef SD_HTTP_SERVER_IMPL_H
#define SD_HTTP_SERVER_IMPL_H

#include <netinet/in.h>
#include <netinet/tcp.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

#include "base/buf.h"
#include "http/h2guard.h"
#include "http/head.h"
#include "http/server.h"

#include <arpa/inet.h>

#define MAX_LISTENERS 4
#define MAX_LINGERERS 256
#define SMALL_INPUT 16384 /* bytes that are not worth counting */

struct listener {
	struct sd_server *server;
	enum sd_listener which;
	h2o_socket_t *sock;
};

/* What a connection is waited for.  Each has its own deadline, which ends the connection. */
enum wait {
	WAIT_NONE,  /* a request of it is being answered */
	WAIT_IDLE,  /* the first byte of a request */
	WAIT_HEAD,  /* the rest of a head, or a TLS handshake */
	WAIT_BODY,
	WAIT_COUNT
};

enum protocol { PROTO_UNKNOWN, PROTO_HTTP1, PROTO_HTTP2 }; /* unknown: h2o has not got the socket yet */

/* A connection of a client; freed when its socket is closed. */
struct client {
	struct sd_server *server;
	enum sd_listener which;
	enum protocol proto;
	h2o_socket_t *sock;
	h2o_socket_cb h2o_read; /* what h2o wants called; ours comes before it */
	int linger_fd;		/* -1: none */
	struct sd_scan scan;	/* HTTP/1 */
	size_t buffered;	/* bytes that are held for it */
	size_t unscanned;	/* bytes at the end of the input that scan has not consumed */
	uint64_t requests;	/* that h2o gave us */
	struct sd_h2_guard *guard; /* HTTP/2 */
	uint64_t windows;	/* HTTP/2: of guard, when last looked at */
	size_t streams;		/* HTTP/2: requests that h2o gave us and that are not over */
	size_t unsent;		/* HTTP/2: those among them whose reply is not wholly sent */
	int64_t progress_us;	/* HTTP/2: of sending them */
	int64_t active_us;	/* HTTP/2: something came, or a request ended */
	int64_t goaway_us;	/* HTTP/2: it was told to ask no more; 0: not */
	bool late;		/* HTTP/2: long after that it asked */
	enum wait wait;
	int64_t since_us; /* of wait */
	struct client *next, *prev; /* in server->waiting[wait] */
	bool to_hook;
	struct client *hook_next, *hook_prev;
	char *refusal; /* being sent by us */
	char remote[INET6_ADDRSTRLEN];
};

struct client_list {
	struct client *head, *tail;
};

struct lingerer;

struct sd_server {
	struct sd_server_options options;
	struct sd_scan_limits limits;
	struct sd_server_events events;
	h2o_globalconf_t conf;
	h2o_context_t ctx;
	h2o_accept_ctx_t accept[2]; /* by enum sd_listener */
	struct listener listeners[MAX_LISTENERS];
	size_t nlisteners, nlingerers;
	size_t buffered; /* of all clients */
	size_t nclients[2], max_clients[2]; /* by enum sd_listener: health and metrics answer when the public side is full */
	struct client_list waiting[WAIT_COUNT]; /* longest waiting first */
	struct client *to_hook;
	struct lingerer *lingerers; /* newest first */
	bool paused[2], draining;
	int64_t drain_us; /* since when, while draining */
	int64_t check_us;     /* when HTTP/2 connections are looked at next */
};

static inline h2o_socket_t *socket_of(h2o_req_t *req)
{
	return req->conn->callbacks->get_socket(req->conn);
}

static inline struct client *client_of(h2o_req_t *req)
{
	return socket_of(req)->on_close.data;
}

/* server_conn.c */
void sd_server_client_listen(struct listener *l);
/* h2o gave us a request of it; false: not one that was scanned (answer 400). */
bool sd_server_client_asked(struct client *c, h2o_req_t *req);
/* A reply to it was wholly given to h2o. */
void sd_server_client_answered(struct client *c, const h2o_req_t *req);
/* That request is over and its memory about to go. */
void sd_server_client_over(struct client *c, const h2o_req_t *req, bool answered);
/* The connection will be closed after the reply, maybe with bytes unread. */
void sd_server_client_last(h2o_req_t *req);
/* Each turn of the loop. */
void sd_server_client_turn(struct sd_server *s);
/* Close it now; c is gone, or will be when h2o's write that is under way has failed. */
void sd_server_client_cut(struct client *c);
/* When it is closed, its client shall be able to read all that was sent. */
void sd_server_client_linger(struct client *c);
/* From now on it is waited for in that way. */
void sd_server_client_wait(struct client *c, enum wait wait);
/* So many bytes are held for it now; server->buffered is the sum of all. */
void sd_server_client_hold(struct client *c, size_t bytes);

/* server_http2.c */
void sd_server_http2_begin(struct client *c, struct timeval at); /* give it to h2o; what came already is read */
bool sd_server_http2_reads(const struct client *c); /* h2o reads HTTP/2 from it */
void sd_server_http2_turn(struct sd_server *s, int64_t now); /* cut who is overdue, part from who is idle */

/* server_drain.c: ends that cost no request. */
void sd_server_drain_begin(struct sd_server *s);
void sd_server_drain_turn(struct sd_server *s);
bool sd_server_say_goodbye(struct client *c, int64_t idle_us); /* HTTP/2, idle for so long: say GOAWAY and close; false: it is not */

/* server_linger.c: fd, which is its own from now on, is read empty for a while. */
void sd_server_linger(struct sd_server *s, int fd);
void sd_server_linger_turn(struct sd_server *s);

#endif
