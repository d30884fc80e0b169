/* One handler, two ways in: the topic "process-order" and POST /process-order. */
#include "pet_store.h"

static const char order_schema[] = STEPD_SCHEMA({
	"type": "object",
	"required": ["email", "quantity", "petId"],
	"properties": {
		"email": {"type": "string"},
		"quantity": {"type": "number"},
		"petId": {"type": "string"}
	}
});

static int reply_created(struct stepd_ctx *ctx, void *order)
{
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_bool("success", true), stepd_json("order", order)));
}

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *data = stepd_data(ctx);
	cJSON *order;

	stepd_log_info(ctx, "Processing order", stepd_str("triggerType", stepd_trigger_name(ctx)), stepd_json("data", data));

	order = pet_store_create_order(ctx, data);
	if (stepd_state_set(ctx, "orders", stepd_get_str(order, "id"), order) < 0)
		return STEPD_RETRY;
	return stepd_match(ctx, order, .http = reply_created);
}

STEPD_STEP(
	.name = "ProcessOrder",
	.description = "Processes an order from the queue or from a request",
	.triggers = STEPD_TRIGGERS(
		STEPD_QUEUE("process-order", .input = order_schema),
		STEPD_HTTP("POST", "/process-order", .body_schema = order_schema)),
	.enqueues = STEPD_LIST("notification"),
	.handler = handle);
