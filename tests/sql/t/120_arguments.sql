-- What the functions refuse, each with the name of the argument and, where it is not plain, what to do.
begin;
select no_plan();
select t.setup() as node \gset

create function pg_temp.refused(call text, said text) returns text language plpgsql as $$
declare
	got text;
begin
	begin
		execute 'select * from ' || call;
		got := 'accepted';
	exception when others then
		got := case when sqlstate = '22023' then sqlerrm else sqlstate || ' ' || sqlerrm end;
	end;
	return is(got, said, left(call, 120));
end $$;

-- enqueue
select pg_temp.refused('stepd.enqueue(' || call || ')', said) from (values
	('null', 'topic: must not be null'),
	($$''$$, 'topic: must not be empty'),
	($$repeat('ü', 128)$$, 'topic: is 256 bytes long, at most 255 are allowed'),
	($$'std', '1', 32768$$, 'priority: 32768 is not between -32768 and 32767'),
	($$'std', '1', -32769$$, 'priority: -32769 is not between -32768 and 32767'),
	($$'std', run_at => 'infinity'$$, 'run_at: must be finite'),
	($$'std', run_at => '-infinity'$$, 'run_at: must be finite'),
	($$'std', group_id => repeat('x', 1001)$$, 'group_id: is 1001 bytes long, at most 1000 are allowed'),
	($$'std', unique_key => ''$$, 'unique_key: must not be empty'),
	($$'std', unique_key => repeat('x', 1001)$$, 'unique_key: is 1001 bytes long, at most 1000 are allowed'),
	($$'std', ('"' || repeat('x', 100663300) || '"')::jsonb$$, 'data: is 100663302 bytes large as text, at most 100663296 (64 MiB, and half of that for blanks) are allowed'),
	($$'std', (repeat('[', 513) || repeat(']', 513))::jsonb$$, 'data: is nested deeper than 512 levels'),
	($$'std', (repeat('{"a": [', 257) || repeat(']}', 257))::jsonb$$, 'data: is nested deeper than 512 levels'),
	($$'std', '"\u0000"'$$, '22P05 unsupported Unicode escape sequence'),
	($$'std', '{'$$, '22P02 invalid input syntax for type json')) v (call, said);
select is((select count(*)::int from stepd.jobs), 0, 'nothing of it was stored');
select lives_ok($$select stepd.enqueue('std', (repeat('[', 512) || repeat(']', 512))::jsonb, -32768, '4713-01-01 BC', repeat('g', 1000), repeat('x', 1000))$$, 'the limits themselves');
select lives_ok($$select stepd.enqueue(repeat('x', 255), null, 32767, '294276-01-01', '')$$, 'the other limits');

-- enqueue_many
select pg_temp.refused('stepd.enqueue_many(' || call || ')', said) from (values
	($$null, '[]'$$, 'topic: must not be null'),
	($$'', '[]'$$, 'topic: must not be empty'),
	($$'std', null$$, 'items: must be a JSON array'),
	($$'std', '{}'$$, 'items: must be a JSON array'),
	($$'std', '[{}, null]'$$, 'items[1]: is not an object'),
	($$'std', '[{"prio": 1}]'$$, 'items[0].prio: is not known'),
	($$'std', '[{}, {"priority": 99999}]'$$, 'items[1].priority: 99999 is not between -32768 and 32767'),
	($$'std', '[{"priority": "5"}]'$$, 'items[0].priority: "5" is no whole number'),
	($$'std', '[{"priority": 1.5}]'$$, 'items[0].priority: 1.5 is no whole number'),
	($$'std', '[{"priority": 1e30}]'$$, 'items[0].priority: 1000000000000000000000000000000 is not between -32768 and 32767'),
	($$'std', '[{"priority": {}}]'$$, 'items[0].priority: {} is no whole number'),
	($$'std', '[{"delay_ms": -5}]'$$, 'items[0].delay_ms: -5 is not between 0 and a hundred years'),
	($$'std', '[{"delay_ms": 1e18}]'$$, 'items[0].delay_ms: 1000000000000000000 is not between 0 and a hundred years'),
	($$'std', '[{"delay_ms": "infinity"}]'$$, 'items[0].delay_ms: "infinity" is no number'),
	($$'std', '[{"delay_ms": 5, "run_at": "2030-01-01"}]'$$, 'items[0].run_at: is given beside delay_ms; one of them is enough'),
	($$'std', '[{}, {"run_at": "soon"}]'$$, 'items[1].run_at: invalid input syntax for type timestamp with time zone: "soon"'),
	($$'std', '[{"run_at": 5}]'$$, 'items[0].run_at: 5 is no string'),
	($$'std', '[{"run_at": "2030-01-01"}, {"run_at": "2030-13-41"}]'$$, 'items[1].run_at: date/time field value out of range: "2030-13-41"'),
	($$'std', '[{"run_at": "infinity"}]'$$, 'items[0].run_at: must be finite'),
	($$'std', '[{"group": ["a"]}]'$$, 'items[0].group: ["a"] is no string'),
	($$'std', jsonb_build_array('{}', jsonb_build_object('group', repeat('x', 1001)))$$, 'items[0]: is not an object'),
	($$'std', jsonb_build_array(jsonb_build_object('group', repeat('x', 1001)))$$, 'items[0].group: is 1001 bytes long, at most 1000 are allowed'),
	($$'std', '[{"unique": ""}]'$$, 'items[0].unique: must not be empty'),
	($$'std', '[{"unique": 7}]'$$, 'items[0].unique: 7 is no string'),
	($$'std', jsonb_build_array(jsonb_build_object('data', (repeat('[', 513) || repeat(']', 513))::jsonb))$$, 'items[0].data: is nested deeper than 512 levels')) v (call, said);
select is((select count(*)::int from stepd.jobs), 2, 'nothing of it was stored');
select is((select count(*)::int from stepd.enqueue_many('std', '[]')), 0, 'no items, no jobs');
select is((select count(*)::int from stepd.enqueue_many('std', '[{"priority": null, "delay_ms": null, "run_at": null, "group": null, "unique": null, "data": null}, {"delay_ms": 0.5}]')), 2, 'null is as good as left out');

-- control
select stepd.enqueue('std') as j \gset
select pg_temp.refused(call, said) from (values
	('stepd.cancel(null)', 'job_id: must not be null'),
	('stepd.cancel(0)', 'job_id: there is no job 0'),
	('stepd.cancel(9223372036854775807)', 'job_id: there is no job 9223372036854775807'),
	('stepd.retry(null)', 'job_id: must not be null'),
	('stepd.retry(-1)', 'job_id: there is no job -1'),
	(format('stepd.retry(%s)', :j), format('job_id: job %s has not ended', :j)),
	('stepd.retry_queue(null)', 'queue: must not be empty'),
	('stepd.latest_jobs(null)', 'most: must not be null'),
	('stepd.latest_jobs(1, status => ''Ready'')', 'status: ''Ready'' is none of scheduled, ready, running, retrying, completed, failed, cancelled, skipped, unrouted'),
	('stepd.latest_jobs(0)', 'most: 0 is not between 1 and 10000000'),
	($$stepd.retry_queue('')$$, 'queue: must not be empty'),
	($$stepd.retry_queue('nope')$$, 'queue: there is no queue "nope"'),
	('stepd.pause(null)', 'queue: must not be empty'),
	($$stepd.pause('nope')$$, 'queue: there is no queue "nope"'),
	($$stepd.resume('')$$, 'queue: must not be empty'),
	($$stepd.resume('nope')$$, 'queue: there is no queue "nope"')) v (call, said);

