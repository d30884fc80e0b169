/* Time, in microseconds: the clocks of clock_gettime(2), which can not fail with these clocks. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * SD_SEC + ts.tv_nsec / 1000;
}

int64_t sd_now_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t sd_boot_us(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

int64_t sd_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

char *sd_wall_format(int64_t wall_us, char out[28])
{
	int64_t us = wall_us % SD_SEC;
	time_t sec = (time_t)(wall_us / SD_SEC);
	struct tm tm;

	if (us < 0) {
		us += SD_SEC;
		sec--;
	}
	/* four digits are all the place there is */
	if (gmtime_r(&sec, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 8099)
		snprintf(out, 28, "out of range");
	else
		snprintf(out, 28, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", (unsigned)(tm.tm_year + 1900) % 10000u,
			 (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
			 (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, (unsigned)us % 1000000u);
	return out;
}
