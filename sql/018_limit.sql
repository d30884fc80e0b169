-- Repeatable.
--
-- rateLimit: what claim() asks under the queue's lock.
--
-- rateLimit N per window W.  In any stretch of time as long as W begin at most
-- N attempts.  An attempt counts from its claim on, however long it takes to
-- begin.  When it began is known when it ends, or before that when the worker
-- says so of one that runs for long (began()); then a row of rate_start (many
-- share one) counts until W after that.  What runs when the limit is set counts
-- from then on.  What is given back unstarted never
-- counted.  The worker runs a claimed batch at once, so nothing is asked at the
-- start.  The leases are read before rate_start: what goes from one to the
-- other meanwhile counts twice, not never.
--
-- Many rows are made few, each with the latest of its starts: a window of an
-- hour may hold a million.
--
-- When the limit is so far that all sessions of the server together could not
-- reach it with batches of 1,000, claims take the queue's lock shared, and none
-- waits for another's commit; else alone.

create or replace function stepd._rate_used(queue_id int, window_ms bigint) returns int
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	opened timestamptz := clock_timestamp() - window_ms * interval '1 ms';
	done bigint;
	held bigint;
	rows bigint;
begin
	delete from stepd.rate_start s where s.ctid = any (array(
		select x.ctid from stepd.rate_start x where x.queue_id = _rate_used.queue_id and x.at <= opened
		limit 1000 for update skip locked));
	select sum(cardinality(l.ids) - coalesce(l.begun = any (l.ids), false)::int) into held
	from stepd.lease l where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _rate_used.queue_id));
	select sum(s.n), count(*) into done, rows from stepd.rate_start s where s.queue_id = _rate_used.queue_id and s.at > opened;
	if rows > 1000 then
		with gone as (
			delete from stepd.rate_start s where s.ctid = any (array(
				select x.ctid from stepd.rate_start x where x.queue_id = _rate_used.queue_id and x.at > opened
				limit 100000 for update skip locked))
			returning s.at, s.n)
		insert into stepd.rate_start (queue_id, at, n)
		select _rate_used.queue_id, max(g.at), sum(g.n) from gone g group by date_bin(window_ms * interval '1 ms' / 256, g.at, 'epoch');
	end if;
	return coalesce(done, 0) + coalesce(held, 0);
end $$;
comment on function stepd._rate_used(int, bigint) is 'How many attempts of a queue began within its window, or may begin any moment. Only under the queue''s lock.';

create or replace function stepd._rate_next(q stepd.queue) returns timestamptz
language sql stable as $$
	select min(x.at) from (
		select s.at + q.rate_window_ms * interval '1 ms' as at from stepd.rate_start s where s.queue_id = q.id
		union all
		select l.since + (q.rate_window_ms + 50) * interval '1 ms' from stepd.lease l join stepd.lane a on a.id = l.lane_id
		where a.queue_id = q.id) x
	where x.at > clock_timestamp()
$$;
comment on function stepd._rate_next(stepd.queue) is 'When fewer attempts will count against the queue''s rate limit; null: nothing counts.';

-- Room, as far as one can tell without the queue's lock.
create or replace function stepd._rate_room(q stepd.queue) returns boolean
language sql stable as $$
	select q.rate_limit = 0 or q.rate_limit >
			coalesce((select sum(s.n) from stepd.rate_start s
				where s.queue_id = q.id and s.at > clock_timestamp() - q.rate_window_ms * interval '1 ms'), 0)
			+ coalesce((select sum(cardinality(l.ids) - coalesce(l.begun = any (l.ids), false)::int)
				from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = q.id), 0)
$$;
comment on function stepd._rate_room(stepd.queue) is 'Would a claim find the queue below its rateLimit?';

create or replace function stepd._has_room(q stepd.queue) returns boolean
language sql stable as $$
	select (q.max_concurrency = 0 or q.max_concurrency > (
			select count(distinct (e.node_id, e.slot)) from stepd.lease e join stepd.lane a on a.id = e.lane_id where a.queue_id = q.id))
		and stepd._rate_room(q)
$$;
comment on function stepd._has_room(stepd.queue) is 'Would a claim find the queue below its maxConcurrency and rateLimit?';

drop function if exists stepd._rate_started(bigint[], bigint[]);
create or replace function stepd._rate_started(leases bigint[], jobs bigint[], ages_us bigint[]) returns void
language plpgsql
set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp();
begin
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, at - s.age * interval '1 us', s.n - coalesce(l.begun = any (s.jobs), false)::int
	from (select u.lease, min(u.age) as age, count(*) as n, array_agg(u.job) as jobs
		from unnest(leases, jobs, ages_us) u (lease, job, age) group by u.lease, u.age / 10000) s -- before the join: a batch is of one lease
	join stepd.lease l on l.id = s.lease
	join stepd.lane a on a.id = l.lane_id
	join stepd.queue q on q.id = a.queue_id
	where q.rate_limit > 0 and s.jobs <> array[l.begun];
end $$;
comment on function stepd._rate_started(bigint[], bigint[], bigint[]) is 'Note when attempts began that have just ended; their leases are still there.';

create or replace function stepd.began(node_id int, lease bigint, job bigint, age_us bigint) returns boolean
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	lane int;
begin
	perform stepd._required('{node_id,lease,job,age_us}', began.node_id is null, began.lease is null, began.job is null, began.age_us is null);
	perform stepd._check_range('age_us', began.age_us, 0, 3155760000000000);
	update stepd.lease l set begun = job
	where l.id = lease and l.node_id = began.node_id and job = any (l.ids) and l.begun is distinct from job
	returning l.lane_id into lane;
	if lane is null then
		return false;
	end if;
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, clock_timestamp() - age_us * interval '1 us', 1
	from stepd.lane a join stepd.queue q on q.id = a.queue_id where a.id = lane and q.rate_limit > 0;
	if found then
		perform stepd._ring('due'); -- promote() may wait for it
	else
		set local synchronous_commit = off; -- lost, it is as if it were not said
	end if;
	return true;
end $$;
comment on function stepd.began(int, bigint, bigint, bigint) is
	'A worker says that a job, which it claimed with that lease, began so long ago and still runs: it is the one that is lost if its node vanishes, and counts against the queue''s rateLimit. False: the lease does not hold it any more, or it was said before.';

create or replace function stepd._others(queue_id int, node_id int, slot int) returns bigint
language plpgsql stable
set enable_seqscan = off as $$
#variable_conflict use_column
begin
	return count(distinct (l.node_id, l.slot)) from stepd.lease l
	where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _others.queue_id))
		and (l.node_id, l.slot) <> (_others.node_id, _others.slot);
end $$;
comment on function stepd._others(int, int, int) is 'How many other workers hold jobs of a queue.';

comment on column stepd.rate_start.queue_id is 'The queue.';
comment on column stepd.rate_start.at is 'When the last of these attempts began.';
comment on column stepd.rate_start.n is 'How many attempts began within 10 ms.';
