-- Repeatable.
--
-- Finish and release: what a live worker says about the jobs it holds.
--
-- Both are fenced by the lease row: it must exist, belong to the node, and
-- have the job in it.  The row is locked first (several in order of id), so
-- of two who speak about one job (the worker and a rescuer, or the same
-- message sent again after a lost connection) the second finds it gone.

-- The planner thinks that arrays are short and would compare each with each;
-- and a cost that says "never" would have it compiled.
drop function if exists stepd._fence(int, int, bigint[], bigint[], text[], bigint[], bigint[], text[], text[], bigint[]);
create or replace function stepd._fence(node_id int, pid int, leases bigint[], jobs bigint[], outcomes text[], ages_us bigint[],
	durations_us bigint[], outputs jsonb[], errors text[], delays_ms bigint[]) returns stepd._held[]
language plpgsql
set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp();
begin
	return array(
		with h as materialized (
			select l.id, l.lane_id, u.job, u.bucket, u.attempt
			from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) u (job, bucket, attempt)
			where l.id = any (leases) and l.node_id = _fence.node_id)
		select row(f.lease, f.job, h.bucket, h.lane_id, h.attempt + 1, f.outcome, at - f.age * interval '1 us',
			at - (f.age - f.duration) * interval '1 us', f.output, f.error, f.delay, null, null, null, null,
			_fence.node_id, _fence.pid)::stepd._held
		from unnest(leases, jobs, outcomes, ages_us, durations_us, outputs, errors, delays_ms)
			with ordinality f (lease, job, outcome, age, duration, output, error, delay, ord)
		join h on h.id = f.lease and h.job = f.job
		order by f.ord);
end $$;
comment on function stepd._fence(int, int, bigint[], bigint[], text[], bigint[], bigint[], jsonb[], text[], bigint[]) is
	'Those of the outcomes whose lease still holds the job. The lease rows are locked.';

-- The way of nearly all jobs: every outcome is "completed", nobody wants a job
-- cancelled, no queue is fifo.  One insert does what _fence, _unhold and
-- _settle do one after the other; the lease rows are locked.
drop function if exists stepd._complete(int, int, bigint[], bigint[], bigint[], bigint[], text[]);
create or replace function stepd._complete(node_id int, pid int, leases bigint[], jobs bigint[], ages_us bigint[], durations_us bigint[],
	outputs jsonb[]) returns int
language plpgsql
set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp();
	n int;
begin
	with h as materialized (
		select l.id, l.lane_id, u.job, u.bucket, u.attempt, q.max_retries
		from stepd.lease l
		join stepd.lane a on a.id = l.lane_id
		join stepd.queue q on q.id = a.queue_id
		cross join lateral unnest(l.ids, l.buckets, l.attempts) u (job, bucket, attempt)
		where l.id = any (leases) and l.node_id = _complete.node_id)
	insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, started_at, finished_at, output, node_id, pid)
	select f.job, h.bucket, h.lane_id, 'completed', h.attempt + 1, stepd._max_attempts(h.max_retries, case when h.attempt > 0
			then (select r.attempts_before from stepd.renewal r where r.job_id = f.job) end),
		at - f.age * interval '1 us', at - (f.age - f.duration) * interval '1 us', f.output, _complete.node_id, _complete.pid
	from unnest(leases, jobs, ages_us, durations_us, outputs) f (lease, job, age, duration, output)
	join h on h.id = f.lease and h.job = f.job;
	get diagnostics n = row_count;
	return n;
end $$;
comment on function stepd._complete(int, int, bigint[], bigint[], bigint[], bigint[], jsonb[]) is
	'Outcomes for those of the jobs that their leases hold; returns how many that were.';

create or replace function stepd._finish_check(pid int, leases bigint[], jobs bigint[], outcomes text[], ages_us bigint[],
	durations_us bigint[], outputs text[], errors text[], delays_ms bigint[]) returns void
language plpgsql as $$
begin
	perform stepd._check_lengths('{jobs,leases,outcomes,ages_us,durations_us,outputs,errors,delays_ms}', array[cardinality(jobs), cardinality(leases),
		cardinality(outcomes), cardinality(ages_us), cardinality(durations_us), cardinality(outputs), cardinality(errors), cardinality(delays_ms)]);
	perform stepd._check_range('pid', pid, 1, 2147483647);
	perform stepd._check_list('leases', leases), stepd._check_list('jobs', jobs),
		stepd._check_words('outcomes', outcomes, '{completed,error,fail,snooze,invalid_input,cancelled,skipped,timeout}'),
		stepd._check_span('ages_us', ages_us, 'us'), stepd._check_span('durations_us', durations_us, 'us'),
		stepd._check_list('outputs', outputs, true), stepd._check_list('errors', errors, true), stepd._check_span('delays_ms', delays_ms, 'ms', true);
	perform stepd._check_run('durations_us[%s]', ages_us, durations_us);
end $$;
comment on function stepd._finish_check(int, bigint[], bigint[], text[], bigint[], bigint[], text[], text[], bigint[]) is 'Refuse what finish() was given, saying why; returns if nothing is wrong.';

