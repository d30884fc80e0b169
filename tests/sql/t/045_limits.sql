begin;
select no_plan();
select t.setup() as node \gset
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'rate_limit', '3', 'rate_window_ms', '400'), t.queue('fan', 'concurrency_per_group', '1'),
	t.queue('prio', 'strategy', 'priority', 'concurrency_per_group', '2')), '{}');

-- rateLimit
select stepd.enqueue_many('std', (select jsonb_agg('{}'::jsonb) from generate_series(1, 10)));
select is(t.claim(1, 'Std', 2), '{1,2}', 'two start');
select is((select ready from stepd.promote(10)), true, 'there is room for one more');
select is(t.claim(2, 'Std', 5), '{3}', 'one more of three');
select is(t.claim(3, 'Std', 5), '{}', 'no more in this window');
select is((select ready from stepd.promote(10)), false, 'nothing to wake a worker for');
select ok((select next_due_ms between 1 and 450 from stepd.promote(10)), 'promote says when the next may start');
select is(stepd.release(array[t.lease(2)], '{2}'), 1, 'one is given back');
select is(t.claim(2, 'Std', 5), '{2}', 'and so did not count');
select t.finish(j) from unnest('{1,2}'::bigint[]) j;
select is((select sum(n)::int from stepd.rate_start), 2, 'what ended counts');
select is(t.claim(3, 'Std', 5), '{}', 'still');
select pg_sleep(0.46);
select is(t.claim(3, 'Std', 5), '{4,5}', 'two in the next window: the one that is still held may begin at any moment');
select is((select count(*)::int from stepd.rate_start), 0, 'old starts are forgotten');
select is(stepd.began(t.n(), t.lease(3), 3, 450000), true, 'unless its worker says that it began long ago');
select is(t.claim(4, 'Std', 5), '{6}', 'then there is room for another');
select is(stepd.began(t.n(), t.lease(6), 6, 10), true, 'one that just began');
select is(stepd.began(t.n(), t.lease(6), 6, 10), false, 'is said once');
select is(stepd.began(t.n(), t.lease(4), 6, 10), false, 'with its own lease');
select is((select sum(n)::int from stepd.rate_start), 1, 'it counts');
select is(t.finish(6), 'completed', 'and its end');
select is((select sum(n)::int from stepd.rate_start), 1, 'does not count it again');
select is(t.finish(4, 'error', 'x'), 'retrying', 'an error');
select is((select sum(n)::int from stepd.rate_start), 2, 'counts too');
select is(t.sound(), 'sound', 'sound');

-- a limit that comes while jobs run
select array_agg(j) as c from stepd.enqueue_many('once', '[{}, {}, {}]') j \gset
select is(t.claim(41, 'Once', 1), (:'c'::bigint[])[1:1], 'one runs');
select is(stepd.began(t.n(), t.lease((:'c'::bigint[])[1]), (:'c'::bigint[])[1], 30000), true, 'for a while');
select stepd.queue_set('once', '{"rateLimit": "2/1h"}');
select stepd.queue_reset('once'), stepd.queue_set('once', '{"rateLimit": "2/1h"}');
select is(t.claim(42, 'Once', 9), (:'c'::bigint[])[2:2], 'it counts as one of the two, and once');
select is(t.finish((:'c'::bigint[])[1]), 'completed', 'it ends');
select is(t.claim(42, 'Once', 9), '{}', 'and counts still');
select stepd.queue_reset('once');
select t.finish(j) from unnest((:'c'::bigint[])[2:2] || t.claim(42, 'Once', 9)) j;
delete from stepd.rate_start;

-- a long window with many starts: few rows that count as many
select stepd.queue_set('once', '{"rateLimit": "3000/1h"}');
insert into stepd.rate_start select (select id from stepd.queue where name = 'once'), clock_timestamp() - i * interval '1.4 s', 1 from generate_series(1, 2500) i;
select stepd.enqueue_many('once', (select jsonb_agg('{}'::jsonb) from generate_series(1, 600)));
select is(cardinality(t.claim(31, 'Once', 1)), 1, 'a claim');
select cmp_ok((select count(*) from stepd.rate_start where queue_id = (select id from stepd.queue where name = 'once')), '<=', 258::bigint, 'puts starts together');
select is((select sum(n) from stepd.rate_start where queue_id = (select id from stepd.queue where name = 'once')), 2500::bigint, 'and loses none');
select is(cardinality(t.claim(31, 'Once', 600)), 499, 'the rest of the window');
select t.finish(j) from (select unnest(ids) j from stepd.lease where slot = 31) x;

