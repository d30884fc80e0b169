-- The words of the tests.  t.setup() makes one node and these steps:
--   Std on std; Fan1, Fan2 on fan; Prio on prio (priority); Fifo on fifo (fifo); Lim on lim (maxConcurrency 1);
--   Once on once (no retries); Tick with a cron trigger; Web with an http trigger.
-- Delays of retries are 1 s, without jitter.
create schema t;

-- One day more than is made ahead: so maintain() makes none, also when midnight passes during the tests.
select stepd._partition_make(stepd._today() + 9);

set check_function_bodies = off;

create function t.node(name text default 'n1', lease_ms int default 3600000) returns int language sql as $$
	select stepd.node_join(gen_random_uuid(), name, 1, 'test', lease_ms)
$$;

create function t.queue(name text, variadic settings text[] default '{}') returns jsonb language sql as $$
	select jsonb_build_object('name', name, 'jitter', 0, 'max_retries', 3, 'retry_delay_ms', 1000)
		|| coalesce((select jsonb_object_agg(s.key, case when s.value ~ '^[0-9.]+$' then to_jsonb(s.value::numeric) else to_jsonb(s.value) end)
			from jsonb_each_text(jsonb_object(settings)) s), '{}')
$$;

create function t.steps() returns jsonb language sql as $$
	select '{"steps": [
		{"name": "Std", "kind": "c", "file": "std.so", "description": "d", "flows": ["f"], "enqueues": ["fan"], "triggers": [{"type": "queue", "topic": "std", "input": {"type": "object"}}]},
		{"name": "Fan1", "triggers": [{"type": "queue", "topic": "fan"}]},
		{"name": "Fan2", "triggers": [{"type": "http", "method": "GET", "path": "/"}, {"type": "queue", "topic": "fan"}]},
		{"name": "Prio", "triggers": [{"type": "queue", "topic": "prio"}]},
		{"name": "Fifo", "triggers": [{"type": "queue", "topic": "fifo"}]},
		{"name": "Lim", "triggers": [{"type": "queue", "topic": "lim"}]},
		{"name": "Once", "triggers": [{"type": "queue", "topic": "once"}]},
		{"name": "Tick", "triggers": [{"type": "cron", "expression": "* * * * *"}]},
		{"name": "Web", "triggers": [{"type": "http", "method": "POST", "path": "/x"}]}]}'::jsonb
$$;

create function t.queues() returns jsonb language sql as $$
	select jsonb_build_array(t.queue('std'), t.queue('fan'), t.queue('prio', 'strategy', 'priority'),
		t.queue('fifo', 'strategy', 'fifo'), t.queue('lim', 'max_concurrency', '1'), t.queue('once', 'max_retries', '0'))
$$;

create function t.setup() returns int language plpgsql as $$
declare
	n int := t.node();
begin
	perform stepd.configure('n1', t.steps(), t.queues(), '{}');
	return n;
end $$;

-- The one node there is.
create function t.n() returns int language sql as $$ select max(id) from stepd.node $$;

create function t.lane(step text) returns int language sql as $$
	select lane_id from stepd.lanes(array[step]) order by lane_id desc limit 1
$$;

-- Claim as a worker in this slot; returns the jobs in order.
create function t.claim(slot int, step text, most int default 100, node int default null, cursor bigint default 0) returns bigint[] language sql as $$
	select coalesce(array_agg(c.job_id), '{}')
	from stepd.claim(coalesce(node, t.n()), slot, 1, array[t.lane(step)], array[cursor], array[most], most) c
$$;

create function t.lease(job bigint) returns bigint language sql as $$
	select id from stepd.lease where job = any (ids)
$$;

-- Finish one job by the lease that holds it now; returns the verdict, completed if there is none.
create function t.finish(job bigint, outcome text default 'completed', error text default null, delay_ms bigint default null,
	effects jsonb default null, output text default null, lease bigint default null) returns text language sql as $$
	select coalesce((
		select f.verdict
		from stepd.finish(t.n(), 7, array[coalesce(lease, t.lease(job), 0)], array[job], array[outcome], array[2000], array[1000], array[output],
			array[error], array[delay_ms], case when effects is not null then jsonb_build_array(effects || jsonb_build_object('job', job))::text end) f
		where f.job_id = job), 'completed')
