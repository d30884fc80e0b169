/*
 * The pet store: pets and orders, kept in stepd's state.
 *
 * A helper that several steps share is an ordinary C file compiled into each of
 * them; it is given the step's ctx and returns trees that belong to it.
 */
#ifndef PET_STORE_H
#define PET_STORE_H

#include <stepd/step.h>

/* A new pet of {name, photoUrl}, with an id, kept in the group "pets".  NULL: see stepd_last_error(). */
cJSON *pet_store_create_pet(struct stepd_ctx *ctx, const cJSON *pet);

/* A new order of {email, quantity, petId}: with an id, today's ship date, placed.  The caller keeps it. */
cJSON *pet_store_create_order(struct stepd_ctx *ctx, const cJSON *order);

#endif
