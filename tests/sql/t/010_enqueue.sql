begin;
select no_plan();
select t.setup();

-- routing
select is(array(select stepd.enqueue('std', '{"a": 1}')), '{1}', 'one job id for one subscriber');
select is(array(select stepd.enqueue('fan', '{"a": 2}')), '{2,3}', 'one for each subscriber');
select is((select count(distinct trace_id) from stepd.jobs where id in (2, 3))::int, 1, 'jobs of one enqueue share their trace');
select is((select array_agg(step order by id) from stepd.jobs where id in (2, 3)), '{Fan1,Fan2}', 'each has its step');
select is((select array_agg(trigger_index order by id) from stepd.job where id in (2, 3)), '{0,1}', 'and the index of its trigger');
select is(array(select stepd.enqueue('nobody', '{"a": 3}')), '{4}', 'an unknown topic gives an id too');
select results_eq('select status, queue, step, max_attempts from stepd.jobs where id = 4', $$values ('unrouted', 'nobody', null::text, null::int)$$, 'of an unrouted job');
select results_eq('select id, queue, step, status, priority, group_id, unique_key, attempt, max_attempts, input, output, error, trigger, parent_id, node, pid from stepd.jobs where id = 1',
	$$values (1::bigint, 'std', 'Std', 'ready', 0, null::text, null::text, 0, 4, '{"a": 1}'::jsonb, null::jsonb, null::text, 'queue', null::bigint, null::text, null::int)$$, 'the view shows it');
select matches((select trace_id::text from stepd.jobs where id = 1), '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$', 'trace ids are UUIDs of version 7');

-- data
select stepd.enqueue('std', null);
select is((select input from stepd.jobs where id = 5), 'null'::jsonb, 'no data is JSON null');
select stepd.enqueue('std');
select is((select input from stepd.jobs where id = 6), 'null'::jsonb, 'data may be left out');
select stepd.enqueue('std', '{"n": 12345678901234567890.12345678901234567890, "e": 1e400}');
select is((select input ->> 'n' from stepd.jobs where id = 7), '12345678901234567890.12345678901234567890', 'no number loses digits');
select throws_ok($$select stepd.enqueue('std', '"\u0000"')$$, '22P05', null, '\u0000 is refused');
select lives_ok($$select stepd.enqueue('std', to_jsonb(repeat('x', 5000000)))$$, '5 MB are taken');
select throws_like($$select stepd.enqueue('std', to_jsonb(repeat('x', 101000000)))$$, 'data: is % bytes large as text, at most 100663296 (64 MiB,%', '101 MB are not');
select lives_ok($$select stepd.enqueue('std', (repeat('[', 512) || repeat(']', 512))::jsonb)$$, '512 levels are taken');
select throws_like($$select stepd.enqueue('std', (repeat('[', 513) || repeat(']', 513))::jsonb)$$, 'data: is nested deeper%', '513 are not');
select throws_like($$select stepd.enqueue('std', (repeat('{"a":', 600) || '1' || repeat('}', 600))::jsonb)$$, 'data: is nested deeper%', 'nor 600 objects');

-- arguments
select throws_ok($$select stepd.enqueue(null, '1')$$, '22023', 'topic: must not be null', 'null topic');
select throws_ok($$select stepd.enqueue('', '1')$$, '22023', 'topic: must not be empty', 'empty topic');
select throws_like($$select stepd.enqueue(repeat('t', 256), '1')$$, 'topic: is 256 bytes%', 'long topic');
select throws_ok($$select stepd.enqueue('std', '1', 32768)$$, '22023', 'priority: 32768 is not between -32768 and 32767', 'priority too high');
select throws_ok($$select stepd.enqueue('std', '1', -32769)$$, '22023', 'priority: -32769 is not between -32768 and 32767', 'priority too low');
select throws_ok($$select stepd.enqueue('std', '1', 2147483647)$$, '22023', null, 'the highest int as priority');
select lives_ok($$select stepd.enqueue('prio', '1', -32768), stepd.enqueue('prio', '1', 32767)$$, 'the extremes are fine');
select throws_ok($$select stepd.enqueue('std', '1', run_at => 'infinity')$$, '22023', 'run_at: must be finite', 'infinite time');
select throws_ok($$select stepd.enqueue('std', '1', run_at => '-infinity')$$, '22023', 'run_at: must be finite', 'minus infinite time');
select throws_like($$select stepd.enqueue('std', '1', group_id => repeat('g', 1001))$$, 'group_id: is 1001 bytes%', 'long group');
select throws_like($$select stepd.enqueue('std', '1', unique_key => repeat('g', 1001))$$, 'unique_key: is 1001 bytes%', 'long key');
select throws_ok($$select stepd.enqueue('std', '1', unique_key => '')$$, '22023', 'unique_key: must not be empty', 'empty key');
select is((select group_id from stepd.jobs where id = (select stepd.enqueue('std', '1', group_id => ''))), null, 'an empty group is none');

