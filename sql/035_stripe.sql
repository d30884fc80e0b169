-- Repeatable.
--
-- Stripes: how claims under concurrencyPerGroup go side by side.
--
-- The groups of a queue are dealt into 64 stripes by their hash (jobs without a
-- group by their id).  With W workers that hold jobs and N jobs of a group
-- allowed, a worker has an arc of N / W of the stripes that have jobs, and of
-- the others, so that N workers share each, and takes jobs of its arc only.
-- A lease says which stripes it is of.
--
-- Why that keeps the limit.  A claim has the locks of its stripes, each alone, to
-- the end of its transaction, and looks only then who holds jobs of them: a
-- stripe that N others are in is left alone.  (The lease tells just the stripes
-- of its jobs and, if it is not small, of those a moment before: the others are
-- free again with their locks.)  So of the groups in a stripe never more than N
-- workers hold jobs.  Everybody else who claims of the queue either has its lock
-- alone, and sees all that these claims did, or is one of at most N workers that
-- hold jobs of it (calm, see _stripe_plan).  For the latter, who claims of
-- stripes has to be seen in time or see him: newcomers wait for each other, and
-- whoever held stripes only is a newcomer as long as he does (stepd.kept).
--
-- Arcs are a matter of taste: two workers that count differently meet at a lock
-- or find a stripe full, no more.  They go by who holds jobs of the queue now,
-- and by which stripes have jobs, so that ten groups are shared out as well as
-- thousands.  Who has about his share keeps it, and who has less takes more about
-- once a second, when he reads from the start, or when he runs out of jobs: so
-- the place of a worker that is replaced is still free for the new one.  Who is
-- behind the others by some batches gives stripes up, and who is ahead takes
-- them: else the last of the jobs would be one worker's.
--
-- When it is done.  For quick jobs: somebody holds a batch of them, or asks for
-- one.  A job that runs for long would keep others of its stripe waiting, so when
-- one has gone on for 300 ms, and where jobs are put aside, and for who finds no
-- stripe free, all goes by single groups under the queue's lock: see
-- 018_limit.sql.  With quick jobs who goes by groups takes those of the stripes
-- that would be his, so that others find theirs free.  Who finds no job in the
-- stripes that are free, though he looks far, gets none; if that lasts he too
-- goes by groups, once a second: two groups may share a stripe.
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

drop function if exists stepd._stripe_arc(bigint, bigint, int, int, int);
drop function if exists stepd._stripe_arc(bigint, bigint, int, int, int, boolean);
drop function if exists stepd._stripes_free(int, int, int, int);
drop function if exists stepd._stripe_plan(int, int, int, int, int[], bigint[]);
drop function if exists stepd._stripe_lock(int, int, int, int, bigint, int);
drop function if exists stepd._take_striped(int, boolean, bigint, int, bigint, bigint);

drop function if exists stepd._stripe_home(int, int, int);
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

-- Whose lease is being finished has done his jobs, and may be waiting for us: a claim comes in the same transaction.
create or replace function stepd._runs_long(queue_id int, node_id int, slot int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return exists (select from stepd.lease l
		where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _runs_long.queue_id))
			and (l.node_id, l.slot) <> (_runs_long.node_id, _runs_long.slot) and l.since < clock_timestamp() - interval '300 ms'
			and not (l.xmax <> 0 and exists (select from pg_locks k where k.locktype = 'transactionid' and k.transactionid = l.xmax)));
end $$;
comment on function stepd._runs_long(int, int, int) is 'Has another worker been running a job of this queue for 300 ms?';

drop type if exists stepd._holding cascade;
create type stepd._holding as (n int, ahead int, most int, long boolean, held bigint, free bigint, at float8, span float8);
comment on type stepd._holding is 'What other workers hold of a queue, see _holders.';

drop function if exists stepd._holders(int, int, int, int);
create or replace function stepd._holders(queue_id int, per_group int, node_id int, slot int) returns stepd._holding
language plpgsql stable as $$
#variable_conflict use_column
declare
	h stepd._holding;
	masks bigint[];
	since timestamptz;
