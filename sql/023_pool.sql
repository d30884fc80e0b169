-- Repeatable.
--
-- What a node's pools ask: how much work waits for each of them.

create or replace function stepd.backlog(pools jsonb) returns table (pool int, jobs int)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
#variable_conflict use_column
begin
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
