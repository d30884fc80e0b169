begin;
select no_plan();
select t.setup() as node \gset

-- one group, the group of jobs without one
select stepd.enqueue_many('fifo', '[{"data": 1}, {"data": 2}, {"data": 3}]');
select is((select ready::int from stepd.queues where name = 'fifo'), 3, 'ready, before anybody sorted them');
select is((select array_agg(status) from stepd.jobs), '{ready,ready,ready}', 'as the view says');
select is(t.claim(1, 'Fifo'), '{1}', 'only the head of the group');
select is(t.claim(2, 'Fifo'), '{}', 'nothing for others while it runs');
select is((select ready::int from stepd.queues where name = 'fifo'), 2, 'two ready');
select t.finish(1);
select is(t.claim(2, 'Fifo'), '{2}', 'then the next');
select is(t.finish(2, 'error', 'x'), 'retrying', 'its error');
select is(t.claim(1, 'Fifo'), '{}', 'a job that waits for its retry blocks its group');
select t.due();
select is(t.claim(1, 'Fifo'), '{2}', 'it comes again before the next');
select is(t.finish(2, 'fail', 'x'), 'failed', 'it fails');
select is(t.claim(1, 'Fifo'), '{3}', 'that unblocks the group');
select t.finish(3);
select t.claim(1, 'Fifo');
select is((select count(*)::int from stepd.fifo_group), 0, 'nothing is left of the group');
select is((select count(*)::int from stepd.fifo_inbox) + (select count(*)::int from stepd.fifo_backlog), 0, 'nor of the letters');
select is(t.sound(), 'sound', 'sound');

-- groups go in parallel, in the order of their heads
select array_agg(j) from stepd.enqueue_many('fifo', '[{"group": "a"}, {"group": "a"}, {"group": "b"}, {"group": "b"}, {"group": "c"}]') j;
select is(t.claim(1, 'Fifo', 2), '{4,6}', 'heads of groups, oldest first');
select is(t.claim(2, 'Fifo'), '{8}', 'the third group');
select t.finish(6);
select is(t.claim(2, 'Fifo'), '{7}', 'the next of the finished group');
select stepd.release(array[t.lease(4)], '{4}');
select is(t.claim(8, 'Fifo'), '{4}', 'a head that was given back comes again');
select is(t.sound(), 'sound', 'sound');

-- cancel: a running head, one in the backlog, one in the inbox, a ready head, a waiting head
select is(stepd.cancel(4), true, 'cancel of the running head');
select is(t.status(4), 'running', 'it runs on');
select is(t.claim(1, 'Fifo'), '{}', 'and blocks its group');
select is(t.finish(4, effects => '{"states": [{"op": "set", "group": "g", "key": "k", "value": 1}], "logs": [{"at_us": 1, "level": "info", "message": "late"}]}'), 'cancelled', 'cancelled when it ends');
select is((select count(*)::int from stepd.state), 0, 'with no effect');
select is((select message from stepd.logs where job_id = 4), 'late', 'but its logs');
select is(t.claim(1, 'Fifo'), '{5}', 'and the next goes');
select array_agg(j) from stepd.enqueue_many('fifo', '[{"group": "x"}, {"group": "x"}, {"group": "x"}, {"group": "x"}]') j;
select is(t.claim(1, 'Fifo'), '{9}', 'a head with a backlog');
select is(stepd.cancel(10), true, 'cancel in the backlog');
select is(t.status(10), 'cancelled', 'at once');
select t.finish(9);
select is(t.claim(1, 'Fifo'), '{11}', 'it is left out');
select is(t.finish(11, 'error', 'x'), 'retrying', 'a head waits for its retry');
select is(stepd.cancel(11), true, 'cancel of it');
select is(t.claim(1, 'Fifo'), '{12}', 'the next goes');
select is(stepd.enqueue('fifo', '1', group_id => 'y'), 13::bigint, 'one in the inbox');
select is(stepd.cancel(13), true, 'cancel in the inbox');
select is(t.claim(1, 'Fifo'), '{}', 'never runs');
select is(array(select stepd.enqueue_many('fifo', '[{"group": "z"}, {"group": "z"}]')), '{14,15}', 'two');
select stepd._fifo_sort((select id from stepd.queue where name = 'fifo'), 100);
select is(stepd.cancel(14), true, 'cancel of a ready head');
select is(t.claim(1, 'Fifo'), '{15}', 'the next is head');
select is(t.sound(), 'sound', 'sound');

