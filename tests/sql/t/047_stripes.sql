-- concurrencyPerGroup with quick jobs: claims of different stripes, side by side.
begin;
select no_plan();
select t.setup() as node \gset
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'concurrency_per_group', '1'), t.queue('fan', 'concurrency_per_group', '2'),
	t.queue('prio', 'strategy', 'priority', 'concurrency_per_group', '1')), '{}');

-- who goes for which stripes
create function pg_temp.n(stripes bigint) returns int language sql as $$ select bit_count(stripes::bit(64))::int $$;
select is(array_agg(pg_temp.n(stepd._stripe_home(r, 4, 1, -1))), '{16,16,16,16}', 'four workers, one of a group: a quarter each') from generate_series(0, 3) r;
select is(bit_or(stepd._stripe_home(r, 4, 1, -1)), -1::bigint, 'together all') from generate_series(0, 3) r;
select is(array_agg(pg_temp.n(stepd._stripe_home(r, 4, 3, -1))), '{48,48,48,48}', 'three of a group: three quarters') from generate_series(0, 3) r;
select is(min(n), 3::bigint, 'each is for three') from (select count(*) as n from generate_series(0, 3) r cross join generate_series(0, 63) s
	where stepd._stripe_home(r, 4, 3, -1) >> s & 1 = 1 group by s) x;
select is(max(n), 3::bigint, 'and for no more') from (select count(*) as n from generate_series(0, 3) r cross join generate_series(0, 63) s
	where stepd._stripe_home(r, 4, 3, -1) >> s & 1 = 1 group by s) x;
select is(pg_temp.n(stepd._stripe_home(99, 100, 1, -1)), 1, 'more workers than stripes: one');
select is(stepd._stripe_home(0, 1, 5, -1), -1::bigint, 'who is alone has all');
select is(array_agg(pg_temp.n(stepd._stripe_home(r, w, g, -1))), array_agg(least(64, (64 * g + w - 1) / w)), 'as many as that, wherever they begin')
	from generate_series(1, 70) w cross join generate_series(1, w, 3) g cross join generate_series(0, w - 1, 5) r;
select is(array_agg(to_hex(stepd._stripe_home(r, 4, 1, x'8421001'::bigint))), '{1001,21000,420000,8400000}'::text[], 'two each of five that have jobs') from generate_series(0, 3) r;
select is(bit_or(stepd._stripe_home(r, w, g, m)), m, 'all of those, and no others')
	from generate_series(1, 9, 4) w cross join generate_series(1, w, 3) g cross join generate_series(0, w - 1) r cross join unnest('{1,-2,255,1229782938247303441}'::bigint[]) m group by w, g, m;
select is(array_agg(stepd._stripe_share(m, 4, 1, 1.0)), '{16,1,1,2,0}', 'how many that is') from unnest(array[-1, 1, 15, 31, 0]::bigint[]) m;
create function pg_temp.coming(idle int[], slot int, starving int, most int) returns text language sql as $$
	select c.n || ' ' || c.ahead from stepd._stripe_coming(row(2, 0, '{1,3}'::int[], 0, -1, null, null, null)::stepd._holding, idle, slot, starving, most) c
