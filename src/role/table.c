/* The table of roles: all that the supervisor knows of what its children do. */
#include "role/role.h"

const struct sd_role sd_roles[SD_ROLE_COUNT] = {
	[SD_ROLE_POSTGRES] = {"postgres", "stepd-postgres", sd_postgres_main, .vital_at_start = true},
	[SD_ROLE_KEEPER] = {"keeper", "stepd-keeper", sd_keeper_main, .vital_at_start = true},
	[SD_ROLE_CRON] = {"cron", "stepd-cron", sd_cron_main, .needs_database = true, .vital_at_start = true},
	[SD_ROLE_HTTP] = {"http", "stepd-http", sd_http_main, .needs_database = true, .vital_at_start = true},
	[SD_ROLE_WORKER] = {"worker", "stepd-worker", sd_worker_main, .needs_database = true, .vital_at_start = true,
			    .holds_jobs = true},
	[SD_ROLE_WEB] = {"web", "stepd-web", sd_web_main, .needs_database = true, .vital_at_start = true, .holds_jobs = true},
};
