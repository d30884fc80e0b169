/*
 * Replies in pieces, and clients that leave.
 *
 * A worker's DATA is passed on at once; what the client does not take stays
 * with the server (http/server.h), and the worker may not have more than
 * SD_FRAME_WINDOW bytes there, so that a slow client costs no more than that.
 * CREDIT follows what the client took, in quarters of the window.
 *
 * A reply ends well by the worker's END alone.  Its death, its request's
 * deadline, a handler's error all cut the connection.
 *
 * HTTP/1 does not tell that a client left while its handler runs: the sockets
 * are looked at ten times a second.  The worker hears of it as often, because
 * the request it is about may have waited behind another when it was told first.
 */
#include "role/http.h"

#include "base/log.h"

static void put(struct sd_http_flight *fl, enum sd_frame_type type, const struct sd_frame_stream *s)
{
	struct sd_http_worker *w = (struct sd_http_worker *)fl->f.backend;

	if (!w)
		return;
	sd_frame_put_part(&w->out, type, s);
	w->dirty = true;
}

void sd_http_tell_gone(struct sd_http_flight *fl)
{
	put(fl, SD_FRAME_GONE, &(const struct sd_frame_stream){.id = fl->f.id, .complete = !fl->x});
}

static void take_stream(struct sd_http_worker *w, const char *p, size_t size)
{
	struct sd_http *h = w->http;
	struct sd_frame_reply r;
	struct sd_http_flight *fl = sd_http_reply_begins(w, sd_frame_get_stream, p, size, &r);
	struct sd_pair *headers;
	size_t n;

	if (!fl)
		return;
	fl->streaming = true;
	if (!fl->x)
		return;
	n = sd_http_headers(h, fl, &r, &headers);
	if (!sd_exchange_begin(fl->x, (int)r.status, headers, n))
		sd_http_detach(h, fl);
}

static void take_data(struct sd_http_worker *w, struct sd_http_flight *fl, const struct sd_frame_stream *s)
{
	if (!fl->streaming || s->data_len > SD_FRAME_WINDOW - fl->untaken - fl->credit) {
		sd_http_lose(w, "it sends more of a reply than it may");
		return;
	}
	if (!fl->x) /* it was told, or will be */
		return;
	fl->untaken += s->data_len;
	sd_exchange_send(fl->x, s->data, s->data_len);
}

static void take_end(struct sd_http *h, struct sd_http_flight *fl, const struct sd_frame_stream *s)
{
	sd_dispatch_learn(&h->dispatch, fl->f.step, s->handler_us);
	if (fl->x && s->complete)
		sd_exchange_end(sd_http_detach(h, fl));
	else if (fl->x)
		sd_exchange_cut(sd_http_detach(h, fl));
	sd_http_forget(h, fl);
	h->dispatch_due = true;
}

void sd_http_stream_frame(struct sd_http_worker *w, enum sd_frame_type type, const char *p, size_t size)
{
	struct sd_frame_stream s;
	struct sd_http_flight *fl;
	struct sd_err err;

	if (type == SD_FRAME_STREAM) {
		take_stream(w, p, size);
		return;
	}
	if (sd_frame_get_part(p, size, type, &s, &err) != 0) {
		sd_http_lose(w, err.message);
		return;
	}
	fl = sd_http_flight_of(w, s.id);
	if (!fl)
		return;
	if (type == SD_FRAME_DATA)
		take_data(w, fl, &s);
	else if (fl->streaming)
		take_end(w->http, fl, &s);
	else
		sd_http_lose(w, "it ends a reply it did not begin");
}

void sd_http_stream_taken(struct sd_http *h, struct sd_exchange *x, size_t n)
{
	struct sd_http_flight *fl = x->data;

	if (!fl)
		return;
	fl->untaken -= n;
	fl->credit += (uint32_t)n;
	if (fl->untaken > 0 && fl->credit < SD_FRAME_WINDOW / 4)
		return;
	put(fl, SD_FRAME_CREDIT, &(const struct sd_frame_stream){.id = fl->f.id, .taken = fl->credit});
	fl->credit = 0;
}

void sd_http_look_for_gone(struct sd_http *h)
{
	for (struct sd_http_worker *w = h->workers; w; w = w->next) {
		struct sd_http_flight *fl = (struct sd_http_flight *)w->b.flights.head; /* the one it runs */

		if (fl && !w->dead && w->greeted && (!fl->x || sd_exchange_left(fl->x)))
			sd_http_tell_gone(fl);
	}
}