begin
	select count(*), count(*) filter (where (x.node_id, x.slot) < (_holders.node_id, _holders.slot)), max(x.most),
		coalesce(bit_or(x.stripes), 0), avg(x.first), avg(x.last - x.first), array_agg(x.stripes), min(x.since)
	into h.n, h.ahead, h.most, h.held, h.at, h.span, masks, since
	from (select l.node_id, l.slot, bit_or(coalesce(l.stripes, -1)) as stripes, max(cardinality(u.ids)) as most, min(l.since) as since,
			min(u.ids[1]) as first, max(u.ids[cardinality(u.ids)]) as last
		from stepd.lease l cross join lateral (select l.ids || '{}'::bigint[] as ids offset 0) u -- taken out of its compression once
		where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _holders.queue_id))
			and (l.node_id, l.slot) <> (_holders.node_id, _holders.slot)
		group by l.node_id, l.slot) x;
	h.free := case when h.n < per_group then -1 else ~h.held end;
	if h.n >= per_group and per_group > 1 then
		h.free := ~(select coalesce(bit_or(1::bigint << f.s), 0)
			from (select s from unnest(masks) o cross join generate_series(0, 63) s where o >> s & 1 = 1 group by s having count(*) >= per_group) f);
	end if;
	h.long := since < clock_timestamp() - interval '300 ms' and stepd._runs_long(_holders.queue_id, _holders.node_id, _holders.slot);
	if h.long then
		h.free := 0;
	end if;
	return h;
end $$;
comment on function stepd._holders(int, int, int, int) is
'Other workers that hold jobs of a queue: how many, and how many of them come before this one; how large a batch is at most; whether a job has been running for long; and where in the order of jobs they are, on average, and from where to where one goes.
held: the stripes, a bit each, of which anybody holds jobs; free: of which so few hold some that no group in them can be full; none while somebody has a job that runs for long.';

drop function if exists stepd._stripe_at(int);
create or replace function stepd._stripe_at(lane_id int, out arc bigint, out cursor bigint, out until bigint, out took bigint, out rest bigint)
language plpgsql stable as $$
declare
	kept bigint[] := string_to_array(nullif(current_setting('stepd.at_' || lane_id, true), ''), ' ', '-');
begin
	arc := coalesce(kept[1], -1);
	cursor := kept[2];
	until := kept[3];
	took := coalesce(kept[4], 0);
	rest := coalesce(kept[5], 0);
end $$;
comment on function stepd._stripe_at(int) is
'What this session knows of a lane: the stripes that it took or looked for last, up to where nothing of them is left, and until when it may go on with them; cursor null: of all, up to the worker''s own cursor. took: the stripes in its last batch; rest: until when it does not look far ahead again. Times in ms since the epoch.';

drop function if exists stepd._stripe_keep(int, bigint, bigint, bigint);
create or replace function stepd._stripe_keep(lane_id int, arc bigint, cursor bigint, until bigint, took bigint, rest bigint) returns void
language plpgsql as $$
begin
	perform set_config('stepd.at_' || lane_id, array_to_string(array[arc, cursor, until, took, rest], ' ', '-'), false);
end $$;
comment on function stepd._stripe_keep(int, bigint, bigint, bigint, bigint, bigint) is 'What _stripe_at is to tell.';

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

drop function if exists stepd._stripe_first(int, boolean, bigint, bigint);
create or replace function stepd._stripe_seen(lane_id int, whole boolean, cursor bigint) returns bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	return (select coalesce(bit_or(1::bigint << (coalesce(x.group_hash, x.pos) & 63)::int), 0) from (
		(select x.group_hash, x.pos from stepd.ready x
			where x.lane_id = _stripe_seen.lane_id and x.rank < case when whole then 2147483647 else 0 end and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit 2000)
		union all
		(select x.group_hash, x.pos from stepd.ready x
			where x.lane_id = _stripe_seen.lane_id and x.rank = 0 and x.pos > cursor and not whole and x.xmax = 0
			order by x.lane_id, x.rank, x.pos limit 2000)) x);
end $$;
comment on function stepd._stripe_seen(int, boolean, bigint) is 'The stripes, a bit each, that have ready jobs among the next thousands of a lane, without those that somebody has taken or tried to.';

