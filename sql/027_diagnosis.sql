-- Repeatable.
--
-- Self-diagnosis: why does it not go faster?  Four views, each about one
-- cause; empty or small when all is well.
--
--   stepd.oldest_ready    the job that has waited longest in each queue, and why
--   stepd.vacuum_holders  who keeps vacuum from removing dead rows
--   stepd.lost_leases     nodes that vanished, and what they took with them
--   stepd.claim_costs     what it costs to find the next jobs of a lane, against its depth

create or replace view stepd.oldest_ready as
select q.name as queue, s.name as step, j.id as job_id, j.group_id, j.enqueued_at, clock_timestamp() - coalesce(j.run_at, j.enqueued_at) as age,
	case
		when q.paused then 'the queue is paused'
		when not exists (select from stepd.step_provider p join stepd.node n on n.name = p.node_name
			where p.step_id = s.id and stepd._node_lives(n)) then 'no node that is alive has the step'
		when not exists (select from stepd.step_provider p join stepd.node n on n.name = p.node_name left join stepd.node_pool l on l.node_id = n.id
			where p.step_id = s.id and stepd._node_lives(n) and (l.serves = 'queue'
				and (l.queues is null or q.name = any (l.queues)) and (l.steps is null or s.name = any (l.steps)) or l.node_id is null)) then 'no pool serves the queue and the step'
		when exists (select from stepd._held_job h where h.id = j.id) then 'a worker has it in its batch'
		-- as _has_room() sees it, but with the view's rights
		when q.max_concurrency > 0 and q.max_concurrency <= (select count(distinct (e.node_id, e.slot)) from stepd.lease e join stepd.lane a on a.id = e.lane_id
			where a.queue_id = q.id) then 'maxConcurrency is reached'
		when q.rate_limit > 0 and q.rate_limit <=
				coalesce((select sum(r.n) from stepd.rate_start r where r.queue_id = q.id and r.at > clock_timestamp() - q.rate_window_ms * interval '1 ms'), 0)
				+ coalesce((select sum(cardinality(e.ids) - coalesce(e.begun = any (e.ids), false)::int)
					from stepd.lease e join stepd.lane a on a.id = e.lane_id where a.queue_id = q.id), 0) then 'rateLimit is reached'
		when exists (select from stepd.fifo_group g where g.queue_id = q.id and g.group_id = coalesce(j.group_id, '') and g.head <> j.id)
			then 'it stands behind another job of its group'
		when q.concurrency_per_group <= (select count(*) from stepd._held_job h join stepd.lane a on a.id = h.lane_id
				cross join lateral (select x.group_id from stepd.job x where x.id = h.id and x.bucket = h.bucket limit 1) x
				where a.queue_id = q.id and x.group_id = j.group_id) and q.concurrency_per_group > 0 then 'its group is at concurrencyPerGroup'
		else 'no worker has come to it yet' end as reason
from stepd.queue q
cross join lateral (
	select min(x.id) as id from (
		select min(r.pos) as id from stepd.lane a join stepd.ready r on r.lane_id = a.id where a.queue_id = q.id
		union all select min(i.id) from stepd.fifo_inbox i where i.queue_id = q.id and not i.ended
		union all select min(b.id) from stepd.fifo_backlog b where b.queue_id = q.id
		union all select min(h.id) from stepd._held_job h join stepd.lane a on a.id = h.lane_id where a.queue_id = q.id and not h.running) x) o
join stepd.job j on j.id = o.id
join stepd.lane l on l.id = j.lane_id
join stepd.step s on s.id = l.step_id;
comment on view stepd.oldest_ready is 'Of each queue that has ready jobs the oldest one, and why it has not begun.';
comment on column stepd.oldest_ready.queue is 'The queue.';
comment on column stepd.oldest_ready.age is 'For how long it could have run, were there nothing in its way.';
comment on column stepd.oldest_ready.reason is 'What is in its way.';

create or replace view stepd.vacuum_holders as
select 'session' as kind, a.pid, a.usename::text as owner, nullif(a.application_name, '') as name, a.state, a.xact_start as since,
	age(a.backend_xmin) as transactions, left(a.query, 200) as query
