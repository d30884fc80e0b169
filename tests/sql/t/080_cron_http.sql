begin;
select no_plan();
select t.setup() as node \gset

select results_eq($$select step, trigger_index, expression, timezone, last_fire <= clock_timestamp(), paused from stepd.schedules_load('{Tick,Std}')$$, $$values ('Tick', 0, '* * * * *', 'UTC', true, false)$$, 'schedules');
select schedule_id as s from stepd.schedules_load('{Tick}') \gset
select stepd.cron_next(array[:s], '{2030-01-01 00:00+00}');
select is((select next_run from stepd.schedules), '2030-01-01 00:00+00', 'the next run is shown');
select results_eq(format($$select * from stepd.cron_fire('{%1$s,%1$s}', '{2030-01-01 00:00+00,2030-01-01 00:01+00}', '{2030-01-01 00:01+00,2030-01-01 00:02+00}')$$, :s),
	format('values (%1$s, 1::bigint), (%1$s, 2)', :s), 'two ticks, two jobs');
select is((select count(*)::int from stepd.cron_fire(array[:s, :s], '{2030-01-01 00:01+00,2030-01-01 00:00+00}', '{2030-01-01 00:02+00,2030-01-01 00:01+00}')), 0, 'a tick fires once');
select results_eq('select step, expression, timezone, next_run, last_run, last_job_id from stepd.schedules', $$values ('Tick', '* * * * *', 'UTC', '2030-01-01 00:02+00'::timestamptz, '2030-01-01 00:01+00'::timestamptz, 2::bigint)$$, 'shown');
select is((select last_fire from stepd.schedules_load('{Tick}')), '2030-01-01 00:01+00', 'and loaded');
select results_eq('select queue, step, trigger, status, input from stepd.jobs', $$values ('Tick', 'Tick', 'cron', 'ready', 'null'::jsonb), ('Tick', 'Tick', 'cron', 'ready', 'null')$$, 'jobs of the step''s own queue');
select is((select array_agg(trigger) from stepd.claim(t.n(), 1, 1, array[t.lane('Tick')], '{0}', '{9}', 9)), '{cron,cron}', 'claimed as such');
select is((select count(*)::int from stepd.cron_fire('{4711}', '{2030-01-01 00:01+00}', '{2030-01-01 00:02+00}')), 0, 'an unknown schedule');
select is((select count(*)::int from stepd.cron_fire('{}', '{}', '{}')), 0, 'nothing due');
select throws_like($$select stepd.cron_fire('{1}', '{}', '{}')$$, 'schedule_ids: has another length%', 'arrays of different length');
update stepd.schedule set paused = true;
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2030-01-01 00:05+00}', '{2030-01-01 00:06+00}')), 0, 'a paused one does not fire');
update stepd.schedule set paused = false;
select stepd.configure('n1', replace(t.steps()::text, '* * * * *', '0 * * * *')::jsonb, '[]', '{}');
select results_eq('select expression, next_run, last_job_id from stepd.schedules', $$values ('0 * * * *', null::timestamptz, 2::bigint)$$, 'another expression: the next run is not known yet');
select stepd.configure('n1', '{"steps": []}', '[]', '{}');
select is((select count(*)::int from stepd.schedules), 0, 'no step, no schedule');
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2030-01-01 00:07+00}', '{2030-01-01 00:08+00}')), 0, 'and no tick');
select stepd.configure('n1', t.steps(), '[]', '{}');
select is((select last_run from stepd.schedules), '2030-01-01 00:01+00', 'it remembers when it comes back');
select is(t.sound(), 'sound', 'sound');

-- http, answered at once
select stepd.http_finish(:node, 55, 'Web', 0, '01890000-0000-7000-8000-000000000001', 'completed', 3000, 2000, '{"q": 1}', '{"status": 200}', null,
	'[{"job": 0, "enqueues": [{"topic": "std", "data": 1}], "states": [{"op": "set", "group": "g", "key": "k", "value": 1}], "logs": [{"at_us": 5, "level": "info", "message": "m"}]}]') as j \gset
