-- Repeatable.
--
-- What people and programs read.
--
-- stepd.jobs is the union of the places a job can be in, each joined with the
-- job's facts.  A condition on id, trace_id or status goes down into every
-- branch, so a look-up costs a few probes, and counting one status reads that
-- place alone.

create or replace view stepd._held_job as
select u.id, u.bucket, u.attempt, l.lane_id, l.node_id, l.since,
	u.ord = 1 and row_number() over (partition by l.node_id, l.slot, l.generation, u.ord order by l.id) = 1 as running, l.slot, l.generation
from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) with ordinality u (id, bucket, attempt, ord);
comment on view stepd._held_job is 'Every job in a lease; running: it is the first of its worker''s oldest lease.';

create or replace view stepd.jobs as
-- ended
select j.id, coalesce(q.name, j.topic) as queue, s.name as step, o.status, j.priority::int as priority, j.group_id, j.unique_key,
	o.attempt::int as attempt, o.max_attempts::int as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	o.started_at, o.finished_at, o.finished_at - o.started_at as duration, j.input, o.output,
	o.error, j.trigger, j.parent_id, j.trace_id, n.name as node, o.pid,
	(select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id) as progress
from stepd.outcome o
join stepd.job j on j.id = o.id and j.bucket = o.bucket
left join stepd.lane a on a.id = j.lane_id
left join stepd.queue q on q.id = a.queue_id
left join stepd.step s on s.id = a.step_id
left join stepd.node n on n.id = o.node_id
union all
-- ready
select j.id, q.name as queue, s.name as step, 'ready' as status, j.priority::int as priority, j.group_id, j.unique_key,
	r.attempt::int as attempt, stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = j.id)) as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	null::timestamptz as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	case when r.attempt > 0 then (select t.error from stepd.attempt t where t.job_id = j.id and t.bucket = j.bucket order by t.attempt desc limit 1) end as error, j.trigger, j.parent_id, j.trace_id, null::text as node, null::int as pid,
	case when r.attempt > 0 then (select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id) end as progress
from stepd.ready r
join stepd.job j on j.id = r.pos and j.bucket = r.bucket and j.lane_id = r.lane_id and r.rank = any (array[0, -1, 40000, -j.priority::int])
join stepd.lane a on a.id = r.lane_id
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
union all
-- waiting for its time
select j.id, q.name as queue, s.name as step, case w.kind when 'retrying' then 'retrying' else 'scheduled' end as status, j.priority::int as priority, j.group_id, j.unique_key,
	w.attempt::int as attempt, stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = j.id)) as max_attempts, j.enqueued_at, w.run_at as run_at,
	null::timestamptz as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	case when w.attempt > 0 then (select t.error from stepd.attempt t where t.job_id = j.id and t.bucket = j.bucket order by t.attempt desc limit 1) end as error, j.trigger, j.parent_id, j.trace_id, null::text as node, null::int as pid,
	case when w.attempt > 0 then (select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id) end as progress
from stepd.waiting w
join stepd.job j on j.id = w.id and j.bucket = w.bucket
join stepd.lane a on a.id = w.lane_id
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
union all
-- held by a worker
select j.id, q.name as queue, s.name as step, case when h.running then 'running' else 'ready' end as status, j.priority::int as priority, j.group_id, j.unique_key,
	h.attempt + h.running::int as attempt, stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = j.id)) as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	case when h.running then h.since end as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	case when h.attempt > 0 then (select t.error from stepd.attempt t where t.job_id = j.id and t.bucket = j.bucket order by t.attempt desc limit 1) end as error, j.trigger, j.parent_id, j.trace_id, case when h.running then n.name end as node,
	case when h.running then (select w.pid from stepd.worker w where w.node_id = h.node_id and w.slot = h.slot and w.generation = h.generation) end as pid,
	(select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id and p.attempt = h.attempt + h.running::int) as progress
from stepd._held_job h
join stepd.job j on j.id = h.id and j.bucket = h.bucket
join stepd.lane a on a.id = h.lane_id
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
left join stepd.node n on n.id = h.node_id
union all
-- fifo, not sorted yet
select j.id, q.name as queue, s.name as step, 'ready' as status, j.priority::int as priority, j.group_id, j.unique_key,
	i.attempt::int as attempt, stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = j.id)) as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	null::timestamptz as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	null::text as error, j.trigger, j.parent_id, j.trace_id, null::text as node, null::int as pid,
	case when i.attempt > 0 then (select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id) end as progress
