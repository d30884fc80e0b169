-- Cron: ticks become jobs.
--
-- Any number of cron processes compute ticks and bring them here.  The
-- primary key of stepd.tick decides: whoever inserts the row makes the job, in
-- the same transaction; who comes second waits for the first to commit and
-- then does nothing.  Ticks are inserted in order of schedule and time, so
-- that two bringers of the same batch do not deadlock.

create function stepd.schedules_load(steps text[]) returns table (schedule_id int, step text, trigger_index int, expression text,
	timezone text, last_fire timestamptz, paused boolean)
language sql stable as $$
	select c.id, s.name, c.trigger_index, c.expression, c.timezone, greatest(c.last_run, c.since), c.paused
	from stepd.schedule c join stepd.step s on s.id = c.step_id
	where not c.retired and s.name = any (steps)
	order by c.id
$$;
comment on function stepd.schedules_load(text[]) is 'The cron triggers of these steps. last_fire: ticks after it are still to come: the newest that became a job, or when the schedule came or changed.';

create function stepd.cron_fire(schedule_ids int[], fire_at timestamptz[], next_at timestamptz[])
returns table (schedule_id int, job_id bigint)
language plpgsql as $$
#variable_conflict use_column
declare
	ids int[];
	times timestamptz[];
	items stepd._item[];
	made bigint[];
begin
	if cardinality(schedule_ids) <> cardinality(cron_fire.fire_at) or cardinality(schedule_ids) <> cardinality(next_at) then
		perform stepd._bad('schedule_ids', 'has another length than fire_at or next_at');
	end if;
	with new as (
		insert into stepd.tick (schedule_id, fire_at)
		select u.id, u.at from unnest(schedule_ids, cron_fire.fire_at) u (id, at)
		join stepd.schedule c on c.id = u.id and not c.retired and not c.paused
		order by u.id, u.at
		on conflict do nothing
		returning schedule_id, fire_at)
	select array_agg(n.schedule_id order by n.fire_at, n.schedule_id), array_agg(n.fire_at order by n.fire_at, n.schedule_id)
	into ids, times from new n;
	items := array(
		select row(u.ord, null, c.lane_id, 'cron', c.trigger_index, 'null', 0, null, null, null, null, null)::stepd._item
		from unnest(ids) with ordinality u (id, ord) join stepd.schedule c on c.id = u.id order by u.ord);
	made := array(select p.job_id from stepd._put(items) p order by p.ord);

	-- several ticks of one schedule: the newest is what the row shows
	update stepd.schedule c set
		last_run = greatest(c.last_run, n.at),
		last_job_id = case when n.job is not null and n.at >= coalesce(c.last_run, n.at) then n.job else c.last_job_id end,
		next_run = n.next
	from (select distinct on (u.id) u.id, u.at, u.next, m.job
			from unnest(schedule_ids, cron_fire.fire_at, next_at) u (id, at, next)
			left join unnest(ids, times, made) m (id, at, job) on m.id = u.id and m.at = u.at
			order by u.id, u.at desc) n
	where c.id = n.id and not c.retired and not c.paused
		and c.id in (select x.id from stepd.schedule x where x.id = any (schedule_ids) order by x.id for update);
	return query select u.id, u.job from unnest(ids, made) u (id, job);
end $$;
comment on function stepd.cron_fire(int[], timestamptz[], timestamptz[]) is
'Make the jobs of due ticks; the arrays go together: schedule, its tick, and the tick after it. A tick that some node has fired before is left out, so are those of paused and retired schedules. Returns one row for each new tick, in order of time.';

create function stepd.cron_next(schedule_ids int[], next_at timestamptz[]) returns void
language sql as $$
	update stepd.schedule c set next_run = u.next
	from unnest(schedule_ids, next_at) u (id, next)
	where c.id = u.id and c.next_run is distinct from u.next
$$;
comment on function stepd.cron_next(int[], timestamptz[]) is 'Show when schedules will fire next.';
