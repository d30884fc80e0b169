-- concurrencyPerGroup: a small batch says the groups of its jobs in its lease, nothing is put aside any more, and ready jobs
-- are found by their group too.  See 035_stripe.sql and 037_group.sql.

alter table stepd.lease add column groups bigint[];
comment on column stepd.lease.groups is 'With concurrencyPerGroup: the groups of its jobs, as in stepd.ready.group_hash, by position; null: not told, see stripes.';

create index ready_group on stepd.ready (lane_id, group_hash, rank, pos) where group_hash is not null;

with gone as (
	delete from stepd.fifo_backlog b using stepd.queue q where q.id = b.queue_id and q.strategy <> 'fifo'
	returning b.lane_id, b.rank, b.id, b.bucket, b.attempt, b.group_id)
insert into stepd.ready (lane_id, rank, pos, bucket, attempt, group_hash)
select g.lane_id, g.rank, g.id, g.bucket, g.attempt, g.group_id::bigint from gone g;
comment on table stepd.fifo_backlog is 'Jobs behind the head of their fifo group. Only _fifo_sort and cancel() take rows out.';
comment on column stepd.fifo_backlog.group_id is 'The group.';
comment on column stepd.fifo_backlog.rank is 'Not used any more.';

drop table stepd.group_hold;

-- What claims were made of has changed its arguments more than once; the repeatable files make it anew.
do $$
declare
	f regprocedure;
begin
	for f in
		select p.oid from pg_proc p
		where p.pronamespace = 'stepd'::regnamespace and (p.proname ~ '^_(take|group|stripe)' or p.proname = any (
			'{claim,_claim_lock,_spread,_runs_long,_holders,_warm_ms,_starves_long}'))
	loop
		execute format('drop function %s', f);
	end loop;
end $$;
