-- Repeatable.
--
-- Maintenance, for the keeper: partitions ahead, retention, old bookkeeping.
--
-- A partition is dropped when its day is older than what is kept.  Before
-- that, what must stay is moved to today's partition: jobs that have not
-- ended, and jobs that ended late enough to be kept.  (Both are few: a job's
-- partition is that of its day, so only those that waited that long.)  While a
-- job moves nobody may carry its old bucket about, so all places are locked
-- for that moment; a day with a job that is held just now waits for the next
-- time.
--
-- DDL here may have to wait for a reader of the old partition, and others
-- would queue behind us: so with a short lock_timeout, and the next call tries
-- again.  The default partitions catch what comes meanwhile.

-- Give jobs of an old day today's bucket, in all tables.
create or replace function stepd._rehome(day date, jobs bigint[]) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	today date := stepd._today();
begin
	with gone as (delete from stepd.job j where j.bucket = day and j.id = any (jobs) returning *)
	insert into stepd.job (id, parent_id, enqueued_at, run_at, bucket, lane_id, trigger_index, priority, trace_id, trigger, group_id, unique_key, topic, input)
	select id, parent_id, enqueued_at, run_at, today, lane_id, trigger_index, priority, trace_id, trigger, group_id, unique_key, topic, input from gone;
	with gone as (delete from stepd.outcome o where o.bucket = day and o.id = any (jobs) returning *)
	insert into stepd.outcome (id, started_at, finished_at, bucket, lane_id, node_id, pid, attempt, max_attempts, status, output, error)
	select id, started_at, finished_at, today, lane_id, node_id, pid, attempt, max_attempts, status, output, error from gone;
	with gone as (delete from stepd.attempt t where t.bucket = day and t.job_id = any (jobs) returning *)
	insert into stepd.attempt (job_id, started_at, finished_at, max_rss_kb, cpu_ms, bucket, attempt, exit_code, signal, node_id, pid, outcome, error)
	select job_id, started_at, finished_at, max_rss_kb, cpu_ms, today, attempt, exit_code, signal, node_id, pid, outcome, error from gone;
	with gone as (delete from stepd.log g where g.bucket = day and g.job_id = any (jobs) returning *)
	insert into stepd.log (job_id, at, bucket, attempt, level, message, fields)
	select job_id, at, today, attempt, level, message, fields from gone;
	update stepd.ready r set bucket = today where r.bucket = day;
	update stepd.waiting w set bucket = today where w.bucket = day;
	update stepd.fifo_inbox i set bucket = today where i.bucket = day;
	update stepd.fifo_backlog b set bucket = today where b.bucket = day;
	update stepd.unrouted u set bucket = today where u.bucket = day;
	update stepd.renewal n set bucket = today where n.bucket = day and n.job_id = any (jobs);
	update stepd.progress p set bucket = today where p.bucket = day and p.job_id = any (jobs);
end $$;
comment on function stepd._rehome(date, bigint[]) is 'Move jobs from an old day''s partitions to today''s. Only with the places locked.';

-- Forget a day, but for what must stay.  False: not now.
create or replace function stepd._partition_drop(day date, keep_after timestamptz) returns boolean
language plpgsql as $$
#variable_conflict use_column
declare
	stay bigint[];
	locked boolean;
	suffix text := to_char(day, '"_p"YYYYMMDD');
	parent text;
begin
	select array_agg(j.id) into stay
	from stepd.job j left join stepd.outcome o on o.id = j.id and o.bucket = j.bucket
	where j.bucket = day and (o.id is null or o.finished_at >= keep_after);
	locked := stay is not null;
	if locked then
		lock table stepd.waiting, stepd.ready, stepd.fifo_inbox, stepd.fifo_backlog, stepd.unrouted, stepd.lease in exclusive mode;
		if exists (select from stepd.lease l where day = any (l.buckets)) then
			return false;
		end if;
	end if;
	-- Who retries a job takes its outcome away first and then wants a place: we do not wait for him with the places locked.
	if to_regclass('stepd.outcome' || suffix) is not null then
		execute format('lock table stepd.%I in share mode nowait', 'outcome' || suffix);
	end if;
	-- anew, now that nothing moves
	select array_agg(j.id) into stay
	from stepd.job j left join stepd.outcome o on o.id = j.id and o.bucket = j.bucket
	where j.bucket = day and (o.id is null or o.finished_at >= keep_after);
	if stay is not null and not locked then
		return false;
	elsif stay is not null then
		perform stepd._rehome(day, stay);
	end if;
	delete from stepd.renewal n where n.bucket = day;
	delete from stepd.progress p where p.bucket = day;
	foreach parent in array array['log', 'attempt', 'outcome', 'job'] loop
		execute format('drop table if exists stepd.%I', parent || suffix);
	end loop;
	return true;
