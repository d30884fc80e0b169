/* The configuration: whatever the file holds, it is either loaded whole and in range, or refused with places and reasons. */
#include "base/json.h"
#include "conf/conf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_json(const char *json)
{
	struct sd_err err;
	if (sd_json_check(json, strlen(json), &err) < 0)
		abort();
}

static void check(const struct sd_conf *c)
{
	if (!c->database_url || !c->node_name || c->http.body_limit < 1 || c->npools == 0 || c->history_keep_ms < 1 || !c->log_level)
		abort();
	if (c->http.listen.host && c->http.listen.port == 0)
		abort();
	for (size_t i = 0; i < c->nsteps; i++)
		if (c->steps[i][0] != '/')
			abort();
	for (size_t i = 0; i < c->npools; i++)
		if (!c->pools[i].name || c->pools[i].processes < 1 || c->pools[i].serves == 0)
			abort();
	for (size_t i = 0; i < c->nqueues; i++)
		if (!c->queues[i].name || c->queues[i].jitter < 0 || c->queues[i].jitter > 1 || c->queues[i].max_retries < 0)
			abort();
	check_json(sd_conf_queues_json(c, c->arena));
	check_json(sd_conf_queue_defaults_json(c, c->arena));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sd_conf_problems problems;
	struct sd_conf *conf = sd_conf_parse((const char *)data, len, "/etc/stepd/stepd.yaml", &problems);

	if ((conf == NULL) != (problems.n > 0))
		abort();
	for (size_t i = 0; i < problems.n; i++) {
		if (problems.v[i].line < 1 || problems.v[i].col < 1 || problems.v[i].text[0] == '\0')
			abort();
		if (i > 0 && problems.v[i].line < problems.v[i - 1].line)
			abort();
	}
	if (conf)
		check(conf);
	sd_conf_free(conf);
	sd_conf_problems_free(&problems);
	return 0;
}
