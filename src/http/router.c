/*
 * A tree of path segments.  Each node has its literal children, at most one
 * parameter child, and the routes that end there, one a method.  Parameter
 * names belong to the route, not to the node, so "/u/:id" and "/u/:name/posts"
 * share their first two nodes.
 */
#include "http/router.h"

#include "base/buf.h"
#include "http/target.h"

#include <stdbool.h>
#include <string.h>

struct route {
	struct route *next;
	const char *method, *pattern, *owner;
	int step, trigger;
	const char *names[SD_ROUTER_MAX_PARAMS];
	size_t nnames;
};

struct node {
	struct node *next; /* sibling */
	const char *literal; /* NULL: a parameter */
	size_t literal_len;
	struct node *literals, *param;
	struct route *routes;
};

struct sd_router {
	struct sd_arena *arena;
	struct node root;
};

struct segment {
	const char *s;
	size_t len;
};

struct sd_router *sd_router_new(struct sd_arena *arena)
{
	struct sd_router *r = sd_arena_zalloc(arena, sizeof(*r));

	r->arena = arena;
	return r;
}

static struct node *child_of(struct sd_router *r, struct node *n, const char *s, size_t len)
{
	struct node *c;

	if (len && s[0] == ':') {
		if (!n->param)
			n->param = sd_arena_zalloc(r->arena, sizeof(*n));
		return n->param;
	}
	for (c = n->literals; c; c = c->next)
		if (c->literal_len == len && memcmp(c->literal, s, len) == 0)
			return c;
	c = sd_arena_zalloc(r->arena, sizeof(*c));
	c->literal = sd_arena_memdup(r->arena, s, len);
	c->literal_len = len;
	c->next = n->literals;
	n->literals = c;
	return c;
}

