/*
 * Requests whose worker ended in the middle: 502, and a row of history.
 *
 * The end of the connection says that the worker is gone, at once; how it died
 * the supervisor knows a moment later, when it has collected the process, and
 * tells (SD_MSG_DEATH; either may come first).  Both together become a job of
 * the step that failed at its only attempt, crashed, with signal or exit code,
 * peak memory and CPU time.  Without the supervisor's word, because the
 * connection broke for another reason, it is recorded without these.
 *
 * A worker that passes a limit records that itself, and ends with status 0
 * when it could.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "http/form.h"
#include "queue/sqlcalls.h"
#include "role/deaths.h"

#include <stdlib.h>
#include <string.h>

#define MAX_LOST 256
#define WORD_US (3 * SD_SEC) /* how long to wait for the supervisor's word */
#define RECORD_MS 5000

struct sd_http_lost {
	struct sd_http_lost *next;
	struct sd_http *http;
	uint32_t slot, generation, step, trigger;
	char trace_id[37], error_id[37];
	char *input; /* NULL: none, or nobody has it any more */
	int64_t started_us, lost_us;
	struct sd_msg_death death;
	bool known; /* death is */
	bool sent;
};

static void forget(struct sd_http_lost *gone)
{
	struct sd_http *h = gone->http;

	for (struct sd_http_lost **p = &h->lost; *p; p = &(*p)->next) {
		if (*p == gone) {
			*p = gone->next;
			h->nlost--;
			break;
		}
	}
	free(gone->input);
	free(gone);
}

static void on_recorded(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_http_lost *l = arg;

	l->sent = false;
	if (!results && err->class == SD_ERR_TRANSIENT)
		return; /* tried again: what was recorded is not recorded twice */
	if (!results)
		sd_log_err(SD_LOG_WARN, err, "recording a request whose worker died (error id %s)", l->error_id);
	forget(l);
}

static void record(struct sd_http_lost *l)
{
	struct sd_http *h = l->http;
	const struct sd_msg_death *d = &l->death;
	struct sd_db_numbers b = {0};
	char how[160] = "the worker's connection broke";
	int64_t now = sd_now_us(), end = l->known && d->died_us < l->lost_us ? d->died_us : l->lost_us;

	if (l->known)
		sd_death_describe(d, how, sizeof(how));
	const char *values[] = {
		sd_db_number(&b, atomic_load(&h->child->scoreboard->node_id)), l->known ? sd_db_number(&b, d->pid) : NULL,
		h->manifest->steps[l->step].name, sd_db_number(&b, l->trigger), l->trace_id, l->error_id,
		l->known && sd_death_of_limit(d) ? "timeout" : "crashed", sd_db_number(&b, now - l->started_us),
		sd_db_number(&b, end > l->started_us ? end - l->started_us : 0), l->input, how,
		l->known && d->exit_code >= 0 ? sd_db_number(&b, d->exit_code) : NULL,
		l->known && d->signal > 0 ? sd_db_number(&b, d->signal) : NULL, l->known ? sd_db_number(&b, d->max_rss_kb) : NULL,
		l->known ? sd_db_number(&b, d->cpu_ms) : NULL,
	};
	const struct sd_db_call call = {&sd_sql_http_died, values};

	l->sent = true;
	sd_db_submit(h->db.db, &call, 1, 0, RECORD_MS, on_recorded, l);
}

static bool is_of(const struct sd_http_lost *l, const struct sd_msg_death *d)
{
	return d->pid != 0 && l->slot == d->slot && l->generation == d->generation;
}

static void learn(struct sd_http_lost *l, const struct sd_msg_death *d)
{
	l->death = *d;
	l->death.started_us = l->started_us;
	l->known = true;
	if (sd_death_of_limit(d) && d->exit_code == 0)
		forget(l);
}

void sd_http_death(struct sd_http *h, const struct sd_msg_death *d)
{
	for (struct sd_http_lost *l = h->lost; l; l = l->next) {
		if (is_of(l, d)) {
			learn(l, d);
			return;
		}
	}
	h->deaths[h->ndeaths++ % SD_HTTP_DEATHS] = *d; /* its connection's end is not seen yet, or it ran nothing */
}

void sd_http_deaths_turn(struct sd_http *h)
{
	for (struct sd_http_lost *l = h->lost, *next; l; l = next) {
		next = l->next;
		if (h->draining && !l->sent && h->now_us - l->lost_us > 2 * WORD_US) {
			sd_log(SD_LOG_WARN, "the request with error id %s could not be recorded: this process ends", l->error_id);
			forget(l);
		} else if (!l->sent && (l->known || h->now_us - l->lost_us > WORD_US) && sd_db_is_up(h->db.db) &&
			   atomic_load(&h->child->scoreboard->node_id) > 0) {
			record(l);
		}
	}
}

/* Everything about it that is gone once it is answered. */
static void keep(struct sd_http *h, const struct sd_http_worker *w, const struct sd_http_flight *fl, int64_t started_us)
{
	struct sd_http_lost *l;
	const char *data;
	struct sd_err err;
	size_t len;

	if (h->child->conf->http.history == SD_HTTP_HISTORY_NONE || h->nlost >= MAX_LOST || !w->greeted)
		return;
	l = sd_xcalloc(1, sizeof(*l));
	*l = (struct sd_http_lost){.next = h->lost, .http = h, .slot = w->slot, .generation = w->generation, .step = fl->frame.step,
				   .trigger = fl->frame.trigger, .started_us = started_us, .lost_us = h->now_us};
	memcpy(l->trace_id, fl->trace_id, sizeof(l->trace_id));
	memcpy(l->error_id, fl->error_id, sizeof(l->error_id));
	if (fl->x && fl->x->body_len > 0 && sd_body_json(fl->frame.media, fl->x->body, fl->x->body_len, fl->arena, &data, &len, &err) == 0) {
		l->input = sd_xmalloc(len + 1);
		memcpy(l->input, data, len);
		l->input[len] = '\0';
	}
	h->lost = l;
	h->nlost++;
	for (size_t i = 0; i < SD_HTTP_DEATHS; i++) {
		if (is_of(l, &h->deaths[i])) {
			learn(l, &h->deaths[i]);
			return;
		}
	}
}

void sd_http_worker_died(struct sd_http *h, const struct sd_http_worker *w, struct sd_http_flight *fl, int64_t started_us)
{
	if (started_us <= 0 || started_us > h->now_us)
		started_us = fl->x ? fl->x->began_us : h->now_us;
	keep(h, w, fl, started_us);
	if (fl->x)
		sd_http_answer_failed(h, fl, 502, "worker_died", "the process that ran this request ended");
}
