/* Runs every minute and tells whoever subscribes to "periodic-job-handled". */
#include <stepd/step.h>

static int handle(struct stepd_ctx *ctx)
{
	stepd_log_info(ctx, "Periodic job executed");

	return stepd_enqueue(ctx, "periodic-job-handled", stepd_object(ctx,
		stepd_str("message", "Periodic job executed"),
		stepd_str("timestamp", stepd_now(ctx))));
}

STEPD_STEP(
	.name = "HandlePeriodicJob",
	.description = "Runs every minute",
	.triggers = STEPD_TRIGGERS(STEPD_CRON("* * * * *")),
	.enqueues = STEPD_LIST("periodic-job-handled"),
	.handler = handle);
