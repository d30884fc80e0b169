begin;
select no_plan();
select t.setup() as node \gset

-- cancel of what waits, is ready, or stands unstarted in a lease
select is(array(select stepd.enqueue_many('std', '[{"unique": "a"}, {"delay_ms": 60000}, {}, {}, {}]')), '{1,2,3,4,5}', 'five jobs');
select is(stepd.cancel(1), true, 'a ready one');
select is(stepd.cancel(2), true, 'a scheduled one');
select is((select array_agg(status order by id) from stepd.jobs where id <= 2), '{cancelled,cancelled}', 'at once');
select results_eq('select attempt, max_attempts, started_at, finished_at is not null from stepd.jobs where id = 1', $$values (0, 4, null::timestamptz, true)$$, 'it never ran');
select is((select count(*)::int from stepd.attempts), 0, 'no attempt');
select is((select count(*)::int from stepd.unique_job), 0, 'its unique key is free');
select is(stepd.cancel(1), false, 'a second time: it had ended');
select is(t.claim(1, 'Std'), '{3,4,5}', 'the others go on');
select is(stepd.cancel(4), true, 'held, not started');
select is(t.status(4), 'cancelled', 'at once');
select is(t.finish(4, lease => t.lease(3)), 'refused', 'if it ran after all, that is refused');
select is(stepd.cancel(3), true, 'the running one');
select is(stepd.cancel(3), true, 'once more');
select is(array(select * from stepd.cancelled('{1,2,3,4,5,4711}')), '{1,2,3,4}', 'cancelled, or to be');
select is(t.status(3), 'running', 'runs on');
select is(t.finish(3, 'error', 'interrupted'), 'cancelled', 'and is cancelled, not retried');
select results_eq('select status, attempt, error from stepd.jobs where id = 3', $$values ('cancelled', 1, 'interrupted')$$, 'with its error');
select results_eq('select attempt, outcome from stepd.attempts where job_id = 3', $$values (1, 'cancelled')$$, 'the attempt says so');
select is((select count(*)::int from stepd.cancel_request), 0, 'the request is gone');
select stepd.cancel(5);
select results_eq($$select * from stepd.died(t.n(), 1, 1, 5, 'cancelled', 'ended by signal 15', null, 15, 100, 5, 10, 10, 1)$$, $$values (5::bigint, 'cancelled')$$, 'the worker was stopped for it');
select results_eq('select outcome, signal, max_rss_kb, cpu_ms from stepd.attempts where job_id = 5', $$values ('cancelled', 15, 100::bigint, 5::bigint)$$, 'recorded');
select stepd.enqueue('std') as j \gset
select stepd.enqueue('once') as k \gset
select t.claim(1, 'Std'), t.claim(1, 'Once');
select is(stepd.cancel(:k), true, 'the first of a second lease');
select is(t.status(:k), 'cancelled', 'has not started either: at once');
select is(t.finish(:j), 'completed', 'the other goes on');
select stepd.enqueue('std') as j \gset
select t.claim(1, 'Std'), stepd.cancel(:j);
select is(stepd.release(array[t.lease(:j)], array[:j]::bigint[]), 1, 'released with a request');
select is(t.status(:j), 'cancelled', 'is cancelled');
select stepd.enqueue('std') as j \gset
select t.claim(1, 'Std');
select t.finish(:j, 'error', 'x');
select is(stepd.cancel(:j), true, 'a retrying one');
select is(t.status(:j), 'cancelled', 'at once');
select stepd.enqueue('nobody') as j \gset
select is(stepd.cancel(:j), true, 'an unrouted one');
select is(t.status(:j), 'cancelled', 'at once');
select throws_ok('select stepd.cancel(null)', '22023', 'job_id: must not be null', 'null');
select throws_ok('select stepd.cancel(4711)', '22023', 'job_id: there is no job 4711', 'unknown');
select throws_ok('select stepd.cancel(-1)', '22023', 'job_id: there is no job -1', 'negative');
select is(t.sound(), 'sound', 'sound');