$$;
select is(pg_temp.coming('{1,2,3,4,5,5}', 4, 0, 0), '2 1', 'who is idle and holds nothing is going to come, once');
select is(pg_temp.coming('{1,3,4}', 4, 0, 0), '0 0', 'who has come meanwhile is not');
select is(pg_temp.coming('{2,5,6}', 7, 0, 4), '1 1', 'no more than maxConcurrency lets');
select is(pg_temp.coming('{2,5,6}', 7, 0, 2), '0 0', 'which may be nobody');
select is(pg_temp.coming('{5}', 4, 3, 0), '3 0', 'nor fewer than those who look for jobs');
select is(pg_temp.coming(null, 4, 1, 0), '1 0', 'who may be all that is known of');
select is(stepd._stripe_arc(x'ffff0'::bigint, -1, 1, 16, true), x'ffff0'::bigint, 'who has his share keeps it');
select is(stepd._stripe_arc(x'fff00'::bigint, -1, 1, 16, false), x'fff00'::bigint, 'also somewhat less');
select is(stepd._stripe_arc(x'fff00'::bigint, -1, x'ff'::bigint, 16, true), x'fff0f'::bigint, 'until he is to grow: from home first');
select is(stepd._stripe_arc(x'fff00'::bigint, x'fff00f0'::bigint, x'ff'::bigint, 16, true), x'fff00f0'::bigint, 'then from elsewhere');
select is(stepd._stripe_arc(-1, -1, x'ffff'::bigint << 48, 16, false), x'ffff'::bigint << 48, 'who has too many keeps those of his home');
select is(pg_temp.n(stepd._stripe_arc(-1, -1, 7, 16, false)), 16, 'and others');
select is(stepd._stripe_arc(-1, x'f0'::bigint, -1, 16, true), x'f0'::bigint, 'of those that are free');
select is(stepd._stripe_arc(-1, 0, -1, 16, true), 0::bigint, 'which may be none');
select is(array_agg(distinct stepd._stripe(h, 0)), array(select generate_series(0, 63)), 'hashes of groups fill all stripes')
	from generate_series(1, 2000) g cross join lateral (select stepd._group_hash('g' || g)) x (h);
select is(stepd._stripe(null, 64 + 7), 7, 'a job without a group goes by its number');
select is(stepd._stripe(-1, 0), 63, 'a hash may be negative');

-- four workers, each time as one session: the leases tell what the others have
create function pg_temp.held_twice(queue text, most int) returns bigint language sql as $$
	select count(*) from (
		select j.group_id from stepd.lease l cross join unnest(l.ids, l.buckets) u (id, bucket) join stepd.job j on j.id = u.id and j.bucket = u.bucket
			join stepd.lane a on a.id = l.lane_id join stepd.queue q on q.id = a.queue_id
		where q.name = queue and j.group_id is not null
		group by j.group_id having count(distinct l.slot) > most) x
$$;
-- does each lease say at least the stripes of what is in it?
create function pg_temp.told() returns bool language sql as $$
	select coalesce(bool_and(coalesce(l.stripes, -1) >> stepd._stripe(stepd._group_hash(j.group_id), j.id) & 1 = 1), true)
	from stepd.lease l cross join unnest(l.ids, l.buckets) u (id, bucket) join stepd.job j on j.id = u.id and j.bucket = u.bucket where j.group_id is not null
$$;
-- A worker has a session of its own, which remembers its stripes.
create function pg_temp.turn(slot int, step text, most int) returns int language plpgsql as $$
declare
	lane text := t.lane(step)::text;
	n int;
begin
	perform set_config('stepd.starves_since', '1', true); -- and waits no longer
	perform set_config('stepd.at_' || lane, coalesce(current_setting('t.at_' || lane || '_' || slot, true), ''), true);
	perform t.finish_held(slot, step);
	n := cardinality(t.claim(slot, step, most, null, 1));
	perform set_config('t.at_' || lane || '_' || slot, current_setting('stepd.at_' || lane), true);
	return n;
end $$;

