/*
 * Waking idle queue workers.
 *
 * The workers of one pool in one generation sleep at one eventfd, that of
 * their group in the scoreboard: a token there wakes any one of them, and no other pool's,
 * which might serve other queues.  Whoever makes work ready rings; that costs
 * one token for each pool that has a sleeper, and more where there is much to do.  A worker that is to leave takes
 * no token.  All eventfds are made before the first fork, so that every child
 * has those of pools that come later with a reload.
 */
#ifndef SD_PROC_WAKE_H
#define SD_PROC_WAKE_H

#include "proc/scoreboard.h"

struct sd_wake {
	int fd[SD_GROUPS];
};

int sd_wake_open(struct sd_wake *w, struct sd_err *err) SD_MUST_CHECK;
void sd_wake_close(struct sd_wake *w); /* the descriptors are -1 or open */

/*
 * To each pool as many tokens as it has workers that sleep, `most` at most, and one if some only may do so in a moment; not
 * counting the worker in slot `except` (-1: none).  Which groups: a bit each.
 */
uint64_t sd_wake_ring(const struct sd_wake *w, const struct sd_scoreboard *sb, int64_t except, uint64_t most);

#endif
