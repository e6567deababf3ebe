-- sweep: removes what its retention no longer covers, a bounded part at a time; nothing unfinished, no dead letter.
-- KEYS  1 log, 2 meta, 3 kept frames, 4 kept ids, 5 targets, 6 aside, then for each target: own, rec, att, dead, died
-- ARGV  1 clock offset ms, 2 events older than this go, ms, 3 dead letters older than this go, ms, 4 rows at most, 5 rank
--       among the kept ids to go on from, then the name of each target (its group)
-- The log is trimmed up to the first event that a target has not reached or has in flight from the log. An event that has
-- an unfinished or dead delivery leaves the log too: its frame is kept, once for all targets. What an erasure put aside of
-- the log stays like the log itself.
-- Returns {events, deliveries, place} or {} where a target is not among KEYS.

local ev, meta, fr, kept, targets, aside = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local now = real_ms() + tonumber(ARGV[1])
local cutoff, dead_cutoff = now - tonumber(ARGV[2]), now - tonumber(ARGV[3])
local rows_max, place = tonumber(ARGV[4]), tonumber(ARGV[5])
local LOOKED_AT = math.min(rows_max * 4, 400)
local BYTES = 4 * 1024 * 1024 -- of frames looked at in one call
local all = {}
for i = 6, #ARGV do
  local at = 7 + 5 * (i - 6)
  all[#all + 1] = { name = ARGV[i], own = KEYS[at], rec = KEYS[at + 1], att = KEYS[at + 2],
    dead = KEYS[at + 3], died = KEYS[at + 4] }
end
if #all ~= redis.call('SCARD', targets) then return {} end
local events, deliveries = 0, 0

for _, t in ipairs(all) do
  local ids = redis.call('ZRANGEBYSCORE', t.died, '-inf', number(dead_cutoff), 'LIMIT', 0, rows_max)
  if #ids > 0 then
    redis.call('HDEL', t.rec, unpack(ids))
    redis.call('HDEL', t.att, unpack(ids))
    redis.call('ZREM', t.dead, unpack(ids))
    redis.call('ZREM', t.died, unpack(ids))
    deliveries = deliveries + #ids
  end
end

-- Which of these ids some target holds by an unfinished or dead delivery.
local function held_among(ids)
  local held = {}
  for _, t in ipairs(all) do
    for i, record in ipairs(redis.call('HMGET', t.rec, unpack(ids))) do
      if record and INDEX[string.sub(record, 1, 1)] then held[ids[i]] = true end
    end
  end
  return held
end

-- Removes the events, and all that ended with them.
local function remove(ids)
  if #ids == 0 then return end
  for _, t in ipairs(all) do
    deliveries = deliveries + redis.call('HDEL', t.rec, unpack(ids))
    redis.call('HDEL', t.att, unpack(ids))
  end
  events = events + #ids
  redis.call('HINCRBY', meta, 'removed', #ids)
end

-- How far the log may be trimmed: the first event that must stay, exclusive; by cursors and pending lists.
local function limit()
  local lowest
  for _, t in ipairs(all) do
    local own = redis.call('HMGET', t.own, 'standing', 'cursor')
    if own[1] ~= 'forgotten' then
      local at = hex_of(own[2] or '0-0') .. 'z' -- behind it
      local pending = redis.pcall('XPENDING', ev, t.name, '-', '+', 1)
      if not pending or pending.err then return nil end -- the group is gone: whoever claims makes it anew
      if pending[1] then
        local first = hex_of(pending[1][1])
        if first < at then at = first end
      end
      if not lowest or at < lowest then lowest = at end
    end
  end
  return lowest or string.rep('f', 20)
end

local function trim(stop)
  local floor = redis.call('HGET', meta, 'floor') or '0-0'
  local entries, ids, at, bytes = {}, {}, floor, 0
  while #ids < LOOKED_AT and bytes < BYTES do
    local page = redis.call('XRANGE', ev, '(' .. at, number(cutoff) .. '-0', 'COUNT', 16)
    local over = #page == 0
    for _, entry in ipairs(page) do
      local id = hex_of(entry[1])
      if id >= stop or ms_of(id) >= cutoff or #ids >= LOOKED_AT then over = true break end
      at, ids[#ids + 1], entries[id], bytes = entry[1], id, entry, bytes + #entry[2][6]
    end
    if over then break end
  end
  if #ids == 0 then return end
  local held, gone = held_among(ids), {}
  for _, id in ipairs(ids) do
    if #gone >= rows_max then break end
    floor = entries[id][1]
    if held[id] then
      local v = entries[id][2]
      redis.call('HSET', fr, id, #v[2] .. ' ' .. #v[4] .. ' ' .. v[2] .. v[4] .. v[6])
      redis.call('ZADD', kept, ms_of(id), id)
    else
      gone[#gone + 1] = id
    end
  end
  remove(gone)
  redis.call('HSET', meta, 'floor', floor)
  local ms, seq = string.match(floor, '^(%d+)-(%d+)$')
  redis.call('XTRIM', ev, 'MINID', '~', ms .. '-' .. number(tonumber(seq) + 1), 'LIMIT', 1000)
end

-- Whether the retention of what was kept is over, and nobody will come to it: what the sweep kept, all have passed; what
-- was erased comes to nobody.
local function is_over(id, stop)
  if ms_of(id) >= cutoff then return false end
  return not redis.call('ZSCORE', aside, id) or (stop and id < stop)
end

-- What was kept goes when no target holds it any more.
local function let_go(stop)
  local ids = redis.call('ZRANGE', kept, place, place + LOOKED_AT - 1)
  if #ids == 0 then
    place = 0
    return
  end
  local held, gone, looked_at, young = held_among(ids), {}, 0, false
  for _, id in ipairs(ids) do
    if #gone >= rows_max - events then break end
    looked_at = looked_at + 1
    young = ms_of(id) >= cutoff
    if not held[id] and is_over(id, stop) then gone[#gone + 1] = id end
  end
  place = place + looked_at - #gone -- ranks move up as members go
  if young or (looked_at == #ids and #ids < LOOKED_AT) then place = 0 end
  if #gone == 0 then return end
  redis.call('HDEL', fr, unpack(gone))
  redis.call('ZREM', kept, unpack(gone))
  redis.call('ZREM', aside, unpack(gone))
  remove(gone)
end

local stop = limit()
if stop then trim(stop) end
if events < rows_max then let_go(stop) end
return { events, deliveries, number(place) }