static bool method_ok(const char *m)
{
	size_t n = strlen(m);

	return n > 0 && n <= 32 && strspn(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") == n;
}

/* Take the name of one ":name" segment. */
static int add_name(struct sd_router *r, struct route *route, const char *s, size_t len, struct sd_err *err)
{
	const char *name = sd_arena_memdup(r->arena, s, len);

	if (len == 0)
		return sd_err_set(err, SD_ERR_PERMANENT, "path \"%s\" has a parameter without a name", route->pattern);
	if (route->nnames == SD_ROUTER_MAX_PARAMS)
		return sd_err_set(err, SD_ERR_PERMANENT, "path \"%s\" has more than %d parameters", route->pattern, SD_ROUTER_MAX_PARAMS);
	for (size_t i = 0; i < route->nnames; i++)
		if (strcmp(route->names[i], name) == 0)
			return sd_err_set(err, SD_ERR_PERMANENT, "path \"%s\" has the parameter \":%s\" twice", route->pattern, name);
	route->names[route->nnames++] = name;
	return 0;
}

int sd_router_add(struct sd_router *r, const char *method, const char *pattern, int step, int trigger, const char *owner, struct sd_err *err)
{
	struct route *route = sd_arena_zalloc(r->arena, sizeof(*route)), *o;
	struct node *n = &r->root;
	size_t depth = 0;

	if (!method || !method_ok(method))
		return sd_err_set(err, SD_ERR_PERMANENT, "method \"%s\" is not an HTTP method in capitals", method ? method : "");
	if (!pattern || pattern[0] != '/')
		return sd_err_set(err, SD_ERR_PERMANENT, "path \"%s\" does not start with \"/\"", pattern ? pattern : "");
	route->method = sd_arena_strdup(r->arena, method);
	route->pattern = sd_arena_strdup(r->arena, pattern);
	route->owner = sd_arena_strdup(r->arena, owner ? owner : "?");
	route->step = step;
	route->trigger = trigger;
	for (const char *s = pattern + 1;; s++) {
		size_t len = strcspn(s, "/");

		if (++depth > SD_ROUTER_MAX_SEGMENTS)
			return sd_err_set(err, SD_ERR_PERMANENT, "path \"%s\" has more than %d segments", pattern, SD_ROUTER_MAX_SEGMENTS);
		if (s[0] == ':' && add_name(r, route, s + 1, len - 1, err) != 0)
			return -1;
		n = child_of(r, n, s, len);
		s += len;
		if (!*s)
			break;
	}
	for (o = n->routes; o; o = o->next) {
		if (strcmp(o->method, method) != 0)
			continue;
		sd_err_set(err, SD_ERR_PERMANENT, "route %s %s is served by two steps", method, pattern);
		return sd_err_detail(err, "%s has %s, %s has %s.", o->owner, o->pattern, route->owner, pattern);
	}
	route->next = n->routes;
	n->routes = route;
	return 0;
}

struct search {
	const struct segment *seg;
	size_t nseg;
	const char *method; /* NULL: collect what is allowed */
	const struct route *found;
	struct segment params[SD_ROUTER_MAX_SEGMENTS];
	size_t nparams;
	const struct route *allowed[16]; /* one a method */
	size_t nallowed;
};

static void allow(struct search *q, const struct route *r)
{
	for (size_t i = 0; i < q->nallowed; i++)
		if (strcmp(q->allowed[i]->method, r->method) == 0)
			return;
	if (q->nallowed < sizeof(q->allowed) / sizeof(q->allowed[0]))
		q->allowed[q->nallowed++] = r;
}

/* Depth first, literals before parameters; true when q->method was found.  At most SD_ROUTER_MAX_SEGMENTS deep. */
static bool walk(struct search *q, const struct node *n, size_t i)
{
	if (i == q->nseg) {
		for (const struct route *r = n->routes; r; r = r->next) {
			if (!q->method)
				allow(q, r);
			else if (strcmp(r->method, q->method) == 0) {
				q->found = r;
				return true;
			}
		}
		return false;
	}
	for (const struct node *c = n->literals; c; c = c->next)
		if (c->literal_len == q->seg[i].len && memcmp(c->literal, q->seg[i].s, c->literal_len) == 0 && walk(q, c, i + 1))
			return true;
	if (n->param && q->seg[i].len > 0) {
		q->params[q->nparams++] = q->seg[i];
		if (walk(q, n->param, i + 1))
			return true;
		q->nparams--;
	}
	return false;
}

static bool find(const struct sd_router *r, struct search *q, const char *method)
{
	q->method = method;
	q->nparams = 0;
	return walk(q, &r->root, 0);
}

/* Split raw at '/' and decode each segment; the count, 0 when there are too many, -1 when the encoding is broken. */
static int split(const char *raw, size_t len, struct sd_arena *arena, struct segment *seg, const char **path)
{
	char *out = sd_arena_alloc(arena, 2 * len + 2), *joined = sd_arena_alloc(arena, len + 1), *j = joined;
	const char *end = raw + len, *s = raw + 1;
	int n = 0;

	for (;;) {
		const char *slash = memchr(s, '/', (size_t)(end - s)), *stop = slash ? slash : end;
		ptrdiff_t k = sd_percent_decode(s, (size_t)(stop - s), false, out);

		if (k < 0)
			return -1;
		if (n == SD_ROUTER_MAX_SEGMENTS)
			return 0;
		seg[n].s = out;
		seg[n++].len = (size_t)k;
		*j++ = '/';
		memcpy(j, out, (size_t)k);
		j += k;
		out += k + 1;
		if (!slash)
			break;
		s = slash + 1;
	}
	*j = '\0';
	*path = joined;
	return n;
}

static const char *allow_text(const struct search *q, struct sd_arena *arena)
{
	struct sd_buf b = SD_BUF_INIT;
	bool get = false, head = false, options = false;
	const char *text;

	for (size_t i = q->nallowed; i-- > 0;) {
		const char *m = q->allowed[i]->method;

		get |= strcmp(m, "GET") == 0;
		head |= strcmp(m, "HEAD") == 0;
		options |= strcmp(m, "OPTIONS") == 0;
		sd_buf_printf(&b, "%s%s", b.len ? ", " : "", m);
	}
	if (get && !head)
		sd_buf_str(&b, ", HEAD");
	if (!options)
		sd_buf_str(&b, ", OPTIONS");
	text = sd_arena_memdup(arena, b.data, b.len);
	sd_buf_fini(&b);
	return text;
}

enum sd_route_result sd_router_match(const struct sd_router *r, const char *method, const char *raw, size_t raw_len,
				     struct sd_arena *arena, struct sd_route_match *m)
{
	struct segment seg[SD_ROUTER_MAX_SEGMENTS];
	struct search q = {.seg = seg};
	int n;

	memset(m, 0, sizeof(*m));
	if (raw_len == 0 || raw[0] != '/')
		return SD_ROUTE_NOT_FOUND;
	n = split(raw, raw_len, arena, seg, &m->path);
	if (n <= 0)
		return n < 0 ? SD_ROUTE_BAD_PATH : SD_ROUTE_NOT_FOUND;
	q.nseg = (size_t)n;
	if (!find(r, &q, method) && !(strcmp(method, "HEAD") == 0 && find(r, &q, "GET"))) {
		find(r, &q, NULL);
		if (q.nallowed == 0)
			return SD_ROUTE_NOT_FOUND;
		m->allow = allow_text(&q, arena);
		return strcmp(method, "OPTIONS") == 0 ? SD_ROUTE_OPTIONS : SD_ROUTE_WRONG_METHOD;
	}
	m->step = q.found->step;
	m->trigger = q.found->trigger;
	m->nparams = q.found->nnames;
	for (size_t i = 0; i < m->nparams; i++)
		m->params[i] = (struct sd_pair){q.found->names[i], q.params[i].s, q.params[i].len};
	return SD_ROUTE_FOUND;
}
