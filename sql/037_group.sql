-- Repeatable.
--
-- concurrencyPerGroup: claims by single groups, side by side.  See 035_stripe.sql
-- for how groups are counted, and for claims of large batches.
--
-- A claim looks which groups are full, finds jobs of others, locks their groups,
-- looks again, and takes them.  It waits for nobody: a group that somebody else
-- has locked is his.  Its lease tells the groups of its jobs, so that others know
-- them, however long a job runs.
--
-- Jobs are looked for in the order of the lane.  Where thousands stand in front
-- whose groups are full, groups are looked for that are not, by an index, from
-- anywhere on; so it does not matter how many jobs a busy group has.  A job
-- without a group is not found so, but by reading all that is before it.  That,
-- and an index full of dead rows, may take long; it is not done again and again.
--
-- Who takes part of the groups only leaves some to others: as many as there are
-- workers share them.
--
-- Where a lease does not tell its groups, all of its stripes are taken.  If it is
-- small, or a worker has found nothing for a while, they are written into the
-- lease.  It is locked for that, so whoever finishes it sees that it tells groups
-- now, and claims no more as if it had the stripes (stepd.kept).

create or replace function stepd._group_hashes(ids bigint[], buckets date[]) returns bigint[]
language plpgsql stable as $$
#variable_conflict use_column
declare
	day date := buckets[1];
begin
	if day = all (buckets) then -- nearly always; picks one partition once
		return array(select hashtextextended((select x.group_id from stepd.job x where x.id = u.id and x.bucket = day limit 1), 0)
			from unnest(ids) with ordinality u (id, ord) order by u.ord);
	end if;
	return array(select hashtextextended((select x.group_id from stepd.job x where x.id = u.id and x.bucket = u.bucket limit 1), 0)
		from unnest(ids, buckets) with ordinality u (id, bucket, ord) order by u.ord);
end $$;
comment on function stepd._group_hashes(bigint[], date[]) is 'The groups of held jobs, as in stepd.ready.group_hash, by position.';

create or replace function stepd._group_tell(queue_id int, node_id int, slot int) returns boolean
language plpgsql as $$
#variable_conflict use_column
declare
	most int := case when stepd._starves_ms() < 60 then 32 else 2147483647 end;
begin
	update stepd.lease l set groups = g.groups,
		stripes = (select bit_or(1::bigint << stepd._stripe(coalesce(u.g, 0), 0)) from unnest(g.groups) u (g))
	from (select x.id, stepd._group_hashes(x.ids, x.buckets) as groups
		from stepd.lease x
		where x.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _group_tell.queue_id))
			and (x.node_id, x.slot) <> (_group_tell.node_id, _group_tell.slot) and x.groups is null and cardinality(x.ids) <= most
		for update skip locked) g
	where l.id = g.id;
	return found;
end $$;
comment on function stepd._group_tell(int, int, int) is 'Write into the leases of others whose jobs'' groups are not told what these are: into small ones, and into all if this session has found nothing for 60 ms. Was there any?';

create or replace function stepd._group_near(lane_id int, whole boolean, touched boolean, cursor bigint, free bigint, busy bigint[], look int, depth int,
	out jobs tid[], out hashes bigint[], out cut boolean)
language plpgsql stable as $$
#variable_conflict use_column
begin
	select array_agg(x.at), array_agg(x.h) into jobs, hashes
	from (select x.* from (
			(select x.ctid as at, x.rank, x.pos, x.group_hash as h from stepd.ready x
				where x.lane_id = _group_near.lane_id and x.rank < case when whole then 2147483647 else 0 end and (touched or x.xmax = 0)
				order by x.lane_id, x.rank, x.pos limit depth)
			union all
			(select x.ctid, x.rank, x.pos, x.group_hash from stepd.ready x
				where x.lane_id = _group_near.lane_id and x.rank = 0 and x.pos > cursor and not whole and (touched or x.xmax = 0)
				order by x.lane_id, x.rank, x.pos limit depth)) x
		where x.h is null or free >> (x.h & 63)::int & 1 = 1 and (busy is null or x.h not in (select b from unnest(busy) b))
		limit look) x;
	cut := jobs is null and depth < 2147483647 and exists (
		(select from stepd.ready x where x.lane_id = _group_near.lane_id and x.rank < case when whole then 2147483647 else 0 end
			order by x.lane_id, x.rank, x.pos limit depth)
		union all
		(select from stepd.ready x where x.lane_id = _group_near.lane_id and x.rank = 0 and x.pos > cursor and not whole
			order by x.lane_id, x.rank, x.pos limit depth)
		offset depth - 1);
end $$;
comment on function stepd._group_near(int, boolean, boolean, bigint, bigint, bigint[], int, int) is
	'The next jobs of a lane, up to look of depth, in its order, that are of free stripes and not of busy groups, and their groups; whole: from its start; touched: also such that somebody has taken or tried to. cut: there are none, and more than depth were to be looked at.';

