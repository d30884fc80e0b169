/* Greets in the background: enqueue {"timestamp", "appName", "greetingPrefix", "requestId"} on "process-greeting". */
#include <stepd/step.h>

static const char input_schema[] = STEPD_SCHEMA({
	"type": "object",
	"required": ["timestamp", "appName", "greetingPrefix", "requestId"],
	"properties": {
		"timestamp": {"type": "string"},
		"appName": {"type": "string"},
		"greetingPrefix": {"type": "string"},
		"requestId": {"type": "string"}
	}
});

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *input = stepd_data(ctx);
	const char *timestamp = stepd_get_str(input, "timestamp");
	const char *app_name = stepd_get_str(input, "appName");
	const char *prefix = stepd_get_str(input, "greetingPrefix");
	const char *request_id = stepd_get_str(input, "requestId");
	const char *greeting;
	cJSON *processed;

	stepd_log_info(ctx, "Processing greeting", stepd_str("requestId", request_id), stepd_str("appName", app_name));

	greeting = stepd_format(ctx, "%s %s!", prefix, app_name);
	processed = stepd_object(ctx,
		stepd_str("greeting", greeting),
		stepd_str("processedAt", stepd_now(ctx)),
		stepd_str("originalTimestamp", timestamp));
	if (stepd_state_set(ctx, "greetings", request_id, processed) < 0)
		return STEPD_RETRY;

	stepd_log_info(ctx, "Greeting processed successfully",
		stepd_str("requestId", request_id),
		stepd_str("greeting", greeting),
		stepd_bool("storedInState", true));
	return STEPD_OK;
}

STEPD_STEP(
	.name = "ProcessGreeting",
	.description = "Processes greeting in the background",
	.triggers = STEPD_TRIGGERS(STEPD_QUEUE("process-greeting", .input = input_schema)),
	.flows = STEPD_LIST("hello-world-flow"),
	.handler = handle);
