-- Settings changed by hand: kept over configure(), taken back by queue_reset().
begin;
select no_plan();
select t.setup() as node \gset
create function pg_temp.set(col text) returns text language sql as $$ select to_jsonb(q) ->> col from stepd.queues q where name = 'std' $$;

select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'max_retries', '7', 'timeout_ms', '5000')), '{}');
select is(stepd.queue_set('std', '{"maxRetries": 2, "rateLimit": "100/2s", "retryDelay": "5m", "timeout": "none"}'),
	'{"max_retries": 2, "rate_limit": 100, "rate_window_ms": 2000, "retry_delay_ms": 300000, "timeout_ms": 0}', 'returns what is set by hand');
select is(pg_temp.set('max_retries') || ' ' || pg_temp.set('rate_window_ms') || ' ' || pg_temp.set('retry_delay_ms') || ' ' || pg_temp.set('timeout_ms'),
	'2 2000 300000 0', 'and it counts');
select stepd.configure('n1', t.steps(), jsonb_build_array(t.queue('std', 'max_retries', '9', 'jitter', '0.5')), '{}');
select is(pg_temp.set('max_retries') || ' ' || pg_temp.set('jitter'), '2 0.5', 'a reload does not undo it, and brings the rest');
select is(stepd.queue_reset('std', 'maxRetries', 'rateLimit'), '{"timeout_ms": 0, "retry_delay_ms": 300000}', 'some are taken back');
select is(pg_temp.set('max_retries') || ' ' || pg_temp.set('rate_limit'), '9 0', 'the last configuration counts');
select is(stepd.queue_reset('std'), '{}', 'all are');
select is(pg_temp.set('retry_delay_ms'), '1000', 'down to the default');

select stepd.enqueue('std', '{}', group_id => 'g') from generate_series(1, 3);
select stepd.queue_set('std', '{"strategy": "fifo"}');
select is(t.claim(1, 'Std', 5), '{1}', 'a change of strategy moves the jobs: one of a group');
select stepd.queue_set('std', '{"strategy": "standard", "maxConcurrency": "none"}');
select is(cardinality(t.claim(2, 'Std', 5)), 2, 'and back');
select is(t.sound(), 'sound', 'sound');

select throws_ok($$select stepd.queue_set('nope', '{"jitter": 0}')$$, '22023', null, 'an unknown queue');
select throws_like($$select stepd.queue_set('std', '{"maxRetry": 1}')$$, '%there is no setting ''maxRetry''%', 'an unknown setting');
set local standard_conforming_strings = off; -- a session's old ways
select throws_like($$select stepd.queue_set('std', '{"jitter": "0x5"}')$$, 'settings.jitter: must be a number from 0 to 1%', 'a wrong number');
select lives_ok($$select stepd.configure('n2', '{"steps": []}', '[{"name": "old", "maxConcurrency": 5, "retryDelay": 7}]', null)$$, 'names in two spellings');
select is((select max_concurrency || ' ' || retry_delay_ms from stepd.queues where name = 'old'), '5 7', 'both are known');
reset standard_conforming_strings;
select throws_like($$select stepd.queue_set('std', '{}')$$, 'settings: is not an object with at least one setting', 'nothing');
select throws_like($$select stepd.queue_set('std', null)$$, 'settings: is not an object%', 'null');
select throws_like($$select stepd.queue_set('std', '{"maxRetries": null}')$$, 'settings.maxRetries: must be a number or a text, found null', 'a null value');
select throws_like($$select stepd.queue_set('std', '{"maxRetries": -1}')$$, 'settings.maxRetries: must be a whole number from 0 to 10000, found ''-1''', 'a negative number');
select throws_like($$select stepd.queue_set('std', '{"timeout": "5 minutes"}')$$, 'settings.timeout: must be a time such as%', 'a time of another kind');
select throws_like($$select stepd.queue_set('std', '{"timeout": 5}')$$, 'settings.timeout: %from 10ms to 30d, or none%', 'too short');
select throws_like($$select stepd.queue_set('std', '{"rateLimit": "0/1s"}')$$, 'settings.rateLimit: must be%', 'no rate');
select throws_like($$select stepd.queue_set('std', '{"rateLimit": "5/0s"}')$$, 'settings.rateLimit: must be%', 'no window');
select throws_like($$select stepd.queue_set('std', '{"timeout": "999999999999d"}')$$, 'settings.timeout: must be a time such as%', 'a time beyond all numbers');
select throws_like($$select stepd.queue_set('std', '{"rateLimit": "5/999999999999d"}')$$, 'settings.rateLimit: must be%', 'a window beyond all numbers');
select throws_like($$select stepd.queue_set('std', '{"backoff": "none"}')$$, 'settings.backoff: must be one of exponential, linear, fixed%', 'a wrong word');
select throws_like($$select stepd.queue_set('std', '{"jitter": 1.5}')$$, 'settings.jitter: must be a number from 0 to 1%', 'too much jitter');
select throws_like($$select stepd.queue_set('std', '{"strategy": "fifo", "concurrencyPerGroup": 2}')$$, 'settings.concurrencyPerGroup: a fifo%', 'fifo has one of a group');
select throws_like($$select stepd.queue_reset('std', 'maxRetry')$$, '%there is no setting%', 'nor can an unknown one be reset');
select * from finish();
rollback;