-- concurrencyPerGroup
select lane_id as fan1 from stepd.lanes('{Fan1}') \gset
select stepd.enqueue_many('fan', '[{"group": "a"}, {"group": "a"}, {"group": "b"}, {"group": "a"}, {}, {}]');
select array_agg(id order by id) as f from stepd.jobs where step = 'Fan1' \gset
select is(t.claim(11, 'Fan1', 1), (:'f'::bigint[])[1:1], 'one of group a');
select is(t.claim(12, 'Fan1', 3), (:'f'::bigint[])[3:3] || (:'f'::bigint[])[5:6], 'group b and those without a group, past group a');
select is(t.claim(13, 'Fan1', 9), '{}', 'nothing is left that may run');
select is((select count(*)::int from stepd.jobs where status = 'ready' and step = 'Fan1'), 4, 'they are ready all the same');
select t.finish((:'f'::bigint[])[1]);
select is(t.claim(13, 'Fan1', 1), (:'f'::bigint[])[2:2], 'the next of a');
select stepd.cancel((:'f'::bigint[])[4]);
select is(t.status((:'f'::bigint[])[4]), 'cancelled', 'one that waits for its group can be cancelled');
select is(t.finish((:'f'::bigint[])[2], 'error', 'x'), 'retrying', 'the running one fails');
select is(t.claim(13, 'Fan1', 9), '{}', 'which waits for its retry');
select stepd.enqueue('fan', '{}', group_id => 'a');
select is(cardinality(t.claim(14, 'Fan1', 9)), 1, 'and frees its slot');
select is(t.claim(13, 'Fan1', 9), '{}', 'for one');
select is(t.sound(), 'sound', 'sound');

-- left by another worker, and run one after the other
select t.finish(j) from (select unnest(ids) j from stepd.lease) x;
select stepd.enqueue_many('fan', '[{"group": "z"}, {"group": "z"}, {"group": "z"}, {"group": "z"}, {"group": "z"}, {"group": "z"}, {"group": "z"}]');
select t.claim(11, 'Fan1', 1) as z \gset
select is(t.claim(12, 'Fan1', 9), '{}', 'all of a full group');
select is((select count(*)::int from stepd.ready where lane_id = t.lane('Fan1')), 6, 'are left where they are');
create function pg_temp.turns(step text, job bigint) returns int language plpgsql as $$
declare
	n int := 0;
begin
	while job is not null loop
		perform t.finish(job);
		n := n + 1;
		job := (t.claim(11, step, 1))[1];
	end loop;
	return n;
end $$;
select is(pg_temp.turns('Fan1', (:'z'::bigint[])[1]), 7, 'and run');
select is(t.sound(), 'sound', 'sound');

-- no more than asked for, in order, when a second look finds only groups that are free
select t.groups('fan', 'u', 'u', 'u', 'v', null, 'w', 'x', 'y');
select t.claim(11, 'Fan1', 1);
select is((select array_agg(c.group_id) from stepd.claim(t.n(), 12, 1, array[t.lane('Fan1')], '{0}', '{3}', 3) c), '{v,null,w}', 'three past a full group');
select is((select array_agg(c.group_id) from stepd.claim(t.n(), 13, 1, array[t.lane('Fan1')], '{0}', '{9}', 9) c), '{x,y}', 'the others are left to others');
select is((select array_agg(n order by n) from stepd.lease l cross join unnest(l.groups) g join unnest('{u,v,w,x,y,z}'::text[]) n on stepd._group_hash(n) = g),
	'{u,v,w,x,y}', 'whose groups the leases tell');
select t.finish(j) from (select unnest(ids) j from stepd.lease where lane_id = t.lane('Fan1')) x;
select is(t.claim_groups(11, 'Fan1', 9), 'u,u', 'then those left behind');
select t.finish_held(11, 'Fan1');
select is(t.sound(), 'sound', 'sound');

-- batches: what is behind a held one is left where it is, and found again behind the cursor
select stepd.enqueue_many('fan', '[{"group": "x"}, {"group": "x"}, {"group": "x"}, {"group": "y"}]');
select t.claim(11, 'Fan1', 2) as x \gset
select array_agg(c.job_id) as y, max(c.cursor) as cursor from stepd.claim(t.n(), 12, 1, array[t.lane('Fan1')], array[(:'x'::bigint[])[2]], '{9}', 9) c \gset
select is(cardinality(:'y'::bigint[]), 1, 'past the group of a batch');
select t.finish(j) from unnest(:'x'::bigint[]) j;
select is((select array_agg(c.group_id) from stepd.claim(t.n(), 12, 1, array[t.lane('Fan1')], array[:cursor::bigint], '{9}', 9) c), '{x}', 'and what was left comes first');
select is(t.sound(), 'sound', 'sound');

-- a held one that is cancelled may have begun, so it keeps its place until its worker has told
savepoint held;
select t.groups('fan', 'k1', 'k2', 'k2');
select t.claim(11, 'Fan1', 2) as k \gset
select is(stepd.cancel((:'k'::bigint[])[2]), true, 'cancel of one that is held behind another');
select is(t.claim(12, 'Fan1', 9), '{}', 'its group stays full');
select is(t.finish((:'k'::bigint[])[2]), 'cancelled', 'until it has ended');
select is(t.claim_groups(12, 'Fan1', 9), 'k2', 'then the next goes');
select is(t.sound(), 'sound', 'sound');
rollback to held;