-- From one group to the next in the index: a step each, however many jobs a group has.
create or replace function stepd._group_next(lane_id int, start bigint, upto bigint, free bigint, groups bigint[], want int) returns bigint[]
language plpgsql stable as $$
#variable_conflict use_column
begin
	return array(
		with recursive step (h, n) as (
			(select x.group_hash, 1 from stepd.ready x where x.lane_id = _group_next.lane_id and x.group_hash >= start
				order by x.lane_id, x.group_hash limit 1)
			union all
			select (select x.group_hash from stepd.ready x where x.lane_id = _group_next.lane_id and x.group_hash > s.h
				order by x.lane_id, x.group_hash limit 1), s.n + 1
			from step s where s.n < 1000 and s.h < upto)
		select s.h from step s
		where s.h <= upto and free >> (s.h & 63)::int & 1 = 1 and (groups is null or s.h not in (select g from unnest(groups) g))
		limit want);
end $$;
comment on function stepd._group_next(int, bigint, bigint, bigint, bigint[], int) is 'Up to want groups of a lane, from start to upto, that have ready jobs, are of free stripes and not among these groups; of a thousand groups.';

create or replace function stepd._group_far(lane_id int, free bigint, groups bigint[], want int, most int, out jobs tid[], out hashes bigint[])
language plpgsql stable as $$
#variable_conflict use_column
declare
	start bigint := ((random() - 0.5) * 18446744073709549568)::bigint;
	found bigint[];
begin
	found := stepd._group_next(_group_far.lane_id, start, 9223372036854775807, free, groups, want);
	if cardinality(found) < want then
		found := found || stepd._group_next(_group_far.lane_id, '-9223372036854775808', start, free, groups, want - cardinality(found));
	end if;
	select array_agg(x.at order by x.rank, x.pos), array_agg(x.h order by x.rank, x.pos) into jobs, hashes
	from (select y.ctid as at, y.rank, y.pos, f.h
		from (select distinct unnest(found)) f (h)
		cross join lateral (select r.ctid, r.rank, r.pos from stepd.ready r where r.lane_id = _group_far.lane_id and r.group_hash = f.h
			order by r.lane_id, r.group_hash, r.rank, r.pos limit most) y) x;
end $$;
comment on function stepd._group_far(int, bigint, bigint[], int, int) is 'Jobs of a lane, wherever they stand, and their groups: up to most of each of up to want groups that are of free stripes and not among these.';

