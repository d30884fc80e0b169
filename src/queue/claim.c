/* Building the claim call and reading its rows: see claim.h. */
#include "queue/claim.h"

#include "queue/sqlcalls.h"

#include <stdlib.h>

#define LARGE 16 /* a batch that is read after the claim: one more round trip, while nobody waits for the claim's locks */

static void open_array(struct sd_buf *b)
{
	sd_buf_reset(b);
	sd_buf_chr(b, '{');
}

void sd_claim_build(struct sd_claim *c, int node_id, int slot, uint32_t generation, struct sd_lane *lanes, size_t nlanes,
		    size_t first, int64_t budget_us, int64_t most_us, int64_t now_us)
{
	open_array(&c->lanes);
	open_array(&c->cursors);
	open_array(&c->maxes);
	open_array(&c->mosts);
	c->node_id = node_id;
	c->slot = slot;
	c->generation = generation;
	c->asked = 0;
	c->strict = false;
	for (size_t i = 0; i < nlanes; i++) {
		struct sd_lane *l = &lanes[(first + i) % nlanes];
		int want = sd_lane_want(l, budget_us);
		sd_buf_pgarray_i64(&c->lanes, l->id);
		sd_buf_pgarray_i64(&c->cursors, sd_lane_begin(l, want, now_us));
		sd_buf_pgarray_i64(&c->maxes, want);
		sd_buf_pgarray_i64(&c->mosts, sd_lane_most(l, most_us));
		if (want > c->asked)
			c->asked = want;
	}
	sd_buf_chr(&c->lanes, '}');
	sd_buf_chr(&c->cursors, '}');
	sd_buf_chr(&c->maxes, '}');
	sd_buf_chr(&c->mosts, '}');
}

struct sd_db_call sd_claim_call(struct sd_claim *c)
{
	struct sd_db_numbers *n = &c->numbers;

	n->n = 0;
	c->values[0] = sd_db_number(n, c->node_id);
	c->values[1] = sd_db_number(n, c->slot);
	c->values[2] = sd_db_number(n, c->generation);
	c->values[3] = c->lanes.data;
	c->values[4] = c->cursors.data;
	c->values[5] = c->maxes.data;
	c->values[6] = sd_db_number(n, c->asked);
	c->values[7] = sd_db_number(n, LARGE);
	c->values[8] = c->strict ? NULL : c->mosts.data;
	c->values[9] = c->idle.data;
	return (struct sd_db_call){&sd_sql_claim, c->values};
}

static int64_t number(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? 0 : strtoll(PQgetvalue(res, row, col), NULL, 10);
}

static const char *text(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col);
}

void sd_claim_row(const PGresult *res, int row, struct sd_claimed *out)
{
	out->lease_id = number(res, row, 0);
	out->lane_id = (int)number(res, row, 1);
	out->job_id = number(res, row, 2);
	out->attempt = (int)number(res, row, 3);
	out->max_attempts = (int)number(res, row, 4);
	out->trigger = text(res, row, 5);
	out->trigger_index = (int)number(res, row, 6);
	out->queue = text(res, row, 7);
	out->group_id = text(res, row, 8);
	out->parent_id = number(res, row, 9);
	out->trace_id = text(res, row, 10);
	out->enqueued_wall_us = number(res, row, 11);
	out->cursor = number(res, row, 12);
	out->input = text(res, row, 13);
	out->input_len = (size_t)PQgetlength(res, row, 13);
	out->more = PQgetisnull(res, row, 14) ? SD_MORE_IF_FULL : PQgetvalue(res, row, 14)[0] == 't' ? SD_MORE : SD_NO_MORE;
}

bool sd_claim_is_to_read(const PGresult *res)
{
	for (int r = 0; r < PQntuples(res); r++)
		if (PQgetisnull(res, r, 2))
			return true;
	return false;
}

struct sd_db_call sd_claim_read_call(struct sd_claim *c, const PGresult *res)
{
	struct sd_db_numbers *n = &c->numbers;
	int64_t last = 0;

	open_array(&c->leases);
	for (int r = 0; r < PQntuples(res); r++) {
		int64_t lease = number(res, r, 0);
		if (lease != last)
			sd_buf_pgarray_i64(&c->leases, lease);
		last = lease;
	}
	sd_buf_chr(&c->leases, '}');
	n->n = 0;
	c->values[0] = sd_db_number(n, c->node_id);
	c->values[1] = sd_db_number(n, c->slot);
	c->values[2] = sd_db_number(n, c->generation);
	c->values[3] = c->leases.data;
	return (struct sd_db_call){&sd_sql_claimed, c->values};
}