create or replace function stepd.finish(node_id int, pid int, leases bigint[], jobs bigint[], outcomes text[], ages_us bigint[],
	durations_us bigint[], outputs text[], errors text[], delays_ms bigint[], effects text)
returns table (job_id bigint, verdict text)
language plpgsql
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	held stepd._held[];
	settled stepd._settled[];
	has_unique boolean;
	simple boolean;
	rated boolean;
	lanes int[];
	stripes bigint[]; -- of the leases, by position of the lane
	kept text;
	slot int;
	whole bigint;
	done int;
	n int := coalesce(cardinality(jobs), 0);
	ending bigint[];
	alike boolean; -- the jobs are just those of one lease
	results jsonb[];
	left_behind jsonb;
begin
	perform stepd._required('{node_id,leases,jobs,outcomes,ages_us,durations_us}', finish.node_id is null, leases is null, jobs is null, outcomes is null,
		ages_us is null, durations_us is null);
	if '[1:' || n || ']' <> any (array[array_dims(leases), array_dims(jobs), array_dims(outcomes), array_dims(ages_us), array_dims(durations_us),
			array_dims(outputs), array_dims(errors), array_dims(delays_ms)])
		or n <> any (array[cardinality(leases), cardinality(outcomes), cardinality(ages_us), cardinality(durations_us), cardinality(outputs),
			cardinality(errors), cardinality(delays_ms)])
		or (0 < all (leases) and 0 < all (jobs) and 0 <= all (ages_us) and 3155760000000000 >= all (ages_us) and 0 <= all (durations_us)) is not true
		or not outcomes <@ '{completed,error,fail,snooze,invalid_input,cancelled,skipped,timeout}'
		or finish.pid < 1 or 0 > any (delays_ms) or 3155760000000 < any (delays_ms)
		or exists (select from unnest(ages_us, durations_us) u (age, duration) where u.duration > u.age) then -- in one look
		perform stepd._finish_check(finish.pid, leases, jobs, outcomes, ages_us, durations_us, outputs, errors, delays_ms);
	end if;
	if outputs is not null then -- how deep they are the worker has seen to: to walk through them takes as long as to store them
		results := stepd._json_list('outputs', outputs);
	end if;
	if effects is not null then
		left_behind := stepd._json('effects', effects);
		perform stepd._effects_check(left_behind, jobs);
	end if;

	select bool_or(x.has_unique), sum(cardinality(x.ids)), array_agg(x.lane_id), array_agg(x.stripes),
		case when min(x.slot) = max(x.slot) then min(x.slot) end, count(*) = 1 and min(x.ids) = jobs
	into has_unique, whole, lanes, stripes, slot, alike
	from (select l.has_unique, l.ids, l.lane_id, l.slot, case when l.groups is null then coalesce(l.stripes, -1) else 0 end as stripes from stepd.lease l
		where l.id = any (leases) and l.node_id = finish.node_id order by l.id for update) x;
	if not alike and n > 1 and n <> (select count(distinct j) from unnest(jobs) j)
		and exists (select from unnest(leases, jobs) u (lease, job) group by u.lease, u.job having count(*) > 1) then
		perform stepd._bad('jobs', 'has a job twice');
	end if;
	-- a statement of its own: who changes settings holds the leases meanwhile (_queue_shut), and we waited for it
	select coalesce(bool_and(q.strategy <> 'fifo'), false), bool_or(q.rate_limit > 0),
		finish.node_id || ' ' || slot || ' ' || string_agg(q.id || ' ' || u.stripes, ' ') filter (where q.max_concurrency > 0 or q.concurrency_per_group > 0)
	into simple, rated, kept
	from unnest(lanes, stripes) u (lane, stripes) join stepd.lane a on a.id = u.lane join stepd.queue q on q.id = a.queue_id;
	if kept is not null then
		perform set_config('stepd.kept', kept, true); -- a claim in this transaction keeps the worker's place, see 006_claim.sql
	end if;

	if simple and whole = n and not has_unique and outcomes <@ '{completed}' and not exists (select from stepd.cancel_request) then
		done := stepd._complete(finish.node_id, finish.pid, leases, jobs, ages_us, durations_us, results);
		if done = n then
			if effects is not null then
				perform stepd._effects(left_behind, array(
					select row(u.job, u.bucket, u.attempt + 1, 'all')::stepd._effect_job
					from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) u (job, bucket, attempt)
					where l.id = any (leases)));
			end if;
			if rated then
				perform stepd._rate_started(leases, jobs, ages_us);
			end if;
			delete from stepd.lease l where l.id = any (leases);
			return;
		elsif done > 0 then
			-- as many jobs as the leases hold, but not the same ones: once more, one by one
			delete from stepd.outcome o using stepd.lease l cross join lateral unnest(l.ids, l.buckets) u (job, bucket)
			where l.id = any (leases) and l.node_id = finish.node_id and o.id = u.job and o.bucket = u.bucket;
		end if;
	end if;

	held := stepd._fence(finish.node_id, finish.pid, leases, jobs, outcomes, ages_us, durations_us, results, errors, delays_ms);
	if cardinality(held) > 0 then
		perform stepd._unhold(held);
		settled := array(select s from stepd._settle(held, false) s);
		ending := case when has_unique then stepd._ending(held, settled) end;
		if effects is not null then
			perform stepd._effects(left_behind, array(
				select row(h.job_id, h.bucket, h.attempt, case
					when s.status is null then 'all'
					when s.status = 'cancelled' and h.outcome <> 'cancelled' then 'logs'
					else 'some' end)::stepd._effect_job
				from unnest(held) h left join unnest(settled) s on s.job_id = h.job_id
				where h.outcome not in ('invalid_input', 'timeout')), ending);
		end if;
		if has_unique then -- last: see _put_unique
			perform stepd._unique_end(ending);
		end if;
	end if;
	if cardinality(held) < n then
		return query
			select f.job, 'refused'
			from unnest(leases, jobs) f (lease, job)
			where not exists (select from unnest(held) h where h.lease_id = f.lease and h.job_id = f.job);
	end if;
	return query select s.job_id, s.status from unnest(settled) s;
