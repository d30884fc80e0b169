-- Which stripes of its queue's groups a batch is of: claims of different stripes
-- need not wait for each other.  See 035_stripe.sql.

alter table stepd.lease add column stripes bigint;
comment on column stepd.lease.stripes is 'With concurrencyPerGroup: the stripes that the groups of its jobs may be in, a bit each; null: any.';
