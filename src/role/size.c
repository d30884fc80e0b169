/* How many processes a pool has: see size.h. */
#include "role/size.h"

static unsigned smaller(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned grow(struct sd_size *s, const struct sd_size_seen *seen, int64_t now_us)
{
	bool again = s->step > 0 && now_us - s->grown_us < SD_SIZE_CALM_US;

	s->step = smaller(smaller(again ? 2 * s->step : 1, seen->waiting), seen->max - seen->want);
	s->grown_us = now_us;
	return seen->want + s->step;
}

static unsigned shrink(struct sd_size *s, const struct sd_size_seen *seen, int64_t now_us)
{
	unsigned spare, keep = seen->min;

	if (s->spare_us == 0 || seen->idle < s->spare)
		s->spare = seen->idle;
	if (s->spare_us == 0) {
		s->spare_us = now_us;
		s->worked = false;
	}
	s->worked |= seen->worked;
	spare = s->spare > seen->idle_long ? s->spare : seen->idle_long;
	if (now_us - s->spare_us < seen->idle_us)
		return seen->want;
	if (keep == 0 && s->worked)
		keep = 1;
	s->spare_us = 0;
	return seen->want > keep ? seen->want - smaller(spare, seen->want - keep) : seen->want;
}

unsigned sd_size_decide(struct sd_size *s, const struct sd_size_seen *seen, int64_t now_us)
{
	if (seen->waiting > 0 && seen->idle == 0 && seen->starting == 0 && seen->ready >= seen->want && seen->want < seen->max)
		return grow(s, seen, now_us);
	if (seen->idle == 0 || seen->ready < seen->want) {
		s->spare_us = 0;
		return seen->want;
	}
	return shrink(s, seen, now_us);
}