-- retry of a failed one goes in line by its number
select t.finish(15);
select is(array(select stepd.enqueue_many('fifo', '[{"group": "r"}, {"group": "r"}, {"group": "r"}]')), '{16,17,18}', 'three');
select t.claim(1, 'Fifo');
select t.finish(16, 'fail', 'x');
select t.claim(1, 'Fifo');
select is(array(select stepd.retry(16)), '{16}', 'retried');
select is(t.claim(1, 'Fifo'), '{}', 'while another of its group runs it waits');
select t.finish(17);
select is(t.claim(1, 'Fifo'), '{16}', 'then it comes before younger ones');
select t.finish(16);
select is(t.claim(1, 'Fifo'), '{18}', 'then these');
select t.finish(18);

-- delayed ones enter the line when their time comes
select is(array(select stepd.enqueue_many('fifo', '[{"group": "d", "delay_ms": 5000}, {"group": "d"}]')), '{19,20}', 'one later, one now');
select is(t.claim(1, 'Fifo'), '{20}', 'a scheduled job does not block');
select t.due();
select is(t.claim(1, 'Fifo'), '{}', 'it stands in line when it is due');
select t.finish(20);
select is(t.claim(1, 'Fifo'), '{19}', 'and goes then');
select is(t.finish(19, 'snooze', delay_ms => 1000), 'snoozed', 'a snoozed head');
select stepd.enqueue('fifo', '1', group_id => 'd');
select is(t.claim(1, 'Fifo'), '{}', 'blocks like a retry');
select t.due();
select is(t.claim(6, 'Fifo'), '{19}', 'and comes again');
select is(t.sound(), 'sound', 'sound');

-- death
select is((select array_agg(verdict) from stepd.died(t.n(), 6, 1, 19, 'crashed', 'signal 6', null, 6, 1, 1, 1, 1, 1) where job_id = 19), '{retrying}', 'the worker dies');
select is(t.claim(1, 'Fifo'), '{}', 'its job blocks the group till its retry');
select t.due();
select is(t.claim(1, 'Fifo'), '{19}', 'which comes first');
select is(t.finish(19, 'skipped'), 'skipped', 'it is skipped');
select is(cardinality(t.claim(1, 'Fifo')), 1, 'which unblocks the group too');

-- many groups
select count(*) from stepd.enqueue_many('fifo', (select jsonb_agg(jsonb_build_object('group', 'm' || i % 5000)) from generate_series(1, 20000) i));
create temp table ran (n serial, id bigint, group_id text);
create function pg_temp.drain() returns int language plpgsql as $$
declare
	got bigint[];
	turns int := 0;
begin
	loop
		got := t.claim(turns % 3, 'Fifo', 1000);
		exit when got = '{}';
		turns := turns + 1;
		insert into ran (id, group_id) select g.id, j.group_id from unnest(got) with ordinality g (id, ord) join stepd.job j on j.id = g.id order by g.ord;
		perform stepd.finish(t.n(), 7, (select array_agg(l.id) from stepd.lease l, unnest(l.ids) where l.ids @> array[got[1]]), got,
			array_fill('completed'::text, array[cardinality(got)]), array_fill(1::bigint, array[cardinality(got)]), array_fill(1::bigint, array[cardinality(got)]), null, null, null, null);
	end loop;
	return turns;
end $$;
select ok(pg_temp.drain() >= 20, 'drained');
select is((select count(*)::int from ran where group_id like 'm%'), 20000, 'all of them');
select is((select count(*)::int from (select id < lag(id) over (partition by group_id order by n) as bad from ran) x where bad), 0, 'each group in its order');
select is((select count(*)::int from stepd.fifo_group where group_id like 'm%'), 0, 'no group is left');

