begin;
select no_plan();

-- nodes
select stepd.node_join('11111111-1111-1111-1111-111111111111', 'a', 1, 'v', 60000) as a \gset
select is(stepd.node_join('11111111-1111-1111-1111-111111111111', 'a', 1, 'v', 60000), :a, 'joining is idempotent');
select stepd.node_join('22222222-2222-2222-2222-222222222222', 'b', 2, 'v', 60000) as b \gset
select isnt(:a, :b, 'another boot is another node');
select throws_ok($$select stepd.node_join(null, 'a', 1, 'v', 60000)$$, '22023', 'boot_id: must not be null', 'null boot id');
select throws_ok($$select stepd.node_join(gen_random_uuid(), null, 1, 'v', 1000)$$, '22023', 'name: must not be empty', 'no name');
select throws_like($$select stepd.node_join(gen_random_uuid(), 'x', 1, 'v', 0)$$, 'lease_ms: 0 is not%', 'no lease');
select is(stepd.node_beat(:a, true), true, 'heartbeat');
select is((select listening from stepd.nodes where id = :a), true, 'listening');
select is(stepd.node_beat(4711, true), false, 'heartbeat of nobody');
select stepd.configure('n1', t.steps(), t.queues(), '{}');

-- deaths
select stepd.enqueue_many('std', '[{}, {}, {}, {}]'), stepd.enqueue('prio', '1', 5);
select is(cardinality(t.claim(1, 'Std', 3, :a)), 3, 'three held');
select is(cardinality(t.claim(1, 'Prio', 3, :a)), 1, 'and one more lease');
select is((select count(*)::int from stepd.died(:a, 1, 2, 1, 'crashed', 'x', null, 6, 1, 1, 1, 1, 1) where verdict <> 'refused'), 0, 'another life of the slot holds nothing');
select results_eq(format('select * from stepd.died(%s, 1, 1, 2, ''crashed'', ''signal 11 (SIGSEGV)'', null, 11, 2048, 12, 5000, 4000, 99) order by job_id', :a),
	$$values (1::bigint, 'ready'), (2, 'retrying'), (3, 'ready'), (5, 'ready')$$, 'the one it ran has used an attempt, those behind it not');
select results_eq('select attempt, outcome, error, signal from stepd.attempts where job_id = 1', $$values (1, 'lost', 'It had ended, but its worker died of another job before the outcome was stored.', null::int)$$,
	'the one before it had ended untold: recorded');
select results_eq('select attempt, max_attempts, status from stepd.jobs where id = 1', $$values (1, 5, 'ready')$$, 'but not held against it');
delete from stepd.attempt where job_id = 1; -- the rest is about the others
delete from stepd.renewal;
update stepd.ready set attempt = 0 where pos = 1;
select results_eq('select job_id, attempt, outcome, error, exit_code, signal, max_rss_kb, cpu_ms, node, pid, finished_at - started_at from stepd.attempts',
	$$values (2::bigint, 1, 'crashed', 'signal 11 (SIGSEGV)', null::int, 11, 2048::bigint, 12::bigint, 'a', 99, interval '4 ms')$$, 'recorded how it died');
select results_eq('select id, attempt, status from stepd.jobs order by id', $$values (1::bigint, 0, 'ready'), (2, 1, 'retrying'), (3, 0, 'ready'), (4, 0, 'ready'), (5, 0, 'ready')$$, 'all back');
select is((select rank from stepd.ready where pos = 5), -5, 'a job of a priority queue with its priority');
select results_eq(format('select * from stepd.died(%s, 1, 1, 2, ''crashed'', ''x'', null, 11, 1, 1, 1, 1, 1)', :a), $$values (2::bigint, 'refused')$$, 'told twice: refused');
select throws_like(format('select * from stepd.died(%s, 1, 1, 2, ''completed'', ''x'', null, 11, 1, 1, 1, 1, 1)', :a), 'outcome: ''completed'' is none of%', 'no death');
select t.claim(1, 'Std', 3, :a);
select is((select array_agg(verdict) from stepd.died(:a, 1, 1, 0, null, null, 0, null, 1, 1, null, null, 1)), '{ready,ready,ready}', 'it ran nothing');
select is((select array_agg(attempt) from stepd.jobs where status = 'ready'), '{0,0,0,0}', 'no attempt is used');
select is(t.sound(), 'sound', 'sound');