create or replace function stepd._group_lock(queue_id int, hashes bigint[], most int) returns bigint[]
language plpgsql as $$
#variable_conflict use_column
begin
	return array(
		select g.h from (
			select u.h from unnest(hashes) with ordinality u (h, ord) where u.h is not null
			group by u.h order by min(u.ord) offset 0) g
		where pg_try_advisory_xact_lock_shared(1937007989, _group_lock.queue_id * 64 + (g.h & 63)::int)
			and pg_try_advisory_xact_lock(1937007988, hashint8(g.h) # _group_lock.queue_id)
		limit most);
end $$;
comment on function stepd._group_lock(int, bigint[], int) is 'Lock groups until the end of the transaction: the first ones that nobody else has locked, up to so many. Returns them. Waits for nobody.';

create or replace function stepd._group_take(node_id int, slot int, queue_id int, per_group int, jobs tid[], hashes bigint[], want int, most int,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[], out full_now bigint[])
language plpgsql as $$
#variable_conflict use_column
declare
	h stepd._holding := stepd._holders(_group_take.queue_id, per_group, _group_take.node_id, _group_take.slot);
	share float8 := ((select count(distinct u.h) from unnest(hashes) u (h)) + coalesce(cardinality(h.groups), 0))::float8 * per_group;
	mine bigint[];
begin
	share := case when stepd._starved(_group_take.queue_id) then greatest(1, floor(share / (h.n + 2))) else ceil(share / (h.n + 1)) end;
	mine := stepd._group_lock(_group_take.queue_id, hashes, least(want, share)::int);
	h := stepd._holders(_group_take.queue_id, per_group, _group_take.node_id, _group_take.slot);
	with may as materialized (
		select x.ctid as at, x.group_hash as h, row_number() over (order by x.rank, x.pos) as n from stepd.ready x
		where x.ctid = any (jobs) and (x.group_hash is null
			or x.group_hash in (select m from unnest(mine) m) and h.free >> (x.group_hash & 63)::int & 1 = 1
				and (h.groups is null or x.group_hash not in (select g from unnest(h.groups) g)))
	), gone as (
		delete from stepd.ready r
		where r.ctid = any (array(
			select x.ctid from stepd.ready x
			where x.ctid = any (array(select m.at from may m where m.n <= want or m.h in (select o.h from may o where o.n <= want) order by m.n limit most))
			for update skip locked))
		returning r.rank, r.pos, r.bucket, r.attempt, r.group_hash)
	select array_agg(g.pos), array_agg(g.bucket), array_agg(g.attempt), array_agg(g.group_hash), max(g.pos) filter (where g.rank = 0)
	into ids, buckets, attempts, groups, last from (select * from gone order by rank, pos) g;
	full_now := case when per_group > 1 then (stepd._holders(_group_take.queue_id, per_group - 1, _group_take.node_id, _group_take.slot)).groups else groups end;
	full_now := h.groups || array(select distinct g from unnest(groups) g where g = any (full_now));
end $$;
comment on function stepd._group_take(int, int, int, int, tid[], bigint[], int, int) is
	'Take of these jobs, of these groups, up to want; most: with those of the same groups, where nobody else could take them, up to so many. groups, by position: for the lease; full_now: groups that are full then.';

create or replace function stepd._take_by_group(node_id int, slot int, queue_id int, per_group int, lane_id int, whole boolean, touched boolean, cursor bigint, want int, most int, deep boolean, far boolean, walk boolean,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[], out nothing boolean, out more boolean, out far_ms float8, out walk_ms float8)
language plpgsql as $$
#variable_conflict use_column
declare
	h stepd._holding := stepd._holders(_take_by_group.queue_id, per_group, _take_by_group.node_id, _take_by_group.slot);
	large boolean := want >= 64;
	look int;
	patient boolean; -- others have large batches, which end soon
	near record;
	jobs tid[];
	hashes bigint[];
	t record;
	tried bigint[];
	got boolean := false;
	began timestamptz;
begin
	want := least(want, 32);
	most := case when per_group = 1 then greatest(want, least(coalesce(most, 0), 500)) else want end;
	look := greatest(64, want * 4, most);
	if h.free <> -1 and stepd._group_tell(_take_by_group.queue_id, _take_by_group.node_id, _take_by_group.slot) then
		h := stepd._holders(_take_by_group.queue_id, per_group, _take_by_group.node_id, _take_by_group.slot);
	end if;
	patient := stepd._starves_ms() < 60 and (h.free = 0 or large and h.free <> -1);
	began := clock_timestamp();
	near := stepd._group_near(_take_by_group.lane_id, whole, touched, cursor, h.free, h.groups, look, 1000);
	jobs := near.jobs;
	hashes := near.hashes;
	for turn in 1 .. 3 loop
		if turn = 2 then
			far_ms := extract(epoch from clock_timestamp()) * 1000;
			select f.jobs, f.hashes into jobs, hashes
			from stepd._group_far(_take_by_group.lane_id, h.free, h.groups || tried, want, most) f where far and h.free <> 0;
			far_ms := extract(epoch from clock_timestamp()) * 1000 - far_ms;
		elsif turn = 3 then
			select f.jobs, f.hashes, f.jobs is null and h.free = -1 into jobs, hashes, nothing
			from stepd._group_near(_take_by_group.lane_id, whole, touched, cursor, h.free, h.groups || tried, look, 2147483647) f;
		end if;
		if jobs is not null then
			t := stepd._group_take(_take_by_group.node_id, _take_by_group.slot, _take_by_group.queue_id, per_group, jobs, hashes, want, most);
			got := t.ids is not null;
			exit when got;
			tried := tried || array(select distinct u.h from unnest(hashes) u (h) where u.h is not null);
		end if;
		exit when turn = 1 and (near.jobs is null and not near.cut and not deep or patient) or turn = 2 and not (near.cut and walk);
	end loop;
	if near.jobs is not null or stepd._warm('far') then
		far_ms := null; -- all is planned the first time
	else
		walk_ms := extract(epoch from clock_timestamp() - began) * 1000 - coalesce(far_ms, 0);
	end if;
	if not got then
		return;
	end if;
	ids := t.ids;
	buckets := t.buckets;
	attempts := t.attempts;
	groups := t.groups;
	last := case when near.jobs is not null and tried is null then t.last end;
	more := exists (select from unnest(hashes) u (h) where u.h is null or u.h not in (select f from unnest(t.full_now) f)
		group by u.h having count(*) > (select count(*) from unnest(groups) g where g is not distinct from u.h))
		or (near.cut or tried is not null or cardinality(jobs) >= look) and far
			and (stepd._group_far(_take_by_group.lane_id, h.free, t.full_now, 1, 1)).jobs is not null;
end $$;
comment on function stepd._take_by_group(int, int, int, int, int, boolean, boolean, bigint, int, int, boolean, boolean, boolean) is
	'_take, but nothing of groups that are full, and up to 32; touched: also such jobs as somebody has taken or tried to; most as in _group_take; deep: there may be jobs before the cursor, too; far: by the index of groups, too; walk: and by reading all that is in the lane. groups, by position: for the lease. nothing: there is nothing in the whole lane, from the cursor on; more: others may find some, now. far_ms, walk_ms: how long that and all else took, where nothing was near.';

create or replace function stepd._take_grouped(node_id int, slot int, queue_id int, strategy text, per_group int, lane_id int, cursor bigint, want int, most int,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[], out stripes bigint, out more boolean)
language plpgsql as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_take_grouped.lane_id);
	now bigint := extract(epoch from clock_timestamp()) * 1000;
	rest bigint[] := string_to_array(coalesce(nullif(current_setting('stepd.rest_' || lane_id, true), ''), '0 0'), ' '); -- until when it does not look far, nor walk
	standard boolean := strategy = 'standard';
	deep boolean := standard and now < -coalesce(at.until, 0); -- there was nothing to take before its cursor
	whole boolean := not standard or cursor = 0 and not deep;
	start bigint := case when deep then at.cursor
		else least(cursor, stepd._stripe_start(_take_grouped.lane_id)) end;
	touched boolean := cursor = 0 or whole and random() < 0.05;
	left_pos bigint;
	t record;
