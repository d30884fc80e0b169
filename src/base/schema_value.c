/*
 * Values: their types, equality as JSON Schema has it (1 equals 1.0, the order
 * of members does not count), and exact divisibility.
 */
#include "base/schema_impl.h"
#include "base/decimal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sd_value_is_integer(const cJSON *v)
{
	return cJSON_IsNumber(v) && (isinf(v->valuedouble) || trunc(v->valuedouble) == v->valuedouble);
}

unsigned sd_value_types(const cJSON *v)
{
	switch (v->type & 0xff) {
	case cJSON_NULL:
		return SD_TYPE_NULL;
	case cJSON_False:
	case cJSON_True:
		return SD_TYPE_BOOLEAN;
	case cJSON_Number:
		return SD_TYPE_NUMBER | (sd_value_is_integer(v) ? SD_TYPE_INTEGER : 0);
	case cJSON_String:
		return SD_TYPE_STRING;
	case cJSON_Array:
		return SD_TYPE_ARRAY;
	case cJSON_Object:
		return SD_TYPE_OBJECT;
	default:
		return 0;
	}
}

static const cJSON *member(const cJSON *o, const char *name, long *work)
{
	const cJSON *m;

	cJSON_ArrayForEach(m, o) {
		--*work;
		if (strcmp(m->string, name) == 0)
			return m;
	}
	return NULL;
}

static bool equal_objects(const cJSON *a, const cJSON *b, long *work)
{
	const cJSON *m, *beside = b->child;

	cJSON_ArrayForEach(m, a) {
		/* mostly in the same order */
		const cJSON *other = beside != NULL && strcmp(beside->string, m->string) == 0 ? beside : member(b, m->string, work);

		if (other == NULL || !sd_value_equal(m, other, work))
			return false;
		beside = beside != NULL ? beside->next : NULL;
	}
	return cJSON_GetArraySize(a) == cJSON_GetArraySize(b);
}

bool sd_value_equal(const cJSON *a, const cJSON *b, long *work)
{
	if (--*work < 0 || (a->type & 0xff) != (b->type & 0xff))
		return false;
	switch (a->type & 0xff) {
	case cJSON_Number:
		return a->valuedouble == b->valuedouble;
	case cJSON_String:
		return strcmp(a->valuestring, b->valuestring) == 0;
	case cJSON_Object:
		return equal_objects(a, b, work);
	case cJSON_Array:
		for (a = a->child, b = b->child; a != NULL && b != NULL; a = a->next, b = b->next)
			if (!sd_value_equal(a, b, work))
				return false;
		return a == b;
	default:
		return true;
	}
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 33;
}

static uint64_t hash_text(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
	return mix(h);
}

uint64_t sd_value_hash(const cJSON *v, long *work)
{
	uint64_t h = (uint64_t)(v->type & 0xff), bits;
	double d = v->valuedouble == 0 ? 0 : v->valuedouble; /* -0 is 0 */
	const cJSON *c;

	if (--*work < 0)
		return 0;
	switch (v->type & 0xff) {
	case cJSON_Number:
		memcpy(&bits, &d, sizeof bits);
		return mix(h ^ mix(bits));
	case cJSON_String:
		return mix(h ^ hash_text(v->valuestring));
	case cJSON_Array:
		cJSON_ArrayForEach(c, v)
			h = mix(h * 31 + sd_value_hash(c, work));
		return h;
	case cJSON_Object:
		cJSON_ArrayForEach(c, v)
			h += mix(hash_text(c->string) ^ sd_value_hash(c, work) * 31);
		return mix(h);
	default:
		return mix(h);
	}
}

long sd_value_count(const cJSON *v)
{
	long n = 1;

	if (cJSON_IsArray(v) || cJSON_IsObject(v))
		for (const cJSON *c = v->child; c != NULL; c = c->next)
			n += sd_value_count(c);
	return n;
}

size_t sd_text_chars(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* The shortest decimal that reads as v: |v| = *digits · 10^exponent, digits no multiple of ten.  v is finite and not 0. */
static int decimal(double v, uint64_t *digits)
{
	char text[SD_DECIMAL_MAX];
	int precision = 14, exponent;
	const char *p = text;

	do
		sd_decimal_print(text, precision++, 'e', fabs(v));
	while (precision < 17 && sd_decimal_read(text) != fabs(v));
	*digits = 0;
	for (; *p != 'e'; p++)
		if (*p != '.')
			*digits = *digits * 10 + (uint64_t)(*p - '0');
	exponent = atoi(p + 1) - (precision - 1);
	while (*digits % 10 == 0) {
		*digits /= 10;
		exponent++;
	}
	return exponent;
}

bool sd_value_multiple(double v, double of)
{
	uint64_t a, b;
	unsigned __int128 rest;
	int shift;

	if (v == 0)
		return true;
	if (!isfinite(v) || !isfinite(of))
		return false;
	shift = decimal(v, &a);
	shift -= decimal(of, &b);
	if (shift < 0)
		return false; /* a is no multiple of ten, and what it would have to be a multiple of is one */
	rest = a % b;
	for (; shift > 0 && rest != 0; shift--)
		rest = rest * 10 % b;
	return rest == 0;
}
