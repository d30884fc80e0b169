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

drop function if exists stepd._effect_items_bad(jsonb, text);
create or replace function stepd._effect_shape(part text) returns jsonb
language sql immutable parallel safe as $$
	select case part
		when 'enqueues' then '{"topic": "string! 255", "data": "any", "priority": "integer -32768 32767", "delay_ms": "number 0 3155760000000",
			"run_at": "string", "group": "string 1000", "unique": "string 1000", "always": "boolean"}'
		when 'states' then '{"op": "set|delete|clear|update!", "group": "string! 1000", "key": "string 1000", "value": "any", "ops": "array"}'
		when 'logs' then '{"at_us": "integer! 0 253402300799000000", "level": "debug|info|warn|error!", "message": "string", "fields": "any"}'
		else '{"job": "integer! -9223372036854775808 9223372036854775807", "enqueues": "array", "states": "array", "logs": "array", "progress": "object"}' end::jsonb
$$;
comment on function stepd._effect_shape(text) is 'The shape of a job''s effects, and of what is in one part of them.';

-- What is seen at one look is said here, element by element.
create or replace function stepd._effects_bad(effects jsonb) returns boolean
language plpgsql as $$
declare
	x record;
begin
	perform stepd._check_objects('effects', effects, stepd._effect_shape('job'));
	for x in
		select format('effects[%s].%s', e.ordinality - 1, part) as at, part, e.value -> part as list
		from jsonb_array_elements(effects) with ordinality e cross join unnest('{enqueues,states,logs}'::text[]) part where e.value ? part
	loop
		perform stepd._check_objects(x.at, x.list, stepd._effect_shape(x.part));
		perform stepd._bad(format('%s[%s].%s', x.at, m.ordinality - 1, m.name), 'must not be empty')
		from (select i.ordinality, case when i.value ->> 'op' <> 'clear' and coalesce(i.value ->> 'key', '') = '' then 'key'
				when i.value ->> 'op' = 'set' and not i.value ? 'value' then 'value'
				when i.value ->> 'unique' = '' then 'unique'
				when x.part = 'logs' and i.value ->> 'message' is null then 'message' end as name
			from jsonb_array_elements(x.list) with ordinality i) m where m.name is not null;
		perform stepd._bad(format('%s[%s].run_at', x.at, i.ordinality - 1), 'is given beside delay_ms; one of them is enough')
		from jsonb_array_elements(x.list) with ordinality i where i.value ->> 'run_at' is not null and i.value ->> 'delay_ms' is not null;
		perform stepd._check_time(format('%s[%s].run_at', x.at, i.ordinality - 1), i.value ->> 'run_at')
		from jsonb_array_elements(x.list) with ordinality i;
		perform stepd._check_data(format('%s[%s].%s', x.at, i.ordinality - 1, m.name), i.value -> m.name)
		from jsonb_array_elements(x.list) with ordinality i cross join unnest('{data,value}'::text[]) m (name);
	end loop;
	return true;
end $$;
comment on function stepd._effects_bad(jsonb) is 'Raise SQLSTATE 22023 for what is wrong with effects; true if nothing is.';

-- Members of enqueues, states and logs that are not known are seen where these are read.
create or replace function stepd._effects_check(effects jsonb, jobs bigint[] default null) returns void
language plpgsql as $$
begin
	if jsonb_typeof(effects) <> 'array' then
		perform stepd._bad('effects', 'is not an array of objects');
	elsif effects @? $p$lax $[*] ? (@.type() != "object" || !(@.job.type() == "number") || @.job.floor() != @.job
			|| @.enqueues.type() != "array" || @.states.type() != "array" || @.logs.type() != "array" || @.progress.type() != "object"
			|| exists(@.enqueues[*] ? (@.type() != "object" || !(@.topic.type() == "string") || @.topic == ""
				|| @.priority.type() != "number" && @.priority.type() != "null" || @.priority.floor() != @.priority || @.priority < -32768 || @.priority > 32767
				|| @.delay_ms.type() != "number" && @.delay_ms.type() != "null" || @.delay_ms < 0 || @.delay_ms > 3155760000000
				|| @.run_at.type() != "string" && @.run_at.type() != "null" || @.run_at.type() == "string" && @.delay_ms.type() == "number"
				|| @.group.type() != "string" && @.group.type() != "null" || @.unique.type() != "string" && @.unique.type() != "null" || @.unique == ""
				|| @.always.type() != "boolean" && @.always.type() != "null"))
			|| exists(@.states[*] ? (@.type() != "object" || !(@.op.type() == "string") || !(@.op == "set" || @.op == "delete" || @.op == "clear" || @.op == "update")
				|| !(@.group.type() == "string") || @.group == "" || @.op != "clear" && (!(@.key.type() == "string") || @.key == "")
				|| @.op == "set" && !(exists(@.value)) || @.ops.type() != "array"))
			|| exists(@.logs[*] ? (@.type() != "object" || !(@.at_us.type() == "number") || !(@.level.type() == "string") || !(@.at_us >= 0 && @.at_us <= 253402300799000000) || @.at_us.floor() != @.at_us
				|| !(@.level == "debug" || @.level == "info" || @.level == "warn" || @.level == "error") || !(@.message.type() == "string"))))$p$
		or exists (select from jsonb_array_elements(effects) e where e.value - '{job,enqueues,states,logs,progress}'::text[] <> '{}') then
		perform stepd._effects_bad(effects);
	elsif jobs is not null then
		perform stepd._bad(format('effects[%s].job', max(e.ordinality) - 1), format('%s is there twice', e.value -> 'job'))
		from jsonb_array_elements(effects) with ordinality e where jsonb_array_length(effects) > 1 group by e.value -> 'job' having count(*) > 1;
		perform stepd._bad(format('effects[%s].job', e.ordinality - 1), format('%s is none of jobs', e.value -> 'job'))
		from jsonb_array_elements(effects) with ordinality e where (e.value ->> 'job')::numeric not in (select unnest(jobs)) or scale((e.value ->> 'job')::numeric) > 0;
	end if;