-- state
select stepd.state_set('g', 'array', '[1, {"a": 5}]');
select stepd.state_set('g', 'deep', (repeat('[', 512) || repeat(']', 512))::jsonb);
select pg_temp.refused('stepd.state_' || call, said) from (values
	($$get(null, 'k')$$, 'group_id: must not be empty'),
	($$get('', 'k')$$, 'group_id: must not be empty'),
	($$get('g', null)$$, 'key: must not be empty'),
	('list(null)', 'group_id: must not be empty'),
	($$set(null, 'k', '1')$$, 'group_id: must not be empty'),
	($$set('g', '', '1')$$, 'key: must not be empty'),
	($$set(repeat('g', 1001), 'k', '1')$$, 'group_id: is 1001 bytes long, at most 1000 are allowed'),
	($$set('g', repeat('k', 1001), '1')$$, 'key: is 1001 bytes long, at most 1000 are allowed'),
	($$set('g', 'k', (repeat('[', 513) || repeat(']', 513))::jsonb)$$, 'value: is nested deeper than 512 levels'),
	($$delete('', 'k')$$, 'group_id: must not be empty'),
	($$delete('g', null)$$, 'key: must not be empty'),
	('clear(null)', 'group_id: must not be empty'),
	($$update(null, 'k', '[]')$$, 'group_id: must not be empty'),
	($$update('g', null, '[]')$$, 'key: must not be empty'),
	($$update('g', 'k', null)$$, 'ops: must be a JSON array of operations'),
	($$update('g', 'k', '{}')$$, 'ops: must be a JSON array of operations'),
	($$update('g', 'k', '[1]')$$, 'ops[0]: is not an object'),
	($$update('g', 'k', '[{"type": "set", "value": 1}, {}]')$$, 'ops[1].type: null is not known'),
	($$update('g', 'k', '[{"type": "zap"}]')$$, 'ops[0].type: ''zap'' is not known'),
	($$update('g', 'k', '[{"type": "merge", "value": 1}]')$$, 'ops[0].value: merge needs an object'),
	($$update('g', 'array', '[{"type": "merge", "value": {}}]')$$, 'ops[0]: merge into array'),
	($$update('g', 'k', '[{"type": "increment", "by": "x"}]')$$, 'ops[0].by: "x" is no number'),
	($$update('g', 'array', '[{"type": "decrement"}]')$$, 'ops[0]: decrement of array'),
	($$update('g', 'array', '[{"type": "append", "path": [1], "value": 1}]')$$, 'ops[0]: append to object'),
	($$update('g', 'k', '[{"type": "set", "path": true, "value": 1}]')$$, 'ops[0].path: true is no path'),
	($$update('g', 'k', '[{"type": "set", "path": ["a", null], "value": 1}]')$$, 'ops[0].path: ["a", null] is no path'),
	($$update('g', 'k', '[{"type": "set", "path": ["a", {}], "value": 1}]')$$, 'ops[0].path: ["a", {}] is no path'),
	($$update('g', 'array', '[{"type": "set", "path": ["x"], "value": 1}]')$$, 'ops[0].path: {x} leads into an array, where "x" is no position'),
	($$update('g', 'array', '[{"type": "set", "path": [99999999999], "value": 1}]')$$, 'ops[0].path: {99999999999} leads into an array, where "99999999999" is no position'),
	($$update('g', 'array', '[{"type": "remove", "path": ["x"]}]')$$, 'ops[0].path: {x} leads into an array, where "x" is no position'),
	($$update('g', 'array', '[{"type": "set", "path": [1, "a", "b"], "value": 1}]')$$, 'ops[0].path: {1,a,b} leads through a number, which has no members'),
	($$update('g', 'deep', '[{"type": "set", "path": "0", "value": 1}, {"type": "set", "value": [1]}, {"type": "increment"}]')$$, 'ops[2]: increment of array')) v (call, said);
select pg_temp.refused(format('stepd.state_update(%L, %L, %L)', 'g', 'deep', jsonb_build_array(jsonb_build_object('type', 'set', 'path', '{0,0}'::text[],
	'value', (repeat('[', 512) || repeat(']', 512))::jsonb))), 'ops: is nested deeper than 512 levels');
select is((select count(*)::int from stepd.state), 2, 'nothing of it was stored');

-- and the keeper's and the workers' own
select pg_temp.refused('stepd.' || call, said) from (values
	('promote(null)', 'max: null is not a number from 0 on'),
	('promote(-1)', 'max: -1 is not a number from 0 on'),
	('maintain(null)', 'keep: null is not at least a minute'),
	($$maintain('-1 day')$$, 'keep: -1 days is not at least a minute'),
	($$enqueue_many('x', '[{}, {"run_at": "2026-01-01 Foo/Bar"}]')$$, 'items[1].run_at: time zone "foo/bar" not recognized'),
	($$enqueue_many('x', '[{"run_at": "2026-01-01 00:00:00+99"}]')$$, 'items[0].run_at: time zone displacement out of range: "2026-01-01 00:00:00+99"'),
	($$enqueue_many('x', '[{}, {"priority": 40000}]')$$, 'items[1].priority: 40000 is not between -32768 and 32767'),
	($$pause(repeat('x', 2000))$$, 'queue: there is no queue "' || repeat('x', 574) || ' ... ' || repeat('x', 299) || '"'),
	($$state_update('g', 'k', '[{"type": "set", "pth": "a", "value": 1}]')$$, 'ops[0]: has the member "pth", which operations do not have'),
	($$backlog('1')$$, 'pools: is not an array of objects'),
	($$backlog('[1]')$$, 'pools[0]: is not an object'),
	($$node_pools(1, '["x"]')$$, 'pools[0]: is not an object'),
	($$progress_report(1, 1, 1, '{bad')$$, 'progress: invalid input syntax for type json'),
	($$configure('x', '{"steps": [{"name": "zz", "triggers": 5}]}', '[]', '{}')$$, 'manifest.steps[0].triggers: 5 is no array'),
	($$configure('x', '{"steps": [{"name": "zz", "flows": 5}]}', '[]', '{}')$$, 'manifest.steps[0].flows: 5 is no array of strings'),
	($$configure('x', '{"steps": []}', '[{"name": "q", "strategy": "z"}]', '{}')$$, 'queues[0].strategy: "z" is none of standard, fifo, priority'),
	($$lanes('{a,null}')$$, 'steps: must not be null, as element 2 is'),
	($$cancelled('{1,null}')$$, 'job_ids: must not be null, as element 2 is'),
	($$claim(1, 1, 1, '{1}', '{0}', '{1}', -1)$$, 'total: -1 is not between 0 and 2147483647'),
	('node_join(gen_random_uuid(), ''a'', -1, ''v'', 1000)', 'pid: -1 is not the number of a process'),
	($$release('{1}', '{}')$$, 'jobs: has 0 elements, and leases has 1'),
	($$claim(1, 1, 1, '{1}', '{}', '{}', 1)$$, 'lanes: has 1 elements, and cursors has 0'),
	($$node_join(null, 'a', 1, 'v', 1000)$$, 'boot_id: must not be null'),
	('node_join(gen_random_uuid(), null, 1, ''v'', 1000)', 'name: must not be empty'),
	('node_join(gen_random_uuid(), ''a'', 1, ''v'', null)', 'lease_ms: null is not between 100 and 86400000')) v (call, said);
-- the workers' outcomes, each of a job that is held
select stepd.enqueue('std', '{}');
select t.claim(3, 'Std', 9);
create function t.last() returns bigint language sql as $$ select max(ids[1]) from stepd.lease $$;
create function pg_temp.fin(ages text default '{1000}', durations text default '{900}', outputs text default null, delays text default null,
	effects text default null, outcome text default 'error', leases text default null, jobs text default null) returns text language sql as $$
	select format('stepd.finish(t.n(), 7, %s, %s, %L, %L, %L, %L, null, %L, %L)', coalesce(leases, 'array[t.lease(t.last())]'),
		coalesce(jobs, 'array[t.last()]'), format('{%s}', outcome), ages, durations, outputs, delays, effects)
