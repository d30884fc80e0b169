/* The worker's lanes, and claimed rows becoming attempts: see worker.h. */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "queue/sqlcalls.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * How long a claimed batch should take to run.  While another worker has nothing to do, only what
 * saves round trips: as long as a claim takes, which is what the other would need to get at a job of it.
 * When all are busy, enough to make the cost of a commit small.
 */
#define BUDGET_SHARED_US (2 * SD_MS)
#define BUDGET_US (50 * SD_MS)
#define JOBS_A_WAKE 64 /* who gets so many more jobs wakes one more */
#define LARGE_INPUT (1 << 20)
#define SINGLE_CLAIMS 100 /* then batches are tried again */
#define READ_MS 30000
#define LOST_SECONDS 0.2    /* before what was claimed and not read is given back … */
#define REFUSED_SECONDS 1.0 /* … and where the database refuses to tell it, which it may do each time */

struct sd_lane *sd_worker_lane(struct sd_worker *w, int lane_id)
{
	for (size_t i = 0; i < w->nlanes; i++)
		if (w->lanes[i].id == lane_id)
			return &w->lanes[i];
	return NULL;
}

/* The pools that could run what is in this lane. */
static void note_peers(struct sd_worker *w, const char *queue, const char *step)
{
	const struct sd_conf *conf = w->child->conf;
	uint32_t pools = 0;

	for (size_t i = 0; i < conf->npools; i++)
		if (sd_conf_pool_runs(&conf->pools[i], queue, step))
			pools |= UINT32_C(1) << i;
	w->peers |= pools;
	w->equals &= pools;
}

bool sd_worker_is_peer(const struct sd_worker *w, int pool)
{
	return pool >= 0 && pool < SD_CONF_MAX_POOLS && (w->peers >> pool & 1);
}

/* What a lane had learnt stays when lanes are read again. */
static void set_lanes(struct sd_worker *w, const PGresult *res)
{
	int n = PQntuples(res);
	struct sd_lane *lanes = sd_xcalloc((size_t)n + 1, sizeof *lanes);
	size_t k = 0;
	w->peers = 0;
	w->equals = UINT32_MAX;
	for (int i = 0; i < n; i++) {
		size_t index;
		const char *step = PQgetvalue(res, i, 1), *queue = PQgetvalue(res, i, 2);
		if (sd_registry_find(w->registry, step, &index) == NULL || !sd_conf_pool_runs(w->child->pool, queue, step))
			continue;
		note_peers(w, queue, step);
		int id = atoi(PQgetvalue(res, i, 0));
		struct sd_lane *old = sd_worker_lane(w, id);
		if (old != NULL)
			lanes[k] = *old;
		else
			sd_lane_init(&lanes[k], id, (int)index, 0);
		lanes[k].timeout_ms = PQgetisnull(res, i, 3) ? 0 : strtoll(PQgetvalue(res, i, 3), NULL, 10);
		int batch = atoi(PQgetvalue(res, i, 4));
		lanes[k].max_batch = batch < SD_LANE_MAX_BATCH ? batch : SD_LANE_MAX_BATCH;
		k++;
	}
	free(w->lanes);
	w->lanes = lanes;
	w->nlanes = k;
}

static void on_lanes(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	w->busy = false;
	if (results == NULL) {
		sd_log_err(SD_LOG_WARN, err, "reading the lanes failed, trying again");
		w->lanes_loaded = false;
		sd_worker_retry_later(w, 0.5);
		return;
	}
	set_lanes(w, results[n - 1]);
	w->lanes_loaded = true;
	w->sleeping = false;
	sd_worker_pump(w);
}

