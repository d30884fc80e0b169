-- Repeatable.
--
-- Stripes: how claims under concurrencyPerGroup go side by side.
--
-- The groups of a queue are dealt into 64 stripes by their hash (jobs without a
-- group by their id).  With W workers on a lane and N jobs of a group allowed,
-- a worker has an arc of 64 * N / W stripes, so that N workers share each, and
-- takes jobs of its arc only.  A lease says which stripes it is of.
--
-- Why that keeps the limit.  A claim has the locks of its stripes, each alone,
-- to the end of its transaction, and looks only then who holds jobs of them: a
-- stripe that N others are in is left alone.  So of the groups in a stripe never
-- more than N workers hold jobs.  Everybody else who claims of the queue either
-- has its lock alone, and sees all that these claims did, or is one of at most N
-- workers that hold jobs of it (_group_calm).  For the latter, who claims of
-- stripes has to be seen in time or see him: newcomers wait for each other, and
-- whoever held stripes only is a newcomer as long as he does (stepd.kept).
--
-- Arcs are a matter of taste: two workers that count differently meet at a lock
-- or find a stripe full, no more.  They go by who holds jobs of the lane now.  Who
-- has about his share keeps it, and who has less takes more about once a second,
-- when he reads from the start, or when he runs out of jobs: so the place of a
-- worker that is replaced is still free for the new one.
--
-- When it is done.  For quick jobs: somebody holds a batch of them.  A job that runs for long would
-- keep others of its stripe waiting, so when one has gone on for 300 ms, and
-- where jobs are put aside, and for who finds nothing in his arc, all goes by
-- single groups under the queue's lock: see 018_limit.sql.
--
-- Cursors.  A worker's cursor (006_claim.sql) says that nothing is left before
-- it, which is true of his arc only.  So the session keeps, for each lane, the
-- arc and the cursor that goes with it.  Who gets more stripes than he had goes
-- back to where others read now; the rest is found from the start, in a second.

create or replace function stepd._stripe(group_hash bigint, job_id bigint) returns int
language sql immutable parallel safe as $$ select (coalesce(group_hash, job_id) & 63)::int $$;
comment on function stepd._stripe(bigint, bigint) is 'The stripe of a ready job, 0 to 63.';

drop function if exists stepd._stripe_arc(bigint, bigint, int, int, int);
create or replace function stepd._stripe_arc(had bigint, free bigint, rank int, workers int, per_group int, grow boolean) returns bigint
language plpgsql immutable parallel safe as $$
declare
	share int := least(64, (64 * per_group + workers - 1) / workers);
	has int := bit_count((had & free)::bit(64));
begin
	if has <= share * 1.1 and (has >= share * 0.9 or has >= share * 0.5 and not grow) then
		return had & free;
	end if;
	return (select coalesce(bit_or(1::bigint << c.s), 0)
		from (select x.s from generate_series(0, 63) i cross join lateral (select (64 * rank / workers + i) & 63 as s) x
			where free >> x.s & 1 = 1 order by had >> x.s & 1 desc, i limit share) c);
end $$;
comment on function stepd._stripe_arc(bigint, bigint, int, int, int, boolean) is
	'The stripes, a bit each, that one of so many workers (rank counts from 0) goes for, of those that are free, where so many workers may share a stripe and he had these. Who has somewhat less takes more if he is to grow.';

create or replace function stepd._stripes_free(queue_id int, per_group int, node_id int, slot int) returns bigint
language plpgsql stable as $$
#variable_conflict use_column
declare
	others bigint[];
	since timestamptz;
begin
	select array_agg(h.stripes), min(h.since) into others, since
	from (select bit_or(coalesce(l.stripes, -1)) as stripes, min(l.since) as since from stepd.lease l
		where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _stripes_free.queue_id))
			and (l.node_id, l.slot) <> (_stripes_free.node_id, _stripes_free.slot)
		group by l.node_id, l.slot) h;
	return case
		when since < clock_timestamp() - interval '300 ms' then 0
		when others is null then -1
		when per_group = 1 then ~(select bit_or(o) from unnest(others) o)
		else ~(select coalesce(bit_or(1::bigint << f.s), 0)
			from (select s from unnest(others) o cross join generate_series(0, 63) s where o >> s & 1 = 1 group by s having count(*) >= per_group) f)
		end;
