/*
 * Inside of the schema files; shared by schema*.c only.
 *
 * The compiled form is a graph of nodes, one a subschema, in the schema's
 * arena.  Edges are plain pointers: a $ref is resolved when it is compiled.
 *
 *   schema.c          compile and free; documents, resources, anchors, references
 *   schema_word.c     one node's keywords
 *   schema_check.c    validation
 *   schema_object.c   … of objects
 *   schema_array.c    … of arrays; the marks of what was evaluated
 *   schema_value.c    comparing values and numbers
 *   schema_regex.c    patterns
 *   schema_uri.c      resolving URIs
 *   schema_meta.c     the metaschemas
 *   schema_coerce.c   text into the types that are wanted
 */
#ifndef SD_BASE_SCHEMA_IMPL_H
#define SD_BASE_SCHEMA_IMPL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/buf.h"
#include "base/schema.h"

#include <pcre2.h>
#include <stdint.h>

/* Steps from one (sub)schema into the next while validating one value; the step thread's stack has room for it. */
#define SD_SCHEMA_DEPTH_MAX 2048
#define SD_SCHEMA_WORK_MAX 1000000 /* steps, and SD_SCHEMA_WORK_PER_VALUE more for each value in the tree */
#define SD_SCHEMA_WORK_PER_VALUE 64
/* Steps of one pattern on one text: few are cheap, more are counted as SD_SCHEMA_MATCH_WORK steps of validation, most are too many. */
#define SD_SCHEMA_MATCH_FEW 2000
#define SD_SCHEMA_MATCH_MAX 100000
#define SD_SCHEMA_MATCH_WORK 20000

enum {
	SD_TYPE_NULL = 1,
	SD_TYPE_BOOLEAN = 2,
	SD_TYPE_NUMBER = 4,
	SD_TYPE_INTEGER = 8,
	SD_TYPE_STRING = 16,
	SD_TYPE_ARRAY = 32,
	SD_TYPE_OBJECT = 64,
};

/* A way through a tree, from the leaf up; on the stack. */
struct sd_way {
	const struct sd_way *up;
	const char *key; /* NULL: an index */
	size_t index;
};
void sd_way_put(struct sd_buf *b, const struct sd_way *way); /* as a JSON pointer */

struct sd_node;
struct sd_anchor {
	const char *name;
	struct sd_node *node;
	bool dynamic;
	struct sd_anchor *next;
};
/* What an $id makes a document of its own. */
struct sd_resource {
	const char *base; /* URI without fragment */
	const cJSON *root;
	enum sd_schema_draft draft;
	struct sd_anchor *anchors;
	struct sd_resource *next;
};

struct sd_regex {
	pcre2_code *code;
	const char *text;
	struct sd_regex *next;
};

/* A list of subschemas. */
struct sd_nodes {
	struct sd_node **at;
	size_t n;
};
/* A name that the schema says something about; sorted by name. */
struct sd_name {
	const char *name;
	struct sd_node *property;  /* properties, or NULL */
	struct sd_node *dependent; /* dependentSchemas, or NULL */
	const char **requires;	   /* dependentRequired */
	size_t nrequires;
	bool required;
};
struct sd_pattern {
	struct sd_regex *regex;
	struct sd_node *node;
};

struct sd_node {
	struct sd_resource *resource;
	bool never;  /* the schema false */
	bool always; /* nothing to check */
	bool unique;
	unsigned types; /* 0: any */
	double multiple_of, maximum, minimum, exclusive_maximum, exclusive_minimum; /* NAN: not given */
	size_t max_length, min_length, max_items, min_items, max_properties, min_properties, max_contains, min_contains;
	const cJSON *one_of_values, *value; /* enum, const */
	struct sd_regex *pattern;

	struct sd_nodes prefix;
	struct sd_node *items, *contains, *unevaluated_items;

	struct sd_name *names;
	size_t nnames;
	struct sd_pattern *patterns;
	size_t npatterns;
	struct sd_node *additional, *property_names, *unevaluated_properties;

	struct sd_nodes all_of, any_of, one_of;
	struct sd_node *not_, *if_, *then_, *else_;
	struct sd_node *ref, *dynamic_ref;
	const char *dynamic_name; /* NULL: dynamic_ref is an ordinary reference */
	const struct sd_node *visited; /* while looking for loops */
};

/* A reference that waits until all of the document is known. */
struct sd_ref {
	struct sd_node *from;
	const char *text, *where;
	bool dynamic;
	struct sd_ref *next;
};

struct sd_doc {
	cJSON *tree;
	struct sd_doc *next;
};

