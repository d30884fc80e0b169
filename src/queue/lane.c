/* Batch sizes and cursors of a lane: see lane.h. */
#include "queue/lane.h"

#include "base/clock.h"

#include <string.h>

#define SLOW_US 2500.0		    /* jobs longer than this are not fetched ahead */
#define SPARE_US 7500.0		    /* longer ones might be given back while they wait (worker.c) */
#define BATCH_BYTES (4.0 * 1048576) /* of input that a batch holds */
#define LAG_US (10 * SD_SEC)
#define RESCAN_US (1 * SD_SEC)
#define RESCAN_SHARE 20 /* at most 1/20 of the time is spent reading from the start */
#define DATABASE_US 10.0 /* what claiming, reading and finishing take for each job of a batch */
#define GROWTH 64.0	/* of a batch against the one before */
#define WARY_GROWTH 2.0
#define WEIGHT 0.3	/* of the newest value in a moving mean */

void sd_lane_init(struct sd_lane *l, int id, int step_index, int64_t timeout_ms)
{
	memset(l, 0, sizeof *l);
	l->id = id;
	l->step_index = step_index;
	l->timeout_ms = timeout_ms;
	l->max_batch = SD_LANE_BATCH;
	l->mean_us = -1;
}

static double growth(const struct sd_lane *l)
{
	return (l->wary ? WARY_GROWTH : GROWTH) * l->last_batch;
}

int sd_lane_want(const struct sd_lane *l, int64_t budget_us)
{
	if (l->mean_us < 0)
		return 1;
	double n = l->max_batch;
	if ((l->mean_us + DATABASE_US) * n > (double)budget_us)
		n = (double)budget_us / (l->mean_us + DATABASE_US);
	if (l->mean_bytes * n > BATCH_BYTES)
		n = BATCH_BYTES / l->mean_bytes;
	if (n > growth(l))
		n = growth(l);
	return n < 1 ? 1 : (int)n;
}

int sd_lane_most(const struct sd_lane *l, int64_t budget_us)
{
	return l->mean_us < 0 || l->mean_us > SPARE_US ? 1 : sd_lane_want(l, budget_us);
}

bool sd_lane_has_more(const struct sd_lane *l)
{
	return l->more == SD_MORE || (l->more == SD_MORE_IF_FULL && l->full);
}

bool sd_lane_is_slow(const struct sd_lane *l)
{
	return l->mean_us < 0 || l->mean_us > SLOW_US;
}

/* The newest cursor that is at least LAG_US old; 0 when none is known. */
static int64_t lagged_cursor(const struct sd_lane *l, int64_t now_us)
{
	for (int i = 0; i < SD_LANE_SAMPLES; i++) {
		int k = (l->newest - i + SD_LANE_SAMPLES) % SD_LANE_SAMPLES;
		if (l->sample[k].at_us != 0 && now_us - l->sample[k].at_us >= LAG_US)
			return l->sample[k].cursor;
	}
	return 0;
}

int64_t sd_lane_begin(struct sd_lane *l, int asked, int64_t now_us)
{
	l->asked = asked;
	l->got = 0;
	l->got_cursor = 0;
	l->more = SD_MORE_IF_FULL;
	l->rescanning = l->cursor == 0 || now_us >= l->rescan_us;
	l->ahead = l->full && !l->rescanning;
	if (l->rescanning)
		return 0;
	return l->full ? l->cursor : lagged_cursor(l, now_us);
}

/* Keep about one cursor a second; when the ring is full its oldest is LAG_US old. */
static void sample_cursor(struct sd_lane *l, int64_t now_us)
{
	if (l->sample[l->newest].at_us != 0 && now_us - l->sample[l->newest].at_us < LAG_US / (SD_LANE_SAMPLES - 2))
		return;
	l->newest = (l->newest + 1) % SD_LANE_SAMPLES;
	l->sample[l->newest].at_us = now_us;
	l->sample[l->newest].cursor = l->cursor;
}

void sd_lane_end(struct sd_lane *l, int64_t now_us, int64_t took_us)
{
	if (l->rescanning) {
		int64_t pause = took_us * RESCAN_SHARE;
		l->rescan_us = now_us + (pause > RESCAN_US ? pause : RESCAN_US);
		l->rescanning = false;
	}
	if (l->got_cursor > l->cursor)
		l->cursor = l->got_cursor;
	sample_cursor(l, now_us);
	l->full = l->more == SD_MORE || (l->asked > 0 && l->got >= l->asked);
	if (l->got > 0) {
		l->wary = l->wary && l->asked >= growth(l);
		l->last_batch = l->asked;
	}
}

void sd_lane_warn(struct sd_lane *l)
{
	l->wary = true;
	l->last_batch = 0;
}

void sd_lane_ran(struct sd_lane *l, int64_t us, int64_t bytes)
{
	if (l->mean_us < 0) {
		l->mean_us = (double)us;
		l->mean_bytes = (double)bytes;
		return;
	}
	l->mean_us += WEIGHT * ((double)us - l->mean_us);
	l->mean_bytes += WEIGHT * ((double)bytes - l->mean_bytes);
}
