/* See decimal.h. */
#include "base/decimal.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static locale_t plain;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_plain(void)
{
	plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (plain == (locale_t)0)
		abort();
}

static locale_t c_locale(void)
{
	pthread_once(&once, make_plain);
	return plain;
}

char *sd_decimal_print(char out[SD_DECIMAL_MAX], int precision, char form, double v)
{
	locale_t was = uselocale(c_locale()); /* of this thread */

	snprintf(out, SD_DECIMAL_MAX, form == 'e' ? "%.*e" : "%.*g", precision, v);
	uselocale(was);
	return out;
}

double sd_decimal_read(const char *text)
{
	return strtod_l(text, NULL, c_locale());
}