/* With the lanes the database is told which process we are, since a node that joined anew knows none of its workers. */
void sd_worker_load_lanes(struct sd_worker *w)
{
	struct sd_buf steps = SD_BUF_INIT;
	struct sd_db_numbers b = {0};
	sd_buf_chr(&steps, '{');
	for (size_t i = 0; i < sd_registry_count(w->registry); i++) {
		const char *name = sd_step_name(sd_registry_step(w->registry, i));
		sd_buf_pgarray(&steps, name, strlen(name));
	}
	sd_buf_chr(&steps, '}');
	sd_worker_recall(w); /* a pause, or a limit, is for them too */
	w->settings_version = atomic_load(&w->child->scoreboard->settings_version);
	w->busy = true;
	int node_id = atomic_load(&w->child->scoreboard->node_id);
	const char *here[] = {sd_db_number(&b, node_id), sd_db_number(&b, w->child->slot_index),
			      sd_db_number(&b, w->child->slot_generation), sd_db_number(&b, getpid())};
	const char *lanes[] = {steps.data};
	struct sd_db_call calls[] = {{&sd_sql_worker_here, here}, {&sd_sql_lanes, lanes}};
	bool known = node_id > 0; /* else its joining brings us here again */
	sd_db_submit(w->db, known ? calls : calls + 1, known ? 2 : 1, SD_DB_WAIT, 0, on_lanes, w);
	sd_buf_fini(&steps);
}

static void on_warm(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	w->busy = false;
	if (results == NULL)
		sd_log_err(SD_LOG_DEBUG, err, "planning ahead failed");
	else if (strcmp(PQgetvalue(results[0], 0, 0), "t") != 0)
		sd_log(SD_LOG_DEBUG, "planning ahead could not be done; the first claims take longer");
	sd_worker_pump(w);
}

/* The session plans what it will have to do at once when there is something to do. */
void sd_worker_warm_up(struct sd_worker *w)
{
	struct sd_buf lanes = SD_BUF_INIT;
	struct sd_db_numbers b = {0};
	sd_buf_chr(&lanes, '{');
	for (size_t i = 0; i < w->nlanes; i++)
		sd_buf_pgarray_i64(&lanes, w->lanes[i].id);
	sd_buf_chr(&lanes, '}');
	w->warm = true;
	w->busy = true;
	const char *values[] = {sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)),
				sd_db_number(&b, w->child->slot_index), lanes.data};
	struct sd_db_call call = {&sd_sql_warm_up, values};
	sd_db_submit(w->db, &call, 1, 0, 0, on_warm, w);
	sd_buf_fini(&lanes);
}

/* The smaller of the last two: a session's first claim takes many times as long as those to come. */
static int64_t shared_budget(const struct sd_worker *w)
{
	int64_t us = w->claim_us[0] < w->claim_us[1] ? w->claim_us[0] : w->claim_us[1];
	return us < BUDGET_SHARED_US ? BUDGET_SHARED_US : us > BUDGET_US ? BUDGET_US : us;
}

static void look_for_deaths(struct sd_worker *w)
{
	int64_t died = atomic_load(&w->child->scoreboard->group[w->group].died_us);

	if (died <= w->died_us)
		return;
	w->died_us = died;
	for (size_t i = 0; i < w->nlanes; i++)
		sd_lane_warn(&w->lanes[i]);
}

struct sd_db_call sd_worker_claim_call(struct sd_worker *w, int64_t now_us)
{
	int idle = sd_worker_idle_peers(w, &w->claim.idle);

	look_for_deaths(w);
	w->claimed_node = atomic_load(&w->child->scoreboard->node_id);
	sd_claim_build(&w->claim, w->claimed_node, (int)w->child->slot_index,
		       w->child->slot_generation, w->lanes, w->nlanes, w->first_lane,
		       idle > 0 ? shared_budget(w) : BUDGET_US, BUDGET_US, now_us);
	if (w->singly > 0) {
		w->singly--;
		w->claim.asked = 1;
		w->claim.strict = true;
	}
	if (sd_worker_jobs_left(w) < w->claim.asked) {
		w->claim.asked = (int)sd_worker_jobs_left(w);
		w->claim.strict = true;
	}
	return sd_claim_call(&w->claim);
}

