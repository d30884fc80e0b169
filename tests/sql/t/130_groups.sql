-- Many fifo groups, one of them long and blocked by a head that waits for its retry: what a claim reads does not grow
-- with the groups, nor with what stands behind the blocked head.
begin;
select no_plan();
select t.setup();

-- Rows and index entries read of groups, jobs in line, ready ones and facts.  (Not of the inbox: what this transaction
-- has taken out of it is still passed over, as long as it runs.)
create function pg_temp.read() returns bigint language sql as $$
	select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))::bigint
	from pg_class c left join pg_index i on i.indexrelid = c.oid
	where coalesce(i.indrelid, c.oid) = any (array['stepd.fifo_group', 'stepd.fifo_backlog', 'stepd.ready',
		'stepd.job_p' || to_char(stepd._today(), 'YYYYMMDD')]::regclass[])
$$;
-- Claim some and complete them: what a claim read, for how many jobs.
create function pg_temp.turn(out entries bigint, out jobs int) language plpgsql as $$
declare
	got bigint[];
begin
	entries := pg_temp.read();
	got := t.claim(2, 'Fifo', 100);
	entries := pg_temp.read() - entries;
	jobs := coalesce(cardinality(got), 0);
	perform t.finish(j) from unnest(got) j;
end $$;

select count(*) from stepd.enqueue_many('fifo', (select jsonb_agg('{"group": "blocked"}'::jsonb) from generate_series(1, 3000)));
select is(t.claim(1, 'Fifo'), '{1}', 'the head of the group that is to be blocked');
select is(t.finish(1, 'error', 'x'), 'retrying', 'waits for its retry');
select stepd.enqueue('fifo', group_id => 'other') as other \gset
select is(t.claim(1, 'Fifo'), array[:other]::bigint[], 'one that came behind the blocked three thousand goes at once');
select t.finish(:other);
select count(*) from stepd.enqueue_many('fifo', (select jsonb_agg(jsonb_build_object('group', 'g' || i)) from generate_series(1, 20000) i));
select stepd._fifo_sort((select id from stepd.queue where name = 'fifo'), 100000);
select is((select count(*)::int from stepd.fifo_inbox), 0, 'all are in line');
select is((select count(*)::int from stepd.ready), 20000, 'one head of each other group');
select is((select count(*)::int from stepd.fifo_backlog), 2999, 'and those behind the blocked one');
select is((select jobs from pg_temp.turn()), 100, 'a claim');
select cmp_ok(entries, '<=', 3000::bigint, 'reads some entries for each job, not all groups') from pg_temp.turn();
select cmp_ok(max(x.entries), '<=', 3000::bigint, 'and so do later ones') from generate_series(1, 20) cross join lateral (select * from pg_temp.turn()) x;
select is(t.status(2), 'ready', 'the second of the blocked group');
select is((select min(job_id) from stepd.oldest_ready), 2::bigint, 'is the oldest');
select is((select reason from stepd.oldest_ready), 'it stands behind another job of its group', 'and it is said why it waits');
select stepd.cancel(1);
select is(t.claim(3, 'Fifo', 1) <> '{}', true, 'the block is lifted');
select is((select head from stepd.fifo_group where group_id = 'blocked'), 2::bigint, 'the next is head');
select is(t.sound(), 'sound', 'sound');
select * from finish();
rollback;
