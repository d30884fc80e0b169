-- Repeatable.
--
-- Pools of processes: how much work waits for each, and how they are.

create or replace function stepd.backlog(pools jsonb) returns table (pool int, jobs int)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
#variable_conflict use_column
begin
	perform stepd._check_objects('pools', backlog.pools,
		'{"pool": "integer! 0 2147483647", "max": "integer! 0 2147483647", "steps": "strings! 255", "queues": "strings 255"}');
	if (select count(distinct p.value -> 'pool') from jsonb_array_elements(backlog.pools) p) <> jsonb_array_length(backlog.pools) then
		perform stepd._bad('pools', 'has a pool twice');
	end if;
	return query
		select p.pool, least(p.max, coalesce(sum(n.jobs), 0))::int
		from jsonb_to_recordset(pools) p (pool int, max int, steps jsonb, queues jsonb)
		left join (stepd.lane l
			join stepd.step s on s.id = l.step_id
			join stepd.queue q on q.id = l.queue_id and not q.paused)
			on p.steps ? s.name and (p.queues is null or p.queues ? q.name)
				and (q.max_concurrency = 0 and q.rate_limit = 0 or stepd._has_room(q))
		left join lateral (
			select (select count(*) from (select from stepd.ready r where r.lane_id = l.id limit p.max) r)
				+ exists (select from stepd.fifo_inbox i where i.queue_id = q.id)::int as jobs) n on l.id is not null
		group by p.pool, p.max;
end $$;
comment on function stepd.backlog(jsonb) is
	'How many jobs could be claimed now, at most max, for each of [{"pool": number, "max": number, "steps": [names], "queues": [names]}]; queues null: of every queue. Jobs of paused queues and of those at their limits do not count.';

create or replace function stepd.node_pools(node_id int, pools jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	if node_pools.node_id is null then
		perform stepd._bad('node_id', 'must not be null');
	end if;
	perform stepd._check_objects('pools', node_pools.pools,
		'{"pool": "string! 255", "serves": "queue|http!", "processes": "integer! 0 2147483647", "min": "integer! 0 2147483647", "max": "integer! 0 2147483647",
		"deaths": "integer! 0 9223372036854775807", "degraded": "boolean!", "retry_ms": "integer 0 3155760000000", "queues": "strings 255", "steps": "strings 255"}');
	if (select count(distinct p.value ->> 'pool') from jsonb_array_elements(node_pools.pools) p) <> jsonb_array_length(node_pools.pools) then
		perform stepd._bad('pools', 'has a pool twice');
	end if;
	perform stepd._bad(format('pools[%s].min', p.ordinality - 1), format('%s is more than max, which is %s', p.value -> 'min', p.value -> 'max'))
	from jsonb_array_elements(node_pools.pools) with ordinality p where (p.value -> 'min')::int > (p.value -> 'max')::int;
	delete from stepd.node_pool p
	where p.node_id = node_pools.node_id and not exists (
		select from jsonb_array_elements(node_pools.pools) e where e.value->>'pool' = p.pool);
	insert into stepd.node_pool as x (node_id, pool, serves, processes, min, max, deaths, degraded, retry_at, queues, steps)
	select n.id, p.pool, p.serves, p.processes, p.min, p.max, p.deaths, p.degraded,
		case when p.retry_ms > 0 then clock_timestamp() + p.retry_ms * interval '1 ms' end, p.queues, p.steps
	from jsonb_to_recordset(node_pools.pools) p (pool text, serves text, processes int, min int, max int, deaths bigint,
		degraded boolean, retry_ms bigint, queues text[], steps text[])
	join stepd.node n on n.id = node_pools.node_id
	on conflict on constraint node_pool_pkey do update
		set serves = excluded.serves, processes = excluded.processes, min = excluded.min, max = excluded.max,
			deaths = excluded.deaths, degraded = excluded.degraded, retry_at = excluded.retry_at, queues = excluded.queues, steps = excluded.steps,
			changed_at = excluded.changed_at;
end $$;
comment on function stepd.node_pools(int, jsonb) is
	'A node says how its pools are: [{"pool", "serves", "processes", "min", "max", "deaths", "degraded", "retry_ms", "queues", "steps"}], all of them.';

create or replace view stepd.pools as
select n.name as node, n.id as node_id, p.pool, p.serves, p.processes, p.min, p.max, p.deaths, p.degraded, p.retry_at, p.changed_at,
	p.queues, p.steps
from stepd.node_pool p
join stepd.node n on n.id = p.node_id
where n.left_at is null and n.lost_at is null;
comment on view stepd.pools is 'The pools of worker processes of every node that is there.';
comment on column stepd.pools.processes is 'Up and ready.';
comment on column stepd.pools.min is 'So many are there without any work.';
comment on column stepd.pools.max is 'So many at most; the same as min when their number is fixed.';
comment on column stepd.pools.deaths is 'Of its processes, unasked, since the last reload.';
comment on column stepd.pools.degraded is 'Its processes die at once, so that new ones are started with a delay and one at a time; until one stays up or finishes a job, or a reload.';
comment on column stepd.pools.retry_at is 'When the next one is started; null: at once.';
comment on column stepd.pools.node is 'Name of the node.';
comment on column stepd.pools.node_id is 'stepd.nodes.id.';
comment on column stepd.pools.pool is 'Name in its configuration.';
comment on column stepd.pools.serves is 'queue or http.';
comment on column stepd.pools.queues is 'The queues whose jobs it runs; null: all.';
comment on column stepd.pools.steps is 'The steps whose jobs it runs; null: all.';
comment on column stepd.pools.changed_at is 'When any of this changed last.';
comment on column stepd.node_pool.node_id is 'The node.';
comment on column stepd.node_pool.pool is 'Name in its configuration.';
comment on column stepd.node_pool.serves is 'queue or http.';
comment on column stepd.node_pool.min is 'So many are there without any work.';
comment on column stepd.node_pool.max is 'So many at most.';
comment on column stepd.node_pool.changed_at is 'When any of this changed last.';

do $$ begin perform stepd._describe(); end $$;
