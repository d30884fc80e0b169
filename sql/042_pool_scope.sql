-- What the pools of a node run.

alter table stepd.node_pool add column queues text[], add column steps text[];
comment on column stepd.node_pool.queues is 'The queues whose jobs it runs; null: all.';
comment on column stepd.node_pool.steps is 'The steps whose jobs it runs; null: all.';
