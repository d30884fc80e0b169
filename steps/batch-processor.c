/* Every 6 hours: a job on "process-item" for each value of the state group "pending-items". */
#include <stepd/step.h>

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *item;
	cJSON *pending_items;

	stepd_log_info(ctx, "Starting batch processing");

	if (stepd_state_list(ctx, "pending-items", &pending_items) < 0)
		return STEPD_RETRY;

	stepd_log_info(ctx, stepd_format(ctx, "Found %d pending items", cJSON_GetArraySize(pending_items)));

	cJSON_ArrayForEach(item, pending_items)
		if (stepd_enqueue(ctx, "process-item", item) < 0)
			return STEPD_RETRY;

	stepd_log_info(ctx, "Batch enqueued successfully");
	return STEPD_OK;
}

STEPD_STEP(
	.name = "BatchProcessor",
	.description = "Enqueues all pending items, every 6 hours",
	.triggers = STEPD_TRIGGERS(STEPD_CRON("0 */6 * * *")),
	.enqueues = STEPD_LIST("process-item"),
	.handler = handle);
