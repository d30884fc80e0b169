/* Time, in microseconds.  Monotonic time measures, wall time is only for people and for cron. */
#ifndef SD_BASE_CLOCK_H
#define SD_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define SD_MS 1000LL
#define SD_SEC 1000000LL

int64_t sd_now_us(void);	 /* CLOCK_MONOTONIC; comparable over all processes of the machine */
int64_t sd_boot_us(void);	 /* CLOCK_BOOTTIME: the same, but it goes on while the machine sleeps */
int64_t sd_wall_us(void);	 /* since the epoch */
/* "2026-11-23T14:05:09.123456Z" into out (28 bytes); returns out. */
char *sd_wall_format(int64_t wall_us, char out[28]);

#endif
