/*
 * Is a step's config right?  Every problem is reported, not only the first.
 */
#ifndef SD_STEP_CHECK_H
#define SD_STEP_CHECK_H

#include "step/object.h"
#include "step/registry.h"

/* Add a line "file: message". */
void sd_problem(struct sd_step_problems *p, const char *file, const char *fmt, ...) SD_PRINTF(3, 4);
/*
 * Add a line about what is written at a line of a step's source: "source:line:1: message (file)".  The compiler tells no
 * column.  With source NULL, the step being from before it was recorded, as sd_problem.
 */
void sd_problem_at(struct sd_step_problems *p, const char *file, const char *source, int64_t line, const char *fmt, ...) SD_PRINTF(5, 6);

/* Names, topics, routes, expressions and schemas of one step, by itself; the number of problems added. */
size_t sd_check_step(const struct sd_object *o, const char *file, struct sd_step_problems *p);

/* "POST /a/:x" and "POST /a/:y" are one route: "POST /a/:", to compare.  The path passed sd_check_step. */
void sd_route_key(const char *method, const char *path, struct sd_buf *key);

#endif
