begin;
select no_plan();
select t.setup() as node \gset

select results_eq($$select step, trigger_index, expression, timezone, last_fire <= clock_timestamp(), paused from stepd.schedules_load('{Tick,Std}')$$, $$values ('Tick', 0, '* * * * *', 'UTC', true, false)$$, 'schedules');
select schedule_id as s from stepd.schedules_load('{Tick}') \gset
-- ticks of long ago: those of the future are refused, and these can be compared with
update stepd.schedule set since = '2019-01-01';
select stepd.cron_next(array[:s], '{2020-01-01 00:00+00}');
select is((select next_run from stepd.schedules), '2020-01-01 00:00+00', 'the next run is shown');
select results_eq(format($$select * from stepd.cron_fire('{%1$s,%1$s}', '{2020-01-01 00:00+00,2020-01-01 00:01+00}', '{2020-01-01 00:01+00,2020-01-01 00:02+00}')$$, :s),
	format('values (%1$s, 1::bigint), (%1$s, 2)', :s), 'two ticks, two jobs');
select is((select count(*)::int from stepd.cron_fire(array[:s, :s], '{2020-01-01 00:01+00,2020-01-01 00:00+00}', '{2020-01-01 00:02+00,2020-01-01 00:01+00}')), 0, 'a tick fires once');
select results_eq('select step, expression, timezone, next_run, last_run, last_job_id from stepd.schedules', $$values ('Tick', '* * * * *', 'UTC', '2020-01-01 00:02+00'::timestamptz, '2020-01-01 00:01+00'::timestamptz, 2::bigint)$$, 'shown');
select is((select last_fire from stepd.schedules_load('{Tick}')), '2020-01-01 00:01+00', 'and loaded');
select results_eq('select queue, step, trigger, status, input - ''firedAt'' from stepd.jobs', $$values
	('Tick', 'Tick', 'cron', 'ready', '{"scheduledAt": "2020-01-01T00:00:00.000Z", "expression": "* * * * *", "timezone": "UTC", "manual": false}'::jsonb),
	('Tick', 'Tick', 'cron', 'ready', '{"scheduledAt": "2020-01-01T00:01:00.000Z", "expression": "* * * * *", "timezone": "UTC", "manual": false}')$$, 'jobs of the step''s own queue');
select is((select count(distinct trace_id)::int from stepd.jobs), 2, 'each tick begins a workflow run');
select ok((select bool_and((input ->> 'firedAt')::timestamptz between now() and clock_timestamp() + interval '1 ms') from stepd.jobs), 'the actual time');
select is((select last_outcome from stepd.schedules), 'ready', 'the outcome so far');
select is((select array_agg(trigger) from stepd.claim(t.n(), 1, 1, array[t.lane('Tick')], '{0}', '{9}', 9)), '{cron,cron}', 'claimed as such');
select is((select count(*)::int from stepd.cron_fire('{4711}', '{2020-01-01 00:01+00}', '{2020-01-01 00:02+00}')), 0, 'an unknown schedule');
select is((select count(*)::int from stepd.cron_fire('{}', '{}', '{}')), 0, 'nothing due');
select throws_ok($$select stepd.cron_fire('{1}', array[now() + interval '3661 days'], array[now() + interval '3662 days'])$$, '22023', 'fire_at[1]: ' || (now() + interval '3661 days')::text || ' is more than ten years ahead', 'a tick far ahead would be the last one');
select throws_like($$select stepd.cron_fire('{1}', '{}', '{}')$$, 'schedule_ids: has 1 elements, and fire_at has 0', 'arrays of different length');
update stepd.schedule set paused = true;
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2020-01-01 00:05+00}', '{2020-01-01 00:06+00}')), 0, 'a paused one does not fire');
update stepd.schedule set paused = false;
select stepd.configure('n1', replace(t.steps()::text, '* * * * *', '0 * * * *')::jsonb, '[]', '{}');
select results_eq('select expression, next_run, last_job_id from stepd.schedules', $$values ('0 * * * *', null::timestamptz, 2::bigint)$$, 'another expression: the next run is not known yet');
select stepd.configure('n1', '{"steps": []}', '[]', '{}');
select is((select count(*)::int from stepd.schedules), 0, 'no step, no schedule');
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2020-01-01 00:07+00}', '{2020-01-01 00:08+00}')), 0, 'and no tick');
select stepd.configure('n1', t.steps(), '[]', '{}');
select is((select last_run from stepd.schedules), '2020-01-01 00:01+00', 'it remembers when it comes back');
select is(t.sound(), 'sound', 'sound');

-- a tick computed from an expression of before
update stepd.schedule set since = '2019-01-01';
select revision as r from stepd.schedules_load('{Tick}') \gset
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2020-01-02 00:00+00}', '{2020-01-02 00:01+00}', array[:r - 1])), 0, 'of another revision: not taken');
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2020-01-02 00:00+00}', '{2020-01-02 00:01+00}', array[:r])), 1, 'of this one: taken');
select throws_like($$select stepd.cron_fire('{1}', '{2020-01-02 00:00+00}', '{2020-01-02 00:00+00}', '{}')$$, 'revisions: has 0 elements, and schedule_ids has 1', 'revisions of another length');

