-- Repeatable.
--
-- Enqueue: from topics to jobs in their first place.
--
-- Everything that makes a job goes through stepd._put.  It runs in the
-- caller's transaction: until that commits nobody sees the rows, and if it
-- rolls back nothing was there.
--
-- Ids are taken from an uncached sequence in call order, so a transaction that
-- begins after another one committed has higher ids; that is the order that
-- fifo promises.
--
-- Enqueuers wait for each other in one case only: two open transactions that
-- insert the same unique key.  One call inserts its keys in sorted order, so
-- that calls cannot deadlock with each other; a transaction that makes several
-- calls may, like with any unique index.

drop type if exists stepd._item cascade;
create type stepd._item as (
	ord int, topic text, lane_id int, trigger text, trigger_index int,
	data jsonb, priority int, run_at timestamptz, group_id text, unique_key text,
	parent_id bigint, trace_id uuid
);
comment on type stepd._item is 'What to enqueue: on a topic, or (lane_id set) for one lane.';

drop type if exists stepd._put_row cascade;
create type stepd._put_row as (
	ord int, id bigint, fresh boolean, bucket date, topic text, lane_id int, queue_id int, step_id int, strategy text,
	trigger text, trigger_index int, data jsonb, priority int, run_at timestamptz, group_id text, unique_key text,
	parent_id bigint, trace_id uuid
);
comment on type stepd._put_row is 'One job to be written: an item for one of its subscribers (lane_id null: it has none).';

drop type if exists stepd._put_result cascade;
create type stepd._put_result as (ord int, job_id bigint);
comment on type stepd._put_result is 'Job made (or found by its unique key) for the item with this ord.';

-- A trace id is a UUID of version 7: it begins with the time, so that the
-- index on it grows at one end.  This is the part before the random bits.
create or replace function stepd._trace_prefix() returns text
language sql volatile as $$
	select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7'
	from lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') h
$$;
comment on function stepd._trace_prefix() is 'First 15 characters of the UUIDs of version 7 made now.';

-- Take the unique keys of rows, in sorted order.  Where another unfinished job
-- has the key, the row gets that job's id and is fresh no more; where a job has
-- it that ends in this transaction, the key is handed on.  Who ends jobs gives
-- their keys away last, in 009_finish.sql: so whoever waits here has done nothing
-- yet to keys that come later in the order.
-- ON CONFLICT waits for an uncommitted insert of the same key; a conflicting
-- row may be deleted between it and our look, then we try again.
drop function if exists stepd._put_unique(stepd._put_row[]);
create or replace function stepd._put_unique(inout r stepd._put_row[], ending bigint[])
language plpgsql as $$
#variable_conflict use_column
declare
	u record;
	x stepd._put_row;
	other bigint;
begin
	for u in
		select o.i, o.step_id, o.unique_key, o.id
		from (select row_number() over () i, e.* from unnest(r) e) o
		where o.unique_key is not null and o.step_id is not null
		order by o.step_id, o.unique_key, o.i
	loop
		loop
			insert into stepd.unique_job (step_id, key, job_id) values (u.step_id, u.unique_key, u.id) on conflict do nothing;
			exit when found;
			select k.job_id into other from stepd.unique_job k where k.step_id = u.step_id and k.key = u.unique_key;
			if found and other = any (ending) then
				update stepd.unique_job k set job_id = u.id where k.step_id = u.step_id and k.key = u.unique_key;
				exit;
			elsif found then
				x := r[u.i];
				x.id := other;
				x.fresh := false;
				r[u.i] := x;
				exit;
			end if;
		end loop;
	end loop;
end $$;
comment on function stepd._put_unique(stepd._put_row[], bigint[]) is 'Claim unique keys, or find the jobs that have them, but for those that end in this transaction.';

drop function if exists stepd._put(stepd._item[]);
create or replace function stepd._put(items stepd._item[], ending bigint[] default null) returns setof stepd._put_result
language plpgsql as $$
#variable_conflict use_column
declare
	r stepd._put_row[];
	today date := stepd._today();
	prefix text := stepd._trace_prefix();
	now_ready boolean;
	later boolean;