end $$;
comment on function stepd._partition_drop(date, timestamptz) is 'Drop the partitions of a day; what has not ended, or ended after that time, moves to today. False: one of its jobs is held, or was taken up again.';

-- Who calls upkeep() may be a member of the owner's role.  What he makes would be his: the others could not drop it.
create or replace function stepd._partitions_own() returns void
language plpgsql as $$
declare
	p record;
begin
	for p in
		select c.oid::regclass as part, pg_get_userbyid(o.relowner) as owner
		from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class o on o.oid = i.inhparent
		where o.relnamespace = 'stepd'::regnamespace and c.relkind = 'r' and c.relowner <> o.relowner
			and pg_has_role(c.relowner, 'usage') and pg_has_role(o.relowner, 'usage')
	loop
		execute format('alter table %s owner to %I', p.part, p.owner);
	end loop;
end $$;
comment on function stepd._partitions_own() is 'Give partitions that belong to another role than their tables to the tables'' owner, as far as the caller may.';

create or replace function stepd.upkeep(keep interval, out did text, out more boolean)
language plpgsql
set lock_timeout = '2s' as $$
#variable_conflict use_column
declare
	done text[] := '{}';
	today date := stepd._today();
	past date[];
	day date;
	q record;
	n bigint;
	longest interval;
begin
	if keep is null or keep < interval '1 minute' then
		perform stepd._bad('keep', format('%s is not at least a minute', coalesce(keep::text, 'null')));
	elsif keep > interval '36500 days' then
		perform stepd._bad('keep', format('%s is more than 36500 days', keep));
	-- a month counts as 30 days when spans are compared, but not when one is taken from a date
	elsif least(date_part('year', keep), date_part('month', keep), date_part('day', keep)) < 0 then
		perform stepd._bad('keep', format('%s has parts below zero', keep));
	end if;
	more := false;
	if not pg_try_advisory_xact_lock(1937007984, -1) then
		did := 'another node is at it';
		return;
	end if;

	-- queues that keep less than the rest: row by row
	select greatest(keep, max(x.history_ms) * interval '1 ms') into longest from stepd.queue x;
	for q in
		select x.id, x.name, coalesce(nullif(x.history_ms, 0) * interval '1 ms', keep) as span
		from stepd.queue x where coalesce(nullif(x.history_ms, 0) * interval '1 ms', keep) < longest
	loop
		n := stepd._forget(q.id, clock_timestamp() - q.span);
		more := more or n = 100000;
		if n > 0 then
			done := done || format('forgot %s jobs of queue %s', n, q.name);
		end if;
	end loop;

	n := stepd._forget_strays(clock_timestamp() - longest);
	more := more or n = 100000;
	if n > 0 then
		done := done || format('forgot %s jobs of days without a partition', n);
	end if;

	delete from stepd.tick t where t.fire_at < now() - greatest(longest, interval '8 days')
		and t.fire_at < coalesce((select c.last_run from stepd.schedule c where c.id = t.schedule_id), now());
	delete from stepd.node d where coalesce(d.left_at, d.lost_at) < now() - longest - interval '8 days'
		and not exists (select from stepd.lease l where l.node_id = d.id);
	delete from stepd.worker w where not exists (
		select from stepd.node d where d.id = w.node_id and d.left_at is null and d.lost_at is null);
	delete from stepd.accepted_key k where k.made_at < now() - interval '24 hours';
	delete from stepd.cancel_request c where c.requested_at < now() - interval '1 hour'
		and not exists (select from stepd.lease l where c.job_id = any (l.ids));
	past := array(
		select d.day from (
			select to_date(substr(c.relname, 6), 'YYYYMMDD') as day
			from pg_inherits i join pg_class c on c.oid = i.inhrelid
			where i.inhparent = 'stepd.job'::regclass and c.relname ~ '^job_p[0-9]{8}$') d
		where d.day < least(((now() - longest) at time zone 'UTC')::date, today)
		order by d.day);
	if cardinality(past) > 0 or to_regclass('stepd.log' || to_char(today + 8, '"_p"YYYYMMDD')) is null then
		analyze stepd.job, stepd.outcome, stepd.attempt, stepd.log;
	end if;

	-- Last, because many wait from here until we commit: all who read the default partitions, and all who claim when a job moves.
	for i in -1 .. 8 loop
		begin
			if stepd._partition_make(today + i) then
				done := done || format('made the partitions of %s', today + i);
			end if;
		exception when lock_not_available then
			done := done || format('could not make the partitions of %s: locked', today + i);
		end;
	end loop;
	perform stepd._partitions_own();
	foreach day in array past loop
		begin
			if stepd._partition_drop(day, clock_timestamp() - longest) then
				done := done || format('dropped the partitions of %s', day);
			else
				raise no_data_found; -- so that its locks are released
			end if;
		exception
			when lock_not_available then
				done := done || format('could not drop the partitions of %s: locked', day);
			when no_data_found then
				done := done || format('kept the partitions of %s: a job of it is held', day);
		end;
	end loop;
	did := array_to_string(done, '; ');