select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'g' || i % 400)) from generate_series(1, 4000) i));
select is(pg_temp.turn(1, 'Std', 100), 100, 'the first takes of all');
select is((select stripes from stepd.lease), null, 'and says so');
select is(cardinality(t.claim(9, 'Std', 100)), 0, 'who has just come gets none of the second hundred groups, since all stripes are taken');
select is(current_setting('stepd.starves'), (select id::text from stepd.queue where name = 'std'), 'which he says');
select is(stepd._starved((select id from stepd.queue where name = 'std')), false, 'to others');
update stepd.lease set ids = ids[1:32], buckets = buckets[1:32], attempts = attempts[1:32];
insert into stepd.ready select t.lane('Std'), 0, j.id, j.bucket, 0, stepd._group_hash(j.group_id) from stepd.job j
where not exists (select from stepd.ready r where r.pos = j.id) and not exists (select from stepd.lease l where j.id = any (l.ids));
select is(cardinality(t.claim(2, 'Std', 20)), 20, 'unless it has few jobs left');
select is((select array_agg(cardinality(groups) order by slot) from stepd.lease), '{32,20}', 'then it tells the groups of these');
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select is(t.sound(), 'sound', 'sound');
select is(pg_temp.turn(1, 'Std', 100), 100, 'the first goes on');
select isnt((select stripes from stepd.lease where slot = 1), null, 'of some stripes');
create temp table seen as select slot, stripes from stepd.lease;
select is(bool_and(n > 0), true, 'all four are busy') from (select pg_temp.turn(s, 'Std', 100) as n from generate_series(1, 4) s) x;
select is(bool_and(n > 50), true, 'fully, at their second claim') from (select pg_temp.turn(s, 'Std', 100) as n from generate_series(1, 4) s cross join generate_series(1, 2)) x;
select is(pg_temp.held_twice('std', 1), 0::bigint, 'and none has what another has');
select is(pg_temp.told(), true, 'each lease tells its stripes');
select is((select bit_count(bit_or(stripes)::bit(64)) from stepd.lease), (select sum(bit_count(stripes::bit(64)))::bigint from stepd.lease), 'which are their own');
select is((select count(groups)::int from stepd.lease), 0, 'no groups are told');
-- a small batch tells its groups, and is in nobody's way
select t.finish_held(4, 'Std'), set_config('t.at_' || t.lane('Std') || '_4', '', true);
select is(pg_temp.turn(4, 'Std', 20), 20, 'a small batch');
select is((select cardinality(groups) from stepd.lease where slot = 4), 20, 'tells its groups');
select is(bool_and(n > 50), true, 'and others go on') from (select pg_temp.turn(s, 'Std', 100) as n from generate_series(1, 3) s cross join generate_series(1, 3)) x;
select is(pg_temp.held_twice('std', 1), 0::bigint, 'but not the same groups');
create function pg_temp.drain(step text, queue text, most int, workers int) returns text language plpgsql as $$
declare
	idle int := 0;
	turns int := 0;
begin
	while idle < workers * 3 and turns < 1000 loop
		turns := turns + 1;
		idle := case when pg_temp.turn(turns % workers + 1, step, 20 + turns % 90) = 0 then idle + 1 else 0 end;
		if pg_temp.held_twice(queue, most) > 0 then
			return 'a group is held by more than ' || most;
		elsif not pg_temp.told() then
			return 'a lease does not tell its stripes';
		end if;
		if turns % 7 = 0 then -- one dies
			perform stepd.died(l.node_id, l.slot, l.generation, l.ids[1], 'crashed', 'x', null, 6, 1, 1, 1, 1, 1) from stepd.lease l
			where l.slot = turns % workers + 1 limit 1;
		end if;
		if turns % 11 = 0 then
			perform stepd.cancel(x.pos) from (select max(r.pos) as pos from stepd.ready r where r.lane_id = t.lane(step)) x where x.pos is not null;
		end if;
	end loop;
	return format('%s ready', (select count(*) from stepd.ready));
end $$;
select is(pg_temp.drain('Std', 'std', 1, 5), '0 ready', 'drained, whoever died meanwhile');
select is(t.sound(), 'sound', 'sound');

-- two of a group
select count(*) from stepd.enqueue_many('fan', (select jsonb_agg(jsonb_build_object('group', case when i % 50 > 0 then 'f' || i % 150 end)) from generate_series(1, 3000) i));
select is(pg_temp.drain('Fan1', 'fan', 2, 6), '3000 ready', 'two of a group, and jobs without one; the other step''s are still there');
select is(pg_temp.drain('Fan2', 'fan', 2, 3), '0 ready', 'until its workers come');
select is(t.sound(), 'sound', 'sound');

-- by priority
select count(*) from stepd.enqueue_many('prio', (select jsonb_agg(jsonb_build_object('group', 'p' || i % 70, 'priority', i % 5)) from generate_series(1, 2000) i));
select is(pg_temp.drain('Prio', 'prio', 1, 4), '0 ready', 'by priority');
select is(t.sound(), 'sound', 'sound');

