-- Repeatable.
--
-- concurrencyPerGroup: how claims under it go side by side.
--
-- concurrencyPerGroup N.  A worker that holds jobs of a group runs one of them
-- at a time, so workers are counted, as for maxConcurrency.  What others hold is
-- read from their leases.  There are three kinds of claims:
--   - calm: fewer than N others hold jobs of the queue, so no group can be full,
--     and the lease says nothing of groups.  (It is for who has a place by such a
--     lease already, see stepd.kept in 006_claim.sql, or has the lock of
--     newcomers: of two of these one waits for the other.  So maxConcurrency may
--     rely on it.)  While others are about to come, since they starve or since
--     claim() was told that they are idle, large batches are not for it, and the
--     lease of a small one tells its groups: nobody is to meet a lease of all.
--   - by stripes, for large batches, here;
--   - by groups, for small ones, and for who finds no stripe: see 037_group.sql.
--     Its lease tells the groups of its jobs.
-- Groups are told apart by a hash that stands in the job's place
-- (stepd.ready.group_hash), so no claim looks at the jobs for it.  Jobs without a
-- group are not limited.
--
-- Stripes.  The groups of a queue are dealt into 64 stripes by their hash (jobs
-- without a group by their id).  With W workers that hold jobs and N jobs of a
-- group allowed, a worker has an arc of N / W of the stripes that have jobs, and
-- of the others, so that N workers share each, and takes jobs of its arc only.
-- A lease says which stripes it is of; one that is calm is of all, unless it tells
-- its groups.
--
-- Why the limit is kept.  Of a group no more are held than there are workers that
-- tell it, and workers that tell its stripe and no groups.  Who has told a stripe
-- so may go on in it without a lock: the others count him, by the lease that he
-- finishes in the same transaction, until they see the next one.  Anybody else
-- locks a stripe to the end of his transaction, and looks only then who is in it.
-- By stripes, he locks it alone; by groups, shared, and each of his groups alone.
-- (The lease tells just the stripes of its jobs and, if it is not small, of those
-- a moment before: the others are free again with their locks.)  Who is calm
-- counts all others, and is counted in each group (or in those that he tells).
--
-- Arcs are a matter of taste: two workers that count differently meet at a lock
-- or find a stripe full, no more.  They go by who holds jobs of the queue now or
-- is about to, and by which stripes have jobs, so that ten groups are shared out
-- as well as thousands.  Who has about his share keeps it, and who has less takes
-- more about once a second, when he reads from the start, or when he runs out of
-- jobs: so the place of a worker that is replaced is still free for the new one.
-- By then he also takes what nobody came for.  Who is
-- behind the others by some batches gives stripes up, and who is ahead takes
-- them: else the last of the jobs would be one worker's.  And nobody takes more
-- than half of what seems to be left of his arc, down to 200 jobs, so that who
-- has run out does not wait long for a part of it.
--
-- Cursors.  A worker's cursor (006_claim.sql) says that nothing is left before
-- it, which is true of his arc only.  So the session keeps, for each lane, the
-- arc and the cursor that goes with it.  Who gets more stripes than he had goes
-- back to where others read now; the rest is found from the start, in a second.
--
-- Cost.  A claim reads past the jobs of other stripes, a fifth of a microsecond
-- each.  An index by stripe was tried: to fetch from here and there costs more.
-- What a session does first it plans, for milliseconds, so there are few
-- statements here, and none for a rare case beside a common one.

create or replace function stepd._stripe(group_hash bigint, job_id bigint) returns int
language sql immutable parallel safe as $$ select (coalesce(group_hash, job_id) & 63)::int $$;
comment on function stepd._stripe(bigint, bigint) is 'The stripe of a ready job, 0 to 63.';

create or replace function stepd._stripe_home(rank int, workers int, per_group int, among bigint) returns bigint
language plpgsql immutable parallel safe as $$
declare
	n int := bit_count(among::bit(64));
	start int := n * rank / workers;
	share int := (n * per_group + workers - 1) / workers;
	low bigint := ~((-1)::bigint << share);
begin
	if share >= n then
		return among;
	elsif among <> -1 then
		return (select bit_or(1::bigint << x.s)
			from (select s, row_number() over () - 1 as i from generate_series(0, 63) s where among >> s & 1 = 1) x
			where (x.i - start + n) % n < share);
	end if;
	return (low << start) | (low >> (64 - start));
