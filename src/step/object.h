/*
 * One step file of kind C: from the file to a checked descriptor.
 * Opening runs the file's constructors, so only children do it.
 */
#ifndef SD_STEP_OBJECT_H
#define SD_STEP_OBJECT_H

#include "base/err.h"
#include "step/stepd/step.h"

#define SD_TRIGGERS_MAX 256

struct sd_object {
	void *handle;		/* of dlopen */
	struct stepd_step step; /* a copy as this version knows the struct; what it points to is in the file */
};

/* The error says why the file provides no step, without the file's name. */
int sd_object_open(const char *file, struct sd_object *o, struct sd_err *err) SD_MUST_CHECK;
void sd_object_close(struct sd_object *o);

/*
 * The index-th trigger, whatever size it had when the file was compiled; false behind the last one.  One with index
 * SD_TRIGGERS_MAX is one too many, and nothing behind it is looked at: the list may have no end.
 */
bool sd_object_trigger(const struct sd_object *o, size_t index, struct stepd_trigger *trigger);

#endif
