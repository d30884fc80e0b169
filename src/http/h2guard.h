/*
 * What an HTTP/2 connection may ask of the server beside requests: frames are
 * counted before libh2o acts on them.  Pure.
 *
 * libh2o 2.2 lets a client reset streams as fast as it can open them
 * (CVE-2023-44487), answers every PING and SETTINGS, prints a line to stderr
 * for each frame of an unknown type, and has no deadline for a request's body.
 * A connection that goes beyond its budget is to be cut.
 */
#ifndef SD_HTTP_H2GUARD_H
#define SD_HTTP_H2GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_H2_RESETS 100   /* at once; then SD_H2_RESETS_S more a second */
#define SD_H2_RESETS_S 10
#define SD_H2_NOISE 1000   /* PING, SETTINGS, PRIORITY, empty DATA, unknown frames; then SD_H2_NOISE_S more a second */
#define SD_H2_NOISE_S 50
#define SD_H2_MAX_UPLOADS 128 /* libh2o refuses streams above 100 */

struct sd_h2_guard {
	double resets, noise; /* tokens left */
	int64_t refilled_us;
	uint64_t windows; /* WINDOW_UPDATE frames: the client reads */
	size_t block;	  /* bytes of the header block that is under way; 0: none */
	int64_t block_us;
	struct {
		uint32_t stream;
		int64_t since_us;
		size_t bytes;
	} uploads[SD_H2_MAX_UPLOADS]; /* requests whose body is under way, oldest first */
	size_t nuploads;
	size_t buffered; /* bytes of their bodies so far, which libh2o holds */
	uint32_t last_stream; /* the highest whose head began */
	bool preface; /* it came */
};

void sd_h2_guard_init(struct sd_h2_guard *g, int64_t now_us);
/*
 * The input as libh2o is about to see it: whole frames, and perhaps a part of
 * one, which will be given again.  Frames of unknown types are taken out of it;
 * *n is what is left.  NULL, or why the connection is to be cut.
 */
const char *sd_h2_guard_feed(struct sd_h2_guard *g, uint8_t *p, size_t *n, size_t head_limit, int64_t now_us);
/* Since when the oldest unfinished head or body is under way; INT64_MAX: none. */
int64_t sd_h2_guard_head_since(const struct sd_h2_guard *g);
int64_t sd_h2_guard_body_since(const struct sd_h2_guard *g);

#endif