$$;
create function pg_temp.effect(member text) returns text language sql as $$ select format('[{"job": %s, %s}]', t.last(), member) $$;
select pg_temp.refused(call, said) from (values
	(pg_temp.fin('{null}'), 'ages_us: must not be null, as element 1 is'),
	(pg_temp.fin('{-1}'), 'ages_us[1]: -1 is not between 0 and 3155760000000000'),
	(pg_temp.fin('{9223372036854775807}'), 'ages_us[1]: 9223372036854775807 is not between 0 and 3155760000000000'),
	(pg_temp.fin('{{1}}'), 'ages_us: has more than one dimension'),
	(pg_temp.fin(durations => '{-1}'), 'durations_us[1]: -1 is not between 0 and 3155760000000000'),
	(pg_temp.fin(durations => '{null}'), 'durations_us: must not be null, as element 1 is'),
	(pg_temp.fin(delays => '{9223372036854775807}'), 'delays_ms[1]: 9223372036854775807 is not between 0 and 3155760000000'),
	(pg_temp.fin(delays => '{-1}', outcome => 'snooze'), 'delays_ms[1]: -1 is not between 0 and 3155760000000'),
	(pg_temp.fin(outputs => '{""}'), 'outputs[1]: invalid input syntax for type json'),
	(pg_temp.fin(effects => ''), 'effects: invalid input syntax for type json'),
	(pg_temp.fin(effects => repeat('[', 30000)), 'effects: stack depth limit exceeded'),
	(pg_temp.fin(effects => '{}'), 'effects: is not an array of objects'),
	(pg_temp.fin(effects => '[1]'), 'effects[0]: is not an object'),
	(pg_temp.fin(effects => '[{}]'), 'effects[0].job: must not be empty'),
	(pg_temp.fin(effects => '[{"job": 1.5}]'), 'effects[0].job: 1.5 is not a whole number between -9223372036854775808 and 9223372036854775807'),
	(pg_temp.fin(effects => '[{"job": 1e30}]'), 'effects[0].job: 1000000000000000000000000000000 is none of jobs'),
	(pg_temp.fin(effects => pg_temp.effect('"progress": {"percent": "x"}')), 'effects[0].progress.percent: "x" is no number'),
	(pg_temp.fin(effects => pg_temp.effect('"progress": 1')), 'effects[0].progress: 1 is no object'),
	(pg_temp.fin(effects => pg_temp.effect('"states": null')), 'effects[0].states: is not an array of objects'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": {}')), 'effects[0].enqueues: {} is no array'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": 1')), 'effects[0].logs: 1 is no array'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{}]')), 'effects[0].logs[0].at_us: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": -9e17}]')), 'effects[0].logs[0].at_us: -900000000000000000 is not a whole number between 0 and 253402300799000000'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": "zz", "message": "m"}]')), 'effects[0].logs[0].level: "zz" is none of debug, info, warn, error'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": "info", "message": null}]')), 'effects[0].logs[0].message: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "priority": "x", "always": true}]')), 'effects[0].enqueues[0].priority: "x" is no number'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "run_at": "zz", "always": true}]')), 'effects[0].enqueues[0].run_at: invalid input syntax for type timestamp with time zone: "zz"'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "delay_ms": 1e30, "always": true}]')), 'effects[0].enqueues[0].delay_ms: 1000000000000000000000000000000 is not a number between 0 and 3155760000000'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "always": "perhaps"}]')), 'effects[0].enqueues[0].always: "perhaps" is no boolean'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "", "always": true}]')), 'effects[0].enqueues[0].topic: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "zap", "group": "g", "key": "k"}]')), 'effects[0].states[0].op: "zap" is none of set, delete, clear, update'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "update", "group": "g", "key": "k", "ops": 1}]')), 'effects[0].states[0].ops: 1 is no array'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "update", "group": "g", "key": "array", "ops": [{"type": "increment", "by": 1}]}]')), 'effects.states g/array ops[0]: increment of array'),
	(pg_temp.fin(effects => format('[{"job": %s.0}]', t.last())), format('effects[0].job: %s.0 is none of jobs', t.last())),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "priority": 5.0, "always": true}]')), 'effects[0].enqueues[0].priority: 5.0 is not a whole number between -32768 and 32767'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": 5, "group": "g", "key": "k"}]')), 'effects[0].states[0].op: 5 is none of set, delete, clear, update'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": ["set"], "group": "g", "key": "k", "value": 1}]')), 'effects[0].states[0].op: ["set"] is none of set, delete, clear, update'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": 5, "message": "m"}]')), 'effects[0].logs[0].level: 5 is none of debug, info, warn, error'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": ["x", "info"], "message": "m"}]')), 'effects[0].logs[0].level: ["x", "info"] is none of debug, info, warn, error'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": "abc", "level": "info", "message": "m"}]')), 'effects[0].logs[0].at_us: "abc" is no number'),
	(pg_temp.fin(outcome => '{error}'), 'outcomes: has more than one dimension'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "group": [null], "always": true}]')), 'effects[0].enqueues[0].group: [null] is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "unique": [], "always": true}]')), 'effects[0].enqueues[0].unique: [] is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "run_at": [null], "always": true}]')), 'effects[0].enqueues[0].run_at: [null] is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "always": []}]')), 'effects[0].enqueues[0].always: [] is no boolean'),
	(pg_temp.fin(effects => format('[{"job": %1$s}, {"job": %1$s}]', t.last())), format('effects[1].job: %s is there twice', t.last())),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": "info", "message": "m", "fields": {"a": ' || repeat('[', 512) || repeat(']', 512) || '}}]')), 'effects[0].logs[0].fields: is nested deeper than 512 levels'),
	(pg_temp.fin(effects => pg_temp.effect('"progress": {"fields": {"a": ' || repeat('[', 512) || repeat(']', 512) || '}}')), 'effects[0].progress.fields: is nested deeper than 512 levels'),
	(pg_temp.fin(outcome => 'done'), 'outcomes[1]: ''done'' is none of completed, error, fail, snooze, invalid_input, cancelled, skipped, timeout'),
	(pg_temp.fin(ages => '{5}', durations => '{6}'), 'durations_us[1]: 6 is longer than ago it began, which is 5'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1e-400, "level": "info", "message": "m"}]')), 'effects[0].logs[0].at_us: 0.' || repeat('0', 58) || ' is not a whole number between 0 and 253402300799000000'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "always": true}, {"topic": "' || repeat('t', 256) || '", "always": true}]')), 'effects[0].enqueues[1].topic: is 256 bytes long, at most 255 are allowed'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "run_at": "infinity", "always": true}]')), 'effects[0].enqueues[0].run_at: must be finite'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "data": ' || repeat('[', 513) || repeat(']', 513) || ', "always": true}]')), 'effects[0].enqueues[0].data: is nested deeper than 512 levels'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "delete", "group": "g", "key": "' || repeat('k', 1001) || '"}]')), 'effects[0].states[0].key: is 1001 bytes long, at most 1000 are allowed'),
	(pg_temp.fin(effects => '[{"job": 999999999}]'), 'effects[0].job: 999999999 is none of jobs'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueue": []')), 'effects[0].enqueue: is not known'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": 1, "always": true}]')), 'effects[0].enqueues[0].topic: 1 is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "always": true}, {"topic": "fan", "group": [1]}]')), 'effects[0].enqueues[1].group: [1] is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "unique": {}}]')), 'effects[0].enqueues[0].unique: {} is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "unique": ""}]')), 'effects[0].enqueues[0].unique: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "delay_ms": -1}]')), 'effects[0].enqueues[0].delay_ms: -1 is not a number between 0 and 3155760000000'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "delay_ms": 1, "run_at": "2026-01-01"}]')), 'effects[0].enqueues[0].run_at: is given beside delay_ms; one of them is enough'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [{"topic": "fan", "group_id": "x", "always": true}]')), 'effects[0].enqueues[0].group_id: is not known'),
	(pg_temp.fin(effects => pg_temp.effect('"enqueues": [1]')), 'effects[0].enqueues[0]: is not an object'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "set", "group": "g", "key": "k"}]')), 'effects[0].states[0].value: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "set", "group": 5, "key": "k", "value": 1}]')), 'effects[0].states[0].group: 5 is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "delete", "group": "g", "key": ""}]')), 'effects[0].states[0].key: must not be empty'),
	(pg_temp.fin(effects => pg_temp.effect('"states": [{"op": "delete", "group": "g", "key": "k", "values": 1}]')), 'effects[0].states[0].values: is not known'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": "info", "message": 5}]')), 'effects[0].logs[0].message: 5 is no string'),
	(pg_temp.fin(effects => pg_temp.effect('"logs": [{"at_us": 1, "level": "info", "message": "m", "field": {}}]')), 'effects[0].logs[0].field: is not known'),
	(pg_temp.fin(leases => 'array[t.lease(t.last()), t.lease(t.last())]', jobs => 'array[t.last(), t.last()]', outcome => 'completed,error', ages => '{1,1}', durations => '{1,1}'), 'jobs: has a job twice'),
	('stepd.release(''{1,null}'', ''{1,1}'')', 'leases: must not be null, as element 2 is'),
	('stepd.give_back(1, 1, 1, ''{null}'')', 'keep: must not be null, as element 1 is'),
	('stepd.unread(1, 1, 1, ''{null}'', 1, null)', 'keep: must not be null, as element 1 is'),
	('stepd.died(1, 1, 1, 1, ''crashed'', null, null, null, null, null, -1, 0, 1)', 'age_us: -1 is not between 0 and 3155760000000000'),
	('stepd.died(1, 1, 1, 1, ''crashed'', null, null, null, null, null, 1, 9223372036854775807, 1)', 'duration_us: 9223372036854775807 is not between 0 and 3155760000000000'),
	('stepd.died(1, 1, 1, 1, ''crashed'', null, null, null, null, null, 1, 2, 1)', 'duration_us: 2 is longer than ago it began, which is 1'),
	('stepd.began(1, 1, 1, -5)', 'age_us: -5 is not between 0 and 3155760000000000')) v (call, said);