end $$;
comment on function stepd._stripe_home(int, int, int, bigint) is
	'The stripes, a bit each, that are for one of so many workers (rank counts from 0), where so many may share one, among these: a range of them that begins at rank / workers.';

create or replace function stepd._stripe_arc(had bigint, free bigint, home bigint, share int, grow boolean) returns bigint
language plpgsql immutable parallel safe as $$
declare
	arc bigint := had & free;
	n int := bit_count(arc::bit(64));
	pool bigint;
begin
	if n <= share * 1.1 and (n >= share * 0.9 or n >= share * 0.7 and not grow) then
		return arc;
	end if;
	for turn in 1 .. 2 loop -- those of its home are kept last, and taken first
		pool := case when n > share then arc else free & ~arc end & case when (turn = 1) = (n > share) then ~home else home end;
		for s in 0 .. 63 loop
			exit when n = share or pool = 0;
			if pool >> s & 1 = 1 then
				arc := arc # (1::bigint << s);
				n := n + sign(share - n)::int;
			end if;
		end loop;
	end loop;
	return arc;
end $$;
comment on function stepd._stripe_arc(bigint, bigint, bigint, int, boolean) is
	'The stripes, a bit each, that one goes for whose share are so many, of those that are free, who had these. Who has somewhat less takes more if he is to grow.';

drop type if exists stepd._holding cascade;
create type stepd._holding as (n int, ahead int, slots int[], held bigint, free bigint, groups bigint[], at float8, span float8);
comment on type stepd._holding is 'What other workers hold of a queue, see _holders.';

create or replace function stepd._holders(queue_id int, per_group int, node_id int, slot int) returns stepd._holding
language plpgsql stable as $$
#variable_conflict use_column
declare
	h stepd._holding;
	masks bigint[]; -- the stripes of which each may hold anything
	told boolean;
	untold int[]; -- by stripe, how many
begin
	select count(*), count(*) filter (where (x.node_id, x.slot) < (_holders.node_id, _holders.slot)), array_agg(x.slot) filter (where x.node_id = _holders.node_id),
		coalesce(bit_or(x.stripes), 0), avg(x.first), avg(x.last - x.first), array_agg(x.untold), bool_or(x.told)
	into h.n, h.ahead, h.slots, h.held, h.at, h.span, masks, told
	from (select l.node_id, l.slot, bit_or(coalesce(l.stripes, -1)) as stripes, min(u.ids[1]) as first, max(u.ids[cardinality(u.ids)]) as last,
			bit_or(case when l.groups is null then coalesce(l.stripes, -1) else 0 end) as untold, bool_or(l.groups is not null) as told
		from stepd.lease l cross join lateral (select l.ids || '{}'::bigint[] as ids offset 0) u -- taken out of its compression once
		where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _holders.queue_id))
			and (l.node_id, l.slot) <> (_holders.node_id, _holders.slot)
		group by l.node_id, l.slot) x;
	h.free := case when h.n < per_group then -1 when per_group = 1 then ~(select bit_or(m) from unnest(masks) m)
		else ~(select coalesce(bit_or(1::bigint << f.s), 0)
			from (select s from unnest(masks) m cross join generate_series(0, 63) s where m >> s & 1 = 1 group by s having count(*) >= per_group) f) end;
	if told and h.n >= per_group then
		untold := case when per_group > 1 then array(select (select count(*) from unnest(masks) m where m >> s & 1 = 1) from generate_series(0, 63) s) end;
		h.groups := array(
			select u.g from (select distinct l.node_id, l.slot, g.g from stepd.lease l cross join unnest(l.groups) g (g)
				where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _holders.queue_id))
					and (l.node_id, l.slot) <> (_holders.node_id, _holders.slot) and g.g is not null) u
			group by u.g having per_group = 1 or count(*) + untold[1 + (u.g & 63)] >= per_group);
		h.groups := nullif(h.groups, '{}');
	end if;
	return h;
end $$;
comment on function stepd._holders(int, int, int, int) is
'Other workers that hold jobs of a queue: how many, how many of them come before this one, and the slots of those of its node; and where in the order of jobs they are, on average, and from where to where one goes.
held: the stripes, a bit each, of which anybody holds jobs. free: those in which no group can be full, but for these groups (null: none).';

