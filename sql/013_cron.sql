-- Repeatable.
--
-- Cron: ticks become jobs.
--
-- Any number of cron processes compute ticks and bring them here.  The
-- primary key of stepd.tick decides: whoever inserts the row makes the job, in
-- the same transaction; who comes second waits for the first to commit and
-- then does nothing.  Ticks are inserted in order of schedule and time, so
-- that two bringers of the same batch do not deadlock.
--
-- overlap = skip is a unique key of the jobs of one schedule: while one of them
-- is unfinished there is no second, whatever becomes of it (retries, crashes,
-- lost nodes).  The tick's row is there all the same, so that no other node
-- brings it later.

create or replace function stepd._schedule_key(schedule_id int) returns text
language sql immutable parallel safe as $$ select 'cron:' || schedule_id $$;
comment on function stepd._schedule_key(int) is 'Unique key of the jobs of a schedule with overlap = skip.';

create or replace function stepd._cron_time(at timestamptz) returns text
language sql stable parallel safe as $$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;
comment on function stepd._cron_time(timestamptz) is 'A time as handlers see it, like JavaScript''s toISOString().';

create or replace function stepd._cron_item(ord bigint, c stepd.schedule, scheduled_at timestamptz, fired_at timestamptz, manual boolean)
returns stepd._item
language sql stable as $$
	select row(ord, null, c.lane_id, 'cron', c.trigger_index,
		jsonb_build_object('scheduledAt', stepd._cron_time(scheduled_at), 'firedAt', stepd._cron_time(fired_at),
			'expression', c.expression, 'timezone', c.timezone, 'manual', manual),
		0, null, null, case when c.overlap = 'skip' then stepd._schedule_key(c.id) end, null, null)::stepd._item
$$;
comment on function stepd._cron_item(bigint, stepd.schedule, timestamptz, timestamptz, boolean) is 'The job of one tick, for _put. Its data is what the handler gets.';

create or replace function stepd.schedules_load(steps text[]) returns table (schedule_id int, step text, trigger_index int, expression text,
	timezone text, last_fire timestamptz, paused boolean, missed text, catch_up_ms bigint, revision int, since timestamptz)
language plpgsql stable as $$
#variable_conflict use_column
begin
	perform stepd._required('{steps}', steps is null);
	perform stepd._check_list('steps', steps);
	return query
		select c.id, s.name, c.trigger_index, c.expression, c.timezone, greatest(c.last_tick, c.since), c.paused, c.missed, c.catch_up_ms,
			c.revision, c.since
		from stepd.schedule c join stepd.step s on s.id = c.step_id
		where not c.retired and s.name = any (steps)
		order by c.id;
end $$;
comment on function stepd.schedules_load(text[]) is 'The cron triggers of these steps. last_fire: ticks after it are still to come: the newest that was brought, or when the schedule came, changed or was resumed.';

create or replace function stepd.cron_fire(schedule_ids int[], fire_at timestamptz[], next_at timestamptz[], revisions int[] default null,
	fired_at timestamptz default clock_timestamp())
returns table (schedule_id int, job_id bigint)
language plpgsql
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
	ids int[];
	times timestamptz[];
	items stepd._item[];
	made bigint[];
