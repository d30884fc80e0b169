/*
 * How the pools of this node are, as stepd.pools shows it: told when it has
 * changed, at most once a second, and again after the database was away.  Also
 * before anything serves, so that READY=1 finds them there.
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"

#include <stdio.h>
#include <string.h>

#define EVERY_US SD_SEC
#define TIMEOUT_MS 5000

static const struct sd_db_stmt st_pools = {"node_pools", "select stepd.node_pools($1, $2)", 2};

static unsigned ready_of(const struct sd_scoreboard *sb, int group)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < sb->nslots; i++)
		n += atomic_load(&sb->slot[i].state) == SD_SLOT_READY && atomic_load(&sb->slot[i].group) == group;
	return n;
}

static void put_names(struct sd_buf *b, const char *key, const struct sd_conf_names *names)
{
	if (names->n == 0)
		return;
	sd_buf_printf(b, "\"%s\":", key);
	sd_buf_json_strs(b, names->v, names->n);
	sd_buf_chr(b, ',');
}

static void put_pool(const struct sd_keeper *k, const struct sd_slot_group *g, int group, const struct sd_conf_pool *pool, struct sd_buf *b)
{
	int64_t retry_us = atomic_load(&g->retry_us) - sd_now_us();
	bool degraded = atomic_load(&g->degraded) != 0;

	sd_buf_printf(b, "%s{\"pool\":\"%s\",\"serves\":\"%s\",\"processes\":%u,\"min\":%d,\"max\":%d,\"deaths\":%llu,\"degraded\":%s,",
		      b->len > 1 ? "," : "", pool->name, pool->serves & SD_SERVES_HTTP ? "http" : "queue",
		      ready_of(k->child->scoreboard, group), pool->min, pool->max, (unsigned long long)atomic_load(&g->deaths),
		      degraded ? "true" : "false");
	put_names(b, "queues", &pool->queues);
	put_names(b, "steps", &pool->steps);
	sd_buf_printf(b, "\"retry_ms\":%lld}", degraded && retry_us > 0 ? (long long)(retry_us / SD_SEC + 1) * 1000 : 0LL);
}

static void on_told(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->telling_pools = false;
	if (err) {
		sd_buf_reset(&k->pools_told);
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "telling the database of pools");
	}
	if (k->pools_told_us == 0)
		sd_keeper_show_pools(k);
}

void sd_keeper_show_pools(struct sd_keeper *k)
{
	const struct sd_scoreboard *sb = k->child->scoreboard;
	int32_t generation = atomic_load(&k->child->slot->conf_generation), live = atomic_load(&sb->live_generation);
	int64_t now = sd_now_us();
	struct sd_buf b = SD_BUF_INIT;

	if (k->telling_pools || k->draining || k->node_id == 0 || (live != 0 && generation != live) ||
	    now - k->pools_told_us < EVERY_US)
		return;
	k->pools_told_us = now;
	sd_buf_chr(&b, '[');
	for (int i = 0; i < SD_GROUPS; i++) {
		const struct sd_slot_group *g = &sb->group[i];
		int pool = atomic_load(&g->pool);

		if (atomic_load(&g->conf_generation) == generation && pool >= 0 && (size_t)pool < k->child->conf->npools)
			put_pool(k, g, i, &k->child->conf->pools[pool], &b);
	}
	sd_buf_chr(&b, ']');
	if (b.len > 2 && (k->pools_told.len == 0 || strcmp(b.data, k->pools_told.data) != 0)) {
		struct sd_db_numbers n = {0};
		const char *values[] = {sd_db_number(&n, k->node_id), b.data};

		k->telling_pools = true;
		sd_keeper_ask(k, &st_pools, values, TIMEOUT_MS, on_told);
		sd_buf_fini(&k->pools_told);
		k->pools_told = b;
		return;
	}
	sd_buf_fini(&b);
}

void sd_keeper_live(struct sd_keeper *k)
{
	k->pools_told_us = 0;
	sd_keeper_show_pools(k);
}
