/*
 * stepctl status: how everything is.  The warnings are the part that matters:
 * each is a fact that someone should look at, with the command to do so.
 */
#include "cli/cli.h"

#include "config.h"

#include <stdio.h>

static const char nodes_sql[] =
	"select name, pid, version, status, running, extract(epoch from now() - joined_at), extract(epoch from now() - heartbeat_at) "
	"from stepd.nodes where ended_at is null or ended_at > now() - interval '1 hour' order by ended_at desc, name, joined_at";

static const char pools_sql[] =
	"select node, pool, serves, processes, case when min = max then min::text else min || '-' || max end, deaths, "
	"case when degraded then 'degraded' else 'ok' end from stepd.pools order by node, node_id, pool";

/* Leaves of partitioned tables: what is in a default partition came at a time that no partition was made for. */
#define PARTITIONS \
	"partition as (select c.oid, c.relname, pg_get_expr(c.relpartbound, c.oid) as bound from pg_class c " \
	"where c.relnamespace = 'stepd'::regnamespace and c.relispartition and c.relkind = 'r') "

static const char warnings_sql[] =
	"with " PARTITIONS ", late as (select * from stepd.oldest_ready where reason <> 'the queue is paused' "
	"and age > case when reason ~ '^no (node|pool) ' then interval '5 s' else interval '5 min' end) "
	"select 'no node is alive: nothing runs' where not exists (select from stepd.nodes where status = 'alive') "
	"union all select format('node %s (pid %s) has been silent for %s s', name, pid, round(extract(epoch from now() - heartbeat_at))) "
	"from stepd.nodes where status = 'silent' "
	"union all select format('pool %s of node %s is degraded: its processes die at once; see its log%s', pool, node, "
	"'; next try in ' || greatest(ceil(extract(epoch from retry_at - now())), 0) || ' s') from stepd.pools where degraded "
	"union all select format('queue %s is paused', name) from stepd.queues where paused "
	"union all select format('queue %s: job %s of step %s has been waiting for %s s: %s', queue, job_id, step, round(extract(epoch from age)), reason) "
	"from late "
	"union all select format('queue %s: a ready job has been waiting for %s s', name, round(extract(epoch from oldest_ready_age))) "
	"from stepd.queues where not paused and oldest_ready_age > interval '5 min' and name not in (select queue from late) "
	"union all select format('queue %s: %s failed (stepctl jobs --queue %1$s --status failed)', name, failed) "
	"from stepd.queues where failed > 0 "
	"union all select format('%s unrouted: no step subscribes to their topic (stepctl jobs --status unrouted)', n) "
	"from (select count(*) as n from stepd.jobs where status = 'unrouted') u where n > 0 "
	"union all select format('%s %s has kept vacuum from its work since %s (view stepd.vacuum_holders)', kind, coalesce(pid::text, name), "
	"to_char(since, 'YYYY-MM-DD HH24:MI')) from stepd.vacuum_holders where since < now() - interval '10 min' "
	"union all select format('node %s (pid %s) vanished at %s and took %s attempts with it', node, pid, to_char(lost_at, 'YYYY-MM-DD HH24:MI'), jobs_lost) "
	"from stepd.lost_leases where jobs_lost > 0 and lost_at > now() - interval '1 hour' "
	"union all select format('partitions are made only up to %s', max(last)) "
	"from (select substring(bound from 'TO \\(''([0-9-]+)')::date as last from partition) p "
	"having max(last) <= current_date + 1 "
	"union all select format('table stepd.%s holds rows that have no partition of their own', relname) "
	"from partition where bound = 'DEFAULT' and pg_stat_get_live_tuples(oid) > 0"; /* seen by who may not read the table, too */

static const char size_sql[] =
	"select coalesce(sum(pg_total_relation_size(oid)), 0) from pg_class "
	"where relnamespace = 'stepd'::regnamespace and relkind in ('r', 'm')";

