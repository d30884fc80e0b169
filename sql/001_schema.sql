-- The live tables.
--
-- A job is one immutable fact row in stepd.job plus its place: exactly one of
--
--     stepd.ready         it may be claimed
--     stepd.waiting       it has a time to wait for (scheduled, snoozed, retrying)
--     stepd.fifo_inbox    it was enqueued on a fifo queue and not yet sorted into its group
--     stepd.fifo_backlog  it stands behind the head of its fifo group, or its group runs as many as may run
--     stepd.unrouted      its topic has no subscriber
--     stepd.lease         a worker holds it (one row for a whole batch)
--     stepd.outcome       it has ended
--
-- A transition takes the row out of one place and puts one into the next, in
-- one transaction, so a reader with one snapshot sees each job exactly once.
-- Whoever takes a place's row away (a delete that returned it, an array
-- element removed under the row's lock) owns the transition; everybody else
-- finds nothing and changes nothing.  That is the whole of the fencing.
--
-- The fact row with its payload is written once and never again; what moves
-- is narrow.  A claim deletes ready rows and writes one lease row for the
-- batch; a success writes one outcome row.
--
-- Functions whose name begins with an underscore are internal.  Messages of
-- errors about an argument begin with its name and have SQLSTATE 22023.

-- "if not exists" would need the right to create schemas even where an administrator made ours.
do $$ begin if to_regnamespace('stepd') is null then create schema stepd; end if; end $$;
comment on schema stepd is 'stepd: background jobs. Read the views (jobs, attempts, logs, queues, schedules, steps, nodes) and the table state; change things through the functions.';

-- Nodes ---------------------------------------------------------------------

create table stepd.node (
	id int generated always as identity primary key,
	boot_id uuid not null unique,
	name text not null,
	pid int,
	version text,
	lease_ms int not null,
	joined_at timestamptz not null default clock_timestamp(),
	heartbeat_at timestamptz not null default clock_timestamp(),
	listening boolean not null default false,
	left_at timestamptz,
	lost_at timestamptz,
	host text,
	pid_started bigint
) with (fillfactor = 50);
comment on table stepd.node is 'One row for each start of a daemon. A node lives while left_at and lost_at are null; it is declared lost when its heartbeat is older than its lease.';
comment on column stepd.node.boot_id is 'Chosen anew by the supervisor at each start, so that a restarted host is never taken for its former life.';
comment on column stepd.node.lease_ms is 'How long the node may be silent before its jobs are taken back.';
comment on column stepd.node.listening is 'It wants NOTIFY stepd_ready; enqueues send none when no node does.';
comment on column stepd.node.left_at is 'It stopped in order.';
comment on column stepd.node.lost_at is 'It was silent for too long and was declared dead.';
comment on column stepd.node.host is 'Where the process can be looked for: kernel boot id and pid namespace. Null: not known.';
comment on column stepd.node.pid_started is 'Start time of the process in clock ticks since that boot; with host and pid it names one process for ever.';

-- Steps, queues, lanes ------------------------------------------------------

create table stepd.step (
	id int generated always as identity primary key,
	name text not null unique,
	description text,
	file text,
	kind text,
	flows text[] not null default '{}',
	enqueues text[] not null default '{}',
	triggers jsonb not null default '[]',
	updated_at timestamptz not null default clock_timestamp()
);
comment on table stepd.step is 'Every step that some node has ever provided, as its last manifest described it.';
comment on column stepd.step.triggers is 'The manifest''s triggers, schemas included.';

create table stepd.step_provider (
	step_id int not null references stepd.step,
	node_name text not null,
	primary key (step_id, node_name)
);
comment on table stepd.step_provider is 'Which node names have a step in their configuration. Replaced as a whole by that name''s next configure(); a daemon that merely stopped keeps its rows. A step without a row here is retired.';

