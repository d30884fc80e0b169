-- Repeatable.
--
-- What a node brings along: its steps, their triggers, and its queue settings.
--
-- configure() replaces what its node name gave before.  It is serialised by an
-- advisory lock (1937007984, 0), "step" in ASCII; the pairs (1937007984, N)
-- with N > 0 are the locks of single queues (see 006_claim.sql).  Enqueues
-- and claims read these tables without locks and see either the old settings
-- or the new ones; a job placed by old settings just after a change of
-- strategy is found and moved by the next claim (fifo) or promote() (others).

create or replace function stepd._queue_lock(queue_id int) returns void
language sql as $$ select pg_advisory_xact_lock(1937007984, queue_id) $$;
comment on function stepd._queue_lock(int) is 'The lock of one queue until the end of the transaction. Several are taken in ascending order.';

-- An exchange finishes, which locks leases and slots of groups, and then claims,
-- which waits for the queue's lock; a change of settings needs all of them, so
-- it may not be waited for.  It goes through a gate first: claims only try it,
-- and pass over the queue while it is shut.  Then the leases, in order of id as
-- every finish takes them, then everything else.
create or replace function stepd._queue_shut(queue_id int) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform pg_advisory_xact_lock(1937007985, _queue_shut.queue_id);
	perform from stepd.lease l join stepd.lane a on a.id = l.lane_id
	where a.queue_id = _queue_shut.queue_id order by l.id for update of l;
end $$;
comment on function stepd._queue_shut(int) is 'Until the end of the transaction no limited claim gets anything of the queue, and no outcome of its jobs is recorded.';

create or replace function stepd._rank(strategy text, priority int, again boolean) returns int
language sql immutable parallel safe as $$
	select case strategy when 'priority' then -priority when 'fifo' then 40000 else case when again then -1 else 0 end end
$$;
comment on function stepd._rank(text, int, boolean) is 'stepd.ready.rank of a job; again: it was ready or running before, or waited for its time.';

-- Written out where planning it would be felt: in enqueue.
create or replace function stepd._group_hash(group_id text) returns bigint
language sql immutable parallel safe as $$
	select hashtextextended(group_id, 0)
$$;
comment on function stepd._group_hash(text) is 'stepd.ready.group_hash of a job of this group; null: of none.';

create or replace function stepd._queue_ensure(name text) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	result int;
begin
	select id into result from stepd.queue where name = _queue_ensure.name;
	if result is null then
		insert into stepd.queue (name) values (_queue_ensure.name) returning id into result;
	end if;
	return result;
end $$;
comment on function stepd._queue_ensure(text) is 'Id of a queue, made with the built-in defaults if need be. Only under configure()''s lock.';

create or replace function stepd._lane_ensure(queue text, step_id int) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	q int := stepd._queue_ensure(queue);
	result int;
begin
	select id into result from stepd.lane where queue_id = q and step_id = _lane_ensure.step_id;
	if result is null then
		insert into stepd.lane (queue_id, step_id) values (q, _lane_ensure.step_id) returning id into result;
	end if;
	return result;
end $$;
comment on function stepd._lane_ensure(text, int) is 'Id of a lane, made if need be. Only under configure()''s lock.';

