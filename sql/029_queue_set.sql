-- Repeatable.
--
-- Settings of a queue changed by hand.
--
-- What is set here is kept beside what configuration files say and counts more:
-- a reload, which may come from any node at any time, does not undo what an
-- operator did in an emergency.  queue_reset() does.

create or replace function stepd._duration_ms(value text) returns bigint
language sql immutable as $$
	select case when m.p is not null then least(m.p[1]::numeric * case m.p[2] when 's' then 1000 when 'm' then 60000 when 'h' then 3600000
		when 'd' then 86400000 else 1 end, 9223372036854775807) end::bigint
	from (select regexp_match(value, '^([0-9]{1,12})(ms|s|m|h|d|)$') as p) m
$$;
comment on function stepd._duration_ms(text) is 'A time as in the configuration file: 1500, 500ms, 30s, 5m, 2h, 7d. Null: it is none; what is beyond all numbers is the largest.';

create or replace function stepd._duration_text(ms bigint) returns text
language sql immutable as $$
	select $1 / u.ms || u.name from (values (1, 'ms'), (1000, 's'), (60000, 'm'), (3600000, 'h'), (86400000, 'd')) u (ms, name)
	where $1 % u.ms = 0 and ($1 > 0 or u.ms = 1) order by u.ms desc limit 1
$$;
comment on function stepd._duration_text(bigint) is 'A time as in the configuration file, in the largest unit that fits.';

create or replace function stepd._override_number(key text, value text, low bigint, high bigint, zero text) returns jsonb
language plpgsql immutable as $$
begin
	if value = zero then
		return '0';
	end if;
	if value !~ '^[0-9]{1,15}$' or value::bigint not between low and high then
		perform stepd._bad('settings.' || key, format('must be a whole number from %s to %s%s, found %L', low, high,
			coalesce(', or ' || zero, ''), value));
	end if;
	return to_jsonb(value::bigint);
end $$;
comment on function stepd._override_number(text, text, bigint, bigint, text) is 'A whole number of one setting; the word none: 0.';

create or replace function stepd._override_time(key text, value text, low bigint, high bigint, zero text) returns jsonb
language plpgsql immutable as $$
declare
	ms bigint := stepd._duration_ms(value);
begin
	if value = zero then
		return '0';
	end if;
	if ms is null or ms not between low and high then
		perform stepd._bad('settings.' || key, format('must be a time such as 500ms, 30s, 5m, 2h or 7d, from %s to %s%s, found %L',
			stepd._duration_text(low), stepd._duration_text(high), coalesce(', or ' || zero, ''), value));
	end if;
	return to_jsonb(ms);
end $$;
comment on function stepd._override_time(text, text, bigint, bigint, text) is 'A time of one setting in milliseconds; the word none: 0.';

create or replace function stepd._override_word(key text, value text, words text[]) returns jsonb
language plpgsql immutable as $$
begin
	if value <> all (words) then
		perform stepd._bad('settings.' || key, format('must be one of %s, found %L', array_to_string(words, ', '), value));
	end if;
	return to_jsonb(value);
end $$;
comment on function stepd._override_word(text, text, text[]) is 'A word of one setting.';

create or replace function stepd._override_part(key text, value text) returns jsonb
language plpgsql immutable as $$
begin
	if value !~ '^(0([.][0-9]{1,9})?|1([.]0{1,9})?)$' then
		perform stepd._bad('settings.' || key, format('must be a number from 0 to 1 such as 0.1, found %L', value));
	end if;
	return to_jsonb(value::numeric);
end $$;
comment on function stepd._override_part(text, text) is 'A part of one as a number.';

create or replace function stepd._override_rate(value text) returns jsonb
language plpgsql immutable as $$
declare
	part text[] := regexp_match(value, '^([0-9]{1,7})/([0-9]+[a-z]*)$');
	ms bigint := stepd._duration_ms(part[2]);
begin
	if value = 'none' then
		return '{"rate_limit": 0, "rate_window_ms": 1000}';
	end if;
	if part is null or part[1]::int not between 1 and 1000000 or coalesce(ms, 0) not between 1 and 365 * 86400000::bigint then
		perform stepd._bad('settings.rateLimit', format('must be a number per time of at most 365d such as 100/1s, or none, found %L', value));
	end if;
	return jsonb_build_object('rate_limit', part[1]::int, 'rate_window_ms', ms);
end $$;
comment on function stepd._override_rate(text) is 'The two settings of a rateLimit.';

-- Names, units and ranges as in the configuration file (src/conf/options.c).
create or replace function stepd._override(key text, value text) returns jsonb
language plpgsql immutable as $$
declare
	day bigint := 86400000;