select is(t.status(t.last()), 'running', 'the job is held still');

-- requests, schedules, pools, configuration
select pg_temp.refused('stepd.' || call, said) from (values
	($$http_finish(1, 1, 'Web', 0, null, 'completed', -1, 1, null, null, null, null)$$, 'age_us: -1 is not between 0 and 3155760000000000'),
	($$http_finish(1, 1, 'Web', 40000, null, 'completed', 1, 1, null, null, null, null)$$, 'trigger_index: 40000 is not between 0 and 32767'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, '', null, null, null)$$, 'input: invalid input syntax for type json'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, '1e999999', null, null)$$, 'output: value overflows numeric format'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, null, null, '')$$, 'effects: invalid input syntax for type json'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, null, null, '"x"')$$, 'effects: is not an array of objects'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, null, null, '{"zzz": 1}')$$, 'effects[0].zzz: is not known'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 2, null, null, null, null)$$, 'duration_us: 2 is longer than ago it began, which is 1'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, repeat('[', 513) || repeat(']', 513), null, null, null)$$, 'input: is nested deeper than 512 levels'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, repeat('[', 513) || repeat(']', 513), null, null)$$, 'output: is nested deeper than 512 levels'),
	($$http_died(1, 1, 'Web', 0, gen_random_uuid(), gen_random_uuid(), 'completed', 1, 1, null, null, null, null, null, null)$$, 'outcome: ''completed'' is none of crashed, timeout'),
	($$http_died(1, 1, 'Web', 0, null, gen_random_uuid(), 'crashed', 1, 1, null, null, null, null, null, null)$$, 'trace_id: must not be null'),
	($$http_accept('{Web}', '{0}', array[repeat('[', 513) || repeat(']', 513)], '{null}')$$, 'inputs[1]: is nested deeper than 512 levels'),
	($$http_accept('{Web}', '[2:2]={0}', '{1}', '{null}')$$, 'trigger_indexes: begins with element 2, not with 1'),
	($$node_join(gen_random_uuid(), 'n', 1, repeat('v', 201), 1000)$$, 'version: is 201 bytes long, at most 200 are allowed'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": ["cron"], "expression": "@daily"}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].type: ["cron"] is none of queue, http, cron'),
	($$configure('n', '{"steps": []}', null, '{"strategy": "zz"}')$$, 'defaults.strategy: "zz" is none of standard, fifo, priority'),
	($$configure('n', '{"steps": []}', null, '{"jitter": 1e-400}')$$, 'defaults.jitter: has 400 digits after the point, at most 30 are allowed'),
	($$node_pools(1, '[{"pool": "p", "serves": "queue", "processes": 1, "min": 5, "max": 2, "deaths": 0, "degraded": false}]')$$, 'pools[0].min: 5 is more than max, which is 2'),
	($$backlog('[{"pool": 0, "max": 1, "steps": []}, {"pool": 0, "max": 1, "steps": []}]')$$, 'pools: has a pool twice'),
	($$died(1, 1, 1, 1, 'crashed', null, 1, 9, null, null, 1, 1, 1)$$, 'signal: 9 is given beside an exit code; a process ends by one of them'),
	($$http_accept('{Std}', '{0}', '{1}', '{null}')$$, 'steps[1]: "Std" has no http trigger'),
	($$configure('n', jsonb_build_object('steps', jsonb_build_array(jsonb_build_object('name', 'A', 'enqueues', jsonb_build_array(repeat('t', 256))))), null, null)$$, 'manifest.steps[0].enqueues[0]: is 256 bytes long, at most 255 are allowed'),
	($$claim(1, 1, 1, '{1}', '{0}', '[0:0]={5}', 1)$$, 'maxes: begins with element 0, not with 1'),
	($$claim(1, 1, 1, '{1}', '{0}', '{{5}}', 1)$$, 'maxes: has more than one dimension'),
	($$enqueue_many('std', jsonb_build_array(jsonb_build_object('delay_ms', -1e-400)))$$, 'items[0].delay_ms: -0.' || repeat('0', 57) || ' is not between 0 and a hundred years'),
	($$http_accept('{null}', '{0}', '{1}', '{null}')$$, 'steps: must not be null, as element 1 is'),
	($$http_accept('{Nope}', '{0}', '{1}', '{null}')$$, 'steps[1]: "Nope" is not known'),
	($$http_accept('{Web}', '{2147483647}', '{1}', '{null}')$$, 'trigger_indexes[1]: 2147483647 is not between 0 and 32767'),
	($$http_accept('{Web}', '{0}', '{""}', '{null}')$$, 'inputs[1]: invalid input syntax for type json'),
	($$http_accept('{Web}', '{0}', '{null}', '{null}', '{k}')$$, 'inputs: must not be null, as element 1 is'),
	($$http_accept('{Web}', '{0}', '{1}', '{null}', array[repeat('k', 1000000)])$$, 'keys[1]: is 1000000 bytes long, at most 255 are allowed'),
	($$cron_fire('{1}', '{null}', '{null}')$$, 'fire_at: must not be null, as element 1 is'),
	($$cron_fire('{1}', '{infinity}', '{null}')$$, 'fire_at[1]: infinity is not between 1970 and 9999'),
	($$cron_fire('{1}', '{2026-01-01}', '{-infinity}')$$, 'next_at[1]: -infinity is not between 1970 and 9999'),
	($$cron_fire('{1}', '{2026-01-01}', '{null}', null, 'infinity')$$, 'fired_at: infinity is not between 1970 and 9999'),
	($$cron_next('{1}', '{infinity}')$$, 'next_at[1]: infinity is not between 1970 and 9999'),
	($$schedules_load('{null}')$$, 'steps: must not be null, as element 1 is'),
	($$node_pools(1, '[{}]')$$, 'pools[0].max: must not be empty'),
	($$node_pools(1, '[{"pool": "p", "serves": "queue", "processes": "x", "min": 1, "max": 1, "deaths": 0, "degraded": false}]')$$, 'pools[0].processes: "x" is no number'),
	($$node_pools(1, '[{"pool": "p", "serves": "queue", "processes": -1, "min": 1, "max": 1, "deaths": 0, "degraded": false}]')$$, 'pools[0].processes: -1 is not a whole number between 0 and 2147483647'),
	($$node_pools(1, '[{"pool": "p", "serves": "zz", "processes": 1, "min": 1, "max": 1, "deaths": 0, "degraded": false}]')$$, 'pools[0].serves: "zz" is none of queue, http'),
	($$backlog('[{"pool": 0, "max": -1, "steps": []}]')$$, 'pools[0].max: -1 is not a whole number between 0 and 2147483647'),
	($$backlog('[{"pool": 0, "max": 1, "steps": "x"}]')$$, 'pools[0].steps: "x" is no array of strings'),
	($$lanes('{{a},{b}}')$$, 'steps: has more than one dimension'),
	($$cancelled('{{1},{2}}')$$, 'job_ids: has more than one dimension'),
	($$http_jobs('{null}', '{true}', true)$$, 'ids: must not be null, as element 1 is'),
	($$node_gone('{null}')$$, 'node_ids: must not be null, as element 1 is'),
	($$claim(1, 1, 1, '{null}', '{0}', '{1}', 1)$$, 'lanes: must not be null, as element 1 is'),
	($$claim(1, 1, 1, '{1}', '{0}', '{null}', 1)$$, 'maxes: must not be null, as element 1 is'),
	($$claimed(1, 1, 1, '{null}')$$, 'leases: must not be null, as element 1 is'),
	($$maintain('-12 months 361 days')$$, 'keep: -1 years +361 days has parts below zero'),
	($$upkeep('1 month -29 days')$$, 'keep: 1 mon -29 days has parts below zero'),
	($$upkeep('-12 months 361 days')$$, 'keep: -1 years +361 days has parts below zero'),
	($$backlog('[{"pool": 1.0, "max": 1, "steps": []}]')$$, 'pools[0].pool: 1.0 is not a whole number between 0 and 2147483647'),
	($$enqueue_many('std', '[{}, {"priority": 1.0}]')$$, 'items[1].priority: 1.0 is no whole number'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "maxRetries": 1.0}]', null)$$, 'queues[0].maxRetries: 1.0 is not a whole number between 0 and 30000'),
	($$maintain('170000000 years')$$, 'keep: 170000000 years is more than 36500 days'),
	($$upkeep('170000000 years')$$, 'keep: 170000000 years is more than 36500 days'),
	($$progress_report(1, 1, 1, '{"percent": "x"}')$$, 'progress.percent: "x" is no number'),
	($$progress_report(1, 1, 1, '{"percent": 101}')$$, 'progress.percent: 101 is not a number between 0 and 100'),
	($$progress_report(1, 1, 1, '{"message": 5}')$$, 'progress.message: 5 is no string'),
	($$progress_report(1, 1, 1, '{"how": 5}')$$, 'progress.how: is not known'),
	($$configure(repeat('n', 201), '{"steps": []}', null, null)$$, 'node_name: is 201 bytes long, at most 200 are allowed'),
	($$configure('n', '1', null, null)$$, 'manifest: is not an object'),
	($$configure('n', '{"step": []}', null, null)$$, 'manifest.step: is not known'),
	($$configure('n', '{"steps": [1]}', null, null)$$, 'manifest.steps[0]: is not an object'),
	($$configure('n', '{"steps": [{"name": "A"}, {"name": "A"}]}', null, null)$$, 'manifest: has a step twice'),
	($$configure('n', '{"steps": [{"name": []}]}', null, null)$$, 'manifest.steps[0].name: [] is no string'),
	($$configure('n', jsonb_build_object('steps', jsonb_build_array(jsonb_build_object('name', repeat('x', 1000000)))), null, null)$$, 'manifest.steps[0].name: is 1000000 bytes long, at most 255 are allowed'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "queue", "topic": 5}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].topic: 5 is no string'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "cron", "expression": "@daily", "overlap": "zz"}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].overlap: "zz" is none of allow, skip'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "cron", "expression": "@daily", "catchUpLimit": 0}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].catchUpLimit: 0 is not a whole number between 1 and 3155760000000'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "cron", "expression": "@daily", "catchUpLimit": "zz"}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].catchUpLimit: "zz" is no number'),
	($$configure('n', '{"steps": []}', '[{"name": "q", "jitter": 5}]', null)$$, 'queues[0].jitter: 5 is not a number between 0 and 1'),
	($$configure('n', '{"steps": [], "x": 1}', null, null)$$, 'manifest.x: is not known'),
	($$configure('n', '{"steps": [{"name": "A", "flows": [5]}]}', null, null)$$, 'manifest.steps[0].flows[0]: 5 is no string'),
	($$configure('n', '{"steps": [{"name": "A", "enqueues": ["x", null]}]}', null, null)$$, 'manifest.steps[0].enqueues[1]: must not be empty'),
	($$configure('n', '{"steps": [{"name": "A", "kind": 5}]}', null, null)$$, 'manifest.steps[0].kind: 5 is no string'),
	($$configure('n', '{"steps": [{"name": "A", "file": {}}]}', null, null)$$, 'manifest.steps[0].file: {} is no string'),
	($$configure('n', '{"steps": [{"name": "A", "trigger": []}]}', null, null)$$, 'manifest.steps[0].trigger: is not known'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [5]}]}', null, null)$$, 'manifest.steps[0].triggers[0]: is not an object'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"topic": "x"}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].type: must not be empty'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": 5}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].type: 5 is none of queue, http, cron'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "queue", "topic": "x"}, {"type": "http", "method": "GET"}]}]}', null, null)$$, 'manifest.steps[0].triggers[1].path: must not be empty'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "cron", "expression": 5}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].expression: 5 is no string'),
	($$configure('n', '{"steps": [{"name": "A", "triggers": [{"type": "cron", "expression": "@daily", "timezone": 5}]}]}', null, null)$$, 'manifest.steps[0].triggers[0].timezone: 5 is no string'),
	($$configure('n', '{"steps": []}', 'null', null)$$, 'queues: is not an array of objects'),
	($$configure('n', '{"steps": []}', '[5]', null)$$, 'queues[0]: is not an object'),
	($$configure('n', '{"steps": []}', '[{}]', null)$$, 'queues[0].name: must not be empty'),
	($$configure('n', '{"steps": []}', '[{"name": "a"}, {"name": "b"}, {"name": "a"}]', null)$$, 'queues: has a queue twice'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "paused": true}]', null)$$, 'queues[0].paused: is not known'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "retryDelay": "1s"}]', null)$$, 'queues[0].retryDelay: "1s" is no number'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "maxRetries": 1.5}]', null)$$, 'queues[0].maxRetries: 1.5 is not a whole number between 0 and 30000'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "rate_limit": 3000000000}]', null)$$, 'queues[0].rate_limit: 3000000000 is not a whole number between 0 and 2147483647'),
	($$configure('n', '{"steps": []}', '[{"name": "a", "maxRetries": 1, "max_retries": 2}]', null)$$, 'queues[0]: has a setting twice, in two spellings'),
	($$node_place(1, repeat('h', 1001), 1)$$, 'host: is 1001 bytes long, at most 1000 are allowed'),
	($$configure('n', '{"steps": []}', null, '[]')$$, 'defaults: is not an object'),
	($$configure('n', '{"steps": []}', null, '{"name": "x"}')$$, 'defaults.name: is not known'),
	($$configure('n', '{"steps": []}', null, '{"backoff": 5}')$$, 'defaults.backoff: 5 is none of exponential, linear, fixed'),
	($$cron_fire('{1}', '{2026-01-02}', '{2026-01-01}')$$, 'next_at[1]: 2026-01-01 00:00:00+00 is not after fire_at'),
	($$claim(1, -1, 1, '{1}', '{0}', '{1}', 1)$$, 'slot: -1 is not between 0 and 2147483647'),
	($$claim(1, 1, 1, '{1,1}', '{0,0}', '{1,1}', 1)$$, 'lanes: has lane 1 twice'),
	($$claim(1, 1, 1, '{1}', '{0}', '{1}', 1, idle => '{{1},{2}}')$$, 'idle: has more than one dimension'),
	($$claim(1, 1, 1, '{1}', '{0}', '{1}', 1, idle => '{null}')$$, 'idle: must not be null, as element 1 is'),
	($$claim(1, 1, 1, '{1}', '{0}', '{1}', 1, -1)$$, 'large: -1 is not between 0 and 2147483647'),
	($$claim(1, 1, 1, '{1}', '{0}', '{1}', 1, null, '{-1}')$$, 'mosts[1]: -1 is not between 0 and 2147483647'),
	($$died(1, 1, 1, 1, 'crashed', null, -1, null, null, null, 1, 1, 1)$$, 'exit_code: -1 is not between 0 and 255'),
	($$died(1, 1, 1, 1, 'crashed', null, null, 0, null, null, 1, 1, 1)$$, 'signal: 0 is not between 1 and 127'),
	($$died(1, 1, 1, 1, 'crashed', null, null, 9, -5, null, 1, 1, 1)$$, 'max_rss_kb: -5 is not between 0 and 9223372036854775807'),
	($$http_finish(-1, 1, 'Web', 0, null, 'completed', 1, 1, null, null, null, null)$$, 'node_id: -1 is not between 0 and 2147483647'),
	($$http_finish(1, 1, 'Web', 0, null, 'completed', 1, 1, null, null, null, '{"logs": [1]}')$$, 'effects[0].logs[0]: is not an object'),
	($$configure('n1', '{"steps": []}', null, '{"jitter": 5}')$$, 'defaults.jitter: 5 is not a number between 0 and 1')) v (call, said);

