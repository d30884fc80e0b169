/*
 * The registry: step files found, loaded and ready to run, in this process.
 * Loading runs foreign code (dlopen), so it happens only in children.
 */
#ifndef SD_STEP_REGISTRY_H
#define SD_STEP_REGISTRY_H

#include "base/buf.h"
#include "step/attempt.h"

struct sd_registry;
struct sd_step;

/* What is wrong with step files: one line each, "file: message" (with :line:col where known). */
struct sd_step_problems {
	struct sd_buf text;
	size_t n;
};

/*
 * Find the step files of the directories (subdirectories too, nothing that starts with "."; sorted by name), load and check each
 * (name unique, triggers well-formed, routes distinct, cron expressions valid), and write the manifest.
 * *current is set to the file being loaded before it is touched, so that a parent sharing that memory can name
 * the file that crashed its child, and to "" at the end.
 * The files of skip (exact paths as they were put in *current) are left out: they crashed an earlier try.
 * Returns the number of steps; problems are collected, never fatal here: a file with a problem provides no step.
 */
size_t sd_steps_discover(const char *const *dirs, size_t ndirs, const char *const *skip, size_t nskip,
			 struct sd_buf *manifest, struct sd_step_problems *problems, char *current, size_t current_len);

/* Load exactly the steps of a manifest.  NULL with *err when one cannot be loaded or is no longer what the manifest says. */
struct sd_registry *sd_registry_load(const char *manifest, size_t len, struct sd_err *err);
void sd_registry_free(struct sd_registry *r);
size_t sd_registry_count(const struct sd_registry *r);
const struct sd_step *sd_registry_step(const struct sd_registry *r, size_t index);
const struct sd_step *sd_registry_find(const struct sd_registry *r, const char *name, size_t *index);
const char *sd_step_name(const struct sd_step *s);
/*
 * A job keeps the number that its trigger had when it was enqueued; the step may have been changed since.  Which of its
 * triggers is it now?  -1: it has none for the job's topic any more.
 */
int sd_step_trigger(const struct sd_step *s, enum sd_trigger type, int index, const char *queue);
/* Handlers' log lines below this are dropped: debug info warn error off (conf's logging.database); info unless set. */
void sd_registry_set_log_level(struct sd_registry *r, const char *level);

/* Run the handler in the calling thread; fills the lower half of a.  `runner` answers its questions. */
struct sd_runner;
void sd_step_run(const struct sd_step *s, struct sd_attempt *a, struct sd_runner *runner);

#endif