-- by priority within the group
select stepd.enqueue_many('prio', '[{"group": "g", "priority": 5}, {"group": "g", "priority": 4}, {"group": "g", "priority": 1}, {"group": "g", "priority": 2}]');
select min(id) as p from stepd.jobs where queue = 'prio' \gset
select is(t.claim(21, 'Prio', 1), array[:p]::bigint[], 'first of two');
select is(t.claim(22, 'Prio', 1), array[:p + 1]::bigint[], 'second of two');
select is(t.claim(23, 'Prio', 1), '{}', 'no third');
select t.finish(:p);
select is(t.claim(23, 'Prio', 1), array[:p + 3]::bigint[], 'the next by priority');
select is((select count(*)::int from stepd.died(t.n(), 23, 1, :p + 3, 'crashed', 'x', null, 11, 1, 1, 10, 10, 7)), 1, 'its worker dies');
select is(t.claim(24, 'Prio', 1), array[:p + 2]::bigint[], 'no slot leaks');
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std'), t.queue('fan'), t.queue('prio', 'strategy', 'priority')), '{}');
select is(cardinality(t.claim(5, 'Std')), 4, 'no rate limit');
select is(t.sound(), 'sound', 'sound');
-- thousands of a group that is held stand before others: who comes gets the others all the same
select stepd.configure('n2', '{"steps": [{"name": "Hot", "triggers": [{"type": "queue", "topic": "tick"}]}]}', '[]', '{}');
select stepd.queue_set('tick', '{"concurrencyPerGroup": 1}');
select count(*) from stepd.enqueue_many('tick', (select jsonb_agg(jsonb_build_object('group', case when i <= 5000 then 'hot' else 'h' || i end)) from generate_series(1, 5100) i));
create function pg_temp.other_session() returns void language sql as $$
	select t.forget('Hot'), set_config('stepd.warm_claim', '1', true);
	select
$$;
select is(cardinality(t.claim(31, 'Hot', 1)), 1, 'one of the first group held');
select is(t.sound(), 'sound', 'sound');
create function pg_temp.others(slot int, want int) returns int language plpgsql as $$
declare
	n int := 0;
begin
	for i in 1 .. 20 loop
		perform pg_temp.other_session();
		n := n + (select count(*) from unnest(string_to_array(t.claim_groups(slot, 'Hot', want), ',')) g where g <> 'hot');
	end loop;
	return n;
end $$;
savepoint hot;
select is(pg_temp.others(32, 10), 100, 'others for somebody else');
select is(t.claim(34, 'Hot', 50), '{}', 'that is all');
select t.finish_held(31, 'Hot');
select is(t.claim_groups(31, 'Hot', 1), 'hot', 'the first goes on');
select is(t.sound(), 'sound', 'sound');
-- more of the same group, if asked for: they are nobody else's
rollback to hot;
select pg_temp.other_session();
select is(t.claim_groups(34, 'Hot', 1) like 'h5%', true, 'another holds a job');
select t.finish_held(31, 'Hot');
select pg_temp.other_session();
select is((select count(*)::int from stepd.claim(t.n(), 31, 1, array[t.lane('Hot')], '{0}', '{1}', 1, null, '{300}')), 300, 'as many as the claim may take of what is nobody else''s');
select pg_temp.other_session();
select is((select count(*)::int from stepd.claim(t.n(), 32, 1, array[t.lane('Hot')], '{0}', '{2}', 2, null, '{300}')), 2, 'of several groups no more than asked for');
select is((select array_agg(distinct c.more) from stepd.claim(t.n(), 33, 1, array[t.lane('Hot')], '{0}', '{1}', 1) c), '{t}', 'there is more for others');
select is(pg_temp.others(33, 30), 96, 'which they get');
-- a batch whose groups are not told, as large ones are: first nobody comes near
rollback to hot;
select t.finish_held(31, 'Hot');
select is(cardinality(t.claim(31, 'Hot', 1)), 1, 'held again');
update stepd.lease set groups = null, ids = array(select i from generate_series(1, 100) i), buckets = array(select current_date from generate_series(1, 100)), attempts = array(select 0::smallint from generate_series(1, 100)), stripes = -1;
select pg_temp.other_session();
select is(t.claim(32, 'Hot', 50), '{}', 'nothing for somebody else');
select is(current_setting('stepd.starves_since') <> '', true, 'which is remembered');
rollback to hot;
select is(t.sound(), 'sound', 'sound');

-- so with maxConcurrency
update stepd.queue set max_concurrency = 1 where name = 'lim';
select array_agg(x) as m from t.many('lim', 3) x \gset
select is(t.claim(51, 'Lim', 2), (:'m'::bigint[])[1:2], 'two are held');
select is(stepd.cancel((:'m'::bigint[])[2]), true, 'cancel of the one behind, which may have begun');
select is(t.finish((:'m'::bigint[])[1]), 'completed', 'the first has ended');
select is(t.claim(52, 'Lim', 1), '{}', 'the place is still taken');
select is(t.finish((:'m'::bigint[])[2]), 'cancelled', 'until that one has ended');
select is(t.claim(52, 'Lim', 1), (:'m'::bigint[])[3:3], 'then it is free');
select * from finish();
rollback;
