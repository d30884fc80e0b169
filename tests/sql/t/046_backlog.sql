-- stepd.backlog: what could be claimed now, for pools that may grow.
begin;
select no_plan();
select t.setup() as node \gset
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'max_concurrency', '2'), t.queue('fan'), t.queue('fifo', 'strategy', 'fifo')), '{}');

create function pg_temp.backlog(steps text[], queues text[] default null, max int default 9) returns int language sql as $$
	select jobs from stepd.backlog(jsonb_build_array(jsonb_build_object('pool', 3, 'max', max, 'steps', to_jsonb(steps), 'queues', to_jsonb(queues))))
$$;

select is(pg_temp.backlog('{Std,Fan1,Fan2}'), 0, 'nothing waits');
select stepd.enqueue_many('std', (select jsonb_agg('{}'::jsonb) from generate_series(1, 5)));
select stepd.enqueue_many('fan', (select jsonb_agg('{}'::jsonb) from generate_series(1, 3)));
select is(pg_temp.backlog('{Std}'), 5, 'jobs of a step');
select is(pg_temp.backlog('{Std,Fan1}'), 8, 'of two');
select is(pg_temp.backlog('{Std,Fan1,Nobody}', null, 4), 4, 'at most max');
select is(pg_temp.backlog('{Std,Fan1}', '{fan}'), 3, 'only of these queues');
select is(pg_temp.backlog('{Std}', '{fan}'), 0, 'both must fit');
select is((select array_agg(jobs order by pool) from stepd.backlog('[{"pool":0,"max":9,"steps":["Std"],"queues":null},{"pool":1,"max":2,"steps":["Fan1"],"queues":null}]')),
	'{5,2}', 'several pools');
select t.claim(1, 'Std', 1);
select is(pg_temp.backlog('{Std}'), 4, 'what is claimed does not count');
select t.claim(2, 'Std', 1);
select is(pg_temp.backlog('{Std}'), 0, 'nor what maxConcurrency holds back');
select stepd.pause('fan');
select is(pg_temp.backlog('{Fan1}'), 0, 'nor what is paused');
select * from finish();
rollback;
