-- Repeatable.
--
-- Deaths, rescue, and due times: the keeper's transitions.
--
-- A worker runs the first job of its oldest lease (008, 001: stepd.lease); on
-- any death that one alone has used an attempt.  When the supervisor saw the
-- worker die it knows the running job itself; those before it in that order
-- have ended and their outcomes were not stored, so they run again: that is
-- recorded, but it is not held against them.  The others never started.
--
-- died(), rescue() and node_leave() lock lease rows in order of id like
-- finish(), so whoever comes second finds the job gone.  rescue() goes by
-- leases without a live node, not by dead nodes: a claim that commits after
-- its node was declared lost is found by the next rescue.

-- Jobs of a dead worker that had ended (those released with a start): an attempt that was lost, which max_retries does not count.
drop function if exists stepd._ended_untold(stepd._held[], int);
create or replace function stepd._ended_untold(held stepd._held[], error text) returns void
language plpgsql as $$
begin
	insert into stepd.attempt (job_id, bucket, attempt, started_at, finished_at, outcome, error, node_id, pid)
	select h.job_id, h.bucket, h.attempt, h.started_at, clock_timestamp(), 'lost', _ended_untold.error, h.node_id, h.pid
	from unnest(held) h where h.outcome = 'release' and h.started_at is not null;
	if not found then
		return;
	end if;
	insert into stepd.renewal as n (job_id, bucket, attempts_before, renewals)
	select h.job_id, h.bucket, 1, 0 from unnest(held) h where h.outcome = 'release' and h.started_at is not null
	on conflict (job_id) do update set attempts_before = n.attempts_before + 1;
	insert into stepd.rate_start (queue_id, at, n)
	select q.id, clock_timestamp(), count(*)
	from unnest(held) h join stepd.lane a on a.id = h.lane_id join stepd.queue q on q.id = a.queue_id
	where h.outcome = 'release' and h.started_at is not null and q.rate_limit > 0
	group by q.id;
end $$;
comment on table stepd.renewal is 'Jobs of which some attempts do not count against max_retries: those before a retry by hand, and those that ended untold.';
comment on function stepd._ended_untold(stepd._held[], text) is 'Record the attempts of jobs that had ended when their worker died of another one, or with its node, their outcomes untold.';

create or replace function stepd._ring_place(held stepd._held[]) returns void
language plpgsql as $$
begin
	perform stepd._ring('') where exists (
		select from unnest(held) h join stepd.lane a on a.id = h.lane_id join stepd.queue q on q.id = a.queue_id
		where q.max_concurrency > 0 or q.concurrency_per_group > 0);
end $$;
comment on function stepd._ring_place(stepd._held[]) is 'Somebody who is gone holds these no more: wake who may have waited for a place under a limit.';

create or replace function stepd._check_end(exit_code int, signal int, max_rss_kb bigint, cpu_ms bigint, pid int) returns void
language plpgsql as $$
begin
	perform stepd._check_range('exit_code', exit_code, 0, 255), stepd._check_range('signal', signal, 1, 127),
		stepd._check_range('max_rss_kb', max_rss_kb, 0, 9223372036854775807), stepd._check_range('cpu_ms', cpu_ms, 0, 9223372036854775807),
		stepd._check_range('pid', pid, 1, 2147483647);
	if exit_code is not null and signal is not null then
		perform stepd._bad('signal', format('%s is given beside an exit code; a process ends by one of them', signal));
	end if;
end $$;
comment on function stepd._check_end(int, int, bigint, bigint, int) is 'Refuse what no process can have ended with; null is not known.';

create or replace function stepd.died(node_id int, slot int, generation bigint, job bigint, outcome text, error text, exit_code int, signal int,
	max_rss_kb bigint, cpu_ms bigint, age_us bigint, duration_us bigint, pid int) returns table (job_id bigint, verdict text)
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	held stepd._held[];
	has_unique boolean;
	at timestamptz := clock_timestamp();
	dead bigint := coalesce(died.job, 0);
	told text := 'It had ended, but its worker died of another job before the outcome was stored.';
	spared boolean := false;
