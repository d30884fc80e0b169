-- Six sessions do for some seconds whatever anybody may do to jobs, at random.
-- Each is a worker of one of two nodes, and now and then the keeper, or a
-- person.  All the while: of each fifo group at most one job is held, and of
-- the limited queue, and of each group of the one with a limit per group, at
-- most one worker holds jobs.  In the end everything is
-- drained, and the books must balance: each job in one place, the counter that
-- every completed job raised equal to the completed jobs, nothing left over.
create schema chaos;
create unlogged table chaos.step (id serial, name text);
insert into chaos.step (name) values ('Std'), ('Fan1'), ('Fan2'), ('Prio'), ('Fifo'), ('Fifo'), ('Lim'), ('Once');
select t.setup();
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'retry_delay_ms', '20'), t.queue('fan', 'retry_delay_ms', '5', 'concurrency_per_group', '1'),
	t.queue('prio', 'strategy', 'priority', 'retry_delay_ms', '1'), t.queue('fifo', 'strategy', 'fifo', 'max_retries', '2', 'retry_delay_ms', '3'),
	t.queue('lim', 'max_concurrency', '1', 'retry_delay_ms', '1'), t.queue('once', 'max_retries', '0')), '{}');

create function chaos.pick(variadic v text[]) returns text language sql volatile as $$
	select v[1 + floor(random() * cardinality(v))::int]
$$;

create function chaos.node(client int) returns int language plpgsql as $$
declare
	n int := (select max(id) from stepd.node where name = 'c' || client % 2 and lost_at is null and left_at is null);
begin
	return coalesce(n, stepd.node_join(gen_random_uuid(), 'c' || client % 2, 1, 'test', 60000));
end $$;

create function chaos.job() returns bigint language sql volatile as $$
	select greatest(1, last_value - floor(random() * 200)::bigint) from stepd.job_id
$$;

create function chaos.enqueue() returns void language plpgsql as $$
begin
	perform stepd.enqueue(chaos.pick('std', 'fan', 'prio', 'fifo', 'fifo', 'fifo', 'lim', 'once', 'nobody'), '1', floor(random() * 10)::int,
		case when random() < 0.2 then clock_timestamp() + random() * interval '100 ms' end,
		chaos.pick(null, 'a', 'b', 'c', 'd', 'e', 'f'), case when random() < 0.2 then chaos.pick('u', 'v', 'w') end)
	from generate_series(1, 1 + floor(random() * 8)::int);
end $$;

-- Outcomes of some of what this worker holds, and a claim.
create function chaos.work(client int) returns void language plpgsql as $$
declare
	node int := chaos.node(client);
	f record;
begin
	select array_agg(h.lease) as leases, array_agg(h.job) as jobs, array_agg(h.outcome) as outcomes, array_agg(1::bigint) as us,
		jsonb_agg(jsonb_build_object('job', h.job,
			'states', jsonb_build_array(jsonb_build_object('op', 'update', 'group', 'g', 'key', h.outcome, 'ops', '[{"type": "increment"}]'::jsonb)),
			'enqueues', case when random() < 0.1 then '[{"topic": "std", "unique": "x"}, {"topic": "fifo", "group": "a"}]'::jsonb else '[]' end)) as effects
	into f
	from (select l.id as lease, j as job, chaos.pick('completed', 'completed', 'completed', 'completed', 'error', 'fail', 'snooze', 'invalid_input', 'cancelled', 'skipped') as outcome
		from stepd.lease l, unnest(l.ids) j where (l.node_id, l.slot) = (node, client) and random() < 0.7 order by l.id) h;
	if f.jobs is not null then
		if random() < 0.5 then
			f.outcomes := array_fill('completed'::text, array[cardinality(f.jobs)]);
			f.effects := (select jsonb_agg(e || '{"states": [{"op": "update", "group": "g", "key": "completed", "ops": [{"type": "increment"}]}]}') from jsonb_array_elements(f.effects) e);
		end if;
		perform stepd.finish(node, 1, f.leases, f.jobs, f.outcomes, f.us, f.us, null, null, null, f.effects::text);
	end if;
	perform stepd.claim(node, client, 1, array_agg(l.id), array_agg(case when random() < 0.5 then 0 else chaos.job() - 100 end), array_agg(case when random() < 0.2 then 64 + floor(random() * 100)::int when random() < 0.3 then 40 else 1 + floor(random() * 6)::int end), case when random() < 0.2 then 160 when random() < 0.3 then 60 else 10 end,
			mosts => case when random() < 0.5 then array_agg(floor(random() * 300)::int) end,
			idle => case when random() < 0.5 then array(select floor(random() * 6)::int from generate_series(1, 3)) end)
	from (select id from (select distinct t.lane(s.name) as id from chaos.step s) s order by random() limit 3) l;
end $$;

create function chaos.check_limits() returns void language plpgsql as $$
declare
	bad text;