-- What a queue has running, or waiting for its retry, when it becomes fifo: the
-- head of its group, so that no other of the group begins before it has ended.
-- (Of several the first one; there is one head.)  The leases are read when the
-- claims that were under way have been waited for, and locked, so that whoever
-- finishes sees the new strategy and tells the group.  Who is about to take a
-- waiting job away is let go: it comes by the inbox.
create or replace function stepd._fifo_adopt(queue_id int) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform from stepd.lease l join stepd.lane a on a.id = l.lane_id
	where a.queue_id = _fifo_adopt.queue_id order by l.id for update of l;
	with late as materialized (
		select w.id, w.bucket from stepd.waiting w join stepd.lane a on a.id = w.lane_id
		where a.queue_id = _fifo_adopt.queue_id and w.kind <> 'scheduled' for update of w skip locked
	), busy as (
		select u.id, u.bucket, case u.ord when 1 then 0 else 1 end as turn
		from stepd.lease l join stepd.lane a on a.id = l.lane_id cross join unnest(l.ids, l.buckets) with ordinality u (id, bucket, ord)
		where a.queue_id = _fifo_adopt.queue_id
		union all
		select w.id, w.bucket, 2 from late w
	)
	insert into stepd.fifo_group (queue_id, group_id, head)
	select distinct on (2) _fifo_adopt.queue_id, coalesce(j.group_id, ''), j.id
	from busy b cross join lateral (select x.id, x.group_id from stepd.job x where x.id = b.id and x.bucket = b.bucket limit 1) j
	order by 2, b.turn, j.id
	on conflict do nothing;
end $$;
comment on function stepd._fifo_adopt(int) is 'A queue becomes fifo: what runs and what waits for its retry blocks its group. Only under the queue''s lock, with the queue shut.';

-- Move the jobs of a queue to where its new strategy looks for them.  Claims
-- that are under way have deleted their rows already (we wait for them at the
-- delete) and are not concerned.
create or replace function stepd._queue_move(queue_id int, strategy text) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._queue_lock(_queue_move.queue_id);
	if _queue_move.strategy = 'fifo' then
		with ready as (
			delete from stepd.ready r using stepd.lane l
			where r.lane_id = l.id and l.queue_id = _queue_move.queue_id
			returning r.lane_id, r.pos, r.bucket, r.attempt
		)
		insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, attempt, group_id)
		select _queue_move.queue_id, g.pos, g.lane_id, g.bucket, g.attempt, coalesce(j.group_id, '')
		from ready g cross join lateral (select x.group_id from stepd.job x where x.id = g.pos and x.bucket = g.bucket limit 1) j;
		perform stepd._fifo_adopt(_queue_move.queue_id);
		return;
	end if;
	with inbox as (
		delete from stepd.fifo_inbox where queue_id = _queue_move.queue_id
		returning id, lane_id, bucket, attempt, ended
	), backlog as (
		delete from stepd.fifo_backlog where queue_id = _queue_move.queue_id
		returning id, lane_id, bucket, attempt
	), heads as (
		delete from stepd.fifo_group where queue_id = _queue_move.queue_id
	), ready as (
		delete from stepd.ready r using stepd.lane l
		where r.lane_id = l.id and l.queue_id = _queue_move.queue_id
		returning r.pos, r.lane_id, r.bucket, r.attempt
	), every as (
		select id, lane_id, bucket, attempt from inbox where not ended
		union all select * from backlog
		union all select * from ready
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
	select e.lane_id, stepd._rank(_queue_move.strategy, j.priority, true), e.id, e.bucket, e.attempt, stepd._group_hash(j.group_id)
	from every e cross join lateral (select x.priority, x.group_id from stepd.job x where x.id = e.id and x.bucket = e.bucket limit 1) j;
end $$;
comment on function stepd._queue_move(int, text) is 'Re-place the unclaimed jobs of a queue for another strategy.';

-- camelCase as in the configuration file is as good as our names.
create or replace function stepd._setting_column(key text) returns text
language sql immutable parallel safe as $$
	select n.name || case when n.name in ('max_retry_delay', 'retry_delay', 'timeout', 'rate_window', 'history') then '_ms' else '' end
	from (select lower(regexp_replace(key, '([A-Z])', E'_\\1', 'g')) as name) n
$$;
comment on function stepd._setting_column(text) is 'The column of stepd.queue that a setting of this name is for, if there is one.';

create or replace function stepd._settings(block jsonb) returns jsonb
language sql stable as $$
	select coalesce(jsonb_object_agg(stepd._setting_column(e.key), e.value), '{}')
	from jsonb_each(coalesce(nullif(block, 'null'), '{}')) e where e.key <> 'name'
$$;
comment on function stepd._settings(jsonb) is 'A block of settings with the names of stepd.queue''s columns, without the queue''s own name.';

create or replace function stepd._settings_check(argument text, block jsonb) returns void
language plpgsql as $$
declare
	shape jsonb := '{"strategy": "standard|fifo|priority", "backoff": "exponential|linear|fixed", "jitter": "number 0 1",
		"max_retries": "integer 0 30000", "retry_delay_ms": "integer 0 3155760000000", "max_retry_delay_ms": "integer 0 3155760000000",
		"timeout_ms": "integer 0 3155760000000", "rate_limit": "integer 0 2147483647", "rate_window_ms": "integer 0 3155760000000",
		"max_concurrency": "integer 0 2147483647", "concurrency_per_group": "integer 0 2147483647", "history_ms": "integer 0 3155760000000"}';
