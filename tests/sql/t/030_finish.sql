begin;
select no_plan();
select t.setup() as node \gset

-- completed, with everything
select stepd.enqueue('std', '{"a": 1}') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, output => '{"r": 1}', effects => '{
	"enqueues": [{"topic": "fan", "data": {"b": 1}}, {"topic": "nobody", "data": 2}, {"topic": "prio", "priority": 7, "data": 3, "group": "g", "unique": "u"}, {"topic": "std", "delay_ms": 60000}],
	"states": [{"op": "set", "group": "g", "key": "k", "value": {"n": 1}}, {"op": "set", "group": "g", "key": "k2", "value": 2}, {"op": "delete", "group": "g", "key": "k2"}],
	"logs": [{"at_us": 1700000000123456, "level": "info", "message": "hello", "fields": {"x": 1}}, {"at_us": 1700000000123457, "level": "error", "message": "bye"}]}'), 'completed', 'completed');
select results_eq('select status, attempt, max_attempts, output, error, duration, node, pid, finished_at > started_at from stepd.jobs where id = 1',
	$$values ('completed', 1, 4, '{"r": 1}'::jsonb, null::text, interval '1 ms', 'n1', 7, true)$$, 'its outcome');
select is((select count(*)::int from stepd.attempts), 0, 'no row in attempts');
select results_eq('select queue, status, priority, group_id, unique_key, parent_id, trace_id = (select trace_id from stepd.jobs where id = 1) from stepd.jobs where id > 1 order by id',
	$$values ('fan', 'ready', 0, null::text, null::text, 1::bigint, true), ('fan', 'ready', 0, null, null, 1, true), ('nobody', 'unrouted', 0, null, null, 1, true),
		('prio', 'ready', 7, 'g', 'u', 1, true), ('std', 'scheduled', 0, null, null, 1, true)$$, 'its enqueues, with parent and trace');
select results_eq('select group_id, key, value from stepd.state', $$values ('g', 'k', '{"n": 1}'::jsonb)$$, 'its state');
select results_eq('select job_id, attempt, at, level, message, fields, step, trace_id = (select trace_id from stepd.jobs where id = 1) from stepd.logs order by at',
	$$values (1::bigint, 1, '2023-11-14 22:13:20.123456+00'::timestamptz, 'info', 'hello', '{"x": 1}'::jsonb, 'Std', true), (1, 1, '2023-11-14 22:13:20.123457+00', 'error', 'bye', null, 'Std', true)$$, 'its logs');
select is((select count(*)::int from stepd.lease), 0, 'the lease is gone');
select is(t.finish(:j, effects => '{"states": [{"op": "set", "group": "g", "key": "k", "value": 9}]}', lease => 1), 'refused', 'finishing again is refused');
select is((select value from stepd.state where key = 'k'), '{"n": 1}'::jsonb, 'and changes nothing');

select stepd.cancel(6);

-- error: retries with exponential back-off, then failed
select stepd.enqueue('std', '{"a": 2}') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'error', 'boom', effects => '{
	"enqueues": [{"topic": "prio", "data": "no"}, {"topic": "prio", "data": "yes", "always": true}],
	"states": [{"op": "set", "group": "g", "key": "failed", "value": true}], "logs": [{"at_us": 0, "level": "warn", "message": "oh"}]}'), 'retrying', 'an error is retried');
select results_eq('select status, attempt, max_attempts, error, round(extract(epoch from run_at - clock_timestamp()))::int, finished_at from stepd.jobs where id = ' || :j,
	$$values ('retrying', 1, 4, 'boom', 1, null::timestamptz)$$, 'in a second');