begin
	perform stepd._required('{node_id,slot,generation}', died.node_id is null, died.slot is null, died.generation is null);
	if dead <> 0 and (died.outcome is null or died.outcome not in ('crashed', 'timeout', 'cancelled', 'lost')) then
		perform stepd._bad('outcome', format('%s is none of crashed, timeout, cancelled, lost', coalesce(quote_literal(died.outcome), 'null')));
	end if;
	perform stepd._check_range('age_us', died.age_us, 0, 3155760000000000), stepd._check_range('duration_us', died.duration_us, 0, 3155760000000000);
	perform stepd._check_run('duration_us', array[coalesce(died.age_us, 0)], array[died.duration_us]);
	perform stepd._check_end(died.exit_code, died.signal, died.max_rss_kb, died.cpu_ms, died.pid);
	select bool_or(x.has_unique) into has_unique from (
		select l.has_unique from stepd.lease l
		where l.node_id = died.node_id and l.slot = died.slot and l.generation = died.generation
		order by l.id for update) x;
	if died.outcome = 'lost' then
		told := 'It had ended, but its worker was killed before the outcome was stored.';
		spared := (select count(*) from stepd.attempt t where t.job_id = dead and t.error = told) < 3; -- who has others do it is not spared for ever
	end if;
	held := array(
		select case when u.job = dead and not spared then
				row(l.id, u.job, u.bucket, l.lane_id, u.attempt + 1, died.outcome, at - coalesce(age_us, 0) * interval '1 us',
					at - coalesce(age_us - duration_us, 0) * interval '1 us', null, died.error, null,
					died.exit_code, died.signal, died.max_rss_kb, died.cpu_ms, died.node_id, died.pid)::stepd._held
			else stepd._released(l.id, u.job, u.bucket, l.lane_id, u.attempt + u.ran::int, l.node_id,
				case when u.ran then l.since end, died.pid) end
		from (select x.*, spared and x.job = dead or coalesce(bool_or(x.job = dead) over (order by x.lease, x.ord rows between 1 following and unbounded following), false) as ran
			from (select l.id as lease, e.* from stepd.lease l
				cross join lateral unnest(l.ids, l.buckets, l.attempts) with ordinality e (job, bucket, attempt, ord)
				where l.node_id = died.node_id and l.slot = died.slot and l.generation = died.generation) x) u
		join stepd.lease l on l.id = u.lease
		order by l.id, u.ord);
	if cardinality(held) > 0 then
		perform stepd._ended_untold(held, told);
		perform stepd._unhold(held), stepd._ring_place(held);
		return query select s.job_id, s.status from stepd._settle(held, has_unique) s;
	end if;
	if dead <> 0 and not exists (select from unnest(held) h where h.job_id = dead) then
		return query select dead, 'refused';
	end if;
end $$;
comment on function stepd.died(int, int, bigint, bigint, text, text, int, int, bigint, bigint, bigint, bigint, int) is
'A worker''s life ended. job (0: none) was running: its attempt is recorded with the outcome crashed, timeout or cancelled and how the process ended, and it is retried by its queue''s settings; or (outcome lost) it had ended when the process was killed, and runs again beyond its max_retries, up to three times; what that life had before it ended untold: that is recorded as lost, and it runs again beyond its max_retries; whatever else it held goes back to ready with no attempt used. Returns what each job became; refused: the running job was not held any more (its outcome had arrived). Safe to repeat.';

-- A claim that was sent and whose sender is gone may commit at any later
-- moment: then nobody knows that its jobs are held.  So before a worker's
-- leases are given back, the process that may still work on its last request
-- is ended, and it is waited for: until it holds no lock it may have committed
-- or not, after that it never will.
create or replace function stepd.end_session(backend int) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	if coalesce(backend, 0) <= 0 or not exists (select from pg_stat_get_activity(backend) a
			join pg_database d on d.oid = a.datid join pg_roles r on r.oid = a.usesysid
			where a.pid = backend and d.datname = current_database() and r.rolname = session_user
				and a.application_name like 'stepd worker %') then
		return;
	end if;
	perform pg_terminate_backend(backend);
	for i in 1 .. 40 loop
		if not exists (select from pg_locks l where l.pid = backend) then
			return;
		end if;
		perform pg_sleep(0.001 * i);
	end loop;
	raise exception using errcode = '55P03', message = format('the database session %s of a worker is still ending', backend);
end $$;
comment on function stepd.end_session(int) is
	'End the server process of a worker''s lost or dead connection, whose last transaction is then decided. Nothing, if there is no such session. Raises 55P03 when it does not end within about a second.';

-- All jobs of some leases come back.  Of each worker of a node that is gone the
-- job that ran was lost.  Which one that was the worker said if it ran for more
-- than a moment (began()), and at the death of its supervisor; those before it
-- had ended.  If it said nothing, it was at the first one, or about to be: that
-- uses an attempt, so that a job which takes its whole node with it comes to an
-- end; but not the last one, for it may be innocent.  And all that it held are
-- claimed alone the next time (stepd.doubt): then it is the first one for certain.

create or replace function stepd._perhaps_lost() returns text
language sql immutable parallel safe as $$ select 'The node that held it vanished; it may have been running.' $$;
comment on function stepd._perhaps_lost() is 'The error of an attempt that was lost with its node and may not have begun.';

