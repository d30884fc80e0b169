-- Repeatable.
--
-- HTTP triggers: runs that were answered at once, and bodies kept as jobs.

drop function if exists stepd._http_lane(text);
create or replace function stepd._http_lane(step text, trigger_index int, argument text) returns int
language plpgsql stable as $$
#variable_conflict use_column
declare
	result int;
begin
	select a.id into result
	from stepd.step s join stepd.queue q on q.name = s.name join stepd.lane a on a.queue_id = q.id and a.step_id = s.id
	where s.name = _http_lane.step;
	if result is null then
		perform stepd._bad(argument, case when exists (select from stepd.step s where s.name = _http_lane.step) then format('"%s" has no http trigger', _http_lane.step)
			else format('%s is not known', coalesce('"' || _http_lane.step || '"', 'null')) end);
	end if;
	perform stepd._check_range('trigger_index', _http_lane.trigger_index, 0, 32767);
	return result;
end $$;
comment on function stepd._http_lane(text, int, text) is 'The lane of a step''s own queue, for a trigger of it: whether the step has that trigger still is not asked, since a run may end after a reload took it away.';

create or replace function stepd.http_finish(node_id int, pid int, step text, trigger_index int, trace_id uuid, outcome text, age_us bigint,
	duration_us bigint, input text, output text, error text, effects text) returns bigint
language plpgsql
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	lane int := stepd._http_lane(step, http_finish.trigger_index, 'step');
	id bigint := nextval('stepd.job_id');
	bucket date := stepd._today();
	at timestamptz := clock_timestamp();
	started timestamptz;
	finished timestamptz;
	given jsonb := coalesce(stepd._json('input', http_finish.input), 'null');
	result jsonb := stepd._json('output', http_finish.output);
	e jsonb := stepd._json('effects', http_finish.effects);
begin
	perform stepd._required('{node_id,trigger_index}', http_finish.node_id is null, http_finish.trigger_index is null);
	perform stepd._check_range('node_id', http_finish.node_id, 0, 2147483647), stepd._check_range('pid', http_finish.pid, 1, 2147483647);
	perform stepd._check_range('age_us', http_finish.age_us, 0, 3155760000000000), stepd._check_range('duration_us', http_finish.duration_us, 0, 3155760000000000);
	perform stepd._check_run('duration_us', array[coalesce(http_finish.age_us, 0)], array[http_finish.duration_us]);
	perform stepd._check_data('input', given), stepd._check_data('output', result);
	started := at - coalesce(age_us, 0) * interval '1 us';
	finished := at - coalesce(age_us - duration_us, 0) * interval '1 us';
	if http_finish.outcome is null or http_finish.outcome not in ('completed', 'error', 'fail', 'timeout', 'crashed', 'invalid_input', 'cancelled', 'skipped') then
		perform stepd._bad('outcome', format('%s is none of completed, error, fail, timeout, crashed, invalid_input, cancelled, skipped',
			coalesce(quote_literal(http_finish.outcome), 'null')));
	end if;
	insert into stepd.job (id, bucket, lane_id, trigger, trigger_index, enqueued_at, trace_id, input)
	values (id, bucket, lane, 'http', http_finish.trigger_index, started,
		coalesce(http_finish.trace_id, overlay(gen_random_uuid()::text placing stepd._trace_prefix() from 1 for 15)::uuid),
		given);
	insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, started_at, finished_at, output, error, node_id, pid)
	values (id, bucket, lane, case when http_finish.outcome in ('completed', 'cancelled', 'skipped') then http_finish.outcome else 'failed' end,
		1, 1, started, finished, result, http_finish.error, http_finish.node_id, http_finish.pid);
	if http_finish.outcome not in ('completed', 'skipped') then
		insert into stepd.attempt (job_id, bucket, attempt, started_at, finished_at, outcome, error, node_id, pid)
		values (id, bucket, 1, started, finished, case when http_finish.outcome = 'fail' then 'error' else http_finish.outcome end,
			http_finish.error, http_finish.node_id, http_finish.pid);
	end if;
	if e is not null and http_finish.outcome in ('completed', 'error', 'fail', 'cancelled', 'skipped') then
		-- one run: whatever number the caller gave it
		e := case when jsonb_typeof(e) = 'object' then jsonb_build_array(e) else e end;
		perform stepd._check_objects('effects', e, stepd._effect_shape('job') || '{"job": "any"}');
		select jsonb_agg(x.value || jsonb_build_object('job', id) order by x.ordinality) into e from jsonb_array_elements(e) with ordinality x;
		if e is not null then
			perform stepd._effects_check(e), stepd._effects(e, array[row(id, bucket, 1,
				case when http_finish.outcome = 'completed' then 'all' else 'some' end)::stepd._effect_job]);
		end if;
	end if;
	return id;