begin
	-- an enqueue that returned and was committed is on disk, whatever the session thinks of its own rows
	if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
		perform set_config('synchronous_commit', 'on', true);
	end if;
	r := array(
		select row(s.ord, nextval('stepd.job_id'), true,
			case when s.run_at is null then today
				else least(greatest((s.run_at at time zone 'UTC')::date, today), today + 6) end,
			s.topic, s.lane_id, s.queue_id, s.step_id, s.strategy, s.trigger, s.trigger_index, s.data, s.priority, s.run_at,
			s.group_id, s.unique_key, s.parent_id, s.trace_id)::stepd._put_row
		from (
			select i.ord, i.topic, l.id as lane_id, l.queue_id, l.step_id, q.strategy, coalesce(i.trigger, 'queue') as trigger,
				coalesce(i.trigger_index, b.trigger_index, 0) as trigger_index, i.data, coalesce(i.priority, 0) as priority,
				case when i.run_at > clock_timestamp() then i.run_at end as run_at,
				i.group_id, i.unique_key, i.parent_id, i.trace_id
			from (select e.ord, e.topic, e.lane_id, e.trigger, e.trigger_index, coalesce(e.data, 'null') as data, e.priority, e.run_at,
					nullif(e.group_id, '') as group_id, e.unique_key, e.parent_id,
					coalesce(e.trace_id, overlay(gen_random_uuid()::text placing prefix from 1 for 15)::uuid) as trace_id
				from unnest(items) e offset 0) i
			left join stepd.subscription b on b.topic = i.topic and i.lane_id is null
			left join stepd.lane l on l.id = coalesce(i.lane_id, b.lane_id)
			left join stepd.queue q on q.id = l.queue_id
			order by i.ord, l.id) s);
	if exists (select from unnest(r) e where e.unique_key is not null) then
		r := stepd._put_unique(r, ending);
	end if;

	with e as materialized (
		select * from unnest(r) where fresh
	), fact as (
		insert into stepd.job (id, bucket, lane_id, trigger, trigger_index, priority, group_id, unique_key, run_at, enqueued_at,
			parent_id, trace_id, topic, input)
		select id, bucket, lane_id, trigger, trigger_index, priority, group_id, unique_key, run_at, clock_timestamp(), parent_id, trace_id,
			case when lane_id is null then topic end, data
		from e
	), ready as (
		insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
		select lane_id, case when strategy = 'priority' then -priority else 0 end, id, bucket, 0, hashtextextended(group_id, 0)
		from e where run_at is null and strategy <> 'fifo'
	), inbox as (
		insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, group_id)
		select queue_id, id, lane_id, bucket, coalesce(group_id, '')
		from e where run_at is null and strategy = 'fifo'
	), waiting as (
		insert into stepd.waiting (id, lane_id, bucket, attempt, kind, run_at)
		select id, lane_id, bucket, 0, 'scheduled', run_at
		from e where run_at is not null and lane_id is not null
	), unrouted as (
		insert into stepd.unrouted (id, bucket, topic)
		select id, bucket, topic from e where lane_id is null
	)
	select bool_or(run_at is null and lane_id is not null), bool_or(run_at is not null and lane_id is not null)
	into now_ready, later from e;
	if now_ready then
		perform stepd._ring('');
	end if;
	if later then
		perform stepd._ring('due');
	end if;
	return query select e.ord, e.id from unnest(r) e order by e.ord, e.id;
end $$;
comment on function stepd._put(stepd._item[], bigint[]) is
	'Make the jobs of items, in their order: for each subscriber of the topic one, or one unrouted. ending: jobs that end in this transaction, whose unique keys are free for the new ones. Rings the doorbell.';

-- Arguments -------------------------------------------------------------------

drop function if exists stepd._check_topic(text);
create or replace function stepd._check_topic(topic text, argument text default 'topic') returns void
language plpgsql as $$
begin
	if topic is null then
		perform stepd._bad(argument, 'must not be null');
	end if;
	perform stepd._check_text(argument, topic, 255);
end $$;
comment on function stepd._check_topic(text, text) is 'Refuse what cannot be a topic.';

create or replace function stepd._check_data(argument text, data jsonb) returns void
language plpgsql as $$
begin
	-- What came in 64 MiB takes up to half as much more as jsonb prints it, with blanks.  A value that is stored compressed in
	-- somebody's table does not show its size.
	if (pg_column_size(data) > 16777216 or pg_column_compression(data) is not null) and octet_length(data::text) > 100663296 then
		perform stepd._bad(argument, format('is %s bytes large as text, at most 100663296 (64 MiB, and half of that for blanks) are allowed', octet_length(data::text)));
	-- each level takes at least eight bytes, so small values need no look
	elsif (pg_column_size(data) > 2048 or pg_column_compression(data) is not null)
		and data @? 'strict $.**{512} ? (@.type() == "array" || @.type() == "object")' then
		perform stepd._bad(argument, 'is nested deeper than 512 levels');
	end if;
