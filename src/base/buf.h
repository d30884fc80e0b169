/* A growing byte buffer; always '\0'-terminated behind len, so that data can be read as a string. */
#ifndef SD_BASE_BUF_H
#define SD_BASE_BUF_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct sd_buf {
	char *data; /* never NULL after the first append */
	size_t len;
	size_t cap;
};
#define SD_BUF_INIT {NULL, 0, 0}

void sd_buf_fini(struct sd_buf *b);		 /* free the memory; the buffer may be used again */
void sd_buf_reset(struct sd_buf *b);		 /* len = 0, memory kept */
void sd_buf_empty(struct sd_buf *b, size_t keep); /* len = 0, memory kept unless it is more than keep bytes */
void sd_buf_reserve(struct sd_buf *b, size_t n); /* room for n more bytes */
void sd_buf_append(struct sd_buf *b, const void *p, size_t n);
void sd_buf_str(struct sd_buf *b, const char *s);
void sd_buf_chr(struct sd_buf *b, char c);
void sd_buf_printf(struct sd_buf *b, const char *fmt, ...) SD_PRINTF(2, 3);
void sd_buf_i64(struct sd_buf *b, int64_t v);
void sd_buf_consume(struct sd_buf *b, size_t n); /* drop the first n bytes */
/* s as a JSON string with its quotes, escaped; n bytes of valid UTF-8. */
void sd_buf_json(struct sd_buf *b, const char *s, size_t n);
void sd_buf_json_str(struct sd_buf *b, const char *s); /* NULL appends null */
void sd_buf_json_strs(struct sd_buf *b, const char *const *list, size_t n); /* an array of strings */
/* One element of a PostgreSQL array literal "{…}": a comma unless it is the first, then s quoted and escaped; NULL appends NULL. */
void sd_buf_pgarray(struct sd_buf *b, const char *s, size_t n);
void sd_buf_pgarray_i64(struct sd_buf *b, int64_t v);
/* Give away the memory (to be freed with free()); the buffer is empty again. */
char *sd_buf_take(struct sd_buf *b, size_t *len);

#endif
