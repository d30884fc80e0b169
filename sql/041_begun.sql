-- Which held job is known to have begun, of any queue.  See stepd.began().

comment on column stepd.lease.begun is 'The job that its worker said has begun (stepd.began), since it runs for more than a moment; with a rateLimit it counts in stepd.rate_start.';
