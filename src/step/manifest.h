/*
 * The manifest: what discovery found, as JSON text that one child writes and
 * every other child reads.  {"steps":[STEP…]}; a STEP is
 * {"name","description","file","kind":"c","flows":[…],"enqueues":[…],"triggers":[T…]}
 * T is {"type":"queue","topic":S,"input":SCHEMA|null}
 *    | {"type":"http","method":S,"path":S,"bodySchema":SCHEMA|null,"querySchema":SCHEMA|null,"respond":"sync"|"accepted",
 *	 "timeout":MS} (0: http.timeout)
 *    | {"type":"cron","expression":S,"timezone":S,"missed":"skip"|"one"|"all","catchUpLimit":MS,"overlap":"allow"|"skip"}
 * The index of a step in the array is its number everywhere in this generation.
 */
#ifndef SD_STEP_MANIFEST_H
#define SD_STEP_MANIFEST_H

#include "base/mem.h"
#include "step/attempt.h"

struct sd_mf_trigger {
	enum sd_trigger type;
	const char *topic;			/* queue */
	const char *method, *path;		/* http */
	bool accepted;				/* http: respond accepted */
	int64_t timeout_ms;			/* http; 0: http.timeout */
	const char *schema;			/* queue input / http body schema as JSON text; NULL: none */
	const char *query_schema;		/* http */
	const char *expression, *timezone;	/* cron */
};
struct sd_mf_step {
	const char *name, *description, *file, *kind;
	const char **enqueues;
	size_t nenqueues;
	struct sd_mf_trigger *triggers;
	size_t ntriggers;
};
struct sd_manifest {
	struct sd_mf_step *steps;
	size_t nsteps;
};
/* Read a manifest of ours; all of it is owned by arena. */
struct sd_manifest *sd_manifest_parse(const char *json, size_t len, struct sd_arena *arena, struct sd_err *err);

#endif