select is(stepd.state_update('g', 'none', '[{"type": "set", "value": null}, {"type": "increment"}]') ->> 'new', '1', 'null counts as nothing');
select is(stepd.state_update('g', 'none', '[{"type": "set", "value": {"c": null}}, {"type": "decrement", "path": "c"}]') -> 'new' ->> 'c', '-1', 'at a path, too');
-- what an application may get wrong in an operation
select pg_temp.refused(format('stepd.state_update(%L, %L, %L)', 'g', 'k', ops), said) from (values
	('[{"type": "set"}]', 'ops[0].value: is missing; set needs one'),
	('[{"type": "append"}]', 'ops[0].value: is missing; append needs one'),
	('[{"type": "set", "by": 1, "value": 1}]', 'ops[0].by: is not for set'),
	('[{"type": "increment", "path": "a", "value": 5}]', 'ops[0].value: is not for increment'),
	('[{"type": "increment", "by": null}]', 'ops[0].by: null is no number'),
	('[' || repeat('{"type": "increment"},', 10000) || '{"type": "increment"}]', 'ops: has 10001 operations, at most 10000 are allowed'),
	('[{"type": "increment", "by": 1e1001}]', 'ops[0].by: has more than 1000 digits'),
	('[{"type": "set", "value": 1e10001}, {"type": "increment"}]', 'ops[1]: increment of a number of more than 10000 digits'),
	('[{"type": "set", "path": [1.5], "value": 1}]', 'ops[0].path: [1.5] is no path'),
	('[{"type": "set", "path": [' || repeat('"p",', 512) || '"p"], "value": 1}]', 'ops[0].path: has 513 steps, at most 512 are allowed')) v (ops, said);
