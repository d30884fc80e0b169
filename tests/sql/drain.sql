-- For measurements: a worker in SQL.  drain_step(slot, batch) is one turn of
-- it, finish(what the last turn claimed) + claim, one transaction; drain_read()
-- behind it reads what was claimed.  What it holds and its cursor are kept in
-- settings of the session.  A turn that gets nothing notes how much CPU time
-- the server process has used up to then.

create table drain_cpu (pid int, us bigint);

create function drain_cpu() returns bigint
language sql as $$
	select (f[14]::bigint + f[15]::bigint) * 10000
	from regexp_split_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '\(.*\)', 'x'), ' ') f
$$;

create function drain_step(node int, slot int, lane int, batch int) returns int
language plpgsql as $$
declare
	leases bigint[] := coalesce(nullif(current_setting('drain.leases', true), ''), '{}');
	jobs bigint[] := coalesce(nullif(current_setting('drain.jobs', true), ''), '{}');
	cur bigint := coalesce(nullif(current_setting('drain.cursor', true), ''), '0');
	n int := cardinality(jobs);
	next bigint;
begin
	if n > 0 then
		perform stepd.finish(node, 1, leases, jobs, array_fill('completed'::text, array[n]), array_fill(1000::bigint, array[n]),
			array_fill(10::bigint, array[n]), null, null, null, null);
	end if;
	select array_agg(c.lease_id), array_agg(c.job_id), max(c.cursor) into leases, jobs, next
	from stepd.claim(node, slot, 1, array[lane], array[cur], array[batch], batch, 16) c;
	perform set_config('drain.leases', coalesce(leases::text, ''), false), set_config('drain.jobs', coalesce(jobs::text, ''), false),
		set_config('drain.cursor', coalesce(next, 0)::text, false);
	if leases is null then
		insert into drain_cpu select pg_backend_pid(), drain_cpu();
	end if;
	return n;
end $$;

create function drain_read(node int, slot int) returns int
language plpgsql as $$
declare
	leases bigint[] := nullif(current_setting('drain.leases', true), '');
	jobs bigint[];
begin
	if current_setting('drain.jobs', true) <> '{NULL}' then
		return 0;
	end if;
	select array_agg(c.lease_id), array_agg(c.job_id) into leases, jobs from stepd.claimed(node, slot, 1, leases) c;
	perform set_config('drain.leases', leases::text, false), set_config('drain.jobs', jobs::text, false);
	return cardinality(jobs);
end $$;