-- change of strategy, both ways
select array_agg(j) from stepd.enqueue_many('fifo', '[{"group": "s", "priority": 1}, {"group": "s", "priority": 2}, {"group": "s", "priority": 3}]') j;
select max(id) - 2 as a from stepd.jobs \gset
select is(t.claim(1, 'Fifo'), array[:a]::bigint[], 'one runs, two wait');
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('fifo', 'strategy', 'priority')), '{}');
select is(t.claim(2, 'Fifo'), array[:a + 2, :a + 1]::bigint[], 'now by priority');
select is((select count(*)::int from stepd.fifo_group), 0, 'no group any more');
select stepd.release(array[t.lease(:a + 1), t.lease(:a + 1)], array[:a + 1, :a + 2]::bigint[]);
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('fifo', 'strategy', 'fifo')), '{}');
select is(t.claim(2, 'Fifo'), '{}', 'by group again: what runs blocks its group');
select t.finish(:a);
select is(t.claim(2, 'Fifo'), array[:a + 1]::bigint[], 'until it has ended');
select t.finish(:a + 1);
select is(t.claim(2, 'Fifo'), array[:a + 2]::bigint[], 'in order');
insert into stepd.ready values (t.lane('Fifo'), 0, nextval('stepd.job_id'), stepd._today(), 0); -- as an enqueue does that saw the old settings
insert into stepd.job (id, bucket, lane_id, enqueued_at, trace_id, group_id, input) values (currval('stepd.job_id'), stepd._today(), t.lane('Fifo'), now(), gen_random_uuid(), 's', '1');
select is(t.claim(3, 'Fifo'), '{}', 'a straggler is found and put in line');
select t.finish(:a + 2);
select is(t.claim(3, 'Fifo'), array[:a + 3]::bigint[], 'and goes when it may');
insert into stepd.fifo_inbox (queue_id, id, lane_id, bucket, group_id) select queue_id, nextval('stepd.job_id'), id, stepd._today(), '' from stepd.lane where id = t.lane('Std');
insert into stepd.job (id, bucket, lane_id, enqueued_at, trace_id, input) values (currval('stepd.job_id'), stepd._today(), t.lane('Std'), now(), gen_random_uuid(), '1');
select stepd.promote(10);
select is(t.claim(3, 'Std', 1, null, 999999), array[:a + 4]::bigint[], 'a letter to a queue that is fifo no more comes by promote');
select is(t.sound(), 'sound', 'sound');

-- becomes fifo while jobs run, wait for a retry, sleep, are put off; one of each in a group of its own
create function pg_temp.strategy(s text) returns jsonb language sql as $$ select stepd.queue_set('once', jsonb_build_object('strategy', s, 'maxRetries', 3)) $$;
select pg_temp.strategy('standard');
select array_agg(j) from t.groups('once', 'run', 'retry', 'snooze', 'back', 'cancel', 'cancel-wait') j;
select stepd.enqueue('once', group_id => 'later', run_at => now() + interval '1 hour') as later \gset
select t.claim(1, 'Once', 1) as run \gset
select t.claim(2, 'Once', 1) as retry \gset
select t.claim(3, 'Once', 1) as snooze \gset
select t.claim(4, 'Once', 1) as back \gset
select t.claim(5, 'Once', 1) as cancel \gset
select t.claim(6, 'Once', 1) as cwait \gset
select t.finish((:'retry'::bigint[])[1], 'error', 'x'), t.finish((:'snooze'::bigint[])[1], 'snooze', delay_ms => 1000), t.finish((:'cwait'::bigint[])[1], 'error', 'x');
select pg_temp.strategy('fifo');
select array_agg(j) from t.groups('once', 'run', 'retry', 'snooze', 'back', 'cancel', 'cancel-wait', 'later') j;
create function pg_temp.next_groups() returns text language sql as $$
	select coalesce((select string_agg(c.group_id || ' ' || c.attempt, ',' order by c.group_id) from stepd.claim(t.n(), 7, 1, array[t.lane('Once')], '{0}', '{9}', 9) c), 'none')
$$;
select is(pg_temp.next_groups(), 'later 1', 'only the group of which nothing has begun');
select t.finish((:'run'::bigint[])[1]), stepd.release(array[t.lease((:'back'::bigint[])[1])], :'back'::bigint[]);
select stepd.cancel((:'cancel'::bigint[])[1]), t.finish((:'cancel'::bigint[])[1]), stepd.cancel((:'cwait'::bigint[])[1]);
select is(pg_temp.next_groups(), 'back 1,cancel 1,cancel-wait 1,run 1', 'ended, given back, cancelled: these go on');
update stepd.waiting set run_at = clock_timestamp() where id <> :later;
select stepd.promote(10);
select is(pg_temp.next_groups(), 'retry 2,snooze 1', 'what comes again comes before the next of its group');
select t.finish_held(7, 'Once');
select is(pg_temp.next_groups(), 'back 1,retry 1,snooze 1', 'which follow');
select t.finish_held(7, 'Once');
select is(t.sound(), 'sound', 'sound');

-- held, perhaps begun: who knows; its group waits until the worker has told
select t.groups('fifo', 'h1', 'h2', 'h2');
select t.claim(1, 'Fifo') as held \gset
select is(stepd.cancel((:'held'::bigint[])[2]), true, 'cancel of a head that is held behind another');
select is(t.claim(2, 'Fifo'), '{}', 'nothing of its group begins');
select is(t.finish((:'held'::bigint[])[2]), 'cancelled', 'before it has ended');
select is(cardinality(t.claim(2, 'Fifo')), 1, 'then the next goes');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
