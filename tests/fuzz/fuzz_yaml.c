/* Every tree is sound: places within the text, keys where they belong, counts true; every refusal has a place and a text. */
#include "base/yaml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct sd_yaml *node, bool member, int depth)
{
	size_t n = 0;

	if (node->line < 1 || node->col < 1 || depth > SD_YAML_MAX_DEPTH + 1 || (node->key != NULL) != member)
		abort();
	if (node->kind == SD_YAML_SCALAR && (node->child != NULL || strlen(node->text) != node->len))
		abort();
	for (const struct sd_yaml *c = node->child; c != NULL; c = c->next, n++) {
		check(c, node->kind == SD_YAML_MAPPING, depth + 1);
		if (node->kind == SD_YAML_MAPPING && sd_yaml_get(node, c->key->text) != c)
			abort();
	}
	if (n != node->n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sd_yaml_problem problem = {0, 0, ""};
	struct sd_arena *arena = sd_arena_new();
	struct sd_yaml *root = sd_yaml_parse((const char *)data, len, arena, &problem);

	if (root != NULL)
		check(root, false, 1);
	else if (problem.line < 1 || problem.col < 1 || problem.text[0] == '\0')
		abort();
	sd_arena_free(arena);
	return 0;
}
