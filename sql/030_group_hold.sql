-- Groups of held jobs, of queues with concurrencyPerGroup: one row a batch in
-- place of one a job (stepd.group_slot).  See 018_limit.sql.

create table stepd.group_hold (
	queue_id int not null,
	lease_id bigint not null,
	node_id int not null,
	slot int not null,
	whole int not null,
	ids bigint[] not null,
	groups text[] not null,
	primary key (queue_id, lease_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table stepd.group_hold is 'The groups of the jobs of a lease, of queues with concurrency_per_group, as far as a claim had to know them. Written under the queue''s lock. A row whose lease is gone, or holds fewer jobs than it did, tells the next claim which groups have room again.';
comment on column stepd.group_hold.queue_id is 'The queue.';
comment on column stepd.group_hold.lease_id is 'The lease; it may be gone.';
comment on column stepd.group_hold.node_id is 'Who holds it: the node,';
comment on column stepd.group_hold.slot is 'and the worker''s slot there.';
comment on column stepd.group_hold.whole is 'How many jobs the lease held when a claim looked last.';
comment on column stepd.group_hold.ids is 'Those of its jobs that have a group.';
comment on column stepd.group_hold.groups is 'Their groups, by position.';

-- What is held now is noted by the next claim that asks.
drop table stepd.group_slot;
