-- With a rateLimit: which held jobs are known to have begun.  See 018_limit.sql.

alter table stepd.lease add column begun bigint;
comment on column stepd.lease.begun is 'Of a queue with a rate limit: the job that its worker said has begun (stepd.began); it counts in stepd.rate_start.';
