/*
 * YAML as configuration files need it: a tree of nodes with their places, owned
 * by an arena.  Built on libyaml, narrowed where YAML is a trap:
 *
 * - at most SD_YAML_MAX_SIZE bytes and SD_YAML_MAX_DEPTH levels (libyaml has no limit and nests in quadratic time);
 * - one document; UTF-8 (a byte order mark is skipped); no '\0' in a scalar;
 * - duplicate keys, keys that are no scalars, anchors, aliases and tags are refused, each with its place.
 *
 * Scalars stay text; whoever reads one decides what it means.  A plain (unquoted)
 * empty scalar, `~` or `null` counts as null: sd_yaml_is_null().
 */
#ifndef SD_BASE_YAML_H
#define SD_BASE_YAML_H

#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>

#define SD_YAML_MAX_SIZE (1024 * 1024)
#define SD_YAML_MAX_DEPTH 64

enum sd_yaml_kind { SD_YAML_SCALAR, SD_YAML_SEQUENCE, SD_YAML_MAPPING };

struct sd_yaml {
	enum sd_yaml_kind kind;
	int line, col;	      /* of its first character, from 1; columns count characters */
	const char *text;     /* scalar: the value, '\0'-terminated; else NULL */
	size_t len;	      /* bytes of text */
	bool plain;	      /* scalar: written without quotes and not as a block */
	size_t n;	      /* children of a sequence, members of a mapping */
	struct sd_yaml *key;  /* of a member of a mapping: its name, a scalar; else NULL */
	struct sd_yaml *child; /* first item, or first member's value */
	struct sd_yaml *next; /* next item, or next member's value */
	const struct sd_yaml *twin; /* of a key, by sd_yaml_parse_all: the same key earlier in this mapping */
};

/* Where and why the text was refused. */
struct sd_yaml_problem {
	int line, col;
	char text[256];
};

/*
 * The tree of text (len bytes), or NULL with *problem filled.  An empty
 * document gives a null scalar at 1:1.
 */
struct sd_yaml *sd_yaml_parse(const char *text, size_t len, struct sd_arena *arena, struct sd_yaml_problem *problem);

/* The same, but a key that is given twice is only marked (twin), for a caller that names all mistakes at once. */
struct sd_yaml *sd_yaml_parse_all(const char *text, size_t len, struct sd_arena *arena, struct sd_yaml_problem *problem);

/* The value of a mapping's member; NULL when absent, or when map is no mapping. */
const struct sd_yaml *sd_yaml_get(const struct sd_yaml *map, const char *key);
bool sd_yaml_is_null(const struct sd_yaml *node);
const char *sd_yaml_kind_name(enum sd_yaml_kind kind); /* "text", "list", "mapping" */

#endif
