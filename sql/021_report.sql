-- Repeatable.
--
-- What a worker says while a handler runs: who it is, and how far it is.
--
-- A report is fenced like an outcome: it counts only while the lease holds the
-- job, under a lock that a finish or a rescue of the same lease waits for.

create or replace function stepd.worker_here(node_id int, slot int, generation bigint, pid int) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	if coalesce(worker_here.pid, 0) <= 0 then
		perform stepd._bad('pid', format('%s is not the number of a process', coalesce(worker_here.pid::text, 'null')));
	end if;
	perform stepd._required('{node_id,slot,generation}', worker_here.node_id is null, worker_here.slot is null, worker_here.generation is null);
	perform stepd._check_range('slot', worker_here.slot, 0, 2147483647), stepd._check_range('generation', worker_here.generation, 0, 9223372036854775807);
	insert into stepd.worker as w (node_id, slot, generation, pid)
	select n.id, worker_here.slot, worker_here.generation, worker_here.pid from stepd.node n where n.id = worker_here.node_id
	on conflict on constraint worker_pkey do update set generation = excluded.generation, pid = excluded.pid, since = excluded.since
	where (w.generation, w.pid) <> (excluded.generation, excluded.pid);
end $$;
comment on function stepd.worker_here(int, int, bigint, int) is
	'A worker says which process it is: slot and generation as in its claims. At its start, and safe to repeat. Nothing, if there is no such node.';

create or replace function stepd._check_progress(argument text, said jsonb) returns void
language plpgsql as $$
begin
	perform stepd._check_object(argument, said, '{"percent": "number 0 100", "message": "string", "fields": "object"}');
	perform stepd._check_data(argument || '.fields', said -> 'fields');
end $$;
comment on function stepd._check_progress(text, jsonb) is 'Refuse what is no report of progress.';

create or replace function stepd._progress_put(job_id bigint, bucket date, attempt int, progress jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
begin
	insert into stepd.progress (job_id, at, bucket, attempt, progress)
	values (_progress_put.job_id, clock_timestamp(), _progress_put.bucket, _progress_put.attempt, _progress_put.progress)
	on conflict on constraint progress_pkey do update
		set at = excluded.at, bucket = excluded.bucket, attempt = excluded.attempt, progress = excluded.progress;
end $$;
comment on function stepd._progress_put(bigint, date, int, jsonb) is 'Keep the last report of a job.';

create or replace function stepd.progress_report(node_id int, lease bigint, job bigint, progress text) returns boolean
language plpgsql
set enable_seqscan = off set jit = off as $$
#variable_conflict use_column
declare
	said jsonb;
	held record;
begin
	perform stepd._required('{node_id,lease,job}', progress_report.node_id is null, progress_report.lease is null, progress_report.job is null);
	said := stepd._json('progress', progress_report.progress);
	perform stepd._check_progress('progress', said);
	select u.bucket, u.attempt into held
	from stepd.lease l cross join lateral unnest(l.ids, l.buckets, l.attempts) u (id, bucket, attempt)
	where l.id = progress_report.lease and l.node_id = progress_report.node_id and u.id = progress_report.job
	for share of l;
	if not found then
		return false;
	end if;
	perform stepd._progress_put(progress_report.job, held.bucket, held.attempt + 1, said);
	return true;
end $$;
comment on function stepd.progress_report(int, bigint, bigint, text) is
	'How far the running handler of a job is: a JSON object with percent, message and fields, any of them, which stepd.jobs.progress shows. False: the lease does not hold the job any more, and nothing was changed.';
