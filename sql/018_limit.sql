-- Repeatable.
--
-- rateLimit and concurrencyPerGroup: what claim() asks under the queue's lock.
--
-- rateLimit N per window W.  In any stretch of time as long as W begin at most
-- N attempts.  An attempt counts from its claim on; what it began with is known
-- when it ends, and then a row of rate_start (many share one) counts until W
-- after that.  A held job that a worker has had for longer than W has begun
-- long ago and counts no more; those behind it in a batch do, since they may
-- begin at any moment.  What is given back unstarted never counted.
-- The worker runs a claimed batch at once, so nothing is asked at the start.
--
-- concurrencyPerGroup N.  A worker that holds jobs of a group runs one of them
-- at a time, so workers are counted, as for maxConcurrency: group_slot has the
-- held jobs with their holders.  A claim that meets a job whose group is full
-- puts it aside into fifo_backlog.  When a held job ends, a letter to the
-- queue's inbox says so, and the next claim lets twice as many of the group
-- come back as have ended: enough for batches that grow, and no job is moved
-- to and fro more than a few times.  Jobs without a group are not limited.

create or replace function stepd._rate_used(queue_id int, window_ms bigint) returns int
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	opened timestamptz := clock_timestamp() - window_ms * interval '1 ms';
	done bigint;
	held bigint;
begin
	delete from stepd.rate_start s where s.queue_id = _rate_used.queue_id and s.at <= opened;
	select sum(s.n) into done from stepd.rate_start s where s.queue_id = _rate_used.queue_id;
	-- 50 ms for the way from the claim to the handler's start
	select sum(cardinality(l.ids) - (l.since <= opened - interval '50 ms')::int) into held
	from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = _rate_used.queue_id;
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

-- Has this queue room, as far as one can tell without its lock?
create or replace function stepd._has_room(q stepd.queue) returns boolean
language sql stable as $$
	select (q.max_concurrency = 0 or q.max_concurrency > (
			select count(distinct (e.node_id, e.slot)) from stepd.lease e join stepd.lane a on a.id = e.lane_id where a.queue_id = q.id))
		and (q.rate_limit = 0 or q.rate_limit >
			coalesce((select sum(s.n) from stepd.rate_start s
				where s.queue_id = q.id and s.at > clock_timestamp() - q.rate_window_ms * interval '1 ms'), 0)
			+ coalesce((select sum(cardinality(l.ids) - (l.since <= clock_timestamp() - (q.rate_window_ms + 50) * interval '1 ms')::int)
				from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = q.id), 0))
$$;
comment on function stepd._has_room(stepd.queue) is 'Would a claim find the queue below its maxConcurrency and rateLimit?';

create or replace function stepd._rate_started(leases bigint[], ages_us bigint[]) returns void
language plpgsql
set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp();
begin
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, max(f.at), count(*)
	from (select u.lease, at - u.age * interval '1 us' as at from unnest(leases, ages_us) u (lease, age)) f
	join stepd.lease l on l.id = f.lease
	join stepd.lane a on a.id = l.lane_id
	join stepd.queue q on q.id = a.queue_id
	where q.rate_limit > 0
	group by q.id, date_bin('10 ms', f.at, 'epoch');
end $$;
comment on function stepd._rate_started(bigint[], bigint[]) is 'Note when attempts began that have just ended; their leases are still there.';

create or replace function stepd._group_sort(queue_id int, per_group int, most int) returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
	groups text[];
	counts bigint[];
begin
	with gone as (
		delete from stepd.fifo_inbox i
		where i.ctid = any (array(
			select x.ctid from stepd.fifo_inbox x where x.queue_id = _group_sort.queue_id
			order by x.queue_id, x.id, x.ended limit most for update skip locked))
		returning i.id, i.lane_id, i.bucket, i.attempt, i.ended, i.group_id
	), direct as ( -- enqueued while the queue's strategy changed
		insert into stepd.ready (lane_id, rank, pos, bucket, attempt)
		select g.lane_id, stepd._rank(q.strategy, j.priority, true), g.id, g.bucket, g.attempt
		from gone g join stepd.queue q on q.id = _group_sort.queue_id join stepd.job j on j.id = g.id and j.bucket = g.bucket
		where not g.ended
	)
	select array_agg(e.group_id), array_agg(e.n) into groups, counts
	from (select g.group_id, count(*) as n from gone g where g.ended group by g.group_id) e;
	if groups is null then
		return;
	end if;
	with next as materialized (
		select b.ctid
		from (select u.group_id, u.n from unnest(groups, counts) u (group_id, n)
			where per_group > (select count(distinct (s.node_id, s.slot)) from stepd.group_slot s
				where s.queue_id = _group_sort.queue_id and s.group_id = u.group_id)) g
		cross join lateral (
			select x.ctid from stepd.fifo_backlog x where x.queue_id = _group_sort.queue_id and x.group_id = g.group_id
			order by x.queue_id, x.group_id, x.rank, x.id limit g.n * 2 for update skip locked) b
	), gone as (
		delete from stepd.fifo_backlog b where b.ctid = any (array(select n.ctid from next n))
		returning b.lane_id, b.rank, b.id, b.bucket, b.attempt
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt)
	select g.lane_id, g.rank, g.id, g.bucket, g.attempt from gone g;
