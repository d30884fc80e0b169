/*
 * The frames between the http process and a web worker, over one stream socket.
 *
 *	u32 total   bytes that follow this word
 *	u32 head    bytes of the head
 *	head        type, then the type's fields
 *	body        raw bytes: a request's or a reply's body
 *	'\0'
 *
 * Numbers are in host order (both ends are this machine and this build),
 * strings are u32 length, bytes, '\0', so that a reader points into the frame
 * instead of copying.  The web worker sends one HELLO, which is answered with a
 * WELCOME (the listening socket is the supervisor's, so being connected does
 * not mean that there is an http process), then a REPLY or a RETURN for every
 * REQUEST.  A RETURN gives back a request whose handler has not
 * started: the http process hands it to another worker.  Instead of a REPLY
 * there may be a STREAM (status and headers), DATA frames, and an END that says
 * whether the reply is complete; without it, it is not.  A worker sends no more
 * than SD_FRAME_WINDOW bytes of DATA that the client did not take yet: CREDIT
 * says how many it took.  GONE: nobody waits for the reply any more; it may come
 * more than once.  STOP: the http process wants to end, and waits for streams.  BYE says that the
 * worker was asked to stop: it gets no more work while others can do it, and
 * the http process closes the connection when nothing of it is left there.
 * EOF is the death of the other side.
 *
 * Either end may be a process gone wild, so nothing in a frame is believed:
 * each read is checked against the frame's end.
 */
#ifndef SD_HTTP_FRAME_H
#define SD_HTTP_FRAME_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/target.h"
#include "step/attempt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_FRAME_VERSION 3
#define SD_FRAME_MAX_HEAD (1024u * 1024u)
/* A body of the largest bodyLimit, a head, and room. */
#define SD_FRAME_MAX (66u * 1024u * 1024u)
#define SD_FRAME_MAX_PAIRS 4096u
#define SD_FRAME_WINDOW (256u * 1024u) /* of one stream */

enum sd_frame_type {
	SD_FRAME_HELLO = 1,
	SD_FRAME_REQUEST,
	SD_FRAME_REPLY,
	SD_FRAME_RETURN,
	SD_FRAME_BYE,
	SD_FRAME_WELCOME,
	SD_FRAME_STREAM, /* as a REPLY, without a body */
	SD_FRAME_DATA,
	SD_FRAME_END,
	SD_FRAME_CREDIT,
	SD_FRAME_GONE,
	SD_FRAME_STOP,
};

struct sd_frame_hello {
	uint32_t version, slot, generation; /* of the scoreboard */
};
struct sd_frame_request {
	uint64_t id; /* rises; also in http.id after decoding */
	uint32_t step, trigger;
	int64_t timeout_ms;   /* what is left of the request's time; 0: no limit */
	enum sd_media media;  /* JSON, FORM, TEXT: the body was checked to be that; OTHER: bytes */
	const char *trace_id; /* UUID */
	const char *error_id; /* UUID: of whatever goes wrong with it, in the reply, the log and the history */
	struct sd_http_request http;
};
struct sd_frame_reply {
	uint64_t id;
	uint32_t status;
	int64_t handler_us; /* how long the handler ran */
	const struct sd_pair *headers;
	size_t nheaders;
	const char *body;
	size_t body_len;
};
struct sd_frame_return {
	uint64_t id;
};
/* DATA, END, CREDIT and GONE; what a type does not have is 0. */
struct sd_frame_stream {
	uint64_t id;
	int64_t handler_us; /* END */
	bool complete;	    /* END: the handler did all it wanted to, and that is stored.  GONE: for certain, else the client closed its own direction only */
	uint32_t taken;	    /* CREDIT */
	const char *data;   /* DATA: never empty */
	size_t data_len;
};

void sd_frame_put_hello(struct sd_buf *b, const struct sd_frame_hello *f);
/* -1, and nothing appended, when the head or the frame would be too large. */
int sd_frame_put_request(struct sd_buf *b, const struct sd_frame_request *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_put_reply(struct sd_buf *b, const struct sd_frame_reply *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_put_stream(struct sd_buf *b, const struct sd_frame_reply *f, struct sd_err *err) SD_MUST_CHECK; /* its body is left out */
void sd_frame_put_part(struct sd_buf *b, enum sd_frame_type type, const struct sd_frame_stream *f); /* DATA of at most SD_FRAME_WINDOW bytes, END, CREDIT, GONE */
void sd_frame_put_return(struct sd_buf *b, const struct sd_frame_return *f);
void sd_frame_put_bye(struct sd_buf *b);
void sd_frame_put_welcome(struct sd_buf *b);
void sd_frame_put_stop(struct sd_buf *b);

/*
 * Is there a whole frame at p?  1: yes, *size bytes long, *type its type; 0: not yet, *size is how many bytes it will have
 * (0 when unknown); -1: this is no frame, the connection is of no more use.
 */
int sd_frame_next(const char *p, size_t n, size_t *size, enum sd_frame_type *type, struct sd_err *err) SD_MUST_CHECK;

/* Read a whole frame.  Strings and bodies point into it, arrays are in arena. */
int sd_frame_get_hello(const char *p, size_t size, struct sd_frame_hello *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_get_request(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_request *f, struct sd_err *err) SD_MUST_CHECK;
/* Also checked: status 200 to 599, headers that cannot break out of their line. */
typedef int sd_frame_get_head(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err);
int sd_frame_get_reply(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_get_stream(const char *p, size_t size, struct sd_arena *arena, struct sd_frame_reply *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_get_part(const char *p, size_t size, enum sd_frame_type type, struct sd_frame_stream *f, struct sd_err *err) SD_MUST_CHECK;
int sd_frame_get_return(const char *p, size_t size, struct sd_frame_return *f, struct sd_err *err) SD_MUST_CHECK;

#endif