static struct sd_attempt *new_attempt(struct sd_worker *w)
{
	struct sd_attempt *a = w->spare;
	if (a == NULL)
		return sd_attempt_new();
	w->spare = a->next;
	a->next = NULL;
	return a;
}

void sd_worker_forget(struct sd_worker *w, struct sd_attempt *a)
{
	sd_attempt_reset(a);
	a->next = w->spare;
	w->spare = a;
}

/*
 * A large input is copied while the slot names its job as the last one: should the memory for it be the end of us, it is
 * that job's attempt, or the next worker would come to the same end.
 */
static const char *take_input(struct sd_worker *w, struct sd_attempt *a, const struct sd_claimed *c)
{
	_Atomic int64_t *last = &w->child->slot->last_job;
	int64_t before = atomic_load(last), mine = c->job_id;
	const char *input;

	if (c->input_len < LARGE_INPUT)
		return sd_arena_memdup(a->arena, c->input, c->input_len);
	atomic_store(last, mine);
	input = sd_arena_memdup(a->arena, c->input, c->input_len);
	atomic_compare_exchange_strong(last, &mine, before); /* unless a handler ended meanwhile */
	return input;
}

static enum sd_trigger trigger_of(const char *name)
{
	if (name != NULL && strcmp(name, "cron") == 0)
		return SD_TRIGGER_CRON;
	if (name != NULL && strcmp(name, "http") == 0)
		return SD_TRIGGER_HTTP;
	return SD_TRIGGER_QUEUE;
}

static struct sd_attempt *attempt_of(struct sd_worker *w, const struct sd_claimed *c, const struct sd_lane *l)
{
	struct sd_attempt *a = new_attempt(w);
	a->step_index = l->step_index;
	a->step = sd_registry_step(w->registry, (size_t)l->step_index);
	a->trigger = trigger_of(c->trigger);
	a->job_id = c->job_id;
	a->node_id = w->claimed_node;
	a->lease_id = c->lease_id;
	a->lane = l->id;
	a->attempt = c->attempt;
	a->max_attempts = c->max_attempts;
	a->queue = sd_arena_strdup(a->arena, c->queue);
	a->trigger_index = sd_step_trigger(a->step, a->trigger, c->trigger_index, a->queue);
	a->group_id = sd_arena_strdup(a->arena, c->group_id);
	a->parent_id = c->parent_id;
	a->trace_id = sd_arena_strdup(a->arena, c->trace_id);
	a->enqueued_wall_us = c->enqueued_wall_us;
	a->input = c->input ? take_input(w, a, c) : "null";
	a->input_len = c->input ? c->input_len : 4;
	a->timeout_ms = l->timeout_ms;
	a->delay_ms = -1;
	return a;
}

void sd_worker_claim_failed(struct sd_worker *w)
{
	for (size_t i = 0; i < w->nlanes; i++)
		w->lanes[i].rescanning = false;
}

static void give_back_row(struct sd_worker *w, const struct sd_claimed *c)
{
	struct sd_attempt *a = new_attempt(w);

	sd_log(SD_LOG_ERROR, "claim returned job %lld of lane %d, which this worker does not serve; giving it back",
	       (long long)c->job_id, c->lane_id);
	a->job_id = c->job_id;
	a->lease_id = c->lease_id;
	sd_worker_release(w, a);
}

static void note(struct sd_lane *l, const struct sd_claimed *c)
{
	if (c->cursor > l->got_cursor)
		l->got_cursor = c->cursor;
	if (c->more != SD_MORE_IF_FULL && l->more != SD_MORE)
		l->more = c->more;
}

/*
 * What came is noted with its lane first, and the lanes learn from it when all rows are read.  The lane that came last may
 * have filled the batch, so the next claim begins behind it: else a lane with much to do would be served again and again
 * before one that follows it, until the turn has gone through all that have nothing.
 */
