/* Building the finish call: see finish.h. */
#include "queue/finish.h"

#include "queue/sqlcalls.h"

#include <string.h>

#define KEEP (4 << 20) /* big outputs are rare: their memory is not kept */

enum { NARRAYS = 8 };

static void arrays(struct sd_finish *f, struct sd_buf *out[NARRAYS])
{
	struct sd_buf *v[NARRAYS] = {&f->leases, &f->jobs, &f->outcomes, &f->ages, &f->durations, &f->outputs, &f->errors, &f->delays};
	memcpy(out, v, sizeof v);
}

void sd_finish_begin(struct sd_finish *f)
{
	struct sd_buf *v[NARRAYS];
	arrays(f, v);
	for (int i = 0; i < NARRAYS; i++) {
		sd_buf_empty(v[i], KEEP);
		sd_buf_chr(v[i], '{');
	}
	sd_buf_empty(&f->effects, KEEP);
	f->noutputs = f->nerrors = f->ndelays = 0;
	f->n = 0;
}

static void member(struct sd_buf *b, const char *name, const struct sd_buf *objects)
{
	if (objects == NULL || objects->len == 0)
		return;
	sd_buf_printf(b, ",\"%s\":[", name);
	sd_buf_append(b, objects->data, objects->len);
	sd_buf_chr(b, ']');
}

void sd_finish_effects(struct sd_buf *b, int64_t job_id, const struct sd_buf *enqueues, const struct sd_buf *states,
		       const struct sd_buf *logs, const char *progress)
{
	sd_buf_str(b, "{\"job\":");
	sd_buf_i64(b, job_id);
	member(b, "enqueues", enqueues);
	member(b, "states", states);
	member(b, "logs", logs);
	if (progress != NULL) {
		sd_buf_str(b, ",\"progress\":");
		sd_buf_str(b, progress);
	}
	sd_buf_chr(b, '}');
}

static bool has_effects(const struct sd_finish_row *r)
{
	return (r->enqueues && r->enqueues->len) || (r->states && r->states->len) || (r->logs && r->logs->len) || r->progress;
}

void sd_finish_add(struct sd_finish *f, const struct sd_finish_row *r, int64_t now_us)
{
	sd_buf_pgarray_i64(&f->leases, r->lease_id);
	sd_buf_pgarray_i64(&f->jobs, r->job_id);
	sd_buf_pgarray(&f->outcomes, r->outcome, strlen(r->outcome));
	sd_buf_pgarray_i64(&f->ages, now_us - r->started_us);
	sd_buf_pgarray_i64(&f->durations, r->duration_us);
	sd_buf_pgarray(&f->outputs, r->output, r->output_len);
	sd_buf_pgarray(&f->errors, r->error, r->error ? strlen(r->error) : 0);
	if (r->delay_ms >= 0)
		sd_buf_pgarray_i64(&f->delays, r->delay_ms);
	else
		sd_buf_pgarray(&f->delays, NULL, 0);
	f->noutputs += r->output != NULL;
	f->nerrors += r->error != NULL;
	f->ndelays += r->delay_ms >= 0;
	if (has_effects(r)) {
		sd_buf_chr(&f->effects, f->effects.len ? ',' : '[');
		sd_finish_effects(&f->effects, r->job_id, r->enqueues, r->states, r->logs, r->progress);
	}
	f->n++;
}

struct sd_db_call sd_finish_call(struct sd_finish *f, int node_id, int pid)
{
	struct sd_buf *v[NARRAYS];
	arrays(f, v);
	for (int i = 0; i < NARRAYS; i++)
		sd_buf_chr(v[i], '}');
	if (f->effects.len)
		sd_buf_chr(&f->effects, ']');
	f->numbers.n = 0;
	const char *values[11] = {
		sd_db_number(&f->numbers, node_id), sd_db_number(&f->numbers, pid), f->leases.data, f->jobs.data, f->outcomes.data, f->ages.data, f->durations.data,
		f->noutputs ? f->outputs.data : NULL, f->nerrors ? f->errors.data : NULL,
		f->ndelays ? f->delays.data : NULL, f->effects.len ? f->effects.data : NULL,
	};
	memcpy(f->values, values, sizeof values);
	return (struct sd_db_call){&sd_sql_finish, f->values};
}