end $$;
comment on function stepd.http_finish(int, int, text, int, uuid, text, bigint, bigint, text, text, text, text) is
'Record a run of an http trigger that was answered at once: a job of the step''s own queue that has ended already, with its effects, in one transaction. outcome: completed, error, fail, timeout, crashed, ...; no retries. effects as in finish(), with any "job". Returns the job''s id, the parent of what it enqueued.';

drop function if exists stepd.http_died(int, int, text, int, uuid, text, bigint, bigint, text, text, int, int, bigint, bigint);
create or replace function stepd.http_died(node_id int, pid int, step text, trigger_index int, trace_id uuid, error_id uuid, outcome text,
	age_us bigint, duration_us bigint, input text, error text, exit_code int, signal int, max_rss_kb bigint, cpu_ms bigint) returns bigint
language plpgsql
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	id bigint;
	bucket date;
	named text := format('%s (error id %s)', http_died.error, http_died.error_id);
begin
	perform stepd._required('{trace_id,error_id}', http_died.trace_id is null, http_died.error_id is null);
	if http_died.outcome is null or http_died.outcome not in ('crashed', 'timeout') then
		perform stepd._bad('outcome', format('%s is none of crashed, timeout', coalesce(quote_literal(http_died.outcome), 'null')));
	end if;
	perform stepd._check_end(http_died.exit_code, http_died.signal, http_died.max_rss_kb, http_died.cpu_ms, http_died.pid);
	-- who asks again may do so before the first transaction has ended
	perform pg_advisory_xact_lock(1937007986, hashtext(http_died.error_id::text));
	select j.id, j.bucket into id, bucket
	from stepd.job j join stepd.outcome o on o.id = j.id and o.bucket = j.bucket
	where j.trace_id = http_died.trace_id and o.error like '%(error id ' || http_died.error_id || ')';
	if not found then
		id := stepd.http_finish(node_id, pid, step, trigger_index, trace_id, outcome, age_us, duration_us, input, null, named, null);
		bucket := stepd._today();
	end if;
	update stepd.attempt t
	set exit_code = coalesce(t.exit_code, http_died.exit_code), signal = coalesce(t.signal, http_died.signal),
		max_rss_kb = coalesce(t.max_rss_kb, http_died.max_rss_kb), cpu_ms = coalesce(t.cpu_ms, http_died.cpu_ms)
	where t.job_id = id and t.bucket = bucket;
	return id;
end $$;
comment on function stepd.http_died(int, int, text, int, uuid, uuid, text, bigint, bigint, text, text, int, int, bigint, bigint) is
'Record a run of an http trigger whose worker died in it or was ended, as http_finish() does, with what is known of the death. outcome: crashed or timeout. The error id is the run''s, also in its reply and in the log, and becomes a part of the error; a run that is recorded already is not recorded again, so a call may be repeated. Returns the job''s id.';

-- Bodies kept as jobs.
--
-- An idempotency key belongs to a step.  Requests with the same key wait for
-- each other at the key's row, in the order of step and key, so that two calls
-- cannot deadlock; the row is taken before the job is made and gets its number
-- afterwards.

drop function if exists stepd._http_lanes(text[]);
create or replace function stepd._http_lanes(steps text[], trigger_indexes int[]) returns table (step text, lane int)
language plpgsql stable as $$
#variable_conflict use_column
begin
	return query
		select d.s, stepd._http_lane(d.s, d.t, format('steps[%s]', d.ord))
		from (select u.s, max(u.t) as t, min(u.ord) as ord from unnest(steps, trigger_indexes) with ordinality u (s, t, ord) group by u.s) d;
end $$;
comment on function stepd._http_lanes(text[], int[]) is 'The lanes of steps'' own queues, each looked up once.';

drop type if exists stepd._accept cascade;
create type stepd._accept as (ord int, step text, trigger_index int, input jsonb, trace_id uuid, key text, digest bytea, verdict text);
comment on type stepd._accept is 'A request to be kept; verdict new, again or mismatch.';

create or replace function stepd._accept_keys(inout r stepd._accept[])
language plpgsql as $$
#variable_conflict use_column
declare
	u record;
	x stepd._accept;
	had bytea;