end $$;
comment on function stepd._stripes_free(int, int, int, int) is
	'The stripes, a bit each, of which so few other workers hold jobs that no group in them can be full; none while somebody has a job that runs for long.';

create or replace function stepd._stripe_at(lane_id int, out arc bigint, out cursor bigint, out until bigint)
language plpgsql stable as $$
declare
	kept text[] := string_to_array(nullif(current_setting('stepd.at_' || lane_id, true), ''), ' ');
begin
	arc := coalesce(kept[1]::bigint, -1);
	cursor := kept[2]::bigint;
	until := kept[3]::bigint;
end $$;
comment on function stepd._stripe_at(int) is 'The stripes that this session took of a lane last, up to where nothing of them is left, and until when it may go on with them (ms since the epoch); cursor null: of all, up to the worker''s own cursor.';

create or replace function stepd._stripe_keep(lane_id int, arc bigint, cursor bigint, until bigint) returns void
language plpgsql as $$
begin
	perform set_config('stepd.at_' || lane_id, coalesce(arc || ' ' || cursor || ' ' || until, ''), false);
end $$;
comment on function stepd._stripe_keep(int, bigint, bigint, bigint) is 'What _stripe_at is to tell.';

create or replace function stepd._stripe_again(queue_id int, lanes int[], cursors bigint[]) returns bigint[]
language plpgsql stable as $$
#variable_conflict use_column
declare
	mine record;
	at record;
	now bigint := extract(epoch from clock_timestamp()) * 1000;
	arcs bigint[];
begin
	for mine in
		select u.ord, u.lane, u.cur from unnest(lanes, cursors) with ordinality u (lane, cur, ord)
		where u.lane = any (array(select a.id from stepd.lane a where a.queue_id = _stripe_again.queue_id))
	loop
		at := stepd._stripe_at(mine.lane);
		if mine.cur = 0 or now >= coalesce(at.until, 0) then
			return null;
		end if;
		arcs[mine.ord] := at.arc;
	end loop;
	return arcs;
end $$;
comment on function stepd._stripe_again(int, int[], bigint[]) is 'The stripes that a worker had of these lanes, by position, if it may go on with them.';

-- The first thousands tell: who has more than that before his arc begins has to go by groups in any case.
create or replace function stepd._stripe_first(lane_id int, whole boolean, cursor bigint, arc bigint) returns int
language plpgsql stable as $$
#variable_conflict use_column
begin
	return x.s from (
		(select stepd._stripe(x.group_hash, x.pos) as s from stepd.ready x
			where x.lane_id = _stripe_first.lane_id and x.rank < case when whole then 2147483647 else 0 end and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit 2000)
		union all
		(select stepd._stripe(x.group_hash, x.pos) from stepd.ready x
			where x.lane_id = _stripe_first.lane_id and x.rank = 0 and x.pos > cursor and not whole and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit 2000)) x
	where arc >> x.s & 1 = 1 limit 1;
end $$;
comment on function stepd._stripe_first(int, boolean, bigint, bigint) is 'The stripe of the first ready job of a lane that is in one of these; null: none is.';

create or replace function stepd._stripe_least(lane_id int) returns bigint
language plpgsql stable as $$
begin
	return (select min(l.ids[1]) - 1 from stepd.lease l where l.lane_id = _stripe_least.lane_id);
end $$;
comment on function stepd._stripe_least(int) is 'Before the jobs of a lane that are held now; where a worker reads on who takes over stripes.';

create or replace function stepd._stripe_plan(queue_id int, per_group int, node_id int, slot int, lanes int[], cursors bigint[],
	out homes bigint[], out arcs bigint[], out first int)
language plpgsql stable as $$
#variable_conflict use_column
declare
	free bigint;
	quick boolean;
	mine record;
	at record;