begin
	perform stepd._required('{schedule_ids,fire_at,next_at,fired_at}', cron_fire.schedule_ids is null, cron_fire.fire_at is null, cron_fire.next_at is null,
		cron_fire.fired_at is null);
	perform stepd._check_lengths('{schedule_ids,fire_at,next_at,revisions}', array[cardinality(schedule_ids), cardinality(cron_fire.fire_at), cardinality(next_at), cardinality(revisions)]);
	perform stepd._check_list('schedule_ids', schedule_ids), stepd._check_times('fire_at', cron_fire.fire_at),
		stepd._check_times('next_at', next_at, true);
	perform stepd._bad('fired_at', format('%s is not between 1970 and 9999', cron_fire.fired_at))
	where cron_fire.fired_at < '1970-01-01 00:00Z' or cron_fire.fired_at >= '10000-01-01 00:00Z';
	perform stepd._check_list('revisions', revisions, true);
	perform stepd._bad(format('fire_at[%s]', u.ord), format('%s is more than ten years ahead', u.at)) -- nothing before it would fire any more; a node's clock may be wrong by less
	from unnest(cron_fire.fire_at) with ordinality u (at, ord) where u.at > clock_timestamp() + interval '3660 days';
	perform stepd._bad(format('next_at[%s]', u.ord), format('%s is not after fire_at', u.next))
	from unnest(cron_fire.fire_at, next_at) with ordinality u (at, next, ord) where u.next <= u.at;
	with new as (
		insert into stepd.tick (schedule_id, fire_at)
		select u.id, u.at from unnest(schedule_ids, cron_fire.fire_at, revisions) u (id, at, revision)
		join stepd.schedule c on c.id = u.id and not c.retired and not c.paused and c.revision = coalesce(u.revision, c.revision)
			-- maintain() keeps rows of at least eight days; what they can not tell any more, the newest tick does
			and (u.at > c.last_tick or u.at > now() - interval '8 days') is not false
		order by u.id, u.at
		on conflict do nothing
		returning schedule_id, fire_at)
	select array_agg(n.schedule_id order by n.fire_at, n.schedule_id), array_agg(n.fire_at order by n.fire_at, n.schedule_id)
	into ids, times from new n;
	items := array(
		select stepd._cron_item(u.ord, c, u.at, cron_fire.fired_at, false)
		from unnest(ids, times) with ordinality u (id, at, ord) join stepd.schedule c on c.id = u.id order by u.ord);
	made := array(select p.job_id from stepd._put(items) p order by p.ord);
	if exists (select from unnest(items) i where i.unique_key is not null) then
		-- where an unfinished job had the key, its id came back: no job for that tick
		made := array(
			select case when i.unique_key is null or j.input ->> 'scheduledAt' = i.data ->> 'scheduledAt' then i.job end
			from unnest(items, made) i (ord, topic, lane_id, trigger, trigger_index, data, priority, run_at, group_id, unique_key,
				parent_id, trace_id, job)
			left join lateral (select x.input from stepd.job x where x.id = i.job and i.unique_key is not null limit 1) j on true
			order by i.ord);
	end if;

	-- several ticks of one schedule: the newest is what the row shows
	update stepd.schedule c set
		last_tick = greatest(c.last_tick, n.at),
		last_run = greatest(c.last_run, n.ran),
		last_job_id = case when n.ran >= coalesce(c.last_run, n.ran) then n.job else c.last_job_id end,
		skipped = c.skipped + n.skipped,
		next_run = n.next
	from (select u.id, max(u.at) as at, max(u.next) as next, max(u.at) filter (where m.job is not null) as ran,
				max(m.job) as job, count(*) filter (where m.id is not null and m.job is null) as skipped
			from unnest(schedule_ids, cron_fire.fire_at, next_at, revisions) u (id, at, next, revision)
			join stepd.schedule x on x.id = u.id and x.revision = coalesce(u.revision, x.revision)
			left join unnest(ids, times, made) m (id, at, job) on m.id = u.id and m.at = u.at
			group by u.id) n
	where c.id = n.id and not c.retired and not c.paused
		and c.id in (select x.id from stepd.schedule x where x.id = any (schedule_ids) order by x.id for update);
	return query select u.id, u.job from unnest(ids, made) u (id, job);
end $$;
comment on function stepd.cron_fire(int[], timestamptz[], timestamptz[], int[], timestamptz) is
'Make the jobs of due ticks; the arrays go together: schedule, its tick, the tick after it, and the revision they were computed from. A tick that some node has fired before is left out, so are those of paused, retired and changed schedules. Returns one row for each new tick, in order of time; job_id is null where the job before was unfinished and the schedule says overlap = skip.';

