begin;
select no_plan();
select t.setup() as n \gset

-- who is who
select throws_ok($$select stepd.worker_here(1, 1, 1, 0)$$, '22023', 'pid: 0 is not the number of a process', 'no process');
select throws_ok($$select stepd.worker_here(1, null, 1, 5)$$, '22023', 'slot: must not be null', 'no slot');
select stepd.enqueue_many('std', '[{}, {}]');
select t.claim(1, 'Std', 2);
select is((select pid from stepd.jobs where id = 1), null, 'a worker that has not said who it is');
select stepd.worker_here(:n, 1, 1, 77), stepd.worker_here(:n, 1, 1, 77), stepd.worker_here(:n, 2, 1, 78);
select results_eq('select id, status, node, pid from stepd.jobs order by id', $$values (1::bigint, 'running', 'n1', 77), (2, 'ready', null, null)$$,
	'of what runs, not of what is held behind it');
select stepd.worker_here(:n + 1, 1, 1, 77);
select is((select count(*)::int from stepd.worker where node_id = :n + 1), 0, 'nobody of a node that there is not');
select stepd.worker_here(:n, 1, 2, 79);
select is((select pid from stepd.jobs where id = 1), null, 'not that of the slot''s next life');

-- reports
select is(stepd.progress_report(:n, t.lease(1), 1, '{"percent": 12.5, "message": "m", "fields": {"a": 1}}'), true, 'reported');
select is((select progress - 'at' from stepd.jobs where id = 1), '{"percent": 12.5, "message": "m", "fields": {"a": 1}, "attempt": 1}', 'shown');
select ok((select (progress ->> 'at')::timestamptz from stepd.jobs where id = 1) between now() and clock_timestamp(), 'with its time');
select is(stepd.progress_report(:n, t.lease(1), 1, '{"percent": 20}'), true, 'again');
select is((select progress - 'at' from stepd.jobs where id = 1), '{"percent": 20, "attempt": 1}', 'the last one counts, all of it');
select is((select progress from stepd.jobs where id = 2), null, 'of that job alone');
select throws_ok(format('select stepd.progress_report(%s, %s, 1, ''[1]'')', :n, t.lease(1)), '22023', 'progress: is not an object', 'no object');
select throws_ok(format('select stepd.progress_report(%s, %s, 1, null)', :n, t.lease(1)), '22023', 'progress: is not an object', 'null');

-- the fence: another node, another lease, another job, a job that has left its lease
select is(stepd.progress_report(:n + 1, t.lease(1), 1, '{}'), false, 'another node');
select is(stepd.progress_report(:n, t.lease(1) + 1, 1, '{}'), false, 'another lease');
select is(stepd.progress_report(:n, t.lease(1), 3, '{}'), false, 'another job');
select throws_ok($$select stepd.progress_report(null, null, null, '{}')$$, '22023', 'node_id: must not be null', 'nothing');
select t.lease(1) as lease \gset
select is(t.finish(1, 'error', 'e', 0), 'retrying', 'it ends');
select is(stepd.progress_report(:n, :lease, 1, '{}'), false, 'too late');
select is((select progress ->> 'percent' from stepd.jobs where id = 1), '20', 'and changed nothing; what was said stays while it waits');

-- with the outcome
select stepd.promote(10);
select t.claim(1, 'Std', 1);
select is((select progress from stepd.jobs where id = 1 and attempt = 2), null, 'the next attempt begins anew');
select is(t.finish(1, effects => '{"progress": {"percent": 100}}'), 'completed', 'told with the outcome');
select is((select progress - 'at' from stepd.jobs where id = 1), '{"percent": 100, "attempt": 2}', 'and shown afterwards');
select is(t.finish(2, 'error', 'e', 0, '{"progress": {"message": "half"}, "states": [{"op": "set", "group": "g", "key": "k", "value": 1}]}'), 'retrying', 'with an error too');
select is((select progress ->> 'message' from stepd.jobs where id = 2), 'half', 'it stays');

-- retention
select is(stepd._forget(q.id, clock_timestamp() + interval '1 hour'), 1::bigint, 'forgotten') from stepd.queue q where q.name = 'std';
select is((select array_agg(job_id) from stepd.progress), '{2}', 'with its progress');
update stepd.node set left_at = now() where id = :n;
select stepd.maintain('30 days');
select is((select count(*)::int from stepd.worker), 0, 'workers of nodes that are gone are forgotten');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