drop function if exists stepd._stripe_at(int);
create or replace function stepd._stripe_at(lane_id int, out arc bigint, out cursor bigint, out until bigint, out took bigint, out n bigint, out gap bigint)
language plpgsql stable as $$
declare
	kept bigint[] := string_to_array(nullif(current_setting('stepd.at_' || lane_id, true), ''), ' ', '-');
begin
	arc := coalesce(kept[1], -1);
	cursor := kept[2];
	until := kept[3];
	took := coalesce(kept[4], 0);
	n := kept[5];
	gap := kept[6];
end $$;
comment on function stepd._stripe_at(int) is
'What this session knows of a lane: the stripes that it took or looked for last, up to where nothing of them is left, and until when it may go on with them; cursor null: of all, up to the worker''s own cursor. took: the stripes in its last batch; n: how many others held jobs then; gap: a thousand times what is from one job of it to the next. until negative: before that time it need not look from the start again. Times in ms since the epoch.';

drop function if exists stepd._stripe_keep(int, bigint, bigint, bigint, bigint, bigint);
create or replace function stepd._stripe_keep(lane_id int, arc bigint, cursor bigint, until bigint, took bigint, n bigint default null, gap bigint default null) returns void
language plpgsql as $$
begin
	perform set_config('stepd.at_' || lane_id, array_to_string(array[arc, cursor, until, took, n, gap], ' ', '-'), false);
end $$;
comment on function stepd._stripe_keep(int, bigint, bigint, bigint, bigint, bigint, bigint) is 'What _stripe_at is to tell.';

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
		if mine.cur = 0 or now >= coalesce(at.until, 0) or bit_count(at.took::bit(64)) > 1 and stepd._starved(_stripe_again.queue_id) then
			return null;
		end if;
		arcs[mine.ord] := at.arc;
	end loop;
	return arcs;
end $$;
comment on function stepd._stripe_again(int, int[], bigint[]) is 'The stripes that a worker had of these lanes, by position, if it may go on with them.';

drop function if exists stepd._stripe_seen(int, boolean, bigint, bigint[]);
create or replace function stepd._stripe_seen(lane_id int, whole boolean, cursor bigint, busy bigint[], depth int) returns bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	return (select coalesce(bit_or(1::bigint << (coalesce(x.group_hash, x.pos) & 63)::int), 0) from (
		(select x.group_hash, x.pos from stepd.ready x
			where x.lane_id = _stripe_seen.lane_id and x.rank < case when whole then 2147483647 else 0 end and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit depth)
		union all
		(select x.group_hash, x.pos from stepd.ready x
			where x.lane_id = _stripe_seen.lane_id and x.rank = 0 and x.pos > cursor and not whole and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit depth)) x
		where busy is null or (x.group_hash in (select unnest(busy))) is not true);
end $$;
comment on function stepd._stripe_seen(int, boolean, bigint, bigint[], int) is 'The stripes, a bit each, that have ready jobs of groups that are not busy among so many next ones of a lane, without those that somebody has taken or tried to.';

create or replace function stepd._stripe_least(lane_id int) returns bigint
language plpgsql stable as $$
begin
	return (select min(l.ids[1]) - 1 from stepd.lease l where l.lane_id = _stripe_least.lane_id);
end $$;
comment on function stepd._stripe_least(int) is 'Before the jobs of a lane that are held now; where a worker reads on who takes over stripes.';

create or replace function stepd._stripe_start(lane_id int) returns bigint
language plpgsql stable as $$
declare
	at record := stepd._stripe_at(_stripe_start.lane_id);
begin
	return least(at.cursor, case when at.arc <> -1 then coalesce(stepd._stripe_least(_stripe_start.lane_id), 0) end);
end $$;
comment on function stepd._stripe_start(int) is
	'From where on a lane can have jobs for this session, if it takes over stripes, too; null: from the worker''s cursor on.';

-- Who finds nothing at all, though there are jobs, says so by a lock of his session until he claims again.  The others would not
-- know of him, who holds nothing: as many as N could keep all groups for themselves.  Nobody waits for this lock; of two who look
-- for it at once one may see the other.  A rollback takes the setting back and not the lock, so a claim that reads from the
-- start looks for it.
create or replace function stepd._starve(queues int[]) returns void
language plpgsql as $$
declare
	said int[] := array(select l.objid from pg_locks l
		where l.locktype = 'advisory' and l.classid = 1937007990 and l.objsubid = 2 and l.pid = pg_backend_pid() and l.granted);