create or replace function stepd.cron_next(schedule_ids int[], next_at timestamptz[], descriptions text[] default null) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._required('{schedule_ids,next_at}', schedule_ids is null, next_at is null);
	perform stepd._check_lengths('{schedule_ids,next_at,descriptions}', array[cardinality(schedule_ids), cardinality(next_at), cardinality(descriptions)]);
	perform stepd._check_list('schedule_ids', schedule_ids), stepd._check_times('next_at', next_at, true), stepd._check_list('descriptions', descriptions, true);
	update stepd.schedule c set next_run = u.next, description = coalesce(u.description, c.description)
	from unnest(schedule_ids, next_at, descriptions) u (id, next, description)
	where c.id = u.id and (c.next_run, c.description) is distinct from (u.next, coalesce(u.description, c.description))
		and c.id in (select x.id from stepd.schedule x where x.id = any (schedule_ids) order by x.id for update);
end $$;
comment on function stepd.cron_next(int[], timestamptz[], text[]) is 'Show when schedules will fire next, and what that means in words.';

-- People -----------------------------------------------------------------------

create or replace function stepd._schedules_of(step text, trigger_index int) returns setof stepd.schedule
language plpgsql stable as $$
#variable_conflict use_column
begin
	if _schedules_of.step is null then
		perform stepd._bad('step', 'must not be null');
	elsif not exists (select from stepd.step s where s.name = _schedules_of.step) then
		perform stepd._bad('step', format('there is no step "%s"', _schedules_of.step));
	end if;
	return query
		select c.* from stepd.schedule c join stepd.step s on s.id = c.step_id
		where s.name = _schedules_of.step and not c.retired
			and c.trigger_index = coalesce(_schedules_of.trigger_index, c.trigger_index)
		order by c.id;
	if not found and _schedules_of.trigger_index is null then
		perform stepd._bad('step', format('"%s" has no cron trigger', _schedules_of.step), 'Other triggers are fired by stepd.enqueue() or a request.');
	elsif not found then
		perform stepd._bad('trigger_index', format('trigger %s of "%s" is not a cron trigger', _schedules_of.trigger_index, _schedules_of.step),
			'stepd.schedules shows which are; the first trigger of a step is 0.');
	end if;
end $$;
comment on function stepd._schedules_of(text, int) is 'The schedules of a step, or the one of this trigger; raises 22023 when there is none.';

create or replace function stepd.run(step text, trigger_index int default null) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
	c stepd.schedule;
begin
	select * into c from stepd._schedules_of(run.step, run.trigger_index) limit 1;
	return (select p.job_id from stepd._put(array[stepd._cron_item(1, c, clock_timestamp(), clock_timestamp(), true)]) p);
end $$;
comment on function stepd.run(text, int) is
'Run a step now as its (first) cron trigger would, paused or not. Returns the job''s id; with overlap = skip that of the unfinished job, if there is one.';

create or replace function stepd._schedule_pause(step text, trigger_index int, paused boolean) returns boolean
language plpgsql as $$
#variable_conflict use_column
begin
	perform from stepd._schedules_of(_schedule_pause.step, _schedule_pause.trigger_index); -- that it is there, whatever the planner does below
	update stepd.schedule c set paused = _schedule_pause.paused, since = clock_timestamp(), next_run = null
	where c.id in (select x.id from stepd._schedules_of(_schedule_pause.step, _schedule_pause.trigger_index) x)
		and c.paused <> _schedule_pause.paused;
	if not found then
		return false;
	end if;
	perform stepd._settings_changed();
	return true;
end $$;
comment on function stepd._schedule_pause(text, int, boolean) is 'Set schedule.paused and tell the nodes.';

create or replace function stepd.pause_schedule(step text, trigger_index int default null) returns boolean
language sql as $$ select stepd._schedule_pause(step, trigger_index, true) $$;
comment on function stepd.pause_schedule(text, int) is 'Let a step''s schedule, or that of one of its triggers, fire no more, on any node. False: it was paused.';

create or replace function stepd.resume_schedule(step text, trigger_index int default null) returns boolean
language sql as $$ select stepd._schedule_pause(step, trigger_index, false) $$;
comment on function stepd.resume_schedule(text, int) is 'Undo pause_schedule(); ticks of the pause are not made up for. False: it was not paused.';
