/*
 * A generation: one configuration, its steps, its sockets and its children.
 * It starts in order (keeper, and when that is ready all others), serves, and
 * retires when a younger one took over or it could not be finished.
 */
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "role/setup.h"
#include "role/super.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELOAD_TRIES 3	       /* deaths before ready that end a reload */
#define HTTP_EXTRA_US (5 * SD_SEC) /* a retiring http beyond its own request timeout */
#define FAILED_DRAIN_US (5 * SD_SEC)

/* ---- making ---- */

/* Two generations of at most SD_CONF_MAX_POOLS pools each need one: those that retire have given theirs back. */
static int take_number(struct sd_scoreboard *sb, uint32_t conf_generation, int pool_index)
{
	for (int i = 0; i < SD_GROUPS; i++) {
		if (atomic_load(&sb->group[i].conf_generation) != 0)
			continue;
		atomic_store(&sb->group[i].pool, pool_index);
		atomic_store(&sb->group[i].deaths, 0);
		atomic_store(&sb->group[i].conf_generation, (int32_t)conf_generation);
		return i;
	}
	return -1;
}

static void give_numbers_back(struct sd_scoreboard *sb, struct sd_gen *gen)
{
	for (size_t i = 0; i < gen->ngroups; i++) {
		if (gen->groups[i].number >= 0)
			atomic_store(&sb->group[gen->groups[i].number].conf_generation, 0);
		gen->groups[i].number = -1;
	}
}

static void add_group(struct sd_super *su, struct sd_gen *gen, enum sd_role_kind role, int pool_index, unsigned want)
{
	struct sd_group *g = &gen->groups[gen->ngroups++];

	*g = (struct sd_group){.role = role, .pool_index = pool_index, .number = -1, .want = want, .gen = gen};
	if (pool_index >= 0)
		g->number = take_number(su->sb, gen->number, pool_index);
	if (pool_index >= 0) {
		g->pool = &gen->conf->pools[pool_index];
		sd_group_show(su, g);
		snprintf(g->name, sizeof g->name, "%s %s", sd_roles[role].name, g->pool->name);
	} else {
		snprintf(g->name, sizeof g->name, "%s", sd_roles[role].name);
	}
}

static bool has_http(const struct sd_conf *conf)
{
	return conf->http.listen.host != NULL || conf->admin.listen.host != NULL;
}

unsigned sd_conf_children(const struct sd_conf *conf)
{
	unsigned n = SD_GEN_FIXED;

	for (size_t i = 0; i < conf->npools; i++)
		n += (unsigned)conf->pools[i].max * (!!(conf->pools[i].serves & SD_SERVES_QUEUE) + !!(conf->pools[i].serves & SD_SERVES_HTTP));
	return n;
}

static void add_groups(struct sd_super *su, struct sd_gen *gen)
{
	const struct sd_conf *conf = gen->conf;

	gen->groups = sd_xcalloc(SD_GEN_FIXED + 2 * conf->npools, sizeof *gen->groups);
	add_group(su, gen, SD_ROLE_KEEPER, -1, 1);
	add_group(su, gen, SD_ROLE_CRON, -1, 1);
	add_group(su, gen, SD_ROLE_HTTP, -1, has_http(conf) ? 1 : 0);
	for (size_t i = 0; i < conf->npools; i++) {
		if (conf->pools[i].serves & SD_SERVES_QUEUE)
			add_group(su, gen, SD_ROLE_WORKER, (int)i, sd_group_first_want(su, &conf->pools[i]));
		if ((conf->pools[i].serves & SD_SERVES_HTTP) && conf->http.listen.host != NULL)
			add_group(su, gen, SD_ROLE_WEB, (int)i, sd_group_first_want(su, &conf->pools[i]));
	}
}

/* The socket for an address: the one a generation already has, the service manager's, or a new one. */
static int take_listener(struct sd_super *su, const struct sd_conf_listen *at, bool admin, struct sd_listener **out,
			 struct sd_err *err)
{
	char address[300];
	int fd;

	*out = NULL;
	if (at->host == NULL)
		return 0;
	for (struct sd_gen *g = su->gens; g != NULL; g = g->next) {
		struct sd_listener *l = admin ? g->admin : g->http;

		if (l != NULL && sd_listen_same(l, at->host, at->port)) {
			*out = sd_listen_ref(l);
			return 0;
		}
	}
	fd = sd_notify_listen_fd(admin ? "admin" : "http", admin ? 1 : 0);
	*out = fd >= 0 ? sd_listen_adopt(fd) : sd_listen_open(at->host, at->port, err);
	if (*out == NULL)
		return sd_err_prefix(err, "%s.listen", admin ? "admin" : "http");
	sd_listen_address(*out, address, sizeof address);
	sd_log(SD_LOG_INFO, "%s listens on %s", admin ? "admin" : "http", address);
	return 0;
}

