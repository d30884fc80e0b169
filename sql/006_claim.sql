-- Repeatable.
--
-- Claim: from ready to a lease.
--
-- Two claims never take the same job: each locks the rows it takes with
-- SKIP LOCKED and deletes them in the same statement.  If the claim's
-- transaction fails, the rows are back.  A claim never waits for another one
-- but for the lock of a queue, see below.
--
-- Cost.  The claims of a standard lane go on where the worker's cursor stands
-- (the highest pos it has seen), so they never read again the index entries
-- of jobs that are gone, however long some old transaction keeps these from
-- being vacuumed.  What comes to stand behind the cursor:
--   - jobs that come again (retries, due times, given back) have rank -1 and
--     are looked for first, from the start of that rank;
--   - jobs of a transaction that took its ids earlier but committed later, or
--     whose claim was rolled back.  So a worker gives cursor 0 now and then,
--     and always before it goes to sleep: cursor 0 reads the whole lane.
-- Lanes of other strategies have their own order and ignore the cursor.
--
-- Queue locks.  A fifo queue whose inbox holds letters, and a queue with
-- maxConcurrency, are claimed under the queue's advisory lock, which is kept
-- to the end of the transaction, so that the next holder's snapshots see what
-- this one did.  All are taken first and in ascending order, and nothing after
-- that waits for anybody, so claims cannot deadlock.  (Whoever calls claim()
-- in one transaction with finish() calls it last, for the same reason.)
--
-- maxConcurrency counts workers that hold a lease of the queue: a worker runs
-- one job at a time, so no more of its jobs can run than there are holders.
-- A worker that dies keeps its leases, and so its place, until died() or
-- rescue() has taken them back, and who follows it in its slot waits for that:
-- never exceeded, and nothing to leak.
-- A worker that finishes jobs of the queue in the same transaction keeps the
-- place it has (stepd.kept: its node and slot, then by pairs the queue and the
-- stripes it has there, see 035_stripe.sql): finish() holds its lease's row, so
-- nobody can have taken the lease away, and others see the old lease until they
-- see the new one.  It needs no lock, and looks at the number only because the
-- limit may have been lowered.
--
-- rateLimit, under the same lock: see 018_limit.sql.  concurrencyPerGroup, beside
-- others: see 035_stripe.sql.
--
-- The planner is told to use the index whatever the statistics say: they may
-- be from a moment when the table was empty, and a sort of the whole backlog
-- for a batch costs a thousandfold.
-- Generic plans, because with array parameters the planner believes a custom
-- one cheaper each time and planning takes longer than running: 1.1 ms for
-- a claim of one job, 0.4 ms without.  For the same reason whatever claim()
-- calls is plpgsql, which keeps its plans: a function in SQL that cannot be
-- inlined is planned anew in each statement.

drop type if exists stepd._letter cascade;
create type stepd._letter as (id bigint, lane_id int, bucket date, attempt smallint, ended boolean, group_id text);
comment on type stepd._letter is 'A row of fifo_inbox.';

-- Read a fifo queue's inbox: put jobs in line, and let the next of a group go
-- when its head has ended.  Called under the queue's lock, so nobody else
-- changes fifo_group.  cancel() may take jobs out of inbox and backlog, and
-- somebody's transaction may be open for long, so we do not wait for it: a
-- group with a locked letter, or whose next is locked, gets no head for now.
-- Its letter (for the latter one of our own, with a negative id) stays in the
-- inbox, so the group is looked at again when the cancel is decided.
drop function if exists stepd._fifo_sort(int, int);
create or replace function stepd._fifo_sort(queue_id int, most int) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	letters stepd._letter[];
	direct bigint[];
	olds bigint[];
	old_groups text[];
	undecided text[];