-- who has jobs of any queue says nothing, and who has looked from the start says it no more, whatever he finds
select t.finish_held(s, 'Std') from generate_series(1, 5) s;
select stepd.queue_set('fan', '{"concurrencyPerGroup": 1}');
select count(*) from stepd.enqueue_many('fan', (select jsonb_agg(jsonb_build_object('group', 's' || i % 50)) from generate_series(1, 300) i));
select t.lane('Fan1') as fan1, t.lane('Fan2') as fan2, t.lane('Once') as once \gset
select count(*) > 0 from stepd.claim(t.n(), 21, 1, array[:fan1], '{1}'::bigint[], '{100}', 100);
select is((select count(*)::int from stepd.claim(t.n(), 22, 1, array[:fan1], '{1}'::bigint[], '{100}', 100)), 0, 'all groups are taken');
select is(current_setting('stepd.starves'), (select id::text from stepd.queue where name = 'fan'), 'which one says');
select stepd.enqueue('once', '{}');
select is((select count(*)::int from stepd.claim(t.n(), 22, 1, array[:fan1, :once], '{1,1}'::bigint[], '{100,1}', 100)), 1, 'but a job of another queue');
select is(current_setting('stepd.starves'), '', 'will do');
select is((select count(*)::int from pg_locks where classid = 1937007990), 0, 'and so the lock is gone');
select is((select count(*)::int from stepd.claim(t.n(), 22, 1, array[:fan2], '{1}'::bigint[], '{100}', 100)), 0, 'the other step''s jobs are of the same groups');
select is(current_setting('stepd.starves') <> '', true, 'said again');
select is((select count(*)::int from stepd.claim(t.n(), 22, 1, array[:once], '{0}'::bigint[], '{1}', 1)), 0, 'a claim of an empty queue');
select is(current_setting('stepd.starves'), '', 'forgets it');
select is((select count(*)::int from pg_locks where classid = 1937007990), 0, 'with the lock');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'fan' and j.status = 'ready';
select t.finish_held(s, 'Fan1') from generate_series(21, 22) s;

-- few groups: each worker gets some of those that have jobs
select t.finish_held(s, 'Std') from generate_series(1, 5) s;
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'few' || i % case when i <= 100 then 5 else 10 end)) from generate_series(1, 4000) i));
select is(pg_temp.turn(1, 'Std', 100), 100, 'a hundred of five groups');
update stepd.lease set stripes = (select bit_or(1::bigint << stepd._stripe(stepd._group_hash('few' || i), 0)) from generate_series(0, 4) i);
select is(array_agg(n > 0), '{t,t,t,t}', 'two get some') from (select pg_temp.turn(s, 'Std', 100) as n from unnest('{2,1,2,1}'::int[]) s) x;
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select is(pg_temp.drain('Std', 'std', 1, 5), '0 ready', 'drained');

-- a group that shares its stripe with one that is held and has thousands of jobs: who finds nothing for long looks at groups
select t.finish_held(s, 'Std') from generate_series(1, 5) s;
select 'x' || i as other from generate_series(1, 1000) i where stepd._stripe(stepd._group_hash('x' || i), 0) = stepd._stripe(stepd._group_hash('hot'), 0) limit 1 \gset
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', case when i = 1000 then :'other' else 'hot' end)) from generate_series(1, 2000) i));
select is(pg_temp.turn(1, 'Std', 100), 100, 'the first holds a hundred of one group');
update stepd.lease set stripes = 1::bigint << stepd._stripe(stepd._group_hash('hot'), 0);
set stepd.starves_since = '';
select is(t.claim(2, 'Std', 100), '{}', 'there is nothing in the other stripes');
select is(current_setting('stepd.starves_since') <> '', true, 'which is remembered');
select is(t.claim(2, 'Std', 100), '{}', 'nothing, again');
select set_config('stepd.starves_since', (current_setting('stepd.starves_since')::bigint - 60)::text, true) <> '';
select is(t.claim_groups(2, 'Std', 100), :'other', 'after 60 ms the group in the same stripe');
select is(current_setting('stepd.starves_since'), '', 'that is all');
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'std' and j.status = 'ready';
select t.finish_held(s, 'Std') from generate_series(1, 5) s;

