/*
 * What a trigger's schemas say about what came in.  Compiled once, when the
 * step is loaded; held against each input in the step thread, before the
 * handler.
 */
#ifndef SD_STEP_INPUT_H
#define SD_STEP_INPUT_H

#include "base/schema.h"
#include "step/ctx.h"

/* A trigger's schemas, compiled; NULL: none. */
struct sd_input {
	struct sd_schema *data;	 /* a job's input, a request's body */
	struct sd_schema *query; /* a request's query */
};

/* One for each trigger of the step, to be freed with sd_inputs_free.  NULL with *err. */
struct sd_input *sd_inputs_new(const struct sd_mf_step *mf, struct sd_err *err);
void sd_inputs_free(struct sd_input *inputs, size_t n); /* NULL is allowed */

/*
 * Do the data and the query (NULL as http: there is none) fit?  If not, *violations is why as JSON objects joined by commas,
 * *error the same in one line for people; both in arena.  data NULL: the text has a number that cJSON can not read.
 */
bool sd_input_fits(const struct sd_input *in, const cJSON *data, const struct sd_http_request *http, struct sd_arena *arena,
		   const char **violations, const char **error);

/*
 * Is the attempt's input what its trigger asks for?  If not, a->error tells it in one line and a->violations as JSON.
 * The tree that was made for it stays with c, for the handler.
 */
bool sd_input_valid(struct sd_ctx *c);

#endif
