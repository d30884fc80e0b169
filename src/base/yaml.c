/*
 * YAML as configuration files need it; see the header.
 *
 * libyaml's events become nodes on an explicit stack, which is what caps the
 * depth: libyaml is stopped at the first event that is too deep and so never
 * gets to nest in quadratic time.
 */
#include "base/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct build {
	struct sd_arena *arena;
	struct sd_yaml_problem *problem;
	struct sd_yaml *root;
	bool mark; /* duplicate keys, instead of refusing them */
	int depth;
	struct level {
		struct sd_yaml *node;
		struct sd_yaml *last; /* its last child */
		struct sd_yaml *key;  /* mapping: read, its value not yet */
	} stack[SD_YAML_MAX_DEPTH];
};

const char *sd_yaml_kind_name(enum sd_yaml_kind kind)
{
	return kind == SD_YAML_SCALAR ? "text" : kind == SD_YAML_SEQUENCE ? "list" : "mapping";
}

static int refuse(struct build *b, int line, int col, const char *fmt, ...) SD_PRINTF(4, 5);

static int refuse(struct build *b, int line, int col, const char *fmt, ...)
{
	va_list ap;

	b->problem->line = line;
	b->problem->col = col;
	va_start(ap, fmt);
	vsnprintf(b->problem->text, sizeof b->problem->text, fmt, ap);
	va_end(ap);
	return -1;
}

/* libyaml counts from 0; a mark can not pass the size cap. */
static int place(size_t n)
{
	return (int)n + 1;
}

static int refuse_at(struct build *b, const yaml_mark_t *mark, const char *what, const char *name)
{
	return refuse(b, place(mark->line), place(mark->column), what, name);
}

/* The byte of the text that a mark, which counts characters, is at; len: none. */
static size_t offset(const yaml_mark_t *mark, const char *text, size_t len)
{
	size_t i = 0;

	for (size_t line = 0; line < mark->line && i < len; i++)
		line += text[i] == '\n';
	for (size_t col = 0; i < len && (col < mark->column || ((unsigned char)text[i] & 0xc0) == 0x80); i++)
		col += ((unsigned char)text[i] & 0xc0) != 0x80;
	return i;
}

/* What libyaml's words do not tell of frequent slips, by the character at the mark; false: its words will do. */
static bool refuse_slip(struct build *b, const yaml_parser_t *p, const char *text, size_t len)
{
	int line = place(p->problem_mark.line), col = place(p->problem_mark.column);
	size_t i = offset(&p->problem_mark, text, len);

	if (i == len)
		return false;
	if (i > 0 && text[i] == '{' && text[i - 1] == '$')
		refuse(b, line, col, "within { } and [ ] a ${NAME} needs quotes: \"${NAME}\"");
	else if (text[i] == '\t')
		refuse(b, line, col, "a tab can not stand here: YAML is indented with spaces");
	else if (text[i] == '@' || text[i] == '`')
		refuse(b, line, col, "a value that begins with %c needs quotes", text[i]);
	else
		return false;
	return true;
}

/* libyaml's own complaint.  Its reader (bad UTF-8, control characters) gives an offset instead of a place. */
static int refuse_syntax(struct build *b, const yaml_parser_t *p, const char *text, size_t len)
{
	if (p->error == YAML_READER_ERROR) {
		int line = 1, col = 1;

		for (size_t i = 0; i < p->problem_offset && i < len; i++) {
			if (text[i] == '\n') {
				line++;
				col = 1;
			} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
				col++;
			}
		}
		if (p->problem_value >= 0)
			return refuse(b, line, col, "%s (0x%02x)", p->problem, (unsigned)p->problem_value);
		return refuse(b, line, col, "%s", p->problem);
	}
	if (p->error == YAML_MEMORY_ERROR || p->problem == NULL)
		return refuse(b, 1, 1, "out of memory while reading YAML");
	if (refuse_slip(b, p, text, len))
		return -1;
	if (p->context != NULL)
		return refuse(b, place(p->problem_mark.line), place(p->problem_mark.column), "%s (%s that starts at %d:%d)",
			      p->problem, p->context, place(p->context_mark.line), place(p->context_mark.column));
	return refuse(b, place(p->problem_mark.line), place(p->problem_mark.column), "%s", p->problem);
}

