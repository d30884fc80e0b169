/*
 * An HTTP server as the http role sees it: requests in, replies out, and the
 * event loop they live in.  Behind it are server.c (requests and replies),
 * server_conn.c (connections) and the other server_*.c, the files that know h2o.
 *
 * Not thread-safe; made after fork.
 */
#ifndef SD_HTTP_SERVER_H
#define SD_HTTP_SERVER_H

#include "base/err.h"
#include "step/attempt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_server;
struct ssl_ctx_st; /* http/tls.h */

enum sd_listener { SD_LISTENER_PUBLIC, SD_LISTENER_ADMIN };

/*
 * One request and its reply.  Valid from events.request until sd_exchange_reply,
 * sd_exchange_end, sd_exchange_cut or events.gone, whichever is first.  Header names are in lower case, "host"
 * and "content-length" among them; values are not '\0'-terminated.
 */
struct sd_exchange {
	enum sd_listener listener;
	const char *method;
	const char *path, *query; /* as sent; query without '?', empty when there is none */
	size_t path_len, query_len;
	const struct sd_pair *headers;
	size_t nheaders;
	const char *body;
	size_t body_len;
	const char *remote; /* address of the peer */
	const char *protocol; /* "HTTP/1.1" */
	uint64_t reply_len; /* bytes of the reply's body so far */
	int64_t began_us;   /* when its head was complete */
	void *data;	    /* the receiver's */
};

struct sd_server_events {
	/* Answer x now or later. */
	void (*request)(void *arg, struct sd_exchange *x);
	/* The client left before the reply. */
	void (*gone)(void *arg, struct sd_exchange *x);
	/* The client took n more bytes of what sd_exchange_send was given.  No sd_exchange_… of x may be called from here. */
	void (*taken)(void *arg, struct sd_exchange *x, size_t n);
	/* A reply was sent, also one the server made itself (broken, late or too large requests). */
	void (*replied)(void *arg, enum sd_listener listener, const struct sd_exchange *x, const char *remote, int status,
			int64_t took_us); /* x NULL: the server's own */
	void *arg;
};

enum sd_http2 {
	SD_HTTP2_OFF,
	SD_HTTP2_ON,   /* over TLS, by ALPN */
	SD_HTTP2_CLEAR /* also without TLS, by prior knowledge (RFC 9113, 3.3); never by Upgrade */
};

struct sd_server_options {
	size_t body_limit; /* larger bodies are refused with 413, without being read */
	size_t body_memory; /* of all bodies that are under way; beyond it 503 */
	size_t head_limit; /* larger heads are refused with 431 */
	size_t target_limit; /* longer request targets are refused with 414 */
	int64_t idle_ms;   /* a connection without a request is kept for this long */
	int64_t head_ms;   /* a head must arrive within this time of its first byte */
	int64_t read_ms;   /* and the body within this time of the head */
	int64_t write_ms;   /* a client that acknowledges nothing that was sent to it for this long is cut off */
	size_t max_connections; /* more wait; fewer if descriptors do not suffice */
	enum sd_http2 http2;
	struct ssl_ctx_st *tls; /* of the public listeners; NULL: none.  The server's from now on. */
};

struct sd_server *sd_server_new(const struct sd_server_options *options, const struct sd_server_events *events, struct sd_err *err);
/* Serve a listening socket; the server owns fd from now on. */
void sd_server_listen(struct sd_server *s, int fd, enum sd_listener which);
/* One turn of the loop: wait at most max_wait_ms for events and handle them. */
void sd_server_run(struct sd_server *s, int max_wait_ms);
/* Accept no more; answer what is under way, and what comes on open connections within half a second; close what is idle then.  Drained when sd_server_connections is 0. */
void sd_server_drain(struct sd_server *s);
size_t sd_server_connections(const struct sd_server *s);

/* The value of a header by its lower-case name, the first of several; NULL when absent. */
const char *sd_exchange_header(const struct sd_exchange *x, const char *name, size_t *len);
size_t sd_exchange_count(const struct sd_exchange *x, const char *name); /* of headers with this name */
/* All is copied; x is gone afterwards.  Headers that the server itself sets (connection, content-length, date, …) are passed over. */
void sd_exchange_reply(struct sd_exchange *x, int status, const struct sd_pair *headers, size_t nheaders, const char *body, size_t body_len);
/*
 * A reply in pieces: begin, any number of sends, and an end or a cut.  What is sent is copied and kept until the client
 * takes it; the caller watches events.taken, and does not send more than it wants kept.  Without a Content-Length:
 * chunked, or up to the end of the connection (HTTP/1.0).
 */
/* The head goes out at once.  false: no body may follow (HEAD), so that the reply is complete and x gone. */
bool sd_exchange_begin(struct sd_exchange *x, int status, const struct sd_pair *headers, size_t nheaders);
void sd_exchange_send(struct sd_exchange *x, const char *p, size_t n);
void sd_exchange_end(struct sd_exchange *x);
/* Something went wrong: the client must not take what it got for the whole reply. */
void sd_exchange_cut(struct sd_exchange *x);
/* Did the client close its end?  It may still read (it closed one direction), or be gone for good. */
bool sd_exchange_left(const struct sd_exchange *x);

/*
 * Any other descriptor in the same loop.  The watch owns fd.  on_readable is called while it is readable, and on_writable
 * once after each sd_watch_writable, when it is writable.
 */
struct sd_watch;
struct sd_watch *sd_watch_new(struct sd_server *s, int fd, void (*on_readable)(void *arg), void (*on_writable)(void *arg), void *arg);
void sd_watch_writable(struct sd_watch *w);
int sd_watch_fd(const struct sd_watch *w);
void sd_watch_free(struct sd_watch *w); /* closes fd; allowed in its own callback */

#endif
