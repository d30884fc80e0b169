-- Repeatable.
--
-- Arguments: what the functions refuse, in words that name the argument.
--
-- What is wrong is said before anything is written, with SQLSTATE 22023.  A
-- check of a list looks at the whole of it at once, and for the element that
-- is wrong only if there is one: claim() and finish() are given hundreds.

create or replace function stepd._bad(argument text, problem text, hint text default null) returns void
language plpgsql as $$
begin
	argument := argument || ': ' || problem;
	if length(argument) > 1000 then -- it repeats what somebody gave
		argument := left(argument, 600) || ' ... ' || right(argument, 300);
	end if;
	if hint is null then
		raise exception using errcode = '22023', message = argument;
	end if;
	raise exception using errcode = '22023', message = argument, hint = hint;
end $$;
comment on function stepd._bad(text, text, text) is 'Raise SQLSTATE 22023 for an argument, with a message of at most some 900 characters.';

drop function if exists stepd._refuse(text, text);

create or replace function stepd._required(names text[], variadic missing boolean[]) returns void
language plpgsql as $$
begin
	if true = any (missing) then
		perform stepd._bad(names[array_position(missing, true)], 'must not be null');
	end if;
end $$;
comment on function stepd._required(text[], boolean[]) is 'Raise SQLSTATE 22023 for the first of these arguments that is missing, if one is.';

create or replace function stepd._check_range(argument text, value bigint, low bigint, high bigint) returns void
language plpgsql as $$
begin
	if value not between low and high then
		perform stepd._bad(argument, format('%s is not between %s and %s', value, low, high));
	end if;
end $$;
comment on function stepd._check_range(text, bigint, bigint, bigint) is 'Refuse a number that is too small or too large.';

create or replace function stepd._check_text(argument text, value text, most int) returns void
language plpgsql as $$
begin
	if coalesce(value, '') = '' then
		perform stepd._bad(argument, 'must not be empty');
	elsif octet_length(value) > most then
		perform stepd._bad(argument, format('is %s bytes long, at most %s are allowed', octet_length(value), most));
	end if;
end $$;
comment on function stepd._check_text(text, text, int) is 'Refuse a text that is empty or of more than so many bytes.';

create or replace function stepd._check_list(argument text, list anyarray, nulls boolean default false) returns void
language plpgsql as $$
begin
	if array_ndims(list) > 1 then
		perform stepd._bad(argument, 'has more than one dimension');
	elsif array_lower(list, 1) <> 1 then -- it would be read as if it did
		perform stepd._bad(argument, format('begins with element %s, not with 1', array_lower(list, 1)));
	elsif not nulls and array_position(list, null) is not null then
		perform stepd._bad(argument, format('must not be null, as element %s is', array_position(list, null)));
	end if;
end $$;
comment on function stepd._check_list(text, anyarray, boolean) is 'Refuse an array of arrays, one that does not begin with element 1, and one with nulls unless it may have some.';

create or replace function stepd._check_lengths(names text[], lengths int[]) returns void
language plpgsql as $$
declare
	-- what most have; of two that differ it is the second that is wrong
	usual int := (select u.n from unnest(lengths) with ordinality u (n, ord) where u.n is not null group by u.n order by count(*) desc, min(u.ord) limit 1);
begin
	perform stepd._bad(names[u.ord], format('has %s elements, and %s has %s', u.n, names[array_position(lengths, usual)], usual))
	from unnest(lengths) with ordinality u (n, ord) where u.n <> usual;
end $$;
comment on function stepd._check_lengths(text[], int[]) is 'Refuse an array that has more or fewer elements than the others that go together with it; null: it was not given.';

create or replace function stepd._check_numbers(argument text, list bigint[], low bigint, high bigint, nulls boolean default false) returns void
language plpgsql as $$
begin
	perform stepd._check_list(argument, list, nulls);
	if low > any (list) or high < any (list) then
		perform stepd._check_range(format('%s[%s]', argument, u.ord), u.value, low, high)
		from unnest(list) with ordinality u (value, ord) where u.value not between low and high;
	end if;
