-- A session that is going to claim plans what it needs, with a queue that nobody sees.
begin;
select no_plan();
select t.setup() as node \gset
select t.lane('Std') as std \gset

-- as a queue of no limits, then of all
create function pg_temp.counts() returns text language sql as $$
	select format('%s queues, %s lanes, %s ready, %s leases, %s jobs, %s ended', (select count(*) from stepd.queue), (select count(*) from stepd.lane),
		(select count(*) from stepd.ready), (select count(*) from stepd.lease), (select count(*) from stepd.job), (select count(*) from stepd.outcome))
$$;
select pg_temp.counts() as before \gset
create function pg_temp.flow(per_group int) returns text language plpgsql as $$
declare
	said text;
begin
	begin
		perform stepd.queue_set('std', jsonb_build_object('concurrencyPerGroup', coalesce(nullif(per_group, 0)::text, 'none')));
		perform stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'g' || i)) from generate_series(1, 40) i));
		update stepd.job set id = -id;
		update stepd.ready set pos = -pos;
		perform stepd._warm_flow(t.n(), 1, t.lane('Std'), per_group, 40);
		select format('%s ended, %s held, %s ready', (select count(*) from stepd.outcome where status = 'completed'), (select count(*) from stepd.lease), (select count(*) from stepd.ready)) into said;
		raise sqlstate 'TTTTT';
	exception when sqlstate 'TTTTT' then
		return said;
	end;
end $$;
select is(pg_temp.flow(0), '40 ended, 0 held, 0 ready', 'it claims and finishes all jobs of a queue');
select is(pg_temp.flow(1), '39 ended, 1 held, 0 ready', 'and with concurrencyPerGroup, beside somebody who holds one, all others: first one, then its half, then the rest');

select is((select count(distinct i) from generate_series(1, 100) pid cross join unnest(stepd._warm_ids(pid)) i), 8000::bigint, 'two sessions never meet: each has numbers of its own');
select is((select max(i) < 0 from unnest(stepd._warm_ids(4194304)) i), true, 'that no job has');

select last_value as job_id from stepd.job_id \gset
select is(stepd.warm_up(:node, 1, array[:std]), true, 'a queue without limits');
select is((select last_value from stepd.job_id), :job_id::bigint, 'no job number is used');
select is(pg_temp.counts(), :'before', 'nothing is left of it');
select count(*) from stepd.enqueue_many('std', '[{}, {}, {}]');
select is((select count(c.job_id)::int from stepd.claim(:node, 1, 1, array[:std], '{0}', '{10}', 10, 100) c), 3, 'what it then claims comes at once');
select t.finish_held(1, 'Std');
select stepd.cancel(j.id) from stepd.jobs j;
select stepd.queue_set('std', '{"maxConcurrency": 1, "rateLimit": "5/1m", "concurrencyPerGroup": 3}');
select pg_temp.counts() as before, (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks \gset
select is(stepd.warm_up(:node, 1, array[:std]), true, 'a queue with all limits');
select is(pg_temp.counts(), :'before', 'nothing is left of it');
select is((select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), :locks, 'nor a lock');
select is(current_setting('stepd.kept', true) <> '', false, 'nor a setting');
select is(coalesce(current_setting('stepd.starves', true), ''), '', 'nor that it wants jobs');
select stepd.enqueue('std', '{}', group_id => 'g');
select is(cardinality(t.claim(1, 'Std', 10)), 1, 'the limits are as they were');
select is(stepd.warm_up(:node, 2, (select array_agg(l.id) from stepd.lane l)), true, 'all lanes there are');
select is(stepd.warm_up(:node, 2, '{}'), false, 'no lane');
select is(stepd.warm_up(:node, 2, '{0}'), false, 'one that is not there');
select is(stepd.warm_up(:node + 1, 2, array[:std]), true, 'a node that is not there claims nothing, which is no error');
alter table stepd.job add constraint never check (topic <> '') not valid;
select is(stepd.warm_up(:node, 2, array[:std]), false, 'what goes wrong does no harm');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