select results_eq('select queue, step, status, trigger, attempt, max_attempts, input, output, trace_id, node, pid, duration from stepd.jobs where id = ' || :j,
	$$values ('Web', 'Web', 'completed', 'http', 1, 1, '{"q": 1}'::jsonb, '{"status": 200}'::jsonb, '01890000-0000-7000-8000-000000000001'::uuid, 'n1', 55, interval '2 ms')$$, 'an http run in the history');
select results_eq('select queue, trace_id, status from stepd.jobs where parent_id = ' || :j, $$values ('std', '01890000-0000-7000-8000-000000000001'::uuid, 'ready')$$, 'parent of what it enqueued');
select is((select count(*)::int from stepd.logs where job_id = :j), 1, 'its logs');
select is(stepd.state_get('g', 'k'), '1', 'its state');
select stepd.http_finish(:node, 55, 'Web', 0, null, 'crashed', 3000, 2000, '{}', null, 'signal 6', '[{"states": [{"op": "set", "group": "g", "key": "k", "value": 2}]}]') as j \gset
select results_eq('select status, error from stepd.jobs where id = ' || :j, $$values ('failed', 'signal 6')$$, 'a crash');
select is((select outcome from stepd.attempts where job_id = :j), 'crashed', 'is an attempt');
select is(stepd.state_get('g', 'k'), '1', 'without effects');
select stepd.http_finish(:node, 55, 'Web', 0, null, 'error', 3000, 2000, null, null, 'oops', '{"enqueues": [{"topic": "std"}, {"topic": "std", "always": true}]}') as j \gset
select is((select count(*)::int from stepd.jobs where parent_id = :j), 1, 'an error: only what is always');
select throws_ok($$select stepd.http_finish(1, 55, 'Nix', 0, null, 'completed', 1, 1, null, null, null, null)$$, '22023', 'step: "Nix" is not known', 'unknown step');
select throws_like($$select stepd.http_finish(1, 55, 'Web', 0, null, 'fine', 1, 1, null, null, null, null)$$, 'outcome: ''fine'' is none of%', 'unknown outcome');
select throws_ok($$select stepd.http_finish(1, 55, 'Web', 0, null, 'completed', 1, 1, '"\u0000"', null, null, null)$$, '22P05', null, '\u0000');

-- http, kept as jobs
select is(array(select job_id from stepd.http_accept('{Web,Web}', '{0,0}', '{1,2}', array[null, '01890000-0000-7000-8000-000000000002']::uuid[])), array[:j + 4, :j + 5]::bigint[], 'two accepted');
select results_eq(format('select input, trigger, status from stepd.jobs where id > %s + 3 order by id', :j), $$values ('1'::jsonb, 'http', 'ready'), ('2', 'http', 'ready')$$, 'in order');
select is((select trace_id from stepd.jobs where id = :j + 5), '01890000-0000-7000-8000-000000000002', 'with the trace');
select throws_like($$select stepd.http_accept('{Web}', '{0,1}', '{1}', '{null}')$$, 'steps: has another length%', 'arrays of different length');
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web,Web,Web,Web}', '{0,0,0,0}', '{1,1,2,1}', '{null,null,null,null}', '{a,b,b,a}')$$, :j),
	$$values (6::bigint, 'new'), (7, 'new'), (7, 'mismatch'), (6, 'again')$$, 'idempotency keys within a call');
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web,Web,Web}', '{0,0,0}', '{1,5,9}', '{null,null,null}', '{b,null,a}')$$, :j),
	$$values (7::bigint, 'again'), (8, 'new'), (6, 'mismatch')$$, 'and from another one');
update stepd.accepted_key set made_at = made_at - interval '25 hours' where key = 'a';
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web}', '{0}', '{9}', '{null}', '{a}')$$, :j),
	$$values (9::bigint, 'new')$$, 'a day later a key is new');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
