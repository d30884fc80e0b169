/*
 * The unguessable names of jobs.  A name is the job's number as one block of
 * AES-256 under the installation's key: 128 bits in which the number cannot be
 * seen, which need not be stored, and of which a guess hits a job with the
 * chance of a random one.
 */
#ifndef SD_HTTP_TOKEN_H
#define SD_HTTP_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_TOKEN_KEY 32
#define SD_TOKEN_LEN 32 /* hex digits */

void sd_token_make(const unsigned char key[SD_TOKEN_KEY], uint64_t id, char out[SD_TOKEN_LEN + 1]);
/* false: it was not made with this key. */
bool sd_token_read(const unsigned char key[SD_TOKEN_KEY], const char *token, uint64_t *id);
/* Does it look like one? */
bool sd_token_shape(const char *s, size_t n);
/* 64 hex digits as PostgreSQL's encode() gives them; false: they are not. */
bool sd_token_key(const char *hex, unsigned char key[SD_TOKEN_KEY]);

#endif
