-- What a second costs in which thousands of schedules are due.
--
-- A schedule is retired, never deleted, and a tick is inserted by a join with
-- it: a foreign key adds nothing but a look-up and a row lock for each tick,
-- two fifths of the whole.  Half of each page of schedules is left free, so
-- that the updates of a batch find room beside the old rows and no index is
-- touched.

alter table stepd.tick drop constraint if exists tick_schedule_id_fkey;
comment on column stepd.tick.schedule_id is 'stepd.schedule.id; without a foreign key, since schedules are never deleted.';

alter table stepd.schedule set (fillfactor = 50);