$$;

create function t.status(job bigint) returns text language sql as $$
	select status from stepd.jobs where id = job
$$;

create function t.jobs() returns table (id bigint, status text) language sql as $$
	select id, status from stepd.jobs order by id
$$;

-- Every job is in exactly one place, and every helper row belongs to an unfinished job.
create function t.sound() returns text language sql set enable_nestloop = off set jit = off as $$
	with place as (
		select pos as id, 'ready' as place from stepd.ready
		union all select id, 'waiting' from stepd.waiting
		union all select id, 'inbox' from stepd.fifo_inbox where not ended
		union all select id, 'backlog' from stepd.fifo_backlog
		union all select id, 'unrouted' from stepd.unrouted
		union all select unnest(ids), 'lease' from stepd.lease
		union all select id, 'outcome' from stepd.outcome)
	select coalesce(
		(select format('job %s is in %s places: %s', id, count(*), string_agg(place, ',')) from place group by id having count(*) > 1 limit 1),
		(select format('job %s is nowhere', id) from stepd.job j where not exists (select from place p where p.id = j.id) limit 1),
		(select format('place of no job %s', id) from place p where not exists (select from stepd.job j where p.id = j.id) limit 1),
		(select format('unique key of ended job %s', job_id) from stepd.unique_job u join stepd.outcome o on o.id = u.job_id limit 1),
		(select format('group "%s" has the ended head %s', group_id, head) from stepd.fifo_group g
			where exists (select from stepd.outcome o where o.id = g.head)
			and not exists (select from stepd.fifo_inbox i where i.ended and i.id = g.head) limit 1),
		(select format('empty lease %s', id) from stepd.lease where cardinality(ids) = 0 limit 1),
		(select format('job %s is ready in the wrong group', r.pos) from stepd.ready r join stepd.job j on j.id = r.pos and j.bucket = r.bucket
			where r.rank < 40000 and r.group_hash is distinct from stepd._group_hash(j.group_id) limit 1),
		(select format('lease %s tells groups that are not those of its jobs', l.id) from stepd.lease l
			where l.groups is not null and (cardinality(l.groups) <> cardinality(l.ids) or exists (select from unnest(l.ids, l.buckets, l.groups) u (id, bucket, h)
				join stepd.job j on j.id = u.id and j.bucket = u.bucket where stepd._group_hash(j.group_id) is distinct from u.h)) limit 1),
		case when (select count(*) from stepd.jobs) <> (select count(*) from stepd.job) then 'stepd.jobs does not have all jobs' end,
		(select format('queue %s counts %s, its jobs are %s', c.name, c.counts, l.counts)
			from (select name, array[ready, scheduled, running, retrying, failed] as counts from stepd.queues) c
			left join (select queue, array[count(*) filter (where status = 'ready'), count(*) filter (where status = 'scheduled'),
				count(*) filter (where status = 'running'), count(*) filter (where status = 'retrying'), count(*) filter (where status = 'failed')] as counts
				from stepd.jobs where step is not null group by queue) l on l.queue = c.name
			where c.counts is distinct from coalesce(l.counts, '{0,0,0,0,0}') limit 1),
		'sound')
$$;

-- Let the time come of every job that waits.
create function t.due() returns int language sql as $$
	update stepd.waiting set run_at = clock_timestamp() - interval '1 ms';
	select promoted from stepd.promote(1000000);
$$;