begin
	if jsonb_typeof(block) is distinct from 'object' then
		perform stepd._bad(argument, 'is not an object');
	elsif (select count(*) from jsonb_object_keys(block - 'name')) > (select count(*) from jsonb_object_keys(stepd._settings(block))) then
		perform stepd._bad(argument, 'has a setting twice, in two spellings');
	end if;
	perform stepd._check_object(argument, block - 'name', shape || (
		select coalesce(jsonb_object_agg(k, shape -> stepd._setting_column(k)), '{}') from jsonb_object_keys(block) k where shape ? stepd._setting_column(k)));
end $$;
comment on function stepd._settings_check(text, jsonb) is 'Refuse a block of settings with some that there are not, or with values that they can not have.';

create or replace function stepd._setting_hint(setting text) returns text
language sql stable as $$
	select 'Allowed is ' || regexp_replace(pg_get_constraintdef(c.oid), '^CHECK |::[a-z ]+([[]])?', '', 'g')
	from pg_constraint c where c.conrelid = 'stepd.queue'::regclass and c.conname = 'queue_' || setting || '_check'
$$;
comment on function stepd._setting_hint(text) is 'What the table of queues allows a setting to be.';

-- The settings that count: what was set by hand, then what is configured, then what is built in.
drop function if exists stepd._queue_apply(int, text);
create or replace function stepd._queue_apply(queue_id int, argument text, own jsonb default null) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	was stepd.queue;
	q stepd.queue;
	wrong text;
begin
	select * into was from stepd.queue x where x.id = _queue_apply.queue_id for update;
	begin
		q := jsonb_populate_record(null::stepd.queue, was.configured || was.overrides);
		update stepd.queue x set
			strategy = coalesce(q.strategy, 'standard'),
			max_retries = coalesce(q.max_retries, 3),
			retry_delay_ms = coalesce(q.retry_delay_ms, 1000),
			backoff = coalesce(q.backoff, 'exponential'),
			max_retry_delay_ms = coalesce(q.max_retry_delay_ms, 3600000),
			jitter = coalesce(q.jitter, 0.1),
			max_concurrency = coalesce(q.max_concurrency, 0),
			timeout_ms = coalesce(q.timeout_ms, 0),
			rate_limit = coalesce(q.rate_limit, 0),
			rate_window_ms = coalesce(nullif(q.rate_window_ms, 0), 1000),
			concurrency_per_group = case when q.strategy = 'fifo' then 0 else coalesce(q.concurrency_per_group, 0) end,
			history_ms = coalesce(q.history_ms, 0)
		where x.id = was.id
		returning * into q;
	exception when check_violation then
		get stacked diagnostics wrong = constraint_name;
		wrong := substring(wrong from '^queue_(.*)_check$');
		argument := case when own ? wrong is false then 'defaults' else argument end;
		perform stepd._bad(argument, format('queue "%s": %s %s is not allowed', was.name, wrong, coalesce((was.configured || was.overrides) ->> wrong, '')),
			stepd._setting_hint(wrong));
	end;
	if q.strategy <> was.strategy or q.concurrency_per_group <> was.concurrency_per_group or q.rate_limit > 0 and was.rate_limit = 0 then
		perform stepd._queue_shut(q.id);
	end if;
	if q.rate_limit = 0 then
		delete from stepd.rate_start r where r.queue_id = q.id;
	elsif was.rate_limit = 0 then -- what runs by now is counted as if it began now, since nobody noted when it did
		insert into stepd.rate_start (queue_id, at, n)
		select q.id, clock_timestamp(), count(*) from stepd.lease l join stepd.lane a on a.id = l.lane_id
		where a.queue_id = q.id and l.begun = any (l.ids) having count(*) > 0;
	end if;
	if q.strategy <> was.strategy then
		perform stepd._queue_move(q.id, q.strategy);
	end if;