begin
	for u in select e.ord, e.step, e.key, e.digest from unnest(r) e where e.key is not null order by e.step, e.key, e.ord loop
		loop
			insert into stepd.accepted_key as k (step, key, digest) values (u.step, u.key, u.digest)
			on conflict (step, key) do update set job_id = null, digest = excluded.digest, made_at = clock_timestamp()
			where k.made_at < clock_timestamp() - interval '24 hours';
			exit when found;
			select k.digest into had from stepd.accepted_key k where k.step = u.step and k.key = u.key;
			if found then
				x := r[u.ord];
				x.verdict := case when had = u.digest then 'again' else 'mismatch' end;
				r[u.ord] := x;
				exit;
			end if;
		end loop;
	end loop;
end $$;
comment on function stepd._accept_keys(stepd._accept[]) is 'Take the idempotency keys of requests, or see that they are taken.';

create or replace function stepd.http_accept(steps text[], trigger_indexes int[], inputs text[], trace_ids uuid[], keys text[] default null)
returns table (job_id bigint, verdict text)
language plpgsql
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	r stepd._accept[];
	bodies jsonb[];
begin
	perform stepd._required('{steps,trigger_indexes,inputs,trace_ids}', http_accept.steps is null, http_accept.trigger_indexes is null, http_accept.inputs is null, http_accept.trace_ids is null);
	if cardinality(steps) <> any (array[cardinality(trigger_indexes), cardinality(inputs), cardinality(trace_ids),
			coalesce(cardinality(keys), cardinality(steps))]) then
		perform stepd._check_lengths('{steps,trigger_indexes,inputs,trace_ids,keys}', array[cardinality(steps), cardinality(trigger_indexes), cardinality(inputs), cardinality(trace_ids), cardinality(keys)]);
	end if;
	perform stepd._check_list('steps', steps), stepd._check_numbers('trigger_indexes', trigger_indexes, 0, 32767), stepd._check_list('inputs', inputs),
		stepd._check_list('trace_ids', trace_ids, true), stepd._check_list('keys', keys, true);
	perform stepd._check_text(format('keys[%s]', u.ord), u.k, 255) from unnest(keys) with ordinality u (k, ord) where octet_length(u.k) not between 1 and 255;
	bodies := stepd._json_list('inputs', inputs);
	perform stepd._check_data(format('inputs[%s]', u.ord), u.value) from unnest(bodies) with ordinality u (value, ord) where pg_column_size(u.value) > 2048;
	if cardinality(array_remove(keys, null)) > 0 is not true then
		return query
			select p.job_id, 'new' from stepd._put(array(
				select row(u.ord, null, l.lane, 'http', u.trigger_index, u.input, 0, null, null, null, null, u.trace)::stepd._item
				from unnest(steps, trigger_indexes, bodies, trace_ids) with ordinality u (step, trigger_index, input, trace, ord)
				join stepd._http_lanes(steps, trigger_indexes) l on l.step is not distinct from u.step)) p
			order by p.ord;
		return;
	end if;
	perform from stepd._http_lanes(steps, trigger_indexes); -- before the keys: theirs are rows with the step's name
	r := stepd._accept_keys(array(
		select row(u.ord, u.step, u.trigger_index, u.body, u.trace, u.key,
			case when u.key is not null then sha256(convert_to(u.input, 'UTF8')) end, 'new')::stepd._accept
		from unnest(steps, trigger_indexes, inputs, bodies, trace_ids, keys) with ordinality u (step, trigger_index, input, body, trace, key, ord)
		order by u.ord));
	return query
		with made as materialized (
			select p.ord, p.job_id from stepd._put(array(
				select row(e.ord, null, l.lane, 'http', e.trigger_index, e.input, 0, null, null, null, null, e.trace_id)::stepd._item
				from unnest(r) e join stepd._http_lanes(steps, trigger_indexes) l on l.step is not distinct from e.step
				where e.verdict = 'new' order by e.ord)) p
		), noted as (
			update stepd.accepted_key k set job_id = m.job_id
			from made m join unnest(r) e on e.ord = m.ord
			where e.key is not null and k.step = e.step and k.key = e.key
			returning k.step, k.key, k.job_id
		)
		select coalesce(m.job_id, n.job_id, k.job_id), e.verdict
		from unnest(r) e
		left join made m on m.ord = e.ord
		left join noted n on n.step = e.step and n.key = e.key
		left join stepd.accepted_key k on k.step = e.step and k.key = e.key
		order by e.ord;
end $$;
comment on function stepd.http_accept(text[], int[], text[], uuid[], text[]) is
'Keep validated bodies as jobs of the steps'' own queues (trigger http); one element a request, trace id null: a new one, key null: no idempotency key. Returns a row for each, in the same order: the job and new, again (the key''s first job) or mismatch (the key came with another body; no job is made).';
