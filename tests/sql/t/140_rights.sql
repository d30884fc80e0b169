-- What roles can do that have been granted what stepd(8), "Rights in the database", says, and no more.
begin;
select no_plan();
select t.setup() as node \gset
select stepd.enqueue('std', '{"secret": 1}') as other \gset
select stepd.state_set('g', 'k', '"secret"');
-- so that every view has something to show
select t.claim(1, 'Std') = array[:other::bigint] as claimed, t.finish(:other, 'error', 'bad') as retrying;
select stepd.cron_fire(array[s.schedule_id], array[now()], array[now() + interval '1 minute'])
from stepd.schedules_load(array['Tick']) s;

create role stepd_t_app;
create role stepd_t_reader;
create role stepd_t_stranger;
create schema mine authorization stepd_t_app;
grant usage on schema stepd to stepd_t_app, stepd_t_reader;
grant execute on function stepd.enqueue, stepd.enqueue_many to stepd_t_app;
grant select on stepd.jobs, stepd.attempts, stepd.logs, stepd.state, stepd.queues, stepd.schedules, stepd.steps, stepd.nodes, stepd.pools, stepd.lost_leases, stepd.vacuum_holders,
	stepd.oldest_ready, stepd.migration to stepd_t_reader;
grant usage on schema t to public;
grant execute on all functions in schema t to public;
do $$ begin execute 'grant usage on schema ' || pg_my_temp_schema()::regnamespace || ' to public'; exception when others then null; end $$;
select string_agg(format('grant insert, update, select on %s to public; ', c.oid::regclass), '') as g
from pg_class c where c.relnamespace = pg_my_temp_schema() and c.relkind = 'r' \gset
:g
select string_agg(format('grant usage, update, select on %s to public; ', c.oid::regclass), '') as g
from pg_class c where c.relnamespace = pg_my_temp_schema() and c.relkind = 'S' \gset
:g

create function pg_temp.denied(call text) returns text language plpgsql as $$
declare
	got text := 'allowed';
begin
	begin
		execute call;
	exception when others then
		got := sqlstate;
	end;
	return is(got, '42501', current_user || ': ' || call);
end $$;

-- an application that enqueues
set local role stepd_t_app;
select is((select count(*)::int from stepd.enqueue('std', '{"n": 1}')), 1, 'enqueue');
select is((select count(*)::int from stepd.enqueue('fan', '2', 5, now() + interval '1 hour', 'g', 'u')), 2, 'with all options, for each subscriber');
select is((select count(*)::int from stepd.enqueue('fan', '2', 5, now() + interval '1 hour', 'g', 'u')), 2, 'the unique ones again');
select is((select count(*)::int from stepd.enqueue('nobody-listens', '3')), 1, 'without a subscriber');
select is((select count(*)::int from stepd.enqueue_many('fifo', '[{"data": 4, "group": "a"}, {"delay_ms": 1000}]')), 2, 'enqueue_many');
select throws_ok($$select stepd.enqueue('')$$, '22023', 'topic: must not be empty', 'errors are told');
select pg_temp.denied(c) from (values ('select 1 from stepd.jobs'), ('select stepd.latest_jobs(1)'), ('select input from stepd.job'), ('select * from stepd.state'),
	('insert into stepd.ready select * from stepd.ready'), ('update stepd.queue set paused = true'), ('delete from stepd.job'),
	('select nextval(''stepd.job_id'')'), ('select stepd.cancel(1)'), ('select stepd.retry(1)'), ('select stepd.retry_queue(''std'')'),
	('select stepd.pause(''std'')'), ('select stepd.run(''Tick'')'), ('select stepd.queue_set(''std'', ''{"maxRetries": 1}'')'),
	('select stepd.state_get(''g'', ''k'')'), ('select stepd.state_set(''g'', ''k'', ''1'')'), ('select stepd.maintain(''1 day'')'),
	('select * from stepd.claim(1, 1, 1, array[1], array[0], array[1], 1)'), ('select * from stepd.http_jobs(array[1], array[true], true)'),
	('select stepd.configure(''x'', ''{"steps": []}'', ''[]'', ''{}'')'),
	('select * from stepd._put(array[row(1, ''std'', null, ''http'', 0, null, null, null, null, null, null, null)::stepd._item])'),
	('create table stepd.x ()'), ('create function stepd.x() returns int language sql as ''select 1''')) v (c);

