-- Idempotency keys of accepted requests.  "if not exists": the first 014_http.sql made it.

create table if not exists stepd.accepted_key (
	step text not null,
	key text not null,
	job_id bigint,
	digest bytea not null,
	made_at timestamptz not null default clock_timestamp(),
	primary key (step, key)
);
comment on table stepd.accepted_key is 'Idempotency keys of accepted requests; maintain() forgets them after 24 hours.';
comment on column stepd.accepted_key.step is 'Name of the step whose key it is.';
comment on column stepd.accepted_key.key is 'As the client sent it.';
comment on column stepd.accepted_key.job_id is 'The first request''s job; null only within the transaction that makes it.';
comment on column stepd.accepted_key.made_at is 'Of the first request; 24 hours later the key is new again.';
comment on column stepd.accepted_key.digest is 'SHA-256 of the body: another body under the same key is refused.';
