/* The last step of the order workflow: tells the user.  Put the call of your email service where it says so. */
#include <stepd/step.h>

#include <string.h>

static const char input_schema[] = STEPD_SCHEMA({
	"type": "object",
	"required": ["templateId", "email", "templateData"],
	"properties": {
		"templateId": {"type": "string"},
		"email": {"type": "string"},
		"templateData": {"type": "object"}
	}
});

/* Every character behind the first two and before the last '@' becomes '*': "jo******@example.com". */
static const char *mask(struct stepd_ctx *ctx, const char *email)
{
	const char *at = strrchr(email, '@');
	char *out = stepd_alloc(ctx, strlen(email) + 1), *o = out;
	int shown = 0;

	for (const char *p = email; *p != '\0'; p++) {
		bool starts = ((unsigned char)*p & 0xc0) != 0x80; /* a character, not the rest of one (UTF-8) */

		if (starts)
			shown++;
		if (at == NULL || p >= at || shown <= 2)
			*o++ = *p;
		else if (starts)
			*o++ = '*';
	}
	return out;
}

static int handle(struct stepd_ctx *ctx)
{
	const cJSON *input = stepd_data(ctx);
	const char *email = stepd_get_str(input, "email");

	stepd_log_info(ctx, "Sending notification",
		stepd_str("email", mask(ctx, email)),
		stepd_json("templateId", stepd_get(input, "templateId")));

	/* Send the email here.  If it fails for now: return stepd_retry_after(ctx, 60000, "mail server: %s", why); */
	return STEPD_OK;
}

STEPD_STEP(
	.name = "Notification",
	.description = "Sends notifications to users",
	.triggers = STEPD_TRIGGERS(STEPD_QUEUE("notification", .input = input_schema)),
	.flows = STEPD_LIST("pet-store"),
	.handler = handle);