static int json_status(struct sd_cli *cli)
{
	const char *version = PACKAGE_VERSION;
	struct sd_buf sql = SD_BUF_INIT;
	int rc;

	sd_buf_printf(&sql,
		      "select json_build_object('stepctl', $1::text, 'schema', stepd.version(), 'database', current_database(), "
		      "'postgresql', current_setting('server_version'), 'bytes', (%s), "
		      "'nodes', (select coalesce(json_agg(n order by n.name), '[]') from stepd.nodes n), "
		      "'pools', (select coalesce(json_agg(p order by p.node, p.node_id, p.pool), '[]') from stepd.pools p), "
		      "'queues', (select coalesce(json_agg(q order by q.name), '[]') from stepd.queues q), "
		      "'warnings', (select coalesce(json_agg(w.text), '[]') from (%s) w (text)))",
		      size_sql, warnings_sql);
	PGresult *res = sd_cli_query(cli, sql.data, 1, &version, &rc);
	sd_buf_fini(&sql);
	if (res)
		printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return rc;
}

static int print_head(struct sd_cli *cli)
{
	struct sd_buf sql = SD_BUF_INIT;
	int rc;

	sd_buf_printf(&sql, "select stepd.version(), split_part(current_setting('server_version'), ' ', 1), pg_size_pretty((%s))",
		      size_sql);
	PGresult *res = sd_cli_query(cli, sql.data, 0, NULL, &rc);
	sd_buf_fini(&sql);
	if (res)
		printf("database %s on %s, PostgreSQL %s; schema version %s, %s\n", PQdb(cli->db), PQhost(cli->db),
		       PQgetvalue(res, 0, 1), PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 2));
	PQclear(res);
	return rc;
}

static int print_part(struct sd_cli *cli, const char *sql, const struct sd_column *columns, const char *none)
{
	int rc;
	PGresult *res = sd_cli_query(cli, sql, 0, NULL, &rc);

	if (!res)
		return rc;
	printf("\n");
	if (PQntuples(res) > 0)
		sd_cli_table(res, columns, true);
	else
		printf("%s\n", none);
	PQclear(res);
	return rc;
}

static int print_warnings(struct sd_cli *cli)
{
	int rc;
	PGresult *res = sd_cli_query(cli, warnings_sql, 0, NULL, &rc);

	if (!res)
		return rc;
	for (int i = 0; i < PQntuples(res); i++) {
		printf(i == 0 ? "\nWarnings:\n  " : "  ");
		sd_cli_put(PQgetvalue(res, i, 0));
		printf("\n");
	}
	PQclear(res);
	return rc;
}

int sd_cmd_status(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	static const struct sd_column nodes[] = {
		{"NODE", SD_CELL_TEXT, true},	  {"PID", SD_CELL_NUMBER, false}, {"VERSION", SD_CELL_TEXT, false},
		{"STATUS", SD_CELL_STATUS, false}, {"RUN", SD_CELL_NUMBER, false}, {"UP", SD_CELL_AGE, false},
		{"SEEN", SD_CELL_AGE, false},
		{0},
	};
	static const struct sd_column pools[] = {
		{"NODE", SD_CELL_TEXT, true},	    {"POOL", SD_CELL_TEXT, true},     {"SERVES", SD_CELL_TEXT, false},
		{"READY", SD_CELL_NUMBER, false},   {"OF", SD_CELL_TEXT, false},	      {"DEATHS", SD_CELL_NUMBER, false},
		{"STATUS", SD_CELL_STATUS, false},
		{0},
	};
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	if (cli->json)
		return json_status(cli);
	if ((rc = print_head(cli)) == SD_EXIT_OK && (rc = print_part(cli, nodes_sql, nodes, "no nodes")) == SD_EXIT_OK &&
	    (rc = print_part(cli, pools_sql, pools, "no pools")) == SD_EXIT_OK &&
	    (rc = print_part(cli, sd_queues_list.sql, sd_queues_list.columns, sd_queues_list.none)) == SD_EXIT_OK)
		rc = print_warnings(cli);
	return rc;
}