-- a job that kills its worker each time ends
select stepd.enqueue('once') as j \gset
select t.claim(2, 'Once', 1, :b);
select is((select verdict from stepd.died(:b, 2, 1, :j, 'timeout', 'took longer than 1 s', null, 9, 1, 1, 1, 1, 1)), 'failed', 'the last attempt');
select is((select outcome from stepd.attempts where job_id = :j), 'timeout', 'by timeout');

-- who follows a dead worker in its slot has no place under a limit until that one's is free
savepoint follower;
create function pg_temp.follow(step text, generation bigint) returns int language sql as $$
	select count(*)::int from stepd.claim((select max(id) from stepd.node), 5, generation, array[t.lane(step)], '{0}', '{1}', 1)
$$;
select stepd.queue_set('std', '{"concurrencyPerGroup": 1}');
select stepd.enqueue(q, '{}', group_id => 'g') from unnest('{std,lim}'::text[]) q cross join generate_series(1, 2);
select is(pg_temp.follow(x, 1), 1, x || ' is held') from unnest('{Std,Lim}'::text[]) x;
select is(pg_temp.follow(x, 2), 0, x || ': the next life of its worker gets nothing') from unnest('{Std,Lim}'::text[]) x;
select is((select count(*)::int from stepd.lease where slot = 5), 2, 'so no more are seen than may be');
select count(*) from stepd.died(:b, 5, 1, 0, null, null, null, 9, 1, 1, 1, 1, 1);
select is(pg_temp.follow(x, 2), 1, x || ': until its death is known') from unnest('{Std,Lim}'::text[]) x;
rollback to follower;

-- give back
select t.claim(3, 'Std', 1, :b), t.claim(3, 'Std', 1, :b), t.claim(3, 'Std', 1, :b);
select is((select count(*)::int from stepd.lease where slot = 3), 3, 'three leases');
select is(stepd.give_back(:b, 3, 1, array[(select max(id) from stepd.lease)]), 2, 'all but the one to keep');
select is(stepd.give_back(:b, 3, 9, null), 0, 'of this life only');
select is(stepd.give_back(:b, 3, 1, null), 1, 'all');

-- claimed, but there was no memory to read it
savepoint unread;
select t.claim(3, 'Std', 1, :b), t.claim(3, 'Std', 1, :b), t.claim(3, 'Std', 1, :b);
select is((select array_agg(verdict) from stepd.unread(:b, 3, 1, array[(select max(id) from stepd.lease)], 7, 'no memory')), '{ready,ready}', 'several: given back');
select is((select array_agg(verdict) from stepd.unread(:b, 3, 1, null, 7, 'no memory')), '{retrying}', 'one: an attempt was used');
select is((select outcome || ' ' || error || ' ' || pid from stepd.attempts order by finished_at desc limit 1), 'crashed no memory 7', 'which is recorded');
select is((select count(*) from stepd.unread(:b, 3, 1, null, 7, 'no memory')), 0::bigint, 'none: nothing');
rollback to unread;

