-- Repeatable.
--
-- rateLimit and concurrencyPerGroup: what claim() asks under the queue's lock.
--
-- rateLimit N per window W.  In any stretch of time as long as W begin at most
-- N attempts.  An attempt counts from its claim on, however long it takes to
-- begin.  When it began is known when it ends, or before that when the worker
-- says so of one that runs for long (began()); then a row of rate_start (many
-- share one) counts until W after that.  What is given back unstarted never
-- counted.  The worker runs a claimed batch at once, so nothing is asked at the
-- start.  The leases are read before rate_start: what goes from one to the
-- other meanwhile counts twice, not never.
--
-- Many rows are made few, each with the latest of its starts: a window of an
-- hour may hold a million.
--
-- When the limit is so far that all sessions of the server together could not
-- reach it with batches of 1,000, claims take the queue's lock shared, and none
-- waits for another's commit; else alone.
--
-- concurrencyPerGroup N.  A worker that holds jobs of a group runs one of them
-- at a time, so workers are counted, as for maxConcurrency.  While fewer than N
-- others hold jobs of the queue no group can be full, and nothing is noted
-- (unless another one has found no group free: 035_stripe.sql).
-- Who has a place already (stepd.kept, see 006_claim.sql) makes them no more,
-- so those claims take the queue's lock shared.  A newcomer takes it shared too,
-- after another lock that only newcomers take, so that it sees those before it:
-- a worker that was just started plans everything anew, and others need not
-- wait for that.  (Of two newcomers one waits for the other in any case, also
-- if one takes the queue's lock alone; so maxConcurrency may rely on it.)
-- Else, and while any job is put aside, claims take it alone, and group_hold
-- gets the groups of each lease, once: with the claim, or by the next one.
-- With quick jobs there is a better way, side by side: see 035_stripe.sql.
-- Groups are told apart by a hash that stands in the job's place
-- (stepd.ready.group_hash), so no claim looks at the jobs for it.
-- Only claims write group_hold, under the queue's lock; that a job ended shows
-- in its lease, so finishing costs nothing more than elsewhere.
-- The lock is held until the claim is on disk.  That it need not be (commit
-- asynchronously, wait for the disk in a transaction of its own) was measured
-- and left: what such claims wait for is each other's work, not the disk.  So
-- the work under the lock is made little: what is in a large batch is read when
-- the lock is free (claimed()), and rows are deleted without being locked
-- before, where nobody else can take them away: all other claims wait, and
-- cancel() holds a lock, shared, that a claim tries to get alone.
-- A claim that meets a job whose group is full leaves it where it is, if
-- those who hold the group work off batches: they come for more in a moment.
-- The worker's cursor stays before it.
-- If one has nothing left but what it runs, that may take long, and the job
-- is put aside into fifo_backlog, so that nobody reads past it again and
-- again.  So are the jobs of a few busy groups where a claim's first look
-- found nothing else and a job has been running for long, or a worker has
-- found nothing for long: thousands of one group may stand before those of
-- others.  When a job of the group has ended, the next claim lets twice as
-- many come back as have ended: enough for batches that grow, and no job is
-- moved to and fro more than a few times.  While all jobs are quick nothing is
-- put aside, and what was comes back: thousands moved for a moment would cost
-- far more than the moment.  Jobs without a group are not limited.

create or replace function stepd._rate_used(queue_id int, window_ms bigint) returns int
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	opened timestamptz := clock_timestamp() - window_ms * interval '1 ms';
	done bigint;
	held bigint;
	rows bigint;
begin
	delete from stepd.rate_start s where s.ctid = any (array(
		select x.ctid from stepd.rate_start x where x.queue_id = _rate_used.queue_id and x.at <= opened
		limit 1000 for update skip locked));
	select sum(cardinality(l.ids) - coalesce(l.begun = any (l.ids), false)::int) into held
	from stepd.lease l where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _rate_used.queue_id));
	select sum(s.n), count(*) into done, rows from stepd.rate_start s where s.queue_id = _rate_used.queue_id and s.at > opened;
	if rows > 1000 then
		with gone as (
			delete from stepd.rate_start s where s.ctid = any (array(
				select x.ctid from stepd.rate_start x where x.queue_id = _rate_used.queue_id and x.at > opened
				limit 100000 for update skip locked))
			returning s.at, s.n)
		insert into stepd.rate_start (queue_id, at, n)
		select _rate_used.queue_id, max(g.at), sum(g.n) from gone g group by date_bin(window_ms * interval '1 ms' / 256, g.at, 'epoch');
	end if;
	return coalesce(done, 0) + coalesce(held, 0);
