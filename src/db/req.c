/* Lists of requests.  Values are copied only for a request that has to wait: one that is sent at once lends its caller's. */
#include "db/req.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void sd_reqs_init(struct sd_reqs *l)
{
	*l = (struct sd_reqs){.tail = &l->head};
}

void sd_reqs_add(struct sd_reqs *l, struct sd_req *r)
{
	r->next = NULL;
	*l->tail = r;
	l->tail = &r->next;
	l->n++;
}

struct sd_req *sd_reqs_pop(struct sd_reqs *l)
{
	struct sd_req *r = l->head;
	if (r) {
		l->head = r->next;
		l->n--;
		if (!l->head)
			l->tail = &l->head;
	}
	return r;
}

void sd_reqs_split(struct sd_reqs *from, struct sd_reqs *out, bool (*match)(const struct sd_req *, int64_t), int64_t arg)
{
	struct sd_reqs keep;
	sd_reqs_init(&keep);
	for (struct sd_req *r; (r = sd_reqs_pop(from));)
		sd_reqs_add(match(r, arg) ? out : &keep, r);
	*from = keep;
	if (!keep.head)
		from->tail = &from->head;
}

struct sd_reqs sd_reqs_take(struct sd_reqs *l)
{
	struct sd_reqs all = *l; /* its tail is only good while it is not empty: it is for popping */
	sd_reqs_init(l);
	return all;
}

struct sd_req *sd_req_new(enum sd_req_kind kind, sd_db_done *done, void *arg)
{
	struct sd_req *r = sd_xcalloc(1, sizeof *r);
	r->kind = kind;
	r->done = done;
	r->arg = arg;
	r->deadline_us = INT64_MAX;
	return r;
}

void sd_req_values_free(struct sd_req *r)
{
	for (size_t i = 0; i < r->ncalls; i++) {
		free((void *)r->calls[i].values);
		r->calls[i].values = NULL;
	}
}

void sd_req_free(struct sd_req *r)
{
	sd_req_values_free(r);
	for (size_t i = 0; i < r->nresults; i++)
		PQclear(r->results[i]);
	PQclear(r->error);
	free(r);
}

const char *const *sd_req_values_copy(const char *const *values, int n)
{
	size_t size = sizeof(char *) * (size_t)(n ? n : 1), lens = 0;
	for (int i = 0; i < n; i++)
		lens += values[i] ? strlen(values[i]) + 1 : 0;
	char **copy = sd_xmalloc(size + lens), *p = (char *)copy + size;
	for (int i = 0; i < n; i++) {
		size_t len = values[i] ? strlen(values[i]) + 1 : 0;
		copy[i] = len ? memcpy(p, values[i], len) : NULL;
		p += len;
	}
	return (const char *const *)copy;
}

static void sd_req_fail(struct sd_req *r, const struct sd_err *err)
{
	if (r->done)
		r->done(r->arg, NULL, r->ncalls, err);
	sd_req_free(r);
}

void sd_reqs_fail(struct sd_reqs *l, const struct sd_err *err)
{
	for (struct sd_req *r; (r = sd_reqs_pop(l));)
		sd_req_fail(r, err);
}

bool sd_req_is_expired(const struct sd_req *r, int64_t now)
{
	return r->deadline_us <= now;
}

bool sd_req_will_not_wait(const struct sd_req *r, int64_t unused)
{
	(void)unused;
	return !(r->flags & SD_DB_WAIT);
}

struct sd_req_stmt *sd_req_stmt_find(struct sd_req_stmt *list, const char *name)
{
	for (struct sd_req_stmt *s = list; s; s = s->next)
		if (s->name == name || strcmp(s->name, name) == 0)
			return s;
	return NULL;
}

struct sd_req_stmt *sd_req_stmt_get(struct sd_req_stmt **list, const char *name)
{
	struct sd_req_stmt *s = sd_req_stmt_find(*list, name);
	if (!s) {
		s = sd_xcalloc(1, sizeof *s);
		s->name = name;
		s->next = *list;
		*list = s;
	}
	return s;
}

void sd_req_stmts_free(struct sd_req_stmt **list)
{
	for (struct sd_req_stmt *s; (s = *list);) {
		*list = s->next;
		free(s);
	}
}