select is(stepd.state_update('g', 'new', '[{"type": "increment"}]') ->> 'new', '1', 'by is 1 if left out');
select is(t.sound(), 'sound', 'sound');

-- A call of a function with some value for each argument, and this for one.
create function pg_temp.call_of(p pg_proc, n int, given text) returns text language sql as $$
	select format('select * from stepd.%I(%s)', p.proname, string_agg(case when i = cardinality(p.proargtypes::oid[]) and p.provariadic <> 0 then 'variadic ' else '' end
		|| format('%L::%s', case when i = n then given when p.proargnames[i] = 'exit_code' or p.proargnames[i] = 'signal' and p.proargnames[n] = 'exit_code' then null else case
			when p.proargnames[i] = 'manifest' then '{"steps": []}' when p.proargnames[i] in ('progress', 'input', 'output', 'defaults') and t in ('text'::regtype, 'jsonb'::regtype) then '{}'
			when p.proargnames[i] = 'steps' then '{Web}'
			when p.proargnames[i] = 'effects' then '[]' when p.proargnames[i] = 'outcome' then 'crashed' when p.proargnames[i] = 'outcomes' then '{completed}' when p.proargnames[i] = 'status' then 'failed'
			when p.proargnames[i] = 'next_at' then '{2026-01-02}'
			else case t::text when 'text' then 'Tick' when 'jsonb' then '[]' when 'interval' then '1 day' when 'boolean' then 'true' when 'uuid' then gen_random_uuid()::text
				when 'timestamp with time zone' then '2026-01-01' when 'timestamp with time zone[]' then '{2026-01-01}' when 'uuid[]' then '{null}' when 'boolean[]' then '{true}'
				when 'integer' then '100' when 'bigint' then '100' else '{1}' end end end, t), ', ' order by i))
	from unnest(p.proargtypes::regtype[]) with ordinality a (t, i)
$$;

-- Which of the functions take null for an argument, the others being of some value?  The others refuse it by its name.
create function pg_temp.takes_null(p pg_proc, n int) returns text language plpgsql as $$
declare
	said text;
begin
	execute pg_temp.call_of(p, n, null);
	return p.proargnames[n];
exception when sqlstate '22023' then
	get stacked diagnostics said = message_text;
	return case when said not like p.proargnames[n] || ': %' and said ~ ': (must not be null|null )' then 'as ' || said end;
when others then
	return p.proargnames[n] || ' fails with ' || sqlstate;
