/* stepctl steps. */
#include "cli/cli.h"

static int show(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, const struct sd_list *list)
{
	int rc;
	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	return sd_cli_list(cli, list, 0, NULL);
}

int sd_cmd_steps(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	static const struct sd_column columns[] = {
		{"STEP", SD_CELL_TEXT, true},	  {"KIND", SD_CELL_TEXT, false}, {"TRIGGERS", SD_CELL_TEXT, true},
		{"ENQUEUES", SD_CELL_TEXT, true}, {"NODES", SD_CELL_TEXT, true}, {0},
	};
	static const struct sd_list list = {
		"select s.name, s.kind, (select string_agg(case t.value->>'type' when 'queue' then 'queue ' || (t.value->>'topic') "
		"when 'http' then (t.value->>'method') || ' ' || (t.value->>'path') "
		"when 'cron' then 'cron ' || (t.value->>'expression') else t.value->>'type' end, ', ' order by t.ordinality) "
		"from jsonb_array_elements(s.triggers) with ordinality t), "
		"array_to_string(s.enqueues, ', '), coalesce(nullif(array_to_string(s.nodes, ', '), ''), '(none)') "
		"from stepd.steps s order by s.name",
		"select * from stepd.steps order by name", columns, "no steps"};
	return show(cli, cmd, argc, argv, &list);
}
