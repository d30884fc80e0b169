-- Repeatable.
--
-- Control: what people do to jobs and queues.
--
-- cancel() and retry() look for the job in one place after the other and take
-- it out of the one where they find it, with a delete (or the lease row's
-- lock), so they own it then.  A job can move between two looks, behind our
-- back; then none of the looks finds it, and we begin anew.  Each round sees
-- newer snapshots, and waits at the delete for whoever is moving it.

create or replace function stepd._job(job_id bigint) returns stepd.job
language plpgsql stable as $$
#variable_conflict use_column
declare
	j stepd.job;
begin
	perform stepd._required('{job_id}', _job.job_id is null);
	select * into j from stepd.job x where x.id = _job.job_id;
	if not found then
		perform stepd._bad('job_id', format('there is no job %s', _job.job_id), 'It may be older than the history that is kept.');
	end if;
	return j;
end $$;
comment on function stepd._job(bigint) is 'A job''s facts; raises 22023 when there is none.';

-- Take a job out of the place where nobody holds it; null: it is not in any.
create or replace function stepd._pluck(j stepd.job, queue_id int) returns int
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	used int;
begin
	delete from stepd.waiting w where w.id = j.id returning w.attempt into used;
	if not found then
		delete from stepd.ready r where r.lane_id = j.lane_id and r.rank = any (array[0, -1, 40000, -j.priority::int]) and r.pos = j.id
		returning r.attempt into used;
	end if;
	if not found then
		delete from stepd.unrouted u where u.id = j.id returning 0 into used;
	end if;
	if not found then
		delete from stepd.fifo_inbox i where i.queue_id = _pluck.queue_id and i.id = j.id and not i.ended returning i.attempt into used;
	end if;
	if not found then
		delete from stepd.fifo_backlog b where b.queue_id = _pluck.queue_id and b.group_id = coalesce(j.group_id, '') and b.rank = 0
			and b.id = j.id
		returning b.attempt into used;
	end if;
	return used;
end $$;
comment on function stepd._pluck(stepd.job, int) is 'Take a job that no worker holds out of its place; returns the attempts it has used, null: not found.';

create or replace function stepd.cancel(job_id bigint) returns boolean
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	j stepd.job := stepd._job(job_id);
	q stepd.queue;
	used int;
	l stepd.lease;
	first boolean;
begin
	loop
		if exists (select from stepd.outcome o where o.id = j.id and o.bucket = j.bucket) then
			return false;
		end if;
		j := stepd._job(job_id);
		select x.* into q from stepd.queue x join stepd.lane a on a.queue_id = x.id where a.id = j.lane_id;
		used := stepd._pluck(j, q.id);
		if used is null then
			select * into l from stepd.lease x where j.id = any (x.ids) for update;
			continue when not found or j.id <> all (l.ids);
			select x.* into q from stepd.queue x where x.id = q.id; -- anew: who changes its strategy has made us wait
			first := l.ids[1] = j.id and not exists (select from stepd.lease x
				where (x.node_id, x.slot, x.generation) = (l.node_id, l.slot, l.generation) and x.id < l.id);
			perform pg_notify('stepd_cancel', j.id::text);
			if first or q.strategy = 'fifo' or q.concurrency_per_group > 0 or q.max_concurrency > 0 then -- it may have begun, and keeps its place
				insert into stepd.cancel_request (job_id) values (j.id) on conflict do nothing;
				return true;
			end if;
			-- held, but not started as far as we know: the worker's outcome, should there be one, will be refused
			used := l.attempts[array_position(l.ids, j.id)];
			perform stepd._unhold(array[stepd._released(l.id, j.id, j.bucket, l.lane_id, used, l.node_id)]);
		end if;
		insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, finished_at)
		values (j.id, j.bucket, j.lane_id, 'cancelled', used, stepd._max_attempts(coalesce(q.max_retries, 0),
			(select n.attempts_before from stepd.renewal n where n.job_id = j.id)), clock_timestamp());
		delete from stepd.unique_job k where k.job_id = j.id;
		if exists (select from stepd.queue x where x.id = q.id and x.strategy = 'fifo') then
			insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, ended, group_id)
			values (q.id, j.id, j.lane_id, j.bucket, true, coalesce(j.group_id, '')) on conflict do nothing;
			perform stepd._ring('');
		end if;
		return true;
	end loop;
end $$;
comment on function stepd.cancel(bigint) is
'Cancel a job. One that waits or is ready becomes cancelled at once; one that runs is asked to stop and becomes cancelled when its attempt ends, however it ends. False: it had ended before. Raises 22023 for an unknown job.';

create or replace function stepd.cancels(node_id int) returns setof bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._required('{node_id}', cancels.node_id is null);
	return query
		select c.job_id from stepd.cancel_request c
		where exists (select from stepd.lease l where l.node_id = cancels.node_id and c.job_id = any (l.ids)) order by c.requested_at limit 64;