end $$;
comment on function stepd._check_data(text, jsonb) is 'Refuse JSON that a worker would refuse.';

create or replace function stepd._check_item(i stepd._item, prefix text) returns void
language plpgsql as $$
begin
	if i.priority is not null and i.priority not between -32768 and 32767 then
		perform stepd._bad(prefix || 'priority', format('%s is not between -32768 and 32767', i.priority));
	elsif i.run_at is not null and not isfinite(i.run_at) then
		perform stepd._bad(prefix || 'run_at', 'must be finite');
	elsif octet_length(i.group_id) > 1000 then
		perform stepd._bad(case prefix when '' then 'group_id' else prefix || 'group' end, format('is %s bytes long, at most 1000 are allowed', octet_length(i.group_id)));
	elsif i.unique_key = '' then
		perform stepd._bad(case prefix when '' then 'unique_key' else prefix || 'unique' end, 'must not be empty', 'Leave it out or give null for a job without one.');
	elsif octet_length(i.unique_key) > 1000 then
		perform stepd._bad(case prefix when '' then 'unique_key' else prefix || 'unique' end, format('is %s bytes long, at most 1000 are allowed', octet_length(i.unique_key)));
	end if;
	if pg_column_size(i.data) > 2048 or pg_column_compression(i.data) is not null then
		perform stepd._check_data(prefix || 'data', i.data);
	end if;
end $$;
comment on function stepd._check_item(stepd._item, text) is 'Refuse bad options; prefix says where they stand.';

