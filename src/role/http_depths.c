/*
 * Queues as /metrics shows them, asked for when somebody reads that page and
 * the last answer is older than KEEP_US: counting a large backlog is not free.
 * The readers wait for the answer meanwhile; without a database, or when it
 * takes too long, they get the page without queues.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_US (5 * SD_SEC)
#define ASK_MS 3000

enum { COL_NAME, COL_READY, COL_SCHEDULED, COL_RUNNING, COL_RETRYING, COL_FAILED, COL_AGE, COL_PAUSED };

static const struct sd_db_stmt depths = {
	"depths",
	"select name, ready, scheduled, running, retrying, failed, coalesce(extract(epoch from oldest_ready_age), 0), paused::int"
	" from stepd.queues order by name",
	0};

static void put_label(struct sd_buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '\\' || *s == '"')
			sd_buf_chr(b, '\\');
		if (*s == '\n')
			sd_buf_str(b, "\\n");
		else
			sd_buf_chr(b, *s);
	}
}

static void line(struct sd_buf *b, const char *name, const PGresult *res, int row, const char *status, int col)
{
	sd_buf_printf(b, "%s{queue=\"", name);
	put_label(b, PQgetvalue(res, row, COL_NAME));
	if (status)
		sd_buf_printf(b, "\",status=\"%s", status);
	sd_buf_printf(b, "\"} %s\n", PQgetvalue(res, row, col));
}

static void by_queue(struct sd_buf *b, const char *name, const char *help, const PGresult *res, int col)
{
	sd_metric_head(b, name, "gauge", help);
	for (int row = 0; row < PQntuples(res); row++)
		line(b, name, res, row, NULL, col);
}

static void print(struct sd_buf *b, const PGresult *res)
{
	static const char *const statuses[] = {"ready", "scheduled", "running", "retrying", "failed"};

	sd_metric_head(b, "stepd_jobs", "gauge", "Jobs by queue and status; failed ones as long as they are kept.");
	for (int row = 0; row < PQntuples(res); row++)
		for (int s = 0; s < 5; s++)
			line(b, "stepd_jobs", res, row, statuses[s], COL_READY + s);
	by_queue(b, "stepd_queue_depth", "Jobs that could start now.", res, COL_READY);
	by_queue(b, "stepd_queue_oldest_ready_seconds", "How long ago the oldest of them was enqueued; 0: there is none.", res, COL_AGE);
	by_queue(b, "stepd_queue_paused", "1 while the queue is paused.", res, COL_PAUSED);
}

static void on_depths(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_http *h = arg;
	struct sd_http_depths *d = &h->depths;
	size_t readers = d->nreaders;

	d->busy = false;
	d->nreaders = 0;
	sd_buf_reset(&d->text);
	d->at_us = 0;
	if (results) {
		print(&d->text, results[0]);
		d->at_us = sd_now_us();
	} else if (err->class != SD_ERR_TRANSIENT) {
		sd_log_err(SD_LOG_ERROR, err, "reading the queues for /metrics");
	}
	for (size_t i = 0; i < readers; i++)
		sd_http_metrics_reply(h, d->readers[i]);
}

void sd_http_metrics_request(struct sd_http *h, struct sd_exchange *x)
{
	struct sd_http_depths *d = &h->depths;
	const struct sd_db_call call = {&depths, NULL};

	if (d->at_us && sd_now_us() - d->at_us >= KEEP_US) {
		d->at_us = 0;
		sd_buf_reset(&d->text);
	}
	if (d->at_us || !sd_db_is_up(h->db.db) || d->nreaders == SD_HTTP_READERS) {
		sd_http_metrics_reply(h, x);
		return;
	}
	d->readers[d->nreaders++] = x;
	if (!d->busy)
		sd_db_submit(h->db.db, &call, 1, 0, ASK_MS, on_depths, h);
	d->busy = true;
}

void sd_http_metrics_gone(struct sd_http *h, const struct sd_exchange *x)
{
	struct sd_http_depths *d = &h->depths;

	for (size_t i = 0; i < d->nreaders; i++) {
		if (d->readers[i] == x) {
			d->readers[i] = d->readers[--d->nreaders];
			return;
		}
	}
}