end $$;
comment on function stepd.finish(int, int, bigint[], bigint[], text[], bigint[], bigint[], text[], text[], bigint[], text) is
'Outcomes of attempts, with their effects, in one transaction. The arrays go together, one element a job: lease and job as claimed; outcome completed, error, fail, snooze, invalid_input, cancelled, skipped or timeout (of which no effects count); how long ago the handler started and how long it took; output (JSON text) and error, or null; delay before the next attempt, null: by the queue''s settings. Times are at most a hundred years. outputs, errors and delays_ms may be null where all of it is. effects: JSON array, see 007_effect.sql, or null.
Returns the jobs that did not simply complete, with what they became (retrying, snoozed, failed, cancelled, skipped), or refused: the lease does not hold the job any more and nothing was changed.';

create or replace function stepd.release(leases bigint[], jobs bigint[]) returns int
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	held stepd._held[];
	has_unique boolean;
begin
	perform stepd._required('{leases,jobs}', release.leases is null, release.jobs is null);
	if cardinality(leases) <> cardinality(jobs) then
		perform stepd._check_lengths('{leases,jobs}', array[cardinality(leases), cardinality(jobs)]);
	end if;
	perform stepd._check_list('leases', leases), stepd._check_list('jobs', jobs);
	select bool_or(x.has_unique) into has_unique from (
		select l.has_unique from stepd.lease l where l.id = any (leases) order by l.id for update) x;
	held := array(
		select stepd._released(l.id, u.job, u.bucket, l.lane_id, u.attempt, l.node_id)
		from stepd.lease l
		cross join lateral unnest(l.ids, l.buckets, l.attempts) u (job, bucket, attempt)
		-- "is true": a join would compare each with each, since the planner thinks that arrays are short
		where l.id = any (leases) and ((l.id, u.job) in (select f.lease, f.job from unnest(leases, jobs) f (lease, job))) is true);
	if cardinality(held) > 0 then
		perform stepd._unhold(held);
		perform stepd._settle(held, has_unique);
	end if;
	return coalesce(cardinality(held), 0);
end $$;
comment on function stepd.release(bigint[], bigint[]) is
	'Give unstarted jobs back to ready, with no attempt used; lease and job go together. Returns how many were still held.';

create or replace function stepd.holds(node_id int, lease bigint, job bigint) returns boolean
language plpgsql stable
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
begin
	perform stepd._required('{node_id,lease,job}', holds.node_id is null, holds.lease is null, holds.job is null);
	if pg_is_in_recovery() then
		raise exception 'this server is a standby, and may not know of the lease yet' using errcode = 'read_only_sql_transaction';
	end if;
	return exists (select from stepd.lease l where l.id = holds.lease and l.node_id = holds.node_id and holds.job = any (l.ids));
end $$;
comment on function stepd.holds(int, bigint, bigint) is
	'Is a job still held by the lease with which a node claimed it? False: others have it, or may, and its outcome would be refused.';

create or replace function stepd.give_back(node_id int, slot int, generation bigint, keep bigint[]) returns int
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	n int;
begin
	perform stepd._required('{node_id,slot,generation}', give_back.node_id is null, give_back.slot is null, give_back.generation is null);
	perform stepd._check_list('keep', keep);
	select count(*) into n
	from stepd._take_back(array(
		select l.id from stepd.lease l
		where l.node_id = give_back.node_id and l.slot = give_back.slot and l.generation = give_back.generation
			and l.id <> all (coalesce(keep, '{}'))
		order by l.id), false) t;
	return n;
end $$;
comment on function stepd.give_back(int, int, bigint, bigint[]) is
	'Give back the jobs of all leases of one life of a worker but those to keep, with no attempt used: for a claim whose answer was lost with its connection. Returns the number of jobs.';
