/*
 * Work that waits for workers which are not there: asked for a pool that may
 * grow as long as none of its workers is idle, when work is made ready and every
 * few hundredths of a second until a second after the last that was seen to wait.  A pool without any
 * worker is told of at once; otherwise work has to be seen waiting twice, because
 * a busy worker may have been about to take it.  What follows from it, the
 * supervisor decides (size.h).
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_SECONDS 0.05
#define WATCH_US SD_SEC
#define BACKLOG_TIMEOUT_MS 5000

static const struct sd_db_stmt st_backlog = {"backlog", "select pool, jobs from stepd.backlog($1)", 1};

struct pool_state {
	int group; /* in the scoreboard; -1: not there */
	unsigned ready, idle;
	int room; /* how many workers more it may have */
};

/* The group of our generation that is this pool. */
static void look_at(const struct sd_keeper *k, int pool, struct pool_state *s)
{
	const struct sd_scoreboard *sb = k->child->scoreboard;
	int32_t generation = atomic_load(&k->child->slot->conf_generation);

	*s = (struct pool_state){.group = -1};
	for (int i = 0; i < SD_GROUPS; i++)
		if (atomic_load(&sb->group[i].conf_generation) == generation && atomic_load(&sb->group[i].pool) == pool)
			s->group = i;
	if (s->group < 0)
		return;
	s->room = atomic_load(&sb->group[s->group].max) - atomic_load(&sb->group[s->group].want);
	for (uint32_t i = 0; i < sb->nslots; i++) {
		const struct sd_slot *slot = &sb->slot[i];

		if (atomic_load(&slot->state) != SD_SLOT_READY || atomic_load(&slot->group) != s->group)
			continue;
		s->ready++;
		s->idle += atomic_load(&slot->asleep) == SD_ASLEEP; /* with quick jobs a worker claims nearly all the time */
	}
}

static void put_pool(const struct sd_keeper *k, struct sd_buf *b, int pool, int max)
{
	const struct sd_conf_pool *p = &k->child->conf->pools[pool];

	sd_buf_printf(b, "%s{\"pool\":%d,\"max\":%d,\"steps\":", b->len > 1 ? "," : "", pool, max);
	if (p->steps.n > 0)
		sd_buf_json_strs(b, p->steps.v, p->steps.n);
	else
		sd_buf_json_strs(b, k->steps, k->nsteps);
	sd_buf_str(b, ",\"queues\":");
	if (p->queues.n > 0)
		sd_buf_json_strs(b, p->queues.v, p->queues.n);
	else
		sd_buf_str(b, "null");
	sd_buf_chr(b, '}');
}

static void ask_again(struct sd_keeper *k)
{
	if (!ev_is_active(&k->demand_timer)) {
		ev_timer_set(&k->demand_timer, AGAIN_SECONDS, 0.);
		ev_timer_start(k->loop, &k->demand_timer);
	}
}

static void tell(const struct sd_keeper *k, int group, int jobs)
{
	struct sd_msg msg = {.type = SD_MSG_DEMAND, .demand = {.group = group, .waiting = jobs}};
	struct sd_err err;

	if (sd_chan_send(k->child->chan, &msg, &err) != 0)
		sd_log(SD_LOG_DEBUG, "demand not told: %s", err.message); /* the next one will be */
}

static void on_backlog(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->asking_backlog = false;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "asking for the backlog of pools");
		return;
	}
	for (int i = 0; i < PQntuples(results[0]); i++) {
		int pool = atoi(PQgetvalue(results[0], i, 0)), jobs = atoi(PQgetvalue(results[0], i, 1));
		struct pool_state s;

		if (pool < 0 || pool >= SD_CONF_MAX_POOLS)
			continue;
		k->waited[pool] = jobs > 0 ? k->waited[pool] + 1 : 0;
		look_at(k, pool, &s);
		if (jobs == 0 || s.group < 0)
			continue;
		if (s.ready == 0 || k->waited[pool] > 1)
			tell(k, s.group, jobs);
		k->demand_until_us = sd_now_us() + WATCH_US;
		ask_again(k);
	}
}

static void look_for_demand(struct sd_keeper *k)
{
	const struct sd_conf *conf = k->child->conf;
	struct sd_buf pools = SD_BUF_INIT;

	if (k->asking_backlog || k->draining || !k->said_ready || !sd_db_is_up(k->db) || ev_is_active(&k->demand_timer))
		return;
	sd_buf_chr(&pools, '[');
	for (size_t i = 0; i < conf->npools; i++) {
		struct pool_state s;

		if (!(conf->pools[i].serves & SD_SERVES_QUEUE) || conf->pools[i].min == conf->pools[i].max)
			continue;
		look_at(k, (int)i, &s);
		if (s.group >= 0 && s.idle == 0 && s.room > 0)
			put_pool(k, &pools, (int)i, s.room);
	}
	sd_buf_chr(&pools, ']');
	if (pools.len == 2 && sd_now_us() < k->demand_until_us) /* those who come for it, or for the last of it, may not suffice */
		ask_again(k);
	if (pools.len > 2) {
		const char *values[] = {pools.data};

		k->asking_backlog = true;
		sd_keeper_ask(k, &st_backlog, values, BACKLOG_TIMEOUT_MS, on_backlog);
	}
	sd_buf_fini(&pools);
}

static void on_demand_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	look_for_demand(t->data);
}

void sd_keeper_demand(struct sd_keeper *k)
{
	k->demand_until_us = sd_now_us() + WATCH_US;
	look_for_demand(k);
}

void sd_keeper_demand_init(struct sd_keeper *k)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_err err;
	const struct sd_manifest *m = sd_manifest_parse(k->child->manifest, k->child->manifest_len, arena, &err);

	if (m == NULL)
		sd_child_fail(k->child, 78, &err);
	k->nsteps = m->nsteps;
	k->steps = sd_arena_alloc(k->arena, (m->nsteps + 1) * sizeof(*k->steps));
	for (size_t i = 0; i < m->nsteps; i++)
		k->steps[i] = sd_arena_strdup(k->arena, m->steps[i].name);
	sd_arena_free(arena);
	ev_timer_init(&k->demand_timer, on_demand_timer, 0., 0.);
	k->demand_timer.data = k;
}