begin
	-- jobs that another strategy's settings placed while it changed
	with gone as (
		delete from stepd.ready r using stepd.lane l
		where l.queue_id = _fifo_sort.queue_id and r.lane_id = l.id and r.rank < 40000
		returning r.pos, r.lane_id, r.bucket, r.attempt)
	insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, attempt, group_id)
	select _fifo_sort.queue_id, g.pos, g.lane_id, g.bucket, g.attempt, coalesce(j.group_id, '')
	from gone g cross join lateral (select x.group_id from stepd.job x where x.id = g.pos and x.bucket = g.bucket limit 1) j;

	with gone as (
		delete from stepd.fifo_inbox i
		where i.ctid = any (array(
			select x.ctid from stepd.fifo_inbox x where x.queue_id = _fifo_sort.queue_id
			order by x.queue_id, x.id, x.ended limit most for update skip locked))
		returning i.id, i.lane_id, i.bucket, i.attempt, i.ended, i.group_id)
	select array_agg(row(g.id, g.lane_id, g.bucket, g.attempt, g.ended, g.group_id)::stepd._letter) into letters from gone g;
	if letters is null then
		return 0;
	end if;

	select array_agg(distinct i.group_id) into undecided
	from stepd.fifo_inbox i
	where i.queue_id = _fifo_sort.queue_id and not i.ended and i.id < (select max(e.id) from unnest(letters) e);

	-- group by group, whatever the planner thinks of the table: it may hold 100,000 of them
	delete from stepd.fifo_group f
	where f.ctid = any (array(
		select x.ctid from unnest(letters) e
		cross join lateral (select y.ctid from stepd.fifo_group y
			where y.queue_id = _fifo_sort.queue_id and y.group_id = e.group_id and y.head = e.id limit 1) x
		where e.ended));

	-- groups without a head: who is next, a letter or a job of the backlog
	select array_agg(n.mine) filter (where n.mine < coalesce(n.old, n.mine + 1)),
		array_agg(n.old order by n.group_id) filter (where n.old < coalesce(n.mine, n.old + 1)),
		array_agg(n.group_id order by n.group_id) filter (where n.old < coalesce(n.mine, n.old + 1))
	into direct, olds, old_groups
	from (select g.group_id, g.mine, (select b.id from stepd.fifo_backlog b
				where b.queue_id = _fifo_sort.queue_id and b.group_id = g.group_id order by b.queue_id, b.group_id, b.rank, b.id limit 1) as old
		from (select e.group_id, min(e.id) filter (where not e.ended) as mine from unnest(letters) e group by e.group_id) g
		where (select f.head from stepd.fifo_group f where f.queue_id = _fifo_sort.queue_id and f.group_id = g.group_id limit 1) is null
			and g.group_id <> all (coalesce(undecided, '{}'))) n;

	with head as materialized (
		select e.id, e.lane_id, e.bucket, e.attempt, e.group_id
		from unnest(letters) e where not e.ended and e.id = any (direct)
	), line as (
		insert into stepd.fifo_backlog (queue_id, group_id, id, lane_id, bucket, attempt)
		select _fifo_sort.queue_id, e.group_id, e.id, e.lane_id, e.bucket, e.attempt
		from unnest(letters) e where not e.ended and e.id <> all (coalesce(direct, '{}'))
	), old as (
		delete from stepd.fifo_backlog b
		where b.ctid = any (array(
			select x.ctid from unnest(olds, old_groups) o (id, group_id)
			cross join lateral (select b.ctid from stepd.fifo_backlog b
				where b.queue_id = _fifo_sort.queue_id and b.group_id = o.group_id and b.rank = 0 and b.id = o.id
				limit 1 for update skip locked) x))
		returning b.id, b.lane_id, b.bucket, b.attempt, b.group_id
	), heads as (
		select * from head union all select * from old
	), grp as (
		insert into stepd.fifo_group (queue_id, group_id, head)
		select _fifo_sort.queue_id, h.group_id, h.id from heads h
	), again as (
		insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, ended, group_id)
		select _fifo_sort.queue_id, -o.id, 0, '-infinity', true, o.group_id
		from unnest(olds, old_groups) o (id, group_id)
		where not exists (select from old where old.id = o.id)
	)
	insert into stepd.ready (lane_id, rank, pos, bucket, attempt)
	select h.lane_id, 40000, h.id, h.bucket, h.attempt from heads h;
	return cardinality(letters);
end $$;
comment on function stepd._fifo_sort(int, int) is 'Sort up to so many letters of a fifo queue''s inbox into its groups. Returns how many there were. Only under the queue''s lock.';