begin
	select bool_or(cardinality(l.ids) >= 8) into quick from stepd.lease l
	where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _stripe_plan.queue_id))
		and (l.node_id, l.slot) <> (_stripe_plan.node_id, _stripe_plan.slot)
	having min(l.since) > clock_timestamp() - interval '300 ms';
	if quick is not true or exists (select from stepd.fifo_backlog b where b.queue_id = _stripe_plan.queue_id) then
		return;
	end if;
	free := stepd._stripes_free(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot);
	for mine in
		select u.ord, u.lane, coalesce(u.cur, 0) as cur, q.strategy, h.ahead, h.n
		from unnest(lanes, cursors) with ordinality u (lane, cur, ord)
		join stepd.lane a on a.id = u.lane and a.queue_id = _stripe_plan.queue_id
		join stepd.queue q on q.id = a.queue_id
		cross join lateral (select count(*) filter (where (o.node_id, o.slot) < (_stripe_plan.node_id, _stripe_plan.slot)) as ahead, count(*) as n
			from (select distinct l.node_id, l.slot from stepd.lease l where l.lane_id = u.lane) o
			where (o.node_id, o.slot) <> (_stripe_plan.node_id, _stripe_plan.slot)) h
	loop
		at := stepd._stripe_at(mine.lane);
		arcs[mine.ord] := stepd._stripe_arc(case when at.arc <> -1 then at.arc else 0 end, free, mine.ahead::int, mine.n::int + 1, per_group,
			mine.cur = 0 or at.until = 0);
		if mine.cur = 0 and (mine.strategy = 'standard' or random() < 0.05) then
			arcs[mine.ord] := arcs[mine.ord] | stepd._stripes_free(_stripe_plan.queue_id, 1, _stripe_plan.node_id, _stripe_plan.slot);
		end if;
		homes[mine.ord] := stepd._stripe_arc(0, -1, mine.ahead::int, mine.n::int + 1, per_group, true); -- free or not: so all come to theirs
		first := coalesce(first, stepd._stripe_first(mine.lane, mine.strategy <> 'standard' or mine.cur = 0,
			least(mine.cur, at.cursor, case when arcs[mine.ord] & ~at.arc <> 0 then coalesce(stepd._stripe_least(mine.lane), 0) end), arcs[mine.ord]));
	end loop;
	if first is null then
		arcs := null;
	end if;
end $$;
comment on function stepd._stripe_plan(int, int, int, int, int[], bigint[]) is
	'By position of the lane: homes, the stripes that are a claim''s; arcs, those of them that are not full; and the first of these that has a job for it. arcs null: it has to go by groups, of its homes before others; homes null: as they come.';

create or replace function stepd._stripe_lock(queue_id int, per_group int, node_id int, slot int, arc bigint, first int) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
	got bigint;
begin
	for i in 1 .. 2 loop
		if first is not null then -- while we have no other: so nobody waits who is waited for
			perform pg_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + first);
		end if;
		select bit_or(1::bigint << x.s) into got
		from (select s from generate_series(0, 63) s where arc >> s & 1 = 1 offset 0) x
		where pg_try_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + x.s);
		exit when got is not null;
		first := (select min(s) from generate_series(0, 63) s where arc >> s & 1 = 1);
	end loop;
	return got & stepd._stripes_free(_stripe_lock.queue_id, per_group, _stripe_lock.node_id, _stripe_lock.slot);
end $$;
comment on function stepd._stripe_lock(int, int, int, int, bigint, int) is
	'Lock stripes until the end of the transaction: those that nobody else has locked, first (if not null) or else one in any case. Returns those of them that are free. Waits, so it is for _claim_lock only.';

-- Of an arc whose other stripes are busy: the cursor stays before their jobs.
create or replace function stepd._take_striped(lane_id int, whole boolean, cursor bigint, want int, arc bigint, share bigint,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint)
language plpgsql as $$
#variable_conflict use_column
declare
	t record := stepd._take(_take_striped.lane_id, whole, cursor, want, share);
begin
	ids := t.ids;
	buckets := t.buckets;
	attempts := t.attempts;
	last := t.last;
	if share <> arc and last is not null then
		last := least(last, (select x.pos - 1 from stepd.ready x
			where x.lane_id = _take_striped.lane_id and x.rank = 0 and x.pos > case when whole then 0 else cursor end and x.pos < t.last
				and (arc & ~share) >> stepd._stripe(x.group_hash, x.pos) & 1 = 1
			order by x.lane_id, x.rank, x.pos limit 1));
	end if;
end $$;
comment on function stepd._take_striped(int, boolean, bigint, int, bigint, bigint) is
	'_take of the stripes of share, which are locked; arc: those that the cursor is about.';