from stepd.fifo_inbox i
join stepd.job j on j.id = i.id and j.bucket = i.bucket
join stepd.lane a on a.id = i.lane_id
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
where not i.ended
union all
-- fifo, behind the head of its group
select j.id, q.name as queue, s.name as step, 'ready' as status, j.priority::int as priority, j.group_id, j.unique_key,
	b.attempt::int as attempt, stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = j.id)) as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	null::timestamptz as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	null::text as error, j.trigger, j.parent_id, j.trace_id, null::text as node, null::int as pid,
	case when b.attempt > 0 then (select p.progress || jsonb_build_object('attempt', p.attempt, 'at', p.at) from stepd.progress p where p.job_id = j.id) end as progress
from stepd.fifo_backlog b
join stepd.job j on j.id = b.id and j.bucket = b.bucket
join stepd.lane a on a.id = b.lane_id
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
union all
-- without a subscriber
select j.id, u.topic as queue, null::text as step, 'unrouted' as status, j.priority::int as priority, j.group_id, j.unique_key,
	0 as attempt, null::int as max_attempts, j.enqueued_at, coalesce(j.run_at, j.enqueued_at) as run_at,
	null::timestamptz as started_at, null::timestamptz as finished_at, null::interval as duration, j.input, null::jsonb as output,
	null::text as error, j.trigger, j.parent_id, j.trace_id, null::text as node, null::int as pid, null::jsonb as progress
from stepd.unrouted u
join stepd.job j on j.id = u.id and j.bucket = u.bucket;
comment on view stepd.jobs is 'Every job, live and past.';
comment on column stepd.jobs.id is 'Grows in the order of enqueues.';
comment on column stepd.jobs.queue is 'The topic it was enqueued on, or its steps own queue (cron, http).';
comment on column stepd.jobs.step is 'Null while unrouted.';
comment on column stepd.jobs.status is 'scheduled, ready, running, retrying, completed, failed, cancelled, skipped or unrouted.';
comment on column stepd.jobs.priority is 'Higher first, in priority queues.';
comment on column stepd.jobs.group_id is 'Order is kept within it, in fifo queues.';
comment on column stepd.jobs.unique_key is 'No second job of the step has it while this one is unfinished.';
comment on column stepd.jobs.attempt is 'Attempts begun so far.';
comment on column stepd.jobs.max_attempts is 'Attempts it may have in all.';
comment on column stepd.jobs.enqueued_at is 'When enqueue was called.';
comment on column stepd.jobs.run_at is 'Not before this time; of a retrying job: when it comes again.';
comment on column stepd.jobs.started_at is 'Start of the last attempt.';
comment on column stepd.jobs.finished_at is 'When it ended.';
comment on column stepd.jobs.duration is 'Of the last attempt.';
comment on column stepd.jobs.input is 'The data it was enqueued with.';
comment on column stepd.jobs.output is 'What the handler returned.';
comment on column stepd.jobs.error is 'Of the last attempt.';
comment on column stepd.jobs.trigger is 'queue, http or cron.';
comment on column stepd.jobs.parent_id is 'The job whose handler enqueued it.';
comment on column stepd.jobs.trace_id is 'Shared by all jobs of one workflow run.';
comment on column stepd.jobs.node is 'Name of the node that runs or ran it.';
comment on column stepd.jobs.pid is 'Of the worker that runs it or ended it.';
comment on column stepd.jobs.progress is 'What its handler reported last with stepd_progress(), null: nothing (of a running job: in this attempt). An object: percent (0 to 100), message and fields as far as it gave them; attempt, the one that reported it; at, when.';

create or replace view stepd.attempts as
select t.job_id, t.attempt, t.started_at, t.finished_at, t.outcome, t.error, t.exit_code, t.signal, t.max_rss_kb, t.cpu_ms,
	n.name as node, t.pid
from stepd.attempt t
left join stepd.node n on n.id = t.node_id;
comment on view stepd.attempts is 'Every attempt that did not simply succeed.';
comment on column stepd.attempts.attempt is 'From 1.';
comment on column stepd.attempts.outcome is 'error, timeout (past its time, or a memory or CPU limit: error says which), crashed, invalid_input, cancelled or lost (its node vanished, or its worker died of another job before the outcome was stored).';
comment on column stepd.attempts.exit_code is 'Of the worker, when it died in this attempt by itself.';
comment on column stepd.attempts.signal is 'The signal that ended the worker.';
comment on column stepd.attempts.max_rss_kb is 'Peak memory of the worker that died or was ended.';
comment on column stepd.attempts.cpu_ms is 'CPU time of the worker that died or was ended, in its whole life.';

create or replace view stepd.logs as
select g.job_id, g.attempt, g.at, g.level, g.message, g.fields, s.name as step, j.trace_id
from stepd.log g
join stepd.job j on j.id = g.job_id and j.bucket = g.bucket
left join stepd.lane a on a.id = j.lane_id
left join stepd.step s on s.id = a.step_id;
comment on view stepd.logs is 'What handlers logged.';
comment on column stepd.logs.level is 'debug, info, warn or error.';