end $$;
comment on function stepd.cancels(int) is 'Which of the jobs that a node holds are to be cancelled, the first 64.';

create or replace function stepd.cancelled(job_ids bigint[]) returns setof bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._required('{job_ids}', job_ids is null);
	perform stepd._check_list('job_ids', job_ids);
	return query
		select u.id from unnest(job_ids) u (id)
		where exists (select from stepd.cancel_request c where c.job_id = u.id)
			or exists (select from stepd.outcome o where o.id = u.id and o.status = 'cancelled');
end $$;
comment on function stepd.cancelled(bigint[]) is 'Which of these jobs are to be cancelled, or are cancelled already.';

-- The unique key again, for a job that comes back.
create or replace function stepd._unique_again(j stepd.job, step_id int) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	other bigint;
begin
	if j.unique_key is null then
		return;
	end if;
	loop
		insert into stepd.unique_job (step_id, key, job_id) values (_unique_again.step_id, j.unique_key, j.id) on conflict do nothing;
		exit when found;
		select k.job_id into other from stepd.unique_job k where k.step_id = _unique_again.step_id and k.key = j.unique_key;
		if found and other <> j.id then
			perform stepd._bad('job_id', format('job %s has the unique key "%s", which the unfinished job %s has now', j.id, j.unique_key, other));
		end if;
		exit when other = j.id;
	end loop;
end $$;
comment on function stepd._unique_again(stepd.job, int) is 'Take the unique key of a job that is retried; raises 22023 when another unfinished job has it.';

create or replace function stepd._route(j stepd.job) returns setof bigint
language plpgsql as $$
#variable_conflict use_column
declare
	b record;
	first boolean := true;
	items stepd._item[] := '{}';
begin
	delete from stepd.unrouted u where u.id = j.id;
	if not found then
		return;
	end if;
	for b in select s.*, a.queue_id, q.strategy from stepd.subscription s join stepd.lane a on a.id = s.lane_id
			join stepd.queue q on q.id = a.queue_id where s.topic = j.topic order by s.lane_id
	loop
		if first then
			first := false;
			perform stepd._unique_again(j, b.step_id);
			update stepd.job x set lane_id = b.lane_id, trigger_index = b.trigger_index where x.id = j.id and x.bucket = j.bucket;
			if j.run_at > clock_timestamp() then
				insert into stepd.waiting (id, lane_id, bucket, attempt, kind, run_at)
				values (j.id, b.lane_id, j.bucket, 0, 'scheduled', j.run_at);
				perform stepd._ring('due');
			else
				perform stepd._again(array[j.id], array[j.bucket], array[b.lane_id], array[0]);
			end if;
			return next j.id;
		else
			items := items || row(cardinality(items) + 1, null, b.lane_id, 'queue', b.trigger_index, j.input, j.priority, j.run_at,
				j.group_id, j.unique_key, j.parent_id, j.trace_id)::stepd._item;
		end if;
	end loop;
	if first then
		perform stepd._bad('job_id', format('topic "%s" of job %s has no subscriber yet', j.topic, j.id));
	end if;
	return query select p.job_id from stepd._put(items) p;
end $$;
comment on function stepd._route(stepd.job) is 'Give an unrouted job to its topic''s subscribers: it becomes the first one''s, the others get new jobs. Nothing: it is not unrouted.';

create or replace function stepd.retry(job_id bigint) returns setof bigint
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	j stepd.job := stepd._job(job_id);
	o stepd.outcome;
	step int;
begin
	if j.lane_id is null then
		return query select r from stepd._route(j) r;
		if found then
			return;
		end if;
	end if;
	delete from stepd.outcome x where x.id = j.id and x.bucket = j.bucket and x.status in ('failed', 'cancelled') returning * into o;
	if not found then
		select * into o from stepd.outcome x where x.id = j.id and x.bucket = j.bucket;
		perform stepd._bad('job_id', case when o.status is null then format('job %s has not ended', j.id) else format('job %s is %s', j.id, o.status) end,
			'Jobs that are failed, cancelled or unrouted can be retried.');
	end if;
	if j.lane_id is null then
		insert into stepd.unrouted (id, bucket, topic) values (j.id, j.bucket, j.topic);
		return query select r from stepd._route(j) r;
		return;
	end if;
	if o.attempt >= 32767 then
		perform stepd._bad('job_id', format('job %s has used %s attempts, more are not counted', j.id, o.attempt), 'Enqueue its data anew.');
	end if;
	select a.step_id into step from stepd.lane a where a.id = j.lane_id;
	perform stepd._unique_again(j, step);
	insert into stepd.renewal as n (job_id, bucket, attempts_before) values (j.id, j.bucket, o.attempt)
	on conflict (job_id) do update set attempts_before = excluded.attempts_before, renewals = n.renewals + 1, renewed_at = clock_timestamp();
	perform stepd._again(array[j.id], array[j.bucket], array[j.lane_id], array[o.attempt::int]);
	return next j.id;