create table stepd.queue (
	id int generated always as identity primary key,
	name text not null unique,
	strategy text not null default 'standard' check (strategy in ('standard', 'fifo', 'priority')),
	max_retries int not null default 3 check (max_retries between 0 and 30000),
	retry_delay_ms bigint not null default 1000 check (retry_delay_ms >= 0),
	backoff text not null default 'exponential' check (backoff in ('exponential', 'linear', 'fixed')),
	max_retry_delay_ms bigint not null default 3600000 check (max_retry_delay_ms >= 0),
	jitter double precision not null default 0.1 check (jitter between 0 and 1),
	max_concurrency int not null default 0 check (max_concurrency >= 0),
	timeout_ms bigint not null default 0 check (timeout_ms >= 0),
	rate_limit int not null default 0 check (rate_limit >= 0),
	rate_window_ms bigint not null default 1000 check (rate_window_ms > 0),
	concurrency_per_group int not null default 0 check (concurrency_per_group >= 0),
	history_ms bigint not null default 0 check (history_ms >= 0),
	paused boolean not null default false,
	configured_by text
);
comment on table stepd.queue is 'One row a queue. The queue of a queue trigger is named like its topic; cron and http jobs run in a queue named like their step.';
comment on column stepd.queue.max_retries is 'Attempts after the first; a job may be tried max_retries + 1 times.';
comment on column stepd.queue.max_retry_delay_ms is 'Cap of the computed delay; a delay that the handler gave is not capped.';
comment on column stepd.queue.jitter is 'The computed delay is multiplied by a random factor in [1 - jitter, 1 + jitter].';
comment on column stepd.queue.max_concurrency is 'How many of its jobs may run at a time over all nodes; 0: no limit.';
comment on column stepd.queue.timeout_ms is 'How long an attempt may take; 0: no limit.';
comment on column stepd.queue.history_ms is 'How long its ended jobs are kept; 0: as long as the daemon''s history.keep says.';
comment on column stepd.queue.configured_by is 'The node name whose configuration has a block for it; null: it has the defaults.';

create table stepd.lane (
	id int generated always as identity primary key,
	queue_id int not null references stepd.queue,
	step_id int not null references stepd.step,
	unique (queue_id, step_id)
);
comment on table stepd.lane is 'A queue as one step sees it: what a worker claims from. Lanes are never deleted, since history refers to them.';

create table stepd.subscription (
	topic text not null,
	step_id int not null references stepd.step,
	lane_id int not null references stepd.lane,
	trigger_index int not null,
	primary key (topic, step_id)
);
comment on table stepd.subscription is 'Topic to lanes: an enqueue makes one job for each row of its topic.';

create table stepd.schedule (
	id int generated always as identity primary key,
	step_id int not null references stepd.step,
	trigger_index int not null,
	lane_id int not null references stepd.lane,
	expression text not null,
	timezone text not null default 'UTC',
	missed text not null default 'one' check (missed in ('skip', 'one', 'all')),
	catch_up_ms bigint not null default 86400000 check (catch_up_ms > 0),
	overlap text not null default 'allow' check (overlap in ('allow', 'skip')),
	description text,
	revision int not null default 1,
	next_run timestamptz,
	last_tick timestamptz,
	last_run timestamptz,
	last_job_id bigint,
	skipped bigint not null default 0,
	since timestamptz not null default clock_timestamp(),
	paused boolean not null default false,
	retired boolean not null default false,
	unique (step_id, trigger_index)
);
comment on table stepd.schedule is 'One row a cron trigger.';
comment on column stepd.schedule.next_run is 'For display: what the cron process that looked last computed.';
comment on column stepd.schedule.missed is 'What becomes of ticks that nobody could bring in time: skip: nothing; one: the newest of them runs; all: each runs.';
comment on column stepd.schedule.catch_up_ms is 'Missed ticks older than this are let go.';
comment on column stepd.schedule.overlap is 'skip: no job for a tick while the job of an earlier one is unfinished.';
comment on column stepd.schedule.description is 'The expression in words; the cron process writes it.';
comment on column stepd.schedule.revision is 'Counts changes of expression and time zone; a tick computed from an older one is not taken.';
comment on column stepd.schedule.since is 'When it became as it is, came back or was resumed: no tick before that was missed.';
comment on column stepd.schedule.last_tick is 'The newest tick that was inserted; ticks after it are still to come.';
comment on column stepd.schedule.last_run is 'The newest tick that became a job, last_job_id.';
comment on column stepd.schedule.skipped is 'How many ticks were left out because of overlap = skip.';

