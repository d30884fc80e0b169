-- Repeatable.
--
-- The steps' state.
--
-- Writers of one key wait for each other at its row; update() reads under
-- that lock, so no update is lost.

create or replace function stepd._check_state(group_id text, key text) returns void
language plpgsql as $$
begin
	perform stepd._check_text('group_id', group_id, 1000), stepd._check_text('key', key, 1000);
end $$;
comment on function stepd._check_state(text, text) is 'Refuse what cannot be a group and key of state.';

create or replace function stepd.state_get(group_id text, key text) returns text
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._check_state(state_get.group_id, state_get.key);
	return (select s.value::text from stepd.state s where s.group_id = state_get.group_id and s.key = state_get.key);
end $$;
comment on function stepd.state_get(text, text) is 'The value as JSON text; null: there is none.';

create or replace function stepd.state_list(group_id text) returns text
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._check_state(state_list.group_id, 'x');
	return (select coalesce(json_object_agg(s.key, s.value order by s.key)::text, '{}') from stepd.state s where s.group_id = state_list.group_id);
end $$;
comment on function stepd.state_list(text) is 'All of a group as the text of a JSON object, in the order of the keys.';

create or replace function stepd.state_groups() returns text
language sql stable as $$
	select coalesce(json_agg(g.group_id order by g.group_id)::text, '[]') from (select distinct s.group_id from stepd.state s) g
$$;
comment on function stepd.state_groups() is 'The names of all groups that have a value, as the text of a JSON array.';

-- The row's value, locked; a row with JSON null is made when there is none.
create or replace function stepd._state_lock(group_id text, key text, out value jsonb, out made boolean)
language plpgsql as $$
#variable_conflict use_column
begin
	loop
		made := false;
		select s.value into value from stepd.state s where s.group_id = _state_lock.group_id and s.key = _state_lock.key for update;
		exit when found;
		insert into stepd.state (group_id, key, value) values (_state_lock.group_id, _state_lock.key, 'null') on conflict do nothing;
		made := found;
		exit when made;
	end loop;
end $$;
comment on function stepd._state_lock(text, text) is 'Lock a value, making the row if need be.';

create or replace function stepd.state_set(group_id text, key text, value jsonb) returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	was record;
begin
	perform stepd._check_state(state_set.group_id, state_set.key);
	perform stepd._check_data('value', state_set.value);
	select * into was from stepd._state_lock(state_set.group_id, state_set.key);
	update stepd.state s set value = coalesce(state_set.value, 'null'), updated_at = clock_timestamp()
	where s.group_id = state_set.group_id and s.key = state_set.key;
	return jsonb_build_object('old', case when not was.made then was.value end, 'new', coalesce(state_set.value, 'null'));
end $$;
comment on function stepd.state_set(text, text, jsonb) is 'Set a value. Returns {"old": ..., "new": ...}; old is null when there was none.';

create or replace function stepd.state_delete(group_id text, key text) returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	old jsonb;
begin
	perform stepd._check_state(state_delete.group_id, state_delete.key);
	delete from stepd.state s where s.group_id = state_delete.group_id and s.key = state_delete.key returning s.value into old;
	return old;
end $$;
comment on function stepd.state_delete(text, text) is 'Delete a value. Returns it; null: there was none.';

create or replace function stepd.state_clear(group_id text) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	n int;
begin
	perform stepd._check_state(state_clear.group_id, 'x');
	with locked as (
		select s.key from stepd.state s where s.group_id = state_clear.group_id order by s.key for update
	), gone as (
		delete from stepd.state s using locked k where s.group_id = state_clear.group_id and s.key = k.key returning 1)
	select count(*) into n from gone;
	return n;
end $$;
comment on function stepd.state_clear(text) is 'Delete all of a group. Returns the number of values.';

-- One operation on a value.
drop function if exists stepd._state_op(jsonb, jsonb);
create or replace function stepd._state_op(value jsonb, op jsonb, argument text) returns jsonb
language plpgsql immutable as $$
declare
	kind text := op ->> 'type';
	path text[];
	inner_type text;
	at jsonb;
	v jsonb := coalesce(op -> 'value', 'null');
	step numeric;
	beyond boolean;