begin
	perform pg_advisory_unlock_shared(1937007990, q) from unnest(said) q where queues is null or q <> all (queues);
	perform pg_try_advisory_lock_shared(1937007990, q) from (select distinct unnest(queues)) d (q) where q <> all (said);
	perform set_config('stepd.starves', coalesce(array_to_string(queues, ' '), ''), false);
	if queues is not null and coalesce(current_setting('stepd.starves_since', true), '') = '' then
		perform set_config('stepd.starves_since', (extract(epoch from clock_timestamp()) * 1000)::bigint::text, false);
	end if;
end $$;
comment on function stepd._starve(int[]) is 'Say, or say no more, that this session wants jobs of these queues and can get none.';

create or replace function stepd._starves_ms() returns bigint
language plpgsql stable as $$
declare
	now bigint := extract(epoch from clock_timestamp()) * 1000;
begin
	return now - coalesce(nullif(current_setting('stepd.starves_since', true), '')::bigint, now);
end $$;
comment on function stepd._starves_ms() is 'For how long the claims of this session have found nothing, though there are jobs.';

create or replace function stepd._starved(queue_id int) returns boolean
language plpgsql as $$
begin
	return not (pg_try_advisory_lock(1937007990, _starved.queue_id) and pg_advisory_unlock(1937007990, _starved.queue_id));
end $$;
comment on function stepd._starved(int) is 'Is there another session that wants jobs of this queue and can get none?';

create or replace function stepd._starving(queue_id int) returns int
language plpgsql as $$
begin
	return case when stepd._starved(_starving.queue_id) then (select count(distinct l.pid) from pg_locks l
		where l.locktype = 'advisory' and l.classid = 1937007990 and l.objid = _starving.queue_id and l.objsubid = 2
			and l.pid <> pg_backend_pid() and l.database = (select d.oid from pg_database d where d.datname = current_database())) else 0 end;
end $$;
comment on function stepd._starving(int) is 'How many other sessions want jobs of this queue and can get none?';

create or replace function stepd._stripe_share(among bigint, workers int, per_group int, lean float8) returns int
language plpgsql immutable parallel safe as $$
declare
	n int := bit_count(among::bit(64));
begin
	return greatest(least(n, 1), least(n, ceil(n::float8 * per_group / workers * lean)));
end $$;
comment on function stepd._stripe_share(bigint, int, int, float8) is 'How many of these stripes are for one of so many workers, where so many may share one; lean: that much more or less.';

create or replace function stepd._stripe_passed(lane_id int, cursor bigint) returns bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	return (select coalesce(bit_or(1::bigint << (coalesce(x.group_hash, x.pos) & 63)::int), 0)
		from (select y.group_hash, y.pos from stepd.ready y
			where y.lane_id = _stripe_passed.lane_id and (y.rank, y.pos) <= (0, cursor) and y.xmax = 0
			order by y.lane_id, y.rank, y.pos limit 1000) x);
end $$;
comment on function stepd._stripe_passed(int, bigint) is 'The stripes, a bit each, of the first thousand jobs of a lane that stand before a cursor or come again.';

drop function if exists stepd._stripe_choose(int, int, int, int, stepd._holding, int, bigint, boolean, int, boolean, bigint);
create or replace function stepd._stripe_choose(queue_id int, per_group int, node_id int, slot int, h stepd._holding, workers int, occupied bigint, starved boolean,
	expects boolean, lane_id int, whole boolean, cursor bigint, out arc bigint, out first int)
language plpgsql as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_stripe_choose.lane_id);
	had bigint := case when at.arc <> -1 then at.arc else 0 end;
	seen bigint := stepd._stripe_seen(_stripe_choose.lane_id, whole or cursor = 0, least(cursor, at.cursor), h.groups, 400);
	lean float8 := 1; -- who is behind the others takes less, who is ahead more
	grow boolean;
	home bigint;
	left_over bigint;