-- lost
select stepd.retry(:j);
select is(cardinality(t.claim(1, 'Std', 2, :a)), 2, 'a node holds two');
select is(cardinality(t.claim(2, 'Std', 2, :a)), 1, 'and one in another worker');
select is((select count(*)::int from stepd.rescue()), 0, 'nobody is silent');
update stepd.node set heartbeat_at = '2000-01-01', lease_ms = 1 where id = :a;
select results_eq('select job_id, node_id, verdict from stepd.rescue() order by job_id', format($$values (1::bigint, %1$s, 'retrying'), (3, %1$s, 'ready'), (4, %1$s, 'retrying')$$, :a), 'what its workers ran is lost, the rest ready');
select results_eq($$select job_id, outcome, error, node from stepd.attempts where outcome = 'lost' order by job_id$$, $$values (1::bigint, 'lost', 'The node that held it vanished; it may have been running.', 'a'), (4, 'lost', 'The node that held it vanished; it may have been running.', 'a')$$, 'recorded');
select is((select status from stepd.nodes where id = :a), 'lost', 'the node is lost');
select is((select count(*)::int from stepd.rescue()), 0, 'once');
select is(stepd.node_beat(:a, true), false, 'its heartbeat is refused');
select throws_like($$select stepd.node_join('11111111-1111-1111-1111-111111111111', 'a', 1, 'v', 60000)$$, 'boot_id: % has left or has been declared dead', 'and so is its boot id');
select is((select count(*)::int from stepd.finish(:a, 1, '{1,2,3,4,5,6,7,8,9,10,11,12}', '{1,1,1,1,1,1,1,1,1,1,1,1}', array_fill('completed'::text, '{12}'), array_fill(1::bigint, '{12}'), array_fill(1::bigint, '{12}'), null, null, null, null) where verdict = 'refused'), 12, 'its late outcomes are refused');
insert into stepd.lease (node_id, slot, generation, lane_id, claimed_at, since, has_unique, ids, buckets, attempts)
	select :a, 5, 1, lane_id, now(), now(), false, array[pos], array[bucket], array[attempt] from stepd.ready where pos = 3;
delete from stepd.ready where pos = 3;
select is((select array_agg(verdict) from stepd.rescue()), '{retrying}', 'a claim that slipped in is found too');
select is(t.sound(), 'sound', 'sound');

-- what it held comes alone the next time, so that it is known what a node vanishes of
savepoint doubt;
select is((select array_agg(job_id order by job_id) from stepd.doubt), '{1,3,4}', 'any of them may be it');
select t.due();
select stepd.enqueue_many('std', '[{}, {}, {}]');
select is(array[cardinality(t.claim(6, 'Std', 9, :b)), cardinality(t.claim(6, 'Std', 9, :b)), cardinality(t.claim(7, 'Std', 9, :b)), cardinality(t.claim(7, 'Std', 9, :b))], '{1,1,1,1}', 'one by one, with one that stood between them');
select is((select count(*)::int from stepd.doubt), 0, 'they are alone with their leases now');
select is(cardinality(t.claim(7, 'Std', 9, :b)), (select count(*)::int - 4 from stepd.jobs where queue = 'std' and status in ('running', 'ready')), 'the others come together');
rollback to doubt;
-- those in doubt stand in front and may not run: their group is full
select stepd.queue_set('std', '{"concurrencyPerGroup": 1}');
select t.due();
update stepd.ready set group_hash = 7 where pos in (1, 3, 4);
insert into stepd.lease (node_id, slot, generation, lane_id, claimed_at, since, has_unique, ids, buckets, attempts, groups)
	select :b, 77, 1, lane_id, now(), now(), false, array[pos], array[bucket], array[attempt], array[7] from stepd.ready where pos = 4;
delete from stepd.ready where pos = 4;
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'free' || i)) from generate_series(1, 400) i));
create function pg_temp.alone(node int) returns int language plpgsql as $$
declare
	ids bigint[];
	n int := 0;
begin
	loop
		ids := t.claim(78, 'Std', 9, node);
		exit when cardinality(ids) <> 1 or n = 300;
		n := n + 1;
		perform t.finish(ids[1]);
	end loop;
	return n;