end $$;
comment on function stepd._rate_used(int, bigint) is 'How many attempts of a queue began within its window, or may begin any moment. Only under the queue''s lock.';

create or replace function stepd._rate_next(q stepd.queue) returns timestamptz
language sql stable as $$
	select min(x.at) from (
		select s.at + q.rate_window_ms * interval '1 ms' as at from stepd.rate_start s where s.queue_id = q.id
		union all
		select l.since + (q.rate_window_ms + 50) * interval '1 ms' from stepd.lease l join stepd.lane a on a.id = l.lane_id
		where a.queue_id = q.id) x
	where x.at > clock_timestamp()
$$;
comment on function stepd._rate_next(stepd.queue) is 'When fewer attempts will count against the queue''s rate limit; null: nothing counts.';

-- Room, as far as one can tell without the queue's lock.
create or replace function stepd._rate_room(q stepd.queue) returns boolean
language sql stable as $$
	select q.rate_limit = 0 or q.rate_limit >
			coalesce((select sum(s.n) from stepd.rate_start s
				where s.queue_id = q.id and s.at > clock_timestamp() - q.rate_window_ms * interval '1 ms'), 0)
			+ coalesce((select sum(cardinality(l.ids) - coalesce(l.begun = any (l.ids), false)::int)
				from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = q.id), 0)
$$;
comment on function stepd._rate_room(stepd.queue) is 'Would a claim find the queue below its rateLimit?';

create or replace function stepd._has_room(q stepd.queue) returns boolean
language sql stable as $$
	select (q.max_concurrency = 0 or q.max_concurrency > (
			select count(distinct (e.node_id, e.slot)) from stepd.lease e join stepd.lane a on a.id = e.lane_id where a.queue_id = q.id))
		and stepd._rate_room(q)
$$;
comment on function stepd._has_room(stepd.queue) is 'Would a claim find the queue below its maxConcurrency and rateLimit?';

drop function if exists stepd._rate_started(bigint[], bigint[]);
create or replace function stepd._rate_started(leases bigint[], jobs bigint[], ages_us bigint[]) returns void
language plpgsql
set enable_nestloop = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp();
begin
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, at - s.age * interval '1 us', s.n - coalesce(l.begun = any (s.jobs), false)::int
	from (select u.lease, min(u.age) as age, count(*) as n, array_agg(u.job) as jobs
		from unnest(leases, jobs, ages_us) u (lease, job, age) group by u.lease, u.age / 10000) s -- before the join: a batch is of one lease
	join stepd.lease l on l.id = s.lease
	join stepd.lane a on a.id = l.lane_id
	join stepd.queue q on q.id = a.queue_id
	where q.rate_limit > 0 and s.jobs <> array[l.begun];
end $$;
comment on function stepd._rate_started(bigint[], bigint[], bigint[]) is 'Note when attempts began that have just ended; their leases are still there.';

create or replace function stepd.began(node_id int, lease bigint, job bigint, age_us bigint) returns boolean
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	lane int;
begin
	update stepd.lease l set begun = job
	where l.id = lease and l.node_id = began.node_id and job = any (l.ids) and l.begun is distinct from job
	returning l.lane_id into lane;
	if lane is null then
		return false;
	end if;
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, clock_timestamp() - age_us * interval '1 us', 1
	from stepd.lane a join stepd.queue q on q.id = a.queue_id where a.id = lane and q.rate_limit > 0;
	perform stepd._ring('due'); -- promote() may wait for it
	return true;
end $$;
comment on function stepd.began(int, bigint, bigint, bigint) is
	'A worker says that a job of a queue with a rate limit, which it claimed with that lease, began so long ago and still runs. False: the lease does not hold it any more, or it was said before.';