create or replace view stepd.queues as
select q.name, q.strategy, q.paused,
	coalesce(r.n, 0) + coalesce(h.ready, 0) + coalesce(i.n, 0) + coalesce(b.n, 0) as ready,
	coalesce(w.scheduled, 0) as scheduled, coalesce(h.running, 0) as running, coalesce(w.retrying, 0) as retrying,
	coalesce(f.n, 0) as failed,
	clock_timestamp() - (select j.enqueued_at from stepd.job j
		where j.id = least(r.oldest, h.oldest, i.oldest, b.oldest)) as oldest_ready_age,
	q.max_retries, q.retry_delay_ms, q.backoff, q.max_retry_delay_ms, q.jitter, q.max_concurrency, q.timeout_ms, q.rate_limit,
	q.rate_window_ms, q.concurrency_per_group, q.history_ms, q.overrides
from stepd.queue q
left join (select a.queue_id, sum(x.n)::bigint as n, min(x.oldest) as oldest
	from (select lane_id, count(*) as n, min(pos) as oldest from stepd.ready group by lane_id) x
	join stepd.lane a on a.id = x.lane_id group by a.queue_id) r on r.queue_id = q.id
left join (select a.queue_id, count(*) filter (where x.running) as running, count(*) filter (where not x.running) as ready,
		min(x.id) filter (where not x.running) as oldest
	from stepd._held_job x join stepd.lane a on a.id = x.lane_id group by a.queue_id) h on h.queue_id = q.id
left join (select queue_id, count(*) as n, min(id) as oldest from stepd.fifo_inbox where not ended group by queue_id) i on i.queue_id = q.id
left join (select queue_id, count(*) as n, min(id) as oldest from stepd.fifo_backlog group by queue_id) b on b.queue_id = q.id
left join (select a.queue_id, sum(x.scheduled)::bigint as scheduled, sum(x.retrying)::bigint as retrying
	from (select lane_id, count(*) filter (where kind <> 'retrying') as scheduled, count(*) filter (where kind = 'retrying') as retrying
		from stepd.waiting group by lane_id) x
	join stepd.lane a on a.id = x.lane_id group by a.queue_id) w on w.queue_id = q.id
left join (select a.queue_id, sum(x.n)::bigint as n
	from (select lane_id, count(*) as n from stepd.outcome where status = 'failed' group by lane_id) x
	join stepd.lane a on a.id = x.lane_id group by a.queue_id) f on f.queue_id = q.id;
comment on view stepd.queues is 'Every queue with its settings and how many jobs it has in which status; counted when read.';
comment on column stepd.queues.overrides is 'The settings among them that were changed by hand, with stepd.queue_set or stepctl queue set.';
comment on column stepd.queues.failed is 'In the history that is kept; stepd.jobs lists the same.';
comment on column stepd.queues.oldest_ready_age is 'How long ago the oldest ready job was enqueued.';

-- A function, since the plan of stepd.jobs for thousands of schedules at once
-- would be compiled for seconds (jit) to run for milliseconds.  With its owner's
-- rights, since a function in a view, unlike a table in it, is used with those
-- of whoever reads the view; by schedule, so that it tells of no other job.
create or replace function stepd._last_outcome(schedule_id int) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare
	last bigint := (select c.last_job_id from stepd.schedule c where c.id = schedule_id);
	result text;
begin
	select o.status into result from stepd.outcome o where o.id = last;
	if not found then
		select j.status into result from stepd.jobs j where j.id = last;
	end if;
	return result;
end $$;
comment on function stepd._last_outcome(int) is 'stepd.jobs.status of a schedule''s last job; null: it is forgotten.';

create or replace view stepd.schedules as
select s.name as step, c.expression, c.timezone, case when not c.paused then c.next_run end as next_run, c.last_run, c.last_job_id,
	c.paused, c.trigger_index,
	case when c.last_job_id is not null then stepd._last_outcome(c.id) end as last_outcome,
	c.description, c.missed, c.catch_up_ms * interval '1 ms' as catch_up_limit, c.overlap, c.skipped
from stepd.schedule c join stepd.step s on s.id = c.step_id
where not c.retired;
drop function if exists stepd._job_status(bigint); -- what the view used before
comment on view stepd.schedules is 'Every cron trigger.';
comment on column stepd.schedules.last_outcome is 'Status of last_job_id: how it ended, or where it stands. Null: it never ran, or the job is older than the history that is kept.';
comment on column stepd.schedules.description is 'The expression in words.';
comment on column stepd.schedules.missed is 'What becomes of ticks of a time when no daemon ran: skip, one (the newest runs) or all.';
comment on column stepd.schedules.catch_up_limit is 'Missed ticks older than this are let go.';
comment on column stepd.schedules.overlap is 'skip: a tick makes no job while the one before is unfinished. allow: it does.';
comment on column stepd.schedules.skipped is 'Ticks that were left out because of that.';
comment on column stepd.schedules.last_run is 'Its newest tick that became a job.';