end $$;
comment on function stepd._queue_apply(int, text, jsonb) is 'Give a queue its settings; a change of strategy moves its jobs. argument: what to name in an error; own: the settings that came in that, the others are defaults.';

create or replace function stepd._queue_set(name text, block jsonb, defaults jsonb, configured_by text) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	queue_id int := stepd._queue_ensure(_queue_set.name);
	own jsonb := jsonb_strip_nulls(stepd._settings(block));
begin
	update stepd.queue x set configured = jsonb_strip_nulls(stepd._settings(defaults)) || own, configured_by = _queue_set.configured_by
	where x.id = queue_id;
	perform stepd._queue_apply(queue_id, 'queues', own);
end $$;
comment on function stepd._queue_set(text, jsonb, jsonb, text) is 'Give a queue the settings of its block, or the defaults.';

drop function if exists stepd._schedule_check(text, jsonb);
create or replace function stepd._step_check(argument text, s jsonb) returns void
language plpgsql as $$
declare
	t record;
	shape jsonb;
begin
	perform stepd._check_object(argument, s, '{"name": "string! 255", "description": "string", "file": "string 4096", "kind": "string 255",
		"flows": "strings 4096", "enqueues": "strings 255", "triggers": "array"}');
	for t in
		select x.value as v, format('%s.triggers[%s]', argument, x.ordinality - 1) as at
		from jsonb_array_elements(coalesce(nullif(s -> 'triggers', 'null'), '[]')) with ordinality x
	loop
		perform stepd._check_object(t.at, t.v, '{}') where jsonb_typeof(t.v) <> 'object';
		perform stepd._check_value(t.at || '.type', t.v -> 'type', 'queue|http|cron!');
		shape := case t.v ->> 'type'
			when 'queue' then '{"type": "any", "topic": "string! 255", "input": "any"}'
			when 'http' then '{"type": "any", "method": "string! 32", "path": "string! 4096", "bodySchema": "any", "querySchema": "any",
				"respond": "sync|accepted", "timeout": "integer 0 3155760000000"}'
			else '{"type": "any", "expression": "string! 1024", "timezone": "string 255", "missed": "skip|one|all", "overlap": "allow|skip",
				"catchUpLimit": "integer 1 3155760000000"}' end;
		perform stepd._check_object(t.at, t.v, shape);
	end loop;
end $$;
comment on function stepd._step_check(text, jsonb) is 'Refuse a step of a manifest with members or triggers that there are not. What expressions, paths and schemas say is the daemon''s to read.';