-- policies
select stepd.configure('n1', replace(t.steps()::text, '"* * * * *"', '"* * * * *", "missed": "all", "catchUpLimit": 3600000, "overlap": "skip"')::jsonb, '[]', '{}');
select results_eq('select missed, catch_up_limit, overlap, skipped from stepd.schedules', $$values ('all', interval '1 hour', 'skip', 0::bigint)$$, 'policies are shown');
select results_eq('select missed, catch_up_ms from stepd.schedules_load(''{Tick}'')', $$values ('all', 3600000::bigint)$$, 'and loaded');
select is((select revision from stepd.schedules_load('{Tick}')), :r, 'a policy is no other calendar');
select results_eq(format($$select job_id is null from stepd.cron_fire('{%1$s,%1$s,%1$s}', '{2020-01-03 00:00+00,2020-01-03 00:01+00,2020-01-03 00:02+00}', '{2020-01-03 00:01+00,2020-01-03 00:02+00,2020-01-03 00:03+00}')$$, :s),
	'values (false), (true), (true)', 'overlap = skip: one of three');
select results_eq('select last_run, skipped, next_run from stepd.schedules', $$values ('2020-01-03 00:00+00'::timestamptz, 2::bigint, '2020-01-03 00:03+00'::timestamptz)$$, 'shown');
select is((select last_fire from stepd.schedules_load('{Tick}')), '2020-01-03 00:02+00', 'those left out do not come again');
select is((select count(*)::int from stepd.cron_fire(array[:s], '{2020-01-03 00:01+00}', '{2020-01-03 00:02+00}')), 0, 'not even when asked');
select last_job_id as j from stepd.schedules \gset
select is(stepd.run('Tick'), :j::bigint, 'run: the unfinished one');
select stepd.cancel(:j);
select is((select last_outcome from stepd.schedules), 'cancelled', 'the last outcome');
select stepd.run('Tick') as m \gset
select ok(:m > :j, 'run: a job');
select results_eq('select trigger, step, input ->> ''manual'', input ->> ''expression'' from stepd.jobs where id = ' || :m, $$values ('cron', 'Tick', 'true', '* * * * *')$$, 'like a tick''s');
select is((select last_job_id from stepd.schedules), :j::bigint, 'but it is none');
select is((select job_id from stepd.cron_fire(array[:s], '{2020-01-03 00:03+00}', '{2020-01-03 00:04+00}')), null, 'a tick meanwhile is left out');
select throws_ok($$select stepd.run('Nix')$$, '22023', 'step: there is no step "Nix"', 'run: unknown step');
select throws_ok($$select stepd.run('Std')$$, '22023', 'step: "Std" has no cron trigger', 'run: no cron trigger');
select throws_ok($$select stepd.run('Tick', 3)$$, '22023', 'trigger_index: trigger 3 of "Tick" is not a cron trigger', 'run: not that trigger');
select throws_ok($$select stepd.run(null)$$, '22023', 'step: must not be null', 'run: null');
select throws_ok($$select stepd.configure('n1', '{"steps": [{"name": "T", "triggers": [{"type": "cron", "expression": "@daily", "missed": "most"}]}]}', '[]', '{}')$$, '22023', 'manifest.steps[0].triggers[0].missed: "most" is none of skip, one, all', 'an unknown policy');

-- pause and resume
select version as v from stepd.setting \gset
select ok(stepd.pause_schedule('Tick'), 'pause');
select ok(not stepd.pause_schedule('Tick'), 'paused already');
select is((select version from stepd.setting), (:v + 1)::bigint, 'the nodes are told once');
select results_eq('select paused, next_run from stepd.schedules', 'values (true, null::timestamptz)', 'shown');
select stepd.configure('n1', t.steps(), '[]', '{}');
select ok((select paused from stepd.schedules), 'a reload does not resume it');
select ok(stepd.resume_schedule('Tick', 0), 'resume');
select ok(not stepd.resume_schedule('Tick'), 'not paused');
select ok((select last_fire > now() from stepd.schedules_load('{Tick}')), 'what the pause swallowed was not missed');
select stepd.configure('n1', jsonb_build_object('steps', t.steps() -> 'steps' || jsonb_build_object('name', 'Many', 'triggers',
	(select jsonb_agg(jsonb_build_object('type', 'cron', 'expression', '* * * * *')) from generate_series(1, 10000)))), '[]', '{}');
select array_agg(schedule_id) as many from stepd.schedules_load('{Many}') \gset
select clock_timestamp() as began \gset
select is((select count(*)::int from stepd.cron_fire(:'many', array_fill('2020-01-05 00:00+00'::timestamptz, array[10000]),
	array_fill('2020-01-05 00:01+00'::timestamptz, array[10000]))), 10000, '10,000 due in one second');
