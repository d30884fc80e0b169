begin;
select no_plan();
select t.setup() as node \gset

select is(stepd.maintain('30 days'), '', 'nothing to do on a fresh schema');
select is((select count(*)::int from pg_inherits where inhparent = 'stepd.job'::regclass), 12, 'yesterday to a week ahead, one more of lib.sql, and the rest');
select throws_like($$select stepd.maintain(null)$$, 'keep: null is not%', 'keep null');
select throws_like($$select stepd.maintain('-1 day')$$, 'keep: % is not%', 'keep negative');

-- rows of a day without partition
select stepd._today() - 40 as old \gset
insert into stepd.job (id, bucket, enqueued_at, trace_id, input, lane_id) select i, :'old', now() - interval '40 days', gen_random_uuid(), '1', t.lane('Std') from generate_series(1001, 1010) i;
select is((select count(*)::int from stepd.job_default), 10, 'the default partition catches them');
insert into stepd.ready select t.lane('Std'), 0, 1001, :'old', 0;
insert into stepd.waiting values (1002, t.lane('Std'), :'old', 1, 'retrying', now() + interval '1 day');
insert into stepd.unrouted values (1003, :'old', 'nobody');
insert into stepd.fifo_inbox values ((select queue_id from stepd.lane where id = t.lane('Fifo')), 1004, t.lane('Fifo'), :'old', 0, false, '');
insert into stepd.fifo_backlog values ((select queue_id from stepd.lane where id = t.lane('Fifo')), 'g', 1005, t.lane('Fifo'), :'old', 0);
insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, finished_at) select i, :'old', t.lane('Std'), 'completed', 1, 4, now() - interval '40 days' from generate_series(1006, 1008) i;
insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, finished_at) values (1009, :'old', t.lane('Std'), 'failed', 4, 4, now() - interval '1 day');
insert into stepd.attempt (job_id, bucket, attempt, outcome, finished_at) values (1009, :'old', 1, 'error', now()), (1006, :'old', 1, 'error', now());
insert into stepd.log (job_id, bucket, attempt, at, level, message) values (1009, :'old', 1, now(), 'info', 'm'), (1006, :'old', 1, now(), 'info', 'm');
insert into stepd.lease (node_id, slot, generation, lane_id, claimed_at, since, has_unique, ids, buckets, attempts) values (:node, 1, 1, t.lane('Std'), now(), now(), false, '{1010}', array[:'old'::date], '{0}');
select is(t.sound(), 'sound', 'jobs of all kinds');
select ok(stepd._partition_make(:'old'), 'its partition is made');
select is((select count(*)::int from stepd.job_default), 0, 'and takes them over');
select is((select count(*)::int from stepd.job where bucket = :'old'), 10, 'all of them');
select is(t.sound(), 'sound', 'sound');

-- a day that is past
select is(stepd.maintain('30 days'), format('kept the partitions of %s: a job of it is held', :'old'), 'a held job keeps the day');
select is(t.finish(1010), 'completed', 'till it ends');
select is(stepd.maintain('30 days'), format('dropped the partitions of %s', :'old'), 'then it is dropped');
select is((select array_agg(id order by id) from stepd.jobs), '{1001,1002,1003,1004,1005,1009,1010}', 'what has not ended stays, and what ended late');
select is((select array_agg(distinct bucket) from stepd.job), array[stepd._today()], 'in today''s partition');
select is((select count(*)::int from stepd.attempts), 1, 'with its attempts');
select is((select count(*)::int from stepd.logs), 1, 'and logs');
select is(t.sound(), 'sound', 'sound');
select is(t.claim(1, 'Std'), '{1001}', 'it can be claimed');
select is(t.finish(1001), 'completed', 'and finished');

-- days that never got a partition, since nobody called for more than a week: they are forgotten job by job
insert into stepd.job (id, bucket, enqueued_at, trace_id, input, lane_id) select i, stepd._today() - 41, now() - interval '41 days', gen_random_uuid(), '1', t.lane('Std') from generate_series(901, 903) i;
insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, finished_at) values (901, stepd._today() - 41, t.lane('Std'), 'failed', 4, 4, now() - interval '40 days'), (902, stepd._today() - 41, t.lane('Std'), 'completed', 1, 4, now() - interval '20 days');
insert into stepd.attempt (job_id, bucket, attempt, outcome, finished_at) values (901, stepd._today() - 41, 1, 'error', now());
insert into stepd.log (job_id, bucket, attempt, at, level, message) values (901, stepd._today() - 41, 1, now(), 'info', 'm');
insert into stepd.ready select t.lane('Std'), 0, 903, stepd._today() - 41, 0;
select is(stepd.maintain('30 days'), 'forgot 1 jobs of days without a partition', 'what ended before');
select is((select array_agg(id order by id) from stepd.jobs where id < 1000), '{902,903}', 'not what ended later or has not ended');
select is((select count(*)::int from stepd.attempt where job_id = 901) + (select count(*)::int from stepd.log where job_id = 901), 0, 'with all that is its');
select is(stepd.maintain('10 days'), 'forgot 1 jobs of days without a partition', 'the next when it is time');
select is(t.claim(1, 'Std'), '{903}', 'the last runs'), t.finish(903);
select is(stepd.maintain('30 days'), '', 'and is new');

-- a queue that keeps less
select stepd.enqueue('once') as j \gset
select t.claim(1, 'Once'), t.finish(:j);
select stepd.enqueue('std') as k \gset
select t.claim(1, 'Std'), t.finish(:k);
update stepd.outcome set finished_at = now() - interval '2 days' where id in (:j, :k);
update stepd.outcome set bucket = bucket - 1 where id in (:j, :k);
update stepd.job set bucket = bucket - 1 where id in (:j, :k);
update stepd.queue set history_ms = 86400000 where name = 'once';
select is(stepd.maintain('30 days'), 'forgot 1 jobs of queue once', 'its own keep');
select is((select count(*)::int from stepd.jobs where id in (:j, :k)), 1, 'not that of others');

-- many: one call takes 100,000 of them, and says that there are more
insert into stepd.job (id, bucket, lane_id, trigger, trigger_index, priority, enqueued_at, trace_id, topic, input)
select i, o.bucket, o.lane_id, 'queue', 0, 0, now() - interval '3 days', gen_random_uuid(), 'once', 'null'
from (select o.bucket, l.id as lane_id from stepd.outcome o, stepd.lane l join stepd.queue q on q.id = l.queue_id where o.id = :k and q.name = 'once') o, generate_series(-100001, -1) i;
insert into stepd.outcome (id, bucket, lane_id, status, attempt, max_attempts, started_at, finished_at)
select j.id, j.bucket, j.lane_id, 'completed', 1, 4, now() - interval '3 days', now() - interval '3 days' from stepd.job j where j.id < 0;
select is(u::text, '("forgot 100000 jobs of queue once",t)', 'there are more') from stepd.upkeep('30 days') u;
select is(u::text, '("forgot 1 jobs of queue once",f)', 'that was all') from stepd.upkeep('30 days') u;
select is(t.sound(), 'sound', 'sound');
select is((select stepd.version()), (select max(version) from stepd.migration), 'version()');
select * from finish();
rollback;
