begin;
select no_plan();
select t.setup() as node \gset

-- what comes, and in which order
select stepd.enqueue_many('std', '[{"data": 1}, {"data": 2}, {"data": 3}]');
select results_eq($$select job_id, attempt, max_attempts, trigger, trigger_index, queue, group_id, parent_id, input, cursor
		from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{0}', '{2}', 10)$$,
	$$values (1::bigint, 1, 4, 'queue', 0, 'std', null::text, null::bigint, '1', 2::bigint), (2, 1, 4, 'queue', 0, 'std', null, null, '2', 2)$$, 'the oldest, up to the lane''s max');
select is(t.status(1), 'running', 'the first of the batch runs');
select is(t.status(2), 'ready', 'the second is ready still');
select results_eq('select node, attempt, started_at is not null from stepd.jobs where id = 1', $$values ('n1', 1, true)$$, 'the running one shows its node and attempt');
select is(t.claim(2, 'Std'), '{3}', 'another worker gets the rest');
select is(t.claim(2, 'Std'), '{}', 'and then nothing');
select is((select running::int from stepd.queues where name = 'std'), 2, 'two run');
select is((select ready::int from stepd.queues where name = 'std'), 1, 'one is ready');
select is((select array_agg(running::int) from stepd.nodes), '{2}', 'the node says so too');
select is(t.sound(), 'sound', 'sound');

-- total, several lanes
select stepd.enqueue_many('std', '[{}, {}, {}]'), stepd.enqueue_many('fan', '[{}]');
select is((select array_agg(lane_id) from stepd.claim(t.n(), 3, 1, array[t.lane('Fan1'), t.lane('Std')], '{0,0}', '{10,10}', 3)),
	array[t.lane('Fan1'), t.lane('Std'), t.lane('Std')], 'lanes in the order given, up to the total');
select is((select count(distinct id)::int from stepd.lease where slot = 3), 2, 'a lease for each lane');
select is((select count(*)::int from stepd.jobs j where j.status = 'running'), 3, 'still one running for each worker');
select results_eq($$select lane_id from stepd.claim(t.n(), 4, 1, '{-5}', '{0}', '{10}', 10)$$, 'select 1 where false', 'unknown lane');
select throws_ok($$select stepd.claim(t.n(), 4, 1, '{1}', '{0,0}', '{10}', 10)$$, '22023', null, 'arrays of different length');
select is((select count(*)::int from stepd.claim(t.n(), 4, 1, '{}', '{}', '{}', 10)), 0, 'no lanes');
select is((select count(*)::int from stepd.claim(t.n(), 4, 1, null, null, null, null)), 0, 'nulls');
select is(t.claim(4, 'Std', 0), '{}', 'none wanted');
select is(t.claim(4, 'Std', -1), '{}', 'fewer than none wanted');

-- the cursor
select stepd.enqueue_many('once', '[{}, {}, {}, {}]');
select min(id) as a from stepd.jobs where queue = 'once' \gset
select is(t.claim(1, 'Once', 2, null, :a), array[:a + 1, :a + 2]::bigint[], 'a cursor skips what is below');
select is(t.claim(1, 'Once', 2, null, :a + 2), array[:a + 3]::bigint[], 'goes on');
select is(t.claim(1, 'Once', 2, null, :a + 3), '{}', 'finds nothing behind it');
select is(t.claim(1, 'Once', 2, null, 0), array[:a]::bigint[], 'but 0 does');
select stepd.release(array[t.lease(:a)], array[:a]::bigint[]);
select is(t.claim(1, 'Once', 2, null, :a + 3), array[:a]::bigint[], 'what was given back comes before the cursor');
select is((select cursor from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{77777777}', '{1}', 1)), null, 'none, no row');

-- priority
select array_agg(j) from stepd.enqueue_many('prio', '[{"priority": 0}, {"priority": -5}, {"priority": 32767}, {"priority": 0}, {"priority": -32768}, {"priority": 5}]') j;
select min(id) as a from stepd.jobs where queue = 'prio' \gset
select is(t.claim(1, 'Prio', 100, null, 999999), array[:a + 2, :a + 5, :a, :a + 3, :a + 1, :a + 4]::bigint[], 'higher first, then older; the cursor does not matter');
select stepd.release(array[t.lease(:a), t.lease(:a)], array[:a, :a + 4]::bigint[]);
select is(t.claim(1, 'Prio'), array[:a, :a + 4]::bigint[], 'also when they come again');

-- maxConcurrency
select stepd.enqueue_many('lim', '[{"data": 1}, {"data": 2}, {"data": 3}]');
select t.claim(1, 'Lim', 1) as got \gset
select is(cardinality(:'got'::bigint[]), 1, 'the first worker gets one');
select is(t.claim(2, 'Lim'), '{}', 'a second worker none');
select is(cardinality(t.claim(1, 'Lim', 1)), 1, 'the first may take more: it runs one at a time');
select t.node('n3') as n3 \gset
select is(t.claim(1, 'Lim', 1, :n3), '{}', 'nor a worker of another node, though its slot has the same number');
delete from stepd.node where id = :n3;
select t.finish((:'got'::bigint[])[1]);
select is(t.claim(2, 'Lim', 1, :node), '{}', 'still not');
select stepd.release(array_agg(l.id), array_agg(l.ids[1])) from stepd.lease l where l.lane_id = t.lane('Lim');
select is(cardinality(t.claim(2, 'Lim')), 2, 'now');
select is(t.claim(1, 'Lim'), '{}', 'and not the first any more');

-- pause
select stepd.enqueue('std', '"p"') as p \gset
select is(stepd.pause('std'), true, 'paused');
select is(stepd.pause('std'), false, 'it was');
select is(t.claim(9, 'Std'), '{}', 'nothing from a paused queue');
select is((select paused from stepd.queues where name = 'std'), true, 'shown');
select count(stepd.pause(name)) from stepd.queues where not paused;
select is((select ready from stepd.promote(10)), false, 'and no work to wake for');
select is(stepd.resume('std'), true, 'resumed');
select is((select ready from stepd.promote(10)), true, 'work again');
select ok(t.claim(9, 'Std') @> array[:p::bigint], 'claimed');
select throws_ok($$select stepd.pause('none')$$, '22023', 'queue: there is no queue "none"', 'unknown queue');
select throws_ok($$select stepd.pause(null)$$, '22023', 'queue: must not be empty', 'null queue');

-- who may
select stepd.enqueue('std', '"w"');
select is(t.claim(1, 'Std', 10, 4711), '{}', 'an unknown node gets nothing');
select t.node('n2') as n2 \gset
update stepd.node set heartbeat_at = now() - interval '1 day', lease_ms = 1000 where id = :n2;
select is(stepd._node_lives(n), now() < pg_postmaster_start_time() + interval '1 s', 'a silent node does not live') from stepd.node n where id = :n2;
update stepd.node set lost_at = now() where id = :n2;
select is(t.claim(1, 'Std', 10, :n2), '{}', 'a lost one gets nothing');
select is(t.sound(), 'sound', 'sound');

-- job of many sizes: the lease holds what one batch can be
select stepd.enqueue_many('std', (select jsonb_agg('{}'::jsonb) from generate_series(1, 5000)));
select is(cardinality(t.claim(77, 'Std', 5000, :node)), 5000, 'a batch of 5000');
select is((select count(*)::int from stepd.jobs where status = 'running' and id in (select unnest(ids) from stepd.lease where slot = 77)), 1, 'of which one runs');
select * from finish();
rollback;