begin
	for turn in 1 .. 2 loop
		t := stepd._take_by_group(_take_grouped.node_id, _take_grouped.slot, _take_grouped.queue_id, per_group, _take_grouped.lane_id, whole, touched, start, want, most, deep, now >= rest[1], now >= rest[2]);
		exit when t.ids is not null or t.nothing or deep or now < rest[2];
		start := case when whole then start else 0 end; -- the worker may sleep now
		touched := not touched;
	end loop;
	if t.far_ms > 5 or t.walk_ms > 5 then
		perform set_config('stepd.rest_' || lane_id, (now + case when t.far_ms > 5 then 20 * t.far_ms else 0 end)::bigint
			|| ' ' || (now + 20 * greatest(t.walk_ms, 0))::bigint, false);
	end if;
	ids := t.ids;
	buckets := t.buckets;
	attempts := t.attempts;
	groups := t.groups;
	more := t.more;
	last := t.last;
	stripes := coalesce((select bit_or(1::bigint << (g & 63)::int) from unnest(groups) g where g is not null), 0);
	if not standard then
		return;
	elsif t.nothing then
		perform stepd._stripe_keep(_take_grouped.lane_id, -1, coalesce((select max(r.pos) from stepd.ready r where r.lane_id = _take_grouped.lane_id and r.rank = 0), start),
			-(now + greatest(1000, 20 * t.walk_ms))::bigint, at.took);
	elsif last is not null then
		left_pos := (select x.pos from stepd.ready x where x.lane_id = _take_grouped.lane_id and x.rank = 0 and x.pos > case when whole then 0 else start end and x.pos < t.last
			order by x.lane_id, x.rank, x.pos limit 1);
		last := case when left_pos > t.last - 10000 then left_pos - 1 else last end; -- what is left stays before the cursor, if it is not far
		last := case when whole then last else greatest(last, start) end;
		perform stepd._stripe_keep(_take_grouped.lane_id, -1, case when last < cursor or cursor = 0 or deep then last end, case when deep then at.until else 0 end, stripes);
	elsif ids is null and at.until > 0 then
		perform stepd._stripe_keep(_take_grouped.lane_id, at.arc, at.cursor, 0, at.took);
	end if;
end $$;
comment on function stepd._take_grouped(int, int, int, text, int, int, bigint, int, int) is
	'_take_by_group, with the cursor of the session. stripes: for the lease. Looking far, and walking, take a twentieth of the time each at most.';

create or replace function stepd._group_ready(queue_id int, per_group int, lane_id int) returns boolean
language plpgsql as $$
declare
	h stepd._holding := stepd._holders(queue_id, per_group, 0, 0);
	near record := stepd._group_near(_group_ready.lane_id, true, true, 0, h.free, h.groups, 1, 200);
	now bigint := extract(epoch from clock_timestamp()) * 1000;
begin
	if near.jobs is not null or h.free <> 0 and (stepd._group_far(_group_ready.lane_id, h.free, h.groups, 1, 1)).jobs is not null then
		return true;
	elsif now < coalesce(nullif(current_setting('stepd.unsure_' || lane_id, true), ''), '0')::bigint + 500
		or not exists (select from stepd.ready r where r.lane_id = _group_ready.lane_id) then
		return false;
	end if;
	perform set_config('stepd.unsure_' || lane_id, now::text, false);
	return near.cut or h.free <> -1; -- a claim looks deeper, and makes leases tell their groups
end $$;
comment on function stepd._group_ready(int, int, int) is 'Has a lane of a queue with concurrencyPerGroup a ready job whose group is not full? Where that cannot be told at a glance, yes, twice a second.';