-- For spec/*.spec, where no brace may stand in SQL.
create function t.many(topic text, n int) returns setof bigint language sql as $$
	select stepd.enqueue_many(topic, (select jsonb_agg('{}'::jsonb) from generate_series(1, n)))
$$;
create function t.groups(topic text, variadic groups text[]) returns setof bigint language sql as $$
	select stepd.enqueue_many(topic, (select jsonb_agg(jsonb_build_object('group', g)) from unnest(groups) g))
$$;
create function t.uniques(topic text, variadic keys text[]) returns setof bigint language sql as $$
	select stepd.enqueue_many(topic, (select jsonb_agg(jsonb_build_object('unique', k)) from unnest(keys) k))
$$;
-- Claim with what the cursor becomes.
create function t.claim_cursor(step text, cursor bigint) returns table (job_id bigint, cursor_next bigint) language sql as $$
	select c.job_id, c.cursor from stepd.claim(t.n(), 1, 1, array[t.lane(step)], array[$2], '{9}', 9) c
$$;
-- Two jobs complete in one call; each counts up one key and enqueues one unique key.
create function t.finish_two(lease bigint, job1 bigint, key1 text, job2 bigint, key2 text) returns bigint language sql as $$
	select count(*) from stepd.finish(t.n(), 1, array[lease, lease], array[job1, job2], '{completed,completed}', '{1,1}', '{1,1}', null, null, null,
		jsonb_build_array(t.effect(job1, key1), t.effect(job2, key2))::text)
$$;
create function t.effect(job bigint, key text) returns jsonb language sql as $$
	select jsonb_build_object('job', job, 'enqueues', jsonb_build_array(jsonb_build_object('topic', 'fan', 'unique', key)),
		'states', jsonb_build_array(jsonb_build_object('op', 'update', 'group', 'g', 'key', key, 'ops', '[{"type": "increment"}]'::jsonb)))
$$;
create function t.increment(key text) returns jsonb language sql as $$ select stepd.state_update('g', key, '[{"type": "increment"}]') $$;
create function t.append(key text, value text) returns jsonb language sql as $$
	select stepd.state_update('g', key, jsonb_build_array(jsonb_build_object('type', 'append', 'value', value)))
$$;
create function t.increment_as_handler(key text) returns void language sql as $$
	select stepd._state_apply(jsonb_build_array(jsonb_build_object('op', 'update', 'group', 'g', 'key', key, 'ops', '[{"type": "increment"}]'::jsonb)))
$$;
create function t.tick(variadic minutes int[]) returns bigint language sql as $$
	select count(*) from stepd.cron_fire((select array_agg(1) from unnest(minutes)),
		(select array_agg('2020-01-01 00:00+00'::timestamptz + m * interval '1 min') from unnest(minutes) m),
		(select array_agg('2020-01-01 00:01+00'::timestamptz + m * interval '1 min') from unnest(minutes) m))
$$;
create function t.finish_any(variadic jobs bigint[]) returns text language sql as $$
	select string_agg(j || ' ' || t.finish(j), ', ') from unnest(jobs) j where t.lease(j) is not null
$$;
-- Complete what a worker holds of a lane; returns how many jobs.  Claim, and name the groups.
create function t.finish_held(slot int, step text) returns bigint language sql as $$
	select count(t.finish(j)) from (select unnest(l.ids) as j from stepd.lease l where l.slot = $1 and l.lane_id = t.lane(step)) x
$$;
create function t.claim_groups(slot int, step text, most int) returns text language sql as $$
	select string_agg(c.group_id, ',') from stepd.claim(t.n(), slot, 1, array[t.lane(step)], array[0], array[most], most) c
$$;
-- As a session that has not claimed of that lane.
create function t.forget(step text) returns void language sql as $$
	select set_config('stepd.at_' || t.lane(step), '', false), set_config('stepd.rest_' || t.lane(step), '', false), set_config('stepd.starves_since', '', false);
	select;
$$;
-- As it was before t.setup().
create function t.reset() returns void language sql as $$
	truncate stepd.node_pool, stepd.node, stepd.step, stepd.step_provider, stepd.queue, stepd.lane, stepd.subscription, stepd.schedule, stepd.tick, stepd.doubt,
		stepd.ready, stepd.waiting, stepd.fifo_inbox, stepd.fifo_group, stepd.fifo_backlog, stepd.unrouted, stepd.lease, stepd.unique_job,
		stepd.cancel_request, stepd.renewal, stepd.state, stepd.job, stepd.outcome, stepd.attempt, stepd.log restart identity;
	select setval('stepd.job_id', 1, false);
	select;
$$;
