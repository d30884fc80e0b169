-- The partitioned tables: facts, outcomes, attempts, logs.
--
-- All four are partitioned by the job's bucket, a day in UTC that is chosen
-- when the job is enqueued and is part of every reference to it, so that each
-- access goes to one partition and a day is forgotten by dropping four tables.
-- The primary keys begin with the id: a look-up by id alone costs one probe
-- for each day that is kept.
--
-- Partitions are made ahead (maintain() in the keeper, a week); a default
-- partition takes what falls outside, and maintain() moves it where it
-- belongs when it makes that day's partition.

create table stepd.job (
	id bigint not null,
	parent_id bigint,
	enqueued_at timestamptz not null,
	run_at timestamptz,
	bucket date not null,
	lane_id int,
	trigger_index smallint not null default 0,
	priority smallint not null default 0,
	trace_id uuid not null,
	trigger text not null default 'queue' check (trigger in ('queue', 'http', 'cron')),
	group_id text,
	unique_key text,
	topic text,
	input jsonb not null,
	primary key (id, bucket)
) partition by range (bucket);
create index job_trace on stepd.job (trace_id);
comment on table stepd.job is 'What a job is: written once at its enqueue, never changed (but for the lane of an unrouted job when it is routed).';
comment on column stepd.job.bucket is 'Day (UTC) of its partition: that of run_at when it was scheduled up to a week ahead, else of its enqueue.';
comment on column stepd.job.lane_id is 'Null while it is unrouted.';
comment on column stepd.job.topic is 'Only of a job that nobody subscribed to when it was enqueued; others have their queue''s name.';
comment on column stepd.job.trigger_index is 'Which of the step''s triggers, from 0.';
comment on column stepd.job.run_at is 'Not before this time; null: at once.';

create table stepd.outcome (
	id bigint not null,
	started_at timestamptz,
	finished_at timestamptz not null,
	bucket date not null,
	lane_id int,
	node_id int,
	pid int,
	attempt smallint not null,
	max_attempts smallint not null,
	status text not null check (status in ('completed', 'failed', 'cancelled', 'skipped')),
	output jsonb,
	error text,
	primary key (id, bucket)
) partition by range (bucket);
create index outcome_bad on stepd.outcome (status, finished_at) where status <> 'completed';
comment on table stepd.outcome is 'How a job ended.';
comment on column stepd.outcome.attempt is 'Attempts used; 0: it never ran.';
comment on column stepd.outcome.started_at is 'Start of the last attempt; null: it never ran.';

create table stepd.attempt (
	job_id bigint not null,
	started_at timestamptz,
	finished_at timestamptz not null,
	max_rss_kb bigint,
	cpu_ms bigint,
	bucket date not null,
	attempt int not null,
	exit_code int,
	signal int,
	node_id int,
	pid int,
	outcome text not null check (outcome in ('error', 'timeout', 'crashed', 'invalid_input', 'cancelled', 'lost')),
	error text
) partition by range (bucket);
create index attempt_job on stepd.attempt (job_id);
comment on table stepd.attempt is 'Every attempt that did not simply succeed.';
comment on column stepd.attempt.exit_code is 'Of the worker that died in it; null: it did not, or by a signal.';
comment on column stepd.attempt.signal is 'The signal that ended the worker.';

create table stepd.log (
	job_id bigint not null,
	at timestamptz not null,
	bucket date not null,
	attempt int not null,
	level text not null,
	message text not null,
	fields jsonb
) partition by range (bucket);
create index log_job on stepd.log (job_id);
comment on table stepd.log is 'What handlers logged; commits with the attempt''s outcome.';

create table stepd.job_default partition of stepd.job default;
create table stepd.outcome_default partition of stepd.outcome default;
create table stepd.attempt_default partition of stepd.attempt default;
create table stepd.log_default partition of stepd.log default;
comment on table stepd.job_default is 'Facts of days without a partition; empty when all is well.';
comment on table stepd.outcome_default is 'Outcomes of days without a partition; empty when all is well.';
comment on table stepd.attempt_default is 'Attempts of days without a partition; empty when all is well.';
comment on table stepd.log_default is 'Logs of days without a partition; empty when all is well.';

create function stepd._today() returns date
language sql stable parallel safe as $$ select (now() at time zone 'UTC')::date $$;
comment on function stepd._today() is 'The bucket of jobs enqueued now.';

-- Make one day's four partitions.  Rows of that day that the default partition
-- took meanwhile are moved: under its lock, so that none can slip in between.
create function stepd._partition_make(day date) returns boolean
language plpgsql as $$
declare
	parent text;
	part text;
	made boolean := false;
begin
	foreach parent in array array['job', 'outcome', 'attempt', 'log'] loop
		part := parent || to_char(day, '"_p"YYYYMMDD');
		continue when to_regclass('stepd.' || part) is not null;
		made := true;
		execute format('create table stepd.%I (like stepd.%I including defaults including constraints including storage)', part, parent);
		execute format('lock table stepd.%I in access exclusive mode', parent || '_default');
		execute format('with moved as (delete from stepd.%I where bucket = %L returning *) insert into stepd.%I select * from moved',
			parent || '_default', day, part);
		execute format('alter table stepd.%I attach partition stepd.%I for values from (%L) to (%L)', parent, part, day, day + 1);
		execute format('comment on table stepd.%I is %L', part, 'Partition of stepd.' || parent || ' for ' || day || ' (UTC).');
	end loop;
	return made;
end $$;
comment on function stepd._partition_make(date) is 'Create the partitions of a day; false: they were there.';

do $$
begin
	for i in -1 .. 8 loop
		perform stepd._partition_make(stepd._today() + i);
	end loop;
end $$;