static int open_sockets(struct sd_super *su, struct sd_gen *gen, struct sd_err *err)
{
	gen->web_listen = -1;
	if (take_listener(su, &gen->conf->http.listen, false, &gen->http, err) != 0 ||
	    take_listener(su, &gen->conf->admin.listen, true, &gen->admin, err) != 0)
		return -1;
	if (gen->conf->http.listen.host == NULL && gen->conf->admin.listen.host == NULL) /* no http process */
		return 0;
	gen->web_listen = sd_listen_unix(err);
	return gen->web_listen < 0 ? -1 : 0;
}

static void gen_free(struct sd_gen *gen)
{
	sd_listen_unref(gen->http);
	sd_listen_unref(gen->admin);
	sd_close(&gen->web_listen);
	sd_conf_free(gen->conf);
	free(gen->manifest);
	free(gen->groups);
	free(gen);
}

struct sd_gen *sd_gen_new(struct sd_super *su, struct sd_conf *conf, char *manifest, size_t manifest_len, size_t nsteps,
			  struct sd_err *err)
{
	struct sd_gen *gen = sd_xcalloc(1, sizeof *gen);

	gen->conf = conf;
	gen->web_listen = -1;
	if (sd_setup_pool_users(conf, su->embedded != NULL, gen->users, &gen->other_users, err) != 0 || open_sockets(su, gen, err) != 0) {
		gen->conf = NULL;
		gen_free(gen);
		free(manifest);
		return NULL;
	}
	gen->manifest = manifest;
	gen->manifest_len = manifest_len;
	gen->nsteps = nsteps;
	gen->number = ++su->last_number;
	add_groups(su, gen);
	gen->next = su->gens;
	su->gens = gen;
	return gen;
}

/* ---- keeping up ---- */

static bool is_taken(const struct sd_super *su, const struct sd_group *group, int index)
{
	const struct sd_kid *k = su->kids;

	while (k != NULL && !(k->group == group && k->index == index && sd_kid_present(k)))
		k = k->next;
	return k != NULL;
}

/* That of one that waits for its successor, or the lowest. */
static int free_index(const struct sd_super *su, const struct sd_group *group)
{
	int i = 0;

	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group == group && k->superseded && k->state == SD_KID_READY && !is_taken(su, group, k->index))
			return k->index;
	while (is_taken(su, group, i))
		i++;
	return i;
}

void sd_group_fill(struct sd_super *su, struct sd_group *group)
{
	unsigned present = sd_kids_count(su, group, false), ready = sd_kids_count(su, group, true), n;

	if (present >= group->want)
		return;
	n = sd_health_allow(&group->health, group->want - present, present - ready, sd_now_us());
	while (n-- > 0)
		if (sd_kid_start(su, group, free_index(su, group)) == NULL)
			return;
}

static void fill_all(struct sd_super *su, struct sd_gen *gen)
{
	for (size_t i = 0; i < gen->ngroups; i++)
		sd_group_fill(su, &gen->groups[i]);
}

static bool all_ready(const struct sd_super *su, const struct sd_gen *gen)
{
	for (size_t i = 0; i < gen->ngroups; i++)
		if (sd_kids_count(su, &gen->groups[i], true) < gen->groups[i].want)
			return false;
	return true;
}

static void drain_superseded(struct sd_super *su, const struct sd_gen *gen)
{
	for (struct sd_kid *old = su->kids; old != NULL; old = old->next) {
		if (old->group->gen != gen || !old->superseded || old->state != SD_KID_READY)
			continue;
		for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
			if (k->group == old->group && k->index == old->index && sd_kid_present(k) && k->state == SD_KID_READY) {
				atomic_store(&sd_kid_slot(old)->relieved, old->worn);
				sd_kid_event(old, SD_KID_WANT_DRAIN, 0);
				break;
			}
		}
	}
}

static void first_not_ready(const struct sd_super *su, const struct sd_gen *gen, char *out, size_t outlen)
{
	for (size_t i = 0; i < gen->ngroups; i++) {
		if (sd_kids_count(su, &gen->groups[i], true) < gen->groups[i].want) {
			snprintf(out, outlen, "%s", gen->groups[i].name);
			return;
		}
	}
	snprintf(out, outlen, "a child");
}