begin
	if h.free & seen = 0 then -- in front of all is what others are behind with
		seen := stepd._stripe_seen(_stripe_choose.lane_id, whole or cursor = 0, least(cursor, at.cursor), h.groups, 20000);
	end if;
	if at.arc <> -1 and at.cursor is not null and not whole and h.span >= 500 then -- where others have large batches too
		lean := greatest(0.5, least(case when starved or expects then 1 else 1.5 end, 1 + (at.cursor - h.at) / (8 * h.span)));
	end if;
	grow := cursor = 0 or at.until = 0 or lean > 1.2;
	occupied := occupied | seen;
	home := stepd._stripe_home(h.ahead, workers, per_group, occupied) | stepd._stripe_home(h.ahead, workers, per_group, ~occupied);
	arc := stepd._stripe_arc(had & occupied, h.free & occupied, home, stepd._stripe_share(occupied, workers, per_group, lean), grow)
		| stepd._stripe_arc(had & ~occupied, h.free & ~occupied, home, stepd._stripe_share(~occupied, workers, per_group, 1), grow);
	if cursor = 0 and (at.cursor is not null or whole and random() < 0.05) and not starved then
		left_over := (stepd._holders(_stripe_choose.queue_id, 1, _stripe_choose.node_id, _stripe_choose.slot)).free;
		if expects and not whole then -- what is new is left to those who come; what we have passed nobody came for
			left_over := left_over & stepd._stripe_passed(_stripe_choose.lane_id, at.cursor);
		end if;
		arc := arc | left_over;
	end if;
	seen := h.free & seen;
	if arc & seen = 0 then
		arc := arc | seen; -- nobody's yet
	end if;
	first := (select min(s) from generate_series(0, 63) s where arc & seen >> s & 1 = 1);
end $$;
comment on function stepd._stripe_choose(int, int, int, int, stepd._holding, int, bigint, boolean, boolean, int, boolean, bigint) is
	'The stripes of a lane that a worker goes for, and one of them that has jobs (null: none has), as one of so many workers who share these occupied ones; starved: some of them find nothing; expects: some are only about to come.';

create or replace function stepd._stripe_deep(own int[], whole boolean, lanes int[], cursors bigint[]) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return exists (select from unnest(lanes, cursors) u (lane, cur)
		cross join lateral (select from stepd.ready x
			where x.lane_id = u.lane and (x.rank, x.pos) > (case when whole then -2147483648 else 0 end, greatest(coalesce(stepd._stripe_start(u.lane), u.cur), 0))
			order by x.lane_id, x.rank, x.pos offset 63 limit 1) x
		where u.lane = any (own));
end $$;
comment on function stepd._stripe_deep(int[], boolean, int[], bigint[]) is 'Has any of these lanes, of those that are given with cursors, jobs enough for several workers, from where on the session could take some?';

create or replace function stepd._stripe_coming(h stepd._holding, idle int[], slot int, starving int, most int, out n int, out ahead int)
language plpgsql immutable parallel safe as $$
declare
	slots int[] := array(select distinct i from unnest(idle) i where i <> _stripe_coming.slot and i <> all (coalesce(h.slots, '{}')));
begin
	n := greatest(starving, least(cardinality(slots), case when most > 0 then most - h.n - 1 end));
	ahead := least(n, (select count(*) from unnest(slots) i where i < _stripe_coming.slot));
end $$;
comment on function stepd._stripe_coming(stepd._holding, int[], int, int, int) is
	'Of those who hold nothing: how many are going to take some, and how many of them come before this one. idle: slots of those of its node who could; starving: how many look for some; most: maxConcurrency, or 0.';

drop function if exists stepd._stripe_plan(int, boolean, int, int, int, int[], bigint[], int[], bigint, boolean);
create or replace function stepd._stripe_plan(queue_id int, whole boolean, per_group int, node_id int, slot int, lanes int[], cursors bigint[], maxes int[],
	kept bigint, most int, idle int[], out calm boolean, out later boolean, out arcs bigint[], out first int, out others int, out awaited boolean)
language plpgsql as $$
#variable_conflict use_column
declare
	own int[] := array(select a.id from stepd.lane a where a.queue_id = _stripe_plan.queue_id);
	many boolean := exists (select from unnest(lanes, maxes) u (lane, most) where u.lane = any (own) and u.most >= 64); -- are to be claimed
	h stepd._holding;
	starving int := stepd._starving(_stripe_plan.queue_id);
	come record;
	workers int;
	occupied bigint;
	c record;
