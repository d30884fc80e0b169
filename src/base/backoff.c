/* Waiting longer each time; see the header. */
#include "base/backoff.h"

enum { FIRST_WAIT_S = 1, LAST_WAIT_S = 60 };

int64_t sd_backoff_delay(enum sd_backoff_kind kind, int64_t base, int k, double jitter, int64_t cap, double unit)
{
	double delay = (double)base; /* doubles: nothing overflows, and a millisecond in 285,000 years is lost */

	if (k < 1)
		k = 1;
	switch (kind) {
	case SD_BACKOFF_EXPONENTIAL:
		delay *= k <= 63 ? (double)(1ULL << (k - 1)) : 0x1p62;
		break;
	case SD_BACKOFF_LINEAR:
		delay *= k;
		break;
	case SD_BACKOFF_FIXED:
		break;
	}
	delay *= 1.0 + jitter * (2.0 * unit - 1.0);
	if (cap > 0 && delay > (double)cap)
		return cap;
	if (!(delay > 0))
		return 0;
	return delay < 0x1p62 ? (int64_t)(delay + 0.5) : (int64_t)1 << 62;
}

int64_t sd_respawn_died(struct sd_respawn *r, int64_t lived_us)
{
	int64_t wait;

	if (lived_us >= SD_RESPAWN_HEALTHY_US)
		r->deaths = 0;
	r->deaths++;
	if (r->deaths == 1)
		return 0;
	wait = r->deaths - 2 < 6 ? (int64_t)FIRST_WAIT_S << (r->deaths - 2) : LAST_WAIT_S;
	return (wait < LAST_WAIT_S ? wait : LAST_WAIT_S) * 1000000LL;
}