-- Entrances -------------------------------------------------------------------
--
-- The two functions that an application is given (stepd(8), "Rights in the
-- database") run with the rights of the schema's owner, so that whoever may
-- enqueue needs no right on a table, and gets none: they write what is asked
-- for and tell only job ids.  Therefore nobody may call them unless granted,
-- and names in them mean ours and PostgreSQL's, whatever the caller's
-- search_path and temporary objects say.

create or replace function stepd.enqueue(topic text, data jsonb default 'null', priority int default null, run_at timestamptz default null,
	group_id text default null, unique_key text default null) returns setof bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	i stepd._item;
begin
	perform stepd._check_topic(enqueue.topic);
	i.ord := 1;
	i.topic := enqueue.topic;
	i.data := enqueue.data;
	i.priority := enqueue.priority;
	i.run_at := enqueue.run_at;
	i.group_id := enqueue.group_id;
	i.unique_key := enqueue.unique_key;
	perform stepd._check_item(i, '');
	return query select p.job_id from stepd._put(array[i]) p;
end $$;
comment on function stepd.enqueue(text, jsonb, int, timestamptz, text, text) is
'Enqueue data on a topic, in the caller''s transaction. Returns one job id for each subscribed step; a topic without subscribers makes one job that is kept as unrouted.
priority: -32768 to 32767, higher first in priority queues. run_at: not before this time. group_id: the order within it is kept in fifo queues.
unique_key: while a job of the same step and key is unfinished, its id is returned and nothing is added.
Runs with the rights of the schema''s owner; a role may call it that was granted usage on the schema and execute on this function.';
revoke execute on function stepd.enqueue(text, jsonb, int, timestamptz, text, text) from public;

-- What is wrong with one member of an item, as far as its type can tell; null: nothing.
create or replace function stepd._item_problem(key text, value jsonb) returns text
language sql immutable parallel safe as $$
	select case
		when key not in ('priority', 'delay_ms', 'run_at', 'group', 'unique') then 'is not known'
		when jsonb_typeof(value) = 'null' then null
		when key = 'priority' then case
			when jsonb_typeof(value) <> 'number' or scale(value::numeric) > 0 then format('%s is no whole number', left(value::text, 60))
			when value::numeric not between -32768 and 32767 then format('%s is not between -32768 and 32767', left(value::text, 60)) end
		when key = 'delay_ms' then case
			when jsonb_typeof(value) <> 'number' then format('%s is no number', left(value::text, 60))
			when value::numeric not between 0 and 3155760000000 then format('%s is not between 0 and a hundred years', left(value::text, 60)) end
		when jsonb_typeof(value) <> 'string' then format('%s is no string', left(value::text, 60))
		end
$$;
comment on function stepd._item_problem(text, jsonb) is 'What is wrong with one member of an item of enqueue_many, as far as its type can tell; null: nothing.';

create or replace function stepd.enqueue_many(topic text, items jsonb) returns setof bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
	list stepd._item[];
	bad record;
begin
	perform stepd._check_topic(enqueue_many.topic);
	if jsonb_typeof(enqueue_many.items) is distinct from 'array' then
		perform stepd._bad('items', 'must be a JSON array', 'Each item is an object: {"data": ..., "priority": N, "delay_ms": N, "run_at": T, "group": S, "unique": S}.');
	end if;
	select e.ordinality - 1 as n, m.key, m.problem into bad
	from jsonb_array_elements(enqueue_many.items) with ordinality e
	cross join lateral (
		select null as key, 'is not an object' as problem where jsonb_typeof(e.value) <> 'object'
		union all
		select k.key, stepd._item_problem(k.key, k.value)
		from jsonb_each(case when jsonb_typeof(e.value) = 'object' then e.value - 'data' else '{}' end) k
		union all
		select 'run_at', 'is given beside delay_ms; one of them is enough' where e.value ?& '{run_at,delay_ms}'
			and e.value -> 'run_at' <> 'null' and e.value -> 'delay_ms' <> 'null') m
	where m.problem is not null
	limit 1;
	if found then
		perform stepd._bad(format('items[%s]', bad.n) || coalesce('.' || bad.key, ''), bad.problem,
			'Each item is an object: {"data": ..., "priority": N, "delay_ms": N, "run_at": T, "group": S, "unique": S}.');
	end if;
	list := stepd._items(enqueue_many.topic, enqueue_many.items, 'items');
	return query select p.job_id from stepd._put(list) p order by p.ord, p.job_id;
end $$;
comment on function stepd.enqueue_many(text, jsonb) is
'Enqueue every item of a JSON array on one topic, in order, in one go. An item is an object with the members data, priority, delay_ms, run_at, group and unique, all optional. Returns the job ids in the order of the items.
Runs with the rights of the schema''s owner, like enqueue().';
revoke execute on function stepd.enqueue_many(text, jsonb) from public;

-- Items in the shape that workers send and enqueue_many takes.
create or replace function stepd._items(topic text, items jsonb, argument text) returns stepd._item[]
language plpgsql as $$
#variable_conflict use_column
declare
	list stepd._item[];
	now_at timestamptz := clock_timestamp();
	bad record;
	said text;
begin
	list := array(
		select row(e.ordinality, coalesce(_items.topic, e.value ->> 'topic'), null, null, null, e.value -> 'data',
			(e.value ->> 'priority')::int,
			coalesce(now_at + round((e.value ->> 'delay_ms')::numeric, 3)::float8 * interval '1 ms', (e.value ->> 'run_at')::timestamptz),
			e.value ->> 'group', e.value ->> 'unique', null, null)::stepd._item
		from jsonb_array_elements(_items.items) with ordinality e);
	for bad in
		select e.ord, row(e.*)::stepd._item as item from unnest(list) e
		where e.priority not between -32768 and 32767 or not isfinite(e.run_at) or octet_length(e.group_id) > 1000
			or e.unique_key = '' or octet_length(e.unique_key) > 1000 or pg_column_size(e.data) > 2048
	loop
		perform stepd._check_item(bad.item, format('%s[%s].', argument, bad.ord - 1));
	end loop;
	return list;
exception when invalid_text_representation or numeric_value_out_of_range or datetime_field_overflow or interval_field_overflow
	or invalid_datetime_format or invalid_parameter_value or invalid_time_zone_displacement_value then
	if starts_with(sqlerrm, argument || '[') then -- said by _check_item
		raise;
	end if;
	said := sqlerrm;
	perform stepd._check_time(format('%s[%s].run_at', argument, e.ordinality - 1), e.value ->> 'run_at')
	from jsonb_array_elements(_items.items) with ordinality e; -- one of them
	perform stepd._bad(argument, said);
end $$;
comment on function stepd._items(text, jsonb, text) is 'A JSON array of items as composites, checked.';