select ok(clock_timestamp() - :'began' < interval '8 s', 'brought in one go');
select throws_ok($$select stepd.pause_schedule('Nix')$$, '22023', 'step: there is no step "Nix"', 'pause: unknown step');
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
select :j as j2 \gset
select is((select outcome from stepd.attempts where job_id = :j), 'crashed', 'is an attempt');
select is(stepd.state_get('g', 'k'), '1', 'without effects');
select stepd.http_died(:node, 55, 'Web', 0, '01890000-0000-7000-8000-000000000002', e, 'crashed', 3000, 2000, null, 'died', null, 9, null, 7) as j,
	stepd.http_died(:node, 55, 'Web', 0, '01890000-0000-7000-8000-000000000002', e, 'crashed', 3000, 2000, null, 'perhaps died', null, null, 4096, 8) as j3,
	stepd.http_died(:node, 55, 'Web', 0, '01890000-0000-7000-8000-000000000002', gen_random_uuid(), 'crashed', 3000, 2000, null, 'died', null, 9, 4096, 8) as j4
from (select '11890000-0000-4000-8000-000000000001'::uuid e) x \gset
select ok(:j = :j3 and :j <> :j4, 'a death is recorded once, another one of the same trace again');
select results_eq('select outcome, error, signal, exit_code, max_rss_kb, cpu_ms, pid from stepd.attempts where job_id = ' || :j,
	$$values ('crashed', 'died (error id 11890000-0000-4000-8000-000000000001)', 9, null::int, 4096::bigint, 7::bigint, 55)$$, 'a death with what is known of it');
select stepd.http_finish(:node, 55, 'Web', 0, null, 'error', 3000, 2000, null, null, 'oops', '{"enqueues": [{"topic": "std"}, {"topic": "std", "always": true}]}') as j \gset
select is((select count(*)::int from stepd.jobs where parent_id = :j), 1, 'an error: only what is always');
select throws_ok($$select stepd.http_finish(1, 55, 'Nix', 0, null, 'completed', 1, 1, null, null, null, null)$$, '22023', 'step: "Nix" is not known', 'unknown step');
select throws_like($$select stepd.http_finish(1, 55, 'Web', 0, null, 'fine', 1, 1, null, null, null, null)$$, 'outcome: ''fine'' is none of%', 'unknown outcome');
select throws_ok($$select stepd.http_finish(1, 55, 'Web', 0, null, 'completed', 1, 1, '"\u0000"', null, null, null)$$, '22023', 'input: unsupported Unicode escape sequence', '\u0000');

-- http, kept as jobs
select is(array(select job_id from stepd.http_accept('{Web,Web}', '{0,0}', '{1,2}', array[null, '01890000-0000-7000-8000-000000000002']::uuid[])), array[:j + 4, :j + 5]::bigint[], 'two accepted');
select results_eq(format('select input, trigger, status from stepd.jobs where id > %s + 3 order by id', :j), $$values ('1'::jsonb, 'http', 'ready'), ('2', 'http', 'ready')$$, 'in order');
select is((select trace_id from stepd.jobs where id = :j + 5), '01890000-0000-7000-8000-000000000002', 'with the trace');
select throws_like($$select stepd.http_accept('{Web}', '{0,1}', '{1}', '{null}')$$, 'trigger_indexes: has 2 elements, and steps has 1', 'arrays of different length');
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web,Web,Web,Web}', '{0,0,0,0}', '{1,1,2,1}', '{null,null,null,null}', '{a,b,b,a}')$$, :j),
	$$values (6::bigint, 'new'), (7, 'new'), (7, 'mismatch'), (6, 'again')$$, 'idempotency keys within a call');
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web,Web,Web}', '{0,0,0}', '{1,5,9}', '{null,null,null}', '{b,null,a}')$$, :j),
	$$values (7::bigint, 'again'), (8, 'new'), (6, 'mismatch')$$, 'and from another one');
update stepd.accepted_key set made_at = made_at - interval '25 hours' where key = 'a';
select results_eq(format($$select job_id - %s, verdict from stepd.http_accept('{Web}', '{0}', '{9}', '{null}', '{a}')$$, :j),
	$$values (9::bigint, 'new')$$, 'a day later a key is new');
select length(stepd.http_key()) as keylen \gset
select is(:keylen, 64, 'a key of 256 bits');
select job_id as acc from stepd.http_accept('{Web}', '{0}', '{1}', '{null}') \gset
select results_eq(format($$select ended, document::jsonb - 'enqueuedAt' from stepd.http_jobs(array[%s, %s, 0], '{f,t,f}', true)$$, :acc, :acc),
	format($$values (false, '{"jobId": %s, "status": "ready", "attempt": 0, "maxAttempts": 4}'::jsonb), (false, null), (false, null)$$, :acc),
	'the status of an accepted request, of one that is waited for, of an unknown one');
select results_eq(format($$select ended, document::jsonb -> 'status' from stepd.http_jobs(array[%s], '{t}', false)$$, :j2),
	$$values (true, '"failed"'::jsonb)$$, 'of one that has ended');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