begin
	return case key
		when 'strategy' then jsonb_build_object('strategy', stepd._override_word(key, value, '{standard,fifo,priority}'))
		when 'maxRetries' then jsonb_build_object('max_retries', stepd._override_number(key, value, 0, 10000, null))
		when 'retryDelay' then jsonb_build_object('retry_delay_ms', stepd._override_time(key, value, 0, 30 * day, null))
		when 'backoff' then jsonb_build_object('backoff', stepd._override_word(key, value, '{exponential,linear,fixed}'))
		when 'maxRetryDelay' then jsonb_build_object('max_retry_delay_ms', stepd._override_time(key, value, 0, 365 * day, null))
		when 'maxConcurrency' then jsonb_build_object('max_concurrency', stepd._override_number(key, value, 1, 1000000, 'none'))
		when 'timeout' then jsonb_build_object('timeout_ms', stepd._override_time(key, value, 10, 30 * day, 'none'))
		when 'concurrencyPerGroup' then jsonb_build_object('concurrency_per_group', stepd._override_number(key, value, 1, 1000000, 'none'))
		when 'history' then jsonb_build_object('history_ms', stepd._override_time(key, value, day, 36500 * day, 'keep'))
		when 'rateLimit' then stepd._override_rate(value)
		when 'jitter' then jsonb_build_object('jitter', stepd._override_part(key, value))
	end;
end $$;
comment on function stepd._override(text, text) is 'One setting with its name and value as in the configuration file, as columns of stepd.queue; null: there is no such setting.';

create or replace function stepd._override_columns(key text) returns text[]
language sql immutable as $$
	select case when key = 'rateLimit' then '{rate_limit,rate_window_ms}'
		else array[stepd._setting_column(key)] end
$$;
comment on function stepd._override_columns(text) is 'The columns of stepd.queue that a setting is kept in.';

create or replace function stepd._setting_known(key text) returns void
language plpgsql immutable as $$
declare
	known text[] := '{strategy,maxRetries,retryDelay,backoff,maxRetryDelay,jitter,maxConcurrency,timeout,rateLimit,concurrencyPerGroup,history}';
begin
	if key is null or key <> all (known) then
		perform stepd._bad('settings', format('there is no setting %L', key), 'There are ' || array_to_string(known, ', ') || '.');
	end if;
end $$;
comment on function stepd._setting_known(text) is 'Raise 22023 unless a queue has such a setting.';

-- Under configure()'s lock, so that none is lost between the two of them.
create or replace function stepd._override_save(queue text, overrides jsonb) returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	q stepd.queue;
begin
	update stepd.queue x set overrides = _override_save.overrides where x.name = _override_save.queue returning * into q;
	perform stepd._queue_apply(q.id, 'settings');
	select * into q from stepd.queue x where x.id = q.id;
	if q.strategy = 'fifo' and coalesce((_override_save.overrides ->> 'concurrency_per_group')::int, 0) > 0 then
		perform stepd._bad('settings.concurrencyPerGroup', 'a fifo queue always runs one job of a group');
	end if;
	perform stepd._settings_changed();
	perform stepd._ring('');
	return q.overrides;
end $$;
comment on function stepd._override_save(text, jsonb) is 'Replace what was set by hand, and tell the nodes.';

create or replace function stepd.queue_set(queue text, settings jsonb) returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	q stepd.queue;
	overrides jsonb;
	s record;
begin
	perform pg_advisory_xact_lock(1937007984, 0);
	q := stepd._queue(queue);
	overrides := q.overrides;
	if coalesce(jsonb_typeof(settings), '') <> 'object' or settings = '{}' then
		perform stepd._bad('settings', 'is not an object with at least one setting', 'Such as {"maxConcurrency": 5, "timeout": "30s"}.');
	end if;
	for s in select e.key, e.value #>> '{}' as text, jsonb_typeof(e.value) as type from jsonb_each(settings) e order by e.key loop
		perform stepd._setting_known(s.key);
		if s.type not in ('string', 'number') then
			perform stepd._bad('settings.' || s.key, format('must be a number or a text, found %s', s.type),
				'stepd.queue_reset() takes a setting back.');
		end if;
		overrides := overrides || stepd._override(s.key, s.text);
	end loop;
	return stepd._override_save(q.name, overrides);
end $$;
comment on function stepd.queue_set(text, jsonb) is
	'Change settings of a queue on all nodes at once: {"setting": value}, names and values as in the configuration file. They count more than the file, reloads and restarts included, until queue_reset(). Returns all that is set by hand.';

create or replace function stepd.queue_reset(queue text, variadic settings text[] default '{}') returns jsonb
language plpgsql as $$
#variable_conflict use_column
declare
	q stepd.queue;
	overrides jsonb;
	s text;
begin
	perform stepd._required('{settings}', settings is null);
	perform stepd._check_list('settings', settings);
	perform pg_advisory_xact_lock(1937007984, 0);
	q := stepd._queue(queue);
	overrides := case when cardinality(settings) = 0 then '{}' else q.overrides end;
	foreach s in array settings loop
		perform stepd._setting_known(s);
		overrides := overrides - stepd._override_columns(s);
	end loop;
	return stepd._override_save(q.name, overrides);
end $$;
comment on function stepd.queue_reset(text, text[]) is
	'Take back what queue_set() did to a queue: these settings, or all. What the configuration files say counts again, at once. Returns what is still set by hand.';
