/*
 * Memory.  sd_xmalloc & co. end the process with a clear line when memory is
 * out: a child that dies is replaced, a child that limps is not.
 *
 * An arena owns everything of one attempt, request or configuration
 * generation; it is freed at once and can be reset and reused.
 */
#ifndef SD_BASE_MEM_H
#define SD_BASE_MEM_H

#include "base/err.h"

#include <stddef.h>

void *sd_xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *sd_xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *sd_xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
char *sd_xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *sd_xasprintf(const char *fmt, ...) SD_PRINTF(1, 2) __attribute__((malloc, returns_nonnull));

struct sd_arena;
struct sd_arena *sd_arena_new(void);
void sd_arena_free(struct sd_arena *a);	 /* NULL is allowed */
void sd_arena_reset(struct sd_arena *a); /* forget all, keep one block (large blocks go back to malloc) */
void *sd_arena_alloc(struct sd_arena *a, size_t size) __attribute__((malloc, returns_nonnull)); /* aligned for any type, not zeroed */
void *sd_arena_zalloc(struct sd_arena *a, size_t size) __attribute__((malloc, returns_nonnull));
char *sd_arena_strdup(struct sd_arena *a, const char *s); /* NULL gives NULL */
char *sd_arena_memdup(struct sd_arena *a, const void *p, size_t len); /* a '\0' follows the copy */
char *sd_arena_printf(struct sd_arena *a, const char *fmt, ...) SD_PRINTF(2, 3);
size_t sd_arena_size(const struct sd_arena *a); /* bytes held */

#endif
