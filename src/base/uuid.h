/* UUIDs as text (RFC 9562), from the kernel's random numbers. */
#ifndef SD_BASE_UUID_H
#define SD_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define SD_UUID_LEN 36

char *sd_uuid_v4(char out[SD_UUID_LEN + 1]); /* random; returns out */
char *sd_uuid_v4_of(const uint64_t random[2], char out[SD_UUID_LEN + 1]); /* from the caller's random numbers */
/* Ordered by the time it was made: milliseconds since the epoch, then a counter, then random bits.  Within one thread strictly ascending. */
char *sd_uuid_v7(char out[SD_UUID_LEN + 1]);
bool sd_uuid_valid(const char *text); /* 8-4-4-4-12 hex digits of either case, or 32 as in a traceparent */

/* Random numbers for jitter and names that must not be guessed. */
void sd_random_bytes(void *p, unsigned long n);

#endif
