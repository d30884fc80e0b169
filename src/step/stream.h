/*
 * A reply in pieces, on its way out of the step thread.  Whoever runs the
 * runner says where it goes; all calls come from the step thread.
 */
#ifndef SD_STEP_STREAM_H
#define SD_STEP_STREAM_H

#include "step/attempt.h"

#include <stdbool.h>
#include <stddef.h>

struct sd_stream_ops {
	/* The head of the reply, from a->reply.  -1: nobody waits for it any more. */
	int (*begin)(void *arg, struct sd_attempt *a);
	/* n > 0 bytes; waits until there is room for them.  -1: nobody waits for it any more. */
	int (*write)(void *arg, struct sd_attempt *a, const char *p, size_t n);
	/* Is it known that nobody waits for the reply, begun or not?  It may be wrong about a client that closed one direction. */
	bool (*gone)(void *arg, const struct sd_attempt *a);
};

#endif