-- One cron trigger.  A row that stays as it is is not written: the cron
-- processes update the same rows, in another order.
create or replace function stepd._schedule_set(step_id int, trigger_index int, lane_id int, t jsonb) returns void
language sql as $$
	insert into stepd.schedule as c (step_id, trigger_index, lane_id, expression, timezone, missed, catch_up_ms, overlap)
	values (step_id, trigger_index, lane_id, t ->> 'expression', coalesce(nullif(t ->> 'timezone', ''), 'UTC'), coalesce(t ->> 'missed', 'one'),
		coalesce((t ->> 'catchUpLimit')::bigint, 86400000), coalesce(t ->> 'overlap', 'allow'))
	on conflict (step_id, trigger_index) do update set retired = false,
		since = case when not c.retired and (c.expression, c.timezone) = (excluded.expression, excluded.timezone)
			then c.since else clock_timestamp() end,
		revision = c.revision + case when (c.expression, c.timezone) = (excluded.expression, excluded.timezone) then 0 else 1 end,
		next_run = case when (c.expression, c.timezone) = (excluded.expression, excluded.timezone) then c.next_run end,
		description = case when c.expression = excluded.expression then c.description end,
		expression = excluded.expression, timezone = excluded.timezone, missed = excluded.missed,
		catch_up_ms = excluded.catch_up_ms, overlap = excluded.overlap
	where c.retired or (c.expression, c.timezone, c.missed, c.catch_up_ms, c.overlap)
		is distinct from (excluded.expression, excluded.timezone, excluded.missed, excluded.catch_up_ms, excluded.overlap)
$$;
comment on function stepd._schedule_set(int, int, int, jsonb) is 'Take over one cron trigger of a manifest. A new or changed one has missed nothing yet.';

-- One step of a manifest: its row, lanes, subscriptions and schedules.
create or replace function stepd._step_set(s jsonb, node_name text) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	sid int;
	step text := s ->> 'name';
	t record;
	lane int;
begin
	insert into stepd.step as x (name, description, file, kind, flows, enqueues, triggers)
	values (step, s ->> 'description', s ->> 'file', s ->> 'kind',
		array(select jsonb_array_elements_text(coalesce(nullif(s -> 'flows', 'null'), '[]'))),
		array(select jsonb_array_elements_text(coalesce(nullif(s -> 'enqueues', 'null'), '[]'))),
		coalesce(nullif(s -> 'triggers', 'null'), '[]'))
	on conflict (name) do update set (description, file, kind, flows, enqueues, triggers, updated_at)
		= (excluded.description, excluded.file, excluded.kind, excluded.flows, excluded.enqueues, excluded.triggers, clock_timestamp())
	returning id into sid;
	insert into stepd.step_provider (step_id, node_name) values (sid, _step_set.node_name) on conflict do nothing;

	delete from stepd.subscription b where b.step_id = sid and not exists (
		select from jsonb_array_elements(coalesce(nullif(s -> 'triggers', 'null'), '[]')) e
		where e ->> 'type' = 'queue' and e ->> 'topic' = b.topic);
	update stepd.schedule c set retired = true where c.step_id = sid and not c.retired and not exists (
		select from jsonb_array_elements(coalesce(nullif(s -> 'triggers', 'null'), '[]')) with ordinality e
		where e.value ->> 'type' = 'cron' and e.ordinality - 1 = c.trigger_index);
	for t in
		select e.value v, (e.ordinality - 1)::int i
		from jsonb_array_elements(coalesce(nullif(s -> 'triggers', 'null'), '[]')) with ordinality e
	loop
		case t.v ->> 'type'
		when 'queue' then
			lane := stepd._lane_ensure(t.v ->> 'topic', sid);
			insert into stepd.subscription as b (topic, step_id, lane_id, trigger_index)
			values (t.v ->> 'topic', sid, lane, t.i)
			on conflict (topic, step_id) do update set trigger_index = least(b.trigger_index, excluded.trigger_index);
		when 'cron' then
			lane := stepd._lane_ensure(step, sid);
			perform stepd._schedule_set(sid, t.i, lane, t.v);
		when 'http' then
			perform stepd._lane_ensure(step, sid);
		end case;
	end loop;
end $$;
comment on function stepd._step_set(jsonb, text) is 'Take over one step of a manifest, which _step_check() has seen.';

