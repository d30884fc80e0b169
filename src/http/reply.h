/* What a web worker answers: an attempt's outcome as a reply frame.  Pure; all that *r points to belongs to the attempt or its arena. */
#ifndef SD_HTTP_REPLY_H
#define SD_HTTP_REPLY_H

#include "http/frame.h"
#include "step/attempt.h"

/*
 * The handler's own reply.  Its default content type is application/json for
 * a JSON body and text/plain for any other; 200 with the returned value, or 204
 * without one, was already put there by the step (step/ctx.c).
 * a->outcome is SD_OUTCOME_COMPLETED.
 */
void sd_reply_of(const struct sd_attempt *a, struct sd_frame_reply *r);

/* An error body of ours with its content type, and Retry-After when retry_after_s > 0.  error_id NULL: none; else it is in the details. */
void sd_reply_error(const struct sd_attempt *a, struct sd_frame_reply *r, int status, const char *code, const char *message,
		    const char *error_id, int64_t retry_after_s);

/* 400 with every violation: a->outcome is SD_OUTCOME_INVALID_INPUT. */
void sd_reply_invalid(const struct sd_attempt *a, struct sd_frame_reply *r);

#endif
