-- bury: forgets a dead relay, where nothing is in flight under its lease any more.
-- KEYS  1 log, 2 relays, 3 declared, then the `act` of each target
-- ARGV  1 the dead lease, then the group of each target
-- Returns 1 where it is gone, 0 where something is still in flight.

local ev, relays, declared, lease = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local score = redis.call('ZSCORE', relays, lease)
if score and tonumber(score) >= 0 then return 0 end
for i = 4, #KEYS do
  local group = ARGV[i - 2]
  local found = redis.pcall('XPENDING', ev, group, '-', '+', 1, lease)
  if found and not found.err then
    if #found > 0 then return 0 end
    redis.call('XGROUP', 'DELCONSUMER', ev, group, lease)
  end
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', KEYS[i], cursor, 'COUNT', 1000)
    cursor = page[1]
    for at = 2, #page[2], 2 do
      if string.match(page[2][at], '^(%d+):') == lease then return 0 end
    end
  until cursor == '0'
end
redis.call('ZREM', relays, lease)
redis.call('HDEL', declared, lease)
return 1
