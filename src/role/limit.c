/* See limit.h. */
#include "role/limit.h"

#include "base/clock.h"
#include "base/units.h"

#include <stdio.h>

#define MIB INT64_C(1048576)
#define TOLERANCE_MIN (64 * MIB) /* the worker's own, and what it maps and never touches */

static bool is_same(const struct sd_meter *m, const struct sd_seen *seen)
{
	return m->run == sd_seen_run(seen) && m->started_us == seen->started_us;
}

static void begin(struct sd_meter *m, const struct sd_seen *seen, const struct sd_usage *now)
{
	m->run = sd_seen_run(seen);
	m->started_us = seen->started_us;
	m->cpu0_us = now->cpu_us;
	m->cpu_us = 0;
	m->peak0 = m->peak;
	m->exact = m->sum = 0;
}

int sd_limit_decide(struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen, const struct sd_usage *now)
{
	if (now->processes == 0)
		return SD_SLOT_REASON_NONE; /* it died this moment */
	if (!is_same(m, seen))
		begin(m, seen, now);
	m->memory = now->memory;
	m->peak = now->peak;
	if (now->cpu_us - m->cpu0_us > m->cpu_us)
		m->cpu_us = now->cpu_us - m->cpu0_us;
	if (m->run == 0)
		return SD_SLOT_REASON_NONE;
	if (pool->max_memory > 0 && now->memory > pool->max_memory)
		return SD_SLOT_REASON_MEMORY;
	if (pool->max_cpu_ms > 0 && m->cpu_us > pool->max_cpu_ms * SD_MS)
		return SD_SLOT_REASON_CPU;
	return SD_SLOT_REASON_NONE;
}

/* The sum from which on it is worth it. */
int64_t sd_limit_worth(const struct sd_meter *m, const struct sd_conf_pool *pool)
{
	if (m->exact <= 0 || m->sum <= m->exact)
		return pool->max_memory;
	return (int64_t)((double)pool->max_memory * ((double)m->sum / (double)m->exact));
}

void sd_limit_estimate(struct sd_meter *m, struct sd_usage *now)
{
	if (now->memory != now->sum) {
		m->exact = now->memory;
		m->sum = now->sum;
	} else if (now->processes < 2) {
		m->exact = m->sum = 0;
	} else if (m->sum > m->exact) {
		now->memory = (int64_t)((double)now->sum * ((double)m->exact / (double)m->sum));
	}
}

int64_t sd_limit_wall(const struct sd_conf_pool *pool)
{
	int64_t quarter = pool->max_memory / 4;

	if (pool->max_memory <= 0)
		return 0;
	return pool->max_memory + (quarter > TOLERANCE_MIN ? quarter : TOLERANCE_MIN);
}

bool sd_limit_wild(const struct sd_conf_pool *pool, const struct sd_usage *now)
{
	return pool->max_memory > 0 && now->memory > sd_limit_wall(pool);
}

bool sd_limit_worn(const struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen)
{
	return pool->max_memory > 0 && seen->jobs_done > 0 && m->memory > pool->max_memory / 4 * 3;
}

/* Only one that passed the limit in this very attempt; a worker that had more before dies of something else. */
bool sd_limit_killed(const struct sd_meter *m, const struct sd_conf_pool *pool, const struct sd_seen *seen, int64_t peak)
{
	int64_t before = is_same(m, seen) ? m->peak0 : m->peak;

	return sd_seen_run(seen) != 0 && pool->max_memory > 0 && peak >= pool->max_memory && before < pool->max_memory;
}

const char *sd_limit_text(int reason, int64_t limit, int64_t used, char out[SD_LIMIT_TEXT])
{
	char text[32];

	if (reason == SD_SLOT_REASON_MEMORY)
		snprintf(out, SD_LIMIT_TEXT, "memory limit %s exceeded (%lld MiB in use)", sd_size_format(limit, text),
			 (long long)((used + MIB - 1) / MIB)); /* up: more than the limit */
	else
		snprintf(out, SD_LIMIT_TEXT, "CPU time limit %s exceeded (%.2f s used)", sd_duration_format(limit, text),
			 (double)used / 1000.0);
	return out;
}

void sd_limit_correct(int reason, int64_t used, int64_t *rss_kb, int64_t *cpu_ms)
{
	if (reason == SD_SLOT_REASON_MEMORY && *rss_kb < used / 1024)
		*rss_kb = used / 1024;
	if (reason == SD_SLOT_REASON_CPU && *cpu_ms < used)
		*cpu_ms = used;
}

const char *sd_limit_of_slot(const struct sd_slot *slot, int64_t run, char out[SD_LIMIT_TEXT])
{
	int32_t reason = atomic_load(&slot->ending);

	if ((reason != SD_SLOT_REASON_MEMORY && reason != SD_SLOT_REASON_CPU) || run == 0 || atomic_load(&slot->ending_run) != run)
		return NULL;
	return sd_limit_text(reason, atomic_load(&slot->ending_limit), atomic_load(&slot->ending_used), out);
}