begin
	h := stepd._holders(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot);
	if not many or coalesce(cardinality(idle), 0) = 0 or not stepd._stripe_deep(own, whole, lanes, cursors) then
		idle := null;
	end if;
	come := stepd._stripe_coming(h, idle, _stripe_plan.slot, starving, most);
	calm := h.n < per_group and (come.n = 0 or starving = 0 and h.n + come.n < per_group);
	if kept is null and (calm or most > 0) or kept <> -1 and calm then -- one after the other
		perform pg_advisory_xact_lock(1937007987, _stripe_plan.queue_id);
	elsif kept is null then -- after those, but beside each other
		perform pg_advisory_xact_lock_shared(1937007987, _stripe_plan.queue_id);
	end if;
	if kept is null or kept <> -1 and calm then
		h := stepd._holders(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot);
		calm := calm and h.n < per_group;
		come := stepd._stripe_coming(h, idle, _stripe_plan.slot, starving, most);
	end if;
	later := many and h.free <> -1 and stepd._starves_ms() < 60 and not exists (select from stepd.lease l -- one that it can make tell its groups
		where l.lane_id = any (own) and (l.node_id, l.slot) <> (_stripe_plan.node_id, _stripe_plan.slot) and l.groups is null and cardinality(l.ids) <= 32);
	if calm or h.free = 0 or not many then
		return;
	end if;
	workers := greatest(h.n + 1 + come.n, per_group + 1);
	h.ahead := least(h.ahead + come.ahead, workers - 1);
	others := workers - 1;
	awaited := come.n > 0;
	occupied := h.held | (select bit_or((stepd._stripe_at(o)).took) from unnest(own) o);
	for i in 1 .. cardinality(lanes) loop
		continue when lanes[i] <> all (own);
		c := stepd._stripe_choose(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot, h, workers, occupied, starving > 0,
			come.n > 0, lanes[i], whole, coalesce(cursors[i], 0));
		arcs[i] := c.arc;
		first := coalesce(first, c.first);
	end loop;
end $$;
comment on function stepd._stripe_plan(int, boolean, int, int, int, int[], bigint[], int[], bigint, int, int[]) is
	'How to claim of a queue with concurrencyPerGroup; whole: its lanes are always read from the start; kept: the stripes that the worker has, null: it holds nothing there; most: maxConcurrency, under which such newcomers claim one after the other, or 0; idle: slots of the node whose workers have nothing to do. calm: as if there were no groups. first not null: by stripes, one that has a job for us, and arcs the stripes that we go for, by position of the lane, as one beside so many others, some of whom are awaited, and are to be woken. Else by groups; later: but not now, since it wants a large batch, has not been looking for a free stripe for long, and others have such batches.';

create or replace function stepd._stripe_lock(queue_id int, per_group int, node_id int, slot int, arc bigint, kept bigint, first int, out got bigint, out groups bigint[], out n int)
language plpgsql as $$
#variable_conflict use_column
declare
	new bigint := arc & ~kept;
	h stepd._holding;
begin
	got := arc & kept;
	for turn in 1 .. 2 loop
		exit when new = 0;
		if first is not null and got = 0 then -- while we have no other: so nobody waits who is waited for
			perform pg_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + first);
		end if;
		got := got | coalesce((select bit_or(1::bigint << x.s)
			from (select s from generate_series(0, 63) s where new >> s & 1 = 1 offset 0) x
			where pg_try_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + x.s)), 0);
		exit when got <> 0;
		first := (select min(s) from generate_series(0, 63) s where new >> s & 1 = 1);
	end loop;
	h := stepd._holders(_stripe_lock.queue_id, per_group, _stripe_lock.node_id, _stripe_lock.slot);
	got := got & h.free;
	groups := h.groups;
	n := h.n;
end $$;
comment on function stepd._stripe_lock(int, int, int, int, bigint, bigint, int) is
	'Get hold of stripes until the end of the transaction: of those that the worker has (kept), and those that nobody else has locked; first (if not null), or else one, in any case. got: those of them that are free, but for these groups (null: none); n: how many others hold jobs. Waits, so it is for _claim_lock only.';

