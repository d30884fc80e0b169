begin;
select no_plan();
-- the contract: exactly these columns, in this order; more may follow
create function pg_temp.columns(name text, n int) returns text language sql as $$
	select string_agg(attname, ', ' order by attnum) from (
		select * from pg_attribute where attrelid = ('stepd.' || name)::regclass and attnum > 0 order by attnum limit n) a
$$;
select is(pg_temp.columns('jobs', 22), 'id, queue, step, status, priority, group_id, unique_key, attempt, max_attempts, enqueued_at, run_at, started_at, finished_at, duration, input, output, error, trigger, parent_id, trace_id, node, pid', 'stepd.jobs');
select is(pg_temp.columns('attempts', 99), 'job_id, attempt, started_at, finished_at, outcome, error, exit_code, signal, max_rss_kb, cpu_ms, node, pid', 'stepd.attempts');
select is(pg_temp.columns('logs', 99), 'job_id, attempt, at, level, message, fields, step, trace_id', 'stepd.logs');
select is(pg_temp.columns('state', 99), 'group_id, key, value, updated_at', 'stepd.state');
select is(pg_temp.columns('queues', 8), 'name, strategy, paused, ready, scheduled, running, retrying, failed', 'stepd.queues');
select is(pg_temp.columns('schedules', 6), 'step, expression, timezone, next_run, last_run, last_job_id', 'stepd.schedules');

-- \d+ explains the schema
select is((select string_agg(c.relname, ', ' order by 1) from pg_class c where c.relnamespace = 'stepd'::regnamespace and c.relkind in ('r', 'v', 'p', 'S')
	and obj_description(c.oid, 'pg_class') is null and c.relname not like '%\_seq' and c.relname <> 'migration'), null, 'every table and view has a comment');
select is((select string_agg(c.relname || '.' || a.attname, ', ' order by 1) from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
	where c.relnamespace = 'stepd'::regnamespace and c.relkind in ('r', 'v', 'p') and not c.relispartition and c.relname <> 'migration' and col_description(c.oid, a.attnum) is null), null, 'every column');
select is((select string_agg(p.proname, ', ' order by 1) from pg_proc p where p.pronamespace = 'stepd'::regnamespace and obj_description(p.oid, 'pg_proc') is null), null, 'every function too');
select is((select string_agg(t.typname, ', ' order by 1) from pg_type t join pg_class c on c.oid = t.typrelid where t.typnamespace = 'stepd'::regnamespace and c.relkind = 'c' and obj_description(t.oid, 'pg_type') is null), null, 'and every type');

-- all statuses at once, each job once
select t.setup();
select array_agg(j) from stepd.enqueue_many('std', '[{}, {}, {}, {}, {}, {}, {}, {"delay_ms": 100000}]') j;
select t.claim(1, 'Std', 6);
select t.finish(1), t.finish(2, 'fail', 'x'), t.finish(3, 'skipped'), t.finish(4, 'error', 'y'), t.finish(5, 'cancelled', 'z');
select stepd.enqueue('nobody');
select is((select array_agg(status order by id) from stepd.jobs), '{completed,failed,skipped,retrying,cancelled,running,ready,scheduled,unrouted}', 'all nine statuses');
select is((select count(*)::int from stepd.jobs where status = 'failed'), 1, 'by status');
select is((select count(*)::int from stepd.jobs where trace_id = (select trace_id from stepd.jobs where id = 7)), 1, 'by trace');
select is((select error from stepd.jobs where id = 4), 'y', 'the error of a retrying job');

-- the newest of them
create function pg_temp.latest(most int, queue text default null, step text default null, status text default null, trace_id uuid default null) returns text language sql as $$
	select string_agg(j::text, ',' order by ord) from stepd.latest_jobs(most, queue, step, status, trace_id) with ordinality x (j, ord) $$;
select is(pg_temp.latest(100), '9,8,7,6,5,4,3,2,1', 'the newest first');
select is(pg_temp.latest(2), '9,8', 'so many');
select is(pg_temp.latest(100, 'nobody'), '9', 'of a topic without a queue');
select is(pg_temp.latest(3, 'std'), '8,7,6', 'of a queue');
select is(pg_temp.latest(100, step => 'Std', status => 'completed'), '1', 'of a step and a status');
select is(pg_temp.latest(1, status => 'failed'), '2', 'of a status that is rare');
select is(pg_temp.latest(100, trace_id => (select trace_id from stepd.jobs where id = 7)), '7', 'of a trace');
select is(pg_temp.latest(100, 'std', status => 'unrouted'), null, 'none');
do $$ begin
	for n in 1..300 loop
		perform stepd.enqueue_many('std', '[{}, {}, {}, {}, {}, {}, {}, {}, {}]'), stepd.enqueue('prio', '{}');
	end loop;