create or replace function stepd._spare(held stepd._held[]) returns void
language plpgsql as $$
begin
	insert into stepd.renewal as n (job_id, bucket, attempts_before, renewals)
	select h.job_id, h.bucket, 1, 0
	from unnest(held) h join stepd.lane a on a.id = h.lane_id join stepd.queue q on q.id = a.queue_id
	where h.error = stepd._perhaps_lost() and h.attempt >= stepd._max_attempts(q.max_retries, (select r.attempts_before from stepd.renewal r where r.job_id = h.job_id))
		and (select count(*) from stepd.attempt t where t.job_id = h.job_id and t.bucket = h.bucket and t.error = stepd._perhaps_lost()) < 3
	on conflict (job_id) do update set attempts_before = n.attempts_before + 1;
end $$;
comment on function stepd._spare(stepd._held[]) is 'One attempt more, up to three times, for those of the jobs whose last one was lost with its node, perhaps before it began.';

create or replace function stepd._take_back(leases bigint[], lost boolean) returns table (job_id bigint, node_id int, verdict text)
language plpgsql as $$
#variable_conflict use_column
declare
	held stepd._held[];
	has_unique boolean;
	at timestamptz := clock_timestamp();
begin
	select bool_or(x.has_unique) into has_unique from (
		select l.has_unique from stepd.lease l where l.id = any (leases) order by l.id for update) x;
	held := array(
		select case when not lost or o.place > coalesce(o.ran, 1) then stepd._released(o.id, o.job, o.bucket, o.lane_id, o.attempt, o.node_id)
			when o.place < o.ran then stepd._released(o.id, o.job, o.bucket, o.lane_id, o.attempt + 1, o.node_id, o.since, o.pid)
			else row(o.id, o.job, o.bucket, o.lane_id, o.attempt + 1, 'lost', o.since, at, null,
				case when o.ran is null then stepd._perhaps_lost() else 'The node that ran it vanished.' end, null,
				null, null, null, null, o.node_id, o.pid)::stepd._held end
		from (select x.*, max(x.place) filter (where x.job = x.begun) over (partition by x.node_id, x.slot, x.generation) as ran
			from (select l.id, l.lane_id, l.node_id, l.slot, l.generation, l.since, l.begun, u.job, u.bucket, u.attempt, u.ord, w.pid,
					row_number() over (partition by l.node_id, l.slot, l.generation order by l.id, u.ord) as place
				from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) with ordinality u (job, bucket, attempt, ord)
				left join stepd.worker w on w.node_id = l.node_id and w.slot = l.slot and w.generation = l.generation
				where l.id = any (leases)) x) o
		order by o.id, o.ord);
	if cardinality(held) > 0 then
		if lost then
			perform stepd._ended_untold(held, 'It had ended, but its node vanished before the outcome was stored.'), stepd._spare(held);
			insert into stepd.doubt as d (job_id, lane_id) select h.job_id, h.lane_id from unnest(held) h
			on conflict on constraint doubt_pkey do update set at = excluded.at;
		end if;
		perform stepd._unhold(held), stepd._ring_place(held);
		return query
			select s.job_id, h.node_id, s.status
			from stepd._settle(held, has_unique) s join unnest(held) h on h.job_id = s.job_id;
	end if;
end $$;
comment on function stepd._take_back(bigint[], boolean) is
	'Empty leases. lost: their node is gone; of each worker the job that ran is recorded so.';

-- A claim whose answer the worker had no memory for.  Which job was too large it
-- cannot say, so it claims one by one then: what comes alone and does not fit has
-- used an attempt, like one that ends its worker.
create or replace function stepd.unread(node_id int, slot int, generation bigint, keep bigint[], pid int, error text)
returns table (job_id bigint, verdict text)
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	held stepd._held[];
	has_unique boolean;
	at timestamptz := clock_timestamp();
	leases bigint[];
begin
	perform stepd._required('{node_id,slot,generation}', unread.node_id is null, unread.slot is null, unread.generation is null);
	perform stepd._check_range('pid', unread.pid, 1, 2147483647);
	perform stepd._check_list('keep', keep);
	select bool_or(x.has_unique), array_agg(x.id) into has_unique, leases from (
		select l.id, l.has_unique from stepd.lease l
		where l.node_id = unread.node_id and l.slot = unread.slot and l.generation = unread.generation
			and l.id <> all (coalesce(keep, '{}'))
		order by l.id for update) x;
	held := array(
		select case when alone then
				row(o.id, o.job, o.bucket, o.lane_id, o.attempt + 1, 'crashed', o.since, at, null, unread.error, null,
					null, null, null, null, o.node_id, unread.pid)::stepd._held
			else stepd._released(o.id, o.job, o.bucket, o.lane_id, o.attempt, o.node_id) end
		from (select l.id, l.lane_id, l.node_id, l.since, u.job, u.bucket, u.attempt, u.ord, count(*) over () = 1 as alone
			from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) with ordinality u (job, bucket, attempt, ord)
			where l.id = any (leases)) o
		order by o.id, o.ord);
	if cardinality(held) > 0 then
		perform stepd._unhold(held);
		return query select s.job_id, s.status from stepd._settle(held, has_unique) s;
	end if;