end $$;
comment on function stepd._effects_check(jsonb, bigint[]) is 'Refuse effects that are none, and those of other jobs than these.';

create or replace function stepd._effect_items(effects jsonb, jobs stepd._effect_job[]) returns stepd._item[]
language plpgsql as $$
#variable_conflict use_column
declare
	now_at timestamptz := clock_timestamp();
begin
	return array(
		select row(row_number() over (order by e.ordinality, q.ordinality), q.value ->> 'topic', null, null, null, q.value -> 'data',
			(q.value ->> 'priority')::int,
			coalesce(now_at + round((q.value ->> 'delay_ms')::numeric, 3)::float8 * interval '1 ms', (q.value ->> 'run_at')::timestamptz),
			q.value ->> 'group', q.value ->> 'unique', j.id, j.trace_id)::stepd._item
		from jsonb_array_elements(effects) with ordinality e
		join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
		cross join lateral (select x.id, x.trace_id from stepd.job x where x.id = h.job_id and x.bucket = h.bucket limit 1) j
		cross join lateral jsonb_array_elements(e.value -> 'enqueues') with ordinality q
		where (h.scope = 'all' or h.scope = 'some' and (q.value ->> 'always')::boolean)
			and (q.value - '{topic,data,priority,delay_ms,run_at,group,unique,always}'::text[] = '{}' or stepd._effects_bad(effects)));
exception when data_exception then
	perform stepd._effects_bad(effects);
	raise;
end $$;
comment on function stepd._effect_items(jsonb, stepd._effect_job[]) is 'What a batch enqueues, as far as each job''s scope goes.';

drop function if exists stepd._effects(jsonb, stepd._effect_job[]);
create or replace function stepd._effects(effects jsonb, jobs stepd._effect_job[], ending bigint[] default null) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	items stepd._item[];
	ops jsonb;
begin
	if effects @? 'lax $[*].enqueues' then
		items := stepd._effect_items(effects, jobs);
	end if;
	if cardinality(items) > 0 then
		if exists (select from unnest(items) e
			where octet_length(e.topic) > 255 or not isfinite(e.run_at) or octet_length(e.group_id) > 1000 or octet_length(e.unique_key) > 1000) then
			perform stepd._effects_bad(effects);
		elsif exists (select from unnest(items) e where pg_column_size(e.data) > 2048) then
			perform stepd._check_data(format('effects[%s].enqueues[%s].data', e.ordinality - 1, q.ordinality - 1), q.value -> 'data')
			from jsonb_array_elements(effects) with ordinality e cross join lateral jsonb_array_elements(e.value -> 'enqueues') with ordinality q
			where pg_column_size(q.value) > 2048;
		end if;
		perform stepd._put(items, ending);
	end if;

	select jsonb_agg(s.value order by e.ordinality, s.ordinality) into ops
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(e.value -> 'states') with ordinality s
	where h.scope in ('all', 'some') and (s.value - '{op,group,key,value,ops}'::text[] = '{}' or stepd._effects_bad(effects));
	if ops is not null then
		if exists (select from jsonb_array_elements(ops) e where octet_length(e.value ->> 'group') > 1000 or octet_length(e.value ->> 'key') > 1000) then
			perform stepd._effects_bad(effects);
		end if;
		perform stepd._state_apply(ops);
	end if;

	perform stepd._check_data(format('effects[%s].logs[%s].fields', e.ordinality - 1, l.ordinality - 1), l.value -> 'fields')
	from jsonb_array_elements(effects) with ordinality e cross join lateral jsonb_array_elements(e.value -> 'logs') with ordinality l
	where pg_column_size(l.value) > 2048;
	insert into stepd.log (job_id, bucket, attempt, at, level, message, fields)
	select h.job_id, h.bucket, h.attempt, to_timestamp((l.value ->> 'at_us')::float8 / 1000000), l.value ->> 'level', l.value ->> 'message', l.value -> 'fields'
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	cross join lateral jsonb_array_elements(e.value -> 'logs') with ordinality l
	where l.value - '{at_us,level,message,fields}'::text[] = '{}' or stepd._effects_bad(effects)
	order by e.ordinality, l.ordinality;

	perform stepd._check_progress(format('effects[%s].progress', e.ordinality - 1), e.value -> 'progress'),
		stepd._progress_put(h.job_id, h.bucket, h.attempt, e.value -> 'progress')
	from jsonb_array_elements(effects) with ordinality e
	join unnest(jobs) h on h.job_id = (e.value ->> 'job')::bigint
	where e.value ? 'progress';
end $$;
comment on function stepd._effects(jsonb, stepd._effect_job[], bigint[]) is 'Apply the effects of a batch, which _effects_check() has seen, as far as each job''s scope goes. ending: those of them that end now and have a unique key.';