-- retry
select is(array(select stepd.retry(:j)), null, 'the topic of the unrouted one has no subscriber') where false;
select throws_like(format('select stepd.retry(%s)', :j), 'job_id: topic "nobody" of job % has no subscriber yet', 'no subscriber yet');
select is(t.status(:j), 'cancelled', 'it stays');
select is(array(select stepd.retry(1)), '{1}', 'a cancelled one');
select is(t.status(1), 'ready', 'is ready again');
select is((select count(*)::int from stepd.unique_job where job_id = 1), 1, 'with its unique key');
select throws_ok('select stepd.retry(1)', '22023', 'job_id: job 1 has not ended', 'not twice');
select t.claim(1, 'Std', 1, null, 9999);
select is(t.finish(1), 'completed', 'it runs');
select throws_ok('select stepd.retry(1)', '22023', 'job_id: job 1 is completed', 'a completed one is not retried');
select stepd.enqueue('once', '1', unique_key => 'o') as j \gset
select t.claim(1, 'Once');
select is(t.finish(:j, 'error', 'first'), 'failed', 'failed');
select stepd.retry(:j);
select results_eq('select status, attempt, max_attempts, error from stepd.jobs where id = ' || :j, $$values ('ready', 1, 2, 'first')$$, 'retried, counted on');
select results_eq($$select attempt, max_attempts from stepd.claim(t.n(), 1, 1, array[t.lane('Once')], '{0}', '{9}', 9)$$, 'values (2, 2)', 'attempt 2 of 2');
select is(t.finish(:j, 'error', 'second'), 'failed', 'fails again');
select is((select array_agg(error order by attempt) from stepd.attempts where job_id = :j), '{first,second}', 'both attempts are kept');
select stepd.retry(:j);
select t.claim(1, 'Once');
select is(t.finish(:j), 'completed', 'then it works');
select results_eq('select status, attempt, max_attempts, error from stepd.jobs where id = ' || :j, $$values ('completed', 3, 3, null::text)$$, 'as attempt 3');
select stepd.enqueue('once', '1', unique_key => 'o') as j \gset
select t.claim(1, 'Once'), t.finish(:j, 'fail', 'x');
select stepd.enqueue('once', '1', unique_key => 'o') as k \gset
select throws_like(format('select stepd.retry(%s)', :j), 'job_id: job % has the unique key "o", which the unfinished job % has now', 'its key is taken');
select is(t.status(:j), 'failed', 'it stays failed');

-- attempts are counted on, to where smallint ends
select stepd.cancel(:k);
update stepd.queue set max_retries = 30000 where name = 'once';
select stepd.enqueue('once') as m \gset
select t.claim(1, 'Once'), t.finish(:m, 'fail', 'x');
update stepd.outcome set attempt = 32765 where id = :m;
select stepd.retry(:m);
select results_eq('select status, attempt, max_attempts from stepd.jobs where id = ' || :m, $$values ('ready', 32765, 32767)$$, 'two more fit');
select t.claim(1, 'Once');
select is(t.finish(:m, 'error', 'x'), 'retrying', 'the first of them');
select t.due(), t.claim(1, 'Once');
select is(t.finish(:m, 'error', 'x'), 'failed', 'the last one');
select throws_ok(format('select stepd.retry(%s)', :m), '22023', format('job_id: job %s has used 32767 attempts, more are not counted', :m), 'no more');
select is(t.status(:m), 'failed', 'it stays failed');
delete from stepd.outcome where id = :m;
delete from stepd.job where id = :m;
update stepd.queue set max_retries = 0 where name = 'once';

-- retry of a whole queue
select count(*) from stepd.enqueue_many('once', '[{}, {}, {}]');
select t.finish(j, 'fail', 'x') from unnest(t.claim(1, 'Once')) j;
select is(stepd.retry_queue('once'), 4::bigint, 'all failed ones');
select is((select count(*)::int from stepd.jobs where queue = 'once' and status = 'ready'), 4, 'are ready');
select is(stepd.retry_queue('once'), 0::bigint, 'none left');
select t.finish(j, 'fail', 'x') from unnest(t.claim(1, 'Once')) j;
select count(*) from stepd.enqueue_many('once', (select jsonb_agg(case when i <= 2 then '{"unique": "u"}' else '{}' end::jsonb) from generate_series(1, 200) i));
select t.finish(j, 'fail', 'x') from unnest(t.claim(1, 'Once', 500)) j;
select count(*) from stepd.enqueue('once', unique_key => 'u');
select is(stepd.retry_queue('once'), 202::bigint, 'hundreds at once, but not the one whose unique key another job has');
select results_eq($$select status, attempt, max_attempts, count(*)::int from stepd.jobs where queue = 'once' and status in ('failed', 'ready') group by 1, 2, 3 order by 4$$,
	$$values ('failed', 1, 1, 1), ('ready', 0, 1, 1), ('ready', 2, 3, 4), ('ready', 1, 2, 198)$$, 'each with its attempts');
select results_eq($$select status, unique_key from stepd.jobs where queue = 'once' and unique_key = 'u' order by id$$, $$values ('failed', 'u'), ('ready', 'u')$$, 'the key is with the other');
select throws_ok($$select stepd.retry_queue('none')$$, '22023', 'queue: there is no queue "none"', 'unknown queue');