drop function if exists stepd._group_sort(int, int, int);
drop function if exists stepd._group_admit(int, int, int, text, int, int, bigint[], date[], smallint[]);

drop function if exists stepd._group_others(int, int, int);
create or replace function stepd._others(queue_id int, node_id int, slot int) returns bigint
language plpgsql stable
set enable_seqscan = off as $$
#variable_conflict use_column
begin
	return count(distinct (l.node_id, l.slot)) from stepd.lease l
	where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _others.queue_id))
		and (l.node_id, l.slot) <> (_others.node_id, _others.slot);
end $$;
comment on function stepd._others(int, int, int) is 'How many other workers hold jobs of a queue.';

create or replace function stepd._group_calm(queue_id int, per_group int, node_id int, slot int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return per_group > stepd._others(_group_calm.queue_id, _group_calm.node_id, _group_calm.slot)
		and not exists (select from stepd.fifo_backlog b where b.queue_id = _group_calm.queue_id);
end $$;
comment on function stepd._group_calm(int, int, int, int) is 'Is no group of a queue with concurrencyPerGroup full, nor can be while those who hold jobs take more, and no job put aside?';

create or replace function stepd._group_mail(queue_id int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return exists (select from stepd.fifo_backlog b where b.queue_id = _group_mail.queue_id)
		and exists (select from stepd.group_hold h where h.queue_id = _group_mail.queue_id
			and not exists (select from stepd.lease l where l.id = h.lease_id and cardinality(l.ids) = h.whole));
end $$;
comment on function stepd._group_mail(int) is 'Is a job put aside in a queue with concurrencyPerGroup, and has a held one ended since a claim looked?';

drop function if exists stepd._groups(bigint[], date[]);
create or replace function stepd._group_hashes(ids bigint[], buckets date[]) returns bigint[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off as $$
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

create or replace function stepd._group_note(queue_id int) returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
begin
	insert into stepd.group_hold (queue_id, lease_id, node_id, slot, whole, groups)
	select _group_note.queue_id, l.id, l.node_id, l.slot, cardinality(l.ids), array_remove(stepd._group_hashes(l.ids, l.buckets), null)
	from stepd.lease l
	where l.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = _group_note.queue_id))
		and not exists (select from stepd.group_hold h where h.queue_id = _group_note.queue_id and h.lease_id = l.id);
end $$;
comment on function stepd._group_note(int) is 'Note the groups of leases that are not noted. Only under the queue''s lock.';

-- Bring group_hold up to what the leases hold, and let jobs come back of groups that have room now.
drop function if exists stepd._group_sort(int, int);
drop function if exists stepd._group_sort(int, int, boolean);
create or replace function stepd._group_sort(queue_id int, per_group int, aside boolean, quick boolean) returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
	leases bigint[];
	was bigint[];
	freed bigint[];
	counts bigint[];
begin
	with changed as materialized (
		delete from stepd.group_hold h
		where h.queue_id = _group_sort.queue_id
			and not exists (select from stepd.lease l where l.id = h.lease_id and cardinality(l.ids) = h.whole)
		returning h.lease_id, h.groups)
	select array_agg(c.lease_id), (select array_agg(u.g) from changed x cross join unnest(x.groups) u (g) where aside)
	into leases, was from changed c;
	perform stepd._group_note(_group_sort.queue_id);
	if aside and quick then
		with gone as (
			delete from stepd.fifo_backlog b where b.ctid = any (array(
				select x.ctid from stepd.fifo_backlog x where x.queue_id = _group_sort.queue_id
				order by x.queue_id, x.group_id, x.rank, x.id limit 1000 for update skip locked))
			returning b.lane_id, b.rank, b.id, b.bucket, b.attempt, b.group_id)
		insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
		select g.lane_id, g.rank, g.id, g.bucket, g.attempt, g.group_id::bigint from gone g;
	end if;
	if was is null then
		return;
	end if;
	select array_agg(e.g), array_agg(e.n) into freed, counts
	from (select x.g, sum(x.n) as n
		from (select u.g, 1 as n from unnest(was) u (g)
			union all
			select u.g, -1 from stepd.group_hold h cross join unnest(h.groups) u (g)
			where h.queue_id = _group_sort.queue_id and h.lease_id = any (leases)) x
		group by x.g having sum(x.n) > 0) e;
	with busy as (
		select x.g from (select distinct h.node_id, h.slot, u.g from stepd.group_hold h cross join lateral unnest(h.groups) u (g)
			where h.queue_id = _group_sort.queue_id) x
		group by x.g having count(*) >= per_group
	), next as materialized (
		select b.ctid
		from (select u.g, u.n from unnest(freed, counts) u (g, n) except select y.g, u.n from busy y join unnest(freed, counts) u (g, n) on u.g = y.g) f
		cross join lateral (
			select x.ctid from stepd.fifo_backlog x where x.queue_id = _group_sort.queue_id and x.group_id = f.g::text
			order by x.queue_id, x.group_id, x.rank, x.id limit f.n * 2 for update skip locked) b
	), gone as (
		delete from stepd.fifo_backlog b where b.ctid = any (array(select n.ctid from next n))
		returning b.lane_id, b.rank, b.id, b.bucket, b.attempt, b.group_id
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
	select g.lane_id, g.rank, g.id, g.bucket, g.attempt, g.group_id::bigint from gone g;
end $$;
comment on function stepd._group_sort(int, int, boolean, boolean) is
	'Note what is held of a queue with concurrencyPerGroup; if jobs are put aside, let those come back whose group has room since it was noted last, or, a thousand at a time, where groups are full for moments only (quick). Only under the queue''s lock.';

-- One look at jobs of a lane, behind one in its order: those whose group is not full without this worker are taken, up to want.
-- Only the groups of jobs that are looked at are counted: all that is held would be tens of thousands, for each claim.
-- A group is stuck when one who holds it has nothing left but what it runs.
-- sole: nobody takes jobs away but we, and nobody can begin to; then rows need not be locked before they are deleted.  Those
-- that somebody's failed transaction has touched are left to a look that is not sole.
drop function if exists stepd._group_busy(int, int, int, int, text[]);
drop function if exists stepd._group_pick(int, int, text, boolean, bigint, text[], text[], int, int);
drop function if exists stepd._group_pick(int, int, int, int, int, text, boolean, bigint, int, int);
drop function if exists stepd._group_pick(int, int, int, int, int, text, boolean, bigint, int, int, boolean);
drop function if exists stepd._group_pick(int, int, int, int, boolean, int, boolean, bigint, int, bigint, int, int);
drop function if exists stepd._group_pick(int, int, int, int, boolean, int, boolean, bigint, int, bigint, int, int, bigint);
create or replace function stepd._group_pick(node_id int, slot int, queue_id int, per_group int, sole boolean, lane_id int, whole boolean, cursor bigint,
	behind_rank int, behind_pos bigint, want int, look int, share bigint, keep boolean, out ids bigint[], out buckets date[], out attempts smallint[], out groups bigint[],
	out last bigint, out seen int, out seen_rank int, out seen_pos bigint, out left_pos bigint, out busy tid[],
	out stuck tid[], out crowds bigint)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off set enable_nestloop = off as $$
#variable_conflict use_column
begin
	with job as materialized (
		select * from (
			(select x.ctid as at, x.rank, x.pos, x.bucket, x.attempt, x.group_hash as h from stepd.ready x
			where x.lane_id = _group_pick.lane_id and x.rank < case when whole then 2147483647 else 0 end and (x.rank, x.pos) > (behind_rank, behind_pos)
				and (x.xmax = 0 or not sole) and (share is null or share >> (coalesce(x.group_hash, x.pos) & 63)::int & 1 = 1)
			order by x.lane_id, x.rank, x.pos limit look)
			union all
			(select x.ctid, x.rank, x.pos, x.bucket, x.attempt, x.group_hash from stepd.ready x
			where x.lane_id = _group_pick.lane_id and x.rank = 0 and x.pos > greatest(cursor, case when behind_rank >= 0 then behind_pos end) and not whole
				and (x.xmax = 0 or not sole) and (share is null or share >> (coalesce(x.group_hash, x.pos) & 63)::int & 1 = 1)
			order by x.lane_id, x.rank, x.pos limit look)) x
		limit look
	), full_one as materialized (
		select y.h, bool_or(y.single) as stuck
		from (select u.node_id, u.slot, u.h, bool_and(u.whole <= 1) as single
			from (select g.node_id, g.slot, g.whole, unnest(g.groups) as h from stepd.group_hold g
				where g.queue_id = _group_pick.queue_id and (g.node_id, g.slot) <> (_group_pick.node_id, _group_pick.slot)) u
			where (u.h in (select j.h from job j)) is true -- a look at each, and no join for each row of group_hold
			group by u.node_id, u.slot, u.h) y
		group by y.h having count(*) >= per_group
	), free as materialized (
		select j.* from job j where j.h is null or j.h not in (select f.h from full_one f) limit want
	), ours as materialized (
		select r.ctid as at from stepd.ready r where not sole and r.ctid = any (array(select f.at from free f)) for update skip locked
	), gone as (
		delete from stepd.ready r where r.ctid = any (array(select f.at from free f where sole union all select o.at from ours o))
	), taken as (
		select f.* from free f where sole or f.at in (select o.at from ours o)
	)
	select t.ids, t.buckets, t.attempts, t.groups, t.last, (select count(*) from job), b.rank, b.pos, b.left_pos, b.busy, b.stuck, c.n
	into ids, buckets, attempts, groups, last, seen, seen_rank, seen_pos, left_pos, busy, stuck, crowds
	from (select array_agg(f.pos) as ids, array_agg(f.bucket) as buckets, array_agg(f.attempt) as attempts, array_agg(f.h) as groups,
			max(f.pos) filter (where f.rank = 0) as last
		from taken f) t
	cross join (select count(*) as n from full_one) c
	left join (select max(j.rank) as rank, max(j.pos) filter (where j.rank = (select max(m.rank) from job m)) as pos,
			min(j.pos) filter (where j.rank = 0 and (keep or not f.stuck)) as left_pos,
			array_agg(j.at) filter (where f.h is not null) as busy, array_agg(j.at) filter (where f.stuck) as stuck
		from job j left join full_one f on f.h = j.h
		where exists (select from full_one)) b on true;
end $$;
comment on function stepd._group_pick(int, int, int, int, boolean, int, boolean, bigint, int, bigint, int, int, bigint, boolean) is
	'Take jobs of groups that are not full; share: of these stripes only, null: of all. seen: how many were looked at, up to which in the order of the lane. busy: those whose group is full, crowds: how many such groups; stuck: those of them whose group may stay so for long, left_pos: the first of the others, to keep: of all, in the main flow: it stays where it is. seen_rank and what follows is told only where groups are full. Only under the queue''s lock.';

create or replace function stepd._group_aside(queue_id int, lane_id int, strategy text, jobs tid[]) returns int
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	n int;
begin
	with gone as (
		delete from stepd.ready r where r.ctid = any (array(select x.ctid from stepd.ready x where x.ctid = any (jobs) for update skip locked))
		returning r.pos, r.bucket, r.attempt, r.group_hash)
	insert into stepd.fifo_backlog (queue_id, group_id, id, lane_id, bucket, attempt, rank)
	select _group_aside.queue_id, g.group_hash::text, g.pos, _group_aside.lane_id, g.bucket, g.attempt, stepd._rank(_group_aside.strategy,
		(select x.priority from stepd.job x where x.id = g.pos and x.bucket = g.bucket limit 1), true)
	from gone g;
	get diagnostics n = row_count;
	return n;
end $$;
comment on function stepd._group_aside(int, int, text, tid[]) is 'Put ready jobs of a queue with concurrencyPerGroup aside; returns how many it were. Only under the queue''s lock.';

create or replace function stepd._warm(what text) returns boolean
language plpgsql as $$
begin
	if current_setting('stepd.warm_' || what, true) <> '' then
		return false;
	end if;
	perform set_config('stepd.warm_' || what, (extract(epoch from clock_timestamp()) * 1000)::bigint::text, false);
	return true;
end $$;
comment on function stepd._warm(text) is 'Is this the session''s first claim of this kind? It plans what such a claim does, which takes ten times as long as doing it: before it has locks that others wait for.';

create or replace function stepd._warm_ms(what text) returns bigint
language plpgsql stable as $$
begin
	return extract(epoch from clock_timestamp()) * 1000 - current_setting('stepd.warm_' || what)::bigint;
end $$;
comment on function stepd._warm_ms(text) is 'How long ago the session''s first claim of this kind was, in ms.';

create or replace function stepd._group_warm() returns void
language plpgsql as $$
begin
	if stepd._warm('groups') then
		perform from stepd._take_by_group(0, 0, 0, 'standard', 1, true, true, false, false, 0, false, 0, 0, null);
		perform stepd._group_hashes('{0}', array[current_date]);
	end if;
end $$;
comment on function stepd._group_warm() is 'For claims by single groups, see _warm.';

drop function if exists stepd._take_by_group(int, int, int, text, int, boolean, boolean, int, boolean, bigint, int, bigint);
create or replace function stepd._take_by_group(node_id int, slot int, queue_id int, strategy text, per_group int, alone boolean, crowd boolean, quick boolean, long boolean, lane_id int,
	whole boolean, cursor bigint, want int, share bigint,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[])
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	aside boolean := exists (select from stepd.fifo_backlog b where b.queue_id = _take_by_group.queue_id);
	look int := greatest(want, case when quick then 64 else 16 end);
	moved int := 0;
	sole boolean;
	seen_rank int := -2147483648;
	seen_pos bigint := 0;
	busy tid[];
	left_pos bigint;
	t record;
begin
	crowd := crowd or per_group <= stepd._others(_take_by_group.queue_id, _take_by_group.node_id, _take_by_group.slot);
	if (crowd or aside) and not alone then
		perform stepd._ring(''); -- others came while we took the lock; next time alone
		return;
	elsif crowd or aside then
		perform stepd._group_sort(_take_by_group.queue_id, per_group, aside, quick);
	end if;
	if not crowd then
		t := stepd._take(_take_by_group.lane_id, whole, cursor, want);
		ids := t.ids;
		buckets := t.buckets;
		attempts := t.attempts;
		last := t.last;
		groups := case when aside then stepd._group_hashes(ids, buckets) end;
		return;
	end if;
	sole := not whole and pg_try_advisory_xact_lock(1937007988, _take_by_group.queue_id); -- no cancel is under way
	for i in 1 .. 50 loop
		t := stepd._group_pick(_take_by_group.node_id, _take_by_group.slot, _take_by_group.queue_id, per_group, sole, _take_by_group.lane_id, whole, cursor,
			seen_rank, seen_pos, want, look, share, quick);
		seen_rank := coalesce(t.seen_rank, seen_rank);
		seen_pos := coalesce(t.seen_pos, seen_pos);
		ids := ids || t.ids;
		buckets := buckets || t.buckets;
		attempts := attempts || t.attempts;
		groups := groups || t.groups;
		last := greatest(last, t.last);
		want := want - coalesce(cardinality(t.ids), 0);
		busy := busy || t.busy;
		left_pos := least(left_pos, t.left_pos);
		if i > 1 and ids is null and t.crowds * 8 < t.seen and not quick and (i >= 8 and long or stepd._runs_long(_take_by_group.queue_id, _take_by_group.node_id, _take_by_group.slot)) then -- to clear the way
			t.stuck := busy;
			left_pos := null;
		end if;
		if t.stuck is not null and not quick then
			moved := moved + stepd._group_aside(_take_by_group.queue_id, _take_by_group.lane_id, strategy, t.stuck);
		end if;
		if sole and ids is null and moved = 0 and t.seen < look then -- what a failed transaction has touched is still to be seen
			sole := false;
			seen_rank := -2147483648;
			seen_pos := 0;
			continue;
		end if;
		exit when quick and not long or want <= 0 or moved >= 5000 or t.seen < look or t.crowds = 0 or i >= 2 and ids is not null or i >= 8 and moved = 0;
		look := least(greatest(want * 2, 64, case when ids is null then look * 2 end), 1000);
	end loop;
	last := case when last is not null then least(last, left_pos - 1) end; -- what is left stays before the cursor
	if ids is null and moved > 0 then
		perform stepd._ring(''); -- enough for one claim; there is more to look at
	end if;
end $$;
comment on function stepd._take_by_group(int, int, int, text, int, boolean, boolean, boolean, boolean, int, boolean, bigint, int, bigint) is
	'_take, but nothing of groups that are full; share: of these stripes, null: of all (as where groups cannot be full). crowd: groups may be full; quick: and stay so for moments only, so one look is enough and nothing is put aside; long: the worker has found nothing for long, so one is not. Only under the queue''s lock, shared where not alone. groups, by position: to be noted with the lease; null: they need not.';

drop function if exists stepd._take_grouped(int, int, int, text, int, int, boolean, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, int, boolean, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, boolean, int, boolean, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, boolean, int, bigint, bigint, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, boolean, int, bigint, bigint, bigint, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, boolean, int, bigint, bigint, int);
create or replace function stepd._take_grouped(node_id int, slot int, queue_id int, strategy text, per_group int, alone boolean, crowd boolean, long boolean, lane_id int,
	home bigint, cursor bigint, want int,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups bigint[], out stripes bigint)
language plpgsql
set enable_seqscan = off as $$
#variable_conflict use_column
declare
	at record := stepd._stripe_at(_take_grouped.lane_id);
	part bigint := coalesce(home, -1); -- of what it is taken
	whole boolean := strategy <> 'standard' or cursor = 0;
	start bigint := least(cursor, at.cursor, case when part & ~at.arc <> 0 then coalesce(stepd._stripe_least(_take_grouped.lane_id), 0) end);
	t record;
begin
	for turn in 1 .. 3 loop
		t := stepd._take_by_group(_take_grouped.node_id, _take_grouped.slot, _take_grouped.queue_id, strategy, per_group, alone, crowd, home is not null, long,
			_take_grouped.lane_id, whole, start, want, nullif(part, -1));
		exit when t.ids is not null or part = -1 and (whole or start = 0);
		-- nothing at home: of others; nothing at all: what lies before the cursor, since the worker may sleep now
		start := case when part = -1 then 0 else least(start, coalesce(stepd._stripe_least(_take_grouped.lane_id), 0)) end;
		part := -1;
	end loop;
	ids := t.ids;
	buckets := t.buckets;
	attempts := t.attempts;
	groups := t.groups;
	last := t.last;
	if groups is not null then
		stripes := coalesce((select bit_or(1::bigint << stepd._stripe(g, 0)) from unnest(groups) g where g is not null), 0);
	end if;
	if strategy <> 'standard' or part = -1 and at.arc = -1 and at.cursor is null and start >= cursor and (cursor > 0 or cardinality(ids) < want) then
		return; -- the worker's cursor says it all
	elsif ids is not null and (last is not null or not whole) then
		last := case when whole then last else greatest(last, start) end;
		perform stepd._stripe_keep(_take_grouped.lane_id, part, case when part <> -1 or last < cursor or cursor = 0 then last end, 0, coalesce(stripes, 0), at.rest);
	elsif at.until > 0 then
		perform stepd._stripe_keep(_take_grouped.lane_id, at.arc, at.cursor, 0, at.took, at.rest);
	end if;
end $$;
comment on function stepd._take_grouped(int, int, int, text, int, boolean, boolean, boolean, int, bigint, bigint, int) is
	'_take for a queue with concurrencyPerGroup, but not by stripes; long as in _take_by_group, home as _claim_lock gave it. groups, by position: to be noted with the lease; null: they need not. stripes: for the lease.';

create or replace function stepd._group_recount(queue_id int, limited boolean) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._queue_lock(_group_recount.queue_id);
	delete from stepd.group_hold h where h.queue_id = _group_recount.queue_id;
	if limited then
		perform l.id from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = _group_recount.queue_id order by l.id for update of l;
		perform stepd._group_note(_group_recount.queue_id);
	end if;
end $$;
comment on function stepd._group_recount(int, boolean) is 'concurrencyPerGroup was switched on or off: count what is held now.';
comment on column stepd.rate_start.queue_id is 'The queue.';
comment on column stepd.rate_start.at is 'When the last of these attempts began.';
comment on column stepd.rate_start.n is 'How many attempts began within 10 ms.';
