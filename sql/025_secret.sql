-- What all nodes know and no client.

create table stepd.secret (
	name text primary key,
	key bytea not null,
	made_at timestamptz not null default clock_timestamp()
);
comment on table stepd.secret is 'Keys of this installation, made by chance when the schema was. Who may read them can read stepd.jobs as well.';
comment on column stepd.secret.name is 'jobs: makes the addresses under which clients ask for the jobs of their accepted requests. Changed, all addresses given out before are unknown.';
insert into stepd.secret (name, key)
values ('jobs', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
