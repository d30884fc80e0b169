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
-- batch before any is written, and unique keys are taken in order, before the
-- batch gives up those of its own jobs, so two workers' batches do not deadlock
-- on what exists already.  What remains (two
-- batches that create the same keys crosswise) PostgreSQL detects, and the
-- worker tries again.

drop type if exists stepd._effect_job cascade;
create type stepd._effect_job as (job_id bigint, bucket date, attempt int, scope text);
comment on type stepd._effect_job is 'How much of a job''s effects counts: scope is all, some or logs.';

-- Which of the enqueues could not be read; said only when one could not.
create or replace function stepd._effect_items_bad(effects jsonb, said text) returns void
language plpgsql as $$
declare
	m record;
begin
	for m in
		select k.key, k.value, case when k.key = 'always' then case when jsonb_typeof(k.value) <> 'boolean' then 'is neither true nor false' end
			when k.key <> 'run_at' then stepd._item_problem(k.key, k.value) end as problem
		from jsonb_array_elements(effects) with ordinality e
		cross join lateral jsonb_array_elements(stepd._list_of('effects.enqueues', e.value, 'enqueues')) with ordinality q
		cross join lateral jsonb_each(case when jsonb_typeof(q.value) = 'object' then q.value - '{topic,data}'::text[] else '{}' end) k
		order by e.ordinality, q.ordinality
	loop
		if m.key = 'run_at' then
			begin
				perform (m.value #>> '{}')::timestamptz;
			exception when data_exception then
				m.problem := sqlerrm;
			end;
		end if;
		if m.problem is not null then
			perform stepd._bad('effects.enqueues.' || m.key, m.problem);
		end if;
	end loop;
	perform stepd._bad('effects.enqueues', said);
end $$;
comment on function stepd._effect_items_bad(jsonb, text) is 'Raise SQLSTATE 22023 for what cannot be read among the enqueues of effects.';

create or replace function stepd._effect_items(effects jsonb, jobs stepd._effect_job[]) returns stepd._item[]
language plpgsql as $$
#variable_conflict use_column
declare
	now_at timestamptz := clock_timestamp();
begin
	return array(
		select row(row_number() over (order by e.ordinality, q.ordinality), q.value ->> 'topic', null, null, null, q.value -> 'data',
			(q.value ->> 'priority')::int,
			case when q.value ? 'delay_ms' then now_at + (q.value ->> 'delay_ms')::float8 * interval '1 ms'
				else (q.value ->> 'run_at')::timestamptz end,
			q.value ->> 'group', q.value ->> 'unique', j.id, j.trace_id)::stepd._item
		from jsonb_array_elements(effects) with ordinality e
		join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
		cross join lateral (select x.id, x.trace_id from stepd.job x where x.id = h.job_id and x.bucket = h.bucket limit 1) j
		cross join lateral jsonb_array_elements(stepd._list_of('effects.enqueues', e.value, 'enqueues')) with ordinality q
		where h.scope = 'all' or (h.scope = 'some' and (q.value ->> 'always')::boolean));
exception when data_exception then
	if sqlstate = '22023' then -- said already
		raise;
	end if;
	perform stepd._effect_items_bad(effects, sqlerrm);
end $$;
comment on function stepd._effect_items(jsonb, stepd._effect_job[]) is 'What a batch enqueues, as far as each job''s scope goes.';

drop function if exists stepd._effects(jsonb, stepd._effect_job[]);
create or replace function stepd._effects(effects jsonb, jobs stepd._effect_job[], ending bigint[] default null) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	items stepd._item[];
	ops jsonb;
	bad record;
begin
	if jsonb_typeof(effects) <> 'array' then
		perform stepd._bad('effects', 'is not an array');
	elsif effects @? 'lax $[*] ? (@.type() != "object" || !(@.job >= 1 && @.job <= 9223372036854775807 && @.job.floor() == @.job))' then
		perform stepd._bad('effects', 'has an element that is not an object with a job''s id as "job"');
	end if;

	if effects @? 'lax $[*].enqueues' then
		items := stepd._effect_items(effects, jobs);
	end if;
	if cardinality(items) > 0 then
		for bad in
			select row(e.*)::stepd._item as item from unnest(items) e
			where e.topic is null or e.topic = '' or octet_length(e.topic) > 255 or e.priority not between -32768 and 32767
				or not isfinite(e.run_at) or octet_length(e.group_id) > 1000 or e.unique_key = '' or octet_length(e.unique_key) > 1000
		loop
			perform stepd._check_topic((bad.item).topic, 'effects.enqueues.topic');
			perform stepd._check_item(bad.item, 'effects.enqueues.');
		end loop;
		perform stepd._put(items, ending);
	end if;

	select jsonb_agg(s.value order by e.ordinality, s.ordinality) into ops
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(stepd._list_of('effects.states', e.value, 'states')) with ordinality s
	where h.scope in ('all', 'some');
	if ops is not null then
		perform stepd._state_apply(ops);
	end if;

	insert into stepd.log (job_id, bucket, attempt, at, level, message, fields)
	select h.job_id, h.bucket, h.attempt,
		to_timestamp(case when l.value -> 'at_us' between '0' and '253402300799000000' then (l.value ->> 'at_us')::float8
			else stepd._refuse('effects.logs.at_us', 'is no time from 1970 to 9999')::float8 end / 1000000),
		case when l.value ->> 'level' in ('debug', 'info', 'warn', 'error') then l.value ->> 'level'
			else stepd._refuse('effects.logs.level', 'is none of debug, info, warn, error') end,
		coalesce(l.value ->> 'message', stepd._refuse('effects.logs.message', 'must not be null')), l.value -> 'fields'
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(stepd._list_of('effects.logs', e.value, 'logs')) with ordinality l
	order by e.ordinality, l.ordinality;

	perform stepd._check_progress('effects.progress', e.value -> 'progress'), stepd._progress_put(h.job_id, h.bucket, h.attempt, e.value -> 'progress')
	from jsonb_array_elements(effects) e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	where e.value ? 'progress';
end $$;
comment on function stepd._effects(jsonb, stepd._effect_job[], bigint[]) is 'Apply the effects of a batch, as far as each job''s scope goes. ending: those of them that end now and have a unique key.';
