-- Repeatable.
--
-- What became of accepted requests.

create or replace function stepd.http_key() returns text
language sql stable as $$ select encode(k.key, 'hex') from stepd.secret k where k.name = 'jobs' $$;
comment on function stepd.http_key() is 'The key that job addresses are made with, in hex.';

create or replace function stepd._utc(at timestamptz) returns text
language sql stable parallel safe as $$ select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;
comment on function stepd._utc(timestamptz) is 'A time as JavaScript writes it.';

create or replace function stepd._http_ended(job_id bigint, output boolean) returns text
language sql stable as $$
	select (jsonb_strip_nulls(jsonb_build_object('jobId', o.id, 'status', o.status, 'attempt', o.attempt, 'maxAttempts', o.max_attempts,
			'enqueuedAt', stepd._utc(j.enqueued_at), 'startedAt', stepd._utc(o.started_at), 'finishedAt', stepd._utc(o.finished_at)))
		|| case when $2 and o.output is not null then jsonb_build_object('output', o.output) else '{}' end)::text
	from stepd.outcome o join stepd.job j on j.id = o.id and j.bucket = o.bucket
	where o.id = $1 and j.trigger = 'http'
$$;
comment on function stepd._http_ended(bigint, boolean) is 'What a client may know of an http job that has ended; null for any other.';

create or replace function stepd._http_live(job_id bigint) returns text
language sql stable as $$
	select jsonb_strip_nulls(jsonb_build_object('jobId', v.id, 'status', v.status, 'attempt', v.attempt, 'maxAttempts', v.max_attempts,
		'enqueuedAt', stepd._utc(v.enqueued_at), 'startedAt', stepd._utc(v.started_at)))::text
	from stepd.jobs v where v.id = $1 and v.trigger = 'http'
$$;
comment on function stepd._http_live(bigint) is 'What a client may know of an http job that has not ended.';

create or replace function stepd.http_jobs(ids bigint[], waits boolean[], output boolean) returns table (ended boolean, document text)
language plpgsql stable
set enable_seqscan = off set jit = off as $$
declare
	j record;
begin
	perform stepd._required('{ids,waits,output}', http_jobs.ids is null, http_jobs.waits is null, output is null);
	perform stepd._check_lengths('{ids,waits}', array[cardinality(ids), cardinality(waits)]);
	perform stepd._check_list('ids', ids), stepd._check_list('waits', waits);
	for j in select u.id, u.wait from unnest(ids, waits) with ordinality u (id, wait, ord) order by u.ord loop
		document := stepd._http_ended(j.id, output);
		ended := document is not null;
		if not ended and not j.wait then
			document := stepd._http_live(j.id);
		end if;
		return next;
	end loop;
end $$;
comment on function stepd.http_jobs(bigint[], boolean[], boolean) is
'For each id of a job of an accepted request what its client may know of it, as JSON: status, attempts and times, with output also what the handler returned. Null for an unknown one, and for one that has not ended when its element of waits is true.';