/* The order of names, then of places. */
static int compare_keys(const void *pa, const void *pb)
{
	const struct sd_yaml *a = *(struct sd_yaml *const *)pa, *b = *(struct sd_yaml *const *)pb;
	int c = strcmp(a->text, b->text);

	if (c == 0)
		c = a->line != b->line ? (a->line < b->line ? -1 : 1) : (a->col > b->col) - (a->col < b->col);
	return c;
}

/* By sorting: a mapping of 100,000 members must not cost 10^10 comparisons. */
static int find_duplicates(struct build *b, const struct sd_yaml *map)
{
	struct sd_yaml **keys, *first = NULL, *second = NULL;
	size_t n = 0;

	if (map->n < 2)
		return 0;
	keys = sd_xmalloc(map->n * sizeof keys[0]);
	for (const struct sd_yaml *v = map->child; v != NULL; v = v->next)
		keys[n++] = v->key;
	qsort(keys, n, sizeof keys[0], compare_keys);
	for (size_t i = 1; i < n; i++) {
		if (strcmp(keys[i - 1]->text, keys[i]->text) != 0)
			continue;
		if (b->mark) {
			keys[i]->twin = keys[i - 1];
			continue;
		}
		if (second == NULL || keys[i]->line < second->line ||
		    (keys[i]->line == second->line && keys[i]->col < second->col)) {
			first = keys[i - 1];
			second = keys[i];
		}
	}
	free(keys);
	if (second == NULL)
		return 0;
	return refuse(b, second->line, second->col, "key \"%.80s\" is given twice, first at %d:%d", second->text, first->line,
		      first->col);
}

/* Hang node where it belongs; it may be a key. */
static int attach(struct build *b, struct sd_yaml *node)
{
	struct level *top;

	if (b->depth == 0) {
		b->root = node;
		return 0;
	}
	top = &b->stack[b->depth - 1];
	if (top->node->kind == SD_YAML_MAPPING) {
		if (top->key == NULL) {
			if (node->kind != SD_YAML_SCALAR)
				return refuse(b, node->line, node->col, "a key must be text, not a %s",
					      sd_yaml_kind_name(node->kind));
			top->key = node;
			return 0;
		}
		node->key = top->key;
		top->key = NULL;
	}
	if (top->last != NULL)
		top->last->next = node;
	else
		top->node->child = node;
	top->last = node;
	top->node->n++;
	return 0;
}

static struct sd_yaml *node_new(struct build *b, enum sd_yaml_kind kind, const yaml_mark_t *mark)
{
	struct sd_yaml *node = sd_arena_zalloc(b->arena, sizeof *node);

	node->kind = kind;
	node->line = place(mark->line);
	node->col = place(mark->column);
	return node;
}

static int refuse_marks(struct build *b, const yaml_event_t *e, const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor != NULL)
		return refuse_at(b, &e->start_mark, "anchors (&%.60s) are not supported", (const char *)anchor);
	if (tag != NULL)
		return refuse_at(b, &e->start_mark, "tags (%.60s) are not supported", (const char *)tag);
	return 0;
}

static int on_scalar(struct build *b, const yaml_event_t *e)
{
	const char *value = (const char *)e->data.scalar.value;
	struct sd_yaml *node;

	if (refuse_marks(b, e, e->data.scalar.anchor, e->data.scalar.tag) < 0)
		return -1;
	if (memchr(value, '\0', e->data.scalar.length) != NULL)
		return refuse_at(b, &e->start_mark, "a zero byte in text is not %s", "supported");
	node = node_new(b, SD_YAML_SCALAR, &e->start_mark);
	node->text = sd_arena_memdup(b->arena, value, e->data.scalar.length);
	node->len = e->data.scalar.length;
	node->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return attach(b, node);
}

