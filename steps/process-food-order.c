/* The second step of the order workflow: places the order and has the customer notified. */
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

static int notify(struct stepd_ctx *ctx, const char *email, const cJSON *order)
{
	cJSON *template_data = stepd_object(ctx,
		stepd_json("orderId", stepd_get(order, "id")),
		stepd_json("quantity", stepd_get(order, "quantity")),
		stepd_json("status", stepd_get(order, "status")));

	return stepd_enqueue(ctx, "notification", stepd_object(ctx,
		stepd_str("email", email),
		stepd_str("templateId", "new-order"),
		stepd_json("templateData", template_data)));
}

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *input = stepd_data(ctx);
	cJSON *order;

	stepd_log_info(ctx, "Processing food order", stepd_json("input", input));

	order = pet_store_create_order(ctx, input);
	if (stepd_state_set(ctx, "orders", stepd_get_str(order, "id"), order) < 0)
		return STEPD_RETRY;
	return notify(ctx, stepd_get_str(input, "email"), order);
}

STEPD_STEP(
	.name = "ProcessFoodOrder",
	.description = "Process food orders in the background",
	.flows = STEPD_LIST("pet-store"),
	.triggers = STEPD_TRIGGERS(STEPD_QUEUE("process-food-order", .input = order_schema)),
	.enqueues = STEPD_LIST("notification"),
	.handler = handle);