-- Thousands of a group that is held may stand before others.  Who meets them remembers how far he came, and spends a tenth of
-- his time on it at most.
create or replace function stepd._stripe_far(lane_id int, whole boolean, cursor bigint, free bigint, out stripe int, out upto bigint, out rest bigint)
language plpgsql stable as $$
#variable_conflict use_column
declare
	began timestamptz := clock_timestamp();
begin
	select x.s, case when x.rank = 0 then x.pos - 1 else cursor end into stripe, upto from (
			(select stepd._stripe(x.group_hash, x.pos) as s, x.rank, x.pos from stepd.ready x -- also what a failed claim has touched
				where x.lane_id = _stripe_far.lane_id and x.rank < case when whole then 2147483647 else 0 end
				order by x.lane_id, x.rank, x.pos limit 50000)
			union all
			(select stepd._stripe(x.group_hash, x.pos), x.rank, x.pos from stepd.ready x
				where x.lane_id = _stripe_far.lane_id and x.rank = 0 and x.pos > cursor and not whole
				order by x.lane_id, x.rank, x.pos limit 50000)) x
		where free >> x.s & 1 = 1 limit 1;
	if stripe is null then
		upto := (select x.pos from stepd.ready x
			where x.lane_id = _stripe_far.lane_id and x.rank = 0 and x.pos > cursor
			order by x.lane_id, x.rank, x.pos offset 49999 limit 1);
	end if;
	rest := extract(epoch from clock_timestamp() + least(10 * (clock_timestamp() - began), interval '200 ms')) * 1000;
end $$;
comment on function stepd._stripe_far(int, boolean, bigint, bigint) is
	'Look far ahead in a lane for a job of these stripes; whole: in its order, from the start. stripe: of the first, null: there is none; upto: where to go on, null: it saw all; rest: not to look again before that time (ms since the epoch).';

create or replace function stepd._stripe_least(lane_id int) returns bigint
language plpgsql stable as $$
begin
	return (select min(l.ids[1]) - 1 from stepd.lease l where l.lane_id = _stripe_least.lane_id);
end $$;
comment on function stepd._stripe_least(int) is 'Before the jobs of a lane that are held now; where a worker reads on who takes over stripes.';

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

create or replace function stepd._starves_long() returns boolean
language plpgsql as $$
declare
	now bigint := extract(epoch from clock_timestamp()) * 1000;
begin
	if now < coalesce(nullif(current_setting('stepd.starves_since', true), '')::bigint, now) + 300 then
		return false;
	end if;
	perform set_config('stepd.starves_since', (now + 700)::text, false);
	return true;
end $$;
comment on function stepd._starves_long() is 'Did the claims of this session find nothing for 300 ms, though there are jobs? Says so once a second.';

create or replace function stepd._starved(queue_id int) returns boolean
language plpgsql as $$
begin
	return not (pg_try_advisory_lock(1937007990, _starved.queue_id) and pg_advisory_unlock(1937007990, _starved.queue_id));
end $$;
comment on function stepd._starved(int) is 'Is there another session that wants jobs of this queue and can get none?';

create or replace function stepd._stripe_share(among bigint, workers int, per_group int, lean float8) returns int
language plpgsql immutable parallel safe as $$
declare
	n int := bit_count(among::bit(64));
begin
	return greatest(least(n, 1), least(n, ceil(n::float8 * per_group / workers * lean)));
end $$;
comment on function stepd._stripe_share(bigint, int, int, float8) is 'How many of these stripes are for one of so many workers, where so many may share one; lean: that much more or less.';

create or replace function stepd._stripe_choose(queue_id int, per_group int, node_id int, slot int, h stepd._holding, workers int, occupied bigint, starved boolean,
	lane_id int, whole boolean, cursor bigint, out arc bigint, out first int)
language plpgsql as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_stripe_choose.lane_id);
	had bigint := case when at.arc <> -1 then at.arc else 0 end;
	start bigint := least(cursor, at.cursor);
	seen bigint := stepd._stripe_seen(_stripe_choose.lane_id, whole or cursor = 0, start);
	lean float8 := 1; -- who is behind the others takes less, who is ahead more
	grow boolean;
	home bigint;
	far record;
