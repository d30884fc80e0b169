/*
 * JSON at the door.  User payloads travel as raw text and are validated once,
 * here, before anything else sees them; cJSON only ever reads text that passed
 * (platform notes: cJSON alone truncates at \u0000, takes trailing garbage,
 * invalid UTF-8 and bad numbers).
 */
#ifndef SD_BASE_JSON_H
#define SD_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define SD_JSON_MAX_DEPTH 512

/*
 * Is text (len bytes, no terminator needed) one RFC 8259 value in valid UTF-8,
 * nested at most SD_JSON_MAX_DEPTH deep, without \u0000 and lone surrogates
 * (PostgreSQL's jsonb refuses both)?  The error names line, column and what was found.
 * Linear in len, no recursion, no allocation.
 */
int sd_json_check(const char *text, size_t len, struct sd_err *err) SD_MUST_CHECK;

/* sd_json_check, then a tree to read with cJSON's CaseSensitive calls; free with cJSON_Delete. NULL with *err set. */
cJSON *sd_json_parse(const char *text, size_t len, struct sd_err *err);

/*
 * cJSON keeps a number as a double.  Give those numbers of tree that a double does not print as they were written their
 * text (in valuestring, where cJSON_Duplicate and cJSON_Delete find it); sd_json_print uses it as long as the number
 * is unchanged.  text is what tree was parsed from, and is valid JSON.
 */
void sd_json_keep_digits(cJSON *tree, const char *text);

/* Members of an object that was parsed from a trusted source (a manifest, a frame of ours). */
const char *sd_json_str(const cJSON *obj, const char *key, const char *fallback);
int64_t sd_json_int(const cJSON *obj, const char *key, int64_t fallback);
const cJSON *sd_json_get(const cJSON *obj, const char *key); /* NULL when absent; case-sensitive */
/* The tree as compact text appended to b. */
void sd_json_print(struct sd_buf *b, const cJSON *tree);

#endif
