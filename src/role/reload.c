/*
 * From configuration files to a generation being built: at the first start
 * with the configuration main() read, at a reload through the loader, which
 * reads it before this process does.
 *
 * Policy.  At start a step that cannot be loaded is reported by file and the
 * daemon goes on without it, unless no step is left.  A reload is all or
 * nothing: any problem keeps the old generation, with its steps.
 */
#include "base/clock.h"
#include "base/log.h"
#include "role/super.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELOAD_EXTRA_US (30 * SD_SEC) /* beyond the time given to the database */

static void log_lines(enum sd_loglevel level, const struct sd_buf *text)
{
	const char *p = text->data, *end = p + text->len;

	while (text->len > 0 && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl != NULL ? nl : end) - p);

		if (n > 0)
			sd_log(level, "%.*s", (int)n, p);
		p += n + 1;
	}
}

static void first_line(const struct sd_buf *text, char *out, size_t outlen)
{
	size_t n = text->len > 0 ? strcspn(text->data, "\n") : 0;

	snprintf(out, outlen, "%.*s", (int)n, n > 0 ? text->data : "");
}

/* ---- first start ---- */

static void start_failed(struct sd_super *su, int exit_code)
{
	su->exit_code = exit_code;
	sd_super_event(su, SD_ON_GEN_FAILED);
}

static void on_first_loaded(void *arg, struct sd_loaded *loaded, const struct sd_err *err)
{
	struct sd_super *su = arg;
	struct sd_gen *gen = su->building;

	sd_loader_free(su->loader);
	su->loader = NULL;
	if (loaded == NULL) {
		sd_log_err(SD_LOG_ERROR, err, "cannot load the steps");
		start_failed(su, 78);
		return;
	}
	log_lines(SD_LOG_ERROR, &loaded->problems);
	if (!loaded->conf_ok) {
		start_failed(su, 78);
		return;
	}
	log_lines(SD_LOG_WARN, &loaded->warnings);
	if (loaded->nsteps == 0 && loaded->nproblems > 0) {
		sd_log(SD_LOG_ERROR, "no step is left: not starting");
		start_failed(su, 78);
		return;
	}
	if (loaded->nproblems > 0)
		sd_log(SD_LOG_WARN, "going on with %zu steps, without what is reported above", loaded->nsteps);
	else if (loaded->nsteps == 0)
		sd_log(SD_LOG_WARN, "no steps found in the directories of `steps`");
	else
		sd_log(SD_LOG_INFO, "%zu step%s loaded", loaded->nsteps, loaded->nsteps == 1 ? "" : "s");
	gen->nsteps = loaded->nsteps;
	gen->manifest = sd_buf_take(&loaded->manifest, &gen->manifest_len);
}

void sd_load_first(struct sd_super *su, struct sd_conf *conf)
{
	struct sd_err err;

	su->loader = sd_loader_start(su->loop, conf, NULL, su->child_user, sd_super_drop, su, on_first_loaded, su, &err);
	if (su->loader != NULL)
		return;
	sd_log_err(SD_LOG_ERROR, &err, "cannot load the steps");
	start_failed(su, 78);
}

/* ---- reload ---- */

void sd_reload_failed(struct sd_super *su, const char *why)
{
	sd_log(SD_LOG_ERROR, "reload failed, the old configuration and steps stay: %s", why);
	snprintf(su->status, sizeof su->status, "reload failed: %.200s", why);
	sd_notify_line(su->status);
}

static void not_built(struct sd_super *su, const char *why)
{
	sd_reload_failed(su, why);
	sd_super_event(su, SD_ON_GEN_FAILED);
}

static void keep_restart_options(const struct sd_super *su, struct sd_conf *conf)
{
	struct sd_buf names = SD_BUF_INIT;

	if (su->live != NULL && sd_conf_keep_restart_options(su->live->conf, conf, &names) > 0)
		sd_log(SD_LOG_WARN, "takes effect only after a restart: %s", names.data);
	sd_buf_fini(&names);
}

static unsigned free_slots(const struct sd_super *su)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < su->sb->nslots; i++)
		n += su->kid_of_slot[i] == NULL;
	return n;
}

static void build(struct sd_super *su, struct sd_conf *conf, struct sd_loaded *loaded)
{
	struct sd_err err;
	char why[512];
	size_t len;
	char *manifest;

	if (sd_conf_children(conf) + 8 > free_slots(su)) {
		snprintf(why, sizeof why, "%u processes do not fit beside those that run (%u slots are free); restart instead",
			 sd_conf_children(conf), free_slots(su));
		sd_conf_free(conf);
		not_built(su, why);
		return;
	}
	keep_restart_options(su, conf);
	manifest = sd_buf_take(&loaded->manifest, &len);
	su->building = sd_gen_new(su, conf, manifest, len, loaded->nsteps, &err);
	if (su->building == NULL) {
		sd_conf_free(conf);
		snprintf(why, sizeof why, "%s", err.message);
		not_built(su, why);
		return;
	}
	su->building->give_up_us = sd_now_us() + conf->database_wait_ms * SD_MS + RELOAD_EXTRA_US;
}

static void on_reloaded(void *arg, struct sd_loaded *loaded, const struct sd_err *err)
{
	struct sd_super *su = arg;
	struct sd_conf_problems problems = {NULL, 0};
	struct sd_conf *conf;
	char why[256];

	sd_loader_free(su->loader);
	su->loader = NULL;
	if (loaded == NULL) {
		not_built(su, err->message);
		return;
	}
	log_lines(SD_LOG_ERROR, &loaded->problems);
	if (!loaded->conf_ok || loaded->nproblems > 0) {
		first_line(&loaded->problems, why, sizeof why);
		not_built(su, why);
		return;
	}
	log_lines(SD_LOG_WARN, &loaded->warnings);
	conf = sd_conf_load(su->conf_file, &problems);
	sd_conf_problems_free(&problems);
	if (conf == NULL)
		not_built(su, "the configuration changed while it was read");
	else
		build(su, conf, loaded);
}

void sd_reload_start(struct sd_super *su)
{
	struct sd_err err;

	sd_log(SD_LOG_INFO, "reloading %s", su->conf_file != NULL ? su->conf_file : "(no configuration file) the steps");
	sd_notify_say(&su->notify, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reloading\n", (long long)sd_now_us());
	su->loader = sd_loader_start(su->loop, NULL, su->conf_file, su->child_user, sd_super_drop, su, on_reloaded, su, &err);
	if (su->loader == NULL)
		not_built(su, err.message);
}