-- who reads from the start, now and then, meets what others are behind with, and keeps his stripes
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'r' || i % 400)) from generate_series(1, 6000) i));
select pg_temp.turn(s, 'Std', 100) from unnest('{1,2,1,2}'::int[]) s;
select is(sum(pg_temp.turn(1, 'Std', 100)), 1500::bigint, 'one is ahead of the other') from generate_series(1, 15);
select is((select bit_or(1::bigint << stepd._stripe(x.group_hash, x.pos)) & (select stripes from stepd.lease where slot = 1)
	from (select * from stepd.ready r where r.lane_id = t.lane('Std') order by rank, pos limit 1000) x), 0::bigint, 'whose jobs stand in front');
select t.finish_held(1, 'Std');
select is(cardinality(t.claim(1, 'Std', 100)), 100, 'from the start on he finds his own');
select is(pg_temp.held_twice('std', 1), 0::bigint, 'and no others');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'std' and j.status = 'ready';
select t.finish_held(s, 'Std') from generate_series(1, 5) s;

-- where all stripes are somebody's by a large batch, it is not worth while to look for a job without a group behind thousands: not for 60 ms
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', case when i < 2000 then 'l' || i % 400 end)) from generate_series(1, 2000) i));
select t.forget('Std');
select is(cardinality(t.claim(1, 'Std', 100)), 100, 'somebody has a hundred groups, and says nothing of stripes');
select is(t.claim(2, 'Std', 1), '{}', 'then a single job has time');
select set_config('stepd.starves_since', (current_setting('stepd.starves_since')::bigint - 60)::text, true) <> '';
select is(cardinality(t.claim(2, 'Std', 1)), 1, 'but no more than that');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'std' and j.status = 'ready';
select t.finish_held(s, 'Std') from generate_series(1, 5) s;

-- what was not of its stripes is found behind its cursor by who gets them
select t.finish_held(s, 'Std') from generate_series(1, 5) s;
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'concurrency_per_group', '1')), '{}');
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'h' || i)) from generate_series(1, 600) i));
select is(array_agg(pg_temp.turn(s, 'Std', 100)), '{100,32,100,100}', 'two take turns') from unnest('{1,2,1,2}'::int[]) s;
select t.finish_held(2, 'Std');
select is(pg_temp.turn(1, 'Std', 500), 268, 'when one is gone the other has all that is left, though it lies before its cursor');
select is(t.sound(), 'sound', 'sound');
-- who claims while others are about to leaves them their part, from the first claim on
select t.finish_held(l.slot, l.step) from (select distinct l.slot, s.name as step from stepd.lease l join stepd.lane a on a.id = l.lane_id join stepd.step s on s.id = a.step_id) l;
create function pg_temp.new_turn(slot int, idle int[], most int) returns int language plpgsql as $$
begin
	perform t.forget('Std');
	perform stepd.claim(t.n(), slot, 1, array[t.lane('Std')], '{0}', array[most], most, 1, null, idle);
	return (select cardinality(l.ids) from stepd.lease l where l.slot = new_turn.slot);
end $$;
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'i' || i % 500)) from generate_series(1, 2000) i));
select is(array_agg(pg_temp.new_turn(s, array_remove('{1,2,3,4}', s), 100)), '{100,100,100,100}', 'four that come at once get all they want')
	from unnest('{3,1,4,2}'::int[]) s;
