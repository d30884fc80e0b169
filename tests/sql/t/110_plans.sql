-- What a claim costs against a large backlog: rows and index entries that are
-- read, whatever the statistics say and however often the plan was used.
begin;
select no_plan();
select t.setup() as node \gset
update stepd.node set lease_ms = 600000; -- a busy machine takes its time
analyze; -- the trap: all tables look empty

-- and plans were made then, and are kept
create function pg_temp.errors(n int, step text) returns void language plpgsql as $$
declare
	jobs bigint[] := t.claim(5, step, n, null, 0);
begin
	perform stepd.finish(t.n(), 1, array_fill(t.lease(jobs[1]), array[cardinality(jobs)]), jobs, array_fill('error'::text, array[cardinality(jobs)]),
		array_fill(1::bigint, array[cardinality(jobs)]), array_fill(1::bigint, array[cardinality(jobs)]), null, null, array_fill(0::bigint, array[cardinality(jobs)]),
		(select jsonb_agg(jsonb_build_object('job', j, 'enqueues', '[{"topic": "once", "always": true}]'::jsonb, 'logs', '[{"at_us": 1, "level": "info", "message": "m"}]'::jsonb)) from unnest(jobs) j)::text);
	perform stepd.promote(0), stepd.release('{}', '{}'), stepd.died(t.n(), 1, 1, 0, null, null, null, null, 0, 0, 0, 0, 1), stepd.rescue();
end $$;
do $$
begin
	for i in 1 .. 10 loop
		perform t.many('std', 2), t.many('fifo', 2), t.many('prio', 1);
		perform pg_temp.errors(1, 'Std'), pg_temp.errors(1, 'Fifo'), pg_temp.errors(1, 'Prio');
		perform t.finish(t.lease(j)) from unnest(t.claim(5, 'Std', 1)) j;
		perform stepd.cancel(max(id)) from stepd.jobs where status = 'ready';
		perform stepd.retry(max(id)) from stepd.jobs where status = 'cancelled';
		perform t.due();
	end loop;
end $$;
truncate stepd.job, stepd.outcome, stepd.ready, stepd.waiting, stepd.lease, stepd.fifo_inbox, stepd.fifo_backlog, stepd.fifo_group, stepd.attempt, stepd.log;
insert into stepd.job (id, bucket, lane_id, enqueued_at, trace_id, input, priority, group_id)
	select i, (select stepd._today()), (select t.lane('Std')), now(), '01890000-0000-7000-8000-000000000001', '1', i % 10, 'g' || i % 1000 from generate_series(1, 500000) i;
insert into stepd.ready select (select t.lane('Std')), 0, i, stepd._today(), 0 from generate_series(1, 300000) i;
insert into stepd.ready select (select t.lane('Prio')), -(i % 10), i, stepd._today(), 0 from generate_series(300001, 400000) i;
insert into stepd.waiting select i, (select t.lane('Std')), stepd._today(), 0, 'scheduled', now() + i * interval '1 s' from generate_series(400001, 500000) i;
select setval('stepd.job_id', 500000);

-- Run a query some times and say what it read of a table.  (What this transaction deleted stays in the index, so the
-- batches are small.)
create function pg_temp.cost(tab regclass, query text, times int) returns text language plpgsql as $$
declare
	seq bigint;
	entries bigint;
begin
	for i in 1 .. times loop
		seq := pg_stat_get_xact_numscans(tab);
		entries := (select sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index where indrelid = tab);
		execute query;
		seq := pg_stat_get_xact_numscans(tab) - seq;
		entries := (select sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index where indrelid = tab) - entries;
		if seq > 0 or entries > 1000 then
			return format('turn %s: %s sequential scans, %s index entries', i, seq, entries);
		end if;
	end loop;
	return 'cheap';
end $$;