static int on_start(struct build *b, const yaml_event_t *e)
{
	bool map = e->type == YAML_MAPPING_START_EVENT;
	struct sd_yaml *node;

	if (refuse_marks(b, e, map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor,
			 map ? e->data.mapping_start.tag : e->data.sequence_start.tag) < 0)
		return -1;
	if (b->depth == SD_YAML_MAX_DEPTH)
		return refuse(b, place(e->start_mark.line), place(e->start_mark.column), "nested more than %d levels deep",
			      SD_YAML_MAX_DEPTH);
	node = node_new(b, map ? SD_YAML_MAPPING : SD_YAML_SEQUENCE, &e->start_mark);
	if (attach(b, node) < 0)
		return -1;
	b->stack[b->depth++] = (struct level){.node = node};
	return 0;
}

/* One event; *done at the end of the stream. */
static int on_event(struct build *b, const yaml_event_t *e, bool *done)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return on_scalar(b, e);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return on_start(b, e);
	case YAML_SEQUENCE_END_EVENT:
		b->depth--;
		return 0;
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		return find_duplicates(b, b->stack[b->depth].node);
	case YAML_ALIAS_EVENT:
		return refuse_at(b, &e->start_mark, "aliases (*%.60s) are not supported", (const char *)e->data.alias.anchor);
	case YAML_DOCUMENT_START_EVENT:
		if (b->root != NULL)
			return refuse_at(b, &e->start_mark, "a second document is not %s", "supported");
		return 0;
	case YAML_STREAM_END_EVENT:
		*done = true;
		return 0;
	default:
		return 0;
	}
}

static struct sd_yaml *parse(const char *text, size_t len, struct sd_arena *arena, struct sd_yaml_problem *problem, bool mark)
{
	struct build b = {.arena = arena, .problem = problem, .mark = mark};
	yaml_parser_t parser;
	yaml_event_t event;
	bool done = false;
	int rc = 0;

	if (len > SD_YAML_MAX_SIZE) {
		refuse(&b, 1, 1, "larger than %d bytes", SD_YAML_MAX_SIZE);
		return NULL;
	}
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	if (!yaml_parser_initialize(&parser)) {
		refuse(&b, 1, 1, "out of memory while reading YAML");
		return NULL;
	}
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	while (!done && rc == 0) {
		if (!yaml_parser_parse(&parser, &event)) {
			rc = refuse_syntax(&b, &parser, text, len);
			break;
		}
		rc = on_event(&b, &event, &done);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	if (rc < 0)
		return NULL;
	if (b.root == NULL) {
		b.root = node_new(&b, SD_YAML_SCALAR, &(yaml_mark_t){0, 0, 0});
		b.root->text = "";
		b.root->plain = true;
	}
	return b.root;
}

struct sd_yaml *sd_yaml_parse(const char *text, size_t len, struct sd_arena *arena, struct sd_yaml_problem *problem)
{
	return parse(text, len, arena, problem, false);
}

struct sd_yaml *sd_yaml_parse_all(const char *text, size_t len, struct sd_arena *arena, struct sd_yaml_problem *problem)
{
	return parse(text, len, arena, problem, true);
}

const struct sd_yaml *sd_yaml_get(const struct sd_yaml *map, const char *key)
{
	if (map == NULL || map->kind != SD_YAML_MAPPING)
		return NULL;
	for (const struct sd_yaml *v = map->child; v != NULL; v = v->next)
		if (strcmp(v->key->text, key) == 0)
			return v;
	return NULL;
}

/* The spellings of YAML 1.2's core schema. */
bool sd_yaml_is_null(const struct sd_yaml *node)
{
	return node != NULL && node->kind == SD_YAML_SCALAR && node->plain &&
	       (node->len == 0 || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
		strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}
