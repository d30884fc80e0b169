/* Pools against steps: see pools.h. */
#include "role/pools.h"

#include "base/suggest.h"

#include <stdlib.h>
#include <string.h>

#define MAX_LISTED 20

struct words {
	const char **v;
	size_t n;
};

static void add(struct words *w, const char *word)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->v[i], word) == 0)
			return;
	w->v = sd_xrealloc(w->v, (w->n + 1) * sizeof *w->v);
	w->v[w->n++] = word;
}

/* The queue that a trigger's jobs are in; NULL: it makes none. */
static const char *queue_of(const struct sd_mf_step *s, const struct sd_mf_trigger *t)
{
	if (t->type == SD_TRIGGER_QUEUE)
		return t->topic;
	return t->type == SD_TRIGGER_CRON || t->accepted ? s->name : NULL;
}

static void collect(const struct sd_conf *conf, const struct sd_manifest *m, struct words *queues, struct words *steps)
{
	for (size_t i = 0; i < conf->nqueues; i++)
		add(queues, conf->queues[i].name);
	for (size_t i = 0; i < m->nsteps; i++) {
		add(steps, m->steps[i].name);
		for (size_t k = 0; k < m->steps[i].ntriggers; k++) {
			const char *queue = queue_of(&m->steps[i], &m->steps[i].triggers[k]);

			if (queue != NULL)
				add(queues, queue);
		}
	}
}

static size_t check_names(const struct sd_conf *conf, const struct sd_conf_pool *pool, const char *what,
			  const struct sd_conf_names *names, const struct words *known, struct sd_buf *errors)
{
	size_t bad = 0;

	for (size_t i = 0; i < names->n; i++) {
		const char *near = sd_suggest(names->v[i], known->v, known->n);
		bool found = false;

		for (size_t k = 0; k < known->n && !found; k++)
			found = strcmp(known->v[k], names->v[i]) == 0;
		if (found)
			continue;
		sd_buf_printf(errors, "%s:%d:%d: pools.%s.%ss: there is no %s \"%.100s\"", conf->file, names->line, names->col,
			      pool->name, what, what, names->v[i]);
		if (near != NULL)
			sd_buf_printf(errors, ", did you mean \"%s\"?", near);
		sd_buf_chr(errors, '\n');
		bad++;
	}
	return bad;
}

static bool is_run(const struct sd_conf *conf, const char *queue, const char *step)
{
	for (size_t i = 0; i < conf->npools; i++)
		if (sd_conf_pool_runs(&conf->pools[i], queue, step))
			return true;
	return false;
}

static bool any_serves(const struct sd_conf *conf, unsigned what)
{
	for (size_t i = 0; i < conf->npools; i++)
		if (conf->pools[i].serves & what)
			return true;
	return false;
}

static void warn_of_idle_queues(const struct sd_conf *conf, const struct sd_manifest *m, struct sd_buf *warnings)
{
	bool serves = any_serves(conf, SD_SERVES_QUEUE);
	size_t n = 0;

	for (size_t i = 0; i < m->nsteps; i++) {
		const struct sd_mf_step *s = &m->steps[i];

		for (size_t k = 0; k < s->ntriggers; k++) {
			const char *queue = queue_of(s, &s->triggers[k]);

			if (queue == NULL || is_run(conf, queue, s->name) || ++n > (serves ? MAX_LISTED : 1))
				continue;
			if (serves)
				sd_buf_printf(warnings, "no pool of this node runs step %s for queue %s\n", s->name, queue);
			else
				sd_buf_str(warnings, "no pool of this node serves queue: jobs wait for other nodes\n");
		}
	}
	if (serves && n > MAX_LISTED)
		sd_buf_printf(warnings, "and %zu more\n", n - MAX_LISTED);
}

static void warn_of_idle_routes(const struct sd_conf *conf, const struct sd_manifest *m, struct sd_buf *warnings)
{
	if (conf->http.listen.host == NULL || any_serves(conf, SD_SERVES_HTTP))
		return;
	for (size_t i = 0; i < m->nsteps; i++) {
		for (size_t k = 0; k < m->steps[i].ntriggers; k++) {
			if (m->steps[i].triggers[k].type != SD_TRIGGER_HTTP || m->steps[i].triggers[k].accepted)
				continue;
			sd_buf_str(warnings, "no pool serves http: requests will get 503\n");
			return;
		}
	}
}

size_t sd_pools_check(const struct sd_conf *conf, const struct sd_manifest *m, struct sd_buf *errors, struct sd_buf *warnings)
{
	struct words queues = {NULL, 0}, steps = {NULL, 0};
	size_t bad = 0;

	collect(conf, m, &queues, &steps);
	for (size_t i = 0; i < conf->npools; i++) {
		const struct sd_conf_pool *p = &conf->pools[i];

		bad += check_names(conf, p, "queue", &p->queues, &queues, errors);
		bad += check_names(conf, p, "step", &p->steps, &steps, errors);
	}
	warn_of_idle_queues(conf, m, warnings);
	warn_of_idle_routes(conf, m, warnings);
	free(queues.v);
	free(steps.v);
	return bad;
}
