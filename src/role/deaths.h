/*
 * Deaths on their way to the keeper: kept until it says that they are
 * recorded, and told again to the next keeper when it dies before.
 */
#ifndef SD_ROLE_DEATHS_H
#define SD_ROLE_DEATHS_H

#include "proc/chan.h"

#include <stdbool.h>
#include <stddef.h>

struct sd_death_entry;
struct sd_deaths { /* zero-initialise */
	struct sd_death_entry *first, *last;
	uint64_t serial;
	size_t n;
};

void sd_deaths_add(struct sd_deaths *d, const struct sd_msg_death *death); /* its serial is given here */
/* Send what keeper_pid was not told yet on its channel; stops when the channel is full. */
void sd_deaths_send(struct sd_deaths *d, int chan, int keeper_pid);
void sd_deaths_ack(struct sd_deaths *d, uint64_t serial); /* an unknown serial is ignored */
void sd_deaths_fini(struct sd_deaths *d);
/* It passed a limit: of time, memory or CPU time. */
bool sd_death_of_limit(const struct sd_msg_death *d);
/* How it died, for people. */
void sd_death_describe(const struct sd_msg_death *d, char *out, size_t size);

#endif
