/* UTF-8 as RFC 3629 and PostgreSQL have it: shortest forms only, no surrogates, nothing above U+10FFFF. */
#ifndef SD_BASE_UTF8_H
#define SD_BASE_UTF8_H

#include <stddef.h>

/* Bytes of the well-formed character at p, of which n bytes can be read: 1 to 4; 0 when there is none. */
static inline size_t sd_utf8_len(const unsigned char *p, size_t n)
{
	if (n == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2)
		return 0;
	if (n < 2 || (p[1] & 0xc0) != 0x80)
		return 0;
	if (p[0] < 0xe0)
		return 2;
	if (n < 3 || (p[2] & 0xc0) != 0x80)
		return 0;
	if (p[0] < 0xf0) {
		if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
			return 0;
		return 3;
	}
	if (n < 4 || (p[3] & 0xc0) != 0x80)
		return 0;
	if (p[0] > 0xf4 || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return 4;
}

#endif