end $$;
comment on function stepd._group_sort(int, int, int) is 'Read up to so many letters of a queue with concurrencyPerGroup: let jobs of groups that have room come back. Only under the queue''s lock.';

-- Of jobs just taken: those whose group is full are put aside, the others get their group's slot.
create or replace function stepd._group_admit(node_id int, slot int, queue_id int, strategy text, per_group int, lane_id int,
	inout ids bigint[], inout buckets date[], inout attempts smallint[])
language plpgsql
set jit = off as $$
#variable_conflict use_column
begin
	with e as materialized (
		select u.id, u.bucket, u.attempt, u.ord, j.group_id, j.priority
		from unnest(ids, buckets, attempts) with ordinality u (id, bucket, attempt, ord)
		join stepd.job j on j.id = u.id and j.bucket = u.bucket
	), "full" as materialized (
		select g.group_id from (select distinct e.group_id from e where e.group_id is not null) g
		where per_group <= (select count(distinct (s.node_id, s.slot)) from stepd.group_slot s
			where s.queue_id = _group_admit.queue_id and s.group_id = g.group_id
				and (s.node_id, s.slot) <> (_group_admit.node_id, _group_admit.slot))
	), aside as (
		insert into stepd.fifo_backlog (queue_id, group_id, id, lane_id, bucket, attempt, rank)
		select _group_admit.queue_id, e.group_id, e.id, _group_admit.lane_id, e.bucket, e.attempt,
			stepd._rank(_group_admit.strategy, e.priority, true)
		from e where e.group_id in (select f.group_id from "full" f)
	), held as (
		insert into stepd.group_slot (job_id, queue_id, group_id, node_id, slot)
		select e.id, _group_admit.queue_id, e.group_id, _group_admit.node_id, _group_admit.slot
		from e where e.group_id is not null and e.group_id not in (select f.group_id from "full" f)
	)
	select array_agg(e.id order by e.ord), array_agg(e.bucket order by e.ord), array_agg(e.attempt order by e.ord)
	into ids, buckets, attempts
	from e where e.group_id is null or e.group_id not in (select f.group_id from "full" f);
end $$;
comment on function stepd._group_admit(int, int, int, text, int, int, bigint[], date[], smallint[]) is
	'Keep of taken jobs those whose group has room for this worker; null: none. Only under the queue''s lock.';

create or replace function stepd._take_grouped(node_id int, slot int, queue_id int, strategy text, per_group int, lane_id int, whole boolean,
	cursor bigint, want int, out ids bigint[], out buckets date[], out attempts smallint[], out last bigint)
language plpgsql as $$
#variable_conflict use_column
declare
	t record;
	a record;
begin
	perform stepd._group_sort(_take_grouped.queue_id, per_group, 1000);
	for i in 1 .. 500 loop
		t := stepd._take(_take_grouped.lane_id, whole, greatest(cursor, coalesce(last, 0)), want);
		exit when t.ids is null;
		last := greatest(last, t.last);
		a := stepd._group_admit(_take_grouped.node_id, _take_grouped.slot, _take_grouped.queue_id, strategy, per_group,
			_take_grouped.lane_id, t.ids, t.buckets, t.attempts);
		ids := ids || a.ids;
		buckets := buckets || a.buckets;
		attempts := attempts || a.attempts;
		want := want - coalesce(cardinality(a.ids), 0);
		exit when want <= 0;
	end loop;
	if t.ids is not null and ids is null then
		perform stepd._ring(''); -- enough for one claim; there is more to look at
	end if;
end $$;
comment on function stepd._take_grouped(int, int, int, text, int, int, boolean, bigint, int) is '_take for a queue with concurrencyPerGroup. Only under the queue''s lock.';

create or replace function stepd._group_recount(queue_id int, limited boolean) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._queue_lock(_group_recount.queue_id);
	delete from stepd.group_slot s where s.queue_id = _group_recount.queue_id;
	if limited then
		insert into stepd.group_slot (job_id, queue_id, group_id, node_id, slot)
		select j.id, _group_recount.queue_id, j.group_id, l.node_id, l.slot
		from (select l.* from stepd.lease l join stepd.lane a on a.id = l.lane_id
			where a.queue_id = _group_recount.queue_id order by l.id for update of l) l
		cross join lateral unnest(l.ids, l.buckets) u (id, bucket)
		join stepd.job j on j.id = u.id and j.bucket = u.bucket
		where j.group_id is not null;
	end if;
end $$;
comment on column stepd.group_slot.job_id is 'A held job.';
comment on column stepd.group_slot.queue_id is 'Its queue.';
comment on column stepd.group_slot.group_id is 'Its group.';
comment on column stepd.group_slot.node_id is 'Who holds it: the node,';
comment on column stepd.group_slot.slot is 'and the worker''s slot there.';
comment on column stepd.rate_start.queue_id is 'The queue.';
comment on column stepd.rate_start.at is 'When the last of these attempts began.';
comment on column stepd.rate_start.n is 'How many attempts began within 10 ms.';
comment on function stepd._group_recount(int, boolean) is 'concurrencyPerGroup was switched on or off: count what is held now.';
