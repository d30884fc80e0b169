/*
 * The inside of a handler's context, shared by the files that implement the
 * calls of <stepd/step.h> (api*.c).  Lives on the step thread's stack while the
 * handler runs.
 *
 * A handler is foreign code: every pointer, text and number that comes through
 * the calls is checked here, at the door.
 */
#ifndef SD_STEP_CTX_H
#define SD_STEP_CTX_H

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "step/attempt.h"
#include "step/manifest.h"
#include "step/runner.h"
#include "step/stepd/step.h"

struct sd_input; /* step/input.h */

/* A loaded step. */
struct sd_step {
	const struct sd_mf_step *mf; /* its part of the manifest */
	void *object;		     /* of dlopen */
	int (*handler)(struct stepd_ctx *ctx);
	struct sd_input *inputs;     /* its triggers' schemas; NULL: none are checked */
	const int *log_level; /* the registry's: lowest level that is kept */
};

struct sd_owned;
struct sd_ctx {
	struct stepd_ctx pub; /* first: what the handler has is a pointer to it */
	struct sd_attempt *a;
	const struct sd_step *step;
	struct sd_runner *runner; /* NULL: nobody answers questions */
	cJSON *data;		  /* made when asked for */
	struct sd_owned *owned;	  /* trees to delete */
	const char *error;	  /* of the last call that failed; NULL: none */
	const char *reply_error;  /* of the last reply that was refused, unless one was taken after it */
	int result;		  /* what the last stepd_retry() & co. gave, with its delay */
	int64_t delay_ms;
	unsigned uuids; /* given out */
	bool saw_cancel;
};

#define SD_LOG_LINES_MAX 10000		    /* of one attempt */
#define SD_TEXT_MAX (64u * 1024 * 1024)	    /* one payload */
/* Enqueues and state writes of one attempt: what the database stores within the time it has for one call. */
#define SD_EFFECTS_MAX 100000
#define SD_EFFECTS_MAX_BYTES (128u * 1024 * 1024)

extern const struct stepd_api sd_step_api;

static inline struct sd_ctx *sd_ctx_of(struct stepd_ctx *pub)
{
	return (struct sd_ctx *)(void *)pub;
}

/* Note why a call failed; -1. */
int sd_ctx_error(struct sd_ctx *c, const char *fmt, ...) SD_PRINTF(2, 3);
int sd_ctx_error_from(struct sd_ctx *c, const struct sd_err *err, const char *what);
/* Keep a tree until the handler returned; NULL stays NULL. */
cJSON *sd_ctx_own(struct sd_ctx *c, cJSON *tree);
/* JSON that is known to be valid, as a tree of ctx; -1 when it can not be read as one. */
int sd_ctx_tree(struct sd_ctx *c, const char *text, cJSON **tree);

/* Text as valid UTF-8 of at most max bytes: itself, or a copy in the arena with what is wrong replaced by U+FFFD. */
const char *sd_clean_text(struct sd_arena *arena, const char *s, size_t max);
bool sd_text_valid(const char *s);

/*
 * Append what a handler gave as JSON (the one of tree and text that is not NULL, null if both are) after checking it.
 * Nothing is appended on an error.  `what` names it in the message.
 */
int sd_ctx_put_json(struct sd_ctx *c, struct sd_buf *b, const cJSON *tree, const char *text, const char *what);

/* The calls, by file. */
int sd_api_enqueue(struct stepd_ctx *pub, const struct stepd_enqueue_options *o);
int sd_api_state_get(struct stepd_ctx *pub, const char *group, const char *key, cJSON **tree, const char **text);
int sd_api_state_set(struct stepd_ctx *pub, const char *group, const char *key, const cJSON *tree, const char *text, cJSON **old);
int sd_api_state_list(struct stepd_ctx *pub, const char *group, cJSON **tree, const char **text);
int sd_api_state_groups(struct stepd_ctx *pub, cJSON **tree);
int sd_api_state_clear(struct stepd_ctx *pub, const char *group);
int sd_api_state_update(struct stepd_ctx *pub, const char *group, const char *key, const struct stepd_op *ops, size_t n);
const char *sd_api_http_get(struct stepd_ctx *pub, int what, const char *name, size_t *len);
bool sd_api_http_at(struct stepd_ctx *pub, int what, size_t index, const char **name, const char **value);
int sd_api_reply(struct stepd_ctx *pub, int status, const cJSON *body);
int sd_api_reply_raw(struct stepd_ctx *pub, int status, const char *content_type, const void *body, size_t len);
int sd_api_reply_header(struct stepd_ctx *pub, const char *name, const char *value);
int sd_api_check_status(struct sd_ctx *c, int status, bool body);
int sd_api_stream(struct stepd_ctx *pub, int status, const char *content_type);
int sd_api_write(struct stepd_ctx *pub, const void *bytes, size_t len);
int sd_api_print(struct stepd_ctx *pub, const char *fmt, va_list ap);
int sd_api_event(struct stepd_ctx *pub, const struct stepd_event_options *o);
bool sd_api_client_gone(struct stepd_ctx *pub);
bool sd_api_stopping(struct stepd_ctx *pub);

#endif