end $$;
comment on function stepd._check_numbers(text, bigint[], bigint, bigint, boolean) is 'Refuse an array as _check_list() does, and numbers in it that are too small or too large.';

create or replace function stepd._check_span(argument text, list bigint[], unit text, nulls boolean default false) returns void
language plpgsql as $$
begin
	perform stepd._check_numbers(argument, list, 0, case unit when 'us' then 3155760000000000 else 3155760000000 end, nulls);
end $$;
comment on function stepd._check_span(text, bigint[], text, boolean) is 'Refuse spans of time that are negative or longer than a hundred years; unit: us or ms.';

create or replace function stepd._check_words(argument text, list text[], words text[]) returns void
language plpgsql as $$
begin
	perform stepd._check_list(argument, list);
	perform stepd._bad(format('%s[%s]', argument, u.ord), format('%L is none of %s', left(u.value, 60), array_to_string(words, ', ')))
	from unnest(list) with ordinality u (value, ord) where u.value <> all (words);
end $$;
comment on function stepd._check_words(text, text[], text[]) is 'Refuse an array as _check_list() does, and words in it that are none of these.';

create or replace function stepd._check_run(argument text, ages_us bigint[], durations_us bigint[]) returns void
language plpgsql as $$
begin
	perform stepd._bad(format(argument, u.ord), format('%s is longer than ago it began, which is %s', u.duration, u.age))
	from unnest(ages_us, durations_us) with ordinality u (age, duration, ord) where u.duration > u.age;
end $$;
comment on function stepd._check_run(text, bigint[], bigint[]) is 'Refuse durations of runs that would end in the future; argument: the name, with %s for the position.';

create or replace function stepd._check_times(argument text, list timestamptz[], nulls boolean default false) returns void
language plpgsql as $$
begin
	perform stepd._check_list(argument, list, nulls);
	if '1970-01-01 00:00Z' > any (list) or '10000-01-01 00:00Z' <= any (list) then
		perform stepd._bad(format('%s[%s]', argument, u.ord), format('%s is not between 1970 and 9999', u.at))
		from unnest(list) with ordinality u (at, ord) where u.at < '1970-01-01 00:00Z' or u.at >= '10000-01-01 00:00Z';
	end if;
end $$;
comment on function stepd._check_times(text, timestamptz[], boolean) is 'Refuse an array as _check_list() does, and times in it before 1970 or after 9999.';

create or replace function stepd._check_time(argument text, value text) returns void
language plpgsql as $$
declare
	finite boolean;
begin
	begin
		finite := isfinite(value::timestamptz);
	exception when data_exception then
		perform stepd._bad(argument, sqlerrm);
	end;
	if not finite then
		perform stepd._bad(argument, 'must be finite');
	end if;
end $$;
comment on function stepd._check_time(text, text) is 'Refuse a text that is no time, or an infinite one.';

create or replace function stepd._json(argument text, value text) returns jsonb
language plpgsql as $$
begin
	return value::jsonb;
exception when data_exception or program_limit_exceeded then
	perform stepd._bad(argument, sqlerrm);
end $$;
comment on function stepd._json(text, text) is 'JSON text as a value; refuses what is none. Null for null.';

create or replace function stepd._json_list(argument text, list text[]) returns jsonb[]
language plpgsql as $$
begin
	return array(select u.value::jsonb from unnest(list) with ordinality u (value, ord) order by u.ord);
exception when data_exception or program_limit_exceeded then
	perform stepd._json(format('%s[%s]', argument, u.ord), u.value) from unnest(list) with ordinality u (value, ord);
	raise;
end $$;
comment on function stepd._json_list(text, text[]) is 'JSON texts as values; refuses what is none.';