begin
	if at.arc <> -1 and at.cursor is not null and not whole and h.span > 0 then
		lean := greatest(0.5, least(1.5, 1 + (at.cursor - h.at) / (8 * h.span)));
	end if;
	grow := cursor = 0 or at.until = 0 or lean > 1.2;
	occupied := occupied | seen;
	home := stepd._stripe_home(h.ahead, workers, per_group, occupied) | stepd._stripe_home(h.ahead, workers, per_group, ~occupied);
	arc := stepd._stripe_arc(had & occupied, h.free & occupied, home, stepd._stripe_share(occupied, workers, per_group, lean), grow)
		| stepd._stripe_arc(had & ~occupied, h.free & ~occupied, home, stepd._stripe_share(~occupied, workers, per_group, 1), grow);
	if cursor = 0 and (at.cursor is not null or whole and random() < 0.05) and not starved then
		arc := arc | (stepd._holders(_stripe_choose.queue_id, 1, _stripe_choose.node_id, _stripe_choose.slot)).free;
	end if;
	if arc & seen = 0 and h.free & seen = 0 and not extract(epoch from clock_timestamp()) * 1000 between at.rest - 1000 and at.rest then
		start := least(start, coalesce(stepd._stripe_least(_stripe_choose.lane_id), 0));
		far := stepd._stripe_far(_stripe_choose.lane_id, whole, case when h.free & ~at.arc = 0 then greatest(start, at.cursor) else start end, h.free);
		perform case when whole then stepd._stripe_keep(_stripe_choose.lane_id, -1, null, 0, at.took, far.rest)
			when far.upto is not null then stepd._stripe_keep(_stripe_choose.lane_id, h.free, far.upto, 0, at.took, far.rest)
			else stepd._stripe_keep(_stripe_choose.lane_id, 0, start, 0, at.took, far.rest) end; -- next time from there, whatever came late
		seen := case when far.stripe is not null then 1::bigint << far.stripe else 0 end;
	end if;
	seen := h.free & seen;
	if arc & seen = 0 then
		arc := arc | seen; -- nobody's yet
	end if;
	first := (select min(s) from generate_series(0, 63) s where arc & seen >> s & 1 = 1);
end $$;
comment on function stepd._stripe_choose(int, int, int, int, stepd._holding, int, bigint, boolean, int, boolean, bigint) is
	'The stripes of a lane that a worker goes for, and one of them that has jobs (null: none has), as one of so many workers who share these occupied ones.';

drop function if exists stepd._stripe_plan(int, boolean, int, int, int, int[], bigint[], boolean, boolean);
create or replace function stepd._stripe_plan(queue_id int, whole boolean, per_group int, node_id int, slot int, lanes int[], cursors bigint[], maxes int[],
	mine boolean, wide boolean, out calm boolean, out n int, out most int, out home bigint, out free bigint, out arcs bigint[], out first int)
language plpgsql as $$
#variable_conflict use_column
declare
	own int[];
	h stepd._holding;
	aside boolean;
	quick boolean;
	starved boolean;
	workers int;
	occupied bigint;
	c record;
begin
	for turn in 1 .. 2 loop
		h := stepd._holders(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot);
		aside := exists (select from stepd.fifo_backlog b where b.queue_id = _stripe_plan.queue_id);
		exit when turn = 2 or mine and (wide or h.n >= per_group or aside);
		perform pg_advisory_xact_lock(1937007987, _stripe_plan.queue_id); -- newcomers one after the other
	end loop;
	n := h.n;
	most := h.most;
	own := array(select a.id from stepd.lane a where a.queue_id = _stripe_plan.queue_id);
	-- a worker asks for many of what it has found quick
	quick := not coalesce(h.long, false) and (n = 0 or h.most >= 4 or exists (select from unnest(lanes, maxes) u (lane, most) where u.lane = any (own) and u.most >= 64));
	starved := quick and stepd._starved(_stripe_plan.queue_id);
	calm := n < per_group and not aside and not starved;
	if calm or not quick then
		return;
	elsif aside then
		home := -1;
		return;
	end if;
	workers := greatest(h.n + 1 + starved::int, per_group + 1);
	occupied := h.held | (select bit_or((stepd._stripe_at(o)).took) from unnest(own) o);
	home := stepd._stripe_home(h.ahead, workers, per_group, occupied) | stepd._stripe_home(h.ahead, workers, per_group, ~occupied);
	free := h.free;
	for i in 1 .. cardinality(lanes) loop
		continue when free = 0 or lanes[i] <> all (own);
		c := stepd._stripe_choose(_stripe_plan.queue_id, per_group, _stripe_plan.node_id, _stripe_plan.slot, h, workers, occupied, starved,
			lanes[i], whole, coalesce(cursors[i], 0));
		arcs[i] := c.arc;
		first := coalesce(first, c.first);
	end loop;
