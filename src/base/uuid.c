/*
 * UUIDs and random numbers, all from getrandom(2): it needs no state, so a
 * forked child never repeats its parent's numbers.
 */
#include "base/uuid.h"
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void sd_random_bytes(void *p, unsigned long n)
{
	char *to = p;

	while (n > 0) {
		ssize_t got = getrandom(to, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			abort(); /* ENOSYS and the like: no Linux of the last ten years */
		to += got;
		n -= (unsigned long)got;
	}
}

static char *format(const unsigned char id[16], char out[SD_UUID_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	char *p = out;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[id[i] >> 4];
		*p++ = hex[id[i] & 15];
	}
	*p = '\0';
	return out;
}

static void set_version(unsigned char id[16], int version)
{
	id[6] = (unsigned char)((id[6] & 0x0f) | version << 4);
	id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
}

char *sd_uuid_v4(char out[SD_UUID_LEN + 1])
{
	unsigned char id[16];

	sd_random_bytes(id, sizeof id);
	set_version(id, 4);
	return format(id, out);
}

char *sd_uuid_v4_of(const uint64_t random[2], char out[SD_UUID_LEN + 1])
{
	unsigned char id[16];

	memcpy(id, random, sizeof id);
	set_version(id, 4);
	return format(id, out);
}

/* Twelve bits behind the milliseconds count fractions of one (RFC 9562, 6.2, method 3); a tie or a step back goes on from the last. */
char *sd_uuid_v7(char out[SD_UUID_LEN + 1])
{
	static _Thread_local uint64_t last; /* milliseconds << 12 | fraction */
	unsigned char id[16];
	int64_t us = sd_wall_us();
	uint64_t at = (uint64_t)(us / 1000) << 12 | (uint64_t)(us % 1000 * 4096 / 1000);

	if (at <= last)
		at = last + 1;
	last = at;
	sd_random_bytes(id, sizeof id);
	for (int i = 0; i < 6; i++)
		id[i] = (unsigned char)(at >> (52 - 8 * i));
	id[6] = (unsigned char)(at >> 8 & 0x0f);
	id[7] = (unsigned char)at;
	set_version(id, 7);
	return format(id, out);
}

bool sd_uuid_valid(const char *text)
{
	if (strspn(text, "0123456789abcdefABCDEF") == 32 && text[32] == '\0')
		return true;
	for (int i = 0; i < SD_UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return text[SD_UUID_LEN] == '\0';
}