begin
	if jsonb_typeof(op) is distinct from 'object' then
		perform stepd._bad(argument, 'is not an object');
	elsif jsonb_typeof(coalesce(op -> 'path', 'null')) not in ('array', 'string', 'number', 'null')
		or op -> 'path' @? 'strict $ ? (@.type() == "array")[*] ? (@.type() != "string" && @.type() != "number")'
		or op -> 'path' @? 'lax $[*] ? (@.type() == "number" && @.floor() != @)' then
		perform stepd._bad(argument || '.path', format('%s is no path', left(op ->> 'path', 60)),
			'A path is a member''s name or an array of names and array positions.');
	elsif jsonb_typeof(op -> 'path') = 'array' and jsonb_array_length(op -> 'path') > 512 then -- deeper nothing may be
		perform stepd._bad(argument || '.path', format('has %s steps, at most 512 are allowed', jsonb_array_length(op -> 'path')));
	elsif op - '{type,path,value,by}'::text[] <> '{}' then -- a path that is written wrong would mean the whole value
		perform stepd._bad(argument, format('has the member "%s", which operations do not have', (select left(k, 60) from jsonb_object_keys(op - '{type,path,value,by}'::text[]) k limit 1)),
			'They have type, path, and value or by.');
	elsif kind in ('set', 'merge', 'append') and not op ? 'value' then
		perform stepd._bad(argument || '.value', format('is missing; %s needs one', kind));
	elsif op ? 'by' and kind in ('set', 'merge', 'append', 'remove') or op ? 'value' and kind in ('increment', 'decrement', 'remove') then
		perform stepd._bad(argument || case when op ? 'by' then '.by' else '.value' end, format('is not for %s', kind));
	end if;
	path := case jsonb_typeof(op -> 'path')
		when 'array' then array(select jsonb_array_elements_text(op -> 'path'))
		when 'string' then case when op ->> 'path' = '' then '{}' else array[op ->> 'path'] end
		when 'number' then array[op ->> 'path']
		else '{}' end;
	for i in 1 .. cardinality(path) loop
		inner_type := jsonb_typeof(coalesce(case when i = 1 then value else value #> path[:i - 1] end, 'null'));
		if inner_type = 'array' and path[i] !~ '^(0|-?[1-9][0-9]{0,8})$' then
			perform stepd._bad(argument || '.path', format('%s leads into an array, where "%s" is no position', path::text, left(path[i], 60)));
		elsif inner_type not in ('array', 'object', 'null') and kind is distinct from 'remove' then
			perform stepd._bad(argument || '.path', format('%s leads through a %s, which has no members', path::text, inner_type));
		end if;
	end loop;
	at := case when path = '{}' then value else value #> path end;
	case kind
	when 'set' then
		at := v;
	when 'merge' then
		if jsonb_typeof(v) <> 'object' then
			perform stepd._bad(argument || '.value', 'merge needs an object');
		elsif jsonb_typeof(coalesce(at, 'null')) not in ('object', 'null') then
			perform stepd._bad(argument, format('merge into %s', jsonb_typeof(at)));
		end if;
		at := case when jsonb_typeof(coalesce(at, 'null')) = 'object' then at else '{}' end || v;
	when 'increment', 'decrement' then
		if jsonb_typeof(coalesce(op -> 'by', '1')) <> 'number' then
			perform stepd._bad(argument || '.by', format('%s is no number', left((op -> 'by')::text, 60)));
		elsif jsonb_typeof(coalesce(at, 'null')) not in ('number', 'null') then
			perform stepd._bad(argument, format('%s of %s', kind, jsonb_typeof(at)));
		elsif abs((op ->> 'by')::numeric) > 1e1000 or scale((op ->> 'by')::numeric) > 1000 then
			perform stepd._bad(argument || '.by', 'has more than 1000 digits');
		elsif abs(nullif(at, 'null')::text::numeric) > 1e10000 then
			perform stepd._bad(argument, format('%s of a number of more than 10000 digits', kind));
		end if;
		step := coalesce((op ->> 'by')::numeric, 1) * case kind when 'increment' then 1 else -1 end;
		at := to_jsonb(coalesce(nullif(at, 'null')::text::numeric, 0) + step);
	when 'append' then
		if jsonb_typeof(coalesce(at, 'null')) not in ('array', 'null') then
			perform stepd._bad(argument, format('append to %s', jsonb_typeof(at)));
		end if;
		at := coalesce(nullif(at, 'null'), '[]') || jsonb_build_array(v);
	when 'remove' then
		return case when value is null then null when path = '{}' then 'null' when jsonb_typeof(value) in ('object', 'array') then value #- path else value end;
	else
		perform stepd._bad(argument || '.type', format('%s is not known', coalesce(quote_literal(kind), 'null')),
			'Operations are set, merge, increment, decrement, append and remove.');
	end case;
	if path = '{}' then
		return at;
	end if;
	-- jsonb_set makes only the last step of a path
	if jsonb_typeof(coalesce(value, 'null')) = 'null' then
		value := '{}';
	end if;
	for i in 1 .. cardinality(path) - 1 loop
		beyond := value #> path[:i] is null and jsonb_typeof(case when i = 1 then value else value #> path[:i - 1] end) = 'array';
		if jsonb_typeof(coalesce(value #> path[:i], 'null')) = 'null' then
			value := jsonb_set(value, path[:i], '{}', true);
		end if;
		if beyond then -- an array's ends: there it was put
			path[i] := case when path[i] like '-%' then '0' else '-1' end;
		end if;
	end loop;
	return jsonb_set(value, path, at, true);
end $$;
comment on function stepd._state_op(jsonb, jsonb, text) is 'One operation of state_update on a value; argument names it in errors.';

create or replace function stepd._state_change(group_id text, key text, ops jsonb, argument text) returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	was record;
	v jsonb;
	op record;
begin
	if jsonb_typeof(_state_change.ops) is distinct from 'array' then
		perform stepd._bad(argument, 'must be a JSON array of operations', 'For example [{"type": "increment", "path": ["count"], "by": 1}].');
	end if;
	if jsonb_array_length(_state_change.ops) > 10000 then -- each one copies the value, and the row is locked meanwhile
		perform stepd._bad(argument, format('has %s operations, at most 10000 are allowed', jsonb_array_length(_state_change.ops)));
	end if;
	if _state_change.ops = '[]' then -- changes nothing, and makes nothing
		select s.value into v from stepd.state s where s.group_id = _state_change.group_id and s.key = _state_change.key;
		return jsonb_build_object('old', v, 'new', v);
	end if;
	select * into was from stepd._state_lock(_state_change.group_id, _state_change.key);
	v := was.value;
	for op in select e.value, e.ordinality - 1 as n from jsonb_array_elements(_state_change.ops) with ordinality e order by e.ordinality loop
		v := stepd._state_op(v, op.value, format('%s[%s]', argument, op.n));
	end loop;
	if v is null then -- there was nothing, and nothing was to be removed from it
		delete from stepd.state s where s.group_id = _state_change.group_id and s.key = _state_change.key;
	else
		perform stepd._check_data(argument, v);
		update stepd.state s set value = v, updated_at = clock_timestamp()
		where s.group_id = _state_change.group_id and s.key = _state_change.key;
	end if;
	return jsonb_build_object('old', case when not was.made then was.value end, 'new', v);
end $$;
comment on function stepd._state_change(text, text, jsonb, text) is 'state_update(); argument: what to call the operations in an error.';

create or replace function stepd.state_update(group_id text, key text, ops jsonb) returns jsonb
language plpgsql as $$
begin
	perform stepd._check_state(group_id, key);
	return stepd._state_change(group_id, key, ops, 'ops');
end $$;
comment on function stepd.state_update(text, text, jsonb) is
'Change a value by up to 10,000 operations, in order and atomically: {"type": "set"|"merge"|"append", "path": P, "value": V}, {"type": "increment"|"decrement", "path": P, "by": N} (1 if left out), {"type": "remove", "path": P}. A path is a member''s name or an array of names and array positions (negative ones count from the end); without one the whole value is meant. Objects are made on the way, at an array''s end (or start) for a position beyond it. Returns {"old": ..., "new": ...}.';

-- The writes of a batch of attempts.  Rows that exist are locked in the order
-- of group and key before the first write.  If nothing but sets and deletes is
-- asked for, only the last of each key counts, and they are written at once.
create or replace function stepd._state_apply(ops jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	o record;
	simple boolean;
begin
	perform stepd._check_data(format('effects.states %s/%s', left(e.value ->> 'group', 100), left(e.value ->> 'key', 100)), e.value -> 'value')
	from jsonb_array_elements(ops) e where pg_column_size(e.value) > 2048;
	perform from stepd.state s
	where (s.group_id, s.key) in (select distinct e.value ->> 'group', e.value ->> 'key' from jsonb_array_elements(ops) e)
	order by s.group_id, s.key for update;

	select bool_and(e.value ->> 'op' in ('set', 'delete')) into simple from jsonb_array_elements(ops) e;
	if simple then
		with last as materialized (
			select distinct on (1, 2) e.value ->> 'group' as group_id, e.value ->> 'key' as key, e.value ->> 'op' as op, e.value -> 'value' as value
			from jsonb_array_elements(ops) with ordinality e
			order by 1, 2, e.ordinality desc
		), gone as (
			delete from stepd.state s using last l where l.op = 'delete' and s.group_id = l.group_id and s.key = l.key
		)
		insert into stepd.state (group_id, key, value)
		select l.group_id, l.key, coalesce(l.value, 'null') from last l where l.op = 'set' order by l.group_id, l.key
		on conflict (group_id, key) do update set value = excluded.value, updated_at = clock_timestamp();
		return;
	end if;
	for o in select e.value as v from jsonb_array_elements(ops) with ordinality e order by e.ordinality loop
		case o.v ->> 'op'
		when 'set' then perform stepd.state_set(o.v ->> 'group', o.v ->> 'key', o.v -> 'value');
		when 'delete' then perform stepd.state_delete(o.v ->> 'group', o.v ->> 'key');
		when 'clear' then perform stepd.state_clear(o.v ->> 'group');
		when 'update' then perform stepd._state_change(o.v ->> 'group', o.v ->> 'key', o.v -> 'ops',
			format('effects.states %s/%s ops', left(o.v ->> 'group', 100), left(o.v ->> 'key', 100)));
		end case;
	end loop;
end $$;
comment on function stepd._state_apply(jsonb) is 'Apply the state writes that handlers left behind, in order; they are of the shape that _effects_check() wants.';