select is(array_agg(bit_count(stripes::bit(64)) order by slot), '{16,16,16,16}', 'a quarter of the stripes each, whoever came first') from stepd.lease;
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select is(pg_temp.told(), true, 'each lease tells its stripes');
select t.finish_held(s, 'Std') from generate_series(1, 4) s;
select is(pg_temp.new_turn(1, null, 100), 100, 'with nobody idle');
select is((select stripes from stepd.lease), null, 'it is of all');
select t.finish_held(1, 'Std');
select is(pg_temp.new_turn(1, '{2,3,4}', 20), 20, 'a few jobs');
select is((select cardinality(groups) from stepd.lease), 20, 'tell their groups, while somebody is idle');
select is((select stripes from stepd.lease), (select bit_or(1::bigint << stepd._stripe(g, 0)) from stepd.lease, unnest(groups) g), 'and stripes');
select is(pg_temp.new_turn(2, '{3,4}', 100), 100, 'so the next has no need to ask');
select is((select bit_count(stripes::bit(64)) from stepd.lease where slot = 2), 16::bigint, 'of its quarter, the first is counted');
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select t.finish_held(s, 'Std') from generate_series(1, 4) s;
select stepd.queue_set('std', '{"maxConcurrency": 2}');
select is(pg_temp.new_turn(1, '{2,3,4}', 100), 100, 'where only two may work');
select is(bit_count((stepd._stripe_at(t.lane('Std'))).arc::bit(64)) between 32 and 33, true, 'it is one half');
select stepd.queue_set('std', '{"maxConcurrency": "none", "concurrencyPerGroup": 2}');
select t.finish_held(1, 'Std');
select is(pg_temp.new_turn(1, '{2}', 100), 100, 'where two may work on each group, and are two');
select is((select stripes from stepd.lease), null, 'all are for both');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'std' and j.status = 'ready';
select t.finish_held(1, 'Std');
select stepd.queue_set('std', '{"concurrencyPerGroup": 1}');
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'j' || i)) from generate_series(1, 50) i));
select is(pg_temp.new_turn(1, '{2,3,4}', 100), 50, 'who finds few jobs takes them');
select t.finish_held(1, 'Std');
-- what is left to others they are to be told of
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'l' || i)) from generate_series(1, 300) i));
select t.forget('Std');
select is((select array_agg(more) from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{0}', '{500}', 500, 1, null, '{2,3,4}')), '{t}', 'something is left');
select cmp_ok((select count(*)::int from stepd.ready r where r.lane_id = t.lane('Std')), '>', 150, 'most of it');
select t.finish_held(1, 'Std');
select is((select array_agg(more) from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], '{0}', '{500}', 500, 1, null, '{1,1}')), '{null}', 'not where nobody else is named');
select is((select count(*)::int from stepd.ready r where r.lane_id = t.lane('Std')), 0, 'nothing');
select t.finish_held(1, 'Std');
-- if they never come, the oldest do not wait for ever
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'single' || i)) from generate_series(1, 12) i));
select count(*) from stepd.enqueue_many('std', (select jsonb_agg('{"group": "hot"}'::jsonb) from generate_series(1, 4000) i));
select t.forget('Std');
create function pg_temp.on(rounds int) returns int language plpgsql as $$
declare
	cursor bigint := 0;
begin
	for i in 1 .. rounds loop
		perform t.finish_held(1, 'Std');
		cursor := coalesce((select max(c.cursor) from stepd.claim(t.n(), 1, 1, array[t.lane('Std')], array[case when i % 5 = 0 then 0 else cursor end], '{100}', 100, 1, null, '{2,3,4}') c), 0);
		perform set_config('stepd.at_' || t.lane('Std'), regexp_replace(current_setting('stepd.at_' || t.lane('Std')), '^(\S+ \S+) \d+', '\1 1'), true); -- 200 ms later
	end loop;
	return (select count(*) from stepd.ready r join stepd.job j on j.id = r.pos and j.bucket = r.bucket where j.group_id like 'single%');
end $$;
select is(pg_temp.on(12), 0, 'a reading from the start finds them all');
select stepd.cancel(j.id) from stepd.jobs j where j.queue = 'std' and j.status = 'ready';
select t.finish_held(1, 'Std');

-- towards the end batches become smaller
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'k' || i % 640)) from generate_series(1, 8000) i));
select set_config('t.at_' || t.lane('Std') || '_' || s, '', true) from generate_series(1, 4) s;
create function pg_temp.sizes() returns int[] language plpgsql as $$
declare
	lane text := t.lane('Std')::text;
	cursors bigint[] := '{0,0}';
	sizes int[] := '{}';
	c record;
