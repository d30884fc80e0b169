begin;
select no_plan();
select is(stepd.state_set('g', 'b', '{"n": 1}'), '{"old": null, "new": {"n": 1}}', 'set');
select is(stepd.state_set('g', 'b', '2'), '{"old": {"n": 1}, "new": 2}', 'set again');
select is(stepd.state_set('g', 'a', null), '{"old": null, "new": null}', 'SQL null is JSON null');
select is(stepd.state_get('g', 'b'), '2', 'get');
select is(stepd.state_get('g', 'a'), 'null', 'get of JSON null');
select is(stepd.state_get('g', 'none'), null, 'get of nothing');
select is(stepd.state_list('g')::jsonb, '{"a": null, "b": 2}', 'list');
select alike(stepd.state_list('g'), '%a%b%', 'in order of keys');
select is(stepd.state_list('none'), '{}', 'list of nothing');
select stepd.state_set('other "group"', 'k', '1');
select is(stepd.state_groups()::jsonb, '["g", "other \"group\""]', 'groups');
select is(stepd.state_delete('g', 'b'), '2', 'delete');
select is(stepd.state_delete('g', 'b'), null, 'delete of nothing');
select is(stepd.state_clear('g'), 1, 'clear');
select is(stepd.state_clear('g'), 0, 'clear of nothing');
select throws_ok($$select stepd.state_set('', 'k', '1')$$, '22023', 'group_id: must not be empty', 'empty group');
select throws_ok($$select stepd.state_set('g', null, '1')$$, '22023', 'key: must not be empty', 'null key');
select throws_like($$select stepd.state_set('g', repeat('k', 1001), '1')$$, 'key: is 1001 bytes%', 'long key');
select lives_ok($$select stepd.state_set(repeat('g', 1000), repeat('k', 1000), '1')$$, 'the longest');

-- update
select is(stepd.state_update('u', 'k', '[{"type": "increment", "path": "n"}]') -> 'new', '{"n": 1}', 'increment from nothing');
select is(stepd.state_update('u', 'k', '[{"type": "increment", "path": ["n"], "by": 2.5}, {"type": "decrement", "path": ["n"], "by": 1}]'), '{"old": {"n": 1}, "new": {"n": 2.5}}', 'in order, with what was there');
select is(stepd.state_update('u', 'k', '[{"type": "append", "path": ["l"], "value": 1}, {"type": "append", "path": ["l"], "value": [2]}]') -> 'new', '{"l": [1, [2]], "n": 2.5}', 'append');
select is(stepd.state_update('u', 'k', '[{"type": "merge", "path": ["a", "b"], "value": {"x": 1}}, {"type": "merge", "path": ["a", "b"], "value": {"y": 2}}]') -> 'new' -> 'a', '{"b": {"x": 1, "y": 2}}', 'merge, making the way');
select is(stepd.state_update('u', 'k', '[{"type": "set", "path": ["l", "0"], "value": "first"}]') -> 'new' -> 'l', '["first", [2]]', 'set in an array');
select is(stepd.state_update('u', 'k', '[{"type": "remove", "path": ["l", 1]}, {"type": "remove", "path": ["a"]}, {"type": "remove", "path": ["none", "x"]}]') -> 'new', '{"l": ["first"], "n": 2.5}', 'remove');
select is(stepd.state_update('u', 'k', '[{"type": "set", "value": 5}, {"type": "increment", "by": 2}]') -> 'new', '7', 'the whole value');
select is(stepd.state_update('u', 'k', '[]'), '{"old": 7, "new": 7}', 'nothing to do');
select is(stepd.state_update('u', 'none', '[]'), '{"old": null, "new": null}', 'nothing to do with nothing');
select lives_ok($$select stepd._state_apply('[{"op": "update", "group": "u", "key": "none", "ops": []}]')$$, 'by a handler too');
select is(stepd.state_get('u', 'none'), null, 'which makes nothing');
select is(stepd.state_update('u', 'none', '[{"type": "remove", "path": "a"}, {"type": "remove"}]'), '{"old": null, "new": null}', 'nothing to remove from');
select is(stepd.state_get('u', 'none'), null, 'which makes nothing either');
select is(stepd.state_update('u', 'made', '[{"type": "remove", "path": "a"}, {"type": "set", "path": "b", "value": 1}]'), '{"old": null, "new": {"b": 1}}', 'but what comes after does');
select is(stepd.state_update('u', 'ends', '[{"type": "set", "value": []}, {"type": "increment", "path": [5, "n"]}, {"type": "increment", "path": [5, "n"]}]') -> 'new', '[{"n": 1}, {"n": 1}]', 'beyond the end of an array');
select is(stepd.state_update('u', 'ends', '[{"type": "set", "path": "", "value": {"a": [1]}}, {"type": "append", "path": ["a", -3, "1", "l"], "value": 2}]') -> 'new', '{"a": [{"1": {"l": [2]}}, 1]}', 'and before its start');
select is(stepd.state_update('u', 'ends', '[{"type": "set", "path": "", "value": [null, 1]}, {"type": "set", "path": [-2, "x"], "value": 2}]') -> 'new', '[{"x": 2}, 1]', 'null in an array becomes an object on the way');
select throws_ok($$select stepd.state_update('u', 'k', '{}')$$, '22023', 'ops: must be a JSON array of operations', 'no array');
select is(stepd.state_get('u', 'k'), '7', 'and nothing was changed');
select is(stepd.state_update('u', 'big', '[{"type": "increment", "by": 12345678901234567890}, {"type": "increment", "by": 0.1}]') -> 'new', '12345678901234567890.1', 'no digits are lost');

-- as effects: order within a batch, last one wins
select stepd._state_apply('[{"op": "set", "group": "e", "key": "a", "value": 1}, {"op": "delete", "group": "e", "key": "a"}, {"op": "set", "group": "e", "key": "b", "value": 1}, {"op": "set", "group": "e", "key": "b", "value": 2}]');
select is(stepd.state_list('e')::jsonb, '{"b": 2}', 'sets and deletes');
select stepd._state_apply('[{"op": "update", "group": "e", "key": "c", "ops": [{"type": "increment"}]}, {"op": "update", "group": "e", "key": "c", "ops": [{"type": "increment"}]}, {"op": "clear", "group": "e"}, {"op": "update", "group": "e", "key": "c", "ops": [{"type": "increment"}]}, {"op": "set", "group": "e", "key": "d", "value": null}]');
select is(stepd.state_list('e')::jsonb, '{"c": 1, "d": null}', 'updates and clears');
select throws_like($$select stepd._state_apply(jsonb_build_array(jsonb_build_object('op', 'set', 'group', 'e', 'key', 'deep', 'value', (repeat('[', 513) || repeat(']', 513))::jsonb)))$$,
	'effects.states e/deep: is nested deeper than 512%', 'a value too deep');
select stepd._state_apply((select jsonb_agg(jsonb_build_object('op', 'set', 'group', 'pending', 'key', 'k' || i, 'value', i)) from generate_series(1, 10000) i));
select is((select count(*)::int from json_object_keys(stepd.state_list('pending')::json)), 10000, '10,000 values');
select * from finish();
rollback;
