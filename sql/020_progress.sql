-- What running handlers say about how far they are, and which process is which worker.

create table stepd.progress (
	job_id bigint primary key,
	at timestamptz not null,
	bucket date not null,
	attempt int not null,
	progress jsonb not null
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table stepd.progress is 'What handlers reported last with stepd_progress(); only jobs whose handler ever did have a row. Kept as long as the job.';
comment on column stepd.progress.at is 'When the database heard of it.';
comment on column stepd.progress.bucket is 'The job''s, as far as it was known then: for retention.';
comment on column stepd.progress.attempt is 'The attempt that reported it.';
comment on column stepd.progress.progress is 'An object; members, each only when it was given: percent (0 to 100), message, fields (an object).';

create table stepd.worker (
	node_id int not null,
	slot int not null,
	generation bigint not null,
	pid int not null,
	since timestamptz not null default clock_timestamp(),
	primary key (node_id, slot)
);
comment on table stepd.worker is 'The newest life of each worker slot of a node, told by the worker once at its start: gives the leases of that life their process.';
comment on column stepd.worker.slot is 'As in stepd.lease, with generation.';
comment on column stepd.worker.pid is 'On the node''s machine.';
comment on column stepd.worker.since is 'When it began.';