struct sd_schema {
	struct sd_arena *arena;
	struct sd_doc *docs;
	struct sd_node *root;
	struct sd_node **nodes; /* node i belongs to the cJSON item whose valuedouble is i + 1 */
	size_t nnodes, cap;
	struct sd_resource *resources;
	struct sd_regex *regexes;
	pcre2_compile_context *pcre;
	struct sd_ref *refs; /* to be resolved */
	enum sd_schema_draft fallback;
};

/* schema.c */
struct sd_node *sd_schema_node(struct sd_schema *s, const cJSON *item, struct sd_resource *in, const struct sd_way *way, struct sd_err *err);
int sd_schema_wrong(struct sd_err *err, const struct sd_way *way, const char *fmt, ...) SD_PRINTF(3, 4);
/* schema_word.c: all keywords but $id, anchors and $schema. */
int sd_schema_words(struct sd_schema *s, struct sd_node *n, const cJSON *item, const struct sd_way *way, struct sd_err *err) SD_MUST_CHECK;

/* schema_regex.c */
struct sd_regex *sd_schema_regex(struct sd_schema *s, const char *text, const struct sd_way *way, struct sd_err *err);

/* schema_uri.c: reference against base (RFC 3986, 5.2), without its fragment; *fragment: decoded, "" for none. */
const char *sd_uri_resolve(struct sd_arena *a, const char *base, const char *reference, const char **fragment);

/* schema_meta.c: the text of a metaschema; NULL: the URI is none's. */
const char *sd_schema_meta(const char *uri);

/* schema_value.c */
bool sd_value_is_integer(const cJSON *v);
unsigned sd_value_types(const cJSON *v);
bool sd_value_equal(const cJSON *a, const cJSON *b, long *work); /* work is counted down; below 0 the answer is false */
uint64_t sd_value_hash(const cJSON *v, long *work);
bool sd_value_multiple(double v, double of);
size_t sd_text_chars(const char *s);
long sd_value_count(const cJSON *v);

/* ---- validation ---- */

/* Which members or items of a value were evaluated, for unevaluatedProperties and unevaluatedItems. */
struct sd_marks {
	bool all;
	unsigned char *bits; /* by position; malloc'ed when first needed */
	size_t n;
};
void sd_marks_fini(struct sd_marks *m);
void sd_marks_set(struct sd_marks *m, size_t index);
bool sd_marks_get(const struct sd_marks *m, size_t index);
void sd_marks_merge(struct sd_marks *to, const struct sd_marks *from);

/* The resources a validation went through, innermost first. */
struct sd_scope {
	const struct sd_scope *up;
	const struct sd_resource *resource;
};

struct sd_run {
	const cJSON *root;
	struct sd_violations *out; /* NULL: only the verdict */
	pcre2_match_data *match_data;
	pcre2_match_context *match;
	long work;     /* left */
	bool extended; /* work was raised by the value's size */
	bool over;     /* a limit was reached: everything is invalid */
	int silent;    /* > 0: inside of something that may fail */
	unsigned depth;
};

/* Where a (sub)schema meets a value. */
struct sd_spot {
	const struct sd_node *node;
	const cJSON *value;
	const struct sd_way *way;
	const struct sd_scope *scope;
	struct sd_marks *marks; /* NULL: nobody asks what is evaluated */
};

bool sd_run_node(struct sd_run *r, const struct sd_node *n, const cJSON *v, const struct sd_way *way, const struct sd_scope *scope,
		 struct sd_marks *marks);
/* Note a violation; false. */
bool sd_run_violation(struct sd_run *r, const struct sd_way *way, const char *keyword, const char *fmt, ...) SD_PRINTF(4, 5);
bool sd_run_equal(struct sd_run *r, const cJSON *a, const cJSON *b);
bool sd_run_spend(struct sd_run *r, long work); /* false: there is no more */
bool sd_run_matches(struct sd_run *r, const struct sd_regex *x, const char *text, const struct sd_way *way);
/* May the next keyword be left out, because the verdict is known and nobody wants more reasons? */
static inline bool sd_run_enough(const struct sd_run *r, bool ok)
{
	return !ok && (r->silent > 0 || r->over || r->out == NULL || r->out->more);
}
bool sd_run_array(struct sd_run *r, const struct sd_spot *at);
bool sd_run_unevaluated_items(struct sd_run *r, const struct sd_spot *at);
bool sd_run_object(struct sd_run *r, const struct sd_spot *at);
bool sd_run_unevaluated_properties(struct sd_run *r, const struct sd_spot *at);

#endif