end $$;
select is(pg_temp.alone(:b), 200, 'after some in vain the others come together');
rollback to doubt;
update stepd.doubt set at = clock_timestamp() - interval '6 min';
select t.due();
select is(cardinality(t.claim(6, 'Std', 9, :b)), 4, 'after a while they are jobs like others');
rollback to doubt;
update stepd.doubt set at = clock_timestamp() - interval '6 min' where job_id <> 3;
select stepd.rescue();
select is((select array_agg(job_id) from stepd.doubt), '{3}', 'and forgotten');
rollback to doubt;
truncate stepd.doubt;

-- a worker with two leases runs one job; a node that left without telling, or is forgotten, holds nothing for ever
savepoint orphan;
select t.node('d') as d \gset
select count(*) from stepd.enqueue_many('once', '[{}, {}, {}, {}]');
select t.claim(1, 'Once', 1, :d), t.claim(1, 'Once', 2, :d), t.claim(2, 'Once', 1, :d);
update stepd.node set lost_at = now() where id = :d;
select is((select array_agg(verdict order by job_id) from stepd.rescue()), '{retrying,ready,ready,retrying}', 'of each worker only what may have run is lost, and has another attempt');
rollback to orphan;
select t.node('e') as e \gset
select count(*) from stepd.enqueue_many('once', '[{}, {}]');
select t.claim(1, 'Once', 1, :e);
update stepd.node set left_at = now() where id = :e;
select is((select array_agg(verdict) from stepd.rescue()), '{retrying}', 'of a node that left');
select t.node('f') as f \gset
select t.claim(1, 'Once', 1, :f);
delete from stepd.node where id = :f;
select is((select array_agg(verdict) from stepd.rescue()), '{retrying}', 'of one nobody knows any more');
rollback to orphan;

-- which one ran, the worker has said
truncate stepd.lease, stepd.ready;
select t.node('g') as g \gset
select array_agg(e) as e from stepd.enqueue_many('once', '[{}, {}, {}, {}]') e \gset
select stepd.worker_here(:g, 1, 1, 4711), t.claim(1, 'Once', 2, :g), t.claim(1, 'Once', 9, :g);
select is(stepd.began(:g, t.lease((:'e'::bigint[])[3]), (:'e'::bigint[])[3], 30000), true, 'the third has begun');
select is(stepd.began(:g, t.lease((:'e'::bigint[])[3]), (:'e'::bigint[])[3], 40000), false, 'said once');
update stepd.node set lost_at = now() where id = :g;
select is((select array_agg(verdict order by job_id) from stepd.rescue()), '{ready,ready,failed,ready}', 'that one is lost');
select results_eq(format($$select job_id, attempt, error, pid from stepd.attempts where job_id >= %s order by job_id$$, (:'e'::bigint[])[1]), format($$values
	(%s::bigint, 1, 'It had ended, but its node vanished before the outcome was stored.', 4711), (%s, 1, 'It had ended, but its node vanished before the outcome was stored.', 4711),
	(%s, 1, 'The node that ran it vanished.', 4711)$$, (:'e'::bigint[])[1], (:'e'::bigint[])[2], (:'e'::bigint[])[3]), 'those before it had ended, the one behind had not begun');
select results_eq(format('select attempt, max_attempts from stepd.jobs where id >= %s order by id', (:'e'::bigint[])[1]), 'values (1, 2), (1, 2), (1, 1), (0, 1)', 'and only its own attempt counts');
rollback to orphan;

-- one that takes its whole node with it before anybody can say so comes to an end
truncate stepd.lease, stepd.ready;
select stepd.enqueue('once') as u \gset
create function pg_temp.vanish() returns text language plpgsql as $$
declare
	n int := t.node('h');
	v text;
begin
	perform t.claim(1, 'Once', 9, n);
	update stepd.node set lost_at = now() where id = n;
	v := (select r.verdict from stepd.rescue() r where r.job_id = (select max(id) from stepd.jobs));
	perform t.due();
	return v;
