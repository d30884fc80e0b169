-- What a node says of its pools of processes.

create table stepd.node_pool (
	node_id int not null references stepd.node on delete cascade,
	pool text not null,
	serves text not null,
	processes int not null,
	min int not null,
	max int not null,
	deaths bigint not null,
	degraded boolean not null,
	retry_at timestamptz,
	changed_at timestamptz not null default clock_timestamp(),
	primary key (node_id, pool)
);
comment on table stepd.node_pool is 'The pools of a node as its keeper saw them last; written when something changed.';
comment on column stepd.node_pool.processes is 'Up and ready.';
comment on column stepd.node_pool.deaths is 'Of its processes, unasked, since the last reload.';
comment on column stepd.node_pool.degraded is 'Its processes die at once, so that new ones are started with a delay and one at a time.';
comment on column stepd.node_pool.retry_at is 'When the next one is started; null: at once.';