begin
	select format('group %s has %s held', h.group_id, count(*)) into bad
	from (select coalesce(j.group_id, '') as group_id from stepd.lease l, unnest(l.ids, l.buckets) u (id, bucket), stepd.job j
		where l.lane_id = t.lane('Fifo') and j.id = u.id and j.bucket = u.bucket) h
	group by h.group_id having count(*) > 1;
	if bad is not null then
		raise exception 'chaos: %', bad;
	end if;
	if (select count(distinct (node_id, slot)) from stepd.lease where lane_id = t.lane('Lim')) > 1 then
		raise exception 'chaos: the limit is exceeded';
	end if;
	select format('group %s is held by %s', h.group_id, count(distinct (h.node_id, h.slot))) into bad
	from (select j.group_id, l.node_id, l.slot from stepd.lease l, unnest(l.ids, l.buckets) u (id, bucket), stepd.job j
		where l.lane_id in (t.lane('Fan1'), t.lane('Fan2')) and j.id = u.id and j.bucket = u.bucket and j.group_id is not null) h
	group by h.group_id having count(distinct (h.node_id, h.slot)) > 1;
	if bad is not null then
		raise exception 'chaos: %', bad;
	end if;
end $$;

create function chaos.turn(client int) returns void language plpgsql as $$
declare
	r float8 := random();
	node int;
begin
	if r < 0.2 then
		perform chaos.enqueue();
	elsif r < 0.75 then
		perform chaos.work(client);
	elsif r < 0.80 then
		perform chaos.check_limits();
	elsif r < 0.85 then
		perform stepd.promote(100);
	elsif r < 0.90 then
		begin
			perform stepd.cancel(chaos.job());
			if random() < 0.3 then
				perform stepd.cancel(chaos.job());
			end if;
		exception when invalid_parameter_value then null;
		end;
	elsif r < 0.94 then
		begin
			perform stepd.retry(chaos.job());
		exception when invalid_parameter_value then null;
		end;
	elsif r < 0.96 then
		perform stepd.died(l.node_id, l.slot, l.generation, l.ids[1], 'crashed', 'x', null, 6, 1, 1, 1, 1, 1)
		from stepd.lease l where l.node_id = chaos.node(client) and l.slot = client limit 1;
	elsif r < 0.98 then
		perform stepd.release(array[l.id], array[l.ids[cardinality(l.ids)]])
		from stepd.lease l where l.node_id = chaos.node(client) and l.slot = client and cardinality(l.ids) > 1 limit 1;
	elsif r < 0.985 then
		update stepd.node set lost_at = clock_timestamp() where id = chaos.node(client) and lost_at is null;
	elsif r < 0.99 then
		perform stepd.rescue();
	elsif r < 0.992 then
		perform stepd._pause('std', random() < 0.5);
	else
		perform stepd.give_back(chaos.node(client), client, 1, null);
	end if;
end $$;

-- Drain, and look at what is left.
create function chaos.verdict() returns text language plpgsql as $$
declare
	n int := 0;
	me int := t.node('last');
	sound text := t.sound();
	jobs bigint[];
	f record;
begin
	if sound <> 'sound' then
		return sound;
	end if;
	perform stepd.resume('std');
	update stepd.node set lost_at = clock_timestamp() where id <> me and lost_at is null;
	perform stepd.rescue();
	loop
		update stepd.waiting set run_at = clock_timestamp() - interval '1 s';
		perform stepd.promote(1000000);
		select array_agg(c.lease_id) as leases, array_agg(c.job_id) as jobs, array_agg('completed'::text) as outcomes, array_agg(1::bigint) as us,
			jsonb_agg(jsonb_build_object('job', c.job_id, 'states', '[{"op": "update", "group": "g", "key": "completed", "ops": [{"type": "increment"}]}]'::jsonb)) as effects
		into f
		from stepd.claim(me, 1, 1, (select array_agg(id) from stepd.lane), (select array_agg(0) from stepd.lane), (select array_agg(1000) from stepd.lane), 5000) c;
		exit when f.jobs is null;
		perform stepd.finish(me, 1, f.leases, f.jobs, f.outcomes, f.us, f.us, null, null, null, f.effects::text);
		n := n + 1;
		if n > 100000 then
			return 'it does not end';
		end if;
	end loop;
	sound := t.sound();
	return case
		when sound <> 'sound' then sound
		when exists (select from stepd.jobs where status not in ('completed', 'failed', 'cancelled', 'skipped', 'unrouted')) then
			(select format('job %s of %s is %s', id, queue, status) from stepd.jobs where status not in ('completed', 'failed', 'cancelled', 'skipped', 'unrouted') limit 1)
		when (select value::int from stepd.state where key = 'completed') <> (select count(*) from stepd.outcome where status = 'completed') then
			format('the counter is %s, completed are %s', (select value from stepd.state where key = 'completed'), (select count(*) from stepd.outcome where status = 'completed'))
		when exists (select from stepd.fifo_group) or exists (select from stepd.fifo_backlog) or exists (select from stepd.fifo_inbox where not ended) then 'something is left of a fifo queue'
		when exists (select from stepd.unique_job) then 'a unique key is left'
		when exists (select from stepd.cancel_request) then 'a request is left'
		when (select count(*) from stepd.outcome) < 500 then 'it did too little'
		else 'balanced' end;
end $$;