end $$;
select is((select string_agg(x.proname || '(' || x.args || ')', ' ' order by x.proname) from (
		select p.proname, string_agg(pg_temp.takes_null(p, n), ' ' order by n) as args
		from pg_proc p cross join generate_series(1, p.pronargs) n
		where p.pronamespace = 'stepd'::regnamespace and p.proname !~ '^_' and p.prokind = 'f' group by p.oid, p.proname) x where x.args <> ''),
	'claim(large mosts idle)'
	|| ' configure(queues defaults)'
	|| ' cron_fire(revisions)'
	|| ' cron_next(descriptions)'
	|| ' died(job error exit_code signal max_rss_kb cpu_ms duration_us pid)'
	|| ' end_session(backend)'
	|| ' enqueue(data priority run_at group_id unique_key)'
	|| ' finish(pid outputs errors delays_ms effects)'
	|| ' give_back(keep)'
	|| ' http_accept(keys)'
	|| ' http_died(pid duration_us input error exit_code signal max_rss_kb cpu_ms)'
	|| ' http_finish(pid trace_id duration_us input output error effects)'
	|| ' latest_jobs(queue step status trace_id)'
	|| ' node_beat(listening)'
	|| ' node_place(host pid_started)'
	|| ' pause_schedule(trigger_index)'
	|| ' resume_schedule(trigger_index)'
	|| ' run(trigger_index)'
	|| ' state_set(value)'
	|| ' unread(keep pid error)',
	'functions with the arguments that may be null');

-- And which of them take a number below zero where it does not name something?  (Of what there is not they do nothing.)
create function pg_temp.takes_negative(p pg_proc, n int) returns text language plpgsql as $$
begin
	execute pg_temp.call_of(p, n, case when p.proargtypes[n - 1]::regtype::text like '%[]' then '{-1}' else '-1' end);
	return case when p.proargnames[n] !~ '^(node_id|slot|generation|backend|(job|lease|lane|node|schedule)(_id)?s?|ids|keep|cursors|revisions|priority)$' then p.proargnames[n] end;
exception when others then
	return case when sqlerrm !~ ('^' || p.proargnames[n] || '(\[1\])?: ') then p.proargnames[n] || ' fails with ' || sqlstate || ' ' || sqlerrm end;
end $$;
select is((select string_agg(x.proname || '(' || x.args || ')', ' ' order by x.proname) from (
		select p.proname, string_agg(pg_temp.takes_negative(p, n), ' ' order by n) as args
		from pg_proc p cross join generate_series(1, p.pronargs) n
		where p.pronamespace = 'stepd'::regnamespace and p.proname !~ '^_' and p.prokind = 'f'
			and p.proargtypes[n - 1] in ('int'::regtype, 'bigint'::regtype, 'int[]'::regtype, 'bigint[]'::regtype) group by p.oid, p.proname) x where x.args <> ''),
	null, 'functions with the arguments that may be negative');

-- And which of them take an array that does not begin with element 1, or has two dimensions?
create function pg_temp.takes_array(p pg_proc, n int, given text, said text) returns text language plpgsql as $$
begin
	execute pg_temp.call_of(p, n, format(given, case p.proargtypes[n - 1]::regtype::text when 'timestamp with time zone[]' then '2026-01-03' when 'uuid[]' then 'null'
		when 'boolean[]' then 'true' else case p.proargnames[n] when 'steps' then 'Web' when 'outcomes' then 'completed' when 'settings' then 'timeout' else '1' end end));
	return p.proargnames[n];
exception when others then
	return case when sqlerrm <> p.proargnames[n] || ': ' || said then p.proargnames[n] || ' fails with ' || sqlstate || ' ' || sqlerrm end;
end $$;
select is((select string_agg(x.proname || '(' || x.args || ')', ' ' order by x.proname) from (
		select p.proname, string_agg(pg_temp.takes_array(p, n, v.given, v.said), ' ' order by n) as args
		from pg_proc p cross join generate_series(1, p.pronargs) n
			cross join (values ('[2:2]={%s}', 'begins with element 2, not with 1'), ('{{%s}}', 'has more than one dimension')) v (given, said)
		where p.pronamespace = 'stepd'::regnamespace and p.proname !~ '^_' and p.prokind = 'f' and p.proargtypes[n - 1]::regtype::text like '%[]'
		group by p.oid, p.proname) x where x.args <> ''),
	null, 'functions with arrays of other bounds');
select is((select count(*)::int from stepd.enqueue_many('std', '[{"delay_ms": 1e-400}]')), 1, 'a delay of nearly nothing');

-- And which of them, given something odd, fail with words that do not name the argument?
create function pg_temp.odd_values(type text) returns text[] language sql as $$
	select case type when 'jsonb' then array['5', '"x"', '[]', '{}', 'null', '[[]]', '[{"": {}}]', '[null]', '{"a": [1e-400]}', '"1e131071"', repeat('[', 600) || repeat(']', 600)]
		when 'text' then array['', 'x', repeat('x', 1000000), '{"a": 1}', '[{}]', 'null', '[null]', '1e-400', '{"": {"": []}}', repeat('[', 600) || repeat(']', 600)]
		when 'interval' then array['-1 day', '0', '-178000000 years', '178000000 years', '1 mon -31 days']
		when 'timestamp with time zone' then array['infinity', '-infinity', '294276-01-01', '4713-01-01 BC', '1970-01-01']
		when 'integer' then array['0', '2147483647', '-2147483648'] when 'bigint' then array['0', '9223372036854775807', '-9223372036854775808']
		when 'integer[]' then array['{}', '{0}', '{2147483647}', '{-2147483648}', '{1,1}', '{null}'] when 'bigint[]' then array['{}', '{0}', '{9223372036854775807}', '{-9223372036854775808}', '{1,1}', '{null}']
		when 'text[]' then array['{}', '{""}', '{null}', '{x}', '{x,x}', '{[}', '{1e-400}'] || array[array[repeat('x', 1000000)]::text]
		when 'timestamp with time zone[]' then array['{}', '{infinity}', '{-infinity}', '{294276-01-01}', '{null}'] else '{}' end
$$;
create function pg_temp.fails_oddly(p pg_proc, n int) returns text language plpgsql as $$
declare
	odd text;
	bad text;
begin
	foreach odd in array pg_temp.odd_values(p.proargtypes[n - 1]::regtype::text) loop
		begin
			execute pg_temp.call_of(p, n, odd);
		exception when others then
			if sqlstate <> '22023' or not starts_with(sqlerrm, p.proargnames[n]) and sqlerrm !~ '^[a-z_]+: has \d+ elements, and [a-z_]+ has \d+$|is longer than ago it began' then
				bad := concat_ws(', ', bad, format('%s=%s: %s %s', p.proargnames[n], left(odd, 40), sqlstate, left(sqlerrm, 150)));
			end if;
		end;
	end loop;
	return bad;
end $$;
select is((select string_agg(x.proname || '(' || x.args || ')', E'\n' order by x.proname) from (
		select p.proname, string_agg(pg_temp.fails_oddly(p, n), E'\n' order by n) as args
		from pg_proc p cross join generate_series(1, p.pronargs) n
		where p.pronamespace = 'stepd'::regnamespace and p.proname !~ '^_' and p.prokind = 'f' group by p.oid, p.proname) x where x.args <> ''),
	null, 'functions that do not say which argument is odd');

-- Objects: each member of a good one in turn made odd.
create function pg_temp.members(v jsonb) returns setof text[] language sql as $$
	with recursive w (path, value) as (
		select '{}'::text[], v
		union all
		select w.path || m.key, m.value from w cross join lateral (
			select key, value from jsonb_each(case when jsonb_typeof(w.value) = 'object' then w.value else '{}' end)
			union all select (ordinality - 1)::text, value from jsonb_array_elements(case when jsonb_typeof(w.value) = 'array' then w.value else '[]' end) with ordinality) m)
	select path from w where path <> '{}'