end $$;
comment on function stepd.upkeep(interval) is
'Housekeeping, to be called about hourly, and again at once while there is more: makes partitions for a week ahead, forgets ended jobs older than keep (or than their queue''s history setting), drops days that are past, and analyses the partitioned tables when their partitions change. did: what it did, empty: nothing. more: some queue has yet more to forget, of which one call takes 100,000 jobs.';

create or replace function stepd.maintain(keep interval) returns text
language plpgsql as $$
begin
	return (select u.did from stepd.upkeep(keep) u);
end $$;
comment on function stepd.maintain(interval) is 'upkeep() once, for people. Returns what it did as text, empty: nothing.';

-- Jobs of one queue that ended before a time; the day's partition itself stays for the others.
create or replace function stepd._forget(queue_id int, before timestamptz) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
	n bigint;
begin
	with past as materialized (
		select o.id, o.bucket from stepd.outcome o
		where o.finished_at < before and o.bucket <= (before at time zone 'UTC')::date
			and o.lane_id in (select a.id from stepd.lane a where a.queue_id = _forget.queue_id)
		order by o.bucket, o.id limit 100000
	), old as materialized ( -- not those that are retried in this moment
		delete from stepd.outcome o using past p where o.id = p.id and o.bucket = p.bucket returning o.id, o.bucket
	), facts as (
		delete from stepd.job j using old where j.id = old.id and j.bucket = old.bucket returning 1
	), attempts as (
		delete from stepd.attempt t using old where t.job_id = old.id and t.bucket = old.bucket
	), logs as (
		delete from stepd.log g using old where g.job_id = old.id and g.bucket = old.bucket
	), renewals as (
		delete from stepd.renewal r using old where r.job_id = old.id
	), reports as (
		delete from stepd.progress p using old where p.job_id = old.id
	)
	select count(*) into n from facts;
	return n;
end $$;
comment on function stepd._forget(int, timestamptz) is 'Delete up to 100,000 ended jobs of a queue that ended before that time. Returns how many.';

-- A day gets no partition if nobody called upkeep() in the eight days before it.
create or replace function stepd._forget_strays(before timestamptz) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
	n bigint;
begin
	with past as materialized (
		select o.id, o.bucket from stepd.outcome_default o where o.finished_at < before order by o.id limit 100000
	), old as materialized ( -- not those that are retried in this moment
		delete from stepd.outcome_default o using past p where o.id = p.id and o.bucket = p.bucket returning o.id, o.bucket
	), facts as (
		delete from stepd.job_default j using old where j.id = old.id and j.bucket = old.bucket
	), attempts as (
		delete from stepd.attempt_default t using old where t.job_id = old.id and t.bucket = old.bucket
	), logs as (
		delete from stepd.log_default g using old where g.job_id = old.id and g.bucket = old.bucket
	), renewals as (
		delete from stepd.renewal r using old where r.job_id = old.id
	), reports as (
		delete from stepd.progress p using old where p.job_id = old.id
	)
	select count(*) into n from old;
	return n;
end $$;
comment on function stepd._forget_strays(timestamptz) is 'Delete up to 100,000 jobs from the default partitions that ended before that time. Returns how many.';