create or replace view stepd.steps as
select s.name, s.description, s.kind, s.file, s.flows, s.enqueues, s.triggers,
	array(select p.node_name from stepd.step_provider p where p.step_id = s.id
		and exists (select from stepd.node n where n.name = p.node_name and stepd._node_lives(n)) order by 1) as nodes,
	not exists (select from stepd.step_provider p where p.step_id = s.id) as retired, s.updated_at
from stepd.step s;
comment on view stepd.steps is 'Every step, with its triggers and their schemas.';
comment on column stepd.steps.nodes is 'Names of the nodes that are alive and whose configuration has it.';
comment on column stepd.steps.retired is 'No node has it any more: its topics are unsubscribed, its jobs stay.';

create or replace view stepd.nodes as
select n.id, n.name,
	case when n.left_at is not null then 'left' when n.lost_at is not null then 'lost'
		when stepd._node_lives(n) then 'alive' else 'silent' end as status,
	n.pid, n.version, n.joined_at, n.heartbeat_at, coalesce(n.left_at, n.lost_at) as ended_at,
	(select count(*) filter (where h.running) from stepd._held_job h where h.node_id = n.id) as running,
	(select count(*) from stepd._held_job h where h.node_id = n.id) as held,
	n.listening, n.lease_ms, n.boot_id
from stepd.node n;
comment on view stepd.nodes is 'Every start of a daemon that is still remembered.';
comment on column stepd.nodes.status is 'alive; silent: its lease has run out and it will be declared lost; lost; left: it stopped in order.';
comment on column stepd.nodes.running is 'Jobs that its workers run.';
comment on column stepd.nodes.held is 'Jobs that its workers have claimed, the running ones included.';

-- With its owner's rights: who may look at some of stepd.jobs is to know where it begins and ends, and no more.
create or replace function stepd._job_span(out first bigint, out last bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
	select min(j.id), max(j.id) into first, last from stepd.job j;
end $$;
comment on function stepd._job_span() is 'The lowest and the highest id in stepd.jobs; null: there is none.';

/*
 * To sort the view for its last rows takes seconds for each million of jobs that are kept.  So it is read from its end, in
 * pieces that grow, until enough was found.  A status that few jobs have, or a trace, has an index and needs no pieces.
 */
create or replace function stepd.latest_jobs(most int, queue text default null, step text default null, status text default null, trace_id uuid default null)
returns setof bigint
language plpgsql stable
set jit = off as $$
#variable_conflict use_column
declare
	find constant text := 'select id from stepd.jobs where id between $1 and $2'
		|| case when latest_jobs.queue is not null then ' and queue = $4' else '' end
		|| case when latest_jobs.step is not null then ' and step = $5' else '' end
		|| case when latest_jobs.status is not null then ' and status = $6' else '' end
		|| case when latest_jobs.trace_id is not null then ' and trace_id = $7' else '' end
		|| ' order by id desc limit $3';
	indexed constant boolean := latest_jobs.trace_id is not null or coalesce(latest_jobs.status, 'completed') <> 'completed';
	wanted int := most;
	width bigint := greatest(most * 2::bigint, 500);
	span record;
	hi bigint;
	found_now bigint;
begin
	perform stepd._required('{most}', most is null);
	perform stepd._check_range('most', most, 1, 10000000);
	if latest_jobs.status <> all ('{scheduled,ready,running,retrying,completed,failed,cancelled,skipped,unrouted}') then
		perform stepd._bad('status', format('%L is none of scheduled, ready, running, retrying, completed, failed, cancelled, skipped, unrouted', left(latest_jobs.status, 60)));
	end if;
	select * into span from stepd._job_span();
	hi := span.last;
	while wanted > 0 and hi >= span.first loop
		return query execute find
			using case when indexed then span.first else hi - width + 1 end, hi, wanted, latest_jobs.queue, latest_jobs.step, latest_jobs.status, latest_jobs.trace_id;
		exit when indexed;
		get diagnostics found_now = row_count;
		wanted := wanted - found_now;
		hi := hi - width;
		width := width * 4;
	end loop;
end $$;
comment on function stepd.latest_jobs(int, text, text, text, uuid) is
	'The ids of the newest jobs, newest first, at most so many; of that queue, step, status and trace where given. For select … from stepd.jobs where id = any (array(select stepd.latest_jobs(50))), which does not sort all there are: it takes milliseconds unless what is sought is rare, far back, or one status of very many.';