from pg_stat_activity a
where a.backend_xmin is not null and a.pid <> pg_backend_pid() and (a.datname = current_database() or a.backend_type = 'walsender')
union all
select 'prepared transaction', null, p.owner::text, p.gid, null, p.prepared, age(p.transaction), null
from pg_prepared_xacts p where p.database = current_database()
union all
select 'replication slot', r.active_pid, null, r.slot_name::text, null, null, greatest(age(r.xmin), age(r.catalog_xmin)), null
from pg_replication_slots r where r.xmin is not null or r.catalog_xmin is not null
order by 7 desc;
comment on view stepd.vacuum_holders is 'Who keeps vacuum from removing dead rows, the oldest first. A session that stays here for minutes makes every claim of a priority or fifo queue read what others have long taken.';
comment on column stepd.vacuum_holders.kind is 'session, prepared transaction or replication slot.';
comment on column stepd.vacuum_holders.owner is 'The role.';
comment on column stepd.vacuum_holders.name is 'application_name of a session, identifier of a prepared transaction, name of a slot.';
comment on column stepd.vacuum_holders.state is 'Of a session; "idle in transaction" is one that somebody forgot.';
comment on column stepd.vacuum_holders.since is 'When the transaction began.';
comment on column stepd.vacuum_holders.transactions is 'How many transactions ago the oldest snapshot is from.';
comment on column stepd.vacuum_holders.query is 'The session''s last statement.';

create or replace view stepd.lost_leases as
select n.id as node_id, n.name as node, n.pid, n.heartbeat_at, n.lost_at, n.lease_ms,
	(select count(*) from stepd.attempt t where t.node_id = n.id and t.outcome = 'lost' and t.finished_at >= n.lost_at) as jobs_lost,
	(select coalesce(sum(cardinality(l.ids)), 0)::bigint from stepd.lease l where l.node_id = n.id) as jobs_held
from stepd.node n
where n.lost_at is not null or (n.left_at is null and not stepd._node_lives(n));
comment on view stepd.lost_leases is 'Nodes whose lease ran out (or whose process was found gone) without a goodbye.';
comment on column stepd.lost_leases.lost_at is 'When it was declared lost; null: it is silent, and will be at the next rescue.';
comment on column stepd.lost_leases.jobs_lost is 'Attempts that ended with it.';
comment on column stepd.lost_leases.jobs_held is 'Jobs it still holds; the next rescue takes them back.';

-- As a claim of that many would look for them: the same index, in the same order, but nothing is taken.
create or replace function stepd._claim_cost(lane_id int, want int, out jobs int, out blocks bigint, out ms double precision)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
declare
	plan json;
begin
	execute format('explain (analyze, buffers, format json) select x.ctid from stepd.ready x where x.lane_id = %s order by x.lane_id, x.rank, x.pos limit %s',
		lane_id, want) into plan;
	plan := plan -> 0;
	jobs := (plan -> 'Plan' ->> 'Actual Rows')::float8::int;
	blocks := (plan -> 'Plan' ->> 'Shared Hit Blocks')::bigint + (plan -> 'Plan' ->> 'Shared Read Blocks')::bigint;
	ms := (plan ->> 'Execution Time')::float8;
end $$;
comment on function stepd._claim_cost(int, int) is 'What finding the first ready jobs of a lane costs: how many there are (up to want), blocks read, milliseconds.';

create or replace view stepd.claim_costs as
select q.name as queue, s.name as step, d.depth, c.jobs, c.blocks, c.ms,
	(select t.n_dead_tup from pg_stat_user_tables t where t.relid = 'stepd.ready'::regclass) as dead_rows
from stepd.lane a
join stepd.queue q on q.id = a.queue_id
join stepd.step s on s.id = a.step_id
cross join lateral (select count(*) as depth from stepd.ready r where r.lane_id = a.id) d
cross join lateral stepd._claim_cost(a.id, 100) c
where d.depth > 0;
comment on view stepd.claim_costs is 'Of each step''s part of a queue that has ready jobs: what it costs to find the next hundred, tried when it is read. It must not grow with depth. Far more blocks than jobs are dead rows that vacuum could not remove: see stepd.vacuum_holders.';
comment on column stepd.claim_costs.queue is 'The queue.';
comment on column stepd.claim_costs.depth is 'Jobs that may be claimed.';
comment on column stepd.claim_costs.jobs is 'How many were looked up, at most 100.';
comment on column stepd.claim_costs.blocks is 'Blocks read for that.';
comment on column stepd.claim_costs.ms is 'Milliseconds it took.';
comment on column stepd.claim_costs.dead_rows is 'Dead rows of all queues together, as the statistics have it.';

do $$ begin perform stepd._describe(); end $$;