$$;
create function pg_temp.mutants(v jsonb) returns setof jsonb language sql as $$
	select jsonb_set(v, path, odd) from pg_temp.members(v) path, unnest(array['5', '-1', '1.0', '1e-400', '1e300', '9223372036854775808', '"x"', '""', '[]', '{}', 'null', '["x"]', 'true', '"infinity"',
		to_jsonb(repeat('x', 1000000)), (repeat('[', 600) || repeat(']', 600))::jsonb]::jsonb[]) odd
	union all
	select v #- path from pg_temp.members(v) path
	union all
	select jsonb_set(v, path || 'zz'::text, '1') from pg_temp.members(v) path where jsonb_typeof(v #> path) = 'object'
$$;
create function pg_temp.fails_oddly(call text, argument text, good jsonb) returns text language plpgsql as $$
declare
	odd jsonb;
	bad text;
begin
	for odd in select null union all select m from pg_temp.mutants(good) m loop
		begin
			execute format('select * from ' || call, coalesce(odd, good)::text);
			raise exception using errcode = 'P0099'; -- back to what was before
		exception when sqlstate 'P0099' then
			null;
		when others then
			if odd is null or sqlstate <> '22023' or sqlerrm !~ ('^' || argument || '(\.|\[|: )') then
				bad := concat_ws(E'\n', bad, format('%s: %s %s', left(odd::text, 200), sqlstate, left(sqlerrm, 150)));
			end if;
		end;
	end loop;
	return bad;
end $$;
select stepd.enqueue('std'), t.claim(8, 'Std', 99);
select is(f, null, 'odd members: ' || v.call) from (values
	('stepd.enqueue_many(''std'', %L)', 'items', '[{"data": {"a": 1}, "priority": 5, "delay_ms": 10, "group": "g", "unique": "u"}, {"run_at": "2030-01-01"}]'),
	('stepd.state_update(''g'', ''odd'', %L)', 'ops', '[{"type": "set", "path": ["a", 0, "b"], "value": [1, 2]}, {"type": "merge", "value": {"x": 1}}, {"type": "increment", "path": "n", "by": 2},
		{"type": "append", "path": ["l"], "value": 1}, {"type": "remove", "path": "l"}, {"type": "decrement", "path": ["m"]}]'),
	('stepd.configure(''n7'', %L, null, null)', 'manifest', '{"steps": [{"name": "Odd", "description": "d", "file": "f", "kind": "c", "flows": ["f"], "enqueues": ["e"], "triggers": [{"type": "queue", "topic": "odd", "input": {}},
		{"type": "http", "method": "GET", "path": "/", "bodySchema": {}, "querySchema": {}, "respond": "sync", "timeout": 5},
		{"type": "cron", "expression": "@daily", "timezone": "UTC", "missed": "one", "overlap": "skip", "catchUpLimit": 5}]}]}'),
	('stepd.configure(''n7'', ''{"steps": []}'', %L, null)', 'queues', '[{"name": "odd", "strategy": "fifo", "maxRetries": 1, "retryDelay": 5, "backoff": "fixed", "maxRetryDelay": 5, "jitter": 0.5, "maxConcurrency": 5, "timeout": 5,
		"rateLimit": 5, "rateWindow": 5, "concurrencyPerGroup": 5, "history": 5}]'),
	('stepd.configure(''n7'', ''{"steps": []}'', null, %L)', 'defaults', '{"strategy": "priority", "max_retries": 1, "retry_delay_ms": 5, "backoff": "linear", "max_retry_delay_ms": 5, "jitter": 0.5, "max_concurrency": 5, "timeout_ms": 5,
		"rate_limit": 5, "rate_window_ms": 5, "concurrency_per_group": 5, "history_ms": 5}'),
	('stepd.queue_set(''std'', %L)', 'settings', '{"strategy": "fifo", "maxRetries": 1, "retryDelay": "5s", "backoff": "fixed", "maxRetryDelay": 5, "jitter": 0.5, "maxConcurrency": 5, "timeout": "5s", "rateLimit": "5/1s",
		"history": "7d"}'),
	('stepd.node_pools(1, %L)', 'pools', '[{"pool": "p", "serves": "queue", "processes": 1, "min": 1, "max": 1, "deaths": 0, "degraded": false, "retry_ms": 5, "queues": ["q"], "steps": ["s"]}]'),
	('stepd.backlog(%L)', 'pools', '[{"pool": 1, "max": 5, "steps": ["Std"], "queues": ["std"]}]'),
	(format('stepd.progress_report(%s, %s, %s, %%L)', t.n(), t.lease(t.last()), t.last()), 'progress', '{"percent": 5, "message": "m", "fields": {"a": 1}}'),
	(pg_temp.fin(outcome => 'completed', effects => '%s'), 'effects', format('[{"job": %s, "enqueues": [{"topic": "fan", "data": {"a": [1]}, "priority": 5, "delay_ms": 0.5, "group": "g", "unique": "u", "always": true}, {"topic": "std", "run_at": "2030-01-01"}],
		"states": [{"op": "set", "group": "o", "key": "k", "value": {"a": 1}}, {"op": "delete", "group": "o", "key": "k"}, {"op": "update", "group": "o", "key": "k", "ops": [{"type": "increment", "path": "n", "by": 1}]}, {"op": "clear", "group": "o"}],
		"logs": [{"at_us": 1, "level": "info", "message": "m", "fields": {"a": 1}}], "progress": {"percent": 5, "message": "m", "fields": {}}}]', t.last()))) v (call, argument, good)
	cross join lateral pg_temp.fails_oddly(case when v.argument = 'effects' then replace(v.call, '''%s''', '%L') else v.call end, v.argument, v.good::jsonb) f;

-- what is stored compressed in a table of the caller's does not look large or deep
create temp table zipped (d jsonb);
insert into zipped select (repeat('[', n) || repeat(']', n))::jsonb from unnest('{512,520,600}'::int[]) n;
insert into zipped values (to_jsonb(repeat('x', 101000000))), (to_jsonb(repeat('x', 67108862)));
select ok(bool_or(pg_column_size(d) < 2048), 'so small') from zipped where jsonb_typeof(d) = 'array';
select is((select count(*)::int from (select stepd.enqueue('std', d) from zipped where d @? '$.**{511}' and not d @? '$.**{512}') x), 1, '512 levels');
select throws_like($$select stepd.enqueue('std', d) from zipped where d @? '$.**{512}' and not d @? '$.**{530}'$$, 'data: is nested deeper%', '520');
select throws_like($$select stepd.enqueue('std', d) from zipped where d @? '$.**{530}'$$, 'data: is nested deeper%', '600');
select throws_like($$select stepd.state_set('g', 'k', d) from zipped where d @? '$.**{530}'$$, 'value: is nested deeper%', 'in state too');
select throws_like($$select stepd.enqueue('std', d) from zipped where jsonb_typeof(d) = 'string'$$, 'data: is 101000002 bytes large%', '101 MB');
select is((select count(*)::int from (select stepd.enqueue('std', d) from zipped where jsonb_typeof(d) = 'string' and length(d::text) < 68000000) x), 1, '64 MiB');
select lives_ok($$select stepd.enqueue('std', (repeat('[', 512) || '1' || repeat(']', 512))::jsonb)$$, '512 levels around a number');
select throws_like($$select stepd.enqueue('std', (repeat('{"a":', 513) || '1' || repeat('}', 513))::jsonb)$$, 'data: is nested deeper%', '513');
select lives_ok($$select stepd._check_data('data', ('[1' || repeat(',1', 4500000) || ']')::jsonb)$$, 'as JSON these are 9 MB, in PostgreSQL''s form 72 MB');
select * from finish();
rollback;