end $$;
create function pg_temp.same(most int, queue text) returns text language sql as $$
	select is(array(select * from stepd.latest_jobs(most, queue)), array(select id from stepd.jobs j where same.queue is null or j.queue = same.queue order by id desc limit most),
		format('%s of %s', most, coalesce(queue, 'all'))) $$;
select pg_temp.same(n, q) from (values (1, 'prio'), (49, 'prio'), (50, 'prio'), (51, 'prio'), (249, 'prio'), (250, 'prio'), (251, 'prio'), (300, 'prio'), (301, 'prio'),
	(2500, null), (10000, null), (10000, 'nobody'), (2700, 'std')) v (n, q);
delete from stepd.ready where pos between 1000 and 2800;
delete from stepd.job where id between 1000 and 2800;
select pg_temp.same(n, q) from (values (60, 'prio'), (100, 'prio'), (1000, 'std')) v (n, q); -- over a gap
select is((select array_agg(j order by j desc) from stepd.latest_jobs(2, status => 'completed') j), '{1}', 'the only completed one');
delete from stepd.ready where pos > 9;
delete from stepd.job where id > 9;
select is((select row(ready, scheduled, running, retrying, failed)::text from stepd.queues where name = 'std'), '(1,1,1,1,1)', 'queues counts them');
select ok((select oldest_ready_age >= interval '0' and oldest_ready_age < interval '1 min' from stepd.queues where name = 'std'), 'and knows the oldest');
select is((select oldest_ready_age from stepd.queues where name = 'prio'), null, 'if there is one');
select is((select array_agg(running) from stepd.nodes), '{1}', 'nodes counts the running');

-- why the oldest waits
create function pg_temp.reason(queue text) returns text language sql as $$ select reason from stepd.oldest_ready o where o.queue = reason.queue $$;
select stepd.enqueue('lim'), stepd.enqueue('lim');
select t.claim(2, 'Lim', 1);
select is(pg_temp.reason('lim'), 'maxConcurrency is reached', 'at maxConcurrency');
select stepd.queue_set('prio', '{"rateLimit": "1/1h"}'), stepd.enqueue('prio'), stepd.enqueue('prio');
select t.claim(3, 'Prio', 1);
select is(pg_temp.reason('prio'), 'rateLimit is reached', 'at its rate');
select stepd.queue_set('once', '{"concurrencyPerGroup": "1"}'), stepd.enqueue('once', group_id => 'g'), stepd.enqueue('once', group_id => 'g');
select t.claim(4, 'Once', 1);
select is(pg_temp.reason('once'), 'its group is at concurrencyPerGroup', 'its group is full');
select stepd.enqueue('once', group_id => 'h'), stepd.cancel((select job_id from stepd.oldest_ready where queue = 'once'));
select is(pg_temp.reason('once'), 'no worker has come to it yet', 'another is not');
create function pg_temp.pools(scope jsonb) returns void language sql as $$
	select stepd.node_pools(t.n(), jsonb_build_array('{"pool": "p", "serves": "queue", "processes": 1, "min": 1, "max": 1, "deaths": 0, "degraded": false}'::jsonb || scope))
$$;
select pg_temp.pools('{"queues": ["std", "lim"]}');
select is(array[pg_temp.reason('once'), pg_temp.reason('lim')], '{no pool serves the queue and the step,maxConcurrency is reached}', 'no pool has its queue');
select pg_temp.pools('{"steps": ["Std"]}');
select is(pg_temp.reason('once'), 'no pool serves the queue and the step', 'or its step');
select results_eq('select queues, steps from stepd.pools', $$values (null::text[], '{Std}'::text[])$$, 'pools say what they serve');
select pg_temp.pools('{"steps": ["Once"], "queues": ["once"]}');
select is(pg_temp.reason('once'), 'no worker has come to it yet', 'one has both');
update stepd.node set lost_at = now();
select is(pg_temp.reason('once'), 'no node that is alive has the step', 'its node is dead');
select is((select nodes from stepd.steps where name = 'Once'), '{}', 'which stepd.steps does not name');
select * from finish();
rollback;