create or replace function stepd._fifo_mail(queue_id int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	return exists (select from stepd.fifo_inbox i where i.queue_id = _fifo_mail.queue_id)
		or exists (select from stepd.lane l join stepd.ready r on r.lane_id = l.id and r.rank < 40000 where l.queue_id = _fifo_mail.queue_id);
end $$;
comment on function stepd._fifo_mail(int) is 'Has _fifo_sort anything to do?';

-- Take up to want jobs of one lane; null when there are none.  (The settings for
-- the planner are those of claim(), which alone calls this.)
-- To find a row locked costs far more than to read it, so other workers' rows
-- are left out by their xmax first.  A claim that was rolled back leaves xmax
-- behind: those rows are taken when nothing else is there, and by cursor 0.
-- share: only of these stripes (035_stripe.sql), and not of groups that are busy;
-- null: of all.  What _stripe() computes is written out here: a session's first
-- claim plans each use.
drop function if exists stepd._take(int, boolean, bigint, int, bigint, bigint[]);
create or replace function stepd._take(lane_id int, whole boolean, cursor bigint, want int, share bigint default null, busy bigint[] default null, tell boolean default false,
	out ids bigint[], out buckets date[], out attempts smallint[], out last bigint, out stripes bigint, out groups bigint[])
language plpgsql
as $$
#variable_conflict use_column
begin
	if whole then
		with gone as (
			delete from stepd.ready r
			where r.ctid = any (array(
				select x.ctid from stepd.ready x where x.lane_id = _take.lane_id
					and (share is null or share >> (coalesce(x.group_hash, x.pos) & 63)::int & 1 = 1 and (busy is null or (x.group_hash in (select unnest(busy))) is not true))
				order by x.lane_id, x.rank, x.pos limit want for update skip locked))
			returning r.rank, r.pos, r.bucket, r.attempt, r.group_hash)
		select array_agg(g.pos), array_agg(g.bucket), array_agg(g.attempt), max(g.pos) filter (where g.rank = 0),
			bit_or(1::bigint << (coalesce(g.group_hash, g.pos) & 63)::int) filter (where share is not null), array_agg(g.group_hash) filter (where tell)
		into ids, buckets, attempts, last, stripes, groups from (select * from gone order by rank, pos) g;
		return;
	end if;
	for i in 1 .. 2 loop
		with again as materialized (
			select x.ctid from stepd.ready x where x.lane_id = _take.lane_id and x.rank < 0 and (x.xmax = 0 or i = 2)
				and (share is null or share >> (coalesce(x.group_hash, x.pos) & 63)::int & 1 = 1 and (busy is null or (x.group_hash in (select unnest(busy))) is not true))
			order by x.lane_id, x.rank, x.pos limit want for update skip locked
		), next as materialized (
			select x.ctid from stepd.ready x where x.lane_id = _take.lane_id and x.rank = 0 and x.pos > cursor and (x.xmax = 0 or i = 2)
				and (share is null or share >> (coalesce(x.group_hash, x.pos) & 63)::int & 1 = 1 and (busy is null or (x.group_hash in (select unnest(busy))) is not true))
			order by x.lane_id, x.rank, x.pos limit want - (select count(*) from again) for update skip locked
		), gone as (
			delete from stepd.ready r
			where r.ctid = any (array(select a.ctid from again a union all select n.ctid from next n))
			returning r.rank, r.pos, r.bucket, r.attempt, r.group_hash
		)
		select array_agg(g.pos), array_agg(g.bucket), array_agg(g.attempt), max(g.pos) filter (where g.rank = 0),
			bit_or(1::bigint << (coalesce(g.group_hash, g.pos) & 63)::int) filter (where share is not null), array_agg(g.group_hash) filter (where tell)
		into ids, buckets, attempts, last, stripes, groups from (select * from gone order by rank, pos) g;
		exit when ids is not null;
	end loop;
end $$;
comment on function stepd._take(int, boolean, bigint, int, bigint, bigint[], boolean) is
	'Delete up to want ready rows of a lane and return them in order, with the highest pos of the main flow (null: none of it) and, if they were of a share, their stripes, or, if it is to tell them, their groups.';

drop type if exists stepd._locks cascade;
create type stepd._locks as (alone int[], shared int[], shut int[], early int[], calm int[], far int, arcs bigint[], shares bigint[], busy bigint[], busy_of int[], others int[], awaited boolean[]);
comment on type stepd._locks is 'What _claim_lock() tells.';

-- The locks that the claim of these lanes needs; see above.
drop function if exists stepd._claim_lock(int, int, int[], bigint[], int[]);
create or replace function stepd._claim_lock(node_id int, slot int, lanes int[], cursors bigint[], maxes int[], idle int[],
	out alone int[], out shared int[], out shut int[], out early int[], out calm int[], out far int, out arcs bigint[], out shares bigint[], out busy bigint[], out busy_of int[], out others int[], out awaited boolean[])
language plpgsql as $$
#variable_conflict use_column
declare
	has int[] := '{}'; -- queues that the worker has a place in,
	stripes bigint[]; -- and stripes it has there
	s record;
	p record;
	g record;
	kept bigint;
	wanted bigint[];
	near boolean;
begin
	far := 1000 * current_setting('max_connections')::int;
	alone := '{}';
	shared := '{}';
	shut := '{}';
	early := '{}';
	calm := '{}';
	if current_setting('stepd.kept', true) like _claim_lock.node_id || ' ' || _claim_lock.slot || ' %' then
		select array_agg(u.k order by u.ord) filter (where u.ord % 2 = 1), array_agg(u.k order by u.ord) filter (where u.ord % 2 = 0) into has, stripes
		from unnest((string_to_array(current_setting('stepd.kept', true), ' ')::bigint[])[3:]) with ordinality u (k, ord);
	end if;
	for s in
		select x.id, x.strategy, x.max_concurrency, x.rate_limit, x.rate_window_ms, x.concurrency_per_group, x.id = any (has) as mine,
			x.strategy = 'fifo' and stepd._fifo_mail(x.id) as mail
		from stepd.queue x
		where x.id = any (array(select a.queue_id from stepd.lane a where a.id = any (lanes))) and not x.paused
			and (x.max_concurrency > 0 or x.rate_limit > 0 or x.concurrency_per_group > 0 or x.strategy = 'fifo' and stepd._fifo_mail(x.id))
		order by x.id
	loop
		if s.mine and s.rate_limit = 0 and s.concurrency_per_group = 0 and not s.mail then
			shared := shared || s.id; -- nothing but a place, and that is ours
			continue;
		elsif not pg_try_advisory_xact_lock_shared(1937007985, s.id) then -- the gate, see 004_configure.sql
			shut := shut || s.id;
			continue;
		end if;
		near := s.mail or s.max_concurrency > 0 and s.concurrency_per_group = 0 and not s.mine
			or s.rate_limit > 0 and (s.rate_limit <= far or s.rate_limit - stepd._rate_used(s.id, s.rate_window_ms) <= far);
		if s.concurrency_per_group > 0 then
			kept := (select bit_or(u.m) from unnest(has, stripes) u (q, m) where u.q = s.id);
			wanted := case when kept <> 0 then stepd._stripe_again(s.id, lanes, cursors) end;
			if wanted is not null then
				select false as calm, false as later, wanted as arcs, null::int as first, null::int as others, false as awaited into p;
			else
				p := stepd._stripe_plan(s.id, s.strategy <> 'standard', s.concurrency_per_group, _claim_lock.node_id, _claim_lock.slot, lanes, cursors, maxes, kept,
					s.max_concurrency, idle);
				wanted := case when p.first is not null then p.arcs end;
			end if;
			if p.calm then
				calm := calm || s.id;
			elsif wanted is null and p.later then
				shut := shut || s.id; -- others have large batches, and wake it when they come for more
				early := early || s.id;
				continue;
			end if;
		end if;
		if near then
			perform stepd._queue_lock(s.id);
			alone := alone || s.id;
		else
			perform pg_advisory_xact_lock_shared(1937007984, s.id);
			shared := shared || s.id;
		end if;
		if s.concurrency_per_group > 0 and wanted is not null then
			g := stepd._stripe_lock(s.id, s.concurrency_per_group, _claim_lock.node_id, _claim_lock.slot,
				(select bit_or(a) from unnest(wanted) a), coalesce(kept, 0), p.first);
			for i in 1 .. cardinality(lanes) loop
				arcs[i] := coalesce(arcs[i], wanted[i]);
				shares[i] := coalesce(shares[i], wanted[i] & g.got);
				others[i] := case when wanted[i] is not null then greatest(g.n, p.others) else others[i] end;
				awaited[i] := coalesce(wanted[i] is not null and p.awaited, awaited[i]);
			end loop;
			busy := busy || g.groups;
			busy_of := busy_of || array(select s.id from unnest(g.groups));
		end if;
	end loop;
end $$;
comment on function stepd._claim_lock(int, int, int[], bigint[], int[], int[]) is
	'Take the locks of those queues of these lanes that have limits or letters. alone: nobody else claims there; shared: others may, as far as limits go; shut: not now; early: but in a moment (_stripe_plan: later). calm: groups cannot be full. By position of the lane: arcs, the stripes of groups that it goes for, and shares, those of them that it has, but for the groups that are busy, of the queues busy_of, and others, how many workers hold jobs there, or are about to, and awaited, whether any is and sleeps. far: what all sessions of the server together may take of a queue while none sees the others.';

drop type if exists stepd._candidate cascade;
create type stepd._candidate as (ord int, lane_id int, cursor bigint, most int, queue_id int, queue text, strategy text, max_retries int,
	max_concurrency int, rate_limit int, rate_window_ms bigint, per_group int, limited boolean);
comment on type stepd._candidate is 'A lane that may have jobs for a claim, at that place among its lanes, and its queue''s settings. most: as many at most; limited: a queue with limits, or with letters to sort.';

drop type if exists stepd._batch cascade;
create type stepd._batch as (ids bigint[], buckets date[], attempts smallint[], last bigint, stripes bigint, groups bigint[], more boolean);
comment on type stepd._batch is 'Jobs of a lane that a claim took, in order. last: the highest pos of the main flow; stripes, groups: for the lease, see 035_stripe.sql; more: could others find jobs there, now? Null: if the batch is as large as asked.';

create or replace function stepd._claim_candidates(node_id int, lanes int[], cursors bigint[], maxes int[], total int) returns setof stepd._candidate
language plpgsql stable as $$
#variable_conflict use_column
begin
	return query
		select u.ord::int, u.lane, coalesce(u.cur, 0), least(u.most, total), q.id, q.name, q.strategy, q.max_retries,
			q.max_concurrency, q.rate_limit, q.rate_window_ms, q.concurrency_per_group,
			q.max_concurrency > 0 or q.rate_limit > 0 or q.concurrency_per_group > 0 or (q.strategy = 'fifo' and stepd._fifo_mail(q.id))
		from stepd.node n
		cross join unnest(lanes, cursors, maxes) with ordinality u (lane, cur, most, ord)
		join stepd.lane a on a.id = u.lane
		join stepd.queue q on q.id = a.queue_id
		-- _node_lives(n), in the words that the planner can look into
		where n.id = _claim_candidates.node_id and n.left_at is null and n.lost_at is null
			and greatest(n.heartbeat_at, pg_postmaster_start_time()) + n.lease_ms * interval '1 ms' > clock_timestamp()
			and u.most > 0 and not q.paused
			and (case when q.strategy <> 'standard' or coalesce(u.cur, 0) = 0
					then exists (select from stepd.ready r where r.lane_id = u.lane)
					else exists (select from stepd.ready r where r.lane_id = u.lane and r.rank = 0 and r.pos > least(u.cur,
							case when q.concurrency_per_group > 0 then stepd._stripe_start(u.lane) end))
						or exists (select from stepd.ready r where r.lane_id = u.lane and r.rank < 0) end
				or q.strategy = 'fifo' and stepd._fifo_mail(q.id))
		order by u.ord;
end $$;
comment on function stepd._claim_candidates(int, int[], bigint[], int[], int) is 'Those of the lanes of a claim that may have jobs for it, in their order; none when the node does not live.';

create or replace function stepd._claim_may(c stepd._candidate, locks stepd._locks, node_id int, slot int, generation bigint) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
begin
	if c.queue_id = any (locks.shut)
		or not exists (select from stepd.queue q where q.id = c.queue_id and (q.strategy, q.max_concurrency, q.rate_limit, q.rate_window_ms, q.concurrency_per_group)
			= (c.strategy, c.max_concurrency, c.rate_limit, c.rate_window_ms, c.per_group)) then -- they were changed while we waited
		return false;
	elsif c.max_concurrency = 0 and c.rate_limit = 0 and c.per_group = 0 then
		return true; -- if it has no lock, somebody else has sorted the letters meanwhile: the heads are there to be taken
	elsif c.queue_id <> all (locks.alone || locks.shared) then
		return false;
	elsif c.max_concurrency > 0 and c.max_concurrency <= stepd._others(c.queue_id, _claim_may.node_id, _claim_may.slot) then
		return false;
	end if;
	return c.max_concurrency = 0 and c.per_group = 0 or not exists (select from stepd.lease x
		where x.node_id = _claim_may.node_id and x.slot = _claim_may.slot and x.generation <> _claim_may.generation
			and x.lane_id = any (array(select a.id from stepd.lane a where a.queue_id = c.queue_id))); -- its dead forerunner has the place until died()
end $$;
comment on function stepd._claim_may(stepd._candidate, stepd._locks, int, int, bigint) is 'May a worker take a job of this queue with limits, as far as those are concerned that do not count jobs?';

create or replace function stepd._claim_sort(queue_id int, lane_id int, most int) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	for i in 1 .. 10 loop -- until somebody may go: a thousand letters may all be about a group that is blocked
		if stepd._fifo_sort(_claim_sort.queue_id, most) < most
			or exists (select from stepd.ready r where r.lane_id = _claim_sort.lane_id and r.rank >= 40000) then
			return;
		end if;
	end loop;
	perform stepd._ring(''); -- enough for one claim
end $$;
comment on function stepd._claim_sort(int, int, int) is 'Sort a fifo queue''s letters, so many at a time, until one of its lanes has a job to take.';

create or replace function stepd._claim_rate(c stepd._candidate, locks stepd._locks, beside int) returns int
language plpgsql as $$
declare
	rest int := c.rate_limit - stepd._rate_used(c.queue_id, c.rate_window_ms);
begin
	if c.queue_id = any (locks.alone) then
		return rest;
	end if;
	return case when rest > locks.far then beside else 0 end; -- else next time alone
end $$;
comment on function stepd._claim_rate(stepd._candidate, stepd._locks, int) is 'How many jobs of the queue its rateLimit lets the claim take, and beside others at most so many.';

create or replace function stepd._claim_take(c stepd._candidate, locks stepd._locks, node_id int, slot int, most int, wide int, own int, idle boolean) returns stepd._batch
language plpgsql as $$
#variable_conflict use_column
declare
	b stepd._batch;
	t record;
begin
	if c.per_group = 0 then
		t := stepd._take(c.lane_id, c.strategy <> 'standard' or c.cursor = 0, c.cursor, most);
	elsif c.queue_id = any (locks.calm) then
		t := stepd._take_calm(c.lane_id, c.strategy, c.cursor, most, idle);
		b.stripes := t.stripes;
		b.groups := t.groups;
	elsif locks.arcs[c.ord] is not null then
		t := stepd._take_striped(c.lane_id, c.strategy, c.cursor, wide, locks.arcs[c.ord], locks.shares[c.ord],
			case when locks.busy is not null then array(select u.g from unnest(locks.busy, locks.busy_of) u (g, q) where u.q = c.queue_id) end, locks.others[c.ord]);
		b.stripes := t.stripes;
		b.more := case when locks.awaited[c.ord] then true else t.more end; -- to them something was left
	else
		t := stepd._take_grouped(_claim_take.node_id, _claim_take.slot, c.queue_id, c.strategy, c.per_group, c.lane_id, c.cursor, most, own);
		b.stripes := t.stripes;
		b.groups := t.groups;
		b.more := t.more;
	end if;
	b.ids := t.ids;
	b.buckets := t.buckets;
	b.attempts := t.attempts;
	b.last := t.last;
	return b;
end $$;
comment on function stepd._claim_take(stepd._candidate, stepd._locks, int, int, int, int, int, boolean) is
	'Take up to most jobs of a lane, in the way that its queue''s concurrencyPerGroup wants, see 035_stripe.sql. wide: of its own stripes so many; own: and where it goes by groups, of the same group; idle: others are about to claim, too.';

create or replace function stepd._lease_put(node_id int, slot int, generation bigint, lane_id int, b stepd._batch) returns bigint
language plpgsql as $$
declare
	lease bigint;
	at timestamptz := clock_timestamp();
	least_id bigint;
	most_id bigint;
begin
	select min(i), max(i) into least_id, most_id from unnest(b.ids) i;
	insert into stepd.lease (node_id, slot, generation, lane_id, claimed_at, since, has_unique, stripes, groups, ids, buckets, attempts)
	values (_lease_put.node_id, _lease_put.slot, _lease_put.generation, _lease_put.lane_id, at, at,
		exists (select from stepd.unique_job k where k.job_id between least_id and most_id) -- rarely, and one look tells
			and exists (select from stepd.unique_job k where k.job_id = any (b.ids)),
		b.stripes, b.groups, b.ids, b.buckets, b.attempts)
	returning id into lease;
	return lease;
end $$;
comment on function stepd._lease_put(int, int, bigint, int, stepd._batch) is 'The lease of a batch that was just taken; returns its id.';

drop type if exists stepd._claimed cascade;
create type stepd._claimed as (lease_id bigint, lane_id int, job_id bigint, attempt int, max_attempts int, trigger text, trigger_index int,
	queue text, group_id text, parent_id bigint, trace_id uuid, enqueued_at_us bigint, cursor bigint, input text, more boolean);
comment on type stepd._claimed is 'A claimed job, as its worker wants to know it; or (job_id null) a batch that is to be read with claimed(). more: could another worker find jobs there, now? Null: if the batch is as large as asked.';

-- In vain: where those in doubt stand in front and may not run (their group is full), the session goes alone so often only.
create or replace function stepd._claim_alone(lane_id int, most int) returns boolean
language plpgsql stable as $$
#variable_conflict use_column
declare
	newest timestamptz := (select max(d.at) from stepd.doubt d where d.lane_id = _claim_alone.lane_id and d.at > clock_timestamp() - interval '5 min');
	vain text[] := string_to_array(current_setting('stepd.alone_' || lane_id, true), ' ');
begin
	return newest is not null and (vain[1]::int >= 200 and vain[2] = extract(epoch from newest)::text) is not true
		and exists (select from (select x.pos from stepd.ready x where x.lane_id = _claim_alone.lane_id order by x.lane_id, x.rank, x.pos limit most + 50) x
			join stepd.doubt d on d.job_id = x.pos);
end $$;
comment on function stepd._claim_alone(int, int) is 'Is there one among about so many next jobs of a lane that may be what its node vanished of? Then they are taken one at a time.';

create or replace function stepd._claimed_alone(lane_id int, ids bigint[]) returns void
language plpgsql as $$
#variable_conflict use_column
declare
	name text := 'stepd.alone_' || lane_id;
	newest text := (select extract(epoch from max(d.at)) from stepd.doubt d where d.lane_id = _claimed_alone.lane_id);
	vain text[] := string_to_array(current_setting(name, true), ' ');
begin
	delete from stepd.doubt d where d.job_id = any (ids);
	if found then
		perform set_config(name, '', false);
	else
		perform set_config(name, case when vain[2] = newest then vain[1]::int + 1 else 1 end || ' ' || newest, false);
	end if;
end $$;
comment on function stepd._claimed_alone(int, bigint[]) is 'A job was taken alone: it is in doubt no more, or it was not the one.';

create or replace function stepd._claim_check(slot int, generation bigint, lanes int[], cursors bigint[], maxes int[], total int, large int, mosts int[], idle int[]) returns void
language plpgsql as $$
begin
	perform stepd._check_range('slot', slot, 0, 2147483647), stepd._check_range('generation', generation, 0, 9223372036854775807),
		stepd._check_range('total', total, 0, 2147483647), stepd._check_range('large', large, 0, 2147483647);
	perform stepd._check_numbers('lanes', lanes, 1, 2147483647), stepd._check_list('cursors', cursors, true), stepd._check_numbers('maxes', maxes, 0, 2147483647),
		stepd._check_numbers('mosts', mosts, 0, 2147483647, true), stepd._check_numbers('idle', idle, 0, 2147483647);
	perform stepd._bad('lanes', format('has lane %s twice', l)) from unnest(lanes) l group by l having count(*) > 1;
end $$;
comment on function stepd._claim_check(int, bigint, int[], bigint[], int[], int, int, int[], int[]) is 'Refuse what claim() was given, saying why; returns if nothing is wrong.';

create or replace function stepd.claim(node_id int, slot int, generation bigint, lanes int[], cursors bigint[], maxes int[], total int,
	large int default null, mosts int[] default null, idle int[] default null) returns setof stepd._claimed
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	c stepd._candidate;
	b stepd._batch;
	room int := total;
	locks stepd._locks; -- of queues with limits
	cold boolean;
	most int;
	wide int;
	rate int;
	beside int := 1000; -- how many it may take beside others of queues with a rate limit, see far
	lease bigint;
	starving int[] := '{}'; -- for queues of which there are jobs, but of groups that may be full
	missed boolean := false; -- others were faster in some stripes
	doubts boolean := exists (select from stepd.doubt);
	alone boolean := false; -- it may be what its node vanished of, see 010_rescue.sql
begin
	perform stepd._required('{node_id,slot,generation,lanes,cursors,maxes,total}', claim.node_id is null, claim.slot is null, claim.generation is null, claim.lanes is null, claim.cursors is null, claim.maxes is null, claim.total is null);
	if cardinality(lanes) <> cardinality(cursors) or cardinality(lanes) <> cardinality(maxes) or cardinality(lanes) <> cardinality(mosts) then
		perform stepd._check_lengths('{lanes,cursors,maxes,mosts}', array[cardinality(lanes), cardinality(cursors), cardinality(maxes), cardinality(mosts)]);
	elsif claim.slot < 0 or claim.generation < 0 or total < 0 or large < 0 or (0 < all (lanes) and 0 <= all (maxes)) is not true or 0 > any (mosts) or idle is not null and (0 <= all (idle)) is not true
		or '[1:' || cardinality(lanes) || ']' <> any (array[array_dims(lanes), array_dims(cursors), array_dims(maxes), array_dims(mosts)])
		or array_dims(idle) <> '[1:' || cardinality(idle) || ']'
		or cardinality(lanes) > 1 and cardinality(lanes) <> (select count(distinct l) from unnest(lanes) l) then -- in one look
		perform stepd._claim_check(claim.slot, claim.generation, lanes, cursors, maxes, total, large, mosts, idle);
	end if;
	for c in select * from stepd._claim_candidates(claim.node_id, lanes, cursors, maxes, total) loop
		exit when room <= 0;
		if c.limited then
			if locks.far is null then
				cold := stepd._warm('claim');
				if c.per_group > 0 and c.cursor = 0 then
					perform stepd._starve(null);
				end if;
				locks := stepd._claim_lock(claim.node_id, claim.slot, lanes, cursors, maxes, idle);
			end if;
			continue when not stepd._claim_may(c, locks, claim.node_id, claim.slot, claim.generation);
			if c.strategy = 'fifo' and c.queue_id = any (locks.alone) then
				perform stepd._claim_sort(c.queue_id, c.lane_id, greatest(least(room, 100000) * 4, 1000));
			end if;
		end if;
		rate := case when c.rate_limit > 0 then stepd._claim_rate(c, locks, beside) end;
		continue when rate <= 0;
		alone := doubts and stepd._claim_alone(c.lane_id, least(c.most, room));
		most := case when alone then 1 else least(c.most, room, rate) end;
		wide := least(greatest(most, case when c.per_group = 1 and room = total and not alone then mosts[c.ord] end), rate); -- elsewhere others could take them
		b := stepd._claim_take(c, locks, claim.node_id, claim.slot, most, wide, case when c.rate_limit = 0 and not alone then mosts[c.ord] end, cardinality(idle) > 0);
		if b.ids is null then
			missed := missed or c.per_group > 0 and locks.arcs[c.ord] is not null;
			starving := starving || case when c.per_group > 0 and c.queue_id <> all (locks.calm) then array[c.queue_id] end;
			continue;
		end if;
		if c.rate_limit > 0 then
			beside := beside - cardinality(b.ids);
			if c.queue_id = any (locks.alone) and rate <= cardinality(b.ids) then
				perform stepd._ring('due'); -- promote() knows when the next may start
			end if;
		end if;
		if alone then
			perform stepd._claimed_alone(c.lane_id, b.ids);
			b.more := true;
		end if;
		room := room - cardinality(b.ids);
		lease := stepd._lease_put(claim.node_id, claim.slot, claim.generation, c.lane_id, b);
		b.last := case when c.strategy = 'standard' then greatest(coalesce(b.last, 0), c.cursor) else c.cursor end;
		if cardinality(b.ids) > large or cold and large is not null then
			return next row(lease, c.lane_id, null, null, null, null, null, null, null, null, null, null, b.last, null, b.more)::stepd._claimed;
		else
			return query
				select lease, c.lane_id, x.id, u.attempt + 1,
					stepd._max_attempts(c.max_retries, case when u.attempt > 0
						then (select n.attempts_before from stepd.renewal n where n.job_id = x.id) end),
					x.trigger, x.trigger_index::int, c.queue, x.group_id, x.parent_id, x.trace_id,
					(date_part('epoch', x.enqueued_at) * 1000000)::bigint, b.last, x.input::text, b.more
				from unnest(b.ids, b.buckets, b.attempts) with ordinality u (id, bucket, attempt, ord)
				cross join lateral (select j.* from stepd.job j where j.id = u.id and j.bucket = u.bucket limit 1) x
				order by u.ord;
		end if;
	end loop;
	if missed and room = total then
		perform stepd._ring('');
	end if;
	if room = total and cardinality(starving || locks.early) > 0 then
		perform stepd._starve(starving || locks.early);
	elsif (room < total or (0 < any (cursors)) is not true) and (current_setting('stepd.starves', true) <> '' or current_setting('stepd.starves_since', true) <> '') then
		perform stepd._starve(null), set_config('stepd.starves_since', '', false); -- else it has not seen all there is
	end if;
end $$;
comment on function stepd.claim(int, int, bigint, int[], bigint[], int[], int, int, int[], int[]) is
'Take up to total jobs, of each lane up to its max, for one life of one worker, in the order of the given lanes; one lease a lane. Rows come in the order in which they are to run.
A batch of more than large, or of one that would be slow to read now (a session''s first), comes as one row without a job: when the claim is committed, and its locks are free, claimed() tells what is in it. large null: all come at once.
mosts: of a lane so many where nobody else could take them: with concurrencyPerGroup 1 what is of the same group, and in a large batch what is of the worker''s own stripes; null: no more than its max.
idle: slots of the node whose workers have nothing to do and would take jobs of these lanes: large batches under concurrencyPerGroup leave groups to them. Null: none.
attempt counts from 1. cursor is what to give for that lane next time; 0 reads the whole lane and is to be given before the worker sleeps, and about once a second.
Returns nothing when the node is unknown, has left or was silent for longer than its lease. In one transaction with finish() it comes last.';

-- By their array, which the index takes as it is, and which takes two thirds of the time, where they come in order and alike;
-- else row by row: a join, planned while the day was young, would go on reading all of it.  And day by day (nearly always all
-- are of one): then one partition is picked once, not for each row.
create or replace function stepd.claimed(node_id int, slot int, generation bigint, leases bigint[])
returns setof stepd._claimed
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
	l record;
	first int;
	upto int;
	day date;
	ids bigint[];
	used smallint;
begin
	perform stepd._required('{node_id,slot,generation,leases}', claimed.node_id is null, claimed.slot is null, claimed.generation is null, claimed.leases is null);
	perform stepd._check_list('leases', leases);
	for l in
		select e.id, e.lane_id, e.ids, e.buckets, e.attempts, q.name, q.max_retries
		from stepd.lease e join stepd.lane a on a.id = e.lane_id join stepd.queue q on q.id = a.queue_id
		where e.id = any (leases) and e.node_id = claimed.node_id and e.slot = claimed.slot and e.generation = claimed.generation
		order by e.id
	loop
		upto := 0;
		while upto < cardinality(l.ids) loop
			first := upto + 1;
			day := l.buckets[first];
			upto := case when day = all (l.buckets) then cardinality(l.ids) else first end;
			while l.buckets[upto + 1] = day loop
				upto := upto + 1;
			end loop;
			ids := l.ids[first:upto];
			used := l.attempts[first];
			if used = all (l.attempts[first:upto]) and ids = array(select i from unnest(ids) i order by i) then
				return query
					select l.id, l.lane_id, x.id, used + 1,
						stepd._max_attempts(l.max_retries, case when used > 0 then (select n.attempts_before from stepd.renewal n where n.job_id = x.id) end),
						x.trigger, x.trigger_index::int, l.name, x.group_id, x.parent_id, x.trace_id,
						(date_part('epoch', x.enqueued_at) * 1000000)::bigint, null::bigint, x.input::text, null::boolean
					from stepd.job x
					where x.id = any (ids) and x.bucket = day
					order by x.id;
				continue;
			end if;
			return query
				select l.id, l.lane_id, x.id, u.attempt + 1,
					stepd._max_attempts(l.max_retries, case when u.attempt > 0
						then (select n.attempts_before from stepd.renewal n where n.job_id = x.id) end),
					x.trigger, x.trigger_index::int, l.name, x.group_id, x.parent_id, x.trace_id,
					(date_part('epoch', x.enqueued_at) * 1000000)::bigint, null::bigint, x.input::text, null::boolean
				from unnest(ids, l.attempts[first:upto]) with ordinality u (id, attempt, ord)
				cross join lateral (select j.* from stepd.job j where j.id = u.id and j.bucket = day limit 1) x
				order by u.ord;
		end loop;
	end loop;
end $$;
comment on function stepd.claimed(int, int, bigint, bigint[]) is
'The jobs of batches that claim() left to be read, in the order in which they are to run; a batch that is not the worker''s any more gives nothing. In a transaction of its own, after the claim''s.';
