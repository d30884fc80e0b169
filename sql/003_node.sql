-- Repeatable.
--
-- Nodes: join, heartbeat, leave.
--
-- A node is one life of one daemon.  Nothing here takes part in fencing: a
-- lease is valid as long as its row exists, and rescue() removes the leases of
-- nodes that do not live.  So a node may be declared lost at any moment
-- without locking out its workers first; what they deliver later finds no
-- lease and is refused.

-- Attempts are counted on when a job is retried by hand; 32767 is what smallint holds.
create or replace function stepd._max_attempts(max_retries int, attempts_before int) returns int
language sql immutable parallel safe as $$ select least(max_retries + 1 + coalesce(attempts_before, 0), 32767) $$;
comment on function stepd._max_attempts(int, int) is 'Attempts that a job may have in all: those before it was retried by hand (null: it was not), and max_retries + 1.';

create or replace function stepd.node_join(boot_id uuid, name text, pid int, version text, lease_ms int) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	n stepd.node;
begin
	if node_join.boot_id is null then
		perform stepd._bad('boot_id', 'must not be null');
	elsif coalesce(node_join.lease_ms, 0) not between 100 and 86400000 then
		perform stepd._bad('lease_ms', format('%s is not between 100 and 86400000', coalesce(lease_ms::text, 'null')));
	end if;
	perform stepd._required('{pid,version}', node_join.pid is null, node_join.version is null);
	perform stepd._check_text('name', node_join.name, 200), stepd._check_text('version', node_join.version, 200);
	if node_join.pid < 1 then
		perform stepd._bad('pid', format('%s is not the number of a process', node_join.pid));
	end if;
	insert into stepd.node as x (boot_id, name, pid, version, lease_ms)
	values (node_join.boot_id, node_join.name, node_join.pid, node_join.version, node_join.lease_ms)
	on conflict (boot_id) do update set heartbeat_at = clock_timestamp(), lease_ms = excluded.lease_ms, pid = excluded.pid
		where x.left_at is null and x.lost_at is null
	returning * into n;
	if n.id is null then
		raise exception using errcode = '22023', message = format('boot_id: %s has left or has been declared dead', node_join.boot_id),
			hint = 'Join again with a new boot id.';
	end if;
	return n.id;
end $$;
comment on function stepd.node_join(uuid, text, int, text, int) is
	'Register one start of a daemon and return its node id; safe to repeat with the same boot id. Raises 22023 when that boot id left or was declared lost.';

create or replace function stepd.node_beat(node_id int, listening boolean) returns boolean
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._required('{node_id}', node_beat.node_id is null);
	update stepd.node set heartbeat_at = clock_timestamp(), listening = coalesce(node_beat.listening, false)
	where id = node_beat.node_id and left_at is null and lost_at is null;
	return found;
end $$;
comment on function stepd.node_beat(int, boolean) is
	'Heartbeat. False: the node was declared dead, join anew with a new boot id. listening: send NOTIFY stepd_ready when work comes.';

create or replace function stepd._node_lives(n stepd.node) returns boolean
language sql stable as $$
	select n.left_at is null and n.lost_at is null
		and greatest(n.heartbeat_at, pg_postmaster_start_time()) + n.lease_ms * interval '1 ms' > clock_timestamp()
$$;
comment on function stepd._node_lives(stepd.node) is
	'It has not left, is not lost, and was heard of within its lease; the time that the server itself was down does not count.';

-- A daemon killed with -9 leaves a node whose lease has not run out.  The next
-- one on the same host can see for certain that its process is gone, and need
-- not wait: it tells its own place, gets the other nodes of the host, looks at
-- their processes, and declares the dead ones lost.
drop function if exists stepd.node_place(int, text, bigint);
create or replace function stepd.node_place(node_id int, host text, pid_started bigint)
returns table (other_id int, other_pid int, other_started bigint, other_workers int[])
language plpgsql as $$
#variable_conflict use_column
begin
	perform stepd._required('{node_id}', node_place.node_id is null);
	perform stepd._check_text('host', node_place.host, 1000) where node_place.host is not null;
	perform stepd._check_range('pid_started', node_place.pid_started, 0, 9223372036854775807);
	update stepd.node set host = node_place.host, pid_started = node_place.pid_started where id = node_place.node_id;
	return query
		select n.id, n.pid, n.pid_started, array(select w.pid from stepd.worker w where w.node_id = n.id) from stepd.node n
		where n.host = node_place.host and n.id <> node_place.node_id and n.left_at is null and n.lost_at is null
		order by n.id;
end $$;
comment on function stepd.node_place(int, text, bigint) is
	'Record where a node''s process can be looked for, and return the other nodes of that host that neither left nor are lost, with the pids of their workers.';

create or replace function stepd.node_gone(node_ids int[]) returns int
language plpgsql as $$
#variable_conflict use_column
declare
	n int;
begin
	perform stepd._required('{node_ids}', node_gone.node_ids is null);
	perform stepd._check_list('node_ids', node_gone.node_ids);
	update stepd.node set lost_at = clock_timestamp(), listening = false
	where id in (select x.id from stepd.node x where x.id = any (node_ids) and x.left_at is null and x.lost_at is null
		order by x.id for update);
	get diagnostics n = row_count;
	return n;
end $$;
comment on function stepd.node_gone(int[]) is
	'Declare nodes lost whose processes are known to be gone; rescue() then takes back what they held. Returns how many were not lost before.';

-- Wake the keepers, when any wants to be woken.  PostgreSQL sends equal
-- notifications of one transaction once.
create or replace function stepd._ring(payload text) returns void
language plpgsql as $$
begin
	if exists (select from stepd.node n where n.listening) then
		perform pg_notify('stepd_ready', payload);
	end if;
end $$;
comment on function stepd._ring(text) is 'NOTIFY stepd_ready, if some node listens. Payload empty: ready work; due: something new waits for its time.';

create or replace function stepd._settings_changed() returns void
language plpgsql as $$
begin
	update stepd.setting set version = version + 1;
	perform pg_notify('stepd_settings', '');
end $$;
comment on function stepd._settings_changed() is 'Tell the nodes to read queues, pauses and schedules again, once this is committed.';
