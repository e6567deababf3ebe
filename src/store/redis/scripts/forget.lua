-- forget: ends an orphan for good, and cancels what it has unfinished, a bounded part at a time.
-- KEYS  1 log, 2 meta, 3 bell, 4… the target's
-- ARGV  1 clock offset ms, 2 group, 3 our lease, 4 what (forget: end an orphan; cancel: go on with one that was ended)
-- What is in flight keeps its lease, as a record, and ends with its settle; then the group goes.
-- Returns refused, more (call again), changed (nothing is left).

local ev, meta, bell, t = KEYS[1], KEYS[2], KEYS[3], target_at(4)
local group = ARGV[2]
local now = real_ms() + tonumber(ARGV[1])
local STEP = 500
local own = own_of(t)
if own.standing == 'orphan' and ARGV[4] == 'forget' then
  local pending = redis.pcall('XPENDING', ev, group, '-', '+', STEP)
  if pending and not pending.err then
    for _, entry in ipairs(pending) do
      local id = hex_of(entry[1])
      local event = redis.call('XRANGE', ev, entry[1], entry[1])[1]
      local lane = event and lane_of(own, event[2][2], event[2][4]) or ''
      redis.call('HSET', t.act, id, entry[2] .. ':0')
      move(t, id, new_record(now, lane), nil, 'f', now)
      redis.call('XACK', ev, group, entry[1])
    end
    if #pending == STEP then return 'more' end
    redis.call('XGROUP', 'DESTROY', ev, group)
  end
  redis.call('HSET', t.own, 'standing', 'forgotten', 'paused', '')
  redis.call('HINCRBY', meta, 'revision', 1)
  redis.call('PUBLISH', bell, ARGV[3])
elseif own.standing ~= 'forgotten' then
  return 'refused'
end
local left = STEP
for _, index in ipairs({ 'queued', 'waiting', 'parked' }) do
  for _, id in ipairs(redis.call('ZRANGE', t[index], 0, left - 1)) do
    local r = parse(redis.call('HGET', t.rec, id))
    if r then
      r.due = '0'
      move(t, id, r, r.state, 'c', now)
    else
      redis.call('ZREM', t[index], id)
      redis.call('ZREM', t.due, id)
    end
    left = left - 1
  end
  if left <= 0 then return 'more' end
end
return 'changed'
