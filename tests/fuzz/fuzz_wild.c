/*
 * What a child gone wild may leave for the others: the first byte chooses the
 * manifest, its slot of the scoreboard or a message on its channel.  (Frames on
 * a web worker's socket are in fuzz_http.c.)
 */
#include "base/mem.h"
#include "proc/chan.h"
#include "proc/scoreboard.h"
#include "step/manifest.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_trigger(const struct sd_mf_trigger *t)
{
	if ((t->type == SD_TRIGGER_QUEUE && t->topic == NULL) || (t->type == SD_TRIGGER_HTTP && (t->method == NULL || t->path == NULL)) ||
	    (t->type == SD_TRIGGER_CRON && (t->expression == NULL || t->timezone == NULL)))
		abort();
}

static void manifest(const char *text, size_t len)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_err err = {0};
	struct sd_manifest *m = sd_manifest_parse(text, len, arena, &err);

	if (m == NULL && err.message[0] == '\0')
		abort();
	for (size_t i = 0; m != NULL && i < m->nsteps; i++) {
		const struct sd_mf_step *s = &m->steps[i];

		if (s->name == NULL || s->file == NULL || s->kind == NULL)
			abort();
		for (size_t j = 0; j < s->nenqueues; j++)
			if (s->enqueues[j] == NULL)
				abort();
		for (size_t j = 0; j < s->ntriggers; j++)
			check_trigger(&s->triggers[j]);
	}
	sd_arena_free(arena);
}

static void slot(const uint8_t *bytes, size_t len)
{
	static alignas(struct sd_slot) unsigned char memory[sizeof(struct sd_slot)];
	const int64_t now = 1000000000;
	struct sd_seen seen;

	memset(memory, 0, sizeof memory);
	memcpy(memory, bytes, len < sizeof memory ? len : sizeof memory);
	sd_slot_look((struct sd_slot *)memory, now, &seen);
	if (seen.job < 0 || seen.last_job < 0 || seen.attempt < 0 || seen.deadline_us < 0 || seen.started_us < 0 || seen.started_us > now)
		abort();
}

static void message(const uint8_t *bytes, size_t len)
{
	struct sd_msg msg;
	struct sd_err err;
	int fd[2];

	if (sd_chan_pair(fd, &err) < 0 || send(fd[0], bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		abort();
	if ((sd_chan_recv(fd[1], &msg, &err) == 1) != (len == sizeof msg))
		abort();
	close(fd[0]);
	close(fd[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0)
		return 0;
	switch (data[0] % 3) {
	case 0:
		manifest((const char *)data + 1, len - 1);
		break;
	case 1:
		slot(data + 1, len - 1);
		break;
	case 2:
		message(data + 1, len - 1);
		break;
	}
	return 0;
}
