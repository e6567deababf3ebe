-- beat: renews a relay's lease, or gives a new one.
-- KEYS  1 relays, 2 meta
-- ARGV  1 our lease ('' : join), 2 life of a lease ms
-- Leases are judged by the server's clock. One that nobody has begun to take over is renewed even when it is late. Leases
-- of others that have run out are marked (score -1) so that their relays notice, and stay until `bury` removes them. Where
-- our own is late, the server was away: then others are late for no fault of theirs, and get another term.
-- Returns {our lease, live relays, revision of what they declare, expired leases…}, or {} where ours was taken over.

local relays, meta, lease, life = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local real, was_late = real_ms(), false
if lease == '' then
  -- From the seconds of the clock on, so that a store that lost its data does not give a number again that is in use.
  redis.call('HSETNX', meta, 'leases', math.floor(real / 1000))
  lease = number(redis.call('HINCRBY', meta, 'leases', 1))
else
  local until_ms = redis.call('ZSCORE', relays, lease)
  if not until_ms or tonumber(until_ms) < 0 then return {} end
  was_late = tonumber(until_ms) < real
end
redis.call('ZADD', relays, number(real + life), lease)
if was_late then
  for _, late in ipairs(redis.call('ZRANGEBYSCORE', relays, 1, '(' .. number(real))) do
    redis.call('ZADD', relays, number(real + life), late)
  end
end
local expired = redis.call('ZRANGEBYSCORE', relays, '-inf', '(' .. number(real), 'LIMIT', 0, 64)
for _, dead in ipairs(expired) do redis.call('ZADD', relays, -1, dead) end
local reply = { lease, redis.call('ZCARD', relays) - #expired, redis.call('HGET', meta, 'declared') or '0' }
for _, dead in ipairs(expired) do reply[#reply + 1] = dead end
return reply
