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
-- reach it with batches of 500, claims take the queue's lock shared, and none
-- waits for another's commit; else alone.
--
-- concurrencyPerGroup N.  A worker that holds jobs of a group runs one of them
-- at a time, so workers are counted, as for maxConcurrency.  While fewer than N
-- others hold jobs of the queue no group can be full, and nothing is noted.
-- Who has a place already (stepd.kept, see 006_claim.sql) makes them no more,
-- so those claims take the queue's lock shared.  A newcomer takes it shared too,
-- after another lock that only newcomers take, so that it sees those before it:
-- a worker that was just started plans everything anew, and others need not
-- wait for that.  (Of two newcomers one waits for the other in any case, also
-- if one takes the queue's lock alone; so maxConcurrency may rely on it.)
-- Else, and while any job is put aside, claims take it alone, and group_hold
-- gets the groups of each lease, once: with the claim, or by the next one.
-- Only claims write it, under the queue's lock; that a job ended shows in its
-- lease, so finishing costs nothing more than elsewhere.
-- The lock is held until the claim is on disk.  That it need not be (commit
-- asynchronously, wait for the disk in a transaction of its own) was measured
-- and left: what such claims wait for is each other's work, not the disk.
-- A claim that meets a job whose group is full leaves it where it is, if
-- those who hold the group work off batches: they come for more in a moment.
-- If one has nothing left but what it runs, that may take long, and the job
-- is put aside into fifo_backlog, so that nobody reads past it again and
-- again.  So are the jobs of a few busy groups where a claim's first look
-- found nothing else: thousands of one group may stand before those of
-- others.  When a job of the group has ended, the next claim lets twice as
-- many come back as have ended: enough for batches that grow, and no job is
-- moved to and fro more than a few times.  Jobs without a group are not
-- limited.  What is left behind the workers' cursors gets rank -1, as if it
-- had come again.

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
	from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = _rate_used.queue_id;
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

-- Has this queue room, as far as one can tell without its lock?
create or replace function stepd._has_room(q stepd.queue) returns boolean
language sql stable as $$
	select (q.max_concurrency = 0 or q.max_concurrency > (
			select count(distinct (e.node_id, e.slot)) from stepd.lease e join stepd.lane a on a.id = e.lane_id where a.queue_id = q.id))
		and (q.rate_limit = 0 or q.rate_limit >
			coalesce((select sum(s.n) from stepd.rate_start s
				where s.queue_id = q.id and s.at > clock_timestamp() - q.rate_window_ms * interval '1 ms'), 0)
			+ coalesce((select sum(cardinality(l.ids) - coalesce(l.begun = any (l.ids), false)::int)
				from stepd.lease l join stepd.lane a on a.id = l.lane_id where a.queue_id = q.id), 0))
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
	select q.id, max(f.at), count(*)
	from (select u.lease, u.job, at - u.age * interval '1 us' as at from unnest(leases, jobs, ages_us) u (lease, job, age)) f
	join stepd.lease l on l.id = f.lease
	join stepd.lane a on a.id = l.lane_id
	join stepd.queue q on q.id = a.queue_id
	where q.rate_limit > 0 and l.begun is distinct from f.job
	group by q.id, date_bin('10 ms', f.at, 'epoch');
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

create or replace function stepd._group_others(queue_id int, node_id int, slot int) returns bigint
language plpgsql stable as $$
#variable_conflict use_column
begin
	return count(distinct (l.node_id, l.slot)) from stepd.lease l join stepd.lane a on a.id = l.lane_id
	where a.queue_id = _group_others.queue_id and (l.node_id, l.slot) <> (_group_others.node_id, _group_others.slot);
end $$;
comment on function stepd._group_others(int, int, int) is 'How many other workers hold jobs of a queue.';

create or replace function stepd._group_calm(queue_id int, per_group int, node_id int, slot int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return per_group > stepd._group_others(_group_calm.queue_id, _group_calm.node_id, _group_calm.slot)
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

create or replace function stepd._groups(ids bigint[], buckets date[]) returns text[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
	day date := buckets[1];
	first bigint := ids[1];
	final bigint := ids[cardinality(ids)];
begin
	if day = all (buckets) and stepd._in_a_row(ids) then
		return array(select x.group_id from stepd.job x where x.id between first and final and x.bucket = day order by x.id);
	elsif day = all (buckets) then -- nearly always; picks one partition once, see claim()
		return array(select (select x.group_id from stepd.job x where x.id = u.id and x.bucket = day limit 1)
			from unnest(ids) with ordinality u (id, ord) order by u.ord);
	end if;
	return array(select (select x.group_id from stepd.job x where x.id = u.id and x.bucket = u.bucket limit 1)
		from unnest(ids, buckets) with ordinality u (id, bucket, ord) order by u.ord);
end $$;
comment on function stepd._groups(bigint[], date[]) is 'The groups of jobs, by position.';

create or replace function stepd._group_note(queue_id int) returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
begin
	insert into stepd.group_hold (queue_id, lease_id, node_id, slot, whole, groups)
	select _group_note.queue_id, l.id, l.node_id, l.slot, cardinality(l.ids), array_remove(stepd._groups(l.ids, l.buckets), null)
	from stepd.lease l
	join stepd.lane a on a.id = l.lane_id and a.queue_id = _group_note.queue_id
	where not exists (select from stepd.group_hold h where h.queue_id = _group_note.queue_id and h.lease_id = l.id);
end $$;
comment on function stepd._group_note(int) is 'Note the groups of leases that are not noted. Only under the queue''s lock.';

-- Bring group_hold up to what the leases hold, and let jobs come back of groups that have room now.
drop function if exists stepd._group_sort(int, int);
create or replace function stepd._group_sort(queue_id int, per_group int, aside boolean) returns void
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
	leases bigint[];
	was text[];
	freed text[];
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
			select x.ctid from stepd.fifo_backlog x where x.queue_id = _group_sort.queue_id and x.group_id = f.g
			order by x.queue_id, x.group_id, x.rank, x.id limit f.n * 2 for update skip locked) b
	), gone as (
		delete from stepd.fifo_backlog b where b.ctid = any (array(select n.ctid from next n))
		returning b.lane_id, b.rank, b.id, b.bucket, b.attempt
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt)
	select g.lane_id, g.rank, g.id, g.bucket, g.attempt from gone g;
end $$;
comment on function stepd._group_sort(int, int, boolean) is
	'Note what is held of a queue with concurrencyPerGroup; if jobs are put aside, let those come back whose group has room since it was noted last. Only under the queue''s lock.';

-- Which of these groups are full without this worker, and which of them may stay so for long.  Only the groups asked for
-- are counted: all that is held would be tens of thousands, for each claim.
create or replace function stepd._group_busy(queue_id int, per_group int, node_id int, slot int, among text[], out busy text[], out stuck text[])
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off set enable_nestloop = off as $$
#variable_conflict use_column
begin
	select array_agg(x.g), array_agg(x.g) filter (where x.single) into busy, stuck
	from (select y.g, bool_or(y.single) as single
		from (select h.node_id, h.slot, u.g, bool_and(h.whole <= 1) as single
			from stepd.group_hold h cross join lateral unnest(h.groups) u (g)
			where h.queue_id = _group_busy.queue_id and (h.node_id, h.slot) <> (_group_busy.node_id, _group_busy.slot)
				and u.g in (select a.g from unnest(among) a (g))
			group by h.node_id, h.slot, u.g) y
		group by y.g having count(*) >= per_group) x;
end $$;
comment on function stepd._group_busy(int, int, int, int, text[]) is
	'Of these groups those that are full without this worker, and of them those whose holders have nothing left but what they run. Only under the queue''s lock.';

-- One look at the first jobs of a lane: those whose group is not full are taken, up to want.
drop function if exists stepd._group_pick(int, int, text, boolean, bigint, text[], text[], int, int);
drop function if exists stepd._group_pick(int, int, int, int, int, text, boolean, bigint, int, int);
create or replace function stepd._group_pick(node_id int, slot int, queue_id int, per_group int, lane_id int, strategy text, whole boolean, cursor bigint,
	want int, look int, clear boolean, out ids bigint[], out buckets date[], out attempts smallint[], out groups text[], out last bigint, out aside bigint, out seen int)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
	c record;
	f record;
begin
	with again as materialized (
		select x.ctid as at, x.rank, x.pos, x.bucket, x.attempt from stepd.ready x
		where x.lane_id = _group_pick.lane_id and x.rank < case when whole then 2147483647 else 0 end
		order by x.lane_id, x.rank, x.pos limit look for update skip locked
	), next as materialized (
		select x.ctid as at, x.rank, x.pos, x.bucket, x.attempt from stepd.ready x
		where x.lane_id = _group_pick.lane_id and x.rank = 0 and x.pos > cursor and not whole
		order by x.lane_id, x.rank, x.pos limit look - (select count(*) from again) for update skip locked
	)
	select array_agg(x.at) as at, array_agg(x.rank) as ranks, array_agg(x.pos) as pos, array_agg(x.bucket) as buckets, array_agg(x.attempt) as attempts
	into c from (select * from again union all select * from next) x;
	seen := coalesce(cardinality(c.pos), 0);
	if seen = 0 then
		return;
	end if;
	groups := stepd._groups(c.pos, c.buckets);
	f := stepd._group_busy(_group_pick.queue_id, per_group, _group_pick.node_id, _group_pick.slot, groups);
	if f.busy is null then -- nearly always, where there are many groups
		delete from stepd.ready r where r.ctid = any (c.at[1:want]);
		ids := c.pos[1:want];
		buckets := c.buckets[1:want];
		attempts := c.attempts[1:want];
		groups := groups[1:want];
		last := (select max(u.pos) from unnest(ids, c.ranks[1:want]) u (pos, rank) where u.rank = 0);
		aside := 0;
		return;
	end if;
	clear := clear and cardinality(f.busy) * 8 < seen;
	with g as materialized (
		select u.*, b.g is not null as busy
		from unnest(c.at, c.ranks, c.pos, c.buckets, c.attempts, _group_pick.groups)
			with ordinality u (at, rank, pos, bucket, attempt, group_id, ord)
		left join unnest(f.busy) b (g) on b.g = u.group_id
		offset 0
	), free as materialized (
		select g.* from g where not g.busy order by g.ord limit want
	), moved as materialized (
		select g.* from g where g.busy and (clear or g.group_id in (select u.g from unnest(f.stuck) u (g)))
	), gone as (
		delete from stepd.ready r where r.ctid = any (array(select x.at from free x union all select x.at from moved x))
	), line as (
		insert into stepd.fifo_backlog (queue_id, group_id, id, lane_id, bucket, attempt, rank)
		select _group_pick.queue_id, m.group_id, m.pos, _group_pick.lane_id, m.bucket, m.attempt, stepd._rank(_group_pick.strategy,
			(select x.priority from stepd.job x where x.id = m.pos and x.bucket = m.bucket limit 1), true)
		from moved m
	), behind as (
		update stepd.ready r set rank = -1 where _group_pick.strategy = 'standard' and r.ctid = any (array(
			select g.at from g where g.busy and g.rank = 0 and g.pos < (select max(x.pos) from free x where x.rank = 0)
				and g.at not in (select m.at from moved m)))
	)
	select array_agg(x.pos), array_agg(x.bucket), array_agg(x.attempt), array_agg(x.group_id), max(x.pos) filter (where x.rank = 0),
		(select count(*) from moved)
	into ids, buckets, attempts, groups, last, aside from (select * from free order by ord) x;
end $$;
comment on function stepd._group_pick(int, int, int, int, int, text, boolean, bigint, int, int, boolean) is
	'Take jobs of groups that are not busy, put aside those of groups that are stuck, or, to clear the way, of a few groups that are busy. Only under the queue''s lock.';

drop function if exists stepd._take_grouped(int, int, int, text, int, int, boolean, bigint, int);
drop function if exists stepd._take_grouped(int, int, int, text, int, boolean, int, boolean, bigint, int);
create or replace function stepd._take_grouped(node_id int, slot int, queue_id int, strategy text, per_group int, alone boolean, lane_id int,
	whole boolean, cursor bigint, want int, out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out groups text[])
language plpgsql as $$
#variable_conflict use_column
declare
	aside boolean := exists (select from stepd.fifo_backlog b where b.queue_id = _take_grouped.queue_id);
	crowd boolean := per_group <= stepd._group_others(_take_grouped.queue_id, _take_grouped.node_id, _take_grouped.slot);
	look int := want; -- rows that are looked at and left stay locked, so not more than needed
	t record;
begin
	if (crowd or aside) and not alone then
		perform stepd._ring(''); -- others came while we took the lock; next time alone
		return;
	elsif crowd or aside then
		perform stepd._group_sort(_take_grouped.queue_id, per_group, aside);
	end if;
	if not crowd then
		t := stepd._take(_take_grouped.lane_id, whole, cursor, want);
		ids := t.ids;
		buckets := t.buckets;
		attempts := t.attempts;
		last := t.last;
		groups := case when aside then stepd._groups(ids, buckets) end;
		return;
	end if;
	for i in 1 .. 50 loop
		t := stepd._group_pick(_take_grouped.node_id, _take_grouped.slot, _take_grouped.queue_id, per_group, _take_grouped.lane_id, strategy, whole,
			greatest(cursor, coalesce(last, 0)), want, look, i > 1 and ids is null);
		ids := ids || t.ids;
		buckets := buckets || t.buckets;
		attempts := attempts || t.attempts;
		groups := groups || t.groups;
		last := greatest(last, t.last);
		want := want - coalesce(cardinality(t.ids), 0);
		exit when want <= 0 or t.seen < look or coalesce(t.aside, 0) = 0 and (i > 1 or cardinality(t.ids) >= want);
		look := least(greatest(want * 2, 64, case when ids is null then look * 2 end), 1000);
	end loop;
	if ids is null and t.aside > 0 then
		perform stepd._ring(''); -- enough for one claim; there is more to look at
	end if;
end $$;
comment on function stepd._take_grouped(int, int, int, text, int, boolean, int, boolean, bigint, int) is '_take for a queue with concurrencyPerGroup. Only under the queue''s lock, shared where not alone. groups, by position: to be noted with the lease; null: they need not.';

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