end $$;
comment on function stepd.retry(bigint) is
'Run a failed or cancelled job again, with max_retries counted anew and its attempts kept; or route an unrouted one, whose topic has subscribers by now. Returns the ids of the jobs that are queued. Raises 22023 for any other job.';

create or replace function stepd._queue(queue text) returns stepd.queue
language plpgsql stable as $$
#variable_conflict use_column
declare
	q stepd.queue;
begin
	if coalesce(_queue.queue, '') = '' then
		perform stepd._bad('queue', 'must not be empty');
	end if;
	select * into q from stepd.queue x where x.name = _queue.queue;
	if not found then
		perform stepd._bad('queue', format('there is no queue "%s"', _queue.queue), 'The view stepd.queues lists them.');
	end if;
	return q;
end $$;
comment on function stepd._queue(text) is 'A queue by name; raises 22023 when there is none.';

create or replace function stepd.retry_queue(queue text) returns bigint
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	q stepd.queue;
	j record;
	r record;
	n bigint;
begin
	if not exists (select from stepd.queue x where x.name = retry_queue.queue) and exists (select from stepd.unrouted u where u.topic = retry_queue.queue) then
		perform stepd._bad('queue', format('topic "%s" has no subscriber yet', retry_queue.queue));
	end if;
	q := stepd._queue(retry_queue.queue);
	-- those that nothing can keep back, all at once; one by one 10,000 take half a minute
	with mine as materialized (
		select o.id, o.bucket from stepd.outcome o join stepd.lane a on a.id = o.lane_id join stepd.job f on f.id = o.id and f.bucket = o.bucket
		where o.status = 'failed' and a.queue_id = q.id and o.attempt < 32767 and f.unique_key is null
		order by o.id for update of o
	), gone as (
		delete from stepd.outcome o using mine m where o.id = m.id and o.bucket = m.bucket and o.status = 'failed'
		returning o.id, o.bucket, o.lane_id, o.attempt
	), renewed as (
		insert into stepd.renewal as n (job_id, bucket, attempts_before)
		select g.id, g.bucket, g.attempt from gone g order by g.id
		on conflict (job_id) do update set attempts_before = excluded.attempts_before, renewals = n.renewals + 1, renewed_at = clock_timestamp()
	)
	select array_agg(g.id order by g.id) as ids, array_agg(g.bucket order by g.id) as buckets, array_agg(g.lane_id order by g.id) as lanes,
		array_agg(g.attempt::int order by g.id) as attempts
	into r from gone g;
	n := coalesce(cardinality(r.ids), 0);
	if n > 0 then
		perform stepd._again(r.ids, r.buckets, r.lanes, r.attempts);
	end if;
	for j in
		select o.id, a.step_id, f.unique_key -- in the order in which keys are taken, see _put_unique
		from stepd.outcome o join stepd.lane a on a.id = o.lane_id join stepd.job f on f.id = o.id and f.bucket = o.bucket
		where o.status = 'failed' and a.queue_id = q.id
		union all
		select u.id, null, null from stepd.unrouted u
		where u.topic = q.name and exists (select from stepd.subscription s where s.topic = q.name)
		order by 2, 3, 1
	loop
		begin
			perform stepd.retry(j.id);
			n := n + 1;
		exception when invalid_parameter_value then
			null; -- it moved on meanwhile, or its unique key is taken
		end;
	end loop;
	return n;
end $$;
comment on function stepd.retry_queue(text) is 'retry() for every failed job of a queue and the unrouted ones of its topic, in order of id. Returns how many.';

create or replace function stepd._pause(queue text, paused boolean) returns boolean
language plpgsql as $$
#variable_conflict use_column
declare
	q stepd.queue := stepd._queue(queue);
begin
	update stepd.queue x set paused = _pause.paused where x.id = q.id and x.paused <> _pause.paused;
	if not found then
		return false;
	end if;
	perform stepd._settings_changed();
	perform stepd._ring('');
	return true;
end $$;
comment on function stepd._pause(text, boolean) is 'Set queue.paused and tell the nodes.';

create or replace function stepd.pause(queue text) returns boolean
language sql as $$ select stepd._pause(queue, true) $$;
comment on function stepd.pause(text) is 'Start no more jobs of a queue, on any node; those that run go on. False: it was paused.';

create or replace function stepd.resume(queue text) returns boolean
language sql as $$ select stepd._pause(queue, false) $$;
comment on function stepd.resume(text) is 'Undo pause(). False: it was not paused.';
