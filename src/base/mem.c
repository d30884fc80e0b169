/*
 * Memory: allocation that succeeds or ends the process, and arenas.
 *
 * An arena is a list of blocks; the newest has the free room.  Something too
 * large for a block of the usual size gets one of its own behind the newest, so
 * that the room left there is not lost.
 */
#include "base/mem.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_BLOCK = 1024, LAST_BLOCK = 256 * 1024 };

/* No formatting, no heap: this must work when nothing else does. */
static void __attribute__((noreturn)) out_of_memory(void)
{
	static const char line[] = "stepd: out of memory, this process ends\n";

	if (write(STDERR_FILENO, line, sizeof line - 1) < 0)
		_exit(71);
	_exit(71);
}

void *sd_xmalloc(size_t size)
{
	void *p = malloc(size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *sd_xcalloc(size_t n, size_t size)
{
	void *p = calloc(n != 0 ? n : 1, size != 0 ? size : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *sd_xrealloc(void *p, size_t size)
{
	p = realloc(p, size != 0 ? size : 1);
	if (p == NULL)
		out_of_memory();
	return p;
}

char *sd_xstrdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(sd_xmalloc(n), s, n);
}

char *sd_xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		out_of_memory();
	return s;
}

struct block {
	struct block *next;
	size_t size; /* of data */
	size_t used;
	alignas(max_align_t) char data[];
};

struct sd_arena {
	struct block *head; /* the block with free room; NULL before the first use */
	size_t next_size;
	size_t held;
};

struct sd_arena *sd_arena_new(void)
{
	struct sd_arena *a = sd_xmalloc(sizeof *a);

	a->head = NULL;
	a->next_size = FIRST_BLOCK;
	a->held = 0;
	return a;
}

void sd_arena_free(struct sd_arena *a)
{
	struct block *b, *next;

	if (a == NULL)
		return;
	for (b = a->head; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	free(a);
}

void sd_arena_reset(struct sd_arena *a)
{
	struct block *b, *next, *keep = NULL;

	for (b = a->head; b != NULL; b = next) {
		next = b->next;
		/* the largest of the usual blocks serves the next round best */
		if (b->size <= LAST_BLOCK && (keep == NULL || b->size > keep->size)) {
			free(keep);
			keep = b;
		} else {
			free(b);
		}
	}
	a->head = keep;
	a->held = 0;
	if (keep != NULL) {
		keep->next = NULL;
		keep->used = 0;
		a->held = sizeof *keep + keep->size;
	}
}

static struct block *block_new(struct sd_arena *a, size_t size)
{
	struct block *b;

	if (size > SIZE_MAX - sizeof *b)
		out_of_memory();
	b = sd_xmalloc(sizeof *b + size);
	b->next = NULL;
	b->size = size;
	b->used = 0;
	a->held += sizeof *b + size;
	return b;
}

void *sd_arena_alloc(struct sd_arena *a, size_t size)
{
	const size_t align = alignof(max_align_t);
	struct block *b = a->head;
	void *p;

	if (size > SIZE_MAX / 2)
		out_of_memory();
	size = (size + align - 1) / align * align;
	if (size == 0)
		size = align;
	if (b == NULL || b->size - b->used < size) {
		if (b != NULL && size > a->next_size / 4) { /* its own block */
			struct block *own = block_new(a, size);

			own->used = size;
			own->next = b->next;
			b->next = own;
			return own->data;
		}
		b = block_new(a, size > a->next_size ? size : a->next_size);
		b->next = a->head;
		a->head = b;
		if (a->next_size < LAST_BLOCK)
			a->next_size *= 2;
	}
	p = b->data + b->used;
	b->used += size;
	return p;
}

void *sd_arena_zalloc(struct sd_arena *a, size_t size)
{
	return memset(sd_arena_alloc(a, size), 0, size);
}

char *sd_arena_strdup(struct sd_arena *a, const char *s)
{
	return s != NULL ? sd_arena_memdup(a, s, strlen(s)) : NULL;
}

char *sd_arena_memdup(struct sd_arena *a, const void *p, size_t len)
{
	char *copy = sd_arena_alloc(a, len + 1);

	if (len > 0)
		memcpy(copy, p, len);
	copy[len] = '\0';
	return copy;
}

char *sd_arena_printf(struct sd_arena *a, const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		out_of_memory();
	s = sd_arena_alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return s;
}

size_t sd_arena_size(const struct sd_arena *a)
{
	return a->held;
}
