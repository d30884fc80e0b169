-- Repeatable.
--
-- Warming up.  What a session does for the first time is compiled and planned,
-- and what PostgreSQL knows of the tables is read: for a first claim, the reading
-- of its jobs and their outcomes 40 ms, 80 ms with concurrencyPerGroup, against
-- 1 ms later on.  So a worker does all that once when there is nothing to do:
-- with a queue like its own, which nobody sees, and which is rolled back.  Plans
-- stay.
--
-- Two sessions do not meet there: the queue and its lane are numbered by the
-- server process (and low enough to be part of a lock's number), and so are its
-- jobs, below zero.  None waits for a lock for long: somebody may hold a table.

create or replace function stepd._warm(what text) returns boolean
language plpgsql as $$
begin
	if current_setting('stepd.warm_' || what, true) <> '' then
		return false;
	end if;
	perform set_config('stepd.warm_' || what, '1', false);
	return true;
end $$;
comment on function stepd._warm(text) is 'Is this the first time that the session does this? It plans it then, which takes ten times as long as doing it.';

create or replace function stepd._warm_ids(pid int) returns bigint[]
language sql immutable parallel safe as $$ select array_agg(-(128 * (28000000 + pid)::bigint + i) order by i) from generate_series(1, 80) i $$;
comment on function stepd._warm_ids(int) is 'The numbers of the jobs with which a server process warms up: no other''s, and enough for several workers, see _stripe_deep.';

create or replace function stepd._warm_flow(node_id int, slot int, lane int, per_group int, jobs int) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	c stepd._claimed;
	held bigint[];
begin
	if per_group > 0 then
		perform from stepd.claim(_warm_flow.node_id, 2147483647, 0, array[lane], '{0}', '{1}', 1); -- somebody else
	end if;
	for size in 1 .. 3 loop -- one alone, some by their stripes, and some as before
		c := stepd.claim(_warm_flow.node_id, _warm_flow.slot, 0, array[lane], array[case when size = 1 then 0 else -9000000000000 end],
			array[case when size = 1 then 1 else 64 end], case size when 1 then 1 when 2 then jobs / 10 else 64 end, case when size > 1 then 1 end, '{64}', case when size > 1 then '{2147483646}'::int[] end);
		exit when c is null;
		held := case when size = 1 then array[c.job_id]
			else array(select d.job_id from stepd.claimed(_warm_flow.node_id, _warm_flow.slot, 0, array[c.lease_id]) d) end;
		perform from stepd.finish(_warm_flow.node_id, null, array_fill(c.lease_id, array[cardinality(held)]), held, array_fill('completed'::text, array[cardinality(held)]),
			array_fill(0::bigint, array[cardinality(held)]), array_fill(0::bigint, array[cardinality(held)]), null, null, null, null);
	end loop;
end $$;
comment on function stepd._warm_flow(int, int, int, int, int) is 'Claim, read and finish so many jobs of a lane, in all ways that claims go under concurrencyPerGroup or without.';

create or replace function stepd.warm_up(node_id int, slot int, lanes int[]) returns boolean
language plpgsql
set lock_timeout = '20ms' as $$
#variable_conflict use_column
declare
	mine int := 28000000 + pg_backend_pid();
	q stepd.queue;
	ids bigint[] := stepd._warm_ids(pg_backend_pid());
begin
	perform stepd._required('{node_id,slot,lanes}', warm_up.node_id is null, warm_up.slot is null, warm_up.lanes is null);
	perform stepd._check_range('slot', warm_up.slot, 0, 2147483647), stepd._check_list('lanes', lanes);
	select * into q from stepd.queue x
	where x.id = any (array(select a.queue_id from stepd.lane a where a.id = any (lanes))) order by x.concurrency_per_group = 0, x.id limit 1;
	if q is null then
		return false;
	end if;
	begin
		insert into stepd.queue (id, name, rate_limit, rate_window_ms, max_concurrency, concurrency_per_group) overriding system value
		values (mine, gen_random_uuid()::text, case when q.rate_limit > 0 then 1000000 else 0 end, q.rate_window_ms,
			case when q.max_concurrency > 0 then 1000 else 0 end, least(q.concurrency_per_group, 1));
		insert into stepd.lane (id, queue_id, step_id) overriding system value
		select mine, mine, a.step_id from stepd.lane a where a.id = lanes[1];
		with j as (
			insert into stepd.job (id, bucket, lane_id, trigger, trigger_index, priority, group_id, enqueued_at, trace_id, topic, input)
			select i, stepd._today(), mine, 'queue', 0, 0, 'g' || i, clock_timestamp(), gen_random_uuid(), '', 'null' from unnest(ids) i
			returning id, bucket, group_id)
		insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
		select mine, 0, j.id, j.bucket, 0, stepd._group_hash(j.group_id) from j;
		perform stepd._warm_flow(warm_up.node_id, warm_up.slot, mine, q.concurrency_per_group, cardinality(ids));
		raise sqlstate 'WARM0';
	exception when others then
		-- what is wrong will be so, and be said, when it is done in earnest
		if sqlstate <> 'WARM0' then
			return false;
		end if;
	end;
	perform stepd._warm('claim'), stepd._starve(null); -- a lock of the session would outlast the rollback
	return true;
end $$;
comment on function stepd.warm_up(int, int, int[]) is
'For a session that is going to claim of these lanes, as that worker: have everything planned before, which takes tens of milliseconds once. It changes nothing. False: it could not be done, which does no harm.';