-- Shapes: what an object may hold, as {"member": "rule"}.  A rule is a type
-- and its bounds; with "!" the member must be there, and a string not be
-- empty.  Types: any, object, array, boolean, string MOST_BYTES, strings
-- MOST_BYTES (an array of them, none empty), integer LOW HIGH, number LOW HIGH, or the words
-- that may be: one|two|three.

drop function if exists stepd._check_objects(text, jsonb, text[], text[]);
drop function if exists stepd._check_member(text, jsonb, text, numeric, numeric);

create or replace function stepd._check_value(argument text, value jsonb, rule text) returns void
language plpgsql as $$
declare
	words text[] := string_to_array(rule, ' ');
	type text := rtrim(words[1], '!');
	kind text := coalesce(jsonb_typeof(value), 'null');
	shown text := left(value::text, 60);
begin
	if kind = 'null' or type = 'string' and value = '""' then
		if words[1] like '%!' then
			perform stepd._bad(argument, 'must not be empty');
		end if;
	elsif type in ('integer', 'number') then
		if kind <> 'number' then
			perform stepd._bad(argument, format('%s is no number', shown));
		elsif value::numeric not between words[2]::numeric and words[3]::numeric or type = 'integer' and scale(value::numeric) > 0 then -- 1.0 is none that can be stored as one
			perform stepd._bad(argument, format('%s is not a %s between %s and %s', shown, case type when 'integer' then 'whole number' else type end, words[2], words[3]));
		elsif scale(value::numeric) > 30 then -- where it is kept as a float it would be out of range
			perform stepd._bad(argument, format('has %s digits after the point, at most 30 are allowed', scale(value::numeric)));
		end if;
	elsif type = 'string' and kind = 'string' then
		perform stepd._check_text(argument, value #>> '{}', coalesce(nullif(words[2], '')::int, 1073741823));
	elsif type = 'strings' and kind = 'array' then
		perform stepd._check_value(format('%s[%s]', argument, x.ordinality - 1), x.value, 'string! ' || coalesce(words[2], '')) from jsonb_array_elements(value) with ordinality x;
	elsif type like '%|%' then
		if kind <> 'string' or value #>> '{}' <> all (string_to_array(type, '|')) then
			perform stepd._bad(argument, format('%s is none of %s', shown, replace(type, '|', ', ')));
		end if;
	elsif type not in (kind, 'any') then
		perform stepd._bad(argument, format('%s is no %s', shown, case type when 'strings' then 'array of strings' else type end));
	end if;
end $$;
comment on function stepd._check_value(text, jsonb, text) is 'Refuse a value that is not what a rule of a shape says.';

create or replace function stepd._check_object(argument text, object jsonb, shape jsonb) returns void
language plpgsql as $$
declare
	unknown text;
begin
	if jsonb_typeof(object) is distinct from 'object' then
		perform stepd._bad(argument, 'is not an object');
	end if;
	unknown := (select left(k, 60) from jsonb_object_keys(object) k where not shape ? k order by k limit 1);
	if unknown is not null then
		perform stepd._bad(argument || '.' || unknown, 'is not known',
			'There are ' || (select string_agg(k, ', ') from jsonb_object_keys(shape) k) || '.');
	end if;
	perform stepd._check_value(argument || '.' || r.key, object -> r.key, r.value) from jsonb_each_text(shape) r;
end $$;
comment on function stepd._check_object(text, jsonb, jsonb) is 'Refuse what is not an object of a shape.';

create or replace function stepd._check_objects(argument text, list jsonb, shape jsonb) returns void
language plpgsql as $$
begin
	if jsonb_typeof(list) is distinct from 'array' then
		perform stepd._bad(argument, 'is not an array of objects');
	end if;
	perform stepd._check_object(format('%s[%s]', argument, x.ordinality - 1), x.value, shape) from jsonb_array_elements(list) with ordinality x;
end $$;
comment on function stepd._check_objects(text, jsonb, jsonb) is 'Refuse what is not an array of objects of a shape.';

drop function if exists stepd._list_of(text, jsonb, text);