create table stepd.tick (
	schedule_id int not null references stepd.schedule,
	fire_at timestamptz not null,
	primary key (schedule_id, fire_at)
);
comment on table stepd.tick is 'Every cron tick that became a job or was left out because of overlap. The primary key is what makes a tick fire once over all nodes and clocks.';

create table stepd.setting (
	single boolean primary key default true check (single),
	version bigint not null default 0,
	defaults jsonb not null default '{}'
);
insert into stepd.setting default values;
comment on table stepd.setting is 'One row: the version counts changes of queues, steps and pauses; defaults are those of queues without a block.';

-- Places of a job -----------------------------------------------------------

create sequence stepd.job_id as bigint;
comment on sequence stepd.job_id is 'Numbers of jobs. Not cached: a later transaction must get a higher number, fifo relies on it.';

create table stepd.ready (
	lane_id int not null,
	rank int not null,
	pos bigint not null,
	bucket date not null,
	attempt smallint not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
	autovacuum_vacuum_insert_scale_factor = 1.0, autovacuum_analyze_threshold = 100000);
create unique index ready_order on stepd.ready (lane_id, rank, pos);
comment on table stepd.ready is 'Jobs that may be claimed, in the order of their one index.';
comment on column stepd.ready.rank is 'Standard queues: 0, or -1 for a job that comes again or comes due (below the workers'' cursors). Priority queues: -priority. Fifo queues: 40000, the heads of their groups.';
comment on column stepd.ready.pos is 'The job''s id.';
comment on column stepd.ready.bucket is 'The job''s bucket, to find its facts in one partition.';
comment on column stepd.ready.attempt is 'Attempts used so far.';

