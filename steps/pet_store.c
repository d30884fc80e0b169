#include "pet_store.h"

cJSON *pet_store_create_pet(struct stepd_ctx *ctx, const cJSON *pet)
{
	const char *id = stepd_uuid(ctx);
	cJSON *created = stepd_object(ctx,
		stepd_str("id", id),
		stepd_str("name", stepd_get_str(pet, "name")),
		stepd_str("photoUrl", stepd_get_str(pet, "photoUrl")));

	return stepd_state_set(ctx, "pets", id, created) == 0 ? created : NULL;
}

cJSON *pet_store_create_order(struct stepd_ctx *ctx, const cJSON *order)
{
	return stepd_object(ctx,
		stepd_str("id", stepd_uuid(ctx)),
		stepd_json("email", stepd_get(order, "email")),
		stepd_json("quantity", stepd_get(order, "quantity")),
		stepd_json("petId", stepd_get(order, "petId")),
		stepd_str("shipDate", stepd_now(ctx)),
		stepd_str("status", "placed"));
}