select is((select array_agg(input) from stepd.jobs where parent_id = :j), '{"\"yes\""}', 'only the enqueue marked always counts');
select is((select value from stepd.state where key = 'failed'), 'true', 'the state counts');
select is((select message from stepd.logs where job_id = :j), 'oh', 'the logs too');
select is(t.claim(1, 'Std'), '{}', 'not before its time');
select t.due();
select results_eq($$select job_id, attempt, max_attempts from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{99999}', '{9}', 9)$$, format('values (%s::bigint, 2, 4)', :j), 'then as attempt 2, before the cursor');
select is(t.finish(:j, 'error', 'boom 2'), 'retrying', 'again');
select is((select round(extract(epoch from run_at - clock_timestamp()))::int from stepd.waiting where id = :j), 2, 'in two seconds');
select t.due(), t.claim(1, 'Std');
select is(t.finish(:j, 'error', 'boom 3'), 'retrying', 'again');
select is((select round(extract(epoch from run_at - clock_timestamp()))::int from stepd.waiting where id = :j), 4, 'in four');
select t.due(), t.claim(1, 'Std');
select is(t.finish(:j, 'error', 'boom 4'), 'failed', 'the fourth is the last');
select results_eq('select status, attempt, max_attempts, error from stepd.jobs where id = ' || :j, $$values ('failed', 4, 4, 'boom 4')$$, 'failed');
select results_eq('select attempt, outcome, error, exit_code, signal, node, pid from stepd.attempts where job_id = ' || :j || ' order by attempt',
	$$values (1, 'error', 'boom', null::int, null::int, 'n1', 7), (2, 'error', 'boom 2', null, null, 'n1', 7), (3, 'error', 'boom 3', null, null, 'n1', 7), (4, 'error', 'boom 4', null, null, 'n1', 7)$$, 'all attempts are kept');
select is((select failed::int from stepd.queues where name = 'std'), 1, 'counted');

-- the other ways
select stepd.enqueue('once', '1') as j \gset
select t.claim(1, 'Once');
select is(t.finish(:j, 'error', 'x'), 'failed', 'maxRetries 0: runs once');
select stepd.enqueue('std', '1') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'fail', 'x', delay_ms => 5), 'failed', 'fail: no retry');
select is((select outcome from stepd.attempts where job_id = :j), 'error', 'its attempt is an error');
select stepd.enqueue('std', '1') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'invalid_input', 'x', effects => '{"states": [{"op": "set", "group": "g", "key": "invalid", "value": 1}]}'), 'failed', 'invalid input fails at once');
select is((select outcome from stepd.attempts where job_id = :j), 'invalid_input', 'its attempt says why');
select is((select count(*)::int from stepd.state where key = 'invalid'), 0, 'no effects: the handler never ran');
select stepd.enqueue('std', '1') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'skipped', output => '1'), 'skipped', 'skipped');
select results_eq('select status, output from stepd.jobs where id = ' || :j, $$values ('skipped', null::jsonb)$$, 'shown so');
select stepd.enqueue('std', '1') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'error', 'x', delay_ms => 7200000), 'retrying', 'retry after the delay that the handler gave');
select ok((select run_at - clock_timestamp() > interval '119 min' from stepd.waiting where id = :j), 'not capped');
select stepd.cancel(:j);
select stepd.enqueue('std', '1') as j \gset
select t.claim(1, 'Std');
select is(t.finish(:j, 'snooze', delay_ms => 60000, effects => '{"states": [{"op": "set", "group": "g", "key": "snoozed", "value": 1}]}'), 'snoozed', 'snoozed');
select results_eq('select status, attempt from stepd.jobs where id = ' || :j, $$values ('scheduled', 0)$$, 'scheduled again, no attempt used');
select is((select count(*)::int from stepd.attempts where job_id = :j), 0, 'and none recorded');
select is((select value from stepd.state where key = 'snoozed'), '1', 'but its state counts');
select t.due();
select results_eq($$select job_id, attempt from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{0}', '{9}', 9)$$, format('values (%s::bigint, 1)', :j), 'it comes again as the first attempt');
select is(t.finish(:j, 'cancelled', 'stopped'), 'cancelled', 'the handler saw the cancel and returned');
select stepd.cancel(id) from stepd.jobs where status in ('ready', 'scheduled');
select is(t.sound(), 'sound', 'sound');

-- at a time of the handler's choice
select stepd.enqueue('std') as j \gset
select t.claim(1, 'Std'), t.finish(:j, effects => '{"enqueues": [{"topic": "once", "run_at": "2090-01-01T00:00:00Z"}, {"topic": "once", "run_at": "2000-01-01T00:00:00Z"}]}');
select results_eq('select status, extract(year from run_at)::int = 2090 from stepd.jobs where parent_id = ' || :j || ' order by id', $$values ('scheduled', true), ('ready', false)$$, 'later, or now if it is past');
select stepd.cancel(id) from stepd.jobs where parent_id = :j;

-- of the enqueues of an attempt that did not complete only those marked "always" count, however it ended
create function pg_temp.children(outcome text, step text default 'Std') returns text language plpgsql as $$
declare
	j bigint := stepd.enqueue(lower(step));
	verdict text;
begin
	perform t.claim(1, step);
	verdict := t.finish(j, outcome, 'x', null, '{"enqueues": [{"topic": "nobody", "data": "no"}, {"topic": "nobody", "data": "yes", "always": true}],
		"states": [{"op": "set", "group": "children", "key": "k", "value": 1}]}');
	perform stepd.cancel(j);
	return format('%s: %s, state %s', verdict, (select string_agg(c.input #>> '{}', ' ' order by c.id) from stepd.jobs c where c.parent_id = j),
		stepd.state_delete('children', 'k'));
end $$;
select is(pg_temp.children('completed'), 'completed: no yes, state 1', 'completed: all');
select is(pg_temp.children('error'), 'retrying: yes, state 1', 'an error');
select is(pg_temp.children('error', 'Once'), 'failed: yes, state 1', 'the last error');
select is(pg_temp.children('fail'), 'failed: yes, state 1', 'fail');
select is(pg_temp.children('snooze'), 'snoozed: yes, state 1', 'snooze');
select is(pg_temp.children('skipped'), 'skipped: yes, state 1', 'skipped');
select is(pg_temp.children('cancelled'), 'cancelled: yes, state 1', 'cancelled by the handler');
select stepd.cancel(id) from stepd.jobs where status = 'unrouted';

-- a batch of all kinds
select stepd.enqueue_many('std', '[{}, {}, {}, {}, {}]');
select max(id) - 4 as a from stepd.jobs \gset
select t.claim(1, 'Std');
select t.lease(:a) as l \gset
select results_eq(format($$select * from stepd.finish(t.n(), 7, array[%1$s, %1$s, %1$s, 999, %1$s], array[%2$s, %2$s + 1, %2$s + 3, %2$s + 4, 4711]::bigint[],
		'{completed,error,fail,completed,completed}', '{9,9,9,9,9}', '{1,1,1,1,1}', null, null, null, null) order by job_id$$, :l, :a),
	format($$values (%1$s + 1::bigint, 'retrying'), (%1$s + 3, 'failed'), (%1$s + 4, 'refused'), (4711, 'refused')$$, :a), 'each gets its verdict, the foreign ones are refused');
select results_eq(format('select id, status from stepd.jobs where id >= %s order by id', :a),
	format($$values (%1$s::bigint, 'completed'), (%1$s + 1, 'retrying'), (%1$s + 2, 'running'), (%1$s + 3, 'failed'), (%1$s + 4, 'ready')$$, :a), 'and only the told ones move');
select is((select ids from stepd.lease where id = :l), array[:a + 2, :a + 4]::bigint[], 'the lease holds the rest, in order');
select is((select count(*)::int from stepd.finish(t.n() + 1, 7, array[:l, :l], array[:a + 2, :a + 4]::bigint[], '{completed,completed}', '{1,1}', '{1,1}', null, null, null, null) where verdict = 'refused'), 2, 'another node''s word is refused');
select is(array(select stepd.holds(n, l, j) from (values (t.n(), :l, :a + 4), (t.n() + 1, :l, :a + 4), (t.n(), :l + 1, :a + 4), (t.n(), :l, 4711::bigint)) v (n, l, j)),
	'{t,f,f,f}', 'held by its node, with its lease');
select is(stepd.release(array[:l, :l, :l], array[:a + 4, 4711, :a]::bigint[]), 1, 'release of what it holds, and only that');
select is(t.finish(:a + 4, lease => :l), 'refused', 'what was released cannot be finished');
select is(t.finish(:a + 2), 'completed', 'the other can');
select is((select count(*)::int from stepd.finish(t.n(), 7, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', null)), 0, 'nothing to finish');
select throws_ok($$select stepd.finish(t.n(), 7, null, null, null, null, null, null, null, null, null)$$, '22023', 'leases: must not be null', 'nulls');
select throws_like($$select stepd.finish(t.n(), 7, '{1}', '{1,2}', '{completed}', '{1}', '{1}', null, null, null, null)$$, 'jobs: has 2 elements, and leases has 1', 'arrays of different length');
select throws_like($$select stepd.finish(t.n(), 7, '{1}', '{1}', '{completed}', '{1}', '{1,2}', null, null, null, null)$$, 'durations_us: has 2 elements, and jobs has 1', 'also later ones');
select throws_like($$select stepd.finish(t.n(), 7, '{1}', '{1}', '{done}', '{1}', '{1}', null, null, null, null)$$, 'outcomes[1]: ''done'' is none of completed%', 'an unknown outcome');
savepoint mixed;
truncate stepd.ready;
select array_agg(j) as m from stepd.enqueue_many('std', '[{}, {}, {}, {}]') j \gset
select t.claim(11, 'Std', 2), t.claim(12, 'Std', 2);
select t.lease((:'m'::bigint[])[1]) as l1, t.lease((:'m'::bigint[])[3]) as l2 \gset
select results_eq(format($$select * from stepd.finish(t.n(), 7, '{%1$s,%1$s,%2$s,%2$s}', '{%3$s,%4$s,%5$s,999999}', array_fill('completed'::text, '{4}'), '{1,1,1,1}', '{1,1,1,1}', null, null, null, null)$$,
	:l1, :l2, (:'m'::bigint[])[1], (:'m'::bigint[])[2], (:'m'::bigint[])[3]), $$values (999999::bigint, 'refused')$$, 'as many as the leases hold, but one of them they do not');
select is((select array_agg(status order by id) from stepd.jobs where id = any (:'m'::bigint[])), '{completed,completed,completed,running}', 'the others are stored');
select is((select count(*)::int from stepd.outcome where id = any (:'m'::bigint[])), 3, 'once');
rollback to mixed;
select is(t.sound(), 'sound', 'sound');

-- what the database rejects
select t.claim(1, 'Std');
select t.claim(1, 'Prio');
select array_agg(j) from stepd.enqueue_many('std', '[{}]') j;
select max(id) as j from stepd.jobs \gset
select t.claim(5, 'Std');
select throws_ok(format($$select t.finish(%s, output => '"\u0000"')$$, :j), '22023', 'outputs[1]: unsupported Unicode escape sequence', '\u0000 in an output raises');
select throws_ok(format($$select * from stepd.finish(t.n(), 7, array[t.lease(%1$s)], array[%1$s]::bigint[], '{completed}', '{1}', '{1}', null, null, null, '[{"job": %1$s, "states": [{"op": "set", "group": "g", "key": "z", "value": "\u0000"}]}]')$$, :j), '22023', 'effects: unsupported Unicode escape sequence', '\u0000 in effects raises');
select throws_ok(format($$select t.finish(%s, output => 'nonsense')$$, :j), '22023', 'outputs[1]: invalid input syntax for type json', 'no JSON raises');
select throws_ok(format($$select t.finish(%s, effects => '{"enqueues": [{"topic": "std", "priority": 99999}]}')$$, :j), '22023', 'effects[0].enqueues[0].priority: 99999 is not a whole number between -32768 and 32767', 'a bad enqueue raises');
select throws_ok(format($$select t.finish(%s, effects => '{"enqueues": [{"data": 1}]}')$$, :j), '22023', 'effects[0].enqueues[0].topic: must not be empty', 'an enqueue without topic raises');
select throws_ok(format($$select t.finish(%s, effects => '{"states": [{"op": "set", "group": "", "key": "z", "value": 1}]}')$$, :j), '22023', 'effects[0].states[0].group: must not be empty', 'a bad state write raises');
select throws_like(format($$select t.finish(%s, effects => '{"states": [{"op": "zap", "group": "g", "key": "z"}]}')$$, :j), 'effects[0].states[0].op: "zap" is none of set, delete, clear, update', 'an unknown operation raises');
select is(t.status(:j), 'running', 'and it is held as before');
select is(t.finish(:j, 'error', 'rejected'), 'retrying', 'so its error can be recorded');

-- linear, fixed, cap, jitter
select is(array(select stepd._retry_delay(q, k) from stepd.queue q, generate_series(1, 4) k where q.name = 'std'), '{1s,2s,4s,8s}'::interval[], 'exponential');
update stepd.queue set backoff = 'linear' where name = 'std';
select is(array(select stepd._retry_delay(q, k) from stepd.queue q, generate_series(1, 4) k where q.name = 'std'), '{1s,2s,3s,4s}'::interval[], 'linear');
update stepd.queue set backoff = 'fixed' where name = 'std';
select is(array(select stepd._retry_delay(q, k) from stepd.queue q, generate_series(1, 4) k where q.name = 'std'), '{1s,1s,1s,1s}'::interval[], 'fixed');
update stepd.queue set backoff = 'exponential', max_retry_delay_ms = 5000 where name = 'std';
select is(array(select stepd._retry_delay(q, k) from stepd.queue q, unnest('{3,4,29999}'::int[]) k where q.name = 'std'), '{4s,5s,5s}'::interval[], 'capped');
update stepd.queue set backoff = 'fixed', jitter = 0.1 where name = 'std';
select ok(min(d) >= interval '0.9 s' and max(d) <= interval '1.1 s' and min(d) < interval '0.95 s' and max(d) > interval '1.05 s', 'jitter') from (
	select stepd._retry_delay(q, 1) d from stepd.queue q, generate_series(1, 1000) where q.name = 'std') x;
update stepd.queue set jitter = 1, retry_delay_ms = 10000, max_retry_delay_ms = 10000 where name = 'std';
select ok(max(d) = interval '10 s' and min(d) < interval '9 s', 'the cap holds for what the jitter makes of it') from (
	select stepd._retry_delay(q, 1) d from stepd.queue q, generate_series(1, 1000) where q.name = 'std') x;
-- an attempt that ended past its time: nothing of it counts
select stepd.enqueue('std', '{}') as late \gset
select t.claim(1, 'Std');
select is(t.finish(:late, 'timeout', 'timed out after 5 ms', null, '{"states": [{"op": "set", "group": "late", "key": "k", "value": 1}], "enqueues": [{"topic": "nobody", "always": true}], "logs": [{"at_us": 1, "level": "info", "message": "late"}]}'), 'retrying', 'past its time');
select is((select outcome || ': ' || error from stepd.attempts where job_id = :late), 'timeout: timed out after 5 ms', 'is recorded as that');
select is((select count(*)::int from stepd.state where group_id = 'late') + (select count(*)::int from stepd.jobs where queue = 'nobody' and parent_id = :late) + (select count(*)::int from stepd.logs where job_id = :late), 0, 'and void');

-- a unique key is handed on to what its own job enqueues as it ends, and stays with it when it does not end
create function pg_temp.again(outcome text) returns text language plpgsql as $$
declare
	j bigint := stepd.enqueue('std', '{}', unique_key => 'again ' || outcome);
	verdict text;
begin
	perform t.claim(1, 'Std');
	verdict := t.finish(j, outcome, 'x', null, jsonb_build_object('enqueues', jsonb_build_array(
		jsonb_build_object('topic', 'std', 'unique', 'again ' || outcome, 'always', true), jsonb_build_object('topic', 'std', 'unique', 'again ' || outcome, 'always', true))));
	return format('%s, %s new, the key is of %s', verdict, (select count(*) from stepd.jobs x where x.unique_key = 'again ' || outcome and x.id > j),
		(select case when k.job_id = j then 'the same' when k.job_id > j then 'the new one' end from stepd.unique_job k where k.key = 'again ' || outcome));
end $$;
select is(pg_temp.again('completed'), 'completed, 1 new, the key is of the new one', 'a job that enqueues itself with its key');
select is(pg_temp.again('error'), 'retrying, 0 new, the key is of the same', 'one that is retried has it still');
select is(pg_temp.again('fail'), 'failed, 1 new, the key is of the new one', 'one that failed has not');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