static void take_rows(struct sd_worker *w, const PGresult *res)
{
	struct sd_lane *l = NULL;
	struct sd_chain chain;
	sd_chain_init(&chain);
	for (int r = 0; r < PQntuples(res); r++) {
		struct sd_claimed c;
		sd_claim_row(res, r, &c);
		if (l == NULL || l->id != c.lane_id)
			l = sd_worker_lane(w, c.lane_id);
		if (l == NULL) { /* never asked for */
			give_back_row(w, &c);
			continue;
		}
		l->got++;
		note(l, &c);
		sd_chain_append(&chain, attempt_of(w, &c, l));
	}
	w->first_lane = (l != NULL ? (size_t)(l - w->lanes) + 1 : w->first_lane + 1) % w->nlanes;

	size_t got = chain.n;
	bool more = w->nlanes > 1 && (int)got >= w->claim.asked;
	int64_t now = sd_now_us();
	w->claim_us[1] = w->claim_us[0];
	w->claim_us[0] = now - w->exchange_us;
	for (size_t i = 0; i < w->nlanes; i++) {
		sd_lane_end(&w->lanes[i], now, now - w->exchange_us);
		more |= sd_lane_has_more(&w->lanes[i]); /* one lane may hold more, though all together gave less than was asked */
	}
	if (sd_worker_halted(w)) /* it was asked for before that was said */
		sd_worker_release(w, sd_chain_take(&chain));
	else if (chain.n > 0) {
		w->warm = true; /* most of it has been planned now */
		w->given_us = sd_now_us();
		w->taken += (int64_t)chain.n;
		sd_runner_give(w->runner, sd_chain_take(&chain));
	}
	if (more)
		sd_worker_ring(w, 1 + got / JOBS_A_WAKE);
}

/* Did the claim look for all there is?  Else another one does, before the worker sleeps. */
bool sd_worker_saw_all(const struct sd_worker *w)
{
	for (size_t i = 0; i < w->nlanes; i++)
		if (w->lanes[i].ahead)
			return false;
	return true;
}

bool sd_worker_is_unread(const struct sd_err *err)
{
	return strcmp(err->sqlstate, SD_DB_UNREAD) == 0;
}

/* What a claim took, or may have taken, did not reach us.  backend: the server process that may still be at it; 0: none. */
void sd_worker_claim_lost(struct sd_worker *w, const struct sd_err *err, int backend)
{
	w->lost_claim = true;
	w->unread = sd_worker_is_unread(err);
	w->lost_backend = w->unread ? 0 : backend;
	if (w->unread) {
		w->singly = SINGLE_CLAIMS;
		sd_log_err(SD_LOG_WARN, err, "what was claimed is too large for this worker; it takes jobs one by one now");
	}
}

static void on_read(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	w->busy = false;
	if (results != NULL) {
		take_rows(w, results[0]);
	} else {
		sd_worker_claim_failed(w);
		sd_worker_claim_lost(w, err, 0);
		if (!w->unread)
			sd_log_err(SD_LOG_WARN, err, "reading the claimed jobs failed, giving them back");
		sd_worker_retry_later(w, err->class == SD_ERR_TRANSIENT ? LOST_SECONDS : REFUSED_SECONDS);
	}
	sd_worker_pump(w);
}

/* All batches are read again if one is: jobs are run in the order of their leases. */
void sd_worker_claimed(struct sd_worker *w, const PGresult *res)
{
	if (!sd_claim_is_to_read(res)) {
		take_rows(w, res);
		return;
	}
	for (int r = 0; r < PQntuples(res); r++) {
		struct sd_claimed c;
		sd_claim_row(res, r, &c);
		struct sd_lane *l = sd_worker_lane(w, c.lane_id);
		if (l != NULL)
			note(l, &c);
	}
	struct sd_db_call call = sd_claim_read_call(&w->claim, res);
	w->busy = true;
	sd_db_submit(w->db, &call, 1, 0, READ_MS, on_read, w);
}
