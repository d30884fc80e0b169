/*
 * The router: method and path of a request → which trigger of which step.
 *
 * Values in, values out; built once per generation of children, read only
 * afterwards.  A pattern is "/users/:id/posts": segments divided by '/', each
 * either literal or ":name".  The most specific route wins: at each segment,
 * from the left, a literal beats a parameter; the choice is made among the
 * routes that know the request's method.  Paths are compared segment by segment
 * after percent-decoding, so "%2F" stays inside its parameter.  A trailing slash
 * is a segment of its own: "/a" and "/a/" are two paths.
 */
#ifndef SD_HTTP_ROUTER_H
#define SD_HTTP_ROUTER_H

#include "base/err.h"
#include "base/mem.h"
#include "step/attempt.h"

#include <stddef.h>

#define SD_ROUTER_MAX_SEGMENTS 64
#define SD_ROUTER_MAX_PARAMS 16

struct sd_router;

enum sd_route_result {
	SD_ROUTE_FOUND,
	SD_ROUTE_NOT_FOUND,	   /* 404 */
	SD_ROUTE_WRONG_METHOD,	   /* 405; allow is set */
	SD_ROUTE_OPTIONS,	   /* OPTIONS on a path that has routes but none for OPTIONS; allow is set */
	SD_ROUTE_BAD_PATH,	   /* 400: the percent-encoding is broken, or decodes to a NUL byte */
};

struct sd_route_match {
	int step, trigger;
	struct sd_pair params[SD_ROUTER_MAX_PARAMS];
	size_t nparams;
	const char *path;  /* decoded */
	const char *allow; /* "GET, HEAD, OPTIONS" */
};

struct sd_router *sd_router_new(struct sd_arena *arena); /* owned by the arena, as is all it holds */

/*
 * One route.  owner names it in errors (a step's file).  Errors: a method that is no token in capitals, a pattern that
 * does not start with '/', an empty or repeated parameter name, too many segments, or a route that is already there
 * ("/a/:x" and "/a/:y" are the same route); the message names both owners.
 */
int sd_router_add(struct sd_router *r, const char *method, const char *pattern, int step, int trigger, const char *owner,
		  struct sd_err *err) SD_MUST_CHECK;

/* raw is the path as sent, without the query.  What *m points to is in arena.  HEAD falls back on GET. */
enum sd_route_result sd_router_match(const struct sd_router *r, const char *method, const char *raw, size_t raw_len,
				     struct sd_arena *arena, struct sd_route_match *m);

#endif