end $$;
comment on function stepd._stripe_plan(int, boolean, int, int, int, int[], bigint[], int[], boolean, boolean) is
	'How to claim of a queue with concurrencyPerGroup; whole: its lanes are always read from the start; mine: the worker has a place in it, wide: of all stripes. calm: side by side, no group can be full; n: how many others hold jobs, most: how many one has at most. free: stripes of which one may claim. first not null: one that has a job for us, and arcs the stripes that we go for, by position of the lane. home not null: jobs are quick, and if by groups then of these stripes before others.';

create or replace function stepd._stripe_lock(queue_id int, per_group int, node_id int, slot int, arc bigint, first int) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
	got bigint;
begin
	for turn in 1 .. 2 loop
		if first is not null then -- while we have no other: so nobody waits who is waited for
			perform pg_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + first);
		end if;
		got := (select bit_or(1::bigint << x.s)
			from (select s from generate_series(0, 63) s where arc >> s & 1 = 1 offset 0) x
			where pg_try_advisory_xact_lock(1937007989, _stripe_lock.queue_id * 64 + x.s));
		exit when got is not null;
		first := (select min(s) from generate_series(0, 63) s where arc >> s & 1 = 1);
	end loop;
	return got & (stepd._holders(_stripe_lock.queue_id, per_group, _stripe_lock.node_id, _stripe_lock.slot)).free;
end $$;
comment on function stepd._stripe_lock(int, int, int, int, bigint, int) is
	'Lock stripes until the end of the transaction: those that nobody else has locked, first (if not null) or else one in any case. Returns those of them that are free. Waits, so it is for _claim_lock only.';

-- Of an arc some stripes of which are somebody else's now the cursor stays before their jobs.
create or replace function stepd._take_striped(lane_id int, strategy text, cursor bigint, want int, arc bigint, share bigint,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[], out stripes bigint)
language plpgsql as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_take_striped.lane_id);
	now bigint := extract(epoch from clock_timestamp()) * 1000;
	whole boolean := strategy <> 'standard' or cursor = 0;
	start bigint := least(cursor, at.cursor, case when arc & ~at.arc <> 0 then coalesce(stepd._stripe_least(_take_striped.lane_id), 0) end);
	same boolean := arc = at.arc and now < at.until;
	took bigint;
	t record;
begin
	if share <> 0 then
		t := stepd._take(_take_striped.lane_id, whole, start, want, share);
		ids := t.ids;
		buckets := t.buckets;
		attempts := t.attempts;
		last := t.last;
		took := t.stripes | case when same then at.took & share else 0 end;
		stripes := case when cardinality(ids) < 64 then t.stripes else took end; -- a few slow jobs shall not be in the way of others
	end if;
	if ids is null then
		perform stepd._ring(''); -- others were faster, or have what is left
		if at.until > 0 then
			perform stepd._stripe_keep(_take_striped.lane_id, at.arc, at.cursor, 0, at.took, at.rest);
		end if;
	elsif strategy = 'standard' and (last is not null or not whole) then
		if share <> arc and last is not null then
			last := least(last, (select x.pos - 1 from stepd.ready x
				where x.lane_id = _take_striped.lane_id and x.rank = 0 and x.pos > case when whole then 0 else start end and x.pos < t.last
					and (arc & ~share) >> stepd._stripe(x.group_hash, x.pos) & 1 = 1
				order by x.lane_id, x.rank, x.pos limit 1));
		end if;
		last := case when whole then last else greatest(last, start) end;
		perform stepd._stripe_keep(_take_striped.lane_id, arc, last, case
			when cardinality(ids) < want then 0
			when same then at.until
			else now + 100 end, took, at.rest);
	end if;
end $$;
comment on function stepd._take_striped(int, text, bigint, int, bigint, bigint) is
	'_take of the stripes of share, which are locked; arc: those that the session''s cursor is about. stripes: for the lease.';