/* Only a reload gives up by itself: a start goes on trying, the service manager has its own limit. */
static void look_for_failure(struct sd_super *su, struct sd_gen *gen)
{
	char name[64];

	if (gen->why[0] == '\0' && gen->give_up_us != 0) {
		for (size_t i = 0; i < gen->ngroups; i++)
			if (gen->groups[i].health.respawn.deaths >= RELOAD_TRIES)
				snprintf(gen->why, sizeof gen->why, "%s died %d times before it was ready", gen->groups[i].name,
					 gen->groups[i].health.respawn.deaths);
		if (gen->why[0] == '\0' && sd_now_us() >= gen->give_up_us) {
			first_not_ready(su, gen, name, sizeof name);
			snprintf(gen->why, sizeof gen->why, "%s was not ready in time", name);
		}
	}
	if (gen->why[0] != '\0')
		sd_super_event(su, SD_ON_GEN_FAILED);
}

static void settle_building(struct sd_super *su, struct sd_gen *gen)
{
	if (gen->state == SD_GEN_KEEPER) {
		sd_group_fill(su, &gen->groups[0]);
		if (sd_kids_count(su, &gen->groups[0], true) > 0) {
			gen->state = SD_GEN_REST;
			gen->keeper_was_ready = true;
		}
	}
	if (gen->state == SD_GEN_REST) {
		fill_all(su, gen);
		if (all_ready(su, gen)) {
			gen->state = SD_GEN_LIVE;
			sd_super_event(su, SD_ON_GEN_LIVE);
			return;
		}
	}
	look_for_failure(su, gen);
}

/* ---- going ---- */

static unsigned kids_of_role(const struct sd_super *su, const struct sd_gen *gen, enum sd_role_kind role)
{
	unsigned n = 0;

	for (const struct sd_kid *k = su->kids; k != NULL; k = k->next)
		if (k->group->gen == gen && k->group->role == role)
			n++;
	return n;
}

/*
 * Workers may finish what they run, however long it takes: a reload costs no
 * job its time.  http gets its own request timeout, and its web workers go
 * after it, because it needs them to answer.
 */
static void settle_retiring(struct sd_super *su, struct sd_gen *gen)
{
	int64_t now = sd_now_us(), failed = gen->why[0] != '\0' ? now + FAILED_DRAIN_US : 0;
	bool http_left = kids_of_role(su, gen, SD_ROLE_HTTP) > 0;

	for (struct sd_kid *k = su->kids; k != NULL; k = k->next) {
		int64_t late = failed;

		if (k->group->gen != gen || k->state > SD_KID_DRAINING)
			continue;
		if (k->group->role == SD_ROLE_WEB && http_left)
			continue;
		if (k->group->role == SD_ROLE_HTTP && late == 0)
			late = now + gen->conf->http.timeout_ms * SD_MS + HTTP_EXTRA_US;
		else if (!sd_roles[k->group->role].holds_jobs && late == 0)
			late = now + FAILED_DRAIN_US;
		sd_kid_event(k, SD_KID_WANT_DRAIN, late);
	}
}

void sd_gen_retire(struct sd_super *su, struct sd_gen *gen)
{
	gen->state = SD_GEN_RETIRING;
	gen->give_up_us = 0;
	give_numbers_back(su->sb, gen);
	settle_retiring(su, gen);
}

bool sd_gen_collect(struct sd_super *su, struct sd_gen *gen)
{
	if (gen->state != SD_GEN_RETIRING)
		return false;
	for (int role = 0; role < SD_ROLE_COUNT; role++)
		if (kids_of_role(su, gen, (enum sd_role_kind)role) > 0)
			return false;
	for (struct sd_gen **p = &su->gens; *p != NULL; p = &(*p)->next) {
		if (*p == gen) {
			*p = gen->next;
			break;
		}
	}
	sd_log(SD_LOG_DEBUG, "generation %u is gone", gen->number);
	gen_free(gen);
	return true;
}

void sd_gen_settle(struct sd_super *su, struct sd_gen *gen)
{
	switch (gen->state) {
	case SD_GEN_KEEPER:
	case SD_GEN_REST:
		settle_building(su, gen);
		break;
	case SD_GEN_LIVE:
		for (size_t i = 0; i < gen->ngroups; i++)
			sd_group_resize(su, &gen->groups[i]);
		fill_all(su, gen);
		drain_superseded(su, gen);
		break;
	case SD_GEN_RETIRING:
		settle_retiring(su, gen);
		break;
	}
}
