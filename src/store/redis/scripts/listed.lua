-- listed: the newest events of some lists together, without their frames.
-- KEYS  1 meta, 2 kept frames, then the lists, each of ids in order
-- ARGV  1 only below this id ('': all), 2 only from this id on, 3 how many ids of each list to look at
-- Changes nothing. An id of which nothing is kept any more is left out.
-- Returns {where to go on below ('': nothing more), ids, newest first…}.

local meta, fr = KEYS[1], KEYS[2]
local below, from, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local floor = hex_of(redis.call('HGET', meta, 'floor') or '0-0')

-- How many ids of the list are below `below`.
local function position(list)
  local low, high = 0, redis.call('LLEN', list)
  if below == '' then return high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('LINDEX', list, middle) < below then low = middle + 1 else high = middle end
  end
  return low
end

local found, frontier = {}, ''
for i = 3, #KEYS do
  local stop = position(KEYS[i])
  local start = math.max(stop - count, 0)
  local ids = stop > 0 and redis.call('LRANGE', KEYS[i], start, stop - 1) or {}
  -- What is below the lowest id of a list that goes on is not complete yet.
  if start > 0 and ids[1] >= from and ids[1] > frontier then frontier = ids[1] end
  for _, id in ipairs(ids) do found[#found + 1] = id end
end
table.sort(found, function(a, b) return a > b end)
local reply = { frontier }
for _, id in ipairs(found) do
  if id < from or id < frontier then break end
  if id > floor or redis.call('HEXISTS', fr, id) == 1 then reply[#reply + 1] = id end
end
return reply