-- Of an arc some stripes of which are somebody else's now the cursor stays before their jobs.
drop function if exists stepd._take_striped(int, text, bigint, int, bigint, bigint, bigint[], int);
create or replace function stepd._take_striped(lane_id int, strategy text, cursor bigint, want int, arc bigint, share bigint, busy bigint[], others int,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out stripes bigint, out more boolean)
language plpgsql as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_take_striped.lane_id);
	now bigint := extract(epoch from clock_timestamp()) * 1000;
	whole boolean := strategy <> 'standard' or cursor = 0;
	start bigint := least(cursor, at.cursor, case when arc & ~at.arc <> 0 then coalesce(stepd._stripe_least(_take_striped.lane_id), 0) end);
	same boolean := arc = at.arc and now < at.until;
	most bigint;
	took bigint;
	t record;
begin
	if others > 0 and at.gap > 0 and not whole and want > 64 then -- towards the end ever less, so that all end together
		most := greatest(200, ((select s.last_value from stepd.job_id s) - start) * 1000 / at.gap / 2);
		more := case when most < want then true end;
		want := least(want, most);
	end if;
	if share <> 0 then
		t := stepd._take(_take_striped.lane_id, whole, start, want, share, busy);
		ids := t.ids;
		buckets := t.buckets;
		attempts := t.attempts;
		last := t.last;
		took := t.stripes | case when same then at.took & share else 0 end;
		stripes := case when cardinality(ids) < 64 then t.stripes else took end; -- a few slow jobs shall not be in the way of others
	end if;
	more := case when cardinality(ids) = want then more else false end;
	if ids is null then
		if at.until > 0 then
			perform stepd._stripe_keep(_take_striped.lane_id, at.arc, at.cursor, 0, at.took);
		end if;
	elsif strategy = 'standard' and (last is not null or not whole) then
		if (share <> arc or busy is not null) and last is not null then
			last := least(last, (select x.pos - 1 from stepd.ready x
				where x.lane_id = _take_striped.lane_id and x.rank = 0 and x.pos > case when whole then 0 else start end and x.pos < t.last
					and ((arc & ~share) >> stepd._stripe(x.group_hash, x.pos) & 1 = 1 or x.group_hash = any (busy))
				order by x.lane_id, x.rank, x.pos limit 1));
		end if;
		last := case when whole then last else greatest(last, start) end;
		perform stepd._stripe_keep(_take_striped.lane_id, arc, last, case
			when cardinality(ids) < want or share <> arc then 0 -- somebody was faster: it looks for others
			when same and others > at.n then 0
			when same then at.until
			else now + 200 end, took, case when same then at.n else others end,
			(t.last - ids[(cardinality(ids) + 1) / 2]) * 1000 / greatest(1, cardinality(ids) / 2)); -- without those that come again, which stand first
	end if;
end $$;
comment on function stepd._take_striped(int, text, bigint, int, bigint, bigint, bigint[], int) is
	'_take of the stripes of share, which we have, but for groups that are busy; arc: those that the session''s cursor is about; others: how many workers hold jobs of the queue, or were expected to. stripes: for the lease; more: it took less than it was to take, since little is left for all.';

drop function if exists stepd._take_calm(int, text, bigint, int);
create or replace function stepd._take_calm(lane_id int, strategy text, cursor bigint, want int, others boolean,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out stripes bigint, out groups bigint[])
language plpgsql as $$
declare
	at record := stepd._stripe_at(_take_calm.lane_id);
	start bigint := least(cursor, stepd._stripe_start(_take_calm.lane_id));
	whole boolean := strategy <> 'standard' or start = 0;
	t record := stepd._take(_take_calm.lane_id, whole, start, want, tell => others and want < 64);
begin
	ids := t.ids;
	buckets := t.buckets;
	attempts := t.attempts;
	last := t.last;
	groups := t.groups;
	stripes := case when groups is not null then coalesce((select bit_or(1::bigint << (g & 63)::int) from unnest(groups) g where g is not null), 0) end;
	if start < cursor or at.arc <> -1 then
		perform stepd._stripe_keep(_take_calm.lane_id, -1, case when t.ids is not null or start > 0 then nullif(least(coalesce(t.last, start), cursor), cursor) end, 0, 0);
	end if;
end $$;
comment on function stepd._take_calm(int, text, bigint, int, boolean) is '_take where no group can be full, from where the session''s cursor is. others: others are about to claim, too. groups, stripes: then, if there are only few jobs, for the lease, so that it is not in their way.';
