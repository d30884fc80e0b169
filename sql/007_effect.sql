-- Repeatable.
--
-- Effects: what a handler left behind, applied with its outcome.
--
-- The worker sends one JSON array for a batch, one element for each job that
-- has any: {"job": ID, "enqueues": [...], "states": [...], "logs": [...], "progress": {...}}.
--   enqueues: {"topic":T,"data":V,"priority":N,"delay_ms":N,"run_at":S,"group":S,"unique":S,"always":true}
--   states:   {"op":"set","group":G,"key":K,"value":V} | {"op":"delete","group":G,"key":K}
--             | {"op":"clear","group":G} | {"op":"update","group":G,"key":K,"ops":[...]}
--   logs:     {"at_us":N,"level":"info","message":S,"fields":V}
--   progress: as in stepd.progress
-- Absent members are left out.
--
-- How much of it counts depends on how the attempt ended:
--   all   completed
--   some  error, fail, snooze, cancelled by the handler: states, logs, and the enqueues marked "always"
--   logs  cancelled from outside: the logs
-- What it reported last as its progress always does.
--
-- Anything the database refuses raises, and takes the whole call with it; the
-- worker then sends the batch again one by one and fails the one job.
--
-- Locks.  State rows are locked in the order of (group, key) over the whole
-- batch before any is written, and unique keys are taken in order, so two
-- workers' batches do not deadlock on what exists already.  What remains (two
-- batches that create the same keys crosswise) PostgreSQL detects, and the
-- worker tries again.

drop type if exists stepd._effect_job cascade;
create type stepd._effect_job as (job_id bigint, bucket date, attempt int, scope text);
comment on type stepd._effect_job is 'How much of a job''s effects counts: scope is all, some or logs.';

create or replace function stepd._effects(effects jsonb, jobs stepd._effect_job[]) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	items stepd._item[];
	ops jsonb;
	now_at timestamptz := clock_timestamp();
	bad record;
begin
	if jsonb_typeof(effects) <> 'array' then
		perform stepd._bad('effects', 'is not an array');
	end if;

	items := array(
		select row(row_number() over (order by e.ordinality, q.ordinality), q.value ->> 'topic', null, null, null, q.value -> 'data',
			(q.value ->> 'priority')::int,
			case when q.value ? 'delay_ms' then now_at + (q.value ->> 'delay_ms')::float8 * interval '1 ms'
				else (q.value ->> 'run_at')::timestamptz end,
			q.value ->> 'group', q.value ->> 'unique', j.id, j.trace_id)::stepd._item
		from jsonb_array_elements(effects) with ordinality e
		join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
		join stepd.job j on j.id = h.job_id and j.bucket = h.bucket
		cross join lateral jsonb_array_elements(coalesce(e.value -> 'enqueues', '[]')) with ordinality q
		where h.scope = 'all' or (h.scope = 'some' and (q.value ->> 'always')::boolean));
	if cardinality(items) > 0 then
		for bad in
			select row(e.*)::stepd._item as item from unnest(items) e
			where e.topic is null or e.topic = '' or octet_length(e.topic) > 255 or e.priority not between -32768 and 32767
				or not isfinite(e.run_at) or octet_length(e.group_id) > 1000 or e.unique_key = '' or octet_length(e.unique_key) > 1000
		loop
			perform stepd._check_topic((bad.item).topic);
			perform stepd._check_item(bad.item, 'effects.enqueues.');
		end loop;
		perform stepd._put(items);
	end if;

	select jsonb_agg(s.value order by e.ordinality, s.ordinality) into ops
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(coalesce(e.value -> 'states', '[]')) with ordinality s
	where h.scope in ('all', 'some');
	if ops is not null then
		perform stepd._state_apply(ops);
	end if;

	insert into stepd.log (job_id, bucket, attempt, at, level, message, fields)
	select h.job_id, h.bucket, h.attempt, to_timestamp((l.value ->> 'at_us')::float8 / 1000000), l.value ->> 'level',
		l.value ->> 'message', l.value -> 'fields'
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(coalesce(e.value -> 'logs', '[]')) with ordinality l
	order by e.ordinality, l.ordinality;

	perform stepd._progress_put(h.job_id, h.bucket, h.attempt, e.value -> 'progress')
	from jsonb_array_elements(effects) e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	where jsonb_typeof(e.value -> 'progress') = 'object';
end $$;
comment on function stepd._effects(jsonb, stepd._effect_job[]) is 'Apply the effects of a batch, as far as each job''s scope goes.';
