-- Which job has which group is looked up again when a lease shrank: that is
-- rare, and the numbers made rows too long to stay in their page.

alter table stepd.group_hold drop column ids;
alter table stepd.group_hold alter groups set storage main;
alter table stepd.group_hold set (toast_tuple_target = 8160, toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000);
comment on column stepd.group_hold.groups is 'The groups of those of its jobs that have one; as often as there are jobs.';