end $$;
select is(array[pg_temp.vanish(), pg_temp.vanish(), pg_temp.vanish(), pg_temp.vanish()], '{retrying,retrying,retrying,failed}', 'three times more than it may');
select results_eq('select attempt, max_attempts from stepd.jobs where id = ' || :u, 'values (4, 4)', 'as it shows');
rollback to orphan;

-- twice beside a job that kills its worker: neither counts
select stepd.enqueue('once') as u \gset
create function pg_temp.beside(node int, job bigint) returns text language plpgsql as $$
declare
	bad bigint := stepd.enqueue('once');
begin
	perform t.claim(9, 'Once', 9, node);
	return (select d.verdict from stepd.died(node, 9, 1, bad, 'crashed', 'x', null, 6, 1, 1, 1, 1, 1) d where d.job_id = job);
end $$;
select is(array[pg_temp.beside(:b, :u), pg_temp.beside(:b, :u), pg_temp.beside(:b, :u)], '{ready,ready,ready}', 'ended untold three times');
select results_eq('select attempt, max_attempts from stepd.jobs where id = ' || :u, 'values (3, 4)', 'each is an attempt that does not count');
select t.claim(9, 'Once', 9, :b);
select is((select verdict from stepd.died(:b, 9, 1, :u, 'crashed', 'x', null, 6, 1, 1, 1, 1, 1) where job_id = :u), 'failed', 'its own death does');
rollback to orphan;

-- killed after its job had ended: three times that does not count either
create function pg_temp.killed(node int, job bigint) returns text language plpgsql as $$
begin
	perform t.claim(9, 'Once', 9, node);
	return (select d.verdict from stepd.died(node, 9, 1, job, 'lost', 'the worker was killed by signal 9', null, 9, 1, 1, 1, 1, 1) d where d.job_id = job);
end $$;
select stepd.enqueue('once') as u \gset
select is(array[pg_temp.killed(:b, :u), pg_temp.killed(:b, :u), pg_temp.killed(:b, :u), pg_temp.killed(:b, :u)], '{ready,ready,ready,failed}', 'once more, up to three times');
select results_eq('select attempt, max_attempts from stepd.jobs where id = ' || :u, 'values (4, 4)', 'as it shows');
select is((select array_agg(outcome || ': ' || error order by attempt) from stepd.attempts where job_id = :u),
	array_fill('lost: It had ended, but its worker was killed before the outcome was stored.'::text, '{3}') || '{lost: the worker was killed by signal 9}', 'and why');
rollback to orphan;

-- leave
select t.due();
select is(cardinality(t.claim(1, 'Std', 9, :b)), 4, 'the other node holds all');
select is(stepd.node_leave(:b), 4, 'and leaves');
select is((select array_agg(distinct status) from stepd.jobs where queue = 'std'), '{ready}', 'all ready');
select is((select array_agg(attempt order by id) from stepd.jobs where queue = 'std'), '{1,1,1,1}', 'no attempt used by leaving');
select is(stepd.node_leave(:b), 0, 'twice');
select is((select status from stepd.nodes where id = :b), 'left', 'shown');
select is(t.claim(1, 'Std', 9, :b), '{}', 'it gets nothing any more');
select is(t.sound(), 'sound', 'sound');

-- due times
select stepd.node_join(gen_random_uuid(), 'c', 3, 'v', 60000);
select array_agg(j) from stepd.enqueue_many('once', '[{"delay_ms": 3600000}, {"delay_ms": 7200000}]') j;
update stepd.waiting set run_at = clock_timestamp() + interval '1 hour';
select results_eq('select promoted, ready, next_due_ms between 3590000 and 3600000 from stepd.promote(10)', 'values (0, true, true)', 'the next in an hour');
update stepd.waiting set run_at = clock_timestamp() where id = (select min(id) from stepd.waiting);
select results_eq('select promoted, ready from stepd.promote(10)', 'values (1, true)', 'one is due');
delete from stepd.waiting;
select is((select next_due_ms from stepd.promote(10)), null, 'nothing waits');
select * from finish();
rollback;
