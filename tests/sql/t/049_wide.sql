-- concurrencyPerGroup 1 with large batches: of its stripes a worker takes all it may, and what is not of them is not forgotten.
begin;
select no_plan();
select t.setup() as node \gset
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'concurrency_per_group', '1'), t.queue('fan', 'concurrency_per_group', '2')), '{}');
set stepd.warm_claim = '1';

-- as a worker with a session of its own: what it got, and the cursor that comes next, "woken" if others are to be
create function pg_temp.turn(slot int, step text, cursor bigint, max int, most int, idle int[]) returns text language plpgsql as $$
declare
	lane int := t.lane(step);
	kept text;
	said text;
begin
	perform set_config('stepd.starves_since', '1', true), -- it waits no longer
		set_config('stepd.at_' || lane, coalesce(current_setting('t.at_' || lane || '_' || slot, true), ''), true);
	perform t.finish_held(slot, step);
	select concat_ws(' ', count(c.job_id), case when bool_or(c.more) then 'woken' end) into said
	from stepd.claim(t.n(), slot, 1, array[lane], array[cursor], array[max], max, null, array[most], idle) c;
	perform set_config('t.at_' || lane || '_' || slot, current_setting('stepd.at_' || lane), true);
	return said;
end $$;
create function pg_temp.start(queue text, jobs int) returns void language plpgsql as $$
begin
	perform t.finish_held(s, x) from generate_series(1, 4) s cross join unnest('{Std,Fan1}'::text[]) x;
	delete from stepd.ready;
	delete from stepd.job j where not exists (select from stepd.outcome o where o.id = j.id);
	perform set_config('t.at_' || l || '_' || s, '', true) from unnest(array[t.lane('Std'), t.lane('Fan1')]) l cross join generate_series(1, 4) s;
	perform stepd._starve(null), t.forget('Std'), t.forget('Fan1');
	perform stepd.enqueue_many(queue, (select jsonb_agg(jsonb_build_object('group', 'g' || i % 640)) from generate_series(1, jobs) i));
end $$;
create function pg_temp.last() returns bigint language sql as $$ select last_value from stepd.job_id $$;

select pg_temp.start('std', 3000);
select matches(pg_temp.turn(1, 'Std', 0, 100, 900, '{2,3,4}'), '^6\d\d woken$', 'a quarter of all that there is, beside three who are about to come');
select matches(pg_temp.turn(1, 'Std', pg_temp.last(), 100, 900, '{2,3,4}'), '^[2-7]\d\d woken$', 'nor more the next time, though its own are done');
select isnt((select stripes from stepd.lease), null, 'and not of all groups');
select matches(pg_temp.turn(2, 'Std', 0, 100, 900, '{3,4}'), '^[4-7]\d\d woken$', 'so that they have theirs');
select is((select count(*) from (select g from stepd.lease l, unnest(l.ids) i join stepd.job j on j.id = i, lateral (select j.group_id) x (g) group by g having count(distinct l.slot) > 1) x), 0::bigint, 'no group is held twice');

-- who had its part, and more was given to somebody who then did not do it
select pg_temp.start('std', 1000);
select is(pg_temp.turn(1, 'Std', 0, 100, 100, '{2}'), '100 woken', 'one takes a part of its half');
select matches(pg_temp.turn(2, 'Std', 0, 100, 900, '{}'), '^[45]\d\d$', 'another one all of the other half, of which nothing is left');
select t.finish_held(1, 'Std') > 0 as gone;
select matches(pg_temp.turn(2, 'Std', pg_temp.last(), 100, 900, '{}'), '^\d{3}', 'the first is gone: its half is found also behind the cursor');

-- others could run what is of stripes that two may share
select pg_temp.start('fan', 1000);
select is(pg_temp.turn(s, 'Fan1', 0, 100, 900, '{1,2,3,4}') ~ '^100\M', true, 'a batch as without stripes') from generate_series(1, 4) s;

-- of several lanes only the first, or it would be too much together
select pg_temp.start('std', 1000);
select stepd.enqueue('once', '{}') from generate_series(1, 99);
select is((select array_agg(x.n order by x.n) from (select count(*)::int as n from stepd.claim(:node, 1, 1, array[t.lane('Once'), t.lane('Std')], '{0,0}', '{100,100}', 100, null, '{900,900}', '{2}') c group by c.lane_id) x),
	'{1,99}', 'the second of two lanes fills up what was asked, no more');
select t.finish_held(1, 'Once');

-- who has said that it wants jobs says so until it has looked at all there is
select pg_temp.start('std', 1);
select is(cardinality(t.claim(1, 'Std', 1)), 1, 'one holds the only group');
select stepd.enqueue('std', '{}', group_id => 'g1') from generate_series(1, 2);
select is(cardinality(t.claim(2, 'Std', 1)), 0, 'another one finds nothing');
select isnt(current_setting('stepd.starves'), '', 'which it says');
select is(cardinality(t.claim(2, 'Std', 1, null, pg_temp.last())), 0, 'nor from where the lane ends');
select isnt(current_setting('stepd.starves'), '', 'which takes nothing back');
select t.finish_held(1, 'Std');
select is(cardinality(t.claim(2, 'Std', 1)), 1, 'until it has one');
select is(current_setting('stepd.starves'), '', 'then it does not say so any more');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