-- what it puts in front of PostgreSQL's names is not taken for them
create function mine.hijack(text, text) returns boolean language plpgsql as $$ begin raise 'hijacked'; end $$;
create operator mine.= (leftarg = text, rightarg = text, function = mine.hijack);
create function mine.clock_timestamp() returns timestamptz language plpgsql as $$ begin raise 'hijacked'; end $$;
create temp table job (id bigint);
set local search_path = mine, pg_temp, pg_catalog;
select count(*) as n from stepd.enqueue('std', '5', run_at => '2030-01-01', unique_key => 'h') \gset
select count(*) as m from stepd.enqueue_many('std', '[{"unique": "h2", "run_at": "2030-01-01"}]') \gset
reset search_path;
select is(:n + :m, 2, 'a hostile search_path changes nothing');
reset role;
select is((select count(*)::int from stepd.jobs), 10, 'all of it is there');
select ok((select bool_and(trigger = 'queue' and parent_id is null) from stepd.jobs where step is distinct from 'Tick'), 'as jobs like any other');

-- somebody who looks
set local role stepd_t_reader;
select is((select count(*)::int from stepd.jobs), 10, 'reads jobs');
select is((select count(*)::int from stepd.latest_jobs(100)), 10, 'and which are the newest');
select is((select last_outcome from stepd.schedules), 'ready', 'reads what became of a tick');
select lives_ok('table stepd.' || v, 'reads ' || v)
from unnest('{attempts,logs,state,queues,schedules,steps,nodes,pools,lost_leases,vacuum_holders,oldest_ready,migration}'::text[]) v;
select pg_temp.denied(c) from (values ('select stepd.enqueue(''std'')'), ('select stepd.enqueue_many(''std'', ''[]'')'), ('select * from stepd.job'),
	('select stepd.cancel(1)'), ('select stepd.pause(''std'')'), ('delete from stepd.state'), ('select stepd.state_delete(''g'', ''k'')')) v (c);
reset role;

-- a member of the owner's role makes partitions: they are the owner's, or he could not drop them one day
select format('create role stepd_t_member in role %I', current_user) as g \gset
:g;
select format('drop table stepd.%I', v || to_char(stepd._today() + 7, '"_p"YYYYMMDD')) as g from unnest('{job,outcome,attempt,log}'::text[]) v \gexec
set local role stepd_t_member;
select stepd.maintain('30 days');
reset role;
select ok(to_regclass('stepd.job' || to_char(stepd._today() + 7, '"_p"YYYYMMDD')) is not null, 'a member makes the partitions of a day');
create function pg_temp.strangers() returns int language sql as $$
	select count(*)::int from pg_class c where c.relnamespace = 'stepd'::regnamespace and c.relowner <> (select relowner from pg_class where oid = 'stepd.migration'::regclass)
$$;
select is(pg_temp.strangers(), 0, 'which are not his');
select format('alter table stepd.%I owner to stepd_t_member', 'job' || to_char(stepd._today() + 7, '"_p"YYYYMMDD')) as g \gset
:g;
set local role stepd_t_member;
select stepd.maintain('30 days');
reset role;
select is(pg_temp.strangers(), 0, 'one that was is given to the owner when the housekeeping is his again');

-- who was granted nothing
set local role stepd_t_stranger;
select pg_temp.denied(c) from (values ('select stepd.enqueue(''std'')'), ('select 1 from stepd.jobs')) v (c);
reset role;

select is((select string_agg(p.oid::regprocedure::text, ' ' order by p.proname) from pg_proc p where p.pronamespace = 'stepd'::regnamespace and p.prosecdef),
	'stepd._job_span() stepd._last_outcome(integer) stepd.enqueue(text,jsonb,integer,timestamp with time zone,text,text) stepd.enqueue_many(text,jsonb)',
	'no other function has the rights of its owner');
select is((select count(*)::int from pg_proc p where p.pronamespace = 'stepd'::regnamespace and p.prosecdef
	and (not 'search_path=pg_catalog, pg_temp' = any (p.proconfig) or has_function_privilege('public', p.oid, 'execute') and p.proname not in ('_last_outcome', '_job_span'))),
	0, 'those have a search_path, and those that change something are not for all');

select * from finish();
rollback;
