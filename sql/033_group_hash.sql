-- The group of a ready job, as a hash beside its place: which groups are full is told without a look at the jobs.
-- See 018_limit.sql.  What stands in fifo_backlog of a queue that is not fifo, and group_hold, name groups by it too.

alter table stepd.ready add column group_hash bigint;
comment on column stepd.ready.group_hash is 'hashtextextended(group_id, 0) of the job; null: it has no group. Two groups in as many as there are numbers share theirs: then they share what concurrencyPerGroup allows.';
update stepd.ready r set group_hash = hashtextextended(j.group_id, 0)
from stepd.job j where j.id = r.pos and j.bucket = r.bucket and j.group_id is not null;

update stepd.fifo_backlog b set group_id = hashtextextended(b.group_id, 0)::text
from stepd.queue q where q.id = b.queue_id and q.strategy <> 'fifo';
comment on column stepd.fifo_backlog.group_id is 'The group; of a queue that is not fifo its hash, as text.';

-- What is held now is noted by the next claim that asks.
delete from stepd.group_hold;
alter table stepd.group_hold alter groups type bigint[] using null;
comment on column stepd.group_hold.groups is 'The groups, as hashes, of those of its jobs that have one; as often as there are jobs.';

-- Who holds jobs of a queue is asked by each claim under a limit; the table is full of dead rows as large as a page.
create index lease_lane on stepd.lease (lane_id);