begin
	for i in 1 .. 12 loop
		for s in 1 .. 2 loop
			perform set_config('stepd.starves_since', '1', true), set_config('stepd.at_' || lane, coalesce(current_setting('t.at_' || lane || '_' || s, true), ''), true);
			perform t.finish_held(s, 'Std');
			select max(x.cursor) as cursor, count(*)::int as n into c
			from stepd.claim(t.n(), s, 1, array[lane::int], array[cursors[s]], '{1000}', 1000, null, null, case when i = 1 then '{1,2}'::int[] end) x;
			cursors[s] := coalesce(c.cursor, 0);
			sizes := sizes || c.n;
			perform set_config('t.at_' || lane || '_' || s, current_setting('stepd.at_' || lane), true);
		end loop;
	end loop;
	return array_remove(sizes, 0);
end $$;
select pg_temp.sizes() as sizes \gset
select is((select min(s) from unnest((:'sizes'::int[])[1:3]) s), 1000, 'first what they want');
select cmp_ok((select count(*)::int from unnest(:'sizes'::int[]) s where s between 200 and 700), '>=', 4, 'then half of what is left of their stripes: ' || :'sizes');
select cmp_ok((select max(s) from unnest((:'sizes'::int[])[cardinality(:'sizes'::int[]) - 3:]) s), '<=', 300, 'and little in the end');
select t.finish_held(s, 'Std') from generate_series(1, 4) s;
select t.forget('Std');

select last_value as mark from stepd.job_id \gset
-- who goes for stripes others have locked looks for others the next time
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'k' || i % 640)) from generate_series(1, 1000) i));
create function pg_temp.until(share bigint) returns bool language plpgsql as $$
begin
	perform stepd._take_striped(t.lane('Std'), 'standard', 0, 10, x'ff'::bigint, share, null, 2);
	return (stepd._stripe_at(t.lane('Std'))).until > 0;
end $$;
select is(pg_temp.until(x'ff'::bigint), true, 'stripes that one has got one keeps for a while');
select t.forget('Std');
select is(pg_temp.until(x'7f'::bigint), false, 'but for one that somebody else was faster at: then it looks again');
delete from stepd.ready;
delete from stepd.job j where j.id > :mark and not exists (select from stepd.outcome o where o.id = j.id);
select t.forget('Std');

-- of one's own stripes one takes what one would if nobody were idle
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'w' || i % 640)) from generate_series(1, 6000) i));
create function pg_temp.wide(slot int, max int, most int, idle int[]) returns int language plpgsql as $$
begin
	perform set_config('stepd.starves_since', '1', true), t.forget('Std');
	return (select count(*) from stepd.claim(t.n(), slot, 1, array[t.lane('Std')::int], '{0}', array[max], max, null, array[most], idle) where job_id is not null);
end $$;
select is(pg_temp.wide(1, 100, 900, '{1,2,3}'), 900, 'a third of all, beside two who are idle');
select is(pg_temp.wide(2, 100, null, '{2,3}'), 100, 'but where jobs are to be strictly so many');
select t.finish_held(2, 'Std');
select stepd.queue_set('std', '{"rateLimit": "1150/1h"}');
select is(pg_temp.wide(2, 100, 900, '{2,3}'), 250, 'nor more than a rate lets');
select stepd.queue_set('std', '{"rateLimit": "none"}');
select t.finish_held(s, 'Std') from generate_series(1, 2) s;
delete from stepd.ready;
delete from stepd.job j where j.id > :mark and not exists (select from stepd.outcome o where o.id = j.id);
select is(pg_temp.held_twice('std', 1), 0::bigint, 'no group is held twice');
select t.forget('Std');
select count(*) from stepd.enqueue_many('std', (select jsonb_agg(jsonb_build_object('group', 'm' || i % 640)) from generate_series(1, 1000) i));
select is((select pg_temp.turn(1, 'Std', 300)), 300, 'one that is alone');
select is((select pg_temp.turn(1, 'Std', 300)), 300, 'takes what it wants');
select is((select pg_temp.turn(1, 'Std', 300)), 300, 'to the end');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