end $$;
comment on function stepd.unread(int, int, bigint, bigint[], int, text) is
	'Give back the jobs of all leases of one life of a worker but those to keep, whose inputs it had no memory for: a single one has used an attempt (crashed, with the error), several have not. Returns what each job became.';

create or replace function stepd.rescue() returns table (job_id bigint, node_id int, verdict text)
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	orphans bigint[];
begin
	update stepd.node n set lost_at = clock_timestamp(), listening = false
	where n.id in (select x.id from stepd.node x
			where x.left_at is null and x.lost_at is null and not stepd._node_lives(x) order by x.id for update skip locked)
		and not stepd._node_lives(n);
	delete from stepd.doubt d where d.at < clock_timestamp() - interval '5 min';
	orphans := array(
		select l.id from stepd.lease l left join stepd.node n on n.id = l.node_id
		where n.id is null or n.left_at is not null or n.lost_at is not null order by l.id);
	if cardinality(orphans) > 0 then
		return query select t.job_id, t.node_id, t.verdict from stepd._take_back(orphans, true) t;
	end if;
end $$;
comment on function stepd.rescue() is
'Declare nodes lost that were silent for longer than their lease, and take back what nodes that do not live hold: the job that a worker ran is recorded lost (it used an attempt), the others are ready again. Returns what each job became.';

create or replace function stepd.node_leave(node_id int) returns int
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	n int;
begin
	perform stepd._required('{node_id}', node_leave.node_id is null);
	update stepd.node set left_at = clock_timestamp(), listening = false
	where id = node_leave.node_id and left_at is null and lost_at is null;
	select count(*) into n
	from stepd._take_back(array(select l.id from stepd.lease l where l.node_id = node_leave.node_id order by l.id), false) t;
	return n;
end $$;
comment on function stepd.node_leave(int) is
	'Say goodbye: every worker of the node has ended, and what they still hold goes back to ready with no attempt used. Returns the number of jobs.';

create or replace function stepd.promote(max int) returns table (promoted int, ready boolean, next_due_ms bigint)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
#variable_conflict use_column
declare
	at timestamptz := clock_timestamp(); -- a volatile function would be no index condition
	due record;
	next timestamptz;
	q int;
begin
	if coalesce(promote.max, -1) < 0 then
		perform stepd._bad('max', format('%s is not a number from 0 on', coalesce(promote.max::text, 'null')));
	end if;
	with gone as (
		delete from stepd.waiting w
		where w.ctid = any (array(
			select x.ctid from stepd.waiting x where x.run_at <= at
			order by x.run_at limit promote.max for update skip locked))
		returning w.id, w.bucket, w.lane_id, w.attempt::int)
	select count(*)::int as n, array_agg(g.id order by g.id) as ids, array_agg(g.bucket order by g.id) as buckets,
		array_agg(g.lane_id order by g.id) as lanes, array_agg(g.attempt order by g.id) as attempts
	into due from gone g;
	if due.n > 0 then
		perform stepd._again(due.ids, due.buckets, due.lanes, due.attempts);
	end if;
	-- letters to a queue that is fifo no more
	for q in select i.queue_id from (select distinct x.queue_id from stepd.fifo_inbox x) i
		join stepd.queue x on x.id = i.queue_id and x.strategy <> 'fifo' order by i.queue_id
	loop
		perform stepd._queue_move(q, (select x.strategy from stepd.queue x where x.id = q));
	end loop;
	select w.run_at into next from stepd.waiting w order by w.run_at limit 1;
	select least(next, min(stepd._rate_next(x))) into next
	from stepd.queue x where x.rate_limit > 0 and not x.paused and not stepd._rate_room(x);
	return query select due.n,
		exists (select from stepd.lane l join stepd.queue x on x.id = l.queue_id
			where not x.paused and (x.concurrency_per_group = 0 and exists (select from stepd.ready r where r.lane_id = l.id)
				or x.concurrency_per_group > 0 and stepd._group_ready(x.id, x.concurrency_per_group, l.id)
				or exists (select from stepd.fifo_inbox i where i.queue_id = x.id))
				and (x.max_concurrency = 0 and x.rate_limit = 0 or stepd._has_room(x))),
		case when next is not null then greatest(ceil(extract(epoch from next - clock_timestamp()) * 1000), 0)::bigint end;
end $$;
comment on function stepd.promote(int) is
'Make up to max jobs ready whose time has come. Returns how many; whether any queue that is not paused and not at its limits has work to claim; and in how many milliseconds the next job is due or a rate limit lets one start (null: none waits).';
