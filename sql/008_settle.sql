-- Repeatable.
--
-- Settle: what becomes of jobs that were held.
--
-- finish(), release(), died() and rescue() differ in who speaks and about
-- what; from there on it is the same.  _unhold takes jobs out of their leases
-- (that is the fence: under the lease row's lock, and only if they are there),
-- and _settle puts each into its next place.
--
-- All of them tell the planner to use indexes, like claim(): a plan that was
-- made while a day's partition was empty would go on reading it from end to
-- end until the next analyze.  And a job is looked up by a subquery with a
-- limit: a join could read the whole index for each, where an analyze saw only
-- the rows of somebody's open transaction, and so a day without any.
--
-- Locks, in this order: lease rows by id; then only inserts of rows that
-- nobody else can have, deletes of unique keys and cancel requests of the own
-- jobs, and letters to the fifo inbox.

drop type if exists stepd._held cascade;
create type stepd._held as (
	lease_id bigint, job_id bigint, bucket date, lane_id int, attempt int,
	outcome text, started_at timestamptz, finished_at timestamptz, output jsonb, error text, delay_ms bigint,
	exit_code int, signal int, max_rss_kb bigint, cpu_ms bigint, node_id int, pid int
);
comment on type stepd._held is 'A job just taken out of its lease, and how its attempt ended. attempt: this one''s number. outcome: as in finish() and died(), lost, or release (it did not start; attempt is then the number of those used).';

drop function if exists stepd._released(bigint, bigint, date, int, int, int, timestamptz);
create or replace function stepd._released(lease_id bigint, job_id bigint, bucket date, lane_id int, attempts int, node_id int,
	ran_since timestamptz default null, pid int default null) returns stepd._held
language sql immutable as $$
	select row(lease_id, job_id, bucket, lane_id, attempts, 'release', ran_since, null, null, null, null, null, null, null, null,
		node_id, pid)::stepd._held
$$;
comment on function stepd._released(bigint, bigint, date, int, int, int, timestamptz, int) is
	'A job that goes back as it is, attempts being those used. ran_since: it did start (in process pid), its outcome is not known.';

drop type if exists stepd._settled cascade;
create type stepd._settled as (job_id bigint, bucket date, attempt int, status text);
comment on type stepd._settled is 'What a job became: a final status, retrying, snoozed or ready.';

-- Take jobs out of locked leases.  Leases that run empty go away.  What began
-- counts against a rate limit, unless it did already.
create or replace function stepd._unhold(held stepd._held[]) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	part bigint[];
begin
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, max(h.started_at), count(*)
	from unnest(held) h
	join stepd.lane a on a.id = h.lane_id
	join stepd.queue q on q.id = a.queue_id
	where q.rate_limit > 0 and h.outcome <> 'release' and h.started_at is not null
		and not exists (select from stepd.lease l where l.id = h.lease_id and l.begun = h.job_id)
	group by q.id, date_bin('10 ms', h.started_at, 'epoch');
	with c as (
		select h.lease_id, count(*) as n from unnest(held) h group by h.lease_id
	), empty as (
		delete from stepd.lease l using c where l.id = c.lease_id and cardinality(l.ids) <= c.n returning l.id
	)
	select array_agg(c.lease_id) into part from c where c.lease_id not in (select id from empty);
	if part is null then
		return;
	end if;
	update stepd.lease l set (ids, buckets, attempts, groups) = (
			select array_agg(u.id order by u.ord), array_agg(u.bucket order by u.ord), array_agg(u.attempt order by u.ord),
				array_agg(u.grp order by u.ord) filter (where l.groups is not null)
			from unnest(l.ids, l.buckets, l.attempts, l.groups) with ordinality u (id, bucket, attempt, grp, ord)
			where not exists (select from unnest(held) h where h.lease_id = l.id and h.job_id = u.id)),
		since = greatest(l.since, (select max(h.finished_at) from unnest(held) h where h.lease_id = l.id and h.outcome <> 'release'))
	where l.id = any (part);
	perform stepd._ring('') -- its worker is busy with what is left, a group may have room, and somebody looks for one
	from (select distinct q.id from stepd.lease l join stepd.lane a on a.id = l.lane_id join stepd.queue q on q.id = a.queue_id
		where l.id = any (part) and cardinality(l.ids) = 1 and q.concurrency_per_group > 0 offset 0) q
	where stepd._starved(q.id);
end $$;
comment on function stepd._unhold(stepd._held[]) is 'Take jobs out of leases whose rows the caller has locked and read.';

create or replace function stepd._retry_delay(q stepd.queue, k int) returns interval
language sql volatile as $$
	select least(
			q.retry_delay_ms * case q.backoff when 'exponential' then power(2.0::float8, least(k - 1, 60)) when 'linear' then k else 1 end
				* (1 - q.jitter + 2 * q.jitter * random()),
			q.max_retry_delay_ms) * interval '1 ms'
$$;
comment on function stepd._retry_delay(stepd.queue, int) is 'How long to wait before retry k, k from 1.';

-- Back to ready.  A job of a fifo queue goes there only if it is the head of
-- its group; it always is, unless the queue was not fifo when it was claimed.
create or replace function stepd._again(ids bigint[], buckets date[], lanes int[], attempts int[]) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	with e as materialized (
		select j.id, j.bucket, u.lane, u.attempt, j.priority, coalesce(j.group_id, '') as group_id, q.id as queue_id, q.strategy,
			q.strategy <> 'fifo' or exists (select from stepd.fifo_group f
				where f.queue_id = q.id and f.group_id = coalesce(j.group_id, '') and f.head = j.id) as straight
		from unnest(ids, buckets, lanes, attempts) u (id, bucket, lane, attempt)
		cross join lateral (select x.id, x.bucket, x.priority, x.group_id from stepd.job x where x.id = u.id and x.bucket = u.bucket limit 1) j
		join stepd.lane a on a.id = u.lane
		join stepd.queue q on q.id = a.queue_id
	), inbox as (
		insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, attempt, group_id)
		select e.queue_id, e.id, e.lane, e.bucket, e.attempt, e.group_id from e where not e.straight
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
	select e.lane, stepd._rank(e.strategy, e.priority, true), e.id, e.bucket, e.attempt, stepd._group_hash(nullif(e.group_id, ''))
	from e where e.straight;
	perform stepd._ring('');
end $$;
comment on function stepd._again(bigint[], date[], int[], int[]) is 'Make jobs ready that were held or waiting; they come before the workers'' cursors.';

create or replace function stepd._ending(held stepd._held[], settled stepd._settled[]) returns bigint[]
language plpgsql immutable as $$
begin
	return array(select h.job_id from unnest(held) h
		where h.job_id not in (select r.job_id from unnest(settled) r where r.status in ('retrying', 'snoozed', 'ready')));
end $$;
comment on function stepd._ending(stepd._held[], stepd._settled[]) is 'Those of the jobs that have ended for good, by what _settle made of them.';

create or replace function stepd._unique_end(jobs bigint[]) returns void
language plpgsql as $$
begin
	delete from stepd.unique_job k where k.job_id = any (jobs);
end $$;
comment on function stepd._unique_end(bigint[]) is 'Give up the unique keys of jobs that have ended.';

create or replace function stepd._settle(held stepd._held[], has_unique boolean) returns setof stepd._settled
language plpgsql as $$
#variable_conflict use_column
declare
	wanted bigint[];
	result stepd._settled[];
	back record;
begin
	if exists (select from stepd.cancel_request) then
		with gone as (delete from stepd.cancel_request c where c.job_id in (select h.job_id from unnest(held) h) returning c.job_id)
		select array_agg(g.job_id) into wanted from gone g;
	end if;

	with e as materialized (
		select s.*, case
				when s.job_id = any (wanted) then 'cancelled'
				when s.outcome in ('completed', 'skipped', 'cancelled') then s.outcome
				when s.outcome = 'release' then 'ready'
				when s.outcome = 'snooze' then 'snoozed'
				when s.outcome in ('fail', 'invalid_input') then 'failed'
				when s.attempt < s.max_attempts then 'retrying'
				else 'failed' end as status
		from (
			select h.*, a.queue_id, q as queue, q.strategy, coalesce(n.attempts_before, 0) as before,
				stepd._max_attempts(q.max_retries, n.attempts_before) as max_attempts
			from unnest(held) h
			join stepd.lane a on a.id = h.lane_id
			join stepd.queue q on q.id = a.queue_id
			left join lateral (select r.attempts_before from stepd.renewal r where (h.attempt > 1 or h.outcome = 'lost') and r.job_id = h.job_id) n on true
			offset 0) s
	), ended as (
		insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, started_at, finished_at, output, error, node_id, pid)
		select e.job_id, e.bucket, e.lane_id, e.status, e.attempt, e.max_attempts, e.started_at, coalesce(e.finished_at, clock_timestamp()),
			case when e.status = 'completed' then e.output end, case when e.status not in ('completed', 'skipped') then e.error end,
			e.node_id, e.pid
		from e where e.status in ('completed', 'failed', 'cancelled', 'skipped')
	), tried as (
		insert into stepd.attempt (job_id, bucket, attempt, started_at, finished_at, outcome, error, exit_code, signal, max_rss_kb, cpu_ms,
			node_id, pid)
		select e.job_id, e.bucket, e.attempt, e.started_at, e.finished_at,
			case when e.status = 'cancelled' then 'cancelled' when e.outcome = 'fail' then 'error' else e.outcome end,
			e.error, e.exit_code, e.signal, e.max_rss_kb, e.cpu_ms, e.node_id, e.pid
		from e where e.outcome <> 'release' and e.status <> 'snoozed'
			and (e.outcome not in ('completed', 'skipped') or e.status = 'cancelled')
	), wait as (
		insert into stepd.waiting (id, lane_id, bucket, attempt, kind, run_at)
		select e.job_id, e.lane_id, e.bucket, case when e.status = 'snoozed' then e.attempt - 1 else e.attempt end, e.status,
			clock_timestamp() + case when e.delay_ms is not null then greatest(e.delay_ms, 0) * interval '1 ms'
				when e.status = 'snoozed' then interval '0'
				else stepd._retry_delay(e.queue, greatest(e.attempt - e.before, 1)) end
		from e where e.status in ('retrying', 'snoozed')
	), letters as (
		insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, ended, group_id)
		select e.queue_id, e.job_id, e.lane_id, e.bucket, true, coalesce(j.group_id, '')
		from e cross join lateral (select x.group_id from stepd.job x where x.id = e.job_id and x.bucket = e.bucket limit 1) j
		where e.strategy = 'fifo' and e.status in ('completed', 'failed', 'cancelled', 'skipped')
		on conflict do nothing
	)
	select array_agg(row(e.job_id, e.bucket, e.attempt, e.status)::stepd._settled) filter (where e.status <> 'completed')
	into result from e;

	if has_unique then
		perform stepd._unique_end(stepd._ending(held, result));
	end if;
	if result is not null then
		select array_agg(h.job_id) as ids, array_agg(h.bucket) as buckets, array_agg(h.lane_id) as lanes, array_agg(h.attempt) as attempts
		into back
		from unnest(held) h join unnest(result) r on r.job_id = h.job_id and r.status = 'ready';
		if back.ids is not null then
			perform stepd._again(back.ids, back.buckets, back.lanes, back.attempts);
		end if;
		if exists (select from unnest(result) r where r.status in ('retrying', 'snoozed')) then
			perform stepd._ring('due');
		end if;
	end if;
	return query select * from unnest(result);
end $$;
comment on function stepd._settle(stepd._held[], boolean) is
	'Put jobs that _unhold took out of their leases into their next place. Returns those that did not become completed.';
