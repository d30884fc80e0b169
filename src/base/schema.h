/*
 * JSON Schema, drafts 7 and 2020-12: values in, verdict out.
 *
 * A schema is compiled once and then validates any number of cJSON trees, from
 * any thread.  Compiling refuses what is wrong in itself: keywords of the wrong
 * type, patterns that are none, references that lead nowhere or out of the
 * document.  Nothing is ever fetched; the metaschemas of both drafts are built in.
 *
 * Choices the specification leaves open, or that cJSON makes:
 *   - `format` and the content* keywords are annotations, never checked.
 *   - Without `$schema` a schema is 2020-12.  Other dialects are refused.
 *   - `pattern` is PCRE2 without JIT, restricted to what ECMA-262 has; \d and \w are
 *     ASCII, \s is any space.
 *   - A number is a double.  multipleOf is exact for the shortest decimal that
 *     reads as that double; integers beyond 2^53 are compared as doubles.
 *   - A name that an object has twice is checked each time.
 *
 * Schemas are written by a step's author, values by anybody: neither can make
 * validation hang.  Depth, the number of steps and each pattern are limited;
 * what exceeds a limit is not valid, and the last violation says so.
 */
#ifndef SD_BASE_SCHEMA_H
#define SD_BASE_SCHEMA_H

#include "base/err.h"
#include "base/mem.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define SD_SCHEMA_VIOLATIONS_MAX 32

struct sd_schema;

enum sd_schema_draft { SD_SCHEMA_2020_12, SD_SCHEMA_DRAFT_7 };

/*
 * Compile a schema (JSON text); fallback is the draft of one that has no $schema.  NULL with *err: the message says what is
 * wrong and, as a JSON pointer into the schema, where.
 */
struct sd_schema *sd_schema_compile(const char *text, size_t len, enum sd_schema_draft fallback, struct sd_err *err);
void sd_schema_free(struct sd_schema *s); /* NULL is allowed */

struct sd_violation {
	const char *pointer; /* RFC 6901, into the value; "" is the whole value */
	const char *keyword; /* of the schema; "false" for the schema false, "limit" for a limit of ours */
	const char *message;
};

/* All violations, up to SD_SCHEMA_VIOLATIONS_MAX; in arena. */
struct sd_violations {
	struct sd_arena *arena;
	struct sd_violation *list;
	size_t n;
	bool more; /* there may be others */
};

/* Is the value valid?  If not, out (NULL: not wanted) tells why; its arena is given by the caller, the rest need not be set. */
bool sd_schema_validate(const struct sd_schema *s, const cJSON *value, struct sd_violations *out);

/*
 * What arrived as text (a query string: an object of strings, or arrays of strings) in the types the schema asks for:
 * "3" becomes 3 where a number is wanted and no string, "true" a boolean, a single value an array.  Looks at the schema's
 * properties, also behind its $ref.
 */
void sd_schema_coerce(const struct sd_schema *s, cJSON *object);

#endif