-- time
select stepd.enqueue('std', '"later"', run_at => now() + interval '1 hour') as later \gset
select is(t.status(:later), 'scheduled', 'a time in the future: scheduled');
select ok((select run_at > now() + interval '59 min' from stepd.jobs where id = :later), 'at that time');
select stepd.enqueue('std', '"past"', run_at => now() - interval '1 hour') as past \gset
select is(t.status(:past), 'ready', 'a time in the past: ready');
select lives_ok($$select stepd.enqueue('std', '1', run_at => '2999-01-01')$$, 'far future');
select is((select count(*)::int from stepd.job_default), 0, 'still in a partition made ahead');

-- unique
select stepd.enqueue('std', '1', unique_key => 'k') as u \gset
select is(array(select stepd.enqueue('std', '2', unique_key => 'k')), array[:u::bigint], 'the same key gives the same job');
select is((select input from stepd.jobs where id = :u), '1'::jsonb, 'which is unchanged');
select is(array(select stepd.enqueue('fan', '1', unique_key => 'k')), array(select stepd.enqueue('fan', '2', unique_key => 'k')), 'keys are by step, over fan-out');
select isnt(array(select stepd.enqueue('fan', '1', unique_key => 'k')), array[:u, :u]::bigint[], 'another step has its own');
select t.claim(1, 'Std');
select is(array(select stepd.enqueue('std', '2', unique_key => 'k')), array[:u::bigint], 'also while it runs');
select t.finish(:u);
select isnt(array(select stepd.enqueue('std', '2', unique_key => 'k')), array[:u::bigint], 'not after it ended');
select is(t.sound(), 'sound', 'sound');

-- many
select is((select count(*)::int from stepd.enqueue_many('fan', '[{"data": 1}, {"data": 2, "priority": 5, "group": "g"}, {"delay_ms": 3600000}, {"unique": "m"}, {"unique": "m"}]')), 10, 'an id for each item and subscriber');
select is((select count(distinct j) from stepd.enqueue_many('std', '[{"unique": "m"}, {"unique": "m"}]') j)::int, 1, 'equal keys in one call are one job');
select array_agg(j) as ids from stepd.enqueue_many('std', '[{"data": 3}, {"data": 1}, {"data": 2}]') j \gset
select is((select array_agg(input order by id) from stepd.jobs where id = any (:'ids'::bigint[])), '{3,1,2}', 'in order');
select is((select count(*) from stepd.enqueue_many('std', '[]'))::int, 0, 'nothing to do');
select throws_ok($$select stepd.enqueue_many('std', '{}')$$, '22023', 'items: must be a JSON array', 'not an array');
select throws_ok($$select stepd.enqueue_many('std', null)$$, '22023', 'items: must be a JSON array', 'null items');
select throws_ok($$select stepd.enqueue_many(null, '[]')$$, '22023', 'topic: must not be null', 'null topic');
select throws_ok($$select stepd.enqueue_many('std', '[{}, 5]')$$, '22023', 'items[1]: is not an object', 'an item that is no object');
select throws_ok($$select stepd.enqueue_many('std', '[{}, {"priority": 40000}]')$$, '22023', 'items[1].priority: 40000 is not between -32768 and 32767', 'a bad priority');
select throws_ok($$select stepd.enqueue_many('std', '[{"unique": ""}]')$$, '22023', 'items[0].unique: must not be empty', 'an empty key');
create temp table before as select count(*) as n from stepd.job;
select is((select count(*)::int from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('data', i)) from generate_series(1, 100000) i))), 100000, '100,000 items in one call');
select is((select count(*) from stepd.job), (select n + 100000 from before), 'all there');
select is(t.sound(), 'sound', 'sound');

-- rolled back
savepoint s;
select stepd.enqueue('std', '"rolled back"', unique_key => 'rolled back');
rollback to s;
select is((select count(*)::int from stepd.jobs where input = '"rolled back"'), 0, 'a rolled-back enqueue adds nothing');
select is((select count(*)::int from stepd.unique_job where key = 'rolled back'), 0, 'not even its key');
select * from finish();
rollback;