select is(pg_temp.cost('stepd.ready', 'select t.claim(1, ''Std'', 10)', 12), 'cheap', 'claims from the start of 300,000');
select is(pg_temp.cost('stepd.ready', 'select t.claim(1, ''Std'', 10, null, 200000)', 12), 'cheap', 'from the middle');
select is(pg_temp.cost('stepd.ready', 'select t.claim(1, ''Prio'', 10)', 12), 'cheap', 'of a priority lane');
select is(pg_temp.cost('stepd.ready', 'select t.claim(2, ''Once'', 10)', 3), 'cheap', 'of an empty lane');
select is(pg_temp.cost('stepd.waiting', 'select stepd.promote(10)', 12), 'cheap', 'promote with nothing due');
update stepd.waiting set run_at = now() - interval '1 s' where id % 100 = 0;
select is(pg_temp.cost('stepd.waiting', 'select stepd.promote(10)', 8), 'cheap', 'promote with a thousand due');
select is(pg_temp.cost('stepd.ready', 'select stepd.cancel(150000)', 1), 'cheap', 'cancel of one');
select is(pg_temp.cost('stepd.ready', 'select stepd.enqueue(''std'')', 12), 'cheap', 'enqueue');
select is(pg_temp.cost('stepd.job_p' || to_char(stepd._today(), 'YYYYMMDD'), 'select t.claim(1, ''Std'', 10)', 12), 'cheap', 'payloads are looked up');
select 'stepd.job_p' || to_char(stepd._today(), 'YYYYMMDD') as today \gset
select is(pg_temp.cost(:'today', 'select pg_temp.errors(10, ''Std'')', 2), 'cheap', 'errors with effects, by a plan from an empty day');
select is(pg_temp.cost(:'today', 'select pg_temp.errors(10, ''Prio'')', 2), 'cheap', 'of a priority queue');
select t.many('fifo', 10);
select is(pg_temp.cost(:'today', 'select pg_temp.errors(10, ''Fifo'')', 1), 'cheap', 'of a fifo queue');
update stepd.waiting set run_at = now() - interval '1 s' where kind = 'retrying';
select is(pg_temp.cost(:'today', 'select stepd.promote(10)', 4), 'cheap', 'their promotion');
select is(pg_temp.cost(:'today', 'select stepd.cancel(151000)', 1), 'cheap', 'cancel');
select is(pg_temp.cost(:'today', 'select stepd.retry(151000)', 1), 'cheap', 'retry');
select t.claim(6, 'Std', 10);
select is(pg_temp.cost(:'today', 'select stepd.died(t.n(), 6, 1, 0, null, null, null, null, 0, 0, 0, 0, 1)', 1), 'cheap', 'a death');
analyze stepd.ready, stepd.waiting, stepd.job;
select is(pg_temp.cost('stepd.ready', 'select t.claim(1, ''Std'', 10)', 12), 'cheap', 'the same with statistics');
select is(pg_temp.cost('stepd.ready', 'select t.claim(1, ''Prio'', 10)', 12), 'cheap', 'of a priority lane too');
select is(pg_temp.cost('stepd.ready', 'select * from stepd.jobs where id = 160000', 7), 'cheap', 'one job by id');
select is(pg_temp.cost('stepd.waiting', 'select * from stepd.jobs where id = 450001', 7), 'cheap', 'one that waits');
select throws_ok('select stepd.retry(160000)', '22023', 'job_id: job 160000 has not ended', 'retry refuses it');

-- outcomes in bulk are matched by hash, not each with each
select count(*) from t.many('once', 2000);
select t.claim(9, 'Once', 2000) as jobs \gset
select clock_timestamp() as began \gset
select count(*) from stepd.finish(t.n(), 1, array_fill(t.lease((:'jobs'::bigint[])[1]), '{2000}'), :'jobs', array_fill('completed'::text, '{2000}'),
	array_fill(1::bigint, '{2000}'), array_fill(1::bigint, '{2000}'), null, null, null, null);
select cmp_ok(clock_timestamp() - :'began', '<', '2 s', 'finish of 2,000');
select count(*) from t.many('once', 2000);
select t.claim(9, 'Once', 2000) as jobs \gset
select clock_timestamp() as began \gset
select count(*) from stepd.finish(t.n(), 1, array_fill(t.lease((:'jobs'::bigint[])[1]), '{2000}'), :'jobs', array_fill('error'::text, '{2000}'),
	array_fill(1::bigint, '{2000}'), array_fill(1::bigint, '{2000}'), null, null, null,
	(select jsonb_agg(jsonb_build_object('job', j, 'enqueues', '[{"topic": "fan", "always": true}]'::jsonb, 'logs', '[{"at_us": 1, "level": "info", "message": "m"}]'::jsonb,
		'states', jsonb_build_array(jsonb_build_object('op', 'set', 'group', 'g', 'key', 'k' || j, 'value', 1)))) from unnest(:'jobs'::bigint[]) j)::text);
select cmp_ok(clock_timestamp() - :'began', '<', '8 s', 'finish of 2,000 errors with effects');
select is((select count(*)::int from stepd.state), 2000, 'all applied');
select * from finish();
rollback;
