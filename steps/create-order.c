/*
 * The first step of the order workflow: POST /orders creates a pet and, if food
 * is ordered with it, hands the order to ProcessFoodOrder.
 */
#include "pet_store.h"

#define EMAIL "customer@example.com"

static const char body_schema[] = STEPD_SCHEMA({
	"type": "object",
	"required": ["pet"],
	"properties": {
		"pet": {
			"type": "object",
			"required": ["name", "photoUrl"],
			"properties": {"name": {"type": "string"}, "photoUrl": {"type": "string"}}
		},
		"foodOrder": {
			"type": "object",
			"required": ["quantity"],
			"properties": {"quantity": {"type": "number"}}
		}
	}
});

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *body = stepd_data(ctx);
	const cJSON *food_order = stepd_get(body, "foodOrder");
	cJSON *new_pet = pet_store_create_pet(ctx, stepd_get(body, "pet"));

	if (new_pet == NULL)
		return STEPD_RETRY;

	if (food_order != NULL) {
		cJSON *order = stepd_object(ctx,
			stepd_json("quantity", stepd_get(food_order, "quantity")),
			stepd_str("email", EMAIL),
			stepd_json("petId", stepd_get(new_pet, "id")));

		if (stepd_enqueue(ctx, "process-food-order", order) < 0)
			return STEPD_RETRY;
	}
	return stepd_reply(ctx, 200, new_pet);
}

STEPD_STEP(
	.name = "CreateOrder",
	.description = "Creates a pet and orders its food",
	.triggers = STEPD_TRIGGERS(STEPD_HTTP("POST", "/orders", .body_schema = body_schema)),
	.enqueues = STEPD_LIST("process-food-order"),
	.flows = STEPD_LIST("pet-store"),
	.handler = handle);
