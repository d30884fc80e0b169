-- Jobs that a node held when it vanished: any of them may be what it vanished of.

create table stepd.doubt (
	job_id bigint primary key,
	lane_id int not null,
	at timestamptz not null default clock_timestamp()
);
create index doubt_lane on stepd.doubt (lane_id, at);
comment on table stepd.doubt is 'Jobs that came back from a node that vanished, until they are claimed again, each in a batch of its own: then it is known whose attempt is used if that happens again. After five minutes they are jobs like others.';
comment on column stepd.doubt.lane_id is 'Its lane, of which one job is claimed at a time while this one stands in front.';
comment on column stepd.doubt.at is 'When it came back.';
