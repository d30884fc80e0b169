/* RFC 9113's frames, as far as they are to be counted. */
#include "http/h2guard.h"

#include "base/clock.h"

#include <string.h>

#define HEADER 9
#define PREFACE_LEN 24
#define BLOCK_SPARE 16384

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, KNOWN };
enum { END_STREAM = 1, END_HEADERS = 4 };

struct frame {
	size_t size; /* of the payload */
	uint8_t type, flags;
	uint32_t stream;
};

void sd_h2_guard_init(struct sd_h2_guard *g, int64_t now_us)
{
	memset(g, 0, sizeof(*g));
	g->resets = SD_H2_RESETS;
	g->noise = SD_H2_NOISE;
	g->refilled_us = now_us;
}

static double refill(double tokens, double a_second, double most, int64_t us)
{
	tokens += a_second * (double)us / 1e6;
	return tokens < most ? tokens : most;
}

static void upload_begins(struct sd_h2_guard *g, uint32_t stream, int64_t now_us)
{
	if (g->nuploads < SD_H2_MAX_UPLOADS) {
		g->uploads[g->nuploads].stream = stream;
		g->uploads[g->nuploads].bytes = 0;
		g->uploads[g->nuploads++].since_us = now_us;
	}
}

/* false: it was none. */
static bool upload_ends(struct sd_h2_guard *g, uint32_t stream)
{
	for (size_t i = 0; i < g->nuploads; i++) {
		if (g->uploads[i].stream != stream)
			continue;
		g->buffered -= g->uploads[i].bytes;
		memmove(&g->uploads[i], &g->uploads[i + 1], (g->nuploads - i - 1) * sizeof(g->uploads[0]));
		g->nuploads--;
		return true;
	}
	return false;
}

static void upload_goes_on(struct sd_h2_guard *g, uint32_t stream, size_t n)
{
	for (size_t i = 0; i < g->nuploads; i++) {
		if (g->uploads[i].stream == stream) {
			g->uploads[i].bytes += n;
			g->buffered += n;
			return;
		}
	}
}

static const char *make_noise(struct sd_h2_guard *g)
{
	return --g->noise < 0 ? "too many frames that carry nothing" : NULL;
}

static const char *header_block(struct sd_h2_guard *g, const struct frame *f, size_t head_limit, int64_t now_us)
{
	if (f->type == HEADERS) {
		bool trailers = upload_ends(g, f->stream);

		g->block = 0;
		if (!trailers && !(f->flags & END_STREAM))
			upload_begins(g, f->stream, now_us);
		if (g->nuploads == SD_H2_MAX_UPLOADS)
			return "too many requests under way";
		g->block_us = now_us;
		if (f->stream > g->last_stream)
			g->last_stream = f->stream;
	}
	g->block += f->size + 1;
	if (g->block > 2 * head_limit + BLOCK_SPARE) /* what is only a little too large gets a 431 */
		return "a header block is far larger than http.headerLimit";
	if (f->flags & END_HEADERS)
		g->block = 0;
	return NULL;
}

static const char *count(struct sd_h2_guard *g, const struct frame *f, size_t head_limit, int64_t now_us)
{
	switch (f->type) {
	case DATA:
		if (f->flags & END_STREAM)
			upload_ends(g, f->stream);
		else
			upload_goes_on(g, f->stream, f->size);
		return f->size == 0 && !(f->flags & END_STREAM) ? make_noise(g) : NULL;
	case RST_STREAM:
		upload_ends(g, f->stream);
		return --g->resets < 0 ? "too many streams were reset" : NULL;
	case CONTINUATION:
		if (make_noise(g))
			return "too many frames that carry nothing";
		return header_block(g, f, head_limit, now_us);
	case HEADERS:
		return header_block(g, f, head_limit, now_us);
	case WINDOW_UPDATE:
		g->windows++;
		return NULL;
	case GOAWAY:
		return NULL;
	default:
		return make_noise(g);
	}
}

static struct frame frame_at(const uint8_t *p)
{
	return (struct frame){(size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2], p[3], p[4],
			      ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & 0x7fffffff};
}

const char *sd_h2_guard_feed(struct sd_h2_guard *g, uint8_t *p, size_t *n, size_t head_limit, int64_t now_us)
{
	size_t at = 0;

	g->resets = refill(g->resets, SD_H2_RESETS_S, SD_H2_RESETS, now_us - g->refilled_us);
	g->noise = refill(g->noise, SD_H2_NOISE_S, SD_H2_NOISE, now_us - g->refilled_us);
	g->refilled_us = now_us;
	if (!g->preface && *n < PREFACE_LEN)
		return NULL;
	if (!g->preface)
		at = PREFACE_LEN;
	g->preface = true;
	while (*n - at >= HEADER) {
		struct frame f = frame_at(p + at);
		const char *why;

		if (*n - at - HEADER < f.size)
			break;
		why = count(g, &f, head_limit, now_us);
		if (why)
			return why;
		if (f.type >= KNOWN && g->block == 0) { /* to be ignored (RFC 9113, 5.5), but not in the middle of a header block */
			memmove(p + at, p + at + HEADER + f.size, *n - at - HEADER - f.size);
			*n -= HEADER + f.size;
		} else {
			at += HEADER + f.size;
		}
	}
	return NULL;
}

int64_t sd_h2_guard_head_since(const struct sd_h2_guard *g)
{
	return g->block ? g->block_us : INT64_MAX;
}

int64_t sd_h2_guard_body_since(const struct sd_h2_guard *g)
{
	return g->nuploads ? g->uploads[0].since_us : INT64_MAX;
}
