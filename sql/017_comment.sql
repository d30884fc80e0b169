-- Repeatable.
--
-- What \d+ says about the columns that the other files left alone: those whose
-- meaning is the same wherever they stand, and the plain ones of the views.

create or replace function stepd._describe() returns void
language plpgsql as $$
declare
	c record;
	said text;
	-- a column of this name says this everywhere; 'table.column' goes before
	words constant jsonb := '{
		"bucket": "The job''s bucket: the day (UTC) of its partition.",
		"lane_id": "The lane, stepd.lane.",
		"queue_id": "The queue, stepd.queue.",
		"step_id": "The step, stepd.step.",
		"node_id": "The node, stepd.node.",
		"job_id": "The job.",
		"schedule_id": "The schedule, stepd.schedule.",
		"slot": "The worker''s slot in its node.",
		"generation": "Which life of that slot.",
		"ids": "The jobs, in the order in which they run.",
		"buckets": "Their buckets, by position.",
		"pid": "Process id on its machine.",
		"attempt": "Attempts used so far.",
		"max_attempts": "Attempts it may have in all.",
		"error": "The message of the error.",
		"priority": "-32768 to 32767; higher first in priority queues.",
		"group_id": "Group; order is kept within it in fifo queues.",
		"unique_key": "No second job of the step has it while this one is unfinished.",
		"trigger": "queue, http or cron.",
		"trigger_index": "Which of the step''s triggers, from 0.",
		"parent_id": "The job whose handler enqueued it; null: enqueued from outside.",
		"trace_id": "Shared by all jobs of one workflow run.",
		"enqueued_at": "When enqueue was called.",
		"run_at": "Not before this time.",
		"started_at": "When it began.",
		"finished_at": "When it ended.",
		"input": "The data it was enqueued with.",
		"output": "What the handler returned.",
		"topic": "The topic.",
		"expression": "The cron expression as written.",
		"timezone": "The zone whose clock the expression is about.",
		"paused": "Nothing of it starts until it is resumed.",
		"strategy": "standard, fifo or priority.",
		"max_retries": "Attempts after the first.",
		"retry_delay_ms": "Delay before the first retry, in milliseconds.",
		"backoff": "How the delay grows with each retry: exponential, linear or fixed.",
		"max_retry_delay_ms": "Cap of the computed delay, in milliseconds.",
		"jitter": "The computed delay is multiplied by a random factor in [1 - jitter, 1 + jitter].",
		"max_concurrency": "How many of its jobs may run at a time over all nodes; 0: no limit.",
		"timeout_ms": "How long an attempt may take, in milliseconds; 0: no limit.",
		"rate_limit": "How many may start in a window; 0: no limit.",
		"rate_window_ms": "The window of rate_limit, in milliseconds.",
		"concurrency_per_group": "How many of one group may run at a time; 0: no limit.",
		"history_ms": "How long its ended jobs are kept, in milliseconds; 0: as long as the daemon''s history.keep says.",
		"listening": "It wants NOTIFY stepd_ready.",
		"lease_ms": "How long it may be silent before its jobs are taken back, in milliseconds.",
		"boot_id": "Names this start of the daemon.",
		"joined_at": "When it started.",
		"heartbeat_at": "When it was last heard of.",
		"version": "Version of the daemon.",
		"updated_at": "Last change.",
		"description": "From its config.",
		"file": "The file that it was loaded from.",
		"kind": "What it is written in: c, ...",
		"flows": "The flows it belongs to.",
		"enqueues": "The topics it may enqueue on.",
		"triggers": "Its triggers with their schemas, as in the manifest.",
		"last_job_id": "The job of its last run.",
		"next_run": "When it will fire next.",
		"level": "debug, info, warn or error.",
		"message": "The text.",
		"fields": "What was logged with it, a JSON object.",
		"at": "When.",
		"step": "The step.",
		"node": "Name of the node.",
		"key": "The key.",
		"name": "Its name.",
		"id": "Its number.",
		"status": "completed, failed, cancelled or skipped.",
		"ready": "Jobs that may start now; those that workers hold and have not begun are among them.",
		"scheduled": "Jobs that wait for their time.",
		"running": "Jobs that run.",
		"retrying": "Jobs that wait for their next attempt.",
		"step_provider.node_name": "The node''s name in its configuration.",
		"attempt.attempt": "Its number, from 1.",
		"attempt.outcome": "How it ended.",
		"attempt.max_rss_kb": "Peak memory of the worker that died in it.",
		"attempt.cpu_ms": "CPU time of the worker that died in it.",
		"log.attempt": "The attempt that logged it, from 1.",
		"logs.attempt": "The attempt that logged it, from 1.",
		"lease.generation": "See slot.",
		"lease.claimed_at": "When the batch was claimed.",
		"fifo_inbox.id": "The job.",
		"fifo_backlog.id": "The job.",
		"waiting.id": "The job.",
		"unrouted.id": "The job.",
		"outcome.id": "The job.",
		"_held_job.id": "The job.",
		"_held_job.since": "When it can have begun at the earliest.",
		"_held_job.running": "It runs now.",
		"cancel_request.requested_at": "When cancel() was called.",
		"renewal.attempts_before": "Attempts used before the last retry by hand.",
		"renewal.renewals": "How often it was retried by hand.",
		"renewal.renewed_at": "When it was last.",
		"schedule.retired": "No step has it any more.",
		"setting.single": "There is one row.",
		"setting.version": "Counts changes of queues, steps and pauses.",
		"setting.defaults": "Settings of queues without a block, as last configured.",
		"subscription.topic": "What is enqueued on.",
		"tick.fire_at": "The time the tick stands for.",
		"nodes.ended_at": "When it left or was declared lost.",
		"node_pool.min": "How many processes it has at least.",
		"node_pool.max": "How many processes it may have.",
		"pool": "The pool''s name in the configuration.",
		"serves": "queue or http.",
		"changed_at": "When this last changed.",
		"secret.made_at": "When it was made."
	}';
begin
	for c in
		select r.relname, a.attname
		from pg_class r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
		where r.relnamespace = 'stepd'::regnamespace and r.relkind in ('r', 'v', 'p') and not r.relispartition
			and r.relname <> 'migration' and col_description(r.oid, a.attnum) is null
		order by 1, 2
	loop
		said := coalesce(words ->> (c.relname || '.' || c.attname), words ->> c.attname::text);
		continue when said is null;
		execute format('comment on column stepd.%I.%I is %L', c.relname, c.attname, said);
	end loop;
end $$;
comment on function stepd._describe() is 'Comment the columns that have no comment yet. Files with views that come after this one call it again.';

do $$ begin perform stepd._describe(); end $$;
