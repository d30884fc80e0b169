-- Settings of queues that were changed by hand.

alter table stepd.queue add column configured jsonb not null default '{}', add column overrides jsonb not null default '{}';
comment on column stepd.queue.configured is 'What configuration files say, defaults included; names as here. Written by configure().';
comment on column stepd.queue.overrides is 'What was set by hand (stepd.queue_set, stepctl queue set); counts more than configured, reloads and restarts included, until it is reset.';