-- routing later
select stepd.enqueue('new', '{"n": 1}', 7, null, 'g', 'k') as j \gset
select stepd.enqueue('new', '2', run_at => now() + interval '1 hour') as k \gset
select stepd.enqueue('new', '3', unique_key => 'k') as l \gset
select isnt(:j::bigint, :l::bigint, 'without a step no key is taken');
select is(array[t.status(:j), t.status(:k)], '{unrouted,unrouted}', 'unrouted');
select stepd.configure('n2', '{"steps": [{"name": "New1", "triggers": [{"type": "queue", "topic": "new"}]}, {"name": "New2", "triggers": [{"type": "cron", "expression": "* * * * *"}, {"type": "queue", "topic": "new"}]}]}', '[]', '{}');
select is((select cardinality(array(select stepd.retry(:j)))), 2, 'routed to both subscribers');
select results_eq(format('select step, status, priority, group_id, unique_key, input from stepd.jobs where trace_id = (select trace_id from stepd.jobs where id = %s) order by step', :j),
	$$values ('New1', 'ready', 7, 'g', 'k', '{"n": 1}'::jsonb), ('New2', 'ready', 7, 'g', 'k', '{"n": 1}')$$, 'with all that they had');
select is(array(select stepd.enqueue('new', unique_key => 'k')), array(select job_id from stepd.unique_job where key = 'k' order by job_id), 'and their key is taken');
select throws_like(format('select stepd.retry(%s)', :l), 'job_id: job % has the unique key "k", which the unfinished job % has now', 'so another with that key is not routed');
select is(t.status(:l), 'unrouted', 'it stays');
select stepd.cancel(:l);
select is(stepd.retry_queue('new'), 1::bigint, 'the other by its queue');
select is(t.status(:k), 'scheduled', 'still for its time');
select is((select count(*)::int from stepd.unrouted where topic = 'new'), 0, 'none left');
select is(t.sound(), 'sound', 'sound');

-- steps that go away
select stepd.configure('n2', '{"steps": []}', '[]', '{}');
select is((select retired from stepd.steps where name = 'New1'), true, 'a step without provider is retired');
select is((select count(*)::int from stepd.schedules where step = 'New2'), 0, 'its schedules too');
select is(t.status((select stepd.enqueue('new'))), null, 'its topic has no subscribers') where false;
select stepd.enqueue('new') as j \gset
select is(t.status(:j), 'unrouted', 'its topic has no subscribers');
select is((select count(*)::int from stepd.jobs where step = 'New1' and status = 'ready'), 1, 'its jobs stay');
select is((select retired from stepd.steps where name = 'Std'), false, 'those of others stay too');
select results_eq($$select name, kind, file, description, flows, enqueues, nodes from stepd.steps where name = 'Std'$$, $$values ('Std', 'c', 'std.so', 'd', '{f}'::text[], '{fan}'::text[], '{n1}'::text[])$$, 'stepd.steps');
select is((select triggers -> 0 -> 'input' from stepd.steps where name = 'Std'), '{"type": "object"}', 'with the schema');

-- configure refuses
select throws_ok($$select stepd.configure('', '{}', '[]', '{}')$$, '22023', 'node_name: must not be empty', 'no node name');
select throws_ok($$select stepd.configure('n1', '{"steps": 5}', '[]', '{}')$$, '22023', 'manifest.steps: 5 is no array', 'bad manifest');
select throws_ok($$select stepd.configure('n1', '{"steps": [{"name": "X", "triggers": [{"type": "mail"}]}]}', '[]', '{}')$$, '22023', 'manifest.steps[0].triggers[0].type: "mail" is none of queue, http, cron', 'unknown trigger');
select throws_ok($$select stepd.configure('n1', '{"steps": []}', '{}', '{}')$$, '22023', 'queues: is not an array of objects', 'bad queues');
select throws_like($$select stepd.configure('n1', '{"steps": []}', '[{"name": "q", "strategy": "lifo"}]', '{}')$$, 'queues[0].strategy: %', 'unknown strategy');
select throws_like($$select stepd.configure('n1', '{"steps": []}', '[{"name": "q", "max_retries": -1}]', '{}')$$, 'queues[0].max_retries: -1 is not a whole number between 0 and 30000', 'negative retries');
select throws_like($$select stepd.configure('n1', '{"steps": []}', '[{"name": "q", "max_retries": "many"}]', '{}')$$, 'queues[0].max_retries: "many" is no number', 'no number');
select stepd.configure('n1', t.steps(), '[{"name": "std", "maxRetries": 9, "retryDelay": 7}]', '{"max_retries": 2, "timeout_ms": 5000}');
select results_eq($$select max_retries, retry_delay_ms, timeout_ms from stepd.queues where name in ('std', 'fan') order by name$$, 'values (2, 1000::bigint, 5000::bigint), (9, 7, 5000)', 'blocks over defaults, camelCase too');
select results_eq($$select timeout_ms, strategy, paused from stepd.lanes('{Std}')$$, $$values (5000::bigint, 'standard', false)$$, 'lanes() passes them on');
select is((select version from stepd.setting), (select version from stepd.setting), 'settings have a version');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
