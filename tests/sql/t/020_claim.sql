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
select results_eq($$select lane_id from stepd.claim(t.n(), 4, 1, '{2147483647}', '{0}', '{10}', 10)$$, 'select 1 where false', 'unknown lane');
select throws_ok($$select stepd.claim(t.n(), 4, 1, '{1}', '{0,0}', '{10}', 10)$$, '22023', null, 'arrays of different length');
select is((select count(*)::int from stepd.claim(t.n(), 4, 1, '{}', '{}', '{}', 10)), 0, 'no lanes');
select throws_ok($$select stepd.claim(t.n(), 4, 1, null, null, null, null)$$, '22023', 'lanes: must not be null', 'nulls');
select is(t.claim(4, 'Std', 0), '{}', 'none wanted');

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

-- a large batch is named by the claim and read after it
select stepd.resume('once');
select array(select stepd.enqueue_many('once', (select jsonb_agg(jsonb_build_object('data', i, 'group', 'g' || i)) from generate_series(1, 20) i))) as ids \gset
select (:'ids'::bigint[])[1] as a \gset
select results_eq($$select c.lane_id, c.job_id, c.input, c.cursor from stepd.claim(t.n(), 5, 1, array[t.lane('Once')], '{0}', '{99}', 99, 16) c$$,
	format('values (%s, null::bigint, null::text, %s::bigint)', t.lane('Once'), :a + 19), 'one row for a batch of 20');
select t.lease(:a) as lease \gset
select results_eq(format('select lease_id, lane_id, job_id, attempt, max_attempts, trigger, queue, group_id, input from stepd.claimed(t.n(), 5, 1, array[%s::bigint])', :lease),
	format($$select %s::bigint, %s, %s::bigint + i, 1, 1, 'queue', 'once', 'g' || i + 1, (i + 1)::text from generate_series(0, 19) i$$, :lease, t.lane('Once'), :a), 'and what is in it');
select is((select count(*)::int from stepd.claimed(t.n(), 6, 1, array[:lease::bigint])), 0, 'not for another worker');
select is((select count(*)::int from stepd.claimed(t.n(), 5, 2, array[:lease::bigint])), 0, 'nor for another life of this one');
select is((select count(*)::int from stepd.claimed(t.n() + 1, 5, 1, array[:lease::bigint])), 0, 'nor another node');
select is((select count(*)::int from stepd.claimed(t.n(), 5, 1, array[:lease + 1])), 0, 'nor of another lease');
select throws_ok($$select stepd.claimed(t.n(), 5, 1, null)$$, '22023', 'leases: must not be null', 'nor of none');
select is(stepd.release(array[:lease::bigint, :lease], array[:a + 3, :a + 7]), 2, 'two were given back meanwhile');
select is((select array_agg(job_id - :a) from stepd.claimed(t.n(), 5, 1, array[:lease::bigint])), '{0,1,2,4,5,6,8,9,10,11,12,13,14,15,16,17,18,19}', 'they are in it no more');
select is(stepd.release(array_agg(l.id), array_agg(j)), 18, 'all given back') from stepd.lease l, unnest(l.ids) j where l.id = :lease;
update stepd.ready set attempt = 3 where pos = :a + 5;
select is((select array_agg(job_id - :a || ':' || attempt) from stepd.claim(t.n(), 5, 1, array[t.lane('Once')], '{0}', '{20}', 20) c where attempt > 1),
	array['5:4'], 'attempts by job');
select stepd.release(array_agg(l.id), array_agg(j)) from stepd.lease l, unnest(l.ids) j where l.slot = 5;
update stepd.ready set rank = 0 where pos <> :a + 5 and lane_id = t.lane('Once');
select is((select array_agg(job_id - :a) from stepd.claim(t.n(), 5, 1, array[t.lane('Once')], '{0}', '{20}', 20)),
	'{5,0,1,2,3,4,6,7,8,9,10,11,12,13,14,15,16,17,18,19}', 'in the order in which they are to run');
select stepd.release(array_agg(l.id), array_agg(j)) from stepd.lease l, unnest(l.ids) j where l.slot = 5;
update stepd.job set bucket = bucket + 1 where id between :a + 4 and :a + 6;
update stepd.ready set bucket = bucket + 1 where pos between :a + 4 and :a + 6;
select is((select array_agg(job_id - :a) from stepd.claim(t.n(), 5, 1, array[t.lane('Once')], '{0}', '{20}', 20)), array(select generate_series(0, 19)::bigint), 'of several days');
savepoint rewritten;
-- what claimed() reads, whether the jobs of a batch lie close together, far apart, or out of order
create function pg_temp.read(ids bigint[], attempts smallint[]) returns bigint[] language plpgsql as $$
declare
	l bigint;
begin
	update stepd.lease set ids = read.ids, attempts = read.attempts, buckets = array(select j.bucket from unnest(read.ids) with ordinality u (id, ord) join stepd.job j on j.id = u.id order by u.ord)
	where slot = 5 returning id into l;
	return array(select c.job_id * 100 + c.attempt from stepd.claimed(t.n(), 5, 1, array[l]) c);
end $$;
select is(pg_temp.read(array[:a, :a + 1, :a + 2], '{0,0,0}'), array[:a * 100 + 1, :a * 100 + 101, :a * 100 + 201]::bigint[], 'in a row');
select is(pg_temp.read(array[:a, :a + 2, :a + 7], '{2,2,2}'), array[:a * 100 + 3, :a * 100 + 203, :a * 100 + 703]::bigint[], 'close together: none of those between');
select is(pg_temp.read(array[:a, :a + 2, :a + 7], '{0,1,0}'), array[:a * 100 + 1, :a * 100 + 202, :a * 100 + 701]::bigint[], 'each with its attempts');
select is(pg_temp.read(array[:a, :a + 19], '{0,0}'), array[:a * 100 + 1, :a * 100 + 1901]::bigint[], 'far apart');
select is(pg_temp.read(array[:a + 3, :a, :a + 1], '{0,0,0}'), array[:a * 100 + 301, :a * 100 + 1, :a * 100 + 101]::bigint[], 'out of order');
select is(pg_temp.read(array[:a + 3, :a + 4, :a + 6, :a + 7], '{0,0,0,0}'), array[:a * 100 + 301, :a * 100 + 401, :a * 100 + 601, :a * 100 + 701]::bigint[], 'of several days, close together');

rollback to rewritten;

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