create or replace function stepd.configure(node_name text, manifest jsonb, queues jsonb, defaults jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	steps jsonb := manifest -> 'steps';
	s jsonb;
	q record;
begin
	perform stepd._required('{manifest}', manifest is null);
	perform stepd._check_text('node_name', configure.node_name, 200);
	perform stepd._check_object('manifest', manifest, '{"steps": "array!"}');
	perform stepd._step_check(format('manifest.steps[%s]', x.ordinality - 1), x.value) from jsonb_array_elements(steps) with ordinality x;
	if (select count(distinct e ->> 'name') from jsonb_array_elements(steps) e) < jsonb_array_length(steps) then
		perform stepd._bad('manifest', 'has a step twice');
	elsif jsonb_typeof(coalesce(queues, '[]')) <> 'array' then
		perform stepd._bad('queues', 'is not an array of objects');
	end if;
	perform stepd._settings_check(format('queues[%s]', x.ordinality - 1), x.value),
		stepd._check_value(format('queues[%s].name', x.ordinality - 1), x.value -> 'name', 'string! 255')
	from jsonb_array_elements(queues) with ordinality x;
	if (select count(distinct e ->> 'name') from jsonb_array_elements(queues) e) < jsonb_array_length(queues) then
		perform stepd._bad('queues', 'has a queue twice');
	end if;
	perform stepd._settings_check('defaults', coalesce(configure.defaults, '{}'));
	perform stepd._bad('defaults.name', 'is not known') where defaults ? 'name';
	perform pg_advisory_xact_lock(1937007984, 0);

	delete from stepd.step_provider p where p.node_name = configure.node_name and not exists (
		select from jsonb_array_elements(steps) e join stepd.step x on x.name = e ->> 'name' where x.id = p.step_id);
	for s in select value from jsonb_array_elements(steps) order by value ->> 'name' loop
		perform stepd._step_set(s, configure.node_name);
	end loop;
	delete from stepd.subscription b where not exists (select from stepd.step_provider p where p.step_id = b.step_id);
	update stepd.schedule c set retired = true
	where not c.retired and not exists (select from stepd.step_provider p where p.step_id = c.step_id);

	perform stepd._queue_ensure(value ->> 'name') from jsonb_array_elements(queues);
	-- in order of id, as every taker of several queue locks
	for q in
		select x.name, b.block, x.configured_by
		from stepd.queue x
		left join (select value ->> 'name' as name, value as block from jsonb_array_elements(queues)) b on b.name = x.name
		where b.block is not null or coalesce(x.configured_by, configure.node_name) = configure.node_name
		order by x.id
	loop
		perform stepd._queue_set(q.name, q.block, defaults, case when q.block is not null then configure.node_name end);
	end loop;
	update stepd.setting set defaults = coalesce(configure.defaults, '{}');
	perform stepd._settings_changed();
	perform stepd._ring(''); -- claims may have passed over queues that were shut
end $$;
comment on function stepd.configure(text, jsonb, jsonb, jsonb) is
	'Replace what this node name provides: steps with their triggers (the manifest), and the settings of the queues it has blocks for. Queues without a block get the defaults. NOTIFY stepd_settings.';

drop function if exists stepd.lanes(text[]);
-- rated is for daemons of before, which run beside new ones in an upgrade.
create or replace function stepd.lanes(steps text[]) returns table (lane_id int, step text, queue text, timeout_ms bigint, strategy text, paused boolean,
	rated boolean, batch int)
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._required('{steps}', steps is null);
	perform stepd._check_list('steps', steps);
	return query
		select l.id, s.name, q.name, q.timeout_ms, q.strategy, q.paused, q.rate_limit > 0, case when q.concurrency_per_group > 0 then 1000 else 500 end
		from stepd.lane l
		join stepd.step s on s.id = l.step_id
		join stepd.queue q on q.id = l.queue_id
		where s.name = any (steps)
		order by l.id;
end $$;
comment on function stepd.lanes(text[]) is 'What a worker that has these steps may claim from, topics they no longer subscribe to included: jobs of those still run. batch: how many jobs are to be claimed at a time at most: more where a claim itself costs more.';