create table stepd.waiting (
	id bigint primary key,
	lane_id int not null,
	bucket date not null,
	attempt smallint not null,
	kind text not null check (kind in ('scheduled', 'retrying', 'snoozed')),
	run_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
create index waiting_due on stepd.waiting (run_at);
comment on table stepd.waiting is 'Jobs that wait for a time; promote() moves them on when it comes.';
comment on column stepd.waiting.kind is 'scheduled: not run yet; retrying: failed, comes again; snoozed: the handler asked to be run later.';

create table stepd.fifo_inbox (
	queue_id int not null,
	id bigint not null,
	lane_id int not null,
	bucket date not null,
	attempt smallint not null default 0,
	ended boolean not null default false,
	group_id text not null,
	primary key (queue_id, id, ended)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
comment on table stepd.fifo_inbox is 'Letters to whoever sorts a fifo queue next (stepd._fifo_sort, in claim): this job came, that job ended. Writers only append, so they never wait for each other.';
comment on column stepd.fifo_inbox.ended is 'false: the job is to be put in line. true: the head of its group has ended, the next may go.';
comment on column stepd.fifo_inbox.group_id is 'The empty string stands for jobs without a group: they form one.';

create table stepd.fifo_group (
	queue_id int not null,
	group_id text not null,
	head bigint not null,
	primary key (queue_id, group_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
comment on table stepd.fifo_group is 'Groups of fifo queues that have a head. Only _fifo_sort writes here, under the queue''s lock.';
comment on column stepd.fifo_group.head is 'The one job of the group that is ready, held by a worker, or waits for its retry.';

create table stepd.fifo_backlog (
	queue_id int not null,
	group_id text not null,
	id bigint not null,
	lane_id int not null,
	bucket date not null,
	attempt smallint not null,
	rank int not null default 0,
	primary key (queue_id, group_id, rank, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
comment on table stepd.fifo_backlog is 'Jobs behind the head of their fifo group; in queues with concurrency_per_group those whose group was full when a claim met them. Only _fifo_sort, _group_sort and cancel() take rows out.';
comment on column stepd.fifo_backlog.rank is 'Of a full group: stepd.ready.rank when it goes there again. Fifo: 0.';

create table stepd.group_slot (
	job_id bigint primary key,
	queue_id int not null,
	group_id text not null,
	node_id int not null,
	slot int not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
create index group_slot_group on stepd.group_slot (queue_id, group_id);
comment on table stepd.group_slot is 'Held jobs that have a group, of queues with concurrency_per_group, with the worker that holds them. Written by claims under the queue''s lock, deleted when the job leaves its lease.';

create table stepd.rate_start (
	queue_id int not null,
	at timestamptz not null,
	n int not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index rate_start_at on stepd.rate_start (queue_id, at);
comment on table stepd.rate_start is 'Queues with rate_limit: how many attempts that have ended began when. Rows older than the window are deleted by the next claim.';

create table stepd.unrouted (
	id bigint primary key,
	bucket date not null,
	topic text not null
);
create index unrouted_topic on stepd.unrouted (topic);
comment on table stepd.unrouted is 'Jobs enqueued on a topic that no step subscribed to; retry() routes them.';

create table stepd.lease (
	id bigint generated always as identity primary key,
	node_id int not null,
	slot int not null,
	generation bigint not null,
	lane_id int not null,
	claimed_at timestamptz not null,
	since timestamptz not null,
	has_unique boolean not null,
	ids bigint[] not null,
	buckets date[] not null,
	attempts smallint[] not null
) with (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table stepd.lease alter ids set storage main, alter buckets set storage main, alter attempts set storage main;
comment on table stepd.lease is 'Batches held by workers. A worker runs one job at a time in the order of lease id and array position, so the first job of its oldest lease is the one that runs; ended jobs are taken out of the arrays.';
comment on column stepd.lease.slot is 'The worker''s slot in its node, with generation: that life of it.';
comment on column stepd.lease.since is 'When the first job of ids can have started at the earliest.';
comment on column stepd.lease.has_unique is 'Some of its jobs have a unique key.';
comment on column stepd.lease.attempts is 'Attempts used before this one, by position.';

-- Beside the places ---------------------------------------------------------

create table stepd.unique_job (
	step_id int not null,
	key text not null,
	job_id bigint not null,
	primary key (step_id, key)
);
create index unique_job_id on stepd.unique_job (job_id);
comment on table stepd.unique_job is 'Unique keys of unfinished jobs; the row goes when the job ends.';

create table stepd.cancel_request (
	job_id bigint primary key,
	requested_at timestamptz not null default clock_timestamp()
);
comment on table stepd.cancel_request is 'Held jobs that are to be cancelled: however their attempt ends, they become cancelled.';

create table stepd.renewal (
	job_id bigint primary key,
	bucket date not null,
	attempts_before int not null,
	renewals int not null default 1,
	renewed_at timestamptz not null default clock_timestamp()
);
comment on table stepd.renewal is 'Jobs that were retried by hand: the attempts used before do not count against max_retries any more.';

create table stepd.state (
	group_id text not null,
	key text not null,
	value jsonb not null,
	updated_at timestamptz not null default clock_timestamp(),
	primary key (group_id, key)
);
comment on table stepd.state is 'The steps'' state: one JSON value for each group and key.';
comment on column stepd.state.value is 'Never SQL null; JSON null is a value.';

-- For C: is this schema the one that it was built for?
create function stepd.version() returns int
language plpgsql stable as $$
begin
	return (select coalesce(max(m.version), 0) from stepd.migration m);
end $$;
comment on function stepd.version() is 'The number of the last migration that was applied.';
